#ifndef RUN_EXPORT_CALENDAR_H
#define RUN_EXPORT_CALENDAR_H

#include "state/schedules.h"

/*
 * What became of each day of a team: of the partitions of the exports (export_job.c), a day's own before the month's or the whole export's that covers it.
 * States: done, empty (done, without rows), queued, running, failed, quarantined, missing.
 */
struct run_calendar_day {
	int64_t day; /* since 1970-01-01 */
	const char *state;
	int64_t rows;	    /* -1: not known */
	const char *key;    /* of the partition that says so, "" of a missing one */
	const char *run_id; /* "" or the partition's last run */
	int64_t updated_us; /* 0: never */
};

struct run_calendar {
	const char *job;
	int64_t team_id;
	struct run_calendar_day *days; /* each from the first asked for to the last */
	size_t n;
};

struct run_calendar_request {
	const char *job;	    /* NULL, "": both */
	int64_t team_id;	    /* 0: each of the registry, and each that has partitions */
	int64_t from_day, last_day; /* INT64_MIN: from the first partition on (a year back at most); until yesterday */
};
/* All in the arena, by job and team. CONFIG: no such job, more days than may be asked for at once. */
int run_export_calendars(struct state *state, struct duct_arena *arena, const struct run_calendar_request *request,
			 struct run_calendar **ret, size_t *ret_n, struct duct_error *err) DUCT_CHECKED;

/* Whether the result of a run (JSON, NULL: none) lists the day; with how many rows. */
bool run_export_lists(const char *result, int64_t day, int64_t *ret_rows);
/* Whether the partition of a month has the day, or will have it when its run ends well. */
bool run_export_month_has(const struct state_partition *month, int64_t day);

#endif
