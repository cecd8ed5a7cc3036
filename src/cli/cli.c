#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct cli_command *const cli_commands[] = {
	&cli_run,	  &cli_check,	    &cli_options, &cli_health, &cli_lake_snapshots,
	&cli_lake_verify, &cli_version, &cli_help,	  NULL,
};

static int unknown_command(const char *word, const char *const *names, struct duct_error *err)
{
	const char *near = duct_nearest(word, names);
	if (near)
		return duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": did you mean \"%s\"?", word, near);
	return duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": `ductstream help` lists the commands", word);
}

const struct cli_command *cli_find(int argc, char **argv, int *ret_used, struct duct_error *err)
{
	const char *names[32] = {0};
	size_t n = 0;
	bool group = false;
	AUTO_BUF struct duct_buf two = {0};
	duct_buf_printf(&two, "%s %s", argv[0], argc > 1 && argv[1][0] != '-' ? argv[1] : "");
	for (size_t i = 0; cli_commands[i]; i++) {
		const char *name = cli_commands[i]->name, *space = strchr(name, ' ');
		names[n++] = name;
		if (strcmp(name, argv[0]) == 0 || strcmp(name, two.data) == 0) {
			*ret_used = space ? 2 : 1;
			return cli_commands[i];
		}
		if (space && strlen(argv[0]) == (size_t)(space - name) && strncmp(name, argv[0], strlen(argv[0])) == 0)
			group = true;
	}
	if (group && two.data[two.len - 1] == ' ')
		(void)duct_fail(err, DUCT_CONFIG, "\"%s\" needs a second word: `ductstream help` lists the commands",
				argv[0]);
	else if (group || !duct_nearest(argv[0], names))
		(void)unknown_command(group ? two.data : argv[0], names, err);
	else
		(void)unknown_command(argv[0], names, err);
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
	return command->run(argc, argv, err);
}

int cli_main(int argc, char **argv)
{
	struct duct_error err = {0};
	/* A reader that went away is an error of write(2), not the end of a process in the middle of a commit. */
	signal(SIGPIPE, SIG_IGN);
	cli_json = asks_for(argc - 1, argv + 1, "json");
	int rc = dispatch(argc > 0 ? argc - 1 : 0, argv + 1, &err);
	if (fflush(stdout) != 0 && rc == 0)
		rc = duct_fail(&err, DUCT_RETRY, "standard output cannot be written");
	if (rc >= 0)
		return rc;
	cli_print_error(&err);
	return duct_class_exit_code((enum duct_class)-rc);
}
