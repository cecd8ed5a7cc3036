#include "cli/report.h"
#include "cli/signals.h"
#include "copy/probe.h"

static int check(const struct duct_ctx *ctx, struct duct_error *err)
{
	struct cli_report report = {.utf8 = cli_utf8()};
	struct copy_settings settings;
	struct duct_arena arena;
	const char *filled = NULL;
	duct_arena_init(&arena);
	cli_report_begin(&report, "copy", "environment", "DUCKLAKE_*");
	int rc = copy_settings_load(&settings, &arena, &filled, err);
	if (rc == 0) {
		AUTO_FREE char *what = duct_xasprintf("local defaults: %s", filled ? filled : "none");
		cli_report_finding(&report, DUCT_FINDING_OK, filled ? what : "everything is set", NULL);
		rc = copy_probe(&settings, ctx, cli_report_finding, &report, err);
	}
	rc = cli_report_end(&report, rc, err);
	copy_settings_done(&settings);
	duct_arena_done(&arena);
	duct_buf_done(&report.out);
	if (rc < 0)
		return rc;
	return report.counts[DUCT_FINDING_ERROR] ? duct_class_exit_code(DUCT_CONFIG) : 0;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct cli_signals signals;
	int rc = cli_flags_parse(argc, argv, NULL, NULL, 0, 0, "", err);
	rc = rc < 0 ? rc : cli_signals_start(&signals, DUCT_WARN, "", err);
	if (rc < 0)
		return rc;
	rc = check(&signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}

const struct cli_command cli_check_copy = {
	.name = "check copy",
	.usage = "check copy [--json]",
	.summary = "try everything copies need",
	.help = "Looks at the DUCKLAKE_* environment, the bucket (which is created when it is\n"
		"missing and DUCTSTREAM_ENV is dev), the right to list, put, get and delete\n"
		"below the lake's prefix, and the catalog; says what to do about what is not in\n"
		"order. Leaves nothing behind.\n\n"
		"  --json   one JSON object per finding\n\n"
		"Exit codes: 0 copies can run, 2 they cannot.",
	.holds_signals = true,
	.run = run,
};
