#ifndef RUN_TICK_H
#define RUN_TICK_H

#include "run/scheduler.h"

/* One evaluation of a schedule or of a sensor. `tick` is part of the runs' ids: the same one enqueues the same runs. DBOS_SCHEDULE
 * enqueues in DBOS, until stop_fd (-1: none) is readable; nothing when that is off (dbos NULL or not enabled). */
int run_tick_schedule(struct state *state, struct duct_arena *arena, const struct state_schedule *schedule, const char *tick,
		      const struct dbos_config *dbos, int stop_fd, struct run_ticked *ret, struct duct_error *err) DUCT_CHECKED;
/* Moves the cursor and the time of the next look; a failure of the sensor itself is written down and is no failure here, but for a
 * stop. */
int run_tick_sensor(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const struct run_sensor *sensor,
		    const struct state_sensor *row, int64_t now_us, struct run_ticked *ret, struct duct_error *err) DUCT_CHECKED;

/* After `after_us`; INT64_MAX never. */
int run_schedule_next(const struct state_schedule *schedule, int64_t after_us, int64_t *ret_us,
		      struct duct_error *err) DUCT_CHECKED;

#endif
