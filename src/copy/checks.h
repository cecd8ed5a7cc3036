#ifndef COPY_CHECKS_H
#define COPY_CHECKS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

/*
 * Checks in SQL, by the file that DUCKLAKE_COPY_CHECKS names:
 *
 *   defaults:
 *     queries:
 *       - name: row_count_delta_vs_ducklake
 *         sql: SELECT ABS((SELECT COUNT(*) FROM delta_scan(?)) - (SELECT COUNT(*) FROM {ducklake_table}))
 *         parameters: [source_table_uri]
 *         expected: 0
 *         tolerance: 0
 *   models:
 *     my_label:
 *       inherit_defaults: false
 *       queries: [...]
 *
 * A later check takes the place of an earlier one with its name. Without the file the one above is the default; with one that has no
 * `defaults`, too.
 */
struct copy_check {
	const char *name, *sql, *description;
	const char *const *parameters;	  /* NULL-terminated */
	const char *expected, *tolerance; /* numbers as text: exact ones stay so */
};
struct copy_checks {
	struct copy_check *list;
	size_t n, cap;
};
/* CONFIG errors name file and line. In the arena. */
int copy_checks_load(const char *path, const char *label, struct duct_arena *arena, struct copy_checks *ret,
		     struct duct_error *err) DUCT_CHECKED; /* path NULL: no file */
int copy_checks_read(const char *text, size_t n, const char *file, const char *label, struct duct_arena *arena,
		     struct copy_checks *ret, struct duct_error *err) DUCT_CHECKED;

/* What parameters and placeholders stand for. */
struct copy_names {
	const char *team_id, *job_id, *model_label, *saved_query_id, *saved_query_name, *normalized_name, *source_table_uri,
		*schema_name, *table_name; /* NULL: it has none */
};
/* The SQL with the names quoted and the values as literals. CONFIG: a parameter that there is not, or more or fewer than the SQL's "?". */
int copy_check_sql(const struct copy_check *check, const struct copy_names *names, struct duct_buf *to,
		   struct duct_error *err) DUCT_CHECKED;

#endif
