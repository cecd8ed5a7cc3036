#ifndef LAKE_POSITIONS_H
#define LAKE_POSITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of positions in one file: a list while they are few, a bit per row of the file when that is smaller. Each is added once;
 * whoever walks them and meets fewer than n, or one twice, knows that it was not so. Zeroed: empty. */
struct lake_positions {
	size_t n;
	int64_t last;  /* the largest */
	int64_t *list; /* NULL when it has bits */
	size_t cap;
	uint64_t *bits;
	int64_t rows;
};

/* rows: of the file; at < rows. */
void lake_positions_add(struct lake_positions *p, int64_t at, int64_t rows);
/* To be called between the last add and the first walk. */
void lake_positions_sort(struct lake_positions *p);
/* Whether it is one of them; they are sorted, or were added in their order. */
bool lake_positions_has(const struct lake_positions *p, int64_t at);
void lake_positions_done(struct lake_positions *p); /* empty again */

/* Begins with {positions}, which are sorted. */
struct lake_positions_walk {
	const struct lake_positions *positions;
	size_t at;     /* of the list, or of the words */
	uint64_t left; /* of the word before `at` */
};

/* Ascending; false at the end. */
static inline bool lake_positions_next(struct lake_positions_walk *w, int64_t *ret)
{
	const struct lake_positions *p = w->positions;
	if (!p->bits) {
		if (w->at == p->n)
			return false;
		*ret = p->list[w->at++];
		return true;
	}
	while (!w->left) {
		if (w->at > (size_t)p->last / 64)
			return false;
		w->left = p->bits[w->at++];
	}
	*ret = (int64_t)(w->at - 1) * 64 + __builtin_ctzll(w->left);
	w->left &= w->left - 1;
	return true;
}

#endif
