#ifndef LAKE_INDEX_RUNS_H
#define LAKE_INDEX_RUNS_H

#include "lake/index.h"

/*
 * Entries gathered in any order, on their way into an index: sorted in small pieces of memory, which spill to a file without
 * a name in the folder of the set, one for all tables however many. Several threads gather at once, each into its own; merged in the order of the index
 * the whole is written once from its begin to its end, however large it is.
 */
struct lake_index_runs;

int lake_index_runs_open(struct lake_index_runs **ret, struct lake_index_set *set, struct duct_error *err);
void lake_index_runs_close(struct lake_index_runs *runs); /* accepts NULL */

int lake_index_runs_add(struct lake_index_runs *runs, struct lake_key_hash hash, struct lake_place place, struct duct_error *err);
/* No more comes: what is in memory spills too. */
int lake_index_runs_finish(struct lake_index_runs *runs, struct duct_error *err);

/*
 * Fills an empty index from n finished ones; `place`, called from several threads, says what becomes of the place of an entry of
 * runs[which].
 * *ret_equal: two entries have the same hash.
 */
typedef struct lake_place lake_place_fn(void *arg, size_t which, struct lake_place place);
int lake_index_merge(struct lake_index *index, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place, void *arg,
		     bool *ret_equal, struct duct_error *err);

#endif
