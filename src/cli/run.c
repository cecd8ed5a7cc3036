#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/signals.h"
#include "otel/otel.h"

static int run(int argc, char **argv, struct duct_error *err)
{
	bool until_caught_up = false, accept_gap = false, quiet = false;
	const char *path, *level_text = NULL;
	enum duct_level level = DUCT_INFO;
	const struct cli_flag flags[] = {
		{"until-caught-up", &until_caught_up, NULL},
		{"accept-gap", &accept_gap, NULL},
		{"quiet", &quiet, NULL},
		{"log-level", NULL, &level_text},
		{0},
	};
	int rc = cli_flags_parse(argc, argv, flags, &path, 1, 1, "a flow file", err);
	rc = rc < 0 ? rc : cli_log_settings(level_text, &level, err);
	if (rc < 0)
		return rc;
	AUTO_FLOW struct flow_file *flow = NULL;
	rc = cli_load_flow(&flow, path, accept_gap, err);
	if (rc)
		return rc;

	if (flow->ddl.gate > 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"%s: config.ddl.gate: there is nobody to ask here: make the flow one of the service (ductstream-admin flow create) and "
			"run it with ductstream-worker",
			path);

	struct cli_signals signals;
	rc = cli_signals_start(&signals, level, flow->spec.name, err);
	if (rc)
		return rc;
	struct flow_options options = {
		.until_caught_up = until_caught_up,
		.output = cli_flow_output(quiet),
		.max_memory_bytes = flow->config.max_memory_bytes,
		.give_up_ms = flow->config.give_up_ms,
		.abort = &signals.abort,
		.abort_fd = signals.abort_fd,
	};
	rc = otel_start(&(struct otel_config){.log = signals.ctx.log}, err);
	rc = rc ? rc : flow_run(&flow->spec, &options, &signals.ctx, err);
	otel_stop();
	cli_signals_end(&signals);
	return rc;
}

const struct cli_command cli_run = {
	.name = "run",
	.usage = "run FLOW [--until-caught-up] [--accept-gap] [--quiet] [--json]",
	.summary = "move changes of a flow, until stopped",
	.help = "Copies what is there, then follows the changes. Begins where the destination's\n"
		"last commit ends; start it again after any end, nothing is lost or doubled.\n\n"
		"  --until-caught-up   end when everything committed at the source by now is\n"
		"                      durable at the destination\n"
		"  --accept-gap        go on although changes between the destination's and the\n"
		"                      slot's position are lost\n"
		"  --quiet             no progress\n"
		"  --json              progress as JSON lines on stdout, errors as JSON lines\n"
		"  --log-level LEVEL   debug, info (default), warn or error\n\n"
		"The first Ctrl-C or SIGTERM commits what was received and ends, the second\n"
		"ends without waiting; both are safe.\n\n"
		"Exit codes: 0 caught up or stopped, 1 fatal, 2 configuration, 3 data, 4 gave up\n"
		"trying, 130 stopped before the copy or the way to caught up was done.",
	.holds_signals = true,
	.run = run,
};
