/* Values for people, also those that have no place in their type: see types.h. */
#include "base/utf8.h"
#include "pg/internal.h"
#include "record/calendar.h"
#include "record/format.h"

enum { POSTGRES_EPOCH_DAYS = 10957, MAX_DIMS = 6 };
static const int64_t day_us = INT64_C(86400000000);

static void put_hex(struct duct_buf *to, const char *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char *at = duct_buf_room(to, len * 2 + 2);
	*at++ = '\\';
	*at++ = 'x';
	for (size_t i = 0; i < len; i++) {
		*at++ = digits[(unsigned char)data[i] >> 4];
		*at++ = digits[data[i] & 15];
	}
	*at = 0;
	to->len += len * 2 + 2;
}

static void put_text(struct duct_buf *to, const char *data, size_t len)
{
	if (duct_utf8_valid(data, len))
		duct_buf_append(to, data, len);
	else
		put_hex(to, data, len);
}

/* Microseconds since 2000, whatever they are. */
static void put_timestamp(struct duct_buf *to, int64_t us, bool zone)
{
	int64_t days = us / day_us, rest = us % day_us;
	days -= rest < 0;
	rest += rest < 0 ? day_us : 0;
	struct duct_civil c = duct_civil_of_days(days + POSTGRES_EPOCH_DAYS);
	duct_buf_printf(to, "%04lld-%02d-%02d %02d:%02d:%02d", (long long)(c.year > 0 ? c.year : 1 - c.year), c.month, c.day,
			(int)(rest / 3600000000), (int)(rest / 60000000 % 60), (int)(rest / 1000000 % 60));
	if (rest % 1000000)
		duct_buf_printf(to, ".%06d", (int)(rest % 1000000));
	duct_buf_printf(to, "%s%s", zone ? "+00" : "", c.year > 0 ? "" : " BC");
}

static void put_item(struct duct_buf *to, const struct pg_mapping *m, struct duct_reader *r)
{
	AUTO_BUF struct duct_buf text = {0};
	int32_t n = duct_read_i32(r);
	if (n < 0) {
		duct_buf_puts(to, "NULL");
		return;
	}
	const char *data = duct_read_bytes(r, (size_t)n);
	if (r->bad)
		return;
	pg_render(m, 'b', data, (size_t)n, &text);
	if (text.len && !strpbrk(text.data, "{},\"\\ ") && strcmp(text.data, "NULL") != 0) {
		duct_buf_puts(to, text.data);
		return;
	}
	duct_buf_putc(to, '"');
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '"' || text.data[i] == '\\')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, text.data[i]);
	}
	duct_buf_putc(to, '"');
}

static void put_level(struct duct_buf *to, const struct pg_mapping *m, struct duct_reader *r, const int32_t *lens, int left)
{
	duct_buf_putc(to, '{');
	for (int32_t i = 0; i < lens[0] && !r->bad; i++) {
		if (i)
			duct_buf_putc(to, ',');
		if (left > 1)
			put_level(to, m, r, lens + 1, left - 1);
		else
			put_item(to, m->children, r);
	}
	duct_buf_putc(to, '}');
}

/* The layout is told in decode_binary.c. */
static void put_array(struct duct_buf *to, const struct pg_mapping *m, struct duct_reader *r)
{
	int32_t lens[MAX_DIMS], ndim = duct_read_i32(r);
	(void)duct_read_i32(r);
	r->bad |= duct_read_u32(r) != m->children->oid || ndim < 1 || ndim > MAX_DIMS;
	for (int i = 0; i < ndim && !r->bad; i++) {
		lens[i] = duct_read_i32(r);
		(void)duct_read_i32(r);
		r->bad |= lens[i] < 1;
	}
	if (!r->bad)
		put_level(to, m, r, lens, ndim);
}

/* A value that cannot be decoded; false when nothing better than its bytes is known. */
static bool put_refused(struct duct_buf *to, const struct pg_mapping *m, struct duct_reader *r)
{
	switch (m->codec) {
	case PG_DECIMAL:
	case PG_NUMERIC_TEXT: pg_print_numeric(r, to); break;
	case PG_TIMESTAMP:
	case PG_TIMESTAMPTZ: put_timestamp(to, duct_read_i64(r), m->codec == PG_TIMESTAMPTZ); break;
	case PG_ARRAY: put_array(to, m, r); break;
	default: return false;
	}
	return !r->bad && !duct_reader_left(r);
}

void pg_render(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to)
{
	AUTO_BUF struct duct_buf value = {0};
	struct duct_error ignored;
	struct duct_reader r = duct_reader_over(data, len);
	size_t from = to->len;
	if (format == 't') {
		put_text(to, data, len);
		return;
	}
	if (m->codec == PG_BYTEA) {
		put_hex(to, data, len);
		return;
	}
	if (pg_decode(m, format, data, len, &value, &ignored) == 0) {
		duct_format_value(to, &m->type, (struct duct_cell){value.data ? value.data : "", (uint32_t)value.len});
		return;
	}
	if (put_refused(to, m, &r))
		return;
	to->len = from;
	put_hex(to, data, len);
}
