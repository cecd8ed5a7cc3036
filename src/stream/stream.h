#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include "base/arena.h"
#include "pg/session.h"

/*
 * The consumer side of streams inside a Postgres (destination pgstream): groups, pulls under a visibility timeout, acknowledgements,
 * replay, dead letters, lag. The rules are SQL functions (sql/stream), so every consumer on any machine has the same ones; here they are
 * called and their answers read. docs/pgstream.md says what they promise.
 *
 * Threads: one session at a time in one thread. All time is the server's clock. A session in a transaction is not accepted.
 * Errors: besides those of pg/session.h CONFIG with sqlstate STREAM_NONE or STREAM_NO_GROUP.
 */
#define STREAM_NONE "DS001"	/* there is no stream of that name (or the server has no streams at all) */
#define STREAM_NO_GROUP "DS002" /* nobody has pulled in that group yet */

enum {
	STREAM_MAX_MESSAGES = 10000, /* of one pull */
	STREAM_DEFAULT_MESSAGES = 100,
	STREAM_MAX_VISIBLE_S = 43200,
	STREAM_DEFAULT_VISIBLE_S = 30,
	STREAM_MAX_BYTES = 64 << 20, /* of payload in one pull */
	STREAM_MAX_NAME = 200,	     /* bytes in the name of a stream or group */
};

/* What a session of a consumer needs beside the DSN: pg_session_options.settings. */
#define STREAM_SESSION_SETTINGS "-c default_transaction_isolation=read\\ committed -c jit=off"

/*
 * Brings the tables and functions (schema ductstream) to this program's version; programs that start together take turns. Without
 * `create` a server that has none is CONFIG STREAM_NONE. CONFIG when they are of a newer program.
 */
int stream_schema_ensure(struct pg_session *pg, bool create, struct duct_error *err) DUCT_CHECKED;

/* --- messages --- */

struct stream_message {
	int64_t id; /* in its stream, dense, from 1, in commit order */
	uint64_t lsn;
	int64_t created_us;	    /* when it was appended */
	int attempts;		    /* how often it was handed out, with this time */
	const char *operation;	    /* insert, update, delete, load, ddl */
	const char *schema, *table; /* of the source */
	const char *wire_format;
	const void *payload;
	size_t payload_bytes;
	const char *registry_subject, *registry_id; /* "" when none */
	int registry_version;
};

struct stream_pull {
	const char *stream, *group, *consumer; /* the group is made by its first pull; consumer: for people, may be NULL */
	int max_messages, visible_s;	       /* 1 .. the limits above */
	int64_t max_bytes;		       /* of payload together; one message is given in any case */
};

#define STREAM_CLAIM_LEN 37
struct stream_pulled {
	struct stream_message *messages; /* by id; they live in the arena */
	size_t n;
	char claim[STREAM_CLAIM_LEN]; /* of all of them; "" when there are none */
	int64_t visible_until_us;
	int64_t next_visible_us; /* when there are none: how long until something comes back by the clock; INT64_MAX: nothing is out */
};

/*
 * Hands out what came back first (time-out, nack, replay), then what is new. Until visible_until_us, or until they are settled, no other
 * pull of the group gets these messages. An interruption after they were handed out gives them back as if they had not been.
 */
int stream_pull(struct pg_session *pg, const struct stream_pull *ask, struct duct_arena *arena, struct stream_pulled *ret,
		struct duct_error *err) DUCT_CHECKED;

/*
 * Which messages of a group: by ids, by the claim of a pull, or those ids of that claim. Only what a live claim of the group has counts.
 */
struct stream_which {
	const char *stream, *group;
	const char *claim;  /* NULL or "": of whoever has them */
	const int64_t *ids; /* any order; n 0: all of the claim */
	size_t n;
};

/* They are done. */
int stream_ack(struct pg_session *pg, const struct stream_which *which, int64_t *ret_acked, struct duct_error *err) DUCT_CHECKED;
/* They come back after delay_s; those handed out as often as the group allows become dead letters (*ret_dead of them). reason may be NULL. */
int stream_nack(struct pg_session *pg, const struct stream_which *which, double delay_s, const char *reason, int64_t *ret_nacked,
		int64_t *ret_dead, struct duct_error *err) DUCT_CHECKED;
/* They are held for visible_s from now. */
int stream_extend(struct pg_session *pg, const struct stream_which *which, double visible_s, int64_t *ret_extended,
		  int64_t *ret_visible_until_us, struct duct_error *err) DUCT_CHECKED;
/* As if they had never been handed out: neither time nor an attempt is lost. */
int stream_release(struct pg_session *pg, const struct stream_which *which, int64_t *ret_released,
		   struct duct_error *err) DUCT_CHECKED;

/* Settled messages whose LSN is from_lsn or later (0: any) and that were appended at since_us or later (INT64_MIN: any) become available to
 * the group again. What somebody holds stays with them and is not counted. */
int stream_replay(struct pg_session *pg, const char *stream, const char *group, uint64_t from_lsn, int64_t since_us,
		  int64_t *ret_reset, struct duct_error *err) DUCT_CHECKED;

/* --- groups --- */

struct stream_group {
	const char *name;
	int64_t next_id; /* the first that was never handed out */
	bool ordered;
	int max_attempts; /* 0: no limit */
	int64_t created_us, used_us;
	int64_t lag_messages, lag_bytes; /* not settled: held, waiting or never handed out */
	double lag_s;			 /* age of the oldest of them */
	int64_t in_flight, waiting;	 /* held by somebody; to be handed out again */
	int64_t dead_letters;
};
/* All groups of the stream by name, or one (STREAM_NO_GROUP when it is not there). In the arena. */
int stream_groups(struct pg_session *pg, const char *stream, const char *group, struct duct_arena *arena, struct stream_group **ret,
		  size_t *ret_n, struct duct_error *err) DUCT_CHECKED;

struct stream_group_change {
	int ordered;	  /* -1: as it is */
	int max_attempts; /* -1: as it is; 0: no limit */
	bool at_end;	  /* a group that is made now begins with what comes from now on */
};
/* Makes the group when it is not there. */
int stream_configure_group(struct pg_session *pg, const char *stream, const char *group, const struct stream_group_change *change,
			   struct duct_error *err) DUCT_CHECKED;
int stream_delete_group(struct pg_session *pg, const char *stream, const char *group, struct duct_error *err) DUCT_CHECKED;

struct stream_info {
	int64_t first_id, last_id; /* what is there: last_id - first_id + 1 messages */
	int64_t bytes;		   /* of their payload */
	int64_t created_us;
	bool ordered; /* what new groups begin with */
	int max_attempts;
};
int stream_describe(struct pg_session *pg, const char *stream, struct stream_info *ret, struct duct_error *err) DUCT_CHECKED;

struct stream_dead_letter {
	struct stream_message message;
	int64_t dead_us;
	const char *reason;
};
/* By id, those after `after`; at most `most`, of at most `most_bytes` payload together: one that is larger by itself comes without it. */
struct stream_dead_page {
	const char *stream, *group;
	int64_t after, most_bytes;
	int most;
};
/* In the arena. *ret_more: there may be more behind them. */
int stream_dead_letters(struct pg_session *pg, const struct stream_dead_page *page, struct duct_arena *arena,
			struct stream_dead_letter **ret, size_t *ret_n, bool *ret_more, struct duct_error *err) DUCT_CHECKED;
/* Back to the group with their attempts counted anew (again), or dropped. n 0: all. */
int stream_redrive(struct pg_session *pg, const char *stream, const char *group, const int64_t *ids, size_t n, bool again,
		   int64_t *ret_n, struct duct_error *err) DUCT_CHECKED;

/* --- ingest: for who writes the stream on behalf of a flow elsewhere --- */

/* One part of a batch; the last one makes the batch count, with its position, in one transaction. */
struct stream_ingest {
	const char *flow, *stream; /* the stream is made when it is not there */
	int64_t epoch;		   /* 0: the sender took nothing over */
	int64_t batch;		   /* number of the batch; 0: not numbered, the position tells them apart, and it has one part */
	int part;		   /* from 1 */
	bool last;
	uint64_t lsn; /* of the checkpoint; of a last part only */
	int64_t timestamp_ms;
	const char *metadata; /* of the checkpoint, JSON */
	uint64_t row_lsn;     /* of the payload's last record; 0: where the batch ends */
	bool copied;	      /* the records are of a copy and have no LSN */
	const char *operation, *schema, *table, *format;
	const void *payload;
	size_t payload_bytes;
};
enum stream_ingested {
	STREAM_INGEST_TAKEN,
	STREAM_INGEST_REPEATED, /* it was here already */
	STREAM_INGEST_FENCED,	/* somebody else sends */
	STREAM_INGEST_GAP,	/* something before it is missing */
	STREAM_INGEST_BEHIND,	/* its position lies below what is here */
};
/* How far a flow elsewhere is in the stream. */
struct stream_ingest_position {
	int64_t epoch, batch;
	int parts;
	uint64_t lsn;
	int64_t timestamp_ms;
	const char *metadata; /* JSON; NULL: nothing was taken yet */
	int stream_id;
};
/* ret has no metadata. */
int stream_ingest_take(struct pg_session *pg, const struct stream_ingest *part, enum stream_ingested *ret_outcome,
		       struct stream_ingest_position *ret, struct duct_error *err) DUCT_CHECKED;
/* 1, or 0: there is none, and *ret is zeroed. In the arena. */
int stream_ingest_look(struct pg_session *pg, const char *flow, const char *stream, struct duct_arena *arena,
		       struct stream_ingest_position *ret, struct duct_error *err) DUCT_CHECKED;
/* The caller becomes the only sender, under a new epoch; with `epoch` only while that one is the stream's, and it stays (0: somebody else has
 * taken over, ret says what is there). Parts without the end of their batch are forgotten. 1 or 0. */
int stream_ingest_take_over(struct pg_session *pg, const char *flow, const char *stream, int64_t epoch, struct duct_arena *arena,
			    struct stream_ingest_position *ret, struct duct_error *err) DUCT_CHECKED;
/* How long streams that no flow here writes keep what came in; 0: for ever. */
int stream_ingest_keep(struct pg_session *pg, int stream_id, int64_t age_ms, int64_t bytes, struct duct_error *err) DUCT_CHECKED;

/* --- retention: for who writes the stream --- */

/* Lets go what age, size and groups allow, then deletes up to `most` of what was let go; *ret_left says that there is more of it. */
int stream_retain(struct pg_session *pg, int stream_id, int most, bool *ret_left, struct duct_error *err) DUCT_CHECKED;

#endif
