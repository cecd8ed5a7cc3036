#include <stdlib.h>

#include "cli/cli.h"

static const char *from_environment(const char *name)
{
	return getenv(name);
}

int cli_load_flow(struct flow_file **ret, const char *path, bool accept_gap, struct duct_error *err)
{
	AUTO_FINDINGS struct duct_findings findings = {0};
	struct flow_load_options options = {
		.sources = duct_sources,
		.destinations = duct_destinations,
		.env = from_environment,
		.source_option = accept_gap ? "accept_gap" : NULL,
		.source_value = "true",
		.findings = &findings,
	};
	int rc = flow_file_load(ret, path, &options, err);
	if (!rc || findings.n < 2)
		return rc;
	for (size_t i = 0; i < findings.n; i++)
		cli_print_error(&findings.list[i]);
	return duct_class_exit_code((enum duct_class) - rc);
}
