#include <stdlib.h>

#include "cli/cli.h"

static const char *from_environment(const char *name)
{
	return getenv(name);
}

int cli_load_flow(struct flow_file **ret, const char *path, bool accept_gap, struct duct_error *err)
{
	struct flow_load_options options = {
		.sources = duct_sources,
		.destinations = duct_destinations,
		.env = from_environment,
		.source_option = accept_gap ? "accept_gap" : NULL,
		.source_value = "true",
	};
	return flow_file_load(ret, path, &options, err);
}
