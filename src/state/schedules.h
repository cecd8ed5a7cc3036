#ifndef STATE_SCHEDULES_H
#define STATE_SCHEDULES_H

#include "state/state.h"

/* What enqueues runs by itself: schedules by the clock, sensors by what they find, and the partitions that runs are about. Threads: any. */

enum { STATE_SET_BACK_US = 60000000 };

struct state_schedule {
	const char *name, *cron, *timezone; /* "" : UTC */
	bool paused;
	const char *kind;
	bool each_running_flow;
	const char *flow_id, *input, *queue, *concurrency_key; /* NULL: none; input "{}", queue "default" */
	int64_t concurrency_limit, max_attempts;
	int64_t next_us, last_us, last_enqueued; /* 0: not yet */
	const char *error;			 /* of the last tick, NULL: none */
};

/* 1; 0: the name is taken. */
int state_schedule_create(struct state *state, const struct state_schedule *schedule, const struct state_actor *actor,
			  struct duct_error *err) DUCT_CHECKED;
/* Everything but last_*; 1, or 0: there is none. */
int state_schedule_update(struct state *state, const struct state_schedule *schedule, const struct state_actor *actor,
			  struct duct_error *err) DUCT_CHECKED;
int state_schedule_get(struct state *state, struct duct_arena *arena, const char *name, struct state_schedule *ret,
		       struct duct_error *err) DUCT_CHECKED; /* 1, or 0 */
int state_schedule_delete(struct state *state, const char *name, const struct state_actor *actor,
			  struct duct_error *err) DUCT_CHECKED;
/* By name, those after `after` ("": from the first). due_us not 0: only those not paused that are due by then, and those whose last
 * tick lies STATE_SET_BACK_US ahead of it: the store's clock was set back, and their next tick was reckoned by the old one. Returns how many. */
int state_schedule_list(struct state *state, struct duct_arena *arena, const char *after, int64_t due_us, int most,
			struct state_schedule *ret, struct duct_error *err) DUCT_CHECKED;
/* After a tick: its moment and outcome; next_us moves from `from_us` to `next_us` unless somebody else moved it: 1, or 0. */
int state_schedule_ticked(struct state *state, const char *name, int64_t from_us, int64_t next_us, int64_t at_us, int64_t enqueued,
			  const char *error, struct duct_error *err) DUCT_CHECKED;

struct state_sensor {
	const char *name, *cursor;
	bool paused;
	int64_t interval_ms, next_us, last_us, last_enqueued, failures;
	const char *error; /* of its last tick, NULL: none */
};

/* Makes it known when it is not (cursor "", due at once), and sets its interval. */
int state_sensor_register(struct state *state, const char *name, int64_t interval_ms, struct duct_error *err) DUCT_CHECKED;
int state_sensor_get(struct state *state, struct duct_arena *arena, const char *name, struct state_sensor *ret,
		     struct duct_error *err) DUCT_CHECKED; /* 1, or 0 */
int state_sensor_list(struct state *state, struct duct_arena *arena, int most, struct state_sensor *ret,
		      struct duct_error *err) DUCT_CHECKED;
/* Moves the cursor from what it was to what it is; 1, or 0: somebody moved it meanwhile (the cursor was reset), nothing changed. */
int state_sensor_ticked(struct state *state, const struct state_sensor *was, const char *cursor, int64_t next_us, int64_t at_us,
			int64_t enqueued, const char *error, struct duct_error *err) DUCT_CHECKED;
/* Sets the cursor and makes the sensor due at once; 1, or 0: there is none. */
int state_sensor_reset(struct state *state, const char *name, const char *cursor, const struct state_actor *actor,
		       struct duct_error *err) DUCT_CHECKED;

struct state_partition {
	const char *job, *key, *state, *run_id; /* missing, queued, running, done, failed, quarantined */
	int64_t attempts, updated_us;
	const char *result; /* JSON of the last run that had one, NULL: none, or not asked for */
};

/* A partition that is still "failed" by the run that it was listed with becomes "quarantined"; 1, or 0: a run has begun or ended since, nothing
 * changed. */
int state_partition_quarantine(struct state *state, const struct state_partition *was, struct duct_error *err) DUCT_CHECKED;
struct state_partition_filter {
	const char *job, *state, *prefix;  /* NULL: any */
	const char *after_job, *after_key; /* those behind; NULL: from the first */
	bool results;
};
/* By job and key. Returns how many. */
int state_partition_list(struct state *state, struct duct_arena *arena, const struct state_partition_filter *filter, int most,
			 struct state_partition *ret, struct duct_error *err) DUCT_CHECKED;

#endif
