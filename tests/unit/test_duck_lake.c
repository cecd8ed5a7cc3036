/* A lake by its official extension: what the environment says, attach, errors without passwords, waits with a ceiling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "duck/session.h"

struct place {
	char folder[64], *catalog, *data;
	struct duck_session *session;
	struct duck_conn *conn;
};

static int begin(void **state)
{
	struct duct_error err;
	struct place *p = duct_xcalloc(1, sizeof *p);
	strcpy(p->folder, "/tmp/duct-lake-XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	p->catalog = duct_xasprintf("sqlite:%s/lake.db", p->folder);
	p->data = duct_xasprintf("%s/data", p->folder);
	assert_int_equal(duck_session_open(&p->session, &err), 0);
	p->conn = duck_connect(duck_session_db(p->session));
	*state = p;
	return 0;
}

static int end(void **state)
{
	struct place *p = *state;
	AUTO_FREE char *remove = duct_xasprintf("rm -r '%s'", p->folder);
	duck_disconnect(p->conn);
	duck_session_close(p->session);
	assert_int_equal(system(remove), 0);
	free(p->catalog);
	free(p->data);
	free(p);
	return 0;
}

static void run(struct place *p, const char *sql)
{
	struct duct_error err;
	if (duck_exec(p->conn, sql, &err))
		fail_msg("%s: %s", sql, err.message);
}

static void attached(void **state)
{
	struct place *p = *state;
	struct duct_error err;
	struct duck_lake lake = {.catalog = p->catalog, .data_path = p->data, .create = true};
	if (duck_attach_lake(p->conn, &lake, "ducklake", &err))
		fail_msg("%s", err.message);
	run(p, "CREATE SCHEMA ducklake.bronze; CREATE TABLE ducklake.bronze.t AS SELECT 1 AS a");
	run(p,
	    "SELECT CASE WHEN current_setting('TimeZone') = 'UTC' AND current_setting('ducklake_max_retry_count') = 200 "
	    "AND current_setting('ducklake_retry_backoff') = 1 AND NOT current_setting('autoload_known_extensions') "
	    "THEN 1 ELSE error('settings') END");
	lake.create = false;
	lake.data_path = NULL; /* the catalog's own */
	assert_int_equal(duck_attach_lake(p->conn, &lake, "again", &err), 0);
	run(p, "SELECT * FROM again.bronze.t");
	lake.data_path = "/elsewhere";
	assert_int_equal(duck_attach_lake(p->conn, &lake, "moved", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "/elsewhere"));
}

static void refused(void **state)
{
	struct place *p = *state;
	struct duct_error err;
	struct duck_lake lake = {.catalog = p->catalog};
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_CONFIG); /* not there, not to be made */
	lake.catalog = "mysql:x";
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "must be \"sqlite:PATH\" or \"postgres:CONNECTION\""));
	lake.catalog = "postgres:host=/nowhere dbname=d user=u password='ge heim'";
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_RETRY);
	assert_null(strstr(err.message, "heim"));
	assert_non_null(strstr(err.message, "/nowhere"));
	lake.catalog = "postgres://u:geheim@%zz/d";
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_CONFIG);
	assert_null(strstr(err.message, "geheim"));
	lake.catalog = "postgres:host=/nowhere password=geheim sslpassword=geheim";
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_CONFIG);
	assert_null(strstr(err.message, "geheim"));
	assert_non_null(strstr(err.message, "\"sslpassword\""));
	lake.catalog = "postgre:password=geheim";
	AUTO_FREE char *label = duck_lake_label(&lake);
	assert_string_equal(label, "***");
	setenv("DUCTSTREAM_EXTENSIONS", "/nowhere", 1);
	lake.catalog = p->catalog;
	assert_int_equal(duck_attach_lake(p->conn, &lake, "none", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "run tools/setup, or set DUCTSTREAM_EXTENSIONS"));
	unsetenv("DUCTSTREAM_EXTENSIONS");
}

static void classes(void **state)
{
	static const struct {
		const char *sql;
		enum duct_class class;
	} cases[] = {
		{"SELECT nothing FROM ducklake.bronze.none", DUCT_CONFIG},
		{"SELEC 1", DUCT_CONFIG},
		{"SELECT error('x')", DUCT_DATA},
		{"SELECT 'x'::INT", DUCT_DATA},
	};
	struct place *p = *state;
	struct duct_error err;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		assert_true(duck_exec(p->conn, cases[i].sql, &err) < 0);
		assert_int_equal(duck_lake_failed(&err), -(int)cases[i].class);
	}
	run(p, "SET memory_limit = '4MB'; SET temp_directory = ''");
	assert_true(duck_exec(p->conn, "CREATE TEMP TABLE t AS SELECT i, random() AS r FROM range(5000000) t(i)", &err) < 0);
	assert_int_equal(duck_lake_failed(&err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "DUCKDB_MEMORY_LIMIT"));
}

static void waits(void **state)
{
	struct duck_lake lake = {0};
	(void)state;
	for (int n = 1; n < 100; n++) {
		int64_t ms = duck_lake_pause_ms(&lake, n);
		assert_true(ms >= 75 && ms <= 2000);
		assert_true(n > 1 || ms <= 150);
		assert_true(n < 10 || ms >= 1000);
	}
}

static void environment(void **state)
{
	struct duct_arena arena;
	struct duct_error err;
	struct duck_lake lake;
	(void)state;
	duct_arena_init(&arena);
	unsetenv("DUCKLAKE_CATALOG");
	assert_int_equal(duck_lake_from_env(&lake, &arena, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "DUCKLAKE_CATALOG"));
	setenv("DUCKLAKE_RDS_HOST", "db", 1);
	setenv("DUCKLAKE_RDS_PASSWORD", "it's", 1);
	assert_int_equal(duck_lake_from_env(&lake, &arena, &err), 0);
	assert_string_equal(lake.catalog, "postgres:host='db' port='5432' dbname='ducklake_catalog' password='it\\'s'");
	AUTO_FREE char *label = duck_lake_label(&lake);
	assert_null(strstr(label, "it"));
	setenv("DUCKLAKE_CATALOG", "sqlite:/x", 1);
	setenv("DUCKLAKE_RETRY_BACKOFF", "2,5", 1);
	assert_int_equal(duck_lake_from_env(&lake, &arena, &err), -DUCT_CONFIG);
	setenv("DUCKLAKE_RETRY_BACKOFF", "3.5", 1);
	setenv("DUCKLAKE_RETRY_COUNT", "7", 1);
	assert_int_equal(duck_lake_from_env(&lake, &arena, &err), 0);
	assert_string_equal(lake.catalog, "sqlite:/x");
	assert_true(lake.retry_backoff > 3.4 && lake.retry_count == 7);
	duct_arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(attached, begin, end),
		cmocka_unit_test_setup_teardown(refused, begin, end),
		cmocka_unit_test_setup_teardown(classes, begin, end),
		cmocka_unit_test(waits),
		cmocka_unit_test(environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
