#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int print_overview(struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	duct_buf_puts(&to,
		      "DuctStream moves the changes of a Postgres into a lake: exactly once, at once.\n\n"
		      "usage: ductstream COMMAND [ARGUMENTS] [--json]\n\n");
	for (size_t i = 0; cli_commands[i]; i++)
		duct_buf_printf(&to, "  %-17s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
	duct_buf_puts(&to,
		      "\nA flow is a YAML or JSON file: begin with one of examples/flows/. Explained by\n"
		      "`ductstream help COMMAND`, and `ductstream options CONNECTOR` for what a flow\n"
		      "can say.\n\n"
		      "Exit codes: 0 done, 1 fatal, 2 configuration, 3 data, 4 try again later,\n"
		      "130 stopped by a signal before the work was done.\n");
	return cli_print(&to, err);
}

void cli_print_help(const struct cli_command *command)
{
	printf("usage: ductstream %s\n\n%s\n", command->usage, command->help);
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *words[2];
	int n = cli_flags_parse(argc, argv, NULL, words, 0, 2, "a command", err);
	if (n < 0)
		return n;
	if (n == 0)
		return print_overview(err);
	int used;
	const struct cli_command *command = cli_find(n, (char **)words, &used, err);
	if (!command)
		return -(int)err->class;
	cli_print_help(command);
	return 0;
}

const struct cli_command cli_help = {
	.name = "help",
	.usage = "help [COMMAND]",
	.summary = "this list, or what a command does",
	.help = "Explains a command: what it does, its flags, its exit codes. Without one, lists\n"
		"the commands.",
	.run = run,
};
