#include "cli/cli.h"
#include "cli/signals.h"

#include <string.h>

const struct cli_program *cli_program;

static void unknown_command(const char *one, const char *two, struct duct_error *err)
{
	const char *names[128] = {0};
	for (size_t i = 0; cli_program->commands[i] && i + 1 < DUCT_LEN(names); i++)
		names[i] = cli_program->commands[i]->name;
	const char *near = duct_nearest(two, names), *shown = near ? two : one;
	near = near ? near : duct_nearest(one, names);
	if (near)
		(void)duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": did you mean \"%s\"?", shown, near);
	else
		(void)duct_fail(err, DUCT_CONFIG, "unknown command \"%.60s\": `%s help` lists the commands", shown,
				cli_program->name);
}

/* "lake" alone, or with a second word that does not exist. */
static bool is_group(const char *word, struct duct_buf *ret_members)
{
	size_t n = strlen(word);
	for (size_t i = 0; cli_program->commands[i]; i++) {
		const char *name = cli_program->commands[i]->name;
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
	for (size_t i = 0; cli_program->commands[i]; i++) {
		const char *name = cli_program->commands[i]->name;
		bool of_two = strchr(name, ' ') != NULL;
		if (strcmp(name, of_two ? two.data : argv[0]) == 0) {
			*ret_used = of_two ? 2 : 1;
			return cli_program->commands[i];
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

/* Common flags before the command: moved behind it. Returns how many words were. */
static int common_flags_first(int argc, char **argv)
{
	int n = 0;
	while (n < argc && argv[n][0] == '-') {
		const struct cli_flag *flag = cli_program->common;
		const char *name = argv[n] + strspn(argv[n], "-"), *equals = strchrnul(name, '=');
		while (flag && flag->name &&
		       (strlen(flag->name) != (size_t)(equals - name) || memcmp(flag->name, name, (size_t)(equals - name))))
			flag++;
		if (!flag || !flag->name)
			break;
		n += !flag->on && !*equals && n + 1 < argc ? 2 : 1;
	}
	return n;
}

static int dispatch(int argc, char **argv, struct duct_error *err)
{
	int first = common_flags_first(argc, argv);
	AUTO_FREE char **words = duct_xcalloc((size_t)argc + 1, sizeof *words);
	memcpy(words, argv + first, (size_t)(argc - first) * sizeof *words);
	memcpy(words + argc - first, argv, (size_t)first * sizeof *words);
	argv = words;
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
	enum duct_level level;
	int rc = cli_log_settings(NULL, &level, err);
	if (rc)
		return rc;
	if (!command->holds_signals)
		cli_signals_let_go();
	return command->run ? command->run(argc, argv, err) : command->run_with(command->detail, argc, argv, err);
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
	struct duct_error err = {0};
	cli_program = program;
	cli_begin();
	cli_json = asks_for(argc - 1, argv + 1, "json");
	return cli_end(dispatch(argc > 0 ? argc - 1 : 0, argv + 1, &err), &err);
}
