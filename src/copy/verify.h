#ifndef COPY_VERIFY_H
#define COPY_VERIFY_H

#include <jansson.h>

#include "copy/checks.h"
#include "duck/tap.h"

/*
 * Files that are not in the lake yet, against where their rows came from. In the session the table is the view "ducklake"."schema"."table", and
 * delta_scan() and read_delta() of the Delta table give the pinned version.
 */
struct copy_verify {
	struct duck_conn *conn;
	struct duck_tap *tap;
	const char *kind; /* "model", "data_imports": begins the names of the built-in checks */
	const struct copy_names *names;
	const struct copy_checks *checks;
	const char *source; /* a query: all rows of the Delta table, as the table's columns */
	/* What was written into the new files, as it passed by. */
	uint64_t rows;
	const struct duck_tap_sum *sums; /* per column */
	const char *const *columns;
	int ncolumns;
	const char *files; /* a query: the rows of the new files */
	const char *table; /* a query: the table's, as it will be */
	int64_t version;
	const char *partition_column; /* of the Delta table; NULL: none */
	struct duct_arena *arena;
};
/* Every check, whatever the others say. *ret_results: a list of objects {name, passed, observed_value, expected_value, tolerance,
 * description, error}; *ret_failed: how many did not pass. -class: it could not be begun, or is to end. */
int copy_verify(const struct copy_verify *v, json_t **ret_results, int *ret_failed, struct duct_error *err) DUCT_CHECKED;

#endif
