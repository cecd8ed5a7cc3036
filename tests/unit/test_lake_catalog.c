/* Parts of the catalog that need no database: tags, bounds, names, folders, SQL text. */
#include "base/uuid.h"
#include "lake/changes.h"
#include "lake/lake.h"
#include "lake/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void expect_tags(const char *text, const char *expected)
{
	char got[256] = "";
	size_t n = 0;
	struct lake_change_item item;
	int more;
	for (const char *at = text; (more = lake_changes_next(&at, &item)) > 0;)
		n += (size_t)snprintf(got + n, sizeof got - n, "%d:%lld ", item.tag, (long long)item.id);
	if (more < 0)
		snprintf(got + n, sizeof got - n, "!");
	assert_string_equal(got, expected);
}

static void tags_are_read_through_quotes(void **state)
{
	(void)state;
	char expected[128];
	snprintf(expected, sizeof expected, "%d:-1 %d:-1 %d:12 ", LAKE_TAG_NEUTRAL, LAKE_TAG_CREATED_TABLE, LAKE_TAG_INSERTED);
	expect_tags("created_schema:\"a,\"\"b:\",created_table:\"x\".\",inserted_into_table:9\",inserted_into_table:12", expected);
	snprintf(expected, sizeof expected, "%d:3 %d:3 %d:4 ", LAKE_TAG_DELETED, LAKE_TAG_INLINED_DELETE, LAKE_TAG_MOVED);
	expect_tags("deleted_from_table:3,inlined_delete:3,merge_adjacent:4", expected);
	snprintf(expected, sizeof expected, "%d:7 ", LAKE_TAG_UNKNOWN);
	expect_tags("some_future_tag:7", expected);
	expect_tags("", "");
	snprintf(expected, sizeof expected, "%d:1 !", LAKE_TAG_ALTERED_TABLE);
	expect_tags("altered_table:1,altered_table:", expected);
	expect_tags("altered_table:1,", "!");
	expect_tags("created_table:\"open", "!");
	expect_tags("altered_table:99999999999999999999", "!");
	expect_tags("altered_table", "!");
}

static struct lake_stats_change widened(enum duct_kind kind, const char *old_min, const char *old_max,
					const struct lake_column_stats *file)
{
	struct duct_type type = {.kind = kind};
	struct lake_table_column_stats old = {.has_row = true, .contains_nan = 0, .min = old_min, .max = old_max};
	return lake_widen_stats(1, &type, &old, false, &file, 1);
}

static struct lake_column_stats bounds(const char *min, const char *max)
{
	return (struct lake_column_stats){.column_id = 1, .value_count = 5, .contains_nan = 0, .min = min, .max = max};
}

static void expect_bounds(const struct lake_stats_change *change, const char *min, const char *max)
{
	assert_int_equal(change->action, LAKE_STATS_UPDATE);
	assert_string_equal(change->min, min);
	assert_string_equal(change->max, max);
}

static void bounds_widen_by_value_not_by_text(void **state)
{
	(void)state;
	struct lake_column_stats file = bounds("9", "10");
	struct lake_stats_change change = widened(DUCT_INT64, "8", "9", &file);
	expect_bounds(&change, "8", "10");
	file = bounds("-5.5", "1e+20");
	change = widened(DUCT_FLOAT64, "2.0", "300.0", &file);
	expect_bounds(&change, "-5.5", "1e+20");
	file = bounds("0044-03-15 (BC)", "10000-01-01");
	change = widened(DUCT_DATE, "2024-01-01", "2024-01-02", &file);
	expect_bounds(&change, "0044-03-15 (BC)", "10000-01-01");
	file = bounds("10", "9");
	change = widened(DUCT_VARCHAR, "2", "3", &file);
	expect_bounds(&change, "10", "9");
	file = bounds("00FF", "80");
	change = widened(DUCT_BLOB, "01", "7F", &file);
	expect_bounds(&change, "00FF", "80");
}

static void bounds_inside_write_nothing(void **state)
{
	(void)state;
	struct lake_column_stats file = bounds("9", "10");
	assert_int_equal(widened(DUCT_INT64, "9", "10", &file).action, LAKE_STATS_KEEP);
	file.null_count = 1; /* ... but the first NULL is news */
	struct lake_stats_change change = widened(DUCT_INT64, "9", "10", &file);
	expect_bounds(&change, "9", "10");
	assert_true(change.contains_null);
}

static void unknown_bounds_remove_the_row(void **state)
{
	(void)state;
	struct lake_column_stats file = bounds(NULL, NULL);
	assert_int_equal(widened(DUCT_VARCHAR, "a", "b", &file).action, LAKE_STATS_DELETE);
	file = bounds("9", "10"); /* a NULL bound in the catalog is not "no values" */
	assert_int_equal(widened(DUCT_INT64, NULL, NULL, &file).action, LAKE_STATS_DELETE);
	file = bounds("x", "y");
	assert_int_equal(widened(DUCT_INT64, "1", "2", &file).action, LAKE_STATS_DELETE);
	assert_int_equal(widened(DUCT_INT64, "1", "2", NULL).action, LAKE_STATS_DELETE);
	file = (struct lake_column_stats){.column_id = 1, .null_count = 5, .contains_nan = 0};
	assert_int_equal(widened(DUCT_INT64, "1", "2", &file).action, LAKE_STATS_UPDATE);
}

static void rows_appear_only_with_the_first_file(void **state)
{
	(void)state;
	struct duct_type type = {.kind = DUCT_INT32};
	struct lake_column_stats known = bounds("1", "2"), nulls = {.column_id = 1, .null_count = 2};
	const struct lake_column_stats *one[] = {&known}, *two[] = {&nulls, &known}, *none[] = {&nulls};
	assert_int_equal(lake_widen_stats(1, &type, NULL, false, one, 1).action, LAKE_STATS_KEEP);
	assert_int_equal(lake_widen_stats(1, &type, NULL, true, one, 1).action, LAKE_STATS_INSERT);
	struct lake_stats_change change = lake_widen_stats(1, &type, NULL, true, two, 2);
	assert_int_equal(change.action, LAKE_STATS_INSERT);
	assert_true(change.contains_null);
	assert_int_equal(change.contains_nan, -1);
	assert_int_equal(lake_widen_stats(1, &type, NULL, true, none, 1).action, LAKE_STATS_KEEP);
}

static void nan_is_claimed_absent_only_when_proven(void **state)
{
	(void)state;
	struct lake_column_stats file = bounds("1.0", "2.0");
	file.contains_nan = -1;
	assert_int_equal(widened(DUCT_FLOAT64, "1.0", "2.0", &file).contains_nan, -1);
	file.contains_nan = 1;
	assert_int_equal(widened(DUCT_FLOAT64, "1.0", "2.0", &file).contains_nan, 1);
	file.contains_nan = 0;
	assert_int_equal(widened(DUCT_FLOAT64, "1.0", "2.0", &file).contains_nan, 0);
}

static void folders_follow_the_name_or_the_uuid(void **state)
{
	(void)state;
	struct duct_arena arena;
	duct_arena_init(&arena);
	char longest[202] = "";
	memset(longest, 'x', 201);
	assert_string_equal(lake_path_part(&arena, "a_B-9", "u"), "a_B-9/");
	assert_string_equal(lake_path_part(&arena, "a b", "u"), "u/");
	assert_string_equal(lake_path_part(&arena, "..", "u"), "u/");
	assert_string_equal(lake_path_part(&arena, "n\xc3\xa9", "u"), "u/");
	assert_string_equal(lake_path_part(&arena, longest, "u"), "u/");
	assert_string_equal(lake_join_folder(&arena, "/d/", "main/", true), "/d/main/");
	assert_string_equal(lake_join_folder(&arena, "/d/", "/other", false), "/other/");
	duct_arena_done(&arena);
}

static void nested_columns_are_built_from_rows(void **state)
{
	(void)state;
	struct duct_arena arena;
	duct_arena_init(&arena);
	const struct lake_column_row rows[] = {
		{1, -1, "v", "list", NULL, true},
		{2, 1, "element", "struct", NULL, true},
		{3, 2, "A b", "list", NULL, true},
		{4, 3, "element", "int32", NULL, true},
		{5, 2, "m", "map", NULL, true},
		{6, 5, "key", "int32", NULL, true},
		{7, 5, "value", "decimal(9,2)", NULL, true},
		{8, -1, "w", "interval", "x", false},
	};
	struct lake_column *columns;
	int n;
	lake_build_columns(&arena, rows, 8, &columns, &n);
	assert_int_equal(n, 2);
	AUTO_BUF struct duct_buf text = {0};
	duct_type_print(&text, &columns[0].type);
	assert_string_equal(text.data, "list(struct(A b list(int32), m map(int32, decimal(9,2))))");
	assert_int_equal(columns[0].nleaf_ids, 6);
	for (int i = 0; i < 6; i++)
		assert_int_equal(columns[0].leaf_ids[i], i + 2);
	assert_true(columns[0].supported);
	assert_false(columns[1].supported);
	duct_arena_done(&arena);
}

static void names_fold_ascii_only(void **state)
{
	(void)state;
	assert_true(lake_same_name("Ab", "aB"));
	assert_false(lake_same_name("\xc3\x89", "\xc3\xa9"));
	assert_false(lake_same_name("a", "ab"));
}

static void sql_keeps_users_text_out_of_the_format(void **state)
{
	(void)state;
	char prefix[] = "\"a%%\"\"b\".";
	struct lake_db db = {.prefix = prefix};
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(&sql, &db, "SELECT %d FROM @ducklake_x WHERE n = '%s'", 7, "@100%s");
	assert_string_equal(sql.data, "SELECT 7 FROM \"a%\"\"b\".ducklake_x WHERE n = '@100%s'");
}

static void uuids_have_their_form(void **state)
{
	(void)state;
	char a[DUCT_UUID_LEN], b[DUCT_UUID_LEN];
	duct_uuid_v4(a);
	duct_uuid_v4(b);
	assert_string_not_equal(a, b);
	assert_int_equal(strlen(a), 36);
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
	assert_int_equal(duct_uuid_v7(b)[14], '7');
	assert_int_equal(strspn(b, "0123456789abcdef-"), 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_are_read_through_quotes),
		cmocka_unit_test(bounds_widen_by_value_not_by_text),
		cmocka_unit_test(bounds_inside_write_nothing),
		cmocka_unit_test(unknown_bounds_remove_the_row),
		cmocka_unit_test(rows_appear_only_with_the_first_file),
		cmocka_unit_test(nan_is_claimed_absent_only_when_proven),
		cmocka_unit_test(folders_follow_the_name_or_the_uuid),
		cmocka_unit_test(nested_columns_are_built_from_rows),
		cmocka_unit_test(names_fold_ascii_only),
		cmocka_unit_test(sql_keeps_users_text_out_of_the_format),
		cmocka_unit_test(uuids_have_their_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
