#ifndef DUCT_MEM_H
#define DUCT_MEM_H

#include <stddef.h>
#include <stdlib.h>

/*
 * Control-plane allocation: these abort the process when memory is out (row data lives in bounded arenas instead), so
 * callers never check for NULL. Freed with free().
 */
void *duct_xmalloc(size_t size);
void *duct_xcalloc(size_t count, size_t size);
void *duct_xrealloc(void *old, size_t size);
char *duct_xstrdup(const char *s); /* NULL gives NULL */
char *duct_xstrndup(const char *s, size_t n);
char *duct_xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Grows a typed array: ensures room for `need` elements, doubling from 8 (2 of large ones); *cap is in elements. */
void *duct_grow(void *array, size_t *cap, size_t need, size_t element_size);

/* `AUTO_FREE char *s = ...;` frees at the end of the scope; give away with duct_steal(&s). */
static inline void duct_auto_free(void *p)
{
	free(*(void **)p);
}
#define AUTO_FREE __attribute__((cleanup(duct_auto_free)))
#define duct_steal(pp) \
	__extension__({ \
		__typeof__(*(pp)) v_ = *(pp); \
		*(pp) = NULL; \
		v_; \
	})

#define DUCT_LEN(a) (sizeof(a) / sizeof *(a))

#endif
