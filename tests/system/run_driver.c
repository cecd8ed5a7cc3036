/* Lets tests speak with src/state/runs.h and src/run/cron.h: a JSON object per line in, one per line out. The state is the environment's. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/cron.h"
#include "run/jobs.h"
#include "run/scheduler.h"
#include "state/flows.h"

static struct state *state;
static struct duct_arena arena;
static const struct state_actor actor = {.name = "driver", .via = "test"};

static const char *text(const json_t *in, const char *name)
{
	return json_string_value(json_object_get(in, name));
}

static int64_t number(const json_t *in, const char *name)
{
	return json_integer_value(json_object_get(in, name));
}

static json_t *show(const struct state_run *run)
{
	return json_pack("{s:s, s:s, s:s?, s:s, s:s?, s:s?, s:s, s:s?, s:s?, s:s?, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:s?}", "id",
			 run->id, "kind", run->kind, "key", run->key, "state", state_run_state_name(run->state), "flow_id",
			 run->flow_id, "parent_id", run->parent_id, "queue", run->queue ? run->queue : "", "result", run->result,
			 "error", run->error, "worker", run->worker, "attempt", (json_int_t)run->attempt, "fence",
			 (json_int_t)run->fence, "cancel_requested", run->cancel_requested, "started_us",
			 (json_int_t)run->started_us, "finished_us", (json_int_t)run->finished_us, "done",
			 (json_int_t)run->progress.done, "total", (json_int_t)run->progress.total, "step", run->progress.step);
}

static json_t *do_cron(const json_t *in, struct duct_error *err)
{
	struct run_cron cron;
	struct run_zone *zone;
	if (run_cron_parse(&cron, text(in, "cron"), err) < 0 || run_zone_load(&zone, text(in, "zone"), err) < 0)
		return NULL;
	json_t *list = json_array();
	int64_t at = number(in, "after");
	for (int64_t i = number(in, "n"); i > 0 && at != INT64_MAX; i--) {
		at = run_cron_next(&cron, zone, at);
		json_array_append_new(list, at == INT64_MAX ? json_null() : json_integer(at));
	}
	run_zone_free(zone);
	return json_pack("{s:o}", "next", list);
}

static json_t *do_offsets(const json_t *in, struct duct_error *err)
{
	struct run_zone *zone;
	size_t i;
	json_t *at, *list = json_array();
	if (run_zone_load(&zone, text(in, "zone"), err) < 0)
		return json_decref(list), NULL;
	json_array_foreach(json_object_get(in, "at"), i, at)
		json_array_append_new(list, json_integer(run_zone_at(zone, json_integer_value(at)).offset));
	run_zone_free(zone);
	return json_pack("{s:o}", "offsets", list);
}

static json_t *do_submit(const json_t *in, struct duct_error *err)
{
	struct state_run made,
		run = {
			.id = text(in, "id"),
			.kind = text(in, "kind"),
			.key = text(in, "key"),
			.queue = text(in, "queue"),
			.flow_id = text(in, "flow_id"),
			.parent_id = text(in, "parent_id"),
			.input = text(in, "input"),
			.max_attempts = number(in, "max_attempts"),
			.concurrency_key = text(in, "concurrency_key"),
			.concurrency_limit = number(in, "concurrency_limit"),
		};
	if (run_job_check(run.kind, run.flow_id, run.input, err) < 0 ||
	    state_run_submit(state, &arena, &run, &actor, &made, err) < 0)
		return NULL;
	return show(&made);
}

static json_t *do_get(const json_t *in, struct duct_error *err)
{
	struct state_run run;
	int rc = state_run_get(state, &arena, text(in, "id"), &run, err);
	return rc < 0 ? NULL : rc ? show(&run) : json_object();
}

static json_t *do_list(const json_t *in, struct duct_error *err)
{
	static struct state_run runs[1000];
	const struct state_run_filter filter = {.parent_id = text(in, "parent_id"),
						.key = text(in, "key"),
						.flow_id = text(in, "flow_id"),
						.schedule = text(in, "schedule"),
						.state = (enum state_run_state)number(in, "state")};
	int n = state_run_list(state, &arena, &filter, 1000, runs, err);
	json_t *list = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(list, show(&runs[i]));
	return n < 0 ? (json_decref(list), NULL) : json_pack("{s:o}", "runs", list);
}

static json_t *do_counts(const json_t *in, struct duct_error *err)
{
	int64_t counts[STATE_RUN_SKIPPED + 1];
	json_t *to = json_object();
	(void)in;
	if (state_run_counts(state, counts, err) < 0)
		return json_decref(to), NULL;
	for (int i = STATE_RUN_QUEUED; i <= STATE_RUN_SKIPPED; i++)
		json_object_set_new(to, state_run_state_name((enum state_run_state)i), json_integer(counts[i]));
	return to;
}

static json_t *do_cancel(const json_t *in, struct duct_error *err)
{
	int rc = state_run_cancel(state, text(in, "id"), &actor, err);
	return rc < 0 ? NULL : json_pack("{s:i}", "rc", rc);
}

static json_t *do_retry(const json_t *in, struct duct_error *err)
{
	int rc = state_run_retry(state, text(in, "id"), &actor, err);
	return rc < 0 ? NULL : json_pack("{s:i}", "rc", rc);
}

static json_t *do_logs(const json_t *in, struct duct_error *err)
{
	static struct state_run_line lines[1000];
	int n = state_run_lines(state, &arena, text(in, "id"), number(in, "after"), 1000, lines, err);
	json_t *list = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_string(lines[i].text));
	return n < 0 ? (json_decref(list), NULL) : json_pack("{s:o}", "lines", list);
}

static json_t *do_flow(const json_t *in, struct duct_error *err)
{
	const struct state_flow flow = {.id = text(in, "id"), .name = text(in, "id"), .definition = "{}"};
	bool refused = false;
	int rc = state_flow_create(state, &flow, &actor, err);
	if (rc >= 0 && number(in, "state"))
		rc = state_flow_move(state, flow.id, 0, (enum state_flow_state)number(in, "state"), "", &actor, &refused, err);
	return rc < 0 ? NULL : json_object();
}

static json_t *handle(const json_t *in, struct duct_error *err)
{
	static const struct {
		const char *name;
		json_t *(*run)(const json_t *in, struct duct_error *err);
		bool needs_state;
	} verbs[] = {
		{"cron", do_cron, false}, {"offsets", do_offsets, false}, {"submit", do_submit, true}, {"get", do_get, true},
		{"list", do_list, true},  {"counts", do_counts, true},	  {"cancel", do_cancel, true}, {"retry", do_retry, true},
		{"logs", do_logs, true},  {"flow", do_flow, true},
	};
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		struct state_config config;
		if (!text(in, "do") || strcmp(verbs[i].name, text(in, "do")) != 0)
			continue;
		if (verbs[i].needs_state && !state &&
		    (state_config_from_env(&config, &arena, err) < 0 || state_open(&state, &config, err) < 0))
			return NULL;
		return verbs[i].run(in, err);
	}
	(void)duct_fail(err, DUCT_CONFIG, "no such verb");
	return NULL;
}

int main(void)
{
	char *line = NULL;
	size_t cap = 0;
	duct_arena_init(&arena);
	while (getline(&line, &cap, stdin) > 0) {
		struct duct_error err;
		json_t *in = json_loads(line, 0, NULL), *out = handle(in, &err);
		if (!out)
			out = json_pack("{s:s}", "error", err.message);
		json_dumpf(out, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(out);
		json_decref(in);
		duct_arena_done(&arena);
	}
	free(line);
	state_close(state);
	return 0;
}
