/*
 * Jobs "duckling_events_backfill_job" and "duckling_persons_backfill_job": {"partition": "12345_2024-01-15", "config": {"dry_run": true}}, optional
 * "registry" (the file of teams; DUCTSTREAM_DUCKLINGS, else ducklings.yaml), which teams of the API go before. ClickHouse is at CLICKHOUSE_URL. The work
 * is export/export.h's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "export/registry.h"
#include "run/record.h"

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

/* --- what is read and written --- */

static void take_column(void *arg, const char *name, const char *type)
{
	run_dataset_column(arg, name, type);
}

/* "clickhouse://host:8123", "default.events". */
static json_t *sources(enum export_what what, const char *url)
{
	static const char *const of[][3] = {{"events", NULL}, {"person", "person_distinct_id2", NULL}};
	json_t *list = json_array(), *server = run_dataset_at(url ? url : "");
	const char *host = strstr(json_string_value(json_object_get(server, "namespace")), "://");
	const char *query = url ? strchr(url, '?') : NULL, *database = query ? strstr(query, "database=") : NULL;
	AUTO_FREE char *namespace = duct_xasprintf("clickhouse%s", host ? host : "");
	database = database ? database + strlen("database=") : "default";
	for (const char *const *table = of[what]; *table; table++) {
		AUTO_FREE char *name = duct_xasprintf("%.*s.%s", (int)strcspn(database, "&#"), database, *table);
		json_array_append_new(list, run_dataset(namespace, name));
	}
	json_decref(server);
	return list;
}

/* The days that are done, as the table of the team's lake; where none is told, as objects of the bucket. */
static json_t *written(enum export_what what, const json_t *result)
{
	static const char *const folders[] = {"backfill/events", "backfill/persons"};
	const char *lake = json_string_value(json_object_get(result, "lake"));
	const char *table = json_string_value(json_object_get(result, "table"));
	const char *bucket = json_string_value(json_object_get(result, "bucket"));
	AUTO_FREE char *place = lake ? duct_xstrdup(lake) : duct_xasprintf("s3://%s", bucket ? bucket : "");
	AUTO_FREE char *name = lake ? duct_xasprintf("ducklake.%s", table) : duct_xstrdup(folders[what]);
	json_t *dataset = run_dataset(place, name), *day;
	int64_t rows = 0, bytes = 0, files = 0, snapshot = -1;
	size_t i;
	json_array_foreach(json_object_get(result, "days"), i, day)
	{
		const json_t *id = json_object_get(day, "snapshot_id");
		if (json_object_get(day, "unchanged"))
			continue;
		rows += json_integer_value(json_object_get(day, "rows"));
		bytes += json_integer_value(json_object_get(day, "bytes"));
		files += json_object_get(day, "path") != NULL;
		snapshot = id ? json_integer_value(id) : snapshot;
	}
	export_columns(what, take_column, dataset);
	run_dataset_number(dataset, "rows", rows);
	run_dataset_number(dataset, "bytes", bytes);
	run_dataset_number(dataset, "files", files);
	if (snapshot >= 0)
		run_dataset_number(dataset, "snapshot_id", snapshot);
	return run_dataset_list(dataset);
}

static int export(struct run_inside *inside, const struct export_request *request, struct duct_error *err)
{
	char id[DUCT_UUID_LEN];
	AUTO_FREE char *name = duct_xasprintf("team_%lld", strtoll(request->partition, NULL, 10));
	if (request->config.dry_run)
		return export_run(request, inside->ctx, &inside->result, err);
	json_t *inputs = sources(request->what, request->clickhouse_url);
	struct run_part part = {.name = name, .id = duct_uuid_v7(id), .inputs = json_incref(inputs)};
	run_record_begin(inside->record, &part);
	int rc = export_run(request, inside->ctx, &inside->result, err);
	part.inputs = inputs;
	part.outputs = written(request->what, inside->result);
	run_record_end(inside->record, &part, rc, err);
	return rc;
}

/* The state has teams of the API; where nobody keeps a record of the run, there is none. */
static int open_state(const struct run_inside *inside, struct state **ret, struct duct_error *err)
{
	struct state_config config;
	if (!*inside->run_id)
		return 0;
	int rc = state_config_from_env(&config, inside->arena, err);
	return rc ? rc : state_open(ret, &config, err);
}

static int inside(struct run_inside *inside, enum export_what what, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	/* An attempt after this one, also of the same run, writes elsewhere: this one may still be heard of. */
	AUTO_FREE char *id = *inside->run_id ? duct_xasprintf("%s-%lld", inside->run_id, (long long)inside->fence)
					     : duct_xstrdup(duct_uuid_v7(uuid));
	struct export_request request = {
		.what = what,
		.partition = json_string_value(json_object_get(inside->input, "partition")),
		.teams_file = export_registry_file(json_string_value(json_object_get(inside->input, "registry"))),
		.clickhouse_url = getenv("CLICKHOUSE_URL"),
		.run_id = id,
		.checkpoint = inside->checkpoint,
		.log = run_inside_log,
		.progress = progress,
	};
	int rc = export_config_parse(json_object_get(inside->input, "config"), &request.config, err);
	rc = rc ? rc : open_state(inside, &request.state, err);
	rc = rc ? rc : export(inside, &request, err);
	state_close(request.state);
	return rc;
}

static bool says(const json_t *input, const char *option)
{
	return json_is_true(json_object_get(json_object_get(input, "config"), option));
}

/* --- in the worker --- */

static bool deletes_tables(const char *input)
{
	json_t *json = json_loads(input ? input : "", 0, NULL);
	bool deletes = says(json, "delete_tables") && !says(json, "dry_run");
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

/* What does not bring the day into the lake says nothing about the day. */
static const char *partition_of(const json_t *input)
{
	return says(input, "dry_run") || says(input, "skip_ducklake_registration")
		? NULL
		: json_string_value(json_object_get(input, "partition"));
}

static char *key_of(const json_t *input, const char *job)
{
	return says(input, "dry_run") ? NULL : duct_xasprintf("%s:%s", job, json_string_value(json_object_get(input, "partition")));
}

static char *events_key(const json_t *input)
{
	return key_of(input, "duckling_events_backfill_job");
}

static char *persons_key(const json_t *input)
{
	return key_of(input, "duckling_persons_backfill_job");
}

const struct run_job run_job_events_export = {
	.kind = "duckling_events_backfill_job",
	.summary = "a day or month of a team's events, from ClickHouse into its lake",
	.check = check_events,
	.work = work,
	.inside = events_inside,
	.key = events_key,
	.partition = partition_of,
};
const struct run_job run_job_persons_export = {
	.kind = "duckling_persons_backfill_job",
	.summary = "a team's persons, from ClickHouse into its lake",
	.check = check_persons,
	.work = work,
	.inside = persons_inside,
	.key = persons_key,
	.partition = partition_of,
};
