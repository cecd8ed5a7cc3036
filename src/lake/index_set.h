#ifndef LAKE_INDEX_SET_H
#define LAKE_INDEX_SET_H

#include "lake/index.h"

#include <pthread.h>
#include <sys/types.h>

/* Inside of the index set, for index.c and index_runs.c only. */
const char *lake_index_set_dir(const struct lake_index_set *set);
uint64_t lake_index_set_id(const struct lake_index_set *set);		/* random, new whenever the set is emptied */
void lake_index_set_add_sum(struct lake_index_set *set, uint64_t more); /* the sum over the files of all tables */

/* One file without a name for the runs of all tables (index_runs.c), as long as there are some. */
struct lake_index_spill {
	pthread_mutex_t lock; /* guards the others */
	unsigned users;
	int fd;
	off_t end;
};
struct lake_index_spill *lake_index_set_spill(struct lake_index_set *set);

/* index.c. Reads a whole table file of the set: is it what its header says? *ret_sum is what that says, 0 when it is none. */
bool lake_index_check_file(const struct lake_index_set *set, int dir, const char *name, uint64_t *ret_sum);

#endif
