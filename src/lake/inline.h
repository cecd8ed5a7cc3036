#ifndef LAKE_INLINE_H
#define LAKE_INLINE_H

#include "lake/parquet.h"
#include "lake/txn.h"

/*
 * Rows that live inside the catalog (ducklake_inlined_data_<table>_<schema version>) instead of in small Parquet files. A
 * table has one such table per schema version that rows were inlined at; rows stay in the one they were put into, with
 * the columns of that time, until they are flushed.
 */

/* How a value is written down on its way into the catalog. */
enum lake_inline_form {
	LAKE_INLINE_SQLITE,   /* literal */
	LAKE_INLINE_POSTGRES, /* literal */
	LAKE_INLINE_COPY,     /* field of Postgres's COPY in text form */
};
/* One value in the encoding that the official client reads. False (what was appended is of no use): the catalog cannot
 * hold it. */
bool lake_inline_value(struct duct_buf *to, enum lake_inline_form form, const struct duct_type *type, struct duct_cell cell);

/* Bounds and counts of the values of one column; zero-initialise, lake_bounds_done() frees. */
struct lake_bounds {
	struct duct_buf min, max; /* as cells; data NULL: none yet */
	int64_t values, nulls;
	bool nan;
};
void lake_bounds_add(struct lake_bounds *b, const struct duct_type *type, struct duct_cell cell);
void lake_bounds_done(struct lake_bounds *b);
/* As statistics; texts go to the arena. Loose bounds, or none, for what statistics cannot hold. */
struct lake_column_stats lake_bounds_stats(const struct lake_bounds *b, int64_t column_id, const struct duct_type *type,
					   struct duct_arena *arena);

/* --- into the catalog --- */

struct lake_inline_rows {
	const struct lake_row_ref *rows;
	const int64_t *row_ids; /* one per row; -1: given at the commit, in this order. NULL: all are */
	size_t n;
	const int *(*map)(void *arg, const struct duct_relation *rel); /* as in struct lake_rows */
	void *arg;
	size_t max_bytes, max_row_bytes; /* as sent */
};
/* Plans to inline the rows. False: nothing was planned, because the table, a value or the amount is not one for the
 * catalog, or because it has taken in rows of very many tables already; then they go to a file (which also says what is wrong with a value that is wrong). At most one call per table. */
bool lake_txn_inline(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_inline_rows *rows);
/* How many tables may have inlined rows before they are flushed: a commit that ends some in each must find room for its locks. */
size_t lake_most_inlining_tables(const struct lake *lake);
/* A live inlined row dies. */
void lake_txn_end_inlined(struct lake_txn *txn, struct lake_txn_table *t, int64_t schema_version, int64_t row_id);
/* The inlined rows of this version up to snapshot `upto`, `nrows` with the dead ones, leave the catalog: files of this txn that
 * bear begin_snapshot hold them. */
void lake_txn_flush_inlined(struct lake_txn *txn, struct lake_txn_table *t, int64_t schema_version, int64_t upto, int64_t nrows);

/* After the commit: where the rows are, and the row id of the first one that was given one. False: not known, because
 * an earlier attempt than the last one was the lucky one. */
bool lake_txn_inlined_at(const struct lake_txn_table *t, int64_t *ret_schema_version, int64_t *ret_first_row_id);
void lake_txn_inlined_size(const struct lake_txn_table *t, int64_t *ret_rows, int64_t *ret_bytes); /* bytes as sent */

/* --- out of the catalog --- */

/* Schema versions that the table has an inlined table for, ascending. Arena memory. */
void lake_inlined_versions(const struct lake *lake, int64_t table_id, struct duct_arena *arena, int64_t **ret, size_t *ret_n);

/* What is in them now, dead rows included: each table of the flow that has any, by id. Bytes are as the
 * database holds them, by and large. Costs a look at every inlined table, and a walk over what is in it. */
struct lake_inlined_sizes {
	struct lake_inlined_size {
		int64_t table_id, rows, bytes;
		int64_t age_ms; /* of the oldest row; 0 where its snapshot has expired */
	} * sizes;		/* malloc */
	size_t n, cap;
};
int lake_inlined_sizes(struct lake *lake, struct lake_inlined_sizes *ret, struct duct_error *err);

/* The columns that the table had at the schema version. *ret_supported: all are of types that we write. */
int lake_inlined_columns(struct lake *lake, int64_t table_id, int64_t schema_version, struct duct_arena *arena,
			 struct lake_column **ret, int *ret_n, bool *ret_supported, struct duct_error *err);

struct lake_inlined_row {
	int64_t row_id, begin_snapshot, end_snapshot; /* end -1: lives */
};
struct lake_inlined_wanted {
	int64_t table_id, schema_version;
	const struct lake_column *const *columns; /* as of now, or as of then; what was not there yet is the initial default */
	int ncolumns;
	bool dead_too;
	const int64_t *row_ids; /* only these rows; NULL: all */
	size_t nrow_ids;
	const struct lake_inlined_row *after; /* only rows that come behind this one; NULL: all */
	size_t most;			      /* the first so many; 0: all */
};
/* For each chunk of rows, by row id and begin: a batch with the wanted columns, and what the catalog says of each row. */
typedef int lake_inlined_fn(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err);
/* All that read them: RETRY when another client has flushed them. */
int lake_read_inlined(struct lake *lake, struct duck_conn *conn, const struct lake_inlined_wanted *wanted, lake_inlined_fn *fn,
		      void *arg, struct duct_error *err);

/* The rows of up to snapshot `upto` that have died behind it, without their values. */
typedef int lake_inlined_end_fn(void *arg, const struct lake_inlined_row *row, struct duct_error *err);
int lake_read_inlined_ends(struct lake *lake, int64_t table_id, int64_t schema_version, int64_t upto, lake_inlined_end_fn *fn,
			   void *arg, struct duct_error *err);
/* Reading them has failed with err: whether that is why. */
int lake_explain_inlined(struct lake *lake, int64_t table_id, int64_t schema_version, struct duct_error *err);

#endif
