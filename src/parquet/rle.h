#ifndef PARQUET_RLE_H
#define PARQUET_RLE_H

#include "base/buf.h"

/*
 * Parquet's mix of runs and bit-packed groups of eight, for levels and dictionary indexes: a run is varint(n << 1) and the value in
 * whole bytes; packed groups are varint(groups << 1 | 1) and groups x width bytes, lowest bits first. A width of 0 has values 0.
 */
void parquet_rle_write(struct duct_buf *to, const uint32_t *values, size_t n, int width);

/* One run. */
void parquet_rle_run(struct duct_buf *to, uint32_t value, size_t n, int width);

static inline int parquet_bit_width(uint32_t highest)
{
	return highest ? 32 - __builtin_clz(highest) : 0;
}

#endif
