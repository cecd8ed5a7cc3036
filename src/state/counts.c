#include "state/counts.h"

#include <string.h>

#include "base/mem.h"
#include "state/runs_internal.h"

/* Flows and changes of schema keep their state as a name, runs as its number. */
static int take_flow(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	int64_t *counts = arg;
	for (int s = STATE_FLOW_CREATED; s <= STATE_FLOW_STOPPED; s++)
		if (strcmp(state_row_text(row, 0), state_flow_state_name((enum state_flow_state)s)) == 0)
			counts[s] = state_row_i64(row, 1);
	return 0;
}

static int take_ddl(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	int64_t *counts = arg;
	counts[state_ddl_status_from(state_row_text(row, 0))] = state_row_i64(row, 1);
	return 0;
}

static int take_run(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	int64_t *counts = arg, state = state_row_i64(row, 0);
	if (state > 0 && state <= STATE_RUN_SKIPPED)
		counts[state] = state_row_i64(row, 1);
	return 0;
}

int state_count(struct state *state, struct state_counts *ret, struct duct_error *err)
{
	struct state_counts counts = {0};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -err->class;
	int64_t rc = STATE_RUN(db, "SELECT state, count(*) FROM flows GROUP BY state", take_flow, counts.flows, err);
	if (rc >= 0)
		rc = STATE_RUN(db, "SELECT status, count(*) FROM ddl_events GROUP BY status", take_ddl, counts.ddl, err);
	if (rc >= 0)
		rc = STATE_RUN(db, RUN_COUNTS, take_run, counts.runs, err);
	state_return(state, db);
	if (rc < 0)
		return (int)rc;
	*ret = counts;
	return 0;
}

struct taker {
	state_report_fn *take;
	void *arg;
};

static int take_report(void *arg, const struct state_row *row, struct duct_error *err)
{
	const struct taker *to = arg;
	return to->take(to->arg, state_row_text(row, 0), state_row_text(row, 1), state_row_i64(row, 2), err);
}

int state_reports(struct state *state, state_report_fn *take, void *arg, struct duct_error *err)
{
	struct taker to = {take, arg};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -err->class;
	int64_t rc = STATE_RUN(db, "SELECT flow_id, report, at_us FROM flow_reports ORDER BY flow_id", take_report, &to, err);
	state_return(state, db);
	return rc < 0 ? (int)rc : 0;
}
