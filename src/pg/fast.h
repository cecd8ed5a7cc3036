#ifndef PG_FAST_H
#define PG_FAST_H

#include "pg/internal.h"

/*
 * The hot path: binary values of common types straight into a vector, without a call. What it does not know, odd lengths
 * included, it leaves to the general road.
 */

/* duct_vector_append for the common case of room. */
static inline void *pg_vector_room(struct duct_batch *b, struct duct_vector *v, uint32_t width, uint32_t len)
{
	uint32_t row = v->rows;
	bool first = width ? !v->data : !v->offsets;
	if (__builtin_expect(first || row == v->cap || (!width && v->heap_cap - v->heap_len < len), 0))
		return duct_vector_append(b, v, len);
	v->rows = row + 1;
	if (width)
		return v->data + (size_t)row * width;
	char *to = v->heap + v->heap_len;
	v->heap_len += len;
	v->offsets[row + 1] = (uint32_t)v->heap_len;
	return to;
}

static inline bool pg_append_bytes(struct duct_batch *b, struct duct_vector *v, const char *data, size_t len)
{
	memcpy(pg_vector_room(b, v, 0, (uint32_t)len), data, len);
	return true;
}

static inline bool pg_append_u32(struct duct_batch *b, struct duct_vector *v, uint32_t x)
{
	memcpy(pg_vector_room(b, v, 4, 4), &x, 4);
	return true;
}

static inline bool pg_append_u64(struct duct_batch *b, struct duct_vector *v, uint64_t x)
{
	memcpy(pg_vector_room(b, v, 8, 8), &x, 8);
	return true;
}

static inline uint32_t pg_be32(const char *p)
{
	uint32_t v;
	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

static inline uint64_t pg_be64(const char *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	return __builtin_bswap64(v);
}

static inline bool pg_append_time(struct duct_batch *b, struct duct_vector *v, int64_t us)
{
	const int64_t epoch_us = 946684800000000;
	if (us == INT64_MIN || us >= INT64_MAX - epoch_us)
		return false; /* infinite or too late */
	return pg_append_u64(b, v, (uint64_t)(us + epoch_us));
}

static inline bool pg_append_day(struct duct_batch *b, struct duct_vector *v, int32_t days)
{
	const int32_t epoch_days = 10957;
	if (days == INT32_MIN || days >= INT32_MAX - epoch_days)
		return false;
	return pg_append_u32(b, v, (uint32_t)(days + epoch_days));
}

/* False: nothing was done. */
static inline bool pg_append_fast(const struct pg_mapping *m, const char *data, size_t len, struct duct_batch *b,
				  struct duct_vector *v)
{
	int64_t small;
	switch (m->codec) {
	case PG_TEXT:
	case PG_JSON:
	case PG_ENUM:
	case PG_BYTEA: return !m->check_utf8 && pg_append_bytes(b, v, data, len);
	case PG_JSONB: return len && data[0] == 1 && !m->check_utf8 && pg_append_bytes(b, v, data + 1, len - 1);
	case PG_BOOL:
		if (len != 1)
			return false;
		*(char *)pg_vector_room(b, v, 1, 1) = data[0] != 0;
		return true;
	case PG_INT2:
		if (len != 2)
			return false;
		memcpy(pg_vector_room(b, v, 2, 2), (const char[]){data[1], data[0]}, 2);
		return true;
	case PG_INT4:
	case PG_UINT4: return len == 4 && pg_append_u32(b, v, pg_be32(data));
	case PG_FLOAT4: return len == 4 && pg_append_u32(b, v, pg_float4_bits(pg_be32(data)));
	case PG_INT8:
	case PG_UINT8:
	case PG_TIME: return len == 8 && pg_append_u64(b, v, pg_be64(data));
	case PG_FLOAT8: return len == 8 && pg_append_u64(b, v, pg_float8_bits(pg_be64(data)));
	case PG_TIMESTAMP:
	case PG_TIMESTAMPTZ: return len == 8 && pg_append_time(b, v, (int64_t)pg_be64(data));
	case PG_DATE: return len == 4 && pg_append_day(b, v, (int32_t)pg_be32(data));
	case PG_DECIMAL: return m->width == 8 && pg_decimal_small(m, data, len, &small) && pg_append_u64(b, v, (uint64_t)small);
	case PG_UUID:
		if (len != 16)
			return false;
		memcpy(pg_vector_room(b, v, 16, 16), data, 16);
		return true;
	default: return false;
	}
}

#endif
