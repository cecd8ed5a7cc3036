#ifndef DUCT_SOURCE_POSTGRES_H
#define DUCT_SOURCE_POSTGRES_H

#include "pg/publication.h"
#include "pg/server.h"
#include "pg/session.h"
#include "source/postgres/config.h"
#include "source/postgres/dead_letter.h"
#include "source/postgres/group.h"
#include "source/postgres/identity.h"
#include "source/postgres/spool.h"
#include "source/source.h"

/*
 * The Postgres source. Everything here runs on the flow's reader thread, except part readers (copy_part.c), which use
 * the immutable plan of a copy and connections of their own.
 */

/* Why and for whom a copy is made. */
enum postgres_copy_kind { POSTGRES_COPY_NONE, POSTGRES_COPY_FIRST, POSTGRES_COPY_ADDED, POSTGRES_COPY_JOIN };

/* Tables that are to be copied again. */
struct postgres_backfill {
	struct postgres_backfill_table {
		uint32_t oid;
		char *name; /* schema.name */
	} * tables;
	size_t n, next;		    /* those before `next` have been taken into a copy */
	bool kept;		    /* what is done is written down: tables are published one after the other */
	struct json_t *rows;	    /* what is written down of this flow: a row per table */
	struct pg_session *session; /* where */
};

struct postgres_source {
	const struct postgres_config *config;
	const struct duct_ctx *ctx;
	char flow_id[128];
	struct pg_session *sql;	 /* catalog and bookkeeping */
	struct pg_session *repl; /* the stream; before it starts, commands about the slot */
	struct pg_server server;
	struct postgres_identity identity;
	struct pg_catalog *catalog;
	enum postgres_copy_kind copy_wanted;
	struct postgres_backfill backfill;
	bool slot_made;	    /* by this instance */
	bool state_ready;   /* the state table can be written */
	bool members_dirty; /* memberships are not written there yet */

	/* The stream. */
	bool started;
	bool no_binary;		  /* a type cannot be sent in binary form */
	bool restart;		  /* begin the stream again at once: what was not handed over comes again */
	bool renew;		  /* the same, as soon as everything was handed over and no transaction is half here */
	struct pg_tables *primed; /* the published tables when the stream began */
	uint64_t primed_lsn;	  /* what was committed before is in them, */
	uint32_t primed_xid;	  /* of the transactions before this one */
	uint32_t visible_xid;	  /* the catalog was seen to show this transaction, */
	uint32_t unseen_xid;	  /* and cannot be waited for until it shows this one */
	struct pgout decoder;
	struct postgres_group group;
	struct postgres_spool *spool;
	uint32_t stream_xid;  /* of the block we are in */
	uint64_t start_lsn;   /* where streaming begins: everything up to it is durable in the destination */
	uint64_t received;    /* end of WAL the server told of */
	struct duct_pos idle; /* last keep-alive outside a transaction */
	uint64_t handed;      /* position of the last changes handed over */
	uint64_t wanted;      /* head() was asked: positions up to it are handed over at once */
	struct duct_pos durable;
	size_t part_bytes; /* larger transactions are handed over in parts */
	char *held;	   /* a frame that begins the next part; libpq's memory */
	int held_len;
	struct postgres_replay replay;
	struct pgout replay_decoder;
	bool replaying;
	struct {
		uint32_t xid;
		uint64_t commit_lsn, end_lsn;
		int64_t commit_us;
	} replay_commit;
	bool replay_held; /* a row was taken back: it begins the next part */
	struct postgres_ahead {
		uint32_t xid;	     /* the transaction of which changes are handed over before it has committed; 0: none */
		int64_t seen_us;     /* when the last message of it came */
		int64_t ordinary_us; /* when the last transaction came that was not streamed */
		uint32_t lost;	     /* the last one that was withdrawn: the server may send it once more */
		bool withdrawn;	     /* it is to be told that what was handed over does not count */
		struct postgres_beside {
			uint32_t xid; /* an ordinary transaction that has begun and brought nothing that counts; 0: none */
			uint64_t final_lsn;
			int64_t commit_us;
		} beside;
		struct {
			uint32_t oid;
			bool made; /* the relation was made for this transaction */
		} * tables;
		size_t ntables, tables_cap;
	} ahead;

	uint64_t asked;	     /* the server asked when less than this was durable: it is told once it is (its shutdown waits) */
	int64_t feedback_us; /* when the server was last told */
	int64_t feedback_every_us;
	int64_t polled_us; /* when the publication's tables were last compared */
	int64_t idle_handed_us;
	int64_t state_us;
	uint64_t state_lsn; /* in the state table */
	uint64_t row_lsn;   /* position of the last changes with rows */
};

static inline uint64_t postgres_later(uint64_t a, uint64_t b) /* of two positions */
{
	return a > b ? a : b;
}

/* The spool's share of max_memory; of a transaction that is ahead, which will hardly be read again. */
enum { POSTGRES_SPOOL_SHARE = 8, POSTGRES_SPOOL_SHARE_AHEAD = 64 };

/* --- ahead.c: a streamed transaction is handed over before it has committed --- */

bool postgres_is_ahead(const struct postgres_source *src, uint32_t xid);
/* Its first block begins: from now on it is ahead, if anything speaks for that. */
void postgres_ahead_begin(struct postgres_source *src, uint32_t xid);
/* R, Y, I, U, D or T of it; raw is an R without its kind and xid. What has to wait for the commit ends the ahead, and is no error. */
int postgres_ahead_message(struct postgres_source *src, const struct pgout_message *m, const char *raw, size_t raw_len,
			   struct duct_error *err) DUCT_CHECKED;
/* A stream abort, of whatever transaction: the spool is told, too. */
void postgres_ahead_abort(struct postgres_source *src, const struct pgout_message *m);
/* It has committed. 1: it does not stand as it was handed over, and is to be replayed from the spool. */
int postgres_ahead_commit(struct postgres_source *src, const struct pgout_message *m, struct duct_error *err) DUCT_CHECKED;
/* B, C and what is between them, while one is ahead: true when it is nothing to it, as in transactions that only write what is ours. */
bool postgres_ahead_passes(struct postgres_source *src, const struct pgout_message *m);
/* Ends it, if there is one: what was handed over does not count, the spool still has all of it. */
void postgres_ahead_withdraw(struct postgres_source *src, const char *why);
/* Nothing more is there to be read: ends it when it has been quiet for long; waited_for: somebody else waits for its end. */
void postgres_ahead_look(struct postgres_source *src, int64_t now_us, bool waited_for);
/* What tells the flow of a withdrawal, before anything else is handed over; NULL: there was none. */
struct duct_changes *postgres_ahead_withdrawn(struct postgres_source *src);

/* --- apply.c, for it --- */

/* The relation of an R when the catalog has just these columns by now, whoever changed it; *ret is NULL when it has not. */
int postgres_committed_relation(struct postgres_source *src, const struct pgout_relation *m, struct pg_relation **ret,
				struct duct_error *err) DUCT_CHECKED;
/* Whether the R is the one that the table's relation was made of. */
bool postgres_is_raw(const struct postgres_table *t, const char *raw, size_t raw_len);
/* Once others see the transaction of the open group: whether the table has had no other columns dropped than the relation knows of. */
int postgres_relation_stands(struct postgres_source *src, const struct duct_relation *rel, bool *ret,
			     struct duct_error *err) DUCT_CHECKED;

/* --- visible.c: before the catalog is asked about what a transaction did --- */

int postgres_oldest_running(struct postgres_source *src, uint32_t *ret_xid, struct duct_error *err);
/* Waits until other sessions see the transaction of the open group. RETRY after ten seconds; 1: they may not before we confirm it. */
int postgres_await_visible(struct postgres_source *src, struct duct_error *err);

/* --- setup.c: what must exist before the slot --- */
int postgres_validate(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;
/* CONFIG when it leaves out inserts, updates, deletes or truncates. */
int postgres_all_changes_published(struct postgres_source *src, const struct pg_publication *pub,
				   struct duct_error *err) DUCT_CHECKED;
/* first: before anything is copied; later postgres_poll_publication looks at what kinds of changes are published. */
int postgres_setup_publication(struct postgres_source *src, bool first, struct duct_error *err) DUCT_CHECKED;
int postgres_setup_state(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;

/* The row about us in the state table. */
struct postgres_state_row {
	bool exists;
	char slot[64];
	uint64_t slot_lsn; /* consistent point of the slot when we made it, 0: unknown */
	uint64_t last_lsn; /* what we last confirmed, as far as written down */
};
int postgres_state_read(struct postgres_source *src, struct postgres_state_row *ret, struct duct_error *err) DUCT_CHECKED;
/* Best effort: the row is for people and for clearer sentences. slot_lsn, last_lsn 0: keep. */
void postgres_state_write(struct postgres_source *src, const char *state, uint64_t slot_lsn, uint64_t last_lsn);

/* Published tables (oids), without our state table. Caller frees. */
/* Whether its publication, when we create it, is FOR ALL TABLES; else which tables publication_tables and publication_schemas name. */
bool postgres_wants_all(const struct postgres_config *config);
int postgres_wanted_tables(const struct postgres_config *config, struct pg_session *sql, struct pg_choices *ret,
			   struct duct_error *err) DUCT_CHECKED;
int postgres_published_oids(struct postgres_source *src, uint32_t **ret, size_t *ret_n, struct duct_error *err) DUCT_CHECKED;

/*
 * Compares the publication with the tables that the destination has. A table that it does not have becomes one to be
 * copied; so does one that left the publication and came back, because changes in between were not sent. What tells is
 * the oid of its membership, which is a new one then (tables that are in it as part of a schema or of all tables have
 * none: they must be seen to be away). Memberships are kept in the state table, for the next start. While it leaves out some
 * kinds of changes all tables count as away, and the answer is CONFIG.
 */
int postgres_poll_publication(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;
/* Says once that a table has no column that is published. It is copied when it has one, as one that was added. */
void postgres_leave_out(struct postgres_source *src, uint32_t oid, const char *schema, const char *name);
/* At the start: reads what was kept. */
int postgres_members_read(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;

/* --- slot.c --- */
enum postgres_export { POSTGRES_NO_SNAPSHOT, POSTGRES_EXPORT_SNAPSHOT };
struct postgres_new_slot {
	uint64_t lsn;
	char snapshot[64];
};
/* Makes a slot on a replication session; answers the server of the running stream meanwhile. RETRY with the blockers
 * when lock_timeout passes. */
int postgres_slot_create(struct postgres_source *src, struct pg_session *session, const char *name, bool temporary,
			 enum postgres_export snapshot, struct postgres_new_slot *ret, struct duct_error *err) DUCT_CHECKED;
int postgres_slot_drop(struct postgres_source *src, const char *name, struct duct_error *err) DUCT_CHECKED;
/* Wrong plugin or database, lost, in use by another process. */
int postgres_slot_usable(struct postgres_source *src, const struct pg_slot *slot, struct duct_error *err) DUCT_CHECKED;
int postgres_open_session(struct postgres_source *src, bool replication, struct pg_session **ret,
			  struct duct_error *err) DUCT_CHECKED;

/* --- copy.c, copy_part.c --- */
int postgres_snapshot(void *source, struct duct_snapshot **ret, struct duct_error *err);
int postgres_step_begin(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err);
int postgres_step_done(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err);
/* Takes the next tables of a backfill into the copy that is about to begin. 1: there is no room for their fences. */
int postgres_backfill_next(struct postgres_source *src);

/* --- snapshot_state.c --- */
/* Reads what was written down. When one of the tables is in the middle of being copied, that backfill goes on, and those that are done leave the
 * list; else this is a new one. */
int postgres_snapshot_state_begin(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;
/* These tables of the snapshot are being copied, or done. */
int postgres_snapshot_state_set(struct postgres_source *src, const struct duct_snapshot *snap, size_t from, size_t to, bool done,
				struct duct_error *err) DUCT_CHECKED;
void postgres_backfill_done(struct postgres_backfill *b);
/* Goes back to where a replay is to begin; CONFIG with both positions when the slot has let go of it. */
int postgres_go_back(struct postgres_source *src, const struct pg_slot *slot, uint64_t lsn, struct duct_error *err) DUCT_CHECKED;
int postgres_copy_again(void *source, const char *const *tables, const char *const *schemas, struct duct_error *err);
int postgres_snapshot_all(void *source, struct duct_snapshot **ret, struct duct_error *err);
int postgres_snapshot_done(void *source, struct duct_snapshot *snap, bool published, struct duct_error *err);
int postgres_part_open(void *source, struct duct_snapshot *snap, struct duct_snapshot_part *part, void **ret_reader,
		       struct duct_error *err);
int postgres_part_read(void *reader, struct duct_batch **ret, struct duct_error *err);
void postgres_part_close(void *reader);

/* --- stream.c --- */
int postgres_stream_start(struct postgres_source *src, uint64_t lsn, struct duct_error *err) DUCT_CHECKED;
/*
 * Waits read_pause_us, so that the server can put more into the socket before it is read; with `wait` first until there is anything,
 * timeout_ms at most. A reader that only sleeps is woken by a timer where it ran; one that polls is woken by the server's process, and
 * Linux then puts it behind that process, on the same core. So who reads pauses, and polls only when that has brought nothing.
 * CANCELLED when told to stop.
 */
int postgres_pause(const struct postgres_source *src, struct pg_session *session, bool wait, int timeout_ms,
		   struct duct_error *err) DUCT_CHECKED;
int postgres_read(void *source, const struct duct_pos *durable, struct duct_changes **ret, int timeout_ms, struct duct_error *err);
int postgres_tick(void *source, const struct duct_pos *durable, struct duct_error *err);
/* Tells the server; `ask` wants its position back at once. */
int postgres_feedback(struct postgres_source *src, bool ask, struct duct_error *err) DUCT_CHECKED;
void postgres_stream_stop(struct postgres_source *src);

/* --- apply.c: messages --- */
/* Opens a transaction in the group. */
void postgres_begin(struct postgres_source *src, uint32_t xid, uint64_t commit_lsn, int64_t commit_us);
/* One message of the stream outside replay. */
int postgres_apply(struct postgres_source *src, const char *data, size_t len, struct duct_error *err) DUCT_CHECKED;
/* Goes on with the replay of a committed streamed transaction until it ends or a part is full. */
int postgres_replay_some(struct postgres_source *src, struct duct_error *err) DUCT_CHECKED;

/* --- probe.c --- */
/* Where large transactions that are still open are kept. */
const char *postgres_spool_dir(const struct postgres_config *config);
/* Says of that folder how much it may hold and has room for. False: it cannot be written. */
bool postgres_describe_spool(const struct postgres_config *config, char *to, size_t size, uint64_t *ret_free);
int postgres_probe(const void *config, const struct duct_ctx *ctx, struct duct_relations *tables, duct_report_fn *report, void *arg,
		   struct duct_error *err);

#endif
