#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "base/report.h"
#include "cli/cli.h"

/* What checks find, as people see it: parts with their findings, or a JSON line per finding. Zero it but for utf8; duct_buf_done(&out). */
struct cli_report {
	struct duct_buf out;
	const char *of, *name; /* "source", "postgres" */
	bool utf8;
	int counts[3]; /* per enum duct_finding */
};

void cli_report_begin(struct cli_report *r, const char *of, const char *name, const char *type);
/* A duct_report_fn; arg: the report. */
void cli_report_finding(void *arg, enum duct_finding level, const char *what, const char *remedy);
/* A probe that could not go on (rc) is a finding, too; only a stop ends the check. Prints the part. */
int cli_report_end(struct cli_report *r, int rc, struct duct_error *err) DUCT_CHECKED;

#endif
