/* `ductstream check` for the DuckLake destination: looks at everything, changes nothing. */
#include "destination/ducklake/ducklake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The nearest folder above that exists must be writable, so that the folder can be made. */
static void probe_folder(const char *name, const char *path, duct_report_fn *report, void *arg)
{
	AUTO_FREE char *p = duct_xstrdup(path);
	AUTO_FREE char *what = duct_xasprintf("%s \"%s\"", name, path);
	const char *nearest = p;
	struct stat st;
	while (stat(nearest, &st) != 0) {
		char *slash = strrchr(p, '/');
		if (slash)
			*slash = 0;
		nearest = !slash ? "." : *p ? p : "/";
		if (nearest != p) {
			st.st_mode = stat(nearest, &st) ? 0 : st.st_mode;
			break;
		}
	}
	errno = ENOTDIR;
	if (S_ISDIR(st.st_mode) && access(nearest, W_OK | X_OK) == 0) {
		report(arg, DUCT_FINDING_OK, what, NULL);
		return;
	}
	AUTO_FREE char *problem = duct_xasprintf("%s is not writable: %s", what, strerror(errno));
	report(arg, DUCT_FINDING_ERROR, problem, "give the user that runs ductstream write permission on it");
}

static void probe_new_catalog(const struct ducklake_config *c, duct_report_fn *report, void *arg)
{
	if (!c->create_catalog)
		report(arg, DUCT_FINDING_ERROR, "there is no catalog", "set create_catalog to true");
	else if (!c->data_path)
		report(arg, DUCT_FINDING_ERROR, "a new catalog needs the option data_path", "set data_path");
	else
		report(arg, DUCT_FINDING_OK, "there is no catalog yet: it will be created", NULL);
	const char *file = strncmp(c->catalog, "sqlite:", 7) == 0 ? c->catalog + 7 : NULL;
	const char *slash = file ? strrchr(file, '/') : NULL;
	if (slash && slash > file) {
		AUTO_FREE char *folder = duct_xstrndup(file, (size_t)(slash - file));
		probe_folder("folder of the catalog", folder, report, arg);
	}
	if (c->data_path)
		probe_folder("data path", c->data_path, report, arg);
}

/* The lake's own limit holds, also when it makes small files out of small commits. */
static void probe_limit(const struct ducklake_config *c, const struct lake *lake, duct_report_fn *report, void *arg)
{
	const char *limit = lake_option(lake, "data_inlining_row_limit", -1, -1);
	if (!limit || !c->inline_rows || strtoll(limit, NULL, 10) >= c->inline_rows)
		return;
	AUTO_FREE char *what = duct_xasprintf("the lake's data_inlining_row_limit is %s: larger commits become small files", limit);
	report(arg, DUCT_FINDING_WARN, what,
	       "raise it with CALL lake.set_option('data_inlining_row_limit', 1000), or merge files often");
}

int ducklake_probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		   void *arg, struct duct_error *err)
{
	const struct ducklake_config *c = config;
	const struct lake_config lc = ducklake_read_only(c, ctx->flow);
	bool there;
	struct lake *lake = NULL;
	tablesink_probe(&c->sink, tables, report, arg);
	if (duck_load(err) < 0)
		report(arg, DUCT_FINDING_ERROR, err->message, NULL);
	if (lake_exists(&lc, ctx, &there, err) < 0) {
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the option \"catalog\", or make the server accept it");
		return 0;
	}
	if (!there) {
		probe_new_catalog(c, report, arg);
		return 0;
	}
	if (lake_open(&lake, &lc, ctx, err) < 0) {
		report(arg, DUCT_FINDING_ERROR, err->message, "correct the option that the message names");
		return 0;
	}
	report(arg, DUCT_FINDING_OK, "catalog opens, format 1.0", NULL);
	probe_limit(c, lake, report, arg);
	probe_folder("data path", lake_data_path(lake), report, arg);
	lake_close(lake);
	return 0;
}
