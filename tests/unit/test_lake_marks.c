/* Sets of marks: content against a plain array, twice, dropped files, what the catalog tells. */
#include "base/mem.h"
#include "lake/marks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void assert_list(const struct lake_mark_set *set, int64_t file_id, const int64_t *want, size_t n)
{
	size_t got;
	AUTO_FREE int64_t *list = lake_mark_set_list(set, file_id, &got);
	assert_int_equal(got, n);
	assert_int_equal(lake_mark_set_has_file(set, file_id), n > 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(list[i], want[i]);
}

static void test_files_apart(void **state)
{
	(void)state;
	static const int64_t some[] = {0, 63, 64, 1023, 1024, 70000}, high[] = {UINT32_MAX - 1, UINT32_MAX}, one[] = {5};
	struct lake_mark_set set = {0};
	int64_t position = -7;
	assert_true(lake_mark_set_add(&set, 9, some, 6, &position));
	assert_true(lake_mark_set_add(&set, 2, high, 2, &position));
	assert_true(lake_mark_set_add(&set, 5, one, 1, &position));
	assert_int_equal(position, -7);
	assert_list(&set, 9, some, 6);
	assert_list(&set, 2, high, 2);
	assert_list(&set, 5, one, 1);
	assert_list(&set, 3, NULL, 0);
	lake_mark_set_drop_file(&set, 5);
	lake_mark_set_drop_file(&set, 3);
	assert_list(&set, 5, NULL, 0);
	assert_list(&set, 2, high, 2);
	assert_list(&set, 9, some, 6);
	assert_true(lake_mark_set_add(&set, 5, one, 1, &position));
	lake_mark_set_done(&set);
	assert_list(&set, 9, NULL, 0);
}

static void test_twice_is_refused(void **state)
{
	(void)state;
	static const int64_t first[] = {1, 100, 2000}, second[] = {3, 100, 4}, same[] = {8, 8};
	struct lake_mark_set set = {0};
	int64_t position;
	assert_true(lake_mark_set_add(&set, 1, first, 3, &position));
	assert_true(lake_mark_set_add(&set, 2, first, 3, &position));
	assert_false(lake_mark_set_add(&set, 1, second, 3, &position));
	assert_int_equal(position, 100);
	assert_false(lake_mark_set_add(&set, 3, same, 2, &position));
	assert_int_equal(position, 8);
	lake_mark_set_done(&set);
}

static void test_rows_that_cannot_be(void **state)
{
	(void)state;
	static const int64_t wrong[] = {-1, INT64_MIN, INT64_C(1) << 32, INT64_MAX};
	struct lake_mark_set set = {0};
	for (size_t i = 0; i < DUCT_LEN(wrong); i++) {
		int64_t position = 0;
		assert_false(lake_mark_set_add(&set, 1, &wrong[i], 1, &position));
		assert_int_equal(position, wrong[i]);
	}
	assert_false(lake_mark_set_has_file(&set, 1));
	lake_mark_set_done(&set);
}

/* A pseudo-random half of a file's rows, in three goes. */
static void test_many(void **state)
{
	(void)state;
	enum { ROWS = 300000 };
	struct lake_mark_set set = {0};
	AUTO_FREE int64_t *all = duct_xmalloc(ROWS * sizeof *all), *part = duct_xmalloc(ROWS * sizeof *part);
	size_t n = 0, left = 0;
	for (int64_t i = 0; i < ROWS; i++)
		if ((uint64_t)i * UINT64_C(0x9E3779B97F4A7C15) >> 63)
			all[n++] = i;
	for (size_t turn = 0; turn < 3; turn++, left = 0) {
		int64_t position;
		for (size_t i = turn; i < n; i += 3)
			part[left++] = all[i];
		assert_true(lake_mark_set_add(&set, 4, part, left, &position));
	}
	assert_list(&set, 4, all, n);
	lake_mark_set_done(&set);
}

static int take(struct lake_mark_set *set, const char *file, const char *upper, const char *lower, struct duct_error *err)
{
	return lake_mark_set_take(set, (const char *const[]){file, upper, lower}, err);
}

static void test_told_by_the_catalog(void **state)
{
	(void)state;
	struct lake_mark_set set = {0};
	struct duct_error err;
	assert_int_equal(take(&set, "7", "0", "65535,0,12", &err), 0);
	assert_int_equal(take(&set, "7", "2", "1", &err), 0);
	assert_int_equal(take(&set, "8", NULL, NULL, &err), 0);
	assert_list(&set, 7, (const int64_t[]){0, 12, 65535, 131073}, 4);
	assert_list(&set, 8, NULL, 0);
	assert_int_equal(take(&set, "7", "0", "13,12", &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "marks a row twice deleted in data file 7"));
	static const char *const wrong[][2] = {{"0", ""},    {"0", "1,"},    {"0", "x"},
					       {"-1", "1"},  {"70000", "1"}, {"0", "1,,2"},
					       {"0", "1 2"}, {"0", "65536"}, {"0", "99999999999999999999"}};
	for (size_t i = 0; i < DUCT_LEN(wrong); i++) {
		lake_mark_set_done(&set);
		assert_int_equal(take(&set, "7", wrong[i][0], wrong[i][1], &err), -DUCT_FATAL);
	}
	lake_mark_set_done(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_apart),	    cmocka_unit_test(test_twice_is_refused),
		cmocka_unit_test(test_rows_that_cannot_be), cmocka_unit_test(test_many),
		cmocka_unit_test(test_told_by_the_catalog),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
