#include "cli/cli.h"

static int run(int argc, char **argv, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	int rc = cli_flags_parse(argc, argv, NULL, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	if (cli_json)
		duct_buf_puts(&to, "{\"version\":\"" DUCT_VERSION "\"}\n");
	else
		duct_buf_printf(&to, "%s " DUCT_VERSION "\n", cli_program->name);
	return cli_print(&to, err);
}

const struct cli_command cli_version = {
	.name = "version",
	.usage = "version [--json]",
	.summary = "the version of this program",
	.help = "Prints the version. `ductstream health` shows those of the libraries.",
	.run = run,
};
