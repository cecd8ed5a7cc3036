#include "cli/cli.h"
#include "cli/signals.h"

struct report {
	struct duct_buf out;
	const char *of, *name; /* "source", "postgres" */
	bool utf8;
	int counts[3]; /* per enum duct_finding */
};

static void put_finding_json(struct report *r, enum duct_finding level, const char *what, const char *remedy)
{
	static const char *const levels[] = {"ok", "warn", "error"};
	duct_buf_printf(&r->out, "{\"finding\":\"%s\"", levels[level]);
	cli_json_field(&r->out, "of", r->of);
	cli_json_field(&r->out, "name", r->name);
	cli_json_field(&r->out, "what", what);
	cli_json_field(&r->out, "remedy", remedy);
	duct_buf_puts(&r->out, "}\n");
}

static void on_finding(void *arg, enum duct_finding level, const char *what, const char *remedy)
{
	static const char *const utf8[] = {"✓", "!", "✗"}, *const ascii[] = {"+", "!", "x"};
	struct report *r = arg;
	if ((unsigned)level > DUCT_FINDING_ERROR)
		level = DUCT_FINDING_ERROR;
	r->counts[level]++;
	if (cli_json) {
		put_finding_json(r, level, what, remedy);
		return;
	}
	duct_buf_printf(&r->out, "  %s %s\n", r->utf8 ? utf8[level] : ascii[level], what);
	if (remedy && *remedy && level != DUCT_FINDING_OK)
		duct_buf_printf(&r->out, "    %s %s\n", r->utf8 ? "→" : "->", remedy);
}

static void begin_part(struct report *r, const char *of, const char *name, const char *type)
{
	r->of = of;
	r->name = name;
	if (!cli_json)
		duct_buf_printf(&r->out, "%s %s (%s)\n", of, name, type);
}

/* A probe that could not go on is a finding too; only a stop ends the check. */
static int end_part(struct report *r, int rc, struct duct_error *err)
{
	if (rc == -DUCT_CANCELLED)
		return rc;
	if (rc < 0)
		on_finding(r, DUCT_FINDING_ERROR, err->message, NULL);
	rc = cli_print(&r->out, err);
	r->out.len = 0;
	return rc;
}

static int probe_all(struct report *r, const struct flow_spec *spec, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct duct_relations tables = {0};
	begin_part(r, "source", spec->source->name, spec->source->name);
	int rc = spec->source->probe ? spec->source->probe(spec->source_config, ctx, &tables, on_finding, r, err) : 0;
	rc = end_part(r, rc, err);
	for (size_t i = 0; i < spec->ndestinations && !rc; i++) {
		const struct flow_destination *d = &spec->destinations[i];
		struct duct_ctx its = *ctx;
		its.destination = d->name;
		its.wire = flow_wire_wish(spec);
		begin_part(r, "destination", d->name, d->ops->name);
		rc = d->ops->probe ? d->ops->probe(d->config, &its, &tables, on_finding, r, err) : 0;
		rc = end_part(r, rc, err);
	}
	duct_relations_done(&tables);
	return rc;
}

static bool uses_wire_format(const struct flow_spec *spec)
{
	for (size_t i = 0; i < spec->ndestinations; i++)
		for (const struct duct_opt *o = spec->destinations[i].ops->opts; o->name; o++)
			if (strcmp(o->name, "format") == 0)
				return true;
	return false;
}

/* What a flow file may say for the sake of other programs that read it. */
static int look_at_file(struct report *r, const struct flow_file *flow, const char *path, struct duct_error *err)
{
	bool unused = flow->spec.wire_format && !uses_wire_format(&flow->spec);
	bool alone = flow->spec.parallelism > 1 && flow->spec.ndestinations == 1;
	if (!unused && !alone)
		return 0;
	begin_part(r, "flow", flow->spec.name, path);
	if (unused)
		on_finding(r, DUCT_FINDING_WARN, "wire_format is accepted, and no destination of this flow uses it",
			   "leave it out");
	if (alone)
		on_finding(r, DUCT_FINDING_WARN,
			   "parallelism is how many destinations are written at the same time, and this flow has one",
			   "leave it out; a copy has the source's option snapshot_workers");
	return end_part(r, 0, err);
}

static int print_summary(struct report *r, const char *flow, struct duct_error *err)
{
	int errors = r->counts[DUCT_FINDING_ERROR], warnings = r->counts[DUCT_FINDING_WARN];
	if (cli_json) {
		duct_buf_puts(&r->out, "{\"summary\":true");
		cli_json_field(&r->out, "flow", flow);
		duct_buf_printf(&r->out, ",\"ok\":%d,\"warnings\":%d,\"errors\":%d}\n", r->counts[DUCT_FINDING_OK], warnings,
				errors);
	} else if (errors || warnings) {
		duct_buf_printf(&r->out, "flow \"%s\": %d error%s, %d warning%s: %s\n", flow, errors, errors == 1 ? "" : "s",
				warnings, warnings == 1 ? "" : "s", errors ? "it will not run" : "it can run");
	} else {
		duct_buf_printf(&r->out, "flow \"%s\": everything is in order\n", flow);
	}
	return cli_print(&r->out, err);
}

int cli_check_flow(const struct flow_file *flow, const char *name, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct report report = {.utf8 = cli_utf8()};
	int rc = look_at_file(&report, flow, name, err);
	rc = rc ? rc : probe_all(&report, &flow->spec, ctx, err);
	rc = rc ? rc : print_summary(&report, flow->spec.name, err);
	duct_buf_done(&report.out);
	if (rc)
		return rc;
	return report.counts[DUCT_FINDING_ERROR] ? duct_class_exit_code(DUCT_CONFIG) : 0;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *path;
	int rc = cli_flags_parse(argc, argv, NULL, &path, 1, 1, "a flow file", err);
	if (rc < 0)
		return rc;
	AUTO_FLOW struct flow_file *flow = NULL;
	rc = cli_load_flow(&flow, path, false, err);
	if (rc)
		return rc;

	struct cli_signals signals;
	rc = cli_signals_start(&signals, DUCT_WARN, flow->spec.name, err);
	if (rc)
		return rc;
	rc = cli_check_flow(flow, path, &signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}

const struct cli_command cli_check = {
	.name = "check",
	.usage = "check FLOW [--json]",
	.summary = "try everything a flow needs, change nothing",
	.help = "Reads the flow file, connects to source and destinations, looks at settings,\n"
		"permissions, tables and type mappings, and says what to do about what is not\n"
		"in order. Changes nothing.\n\n"
		"  --json   one JSON object per finding, then a summary\n\n"
		"Exit codes: 0 the flow can run (warnings included), 2 it cannot.",
	.run = run,
};
