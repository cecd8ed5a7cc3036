/*
 * Kind "ingest": an ingestion file (docs/ingest.md) run once, {"config": "<its text>", "name": "nightscout.yaml", "partition": "2024-10-15"}. The text
 * has references to the environment of whoever does the run, and no secret. The lake is that of the environment (DUCKLAKE_*).
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"
#include "duck/session.h"
#include "ingest/files.h"
#include "ingest/ingest.h"
#include "run/civil.h"
#include "run/record.h"
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
	ret->local_begin_us = civil_seconds(&civil) * 1000000;
	ret->local_end_us = next_local(&civil, p->every) * 1000000;
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

/* What a run's checkpoint is kept under: its cursor, and the fence between two runs that do the same. Different files, and sources of different
 * names, go into one table side by side. */
static char *flow_name(const struct ingest_spec *spec, const struct ingest_window *window)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "ingest/%s.%s", spec->schema, spec->table);
	if (spec->main.name)
		duct_buf_printf(&name, "@%s", spec->main.name);
	if (spec->main.type == INGEST_FILES) {
		uint64_t hash = 0;
		for (char *const *file = spec->main.files; *file; file++)
			hash = XXH3_64bits_withSeed(*file, strlen(*file) + 1, hash);
		duct_buf_printf(&name, "#%016llx", (unsigned long long)hash);
	}
	if (window->key)
		duct_buf_printf(&name, "/%s", window->key);
	return duct_xstrdup(name.data);
}

static int open_place(struct ingest_place *ret, const struct duck_lake *env, const struct ingest_spec *spec,
		      const struct ingest_window *window, const struct duct_ctx *ctx, struct duct_error *err)
{
	AUTO_FREE char *flow = flow_name(spec, window);
	const struct lake_config config = {.catalog = env->catalog,
					   .metadata_schema = env->metadata_schema,
					   .data_path = env->data_path,
					   .new_data_path = env->new_data_path,
					   .flow = flow,
					   .create = true,
					   .inline_tables = spec->main.inline_rows > 0,
					   .busy_timeout_ms = BUSY_TIMEOUT_MS};
	return ingest_place_open(ret, &config, ctx, err);
}

static void say_result(struct run_inside *inside, const struct ingest_spec *spec, const struct ingest_window *w,
		       const struct ingest_result *r)
{
	inside->result = json_pack("{s:s,s:s*,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "table", spec->main.into, "partition", w->key,
				   "records", (json_int_t)r->fetched.records, "pages", (json_int_t)r->fetched.pages, "bytes_read",
				   (json_int_t)r->fetched.bytes, "replaced", (json_int_t)r->deleted, "inlined",
				   (json_int_t)r->inlined, "new_columns", (json_int_t)r->new_columns, "tries", (json_int_t)r->tries,
				   "files_scanned", (json_int_t)r->files_scanned, "files_skipped", (json_int_t)r->files_skipped);
	if (spec->incremented)
		json_object_set_new(inside->result, "cursor", json_string(r->cursor));
}

/* --- what was read and written --- */

struct told {
	const struct ingest_spec *spec;
	const struct ingest_result *result;
	const struct lake *lake; /* as of the commit */
	const char *store;
	json_t *outputs;
};

static void tell_table(void *arg, const char *table, int64_t rows, int64_t files, int64_t bytes)
{
	struct told *told = arg;
	json_t *dataset = run_dataset_of_table(told->store, told->lake, told->spec->schema, table);
	run_dataset_number(dataset, "rows", rows);
	run_dataset_number(dataset, "files", files);
	run_dataset_number(dataset, "bytes", bytes);
	if (told->result->snapshot_id >= 0)
		run_dataset_number(dataset, "snapshot_id", told->result->snapshot_id);
	json_array_append_new(told->outputs, dataset);
}

static const char *hidden(const char *name)
{
	(void)name;
	return "***";
}

/* The server's name, and the path as the file has it: what the environment adds to that may be a secret. */
static json_t *address_of(const struct ingest_spec *spec, const char *config)
{
	struct ingest_spec raw;
	struct duct_error ignored;
	json_t *dataset = run_dataset_at(spec->main.url);
	int rc = ingest_spec_parse(&raw, config, strlen(config), "", hidden, &ignored);
	const char *url = rc == 0 ? raw.main.url : "", *scheme = strstr(url, "://");
	const char *path = scheme ? scheme + 3 : url;
	path += strcspn(path, "/?#");
	AUTO_FREE char *name = duct_xstrndup(path, strcspn(path, "?#"));
	json_object_set_new(dataset, "name", json_string(*name ? name : "/"));
	ingest_spec_done(&raw);
	return dataset;
}

static json_t *inputs_of(const struct ingest_spec *spec, const char *config)
{
	if (spec->main.type == INGEST_REST)
		return run_dataset_list(address_of(spec, config));
	json_t *list = json_array();
	for (char *const *file = spec->main.files; *file; file++)
		json_array_append_new(list, run_dataset_at(*file));
	return list;
}

static int into_lake(const struct run_inside *inside, const struct duck_lake *env, const struct ingest_spec *spec,
		     const struct ingest_window *window, const char *store, struct ingest_result *result, json_t *outputs,
		     struct duct_error *err)
{
	struct told told = {.spec = spec, .result = result, .store = store, .outputs = outputs};
	const struct ingest_report report = {.log = tell_log, .progress = tell_progress, .wrote = tell_table, .arg = &told};
	struct ingest_place place = {0};
	int rc = open_place(&place, env, spec, window, inside->ctx, err);
	told.lake = place.lake;
	if (!rc && spec->main.type == INGEST_FILES)
		rc = ingest_files(spec, &place, inside->ctx, &report, result, err);
	else if (!rc)
		rc = ingest_rest(spec, window, &place, inside->ctx, &report, result, err);
	ingest_place_close(&place);
	return rc;
}

static int do_run(struct run_inside *inside, const struct ingest_spec *spec, struct duct_error *err)
{
	char id[DUCT_UUID_LEN];
	struct duck_lake env;
	struct ingest_window window = {0};
	struct ingest_result result = {.snapshot_id = -1};
	const char *key = json_string_value(json_object_get(inside->input, "partition"));
	const char *config = json_string_value(json_object_get(inside->input, "config"));
	int rc = find_window(spec, key, &window, err);
	rc = rc ? rc : duck_lake_from_env(&env, inside->arena, err);
	if (rc)
		return rc;
	AUTO_FREE char *store = duck_lake_label(&env);
	json_t *inputs = inputs_of(spec, config), *outputs = json_array();
	struct run_part part = {.name = spec->main.into,
				.id = duct_uuid_v7(id),
				.inputs = json_incref(inputs),
				.outputs = run_dataset_list(run_dataset_of_table(store, NULL, spec->schema, spec->table))};
	run_record_begin(inside->record, &part);
	rc = into_lake(inside, &env, spec, &window, store, &result, outputs, err);
	say_result(inside, spec, &window, &result);
	part.inputs = inputs;
	part.outputs = outputs;
	run_record_end(inside->record, &part, rc, err);
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
