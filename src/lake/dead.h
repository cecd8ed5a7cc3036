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

/*
 * Marks of mirrored tables that a live delete file has, too, are taken away; their rows stay dead, at every snapshot. An official client that flushes
 * (ducklake_flush_inlined_data, CHECKPOINT) empties the table of marks in its first try at a commit, and when somebody else commits meanwhile, its next
 * try brings the delete files only. A row that is dead twice is taken from every count twice, and official readers show another dead row instead. *ret: how
 * many went.
 */
int lake_mend_marks(struct lake *lake, struct duck_conn *conn, int64_t *ret, struct duct_error *err);

/*
 * Data files of mirrored tables that have ended, with a delete file that ended with them and marks besides: both become one delete file, which ends like the
 * old one. An official flush would give such a data file a second delete file beside the old one, and older snapshots then have its rows twice; where that
 * has happened, the two become one. No snapshot, no position changes.
 */
int lake_mend_ended_files(struct lake *lake, struct duck_conn *conn, struct duct_error *err);

#endif
