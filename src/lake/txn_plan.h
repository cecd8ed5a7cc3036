#ifndef LAKE_TXN_PLAN_H
#define LAKE_TXN_PLAN_H

#include "lake/inline.h"
#include "lake/lake.h"
#include "lake/stats.h"
#include "lake/txn.h"

struct lake_old_delete_file;

/* Inside of a txn: what txn.c plans, txn_render.c turns into a script, and txn_commit.c sends. */

struct txn_column {
	struct lake_column column; /* as it will be */
	bool added, dropped, changed;
};

struct txn_ids { /* a growing list of ids in malloc memory */
	int64_t *ids;
	size_t n, cap;
};

/* Rows inside the catalog: new ones, live ones that die, and those that a flush takes out. */
struct txn_inlined {
	size_t n, ninserts;
	enum lake_inline_form form;
	struct duct_buf text;	     /* of each row its values, each behind a comma (tab for COPY); ends with a NUL */
	int64_t *row_ids;	     /* -1: given at the commit */
	struct lake_new_file *facts; /* statistics of the new rows */
	struct txn_inlined_row {
		int64_t schema_version, row_id;
	} * ended;
	size_t nended, ended_cap;
	struct txn_inlined_flush {
		int64_t schema_version, upto, nrows;
	} * flushed;
	size_t nflushed, flushed_cap;
	/* by the last rendering */
	int64_t schema_version, first_row_id;
};
void lake_txn_inlined_done(struct txn_inlined *inlined);

struct lake_txn_table {
	struct lake_txn *txn;
	int64_t id; /* of a new table: given by the last rendering */
	bool is_new, renamed, moved, altered, truncated, dropped;
	bool repartitioned; /* keys are those of a new spec */
	bool shared;	    /* lake_txn_share() */
	struct lake_partition_key *keys;
	int nkeys;
	int64_t partition_id;	   /* that its new files are of; of a new spec: given by the last rendering; -1: none */
	const char *schema, *name; /* as they will be */
	const char *uuid;	   /* new tables only */
	const char *part;	   /* path in its row: below the schema's */
	const char *path;	   /* absolute */
	struct txn_column *columns;
	size_t ncolumns, columns_cap;
	struct lake_column *live; /* what lake_txn_columns() hands out */
	int nlive;
	int64_t next_column_id;
	struct txn_ids ended;
	struct lake_marks *marks;
	size_t nmarks, marks_cap;
	size_t nfiles, nflushed_files, ndeletes;
	struct txn_fold *folds;
	size_t nfolds, folds_cap;
	struct txn_inlined inlined;
	/* by the last rendering, for the model after the commit */
	int64_t record_count, next_row_id, file_size_bytes;
	struct lake_stats_change *stats;
	size_t nstats;
};

struct txn_schema {
	const char *name, *uuid, *part, *path;
	int64_t id; /* by the last rendering; -1: somebody else has made it meanwhile */
};

struct txn_file {
	struct lake_new_file *file; /* NULL once taken */
	struct lake_txn_table *table;
	int64_t id, row_id_start;
};

struct txn_delete {
	struct lake_txn_table *table;
	int64_t file_id;
	int on_new_file;
	char *path;
	int64_t count, size_bytes, footer_size, begin_snapshot, partial_max, written_us;
	bool folds; /* the marks of a data file that ends: lake_txn_fold_marks() */
};

/* Marks of a data file that ends are in its delete file, which is among the deletes. */
struct txn_fold {
	int64_t file_id, nmarks;
	struct lake_old_delete_file *old; /* whose rows it has, too, and whose row goes; NULL: there was none */
};

struct txn_mapping {
	struct lake_txn_table *table;
	const struct lake_field_name *fields;
	size_t nfields;
	bool known; /* in the catalog already */
	int64_t id; /* of a new one: given by the last rendering */
};

struct txn_relation {
	struct lake_relation relation;
	struct lake_txn_table *table; /* NULL: the row is removed */
};

struct lake_txn {
	struct lake *lake;
	int64_t gap_ms; /* that its commit leaves after a snapshot of ours */
	struct duct_arena arena;
	struct lake_txn_table **tables;
	size_t ntables, tables_cap;
	struct txn_schema *schemas;
	size_t nschemas, schemas_cap;
	struct txn_file *files;
	size_t nfiles, files_cap;
	struct txn_delete *deletes;
	size_t ndeletes, deletes_cap;
	struct txn_relation *relations;
	size_t nrelations, relations_cap;
	struct txn_mapping *mappings;
	size_t nmappings, mappings_cap;
	char commit_id[37];
	size_t nnew_tables;
	int64_t locks;	      /* asked for with lake_txn_take_locks() */
	size_t inlined_bytes; /* of all tables' new rows */
	/* by the last rendering */
	int64_t snapshot_id, schema_version, next_catalog_id, next_file_id;
	bool has_ddl;
	bool renumbered; /* committed by an earlier rendering, whose numbers are not known here */
};

/* Locks that a table inside the catalog takes with its index; and when it is made, with what Postgres makes beside it. */
enum { LAKE_LOCKS_KNOWN_TABLE = 2, LAKE_LOCKS_NEW_TABLE = 5 };
/* A server has room for a limited number of locks: false when so many more would be too many for what can do without. */
bool lake_txn_take_locks(struct lake_txn *txn, int64_t n);
int64_t lake_txn_most_locks(const struct lake *lake);

/* True when it makes no snapshot: only the checkpoint (and relation rows) move. */
bool lake_txn_is_position_only(const struct lake_txn *txn);

/* Renders the commit on top of the lake's model as it is now. `expected_seq`: of the checkpoint row. */
void lake_txn_render(struct lake_txn *txn, const struct lake_commit_info *info, int64_t expected_seq, struct lake_script *script);

/* txn_layout.c: tables that go, partition specs, names of columns in files of others, values of partitions. */
void lake_txn_number_layout(struct lake_txn *txn);
void lake_render_dropped(const struct lake_txn_table *t, struct lake_script *script);
void lake_render_folds(const struct lake_txn_table *t, struct lake_script *script); /* before the table's files end */
void lake_render_partition(const struct lake_txn_table *t, struct lake_script *script);
void lake_render_mappings(const struct lake_txn *txn, struct lake_script *script);
void lake_render_partition_values(const struct lake_txn *txn, struct lake_script *script);

/* txn_stats.c: fills what the table's statistics will be, and row_id_start of its new files. */
void lake_txn_plan_stats(struct lake_txn_table *t);
/* Refuses new rows without a value where a column demands one. */
int lake_txn_check_nulls(const struct lake_txn_table *t, struct duct_error *err);

/* txn_inlined.c: a change of columns, and the first inlined rows, make a new table for inlined rows. */
bool lake_txn_needs_inlined_table(const struct lake_txn_table *t);
void lake_render_inlined_table(const struct lake_txn_table *t, struct lake_script *script);
/* Rows that are inlined, die or are flushed; after lake_txn_plan_stats(). */
void lake_render_inlined_rows(struct lake_txn_table *t, struct lake_script *script);

/*
 * Appends the name and column list of the table's inlined-data table (`ducklake_inlined_data_T_V(...)`)
 * for its columns after this txn. False (nothing appended) when DuckLake would not inline such a table.
 */
bool lake_inlined_table_sql(struct duct_buf *to, const struct lake_txn_table *t, int64_t schema_version);

#endif
