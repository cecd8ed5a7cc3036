#ifndef LAKE_INDEX_SET_H
#define LAKE_INDEX_SET_H

#include "lake/index.h"

/* Inside of the index set, for index.c only. */
const char *lake_index_set_dir(const struct lake_index_set *set);
uint64_t lake_index_set_id(const struct lake_index_set *set); /* random, new whenever the set is emptied */
void lake_index_set_add_sum(struct lake_index_set *set, uint64_t more); /* the sum over the files of all tables */

/* index.c. Reads a whole table file of the set: is it what its header says? *ret_sum is what that says, 0 when it is none. */
bool lake_index_check_file(const struct lake_index_set *set, int dir, const char *name, uint64_t *ret_sum);

#endif
