#ifndef LAKE_SEARCH_H
#define LAKE_SEARCH_H

#include "lake/marks.h"
#include "lake/store.h"

/*
 * Live rows of a table that are known by their values only: looked for in the data files that the caller has not ruled out, and in the catalog itself; to
 * know of them, or to end them with a txn. One thread.
 */
struct lake_search {
	struct lake *lake;
	const struct duct_ctx *ctx; /* looked at between batches: CANCELLED */
	int64_t table_id;
	const struct lake_column *const *columns; /* what is read, of the types that it is wanted in */
	int ncolumns;
	/* Asked once for each live row; the batch's columns are those. */
	bool (*wants)(void *arg, const struct duct_batch *batch, uint32_t row);
	/* Before the connection reads this path; NULL: it may read all. */
	int (*allow)(void *arg, const char *path, struct duct_error *err);
	void *arg;
	struct duck_conn *conn;
	struct lake_points *points;
	/* With which they end; NULL: they are only looked for. */
	struct lake_txn *txn;
	struct lake_txn_table *t;
	struct lake_store *store;   /* for delete files; needed with txn */
	size_t ended;		    /* is increased: rows */
	struct lake_mark_set marks; /* of the table, when a file was searched */
	bool has_marks;
};

/*
 * Few rows and files of this machine are read by our own reader, others through DuckDB; files of other programs by the names that the catalog has for their
 * columns. All rows of a file: it ends. Many, or those that the catalog's server has no room for: a delete file below the table's folder, where the file has none and no
 * marks. Others are marked in the catalog. RETRY: a file is gone, or the store is away; CONFIG: a file that cannot be read.
 */
int lake_search_file(struct lake_search *s, const struct lake_file *file, struct duct_error *err) DUCT_CHECKED;
int lake_search_inlined(struct lake_search *s, struct duct_error *err) DUCT_CHECKED;
bool lake_search_any_inlined(const struct lake *lake, int64_t table_id); /* whether there is anything for it */
void lake_search_done(struct lake_search *s);				 /* what was borrowed stays */

/* Delete files that were written for a txn that was surely not committed. */
void lake_search_unwrite(const struct lake_txn *txn, struct lake_store *store);

#endif
