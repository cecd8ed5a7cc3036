#include <limits.h>
#include <string.h>

#include "cli/here.h"
#include "duck/session.h"
#include "model/docs.h"

/* What all of them say: which models of which folder. */
struct request {
	const char *folder, *select, *exclude, *vars, *catalog, *data_path, *metadata_schema, *parallel;
	bool full_refresh;
};

/* "a b,c": words. */
static json_t *words_of(const char *text)
{
	json_t *list = json_array();
	AUTO_FREE char *copy = duct_xstrdup(text ? text : "");
	for (char *rest = copy, *word; (word = strsep(&rest, ", "));)
		if (*word)
			json_array_append_new(list, json_string(word));
	return list;
}

/* "day=2024-10-15,limit=5" */
static int take_vars(const char *text, json_t *to, struct duct_error *err)
{
	AUTO_FREE char *copy = duct_xstrdup(text ? text : "");
	for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
		char *equals = strchr(word, '=');
		if (!*word)
			continue;
		if (!equals || equals == word)
			return duct_fail(err, DUCT_CONFIG, "flag \"--var\": \"%.60s\": NAME=VALUE[,NAME=VALUE...] expected", word);
		*equals = 0;
		json_object_set_new(to, word, json_string(equals + 1));
	}
	return 0;
}

static int parse(int argc, char **argv, struct request *r, bool builds, struct duct_error *err)
{
	const struct cli_flag flags[] = {
		{"select", NULL, &r->select},
		{"exclude", NULL, &r->exclude},
		{"var", NULL, &r->vars},
		{builds ? "catalog" : NULL, NULL, &r->catalog},
		{"data-path", NULL, &r->data_path},
		{"metadata-schema", NULL, &r->metadata_schema},
		{"parallel", NULL, &r->parallel},
		{"full-refresh", &r->full_refresh, NULL},
		{0},
	};
	int n = cli_flags_parse(argc, argv, flags, &r->folder, 0, 1, "the folder of the models", err);
	if (n < 0)
		return n;
	const char *given = getenv("DUCTSTREAM_MODELS");
	r->folder = r->folder ? r->folder : given && *given ? given : "models";
	return 0;
}

/* The child takes the lake from its environment, so that what is secret in it is in no record of the run. */
static void set_lake(const struct request *r)
{
	const char *const names[][2] = {{"DUCKLAKE_CATALOG", r->catalog},
					{"DUCKLAKE_DATA_PATH", r->data_path},
					{"DUCKLAKE_METADATA_SCHEMA", r->metadata_schema}};
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (names[i][1])
			(void)setenv(names[i][0], names[i][1], 1);
}

static void put_result(struct duct_buf *to, const json_t *result)
{
	static const char *const counts[][2] = {{"built", "built"},   {"unchanged", "unchanged"}, {"up_to_date", "up to date"},
						{"tested", "tested"}, {"failed", "failed"},	  {"left_out", "left out"}};
	bool any = false;
	for (size_t i = 0; i < DUCT_LEN(counts); i++) {
		json_int_t n = json_integer_value(json_object_get(result, counts[i][0]));
		if (n)
			duct_buf_printf(to, "%s%lld %s", any ? ", " : "", (long long)n, counts[i][1]);
		any |= n > 0;
	}
	duct_buf_puts(to, any ? "\n" : "");
}

/* One at a time on a lake and a folder. */
static int execute(const struct request *r, const char *command, struct duct_error *err)
{
	char folder[PATH_MAX];
	struct duck_lake lake;
	struct duct_arena arena;
	json_t *vars = json_object();
	if (!realpath(r->folder, folder)) {
		json_decref(vars);
		return duct_fail(err, DUCT_CONFIG, "folder \"%s\" of models: it is not there: name it, or set DUCTSTREAM_MODELS",
				 r->folder);
	}
	set_lake(r);
	duct_arena_init(&arena);
	int rc = take_vars(r->vars, vars, err);
	rc = rc ? rc : duck_lake_from_env(&lake, &arena, err);
	if (rc == 0) {
		struct cli_here here = {.kind = "model", .put_result = put_result};
		here.input =
			json_pack("{s:s,s:s,s:o,s:o,s:O,s:b}", "models", folder, "command", command, "select", words_of(r->select),
				  "exclude", words_of(r->exclude), "vars", vars, "full_refresh", (int)r->full_refresh);
		if (r->parallel)
			json_object_set_new(here.input, "parallel", json_integer(strtoll(r->parallel, NULL, 10)));
		rc = cli_run_here(&here, err);
	}
	duct_arena_done(&arena);
	json_decref(vars);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct request r = {0};
	int rc = parse(argc, argv, &r, true, err);
	return rc ? rc : execute(&r, "run", err);
}

static int test(int argc, char **argv, struct duct_error *err)
{
	struct request r = {0};
	int rc = parse(argc, argv, &r, true, err);
	return rc ? rc : execute(&r, "test", err);
}

/* --- what is there, without a lake --- */

static void put_names(struct duct_buf *to, const struct model_names *names, const char *between)
{
	for (size_t i = 0; i < names->n; i++)
		duct_buf_printf(to, "%s%s", i ? between : "", names->list[i]);
}

static void put_line(struct duct_buf *to, const struct model *m)
{
	AUTO_FREE char *name = model_full_name(m);
	AUTO_BUF struct duct_buf tags = {0};
	duct_buf_puts(&tags, "");
	put_names(&tags, &m->tags, ",");
	duct_buf_printf(to, "%-32s %-12s %-16s", name, model_kind_name(m->kind), tags.data);
	for (size_t i = 0; i < m->ninputs; i++)
		duct_buf_printf(to, "%s%s.%s", i ? ", " : " ", m->inputs[i].schema, m->inputs[i].table);
	while (to->data[to->len - 1] == ' ')
		to->len--;
	duct_buf_putc(to, '\n');
}

static json_t *names_json(const struct model_names *names)
{
	json_t *list = json_array();
	for (size_t i = 0; i < names->n; i++)
		json_array_append_new(list, json_string(names->list[i]));
	return list;
}

static void put_object(struct duct_buf *to, const struct model *m)
{
	AUTO_FREE char *name = model_full_name(m);
	json_t *reads = json_array(), *tests = json_array();
	for (size_t i = 0; i < m->ninputs; i++)
		json_array_append_new(reads, json_sprintf("%s.%s", m->inputs[i].schema, m->inputs[i].table));
	for (size_t i = 0; i < m->nchecks; i++)
		json_array_append_new(tests, json_string(m->checks[i].name));
	json_t *object = json_pack("{s:s,s:s,s:s,s:s,s:s*,s:o,s:o,s:o,s:s}", "name", name, "file", m->file, "layer", m->layer,
				   "materialized", model_kind_name(m->kind), "description", m->description, "tags",
				   names_json(&m->tags), "reads", reads, "tests", tests, "sql", m->sql);
	AUTO_FREE char *text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	duct_buf_printf(to, "%s\n", text ? text : "{}");
}

static int show(const struct model_project *project, const struct request *r, bool docs, struct duct_error *err)
{
	json_t *select = words_of(r->select), *exclude = words_of(r->exclude);
	AUTO_FREE const char **yes = duct_xcalloc(json_array_size(select) + 1, sizeof *yes);
	AUTO_FREE const char **no = duct_xcalloc(json_array_size(exclude) + 1, sizeof *no);
	AUTO_FREE bool *selected = duct_xcalloc(project->n, sizeof *selected);
	AUTO_BUF struct duct_buf to = {0};
	for (size_t i = 0; i < json_array_size(select); i++)
		yes[i] = json_string_value(json_array_get(select, i));
	for (size_t i = 0; i < json_array_size(exclude); i++)
		no[i] = json_string_value(json_array_get(exclude, i));
	int rc = model_select(project, yes, json_array_size(select), no, json_array_size(exclude), selected, err);
	if (rc == 0 && docs)
		model_put_docs(&to, project, selected);
	for (size_t i = 0; rc == 0 && !docs && i < project->n; i++)
		if (selected[i])
			(cli_json ? put_object : put_line)(&to, &project->models[i]);
	json_decref(select);
	json_decref(exclude);
	return rc ? rc : cli_print(&to, err);
}

static int read_and_show(int argc, char **argv, bool docs, struct duct_error *err)
{
	struct request r = {0};
	struct model_project *project = NULL;
	json_t *given = json_object(), *value;
	struct model_var vars[64];
	const char *name;
	size_t nvars = 0;
	int rc = parse(argc, argv, &r, false, err);
	rc = rc ? rc : take_vars(r.vars, given, err);
	json_object_foreach(given, name, value) if (nvars < DUCT_LEN(vars)) vars[nvars++] =
		(struct model_var){.name = name, .value = json_string_value(value)};
	struct duck_db *db = duck_open();
	struct duck_conn *conn = duck_connect(db);
	rc = rc ? rc : model_project_open(&project, r.folder, vars, nvars, conn, err);
	rc = rc ? rc : show(project, &r, docs, err);
	model_project_close(project);
	duck_disconnect(conn);
	duck_close(db);
	json_decref(given);
	return rc;
}

static int list(int argc, char **argv, struct duct_error *err)
{
	return read_and_show(argc, argv, false, err);
}

static int docs(int argc, char **argv, struct duct_error *err)
{
	return read_and_show(argc, argv, true, err);
}

#define WHICH "[FOLDER] [--select WORDS]"
#define WHICH_HELP \
	"  --select WORDS     name, schema.name, tag:x, layer:x, a path; + before it:\n" \
	"                     and all it reads, + behind it: and all that reads it\n" \
	"  --exclude WORDS    but not these\n" \
	"  --var NAME=VALUE   for {{ var('NAME') }}; several with commas\n"
#define LAKE_HELP \
	"  --catalog URI      sqlite:PATH or postgres:DSN, else DUCKLAKE_CATALOG\n" \
	"  --data-path PATH   of a lake that is to be created, else DUCKLAKE_DATA_PATH\n"

const struct cli_command cli_model_run = {
	.name = "model run",
	.usage = "model run " WHICH " [--json]",
	.summary = "build SQL models whose inputs or text have changed",
	.help = "Builds the models of a folder (DUCTSTREAM_MODELS, else models) into the lake:\n"
		"those that are new, whose text or inputs have changed. Each is one transaction,\n"
		"committed when its tests pass; a failing one leaves the old table in place.\n\n" WHICH_HELP
		"  --full-refresh     build them all, from all rows\n"
		"  --parallel N       models at the same time, default 4\n" LAKE_HELP
		"\nThe run is in `ductstream runs list`. Exit codes: 0 done or nothing new, 2 a\n"
		"model is wrong, 3 a test fails, 4 try again later, 130 stopped.",
	.holds_signals = true,
	.run = run,
};

const struct cli_command cli_model_test = {
	.name = "model test",
	.usage = "model test " WHICH " [--json]",
	.summary = "test the rows of SQL models as they are",
	.help = "Runs the tests of the models on what is in the lake now, and builds nothing.\n\n" WHICH_HELP
		"  --parallel N       models at the same time, default 4\n" LAKE_HELP "\nExit codes: 0 all pass, 3 one fails.",
	.holds_signals = true,
	.run = test,
};

const struct cli_command cli_model_list = {
	.name = "model list",
	.usage = "model list " WHICH " [--json]",
	.summary = "SQL models, what they are and what they read",
	.help = "Lists the models of a folder in the order in which they can be built. Needs no\nlake.\n\n" WHICH_HELP
		"  --json             one object per model, with its SQL",
	.run = list,
};

const struct cli_command cli_model_docs = {
	.name = "model docs",
	.usage = "model docs " WHICH,
	.summary = "SQL models as a page of Markdown",
	.help = "Writes what the models say of themselves: their graph, descriptions, columns and\ntests. Needs no lake.\n\n" WHICH_HELP,
	.run = docs,
};
