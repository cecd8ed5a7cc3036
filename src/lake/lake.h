#ifndef LAKE_LAKE_H
#define LAKE_LAKE_H

#include "lake/catalog.h"
#include "lake/marks.h"
#include "lake/session.h"

/* Inside of the folder: what `struct lake` holds, and the parts that catalog.c and txn*.c share. */

struct lake_schema {
	int64_t id;
	const char *name, *path; /* path absolute with trailing slash */
};

struct lake_inlined_table {
	int64_t table_id, schema_version;
	const char *name;
};

struct lake_view_name {
	int64_t schema_id;
	const char *name;
};

/* Everything as of one snapshot. Strings live in the arena, except min and max of column statistics: these are malloc'd,
 * because they change with nearly every commit. */
struct lake_model {
	struct duct_arena arena;
	int64_t head, schema_version, next_catalog_id, next_file_id;
	struct lake_schema *schemas;
	size_t nschemas, schemas_cap;
	struct lake_table *tables; /* by id */
	size_t ntables, tables_cap;
	struct lake_inlined_table *inlined;
	size_t ninlined, inlined_cap;
	struct lake_view_name *views;
	size_t nviews, views_cap;
	struct lake_relation *relations;
	size_t nrelations, relations_cap;
};
struct lake_model *lake_model_new(void);
void lake_model_free(struct lake_model *model); /* accepts NULL */
struct lake_table *lake_model_table(const struct lake_model *model, int64_t table_id);
const struct lake_schema *lake_model_schema(const struct lake_model *model, const char *name);

/* As ducklake_column.column_type, children left out. */
void lake_print_column_type(struct duct_buf *to, const struct duct_type *type);

/* A column row as the catalog has it, in the order of the table. */
struct lake_column_row {
	int64_t id, parent; /* parent -1: a root column */
	const char *name, *type, *initial_default;
	bool nulls_allowed;
};
/* Builds root columns with their trees out of the rows of one table. */
void lake_build_columns(struct duct_arena *arena, const struct lake_column_row *rows, size_t n, struct lake_column **ret,
			int *ret_n);

/* Names compare without case for ASCII letters only, as DuckDB does it. */
bool lake_same_name(const char *a, const char *b);
/* Non-empty and valid UTF-8; else CONFIG. `what` is "table", "column", ... */
int lake_check_name(const char *what, const char *name, struct duct_error *err);
/* "s3://…": its files are others' business, neither looked at nor touched here. */
bool lake_path_is_remote(const char *path);
/* The folder of an object: its name when it is plain and not too long, else its uuid; with trailing slash. */
char *lake_path_part(struct duct_arena *arena, const char *name, const char *uuid);
/* `path` below `base` when relative, with trailing slash. */
char *lake_join_folder(struct duct_arena *arena, const char *base, const char *path, bool relative);

struct lake_option_row {
	const char *key, *value, *scope;
	int64_t scope_id;
};

/* The flow's row in ductstream_checkpoint. */
struct lake_mark_row {
	bool exists;
	int64_t epoch, seq, snapshot_id; /* snapshot_id -1: NULL */
	char commit_id[37], owner[37];
	struct duct_checkpoint checkpoint;
};

struct lake {
	struct lake_db *db;
	const struct duct_ctx *ctx;
	char *flow, *data_path;
	struct s3 *s3; /* lake_use_s3() */
	char uuid[37];
	bool read_only, has_own_tables, inline_tables, create_indexes;
	bool has_owner;	 /* ductstream_checkpoint has that column: false only for a read-only look at an older lake */
	int64_t pace_ms; /* gap after a snapshot of ours, of all our processes */
	struct lake_model *model;
	struct duct_arena options_arena;
	struct lake_option_row *options;
	size_t noptions, options_cap;
	struct lake_mark_row mark; /* as of the last read or commit */
	int64_t base;		   /* changes up to this snapshot are in `notes`, were handed out, or are our own */
	struct lake_change_note *notes;
	size_t nnotes, notes_cap;
	struct lake_known_marks { /* marks.h */
		int64_t table_id;
		struct lake_mark_set set;
	} * known_marks;
	size_t nknown_marks, known_marks_cap;
};

/*
 * Reads what changed since lake->base into model, options, mark and notes, as one consistent view; inside the write
 * transaction when one is open (SQLite). The model is read again only when head moved or `whole` is set. A snapshot
 * that bears our own commit id makes no notes. A row of another epoch is FATAL (fenced).
 */
int lake_refresh(struct lake *lake, bool whole, bool in_write, struct duct_error *err);

/* Reads the flow's row only; with lock: waits for whoever is changing it. */
int lake_read_mark(struct lake *lake, bool lock, struct lake_mark_row *ret, struct duct_error *err);
int lake_fenced(const struct lake *lake, int64_t epoch, struct duct_error *err);

const char *lake_state_name(enum duct_flow_state state);

/* upgrade.c: our own tables of an older program get what they lack, in one transaction; unless read_only. CONFIG when a
 * newer program has been here. */
enum { LAKE_OWN_VERSION = 1 };
int lake_upgrade_own_tables(struct lake *lake, struct duct_error *err);

/* catalog.c: the connection alone; creates the database's file when the configuration says so. */
int lake_connect(struct lake_db **ret, const struct lake_config *config, const struct duct_ctx *ctx, struct duct_error *err);
/* Whether two data paths are one, however they are spelled. */
bool lake_same_folder(const char *a, const char *b);

/* orphans_s3.c: right before a txn is sent, under the lock that SQLite's writer has, and Postgres's gets here (*ret_held): its objects are all
 * there, and stay. RETRY: one is gone. */
int lake_hold_objects(const struct lake_txn *txn, bool *ret_held, struct duct_error *err) DUCT_CHECKED;
void lake_release_objects(struct lake *lake);

/* create.c */
int lake_create_catalog(struct lake_db *db, const char *data_path, struct duct_error *err);
int lake_create_own_tables(struct lake_db *db, struct duct_error *err);
int lake_create_indexes(struct lake_db *db, struct duct_error *err);
/* Whether a table is there in the metadata schema. */
int lake_has_table(struct lake_db *db, const char *name, bool *ret, struct duct_error *err);

/* pace.c: how long a commit on SQLite has to wait until the gap after our last snapshot has passed. */
int lake_pace_left(struct lake *lake, int64_t gap_ms, int64_t *ret_ms, struct duct_error *err);
/*
 * pace.c: on Postgres, for a commit that lost against others: waits in the queue of our lock, and in its turn for the gap, so
 * that only foreign writers can be first between a look at the catalog and the commit. The session keeps the lock (before
 * Postgres 14 it does not) until lake_turn_leave() or its end; the server ends it when it stands still for ten seconds.
 */
int lake_turn_take(struct lake *lake, int64_t gap_ms, struct duct_error *err);
void lake_turn_leave(struct lake *lake);

/* files.c: one query outside of any transaction, with one new connection when the old one was lost meanwhile. */
int lake_ask(struct lake *lake, const char *sql, lake_row_fn *fn, void *arg, struct duct_error *err);

/* load.c */
struct lake_evidence { /* what tells deaths from flushed marks: tables whose delete files or ended files are new */
	struct lake_death {
		int64_t table_id, snapshot_id; /* snapshot_id -1: a delete file, of some snapshot after base */
	} * deaths;
	size_t n, cap;
};
/* SQL of the model's queries and the function that takes their rows. */
struct lake_load {
	struct lake_model *model;
	const char *data_path;
	struct lake_column_row *rows; /* of the table being read */
	size_t nrows, rows_cap;
	int64_t rows_table;
	struct lake_evidence evidence;
};
void lake_load_sql(struct duct_buf *to, const struct lake *lake, int64_t base);
int lake_load_row(void *load, int set, const char *const *values, struct duct_error *err);
void lake_load_finish(struct lake_load *load);

/* The clock of a SQLite catalog as the text of a snapshot_time. */
void lake_sqlite_now(char to[40]);

#endif
