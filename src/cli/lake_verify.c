#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/signals.h"
#include "flow/verify.h"
#include "options/text.h"

/* "a.b,c.d" cut at the commas into a NULL-terminated array, in the arena. */
static const char *const *split_tables(struct duct_arena *arena, const char *text)
{
	size_t n = 1;
	for (const char *p = text; *p; p++)
		n += *p == ',';
	const char **tables = duct_arena_zalloc(arena, (n + 1) * sizeof *tables);
	char *copy = duct_arena_strdup(arena, text), *rest = copy;
	for (n = 0; rest; n++) {
		tables[n] = strsep(&rest, ",");
		if (!*tables[n])
			return NULL;
	}
	return tables;
}

static int read_options(int argc, char **argv, const char **ret_path, struct flow_verify_options *to, struct duct_arena *arena,
			struct duct_error *err)
{
	const char *tables = NULL, *timeout = NULL, *shown_text = NULL;
	int64_t shown = 10;
	const struct cli_flag flags[] = {{"tables", NULL, &tables},
					 {"timeout", NULL, &timeout},
					 {"max-shown", NULL, &shown_text},
					 {0}};
	int rc = cli_flags_parse(argc, argv, flags, ret_path, 1, 1, "a flow file", err);
	if (rc < 0)
		return rc;
	if (tables && !(to->tables = split_tables(arena, tables)))
		return duct_fail(err, DUCT_CONFIG, "flag \"--tables\": a name between commas is empty");
	if (timeout && (!duct_parse_duration_ms(timeout, &to->timeout_ms) || to->timeout_ms == 0))
		return duct_fail(err, DUCT_CONFIG, "flag \"--timeout\": \"%.40s\" is not a duration such as 30s or 5m", timeout);
	if (shown_text && (!duct_parse_int(shown_text, &shown) || shown < 1 || shown > 1000000))
		return duct_fail(err, DUCT_CONFIG, "flag \"--max-shown\": \"%.40s\" is outside 1..1000000", shown_text);
	to->max_shown = (int)shown;
	to->json = cli_json;
	to->fd = STDOUT_FILENO;
	return 0;
}

static int verify(const char *path, const struct flow_verify_options *options, struct duct_error *err)
{
	AUTO_FLOW struct flow_file *flow = NULL;
	int rc = cli_load_flow(&flow, path, false, err);
	if (rc)
		return rc;
	struct cli_signals signals;
	rc = cli_signals_start(&signals, DUCT_WARN, flow->spec.name, err);
	if (rc)
		return rc;
	rc = flow_verify(&flow->spec, options, &signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct flow_verify_options options = {0};
	struct duct_arena arena;
	const char *path;
	duct_arena_init(&arena);
	int rc = read_options(argc, argv, &path, &options, &arena, err);
	rc = rc ? rc : verify(path, &options, err);
	duct_arena_done(&arena);
	return rc;
}

const struct cli_command cli_lake_verify = {
	.name = "lake verify",
	.usage = "lake verify FLOW [--tables A.B,C.D] [--timeout T] [--json]",
	.summary = "compare source and lake by content",
	.help = "Compares every row of the source's tables with the lake's, while both may be\n"
		"changing: a row that differs is looked at again, until it agrees or stands\n"
		"still on both sides. Changes nothing in the lake.\n\n"
		"  --tables A.B,C.D   only these tables; default all of the flow\n"
		"  --timeout T        how long the lake may take to catch up, default 60s\n"
		"  --max-shown N      differing keys named per table, default 10\n"
		"  --json             findings as JSON lines\n\n"
		"Exit codes: 0 identical, 3 something differs, others: not compared.",
	.run = run,
};
