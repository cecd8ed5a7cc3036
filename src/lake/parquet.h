#ifndef LAKE_PARQUET_H
#define LAKE_PARQUET_H

#include "duck/duck.h"
#include "lake/model.h"
#include "lake/positions.h"

/*
 * Parquet files of a DuckLake: written from batches by src/parquet, and read back into batches through libduckdb; single rows through
 * our own reader (lake_read_rows). Every function is blocking; those that take a connection use it (one thread at a time).
 */

/* Chunks of DuckDB to batches: appends the n first values of the vector, whose type is duck_sql_type(v->type); keep: rows wanted, NULL: all.
 * parquet_take.c */
void lake_take_vector(struct duct_batch *batch, struct duct_vector *v, duckdb_vector vector, idx_t n, const bool *keep);

/* One row to write. */
struct lake_row_ref {
	const struct duct_batch *batch;
	uint32_t row;
};

/*
 * Where rows come from: each call hands over any number of rows (*n = 0 ends). The arrays handed over stay valid until the
 * next call; so do their batches. row_ids is
 * NULL unless spec->row_ids. Rows that were handed over are always written: a file ends only where next() would be
 * called again, so hand over some thousand rows at a time when max_rows or max_bytes matter.
 */
struct lake_rows {
	int (*next)(void *arg, const struct lake_row_ref **ret_rows, const int64_t **ret_row_ids, size_t *ret_n,
		    struct duct_error *err);
	/* For a relation (version) met in the rows: column index in the relation for each lake column, -1: the value is
	 * the column's initial default when it has one, else NULL. A differing type that widens is cast. The array stays
	 * valid until lake_write_file() returns. */
	const int *(*map)(void *arg, const struct duct_relation *rel);
	void *arg;
	/* With spec->snapshot_ids: of the rows handed over last, an array as long-lived as they are. */
	const int64_t *(*snapshot_ids)(void *arg);
};

struct lake_write_spec {
	const char *dir;		   /* absolute with trailing slash; made when missing */
	const struct lake_column *columns; /* live root columns, in order */
	int ncolumns;
	bool row_ids;		      /* adds _ducklake_internal_row_id (field id 2147483540) behind the columns */
	bool snapshot_ids;	      /* adds _ducklake_internal_snapshot_id (2147483539) behind that */
	const char *compression;      /* "zstd", "snappy", ... */
	int compression_level;	      /* 0: default */
	bool first_version;	      /* for readers of Parquet's first version */
	int64_t row_group_rows;	      /* 0: at most 122880, fewer where 32 MiB (raw) are reached */
	uint64_t max_rows, max_bytes; /* close the file when it has so much (bytes: of the file without its footer;
					      looked at before each next()); 0: no limit. Then *ret_more is true: call
					      again with the same lake_rows for the next file */
};

/*
 * Writes one file named ducklake-<uuidv7>.parquet: rows in the given order, so that position = order. The file AND every new
 * folder up to the first old one are fsynced before it returns. All columns OPTIONAL with field ids. Statistics as
 * the official client has them for such a file, with the corrections of the ducklake-types reference. On failure no file is left on
 * disk (folders may be). Errors of next() come out unchanged but for the prefix. A value that is not UTF-8 where it must be is DATA, an unsent
 * (TOAST) value FATAL. *ret is NULL when there was no row at all (so the call after a *ret_more may bring none).
 */
int lake_write_file(const struct lake_write_spec *spec, const struct lake_rows *rows, struct lake_new_file **ret, bool *ret_more,
		    struct duct_error *err);

/* Writes a delete file (file_path field id 2147483646, pos 2147483645) for data_path; positions sorted. Fsynced. With
 * snapshots, one per position in their order, it has the third column (2147483539): the snapshot in which the row died. */
int lake_write_delete_file(const char *dir, const char *data_path, const struct lake_positions *positions, const int64_t *snapshots,
			   char **ret_path, int64_t *ret_size, int64_t *ret_footer, struct duct_error *err);

/* Positions of a live delete file (2 or 3 columns; puffin is refused with CONFIG), ascending. malloc, caller frees. */
int lake_read_delete_file(struct duck_conn *conn, const char *path, int64_t **ret, size_t *ret_n, struct duct_error *err);

/*
 * Reads columns of one data file. Columns are found by field id; a column that the file does not have yields its initial default.
 * positions (ascending) restricts the rows, NULL reads all. For each chunk `fn` gets a batch whose columns are the
 * wanted ones in order (its relation is private to the call; types are the lake column's types, cast from the file's older ones),
 * with position and row id of each row. Row id: the file's explicit column when it has one (*by field id 2147483540*), else
 * row_id_start + position. Columns of a file of others are found by the names that the catalog has for them, cast by DuckDB (of nested ones: CONFIG). A
 * missing file is RETRY. Files in S3 are read where the connection may (duck/s3.h).
 */
typedef int lake_read_fn(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
			 struct duct_error *err);
int lake_read_file(struct duck_conn *conn, const struct lake_file *file, const struct lake_column *const *columns, int ncolumns,
		   const int64_t *positions, size_t npositions, lake_read_fn *fn, void *arg, struct duct_error *err);

/*
 * Single rows of data files: what lake_read_file() does when positions are given, with the same result, but through our
 * own reader (parquet/reader.h), which reads and decompresses only the pages that hold them. What that does not serve in a
 * file (lists without a page index, casts that do not widen, foreign encodings) is read through DuckDB, as a whole call;
 * counts say how often. A damaged file is FATAL. Keeps the footers of the files it met last. One thread at a time.
 */
struct lake_points;
struct lake_points *lake_points_new(void);
void lake_points_free(struct lake_points *points); /* accepts NULL */

struct lake_points_counts {
	uint64_t rows, elsewhere_rows; /* elsewhere: through DuckDB */
	uint64_t reads, bytes, pages;  /* of rows: from files; decompressed */
};
struct lake_points_counts lake_points_counts(const struct lake_points *points);

int lake_read_rows(struct lake_points *points, struct duck_conn *conn, const struct lake_file *file,
		   const struct lake_column *const *columns, int ncolumns, const int64_t *positions, size_t npositions,
		   lake_read_fn *fn, void *arg, struct duct_error *err);

#endif
