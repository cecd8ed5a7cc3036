/* What a flow file can say: lists of connectors and their options, for people, programs and the documentation. */
#include <ctype.h>
#include <string.h>

#include "cli/cli.h"
#include "ingest/spec.h"
#include "options/service.h"

/* Sources and destinations alike, the `config` of the flow file itself, and the settings of the server. */
struct connector {
	const char *of, *name, *summary;
	const struct duct_opt *opts;
};
enum { MOST_CONNECTORS = 128 };

static const struct connector ingestion[] = {
	{"ingestion", "ingest", "an ingestion file: where rows come from and go to", ingest_main_opts},
	{"ingestion", "ingest-auth", "its section auth", ingest_auth_opts},
	{"ingestion", "ingest-paging", "its section paging", ingest_paging_opts},
	{"ingestion", "ingest-partition", "its section partition", ingest_partition_opts},
	{"ingestion", "ingest-incremental", "its section incremental", ingest_incremental_opts},
	{"ingestion", "ingest-retry", "its section retry", ingest_retry_opts},
	{"ingestion", "ingest-s3", "its section s3", ingest_s3_opts},
};

static size_t all_connectors(struct connector *to)
{
	size_t n = 0;
	for (size_t i = 0; duct_sources[i] && n < MOST_CONNECTORS; i++)
		to[n++] = (struct connector){"source", duct_sources[i]->name, duct_sources[i]->summary, duct_sources[i]->opts};
	for (size_t i = 0; duct_destinations[i] && n < MOST_CONNECTORS; i++)
		to[n++] = (struct connector){"destination", duct_destinations[i]->name, duct_destinations[i]->summary,
					     duct_destinations[i]->opts};
	for (size_t i = 0; i < DUCT_LEN(ingestion) && n < MOST_CONNECTORS; i++)
		to[n++] = ingestion[i];
	if (n + 1 < MOST_CONNECTORS) {
		to[n++] = (struct connector){"flow", "config", "settings of the flow itself", flow_file_config_opts};
		to[n++] = (struct connector){"server", "service", "settings of the API server, as environment variables",
					     service_opts};
	}
	return n;
}

/* "postgres", or when there are two of the name "source/postgres". */
static bool matches(const struct connector *c, const char *wanted)
{
	size_t n = strlen(c->of);
	if (!wanted || strcmp(c->name, wanted) == 0)
		return true;
	return strncmp(wanted, c->of, n) == 0 && wanted[n] == '/' && strcmp(wanted + n + 1, c->name) == 0;
}

static int unknown_connector(const struct connector *all, size_t n, const char *wanted, struct duct_error *err)
{
	const char *names[MOST_CONNECTORS + 1] = {0};
	for (size_t i = 0; i < n; i++)
		names[i] = all[i].name;
	const char *near = duct_nearest(wanted, names);
	if (near)
		return duct_fail(err, DUCT_CONFIG, "unknown connector \"%.60s\": did you mean \"%s\"?", wanted, near);
	return duct_fail(err, DUCT_CONFIG, "unknown connector \"%.60s\": `ductstream options` lists them", wanted);
}

static void put_json(struct duct_buf *to, const struct connector *c, bool first)
{
	duct_buf_printf(to, "%s{\"of\":\"%s\"", first ? "" : ",\n", c->of);
	cli_json_field(to, "name", c->name);
	cli_json_field(to, "summary", c->summary);
	duct_buf_puts(to, ",\"options\":");
	duct_opts_json(to, c->opts);
	duct_buf_putc(to, '}');
}

static void put_markdown(struct duct_buf *to, const struct connector *c, bool first)
{
	bool config = strcmp(c->of, "flow") == 0, service = strcmp(c->of, "server") == 0;
	if (!first)
		duct_buf_putc(to, '\n');
	duct_buf_printf(to,
			service		 ? "# Settings of the %s\n\n"
				: config ? "# Options of a flow's `%s`\n\n"
					 : "# Options of the `%s` ",
			c->name);
	if (!config && !service)
		duct_buf_printf(to, "%s\n\n", c->of);
	duct_buf_printf(to, "%c%s.\n\n<!-- Written by `make docs`; do not edit. -->\n\n", toupper((unsigned char)*c->summary),
			c->summary + 1);
	duct_opts_markdown(to, c->opts);
}

static int run(int argc, char **argv, struct duct_error *err)
{
	bool markdown = false, any = false;
	const char *wanted = NULL;
	const struct cli_flag flags[] = {{"markdown", &markdown, NULL}, {0}};
	int rc = cli_flags_parse(argc, argv, flags, &wanted, 0, 1, "a connector", err);
	if (rc < 0)
		return rc;
	if (markdown && cli_json)
		return duct_fail(err, DUCT_CONFIG, "--json and --markdown exclude each other");

	struct connector all[MOST_CONNECTORS];
	size_t n = all_connectors(all);
	AUTO_BUF struct duct_buf to = {0};
	if (cli_json)
		duct_buf_putc(&to, '[');
	for (size_t i = 0; i < n; i++) {
		if (!matches(&all[i], wanted))
			continue;
		if (cli_json)
			put_json(&to, &all[i], !any);
		else if (markdown)
			put_markdown(&to, &all[i], !any);
		else
			duct_buf_printf(&to, "%s%-11s %-12s %s\n", wanted && any ? "\n" : "", all[i].of, all[i].name,
					all[i].summary);
		if (wanted && !cli_json && !markdown)
			duct_opts_text(&to, all[i].opts);
		any = true;
	}
	if (!any)
		return unknown_connector(all, n, wanted, err);
	if (cli_json)
		duct_buf_puts(&to, "]\n");
	return cli_print(&to, err);
}

const struct cli_command cli_options = {
	.name = "options",
	.usage = "options [CONNECTOR] [--json | --markdown]",
	.summary = "connectors, and the options of one",
	.help = "Lists the connectors of this program, or the options of one with type, default\n"
		"and limits: what a flow file can say under `options`. \"config\" is the flow's\n"
		"own. Where a source and a destination have the same name, both are shown, or\n"
		"one as \"source/NAME\".\n\n"
		"  --json       for programs\n"
		"  --markdown   the reference documentation",
	.run = run,
};
