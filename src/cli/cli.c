#include "cli/cli.h"
#include "cli/signals.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct cli_command *const cli_commands[] = {
	&cli_run,	  &cli_check,	&cli_options, &cli_health, &cli_lake_copy_again, &cli_lake_orphans, &cli_lake_snapshots,
	&cli_lake_verify, &cli_version, &cli_help,    NULL,
};

static void unknown_command(const char *one, const char *two, struct duct_error *err)
{
	const char *names[32] = {0};
	for (size_t i = 0; cli_commands[i] && i + 1 < DUCT_LEN(names); i++)
		names[i] = cli_commands[i]->name;
	const char *near = duct_nearest(two, names), *shown = near ? two : one;
	near = near ? near : duct_nearest(one, names);
	if (near)
		(void)duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": did you mean \"%s\"?", shown, near);
	else
		(void)duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": `ductstream help` lists the commands", shown);
}

/* "lake" alone, or with a second word that does not exist. */
static bool is_group(const char *word, struct duct_buf *ret_members)
{
	size_t n = strlen(word);
	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name;
		if (strncmp(name, word, n) == 0 && name[n] == ' ')
			duct_buf_printf(ret_members, "%s\"%s\"", ret_members->len ? " or " : "", name);
	}
	return ret_members->len > 0;
}

const struct cli_command *cli_find(int argc, char **argv, int *ret_used, struct duct_error *err)
{
	AUTO_BUF struct duct_buf two = {0}, members = {0};
	bool has_second = argc > 1 && argv[1][0] != '-';
	duct_buf_printf(&two, "%s%s%s", argv[0], has_second ? " " : "", has_second ? argv[1] : "");
	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name;
		bool of_two = strchr(name, ' ') != NULL;
		if (strcmp(name, of_two ? two.data : argv[0]) == 0) {
			*ret_used = of_two ? 2 : 1;
			return cli_commands[i];
		}
	}
	if (is_group(argv[0], &members) && !has_second)
		(void)duct_fail(err, DUCT_CONFIG, "\"%s\" is not a whole command: %s", argv[0], members.data);
	else
		unknown_command(members.len ? two.data : argv[0], two.data, err);
	return NULL;
}

static bool is_flag(const char *arg, const char *name)
{
	if (*arg != '-')
		return false;
	arg += arg[1] == '-' ? 2 : 1;
	return strcmp(arg, name) == 0;
}

/* Flags that may stand anywhere are seen before the command is: an error then has the right form. */
static bool asks_for(int argc, char **argv, const char *name)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (is_flag(argv[i], name))
			return true;
	return false;
}

static int dispatch(int argc, char **argv, struct duct_error *err)
{
	if (argc == 0 || is_flag(argv[0], "help") || is_flag(argv[0], "h"))
		return cli_help.run(0, NULL, err);
	if (is_flag(argv[0], "version"))
		return cli_version.run(argc - 1, argv + 1, err);
	int used;
	const struct cli_command *command = cli_find(argc, argv, &used, err);
	if (!command)
		return -(int)err->class;
	argc -= used;
	argv += used;
	if (asks_for(argc, argv, "help") || asks_for(argc, argv, "h")) {
		cli_print_help(command);
		return 0;
	}
	if (command != &cli_run)
		cli_signals_let_go();
	return command->run(argc, argv, err);
}

int cli_main(int argc, char **argv)
{
	struct duct_error err = {0};
	cli_signals_hold();
	/* A reader that went away is an error of write(2), not the end of a process in the middle of a commit. */
	signal(SIGPIPE, SIG_IGN);
	cli_json = asks_for(argc - 1, argv + 1, "json");
	int rc = dispatch(argc > 0 ? argc - 1 : 0, argv + 1, &err);
	if (fflush(stdout) != 0 && rc == 0)
		rc = duct_fail(&err, DUCT_RETRY, "standard output cannot be written");
	if (rc >= 0)
		return rc;
	cli_print_error(&err);
	return duct_class_exit_code((enum duct_class) - rc);
}
