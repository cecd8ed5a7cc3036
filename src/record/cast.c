/* Order of values and widening of one value: see format.h. */
#include "record/format_internal.h"

#include <math.h>

#define US_PER_DAY INT64_C(86400000000)

static int compare_bytes(struct duct_cell a, struct duct_cell b)
{
	uint32_t n = a.len < b.len ? a.len : b.len;
	int c = n ? memcmp(a.data, b.data, n) : 0;
	return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* NaN is equal to NaN and greater than all else; -0.0 equals 0.0. */
static int compare_doubles(double a, double b)
{
	if (isnan(a) || isnan(b))
		return !!isnan(a) - !!isnan(b);
	return (a > b) - (a < b);
}

#define COMPARE(ctype, a, b) \
	__extension__({ \
		ctype a_ = DUCT_LOAD(ctype, (a).data), b_ = DUCT_LOAD(ctype, (b).data); \
		(a_ > b_) - (a_ < b_); \
	})

int duct_cell_compare(const struct duct_type *type, struct duct_cell a, struct duct_cell b)
{
	switch (type->kind) {
	case DUCT_BOOL:
	case DUCT_UINT8: return COMPARE(uint8_t, a, b);
	case DUCT_INT8: return COMPARE(int8_t, a, b);
	case DUCT_INT16: return COMPARE(int16_t, a, b);
	case DUCT_UINT16: return COMPARE(uint16_t, a, b);
	case DUCT_INT32:
	case DUCT_DATE: return COMPARE(int32_t, a, b);
	case DUCT_UINT32: return COMPARE(uint32_t, a, b);
	case DUCT_INT64:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: return COMPARE(int64_t, a, b);
	case DUCT_UINT64: return COMPARE(uint64_t, a, b);
	case DUCT_FLOAT32: return compare_doubles((double)DUCT_LOAD(float, a.data), (double)DUCT_LOAD(float, b.data));
	case DUCT_FLOAT64: return compare_doubles(DUCT_LOAD(double, a.data), DUCT_LOAD(double, b.data));
	case DUCT_DECIMAL: {
		duct_i128 x = duct_load_decimal(type, a.data), y = duct_load_decimal(type, b.data);
		return (x > y) - (x < y);
	}
	case DUCT_UUID:
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB:
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return compare_bytes(a, b);
	}
	return 0;
}

static bool load_integer(const struct duct_type *type, const char *p, duct_i128 *ret)
{
	switch (type->kind) {
	case DUCT_INT8: *ret = DUCT_LOAD(int8_t, p); return true;
	case DUCT_INT16: *ret = DUCT_LOAD(int16_t, p); return true;
	case DUCT_INT32: *ret = DUCT_LOAD(int32_t, p); return true;
	case DUCT_INT64: *ret = DUCT_LOAD(int64_t, p); return true;
	case DUCT_UINT8: *ret = DUCT_LOAD(uint8_t, p); return true;
	case DUCT_UINT16: *ret = DUCT_LOAD(uint16_t, p); return true;
	case DUCT_UINT32: *ret = DUCT_LOAD(uint32_t, p); return true;
	case DUCT_UINT64: *ret = DUCT_LOAD(uint64_t, p); return true;
	default: return false;
	}
}

static bool cast_integer(struct duct_buf *to, duct_i128 v, const struct duct_type *into)
{
	if (into->kind == DUCT_FLOAT64) {
		double d = (double)v;
		duct_buf_append(to, &d, sizeof d);
		return (duct_i128)d == v;
	}
	if (into->kind < DUCT_INT8 || into->kind > DUCT_UINT64)
		return false;
	uint32_t width = duct_type_width(into);
	bool sign = into->kind <= DUCT_INT64;
	duct_i128 span = (duct_i128)1 << (width * 8 - sign);
	uint64_t low = (uint64_t)v;
	duct_buf_append(to, &low, width); /* little-endian: the low bytes are the narrow value */
	return v < span && v >= (sign ? -span : 0);
}

static bool cast_decimal(struct duct_buf *to, const struct duct_type *from, const char *p, const struct duct_type *into)
{
	if (into->kind != DUCT_DECIMAL || into->scale < from->scale)
		return false;
	duct_i128 v = duct_load_decimal(from, p), limit = duct_power10(into->precision);
	if (__builtin_mul_overflow(v, duct_power10(into->scale - from->scale), &v) || v >= limit || v <= -limit)
		return false;
	duct_store_decimal(to, into, v);
	return true;
}

static bool cast_date(struct duct_buf *to, int32_t days, const struct duct_type *into)
{
	int64_t us;
	if (into->kind != DUCT_TIMESTAMP)
		return false;
	if (days == DUCT_DATE_INF || days == DUCT_DATE_NINF)
		us = days > 0 ? DUCT_TS_INF : DUCT_TS_NINF;
	else if (__builtin_mul_overflow((int64_t)days, US_PER_DAY, &us))
		return false;
	duct_buf_append(to, &us, sizeof us);
	return true;
}

static bool cast(struct duct_buf *to, const struct duct_type *from, struct duct_cell cell, const struct duct_type *into)
{
	duct_i128 integer;
	if (load_integer(from, cell.data, &integer))
		return cast_integer(to, integer, into);
	if (from->kind == DUCT_FLOAT32 && into->kind == DUCT_FLOAT64) {
		double d = (double)DUCT_LOAD(float, cell.data);
		duct_buf_append(to, &d, sizeof d);
		return true;
	}
	if (from->kind == DUCT_DECIMAL)
		return cast_decimal(to, from, cell.data, into);
	if (from->kind == DUCT_DATE)
		return cast_date(to, DUCT_LOAD(int32_t, cell.data), into);
	return false;
}

int duct_cell_cast(struct duct_buf *to, const struct duct_type *from, struct duct_cell cell, const struct duct_type *into,
		   struct duct_error *err)
{
	size_t before = to->len;
	if (duct_type_equal(from, into)) {
		duct_buf_append(to, cell.data, cell.len);
		return 0;
	}
	if (cast(to, from, cell, into))
		return 0;
	to->len = before;
	struct duct_buf value AUTO_BUF = {0}, name AUTO_BUF = {0};
	duct_format_value(&value, from, cell);
	duct_type_print(&name, into);
	return duct_fail(err, DUCT_DATA, "value %.100s does not fit type %s", value.data, name.data);
}
