/* Compression of pages through the codecs' own libraries: see codec.h. */
#include "parquet/codec.h"

#define ZSTD_STATIC_LINKING_ONLY /* for the name ZSTD_c_literalCompressionMode */

#include <brotli/encode.h>
#include <lz4.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

static const struct {
	const char *name;
	enum parquet_codec codec;
} codecs[] = {
	{"zstd", PARQUET_ZSTD},
	{"snappy", PARQUET_SNAPPY},
	{"gzip", PARQUET_GZIP},
	{"brotli", PARQUET_BROTLI},
	{"lz4_raw", PARQUET_LZ4_RAW},
	{"lz4", PARQUET_LZ4_RAW},
	{"uncompressed", PARQUET_UNCOMPRESSED},
	{"none", PARQUET_UNCOMPRESSED},
};

int parquet_codec_of(const char *name, enum parquet_codec *ret, struct duct_error *err)
{
	for (size_t i = 0; i < DUCT_LEN(codecs); i++)
		if (strcasecmp(codecs[i].name, name) == 0) {
			*ret = codecs[i].codec;
			return 0;
		}
	return duct_fail(err, DUCT_CONFIG,
			 "no Parquet codec is called \"%s\": take zstd, snappy, gzip, brotli, lz4_raw or uncompressed", name);
}

static int fail_pack(const char *codec, size_t n, struct duct_error *err)
{
	return duct_fail(err, DUCT_FATAL, "%s does not compress a page of %zu bytes", codec, n);
}

/* Hasty: repetitions are looked for here and there only, in a table that stays in the nearest cache; what is left is packed by how often
 * each byte is there all the same. */
static bool set_zstd(struct parquet_packer *p)
{
	enum { HUFFMAN = 1, STEP = 32, LONG_MATCH = 7, SMALL_TABLE = 10 };
	ZSTD_CCtx *zstd = p->zstd;
	(void)ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
	if (ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, p->level ? p->level : ZSTD_CLEVEL_DEFAULT)))
		return false;
	/* A library that does not know the first one is as fast as without all. */
	if (p->hasty && !ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_literalCompressionMode, HUFFMAN))) {
		(void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_strategy, ZSTD_fast);
		(void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_targetLength, STEP);
		(void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_minMatch, LONG_MATCH);
		(void)ZSTD_CCtx_setParameter(zstd, ZSTD_c_hashLog, SMALL_TABLE);
	}
	return true;
}

static int pack_zstd(struct parquet_packer *p, struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	size_t room = ZSTD_compressBound(n);
	if (!p->zstd)
		p->zstd = ZSTD_createCCtx();
	if (!p->zstd || !set_zstd(p))
		return fail_pack("zstd", n, err);
	size_t len = ZSTD_compress2(p->zstd, duct_buf_room(to, room), room, data, n);
	if (ZSTD_isError(len))
		return fail_pack("zstd", n, err);
	to->len += len;
	return 0;
}

static int pack_gzip(struct parquet_packer *p, struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	z_stream z = {0};
	if (n > UINT32_MAX ||
	    deflateInit2(&z, p->level ? p->level : Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return fail_pack("gzip", n, err);
	size_t room = deflateBound(&z, n);
	z.next_in = (Bytef *)(uintptr_t)data;
	z.avail_in = (uInt)n;
	z.next_out = (Bytef *)duct_buf_room(to, room);
	z.avail_out = (uInt)room;
	int ret = deflate(&z, Z_FINISH);
	to->len += room - z.avail_out;
	deflateEnd(&z);
	return ret == Z_STREAM_END ? 0 : fail_pack("gzip", n, err);
}

static int pack_snappy(struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	size_t len = snappy_max_compressed_length(n);
	if (snappy_compress(data, n, duct_buf_room(to, len), &len) != SNAPPY_OK)
		return fail_pack("snappy", n, err);
	to->len += len;
	return 0;
}

static int pack_lz4(struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	if (n > LZ4_MAX_INPUT_SIZE)
		return fail_pack("lz4", n, err);
	int room = LZ4_compressBound((int)n);
	int len = LZ4_compress_default(data, duct_buf_room(to, (size_t)room), (int)n, room);
	if (len <= 0)
		return fail_pack("lz4", n, err);
	to->len += (size_t)len;
	return 0;
}

static int pack_brotli(struct parquet_packer *p, struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	size_t len = BrotliEncoderMaxCompressedSize(n);
	uint8_t *room = (uint8_t *)duct_buf_room(to, len);
	int quality = p->level ? p->level : 1; /* the library's own default is made for web pages that are packed once */
	if (!len ||
	    !BrotliEncoderCompress(quality, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_GENERIC, n, (const uint8_t *)data, &len, room))
		return fail_pack("brotli", n, err);
	to->len += len;
	return 0;
}

int parquet_pack(struct parquet_packer *p, struct duct_buf *to, const char *data, size_t n, struct duct_error *err)
{
	switch (p->codec) {
	case PARQUET_ZSTD: return pack_zstd(p, to, data, n, err);
	case PARQUET_SNAPPY: return pack_snappy(to, data, n, err);
	case PARQUET_GZIP: return pack_gzip(p, to, data, n, err);
	case PARQUET_LZ4_RAW: return pack_lz4(to, data, n, err);
	case PARQUET_BROTLI: return pack_brotli(p, to, data, n, err);
	case PARQUET_UNCOMPRESSED: duct_buf_append(to, data, n); return 0;
	case PARQUET_LZO:
	case PARQUET_LZ4_HADOOP: break;
	}
	return duct_fail(err, DUCT_FATAL, "Parquet codec %d is not written", (int)p->codec);
}

void parquet_packer_done(struct parquet_packer *p)
{
	ZSTD_freeCCtx(p->zstd);
	p->zstd = NULL;
}
