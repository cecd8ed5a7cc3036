#ifndef RUN_CRON_H
#define RUN_CRON_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#include "run/zone.h"

/*
 * When a schedule is due: [second] minute hour day-of-month month day-of-week.
 *
 *   *  ?        any (? in the two fields of days only)
 *   3  3,5,9    these
 *   2-6         from, to
 *   X/5       every 5th of what stands before the stroke: of all, of a range, of what comes from one value on
 *   JAN MON     names; days of the week are 0-7, both 0 and 7 are Sunday
 *   @hourly @daily @weekly @monthly @yearly
 *
 * Five fields: at second 0. Where both days are restricted, either will do, as cron always had it.
 *
 * Clocks that are put forward or back: an expression that names hours means the wall clock. A time that the clock skips comes at the
 * end of the gap, once; one that it shows twice comes the first time. An expression with any hour goes on as time does: nothing is skipped or
 * made up, and the hour that is shown twice has its times twice.
 */
struct run_cron {
	uint64_t seconds, minutes, hours, days, months, weekdays; /* bit per value */
	bool any_hour;
};

/* CONFIG names the field and what is wrong with it; an expression that never comes (30 February) is wrong too. */
int run_cron_parse(struct run_cron *ret, const char *text, struct duct_error *err) DUCT_CHECKED;

/* The first time after `after_s` (seconds since 1970). INT64_MAX past the year 9999. */
int64_t run_cron_next(const struct run_cron *cron, const struct run_zone *zone, int64_t after_s);

#endif
