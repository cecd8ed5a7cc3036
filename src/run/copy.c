/*
 * Kinds that copy Delta tables into the lake (src/copy):
 *
 * "ducklake-copy.data-modeling": {"team_id": 123, "models": [{"model_label": "my_query", "table_uri": "s3://bucket/path", "saved_query_id": "..",
 * "saved_query_name": ".."}], "job_id": ".."}, into schema data_modeling_team_123.
 * "ducklake-copy.data-imports": {"team_id": 123, "schemas": [{"schema_id": UUID, "source_type": "stripe", "name": "invoices", "table_uri": ".."}],
 * "job_id": ".."}, into schema data_imports_team_123.
 *
 * One table after the other; the first that fails ends the run. A table is copied by one run at a time: the key of a run is made of its tables.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "copy/gate.h"
#include "copy/names.h"
#include "copy/table.h"
#include "duck/keys.h"
#include "duck/session.h"
#include "run/record.h"

static const struct family {
	const char *kind, *flag, *list, *schema, *checks, *key;
	bool imports;
} modeling = {"ducklake-copy.data-modeling",
	      "ducklake-data-modeling-copy-workflow",
	      "models",
	      "data_modeling",
	      "model",
	      "ducklake-copy-data-modeling",
	      false},
  imports = {"ducklake-copy.data-imports",
	     "ducklake-data-imports-copy-workflow",
	     "schemas",
	     "data_imports",
	     "data_imports",
	     "ducklake-copy-data-imports",
	     true};

/* --- input --- */

static const char *text_of(const json_t *item, const char *name)
{
	const char *text = json_string_value(json_object_get(item, name));
	return text && *text ? text : NULL;
}

static int check_texts(const struct family *f, const json_t *item, size_t i, const char *const *names, size_t nneeded,
		       struct duct_error *err)
{
	const char *key;
	json_t *value;
	if (!json_is_object(item))
		return duct_fail(err, DUCT_CONFIG, "input_json.%s[%zu]: an object is expected", f->list, i);
	for (size_t n = 0; n < nneeded; n++)
		if (!text_of(item, names[n]))
			return duct_fail(err, DUCT_CONFIG, "input_json.%s[%zu].%s: a text is needed", f->list, i, names[n]);
	json_object_foreach((json_t *)(uintptr_t)item, key, value)
	{
		const char *const *name = names;
		while (*name && strcmp(*name, key) != 0)
			name++;
		if (!*name || !json_is_string(value))
			return duct_fail(err, DUCT_CONFIG, "input_json.%s[%zu].%.60s: %s", f->list, i, key,
					 *name ? "a text is needed" : "there is no such field");
	}
	return 0;
}

/* One entry of the list as a copy. CONFIG: it is none. */
static int read_item(const struct family *f, const json_t *item, size_t i, struct duct_arena *arena, struct copy_table *ret,
		     struct duct_error *err)
{
	static const char *const of_model[] = {"model_label", "table_uri", "saved_query_id", "saved_query_name", NULL},
				 *const of_schema[] = {"schema_id", "source_type", "name", "table_uri", NULL};
	*ret = (struct copy_table){.names.source_table_uri = text_of(item, "table_uri")};
	if (check_texts(f, item, i, f->imports ? of_schema : of_model, f->imports ? 4 : 2, err) < 0)
		return -(int)err->class;
	if (!f->imports) {
		ret->names.model_label = text_of(item, "model_label");
		ret->names.saved_query_id = text_of(item, "saved_query_id");
		ret->names.saved_query_name = text_of(item, "saved_query_name");
		ret->names.normalized_name = copy_name(arena, ret->names.model_label, "model");
		ret->names.table_name = ret->names.normalized_name;
		ret->owner = ret->names.saved_query_id ? ret->names.saved_query_id : ret->names.model_label;
		return 0;
	}
	const char *source = text_of(item, "source_type"), *schema_id = text_of(item, "schema_id");
	ret->names.normalized_name = copy_name(arena, text_of(item, "name"), "data_imports");
	AUTO_FREE char *label = duct_xasprintf("%s_%s", source, ret->names.normalized_name);
	ret->names.model_label = duct_arena_strdup(arena, label);
	ret->owner = schema_id;
	if (copy_import_table(arena, source, text_of(item, "name"), schema_id, &ret->names.table_name, err) < 0)
		return duct_wrap(err, "input_json.schemas[%zu]", i);
	return 0;
}

/* All of them, checked. */
static int read_list(const struct family *f, const json_t *input, struct duct_arena *arena, struct copy_table **ret, size_t *ret_n,
		     struct duct_error *err)
{
	const json_t *list = json_object_get(input, f->list);
	int64_t team_id = -1;
	if (run_input_int(input, "team_id", 0, INT64_MAX, &team_id, err) < 0)
		return -(int)err->class;
	if (team_id < 0)
		return duct_fail(err, DUCT_CONFIG, "input_json.team_id: a whole number is needed");
	if (!json_is_array(list))
		return duct_fail(err, DUCT_CONFIG, "input_json.%s: a list is needed", f->list);
	const char *schema = copy_schema(arena, f->schema, (long long)team_id);
	AUTO_FREE char *team = duct_xasprintf("%" PRId64, team_id);
	size_t n = json_array_size(list);
	struct copy_table *tables = duct_arena_zalloc(arena, (n + 1) * sizeof *tables);
	for (size_t i = 0; i < n; i++) {
		if (read_item(f, json_array_get(list, i), i, arena, &tables[i], err) < 0)
			return -(int)err->class;
		tables[i].names.team_id = duct_arena_strdup(arena, team);
		tables[i].names.job_id = text_of(input, "job_id");
		tables[i].names.schema_name = schema;
		for (size_t k = 0; k < i; k++)
			if (strcmp(tables[k].names.table_name, tables[i].names.table_name) == 0)
				return duct_fail(err, DUCT_CONFIG,
						 "input_json.%s: \"%s\" and \"%s\" both become table \"%s\": rename one of them",
						 f->list, tables[k].names.model_label, tables[i].names.model_label,
						 tables[i].names.table_name);
	}
	*ret = tables;
	*ret_n = n;
	return 0;
}

static int check_input(const struct family *f, const json_t *input, struct duct_error *err)
{
	const char *const names[] = {"team_id", "job_id", f->list, NULL};
	struct copy_table *tables;
	struct duct_arena arena;
	size_t n;
	if (run_input_only(input, names, err) < 0)
		return -(int)err->class;
	if (json_object_get(input, "job_id") && !json_is_string(json_object_get(input, "job_id")))
		return duct_fail(err, DUCT_CONFIG, "input_json.job_id: a text is expected");
	duct_arena_init(&arena);
	int rc = read_list(f, input, &arena, &tables, &n, err);
	duct_arena_done(&arena);
	return rc;
}

static char *make_key(const struct family *f, const json_t *input)
{
	struct copy_table *tables;
	struct duct_arena arena;
	struct duct_error ignored;
	AUTO_BUF struct duct_buf all = {0};
	char *key = NULL;
	size_t n;
	duct_arena_init(&arena);
	if (read_list(f, input, &arena, &tables, &n, &ignored) == 0 && n > 0) {
		for (size_t i = 0; i < n; i++)
			duct_buf_printf(&all, "%s%s", i ? " " : "", tables[i].names.table_name);
		key = duct_xasprintf("%s-%s-%s", f->key, tables[0].names.team_id, copy_name(&arena, all.data, "model"));
	}
	duct_arena_done(&arena);
	return key;
}

/* --- the work --- */

struct doing {
	const struct family *family;
	struct run_inside *inside;
	struct copy_settings settings;
	struct aws_credentials *credentials;
	struct copy_session session;
	size_t done, n;
	const char *label, *store;
};

static void told_step(void *arg, const char *step)
{
	const struct doing *d = arg;
	AUTO_FREE char *text = duct_xasprintf("%s %s", step, d->label);
	run_inside_progress(&(struct state_progress){(int64_t)d->done, (int64_t)d->n, "tables", text}, NULL);
}

static int skip(struct doing *d, const char *why)
{
	d->inside->skipped = true;
	d->inside->result = json_pack("{s:s}", "skipped", why);
	return 0;
}

/* 1: go on. 0: the gate is closed. */
static int pass_gate(struct doing *d, struct duct_error *err)
{
	int64_t team_id = 0;
	AUTO_BUF struct duct_buf warning = {0};
	if (run_input_int(d->inside->input, "team_id", 0, INT64_MAX, &team_id, err) < 0)
		return -(int)err->class;
	bool open = copy_gate_is_open(d->family->flag, team_id, d->inside->ctx->stop_fd, &warning);
	if (warning.len)
		run_inside_log("warn", "%s", warning.data);
	if (open)
		return 1;
	AUTO_FREE char *why = duct_xasprintf("the feature flag \"%s\" is closed for team %" PRId64, d->family->flag, team_id);
	return skip(d, why);
}

static int ready_bucket(struct doing *d, struct duct_error *err)
{
	const struct copy_settings *s = &d->settings;
	bool there = true;
	if (!s->bucket)
		return 0;
	if (s3_bucket_exists(d->session.s3, s->bucket, &there, err) < 0)
		return -(int)err->class;
	if (there)
		return 0;
	if (!s->dev)
		return duct_fail(err, DUCT_CONFIG,
				 "bucket \"%s\" (DUCKLAKE_BUCKET) does not exist: create it (only dev does by itself)", s->bucket);
	run_inside_log("info", "bucket \"%s\" is created", s->bucket);
	return s3_create_bucket(d->session.s3, s->bucket, err);
}

/* Folders of this machine are for development: what a run may read elsewhere is in the bucket. */
static int refuse_folders(const struct doing *d, const struct copy_table *tables, struct duct_error *err)
{
	for (size_t i = 0; i < d->n && !d->settings.dev; i++)
		if (!s3_is_url(tables[i].names.source_table_uri))
			return duct_fail(err, DUCT_CONFIG,
					 "table_uri: \"%.300s\" is no s3:// URL; folders are read with DUCTSTREAM_ENV=dev only",
					 tables[i].names.source_table_uri);
	return 0;
}

/* What came of a table, also as datasets: what it was read from, and the table of the lake. */
static json_t *dataset_of(const struct doing *d, const struct copy_table *table, bool read, const json_t *result)
{
	AUTO_FREE char *name = duct_xasprintf("ducklake.%s.%s", table->names.schema_name, table->names.table_name);
	json_t *dataset = read ? run_dataset_at(table->names.source_table_uri) : run_dataset(d->store, name);
	static const char *const of_source[] = {"columns", NULL}, *const of_table[] = {"columns", "rows",	 "bytes",
										       "files",	  "snapshot_id", NULL};
	for (const char *const *key = read ? of_source : of_table; *key; key++)
		if (json_object_get(result, *key))
			json_object_set(dataset, *key, json_object_get(result, *key));
	if (read && json_object_get(result, "delta_version"))
		json_object_set(dataset, "version", json_object_get(result, "delta_version"));
	return dataset;
}

static int copy_one(struct doing *d, const struct copy_table *table, json_t *list, struct duct_error *err)
{
	char id[DUCT_UUID_LEN];
	AUTO_FREE char *name = duct_xasprintf("%s.%s", table->names.schema_name, table->names.table_name);
	json_t *result = NULL;
	struct run_part part = {.name = name,
				.id = duct_uuid_v7(id),
				.inputs = run_dataset_list(dataset_of(d, table, true, NULL)),
				.outputs = run_dataset_list(dataset_of(d, table, false, NULL))};
	d->label = table->names.table_name;
	run_record_begin(d->inside->record, &part);
	int rc = copy_table(&d->session, table, d->inside->arena, &result, err);
	part.inputs = run_dataset_list(dataset_of(d, table, true, result));
	part.outputs = run_dataset_list(dataset_of(d, table, false, result));
	run_record_end(d->inside->record, &part, rc, err);
	json_object_del(result, "columns");
	json_array_append_new(list, result);
	return rc;
}

static int copy_all(struct doing *d, const struct copy_table *tables, struct duct_error *err)
{
	json_t *list = json_array();
	int rc = 0;
	d->inside->result = json_pack("{s:o}", "tables", list);
	for (size_t i = 0; i < d->n && rc == 0; i++) {
		d->done = i;
		rc = copy_one(d, &tables[i], list, err);
		if (rc == 0 && duct_ctx_stopped(d->inside->ctx) && i + 1 < d->n)
			rc = duct_fail(err, DUCT_CANCELLED, "asked to end");
	}
	if (rc == 0)
		run_inside_progress(&(struct state_progress){(int64_t)d->n, (int64_t)d->n, "tables", "done"}, NULL);
	return rc;
}

static int in_session(struct doing *d, const struct copy_table *tables, struct duct_error *err)
{
	struct duck_session *duck = NULL;
	struct duck_keys *keys = NULL;
	const char *checks = getenv("DUCKLAKE_COPY_CHECKS");
	d->session = (struct copy_session){
		.settings = &d->settings,
		.ctx = d->inside->ctx,
		.kind = d->family->checks,
		.checks_path = checks && *checks ? checks : NULL,
		.step = told_step,
		.log = run_inside_log,
		.arg = d,
	};
	bool remote = d->settings.bucket;
	AUTO_FREE char *store = duck_lake_label(&d->settings.lake);
	d->store = store;
	for (size_t i = 0; i < d->n; i++)
		remote |= s3_is_url(tables[i].names.source_table_uri);
	int rc = remote ? s3_open(&d->session.s3, &d->settings.s3, d->credentials, d->inside->ctx->stop_fd, err) : 0;
	rc = rc ? rc : ready_bucket(d, err);
	rc = rc ? rc : duck_session_open(&duck, err);
	d->session.conn = rc ? NULL : duck_connect(duck_session_db(duck));
	rc = rc || !d->session.s3
		? rc
		: duck_keys_open(&keys, duck_session_db(duck), "ducklake_s3", NULL, &d->settings.s3, d->credentials, err);
	/* What comes from S3 is read once: DuckDB would keep all of it, beside its limit of memory as well. */
	rc = rc ? rc : duck_exec(d->session.conn, "SET GLOBAL enable_external_file_cache = false", err);
	rc = rc ? rc : duck_load_extension(d->session.conn, "delta", err);
	rc = rc ? rc : duck_tap_open(&d->session.tap, d->session.conn, err);
	rc = rc ? rc : copy_all(d, tables, err);
	duck_keys_close(keys);
	duck_disconnect(d->session.conn);
	duck_session_close(duck);
	duck_tap_close(d->session.tap);
	s3_close(d->session.s3);
	return rc;
}

static int work(const struct family *f, struct run_inside *inside, struct duct_error *err)
{
	struct doing d = {.family = f, .inside = inside, .label = ""};
	struct copy_table *tables;
	const char *filled;
	if (read_list(f, inside->input, inside->arena, &tables, &d.n, err) < 0)
		return -(int)err->class;
	if (d.n == 0)
		return skip(&d, "there is no table to copy");
	int rc = copy_settings_load(&d.settings, inside->arena, &filled, err);
	if (rc == 0 && filled)
		run_inside_log("info", "DUCTSTREAM_ENV is dev, so these are the local defaults: %s", filled);
	rc = rc ? rc : pass_gate(&d, err);
	if (rc == 1) {
		d.credentials = aws_credentials_open(&d.settings.s3, inside->ctx->stop_fd);
		rc = refuse_folders(&d, tables, err);
		rc = rc ? rc : in_session(&d, tables, err);
		aws_credentials_close(d.credentials);
	}
	copy_settings_done(&d.settings);
	return rc;
}

/* --- the kinds --- */

static int check_modeling(const json_t *input, struct duct_error *err)
{
	return check_input(&modeling, input, err);
}

static int check_imports(const json_t *input, struct duct_error *err)
{
	return check_input(&imports, input, err);
}

static int copy_modeling(struct run_inside *inside, struct duct_error *err)
{
	return work(&modeling, inside, err);
}

static int copy_imports(struct run_inside *inside, struct duct_error *err)
{
	return work(&imports, inside, err);
}

static char *key_modeling(const json_t *input)
{
	return make_key(&modeling, input);
}

static char *key_imports(const json_t *input)
{
	return make_key(&imports, input);
}

const struct run_job run_job_copy_modeling = {
	.kind = "ducklake-copy.data-modeling",
	.summary = "copies Delta tables of saved queries into the lake",
	.check = check_modeling,
	.inside = copy_modeling,
	.key = key_modeling,
	.alone = true,
};
const struct run_job run_job_copy_imports = {
	.kind = "ducklake-copy.data-imports",
	.summary = "copies Delta tables of imported data into the lake",
	.check = check_imports,
	.inside = copy_imports,
	.key = key_imports,
	.alone = true,
};
