/* Whose position is it, and is anything missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/postgres/identity.h"

#include <string.h>

static const struct postgres_identity here = {
	.system_id = "7710444479070721923", .database = "shop \"x\"", .slot = "s1", .database_oid = 16384, .timeline = 3};

static void has(const struct duct_error *err, const char *text)
{
	if (!strstr(err->message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, err->message);
}

static void test_round_trip(void **state)
{
	(void)state;
	struct postgres_identity a = here, b;
	struct duct_error err;
	char json[1024];
	for (uint32_t i = 0; i < POSTGRES_FENCED_MAX; i++)
		a.fences[a.nfences++] = (struct postgres_fence){4294967000u + i, UINT64_C(0xAABBCCDD00000000) + i / 5};
	memset(a.database, 'd', 63);
	memset(a.slot, 's', 63);
	assert_int_equal(postgres_identity_write(&a, json, sizeof json, &err), 0);
	assert_int_equal(postgres_identity_read(&b, json, &err), 0);
	assert_string_equal(b.system_id, a.system_id);
	assert_string_equal(b.database, a.database);
	assert_string_equal(b.slot, a.slot);
	assert_int_equal(b.timeline, 3);
	assert_int_equal(b.database_oid, 16384);
	assert_int_equal(b.nfences, a.nfences);
	for (size_t i = 0; i < a.nfences; i++) {
		assert_int_equal(b.fences[i].oid, a.fences[i].oid);
		assert_int_equal(b.fences[i].lsn, a.fences[i].lsn);
	}
	postgres_identity_prune(&b, UINT64_C(0xAABBCCDD00000001));
	assert_int_equal(b.nfences, a.nfences - 10);
	assert_int_equal(b.fences[0].oid, a.fences[10].oid);
	assert_int_equal(postgres_identity_write(&a, json, 200, &err), -DUCT_FATAL);
	assert_int_equal(postgres_identity_read(&b, "", &err), 0);
	assert_int_equal(b.nfences, 0);
	assert_int_equal(postgres_identity_read(&b, "{\"system\":", &err), -DUCT_FATAL);
	assert_int_equal(postgres_identity_read(&b, "{\"fences\":[[7,1]]}", &err), -DUCT_FATAL);
}

static void test_compare(void **state)
{
	(void)state;
	struct duct_error err;
	struct postgres_identity other = here, empty = {0};
	assert_int_equal(postgres_identity_compare(&here, &here, &err), 0);
	assert_int_equal(postgres_identity_compare(&empty, &here, &err), 0);
	strcpy(other.system_id, "1");
	assert_int_equal(postgres_identity_compare(&other, &here, &err), -DUCT_CONFIG);
	has(&err, "another server");
	other = here;
	other.database_oid = 5;
	assert_int_equal(postgres_identity_compare(&other, &here, &err), -DUCT_CONFIG);
	has(&err, "another database");
	other = here;
	strcpy(other.slot, "s2");
	assert_int_equal(postgres_identity_compare(&other, &here, &err), -DUCT_CONFIG);
	has(&err, "another slot");
}

static void test_timelines(void **state)
{
	(void)state;
	struct duct_error err;
	const char *history = "1\t0/5000000\tno recovery target specified\n\n2\t1/A0\tbefore 2024\n";
	assert_int_equal(postgres_timeline_check(history, 1, 3, 0x5000000, 0, &err), 0);
	assert_int_equal(postgres_timeline_check(history, 1, 3, 0x5000001, 0, &err), -DUCT_CONFIG);
	has(&err, "left that timeline at 0/5000000");
	assert_int_equal(postgres_timeline_check(history, 2, 3, UINT64_C(0x1000000A0), 0, &err), 0);
	assert_int_equal(postgres_timeline_check(history, 4, 3, 1, 0, &err), -DUCT_CONFIG);
	has(&err, "later timeline 4");
	assert_int_equal(postgres_timeline_check("1\t0/5\tx\n", 2, 3, 1, 0, &err), -DUCT_CONFIG);
	has(&err, "no ancestor");
	/* what is noted behind a switch */
	assert_int_equal(postgres_timeline_check(history, 1, 3, 0x6000000, 0x5000000, &err), -DUCT_CONFIG);
	assert_int_equal(postgres_timeline_check(history, 1, 3, 0x6000000, 0x5000001, &err), 0);
	assert_int_equal(postgres_timeline_check(history, 1, 3, UINT64_C(0x1000000A1), 0x6000000, &err), -DUCT_CONFIG);
	has(&err, "of timeline 2, but the server left that timeline at 1/A0");
	assert_int_equal(postgres_timeline_check(history, 1, 3, UINT64_C(0x1000000B0), UINT64_C(0x1000000A1), &err), 0);
}

static void test_gaps(void **state)
{
	(void)state;
	struct duct_error err;
	struct postgres_gap_facts f = {.slot = "s1", .stored = 100, .confirmed = 100, .restart = 50, .flush = 200};
	assert_int_equal(postgres_gap_check(&f, &err), 0);
	f.confirmed = 90;
	assert_int_equal(postgres_gap_check(&f, &err), 0);
	f.confirmed = 101;
	assert_int_equal(postgres_gap_check(&f, &err), 1);
	has(&err, "was advanced by somebody else");
	f.restart = 100;
	assert_int_equal(postgres_gap_check(&f, &err), 1);
	has(&err, "was made again");
	f.last_lsn = 101;
	assert_int_equal(postgres_gap_check(&f, &err), 1);
	has(&err, "the destination was restored");
	f.flush = 99;
	assert_int_equal(postgres_gap_check(&f, &err), -DUCT_CONFIG);
	has(&err, "the source was restored");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_timelines),
		cmocka_unit_test(test_gaps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
