#ifndef PARQUET_THRIFT_WRITE_H
#define PARQUET_THRIFT_WRITE_H

#include "base/buf.h"
#include "parquet/format.h"

#include <stdbool.h>

/*
 * Thrift's compact protocol, as far as Parquet needs it. A field is one byte (delta to the field before it << 4 | type) and
 * its value; integers are zigzag varints. Fields of a struct are written in rising order. The root struct begins with a zeroed
 * writer and ends with thrift_put_end(), as does each struct opened inside.
 */
enum { THRIFT_DEPTH = 12 };

struct thrift_writer {
	struct duct_buf *to;
	int depth;
	int last[THRIFT_DEPTH]; /* field written last, per open struct */
};

static inline void thrift_varint(struct duct_buf *to, uint64_t v)
{
	char *p = duct_buf_room(to, 10), *start = p;
	for (; v >= 0x80; v >>= 7)
		*p++ = (char)(v | 0x80);
	*p++ = (char)v;
	to->len += (size_t)(p - start);
}

void thrift_put_bool(struct thrift_writer *t, int field, bool v);
void thrift_put_i16(struct thrift_writer *t, int field, int16_t v);
void thrift_put_i32(struct thrift_writer *t, int field, int32_t v);
void thrift_put_i64(struct thrift_writer *t, int field, int64_t v);
void thrift_put_binary(struct thrift_writer *t, int field, const void *data, size_t n);
void thrift_put_struct(struct thrift_writer *t, int field); /* opens it */
void thrift_put_end(struct thrift_writer *t);		    /* closes the struct opened last, or the root */
void thrift_put_empty(struct thrift_writer *t, int field);  /* a struct without fields */

/* A list's head; its elements follow: a struct begins with thrift_put_element(), others are written raw. */
void thrift_put_list(struct thrift_writer *t, int field, enum thrift_type type, size_t n);
void thrift_put_element(struct thrift_writer *t);
void thrift_raw_int(struct thrift_writer *t, int64_t v);
void thrift_raw_binary(struct thrift_writer *t, const void *data, size_t n);
void thrift_raw_bool(struct thrift_writer *t, bool v);

#endif
