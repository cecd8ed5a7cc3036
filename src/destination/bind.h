#ifndef DESTINATION_BIND_H
#define DESTINATION_BIND_H

#include "record/relation.h"

/*
 * Binding: which column of the destination each column of a relation version is. A version names its columns in the order of their
 * numbers (attnum), but a stream does not say the numbers: the source adds those that its catalog has under the same name
 * now, which may be later than the version. Here that is held against the columns that the destination has, which are earlier.
 * Numbers are never used twice and rise from column to column; that settles what names alone do not.
 * A column with a negative number is not the source's: it goes by its name only.
 */
struct bind_column {
	int16_t attnum; /* 0 or less: it has none */
	const char *name;
	const struct duct_type *type; /* NULL: the destination has it no longer */
};

/* For each column of the relation its place in `have` (-1: new) and the source's number of it (0: not known). */
void destination_bind(const struct bind_column *have, size_t n, const struct duct_relation *rel, int *ret_columns,
		      int16_t *ret_attnums);

/*
 * What rows that are older than new column `c` (of number attnum at the source) have in it: *ret_value, as in duct_column (NULL: NULL),
 * when it is the same for all of them and the destination can set it; else false, then it is NULL and only the source knows. Under
 * the column's name the source may have another one by now.
 */
bool destination_old_rows_value(const struct duct_relation *rel, const struct duct_column *c, int16_t attnum,
				const char **ret_value);

#endif
