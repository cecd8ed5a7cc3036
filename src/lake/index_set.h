#ifndef LAKE_INDEX_SET_H
#define LAKE_INDEX_SET_H

#include "lake/index.h"

/* Inside of the index set, for index.c only. */
const char *lake_index_set_dir(const struct lake_index_set *set);
uint64_t lake_index_set_id(const struct lake_index_set *set); /* random, new whenever the set is emptied */

#endif
