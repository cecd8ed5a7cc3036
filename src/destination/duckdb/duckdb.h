#ifndef DUCKDB_DESTINATION_H
#define DUCKDB_DESTINATION_H

#include "destination/bind.h"
#include "destination/destination.h"
#include "destination/fold.h"
#include "destination/replay.h"
#include "destination/tablesink.h"
#include "duck/duck.h"
#include "lake/key.h"

#include <pthread.h>

/*
 * The DuckDB destination, inside (dd). A *table* is one source table and its table in the database; the *group* is what was written since
 * the last commit. The group is one DuckDB transaction: rows are folded per key in memory, and when there are many of them, or the
 * shape of a table changes, what is folded so far is applied inside the transaction. The position is a row in the same transaction.
 */

struct duckdb_config {
	char *dsn, *schema, *table;
	int64_t flush_interval_ms, flush_rows, flush_bytes, memory_limit;
	int no_key, on_drift;
	bool hold_file;
	bool meta_table_enabled;
	char *meta_schema, *meta_table, *meta_pk_prefix;
	struct tablesink_options sink;
};
extern const struct duct_opt duckdb_opts[];
enum { DD_NO_KEY_APPEND, DD_NO_KEY_REFUSE };
enum { DD_DRIFT_STOP, DD_DRIFT_REPAIR };

/* How rows of a table are found again. */
enum dd_mode {
	DD_KEYED,  /* unique key, never NULL */
	DD_BAG,	   /* whole row, may repeat */
	DD_APPEND, /* never: inserts and truncates only */
};

/* Where the key of a fold's slot can be read, and what last happened to it. */
struct dd_slot {
	const struct duct_batch *batch;
	uint32_t row;
	bool old; /* row of batch->old */
	enum duct_op op;
	uint64_t lsn;
};

struct dd_column {
	int16_t attnum;
	char *name;
	struct duct_type type; /* in the table's arena */
	bool key;
};

struct dd_table {
	uint32_t oid;
	struct duct_relation *rel;    /* the newest version met; NULL: none since the destination was opened */
	char *source_schema, *source; /* as stored */
	char *schema, *name;	      /* in the database */
	enum dd_mode mode;
	struct dd_column *columns;
	size_t ncolumns, columns_cap;
	struct duct_arena arena;
	int *map;	 /* column here -> column of rel */
	bool incomplete; /* never copied: rows may be missing without anything being wrong */
	bool copy_again; /* wants a copy */
	bool whole;	 /* before the copy under way: it was copied, and nothing of it is missing */
	bool beside;	 /* its rows stay; the copy under way lands beside it and is added to them at its end */
	bool gone;	 /* another source table has taken its name */
	int recopies;	 /* how often it was copied again since a change of it was last taken over */
	bool changed;	 /* its row in our table of relations must be written with the next commit */
	bool meta_ready; /* the meta table has its key columns */

	struct fold *fold; /* the open group's rows since they were last applied */
	struct dd_slot *slots;
	size_t slots_cap;
	bool folded;   /* something is in it */
	bool twin;     /* the open group, which is a replay, has one of it (slots.h) */
	bool modified; /* rows of before were deleted or changed in the open transaction: DuckDB does not alter it then */
};

struct duckdb_dest {
	const struct duckdb_config *config;
	const struct duct_ctx *ctx;
	struct duck_db *db; /* NULL: the file is released */
	struct duck_conn *conn;
	bool in_transaction;
	bool read_only;
	int64_t epoch;
	struct duct_checkpoint checkpoint;
	struct dd_table **tables;
	size_t ntables, tables_cap;
	uint32_t *known_oids; /* handed out by resume */
	struct tablesink *sink;
	uint64_t seed; /* of key hashes */

	/* The open group. */
	struct duct_changes **held; /* what pending rows point into */
	size_t nheld, held_cap;
	struct duct_pos upto;
	bool partial;
	size_t pending_bytes, pending_rows;
	uint64_t source_rows;
	int64_t opened_us, last_commit_us; /* monotonic; opened_us 0: empty */
	uint32_t give_up_oid;		   /* the open group cannot go on because of this table; 0: none */

	bool loading;	      /* a copy is under way */
	unsigned load_flags;  /* of enum duct_load */
	bool apart;	      /* that copy changes nothing but staging tables of whole tables */
	pthread_mutex_t lock; /* of everything here while loaders write */

	enum duct_replay replay;
	struct duct_buf refused; /* tables whose rows a replay has brought and must not add: "a"."b", "c"."d" */
};

/* store.c: the file, and what we keep in it about flows. */
int dd_open(struct duckdb_dest *d, struct duct_error *err); /* the file is open; nothing when it was */
void dd_release(struct duckdb_dest *d);			    /* others may open the file */
/* With read_only: opens the file, and reads what is stored of the flow (checkpoint, tables) as it is now. Until dd_release() nobody changes it.
 * RETRY while another process has it. */
int dd_look(struct duckdb_dest *d, struct duct_error *err);
int dd_take_over(struct duckdb_dest *d, struct duct_error *err); /* the only owner of the flow; reads what is stored */
int dd_begin(struct duckdb_dest *d, struct duct_error *err);	 /* the transaction is open; nothing when it was */
/* Stores tables and state, and commits. FATAL when the flow has another owner. */
int dd_commit(struct duckdb_dest *d, enum duct_flow_state state, const struct duct_pos *pos, const char *source_identity,
	      struct duct_error *err);
void dd_rollback(struct duckdb_dest *d);
/* In a transaction of its own, after a group that was given up. */
int dd_store_copy_again(struct duckdb_dest *d, uint32_t oid, struct duct_error *err);

/* tables.c: tables of the database. */
struct dd_table *dd_table_find(struct duckdb_dest *d, uint32_t oid);
/* The table of the relation, brought to this version inside the transaction. */
int dd_table_get(struct duckdb_dest *d, struct duct_relation *rel, struct dd_table **ret, struct duct_error *err);
/* Whether the table must change for this version of the relation. */
bool dd_table_differs(const struct dd_table *t, const struct duct_relation *rel);
/* The same with no row in it, for a copy. */
int dd_table_create(struct duckdb_dest *d, struct duct_relation *rel, struct dd_table **ret, struct duct_error *err);
void dd_tables_free(struct duckdb_dest *d);
struct dd_table *dd_table_new(struct duckdb_dest *d, uint32_t oid);
void dd_table_add_column(struct dd_table *t, const char *name, const struct duct_type *type, int16_t attnum, bool key);
/* *ret: whether the database has such a table. */
int dd_exists(struct duckdb_dest *d, const char *schema, const char *name, bool *ret, struct duct_error *err);
/* `"schema"."name"`. */
void dd_name(struct duct_buf *to, const char *schema, const char *name);
/* The copied table cannot be followed, another copy can: RETRY, and remembered; FATAL when that leads nowhere. */
int dd_give_up(struct duckdb_dest *d, struct dd_table *t, const struct duct_relation *rel, struct duct_error *err, const char *fmt,
	       ...) DUCT_PRINTF(5, 6);

/* columns.c: brings the table's columns to those of the relation. */
int dd_follow_columns(struct duckdb_dest *d, struct dd_table *t, struct duct_relation *rel, struct duct_error *err);

/* group.c: the open group. */
int dd_group_write(struct duckdb_dest *d, struct duct_changes *changes, struct duct_error *err);
bool dd_group_is_full(const struct duckdb_dest *d);
int dd_group_apply(struct duckdb_dest *d, struct duct_error *err); /* all that is folded */
int dd_group_commit(struct duckdb_dest *d, struct duct_error *err);
void dd_group_reset(struct duckdb_dest *d); /* forget it */
int dd_truncate(struct duckdb_dest *d, struct dd_table *t, uint64_t lsn, struct duct_error *err);

/* apply.c: what is folded of a table goes into it. */
int dd_apply(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err);
/* Inserts all rows of a batch into a table of these columns ("schema"."name"). */
int dd_insert_batch(struct duckdb_dest *d, const struct dd_table *t, const char *into, const struct duct_batch *batch,
		    struct duct_error *err);

/* rows.c: rows out of memory for SQL. A cell is asked for by row and column. */
struct dd_rows {
	size_t n;
	int ncolumns;
	const char **names;
	const struct duct_type **types;
	struct duct_cell (*cell)(const void *arg, size_t row, int column);
	const void *arg;
};
void dd_rows_init(struct dd_rows *rows, int ncolumns); /* then names, types and the rest are set */
void dd_rows_done(struct dd_rows *rows);
/* Runs `before` duck_feed(N) `after`; how many rows it changed. */
int dd_rows_run(struct duckdb_dest *d, const struct dd_rows *rows, const char *before, const char *after, uint64_t *ret_changed,
		struct duct_error *err);
/* `f."name"`, cast to the column's type where a feed has another one (JSON). */
void dd_rows_column(struct duct_buf *to, const char *name, const struct duct_type *type);

/* meta.c: a row per key in the meta table. */
int dd_meta_prepare(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err);
int dd_meta_apply(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err);
int dd_meta_load(struct duckdb_dest *d, struct dd_table *t, const struct duct_batch *batch, struct duct_error *err);
int dd_meta_clear(struct duckdb_dest *d, const struct dd_table *t, uint64_t lsn, bool truncated, struct duct_error *err);

/* load.c: copies. See destination.h. */
int dd_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err);
int dd_loader_open(void *dest, struct duct_relation *rel, void **ret, struct duct_error *err);
int dd_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err);
int dd_loader_finish(void *loader, struct duct_error *err);
void dd_loader_close(void *loader);
int dd_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
		    struct duct_commit_result *ret, struct duct_error *err);
void dd_load_abort(void *dest);

/* staging.c: copies that land beside the tables. */
bool dd_stages(const struct duckdb_dest *d, const struct dd_table *t);
void dd_staging_name(struct duct_buf *to, const struct duckdb_dest *d, const struct dd_table *t); /* `"schema"."name"` */
int dd_staging_create(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err);
/* At the end of a copy, in its transaction: what was staged goes where batch_resolution says. */
int dd_staging_finish(struct duckdb_dest *d, struct duct_error *err);
/* What stayed in staging tables goes into the tables, in a transaction of its own. See destination.h. */
int dd_staging_resolve(void *dest, struct duct_error *err);

#endif
