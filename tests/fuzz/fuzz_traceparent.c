/* duct_trace_parse() on any bytes: what it takes is written back as it came, up to the flags that it does not know. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct duct_trace trace = {0}, again = {0};
	char text[DUCT_TRACEPARENT_LEN];
	char *copy = duct_xmalloc(size ? size : 1); /* exactly as long, without a NUL */
	if (size)
		memcpy(copy, data, size);
	bool ok = duct_trace_parse(copy, size, &trace);
	if (ok != duct_trace_is_set(&trace))
		abort();
	if (ok) {
		duct_trace_format(text, &trace);
		if (memcmp(text + 2, copy + 2, 51) != 0)
			abort();
		if (!duct_trace_parse(text, strlen(text), &again) || memcmp(&again.id, &trace.id, sizeof trace.id) != 0 ||
		    memcmp(&again.span, &trace.span, sizeof trace.span) != 0 || again.sampled != trace.sampled)
			abort();
	}
	free(copy);
	return 0;
}
