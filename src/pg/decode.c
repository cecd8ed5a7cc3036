/* Decoding of one value, and the hot path into a vector: see types.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "pg/internal.h"

int pg_bad_value(struct duct_error *err, const struct pg_mapping *m, const char *fmt, ...)
{
	char text[600];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return duct_fail(err, DUCT_DATA, "type %s: %s", m->type_name, text);
}

int pg_bad_dims(struct duct_error *err, const struct pg_mapping *m, int found)
{
	return pg_bad_value(err, m, "the value has %d dimension%s, %d %s declared: declare the column with as many [] as its values have",
			    found, found == 1 ? "" : "s", m->ndims, m->ndims == 1 ? "is" : "are");
}

int pg_decode(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	if (format == 'b')
		return pg_decode_binary(m, data, len, to, err);
	return pg_decode_text(m, data, len, to, err);
}

int pg_put_value(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to,
		 struct duct_error *err)
{
	if (m->width)
		return pg_decode(m, format, data, len, to, err);
	size_t at = to->len;
	pg_put_u32(to, 0);
	int rc = pg_decode(m, format, data, len, to, err);
	pg_patch_u32(to, at, (uint32_t)(to->len - at - 4));
	return rc;
}

int pg_put_item(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to,
		struct duct_error *err)
{
	duct_buf_putc(to, data != NULL);
	return data ? pg_put_value(m, format, data, len, to, err) : 0;
}

static int append_composed(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_batch *b,
			   struct duct_vector *v, struct duct_buf *scratch, struct duct_error *err)
{
	scratch->len = 0;
	int rc = pg_decode(m, format, data, len, scratch, err);
	if (rc < 0)
		return rc;
	void *to = duct_vector_append(b, v, (uint32_t)scratch->len);
	if (scratch->len)
		memcpy(to, scratch->data, scratch->len);
	return 0;
}

static inline uint32_t be32(const char *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

static inline uint64_t be64(const char *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return __builtin_bswap64(v);
}

int pg_decode_into(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_batch *b,
		   struct duct_vector *v, struct duct_buf *scratch, struct duct_error *err)
{
	/* What is not handled here, odd lengths included, takes the general road. */
	switch (format == 'b' ? m->codec : PG_TEXT_ONLY) {
	case PG_TEXT:
	case PG_JSON:
	case PG_ENUM:
	case PG_BYTEA:
		if (m->check_utf8)
			break;
		memcpy(duct_vector_append(b, v, (uint32_t)len), data, len);
		return 0;
	case PG_JSONB:
		if (!len || data[0] != 1 || m->check_utf8)
			break;
		memcpy(duct_vector_append(b, v, (uint32_t)len - 1), data + 1, len - 1);
		return 0;
	case PG_BOOL:
		if (len != 1)
			break;
		*(char *)duct_vector_append(b, v, 1) = data[0] != 0;
		return 0;
	case PG_INT2:
		if (len != 2)
			break;
		memcpy(duct_vector_append(b, v, 2), (const char[]){data[1], data[0]}, 2);
		return 0;
	case PG_INT4:
	case PG_UINT4:
	case PG_FLOAT4: {
		if (len != 4)
			break;
		uint32_t x = be32(data);
		if (m->codec == PG_FLOAT4)
			x = pg_float4_bits(x);
		memcpy(duct_vector_append(b, v, 4), &x, 4);
		return 0;
	}
	case PG_INT8:
	case PG_UINT8:
	case PG_FLOAT8:
	case PG_TIME: {
		if (len != 8)
			break;
		uint64_t x = be64(data);
		if (m->codec == PG_FLOAT8)
			x = pg_float8_bits(x);
		memcpy(duct_vector_append(b, v, 8), &x, 8);
		return 0;
	}
	case PG_TIMESTAMP:
	case PG_TIMESTAMPTZ: {
		int64_t us = len == 8 ? (int64_t)be64(data) : INT64_MAX;
		if (us == INT64_MIN || us >= INT64_MAX - 946684800000000)
			break;
		us += 946684800000000;
		memcpy(duct_vector_append(b, v, 8), &us, 8);
		return 0;
	}
	case PG_DECIMAL: {
		pg_int128 x;
		if (!pg_decimal_from_binary(m, data, len, &x, err))
			return -DUCT_DATA;
		memcpy(duct_vector_append(b, v, m->width), &x, m->width);
		return 0;
	}
	case PG_UUID:
		if (len != 16)
			break;
		memcpy(duct_vector_append(b, v, 16), data, 16);
		return 0;
	default:
		break;
	}
	return append_composed(m, format, data, len, b, v, scratch, err);
}
