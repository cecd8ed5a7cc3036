/* Whether names lead to one place: files and folders by links and dots, databases by what a connection string says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "pg/session.h"

static void paths(void **state)
{
	char dir[] = "/tmp/duct-path-XXXXXX", link[64], a[96], b[96];
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(link, sizeof link, "%s/link", dir);
	snprintf(a, sizeof a, "%s/sub", dir);
	assert_int_equal(mkdir(a, 0700), 0);
	assert_int_equal(symlink(a, link), 0);
	assert_true(duct_path_same(a, link));
	snprintf(a, sizeof a, "%s/sub/not/there/", dir);
	snprintf(b, sizeof b, "%s/link/./not/../not//there", dir);
	assert_true(duct_path_same(a, b));
	snprintf(b, sizeof b, "%s/link/../not/there", dir); /* beside what the link leads to */
	assert_false(duct_path_same(a, b));
	snprintf(b, sizeof b, "%s/link", dir);
	assert_true(duct_path_overlaps(a, b));
	assert_true(duct_path_overlaps(b, a));
	snprintf(b, sizeof b, "%s/su", dir);
	assert_false(duct_path_overlaps(a, b));
	assert_true(duct_path_same("x/../y", "./y"));
	assert_false(duct_path_same("y", "/y"));
	assert_true(duct_path_overlaps("/", "y"));
	unlink(link);
	snprintf(a, sizeof a, "%s/sub", dir);
	rmdir(a);
	rmdir(dir);
}

static void databases(void **state)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {
		{"host=h dbname=d", "postgres://u:p@h:5432/d", true},
		{"host=localhost dbname=d user=a", "host=127.0.0.1 port=5432 dbname=d user=b", true},
		{"host=h dbname=d", "host=h dbname=e", false},
		{"host=h dbname=d", "host=i dbname=d", false},
		{"host=h dbname=d", "host=h port=5433 dbname=d", false},
		{"host=h user=d", "host=h dbname=d", true},
		{"host=h dbname=", "host=h dbname=d", false},
		{"this is none", "this is none", false},
	};
	(void)state;
	unsetenv("PGPORT");
	unsetenv("PGDATABASE");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (pg_same_database(cases[i].a, cases[i].b) != cases[i].same)
			fail_msg("%s | %s", cases[i].a, cases[i].b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(databases),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
