/* lake_mark_set_take() on any text: what it takes lies where it was told to. The first line has the upper bits. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "lake/marks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *upper = duct_xstrndup((const char *)data, size);
	char *list = strchr(upper, '\n');
	if (!list)
		return 0;
	*list++ = 0;
	struct lake_mark_set set = {0};
	struct duct_error err;
	int rc = lake_mark_set_take(&set, (const char *const[]){"1", upper, list}, &err);
	size_t n, commas = 0;
	AUTO_FREE int64_t *positions = lake_mark_set_list(&set, 1, &n);
	for (const char *at = list; *at; at++)
		commas += *at == ',';
	if (rc == 0 && n != commas + 1)
		abort();
	for (size_t i = 0; i < n; i++)
		if (positions[i] < 0 || positions[i] > UINT32_MAX || (i && positions[i] <= positions[i - 1]))
			abort();
	lake_mark_set_done(&set);
	return 0;
}
