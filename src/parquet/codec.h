#ifndef PARQUET_CODEC_H
#define PARQUET_CODEC_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "parquet/format.h"

/* Names as DuckLake's option parquet_compression has them: uncompressed (none), snappy, gzip, zstd, brotli, lz4_raw (lz4).
 * CONFIG for any other. */
int parquet_codec_of(const char *name, enum parquet_codec *ret, struct duct_error *err) DUCT_CHECKED;

/* Compresses pages with one codec; level 0: the codec's default. One thread at a time. */
struct parquet_packer {
	enum parquet_codec codec;
	int level;
	bool hasty; /* zstd only: some two times as fast on bytes without repetitions, at a tenth more bytes; of no use on others */
	void *zstd; /* its context, made when first used */
};
int parquet_pack(struct parquet_packer *p, struct duct_buf *to, const char *data, size_t n, struct duct_error *err) DUCT_CHECKED;
void parquet_packer_done(struct parquet_packer *p);

#endif
