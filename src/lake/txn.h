#ifndef LAKE_TXN_H
#define LAKE_TXN_H

#include "lake/catalog.h"
#include "lake/positions.h"

/*
 * A planned commit: what the next snapshot shall contain, without any number that is only given at commit (snapshot
 * id, file ids, row ids, column ids of new tables). lake_txn_commit() renders and sends it as one short catalog
 * transaction, renumbering and resending when the race for the snapshot id is lost.
 *
 * The txn copies what it is given unless said otherwise. Handles (struct lake_txn_table *) live as long as the txn.
 */
struct lake_txn;
struct lake_store;
struct duck_conn;
struct lake_txn_table;

struct lake_txn *lake_txn_new(struct lake *lake);
void lake_txn_free(struct lake_txn *txn); /* accepts NULL */

/* Its commit leaves an eighth of the usual gap after a snapshot of ours. For one that holds as much as it may: behind it is more, and
 * others get the time in which its files are written. And for the last one of a run. */
void lake_txn_hurry(struct lake_txn *txn);

/* An existing table of the model (by id). */
struct lake_txn_table *lake_txn_table(struct lake_txn *txn, int64_t table_id);

/* A column to create. Nested children come from the type. Names that DuckLake cannot hold (empty, two that differ only
 * in case) are CONFIG errors of lake_txn_create_table/add_column. */
struct lake_column_def {
	const char *name;
	const struct duct_type *type;
	const char *initial_default; /* add_column: what older rows yield, DuckDB text; NULL = NULL */
};
/* Creates the schema too when it does not exist. */
int lake_txn_create_table(struct lake_txn *txn, const char *schema, const char *name, const struct lake_column_def *cols, int ncols,
			  struct lake_txn_table **ret, struct duct_error *err);
int lake_txn_add_column(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_column_def *col, struct duct_error *err);
int lake_txn_drop_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, struct duct_error *err);
int lake_txn_rename_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, const char *name,
			   struct duct_error *err);
int lake_txn_retype_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, const struct duct_type *type,
			   struct duct_error *err); /* the type must widen */
/* The table that has this name in the lake after the transaction as planned so far, NULL: none. */
struct lake_txn_table *lake_txn_find_table(struct lake_txn *txn, const char *schema, const char *name);
int lake_txn_rename_table(struct lake_txn *txn, struct lake_txn_table *t, const char *schema, const char *name,
			  struct duct_error *err);

/* The table is gone after this txn, and its name is free for another one in it. Nothing else may be planned for it. */
void lake_txn_drop_table(struct lake_txn *txn, struct lake_txn_table *t);
/* The table is partitioned like this from now on (the keys name live columns; transforms as struct lake_partition_key has them); files that
 * are there stay as they are. Nothing when it is already. n 0: not partitioned. CONFIG: a column or transform that there is not. */
int lake_txn_set_partition(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_partition_key *keys, int n,
			   struct duct_error *err);

/*
 * By which names a file that we did not write has the table's columns: one entry per node, parents before children
 * (`parent`: place in the list, -1 for root columns). Gives what lake_new_file.mapping takes. id: of the same mapping that an
 * earlier commit has left in the catalog (lake_find_mapping), -1: none.
 */
struct lake_field_name {
	const char *source_name;
	int64_t column_id;
	int parent;
	bool is_partition; /* not in the file: a "name=value" folder of its path has it */
};
int lake_txn_add_mapping(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_field_name *fields, size_t n,
			 int64_t id);
/* One that the txn has for another file of the table already; 0: none. */
int lake_txn_find_mapping(const struct lake_txn *txn, const struct lake_txn_table *t, const struct lake_field_name *fields,
			  size_t n);

/* Rows that others put into the table or took out of it meanwhile are no reason to plan again, as long as this txn marks none itself. */
void lake_txn_share(struct lake_txn_table *t);

/* As the transaction leaves it, as planned so far. */
const char *lake_txn_table_name(const struct lake_txn_table *t, const char **ret_schema);
/* Directory (absolute or a URL, trailing slash) where files of the table go: known before the commit, also for a new table. */
const char *lake_txn_table_path(const struct lake_txn_table *t);
/* Column ids of the table's live columns as they will be after this txn (a new table: 1.. depth-first), in order; so
 * that files can be written before the commit. Returns the count. */
int lake_txn_columns(const struct lake_txn_table *t, const struct lake_column **ret);

/* Removes the files that were registered, of a txn that was not sent. An orphan that stays is harmless. */
void lake_txn_unlink_files(const struct lake_txn *txn);

/* Registers a data file: takes ownership of `file`. Returns its ordinal in the txn (for lake_txn_result). */
int lake_txn_add_file(struct lake_txn *txn, struct lake_txn_table *t, struct lake_new_file *file);

/* Says of the registered files that they are still wanted (orphans.h); to be called every few minutes while a txn lasts. */
int lake_txn_renew_files(const struct lake_txn *txn, struct duct_error *err);

/* Rows of live data files die: one call per file, each position once (taken: empty afterwards). As marks inside the
 * catalog (ducklake_inlined_delete_<tid>), or as a written 2-column delete file (only when the data file had neither
 * delete file nor marks). `on_new_file` >= 0: the ordinal of a file registered in this same txn (then file_id is ignored):
 * its rows die at birth, always by delete file. */
struct lake_new_delete_file {
	char *path; /* absolute; malloc, taken */
	int64_t count, size_bytes, footer_size;
	int64_t written_us;		     /* as of a lake_new_file */
	int64_t begin_snapshot, partial_max; /* of flushed rows: first and last death; 0: this commit's, and NULL */
};
/* False: the catalog's server may not have room for the locks of one more table of marks; write a delete file, if it can be. */
bool lake_txn_has_room_for_marks(struct lake_txn *txn, struct lake_txn_table *t);
void lake_txn_mark(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id, struct lake_positions *positions);
void lake_txn_add_delete_file(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id, int on_new_file,
			      const struct lake_new_delete_file *file);
/* All rows of the file are dead: it ends (end_snapshot). */
void lake_txn_end_file(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id);
/* All live files and inlined rows of the table end (TRUNCATE). Comes before the adds of this txn. */
void lake_txn_truncate(struct lake_txn *txn, struct lake_txn_table *t);

/*
 * Last before the commit: marks in the catalog of files that end in it become part of a delete file, as an official client has it when it ends a file, so
 * ducklake_table_changes tells each death once, in its own snapshot: of a file that has ended it heeds delete files alone. conn reads older delete files;
 * store: where new ones are put (NULL: folders of this machine).
 */
int lake_txn_fold_marks(struct lake_txn *txn, struct lake_store *store, struct duck_conn *conn,
			struct duct_error *err) DUCT_CHECKED;

/* Sets (inserts or replaces) or removes the relation row of the flow; table_id comes from t. */
void lake_txn_set_relation(struct lake_txn *txn, const struct lake_relation *relation, struct lake_txn_table *t);

struct lake_commit_info {
	struct duct_pos pos;	     /* new position; pos.lsn 0: leave the position alone */
	enum duct_flow_state state;  /* new state */
	const char *source_identity; /* NULL: keep */
	const char *message;	     /* commit_message, e.g. "ductstream shop"; author is "ductstream" */
};
struct lake_txn_result {
	int64_t snapshot_id; /* -1: position-only commit, no snapshot was made */
	int64_t ntables;
	struct lake_txn_file_result {
		int64_t file_id, row_id_start; /* row_id_start -1 for files with explicit row ids */
	} * files;			       /* by ordinal; in the txn's memory */
	size_t nfiles;
};

/*
 * Commits. 0: durable, *ret filled, the lake's model is brought up to date (as after lake_sync). 1: somebody else changed a
 * table of this txn in a way that matters (schema, positions, rows): nothing was committed; call lake_sync, plan again.
 * An empty txn (no rows, no DDL) moves only the checkpoint. -class: RETRY connection lost or attempts exhausted (the
 * outcome was looked up through commit_id where possible, so RETRY means not committed unless the connection could not
 * be restored), FATAL when fenced ("fenced by ..."), when a mark hit no live row, or when the stored position is
 * already beyond pos.
 */
int lake_txn_commit(struct lake_txn *txn, const struct lake_commit_info *info, struct lake_txn_result *ret, struct duct_error *err);

#endif
