#ifndef LAKE_REGISTER_H
#define LAKE_REGISTER_H

#include "lake/txn.h"
#include "net/s3.h"
#include "parquet/describe.h"

/*
 * Parquet files of other programs as data files of a lake table: where they are, by their names, without a copy. Only footers are read. What the official
 * ducklake_add_data_files leaves to the caller is done here: the content is compared with the partition that it is put into, types with those of the table, and
 * a path that the table has already is not put into it again.
 */
struct lake_foreign {
	const char *path;   /* absolute, or "s3://bucket/key"; the caller's */
	int64_t size_bytes; /* -1: it is asked for */
	int64_t footer_size;
	int64_t written_us; /* of the monotonic clock, when writing it began: it is ours, and a commit makes sure that it is there; 0: others' */
	struct parquet_description is;
};

/* Reads the footers of n files, side by side where they are objects. s3: of those; may be NULL when there are none. What is found lives in the arena.
 * CONFIG: a file that is missing (s3_is_missing()), or has a form that we do not read; FATAL: a damaged one. */
int lake_foreign_read(struct lake_foreign *files, size_t n, struct s3 *s3, struct duct_arena *arena,
		      struct duct_error *err) DUCT_CHECKED;

/* A column of the file by its name (without case), NULL: none. */
const struct parquet_described_column *lake_foreign_column(const struct lake_foreign *file, const char *name);

enum lake_evolve {
	LAKE_EVOLVE_REFUSE, /* a column that the table lacks is a CONFIG error */
	LAKE_EVOLVE_ADD,    /* it is added, and a type that is too narrow for the file's is widened */
};
/*
 * Makes the table able to take the file: compares names and types. A column that the file lacks is NULL for its rows (its initial default, if it has
 * one). CONFIG names column and both types: one that no widening reconciles, or one that `evolve` forbids; two columns of the file that
 * differ in case only. DATA: a column that must have values lacks some. changes (may be NULL) gets a line of text
 * for people, of what was added and widened.
 */
int lake_txn_evolve(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_foreign *file, enum lake_evolve evolve,
		    struct duct_buf *changes, struct duct_error *err) DUCT_CHECKED;

/*
 * Registers the file: rows, sizes, statistics, and the names by which it has the table's columns. partition_values: as of lake_new_file, copied; n 0: the
 * table has no spec. The table is as lake_txn_evolve() left it. Returns 1; 0: the table has that path in a live file already, nothing was added (live: of
 * lake_list_files(), of the snapshot that the txn is planned on; the commit is refused when the table has changed since, unless it is
 * shared). A file without rows is nothing: 0.
 */
int lake_txn_register(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_foreign *file,
		      const char *const *partition_values, int n, const struct lake_file *live, size_t nlive,
		      struct duct_error *err) DUCT_CHECKED;

#endif
