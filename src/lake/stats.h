#ifndef LAKE_STATS_H
#define LAKE_STATS_H

#include "lake/model.h"

/*
 * What a commit makes of one column's row in ducklake_table_column_stats. The official client folds constants by these
 * bounds, so they must hold for every row that was ever added; a NULL bound would be taken for "no values" and replaced
 * by the next writer. Hence: true bounds, or no row.
 */
enum lake_stats_action {
	LAKE_STATS_KEEP,   /* the row (or its absence) is right as it is */
	LAKE_STATS_INSERT, /* the first rows of the table */
	LAKE_STATS_UPDATE,
	LAKE_STATS_DELETE, /* not known any more */
};

struct lake_stats_change {
	int64_t column_id;
	enum lake_stats_action action;
	bool contains_null;
	int contains_nan;      /* -1 NULL, 0, 1 */
	const char *min, *max; /* borrowed from the inputs */
};

/* old: the column's row now, NULL when there is none. was_empty: no row was ever added to the table. type: of the leaf
 * column. files: statistics of the column in each new file that has rows; an entry is NULL when the file says nothing
 * about it. No I/O. */
struct lake_stats_change lake_widen_stats(int64_t column_id, const struct duct_type *type,
					  const struct lake_table_column_stats *old, bool was_empty,
					  const struct lake_column_stats *const *files, size_t nfiles);

#endif
