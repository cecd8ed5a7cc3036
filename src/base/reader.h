#ifndef DUCT_READER_H
#define DUCT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Bounded reader over bytes it does not own. A read past the end sets `bad`, which sticks: everything read afterwards
 * is 0/NULL, so a decoder reads a whole message and asks once. Integers are big-endian (Postgres wire order).
 */
struct duct_reader {
	const char *at, *end;
	bool bad;
};

static inline struct duct_reader duct_reader_over(const void *data, size_t n)
{
	return (struct duct_reader){(const char *)data, (const char *)data + n, false};
}

static inline size_t duct_reader_left(const struct duct_reader *r)
{
	return (size_t)(r->end - r->at);
}

/* n bytes, not copied; NULL when short. */
static inline const char *duct_read_bytes(struct duct_reader *r, size_t n)
{
	if (r->bad || duct_reader_left(r) < n) {
		r->bad = true;
		r->at = r->end;
		return NULL;
	}
	const char *p = r->at;
	r->at += n;
	return p;
}

static inline uint8_t duct_read_u8(struct duct_reader *r)
{
	const char *p = duct_read_bytes(r, 1);
	return p ? (uint8_t)*p : 0;
}

static inline uint16_t duct_read_u16(struct duct_reader *r)
{
	const char *p = duct_read_bytes(r, 2);
	uint16_t v = 0;
	if (p)
		memcpy(&v, p, 2);
	return __builtin_bswap16(v);
}

static inline uint32_t duct_read_u32(struct duct_reader *r)
{
	const char *p = duct_read_bytes(r, 4);
	uint32_t v = 0;
	if (p)
		memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

static inline uint64_t duct_read_u64(struct duct_reader *r)
{
	const char *p = duct_read_bytes(r, 8);
	uint64_t v = 0;
	if (p)
		memcpy(&v, p, 8);
	return __builtin_bswap64(v);
}

static inline int16_t duct_read_i16(struct duct_reader *r)
{
	return (int16_t)duct_read_u16(r);
}

static inline int32_t duct_read_i32(struct duct_reader *r)
{
	return (int32_t)duct_read_u32(r);
}

static inline int64_t duct_read_i64(struct duct_reader *r)
{
	return (int64_t)duct_read_u64(r);
}

/* A NUL-terminated string inside the buffer; NULL (and bad) when no NUL follows. */
static inline const char *duct_read_cstr(struct duct_reader *r)
{
	const char *nul = r->bad ? NULL : memchr(r->at, 0, duct_reader_left(r));
	if (!nul) {
		r->bad = true;
		r->at = r->end;
		return NULL;
	}
	const char *p = r->at;
	r->at = nul + 1;
	return p;
}

#endif
