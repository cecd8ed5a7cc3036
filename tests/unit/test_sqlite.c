/* What SQLite's errors become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sqlite/fail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void execute(sqlite3 *db, const char *sql)
{
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void the_class_says_what_should_happen_next(void **state)
{
	(void)state;
	char path[] = "/tmp/test_sqlite_XXXXXX";
	struct duct_error err;
	sqlite3 *one = NULL, *two = NULL;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sqlite3_open(path, &one), SQLITE_OK);
	assert_int_equal(sqlite3_open(path, &two), SQLITE_OK);
	execute(one, "create table t (id integer primary key); insert into t values (1)");

	execute(one, "begin immediate");
	assert_int_equal(sqlite3_exec(two, "insert into t values (2)", NULL, NULL, NULL), SQLITE_BUSY);
	assert_int_equal(duct_sqlite_fail(&err, two, "state", "/x/state.db", 20), -DUCT_RETRY);
	assert_string_equal(err.message, "state \"/x/state.db\": locked by another process for longer than 20 ms");
	assert_int_equal(err.vendor_code, SQLITE_BUSY);
	execute(one, "commit");

	execute(two, "pragma query_only = on");
	assert_int_not_equal(sqlite3_exec(two, "insert into t values (2)", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(duct_sqlite_fail(&err, two, "catalog", "c", 0), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "readonly"));

	assert_int_not_equal(sqlite3_exec(one, "insert into t values (1)", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(duct_sqlite_fail(&err, one, "catalog", "c", 0), -DUCT_FATAL);
	assert_int_equal(err.vendor_code, SQLITE_CONSTRAINT_PRIMARYKEY);
	sqlite3_close(one);
	sqlite3_close(two);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_class_says_what_should_happen_next)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
