/* What counts as a difference between two sides that may be moving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "flow/verify_internal.h"

#include <stdio.h>
#include <string.h>

struct row {
	int key, value;
};

static void fill(struct verify_digest *d, const bool *wanted, const struct row *rows)
{
	verify_digest_init(d, wanted);
	for (; rows->key; rows++) {
		char text[32];
		snprintf(text, sizeof text, "k=%d", rows->key);
		verify_digest_add(d, (const uint64_t[]){(uint64_t)rows->key << 48, 1},
				  (const uint64_t[]){(uint64_t)rows->value * 0x9E3779B97F4A7C15, (uint64_t)rows->value}, text);
	}
	verify_digest_finish(d);
}

static void look(struct verify_suspects *s, const struct row *source, const struct row *lake)
{
	static bool wanted[VERIFY_BUCKETS];
	memset(wanted, 1, sizeof wanted);
	struct verify_digest a, b;
	fill(&a, wanted, source);
	fill(&b, wanted, lake);
	verify_suspects_look(s, &a, &b);
	verify_digest_done(&a);
	verify_digest_done(&b);
}
#define ROWS(...) \
	(const struct row[]) \
	{ \
		__VA_ARGS__ __VA_OPT__(, ) \
		{ \
			0, 0 \
		} \
	}

static void test_buckets_do_not_depend_on_order(void **state)
{
	(void)state;
	struct verify_digest a, b, c;
	fill(&a, NULL, ROWS({1, 10}, {2, 20}, {1, 11}));
	fill(&b, NULL, ROWS({1, 11}, {1, 10}, {2, 20}));
	fill(&c, NULL, ROWS({1, 11}, {1, 11}, {2, 20}));
	assert_memory_equal(a.buckets, b.buckets, VERIFY_BUCKETS * sizeof *a.buckets);
	assert_memory_not_equal(a.buckets, c.buckets, VERIFY_BUCKETS * sizeof *a.buckets);
	assert_int_equal(a.rows, 3);
	assert_int_equal(a.nkeys, 0); /* none are wanted one by one */
	verify_digest_done(&a);
	verify_digest_done(&b);
	verify_digest_done(&c);
}

static void test_differences(void **state)
{
	(void)state;
	struct verify_suspects s = {0};
	for (int i = 1; i <= VERIFY_LOOKS; i++) {
		look(&s, ROWS({1, 10}, {2, 20}, {3, 30}), ROWS({4, 40}, {2, 21}, {3, 30}));
		assert_int_equal(s.n, 3);
		assert_int_equal(verify_suspects_settled(&s), i == VERIFY_LOOKS);
	}
	assert_string_equal(s.list[0].text, "k=1");
	assert_int_equal(s.list[0].kind, VERIFY_MISSING);
	assert_int_equal(s.list[1].kind, VERIFY_CONTENT);
	assert_string_equal(s.list[2].text, "k=4");
	assert_int_equal(s.list[2].kind, VERIFY_EXTRA);
	verify_suspects_done(&s);
}

static void test_what_agreed_once_is_in_flight_later(void **state)
{
	(void)state;
	struct verify_suspects s = {0};
	look(&s, ROWS({1, 10}, {2, 20}), ROWS({1, 10}, {2, 21}));
	assert_int_equal(s.n, 1);
	look(&s, ROWS({1, 10}, {2, 21}), ROWS({1, 11}, {2, 21}));
	assert_int_equal(s.n, 0);
	assert_true(verify_suspects_settled(&s));
	look(&s, ROWS({1, 10}, {2, 21}), ROWS({1, 11}, {2, 21}));
	assert_int_equal(s.n, 0);
	verify_suspects_done(&s);
}

static void test_a_moving_key_is_not_settled(void **state)
{
	(void)state;
	struct verify_suspects s = {0};
	for (int i = 1; i < 10; i++) {
		look(&s, ROWS({1, i + 1}), ROWS({1, i}));
		assert_int_equal(s.n, 1);
		assert_int_equal(s.list[0].looks, 1);
		assert_false(verify_suspects_settled(&s));
	}
	look(&s, ROWS({1, 10}), ROWS({1, 9}));
	look(&s, ROWS({1, 10}), ROWS({1, 9}));
	assert_true(verify_suspects_settled(&s)); /* the last move, and two looks at rest */
	verify_suspects_done(&s);
}

static void test_bags_are_counted(void **state)
{
	(void)state;
	struct verify_suspects s = {0};
	look(&s, ROWS({1, 10}, {1, 10}, {2, 20}), ROWS({2, 20}, {1, 10}));
	assert_int_equal(s.n, 1);
	assert_int_equal(s.list[0].kind, VERIFY_MISSING);
	assert_int_equal(s.list[0].source.count, 2);
	look(&s, ROWS({1, 10}, {1, 10}, {2, 20}), ROWS({1, 10}, {2, 20}, {1, 10}));
	assert_int_equal(s.n, 0);
	verify_suspects_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets_do_not_depend_on_order),
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_what_agreed_once_is_in_flight_later),
		cmocka_unit_test(test_a_moving_key_is_not_settled),
		cmocka_unit_test(test_bags_are_counted),
	};
	return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
