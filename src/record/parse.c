/* Scalars out of catalog text: see format.h. The grammar is what format.c writes, with the spare spellings named there. */
#include "base/hex.h"
#include "record/calendar.h"
#include "record/format_internal.h"

#include <ctype.h>
#include <math.h>
#include <strings.h>

#define US_PER_DAY INT64_C(86400000000)

struct text {
	const char *at, *end;
};

static bool take(struct text *t, const char *word)
{
	size_t n = strlen(word);
	if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n) != 0)
		return false;
	t->at += n;
	return true;
}

static bool same(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

static bool at_digit(const struct text *t)
{
	return t->at < t->end && *t->at >= '0' && *t->at <= '9';
}

/* min..max digits as a number; false when there are fewer. max <= 18. */
static bool take_number(struct text *t, int min, int max, int64_t *ret)
{
	int n = 0;
	int64_t v = 0;
	for (; n < max && at_digit(t); n++)
		v = v * 10 + (*t->at++ - '0');
	*ret = v;
	return n >= min;
}

static bool parse_bool(struct duct_buf *to, const char *text, size_t len)
{
	bool yes = same(text, len, "true") || same(text, len, "t") || same(text, len, "1");
	if (!yes && !same(text, len, "false") && !same(text, len, "f") && !same(text, len, "0"))
		return false;
	duct_buf_putc(to, yes);
	return true;
}

/* An integer or decimal with exactly `scale` places left of the unit; excess places must be zeros. At most 38 digits. */
static bool parse_fixed(const char *text, size_t len, int scale, duct_i128 *ret)
{
	struct text t = {text, text + len};
	bool negative = take(&t, "-");
	if (!negative)
		(void)take(&t, "+"); /* optional */
	duct_i128 v = 0, limit = duct_power10(37);
	int places = -1;
	bool digits = false;
	for (; t.at < t.end; t.at++) {
		if (*t.at == '.' && places < 0 && scale > 0) {
			places = 0;
			continue;
		}
		if (!at_digit(&t))
			return false;
		digits = true;
		if (places == scale) {
			if (*t.at != '0')
				return false;
			continue;
		}
		if (v >= limit)
			return false;
		v = v * 10 + (*t.at - '0');
		places += places >= 0;
	}
	for (places = places < 0 ? 0 : places; places < scale; places++) {
		if (v >= limit)
			return false;
		v *= 10;
	}
	*ret = negative ? -v : v;
	return digits;
}

static bool parse_integer(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len)
{
	duct_i128 v;
	if (!parse_fixed(text, len, 0, &v))
		return false;
	uint32_t width = duct_type_width(type);
	bool sign = type->kind <= DUCT_INT64;
	duct_i128 span = (duct_i128)1 << (width * 8 - sign);
	if (v >= span || v < (sign ? -span : 0))
		return false;
	uint64_t low = (uint64_t)v;
	duct_buf_append(to, &low, width); /* little-endian: the low bytes are the narrow value */
	return true;
}

static bool parse_decimal(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len)
{
	duct_i128 v, limit = duct_power10(type->precision);
	if (!parse_fixed(text, len, type->scale, &v) || v >= limit || v <= -limit)
		return false;
	duct_store_decimal(to, type, v);
	return true;
}

/* [+-]digits[.digits][e[+-]digits], at least one digit: what strtod() must not widen to hex or blanks. */
static bool is_float(const char *text, size_t len)
{
	struct text t = {text, text + len};
	int digits = 0;
	if (!take(&t, "-"))
		(void)take(&t, "+"); /* optional */
	for (; at_digit(&t); t.at++)
		digits++;
	if (take(&t, "."))
		for (; at_digit(&t); t.at++)
			digits++;
	if (digits && (take(&t, "e") || take(&t, "E"))) {
		if (!take(&t, "-"))
			(void)take(&t, "+"); /* optional */
		if (!at_digit(&t))
			return false;
		while (at_digit(&t))
			t.at++;
	}
	return digits && t.at == t.end;
}

static bool parse_float(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len)
{
	bool negative = len && *text == '-';
	const char *word = text + negative;
	size_t n = len - negative;
	bool single = type->kind == DUCT_FLOAT32;
	double d;
	if (same(word, n, "nan")) {
		d = NAN;
	} else if (same(word, n, "inf") || same(word, n, "infinity")) {
		d = negative ? -INFINITY : INFINITY;
	} else {
		if (!is_float(text, len))
			return false;
		AUTO_FREE char *copy = duct_xstrndup(text, len);
		d = single ? (double)strtof(copy, NULL) : strtod(copy, NULL);
		if (isinf(d))
			return false;
	}
	float f = (float)d;
	duct_buf_append(to, single ? (void *)&f : (void *)&d, single ? sizeof f : sizeof d);
	return true;
}

/* YYYY[Y..]-MM-DD[ (BC)] as days. */
static bool take_date(struct text *t, int64_t *ret_days)
{
	int64_t year, month, day;
	if (!take_number(t, 4, 7, &year) || !take(t, "-") || !take_number(t, 2, 2, &month) || !take(t, "-") ||
	    !take_number(t, 2, 2, &day) || year < 1)
		return false;
	if (take(t, " (BC)"))
		year = 1 - year;
	if (month < 1 || month > 12 || day < 1 || day > duct_month_days(year, (int)month))
		return false;
	*ret_days = duct_days_of_civil(year, (int)month, (int)day);
	return true;
}

/* HH:MM:SS[.ffffff], up to 24:00:00. */
static bool take_time(struct text *t, int64_t *ret_us)
{
	int64_t h, m, s, fraction = 0;
	if (!take_number(t, 2, 2, &h) || !take(t, ":") || !take_number(t, 2, 2, &m) || !take(t, ":") || !take_number(t, 2, 2, &s) ||
	    m > 59 || s > 59)
		return false;
	if (take(t, ".")) {
		const char *start = t->at;
		if (!take_number(t, 1, 6, &fraction))
			return false;
		for (long n = t->at - start; n < 6; n++)
			fraction *= 10;
	}
	*ret_us = ((h * 60 + m) * 60 + s) * 1000000 + fraction;
	return *ret_us <= US_PER_DAY;
}

/* +HH[:MM[:SS]] below 16 hours, as Postgres has them, Z or nothing. */
static bool take_zone(struct text *t, int64_t *ret_us)
{
	int64_t h = 0, m = 0, s = 0;
	*ret_us = 0;
	if (t->at == t->end || take(t, "Z"))
		return true;
	bool west = take(t, "-");
	if ((!west && !take(t, "+")) || !take_number(t, 2, 2, &h))
		return false;
	if (take(t, ":") && !take_number(t, 2, 2, &m))
		return false;
	if (take(t, ":") && !take_number(t, 2, 2, &s))
		return false;
	*ret_us = ((h * 60 + m) * 60 + s) * (west ? -1000000 : 1000000);
	return h < 16 && m < 60 && s < 60;
}

static bool infinite(const char *text, size_t len, int64_t *v, int64_t positive)
{
	if (!same(text, len, "infinity") && !same(text, len, "-infinity"))
		return false;
	*v = *text == '-' ? -positive : positive;
	return true;
}

static bool parse_date(struct duct_buf *to, const char *text, size_t len)
{
	struct text t = {text, text + len};
	int64_t days;
	if (!infinite(text, len, &days, DUCT_DATE_INF) &&
	    (!take_date(&t, &days) || t.at != t.end || days >= DUCT_DATE_INF || days <= DUCT_DATE_NINF))
		return false;
	int32_t v = (int32_t)days;
	duct_buf_append(to, &v, sizeof v);
	return true;
}

static bool parse_time(struct duct_buf *to, const char *text, size_t len)
{
	struct text t = {text, text + len};
	int64_t us;
	if (!take_time(&t, &us) || t.at != t.end)
		return false;
	duct_buf_append(to, &us, sizeof us);
	return true;
}

static bool parse_timestamp(struct duct_buf *to, const char *text, size_t len, bool zone)
{
	struct text t = {text, text + len};
	int64_t v, days, us, offset = 0;
	if (!infinite(text, len, &v, DUCT_TS_INF)) {
		if (!take_date(&t, &days))
			return false;
		us = 0;
		if (take(&t, " ") && !take_time(&t, &us))
			return false;
		if ((zone && !take_zone(&t, &offset)) || t.at != t.end)
			return false;
		duct_i128 wide = (duct_i128)days * US_PER_DAY + us - offset;
		if (wide >= DUCT_TS_INF || wide <= DUCT_TS_NINF)
			return false;
		v = (int64_t)wide;
	}
	duct_buf_append(to, &v, sizeof v);
	return true;
}

static bool parse_uuid(struct duct_buf *to, const char *text, size_t len)
{
	char bytes[16];
	int n = 0;
	if (len != 36)
		return false;
	for (size_t i = 0; i < len;) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i++] != '-')
				return false;
			continue;
		}
		int high = duct_hex_digit(text[i]), low = duct_hex_digit(text[i + 1]);
		if (high < 0 || low < 0)
			return false;
		bytes[n++] = (char)(high << 4 | low);
		i += 2;
	}
	duct_buf_append(to, bytes, sizeof bytes);
	return true;
}

/* Plain bytes, other ones as \xHH. */
static bool parse_blob(struct duct_buf *to, const char *text, size_t len)
{
	struct text t = {text, text + len};
	while (t.at < t.end) {
		if (!take(&t, "\\x")) {
			if (*t.at == '\\')
				return false;
			duct_buf_putc(to, *t.at++);
			continue;
		}
		int high = t.end - t.at >= 2 ? duct_hex_digit(t.at[0]) : -1;
		int low = t.end - t.at >= 2 ? duct_hex_digit(t.at[1]) : -1;
		if (high < 0 || low < 0)
			return false;
		duct_buf_putc(to, (char)(high << 4 | low));
		t.at += 2;
	}
	return true;
}

static bool parse(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len)
{
	switch (type->kind) {
	case DUCT_BOOL: return parse_bool(to, text, len);
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32:
	case DUCT_UINT64: return parse_integer(to, type, text, len);
	case DUCT_FLOAT32:
	case DUCT_FLOAT64: return parse_float(to, type, text, len);
	case DUCT_DECIMAL: return parse_decimal(to, type, text, len);
	case DUCT_DATE: return parse_date(to, text, len);
	case DUCT_TIME: return parse_time(to, text, len);
	case DUCT_TIMESTAMP: return parse_timestamp(to, text, len, false);
	case DUCT_TIMESTAMPTZ: return parse_timestamp(to, text, len, true);
	case DUCT_UUID: return parse_uuid(to, text, len);
	case DUCT_VARCHAR:
	case DUCT_JSON: duct_buf_append(to, text, len); return true;
	case DUCT_BLOB: return parse_blob(to, text, len);
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return false;
	}
	return false;
}

int duct_parse_value(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len, struct duct_error *err)
{
	size_t before = to->len;
	if (parse(to, type, text, len))
		return 0;
	to->len = before;
	struct duct_buf name AUTO_BUF = {0};
	duct_type_print(&name, type);
	return duct_fail(err, DUCT_DATA, "\"%.*s\" is not a value of type %s", len < 100 ? (int)len : 100, text, name.data);
}
