#ifndef DUCK_TAP_H
#define DUCK_TAP_H

#include "base/buf.h"
#include "duck/duck.h"

/*
 * What passes by, summed up, while a statement does something else with it: `SELECT * FROM (QUERY) WHERE duck_tap(hash("a"), hash("b"))` gives the
 * rows of the query, and the tap counts them and sums their hashes, per column. The order of rows does not matter, how often each comes does.
 */
struct duck_tap;

struct duck_tap_sum {
	uint64_t hash; /* modulo 2^64; NULL has a hash, too */
	uint64_t nulls;
};

/* One for the instance of the connection, which must be closed before duck_tap_close(). */
int duck_tap_open(struct duck_tap **ret, struct duck_conn *conn, struct duct_error *err) DUCT_CHECKED;
void duck_tap_close(struct duck_tap *tap); /* accepts NULL */

/* The query with the tap in it. */
void duck_tap_put(struct duct_buf *to, const char *query, const char *const *columns, int ncolumns);

/* From here on one statement passes by: everything is zero. */
void duck_tap_begin(struct duck_tap *tap, int ncolumns);
/* When it has ended: a sum per column, until the next begin; *ret_rows: how many rows there were. */
const struct duck_tap_sum *duck_tap_sums(struct duck_tap *tap, uint64_t *ret_rows);

#endif
