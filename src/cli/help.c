#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

void cli_print_help(const struct cli_command *command)
{
	AUTO_BUF struct duct_buf flags = {0};
	if (command->put_flags)
		command->put_flags(command->detail, &flags);
	printf("usage: %s %s\n\n%s\n%s", cli_program->name, command->usage, command->help, flags.len ? flags.data : "");
}

/* Commands of two words that begin with this one. False: there are none. */
static bool put_group(const char *word, struct duct_buf *to)
{
	size_t n = strlen(word);
	for (size_t i = 0; cli_program->commands[i]; i++) {
		const struct cli_command *c = cli_program->commands[i];
		if (strncmp(c->name, word, n) == 0 && c->name[n] == ' ')
			duct_buf_printf(to, "  %-22s %s\n", c->name, c->summary);
		else if (strcmp(c->name, word) == 0)
			return false;
	}
	return to->len > 0;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *words[2];
	int n = cli_flags_parse(argc, argv, NULL, words, 0, 2, "a command", err);
	if (n < 0)
		return n;
	AUTO_BUF struct duct_buf to = {0};
	if (n == 0) {
		cli_program->put_overview(&to);
		return cli_print(&to, err);
	}
	if (n == 1 && put_group(words[0], &to))
		return cli_print(&to, err);
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
