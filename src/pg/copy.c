/* COPY in binary: see copy.h.
 *
 * Header: "PGCOPY\n\377\r\n\0", u32 flags, u32 length of the extension, extension. Rows: i16 columns, each i32 length
 * (-1: NULL) and bytes. End: i16 -1. */
#include "pg/copy.h"

#include <stdlib.h>
#include <string.h>

#include "base/reader.h"
#include "pg/decode_tuple.h"
#include "pg/fast.h"

enum { SIGNATURE_LEN = 11, FIXED_HEADER = 19, MAX_EXTENSION = 1 << 20 };
static const char signature[] = "PGCOPY\n\377\r\n";

void pg_copy_select(struct duct_buf *to, const struct pg_relation *rel)
{
	for (int i = 0; i < rel->rel->ncolumns; i++) {
		AUTO_BUF struct duct_buf name = {0};
		duct_buf_sql_ident(&name, rel->rel->columns[i].name);
		if (i)
			duct_buf_puts(to, ", ");
		/* format() uses the type's output function, as COPY and the stream do; a cast to text need not. */
		if (rel->mappings[i].copy_text || rel->mappings[i].sendless)
			duct_buf_printf(to, "CASE WHEN %s IS DISTINCT FROM NULL THEN format('%%s', %s) END", name.data, name.data);
		else
			duct_buf_puts(to, name.data);
	}
}

void pg_copy_done(struct pg_copy *c)
{
	duct_buf_done(&c->pending);
	duct_buf_done(&c->scratch);
}

static int corrupt(struct duct_error *err, const struct pg_copy *c, const char *why)
{
	return duct_fail(err, DUCT_FATAL, "copy stream: %s (after %llu rows)", why, (unsigned long long)c->rows);
}

/* 1: read, 0: more bytes are needed */
static int read_header(struct pg_copy *c, struct duct_reader *r, struct duct_error *err)
{
	struct duct_reader head = *r;
	size_t have = duct_reader_left(r);
	if (memcmp(r->at, signature, have < SIGNATURE_LEN ? have : SIGNATURE_LEN) != 0)
		return corrupt(err, c, "it does not begin with the signature of the binary format");
	if (have < FIXED_HEADER)
		return 0;
	(void)duct_read_bytes(&head, SIGNATURE_LEN);
	uint32_t flags = duct_read_u32(&head), extension = duct_read_u32(&head);
	if (flags >> 16)
		return corrupt(err, c, "its header has flags that are not known");
	if (extension > MAX_EXTENSION)
		return corrupt(err, c, "the extension of its header is too long");
	if (duct_reader_left(&head) < extension)
		return 0;
	(void)duct_read_bytes(&head, extension);
	*r = head;
	c->state = PG_COPY_ROWS;
	return 1;
}

static int negative_length(struct duct_error *err, const struct pg_copy *c)
{
	return corrupt(err, c, "a value has a negative length");
}

/* A row that cannot be stored: *err says why. 1: r is left behind it; 0: not all of it is there yet. */
static __attribute__((noinline)) int refuse_row(struct pg_copy *c, const struct pg_relation *rel, uint64_t seq,
						struct duct_reader *r, struct duct_error *err)
{
	AUTO_FREE struct pg_value *values = duct_xcalloc((size_t)rel->rel->ncolumns + 1, sizeof *values);
	for (int i = 0; i < rel->rel->ncolumns; i++) {
		const struct pg_mapping *m = &rel->mappings[i];
		int32_t n = duct_read_i32(r);
		if (n < -1)
			return negative_length(err, c);
		values[i].kind = n < 0 ? 'n' : m->copy_text || m->sendless ? 't' : 'b';
		values[i].len = n < 0 ? 0 : (uint32_t)n;
		values[i].data = duct_read_bytes(r, values[i].len);
	}
	if (r->bad)
		return 0;
	int rc = pg_wrap_key(rel, values, err);
	if (rc == -DUCT_DATA && c->refused)
		rc = c->refused(c->arg, values, seq, err);
	c->rows += rc == 0;
	return rc < 0 ? rc : 1;
}

/* A value that is not on the hot path. */
static __attribute__((noinline)) int append_value(struct pg_copy *c, const struct pg_relation *rel, struct duct_batch *b,
						  int column, const char *data, size_t n, struct duct_error *err)
{
	const struct pg_mapping *m = &rel->mappings[column];
	char format = m->copy_text || m->sendless ? 't' : 'b';
	int rc = pg_decode_into(m, format, data, n, b, &b->columns[column], &c->scratch, err);
	return rc < 0 ? duct_wrap(err, "column \"%s\"", rel->rel->columns[column].name) : 0;
}

/* 1: r is left behind the row; 0: not all of it is there yet. A value that cannot be stored sets *ret_refused. */
static int append_values(struct pg_copy *c, const struct pg_relation *rel, struct duct_batch *b, struct duct_reader *r,
			 bool *ret_refused, struct duct_error *err)
{
	const char *at = r->at, *const end = r->end;
	const struct pg_mapping *m = rel->mappings, *const last = m + rel->rel->ncolumns;
	for (struct duct_vector *v = b->columns; m < last; m++, v++) {
		if (end - at < 4)
			return 0;
		int32_t n = (int32_t)pg_be32(at);
		const char *data = at + 4;
		if (__builtin_expect(n < 0, 0)) {
			if (n < -1)
				return negative_length(err, c);
			duct_vector_append_null(b, v);
			at = data;
			continue;
		}
		if (end - data < n)
			return 0;
		at = data + n;
		if (__builtin_expect(!m->copy_text && pg_append_fast(m, data, (size_t)n, b, v), 1))
			continue;
		int rc = append_value(c, rel, b, (int)(v - b->columns), data, (size_t)n, err);
		*ret_refused = rc < 0;
		if (rc < 0)
			return rc;
	}
	r->at = at;
	return 1;
}

/* 1: taken, or refused and set aside; 0: not all of it is there yet. */
static int append_row(struct pg_copy *c, const struct pg_relation *rel, struct duct_batch *b, uint64_t seq, struct duct_reader *r,
		      struct duct_error *err)
{
	bool refused = false;
	(void)duct_batch_add_row(b, DUCT_READ, seq);
	int rc = append_values(c, rel, b, r, &refused, err);
	if (rc == 1)
		c->rows++;
	else
		duct_batch_undo_row(b);
	return refused ? refuse_row(c, rel, seq, r, err) : rc;
}

/* Takes as many rows as are complete; r is left at the first byte that was not used. */
static int take(struct pg_copy *c, const struct pg_relation *rel, struct duct_batch *b, uint64_t first_seq, struct duct_reader *r,
		struct duct_error *err)
{
	if (c->state == PG_COPY_HEADER) {
		int rc = read_header(c, r, err);
		if (rc <= 0)
			return rc;
	}
	while (c->state == PG_COPY_ROWS && duct_reader_left(r) >= 2) {
		struct duct_reader row = *r;
		int n = duct_read_i16(&row);
		if (n == -1) {
			c->state = PG_COPY_DONE;
			*r = row;
			break;
		}
		if (n != rel->rel->ncolumns)
			return corrupt(err, c, "a row has another number of columns than was asked for");
		int rc = append_row(c, rel, b, first_seq + c->rows, &row, err);
		if (rc <= 0)
			return rc;
		*r = row;
	}
	if (c->state == PG_COPY_DONE && duct_reader_left(r))
		return corrupt(err, c, "bytes follow its end");
	return 0;
}

int pg_copy_feed(struct pg_copy *c, const struct pg_relation *rel, struct duct_batch *b, uint64_t first_seq, const void *data,
		 size_t len, struct duct_error *err)
{
	bool gathered = c->pending.len > 0;
	if (gathered)
		duct_buf_append(&c->pending, data, len);
	struct duct_reader r = gathered ? duct_reader_over(c->pending.data, c->pending.len) : duct_reader_over(data, len);
	if (!duct_reader_left(&r))
		return 0;
	int rc = take(c, rel, b, first_seq, &r, err);
	if (rc < 0)
		return rc;
	size_t left = duct_reader_left(&r);
	if (gathered && left)
		memmove(c->pending.data, r.at, left);
	else if (left)
		duct_buf_append(&c->pending, r.at, left);
	c->pending.len = left;
	return 0;
}

int pg_copy_finish(const struct pg_copy *c, struct duct_error *err)
{
	if (c->state == PG_COPY_DONE)
		return 0;
	return duct_fail(err, DUCT_RETRY, "copy stream: it ended in the middle (after %llu rows)", (unsigned long long)c->rows);
}
