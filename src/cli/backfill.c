#include <string.h>

#include "cli/here.h"
#include "run/jobs.h"

static void put_result(struct duct_buf *to, const json_t *result)
{
	size_t i;
	json_t *day, *statement;
	json_array_foreach(json_object_get(result, "days"), i, day)
		duct_buf_printf(to, "%s  %lld rows  %s\n", json_string_value(json_object_get(day, "day")),
				(long long)json_integer_value(json_object_get(day, "rows")),
				json_string_value(json_object_get(day, "path")) ? json_string_value(json_object_get(day, "path"))
										: "");
	json_array_foreach(json_object_get(result, "statements"), i, statement)
		duct_buf_printf(to, "%s\n", json_string_value(statement));
	if (json_is_true(json_object_get(result, "dry_run")))
		duct_buf_puts(to, "dry run: nothing was written\n");
	else
		duct_buf_printf(to, "%lld rows, %lld files exported, %lld registered\n",
				(long long)json_integer_value(json_object_get(result, "rows")),
				(long long)json_integer_value(json_object_get(result, "files_exported")),
				(long long)json_integer_value(json_object_get(result, "files_registered")));
}

static int take_input(const char *partition, const char *config, const char *registry, json_t **ret, struct duct_error *err)
{
	json_error_t why;
	json_t *options = config ? json_loads(config, JSON_REJECT_DUPLICATES, &why) : json_object();
	if (!options)
		return duct_fail(err, DUCT_CONFIG, "--config: column %d: %.200s", why.column, why.text);
	*ret = json_pack("{s:s, s:o}", "partition", partition, "config", options);
	if (registry)
		json_object_set_new(*ret, "registry", json_string(registry));
	return 0;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *job_name = NULL, *partition = NULL, *config = NULL, *registry = NULL;
	const struct cli_flag flags[] = {{"job", NULL, &job_name},
					 {"partition", NULL, &partition},
					 {"config", NULL, &config},
					 {"registry", NULL, &registry},
					 {0}};
	json_t *input = NULL;
	int rc = cli_flags_parse(argc, argv, flags, NULL, 0, 0, "nothing", err);
	if (rc < 0)
		return rc;
	if (!job_name || !partition)
		return duct_fail(err, DUCT_CONFIG, "--job and --partition are needed: ductstream help backfill run");
	const struct run_job *job = run_job_find(job_name);
	if (!job || strncmp(job_name, "duckling_", 9) != 0)
		return duct_fail(err, DUCT_CONFIG,
				 "--job: \"%.60s\" is none: duckling_events_backfill_job or duckling_persons_backfill_job",
				 job_name);
	rc = take_input(partition, config, registry, &input, err);
	rc = rc ? rc : job->check(input, err);
	if (rc) {
		json_decref(input);
		return rc;
	}
	struct cli_here here = {.kind = job_name, .input = input, .put_result = put_result};
	return cli_run_here(&here, err);
}

const struct cli_command cli_backfill_run = {
	.name = "backfill run",
	.usage = "backfill run --job JOB --partition KEY [--config JSON]",
	.summary = "days of a team from ClickHouse into its lake",
	.help = "JOB is duckling_events_backfill_job or duckling_persons_backfill_job; KEY is\n"
		"12345_2024-01-15, 12345_2024-01 (events of a month) or 12345 (all persons).\n"
		"--config takes the options of the run: clickhouse_settings, dry_run,\n"
		"skip_ducklake_registration, skip_schema_validation, delete_tables,\n"
		"cleanup_existing_partition_data (true), create_tables_if_missing (true).\n"
		"ClickHouse is at CLICKHOUSE_URL; --registry names the file of teams\n"
		"(DUCTSTREAM_DUCKLINGS, else ducklings.yaml).",
	.holds_signals = true,
	.run = run,
};
