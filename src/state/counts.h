#ifndef STATE_COUNTS_H
#define STATE_COUNTS_H

#include "state/ddl.h"
#include "state/flows.h"
#include "state/runs.h"

/* How much there is of what, and what the workers said last: for metrics. Threads: any. */
struct state_counts { /* by state; [0] is not used */
	int64_t flows[STATE_FLOW_STOPPED + 1], runs[STATE_RUN_SKIPPED + 1], ddl[STATE_DDL_APPLIED + 1];
};
int state_count(struct state *state, struct state_counts *ret, struct duct_error *err) DUCT_CHECKED;

/* Each flow's last report, by flow id. 0 goes on, -class ends with it. */
typedef int state_report_fn(void *arg, const char *flow_id, const char *report, int64_t at_us, struct duct_error *err);
int state_reports(struct state *state, state_report_fn *take, void *arg, struct duct_error *err) DUCT_CHECKED;

#endif
