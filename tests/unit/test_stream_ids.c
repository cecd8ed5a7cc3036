/* Ids as ranges: any order, doubled, far apart, at the ends of what a number holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream/internal.h"

static void expect(const int64_t *ids, size_t n, const char *text, int64_t count)
{
	AUTO_BUF struct duct_buf to = {0};
	assert_int_equal(stream_ids_text(&to, ids, n), count);
	assert_string_equal(to.data, text);
}
#define EXPECT(text, count, ...) \
	expect((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t), text, count)

static void runs_are_folded(void **state)
{
	(void)state;
	EXPECT("{[1,4)}", 3, 1, 2, 3);
	EXPECT("{[1,4)}", 3, 3, 1, 2, 2, 1);
	EXPECT("{[1,2),[3,4),[7,9)}", 4, 7, 3, 8, 1);
	expect(NULL, 0, "{}", 0);
}

static void what_cannot_be_an_id_is_left_out(void **state)
{
	(void)state;
	EXPECT("{}", 0, 0, -5, INT64_MIN);
	EXPECT("{[1,3)}", 2, -1, 0, 1, 2);
	EXPECT("{[5,6),[9223372036854775806,9223372036854775807)}", 2, INT64_MAX - 1, INT64_MAX, 5);
	EXPECT("{}", 0, INT64_MAX);
	EXPECT("{[9223372036854775806,9223372036854775807)}", 1, INT64_MAX, INT64_MAX - 1, INT64_MAX);
	EXPECT("{[4,5)}", 1, INT64_MIN, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_are_folded),
		cmocka_unit_test(what_cannot_be_an_id_is_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
