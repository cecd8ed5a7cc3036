/* What a query selects becomes a table of a lake: src/land. */
#include "land/land.h"

#include <string.h>

#include "lake_bed.h"

static struct land_result land(const char *query, bool replace)
{
	struct duct_error err;
	struct land_shape shape;
	struct land_files files = {0};
	struct land_result result;
	struct land_target target = {"main", "t", replace, NULL};
	ok(land_shape(t.conn, query, &t.arena, &shape, &err));
	ok(land_write(t.conn, t.lake, &target, &shape, &files, &err));
	ok(land_commit(t.lake, &target, &shape, &files, "a test", &result, &err));
	land_files_done(&files);
	return result;
}

/* The rows of the table's live files, counted by DuckDB; *ret_files: how many there are. */
static int64_t count_rows(size_t *ret_files)
{
	struct duct_error err;
	struct lake_file *files;
	duckdb_result result;
	AUTO_BUF struct duct_buf sql = {0};
	const struct lake_table *table = lake_find_table(t.lake, "main", "t");
	assert_non_null(table);
	ok(lake_list_files(t.lake, table->id, &t.arena, &files, ret_files, &err));
	if (!*ret_files)
		return 0;
	duct_buf_puts(&sql, "SELECT count(*) FROM read_parquet([");
	for (size_t i = 0; i < *ret_files; i++) {
		duct_buf_puts(&sql, i ? ", " : "");
		duct_buf_sql_literal(&sql, files[i].path);
	}
	duct_buf_puts(&sql, "])");
	ok(duck_query(t.conn, sql.data, &result, &err));
	duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
	int64_t n = *(int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return n;
}

static void replaces_and_adds(void **state)
{
	(void)state;
	size_t nfiles;
	struct land_result first = land("SELECT i AS id, 'n' || i AS name FROM range(1000) r(i)", true);
	assert_true(first.created);
	assert_int_equal(count_rows(&nfiles), 1000);
	struct land_result second = land("SELECT i AS id, 'm' || i AS name FROM range(10) r(i)", true);
	assert_false(second.created);
	assert_int_equal(second.table_id, first.table_id);
	assert_int_equal(count_rows(&nfiles), 10);
	land("SELECT i AS id, 'm' || i AS name FROM range(10, 15) r(i)", false);
	assert_int_equal(count_rows(&nfiles), 15);
	assert_int_equal(nfiles, 2);
	struct land_result other = land("SELECT i AS id, i * 1.5 AS name FROM range(7) r(i)", true);
	assert_true(other.created);
	assert_true(other.table_id != first.table_id);
	assert_int_equal(count_rows(&nfiles), 7);
	land("SELECT i AS id, i * 1.5 AS name FROM range(0) r(i)", true);
	assert_int_equal(count_rows(&nfiles), 0);
}

static void casts_what_has_no_type(void **state)
{
	(void)state;
	struct duct_error err;
	struct land_shape shape;
	size_t nfiles;
	const char *query =
		"SELECT INTERVAL 1 DAY AS i, 5::HUGEINT AS h, TIMESTAMP_NS '2026-01-01 00:00:00' AS ns, [1, 2]::INTEGER[2] AS a, "
		"'x'::ENUM('x', 'y') AS e, {'a': [1, NULL], 'odd \"name': MAP {'k': 1.5}} AS s, '{}'::JSON AS j";
	ok(land_shape(t.conn, query, &t.arena, &shape, &err));
	assert_string_equal(shape.casts,
			    "\"i\" as VARCHAR, \"h\" as DECIMAL(38,0), \"ns\" as TIMESTAMP, \"a\" as INTEGER[], \"e\" as VARCHAR");
	land(query, true);
	assert_int_equal(count_rows(&nfiles), 1);
	const struct lake_table *table = lake_find_table(t.lake, "main", "t");
	assert_true(land_same_columns(table, &shape));
	assert_string_equal(table->columns[6].type_name, "json");
	ok(land_shape(t.conn, "SELECT 1 AS \"a\", 2 AS \"A\"", &t.arena, &shape, &err));
	assert_string_equal(shape.columns[1].name, "A_1"); /* as DuckDB itself tells them apart */
	land("SELECT 1 AS \"a\", 2 AS \"A\"", true);
}

static void is_refused_where_it_does_not_fit(void **state)
{
	(void)state;
	struct duct_error err;
	struct land_shape shape;
	struct land_files files = {0};
	struct land_target target = {"main", "t", false, NULL};
	land("SELECT 1 AS id", true);
	ok(land_shape(t.conn, "SELECT 'a' AS id", &t.arena, &shape, &err));
	assert_int_equal(land_write(t.conn, t.lake, &target, &shape, &files, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "has other columns than what is to be added"));
	land_files_done(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(replaces_and_adds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(casts_what_has_no_type, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_refused_where_it_does_not_fit, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
