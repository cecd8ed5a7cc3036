/* Values for the catalog's inlined tables in their three forms, and bounds of inlined columns. */
#include "lake/inline.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const struct duct_type *type, const void *data, size_t n, const char *sqlite, const char *postgres,
		   const char *copy)
{
	const char *const expected[] = {sqlite, postgres, copy};
	for (int form = LAKE_INLINE_SQLITE; form <= LAKE_INLINE_COPY; form++) {
		AUTO_BUF struct duct_buf text = {0};
		bool fits = lake_inline_value(&text, (enum lake_inline_form)form, type, (struct duct_cell){data, (uint32_t)n});
		if (expected[form]) {
			assert_true(fits);
			assert_string_equal(text.data, expected[form]);
		} else {
			assert_false(fits);
		}
	}
}

static void scalars(void **state)
{
	(void)state;
	const struct duct_type boolean = {.kind = DUCT_BOOL}, i8 = {.kind = DUCT_INT8}, u64 = {.kind = DUCT_UINT64};
	const struct duct_type f64 = {.kind = DUCT_FLOAT64}, date = {.kind = DUCT_DATE};
	const struct duct_type decimal = {.kind = DUCT_DECIMAL, .precision = 9, .scale = 9};
	double nan = NAN, zero = -0.0, big = 1e300;
	int64_t small = 1, most = -1;
	int32_t bc = -735525, never = DUCT_DATE_NINF;
	expect(&boolean, "\1", 1, "1", "true", "true");
	expect(&boolean, NULL, 0, "NULL", "NULL", "\\N");
	expect(&i8, "\x80", 1, "-128", "-128", "-128");
	expect(&u64, &most, 8, "'18446744073709551615'", "'18446744073709551615'", "18446744073709551615");
	expect(&f64, &nan, 8, "'nan'", "'nan'", "nan");
	expect(&f64, &zero, 8, "'-0.0'", "'-0.0'", "-0.0");
	expect(&f64, &big, 8, "'1e+300'", "'1e+300'", "1e+300");
	expect(&decimal, &small, 8, "'.000000001'", "'.000000001'", ".000000001");
	expect(&date, &bc, 4, "'0045-03-15 (BC)'", "'0045-03-15 (BC)'", "0045-03-15 (BC)");
	expect(&date, &never, 4, "'-infinity'", "'-infinity'", "-infinity");
}

static void texts_and_bytes(void **state)
{
	(void)state;
	const struct duct_type varchar = {.kind = DUCT_VARCHAR}, blob = {.kind = DUCT_BLOB};
	expect(&varchar, "O'B\\", 4, "'O''B\\'", "'\\x4F27425C'", "\\\\x4F27425C");
	expect(&varchar, "", 0, "''", "'\\x'", "\\\\x");
	expect(&varchar, "a\0b", 3, "CAST(x'610062' AS TEXT)", "'\\x610062'", "\\\\x610062");
	expect(&varchar, "\xff", 1, NULL, NULL, NULL);
	expect(&blob, "\0\xff", 2, "x'00FF'", "'\\x00FF'", "\\\\x00FF");
}

static void nested(void **state)
{
	(void)state;
	const struct duct_type text = {.kind = DUCT_VARCHAR, .name = "element"}, json = {.kind = DUCT_JSON, .name = "element"};
	const struct duct_type texts = {.kind = DUCT_LIST, .nchildren = 1, .children = &text};
	const struct duct_type jsons = {.kind = DUCT_LIST, .nchildren = 1, .children = &json};
	static const char two[] = "\2\0\0\0\1\2\0\0\0a'\1\2\0\0\0\\\t", nul[] = "\1\0\0\0\1\1\0\0\0\0";
	expect(&texts, two, sizeof two - 1, "'[''a\\'''', ''\\\\\t'']'", "'[''a\\'''', ''\\\\\t'']'", "['a\\\\'', '\\\\\\\\\\t']");
	expect(&texts, nul, sizeof nul - 1, NULL, NULL, NULL);
	expect(&jsons, "\0\0\0\0", 4, NULL, NULL, NULL);
	expect(&jsons, NULL, 0, "NULL", "NULL", "\\N");
}

static struct lake_column_stats stats_of(const struct duct_type *type, const struct duct_cell *cells, size_t n,
					 struct duct_arena *arena)
{
	struct lake_bounds b = {0};
	for (size_t i = 0; i < n; i++)
		lake_bounds_add(&b, type, cells[i]);
	struct lake_column_stats stats = lake_bounds_stats(&b, 7, type, arena);
	lake_bounds_done(&b);
	return stats;
}

static void bounds(void **state)
{
	(void)state;
	struct duct_arena arena;
	duct_arena_init(&arena);
	const struct duct_type f64 = {.kind = DUCT_FLOAT64}, varchar = {.kind = DUCT_VARCHAR}, blob = {.kind = DUCT_BLOB};
	double values[] = {2, NAN, -1};
	struct duct_cell cells[] = {{(char *)&values[0], 8}, {(char *)&values[1], 8}, {NULL, 0}, {(char *)&values[2], 8}};
	struct lake_column_stats s = stats_of(&f64, cells, 4, &arena);
	assert_string_equal(s.min, "-1.0");
	assert_string_equal(s.max, "2.0");
	assert_int_equal(s.contains_nan, 1);
	assert_int_equal(s.value_count, 3);
	assert_int_equal(s.null_count, 1);
	s = stats_of(&f64, cells, 2, &arena); /* one value beside NaN is no bound */
	assert_null(s.min);
	char longest[300];
	memset(longest, 'x', sizeof longest);
	s = stats_of(&varchar, &(struct duct_cell){longest, sizeof longest}, 1, &arena);
	assert_int_equal(strlen(s.min), 256);
	assert_int_equal(strlen(s.max), 256);
	assert_int_equal(s.max[255], 'y');
	memset(longest, 0xc3, sizeof longest);
	for (size_t i = 1; i < sizeof longest; i += 2)
		longest[i] = (char)0xa9;
	s = stats_of(&varchar, &(struct duct_cell){longest, sizeof longest}, 1, &arena);
	assert_null(s.min);
	s = stats_of(&varchar, &(struct duct_cell){"a\0b", 3}, 1, &arena);
	assert_null(s.max);
	s = stats_of(&varchar, &(struct duct_cell){"", 0}, 1, &arena);
	assert_string_equal(s.min, "");
	s = stats_of(&blob, (struct duct_cell[]){{"\0\xff", 2}, {"a", 1}}, 2, &arena);
	assert_string_equal(s.min, "00FF");
	assert_string_equal(s.max, "61");
	duct_arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(scalars), cmocka_unit_test(texts_and_bytes), cmocka_unit_test(nested),
					   cmocka_unit_test(bounds)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
