/* Thrift's compact protocol, written: see thrift_write.h. */
#include "parquet/thrift_write.h"

static uint64_t zigzag(int64_t v)
{
	return (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
}

static void put_field(struct thrift_writer *t, int field, enum thrift_type type)
{
	int delta = field - t->last[t->depth];
	if (delta > 0 && delta <= 15) {
		duct_buf_putc(t->to, (char)(delta << 4 | (int)type));
	} else {
		duct_buf_putc(t->to, (char)type);
		thrift_varint(t->to, zigzag(field));
	}
	t->last[t->depth] = field;
}

void thrift_put_bool(struct thrift_writer *t, int field, bool v)
{
	put_field(t, field, v ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_put_i16(struct thrift_writer *t, int field, int16_t v)
{
	put_field(t, field, THRIFT_I16);
	thrift_varint(t->to, zigzag(v));
}

void thrift_put_i32(struct thrift_writer *t, int field, int32_t v)
{
	put_field(t, field, THRIFT_I32);
	thrift_varint(t->to, zigzag(v));
}

void thrift_put_i64(struct thrift_writer *t, int field, int64_t v)
{
	put_field(t, field, THRIFT_I64);
	thrift_varint(t->to, zigzag(v));
}

void thrift_put_binary(struct thrift_writer *t, int field, const void *data, size_t n)
{
	put_field(t, field, THRIFT_BINARY);
	thrift_raw_binary(t, data, n);
}

void thrift_put_struct(struct thrift_writer *t, int field)
{
	put_field(t, field, THRIFT_STRUCT);
	thrift_put_element(t);
}

void thrift_put_end(struct thrift_writer *t)
{
	duct_buf_putc(t->to, THRIFT_STOP);
	t->depth -= t->depth > 0;
}

void thrift_put_empty(struct thrift_writer *t, int field)
{
	thrift_put_struct(t, field);
	thrift_put_end(t);
}

void thrift_put_list(struct thrift_writer *t, int field, enum thrift_type type, size_t n)
{
	put_field(t, field, THRIFT_LIST);
	duct_buf_putc(t->to, (char)((n < 15 ? n : 15) << 4 | (unsigned)type));
	if (n >= 15)
		thrift_varint(t->to, n);
}

void thrift_put_element(struct thrift_writer *t)
{
	t->last[++t->depth] = 0;
}

void thrift_raw_int(struct thrift_writer *t, int64_t v)
{
	thrift_varint(t->to, zigzag(v));
}

void thrift_raw_binary(struct thrift_writer *t, const void *data, size_t n)
{
	thrift_varint(t->to, n);
	duct_buf_append(t->to, data, n);
}

void thrift_raw_bool(struct thrift_writer *t, bool v)
{
	duct_buf_putc(t->to, v ? THRIFT_TRUE : THRIFT_FALSE);
}
