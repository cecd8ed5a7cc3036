#include "cli/cli.h"

#include <string.h>

static const struct cli_command *const commands[] = {
	&cli_run,
	&cli_check_copy,
	&cli_check,
	&cli_options,
	&cli_health_client,
	&cli_health,
	&cli_copy_modeling,
	&cli_copy_imports,
	&cli_ingest,
	&cli_lake_copy_again,
	&cli_lake_orphans,
	&cli_lake_snapshots,
	&cli_lake_verify,
	&cli_backfill_run,
	&cli_backfill_orphans,
	&cli_model_run,
	&cli_model_test,
	&cli_model_list,
	&cli_model_docs,
	&cli_model_dbt_profile,
	&cli_job,
	&cli_version,
	&cli_help,
	NULL,
};

/* A line per command; commands of two words share one, at the first of them. Those of a word that is a command, too, are told of in its help. */
static void put_command(struct duct_buf *to, size_t at)
{
	const struct cli_command *const *all = cli_program->commands;
	const char *name = all[at]->name, *space = strchr(name, ' ');
	size_t group = space ? (size_t)(space - name) + 1 : 0;
	if (all[at]->hidden)
		return;
	if (!space) {
		duct_buf_printf(to, "  %-10s %s\n", name, all[at]->summary);
		return;
	}
	for (size_t i = 0; all[i]; i++)
		if ((i < at && strncmp(all[i]->name, name, group) == 0) ||
		    (strlen(all[i]->name) == group - 1 && strncmp(all[i]->name, name, group - 1) == 0))
			return;
	duct_buf_printf(to, "  %-9.*s", (int)group - 1, name);
	for (size_t i = at; all[i]; i++)
		if (strncmp(all[i]->name, name, group) == 0)
			duct_buf_printf(to, " %s %s", i == at ? "" : "|", all[i]->name + group);
	duct_buf_putc(to, '\n');
}

static void put_overview(struct duct_buf *to)
{
	duct_buf_puts(to,
		      "DuctStream moves the changes of a Postgres into a lake: exactly once, at once.\n\n"
		      "usage: ductstream COMMAND [ARGUMENTS] [--json], or ductstream: the API server\n\n");
	for (size_t i = 0; cli_program->commands[i]; i++)
		put_command(to, i);
	duct_buf_puts(to,
		      "\nA flow is a YAML or JSON file (examples/flows/). `ductstream help COMMAND` says\n"
		      "more, `ductstream options CONNECTOR` what a flow can say (service: the server).\n"
		      "Exit codes: 0 done, 1 fatal, 2 configuration, 3 data, 4 try later, 130 stopped.\n");
}

const struct cli_program cli_ductstream = {
	.name = "ductstream",
	.commands = commands,
	.put_overview = put_overview,
};
