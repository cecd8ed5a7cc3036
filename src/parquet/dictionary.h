#ifndef PARQUET_DICTIONARY_H
#define PARQUET_DICTIONARY_H

#include "base/buf.h"

#include <stdbool.h>

/* The distinct values of a column chunk in the order they came, told apart by their bytes (so -0 is not 0). Zeroed, then width
 * is set: 4, 8, 16, or 0 for strings, which are kept as in a page (u32 length, bytes). */
struct parquet_dictionary {
	uint32_t width;
	uint32_t n, cap; /* entries; the table has room for cap */
	uint32_t max_entries;
	size_t max_bytes;
	uint64_t *slots;  /* 2 * cap: upper half of the hash << 32 | index + 1 */
	uint32_t *starts; /* of strings: where each begins */
	size_t starts_cap;
	struct duct_buf values; /* what the dictionary page holds */
};

enum { PARQUET_NO_ENTRY = -1 };

/* Index of a value, added when it is new; PARQUET_NO_ENTRY when there is no room for it. p without the length. */
int64_t parquet_dictionary_put(struct parquet_dictionary *d, const char *p, uint32_t len);

/* Indexes of up to n fixed-width values; returns how many had room. */
size_t parquet_dictionary_put_all(struct parquet_dictionary *d, const char *values, size_t n, uint32_t *to);

/* The bytes of an entry, of a string without its length. */
const char *parquet_dictionary_entry(const struct parquet_dictionary *d, uint32_t index, uint32_t *ret_len);

void parquet_dictionary_clear(struct parquet_dictionary *d); /* memory is kept */
void parquet_dictionary_done(struct parquet_dictionary *d);

#endif
