#ifndef PARQUET_THRIFT_READ_H
#define PARQUET_THRIFT_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parquet/format.h"

/*
 * Bounded reader of Thrift's compact protocol, in which Parquet's footers, page headers and page indexes are written:
 *
 *   struct   fields, then a zero byte
 *   field    u8: id minus the last id << 4 | type; when that difference is 0 the id follows as a zigzag varint
 *   integer  zigzag varint · double 8 bytes · binary varint length + bytes · bool: the field's type says which
 *   list     u8: count << 4 | element type; count 15: the count follows as a varint
 *
 * As with duct_reader, what is too short or wrong sets `bad`, which sticks: everything read afterwards is 0, loops
 * end, and the caller asks once.
 */
struct thrift_reader {
	const uint8_t *at, *end;
	bool bad;
	bool is_short; /* bad because the bytes ended: more of them may help */
};

static inline struct thrift_reader thrift_reader_over(const void *data, size_t n)
{
	return (struct thrift_reader){.at = data, .end = (const uint8_t *)data + n};
}

/* A field of a struct; zeroed before the first. `for (struct thrift_field f = {0}; thrift_next_field(r, &f);)`: the
 * body takes the value of each field with one of the functions below, in doubt thrift_skip(). */
struct thrift_field {
	int id, type;
};
bool thrift_next_field(struct thrift_reader *r, struct thrift_field *f);

/* The field's value; `bad` when it has another type. */
int64_t thrift_read_int(struct thrift_reader *r, const struct thrift_field *f);
bool thrift_read_bool(struct thrift_reader *r, const struct thrift_field *f);
const char *thrift_read_binary(struct thrift_reader *r, const struct thrift_field *f, size_t *ret_n); /* not copied */
bool thrift_read_struct(struct thrift_reader *r, const struct thrift_field *f);			      /* then its fields follow */

/* The head of a list of `type`: its count, which never is above the bytes that are left. Elements follow. */
size_t thrift_read_list(struct thrift_reader *r, const struct thrift_field *f, enum thrift_type type);
int64_t thrift_read_element(struct thrift_reader *r); /* an integer of a list */

void thrift_skip(struct thrift_reader *r, const struct thrift_field *f);

#endif
