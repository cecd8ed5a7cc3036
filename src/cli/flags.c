#include "cli/cli.h"

#include <string.h>

#include "options/text.h"

bool cli_json;

static const struct cli_flag common[] = {{"json", &cli_json, NULL}, {0}};

/* A program without commands has none. */
static const struct cli_flag *common_of_program(void)
{
	return cli_program ? cli_program->common : NULL;
}

static const struct cli_flag *find_in(const struct cli_flag *flags, const char *name, size_t n)
{
	for (; flags && flags->name; flags++)
		if (strlen(flags->name) == n && memcmp(flags->name, name, n) == 0)
			return flags;
	return NULL;
}

static int unknown_flag(const char *arg, const char *name, size_t n, const struct cli_flag *flags, struct duct_error *err)
{
	const char *names[48] = {0};
	size_t count = 0;
	for (const struct cli_flag *f = flags; f && f->name && count < 28; f++)
		names[count++] = f->name;
	for (const struct cli_flag *f = common_of_program(); f && f->name && count < 44; f++)
		names[count++] = f->name;
	names[count++] = "json";
	names[count] = "help";
	AUTO_FREE char *bare = duct_xstrndup(name, n);
	const char *near = duct_nearest(bare, names);
	/* What stands behind "=" may be a secret. */
	if (near)
		return duct_fail(err, DUCT_CONFIG, "unknown flag \"%.*s\": did you mean \"--%s\"?", (int)(name - arg) + (int)n, arg,
				 near);
	return duct_fail(err, DUCT_CONFIG, "unknown flag \"%.*s\": add --help for the ones this command takes",
			 (int)(name - arg) + (int)n, arg);
}

static int set_switch(const struct cli_flag *flag, const char *value, struct duct_error *err)
{
	if (!duct_parse_bool(value, flag->on))
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\": \"%.40s\" is neither true nor false", flag->name, value);
	*flag->text = *flag->on ? "true" : "false";
	return 0;
}

/* The flag in argv[*at]; moves *at over a value of its own. */
static int parse_flag(int argc, char **argv, int *at, const struct cli_flag *flags, struct duct_error *err)
{
	const char *arg = argv[*at], *name = arg + strspn(arg, "-");
	const char *equals = strchr(name, '=');
	size_t n = equals ? (size_t)(equals - name) : strlen(name);
	const struct cli_flag *flag = name - arg <= 2 ? find_in(flags, name, n) : NULL;
	if (!flag && name - arg <= 2)
		flag = find_in(common, name, n);
	if (!flag && name - arg <= 2)
		flag = find_in(common_of_program(), name, n);
	if (!flag)
		return unknown_flag(arg, name, n, flags, err);
	if (flag->on && !flag->text && equals)
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" takes no value", flag->name);
	if (!flag->text) {
		*flag->on = true;
		return 0;
	}
	if (*flag->text)
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" is given twice", flag->name);
	if (flag->on)
		return set_switch(flag, equals ? equals + 1 : "true", err);
	if (!equals && *at + 1 >= argc)
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" needs a value", flag->name);
	*flag->text = equals ? equals + 1 : argv[++*at];
	return 0;
}

int cli_flags_parse(int argc, char **argv, const struct cli_flag *flags, const char **positional, int least, int most,
		    const char *what, struct duct_error *err)
{
	int n = 0;
	bool ended = false;
	for (int i = 0; i < argc; i++) {
		int rc = 0;
		if (!ended && strcmp(argv[i], "--") == 0)
			ended = true;
		else if (!ended && argv[i][0] == '-' && argv[i][1])
			rc = parse_flag(argc, argv, &i, flags, err);
		else if (n == most)
			rc = most ? duct_fail(err, DUCT_CONFIG, "one argument too many: %s expected", what)
				  : duct_fail(err, DUCT_CONFIG, "this command takes no arguments");
		else
			positional[n++] = argv[i];
		if (rc)
			return rc;
	}
	if (n < least)
		return duct_fail(err, DUCT_CONFIG, "an argument is missing: %s expected", what);
	return n;
}

void cli_unquote(const char **value)
{
	size_t n = *value ? strlen(*value) : 0;
	if (n < 2 || (*value)[0] != '"' || (*value)[n - 1] != '"')
		return;
	/* Words of the command line are the process's own. */
	((char *)(uintptr_t)*value)[n - 1] = 0;
	++*value;
}
