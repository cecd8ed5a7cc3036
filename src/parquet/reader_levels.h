#ifndef PARQUET_READER_LEVELS_H
#define PARQUET_READER_LEVELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Parquet's hybrid of runs and packed bits, in which levels, dictionary indices and some booleans are written:
 *
 *   run      varint count << 1, then the value in (width + 7) / 8 bytes, little-endian
 *   packed   varint groups << 1 | 1, then groups x 8 values of `width` bits, lowest bit first
 *
 * Forward only. A function that returns false met the end of the bytes or something wrong.
 */
struct parquet_hybrid {
	const uint8_t *at, *end; /* behind the run that is open */
	unsigned width;		 /* 0..32; 0: all values are 0, and there are no bytes */
	uint64_t left;		 /* values of the open run */
	bool packed;
	uint32_t value;	     /* of a run */
	const uint8_t *bits; /* of a packed one */
	uint64_t bit;	     /* its next value begins there */
};

struct parquet_hybrid parquet_hybrid_over(const uint8_t *data, size_t n, unsigned width);
bool parquet_hybrid_get(struct parquet_hybrid *h, uint32_t *ret);

/* Passes over n values; *ret_equal is how many of them equal `value`. */
bool parquet_hybrid_skip(struct parquet_hybrid *h, uint64_t n, uint32_t value, uint64_t *ret_equal);

#endif
