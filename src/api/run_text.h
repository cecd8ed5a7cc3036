#ifndef API_RUN_TEXT_H
#define API_RUN_TEXT_H

#include <ductstream/v1/run.pb-c.h>
#include <ductstream/v1/schedule.pb-c.h>

#include "api/api.h"
#include "state/runs.h"
#include "state/schedules.h"

/* Runs and schedules as messages; everything lives in the arena. *ret is initialised. */
void run_text_show(Ductstream__V1__Run *ret, const struct state_run *run, struct duct_arena *arena);
Ductstream__V1__Run **run_text_show_all(const struct state_run *runs, int n, struct duct_arena *arena);
Ductstream__V1__RunLogLine **run_text_lines(const struct state_run_line *lines, int n, struct duct_arena *arena);
void run_text_schedule(Ductstream__V1__Schedule *ret, const struct state_schedule *schedule, struct duct_arena *arena);

/* NULL for 0. */
Google__Protobuf__Timestamp *run_text_time(int64_t us, struct duct_arena *arena);
/* 0 for NULL; DATA outside of what a Timestamp may be. */
int run_text_take_time(const Google__Protobuf__Timestamp *time, const char *field, int64_t *ret_us,
		       struct duct_error *err) DUCT_CHECKED;

/* The page size that was asked for: 0 gives 100, more than 1,000 gives that; below 0 is refused. */
enum api_code run_page_size(struct api_call *call, int32_t asked, int *ret);

/* Only admins enqueue runs of some kinds. */
enum api_code run_may_enqueue(struct api_call *call, const char *kind);

static inline char *run_string(const char *s)
{
	return s ? (char *)s : (char *)protobuf_c_empty_string;
}

#endif
