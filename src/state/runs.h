#ifndef STATE_RUNS_H
#define STATE_RUNS_H

#include "state/state.h"

/*
 * Durable runs: a queue, its history, and who works on what. A run is claimed by one worker at a time, under a fencing number that grows
 * with every claim of any run; a worker that lost its claim (no heartbeat for the lease) can finish nothing any more.
 * Time is the store's own (Postgres: of the server), not the callers'. Threads: any.
 */
enum state_run_state { /* numbers of ductstream.v1.RunState */
		       STATE_RUN_QUEUED = 1,
		       STATE_RUN_RUNNING,
		       STATE_RUN_SUCCEEDED,
		       STATE_RUN_FAILED,
		       STATE_RUN_CANCELLED,
		       STATE_RUN_SKIPPED,
};
const char *state_run_state_name(enum state_run_state state); /* "queued" */

struct state_progress {
	int64_t done, total;
	const char *unit, *step;
};

struct state_run {
	const char *id, *kind, *key, *queue, *parent_id, *flow_id, *schedule;
	const char *partition;	    /* the partition (kind, partition) follows this run; NULL: none */
	const char *input, *tags;   /* JSON objects */
	const char *result, *error; /* JSON, text; NULL: none yet */
	const char *checkpoint;	    /* JSON that an earlier attempt left for the next one, NULL: none */
	const char *worker, *concurrency_key;
	int64_t concurrency_limit;
	enum state_run_state state;
	int64_t attempt, max_attempts;
	int64_t fence;
	bool cancel_requested;
	struct state_progress progress;
	int64_t created_us, due_us, started_us, heartbeat_us, finished_us; /* 0: not yet */
	int64_t revision, log_seq;					   /* grow with what a watcher is told */
};

/* 1: *ret (arena) is the new run. 0: it is one that was there already, with that id, or with that key queued or running.
 * Of *run count id (NULL: a new one), kind, key, queue (NULL: "default"), parent_id, flow_id, schedule, partition, input, tags,
 * concurrency_*, max_attempts (0: 3) and due_us (0: at once); empty texts are none. actor NULL: not audited (schedules). */
int state_run_submit(struct state *state, struct duct_arena *arena, const struct state_run *run, const struct state_actor *actor,
		     struct state_run *ret, struct duct_error *err) DUCT_CHECKED;
int state_run_get(struct state *state, struct duct_arena *arena, const char *id, struct state_run *ret,
		  struct duct_error *err) DUCT_CHECKED; /* 1, or 0: there is none */

struct state_run_filter {
	const char *parent_id, *key, *flow_id, *kind, *queue, *schedule; /* NULL: any */
	enum state_run_state state;					 /* 0: any */
	int64_t before_us;						 /* newest first: those made before, */
	const char *before_id; /* or at that moment with a smaller id; 0, NULL: from the newest */
};
/* Newest first; returns how many, at most `most`. */
int state_run_list(struct state *state, struct duct_arena *arena, const struct state_run_filter *filter, int most,
		   struct state_run *ret, struct duct_error *err) DUCT_CHECKED;
/* How many there are per state: counts[0 .. STATE_RUN_SKIPPED]. */
int state_run_counts(struct state *state, int64_t counts[STATE_RUN_SKIPPED + 1], struct duct_error *err) DUCT_CHECKED;

/* A queued run and its queued children are cancelled at once, those that run are asked to end. 1; 0: not there; 2: it is over. */
int state_run_cancel(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;
/* A failed or cancelled run is queued again, its attempts counted anew, its checkpoint kept. 1; 0: not there; 2: it is queued, running or
 * done well; 3: another one with its key is queued or running. */
int state_run_retry(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;
/* Removes runs that were over before `before_us`, with their logs, at most `most`. Returns how many. */
int state_run_prune(struct state *state, int64_t before_us, int most, struct duct_error *err) DUCT_CHECKED;

/* --- who works (run_claims.c) --- */

/* The next run of one of the queues that is due and within its concurrency limit, by due time: 1. 0: none. queues: ",default,heavy,". */
int state_run_claim(struct state *state, struct duct_arena *arena, const char *queues, const char *worker, int64_t lease_ms,
		    struct state_run *ret, struct duct_error *err) DUCT_CHECKED;
/* 1: go on (*ret_cancel: somebody asked to end it). 0: the claim was lost: stop, change nothing more. */
int state_run_heartbeat(struct state *state, const char *id, int64_t fence, int64_t lease_ms, bool *ret_cancel,
			struct duct_error *err) DUCT_CHECKED;
/* A queued run of a queue "here-...", which one process alone looks at, is waited for by that for so long at least. */
int state_run_wait(struct state *state, const char *id, int64_t lease_ms, struct duct_error *err) DUCT_CHECKED;
/* What people see of it, and (when not NULL) where the next attempt goes on. 1, or 0: the claim was lost. */
int state_run_report(struct state *state, const char *id, int64_t fence, const struct state_progress *progress,
		     const char *checkpoint, struct duct_error *err) DUCT_CHECKED;
/* Ends the attempt: SUCCEEDED, SKIPPED, CANCELLED, FAILED; or QUEUED again, not before delay_ms have passed. 1, or 0: the claim was lost. */
int state_run_finish(struct state *state, const char *id, int64_t fence, enum state_run_state to, const char *result,
		     const char *error, int64_t delay_ms, struct duct_error *err) DUCT_CHECKED;
/* Queued again at once, as if the attempt had not been made: its worker was told to stop. 1, or 0: the claim was lost. */
int state_run_give_back(struct state *state, const char *id, int64_t fence, const char *result, const char *error,
			struct duct_error *err) DUCT_CHECKED;
/* Runs whose lease ran out go back into the queue, or fail when it was their last attempt; asked-for cancels of them end; those that nobody waits for any more
 * fail. Returns how many. */
int state_run_reap(struct state *state, struct duct_error *err) DUCT_CHECKED;

/* --- logs (run_logs.c): at most 10,000 lines and 1 MiB per run; the last line then says that there was more --- */

struct state_run_line {
	int64_t seq, at_us, attempt;
	const char *level, *text; /* debug, info, warn, error */
};
/* Appends lines (level and text; at_us 0: now). 1, or 0: the claim was lost. */
int state_run_log(struct state *state, const char *id, int64_t fence, const struct state_run_line *lines, int n,
		  struct duct_error *err) DUCT_CHECKED;
/* Those after after_seq, in order; returns how many, at most `most`. */
int state_run_lines(struct state *state, struct duct_arena *arena, const char *id, int64_t after_seq, int most,
		    struct state_run_line *ret, struct duct_error *err) DUCT_CHECKED;

/* Microseconds since 1970 by the store's clock. */
int state_clock(struct state_db *db, int64_t *ret_us, struct duct_error *err) DUCT_CHECKED;

#endif
