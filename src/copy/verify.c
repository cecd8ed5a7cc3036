/* Checks of a copy before it is committed: see verify.h. */
#include "copy/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "copy/ask.h"

enum { MOST_TOLD = 5 };

struct outcome {
	const char *name, *description, *expected, *tolerance;
	const char *observed; /* NULL: there is none */
	bool passed;
	char error[1024]; /* "": none */
};

static void add(json_t *results, const struct outcome *o, int *failed)
{
	json_array_append_new(results,
			      json_pack("{s:s,s:b,s:s?,s:s,s:s,s:s?,s:s?}", "name", o->name, "passed", o->passed, "observed_value",
					o->observed, "expected_value", o->expected, "tolerance", o->tolerance, "description",
					o->description, "error", *o->error ? o->error : NULL));
	*failed += !o->passed;
}

/* --- the session --- */

static int make_view(const struct copy_verify *v, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "ATTACH IF NOT EXISTS ':memory:' AS \"ducklake\"; CREATE SCHEMA IF NOT EXISTS \"ducklake\".");
	duct_buf_sql_ident(&sql, v->names->schema_name);
	duct_buf_puts(&sql, "; CREATE OR REPLACE VIEW \"ducklake\".");
	duct_buf_sql_ident(&sql, v->names->schema_name);
	duct_buf_putc(&sql, '.');
	duct_buf_sql_ident(&sql, v->names->table_name);
	duct_buf_printf(&sql, " AS %s", v->table);
	static const char *const names[] = {"delta_scan", "read_delta"};
	for (size_t i = 0; i < DUCT_LEN(names); i++) {
		duct_buf_printf(
			&sql,
			"; CREATE OR REPLACE MACRO %s(uri) AS TABLE SELECT * FROM system.main.delta_scan(uri, version => %lld)",
			names[i], (long long)v->version);
	}
	return duck_exec(v->conn, sql.data, err);
}

static int drop_macros(const struct copy_verify *v, struct duct_error *err)
{
	return duck_exec(v->conn, "DROP MACRO TABLE IF EXISTS delta_scan; DROP MACRO TABLE IF EXISTS read_delta", err);
}

/* --- checks in SQL --- */

/* Whole numbers are compared as such: a double has no room for large ones. */
static bool is_near(const char *observed, const char *expected, const char *tolerance, bool *ret_number)
{
	char *end[3] = {0};
	const char *texts[] = {observed, expected, tolerance};
	long double values[3];
	*ret_number = true;
	for (int i = 0; i < 3; i++) {
		values[i] = strtold(texts[i], &end[i]);
		*ret_number &= *texts[i] && !*end[i] && !isnan(values[i]);
	}
	return *ret_number && fabsl(values[0] - values[1]) <= values[2];
}

static void judge(const struct copy_verify *v, const struct copy_check *check, struct outcome *o)
{
	struct duct_error err;
	struct copy_rows rows;
	AUTO_BUF struct duct_buf inner = {0}, sql = {0};
	bool number = false;
	if (copy_check_sql(check, v->names, &inner, &err) < 0) {
		(void)snprintf(o->error, sizeof o->error, "%s", err.message);
		return;
	}
	duct_buf_printf(
		&sql,
		"SELECT CASE WHEN typeof(c) = 'BOOLEAN' THEN CAST(CAST(c AS INTEGER) AS VARCHAR) ELSE CAST(c AS VARCHAR) END FROM (%s\n) t(c) LIMIT 1",
		inner.data);
	if (copy_ask(v->conn, sql.data, 1, v->arena, &rows, &err) < 0) {
		(void)snprintf(o->error, sizeof o->error, "%s", err.message);
		return;
	}
	if (rows.n == 0) {
		(void)snprintf(o->error, sizeof o->error, "query returned no rows");
		return;
	}
	o->observed = rows.values[0];
	o->passed = o->observed && is_near(o->observed, check->expected, check->tolerance, &number);
	if (!number)
		(void)snprintf(o->error, sizeof o->error, "query did not return a numeric value");
}

/* --- what is always looked at --- */

static void tell_sum(struct duct_buf *told, int *n, const char *name, const char *delta, const char *lake)
{
	if (++*n <= MOST_TOLD)
		duct_buf_printf(told, "%s%s (delta=%s, ducklake=%s)", told->len ? "; " : "", name, delta, lake);
}

static void show_sum(char to[64], uint64_t rows, const struct duck_tap_sum *sum)
{
	(void)snprintf(to, 64, "%llu values, hash %016llx", (unsigned long long)(rows - sum->nulls), (unsigned long long)sum->hash);
}

/* How many rows, and of each column how many values and the sum of their hashes: as they were written, and as the files have them. */
static int check_fingerprints(const struct copy_verify *v, struct outcome *o, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, told = {0}, observed = {0};
	char a[64], b[64];
	uint64_t rows;
	int64_t counted;
	int differing = 0;
	duct_buf_puts(&sql, "SELECT count(*) FROM (");
	duck_tap_put(&sql, v->files, v->columns, v->ncolumns);
	duct_buf_putc(&sql, ')');
	duck_tap_begin(v->tap, v->ncolumns);
	if (duck_number(v->conn, sql.data, &counted, err) < 0)
		return -(int)err->class;
	const struct duck_tap_sum *sums = duck_tap_sums(v->tap, &rows);
	if (rows != v->rows || (uint64_t)counted != v->rows) {
		(void)snprintf(a, sizeof a, "%llu", (unsigned long long)v->rows);
		(void)snprintf(b, sizeof b, "%llu", (unsigned long long)rows);
		tell_sum(&told, &differing, "rows", a, b);
	}
	for (int i = 0; i < v->ncolumns; i++) {
		if (sums[i].hash == v->sums[i].hash && sums[i].nulls == v->sums[i].nulls)
			continue;
		show_sum(a, v->rows, &v->sums[i]);
		show_sum(b, rows, &sums[i]);
		tell_sum(&told, &differing, v->columns[i], a, b);
	}
	duct_buf_printf(&observed, "%d", differing);
	o->observed = duct_arena_strdup(v->arena, observed.data);
	o->passed = differing == 0;
	(void)snprintf(o->error, sizeof o->error, "%s", told.len ? told.data : "");
	return 0;
}

static const char *type_of(const struct copy_rows *columns, const char *name)
{
	for (size_t i = 0; i < columns->n; i++)
		if (strcasecmp(columns->values[2 * i], name) == 0)
			return columns->values[2 * i + 1];
	return NULL;
}

static void tell(struct duct_buf *told, int *n, const char *name, const char *what, const char *delta, const char *lake)
{
	if (++*n > MOST_TOLD)
		return;
	duct_buf_printf(told, "%s%s %s", told->len ? "; " : "", name, what);
	if (delta)
		duct_buf_printf(told, " (delta=%s, ducklake=%s)", delta, lake);
}

static void check_schema(const struct copy_verify *v, const struct copy_rows *source, const struct copy_rows *table,
			 struct outcome *o)
{
	AUTO_BUF struct duct_buf told = {0};
	int n = 0;
	(void)v;
	for (size_t i = 0; i < source->n; i++) {
		const char *name = source->values[2 * i], *type = source->values[2 * i + 1], *there = type_of(table, name);
		if (!there)
			tell(&told, &n, name, "missing from DuckLake", NULL, NULL);
		else if (strcmp(type, there) != 0)
			tell(&told, &n, name, "type mismatch", type, there);
	}
	for (size_t i = 0; i < table->n; i++)
		if (!type_of(source, table->values[2 * i]))
			tell(&told, &n, table->values[2 * i], "missing from Delta source", NULL, NULL);
	if (n > MOST_TOLD)
		duct_buf_printf(&told, "; +%d more differences", n - MOST_TOLD);
	o->observed = n ? "1" : "0";
	o->passed = n == 0;
	(void)snprintf(o->error, sizeof o->error, "%s", told.len ? told.data : "");
}

/* Days of what has a day; NULL is a bucket like any other. */
static void put_buckets(struct duct_buf *sql, const char *query, const char *column, bool temporal)
{
	duct_buf_printf(sql, "(SELECT %s", temporal ? "date_trunc('day', " : "");
	duct_buf_sql_ident(sql, column);
	duct_buf_printf(sql, "%s AS bucket, count(*) AS n FROM (%s) GROUP BY 1)", temporal ? ")" : "", query);
}

static int check_partitions(const struct copy_verify *v, const struct copy_rows *source, struct outcome *o, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, told = {0};
	struct copy_rows rows;
	const char *type = type_of(source, v->partition_column);
	if (!type) {
		(void)snprintf(o->error, sizeof o->error, "partition column \"%s\" not found in Delta schema", v->partition_column);
		return 0;
	}
	bool temporal = strcmp(type, "DATE") == 0 || strncmp(type, "TIMESTAMP", 9) == 0;
	duct_buf_puts(
		&sql,
		"SELECT CAST(count(*) OVER () AS VARCHAR), coalesce(CAST(coalesce(a.bucket, b.bucket) AS VARCHAR), 'NULL') || ': delta=' || "
		"coalesce(a.n, 0) || ', ducklake=' || coalesce(b.n, 0) FROM ");
	put_buckets(&sql, v->source, v->partition_column, temporal);
	duct_buf_puts(&sql, " a FULL OUTER JOIN ");
	put_buckets(&sql, v->table, v->partition_column, temporal);
	duct_buf_puts(&sql, " b ON a.bucket IS NOT DISTINCT FROM b.bucket WHERE a.n IS DISTINCT FROM b.n ORDER BY 2");
	if (copy_ask(v->conn, sql.data, MOST_TOLD, v->arena, &rows, err) < 0)
		return -(int)err->class;
	for (size_t i = 0; i < rows.n; i++)
		duct_buf_printf(&told, "%s%s", i ? "; " : "", rows.values[2 * i + 1]);
	o->observed = rows.n ? rows.values[0] : "0";
	o->passed = rows.n == 0;
	(void)snprintf(o->error, sizeof o->error, "%s", told.len ? told.data : "");
	return 0;
}

static struct outcome built_in(const struct copy_verify *v, const char *name, const char *description)
{
	AUTO_BUF struct duct_buf whole = {0};
	duct_buf_printf(&whole, "%s.%s", v->kind, name);
	return (struct outcome){.name = duct_arena_strdup(v->arena, whole.data),
				.description = description,
				.expected = "0",
				.tolerance = "0"};
}

/* A check that cannot be asked has failed; only an end that was asked for is none. */
static int settle(int rc, struct outcome *o, const struct duct_error *err)
{
	if (rc == -DUCT_CANCELLED)
		return rc;
	if (rc < 0) {
		o->passed = false;
		(void)snprintf(o->error, sizeof o->error, "%s", err->message);
	}
	return 0;
}

static int run_built_in(const struct copy_verify *v, json_t *results, int *failed, struct duct_error *err)
{
	struct copy_rows source = {0}, table = {0};
	struct outcome o = built_in(v, "schema_hash", "the same columns of the same types");
	int rc = copy_describe(v->conn, v->source, v->arena, &source, err);
	rc = rc ? rc : copy_describe(v->conn, v->table, v->arena, &table, err);
	if (rc == 0)
		check_schema(v, &source, &table, &o);
	if (settle(rc, &o, err) < 0)
		return rc;
	add(results, &o, failed);
	if (v->partition_column) {
		o = built_in(v, "partition_counts", "as many rows in each partition");
		if (settle(check_partitions(v, &source, &o, err), &o, err) < 0)
			return -(int)err->class;
		add(results, &o, failed);
	}
	o = built_in(v, "column_fingerprints", "the same values in each column of what was moved");
	if (settle(check_fingerprints(v, &o, err), &o, err) < 0)
		return -(int)err->class;
	add(results, &o, failed);
	return 0;
}

int copy_verify(const struct copy_verify *v, json_t **ret_results, int *ret_failed, struct duct_error *err)
{
	json_t *results = json_array();
	*ret_failed = 0;
	if (make_view(v, err) < 0) {
		/* Files that cannot even be read are a check that failed. */
		struct outcome o = built_in(v, "readable", "the files can be read");
		(void)snprintf(o.error, sizeof o.error, "%s", err->message);
		add(results, &o, ret_failed);
		*ret_results = results;
		return 0;
	}
	for (size_t i = 0; i < v->checks->n; i++) {
		const struct copy_check *check = &v->checks->list[i];
		struct outcome o = {.name = check->name,
				    .description = check->description,
				    .expected = check->expected,
				    .tolerance = check->tolerance};
		judge(v, check, &o);
		add(results, &o, ret_failed);
	}
	int rc = run_built_in(v, results, ret_failed, err);
	rc = rc ? rc : drop_macros(v, err);
	if (rc < 0)
		json_decref(results);
	else
		*ret_results = results;
	return rc;
}
