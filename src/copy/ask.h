#ifndef COPY_ASK_H
#define COPY_ASK_H

#include "base/arena.h"
#include "duck/duck.h"

/* Small answers. A query whose columns are all text, as rows of texts (NULL for NULL) in the arena; at most `most` rows, the rest is dropped. */
struct copy_rows {
	const char *const *values; /* row by row */
	size_t n, ncolumns;
};
int copy_ask(struct duck_conn *conn, const char *sql, size_t most, struct duct_arena *arena, struct copy_rows *ret,
	     struct duct_error *err) DUCT_CHECKED;

/* Names and types of a query's columns: rows of two. */
int copy_describe(struct duck_conn *conn, const char *query, struct duct_arena *arena, struct copy_rows *ret,
		  struct duct_error *err) DUCT_CHECKED;

#endif
