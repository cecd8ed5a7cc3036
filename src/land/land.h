#ifndef LAND_LAND_H
#define LAND_LAND_H

#include "duck/duck.h"
#include "lake/catalog.h"
#include "lake/txn.h"

/* A query as columns of a lake table. */
struct land_shape {
	struct lake_column_def *columns;
	int ncolumns;
	const char *select; /* the query, its columns cast to these types */
	const char *casts;  /* for people: `"a" INTERVAL as varchar`, comma separated; NULL: none was needed */
};
/* Asks DuckDB what the query (one SELECT, without a semicolon) gives. Values of types that we have none for are cast (duck_read_type()).
 * Of names that differ only in case, which DuckLake cannot tell apart, the later ones get "_1", "_2", ... as DuckDB gives them. All in the arena. */
int land_shape(struct duck_conn *conn, const char *query, struct duct_arena *arena, struct land_shape *ret,
	       struct duct_error *err) DUCT_CHECKED;

/* Whether the table has just these columns: names (without case), types, order. */
bool land_same_columns(const struct lake_table *table, const struct land_shape *shape);

struct land_target {
	const char *schema, *table;
	/* The rows take the place of all that is there; a table of other columns goes, and comes again. Otherwise they are added to a table that
	 * must have these columns. */
	bool replace;
	const char *identity; /* what the commit keeps as the checkpoint's source_identity; NULL: as it was */
};

/* Files that are written and not in the lake yet; in the order in which they were written. land_files_done() frees. */
struct land_files {
	struct lake_new_file **files;
	size_t n, cap;
	int64_t rows, bytes;
	const char *folder;  /* of the table that they are for */
	int64_t *column_ids; /* of its root columns, in order */
	int ncolumn_ids;
	struct duct_arena arena;
};
void land_files_done(struct land_files *files); /* accepts a zeroed one; the files stay where they are */

/*
 * Runs the shape's query and writes what it gives as files below the table's folder, each of at most some 512 MiB: local ones are durable
 * when it returns 0. Errors: those of the query; RETRY and CONFIG of writing. *ret is to be done in any case.
 */
int land_write(struct duck_conn *conn, struct lake *lake, const struct land_target *target, const struct land_shape *shape,
	       struct land_files *ret, struct duct_error *err) DUCT_CHECKED;

/* The same for columns that the table has, or will have: what the SELECT gives, whose names and types are theirs, into files below that folder. */
int land_write_into(struct duck_conn *conn, const char *folder, const struct lake_column *columns, int ncolumns, const char *select,
		    struct land_files *ret, struct duct_error *err) DUCT_CHECKED;

struct land_result {
	int64_t snapshot_id, table_id;
	bool created; /* the table is new */
};
/*
 * Puts the files into the table in one commit; plans it again while others are first. 0: durable. RETRY: nothing was committed, and the files are
 * of no use any more: the table has been altered since they were written. `message`: of the snapshot, for people.
 */
int land_commit(struct lake *lake, const struct land_target *target, const struct land_shape *shape, const struct land_files *files,
		const char *message, struct land_result *ret, struct duct_error *err) DUCT_CHECKED;

#endif
