/* Backfills from ClickHouse, what needs no server: keys, options, which errors pass, names of objects. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "export/internal.h"
#include "export/orphans.h"
#include "record/calendar.h"

static const int64_t today = 19800; /* 2024-03-18 */

static void keys(void **state)
{
	static const struct {
		const char *text;
		enum export_what what;
		int64_t team;
		int unit, ndays;
	} good[] = {
		{"12345_2024-01-15", EXPORT_EVENTS, 12345, EXPORT_DAY, 1},
		{"1_2020-12", EXPORT_EVENTS, 1, EXPORT_MONTH, 31},
		{"1_2024-02", EXPORT_EVENTS, 1, EXPORT_MONTH, 29},
		{"1_2023-02", EXPORT_EVENTS, 1, EXPORT_MONTH, 28},
		{"1_2024-03", EXPORT_EVENTS, 1, EXPORT_MONTH, 17},
		{"1_2024-03-17", EXPORT_EVENTS, 1, EXPORT_DAY, 1},
		{"1_2024-03-18", EXPORT_EVENTS, 1, EXPORT_DAY, 0},
		{"1_2024-04", EXPORT_EVENTS, 1, EXPORT_MONTH, 0},
		{"999999999999999999", EXPORT_PERSONS, 999999999999999999, 2, 0},
		{"7_2024-01-15", EXPORT_PERSONS, 7, EXPORT_DAY, 1},
	};
	static const char *const bad[] = {"",
					  "_",
					  "12345",
					  "_2024-01-15",
					  "12345_",
					  "12345_2024",
					  "1_2024-1-15",
					  "1_2024-01-5",
					  "1_2024-13",
					  "1_2024-00",
					  "1_2023-02-29",
					  "1_1969-12-31",
					  "1_2024-01-15 ",
					  " 1_2024-01-15",
					  "+1_2024-01-15",
					  "1_000_2024-01-15",
					  "01_2024-01-15",
					  "0_2024-01-15",
					  "1_2024/01/15",
					  "1_2024-01-15T00",
					  "\xd9\xa1_2024-01-15",
					  "1000000000000000000_2024-01-15",
					  "1_2024-01-\xd9\xa1"};
	struct export_key k;
	struct duct_error err;
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(good); i++) {
		assert_int_equal(export_key_parse(good[i].text, good[i].what, today, &k, &err), 0);
		assert_int_equal(k.team_id, good[i].team);
		assert_int_equal((int)k.unit, good[i].unit);
		assert_int_equal(k.unit == EXPORT_FULL ? 0 : k.ndays, good[i].ndays);
	}
	for (size_t i = 0; i < DUCT_LEN(bad); i++) {
		assert_int_equal(export_key_parse(bad[i], EXPORT_EVENTS, today, &k, &err), -DUCT_CONFIG);
		assert_true(strncmp(err.message, "Invalid ", 8) == 0);
	}
	assert_int_equal(export_key_parse("1_2024-01", EXPORT_PERSONS, today, &k, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "months are of events"));
}

static void options(void **state)
{
	struct export_config c;
	struct duct_error err;
	(void)state;
	assert_int_equal(export_config_parse(NULL, &c, &err), 0);
	assert_true(!c.clickhouse_settings && !c.skip_ducklake_registration && !c.skip_schema_validation &&
		    c.cleanup_existing_partition_data && c.create_tables_if_missing && !c.delete_tables && !c.dry_run);
	static const char *const bad[] = {"[]",
					  "{\"dryrun\": true}",
					  "{\"dry_run\": 1}",
					  "{\"clickhouse_settings\": []}",
					  "{\"clickhouse_settings\": {\"a b\": 1}}",
					  "{\"clickhouse_settings\": {\"a\": null}}",
					  "{\"clickhouse_settings\": {\"a = 1, b\": 1}}"};
	for (size_t i = 0; i < DUCT_LEN(bad); i++) {
		json_t *json = json_loads(bad[i], 0, NULL);
		assert_int_equal(export_config_parse(json, &c, &err), -DUCT_CONFIG);
		json_decref(json);
	}
}

static void errors_that_pass(void **state)
{
	static const char path[] = "s3://b/backfill/events/team_id=4031/year=2024/month=01/day=15/x.parquet";
	(void)state;
	assert_true(clickhouse_code_passes(241, ""));  /* memory */
	assert_true(clickhouse_code_passes(159, ""));  /* time */
	assert_false(clickhouse_code_passes(62, ""));  /* syntax */
	assert_false(clickhouse_code_passes(497, "")); /* access */
	assert_false(clickhouse_code_passes(516, "")); /* password */
	AUTO_BUF struct duct_buf slow = {0}, refused = {0};
	duct_buf_printf(&slow, "Code: 499. DB::Exception: Slow Down: while writing %s (S3_ERROR)", path);
	duct_buf_printf(&refused, "Code: 499. DB::Exception: Access Denied, %s (S3_ERROR)", path);
	assert_true(clickhouse_code_passes(499, slow.data));
	assert_false(clickhouse_code_passes(499, refused.data));
}

static void names_of_objects(void **state)
{
	static const char *const names[][2] = {
		{"a/01a20291-e988-74a3-9426-ca7cd84de583-5.parquet", "01a20291-e988-74a3-9426-ca7cd84de583"},
		{"5_2024-01-15_new-12.parquet", "5_2024-01-15_new"},
		{"5_2024-01-15_retry1_ab-1-try2.parquet", "5_2024-01-15_retry1_ab"},
		{"5_persons_full_1f-3-try3-h0123456789ABCDEF.parquet", "5_persons_full_1f"},
		{"5_persons_full_1f-3-h0123456789ABCDEF.parquet", "5_persons_full_1f"},
		{"mine.parquet", NULL},
		{"run-5.csv", NULL},
		{"-5.parquet", NULL},
		{".parquet", NULL},
		{"", NULL},
	};
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(names); i++) {
		AUTO_FREE char *run = export_run_of(names[i][0]);
		if (names[i][1])
			assert_string_equal(run ? run : "", names[i][1]);
		else
			assert_null(run);
	}
	AUTO_BUF struct duct_buf key = {0};
	export_object_key(&key, EXPORT_PERSONS, 5, duct_days_of_civil(2024, 2, 3), "RUN");
	assert_string_equal(key.data, "backfill/persons/team_id=5/year=2024/month=02/day=03/RUN.parquet");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		cmocka_unit_test(options),
		cmocka_unit_test(errors_that_pass),
		cmocka_unit_test(names_of_objects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
