#ifndef DUCT_ORDER_H
#define DUCT_ORDER_H

#include <stdint.h>

/* For qsort() and bsearch() of int64_t, ascending. */
static inline int duct_compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

#endif
