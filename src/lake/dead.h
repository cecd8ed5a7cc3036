#ifndef LAKE_DEAD_H
#define LAKE_DEAD_H

#include "lake/catalog.h"
#include "lake/marks.h"
#include "lake/parquet.h"

/* The rows of a live data file that are dead: in its delete file, or marked inside the catalog. Zeroed: none. */
struct lake_dead {
	int64_t *positions; /* ascending */
	size_t n;
};
/* Takes the place of what was in it; marks: of the table. On failure it is empty. */
int lake_dead_read(struct lake_dead *dead, const struct lake_mark_set *marks, struct duck_conn *conn, const struct lake_file *file,
		   struct duct_error *err);
bool lake_dead_has(const struct lake_dead *dead, int64_t position);
void lake_dead_done(struct lake_dead *dead); /* empty again */

#endif
