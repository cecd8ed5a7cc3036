#ifndef DUCT_ORDER_H
#define DUCT_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* For qsort() and bsearch() of int64_t, ascending. */
static inline int duct_compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

/* Of n items of `size` bytes that begin with an int64_t, ascending: the first whose number is not below the key, n when none is. */
static inline size_t duct_lower_bound_i64(const void *items, size_t n, size_t size, int64_t key)
{
	size_t low = 0;
	for (size_t high = n; low < high;) {
		size_t middle = low + (high - low) / 2;
		if (*(const int64_t *)((const char *)items + middle * size) < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

#endif
