/* What needs no server: flows from files, and from the state that the programs share. */
#include <string.h>
#include <strings.h>

#include "admin/admin.h"
#include "destination/destination.h"
#include "source/source.h"

int admin_load_file(struct flow_file **ret, const char *path, struct duct_error *err)
{
	return cli_load_flow(ret, path, false, err);
}

static bool is_type(const char *type, const char *name)
{
	static const char prefix[] = "ENDPOINT_TYPE_";
	size_t n = sizeof prefix - 1;
	return strcasecmp(strncmp(type, prefix, n) == 0 ? type + n : type, name) == 0;
}

static bool is_secret_row(const struct duct_opt *opts, const char *option)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, option) == 0)
			return opts->flags & DUCT_OPT_SECRET;
	return false;
}

bool admin_option_is_secret(const char *type, const char *option)
{
	for (size_t i = 0; duct_sources[i]; i++)
		if (is_type(type, duct_sources[i]->name) && is_secret_row(duct_sources[i]->opts, option))
			return true;
	for (size_t i = 0; duct_destinations[i]; i++)
		if (is_type(type, duct_destinations[i]->name) && is_secret_row(duct_destinations[i]->opts, option))
			return true;
	return false;
}
