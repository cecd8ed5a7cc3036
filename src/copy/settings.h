#ifndef COPY_SETTINGS_H
#define COPY_SETTINGS_H

#include "base/arena.h"
#include "duck/session.h"
#include "net/s3_options.h"

/*
 * Where copies go, by the environment: the variables of the copy page (DUCKLAKE_RDS_*, DUCKLAKE_BUCKET, ...) or DUCKLAKE_CATALOG, and
 * DUCKLAKE_DATA_PATH for a lake elsewhere than at the root of the bucket. DUCTSTREAM_ENV is dev, staging or production.
 */
struct copy_settings {
	bool dev;
	struct duck_lake lake; /* its data path is always there */
	struct s3_options s3;  /* of the lake and of the Delta tables */
	char *bucket;	       /* NULL: the lake is a folder */
};
/*
 * In dev the page's local defaults are put into the environment for what is not set, and *ret_filled says which (NULL: none). Elsewhere a variable that is
 * missing is a CONFIG error with its name; keys may be missing everywhere.
 */
int copy_settings_load(struct copy_settings *ret, struct duct_arena *arena, const char **ret_filled,
		       struct duct_error *err) DUCT_CHECKED;
void copy_settings_done(struct copy_settings *settings); /* accepts a zeroed one */

#endif
