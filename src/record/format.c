/* Text of scalars as DuckDB's cast to VARCHAR gives it: see format.h. */
#include "record/format.h"

#include "record/calendar.h"
#include "record/format_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

enum { US_PER_SECOND = 1000000 };
#define US_PER_DAY INT64_C(86400000000)

static void format_uint128(struct duct_buf *to, duct_u128 v, int min_digits)
{
	char text[40], *p = text + sizeof text;
	do {
		*--p = (char)('0' + (int)(v % 10));
		v /= 10;
		min_digits--;
	} while (v || min_digits > 0);
	duct_buf_append(to, p, (size_t)(text + sizeof text - p));
}

static void format_uint64(struct duct_buf *to, uint64_t v)
{
	char text[20], *p = text + sizeof text;
	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	duct_buf_append(to, p, (size_t)(text + sizeof text - p));
}

static void format_int64(struct duct_buf *to, int64_t v)
{
	if (v < 0)
		duct_buf_putc(to, '-');
	format_uint64(to, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void format_decimal(struct duct_buf *to, const struct duct_type *type, duct_i128 v)
{
	duct_u128 u = v < 0 ? 0 - (duct_u128)v : (duct_u128)v;
	duct_u128 unit = (duct_u128)duct_power10(type->scale);
	if (v < 0)
		duct_buf_putc(to, '-');
	if (type->precision != type->scale || u >= unit)
		format_uint128(to, u / unit, 1);
	if (type->scale) {
		duct_buf_putc(to, '.');
		format_uint128(to, u % unit, type->scale);
	}
}

struct digits {
	char text[20];	 /* without trailing zeros */
	int n, exponent; /* value = t.ext * 10^exponent */
};

static bool reads_back(const char *text, double v, bool single)
{
	return single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v;
}

/* The next larger decimal of the same number of digits, in "d.ddde+XX" form. False when it would carry out. */
static bool bump(char *text)
{
	for (char *p = strchr(text, 'e'); p-- > text;) {
		if (*p == '.')
			continue;
		if (*p < '9') {
			++*p;
			return true;
		}
		*p = '0';
	}
	return false;
}

/* The fewest digits that read back to v (finite, > 0). At a power of two the interval below v is half as wide as the one
 * above, so the next larger decimal can read back where the nearest one does not. */
static struct digits shortest_digits(double v, bool single)
{
	char text[32];
	double least = single ? 1.17549435e-38 : 2.2250738585072014e-308;
	int most = single ? 9 : 17;
	for (int n = v < least ? 1 : single ? 6 : 15; n <= most; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, v);
		if (n == most || reads_back(text, v, single))
			break;
		int ignored;
		if (frexp(v, &ignored) == 0.5 && bump(text) && reads_back(text, v, single))
			break;
	}
	struct digits d = {.n = 0};
	char *p = text;
	for (; *p != 'e'; p++)
		if (*p != '.')
			d.text[d.n++] = *p;
	while (d.n > 1 && d.text[d.n - 1] == '0')
		d.n--;
	d.exponent = (int)strtol(p + 1, NULL, 10);
	return d;
}

static void format_zeros(struct duct_buf *to, int n)
{
	while (n-- > 0)
		duct_buf_putc(to, '0');
}

static void format_float(struct duct_buf *to, double v, bool single)
{
	if (isnan(v)) {
		duct_buf_puts(to, "nan");
		return;
	}
	if (signbit(v))
		duct_buf_putc(to, '-');
	v = fabs(v);
	if (isinf(v) || v == 0) {
		duct_buf_puts(to, v == 0 ? "0.0" : "inf");
		return;
	}
	struct digits d = shortest_digits(v, single);
	if (d.exponent < -4 || d.exponent >= 16) {
		duct_buf_append(to, d.text, 1);
		if (d.n > 1) {
			duct_buf_putc(to, '.');
			duct_buf_append(to, d.text + 1, (size_t)d.n - 1);
		}
		duct_buf_printf(to, "e%c%02d", d.exponent < 0 ? '-' : '+', abs(d.exponent));
	} else if (d.exponent < 0) {
		duct_buf_puts(to, "0.");
		format_zeros(to, -d.exponent - 1);
		duct_buf_append(to, d.text, (size_t)d.n);
	} else {
		int whole = d.exponent + 1;
		duct_buf_append(to, d.text, (size_t)(d.n < whole ? d.n : whole));
		format_zeros(to, whole - d.n);
		duct_buf_putc(to, '.');
		if (d.n > whole)
			duct_buf_append(to, d.text + whole, (size_t)(d.n - whole));
		else
			duct_buf_putc(to, '0');
	}
}

/* Fixed-width decimal; tm parts are small and non-negative. */
static char *put_digits(char *p, int64_t v, int width)
{
	for (int i = width; i-- > 0; v /= 10)
		p[i] = (char)('0' + v % 10);
	return p + width;
}

static void format_date(struct duct_buf *to, int64_t days)
{
	struct duct_civil c = duct_civil_of_days(days);
	int64_t year = c.year > 0 ? c.year : 1 - c.year;
	char text[32], *p = text;
	int width = 4;
	for (int64_t limit = 10000; year >= limit; limit *= 10)
		width++;
	p = put_digits(p, year, width);
	*p++ = '-';
	p = put_digits(p, c.month, 2);
	*p++ = '-';
	p = put_digits(p, c.day, 2);
	duct_buf_append(to, text, (size_t)(p - text));
	if (c.year <= 0)
		duct_buf_puts(to, " (BC)");
}

static void format_time(struct duct_buf *to, int64_t us)
{
	char text[32], *p = text;
	int64_t seconds = us / US_PER_SECOND, fraction = us % US_PER_SECOND;
	p = put_digits(p, seconds / 3600, 2);
	*p++ = ':';
	p = put_digits(p, seconds / 60 % 60, 2);
	*p++ = ':';
	p = put_digits(p, seconds % 60, 2);
	if (fraction) {
		*p++ = '.';
		p = put_digits(p, fraction, 6);
		while (p[-1] == '0')
			p--;
	}
	duct_buf_append(to, text, (size_t)(p - text));
}

static void format_timestamp(struct duct_buf *to, int64_t us, const char *zone)
{
	if (us == DUCT_TS_INF || us == DUCT_TS_NINF) {
		duct_buf_puts(to, us == DUCT_TS_INF ? "infinity" : "-infinity");
		return;
	}
	int64_t days = us / US_PER_DAY, rest = us % US_PER_DAY;
	if (rest < 0) {
		rest += US_PER_DAY;
		days--;
	}
	format_date(to, days);
	duct_buf_putc(to, ' ');
	format_time(to, rest);
	duct_buf_puts(to, zone);
}

static void format_uuid(struct duct_buf *to, const char *p)
{
	static const char hex[] = "0123456789abcdef";
	char *at = duct_buf_room(to, 36);
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = hex[(uint8_t)p[i] >> 4];
		*at++ = hex[(uint8_t)p[i] & 15];
	}
	*at = 0;
	to->len += 36;
}

static void format_blob(struct duct_buf *to, struct duct_cell cell)
{
	static const char hex[] = "0123456789ABCDEF";
	char *at = duct_buf_room(to, (size_t)cell.len * 4), *start = at;
	for (uint32_t i = 0; i < cell.len; i++) {
		uint8_t c = (uint8_t)cell.data[i];
		if (c >= ' ' && c <= '~' && c != '\\' && c != '\'' && c != '"') {
			*at++ = (char)c;
			continue;
		}
		*at++ = '\\';
		*at++ = 'x';
		*at++ = hex[c >> 4];
		*at++ = hex[c & 15];
	}
	*at = 0;
	to->len += (size_t)(at - start);
}

void duct_format_value(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	const char *p = cell.data;
	if (!p) {
		duct_buf_puts(to, "NULL");
		return;
	}
	switch (type->kind) {
	case DUCT_BOOL: duct_buf_puts(to, *p ? "true" : "false"); break;
	case DUCT_INT8: format_int64(to, DUCT_LOAD(int8_t, p)); break;
	case DUCT_INT16: format_int64(to, DUCT_LOAD(int16_t, p)); break;
	case DUCT_INT32: format_int64(to, DUCT_LOAD(int32_t, p)); break;
	case DUCT_INT64: format_int64(to, DUCT_LOAD(int64_t, p)); break;
	case DUCT_UINT8: format_uint64(to, DUCT_LOAD(uint8_t, p)); break;
	case DUCT_UINT16: format_uint64(to, DUCT_LOAD(uint16_t, p)); break;
	case DUCT_UINT32: format_uint64(to, DUCT_LOAD(uint32_t, p)); break;
	case DUCT_UINT64: format_uint64(to, DUCT_LOAD(uint64_t, p)); break;
	case DUCT_FLOAT32: format_float(to, (double)DUCT_LOAD(float, p), true); break;
	case DUCT_FLOAT64: format_float(to, DUCT_LOAD(double, p), false); break;
	case DUCT_DECIMAL: format_decimal(to, type, duct_load_decimal(type, p)); break;
	case DUCT_DATE: {
		int32_t days = DUCT_LOAD(int32_t, p);
		if (days == DUCT_DATE_INF || days == DUCT_DATE_NINF)
			duct_buf_puts(to, days == DUCT_DATE_INF ? "infinity" : "-infinity");
		else
			format_date(to, days);
		break;
	}
	case DUCT_TIME: format_time(to, DUCT_LOAD(int64_t, p)); break;
	case DUCT_TIMESTAMP: format_timestamp(to, DUCT_LOAD(int64_t, p), ""); break;
	case DUCT_TIMESTAMPTZ: format_timestamp(to, DUCT_LOAD(int64_t, p), "+00"); break;
	case DUCT_UUID: format_uuid(to, p); break;
	case DUCT_VARCHAR:
	case DUCT_JSON: duct_buf_append(to, p, cell.len); break;
	case DUCT_BLOB: format_blob(to, cell); break;
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: duct_format_nested(to, type, cell); break;
	}
}
