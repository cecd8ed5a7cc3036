/* Distinct values: see dictionary.h. Linear probing in a table that is at most half full. */
#include "parquet/dictionary.h"

#include <xxhash.h>

enum { FIRST_ENTRIES = 256 };

static inline uint64_t hash_of(uint32_t width, const char *p, uint32_t len)
{
	uint64_t v = 0;
	uint32_t narrow;
	if (width == 4) {
		memcpy(&narrow, p, 4);
		v = narrow;
	} else if (width == 8) {
		memcpy(&v, p, 8);
	} else {
		return XXH3_64bits(p, len);
	}
	v *= UINT64_C(0x9E3779B97F4A7C15);
	return v ^ v >> 29;
}

static inline bool same_entry(const struct parquet_dictionary *d, uint32_t index, const char *p, uint32_t len)
{
	if (d->width == 4)
		return memcmp(d->values.data + (size_t)index * 4, p, 4) == 0;
	if (d->width == 8)
		return memcmp(d->values.data + (size_t)index * 8, p, 8) == 0;
	if (d->width)
		return memcmp(d->values.data + (size_t)index * d->width, p, d->width) == 0;
	const char *entry = d->values.data + d->starts[index];
	return memcmp(entry, &len, sizeof len) == 0 && (!len || memcmp(entry + sizeof len, p, len) == 0);
}

/* The slots hold half of the hash, which is enough for any table that is allowed. */
static void grow(struct parquet_dictionary *d)
{
	uint32_t cap = d->cap ? d->cap * 2 : FIRST_ENTRIES;
	size_t mask = (size_t)cap * 2 - 1;
	uint64_t *slots = duct_xcalloc(mask + 1, sizeof *slots);
	for (size_t i = 0; i < (size_t)d->cap * 2; i++) {
		if (!d->slots[i])
			continue;
		size_t at = (size_t)(d->slots[i] >> 32) & mask;
		while (slots[at])
			at = (at + 1) & mask;
		slots[at] = d->slots[i];
	}
	free(d->slots);
	d->slots = slots;
	d->cap = cap;
}

static int64_t add(struct parquet_dictionary *d, size_t at, uint64_t hash, const char *p, uint32_t len)
{
	if (d->n >= d->max_entries || d->values.len + len + sizeof len > d->max_bytes)
		return PARQUET_NO_ENTRY;
	if (!d->width) {
		d->starts = duct_grow(d->starts, &d->starts_cap, d->n + 1, sizeof *d->starts);
		d->starts[d->n] = (uint32_t)d->values.len;
		duct_buf_append(&d->values, &len, sizeof len);
	}
	duct_buf_append(&d->values, p, len);
	d->slots[at] = hash >> 32 << 32 | (d->n + 1);
	return d->n++;
}

static inline int64_t find(struct parquet_dictionary *d, const char *p, uint32_t len)
{
	uint64_t hash = hash_of(d->width, p, len);
	if (d->n >= d->cap)
		grow(d);
	size_t mask = (size_t)d->cap * 2 - 1, at = (size_t)(hash >> 32) & mask;
	for (uint64_t slot; (slot = d->slots[at]); at = (at + 1) & mask)
		if (slot >> 32 == hash >> 32 && same_entry(d, (uint32_t)slot - 1, p, len))
			return (uint32_t)slot - 1;
	return add(d, at, hash, p, len);
}

int64_t parquet_dictionary_put(struct parquet_dictionary *d, const char *p, uint32_t len)
{
	return find(d, p, len);
}

size_t parquet_dictionary_put_all(struct parquet_dictionary *d, const char *values, size_t n, uint32_t *to)
{
	for (size_t i = 0; i < n; i++) {
		int64_t index = find(d, values + i * d->width, d->width);
		if (index < 0)
			return i;
		to[i] = (uint32_t)index;
	}
	return n;
}

const char *parquet_dictionary_entry(const struct parquet_dictionary *d, uint32_t index, uint32_t *ret_len)
{
	*ret_len = d->width;
	if (d->width)
		return d->values.data + (size_t)index * d->width;
	const char *entry = d->values.data + d->starts[index];
	memcpy(ret_len, entry, sizeof *ret_len);
	return entry + sizeof *ret_len;
}

void parquet_dictionary_clear(struct parquet_dictionary *d)
{
	if (d->n)
		memset(d->slots, 0, (size_t)d->cap * 2 * sizeof *d->slots);
	d->n = 0;
	d->values.len = 0;
}

void parquet_dictionary_done(struct parquet_dictionary *d)
{
	free(d->slots);
	free(d->starts);
	duct_buf_done(&d->values);
	*d = (struct parquet_dictionary){.width = d->width};
}
