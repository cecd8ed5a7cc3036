/* Page headers and decompression. */
#include "parquet/reader_internal.h"

#include <lz4.h>
#include <snappy-c.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* --- headers --- */

/* The headers of the three kinds of pages; v1 and dictionary begin with the same two fields. */
static void parse_v1(struct thrift_reader *r, const struct thrift_field *in, struct parquet_page_head *to, int64_t *nvalues)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_DATA_NUM_VALUES: *nvalues = thrift_read_int(r, &f); break;
		case PARQUET_DATA_ENCODING: to->encoding = (int)thrift_read_int(r, &f); break;
		case PARQUET_DATA_DEFINITION_ENCODING:
			if (in->id == PARQUET_PAGE_DATA)
				to->definition_encoding = (int)thrift_read_int(r, &f);
			else
				thrift_skip(r, &f); /* of a dictionary: is it sorted? */
			break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static void parse_v2(struct thrift_reader *r, const struct thrift_field *in, struct parquet_page_head *to, int64_t *nvalues,
		     int64_t *nrows, int64_t *definition, int64_t *repetition)
{
	if (!thrift_read_struct(r, in))
		return;
	to->is_compressed = true;
	to->definition_encoding = PARQUET_RLE;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_DATA2_NUM_VALUES: *nvalues = thrift_read_int(r, &f); break;
		case PARQUET_DATA2_NUM_ROWS: *nrows = thrift_read_int(r, &f); break;
		case PARQUET_DATA2_ENCODING: to->encoding = (int)thrift_read_int(r, &f); break;
		case PARQUET_DATA2_DEFINITION_BYTES: *definition = thrift_read_int(r, &f); break;
		case PARQUET_DATA2_REPETITION_BYTES: *repetition = thrift_read_int(r, &f); break;
		case PARQUET_DATA2_IS_COMPRESSED: to->is_compressed = thrift_read_bool(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static bool in_page(int64_t v)
{
	return v >= 0 && v <= PARQUET_MAX_PAGE_BYTES;
}

int parquet_page_head_parse(struct parquet_page_head *to, const void *data, size_t n, struct duct_error *err)
{
	struct thrift_reader r = thrift_reader_over(data, n);
	int64_t type = -1, raw = -1, compressed = -1, nvalues = -1, nrows = 0, definition = 0, repetition = 0;
	*to = (struct parquet_page_head){.encoding = -1, .definition_encoding = -1};
	for (struct thrift_field f = {0}; thrift_next_field(&r, &f);) {
		switch (f.id) {
		case PARQUET_PAGE_TYPE: type = thrift_read_int(&r, &f); break;
		case PARQUET_PAGE_RAW_BYTES: raw = thrift_read_int(&r, &f); break;
		case PARQUET_PAGE_COMPRESSED_BYTES: compressed = thrift_read_int(&r, &f); break;
		case PARQUET_PAGE_CRC:
			to->crc = (uint32_t)thrift_read_int(&r, &f);
			to->has_crc = true;
			break;
		case PARQUET_PAGE_DATA:
		case PARQUET_PAGE_DICTIONARY: parse_v1(&r, &f, to, &nvalues); break;
		case PARQUET_PAGE_DATA_V2: parse_v2(&r, &f, to, &nvalues, &nrows, &definition, &repetition); break;
		default: thrift_skip(&r, &f); break;
		}
	}
	if (r.bad && r.is_short)
		return 0;
	if (!r.bad && type == PARQUET_INDEX_PAGE)
		nvalues = 0;
	bool good = !r.bad && type >= PARQUET_DATA_PAGE && type <= PARQUET_DATA_PAGE_V2 && in_page(raw) && in_page(compressed) &&
		in_page(nvalues) && in_page(nrows) && in_page(definition) && in_page(repetition) &&
		definition + repetition <= compressed && definition + repetition <= raw;
	if (!good)
		return duct_fail(err, DUCT_FATAL, "a page header is damaged or claims a page of more than 1 GiB");
	to->type = (int)type;
	to->raw_bytes = (uint32_t)raw;
	to->compressed_bytes = (uint32_t)compressed;
	to->nvalues = (uint32_t)nvalues;
	to->nrows = (uint32_t)nrows;
	to->definition_bytes = (uint32_t)definition;
	to->repetition_bytes = (uint32_t)repetition;
	to->head_bytes = (uint32_t)(r.at - (const uint8_t *)data);
	return 1;
}

/* --- codecs --- */

void parquet_codecs_done(struct parquet_codecs *codecs)
{
	ZSTD_freeDCtx(codecs->zstd);
	codecs->zstd = NULL;
}

bool parquet_codec_served(int codec)
{
	return codec == PARQUET_UNCOMPRESSED || codec == PARQUET_SNAPPY || codec == PARQUET_GZIP || codec == PARQUET_ZSTD ||
		codec == PARQUET_LZ4_RAW;
}

/* One gzip member after another. */
static bool gunzip(const void *data, size_t n, void *raw, size_t raw_n)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n, .next_out = raw, .avail_out = (uInt)raw_n};
	if (inflateInit2(&z, MAX_WBITS + 32) != Z_OK)
		return false;
	int rc;
	while ((rc = inflate(&z, Z_FINISH)) == Z_STREAM_END && z.avail_in && z.avail_out)
		if (inflateReset(&z) != Z_OK)
			break;
	bool good = rc == Z_STREAM_END && !z.avail_out;
	inflateEnd(&z);
	return good;
}

static bool unsnap(const void *data, size_t n, void *raw, size_t raw_n)
{
	size_t out;
	return snappy_uncompressed_length(data, n, &out) == SNAPPY_OK && out == raw_n &&
		snappy_uncompress(data, n, raw, &out) == SNAPPY_OK && out == raw_n;
}

static bool unzstd(struct parquet_codecs *codecs, const void *data, size_t n, void *raw, size_t raw_n)
{
	if (!codecs->zstd)
		codecs->zstd = ZSTD_createDCtx();
	return codecs->zstd && ZSTD_decompressDCtx(codecs->zstd, raw, raw_n, data, n) == raw_n;
}

bool parquet_codec_can(int codec, const void *data, size_t n, size_t raw_n)
{
	static const uint64_t most_times[] = {
		[PARQUET_UNCOMPRESSED] = 1, [PARQUET_SNAPPY] = 64,   [PARQUET_GZIP] = 1100,
		[PARQUET_ZSTD] = 1 << 16,   [PARQUET_LZ4_RAW] = 256,
	};
	unsigned long long known = codec == PARQUET_ZSTD ? ZSTD_getFrameContentSize(data, n) : ZSTD_CONTENTSIZE_UNKNOWN;
	if (!raw_n)
		return true;
	if (known == ZSTD_CONTENTSIZE_ERROR || !parquet_codec_served(codec))
		return false;
	return known == ZSTD_CONTENTSIZE_UNKNOWN ? raw_n <= n * most_times[codec] : known == raw_n;
}

int parquet_decompress(struct parquet_codecs *codecs, int codec, const void *data, size_t n, void *raw, size_t raw_n,
		       struct duct_error *err)
{
	bool good = !raw_n;
	switch (good ? -1 : codec) {
	case PARQUET_UNCOMPRESSED:
		good = n == raw_n;
		if (good)
			memcpy(raw, data, n);
		break;
	case PARQUET_SNAPPY: good = unsnap(data, n, raw, raw_n); break;
	case PARQUET_GZIP: good = gunzip(data, n, raw, raw_n); break;
	case PARQUET_ZSTD: good = unzstd(codecs, data, n, raw, raw_n); break;
	case PARQUET_LZ4_RAW: good = LZ4_decompress_safe(data, raw, (int)n, (int)raw_n) == (int)raw_n; break;
	default: break;
	}
	return good ? 0 : duct_fail(err, DUCT_FATAL, "a page does not decompress to the %zu bytes that its header says", raw_n);
}
