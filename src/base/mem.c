/* Allocation that cannot fail: see mem.h. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LARGE_ELEMENT = 128 }; /* thousands of tables have arrays with one or two of these */

static void *checked(void *p, size_t size)
{
	if (p || size == 0)
		return p;
	fprintf(stderr, "ductstream: out of memory allocating %zu bytes\n", size);
	abort();
}

void *duct_xmalloc(size_t size)
{
	return checked(malloc(size), size);
}

void *duct_xcalloc(size_t count, size_t size)
{
	return checked(calloc(count, size), count * size);
}

void *duct_xrealloc(void *old, size_t size)
{
	return checked(realloc(old, size), size);
}

char *duct_xstrdup(const char *s)
{
	return s ? duct_xstrndup(s, strlen(s)) : NULL;
}

char *duct_xstrndup(const char *s, size_t n)
{
	char *copy = duct_xmalloc(n + 1);
	memcpy(copy, s, n);
	copy[n] = 0;
	return copy;
}

char *duct_xasprintf(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return checked(n < 0 ? NULL : text, 1);
}

void *duct_grow(void *array, size_t *cap, size_t need, size_t element_size)
{
	if (need <= *cap)
		return array;
	size_t n = *cap ? *cap : element_size < LARGE_ELEMENT ? 8 : 2;
	while (n < need)
		n *= 2;
	*cap = n;
	return duct_xrealloc(array, n * element_size);
}
