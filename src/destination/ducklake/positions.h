#ifndef DUCKLAKE_POSITIONS_H
#define DUCKLAKE_POSITIONS_H

#include <stddef.h>
#include <stdint.h>

/* A set of positions in one file: a list while they are few, a bit per row of the file when that is smaller. Each is
 * added once. Zeroed: empty. */
struct positions {
	size_t n;
	int64_t *list; /* NULL when it has bits */
	size_t cap;
	uint64_t *bits;
	int64_t rows;
};

/* rows: of the file; at < rows. */
void positions_add(struct positions *p, int64_t at, int64_t rows);
/* All of them, ascending. malloc; n entries. */
int64_t *positions_sorted(const struct positions *p);
void positions_done(struct positions *p); /* empty again */

#endif
