/* Values from their text form (ISO dates, ISO 8601 intervals, hex bytea, UTC: see session.h). Bytes are not
 * NUL-terminated. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/utf8.h"
#include "pg/internal.h"

struct cursor {
	const char *at, *end;
};

static int not_a_value(struct duct_error *err, const struct pg_mapping *m)
{
	return pg_bad_value(err, m, "its text form cannot be parsed");
}

static bool skip(struct cursor *c, char ch)
{
	if (c->at == c->end || *c->at != ch)
		return false;
	c->at++;
	return true;
}

static bool equals(const char *data, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(data, word, len) == 0;
}

/* At least one digit and at most max_digits; false when not. */
static bool digits(struct cursor *c, int max_digits, int64_t *ret)
{
	int64_t v = 0;
	int n = 0;
	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && n < max_digits; c->at++, n++)
		v = v * 10 + (*c->at - '0');
	*ret = v;
	return n > 0;
}

static bool parse_signed(const char *data, size_t len, int64_t min, int64_t max, int64_t *ret)
{
	struct cursor c = {data, data + len};
	bool negative = skip(&c, '-'), any = false;
	int64_t v = 0;
	for (; c.at < c.end && *c.at >= '0' && *c.at <= '9'; c.at++, any = true)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *c.at - '0', &v))
			return false;
	if (!any || c.at != c.end || (!negative && __builtin_sub_overflow((int64_t)0, v, &v)) || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

static bool parse_unsigned(const char *data, size_t len, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;
	for (size_t i = 0; i < len; i++)
		if (data[i] < '0' || data[i] > '9' || __builtin_mul_overflow(v, 10UL, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(data[i] - '0'), &v))
			return false;
	*ret = v;
	return len > 0 && v <= max;
}

static bool parse_float(const char *data, size_t len, bool single, double *ret)
{
	char text[512], *end;
	if (equals(data, len, "NaN") || equals(data, len, "Infinity") || equals(data, len, "-Infinity")) {
		*ret = *data == 'N' ? (double)NAN : *data == '-' ? -(double)INFINITY : (double)INFINITY;
		return true;
	}
	if (!len || len >= sizeof text)
		return false;
	memcpy(text, data, len);
	text[len] = 0;
	if (strspn(text, "+-.0123456789eE") != len)
		return false;
	*ret = single ? (double)strtof(text, &end) : strtod(text, &end);
	return end == text + len;
}

/* Unscaled; false: does not fit (pg_bad_value was called). */
static bool decimal_from_text(const struct pg_mapping *m, const char *data, size_t len, pg_int128 *ret, struct duct_error *err)
{
	struct cursor c = {data, data + len};
	if (equals(data, len, "NaN") || equals(data, len, "Infinity") || equals(data, len, "-Infinity")) {
		(void)pg_bad_value(err, m, "%.*s has no place in a decimal", (int)len, data);
		return false;
	}
	bool negative = skip(&c, '-'), over = false, any = false;
	int fraction = -1;
	pg_int128 v = 0;
	for (; c.at < c.end; c.at++) {
		if (*c.at == '.' && fraction < 0) {
			fraction = 0;
			continue;
		}
		if (*c.at < '0' || *c.at > '9') {
			(void)not_a_value(err, m);
			return false;
		}
		any = true;
		if (fraction >= m->type.scale) {
			over |= *c.at != '0';
			continue;
		}
		fraction += fraction >= 0;
		over |= __builtin_mul_overflow(v, (pg_int128)10, &v) || __builtin_add_overflow(v, (pg_int128)(*c.at - '0'), &v);
	}
	if (!any) {
		(void)not_a_value(err, m);
		return false;
	}
	int missing = m->type.scale - (fraction < 0 ? 0 : fraction);
	over |= missing > 0 && __builtin_mul_overflow(v, pg_pow10[missing], &v);
	if (over || v >= pg_pow10[m->type.precision]) {
		(void)pg_bad_value(err, m, "the value does not fit in decimal(%d,%d)", m->type.precision, m->type.scale);
		return false;
	}
	*ret = negative ? -v : v;
	return true;
}

/* "-$1,234.56": the digits are the unscaled value, whatever stands between them */
static bool parse_money(const char *data, size_t len, pg_int128 *ret)
{
	bool negative = false, any = false;
	pg_int128 v = 0;
	for (size_t i = 0; i < len; i++) {
		negative |= data[i] == '-' || data[i] == '(';
		if (data[i] < '0' || data[i] > '9')
			continue;
		any = true;
		v = v * 10 + (data[i] - '0');
		if (v > (pg_int128)INT64_MAX + 1)
			return false;
	}
	*ret = negative ? -v : v;
	return any;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	year -= month <= 2;
	int64_t era = (year >= 0 ? year : year - 399) / 400, yoe = year - era * 400;
	int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool parse_ymd(struct cursor *c, int64_t *year, int64_t *month, int64_t *day)
{
	return digits(c, 7, year) && skip(c, '-') && digits(c, 2, month) && skip(c, '-') && digits(c, 2, day) && *month >= 1 &&
		*month <= 12 && *day >= 1 && *day <= 31;
}

/* " BC" and nothing after it */
static bool parse_era(struct cursor *c, int64_t *year)
{
	if (c->end - c->at == 3 && memcmp(c->at, " BC", 3) == 0) {
		*year = 1 - *year;
		c->at = c->end;
	}
	return c->at == c->end;
}

static bool parse_hms(struct cursor *c, int64_t *us)
{
	int64_t h, m, s, fraction = 0;
	if (!digits(c, 2, &h) || !skip(c, ':') || !digits(c, 2, &m) || !skip(c, ':') || !digits(c, 2, &s) || m > 59 || s > 60)
		return false;
	if (skip(c, '.')) {
		const char *start = c->at;
		if (!digits(c, 6, &fraction))
			return false;
		for (long n = c->at - start; n < 6; n++)
			fraction *= 10;
	}
	*us = ((h * 60 + m) * 60 + s) * 1000000 + fraction;
	return *us <= 86400000000;
}

/* +HH[:MM[:SS]] in seconds east */
static bool parse_zone(struct cursor *c, int64_t *east)
{
	int64_t h, m = 0, s = 0;
	bool negative = skip(c, '-');
	if ((!negative && !skip(c, '+')) || !digits(c, 2, &h) || (skip(c, ':') && !digits(c, 2, &m)) ||
	    (skip(c, ':') && !digits(c, 2, &s)))
		return false;
	*east = (negative ? -1 : 1) * (h * 3600 + m * 60 + s);
	return true;
}

static int put_date(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct cursor c = {data, data + len};
	int64_t year, month, day;
	int32_t v = DUCT_DATE_INF;
	if (equals(data, len, "-infinity")) {
		v = DUCT_DATE_NINF;
	} else if (!equals(data, len, "infinity")) {
		if (!parse_ymd(&c, &year, &month, &day) || !parse_era(&c, &year))
			return not_a_value(err, m);
		int64_t days = days_of(year, month, day);
		if (days <= DUCT_DATE_NINF || days >= DUCT_DATE_INF)
			return not_a_value(err, m);
		v = (int32_t)days;
	}
	duct_buf_append(to, &v, 4);
	return 0;
}

static int put_timestamp(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct cursor c = {data, data + len};
	int64_t year, month, day, us, east = 0, v = DUCT_TS_INF;
	if (equals(data, len, "-infinity")) {
		v = DUCT_TS_NINF;
	} else if (!equals(data, len, "infinity")) {
		if (!parse_ymd(&c, &year, &month, &day) || !skip(&c, ' ') || !parse_hms(&c, &us) ||
		    (m->codec == PG_TIMESTAMPTZ && !parse_zone(&c, &east)) || !parse_era(&c, &year))
			return not_a_value(err, m);
		/* days * day length may overflow alone although the sum fits: 128 bits */
		pg_int128 sum = (pg_int128)days_of(year, month, day) * 86400000000 + us - east * 1000000;
		if (sum >= INT64_MAX)
			return pg_bad_value(err, m, "times from 294247-01-10 04:00:54.775807 on have no place in the lake");
		if (sum <= -(pg_int128)INT64_MAX)
			return not_a_value(err, m);
		v = (int64_t)sum;
	}
	duct_buf_append(to, &v, 8);
	return 0;
}

static int put_hex(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	if (len < 2 || len % 2 || data[0] != '\\' || data[1] != 'x')
		return not_a_value(err, m);
	char *p = duct_buf_room(to, len / 2);
	for (size_t i = 2; i < len; i += 2) {
		int high = duct_hex_digit(data[i]), low = duct_hex_digit(data[i + 1]);
		if (high < 0 || low < 0)
			return not_a_value(err, m);
		*p++ = (char)(high << 4 | low);
	}
	to->len += len / 2 - 1;
	to->data[to->len] = 0;
	return 0;
}

static int put_uuid(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	char raw[16];
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '-')
			continue;
		int v = duct_hex_digit(data[i]);
		if (v < 0 || n == 32)
			return not_a_value(err, m);
		raw[n / 2] = (char)(n % 2 ? raw[n / 2] | v : v << 4);
		n++;
	}
	if (n != 32)
		return not_a_value(err, m);
	duct_buf_append(to, raw, sizeof raw);
	return 0;
}

/* "char" is one byte of no encoding: from 16 on Postgres itself prints bytes above 127 as \ooo */
static int put_string(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	if (m->codec == PG_CHAR1 && len == 1 && (uint8_t)*data > 127) {
		duct_buf_printf(to, "\\%03o", (uint8_t)*data);
		return 0;
	}
	if (m->codec == PG_BPCHAR)
		while (len && data[len - 1] == ' ')
			len--;
	if (m->check_utf8 && !duct_utf8_valid(data, len))
		return pg_bad_value(err, m, "text that is not valid UTF-8 (the database is SQL_ASCII)");
	duct_buf_append(to, data, len);
	return 0;
}

/* Reads one quoted or bare piece up to an unquoted stop character. Quotes double inside records and ranges; a backslash
 * escapes everywhere. *ret_quoted tells "" from nothing. */
static bool unquote(struct cursor *c, const char *stops, bool doubled, struct duct_buf *to, bool *ret_quoted)
{
	bool quoted = false;
	to->len = 0;
	*ret_quoted = false;
	for (; c->at < c->end; c->at++) {
		char ch = *c->at;
		if (ch == '\\') {
			if (++c->at == c->end)
				return false;
			duct_buf_putc(to, *c->at);
		} else if (ch == '"') {
			if (quoted && doubled && c->end - c->at > 1 && c->at[1] == '"') {
				duct_buf_putc(to, '"');
				c->at++;
				continue;
			}
			quoted = !quoted;
			*ret_quoted = true;
		} else if (!quoted && strchr(stops, ch) && ch) {
			return true;
		} else {
			duct_buf_putc(to, ch);
		}
	}
	return false;
}

struct array_text {
	const struct pg_mapping *m;
	struct cursor c;
	struct duct_buf piece;
	char stops[4];
};

static int put_array_level(struct array_text *a, int level, struct duct_buf *to, struct duct_error *err)
{
	const struct pg_mapping *m = a->m;
	uint32_t n = 0;
	int rc = 0;
	size_t at = to->len;
	pg_put_u32(to, 0);
	if (!skip(&a->c, '{'))
		return not_a_value(err, m);
	do {
		bool quoted;
		if (level + 1 < m->ndims) {
			duct_buf_putc(to, 1);
			size_t item = to->len;
			pg_put_u32(to, 0);
			rc = put_array_level(a, level + 1, to, err);
			pg_patch_u32(to, item, (uint32_t)(to->len - item - 4));
		} else if (!unquote(&a->c, a->stops, false, &a->piece, &quoted)) {
			return not_a_value(err, m);
		} else if (!quoted && !a->piece.len) {
			return not_a_value(err, m);
		} else {
			bool null = !quoted && equals(a->piece.data, a->piece.len, "NULL");
			rc = pg_put_item(m->children, 't', null ? NULL : a->piece.data ? a->piece.data : "", a->piece.len, to, err);
		}
		n++;
	} while (rc == 0 && skip(&a->c, m->delim));
	if (rc == 0 && !skip(&a->c, '}'))
		return not_a_value(err, m);
	pg_patch_u32(to, at, n);
	return rc;
}

/* [l:u][l:u]={{...},{...}}; the bounds are not kept. {} has no dimensions. */
static int put_array(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct array_text a = {.m = m, .c = {data, data + len}, .stops = {m->delim, '}', '{', 0}};
	int found = 0;
	if (len && *data == '[') {
		const char *equal = memchr(data, '=', len);
		if (!equal)
			return not_a_value(err, m);
		a.c.at = equal + 1;
	}
	if (equals(a.c.at, (size_t)(a.c.end - a.c.at), "{}")) {
		pg_put_u32(to, 0);
		return 0;
	}
	for (const char *p = a.c.at; p < a.c.end && *p == '{' && found <= 6; p++)
		found++;
	if (found != m->ndims)
		return found ? pg_bad_dims(err, m, found) : not_a_value(err, m);
	int rc = put_array_level(&a, 0, to, err);
	duct_buf_done(&a.piece);
	if (rc == 0 && a.c.at != a.c.end)
		return not_a_value(err, m);
	return rc;
}

/* int2vector, oidvector: 1 2 3 */
static int put_int_vector(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	size_t at = to->len, start = 0;
	uint32_t n = 0;
	pg_put_u32(to, 0);
	while (start < len) {
		const char *blank = memchr(data + start, ' ', len - start);
		size_t item = blank ? (size_t)(blank - data) - start : len - start;
		int rc = pg_put_item(m->children, 't', data + start, item, to, err);
		if (rc < 0)
			return rc;
		n++;
		start += item + 1;
	}
	pg_patch_u32(to, at, n);
	return 0;
}

static int put_composite(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf piece = {0};
	if (!skip(c, '('))
		return not_a_value(err, m);
	for (int i = 0; i < m->nchildren; i++) {
		bool quoted;
		if (!unquote(c, ",)", true, &piece, &quoted))
			return not_a_value(err, m);
		bool null = !quoted && !piece.len;
		int rc = pg_put_item(&m->children[i], 't', null ? NULL : piece.data ? piece.data : "", piece.len, to, err);
		if (rc < 0)
			return rc;
		if (!skip(c, i + 1 < m->nchildren ? ',' : ')'))
			return pg_bad_value(err, m, "the value has not the %d fields of the type", m->nchildren);
	}
	return c->at == c->end ? 0 : not_a_value(err, m);
}

/* empty, [a,b), (,b]; stops after the closing bracket */
static int put_range(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf piece = {0};
	bool inclusive[2];
	if (equals(c->at, (size_t)(c->end - c->at), "empty")) {
		c->at = c->end;
		duct_buf_append(to, (const char[]){0, 0, 1, 0, 1, 0, 1, 1}, 8);
		return 0;
	}
	inclusive[0] = skip(c, '[');
	if (!inclusive[0] && !skip(c, '('))
		return not_a_value(err, m);
	for (int i = 0; i < 2; i++) {
		bool quoted;
		if (!unquote(c, i ? ")]" : ",", true, &piece, &quoted))
			return not_a_value(err, m);
		bool null = !quoted && !piece.len;
		int rc = pg_put_item(m->children, 't', null ? NULL : piece.data ? piece.data : "", piece.len, to, err);
		if (rc < 0)
			return rc;
		inclusive[1] = *c->at++ == ']';
	}
	pg_put_bool(to, inclusive[0]);
	pg_put_bool(to, inclusive[1]);
	pg_put_bool(to, false);
	return 0;
}

static int put_multirange(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	size_t at = to->len;
	uint32_t n = 0;
	pg_put_u32(to, 0);
	if (!skip(c, '{'))
		return not_a_value(err, m);
	while (c->at < c->end && *c->at != '}') {
		if (n && !skip(c, ','))
			return not_a_value(err, m);
		duct_buf_putc(to, 1);
		size_t item = to->len;
		pg_put_u32(to, 0);
		int rc = put_range(m->children, c, to, err);
		if (rc < 0)
			return rc;
		pg_patch_u32(to, item, (uint32_t)(to->len - item - 4));
		n++;
	}
	pg_patch_u32(to, at, n);
	return skip(c, '}') && c->at == c->end ? 0 : not_a_value(err, m);
}

static bool put_hstore_piece(const struct pg_mapping *m, struct cursor *c, struct duct_buf *piece, struct duct_buf *to)
{
	piece->len = 0;
	if (!skip(c, '"'))
		return false;
	for (; c->at < c->end && *c->at != '"'; c->at++) {
		if (*c->at == '\\' && ++c->at == c->end)
			return false;
		duct_buf_putc(piece, *c->at);
	}
	if (!skip(c, '"') || (m->check_utf8 && !duct_utf8_valid(piece->data, piece->len)))
		return false;
	pg_put_u32(to, (uint32_t)piece->len);
	duct_buf_append(to, piece->data, piece->len);
	return true;
}

/* "k"=>"v", "k2"=>NULL */
static int put_hstore(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf piece = {0};
	size_t at = to->len;
	uint32_t n = 0;
	pg_put_u32(to, 0);
	while (c->at < c->end) {
		if (n && (!skip(c, ',') || !skip(c, ' ')))
			return not_a_value(err, m);
		if (!put_hstore_piece(m, c, &piece, to) || !skip(c, '=') || !skip(c, '>'))
			return not_a_value(err, m);
		if (c->end - c->at >= 4 && memcmp(c->at, "NULL", 4) == 0) {
			c->at += 4;
			duct_buf_putc(to, 0);
		} else {
			duct_buf_putc(to, 1);
			if (!put_hstore_piece(m, c, &piece, to))
				return not_a_value(err, m);
		}
		n++;
	}
	pg_patch_u32(to, at, n);
	return 0;
}

/* (x,y) and [a,b,...]: floats up to a stop character */
static bool next_float(struct cursor *c, bool single, double *ret)
{
	const char *start = c->at;
	while (c->at < c->end && !strchr(",)]", *c->at))
		c->at++;
	return parse_float(start, (size_t)(c->at - start), single, ret);
}

static int put_point(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	double x, y;
	if (!skip(c, '(') || !next_float(c, false, &x) || !skip(c, ',') || !next_float(c, false, &y) || !skip(c, ')') ||
	    c->at != c->end)
		return not_a_value(err, m);
	duct_buf_putc(to, 1);
	duct_buf_append(to, &x, 8);
	duct_buf_putc(to, 1);
	duct_buf_append(to, &y, 8);
	return 0;
}

static int put_pgvector(const struct pg_mapping *m, struct cursor *c, struct duct_buf *to, struct duct_error *err)
{
	size_t at = to->len;
	uint32_t n = 0;
	pg_put_u32(to, 0);
	if (!skip(c, '['))
		return not_a_value(err, m);
	do {
		double v;
		if (!next_float(c, true, &v))
			return not_a_value(err, m);
		duct_buf_putc(to, 1);
		duct_buf_append(to, &(float){(float)v}, 4);
		n++;
	} while (skip(c, ','));
	pg_patch_u32(to, at, n);
	return skip(c, ']') && c->at == c->end ? 0 : not_a_value(err, m);
}

static int put_composed(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct cursor c = {data, data + len};
	switch (m->codec) {
	case PG_ARRAY: return put_array(m, data, len, to, err);
	case PG_INT_VECTOR: return put_int_vector(m, data, len, to, err);
	case PG_COMPOSITE: return put_composite(m, &c, to, err);
	case PG_MULTIRANGE: return put_multirange(m, &c, to, err);
	case PG_HSTORE: return put_hstore(m, &c, to, err);
	case PG_POINT: return put_point(m, &c, to, err);
	case PG_PGVECTOR: return put_pgvector(m, &c, to, err);
	default: {
		int rc = put_range(m, &c, to, err);
		return rc == 0 && c.at != c.end ? not_a_value(err, m) : rc;
	}
	}
}

static bool put_number(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to)
{
	int64_t i;
	uint64_t u;
	double d;
	switch (m->type.kind) {
	case DUCT_INT16:
		return parse_signed(data, len, INT16_MIN, INT16_MAX, &i) ? duct_buf_append(to, &(int16_t){(int16_t)i}, 2),
		       true						 : false;
	case DUCT_INT32:
		return parse_signed(data, len, INT32_MIN, INT32_MAX, &i) ? duct_buf_append(to, &(int32_t){(int32_t)i}, 4),
		       true						 : false;
	case DUCT_INT64: return parse_signed(data, len, INT64_MIN, INT64_MAX, &i) ? duct_buf_append(to, &i, 8), true : false;
	case DUCT_UINT32:
		return parse_unsigned(data, len, UINT32_MAX, &u) ? duct_buf_append(to, &(uint32_t){(uint32_t)u}, 4), true : false;
	case DUCT_UINT64: return parse_unsigned(data, len, UINT64_MAX, &u) ? duct_buf_append(to, &u, 8), true : false;
	case DUCT_FLOAT32: return parse_float(data, len, true, &d) ? duct_buf_append(to, &(float){(float)d}, 4), true : false;
	default: return parse_float(data, len, false, &d) ? duct_buf_append(to, &d, 8), true : false;
	}
}

int pg_decode_text(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err)
{
	struct cursor c = {data, data + len};
	int64_t us;
	pg_int128 v;
	switch (m->type.kind) {
	case DUCT_VARCHAR:
	case DUCT_JSON: return put_string(m, data, len, to, err);
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return put_composed(m, data, len, to, err);
	case DUCT_BLOB: return put_hex(m, data, len, to, err);
	case DUCT_BOOL:
		if (!equals(data, len, "t") && !equals(data, len, "f"))
			return not_a_value(err, m);
		duct_buf_putc(to, *data == 't');
		return 0;
	case DUCT_DECIMAL:
		if (m->codec == PG_MONEY ? !parse_money(data, len, &v) && not_a_value(err, m)
					 : !decimal_from_text(m, data, len, &v, err))
			return -DUCT_DATA;
		duct_buf_append(to, &v, m->width);
		return 0;
	case DUCT_DATE: return put_date(m, data, len, to, err);
	case DUCT_TIME:
		if (!parse_hms(&c, &us) || c.at != c.end)
			return not_a_value(err, m);
		duct_buf_append(to, &us, 8);
		return 0;
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: return put_timestamp(m, data, len, to, err);
	case DUCT_UUID: return put_uuid(m, data, len, to, err);
	default: return put_number(m, data, len, to) ? 0 : not_a_value(err, m);
	}
}
