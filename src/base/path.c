#include "base/path.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

/* The path as it is where it exists, and what follows without "." and "..". */
static char *resolve(const char *path)
{
	AUTO_BUF struct duct_buf to = {0};
	char here[PATH_MAX];
	duct_buf_puts(&to, *path != '/' && realpath(".", here) ? here : "");
	for (const char *at = path; *at;) {
		size_t n = strcspn(at, "/");
		if (n == 2 && memcmp(at, "..", 2) == 0) {
			char *slash = to.data ? strrchr(to.data, '/') : NULL;
			to.len = slash ? (size_t)(slash - to.data) : 0;
		} else if (n && !(n == 1 && *at == '.')) {
			duct_buf_printf(&to, "/%.*s", (int)n, at);
		}
		if (to.data)
			to.data[to.len] = 0;
		if (to.len && realpath(to.data, here)) { /* a link leads elsewhere, also for what follows */
			to.len = 0;
			duct_buf_puts(&to, strcmp(here, "/") == 0 ? "" : here);
		}
		at += n + (at[n] == '/');
	}
	duct_buf_puts(&to, "/");
	return duct_steal(&to.data);
}

bool duct_path_same(const char *a, const char *b)
{
	AUTO_FREE char *x = resolve(a), *y = resolve(b);
	return strcmp(x, y) == 0;
}

bool duct_path_overlaps(const char *a, const char *b)
{
	AUTO_FREE char *x = resolve(a), *y = resolve(b);
	size_t n = strlen(x) < strlen(y) ? strlen(x) : strlen(y);
	return memcmp(x, y, n) == 0; /* both end in a slash */
}
