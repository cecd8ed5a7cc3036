/* Sets of positions: as a list, as bits, over the edge between the two, and with one added twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "lake/positions.h"

/* Every `step`-th row of a file, added in an order of its own. */
static void every(struct lake_positions *p, int64_t rows, int64_t step)
{
	for (int64_t at = rows - 1 - (rows - 1) % step; at >= 0; at -= step)
		lake_positions_add(p, at, rows);
	lake_positions_sort(p);
}

static void assert_every(const struct lake_positions *p, int64_t rows, int64_t step)
{
	int64_t at, want = 0;
	for (struct lake_positions_walk w = {p, 0, 0}; lake_positions_next(&w, &at); want += step)
		assert_int_equal(at, want);
	assert_int_equal(want, (rows + step - 1) / step * step);
	assert_int_equal(p->last, want - step);
	assert_int_equal(p->n, want / step);
	for (at = 0; at < rows + 70; at += step / 2 + 1)
		assert_int_equal(lake_positions_has(p, at), at < rows && at % step == 0);
}

static void walks(void **state)
{
	static const int64_t rows[] = {1, 63, 64, 65, 1000, 1024, 100000}, steps[] = {1, 2, 3, 63, 64, 65, 129};
	(void)state;
	for (size_t r = 0; r < DUCT_LEN(rows); r++)
		for (size_t s = 0; s < DUCT_LEN(steps); s++) {
			struct lake_positions p = {0};
			every(&p, rows[r], steps[s]);
			assert_every(&p, rows[r], steps[s]);
			lake_positions_done(&p);
			assert_int_equal(p.n, 0);
		}
}

static void few_are_a_list(void **state)
{
	struct lake_positions p = {0};
	(void)state;
	every(&p, 1 << 20, 1 << 15);
	assert_non_null(p.list);
	lake_positions_done(&p);
	every(&p, 1 << 20, 4);
	assert_non_null(p.bits);
	lake_positions_done(&p);
}

static void empty(void **state)
{
	struct lake_positions p = {0};
	struct lake_positions_walk w = {&p, 0, 0};
	int64_t at;
	(void)state;
	lake_positions_sort(&p);
	assert_false(lake_positions_next(&w, &at));
	assert_false(lake_positions_has(&p, 0));
}

/* The walk of bits ends before n: that is how whoever walks them sees it. */
static void twice(void **state)
{
	struct lake_positions p = {0};
	int64_t at;
	size_t n = 0;
	(void)state;
	every(&p, 1000, 1);
	lake_positions_add(&p, 7, 1000);
	for (struct lake_positions_walk w = {&p, 0, 0}; lake_positions_next(&w, &at);)
		n++;
	assert_int_equal(n, 1000);
	assert_int_equal(p.n, 1001);
	lake_positions_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks),
		cmocka_unit_test(few_are_a_list),
		cmocka_unit_test(empty),
		cmocka_unit_test(twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
