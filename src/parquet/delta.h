#ifndef PARQUET_DELTA_H
#define PARQUET_DELTA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * DELTA_BINARY_PACKED (Parquet, Encodings.md): integers of 4 or 8 bytes as differences to the one before, packed in as few bits as a
 * stretch of them needs. Numbers that rise evenly take almost nothing, random ones what their range takes. Arithmetic wraps at
 * their width.
 */

/* Appends n values (width 4 or 8) to the page, in blocks of 128. False, and nothing appended: it would be more than `most` bytes. */
bool parquet_delta_write(struct duct_buf *to, const void *values, size_t n, uint32_t width, size_t most);

/* Values one by one. Nothing that the bytes say is believed. */
struct parquet_delta {
	const uint8_t *at, *end; /* what comes behind the open miniblock */
	uint64_t left;		 /* values that were not taken */
	uint64_t value;		 /* the next one */
	uint64_t min;		 /* of the block */
	uint32_t per_mini, minis;
	uint32_t mini;	       /* the open one; minis: none */
	const uint8_t *widths; /* of the block */
	const uint8_t *packed; /* of the miniblock */
	uint32_t taken;	       /* of it */
};
bool parquet_delta_open(struct parquet_delta *ret, const void *data, size_t n);
/* The low bytes of *ret are the value. False, from then on: there is none, or the bytes are damaged at it or at the one behind it. */
bool parquet_delta_get(struct parquet_delta *d, uint64_t *ret);
bool parquet_delta_skip(struct parquet_delta *d, uint64_t n);

#endif
