/*
 * Jobs "duckling_events_backfill_job" and "duckling_persons_backfill_job": {"partition": "12345_2024-01-15", "config": {"dry_run": true}}, optional
 * "registry" (the file of teams; DUCTSTREAM_DUCKLINGS, else ducklings.yaml). ClickHouse is at CLICKHOUSE_URL. The work is export/export.h's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "export/export.h"
#include "run/inside.h"

static int check(const json_t *input, enum export_what what, struct duct_error *err)
{
	static const char *const names[] = {"partition", "config", "registry", NULL};
	const char *partition, *registry;
	struct export_key key;
	struct export_config config;
	if (run_input_only(input, names, err) || run_input_text(input, "partition", &partition, err) ||
	    export_key_parse(partition, what, duct_wall_us() / INT64_C(86400000000), &key, err) ||
	    export_config_parse(json_object_get(input, "config"), &config, err))
		return -(int)err->class;
	return json_object_get(input, "registry") ? run_input_text(input, "registry", &registry, err) : 0;
}

static int check_events(const json_t *input, struct duct_error *err)
{
	return check(input, EXPORT_EVENTS, err);
}

static int check_persons(const json_t *input, struct duct_error *err)
{
	return check(input, EXPORT_PERSONS, err);
}

static void progress(int64_t done, int64_t total, const char *step, const json_t *checkpoint)
{
	const struct state_progress p = {.done = done, .total = total, .unit = "days", .step = step};
	run_inside_progress(&p, checkpoint);
}

static int inside(struct run_inside *inside, enum export_what what, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	const char *registry = json_string_value(json_object_get(inside->input, "registry")),
		   *given = getenv("DUCTSTREAM_DUCKLINGS");
	/* An attempt after this one, also of the same run, writes elsewhere: this one may still be heard of. */
	AUTO_FREE char *id = *inside->run_id ? duct_xasprintf("%s-%lld", inside->run_id, (long long)inside->fence)
					     : duct_xstrdup(duct_uuid_v7(uuid));
	struct export_request request = {
		.what = what,
		.partition = json_string_value(json_object_get(inside->input, "partition")),
		.teams_file = registry	  ? registry
			: given && *given ? given
					  : "ducklings.yaml",
		.clickhouse_url = getenv("CLICKHOUSE_URL"),
		.run_id = id,
		.checkpoint = inside->checkpoint,
		.log = run_inside_log,
		.progress = progress,
	};
	if (export_config_parse(json_object_get(inside->input, "config"), &request.config, err))
		return -(int)err->class;
	return export_run(&request, inside->ctx, &inside->result, err);
}

/* --- in the worker --- */

static bool deletes_tables(const char *input)
{
	json_t *json = json_loads(input ? input : "", 0, NULL);
	bool deletes = json_is_true(json_object_get(json_object_get(json, "config"), "delete_tables")) &&
		!json_is_true(json_object_get(json_object_get(json, "config"), "dry_run"));
	json_decref(json);
	return deletes;
}

static int64_t team_of(const char *input)
{
	json_t *json = json_loads(input ? input : "", 0, NULL);
	const char *key = json_string_value(json_object_get(json, "partition"));
	int64_t team = key ? strtoll(key, NULL, 10) : -1;
	json_decref(json);
	return team;
}

/* A table is not dropped under a run that fills it, nor filled while it is to be dropped. Each run is "running" before it looks, so of two at the same
 * moment one at least sees the other. */
static int look_around(struct run_work *work, struct duct_error *err)
{
	enum { PAGE = 100 };
	struct state_run *runs = duct_arena_zalloc(work->arena, PAGE * sizeof *runs);
	struct state_run_filter filter = {.kind = work->run->kind, .state = STATE_RUN_RUNNING};
	bool ours = deletes_tables(work->run->input);
	for (int n = PAGE; n == PAGE;) {
		n = state_run_list(work->state, work->arena, &filter, PAGE, runs, err);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			filter.before_us = runs[i].created_us;
			filter.before_id = runs[i].id;
			if (strcmp(runs[i].id, work->run->id) == 0 || team_of(runs[i].input) != team_of(work->run->input))
				continue;
			if (ours)
				return duct_fail(err, DUCT_CONFIG,
						 "delete_tables: run %s of the same team is under way: try again when it is over",
						 runs[i].id);
			if (deletes_tables(runs[i].input))
				return duct_fail(err, DUCT_RETRY, "run %s of the same team drops the table just now", runs[i].id);
		}
	}
	return 0;
}

static int work(struct run_work *work, struct duct_error *err)
{
	int rc = look_around(work, err);
	return rc ? rc : run_work_inside(work, err);
}

static int events_inside(struct run_inside *i, struct duct_error *err)
{
	return inside(i, EXPORT_EVENTS, err);
}

static int persons_inside(struct run_inside *i, struct duct_error *err)
{
	return inside(i, EXPORT_PERSONS, err);
}

const struct run_job run_job_events_export = {
	.kind = "duckling_events_backfill_job",
	.summary = "a day or month of a team's events, from ClickHouse into its lake",
	.check = check_events,
	.work = work,
	.inside = events_inside,
};
const struct run_job run_job_persons_export = {
	.kind = "duckling_persons_backfill_job",
	.summary = "a team's persons, from ClickHouse into its lake",
	.check = check_persons,
	.work = work,
	.inside = persons_inside,
};
