/* The sources this program was built with: adding one is a line here. */
#include "source/source.h"

#include <string.h>

extern const struct duct_source_ops duct_source_postgres;

const struct duct_source_ops *const duct_sources[] = {
	&duct_source_postgres,
	NULL,
};

const struct duct_source_ops *duct_source_find(const char *name)
{
	for (size_t i = 0; duct_sources[i]; i++)
		if (strcmp(duct_sources[i]->name, name) == 0)
			return duct_sources[i];
	return NULL;
}
