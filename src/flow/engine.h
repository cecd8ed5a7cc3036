#ifndef FLOW_ENGINE_H
#define FLOW_ENGINE_H

#include "base/queue.h"
#include "base/retry.h"
#include "base/trace.h"
#include "flow/dead_rows.h"
#include "flow/flow.h"
#include "flow/progress.h"
#include "record/ddl.h"

#include <pthread.h>

/* What the files of the engine share; nobody outside src/flow includes it. */

/* What a duct_ctx shows to a connector. Unlike the user's, it can be cleared: before the clean-up calls of a connector
 * that was interrupted. */
struct flow_signal {
	atomic_bool set;
	int fd;
};
int flow_signal_init(struct flow_signal *signal, struct duct_error *err);
void flow_signal_done(struct flow_signal *signal);
void flow_signal_raise(struct flow_signal *signal);

/*
 * A destination of the run. Each has a position of its own, which it alone proves; its instance belongs to its applier thread while the flow
 * streams, and to the engine's otherwise.
 */
struct flow_member {
	struct flow_engine *e;
	const struct flow_destination *to;
	const struct duct_destination_ops *ops;
	void *dest;
	struct flow_signal *stop; /* interrupts the calls of dest */
	struct duct_ctx ctx;
	struct duct_ownership ownership;
	struct duct_ddl_hook ddl;
	struct duct_checkpoint from; /* what it said when it was opened */
	bool streaming;		     /* it is past its first copy */
	bool copying;		     /* it takes part in the copy under way */
	struct flow_position written, durable;
	bool apart;		    /* its positions are none of the engine's: it follows an outbox */
	struct flow_behind *behind; /* not NULL: it gets its changes through an outbox, and its positions here are the outbox's */
	bool given_up;		    /* it has no part in the run */
	struct duct_retry *retry;   /* that its progress ends the failures of */
	struct flow_destination_view *view;
	uint64_t has_lsn;      /* what it had when the stream began: the source may bring it again for the sake of others */
	atomic_bool replaying; /* it wants that once more, in one commit; its applier ends it */
};

/*
 * One flow_run. The supervisor (the caller's thread) sets stopping and aborting and raises the signals; everything below
 * `source` belongs to the attempt's thread.
 */
struct flow_engine {
	const struct flow_spec *spec;
	const struct flow_options *options;
	const struct duct_ctx *user;
	const struct duct_source_ops *src;
	struct flow_counters *counters;
	size_t queue_bytes;
	struct duct_trace trace; /* of the run; its threads work for it */

	struct flow_signal source_stop; /* interrupts the calls of the source */
	struct flow_signal *dest_stops; /* one per member */
	struct flow_signal wake;	/* for the supervisor: a new copy, or the end */
	struct duct_ctx source_ctx;
	atomic_bool stopping, aborting, finished;
	atomic_bool copy_due;			   /* the stream ends because the source has new tables */
	_Atomic(struct flow_copy_view *) new_copy; /* handed to the supervisor, which exchanges it for NULL */

	struct flow_dead_rows dead;
	void *source;
	struct flow_member *members; /* as many as the spec has destinations, in its order */
	size_t nmembers;
	uint32_t *known_oids; /* tables that all of them have; NULL: the first one's own list */
	uint64_t *cuts;	      /* positions of those that are ahead, and where a replay begins */
	size_t ncuts;
	pthread_mutex_t lock; /* of what appliers share: positions, retry, turns */
	pthread_cond_t turn_ended;
	size_t turns; /* destinations that may write at the same time and do not */
	struct duct_retry retry;
	int64_t give_up_ms, started_us;
	struct duct_pos head; /* of until_caught_up */
	bool have_head;
	bool caught_up; /* the head is durable */
	bool complete;	/* the run has nothing more to do: caught up, or only a copy was wanted */
	bool streamed;	/* the destination is past its first copy */
	bool no_ahead;	/* something was wrong with changes whose transaction had not committed: it is judged when it has */
	bool copy_begun;
	int rc;
	struct duct_error err;
};

void flow_engine_phase(struct flow_engine *e, enum flow_phase phase);
static inline bool flow_stopping(struct flow_engine *e)
{
	return atomic_load(&e->stopping);
}
static inline bool flow_aborting(struct flow_engine *e)
{
	return atomic_load(&e->aborting);
}

/* member.c: the destinations. Opens all and asks each what it has; *ret is what that means for the source: the least of the positions, the
 * tables that all of them have. NONE or COPYING only when that is so of all. */
int flow_members_open(struct flow_engine *e, struct duct_checkpoint *ret, struct duct_error *err) DUCT_CHECKED;
/* One of them: open and resume. */
int flow_member_open(struct flow_member *m, struct duct_error *err) DUCT_CHECKED;
/*
 * The source may have no more what some of them lack: those with outboxes (which are gone, or older than it remembers) that are further back
 * than another member count as if they had nothing, so they get a new copy. True when there are such; *ret is made anew.
 */
bool flow_members_renew(struct flow_engine *e, struct duct_checkpoint *ret, const struct duct_error *why);
void flow_members_close(struct flow_engine *e);
/* All that have a part in the run. */
bool flow_members_all_stream(const struct flow_engine *e);
/* What was read has reached this member, or is durable there. The engine's positions are the least of them all; the durable one is what the
 * source may tell its server. */
void flow_member_written(struct flow_member *m, const struct duct_pos *pos);
void flow_member_durable(struct flow_member *m, const struct duct_pos *pos);
/* Whether its work is what progress counts: the primary's, or the first one's. */
bool flow_member_counts(const struct flow_member *m);
/* With fewer turns than destinations: waits for one. */
void flow_member_take_turn(struct flow_member *m);
void flow_member_end_turn(struct flow_member *m);

/* replay.c. After the members were opened: what options->replay means for them, and for the source. Nothing when it is done. */
int flow_replay_begin(struct flow_engine *e, struct duct_checkpoint *from, struct duct_error *err) DUCT_CHECKED;
bool flow_replaying(struct flow_engine *e);
/* The member has it, durably. */
int flow_replay_end(struct flow_member *m, struct duct_error *err) DUCT_CHECKED;
/* What the source may tell its server: the durable position, but while a replay is under way, where that begins. */
struct duct_pos flow_confirmed(struct flow_engine *e);

/* Ends an interruption so that clean-up calls work; an abort stays. Of all, or of one destination. */
void flow_engine_calm(struct flow_engine *e);
void flow_member_calm(struct flow_member *m);

bool flow_engine_reached_head(struct flow_engine *e, uint64_t lsn);

/*
 * Copies the tables of snap into the members that are `copying` and publishes them; snapshot_done is called in every case. first: the copy
 * sets their position. copy.c
 */
int flow_copy(struct flow_engine *e, struct duct_snapshot *snap, bool first, struct duct_error *err) DUCT_CHECKED;

/* Applies what the queue brings until it is closed, everything up to the head is durable, or a failure. No group is open afterwards.
 * applier.c */
enum flow_applied {
	FLOW_APPLIED,	   /* everything is committed */
	FLOW_APPLIED_TORN, /* everything but a transaction whose end did not come */
	FLOW_APPLIED_CAUGHT_UP,
};
/*
 * behind.c: a secondary destination. What comes for it is synced into its outbox, which is what the source may forget; a follower brings it from
 * there to the destination at its own pace, and tries again by itself while that is away.
 */
/* Instead of flow_member_open(). One that is not to be behind is so only while something is left in its outbox. */
int flow_behind_open(struct flow_member *m, bool wanted, struct duct_error *err) DUCT_CHECKED;
bool flow_behind_left(const struct flow_member *m); /* whether it has an outbox, or was given up */
void flow_behind_close(struct flow_member *m);
/* Whose changes its outbox keeps. */
const char *flow_behind_identity(const struct flow_member *m);
/* It counts as if it had nothing; its outbox goes with the copy. False when it is away. */
bool flow_behind_renew(struct flow_member *m);
/* After its first copy: the outbox begins at pos. */
int flow_behind_begin(struct flow_member *m, const struct duct_pos *pos, const char *identity, struct duct_error *err) DUCT_CHECKED;
/* Whether the destination has all that its outbox keeps: a copy of tables must not come before the changes that it contains. */
bool flow_behind_drained(const struct flow_member *m);
/* What flow_apply() is for the others. When the stream ends for a copy (copy_due) the destination gets what its outbox keeps first. */
int flow_behind_apply(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err) DUCT_CHECKED;
int flow_apply(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err) DUCT_CHECKED;

/*
 * Streams until the end: 0 when stopped or caught up, 1 when the source has new tables to copy (everything read is
 * committed), -class otherwise. No group is open afterwards. stream.c
 */
int flow_stream(struct flow_engine *e, struct duct_error *err) DUCT_CHECKED;

#endif
