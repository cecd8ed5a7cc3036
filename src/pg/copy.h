#ifndef PG_COPY_H
#define PG_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "pg/relation.h"

/* Appends the select list of a relation: quoted columns in its order, those with copy_text by their text form. A
 * relation without columns gives nothing (`SELECT FROM t` is valid). */
void pg_copy_select(struct duct_buf *to, const struct pg_relation *relation);

/*
 * Parser of what COPY (SELECT list FROM ...) TO STDOUT (FORMAT binary) sends: a byte stream, cut anywhere. Zero-
 * initialise. Rows become DUCT_READ rows of the batch.
 */
struct pg_copy {
	enum { PG_COPY_HEADER, PG_COPY_ROWS, PG_COPY_DONE } state;
	struct duct_buf pending; /* the beginning of what is not complete */
	struct duct_buf scratch;
	uint64_t rows; /* so far, with those set aside */
	/* May be NULL. Called with the values of a row that cannot be stored and the error that says why (which has the key and
	 * the column); 0 leaves the row out, -class ends the copy. */
	int (*refused)(void *arg, const struct pg_value *values, uint64_t seq, struct duct_error *err);
	void *arg;
};
void pg_copy_done(struct pg_copy *copy);

/* Takes the next bytes and appends the complete rows in them; seq of a row is first_seq + its number in the copy. FATAL
 * when the stream is malformed, DATA when a value cannot be stored. The batch may change between calls. */
int pg_copy_feed(struct pg_copy *copy, const struct pg_relation *relation, struct duct_batch *batch, uint64_t first_seq,
		 const void *data, size_t len, struct duct_error *err) DUCT_CHECKED;

/* After the last byte: RETRY when the end of the stream was not seen. */
int pg_copy_finish(const struct pg_copy *copy, struct duct_error *err) DUCT_CHECKED;

#endif
