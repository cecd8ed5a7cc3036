#ifndef RUN_SCHEDULER_H
#define RUN_SCHEDULER_H

#include "base/ctx.h"
#include "run/dbos.h"
#include "run/executor.h"
#include "state/schedules.h"

/*
 * Enqueues runs: schedules when the clock says so, sensors when they find something. One process at a time does, under the lease
 * "scheduler"; another takes over seconds after it died. Sensors and DBOS, which are elsewhere, have
 * threads of their own: the clock waits for none of them. What a tick enqueues has ids made of the schedule's name and the tick's moment, so a
 * tick that is done twice enqueues once. Ticks that were missed while nobody was there are made up for by one.
 */
struct run_scheduler;

/* What a sensor found. Runs have ids or keys, so that finding the same again enqueues nothing. All in the arena. */
struct run_findings {
	const struct state_run *runs;
	int n;
	const char *cursor; /* from where to look next time */
};

struct run_sensor {
	const char *name;
	int64_t interval_ms;
	/* Looks from the cursor ("" : the beginning) on. A failure is shown and tried again, later and later, at most every hour. ctx: its stop. */
	int (*evaluate)(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const char *cursor,
			struct run_findings *ret, struct duct_error *err);
};
extern const struct run_sensor run_sensor_events_daily, run_sensor_events_full, run_sensor_persons_daily, run_sensor_persons_full;
extern const struct run_sensor *const run_sensors[]; /* NULL-terminated; sensors.c */

struct run_scheduler_config {
	struct state *state;
	const struct duct_log *log;
	struct run_executor *executor;		 /* told when something was enqueued; may be NULL */
	const struct run_sensor *const *sensors; /* NULL: run_sensors */
	const struct dbos_config *dbos;		 /* where the runs of DBOS_SCHEDULE go; NULL: DBOS is off */
	int64_t retention_ms;			 /* runs that were over for so long are removed; 0: 30 days */
};
int run_scheduler_start(struct run_scheduler **ret, const struct run_scheduler_config *config, struct duct_error *err) DUCT_CHECKED;
/* Look now. Any thread. */
void run_scheduler_wake(struct run_scheduler *scheduler);
void run_scheduler_stop(struct run_scheduler *scheduler); /* accepts NULL */

/* Is it one? Names the field (cron, timezone, kind, ...). Sets next_us to the first moment after now_us. */
int run_schedule_check(struct state_schedule *schedule, int64_t now_us, struct duct_error *err) DUCT_CHECKED;

/* What a tick enqueued. */
struct run_ticked {
	struct state_run *runs; /* in the arena */
	int n;
};
/* Evaluates a schedule or sensor now, whether it is due or not, paused or not: 1; 0: there is none of that name. The next due tick of a
 * schedule stays. */
int run_tick(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const char *name,
	     const struct dbos_config *dbos, struct run_ticked *ret, struct duct_error *err) DUCT_CHECKED;

#endif
