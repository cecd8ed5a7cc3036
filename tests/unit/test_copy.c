/* Names, gates, commits of a Delta log and checks in SQL: src/copy without servers. */
#include "copy/checks.h"
#include "copy/delta.h"
#include "copy/gate.h"
#include "copy/names.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static struct duct_arena arena;

static int set_up(void **state)
{
	(void)state;
	duct_arena_init(&arena);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	duct_arena_done(&arena);
	return 0;
}

static void names_are_plain(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"my_saved_query", "my_saved_query"},
		{"  My Query! ", "my_query"},
		{"a__b", "a_b"},
		{"__a--B__", "a_b"},
		{"", "model"},
		{"\xc3\xbc", "model"},
		{"9lives", "model_9lives"},
		{"0a1b", "model_0a1b"},
		{"order", "order"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++)
		assert_string_equal(copy_name(&arena, cases[i][0], "model"), cases[i][1]);
	char one[100], other[100];
	memset(one, 'a', 99);
	memset(other, 'a', 99);
	one[99] = other[99] = 0;
	other[98] = 'b';
	assert_int_equal(strlen(copy_name(&arena, one, "model")), COPY_NAME_MOST);
	assert_string_not_equal(copy_name(&arena, one, "model"), copy_name(&arena, other, "model"));
	one[63] = 0;
	assert_string_equal(copy_name(&arena, one, "model"), one);
}

static void names_of_imports_end_in_their_id(void **state)
{
	(void)state;
	struct duct_error err;
	const char *name;
	assert_int_equal(copy_import_table(&arena, "Stripe", "In voices", "A1B2c3d4-0000-4000-8000-00000000000f", &name, &err), 0);
	assert_string_equal(name, "stripe_in_voices_a1b2c3d4");
	char raw[200];
	memset(raw, 'x', 199);
	raw[199] = 0;
	assert_int_equal(copy_import_table(&arena, "s", raw, "a1b2c3d400004000800000000000000f", &name, &err), 0);
	assert_int_equal(strlen(name), COPY_NAME_MOST);
	assert_string_equal(name + COPY_NAME_MOST - 9, "_a1b2c3d4");
	assert_int_equal(copy_import_table(&arena, "s", "t", "a1b2", &name, &err), -DUCT_CONFIG);
	assert_int_equal(copy_import_table(&arena, "s", "t", "a1b2c3d400004000800000000000000f0", &name, &err), -DUCT_CONFIG);
	assert_string_equal(copy_schema(&arena, "data_imports", 123), "data_imports_team_123");
}

static void gates_open_on_a_clear_yes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int open;
	} cases[] = {
		{"f=123", 1},	  {"f=12", 0},	       {"g=123", 0},	      {"g=123;f=*", 1},
		{"f=1,2,123", 1}, {"f=1,g=123", 0},    {"g=1,f=123", 1},      {"f=1,2,g=3,123", 0},
		{" f = 123", -1}, {"f", -1},	       {"123", -1},	      {"f=true", -1},
		{"f=-1", -1},	  {"f=123 ; g=x", -1}, {"# f=123\nf=5\n", 0}, {"f=\n 123 # me\n", 1},
		{"", 0},	  {"=123", -1},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++)
		if (copy_gate_read(cases[i].text, "f", 123) != cases[i].open)
			fail_msg("\"%s\"", cases[i].text);
}

static int commit(const char *text, struct delta_added *added, const char **why)
{
	struct duct_error err;
	return delta_read_commit(text, strlen(text), "s3://b/t", &arena, added, why, &err);
}

static void commits_that_only_add(void **state)
{
	(void)state;
	struct delta_added added = {0};
	const char *why;
	assert_int_equal(
		commit("{\"commitInfo\":{}}\n"
		       "{\"add\":{\"path\":\"p=a%2520b/x.parquet\",\"size\":10,\"partitionValues\":{\"p\":\"a%20b\"},\"dataChange\":true}}\n"
		       "{\"add\":{\"path\":\"y.parquet\",\"size\":5,\"partitionValues\":{\"p\":null},\"dataChange\":true}}\n",
		       &added, &why),
		1);
	assert_int_equal(added.n, 2);
	assert_int_equal(added.bytes, 15);
	assert_string_equal(added.files[0].url, "s3://b/t/p=a%20b/x.parquet");
	assert_string_equal(added.files[0].values[0], "a%20b");
	assert_null(added.files[1].values[0]);
	delta_added_done(&added);
	static const char *const others[] = {
		"{\"remove\":{\"path\":\"x\"}}",
		"{\"metaData\":{}}",
		"{\"protocol\":{}}",
		"{\"cdc\":{}}",
		"{\"domainMetadata\":{}}",
		"{\"add\":{\"path\":\"x\",\"size\":1,\"partitionValues\":{},\"dataChange\":false}}",
		"{\"add\":{\"path\":\"x\",\"size\":1,\"partitionValues\":{},\"dataChange\":true,\"deletionVector\":{}}}",
		"{\"add\":{\"path\":\"x*\",\"size\":1,\"partitionValues\":{},\"dataChange\":true}}",
		"{\"add\":{\"path\":\"x%00\",\"size\":1,\"partitionValues\":{},\"dataChange\":true}}",
		"{\"add\":{\"path\":\"file:///x\",\"size\":1,\"partitionValues\":{},\"dataChange\":true}}",
	};
	for (size_t i = 0; i < DUCT_LEN(others); i++) {
		why = NULL;
		if (commit(others[i], &added, &why) != 0 || !why)
			fail_msg("%s", others[i]);
		delta_added_done(&added);
	}
	assert_int_equal(commit("{\"add\":", &added, &why), -DUCT_DATA);
	assert_int_equal(commit("[1]", &added, &why), -DUCT_DATA);
}

static struct copy_names names = {.team_id = "123",
				  .source_table_uri = "s3://b/it's",
				  .schema_name = "data_modeling_team_123",
				  .table_name = "order"};

static int sql(const char *text, const char *const *parameters, struct duct_buf *to)
{
	struct duct_error err;
	struct copy_check check = {.name = "c", .sql = text, .parameters = parameters};
	to->len = 0;
	return copy_check_sql(&check, &names, to, &err);
}

static void checks_are_put_together(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf to = {0};
	const char *const none[] = {NULL}, *const uri[] = {"source_table_uri", NULL}, *const label[] = {"saved_query_id", NULL};
	assert_int_equal(sql("SELECT {'a': 1}, '?' FROM {ducklake_table} WHERE x = '{table_name}' -- ?", none, &to), 0);
	assert_string_equal(to.data,
			    "SELECT {'a': 1}, '?' FROM \"ducklake\".\"data_modeling_team_123\".\"order\" WHERE x = 'order' -- ?");
	assert_int_equal(sql("FROM delta_scan(?), {ducklake_alias}.{schema_name}.{table_name}", uri, &to), 0);
	assert_string_equal(to.data, "FROM delta_scan('s3://b/it''s'), \"ducklake\".\"data_modeling_team_123\".\"order\"");
	assert_int_equal(sql("SELECT ?", none, &to), -DUCT_CONFIG);
	assert_int_equal(sql("SELECT 1", uri, &to), -DUCT_CONFIG);
	assert_int_equal(sql("SELECT ?", label, &to), -DUCT_CONFIG);
}

static int load(const char *text, const char *label, struct copy_checks *ret)
{
	struct duct_error err;
	*ret = (struct copy_checks){0};
	return copy_checks_read(text, strlen(text), "f.yaml", label, &arena, ret, &err);
}

static void checks_are_read(void **state)
{
	(void)state;
	struct copy_checks checks;
	assert_int_equal(load("", "a", &checks), 0);
	assert_int_equal(checks.n, 1);
	assert_string_equal(checks.list[0].name, "row_count_delta_vs_ducklake");
	const char *text = "models:\n  a: {queries: [{name: row_count_delta_vs_ducklake, sql: SELECT 1, tolerance: 2.5}]}\n"
			   "  b: {inherit_defaults: false}\n  c: {queries: [{name: x, sql: SELECT 1}]}\n";
	assert_int_equal(load(text, "a", &checks), 0);
	assert_int_equal(checks.n, 1);
	assert_string_equal(checks.list[0].tolerance, "2.5");
	assert_int_equal(load(text, "b", &checks), 0);
	assert_int_equal(checks.n, 0);
	assert_int_equal(load(text, "c", &checks), 0);
	assert_int_equal(checks.n, 2);
	assert_int_equal(load("defaults: {queries: [{name: x}]}", "a", &checks), -DUCT_CONFIG);
	assert_int_equal(load("defaults: {queries: [{name: x, sql: y, parameters: [z]}]}", "a", &checks), -DUCT_CONFIG);
	assert_int_equal(load("defaults: {queries: [{name: x, sql: y, expected: many}]}", "a", &checks), -DUCT_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_plain),	     cmocka_unit_test(names_of_imports_end_in_their_id),
		cmocka_unit_test(gates_open_on_a_clear_yes), cmocka_unit_test(commits_that_only_add),
		cmocka_unit_test(checks_are_put_together),   cmocka_unit_test(checks_are_read),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
