/* Values from their binary form: see types.h. Layouts stand beside the functions; integers are big-endian. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "pg/internal.h"

enum { EPOCH_DAYS = 10957, PG_VERSION_BYTE = 1 };
static const int64_t epoch_us = 946684800000000; /* 2000-01-01 */

const pg_int128 pg_pow10[39] = {
#define P18 1000000000000000000
	1,
	10,
	100,
	1000,
	10000,
	100000,
	1000000,
	10000000,
	100000000,
	1000000000,
	10000000000,
	100000000000,
	1000000000000,
	10000000000000,
	100000000000000,
	1000000000000000,
	10000000000000000,
	100000000000000000,
	P18,
	(pg_int128)P18 * 10,
	(pg_int128)P18 * 100,
	(pg_int128)P18 * 1000,
	(pg_int128)P18 * 10000,
	(pg_int128)P18 * 100000,
	(pg_int128)P18 * 1000000,
	(pg_int128)P18 * 10000000,
	(pg_int128)P18 * 100000000,
	(pg_int128)P18 * 1000000000,
	(pg_int128)P18 * 10000000000,
	(pg_int128)P18 * 100000000000,
	(pg_int128)P18 * 1000000000000,
	(pg_int128)P18 * 10000000000000,
	(pg_int128)P18 * 100000000000000,
	(pg_int128)P18 * 1000000000000000,
	(pg_int128)P18 * 10000000000000000,
	(pg_int128)P18 * 100000000000000000,
	(pg_int128)P18 *P18,
	(pg_int128)P18 *P18 * 10,
	(pg_int128)P18 *P18 * 100,
#undef P18
};

static int malformed(struct duct_error *err, const struct pg_mapping *m, size_t len)
{
	return pg_bad_value(err, m, "its binary value of %zu bytes is malformed", len);
}

static uint16_t be16(const char *p)
{
	uint16_t v;
	memcpy(&v, p, 2);
	return __builtin_bswap16(v);
}

/* At most four groups, none of them above 10^12: 64 bits hold the sum, and scaling it is checked. */
bool pg_decimal_small(const struct pg_mapping *m, const char *data, size_t len, int64_t *ret)
{
	if (len < 10 || len > 16)
		return false;
	int ndigits = be16(data), weight = (int16_t)be16(data + 2), sign = be16(data + 4), scale = m->type.scale;
	int beyond = -scale - 4 * (weight - ndigits + 1); /* decimals of the last group behind the scale */
	int64_t v = 0;
	if (len != 8 + (size_t)ndigits * 2 || (sign & ~0x4000) || weight < -1 || weight > 2 || beyond >= 4 || beyond < -18)
		return false;
	for (const char *p = data + 8; p < data + len; p += 2) {
		if (be16(p) > 9999)
			return false;
		v = v * 10000 + be16(p);
	}
	if (beyond > 0) {
		static const int small_power[] = {1, 10, 100, 1000};
		if (v % small_power[beyond])
			return false;
		v /= small_power[beyond];
	} else if (__builtin_mul_overflow(v, (int64_t)pg_pow10[-beyond], &v)) {
		return false;
	}
	if (v >= (int64_t)pg_pow10[m->type.precision > 18 ? 18 : m->type.precision])
		return false;
	*ret = sign ? -v : v;
	return true;
}

/* Adds the base-10000 digits to *sum in units of 10^-scale. False: digits beyond the scale, or more than 38 in all. */
static bool sum_digits(struct duct_reader *r, int ndigits, int weight, int scale, pg_int128 *sum)
{
	pg_int128 v = 0;
	bool over = false;
	int unit = 0;
	for (int i = 0; i < ndigits; i++) {
		int digit = duct_read_u16(r), beyond;
		unit = 4 * (weight - i);
		beyond = -scale - unit;
		if (digit > 9999)
			return false;
		if (beyond <= 0) {
			over |= __builtin_mul_overflow(v, (pg_int128)10000, &v);
			over |= __builtin_add_overflow(v, (pg_int128)digit, &v);
		} else if (beyond < 4) {
			int cut = (int)pg_pow10[beyond];
			if (digit % cut)
				return false;
			over |= __builtin_mul_overflow(v, pg_pow10[4 - beyond], &v);
			over |= __builtin_add_overflow(v, (pg_int128)(digit / cut), &v);
			unit = -scale;
		} else if (digit) {
			return false;
		} else {
			unit = -scale;
		}
	}
	if (v && unit + scale > 0)
		over |= unit + scale > 38 || __builtin_mul_overflow(v, pg_pow10[unit + scale], &v);
	*sum = v;
	return !over;
}

/* Unscaled; false: does not fit (pg_bad_value was called). */
static bool decimal_from_binary(const struct pg_mapping *m, const char *data, size_t len, pg_int128 *ret, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, len);
	int ndigits = duct_read_u16(&r), weight = duct_read_i16(&r), sign = duct_read_u16(&r);
	(void)duct_read_u16(&r);
	if (sign == 0xc000 || sign == 0xd000 || sign == 0xf000) {
		(void)pg_bad_value(err, m, "%s has no place in a decimal",
				   sign == 0xc000	    ? "NaN"
					   : sign == 0xd000 ? "Infinity"
							    : "-Infinity");
		return false;
	}
	if (r.bad || duct_reader_left(&r) != (size_t)ndigits * 2 || (sign && sign != 0x4000)) {
		(void)malformed(err, m, len);
		return false;
	}
	pg_int128 v;
	if (!sum_digits(&r, ndigits, weight, m->type.scale, &v) || v >= pg_pow10[m->type.precision]) {
		(void)pg_bad_value(err, m, "the value does not fit in decimal(%d,%d)", m->type.precision, m->type.scale);
		return false;
	}
	*ret = sign ? -v : v;
	return true;
}

static void put_point(struct duct_reader *r, struct duct_buf *to)
{
	for (int i = 0; i < 2; i++) {
		uint64_t bits = pg_float8_bits(duct_read_u64(r));
		duct_buf_putc(to, 1);
		duct_buf_append(to, &bits, 8);
	}
}

/* u16 dimensions, u16 unused, floats */
static void put_pgvector(struct duct_reader *r, struct duct_buf *to)
{
	unsigned n = duct_read_u16(r);
	(void)duct_read_u16(r);
	pg_put_u32(to, n);
	for (unsigned i = 0; i < n && !r->bad; i++) {
		uint32_t bits = pg_float4_bits(duct_read_u32(r));
		duct_buf_putc(to, 1);
		duct_buf_append(to, &bits, 4);
	}
}

static int put_utf8(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	if (m->check_utf8 && !duct_utf8_valid(data, len))
		return pg_bad_value(err, m, "text that is not valid UTF-8 (the database is SQL_ASCII)");
	pg_put_u32(to, (uint32_t)len);
	duct_buf_append(to, data, len);
	return 0;
}

/* i32 n, n x {i32 length, key, i32 length or -1, value} */
static int put_hstore(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	int32_t n = duct_read_i32(r);
	r->bad |= n < 0;
	pg_put_u32(to, (uint32_t)n);
	for (int32_t i = 0; i < n && !r->bad; i++) {
		int32_t klen = duct_read_i32(r);
		const char *key = duct_read_bytes(r, klen < 0 ? SIZE_MAX : (size_t)klen);
		int32_t vlen = duct_read_i32(r);
		const char *value = vlen < 0 ? NULL : duct_read_bytes(r, (size_t)vlen);
		if (!key || r->bad)
			break;
		int rc = put_utf8(m, key, (size_t)klen, to, err);
		if (rc == 0) {
			duct_buf_putc(to, value != NULL);
			rc = value ? put_utf8(m, value, (size_t)vlen, to, err) : 0;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* {i32 length or -1, data}; *ret NULL when absent */
static size_t read_item(struct duct_reader *r, const char **ret)
{
	int32_t n = duct_read_i32(r);
	*ret = n < 0 ? NULL : duct_read_bytes(r, (size_t)n);
	return n < 0 ? 0 : (size_t)n;
}

static int put_level(const struct pg_mapping *m, struct duct_reader *r, const int32_t *lens, int level, struct duct_buf *to,
		     struct duct_error *err)
{
	int rc = 0;
	pg_put_u32(to, (uint32_t)lens[level]);
	for (int32_t i = 0; i < lens[level] && !r->bad && rc == 0; i++) {
		if (level + 1 < m->ndims) {
			duct_buf_putc(to, 1);
			size_t at = to->len;
			pg_put_u32(to, 0);
			rc = put_level(m, r, lens, level + 1, to, err);
			pg_patch_u32(to, at, (uint32_t)(to->len - at - 4));
			continue;
		}
		const char *data;
		size_t n = read_item(r, &data);
		if (!r->bad)
			rc = pg_put_item(m->children, 'b', data, n, to, err);
	}
	return rc;
}

/* i32 ndim, i32 has NULLs, u32 element type, ndim x {i32 length, i32 lower bound}, elements row by row. No elements:
 * ndim 0, whatever the column says. */
static int put_array(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	int32_t lens[6], ndim = duct_read_i32(r);
	(void)duct_read_i32(r);
	uint32_t element = duct_read_u32(r);
	if (r->bad || ndim < 0 || ndim > 6) {
		r->bad = true;
		return 0;
	}
	for (int i = 0; i < ndim; i++) {
		lens[i] = duct_read_i32(r);
		(void)duct_read_i32(r);
		r->bad |= lens[i] <= 0 && m->codec != PG_INT_VECTOR;
	}
	if (r->bad)
		return 0;
	if (element != m->children->oid)
		return pg_bad_value(err, m, "its elements have type %u, %u was expected", element, m->children->oid);
	if (ndim == 0 || (ndim == 1 && lens[0] <= 0)) {
		pg_put_u32(to, 0);
		return 0;
	}
	if (ndim != m->ndims)
		return pg_bad_dims(err, m, ndim);
	return put_level(m, r, lens, 0, to, err);
}

/* u8 flags: 1 empty, 2 lower inclusive, 4 upper inclusive, 8 no lower, 16 no upper bound; then the bounds there are */
static int put_range(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	unsigned flags = duct_read_u8(r);
	for (int i = 0; i < 2; i++) {
		const char *data = NULL;
		size_t n = flags & 1 || flags & (8U << i) ? 0 : read_item(r, &data);
		if (r->bad)
			return 0;
		int rc = pg_put_item(m->children, 'b', data, n, to, err);
		if (rc < 0)
			return rc;
	}
	pg_put_bool(to, flags & 2);
	pg_put_bool(to, flags & 4);
	pg_put_bool(to, flags & 1);
	return 0;
}

/* i32 n, n x {i32 length, range} */
static int put_multirange(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	int32_t n = duct_read_i32(r);
	int rc = 0;
	r->bad |= n < 0;
	pg_put_u32(to, (uint32_t)n);
	for (int32_t i = 0; i < n && !r->bad && rc == 0; i++) {
		const char *data;
		size_t len = read_item(r, &data);
		r->bad |= !data;
		if (!r->bad)
			rc = pg_put_item(m->children, 'b', data, len, to, err);
	}
	return rc;
}

/* i32 n, n x {u32 type, i32 length or -1, data}; dropped attributes are left out */
static int put_composite(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	int32_t n = duct_read_i32(r);
	if (!r->bad && n != m->nchildren)
		return pg_bad_value(err, m, "the value has %d fields, the type has %d", n, m->nchildren);
	for (int32_t i = 0; i < n && !r->bad; i++) {
		uint32_t oid = duct_read_u32(r);
		const char *data;
		size_t len = read_item(r, &data);
		if (r->bad)
			break;
		if (oid != m->children[i].oid)
			return pg_bad_value(err, m, "field %d has type %u, %u was expected", i + 1, oid, m->children[i].oid);
		int rc = pg_put_item(&m->children[i], 'b', data, len, to, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int put_composed(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	switch (m->codec) {
	case PG_HSTORE: return put_hstore(m, r, to, err);
	case PG_ARRAY:
	case PG_INT_VECTOR: return put_array(m, r, to, err);
	case PG_RANGE: return put_range(m, r, to, err);
	case PG_MULTIRANGE: return put_multirange(m, r, to, err);
	case PG_COMPOSITE: return put_composite(m, r, to, err);
	case PG_EMPTY_COMPOSITE:
		r->bad |= duct_read_i32(r) != 0;
		duct_buf_puts(to, "()");
		return 0;
	case PG_POINT: put_point(r, to); return 0;
	default: put_pgvector(r, to); return 0;
	}
}

static void print(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to)
{
	switch (m->codec) {
	case PG_NUMERIC_TEXT: pg_print_numeric(r, to); break;
	case PG_TIMETZ: pg_print_timetz(r, to); break;
	case PG_INTERVAL:
	case PG_INTERVAL_INF: pg_print_interval(r, to, m->codec == PG_INTERVAL_INF); break;
	case PG_BIT: pg_print_bits(r, to); break;
	case PG_INET:
	case PG_CIDR: pg_print_inet(r, to, m->codec == PG_CIDR); break;
	case PG_MACADDR: pg_print_mac(r, to); break;
	case PG_LSN: {
		uint64_t lsn = duct_read_u64(r);
		duct_buf_printf(to, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
		break;
	}
	case PG_TID: {
		uint32_t block = duct_read_u32(r);
		duct_buf_printf(to, "(%u,%u)", block, duct_read_u16(r));
		break;
	}
	case PG_SNAPSHOT: pg_print_snapshot(r, to); break;
	case PG_TSVECTOR: pg_print_tsvector(r, to); break;
	case PG_TSQUERY: pg_print_tsquery(r, to); break;
	case PG_CUBE: pg_print_cube(r, to); break;
	default: pg_print_geometric(m->codec, r, to);
	}
}

static int put_timestamp(const struct pg_mapping *m, int64_t us, struct duct_buf *to, struct duct_error *err)
{
	if (us == INT64_MIN)
		us = DUCT_TS_NINF;
	else if (us != INT64_MAX && (__builtin_add_overflow(us, epoch_us, &us) || us == INT64_MAX))
		return pg_bad_value(err, m, "times from 294247-01-10 04:00:54.775807 on have no place in the lake");
	duct_buf_append(to, &us, 8);
	return 0;
}

static int put_scalar(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err)
{
	size_t len = duct_reader_left(r);
	switch (m->codec) {
	case PG_BOOL: duct_buf_putc(to, duct_read_u8(r) != 0); return 0;
	case PG_INT2: duct_buf_append(to, &(int16_t){duct_read_i16(r)}, 2); return 0;
	case PG_INT4:
	case PG_UINT4: duct_buf_append(to, &(uint32_t){duct_read_u32(r)}, 4); return 0;
	case PG_FLOAT4: duct_buf_append(to, &(uint32_t){pg_float4_bits(duct_read_u32(r))}, 4); return 0;
	case PG_FLOAT8: duct_buf_append(to, &(uint64_t){pg_float8_bits(duct_read_u64(r))}, 8); return 0;
	case PG_INT8:
	case PG_UINT8:
	case PG_TIME: duct_buf_append(to, &(uint64_t){duct_read_u64(r)}, 8); return 0;
	case PG_DATE: {
		int32_t days = duct_read_i32(r);
		if (days == INT32_MIN)
			days = DUCT_DATE_NINF;
		else if (days != INT32_MAX && (__builtin_add_overflow(days, EPOCH_DAYS, &days) || days == INT32_MAX))
			r->bad = true;
		duct_buf_append(to, &days, 4);
		return 0;
	}
	case PG_TIMESTAMP:
	case PG_TIMESTAMPTZ: return put_timestamp(m, duct_read_i64(r), to, err);
	case PG_MONEY: {
		pg_int128 v = duct_read_i64(r);
		duct_buf_append(to, &v, 16);
		return 0;
	}
	case PG_DECIMAL: {
		pg_int128 v;
		if (!decimal_from_binary(m, r->at, len, &v, err))
			return -DUCT_DATA;
		(void)duct_read_bytes(r, len);
		duct_buf_append(to, &v, m->width); /* little-endian: the low half is the int64 */
		return 0;
	}
	case PG_UUID: {
		const char *p = duct_read_bytes(r, 16);
		if (p)
			duct_buf_append(to, p, 16);
		return 0;
	}
	default: print(m, r, to); return 0;
	}
}

/* Forms that are the text itself, perhaps behind a version byte. */
static bool put_text(const struct pg_mapping *m, struct duct_reader *r, struct duct_buf *to, struct duct_error *err, int *rc)
{
	switch (m->codec) {
	case PG_JSONB:
	case PG_VERSIONED_TEXT: r->bad |= duct_read_u8(r) != PG_VERSION_BYTE; break;
	case PG_BYTEA:
	case PG_TEXT:
	case PG_ENUM:
	case PG_JSON:
	case PG_BPCHAR:
	case PG_CHAR1: break;
	case PG_EWKB:
		while (duct_reader_left(r))
			duct_buf_printf(to, "%02X", duct_read_u8(r));
		return true;
	default: return false;
	}
	if (!r->bad) {
		const char *text = r->at;
		size_t n = duct_reader_left(r);
		(void)duct_read_bytes(r, n);
		if (m->codec == PG_CHAR1 && n == 1 && !*text)
			n = 0;
		if (m->codec == PG_BYTEA)
			duct_buf_append(to, text, n);
		else
			*rc = pg_decode_text(m, text, n, to, err);
	}
	return true;
}

int pg_decode_binary(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, len);
	int rc = 0;
	if (m->codec == PG_TEXT_ONLY)
		return pg_bad_value(err, m,
				    "its binary form cannot be decoded: the stream must be started again without the "
				    "option \"binary\"");
	if (!put_text(m, &r, to, err, &rc)) {
		if (m->codec >= PG_HSTORE || m->codec == PG_POINT || m->codec == PG_PGVECTOR)
			rc = put_composed(m, &r, to, err);
		else
			rc = put_scalar(m, &r, to, err);
	}
	if (rc == 0 && (r.bad || duct_reader_left(&r)))
		return malformed(err, m, len);
	return rc;
}
