#ifndef DUCKLAKE_H
#define DUCKLAKE_H

#include "destination/bind.h"
#include "destination/destination.h"
#include "destination/fold.h"
#include "destination/replay.h"
#include "destination/tablesink.h"
#include "lake/positions.h"
#include "duck/duck.h"
#include "lake/catalog.h"
#include "lake/index.h"
#include "lake/index_runs.h"
#include "lake/inline.h"
#include "lake/key.h"
#include "lake/parquet.h"
#include "lake/txn.h"

/*
 * The DuckLake destination, inside. A *mirror* is one source table and its lake table; the *group* is what was written
 * since the last commit: for every mirror the net effect per key (fold.h) and the files already written aside. One
 * commit of the group is one lake snapshot.
 */

struct ducklake_config {
	char *catalog, *metadata_schema, *data_path, *schema, *index_dir, *compression;
	bool create_catalog, create_indexes;
	int64_t flush_interval_ms, flush_rows, flush_bytes, busy_timeout_ms, delete_file_rows, compression_level;
	int64_t inline_rows, inline_flush_rows, inline_flush_bytes, inline_flush_age_ms;
	int no_key, foreign_changes, on_drift;
	struct tablesink_options sink;
};
extern const struct duct_opt ducklake_opts[];
enum { NO_KEY_APPEND, NO_KEY_REFUSE };
enum { FOREIGN_STOP, FOREIGN_SHARE };
enum { DRIFT_STOP, DRIFT_REPAIR };

/* How to look at the flow's lake without changing anything. ducklake.c */
struct lake_config ducklake_read_only(const struct ducklake_config *config, const char *flow);

/* How rows of a table are found again. */
enum mirror_mode {
	MIRROR_KEYED,  /* unique key, never NULL */
	MIRROR_BAG,    /* whole row, may repeat */
	MIRROR_APPEND, /* never: inserts and truncates only */
};

/* A live data file of the lake, as far as marking rows dead needs it. */
struct mirror_file {
	int64_t id; /* first: they are searched by it */
	int64_t record_count, dead_count;
	bool has_deletes; /* a delete file or marks exist */
	int64_t ndying;	  /* with the commit under way; which: */
	struct lake_positions dying;
	char *path;
	struct lake_file lake; /* as listed; path points to `path` */
};

/* Source column -> lake column, by the source's stable column number. */
struct mirror_column {
	int16_t attnum;
	int64_t column_id;
	char *name; /* at the source */
};

struct mirror {
	struct mirror *next; /* in the hash chain */
	uint32_t oid;
	struct duct_relation *rel; /* the newest version met */
	enum mirror_mode mode;
	bool copy_again;   /* has a column whose values in older rows only the source has */
	bool takes_staged; /* rows of the open group are staged ones, which take the place of rows of their keys */
	int recopies;	   /* how often it was copied again since a change of it was last taken over */
	bool incomplete;   /* never copied: rows may be missing in the lake without anything being wrong */
	bool gone;	   /* another source table has taken its name and its lake table */
	int64_t table_id;  /* -1: created by the open group */
	struct mirror_column *columns;
	size_t ncolumns, columns_cap;
	bool relation_changed; /* its row in ductstream_relation must be written with the next commit */

	struct lake_txn_table *t;   /* in the open transaction; NULL: not touched by it yet */
	bool in_group;		    /* member of ducklake.touched */
	bool truncated;		    /* the open group begins with a truncate */
	struct fold *fold;	    /* the open group's rows, of its last window */
	struct lake_index *settled; /* what its earlier windows did (settled.c); NULL: there was none */

	struct lake_index *index;  /* NULL until first needed; never for MIRROR_APPEND */
	struct mirror_file *files; /* by id; loaded with the index */
	size_t nfiles, files_cap;

	/* Rows inside the catalog, dead ones included: those of before the flow opened are known after resting_read(). */
	int64_t inlined_rows, inlined_bytes, inlined_since_us;
	int64_t small_files; /* live ones, as of the last flush */
	bool inlines;	     /* the open transaction inlines this table's rows */
	char *lacking;	     /* a column that some row of the open group was written without (FOLD_LACKING); malloc */

	/* Projections of relation versions onto the lake's columns as of the open transaction. */
	struct mirror_map {
		const struct duct_relation *rel;
		int *columns;
	} * maps;
	size_t nmaps, maps_cap;

	/* Lake column ids of the columns of relation versions: the newest, and those that open rows came with. */
	struct mirror_version {
		const struct duct_relation *rel;
		int64_t *column_ids;
	} * versions;
	size_t nversions, versions_cap;
};

enum { MIRROR_BUCKETS = 4096 };

/* States of a relation row; the first two may be followed by a space and mirror.recopies. */
#define MIRROR_COPY_AGAIN "copy again"
#define MIRROR_COPIED_AGAIN "copied again"
#define MIRROR_STREAMING "streaming"
#define MIRROR_INCOMPLETE "incomplete"
#define MIRROR_GONE "gone" /* the lake table belongs to another source table by now */
enum { MIRROR_STATE_LEN = 32 };

/* What gets a flow on when only a copy of the table helps: for schema and name. */
#define MIRROR_REMEDY "have it copied again: `ductstream lake copy-again FLOW %s.%s`"

/* A Parquet file that the open group has written. Its place in `ducklake.asides` is its ordinal in the transaction. */
struct aside {
	struct mirror *mirror;
	char *path;
	int64_t rows, size_bytes;
	bool explicit_row_ids;
	struct lake_positions dead;		 /* again inside the group */
	struct lake_positions borrowed, lacking; /* rows of a replay that are not FOLD_OWN (fold.h) */
};

struct ducklake {
	const struct ducklake_config *config;
	const struct duct_ctx *ctx;
	struct lake *lake;
	struct duck_db *db;
	struct duck_conn *conn;
	struct lake_points *points; /* unsent values are read back with it */
	struct lake_index_set *indexes;
	struct tablesink *sink; /* NULL: tables are as at the source */
	struct mirror *mirrors[MIRROR_BUCKETS], *resting[MIRROR_BUCKETS];
	bool inlined_read;    /* what the catalog held of inlined rows when the flow opened is known */
	uint32_t *known_oids; /* handed out by resume */

	/* The open group. */
	struct lake_txn *txn; /* NULL: none */
	bool sent;	      /* the catalog may know its files */
	struct mirror **touched;
	size_t ntouched, touched_cap;
	struct duct_changes **held; /* what pending rows point into */
	size_t nheld, held_cap;
	struct duct_batch **patched; /* rows completed with read-back values */
	size_t npatched, patched_cap;
	struct aside *asides;
	size_t nasides, asides_cap;
	struct duct_pos upto;
	bool has_upto, partial; /* partial: the last transaction is not complete */
	size_t pending_bytes, pending_rows;
	int64_t temporary_row_id; /* the last one that settled.c has given */
	bool was_full;		  /* the group that was sent last */
	bool last;		  /* the commit that is made now is the flow's last */
	uint64_t source_rows;
	int64_t opened_us, last_commit_us; /* monotonic; opened_us 0: empty */
	int64_t renewed_us;		   /* likewise: when files aside were last said to be wanted */
	int64_t flush_checked_us;
	bool flush_due;		   /* a table has too much inlined */
	struct flushing *flushing; /* under way, else NULL (flush.h) */

	const struct mirror *copy_again; /* the open group has found this one to be copied again */
	struct {
		uint32_t oid; /* 0: none */
		int recopies;
		char *why;	    /* malloc */
	} given_up;		    /* the open group cannot go on because of this table */
	struct ducklake_load *load; /* a copy under way, else NULL */
	bool apart; /* of no table does the copy change anything but what is staged of it; or the last one did, in this run */

	enum duct_replay replay;
	struct duct_buf refused; /* tables whose rows a replay has brought and must not add: "a"."b", "c"."d" */
};

/* columns.c */
/* Lake column ids of the relation's columns, -1 where it is new; malloc. Numbers (may be NULL) as in destination_bind. */
int64_t *mirror_column_ids(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int16_t **ret_attnums);
/* Plans what makes the lake's columns those of the relation; ids gets those of new ones. */
int mirror_follow_columns(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, int64_t *ids,
			  const int16_t *attnums, struct duct_error *err);
/* Takes a lake column into the correspondence. */
void mirror_add_column(struct mirror *m, const struct duct_column *c, int16_t attnum, int64_t column_id);

/* ddl.c: tells the hook of the flow, when there is one, what adapting the table to the relation changes. -class: it must not be done now. */
/* The name of its lake table, when this version gives it another one; else NULL. */
const char *mirror_other_name(struct ducklake *d, struct mirror *m, const struct duct_relation *rel);
int mirror_tell_changes(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err);
/* What it changes; duct_ddl_plan_done() when it is done with. */
struct duct_ddl_plan;
void mirror_plan_changes(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_ddl_plan *plan);

/* replay.c: changes that the lake has, once more. See destination.h. */
int ducklake_replay(void *dest, enum duct_replay how, struct duct_error *err);
/* CONFIG when the relation is not what the lake has by now. */
int mirror_check_replay(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err);

/* recopy.c: tables that are copied again. */
bool mirror_state_is(const char *state, const char *name, int *ret_recopies); /* ret_recopies may be NULL */
void mirror_state(const struct mirror *m, char to[MIRROR_STATE_LEN]);
void mirror_read_state(struct mirror *m, const char *state);
/* The stream cannot be followed for this table, a copy can: remembers it and fails with RETRY; or, when it was tried in
 * vain or cannot be, for good. The format says what happened to the table. */
int mirror_give_up(struct ducklake *d, const struct mirror *m, const struct duct_relation *rel, struct duct_error *err,
		   const char *fmt, ...) DUCT_PRINTF(5, 6);
/* After a failed write: forgets the group, has the table that it gave up (if any) copied again, and fails. */
int group_give_up(struct ducklake *d, struct duct_error *err);
/* FATAL: what lake and source say of the row with this key cannot both be. */
int mirror_drift(const struct duct_relation *rel, const char *key, const char *what, struct duct_error *err);
/* DATA: a row cannot be completed. */
int mirror_lacks_value(const struct duct_relation *rel, const char *column, struct duct_error *err);
/* FATAL when the note says that others changed rows that are not theirs to change. */
int ducklake_judge_note(const struct ducklake *d, const struct lake_change_note *note, struct duct_error *err);

/* mirror.c */
struct mirror *mirror_find(struct ducklake *d, uint32_t oid);
/* What the lake's owner has set for the table, its schema or the whole lake (a table that is being made: the lake). NULL: nothing. */
const char *mirror_option(const struct ducklake *d, const struct mirror *m, const char *key);
/* The mirror of the relation, brought to this version: plans creating or altering the lake table in the open
 * transaction. CONFIG/DATA when it cannot be mirrored (no key, retype that does not widen, ...). */
int mirror_get(struct ducklake *d, struct duct_relation *rel, struct mirror **ret, struct duct_error *err);
/* Whether this version of the relation finds its rows by another key than the mirror does now. */
bool mirror_changes_key(struct ducklake *d, struct mirror *m, const struct duct_relation *rel);
/* The table in the open transaction (begun when there is none); marks the mirror as touched. */
struct lake_txn_table *mirror_table(struct ducklake *d, struct mirror *m);
/* For each lake column (as of the open transaction) the column of rel, -1 when rel has none. Owned by the mirror. */
const int *mirror_map(struct mirror *m, const struct duct_relation *rel);
/* After a commit: ids of what was created. */
void mirror_committed(struct ducklake *d, struct mirror *m);
/* Writes the relation row into the open transaction when it changed. */
void mirror_store(struct ducklake *d, struct mirror *m);
void mirrors_free(struct ducklake *d);
void mirror_free(struct ducklake *d, struct mirror *m); /* one that is in no list */
size_t mirror_bucket(uint32_t oid);

/* locate.c: index and files of a mirror. */
/* Columns of the relation that its rows are hashed by. malloc. */
int *mirror_key_columns(const struct mirror *m, const struct duct_relation *rel, int *ret_n);
/* How rows with these columns are hashed for the index now; keys stay the caller's. */
struct lake_hasher mirror_hasher(const struct ducklake *d, const struct mirror *m, const int *keys, int nkeys);
/* Fills the index from what a copy gathered; closed afterwards. Failing is no harm: it is built when needed. */
void mirror_build_index(struct ducklake *d, struct mirror *m, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place,
			void *arg);
int mirror_load(struct ducklake *d, struct mirror *m, struct duct_error *err); /* index fresh or rebuilt; no-op when done */
/* The lake columns that rows are found by: the key, or all of a bag. malloc; NULL: err says why. */
const struct lake_column **mirror_lake_keys(struct mirror *m, int *ret_n, struct duct_error *err);
int mirror_unload(struct ducklake *d, struct mirror *m, bool invalidate, struct duct_error *err);
struct mirror_file *mirror_file(struct mirror *m, int64_t file_id); /* NULL when there is none */
void mirror_add_file(struct mirror *m, const struct lake_file *file, int64_t dead_count, bool has_deletes);
void mirror_drop_file(struct mirror *m, int64_t file_id);

/* group.c: the open group. As much as the options allow waits for its commit. */
bool group_is_full(const struct ducklake *d);
int group_write(struct ducklake *d, struct duct_changes *changes, struct duct_error *err);
struct lake_txn *group_txn(struct ducklake *d);
/* The open group begins with a truncate of the mirror's table. */
void group_truncate(struct ducklake *d, struct mirror *m);
void group_reset(struct ducklake *d); /* forget it; its files go when nothing of it was sent */

/* write.c: pending rows of a mirror become files aside; old rows are looked up. At the commit few rows are inlined. */
int mirror_write_aside(struct ducklake *d, struct mirror *m, bool commit, struct duct_error *err);
/* These pending rows, NULL: all. */
int mirror_write_slots(struct ducklake *d, struct mirror *m, const uint32_t *slots, size_t n, struct duct_error *err);
/* Registers a written file with the open transaction (takes it) and returns its ordinal. `into` NULL: the mirror's table. */
int aside_add(struct ducklake *d, struct mirror *m, struct lake_txn_table *into, struct lake_new_file *file);
/* Compression and so on for a file of this table. */
struct lake_write_spec ducklake_write_spec(struct ducklake *d, struct mirror *m, bool row_ids);

/* inline.c: small commits inside the catalog. */
/* Plans to inline the pending rows, when they are few enough; false: they go to files. */
bool mirror_inline(struct ducklake *d, struct mirror *m);
/* After the commit. *ret: where the nth new row is. False: not known, the index must be built anew. */
bool mirror_inlined_place(const struct mirror *m, uint32_t nth, struct lake_place *ret);
void mirror_count_inlined(struct ducklake *d, struct mirror *m);

/* staging.c: copies beside the tables. */
/* Whether copied rows of the relation go to a staging table; which is made, or emptied, in the open transaction. */
bool mirror_stages(const struct ducklake *d, const struct mirror *m, const struct duct_relation *rel, unsigned flags);
int mirror_staging_table(struct ducklake *d, const struct duct_relation *rel, struct lake_txn_table **ret, struct duct_error *err);
/* Staged rows of all tables that were met go into them, one commit for each table. `newer`: where a table has a row of the key, that stays. */
int ducklake_resolve(struct ducklake *d, bool newer, struct duct_error *err);
int ducklake_resolve_staging(void *dest, struct duct_error *err);

/* resting.c: mirrors without a relation (`rel` NULL), of tables that only have rows inside the catalog. */
int resting_read(struct ducklake *d, struct duct_error *err);  /* at the first call; sets the numbers of all mirrors */
struct mirror *resting_find(struct ducklake *d, uint32_t oid); /* NULL when there is none */
/* The mirror has been met: it takes over the numbers of the resting one of its table, which is freed. */
void resting_wake(struct ducklake *d, struct mirror *m);

/*
 * flush.c: what is due of them goes to files, which another thread writes; then there is a commit of it. Between groups: begins, does
 * nothing, or commits what has been written; with `wait`, what was begun is committed. Looks for old ones at most once a second.
 */
int ducklake_flush_inlined(struct ducklake *d, bool wait, struct duct_error *err);
void ducklake_flush_abort(struct ducklake *d); /* the one under way is forgotten */
/* By rows or bytes, not by age. */
bool mirror_inlines_too_much(const struct ducklake *d, const struct mirror *m);

/*
 * settled.c: large groups. A window that was written aside is settled: its net effect per key goes to a table on disk beside the
 * key index, its memory is free again. At the commit the effects come from there.
 */
int mirror_settle(struct ducklake *d, struct mirror *m, struct duct_error *err);
void mirror_unsettle(struct mirror *m);
/* What earlier windows left of a slot's key: place, or nth as it counts in the lake's rows. */
enum fold_prior settled_find(const struct mirror *m, const struct fold_slot *s, unsigned *ret_nth, struct lake_place *ret);

/* The net effect of the whole group on one key, once everything is written aside. */
struct effect {
	struct lake_key_hash hash;
	bool in_lake, live;	 /* it has a row in the lake before the group; it has one after it */
	struct lake_place place; /* in_lake: of the old row */
	int32_t aside;		 /* live: where the new one is */
	uint32_t aside_pos;
};
struct effects {
	struct mirror *m;
	uint64_t next;
};
bool effects_next(struct effects *e, struct effect *ret); /* begins with {m} */

/* commit.c */
int group_commit(struct ducklake *d, struct duct_commit_result *ret, struct duct_error *err);
/* Inlined rows are not where the index says. RETRY; when the lake has not moved, the next attempt builds the index anew. */
int ducklake_lost_inlined(struct ducklake *d, const struct mirror *m, struct duct_error *err);
/* The index names a file that is gone. RETRY; the next attempt builds the index anew. */
int ducklake_stale_index(struct ducklake *d, const struct mirror *m, int64_t file_id, struct duct_error *err);
/* The index has a hash that should not be there. RETRY when two keys may share it: the index is built anew with another seed.
 * 0: it was so with two seeds, the keys are the same. */
int ducklake_doubt(struct ducklake *d, const struct mirror *m, struct duct_error *err);
/* Sends the open transaction; on success the caller applies it to the indexes. */
int ducklake_send(struct ducklake *d, const struct lake_commit_info *info, struct lake_txn_result *ret, struct duct_error *err);

/* toast.c: fills the unsent values of pending rows. When these are many they are written aside in between, else they stay pending. In a replay
 * that is not at its end, one that is nowhere is left out: the row may be deleted before that. */
int mirror_fill_unsent(struct ducklake *d, struct mirror *m, bool commit, struct duct_error *err);
/* After the last window: DATA when a row that was written without a value is still there. */
int mirror_check_lacking(struct ducklake *d, const struct mirror *m, struct duct_error *err);

/* load.c: copies. */
int ducklake_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err);
int ducklake_loader_open(void *dest, struct duct_relation *rel, void **ret, struct duct_error *err);
int ducklake_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err);
int ducklake_loader_finish(void *loader, struct duct_error *err);
void ducklake_loader_close(void *loader);
int ducklake_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			  struct duct_commit_result *ret, struct duct_error *err);
void ducklake_load_abort(void *dest);

/* probe.c */
int ducklake_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		   void *arg, struct duct_error *err);

#endif
