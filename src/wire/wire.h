#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "base/buf.h"
#include "base/error.h"
#include "record/batch.h"

/*
 * Wire formats: rows of a batch as bytes for somebody who has no batch. A format is one const struct; it is pure (no I/O, no
 * state) and may be used by any thread. docs/wire-formats.md says what the bytes mean.
 *
 * No format loses anything that it was given: numbers keep their digits, times their microseconds, infinities and NaN are said,
 * and a value that the source did not send (an unchanged TOAST value) is told from NULL.
 */

/* What one payload is made of: rows first .. first + count - 1 of a sealed batch. */
struct wire_rows {
	const struct duct_batch *batch;
	uint32_t first, count;
	/* Where the rows are in the source's log: by their `seq` in changes->commits, when they came with changes. Rows of a snapshot have
	 * none: changes is NULL, and `pos` is the snapshot's (zero when it is not known). */
	const struct duct_changes *changes;
	struct duct_pos pos;
};

/* All rows of a batch that came with changes (NULL: of a snapshot). */
struct wire_rows wire_all_rows(const struct duct_changes *changes, const struct duct_batch *batch);

struct wire_format {
	const char *name, *content_type;
	/* Appends one whole payload; no rows, no payload. DATA when something cannot be said in this format; `to` then has what it
	 * had. */
	int (*encode)(struct duct_buf *to, const struct wire_rows *rows, struct duct_error *err);
};

extern const struct wire_format wire_json, wire_arrow;

/* CONFIG with the names that there are. */
int wire_format_find(const struct wire_format **ret, const char *name, struct duct_error *err) DUCT_CHECKED;

/*
 * Which format a connector gets: its own option `format` when that is set, else the flow's wire_format, else
 * DUCTSTREAM_WIRE_FORMAT, else the connector's default. NULL and "" are "not set". With `enforce` an option that is set and is not
 * what flow or service say is refused (CONFIG, naming both); what nobody set is never refused.
 */
struct wire_choice {
	const char *connector, *flow, *service, *fallback;
	bool enforce; /* DUCTSTREAM_WIRE_ENFORCE */
};
int wire_choose(const struct wire_format **ret, const struct wire_choice *choice, struct duct_error *err) DUCT_CHECKED;

/*
 * Pieces that formats and destinations share.
 */

/* "insert", "update", "delete", "load"; a truncate is "ddl". */
const char *wire_operation(enum duct_op op);

/* Position of a row: LSN 0 for one of a transaction that goes on in the next changes; its commit time may be known. */
struct duct_pos wire_row_pos(const struct wire_rows *rows, uint32_t row);

/* `TRUNCATE TABLE "schema"."name"`. */
void wire_truncate_statement(struct duct_buf *to, const struct duct_relation *rel);

/* A value as JSON text (docs/wire-formats.md). The column is for what its type alone does not say; a NULL cell is null. */
void wire_json_value(struct duct_buf *to, const struct duct_column *column, struct duct_cell cell);

/*
 * The row's key as a JSON object, its columns in order of their names: the key that the row had before the change, so that it is the same
 * for everything that happens to a row. Without key columns all values that were sent are the key. "" for a truncate.
 */
void wire_json_key(struct duct_buf *to, const struct duct_batch *batch, uint32_t row);

/* The same of key columns at a row of columns that are the relation's. */
void wire_json_key_of(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, uint32_t row);

/* The old row as far as the source sent it, a JSON object; nothing is appended (false) when it sent none. */
bool wire_json_before(struct duct_buf *to, const struct duct_batch *batch, uint32_t row);

/* Whether the row's new value of the column was kept back (unchanged TOAST); never for a DELETE or TRUNCATE. */
static inline bool wire_unchanged(const struct duct_batch *batch, uint32_t row, int column)
{
	return (batch->op[row] == DUCT_INSERT || batch->op[row] == DUCT_UPDATE || batch->op[row] == DUCT_READ) &&
		!duct_vector_is_sent(&batch->columns[column], row);
}

#endif
