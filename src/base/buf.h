#ifndef DUCT_BUF_H
#define DUCT_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* A growing byte buffer. Zero-initialise it; data is NULL until the first append; duct_buf_done() frees. When only text
 * functions append, data is NUL-terminated after each call (the NUL is not counted in len). */
struct duct_buf {
	char *data;
	size_t len, cap;
};

static inline void duct_buf_done(struct duct_buf *b)
{
	free(b->data);
	*b = (struct duct_buf){0};
}
#define AUTO_BUF __attribute__((cleanup(duct_buf_done)))

/* Makes room for `more` bytes plus a NUL and returns the place to write; advance len yourself. */
static inline char *duct_buf_room(struct duct_buf *b, size_t more)
{
	if (b->cap - b->len <= more || !b->data)
		b->data = duct_grow(b->data, &b->cap, b->len + more + 1, 1);
	return b->data + b->len;
}

static inline void duct_buf_append(struct duct_buf *b, const void *data, size_t n)
{
	char *to = duct_buf_room(b, n);
	if (n)
		memcpy(to, data, n);
	b->len += n;
	b->data[b->len] = 0;
}

static inline void duct_buf_puts(struct duct_buf *b, const char *s)
{
	duct_buf_append(b, s, strlen(s));
}

static inline void duct_buf_putc(struct duct_buf *b, char c)
{
	duct_buf_append(b, &c, 1);
}

void duct_buf_printf(struct duct_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Big-endian integers, as the Postgres protocol and COPY binary want them. */
void duct_buf_be16(struct duct_buf *b, uint16_t v);
void duct_buf_be32(struct duct_buf *b, uint32_t v);
void duct_buf_be64(struct duct_buf *b, uint64_t v);

/* SQL text: a literal in single quotes ('' doubled; NULL pointer gives NULL), an identifier in double quotes. Safe for
 * Postgres with standard_conforming_strings=on and for SQLite. */
void duct_buf_sql_literal(struct duct_buf *b, const char *s);
void duct_buf_sql_literal_n(struct duct_buf *b, const char *s, size_t n);
void duct_buf_sql_ident(struct duct_buf *b, const char *s);

/* JSON: a string with quotes and escapes (invalid UTF-8 bytes become U+FFFD). */
void duct_buf_json_string(struct duct_buf *b, const char *s, size_t n);

#endif
