#include "cli/lake.h"

#include <string.h>

#include "destination/ducklake/ducklake.h"

/* The one DuckLake of a flow. */
static int lake_of_flow(const struct flow_spec *spec, struct lake_config *to, struct duct_error *err)
{
	const struct ducklake_config *found = NULL;
	for (size_t i = 0; i < spec->ndestinations; i++) {
		if (strcmp(spec->destinations[i].ops->name, "ducklake") != 0)
			continue;
		if (found)
			return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has two lakes: name one with --catalog", spec->name);
		found = spec->destinations[i].config;
	}
	if (!found)
		return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has no destination of type ducklake", spec->name);
	*to = ducklake_read_only(found, spec->name);
	return 0;
}

int cli_find_lake(struct flow_file **ret_flow, struct lake_config *ret, const char *path, const char *catalog, const char *schema,
		  struct duct_error *err)
{
	if ((path != NULL) == (catalog != NULL))
		return duct_fail(err, DUCT_CONFIG, "name a flow file, or a catalog with --catalog");
	struct lake_config config = {.flow = "", .busy_timeout_ms = 10000, .catalog = catalog, .read_only = true};
	if (path) {
		int rc = cli_load_flow(ret_flow, path, false, err);
		rc = rc ? rc : lake_of_flow(&(*ret_flow)->spec, &config, err);
		if (rc)
			return rc;
	}
	config.remote = true; /* who needs its files says so himself */
	if (schema)
		config.metadata_schema = schema;
	*ret = config;
	return 0;
}
