/*
 * Kind "model": a folder of SQL models is built or tested, {"models": "/path", "command": "run", "select": ["+gold"], "exclude": [], "full_refresh": false,
 * "parallel": 4, "vars": {"day": "2024-10-15"}}. The folder is one of the worker's machine, and its queries may read what that process may, so only
 * admins enqueue it. The lake is that of the worker's environment (duck/session.h), so no run carries a secret.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "model/build.h"
#include "run/inside_lake.h"
#include "run/record.h"

enum { PARALLEL = 4, MOST_PARALLEL = 32 };

static int check_texts(const json_t *input, const char *name, struct duct_error *err)
{
	const json_t *list = json_object_get(input, name);
	size_t n;
	return list && !(json_is_array(list) && json_array_size(list) == 0) ? run_input_texts(input, name, &n, err) : 0;
}

static int check_vars(const json_t *input, struct duct_error *err)
{
	const json_t *vars = json_object_get(input, "vars"), *value;
	const char *name;
	if (vars && !json_is_object(vars))
		return duct_fail(err, DUCT_CONFIG, "input_json.vars: an object of texts is needed");
	json_object_foreach((json_t *)(uintptr_t)vars, name,
			    value) if (!json_is_string(value)) return duct_fail(err, DUCT_CONFIG,
										"input_json.vars.%.60s: a text is needed", name);
	return 0;
}

static int check(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"models", "command", "select", "exclude", "full_refresh", "parallel", "vars", NULL};
	const char *folder = "", *command = "run";
	bool full = false;
	int64_t parallel = PARALLEL;
	if (run_input_only(input, names, err) < 0 || run_input_text(input, "models", &folder, err) < 0 ||
	    (json_object_get(input, "command") && run_input_text(input, "command", &command, err) < 0) ||
	    check_texts(input, "select", err) < 0 || check_texts(input, "exclude", err) < 0 ||
	    run_input_bool(input, "full_refresh", &full, err) < 0 ||
	    run_input_int(input, "parallel", 1, MOST_PARALLEL, &parallel, err) < 0 || check_vars(input, err) < 0)
		return -(int)err->class;
	if (*folder != '/')
		return duct_fail(err, DUCT_CONFIG, "input_json.models: the folder's path from the root on is needed");
	if (strcmp(command, "run") != 0 && strcmp(command, "test") != 0)
		return duct_fail(err, DUCT_CONFIG, "input_json.command: \"run\" or \"test\"");
	return 0;
}

/* Of the callbacks. */
struct told {
	struct run_inside *inside;
	char *store;
	const char *catalog_schema;
};

static void log_line(void *arg, const char *level, const char *text)
{
	(void)arg;
	run_inside_log(level, "%s", text);
}

static void tell(void *arg, int done, int total, const char *step)
{
	(void)arg;
	run_inside_progress(&(struct state_progress){.done = done, .total = total, .unit = "models", .step = step}, NULL);
}

static int take_column(void *arg, const char *const *v, struct duct_error *err)
{
	(void)err;
	run_dataset_column(arg, v[0], v[1]);
	return 0;
}

static int take_files(void *arg, const char *const *v, struct duct_error *err)
{
	(void)err;
	run_dataset_number(arg, "files", strtoll(v[0], NULL, 10));
	run_dataset_number(arg, "bytes", strtoll(v[1], NULL, 10));
	return 0;
}

static void put_columns(json_t *dataset, struct duck_conn *conn, const char *schema, const char *table)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored;
	duct_buf_puts(&sql, "SELECT column_name, column_type FROM (DESCRIBE " MODEL_LAKE ".");
	duct_buf_sql_ident(&sql, schema);
	duct_buf_putc(&sql, '.');
	duct_buf_sql_ident(&sql, table);
	duct_buf_putc(&sql, ')');
	int rc = duck_rows(conn, sql.data, take_column, dataset, &ignored);
	(void)rc; /* then nobody knows them */
}

static json_t *table_of(const struct told *told, struct duck_conn *conn, const char *schema, const char *table)
{
	AUTO_FREE char *name = duct_xasprintf(MODEL_LAKE ".%s.%s", schema, table);
	json_t *dataset = run_dataset(told->store, name);
	if (conn)
		put_columns(dataset, conn, schema, table);
	return dataset;
}

/* Of the commit, which is this model's alone. */
static void put_files(const struct told *told, json_t *dataset, const struct model_event *event)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored;
	duct_buf_puts(&sql,
		      "SELECT CAST(count(*) AS VARCHAR), CAST(coalesce(sum(file_size_bytes), 0) AS VARCHAR) FROM "
		      "__ducklake_metadata_" MODEL_LAKE ".");
	duct_buf_sql_ident(&sql, told->catalog_schema);
	duct_buf_printf(&sql, ".ducklake_data_file WHERE begin_snapshot = %" PRId64, event->snapshot);
	int rc = duck_rows(event->conn, sql.data, take_files, dataset, &ignored);
	(void)rc;
}

static void send_event(void *arg, const struct model_event *event)
{
	struct told *told = arg;
	const struct model *m = event->model;
	struct duck_conn *conn = event->what == MODEL_DONE ? event->conn : NULL;
	AUTO_FREE char *name = duct_xasprintf("%s.%s", m->schema, m->name);
	json_t *inputs = json_array(), *output = table_of(told, conn, m->schema, m->name);
	for (size_t i = 0; i < m->ninputs; i++)
		json_array_append_new(inputs, table_of(told, conn, m->inputs[i].schema, m->inputs[i].table));
	if (event->rows >= 0)
		run_dataset_number(output, "rows", event->rows);
	if (event->snapshot > 0)
		run_dataset_number(output, "snapshot_id", event->snapshot);
	if (conn && event->snapshot > 0)
		put_files(told, output, event);
	const struct run_part part = {
		.name = name, .id = event->id, .inputs = inputs, .outputs = run_dataset_list(output), .sql = m->sql};
	if (event->what == MODEL_BEGINS)
		run_record_begin(told->inside->record, &part);
	else
		run_record_end(told->inside->record, &part, event->error ? -(int)event->error->class : 0, event->error);
}

static const char **texts(struct run_inside *w, const char *name, size_t *ret_n)
{
	const json_t *list = json_object_get(w->input, name);
	const char **to = duct_arena_alloc(w->arena, (json_array_size(list) + 1) * sizeof *to);
	for (size_t i = 0; i < json_array_size(list); i++)
		to[i] = json_string_value(json_array_get(list, i));
	*ret_n = json_array_size(list);
	return to;
}

static struct model_var *vars_of(struct run_inside *w, size_t *ret_n)
{
	const json_t *vars = json_object_get(w->input, "vars"), *value;
	struct model_var *to = duct_arena_alloc(w->arena, (json_object_size(vars) + 1) * sizeof *to);
	const char *name;
	*ret_n = 0;
	json_object_foreach((json_t *)(uintptr_t)vars, name, value) to[(*ret_n)++] =
		(struct model_var){.name = name, .value = json_string_value(value)};
	return to;
}

static int renew(void *arg, struct duck_conn *conn, struct duct_error *err)
{
	return run_lake_renew(arg, conn, err);
}

static int build(struct run_inside *w, const struct model_project *project, struct duck_session *session, struct run_lake *lake,
		 struct duct_error *err)
{
	size_t nselect, nexcept;
	const char **select = texts(w, "select", &nselect), **except = texts(w, "exclude", &nexcept);
	const char *command = json_string_value(json_object_get(w->input, "command"));
	bool *selected = duct_arena_zalloc(w->arena, project->n * sizeof *selected);
	int64_t parallel = PARALLEL;
	struct told told = {.inside = w};
	struct model_build_options options = {
		.ctx = w->ctx,
		.lake = run_lake_config(lake),
		.renew = renew,
		.renew_arg = lake,
		.run_id = w->run_id,
		.full_refresh = json_is_true(json_object_get(w->input, "full_refresh")),
		.test_only = command && strcmp(command, "test") == 0,
		.log = log_line,
		.progress = tell,
		.event = send_event,
		.arg = &told,
	};
	if (run_input_int(w->input, "parallel", 1, MOST_PARALLEL, &parallel, err) < 0 ||
	    model_select(project, select, nselect, except, nexcept, selected, err) < 0)
		return -(int)err->class;
	options.parallel = (int)parallel;
	const struct duck_lake *config = run_lake_config(lake);
	told.store = duck_lake_label(config);
	told.catalog_schema = duck_lake_schema(config);
	int rc = model_build(project, selected, session, &options, &w->result, err);
	free(told.store);
	w->skipped = rc == 0 && !options.test_only && !json_integer_value(json_object_get(w->result, "built")) &&
		!json_integer_value(json_object_get(w->result, "unchanged"));
	if (w->skipped)
		json_object_set_new(w->result, "skipped", json_string("nothing is new"));
	return rc;
}

static int inside(struct run_inside *w, struct duct_error *err)
{
	struct duck_session *session = NULL;
	struct model_project *project = NULL;
	struct run_lake *lake = NULL;
	size_t nvars;
	struct model_var *vars = vars_of(w, &nvars);
	const char *folder = json_string_value(json_object_get(w->input, "models"));
	int rc = duck_session_open(&session, err);
	if (rc)
		return rc;
	struct duck_conn *conn = duck_connect(duck_session_db(session));
	rc = model_project_open(&project, folder, vars, nvars, conn, err);
	rc = rc ? rc : run_lake_attach(&lake, w, conn, MODEL_LAKE, err);
	rc = rc ? rc : build(w, project, session, lake, err);
	run_lake_close(lake);
	model_project_close(project);
	duck_disconnect(conn);
	duck_session_close(session);
	return rc;
}

/* One at a time on a folder and the lake of the environment. */
static char *make_key(const json_t *input)
{
	struct duck_lake lake;
	struct duct_arena arena;
	struct duct_error ignored;
	const char *folder = json_string_value(json_object_get(input, "models"));
	char path[PATH_MAX], *key = NULL;
	duct_arena_init(&arena);
	if (folder && duck_lake_from_env(&lake, &arena, &ignored) == 0) {
		AUTO_FREE char *label = duck_lake_label(&lake);
		key = duct_xasprintf("model/%s/%s", label, realpath(folder, path) ? path : folder);
	}
	duct_arena_done(&arena);
	return key;
}

const struct run_job run_job_model = {
	.kind = "model",
	.summary = "builds or tests SQL models of the lake",
	.admin = true,
	.check = check,
	.inside = inside,
	.key = make_key,
};
