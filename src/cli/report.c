/* Findings of checks on the screen: see report.h. */
#include "cli/report.h"

static void put_finding_json(struct cli_report *r, enum duct_finding level, const char *what, const char *remedy)
{
	static const char *const levels[] = {"ok", "warn", "error"};
	duct_buf_printf(&r->out, "{\"finding\":\"%s\"", levels[level]);
	cli_json_field(&r->out, "of", r->of);
	cli_json_field(&r->out, "name", r->name);
	cli_json_field(&r->out, "what", what);
	cli_json_field(&r->out, "remedy", remedy);
	duct_buf_puts(&r->out, "}\n");
}

void cli_report_finding(void *arg, enum duct_finding level, const char *what, const char *remedy)
{
	static const char *const utf8[] = {"✓", "!", "✗"}, *const ascii[] = {"+", "!", "x"};
	struct cli_report *r = arg;
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

void cli_report_begin(struct cli_report *r, const char *of, const char *name, const char *type)
{
	r->of = of;
	r->name = name;
	if (!cli_json)
		duct_buf_printf(&r->out, "%s %s (%s)\n", of, name, type);
}

/* A probe that could not go on is a finding too; only a stop ends the check. */
int cli_report_end(struct cli_report *r, int rc, struct duct_error *err)
{
	if (rc == -DUCT_CANCELLED)
		return rc;
	if (rc < 0)
		cli_report_finding(r, DUCT_FINDING_ERROR, err->message, NULL);
	rc = cli_print(&r->out, err);
	r->out.len = 0;
	return rc;
}
