#ifndef LAKE_CATALOG_H
#define LAKE_CATALOG_H

#include "base/ctx.h"
#include "lake/model.h"
#include "record/checkpoint.h"

/*
 * One DuckLake catalog (format exactly 1.0) on SQLite or Postgres, opened for one flow. Format rules are here once;
 * catalog_sqlite.c and catalog_postgres.c only send statements. One thread.
 *
 * Our own tables live beside the official ones, in the same metadata schema:
 *   ductstream_lake(uuid, version)  one row; version: of these tables
 *   ductstream_checkpoint(flow PK, epoch, seq, state, lsn, commit_us, commit_id, source_identity, snapshot_id,
 *                         owner)
 *   ductstream_relation(flow, source_oid, source_schema, source_name, table_id, columns, state)  PK (flow, source_oid)
 */
struct lake;

struct lake_config {
	const char *catalog;	     /* "sqlite:PATH" or "postgres:DSN" (libpq keyword=value or URI) */
	const char *metadata_schema; /* Postgres: schema of the ducklake_ tables, NULL = "public"; SQLite: NULL */
	const char *data_path;	     /* directory, or a URL where `remote` allows it; NULL: the catalog's own */
	const char *new_data_path;   /* in its place where the catalog is created; one that is there keeps its own. NULL: none */
	bool remote;	     /* the data path may be a URL ("s3://bucket/prefix"): whoever plans commits writes the files himself */
	const char *flow;    /* name of the flow: key of its checkpoint */
	bool create;	     /* make the catalog when there is none (else CONFIG error) */
	bool inline_tables;  /* new tables get a table for inlined rows at once, like those of the official client */
	bool create_indexes; /* make missing indexes on the catalog's statistics, file and inlined tables */
	bool read_only;	     /* for probes and `lake snapshots`: no epoch raised, nothing written */
	int64_t busy_timeout_ms; /* SQLite lock wait */
	int64_t pace_ms;	 /* gap that a commit leaves after a snapshot of ours, of whichever flow; 0: none */
};

/*
 * Connects; creates or joins the catalog; checks version, encryption and data_path (CONFIG errors that name both
 * values); makes our tables or brings an older program's to this one's shape (CONFIG when a newer one was here); raises
 * the epoch of the flow's checkpoint so that every older owner is fenced (when ctx->ownership says that this run had it
 * already and another run has it now: FATAL, fenced ourselves); reads the model at head. A SQLite file locked by another process for longer than the busy timeout is a CONFIG error that says
 * so (RETRY for a run that had the catalog already). DSN passwords never appear in errors.
 */
int lake_open(struct lake **ret, const struct lake_config *config, const struct duct_ctx *ctx, struct duct_error *err);
void lake_close(struct lake *lake); /* accepts NULL */

/* A second connection to the lake's catalog, for another thread, which only reads inlined rows with it (inline.h), as of the
 * snapshot that the lake is at now, and counts files. config: as it was opened with. */
int lake_open_beside(struct lake **ret, const struct lake *lake, const struct lake_config *config, struct duct_error *err);

/* Connects and looks whether there is a catalog at all; creates nothing. */
int lake_exists(const struct lake_config *config, const struct duct_ctx *ctx, bool *ret, struct duct_error *err);

const char *lake_data_path(const struct lake *lake); /* absolute, with trailing slash */
/* Commits ask there whether files that were written a while ago are still there (orphans.h). Borrowed, of the thread of the commits. */
struct s3;
void lake_use_s3(struct lake *lake, struct s3 *s3);
/* Identity of this catalog: made by us at first open, kept in ductstream_ tables. */
const char *lake_uuid(const struct lake *lake);
/* Metadata option as of the last sync: of the table, else the schema, else global; NULL when unset. */
const char *lake_option(const struct lake *lake, const char *key, int64_t table_id, int64_t schema_id);

/* The checkpoint as of the last sync or commit. */
void lake_checkpoint(const struct lake *lake, struct duct_checkpoint *ret);
int64_t lake_snapshot_id(const struct lake *lake);   /* head as of the last sync or commit */
const char *lake_commit_id(const struct lake *lake); /* of our last commit: a uuid; "" when none */

/* Sets state COPYING (compare-and-set on the epoch), without a snapshot. */
int lake_begin_copy(struct lake *lake, const char *source_identity, struct duct_error *err);

/* Sets the state of one of the flow's relation rows (likewise), and nothing else: neither position nor snapshot. */
int lake_set_relation_state(struct lake *lake, uint32_t source_oid, const char *state, struct duct_error *err);

/* What happened to a table since the last sync or commit of ours. */
enum lake_change {
	LAKE_CHANGED_SCHEMA = 1 << 0, /* altered or dropped by others */
	LAKE_CHANGED_FILES = 1 << 1,  /* merge, rewrite, flush: positions moved, content the same */
	LAKE_CHANGED_ROWS = 1 << 2,   /* rows inserted or deleted by others */
};
struct lake_change_note {
	int64_t table_id;
	unsigned changes;    /* enum lake_change */
	int64_t snapshot_id; /* the first that did it */
	char author[64];
};

/*
 * Reads head, the tags of all snapshots after ours, tables, columns, statistics, options and checkpoint as ONE
 * consistent view, and replaces the model. *ret_notes (malloc, caller frees) lists what others did to any table since.
 * When a snapshot in between is missing (expired), every table counts as LAKE_CHANGED_FILES.
 */
int lake_sync(struct lake *lake, struct lake_change_note **ret_notes, size_t *ret_n, struct duct_error *err);
/* Whether others have committed since the last sync or commit: what was read from tables meanwhile may be of any moment between. */
int lake_moved(struct lake *lake, bool *ret, struct duct_error *err);

/* Live table by names (compared without case); NULL when there is none. */
const struct lake_table *lake_find_table(const struct lake *lake, const char *schema, const char *name);
/* Column by name (compared without case); NULL when there is none. */
const struct lake_column *lake_find_column(const struct lake_column *columns, int n, const char *name);
/* The live table behind that one, of any schema; NULL: the first, and behind the last. */
const struct lake_table *lake_next_table(const struct lake *lake, const struct lake_table *after);
const struct lake_table *lake_table_by_id(const struct lake *lake, int64_t table_id);

/* Live files of a table with their delete files and mark counts, in file id order. Allocated in *arena. */
int lake_list_files(struct lake *lake, int64_t table_id, struct duct_arena *arena, struct lake_file **ret, size_t *ret_n,
		    struct duct_error *err);

/* What the catalog says of one column's values in a file: loose, or NULL where nothing is known. Texts as in ducklake_file_column_stats. */
struct lake_file_bounds {
	const char *min, *max;
	int64_t nulls; /* -1: not known */
};
/* Of n leaf columns in each of these live files (as listed, in id order): *ret[file * n + column]. Allocated in *arena. */
int lake_list_bounds(struct lake *lake, int64_t table_id, const int64_t *column_ids, int n, const struct lake_file *files,
		     size_t nfiles, struct duct_arena *arena, struct lake_file_bounds **ret, struct duct_error *err);

/* A column mapping of the table in the catalog that says the same as these fields; -1: none. struct lake_field_name: txn.h. */
struct lake_field_name;
int lake_find_mapping(struct lake *lake, int64_t table_id, const struct lake_field_name *fields, size_t n, int64_t *ret,
		      struct duct_error *err);

/* How many live files of a table are smaller than that. */
int lake_count_small_files(struct lake *lake, int64_t table_id, int64_t bytes, int64_t *ret, struct duct_error *err);

/* How many rows a table has (as far as the catalog knows: a mark of a row that a delete file has, too, counts twice). */
int lake_count_rows(struct lake *lake, int64_t table_id, int64_t *ret, struct duct_error *err);

/* How source relations are mirrored: one row per (flow, source oid). columns is JSON that the destination owns. */
struct lake_relation {
	uint32_t source_oid;
	const char *source_schema, *source_name;
	int64_t table_id;
	const char *columns; /* JSON: attnum -> column_id, types */
	const char *state;   /* that of the destination, e.g. "streaming" */
};
const struct lake_relation *lake_relations(const struct lake *lake, size_t *ret_n); /* as of the last sync or commit */
/* Whether one of them names this lake table. */
bool lake_is_mirrored(const struct lake *lake, int64_t table_id);
/* Whether any flow, not only this one, mirrors something into it. Asks the catalog. */
int lake_is_mirror(struct lake *lake, int64_t table_id, bool *ret, struct duct_error *err);

/* Rows for `lake snapshots`. */
struct lake_snapshot_row {
	int64_t snapshot_id;
	const char *time, *changes, *author, *message, *extra; /* NULL when NULL in the catalog */
};
int lake_list_snapshots(struct lake *lake, int limit, struct duct_arena *arena, struct lake_snapshot_row **ret, size_t *ret_n,
			struct duct_error *err);

#endif
