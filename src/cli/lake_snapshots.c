#include <inttypes.h>
#include <string.h>

#include "cli/lake.h"
#include "cli/signals.h"
#include "options/text.h"

static void put_row(struct duct_buf *to, const struct lake_snapshot_row *row)
{
	if (cli_json) {
		duct_buf_printf(to, "{\"snapshot_id\":%" PRId64, row->snapshot_id);
		cli_json_field(to, "time", row->time);
		cli_json_field(to, "changes", row->changes);
		cli_json_field(to, "author", row->author);
		cli_json_field(to, "message", row->message);
		cli_json_field(to, "extra", row->extra);
		duct_buf_puts(to, "}\n");
		return;
	}
	duct_buf_printf(to, "%10" PRId64 "  %s", row->snapshot_id, row->time ? row->time : "");
	const char *const parts[] = {row->author, row->message, row->changes};
	for (size_t i = 0; i < DUCT_LEN(parts); i++)
		if (parts[i] && *parts[i])
			duct_buf_printf(to, "  %s", parts[i]);
	duct_buf_putc(to, '\n');
}

static int list_snapshots(const struct lake_config *config, int limit, struct duct_error *err)
{
	struct cli_signals signals;
	int rc = cli_signals_start(&signals, DUCT_WARN, config->flow, err);
	if (rc)
		return rc;
	struct lake *lake = NULL;
	struct duct_arena arena;
	struct lake_snapshot_row *rows = NULL;
	size_t n = 0;
	AUTO_BUF struct duct_buf to = {0};
	duct_arena_init(&arena);
	rc = lake_open(&lake, config, &signals.ctx, err);
	rc = rc ? rc : lake_list_snapshots(lake, limit, &arena, &rows, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		put_row(&to, &rows[i]);
	rc = rc ? rc : cli_print(&to, err);
	duct_arena_done(&arena);
	lake_close(lake);
	cli_signals_end(&signals);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *path = NULL, *catalog = NULL, *schema = NULL, *limit_text = NULL;
	int64_t limit = 20;
	const struct cli_flag flags[] = {{"catalog", NULL, &catalog},
					 {"metadata-schema", NULL, &schema},
					 {"limit", NULL, &limit_text},
					 {0}};
	int n = cli_flags_parse(argc, argv, flags, &path, 0, 1, "a flow file", err);
	if (n < 0)
		return n;
	if (limit_text && (!duct_parse_int(limit_text, &limit) || limit < 1 || limit > 1000000))
		return duct_fail(err, DUCT_CONFIG, "flag \"--limit\": \"%.40s\" is outside 1..1000000", limit_text);

	AUTO_FLOW struct flow_file *flow = NULL;
	struct lake_config config;
	int rc = cli_find_lake(&flow, &config, n == 1 ? path : NULL, catalog, schema, err);
	return rc ? rc : list_snapshots(&config, (int)limit, err);
}

const struct cli_command cli_lake_snapshots = {
	.name = "lake snapshots",
	.usage = "lake snapshots (FLOW | --catalog URI) [--limit N] [--json]",
	.summary = "the newest snapshots of a lake",
	.help = "Lists snapshots, the newest first: number, time, who made it, from which\n"
		"position of the source, what it changed. Changes nothing.\n\n"
		"  --catalog URI            sqlite:PATH or postgres:DSN instead of a flow file\n"
		"  --metadata-schema NAME   schema of the catalog's tables in Postgres\n"
		"  --limit N                how many, default 20\n"
		"  --json                   one JSON object per snapshot",
	.run = run,
};
