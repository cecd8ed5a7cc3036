/* duct_dsn_redact() on any text: what libpq takes for a password of some length is never shown. */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE char *dsn = duct_xstrndup((const char *)data, size);
	AUTO_FREE char *shown = duct_dsn_redact(dsn);
	(void)duct_dsn_is_torn(dsn);
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);
	for (PQconninfoOption *o = options; o && o->keyword; o++) {
		/* A short one may be in the rest by chance. */
		bool secret = strstr(o->keyword, "password") != NULL;
		if (secret && o->val && strlen(o->val) >= 6 && strstr(shown, o->val)) {
			char *first = strstr(dsn, o->val);
			if (first && !strstr(first + 1, o->val))
				abort();
		}
	}
	PQconninfoFree(options);
	return 0;
}
