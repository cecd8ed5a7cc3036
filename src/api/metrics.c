#include "api/metrics.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "otel/otel.h"
#include "state/counts.h"

static struct duct_metric requests = DUCT_METRIC_COUNTER("ductstream_api_requests_total", "calls that have ended, by their code",
							 "service", "method", "code", "transport");
static struct duct_metric request_seconds = DUCT_METRIC_HISTOGRAM("ductstream_api_request_seconds", "how long calls took",
								  duct_metric_seconds, "service", "method", "transport");
static struct duct_metric build_info = DUCT_METRIC_GAUGE("ductstream_build_info", "1, with the version of this program", "version");

void api_metrics_start(void)
{
	duct_metric_list(&requests);
	duct_metric_list(&request_seconds);
	otel_list_metrics();
	duct_series_set(DUCT_SERIES(&build_info, DUCT_VERSION), 1);
}

void api_metrics_call(const char *service, const char *method, enum api_code code, const char *transport, int64_t took_us)
{
	duct_series_add(DUCT_SERIES(&requests, service, method, api_code_name(code), transport), 1);
	duct_series_observe(DUCT_SERIES(&request_seconds, service, method, transport), (double)took_us / 1e6);
}

/* ---- flows: what their workers report (state_flow_report) */

static const struct {
	const char *name, *help;
	enum duct_metric_kind kind;
	const char *member; /* of the report */
	double scale;
} flow_metrics[] = {
	{"ductstream_flow_commits_total", "commits at the destination", DUCT_COUNTER, "commits", 1},
	{"ductstream_flow_committed_rows_total", "changes that are durable at the destination", DUCT_COUNTER, "committed_rows", 1},
	{"ductstream_flow_copied_rows_total", "rows of first copies", DUCT_COUNTER, "copied_rows", 1},
	{"ductstream_flow_dead_rows_total", "rows that were set aside as dead letters", DUCT_COUNTER, "dead_rows", 1},
	{"ductstream_flow_lag_seconds", "age of the newest change that is not durable yet", DUCT_GAUGE, "lag_ms", 1e-3},
	{"ductstream_flow_queue_bytes", "changes between source and destination", DUCT_GAUGE, "queue_bytes", 1},
	{"ductstream_flow_received_bytes_total", "bytes of changes from the source", DUCT_COUNTER, "received_bytes", 1},
	{"ductstream_flow_received_rows_total", "changes from the source", DUCT_COUNTER, "received_rows", 1},
	{"ductstream_flow_retries_total", "attempts after an error that passes", DUCT_COUNTER, "retries", 1},
};

/* Reports are gathered first: the text format wants all samples of a name together. */
struct reports {
	struct duct_arena arena;
	struct report {
		const char *flow;
		json_t *report;
		int64_t at_us;
	} * all;
	size_t n, cap;
};

static int take_report(void *arg, const char *flow_id, const char *text, int64_t at_us, struct duct_error *err)
{
	(void)err;
	struct reports *to = arg;
	json_t *report = json_loads(text, 0, NULL);
	if (!report)
		return 0;
	to->all = duct_grow(to->all, &to->cap, to->n + 1, sizeof *to->all);
	to->all[to->n++] = (struct report){duct_arena_strdup(&to->arena, flow_id), report, at_us};
	return 0;
}

static void put_flow_numbers(struct duct_buf *to, const struct reports *reports)
{
	for (size_t m = 0; m < DUCT_LEN(flow_metrics); m++) {
		duct_metrics_head(to, flow_metrics[m].name, flow_metrics[m].kind, flow_metrics[m].help);
		for (size_t i = 0; i < reports->n; i++) {
			const json_t *value = json_object_get(reports->all[i].report, flow_metrics[m].member);
			if (json_is_number(value))
				duct_metrics_sample(to, flow_metrics[m].name,
						    (const char *const[]){"flow", reports->all[i].flow, NULL},
						    json_number_value(value) * flow_metrics[m].scale);
		}
	}
}

static void put_flow_positions(struct duct_buf *to, const struct reports *reports)
{
	static const char name[] = "ductstream_flow_position_bytes", *const positions[] = {"received", "written", "durable"};
	duct_metrics_head(to, name, DUCT_GAUGE, "position in the source's log");
	for (size_t i = 0; i < reports->n; i++)
		for (size_t p = 0; p < DUCT_LEN(positions); p++) {
			const char *lsn = json_string_value(json_object_get(reports->all[i].report, positions[p]));
			uint32_t high, low;
			if (lsn && sscanf(lsn, "%" SCNx32 "/%" SCNx32, &high, &low) == 2)
				duct_metrics_sample(to, name,
						    (const char *const[]){"flow", reports->all[i].flow, "position", positions[p],
									  NULL},
						    (double)((uint64_t)high << 32 | low));
		}
}

static void put_flow_phases(struct duct_buf *to, const struct reports *reports)
{
	static const char phase_name[] = "ductstream_flow_phase", age_name[] = "ductstream_flow_report_age_seconds";
	duct_metrics_head(to, phase_name, DUCT_GAUGE, "1, with what the flow's worker does: opening, copying, streaming, waiting");
	for (size_t i = 0; i < reports->n; i++) {
		const char *phase = json_string_value(json_object_get(reports->all[i].report, "phase"));
		if (phase)
			duct_metrics_sample(to, phase_name,
					    (const char *const[]){"flow", reports->all[i].flow, "phase", phase, NULL}, 1);
	}
	int64_t now = duct_wall_us();
	duct_metrics_head(to, age_name, DUCT_GAUGE, "how long ago the flow's worker said all this");
	for (size_t i = 0; i < reports->n; i++)
		duct_metrics_sample(to, age_name, (const char *const[]){"flow", reports->all[i].flow, NULL},
				    now > reports->all[i].at_us ? (double)(now - reports->all[i].at_us) / 1e6 : 0);
}

/* A series per destination: its state, or a member of its report. */
static void put_destination(struct duct_buf *to, const struct report *from, const json_t *destination, const char *name,
			    const char *member)
{
	const char *its = json_string_value(json_object_get(destination, "name")), *text;
	const json_t *value = json_object_get(destination, member);
	uint32_t high, low;
	if (!its || !value)
		return;
	const char *const labels[] = {"flow", from->flow, "destination", its, NULL};
	if (json_is_number(value))
		duct_metrics_sample(to, name, labels, json_number_value(value));
	else if ((text = json_string_value(value)) && sscanf(text, "%" SCNx32 "/%" SCNx32, &high, &low) == 2)
		duct_metrics_sample(to, name, labels, (double)((uint64_t)high << 32 | low));
	else if (text)
		duct_metrics_sample(to, name, (const char *const[]){"flow", from->flow, "destination", its, "state", text, NULL},
				    1);
}

static void put_destinations(struct duct_buf *to, const struct reports *reports)
{
	static const struct {
		const char *name, *member, *help;
	} all[] = {
		{"ductstream_destination_outbox_bytes", "outbox_bytes", "changes on disk that the destination does not have yet"},
		{"ductstream_destination_position_bytes", "durable", "position in the source's log that the destination has"},
		{"ductstream_destination_state", "state",
		 "1, with the state: opening, copying, streaming, away, full, draining, given_up"},
	};
	for (size_t m = 0; m < DUCT_LEN(all); m++) {
		duct_metrics_head(to, all[m].name, DUCT_GAUGE, all[m].help);
		for (size_t i = 0; i < reports->n; i++) {
			const json_t *list = json_object_get(reports->all[i].report, "destinations");
			for (size_t k = 0; k < json_array_size(list); k++)
				put_destination(to, &reports->all[i], json_array_get(list, k), all[m].name, all[m].member);
		}
	}
}

static void put_reports(struct duct_buf *to, struct state *state)
{
	struct reports reports = {0};
	struct duct_error err;
	duct_arena_init(&reports.arena);
	int rc = state_reports(state, take_report, &reports, &err);
	(void)rc; /* the names are there all the same, and ductstream_state_up says that the state is not */
	put_flow_numbers(to, &reports);
	put_flow_phases(to, &reports);
	put_flow_positions(to, &reports);
	put_destinations(to, &reports);
	for (size_t i = 0; i < reports.n; i++)
		json_decref(reports.all[i].report);
	free(reports.all);
	duct_arena_done(&reports.arena);
}

/* ---- how much there is of what */

static void put_counts(struct duct_buf *to, struct state *state)
{
	struct state_counts counts;
	struct duct_error err;
	bool up = state_count(state, &counts, &err) == 0;
	duct_metrics_head(to, "ductstream_ddl_events", DUCT_GAUGE, "changes of schema, by what was decided");
	for (int s = STATE_DDL_PENDING; up && s <= STATE_DDL_APPLIED; s++)
		duct_metrics_sample(to, "ductstream_ddl_events",
				    (const char *const[]){"status", state_ddl_status_name((enum state_ddl_status)s), NULL},
				    (double)counts.ddl[s]);
	duct_metrics_head(to, "ductstream_flows", DUCT_GAUGE, "flows, by their state");
	for (int s = STATE_FLOW_CREATED; up && s <= STATE_FLOW_STOPPED; s++)
		duct_metrics_sample(to, "ductstream_flows",
				    (const char *const[]){"state", state_flow_state_name((enum state_flow_state)s), NULL},
				    (double)counts.flows[s]);
	duct_metrics_head(to, "ductstream_runs", DUCT_GAUGE, "runs that are kept, by their state");
	for (int s = STATE_RUN_QUEUED; up && s <= STATE_RUN_SKIPPED; s++)
		duct_metrics_sample(to, "ductstream_runs",
				    (const char *const[]){"state", state_run_state_name((enum state_run_state)s), NULL},
				    (double)counts.runs[s]);
	duct_metrics_head(to, "ductstream_state_up", DUCT_GAUGE, "1 when the state answers");
	duct_metrics_sample(to, "ductstream_state_up", NULL, up);
}

void api_metrics_write(struct api *api, struct duct_buf *to)
{
	duct_metrics_write(to);
	put_reports(to, api->state);
	put_counts(to, api->state);
	duct_metrics_process(to);
}
