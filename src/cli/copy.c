/* Copies of Delta tables into the lake, as runs that are done here. */
#include "cli/here.h"

#include <string.h>

#include "options/text.h"

enum { MOST_MODELS = 500 };

static int take_team(const char *text, json_t *input, struct duct_error *err)
{
	int64_t team_id;
	if (!text)
		return duct_fail(err, DUCT_CONFIG, "flag \"--team-id\" is needed: whose tables they are");
	if (!duct_parse_int(text, &team_id) || team_id < 0)
		return duct_fail(err, DUCT_CONFIG, "flag \"--team-id\": \"%.40s\" is no team's number", text);
	json_object_set_new(input, "team_id", json_integer(team_id));
	return 0;
}

static void put_table(struct duct_buf *to, const json_t *table)
{
	size_t i;
	json_t *check;
	const char *mode = json_string_value(json_object_get(table, "mode"));
	duct_buf_printf(to, "%s: %s", json_string_value(json_object_get(table, "table")), mode ? mode : "not read");
	if (json_object_get(table, "rows"))
		duct_buf_printf(to, ", %lld rows in %lld files", (long long)json_integer_value(json_object_get(table, "rows")),
				(long long)json_integer_value(json_object_get(table, "files")));
	if (json_object_get(table, "delta_version"))
		duct_buf_printf(to, ", version %lld", (long long)json_integer_value(json_object_get(table, "delta_version")));
	if (json_object_get(table, "snapshot_id"))
		duct_buf_printf(to, ", snapshot %lld", (long long)json_integer_value(json_object_get(table, "snapshot_id")));
	duct_buf_putc(to, '\n');
	json_array_foreach(json_object_get(table, "checks"), i, check)
	{
		const char *why = json_string_value(json_object_get(check, "error"));
		duct_buf_printf(to, "  %s %s%s%s\n", json_is_true(json_object_get(check, "passed")) ? "passed" : "FAILED",
				json_string_value(json_object_get(check, "name")), why ? ": " : "", why ? why : "");
	}
}

static void put_result(struct duct_buf *to, const json_t *result)
{
	size_t i;
	json_t *table;
	const char *skipped = json_string_value(json_object_get(result, "skipped"));
	if (skipped)
		duct_buf_printf(to, "skipped: %s\n", skipped);
	json_array_foreach(json_object_get(result, "tables"), i, table) put_table(to, table);
}

static int execute(const char *kind, json_t *input, struct duct_error *err)
{
	struct cli_here here = {.kind = kind, .input = input, .put_result = put_result};
	return cli_run_here(&here, err);
}

/* --model may be given often, which the table of flags cannot say: these words are taken out of argv first. */
static int take_models(int *argc, char **argv, json_t *models, struct duct_error *err)
{
	int kept = 0;
	for (int i = 0; i < *argc; i++) {
		const char *name = argv[i] + strspn(argv[i], "-"), *value = NULL;
		bool flag = name > argv[i] && name - argv[i] <= 2;
		if (flag && strncmp(name, "model=", 6) == 0)
			value = name + 6;
		else if (flag && strcmp(name, "model") == 0)
			value = i + 1 < *argc ? argv[++i] : "";
		if (!value) {
			argv[kept++] = argv[i];
			continue;
		}
		const char *equals = strchr(value, '=');
		if (!equals || equals == value || !equals[1] || json_array_size(models) == MOST_MODELS)
			return duct_fail(err, DUCT_CONFIG, "flag \"--model\": NAME=s3://BUCKET/PATH is expected");
		json_array_append_new(models,
				      json_pack("{s:s%,s:s}", "model_label", value, (size_t)(equals - value), "table_uri",
						equals + 1));
	}
	*argc = kept;
	return json_array_size(models) ? 0 : duct_fail(err, DUCT_CONFIG, "flag \"--model\" is needed: NAME=s3://BUCKET/PATH");
}

static int run_modeling(int argc, char **argv, struct duct_error *err)
{
	const char *team = NULL, *job = NULL;
	const struct cli_flag flags[] = {{"team-id", NULL, &team}, {"job-id", NULL, &job}, {0}};
	json_t *models = json_array(), *input = json_pack("{s:o}", "models", models);
	int rc = take_models(&argc, argv, models, err);
	rc = rc < 0 ? rc : cli_flags_parse(argc, argv, flags, NULL, 0, 0, "", err);
	rc = rc < 0 ? rc : take_team(team, input, err);
	if (rc < 0) {
		json_decref(input);
		return rc;
	}
	if (job)
		json_object_set_new(input, "job_id", json_string(job));
	return execute("ducklake-copy.data-modeling", input, err);
}

static int run_imports(int argc, char **argv, struct duct_error *err)
{
	const char *team = NULL, *job = NULL, *schema_id = NULL, *source_type = NULL, *name = NULL, *uri = NULL;
	const struct cli_flag flags[] = {{"team-id", NULL, &team},
					 {"job-id", NULL, &job},
					 {"schema-id", NULL, &schema_id},
					 {"source-type", NULL, &source_type},
					 {"name", NULL, &name},
					 {"table-uri", NULL, &uri},
					 {0}};
	int rc = cli_flags_parse(argc, argv, flags, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	for (const struct cli_flag *f = &flags[2]; f->name; f++)
		if (!*f->text)
			return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" is needed", f->name);
	json_t *input = json_pack("{s:[{s:s,s:s,s:s,s:s}]}", "schemas", "schema_id", schema_id, "source_type", source_type, "name",
				  name, "table_uri", uri);
	rc = take_team(team, input, err);
	if (rc < 0) {
		json_decref(input);
		return rc;
	}
	if (job)
		json_object_set_new(input, "job_id", json_string(job));
	return execute("ducklake-copy.data-imports", input, err);
}

const struct cli_command cli_copy_modeling = {
	.name = "copy data-modeling",
	.usage = "copy data-modeling --team-id N --model NAME=URI [--model NAME=URI ...] [--json]",
	.summary = "Delta tables of saved queries into the lake",
	.help = "Copies each Delta table to data_modeling_team_N.NAME: written aside, checked\n"
		"against its pinned version, then swapped in one commit. Another copy moves only\n"
		"what was added since, where the Delta log allows it.\n\n"
		"  --team-id N        the team, whose flag ducklake-data-modeling-copy-workflow\n"
		"                     must be open\n"
		"  --model NAME=URI   a table: s3://BUCKET/PATH; may be given often\n"
		"  --job-id ID        for checks that want it\n"
		"  --json             log, progress and result as JSON lines\n\n"
		"Settings are DUCKLAKE_* variables: docs/copies.md.\n\n"
		"Exit codes: 0 copied, or the flag is closed; 2 configuration, 3 a check failed,\n"
		"4 try again later.",
	.holds_signals = true,
	.run = run_modeling,
};

const struct cli_command cli_copy_imports = {
	.name = "copy data-imports",
	.usage = "copy data-imports --team-id N --schema-id UUID --source-type TYPE --name NAME --table-uri URI [--json]",
	.summary = "a Delta table of an import into the lake",
	.help = "Copies the Delta table to data_imports_team_N.TYPE_NAME_UUID8 as `copy\n"
		"data-modeling` does. The flag is ducklake-data-imports-copy-workflow.\n\n"
		"  --team-id N          the team\n"
		"  --schema-id UUID     of the import's schema; its first digits end the name\n"
		"  --source-type TYPE   stripe, hubspot, ...\n"
		"  --name NAME          of the imported table\n"
		"  --table-uri URI      the Delta table: s3://BUCKET/PATH\n"
		"  --job-id ID          for checks that want it\n\n"
		"Settings are DUCKLAKE_* variables: docs/copies.md. Exit codes as there.",
	.holds_signals = true,
	.run = run_imports,
};
