/* Growing buffers and the text forms that everybody needs: see buf.h. */
#include "base/buf.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

void duct_buf_printf(struct duct_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	char *to = duct_buf_room(b, 120);
	size_t room = b->cap - b->len;
	int n = vsnprintf(to, room, fmt, ap);
	if (n >= 0 && (size_t)n >= room) {
		to = duct_buf_room(b, (size_t)n);
		vsnprintf(to, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	va_end(ap);
	if (n > 0)
		b->len += (size_t)n;
}

void duct_buf_be16(struct duct_buf *b, uint16_t v)
{
	v = __builtin_bswap16(v);
	duct_buf_append(b, &v, sizeof v);
}

void duct_buf_be32(struct duct_buf *b, uint32_t v)
{
	v = __builtin_bswap32(v);
	duct_buf_append(b, &v, sizeof v);
}

void duct_buf_be64(struct duct_buf *b, uint64_t v)
{
	v = __builtin_bswap64(v);
	duct_buf_append(b, &v, sizeof v);
}

static void quoted(struct duct_buf *b, const char *s, size_t n, char quote)
{
	duct_buf_putc(b, quote);
	for (const char *end = s + n; s < end;) {
		const char *q = memchr(s, quote, (size_t)(end - s));
		const char *stop = q ? q + 1 : end;
		duct_buf_append(b, s, (size_t)(stop - s));
		if (q)
			duct_buf_putc(b, quote);
		s = stop;
	}
	duct_buf_putc(b, quote);
}

void duct_buf_sql_literal_n(struct duct_buf *b, const char *s, size_t n)
{
	quoted(b, s, n, '\'');
}

void duct_buf_sql_literal(struct duct_buf *b, const char *s)
{
	if (s)
		quoted(b, s, strlen(s), '\'');
	else
		duct_buf_puts(b, "NULL");
}

void duct_buf_sql_ident(struct duct_buf *b, const char *s)
{
	quoted(b, s, strlen(s), '"');
}

void duct_buf_json_string(struct duct_buf *b, const char *s, size_t n)
{
	duct_buf_putc(b, '"');
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\') {
			duct_buf_putc(b, '\\');
			duct_buf_putc(b, (char)c);
			i++;
		} else if (c == '\n' || c == '\t' || c == '\r') {
			duct_buf_puts(b, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
			i++;
		} else if (c < 0x20) {
			duct_buf_printf(b, "\\u%04x", c);
			i++;
		} else {
			size_t len = duct_utf8_sequence(s + i, n - i);
			if (len)
				duct_buf_append(b, s + i, len);
			else
				duct_buf_puts(b, "\xEF\xBF\xBD");
			i += len ? len : 1;
		}
	}
	duct_buf_putc(b, '"');
}
