/* Changes of tables, told: SQL and JSON of every kind, what is irreversible, and fingerprints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "record/ddl.h"

static const struct duct_type int32 = {.kind = DUCT_INT32}, int64 = {.kind = DUCT_INT64}, text = {.kind = DUCT_VARCHAR};

static struct duct_relation *table(const char *name, const struct duct_type *type)
{
	struct duct_relation *rel = duct_relation_new();
	rel->oid = 7;
	rel->schema = "pub\"lic";
	rel->name = name;
	rel->ncolumns = 1;
	rel->columns = duct_arena_zalloc(&rel->arena, sizeof *rel->columns);
	rel->columns[0] = (struct duct_column){.name = "a", .type = *type};
	return rel;
}

static void every_kind(void **state)
{
	struct duct_relation *rel = table("t", &int32);
	struct duct_ddl_plan plan = {.relation = rel};
	AUTO_BUF struct duct_buf sql = {0}, json = {0};
	(void)state;
	duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_RENAME_TABLE, .column = "s", .to_column = "t"});
	duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_DROP_COLUMN, .column = "x", .from = &text});
	duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_RENAME_COLUMN, .column = "b", .to_column = "c\n"});
	duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_ALTER_COLUMN, .column = "n", .from = &int32, .to = &int64});
	duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_ADD_COLUMN, .column = "y", .to = &text});
	duct_ddl_sql(&sql, &plan);
	assert_string_equal(sql.data,
			    "ALTER TABLE \"pub\"\"lic\".\"s\" RENAME TO \"t\"; "
			    "ALTER TABLE \"pub\"\"lic\".\"t\" DROP COLUMN \"x\"; "
			    "ALTER TABLE \"pub\"\"lic\".\"t\" RENAME COLUMN \"b\" TO \"c\n\"; "
			    "ALTER TABLE \"pub\"\"lic\".\"t\" ALTER COLUMN \"n\" SET DATA TYPE int64; "
			    "ALTER TABLE \"pub\"\"lic\".\"t\" ADD COLUMN \"y\" varchar");
	duct_ddl_json(&json, &plan);
	assert_string_equal(
		json.data,
		"{\"changes\":[{\"type\":\"rename_table\",\"namespace\":\"pub\\\"lic\",\"table\":\"s\",\"to_table\":\"t\","
		"\"irreversible\":false},{\"type\":\"drop_column\",\"namespace\":\"pub\\\"lic\",\"table\":\"t\",\"column\":\"x\","
		"\"from_type\":\"varchar\",\"irreversible\":true},"
		"{\"type\":\"rename_column\",\"namespace\":\"pub\\\"lic\",\"table\":\"t\",\"column\":\"b\",\"to_column\":\"c\\n\","
		"\"irreversible\":false},"
		"{\"type\":\"alter_column\",\"namespace\":\"pub\\\"lic\",\"table\":\"t\",\"column\":\"n\",\"from_type\":\"int32\","
		"\"to_type\":\"int64\",\"irreversible\":false},"
		"{\"type\":\"add_column\",\"namespace\":\"pub\\\"lic\",\"table\":\"t\",\"column\":\"y\",\"to_type\":\"varchar\","
		"\"irreversible\":false}],\"irreversible\":true}");
	duct_ddl_plan_done(&plan);
	duct_relation_unref(rel);
}

static void narrowing_is_irreversible(void **state)
{
	(void)state;
	assert_true(duct_ddl_irreversible(&(struct duct_ddl_change){DUCT_DDL_ALTER_COLUMN, .from = &int64, .to = &int32}));
	assert_false(duct_ddl_irreversible(&(struct duct_ddl_change){DUCT_DDL_ALTER_COLUMN, .from = &int32, .to = &int64}));
}

static void fingerprints(void **state)
{
	struct duct_relation *a = table("t", &int32), *renamed = table("u", &int32), *wider = table("t", &int64);
	char of_a[17], of_renamed[17], of_wider[17];
	(void)state;
	duct_ddl_fingerprint(of_a, a);
	duct_ddl_fingerprint(of_renamed, renamed);
	duct_ddl_fingerprint(of_wider, wider);
	assert_string_equal(of_a, of_renamed); /* of its columns: the name is the event's */
	assert_string_not_equal(of_a, of_wider);
	duct_relation_unref(a);
	duct_relation_unref(renamed);
	duct_relation_unref(wider);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),
		cmocka_unit_test(narrowing_is_irreversible),
		cmocka_unit_test(fingerprints),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
