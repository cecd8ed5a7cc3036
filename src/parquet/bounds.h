#ifndef PARQUET_BOUNDS_H
#define PARQUET_BOUNDS_H

#include "base/buf.h"
#include "record/batch.h"

/*
 * The smallest and greatest of many values, in Parquet's order of their type: kept as numbers, strings by their first bytes
 * (BOUND_BYTES, which is enough to cut them at 256 at the end of a character). NaN is left out and noted. -0 and 0 are equal; the first
 * stays.
 */
enum parquet_form { /* of a value in a file */
		    PARQUET_FORM_BOOL,
		    PARQUET_FORM_I32, /* narrower integers, dates and decimal(9) too */
		    PARQUET_FORM_I64, /* times, timestamps and decimal(18), too */
		    PARQUET_FORM_U32,
		    PARQUET_FORM_U64,
		    PARQUET_FORM_F32,
		    PARQUET_FORM_F64,
		    PARQUET_FORM_DECIMAL, /* 16 bytes, big-endian */
		    PARQUET_FORM_UUID,	  /* 16 bytes, compared as bytes */
		    PARQUET_FORM_TEXT,
		    PARQUET_FORM_BLOB,
};

enum { PARQUET_CATALOG_BOUND = 256, PARQUET_BOUND_BYTES = 264 };

struct parquet_bounds {
	bool any, nan;
	union parquet_number {
		int64_t i;
		uint64_t u; /* of strings: the first eight bytes as a number */
		double d;
		__int128 w;
		unsigned __int128 uw;
	} min, max;
	uint32_t min_len, max_len; /* bytes kept */
	char min_bytes[PARQUET_BOUND_BYTES], max_bytes[PARQUET_BOUND_BYTES];
};

/* n values of a fixed width as they are in the file (BOOL: a byte each). */
void parquet_bounds_fixed(struct parquet_bounds *b, enum parquet_form form, const void *values, size_t n);
void parquet_bounds_merge(struct parquet_bounds *into, const struct parquet_bounds *from, enum parquet_form form);

static inline uint64_t parquet_prefix(const char *p, uint32_t len)
{
	uint64_t v = 0;
	if (len >= 8) {
		memcpy(&v, p, 8);
		return __builtin_bswap64(v);
	}
	for (uint32_t i = 0; i < len; i++)
		v |= (uint64_t)(uint8_t)p[i] << (56 - 8 * i);
	return v;
}

void parquet_bounds_string_slow(struct parquet_bounds *b, uint64_t prefix, const char *p, uint32_t len);

/* Of n rows of a vector of strings: rows[i], or first + i where rows is NULL. */
void parquet_bounds_strings(struct parquet_bounds *b, const struct duct_vector *v, const uint32_t *rows, uint32_t first,
			    uint32_t n);

static inline void parquet_bounds_string(struct parquet_bounds *b, const char *p, uint32_t len)
{
	uint64_t prefix = parquet_prefix(p, len);
	if (!b->any || prefix <= b->min.u || prefix >= b->max.u)
		parquet_bounds_string_slow(b, prefix, p, len);
}

/*
 * A bound as it stands in a file, strings cut to `limit` bytes: a cut upper one is raised. False when there is none: no value, or
 * none that is above. *exact: it is a value. to has room for PARQUET_BOUND_BYTES.
 */
bool parquet_bound(const struct parquet_bounds *b, enum parquet_form form, bool upper, uint32_t limit, char *to, uint32_t *ret_len,
		   bool *exact);

/* A bound as a cell of `type`, for the catalog: strings are cut at PARQUET_CATALOG_BOUND. to as above; data NULL: none. */
struct duct_cell parquet_bound_cell(const struct parquet_bounds *b, enum parquet_form form, const struct duct_type *type,
				    bool upper, char *to);

#endif
