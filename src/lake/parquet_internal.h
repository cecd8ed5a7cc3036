#ifndef LAKE_PARQUET_INTERNAL_H
#define LAKE_PARQUET_INTERNAL_H

#include "base/buf.h"
#include "lake/parquet.h"

/* Field ids that DuckLake reserves. */
enum {
	LAKE_FIELD_SNAPSHOT_ID = 2147483539,
	LAKE_FIELD_ROW_ID = 2147483540,
	LAKE_FIELD_DELETE_POS = 2147483645,
	LAKE_FIELD_DELETE_PATH = 2147483646,
};
#define LAKE_ROW_ID_NAME "_ducklake_internal_row_id"
#define LAKE_SNAPSHOT_ID_NAME "_ducklake_internal_snapshot_id"

/* --- parquet_type.c: one type in DuckDB's terms --- */

/* Caller destroys. */
duckdb_logical_type lake_duck_type(const struct duct_type *type);
/* As SQL: `DECIMAL(9,2)[]`. */
void lake_sql_type(struct duct_buf *to, const struct duct_type *type);
/* One member of COPY's FIELD_IDS: `'name': 3` or `'name': {__duckdb_field_id: 3, 'element': 4}`. */
void lake_sql_field_ids(struct duct_buf *to, const struct lake_column *column);

/* --- parquet_fill.c: batches to chunks --- */

/* The rows of one file on their way into DuckDB; `fill` of a duck_feed. Zeroed, then spec and rows are set. */
struct lake_fill {
	const struct lake_write_spec *spec;
	const struct lake_rows *rows;
	const char *path; /* of the file, for max_bytes */

	const struct lake_row_ref *refs; /* handed over and not yet taken */
	const int64_t *row_ids, *snapshot_ids;
	size_t nrefs;
	bool ended; /* next() said so */
	bool full;  /* max_rows or max_bytes was reached */
	uint64_t nrows;
	uint32_t most_rows; /* in a chunk (0: its room): a row group of DuckDB's ends with a chunk */
	/* For max_bytes: handed over; at the last look at the file; when it last grew; its size. */
	uint64_t bytes_fed, bytes_looked, bytes_flushed, bytes_on_disk;

	struct lake_fill_plan *plans; /* one per relation met */
	size_t nplans, plans_cap, plan_at;
	struct lake_fill_span *spans;
	size_t nspans, spans_cap;
	struct duct_buf *defaults; /* per column: the initial default's bytes, once parsed */
	bool *default_ready;
	struct duct_batch **pins; /* batches that the current chunk points into */
	size_t npins, pins_cap;
};
int lake_fill_pull(struct lake_fill *f, struct duct_error *err); /* calls next(): 1 when rows are there, 0 at the end */
int lake_fill_chunk(void *arg, duckdb_data_chunk chunk, struct duct_error *err);
void lake_fill_done(struct lake_fill *f);

/* Bytes of a row in memory, averaged over the rows handed over last. */
uint64_t lake_fill_row_bytes(const struct lake_fill *f);

/* One value in its in-memory form into a vector of lake_duck_type(); strings are pointed to. */
int lake_put_value(duckdb_vector vector, idx_t at, const struct duct_type *type, struct duct_cell cell,
	struct duct_error *err);

/* --- parquet_take.c: chunks to batches --- */

/* Appends the n first values of the vector, whose type is lake_duck_type(v->type); keep: rows wanted, NULL: all. */
void lake_take_vector(struct duct_batch *batch, struct duct_vector *v, duckdb_vector vector, idx_t n, const bool *keep);

/* --- parquet_read.c --- */

/* A relation of just these columns, as batches that are read have it. */
struct duct_relation *lake_read_relation(const struct lake_column *const *columns, int n);

/* --- parquet_stats.c --- */

/* Reads the one row of RETURN_STATS. */
int lake_take_stats(duckdb_result *result, const struct lake_write_spec *spec, struct lake_new_file *file,
	struct duct_error *err);

#endif
