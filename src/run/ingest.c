/*
 * Kind "ingest": an ingestion file (docs/ingest.md) run once, {"config": "<its text>", "name": "nightscout.yaml", "partition": "2024-10-15"}. The text
 * has references to the environment of whoever does the run, and no secret. The lake is that of the environment (DUCKLAKE_*).
 */
#include "run/inside.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "duck/session.h"
#include "ingest/files.h"
#include "ingest/ingest.h"
#include "run/civil.h"
#include "run/zone.h"

enum { BUSY_TIMEOUT_MS = 60000 };

static int check(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"config", "name", "partition", NULL};
	const char *config, *partition, *name = json_string_value(json_object_get(input, "name"));
	struct ingest_spec spec;
	if (run_input_only(input, names, err) < 0 || run_input_text(input, "config", &config, err) < 0 ||
	    (json_object_get(input, "partition") && run_input_text(input, "partition", &partition, err) < 0))
		return -(int)err->class;
	int rc = ingest_spec_parse(&spec, config, strlen(config), name ? name : "input_json.config", NULL, err);
	ingest_spec_done(&spec);
	return rc;
}

/* --- partitions --- */

static bool digits(const char *s, int n, int *ret)
{
	*ret = 0;
	for (int i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		*ret = *ret * 10 + s[i] - '0';
	}
	return true;
}

static bool read_key(const char *key, int every, struct civil *ret)
{
	static const size_t lengths[] = {13, 10, 7};
	int year;
	*ret = (struct civil){.day = 1};
	if (strlen(key) != lengths[every] || !digits(key, 4, &year) || key[4] != '-' || !digits(key + 5, 2, &ret->month))
		return false;
	ret->year = year;
	if (every < 2 && (key[7] != '-' || !digits(key + 8, 2, &ret->day)))
		return false;
	if (every < 1 && (key[10] != 'T' || !digits(key + 11, 2, &ret->hour)))
		return false;
	return year >= 1 && ret->month >= 1 && ret->month <= 12 && ret->day >= 1 &&
		ret->day <= civil_month_days(year, ret->month) && ret->hour <= 23;
}

static void put_key(const struct civil *c, int every, char to[32])
{
	int year = (int)(c->year % 10000);
	if (every == 0)
		snprintf(to, 32, "%04d-%02d-%02dT%02d", year, c->month, c->day, c->hour);
	else if (every == 1)
		snprintf(to, 32, "%04d-%02d-%02d", year, c->month, c->day);
	else
		snprintf(to, 32, "%04d-%02d", year, c->month);
}

/* The wall clock's seconds where the next partition begins. */
static int64_t next_local(const struct civil *c, int every)
{
	struct civil next = *c;
	if (every < 2)
		return civil_seconds(c) + (every ? 86400 : 3600);
	next.month = c->month % 12 + 1;
	next.year += next.month == 1;
	return civil_seconds(&next);
}

static int wrong_key(const char *key, int every, struct duct_error *err)
{
	static const char *const shapes[] = {"hour, as 2024-10-15T08", "day, as 2024-10-15", "month, as 2024-10"};
	return duct_fail(err, DUCT_CONFIG, "partition \"%.40s\": it must be a%s %s, that there is in the calendar", key,
			 every ? "" : "n", shapes[every]);
}

/* Its instants, from begin to the begin of the next: as long as the zone's clocks make it. */
static int find_window(const struct ingest_spec *spec, const char *key, struct ingest_window *ret, struct duct_error *err)
{
	const struct ingest_partition *p = &spec->partition;
	struct run_zone *zone;
	struct civil civil;
	if (spec->partitioned != (key != NULL))
		return duct_fail(err, DUCT_CONFIG,
				 key ? "the file has no section \"partition\", so --partition, --from and --to have no meaning"
				     : "the file has partitions: give --partition, or --from and --to");
	if (!key)
		return 0;
	if (!read_key(key, p->every, &civil))
		return wrong_key(key, p->every, err);
	size_t shared = p->start && strlen(p->start) < strlen(key) ? strlen(p->start) : strlen(key);
	if (p->start && strncmp(key, p->start, shared) < 0)
		return duct_fail(err, DUCT_CONFIG, "partition \"%s\": the first one is \"%s\" (partition: start)", key, p->start);
	if (run_zone_load(&zone, p->zone, err))
		return -(int)err->class;
	ret->key = key;
	ret->begin_us = run_zone_instant(zone, civil_seconds(&civil)) * 1000000;
	ret->end_us = run_zone_instant(zone, next_local(&civil, p->every)) * 1000000;
	run_zone_free(zone);
	return 0;
}

int run_ingest_partitions(const char *config, const char *name, const char *from, const char *to, json_t **ret,
			  struct duct_error *err)
{
	enum { MOST = 100000 };
	struct ingest_spec spec;
	struct civil civil, last;
	json_t *list = json_array();
	int rc = ingest_spec_parse(&spec, config, strlen(config), name, NULL, err);
	int every = spec.partition.every;
	if (!rc && !spec.partitioned)
		rc = duct_fail(err, DUCT_CONFIG, "%s: it has no section \"partition\", so --from and --to have no meaning", name);
	if (!rc && !read_key(from, every, &civil))
		rc = wrong_key(from, every, err);
	if (!rc && !read_key(to, every, &last))
		rc = wrong_key(to, every, err);
	for (int64_t at = rc ? 0 : civil_seconds(&civil); !rc && at <= civil_seconds(&last); at = next_local(&civil, every)) {
		char key[32];
		civil = civil_of(at);
		put_key(&civil, every, key);
		json_array_append_new(list, json_string(key));
		if (json_array_size(list) > MOST)
			rc = duct_fail(err, DUCT_CONFIG, "from \"%s\" to \"%s\" are more than %d partitions", from, to, MOST);
	}
	if (!rc && !json_array_size(list))
		rc = duct_fail(err, DUCT_CONFIG, "from \"%s\" to \"%s\" is no partition", from, to);
	ingest_spec_done(&spec);
	if (rc)
		json_decref(list);
	else
		*ret = list;
	return rc;
}

/* --- the work --- */

static void tell_log(void *arg, const char *level, const char *text)
{
	(void)arg;
	run_inside_log(level, "%s", text);
}

static void tell_progress(void *arg, int64_t done, const char *unit, const char *step)
{
	(void)arg;
	run_inside_progress(&(struct state_progress){.done = done, .unit = unit, .step = step}, NULL);
}

static const char *look_up(const char *name)
{
	return getenv(name);
}

static int open_lake(struct lake **ret, const struct ingest_spec *spec, const struct ingest_window *window,
		     const struct duct_ctx *ctx, struct duct_arena *arena, struct duct_error *err)
{
	struct duck_lake env;
	AUTO_FREE char *flow = duct_xasprintf("ingest/%s.%s%s%s", spec->schema, spec->table, window->key ? "/" : "",
					      window->key ? window->key : "");
	if (duck_lake_from_env(&env, arena, err))
		return -(int)err->class;
	const struct lake_config config = {.catalog = env.catalog,
					   .metadata_schema = env.metadata_schema,
					   .data_path = env.data_path,
					   .flow = flow,
					   .create = true,
					   .inline_tables = spec->main.inline_rows > 0,
					   .busy_timeout_ms = BUSY_TIMEOUT_MS};
	return lake_open(ret, &config, ctx, err);
}

static void say_result(struct run_inside *inside, const struct ingest_spec *spec, const struct ingest_window *w,
		       const struct ingest_result *r)
{
	inside->result =
		json_pack("{s:s,s:s*,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "table", spec->main.into, "partition", w->key,
			  "records", (json_int_t)r->fetched.records, "pages", (json_int_t)r->fetched.pages, "bytes_read",
			  (json_int_t)r->fetched.bytes, "rows", (json_int_t)r->rows, "replaced", (json_int_t)r->deleted, "inlined",
			  (json_int_t)r->inlined, "files", (json_int_t)r->files, "new_columns", (json_int_t)r->new_columns,
			  "snapshot_id", (json_int_t)r->snapshot_id, "tries", (json_int_t)r->tries);
	if (spec->incremented)
		json_object_set_new(inside->result, "cursor", json_string(r->cursor));
}

static int do_run(struct run_inside *inside, const struct ingest_spec *spec, struct duct_error *err)
{
	const struct ingest_report report = {.log = tell_log, .progress = tell_progress};
	struct ingest_window window = {0};
	struct ingest_result result = {.snapshot_id = -1};
	struct lake *lake = NULL;
	const char *key = json_string_value(json_object_get(inside->input, "partition"));
	int rc = find_window(spec, key, &window, err);
	rc = rc ? rc : open_lake(&lake, spec, &window, inside->ctx, inside->arena, err);
	if (!rc && spec->main.type == INGEST_FILES)
		rc = ingest_files(spec, lake, inside->ctx, &report, &result, err);
	else if (!rc)
		rc = ingest_rest(spec, &window, lake, inside->ctx, &report, &result, err);
	lake_close(lake);
	say_result(inside, spec, &window, &result);
	return rc;
}

static int inside(struct run_inside *inside, struct duct_error *err)
{
	const char *config = json_string_value(json_object_get(inside->input, "config"));
	const char *name = json_string_value(json_object_get(inside->input, "name"));
	struct ingest_spec spec;
	int rc = ingest_spec_parse(&spec, config, strlen(config), name ? name : "input_json.config", look_up, err);
	rc = rc ? rc : do_run(inside, &spec, err);
	ingest_spec_done(&spec);
	return rc;
}

const struct run_job run_job_ingest = {
	.kind = "ingest",
	.summary = "puts what an HTTP API or files have into a table of the lake",
	.admin = true,
	.check = check,
	.inside = inside,
};
