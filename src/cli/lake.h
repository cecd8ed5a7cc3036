#ifndef CLI_LAKE_H
#define CLI_LAKE_H

#include "cli/cli.h"
#include "lake/catalog.h"

/* The lake that a command speaks of, opened for reading only: that of the flow file at `path`, or `catalog`. The other one is
 * NULL. `schema`, when not NULL, overrides the metadata schema. *ret points into *ret_flow, which the caller frees. */
int cli_find_lake(struct flow_file **ret_flow, struct lake_config *ret, const char *path, const char *catalog, const char *schema,
		  struct duct_error *err) DUCT_CHECKED;

/* A line per file, then a summary. CONFIG: some of them could not be removed. */
struct lake_orphans;
int cli_show_orphans(const struct lake_orphans *orphans, struct duct_error *err) DUCT_CHECKED;

#endif
