#ifndef LAKE_PARQUET_INTERNAL_H
#define LAKE_PARQUET_INTERNAL_H

#include "base/buf.h"
#include "lake/parquet.h"
#include "parquet/writer.h"

/* Field ids that DuckLake reserves. */
enum {
	LAKE_FIELD_SNAPSHOT_ID = 2147483539,
	LAKE_FIELD_ROW_ID = 2147483540,
	LAKE_FIELD_DELETE_POS = 2147483645,
	LAKE_FIELD_DELETE_PATH = 2147483646,
};
#define LAKE_ROW_ID_NAME "_ducklake_internal_row_id"
#define LAKE_SNAPSHOT_ID_NAME "_ducklake_internal_snapshot_id"

/* --- parquet_rows.c --- */

/* Rows of one batch that follow each other in the file. */
struct lake_rows_span {
	const struct duct_batch *batch;
	const uint32_t *rows; /* NULL: first, first + 1, ... */
	uint32_t first, n;
	size_t plan; /* index: the array may move */
};

/* The rows of one file on their way into it. Zeroed, then spec, rows, writer and defaults are set. */
struct lake_rows_taker {
	const struct lake_write_spec *spec;
	const struct lake_rows *rows;
	struct parquet_writer *writer;
	struct duct_buf *defaults; /* per column: the initial default's bytes, once parsed; freed by lake_rows_done() */

	const struct lake_row_ref *refs; /* handed over and not yet taken */
	const int64_t *row_ids, *snapshot_ids;
	size_t nrefs;
	bool ended; /* next() said so */
	uint64_t nrows;

	struct lake_rows_plan *plans; /* one per relation met */
	size_t nplans, plans_cap, plan_at;
	struct lake_rows_span *spans;
	size_t nspans, spans_cap;
	uint32_t *numbers; /* of the rows of a slice in their batches */
	size_t numbers_cap;
};
int lake_rows_pull(struct lake_rows_taker *t, struct duct_error *err); /* calls next(): 1 when rows are there, 0 at the end */
/* Writes what was handed over and asks for more until next() has none or a limit of spec is reached. */
int lake_rows_take(struct lake_rows_taker *t, struct duct_error *err);
void lake_rows_done(struct lake_rows_taker *t);

/* --- parquet_read.c --- */

/* A relation of just these columns, as batches that are read have it. */
struct duct_relation *lake_read_relation(const struct lake_column *const *columns, int n);

#endif
