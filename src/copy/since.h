#ifndef COPY_SINCE_H
#define COPY_SINCE_H

#include "copy/delta.h"
#include "land/land.h"

/* What has to be moved, by what the last copy has left in the lake and what the Delta log says about the time since. */
struct copy_since {
	struct lake *lake;
	struct delta *delta;
	int64_t version;
	const struct delta_about *about;
	const struct land_target *target;
	const struct land_shape *shape;
	struct duck_conn *conn;
	const char *owner;
	struct duct_arena *arena;

	/* Set: */
	enum { COPY_ALL, COPY_ADDED, COPY_NOTHING } mode;
	const char *why;	 /* COPY_ALL of what was copied before: the reason; else NULL */
	const char *added;	 /* COPY_ADDED: a query of the added rows */
	struct lake_file *files; /* of the table, which stay */
	size_t nfiles;
};
/* CONFIG: the table belongs to another owner. */
int copy_since(struct copy_since *since, struct duct_error *err) DUCT_CHECKED;

#endif
