#include "cli/cli.h"

static const struct cli_command *const commands[] = {
	&cli_run,	  &cli_check,	&cli_options, &cli_health, &cli_lake_copy_again, &cli_lake_orphans, &cli_lake_snapshots,
	&cli_lake_verify, &cli_version, &cli_help,    NULL,
};

static void put_overview(struct duct_buf *to)
{
	duct_buf_puts(to,
		      "DuctStream moves the changes of a Postgres into a lake: exactly once, at once.\n\n"
		      "usage: ductstream COMMAND [ARGUMENTS] [--json], or ductstream: the API server\n\n");
	for (size_t i = 0; cli_program->commands[i]; i++)
		duct_buf_printf(to, "  %-17s %s\n", cli_program->commands[i]->name, cli_program->commands[i]->summary);
	duct_buf_puts(to,
		      "\nA flow is a YAML or JSON file: begin with one of examples/flows/. Explained by\n"
		      "`ductstream help COMMAND`, and `ductstream options CONNECTOR` for what a flow\n"
		      "can say (CONNECTOR service: the server's settings).\n\n"
		      "Exit codes: 0 done, 1 fatal, 2 configuration, 3 data, 4 try again later,\n"
		      "130 stopped by a signal before the work was done.\n");
}

static bool watches_signals(const struct cli_command *command)
{
	return command == &cli_run;
}

const struct cli_program cli_ductstream = {
	.name = "ductstream",
	.commands = commands,
	.put_overview = put_overview,
	.watches_signals = watches_signals,
};
