/* The destinations this program was built with: adding one is a line here. */
#include "destination/destination.h"

#include <string.h>

extern const struct duct_destination_ops duct_destination_duckdb;
extern const struct duct_destination_ops duct_destination_ducklake;
extern const struct duct_destination_ops duct_destination_grpc;
extern const struct duct_destination_ops duct_destination_pgstream;

const struct duct_destination_ops *const duct_destinations[] = {
	&duct_destination_ducklake, &duct_destination_duckdb, &duct_destination_pgstream, &duct_destination_grpc, NULL,
};

const struct duct_destination_ops *duct_destination_find(const char *name)
{
	for (size_t i = 0; duct_destinations[i]; i++)
		if (strcmp(duct_destinations[i]->name, name) == 0)
			return duct_destinations[i];
	return NULL;
}
