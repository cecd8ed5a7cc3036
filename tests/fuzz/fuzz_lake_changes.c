/* changes_made is written by other clients: any text must be read to its end or refused. */
#include "lake/changes.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	const char *at = text;
	struct lake_change_item item;
	int got;
	while ((got = lake_changes_next(&at, &item)) > 0)
		if (at > text + strlen(text) || item.id < -1)
			abort();
	if (got == 0 && *at)
		abort();
	free(text);
	return 0;
}
