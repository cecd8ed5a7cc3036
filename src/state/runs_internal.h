#ifndef STATE_RUNS_INTERNAL_H
#define STATE_RUNS_INTERNAL_H

#include "state/runs.h"

/* What the files of runs share: a row as a struct, and its columns in that order. */
#define RUN_COLUMNS \
	"id, kind, key, queue, parent_id, flow_id, schedule, partition_key, input, result, error, checkpoint, tags, worker, " \
	"concurrency_key, concurrency_limit, state, attempt, max_attempts, fence, cancel_requested, progress_done, " \
	"progress_total, progress_unit, progress_step, log_seq, revision, created_us, due_us, started_us, heartbeat_us, finished_us"

/* How many there are per state, each part by its index. */
#define RUN_COUNTS \
	"SELECT state, count(*) FROM runs WHERE state > 2 GROUP BY state UNION ALL SELECT 1, count(*) FROM runs WHERE state = 1 " \
	"UNION ALL SELECT 2, count(*) FROM runs WHERE state = 2"

/* Where rows go: an array of `room` runs whose texts live in the arena. */
struct run_rows {
	struct duct_arena *arena;
	struct state_run *runs;
	int n, room;
};
state_row_fn run_take_row;

/* The partition that follows this run, if there is one: its state after the run's own. */
int run_move_partition(struct state_db *db, const char *run_id, const char *state, int64_t now_us,
		       struct duct_error *err) DUCT_CHECKED;

/* For callbacks: the first column of the last row. */
state_row_fn run_take_i64;

static inline struct state_value run_text(const char *text)
{
	return state_text(text && *text ? text : NULL);
}

#endif
