#ifndef STATE_RUNS_H
#define STATE_RUNS_H

#include "state/state.h"

/*
 * Durable runs: a queue, its history, and who works on what. A run is claimed by one worker at a time, under a fencing number that grows
 * with every claim of any run; a worker that lost its claim (no heartbeat for the lease) can finish nothing any more.
 */
enum state_run_state { /* numbers of ductstream.v1.RunState */
	STATE_RUN_QUEUED = 1,
	STATE_RUN_RUNNING,
	STATE_RUN_SUCCEEDED,
	STATE_RUN_FAILED,
	STATE_RUN_CANCELLED,
	STATE_RUN_SKIPPED,
};
const char *state_run_state_name(enum state_run_state state);

struct state_run {
	const char *id, *kind, *key, *queue, *parent_id, *flow_id, *schedule;
	const char *input, *result, *error, *tags; /* JSON objects, and text */
	const char *worker, *concurrency_key;
	int64_t concurrency_limit;
	enum state_run_state state;
	int attempt, max_attempts;
	int64_t fence;
	bool cancel_requested;
	int64_t progress_done, progress_total;
	const char *progress_unit, *progress_step;
	int64_t created_us, due_us, started_us, heartbeat_us, finished_us; /* 0: not yet */
};

/* 1: *ret (arena) is the new run. 0: it is one that was there already, with that id, or with that key queued or running. */
int state_run_submit(struct state *state, struct duct_arena *arena, const struct state_run *run, const struct state_actor *actor,
		     struct state_run *ret, struct duct_error *err) DUCT_CHECKED;
int state_run_get(struct state *state, struct duct_arena *arena, const char *id, struct state_run *ret, struct duct_error *err)
	DUCT_CHECKED; /* 1, or 0: there is none */

struct state_run_filter {
	const char *parent_id, *key, *flow_id, *kind, *queue, *schedule; /* NULL: any */
	enum state_run_state state;					  /* 0: any */
	int64_t before_us;	/* newest first: those made before, */
	const char *before_id;	/* or at that moment with a smaller id; 0, NULL: from the newest */
};
int state_run_list(struct state *state, struct duct_arena *arena, const struct state_run_filter *filter, int most, struct state_run *ret,
		   struct duct_error *err) DUCT_CHECKED;

/* The next run of one of the queues that is due and within its concurrency limit, by due time: 1. 0: none. queues NULL-terminated. */
int state_run_claim(struct state *state, struct duct_arena *arena, const char *const *queues, const char *worker, int64_t lease_ms,
		    struct state_run *ret, struct duct_error *err) DUCT_CHECKED;
/* 1: go on (*ret_cancel: somebody asked to end it). 0: the claim was lost: stop, change nothing more. */
int state_run_heartbeat(struct state *state, const char *id, int64_t fence, int64_t lease_ms, const struct state_run *progress,
			bool *ret_cancel, struct duct_error *err) DUCT_CHECKED;
/* Ends the attempt: SUCCEEDED, SKIPPED, CANCELLED, FAILED; or QUEUED again, not before due_us. 1, or 0: the claim was lost. */
int state_run_finish(struct state *state, const char *id, int64_t fence, enum state_run_state to, const char *result, const char *error,
		     int64_t due_us, struct duct_error *err) DUCT_CHECKED;
/* Runs whose lease ran out go back into the queue, or fail when it was their last attempt; asked-for cancels of them end. Returns how many. */
int state_run_reap(struct state *state, struct duct_error *err) DUCT_CHECKED;
int state_run_cancel(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;
/* 1; 0: not there; 2: it is queued, running or done well. */
int state_run_retry(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;

struct state_run_line {
	int64_t seq, at_us;
	int attempt;
	const char *level, *text;
};
int state_run_log(struct state *state, const char *id, int64_t fence, const char *level, const char *text, struct duct_error *err)
	DUCT_CHECKED;
int state_run_lines(struct state *state, struct duct_arena *arena, const char *id, int64_t after_seq, int most,
		    struct state_run_line *ret, struct duct_error *err) DUCT_CHECKED;

#endif
