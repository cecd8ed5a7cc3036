#include <string.h>

#include "cli/lake.h"
#include "cli/signals.h"
#include "destination/ducklake/ducklake.h"
#include "source/postgres/config.h"

enum { MOST_TABLES = 1000, MOST_NAMES = 10000 };

static const char *name_of(struct duct_arena *arena, const struct lake_relation *row)
{
	AUTO_FREE char *name = duct_xasprintf("%s.%s", row->source_schema, row->source_name);
	return duct_arena_strdup(arena, name);
}

/* Tables that the flow makes itself have numbers below those of any user's. */
enum { FIRST_USERS_OID = 16384 };

static int find(struct lake *lake, const char *wanted, const char *flow, uint32_t *ret, struct duct_error *err)
{
	size_t n, known = 0;
	const struct lake_relation *rows = lake_relations(lake, &n);
	struct duct_arena arena;
	duct_arena_init(&arena);
	const char **names = duct_arena_zalloc(&arena, (n + 1) * sizeof *names);
	*ret = 0;
	for (size_t i = 0; i < n && known < MOST_NAMES; i++) {
		if (strcmp(rows[i].state, MIRROR_GONE) == 0 || rows[i].source_oid < FIRST_USERS_OID)
			continue;
		names[known++] = name_of(&arena, &rows[i]);
		if (strcmp(names[known - 1], wanted) == 0)
			*ret = rows[i].source_oid;
	}
	const char *near = *ret ? NULL : duct_nearest(wanted, names);
	int rc = 0;
	if (!*ret)
		rc = duct_fail(err, DUCT_CONFIG, "flow \"%s\" keeps no table \"%.100s\" in the lake%s%s%s", flow, wanted,
			       near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	duct_arena_done(&arena);
	return rc;
}

static int check_copied(struct lake *lake, const char *flow, struct duct_error *err)
{
	struct duct_checkpoint at = {0};
	lake_checkpoint(lake, &at);
	if (at.state == DUCT_STATE_STREAMING)
		return 0;
	return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has no finished copy in the lake: `ductstream run` makes it", flow);
}

/* All names are found before anything is written. */
static int mark(struct lake *lake, const char *flow, const char *const *tables, int n, bool write, struct duct_error *err)
{
	AUTO_FREE uint32_t *oids = duct_xcalloc((size_t)n + 1, sizeof *oids);
	int rc = check_copied(lake, flow, err);
	for (int i = 0; i < n && rc == 0; i++)
		rc = find(lake, tables[i], flow, &oids[i], err);
	for (int i = 0; i < n && rc == 0 && write; i++)
		rc = lake_set_relation_state(lake, oids[i], MIRROR_COPY_AGAIN, err);
	return rc;
}

static int print_done(const char *const *tables, int n, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	for (int i = 0; i < n; i++) {
		if (cli_json) {
			duct_buf_puts(&to, "{\"event\":\"copy_again\"");
			cli_json_field(&to, "table", tables[i]);
			duct_buf_puts(&to, "}\n");
		} else {
			duct_buf_printf(&to, "%s is copied again by the next run\n", tables[i]);
		}
	}
	return cli_print(&to, err);
}

/* Opening for reading first: what is wrong with the names ends no running flow. */
static int copy_again(const struct flow_spec *spec, struct lake_config config, const char *const *tables, int n,
		      struct duct_error *err)
{
	if (strcmp(spec->source->name, "postgres") == 0 &&
	    ((const struct postgres_config *)spec->source_config)->snapshot != POSTGRES_SNAPSHOT_AUTO)
		return duct_fail(err, DUCT_CONFIG,
				 "flow \"%s\": the source's option \"snapshot\" says that tables are not copied: set it to auto",
				 spec->name);
	struct cli_signals signals;
	int rc = cli_signals_start(&signals, DUCT_WARN, spec->name, err);
	if (rc)
		return rc;
	for (int pass = 0; pass < 2 && rc == 0; pass++) {
		struct lake *lake = NULL;
		config.read_only = pass == 0;
		rc = lake_open(&lake, &config, &signals.ctx, err);
		rc = rc ? rc : mark(lake, spec->name, tables, n, pass == 1, err);
		lake_close(lake);
	}
	cli_signals_end(&signals);
	return rc ? rc : print_done(tables, n, err);
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *words[1 + MOST_TABLES];
	int n = cli_flags_parse(argc, argv, NULL, words, 2, 1 + MOST_TABLES, "a flow file and tables (schema.table)", err);
	if (n < 0)
		return n;
	AUTO_FLOW struct flow_file *flow = NULL;
	struct lake_config config;
	int rc = cli_find_lake(&flow, &config, words[0], NULL, NULL, err);
	return rc ? rc : copy_again(&flow->spec, config, words + 1, n - 1, err);
}

const struct cli_command cli_lake_copy_again = {
	.name = "lake copy-again",
	.usage = "lake copy-again FLOW SCHEMA.TABLE... [--json]",
	.summary = "have tables copied again by the next run",
	.help = "Marks tables of the lake: the next `ductstream run FLOW` copies them again while\n"
		"the other tables go on from where they are. What the lake has of a marked table\n"
		"stays until the commit that brings the copy. Gets a flow on when only a copy\n"
		"helps: a type that cannot change in place, drift, rows or columns that somebody\n"
		"else changed in the lake, a lake table that is damaged or gone.\n\n"
		"Tables are named as at the source. A run of this flow that is under way is ended\n"
		"(it says that the flow was taken over); start it again. A table that is not\n"
		"published now is copied when it is published again.\n\n"
		"  --json   one JSON line per table",
	.run = run,
};
