#include "cli/cli.h"
#include "cli/report.h"
#include "cli/signals.h"

static int probe_all(struct cli_report *r, const struct flow_spec *spec, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct duct_relations tables = {0};
	cli_report_begin(r, "source", spec->source->name, spec->source->name);
	int rc = spec->source->probe ? spec->source->probe(spec->source_config, ctx, &tables, cli_report_finding, r, err) : 0;
	rc = cli_report_end(r, rc, err);
	for (size_t i = 0; i < spec->ndestinations && !rc; i++) {
		const struct flow_destination *d = &spec->destinations[i];
		struct duct_ctx its = *ctx;
		its.destination = d->name;
		its.wire = flow_wire_wish(spec);
		cli_report_begin(r, "destination", d->name, d->ops->name);
		rc = d->ops->probe ? d->ops->probe(d->config, &its, &tables, cli_report_finding, r, err) : 0;
		rc = cli_report_end(r, rc, err);
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
static int look_at_file(struct cli_report *r, const struct flow_file *flow, const char *path, struct duct_error *err)
{
	bool unused = flow->spec.wire_format && !uses_wire_format(&flow->spec);
	bool alone = flow->spec.parallelism > 1 && flow->spec.ndestinations == 1;
	if (!unused && !alone)
		return 0;
	cli_report_begin(r, "flow", flow->spec.name, path);
	if (unused)
		cli_report_finding(r, DUCT_FINDING_WARN, "wire_format is accepted, and no destination of this flow uses it",
				   "leave it out");
	if (alone)
		cli_report_finding(r, DUCT_FINDING_WARN,
				   "parallelism is how many destinations are written at the same time, and this flow has one",
				   "leave it out; a copy has the source's option snapshot_workers");
	return cli_report_end(r, 0, err);
}

static int print_summary(struct cli_report *r, const char *flow, struct duct_error *err)
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
	struct cli_report report = {.utf8 = cli_utf8()};
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
		"in order. Changes nothing. `check copy` does so for copies of Delta tables.\n\n"
		"  --json   one JSON object per finding, then a summary\n\n"
		"Exit codes: 0 the flow can run (warnings included), 2 it cannot.",
	.run = run,
};
