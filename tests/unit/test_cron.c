/* run/cron.h and run/zone.h: expressions, the next moment, clocks that are put forward and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "run/civil.h"
#include "run/cron.h"

static int64_t at(int64_t year, int month, int day, int hour, int minute, int second)
{
	const struct civil c = {.year = year, .month = month, .day = day, .hour = hour, .minute = minute, .second = second};
	return civil_seconds(&c);
}

static int64_t next(const char *text, const char *zone_name, int64_t after)
{
	struct run_cron cron;
	struct run_zone *zone = NULL;
	struct duct_error err = {0};
	if (run_cron_parse(&cron, text, &err) < 0 || run_zone_load(&zone, zone_name, &err) < 0)
		fail_msg("%s", err.message);
	int64_t found = run_cron_next(&cron, zone, after);
	run_zone_free(zone);
	return found;
}

static void days_and_back(void **state)
{
	(void)state;
	assert_int_equal(civil_days(1970, 1, 1), 0);
	assert_int_equal(civil_days(2000, 3, 1), 11017);
	assert_int_equal(civil_days(1969, 12, 31), -1);
	for (int64_t t = -62135596800; t < 253402300800; t += 86400LL * 97 + 12345) {
		struct civil c = civil_of(t);
		assert_int_equal(civil_seconds(&c), t);
		assert_int_equal(c.weekday, ((t - (t % 86400 + 86400) % 86400) / 86400 % 7 + 7 + 4) % 7);
	}
}

static void fields(void **state)
{
	(void)state;
	int64_t t = at(2026, 11, 21, 18, 0, 0); /* a Saturday */
	assert_int_equal(next("*/10 * * * * *", "", t), t + 10);
	assert_int_equal(next("* * * * *", "", t), t + 60);
	assert_int_equal(next("* * * * *", "", t - 1), t);
	assert_int_equal(next("5/20 * * * *", "", t), at(2026, 11, 21, 18, 5, 0));
	assert_int_equal(next("5/20 * * * *", "", at(2026, 11, 21, 18, 45, 0)), at(2026, 11, 21, 19, 5, 0));
	assert_int_equal(next("0 9-17/4 * * MON-FRI", "", t), at(2026, 11, 23, 9, 0, 0));
	assert_int_equal(next("30 8 1 JAN ?", "", t), at(2027, 1, 1, 8, 30, 0));
	assert_int_equal(next("0 0 29 2 *", "", t), at(2028, 2, 29, 0, 0, 0));
	assert_int_equal(next("0 0 29 2 *", "", at(2096, 3, 1, 0, 0, 0)), at(2104, 2, 29, 0, 0, 0));
	assert_int_equal(next("0 0 * * 7", "", t), at(2026, 11, 22, 0, 0, 0));
	assert_int_equal(next("0 0 * * FRI-SUN", "", at(2026, 11, 22, 0, 0, 0)), at(2026, 11, 27, 0, 0, 0));
	assert_int_equal(next("0 0 13 * FRI", "", t), at(2026, 11, 27, 0, 0, 0)); /* either will do */
	assert_int_equal(next("59 59 23 31 12 ?", "", t), at(2026, 12, 31, 23, 59, 59));
	assert_int_equal(next("@daily", "", t), at(2026, 11, 22, 0, 0, 0));
	assert_int_equal(next("@hourly", "", t), at(2026, 11, 21, 19, 0, 0));
	assert_int_equal(next("10,20,30 0 0 1,15 * *", "", at(2026, 12, 1, 0, 0, 20)), at(2026, 12, 1, 0, 0, 30));
	assert_int_equal(next("* * * * *", "", at(9999, 12, 31, 23, 59, 59)), INT64_MAX);
}

static void refuses(const char *text, const char *why)
{
	struct run_cron cron;
	struct duct_error err;
	assert_int_equal(run_cron_parse(&cron, text, &err), -DUCT_CONFIG);
	if (!strstr(err.message, why))
		fail_msg("%s: %s", text, err.message);
}

static void what_is_no_expression(void **state)
{
	(void)state;
	refuses("", "5 fields");
	refuses("* * * *", "5 fields");
	refuses("* * * * * * *", "5 fields");
	refuses("60 * * * *", "minute: 60");
	refuses("60 * * * * *", "second: 60");
	refuses("* 24 * * *", "hour: 24");
	refuses("* * 0 * *", "day: 0");
	refuses("* * * 13 *", "month: 13");
	refuses("* * * * 8", "weekday: 8");
	refuses("* * * * MOO", "weekday");
	refuses("? * * * *", "minute");
	refuses("5-3 * * * *", "empty");
	refuses("*/0 * * * *", "step");
	refuses("*/x * * * *", "step");
	refuses("*/100 * * * *", "from 1 to 99");
	refuses("1,,2 * * * *", "minute");
	refuses("1, * * * *", "minute");
	refuses("1x * * * *", "minute");
	refuses("-1 * * * *", "minute");
	refuses("99999999999 * * * *", "minute");
	refuses("0 0 30 2 *", "never");
	refuses("0 0 31 4,6,9,11 *", "never");
	refuses("@never", "5 fields");
}

/* Berlin: 2026-03-29 02:00 is followed by 03:00 (01:00 UTC); 2026-10-25 03:00 by 02:00 (01:00 UTC). */
static void a_gap_comes_at_its_end(void **state)
{
	(void)state;
	int64_t gap = at(2026, 3, 29, 1, 0, 0), before = gap - 3600;
	assert_int_equal(next("30 2 * * *", "Europe/Berlin", before), gap);
	assert_int_equal(next("30 2 * * *", "Europe/Berlin", gap), at(2026, 3, 30, 0, 30, 0));
	assert_int_equal(next("*/10 2 * * *", "Europe/Berlin", before), gap); /* six times, once */
	assert_int_equal(next("*/10 2 * * *", "Europe/Berlin", gap), at(2026, 3, 30, 0, 0, 0));
	assert_int_equal(next("0,30 1-3 * * *", "Europe/Berlin", gap - 1800), gap);
	assert_int_equal(next("0,30 1-3 * * *", "Europe/Berlin", gap), gap + 1800);
	/* Any hour: as time goes. */
	assert_int_equal(next("30 * * * *", "Europe/Berlin", gap - 1800), gap + 1800);
	assert_int_equal(next("0 * * * *", "Europe/Berlin", gap - 3600), gap);
	assert_int_equal(next("*/10 * * * * *", "Europe/Berlin", gap - 10), gap);
}

static void an_hour_shown_twice(void **state)
{
	(void)state;
	int64_t back = at(2026, 10, 25, 1, 0, 0);					 /* the clocks show 02:00 again */
	assert_int_equal(next("30 2 * * *", "Europe/Berlin", back - 3600), back - 1800); /* the first time */
	assert_int_equal(next("30 2 * * *", "Europe/Berlin", back - 1800), at(2026, 10, 26, 1, 30, 0));
	assert_int_equal(next("30 2 * * *", "Europe/Berlin", back + 60), at(2026, 10, 26, 1, 30, 0));
	assert_int_equal(next("0 3 * * *", "Europe/Berlin", back), back + 3600);
	assert_int_equal(next("30 * * * *", "Europe/Berlin", back - 1800), back + 1800); /* any hour: both times */
	assert_int_equal(next("30 * * * *", "Europe/Berlin", back - 3600), back - 1800);
	/* Clocks that move by half an hour only: Lord Howe, 2026-04-05 02:00 is followed by 01:30 (15:00 UTC the day before). */
	back = at(2026, 4, 4, 15, 0, 0);
	assert_int_equal(next("45 1 * * *", "Australia/Lord_Howe", back - 3600), back - 900);
	assert_int_equal(next("45 1 * * *", "Australia/Lord_Howe", back - 900), at(2026, 4, 5, 15, 15, 0));
	assert_int_equal(next("45 * * * *", "Australia/Lord_Howe", back - 900), back + 900);
}

static void offsets_of_zones(void **state)
{
	(void)state;
	struct duct_error err;
	struct run_zone *zone;
	assert_int_equal(run_zone_load(&zone, "Europe/Berlin", &err), 0);
	assert_int_equal(run_zone_at(zone, at(2026, 1, 1, 0, 0, 0)).offset, 3600);
	assert_int_equal(run_zone_at(zone, at(2026, 7, 1, 0, 0, 0)).offset, 7200);
	assert_int_equal(run_zone_at(zone, at(1945, 7, 1, 0, 0, 0)).offset, 10800);
	assert_int_equal(run_zone_at(zone, at(2150, 7, 1, 0, 0, 0)).offset, 7200); /* by the rule after the tables */
	assert_int_equal(run_zone_at(zone, at(2150, 1, 1, 0, 0, 0)).offset, 3600);
	assert_true(run_zone_at(zone, at(1800, 1, 1, 0, 0, 0)).offset == 3208);
	run_zone_free(zone);
	assert_int_equal(run_zone_load(&zone, "../../etc/passwd", &err), -DUCT_CONFIG);
	assert_int_equal(run_zone_load(&zone, "/etc/passwd", &err), -DUCT_CONFIG);
	assert_int_equal(run_zone_load(&zone, "Europe", &err), -DUCT_CONFIG);
	assert_int_equal(run_zone_load(&zone, "No/Where", &err), -DUCT_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(days_and_back),	 cmocka_unit_test(fields),
		cmocka_unit_test(what_is_no_expression), cmocka_unit_test(a_gap_comes_at_its_end),
		cmocka_unit_test(an_hour_shown_twice),	 cmocka_unit_test(offsets_of_zones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
