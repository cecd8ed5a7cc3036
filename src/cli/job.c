#include "cli/cli.h"
#include "cli/signals.h"
#include "run/inside.h"

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *kind;
	struct cli_signals signals;
	int rc = cli_flags_parse(argc, argv, NULL, &kind, 1, 1, "the kind of a run", err);
	if (rc < 0)
		return rc;
	rc = cli_signals_start(&signals, DUCT_WARN, "", err);
	if (rc)
		return rc;
	rc = run_inside_main(kind, &signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}

const struct cli_command cli_job = {
	.name = "job",
	.usage = "job KIND",
	.summary = "the work of one run, for who does runs",
	.help = "What a run of that kind does, in this process: reads its input as JSON from\n"
		"standard input, writes its progress as JSON lines and, last, its result. Who\n"
		"takes runs starts it; nothing is recorded when it is started by hand.",
	.hidden = true,
	.holds_signals = true,
	.run = run,
};
