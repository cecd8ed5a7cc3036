#ifndef LAKE_DEATHS_H
#define LAKE_DEATHS_H

#include "duck/duck.h"
#include "lake/positions.h"
#include "lake/txn_plan.h"

/* Inside of lake/: which rows of one data file are dead, and since which snapshot, out of its delete files and its marks in the catalog. */

struct lake_old_delete_file {
	int64_t id; /* -1: there is none */
	int64_t begin_snapshot, partial_max;
	const char *path; /* absolute */
};

/* Of a file; some 40 bytes of memory each. Of more nothing is made: n is one higher, and the rest is not in the list. */
enum { LAKE_MOST_DEATHS = 2000000 };

struct lake_deaths { /* zeroed: none */
	struct lake_row_death {
		int64_t position, snapshot;
	} * list; /* ascending by position, each once: its first snapshot */
	size_t n, cap;
	size_t nmarks; /* how many came out of the catalog, twice given ones included */
	int64_t first, last;
};

/*
 * rows: of the data file. nfiles delete files, those that there are none of included, are read by DuckDB (conn may be NULL when there is none), the marks
 * as of now. On failure there is nothing in *ret.
 */
int lake_deaths_read(struct lake_deaths *ret, struct lake *lake, struct duck_conn *conn, int64_t table_id, int64_t file_id,
		     int64_t rows, const struct lake_old_delete_file *files, size_t nfiles, struct duct_error *err);
/* All of them as one delete file for data_path, in store (NULL: in a folder of this machine). */
int lake_deaths_write(const struct lake_deaths *deaths, struct lake_store *store, const char *dir, const char *data_path,
		      int64_t rows, struct lake_new_delete_file *ret, struct duct_error *err);
void lake_deaths_done(struct lake_deaths *deaths); /* zeroed again */

/* Path and path_is_relative of a row, whole. */
const char *lake_file_path(struct duct_arena *arena, const char *table_path, const char *path, const char *relative);
/* Its file is removed once nobody reads it any more (ducklake_cleanup_old_files). */
void lake_schedule_delete_file(struct lake_script *script, const struct lake *lake, const struct lake_old_delete_file *f);

#endif
