/* Which column of a destination is which of a relation version, and what older rows have in a new one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "destination/bind.h"

static const struct duct_type number = {.kind = DUCT_INT32}, text = {.kind = DUCT_VARCHAR}, list = {.kind = DUCT_LIST};

/* One of another name under the same number is the same column. */
static void renamed_columns_are_found_by_number(void **state)
{
	(void)state;
	const struct bind_column have[] = {{1, "a", &number}, {2, "b", &text}};
	struct duct_column columns[] = {{.name = "a", .type = number, .attnum = 1}, {.name = "renamed", .type = text, .attnum = 2}};
	const struct duct_live_column live[] = {{.attnum = 1}, {.attnum = 2}};
	const struct duct_relation rel = {.ncolumns = 2, .columns = columns, .live = live, .nlive = 2};
	int places[2];
	int16_t attnums[2];
	destination_bind(have, DUCT_LEN(have), &rel, places, attnums);
	assert_int_equal(places[0], 0);
	assert_int_equal(places[1], 1);
	assert_int_equal(attnums[1], 2);
}

/* It was renamed, and then dropped: what the table has got since is of another type. One of its own type may be it. */
static void columns_that_were_renamed_before_they_were_dropped(void **state)
{
	(void)state;
	const struct bind_column have[] = {{1, "a", &number}, {2, "b", &text}};
	struct duct_column columns[] = {{.name = "a", .type = number, .attnum = 1}, {.name = "renamed", .type = text}};
	const struct duct_live_column other[] = {{.attnum = 1}, {.attnum = 3, .type = &number}},
				      alike[] = {{.attnum = 1}, {.attnum = 3, .type = &text}};
	const int16_t dropped[] = {2};
	struct duct_relation rel = {
		.ncolumns = 2, .columns = columns, .live = other, .nlive = 2, .dropped = dropped, .ndropped = 1};
	int places[2];
	int16_t attnums[2];
	destination_bind(have, DUCT_LEN(have), &rel, places, attnums);
	assert_int_equal(places[1], 1);
	assert_int_equal(attnums[1], 2);
	rel.live = alike;
	destination_bind(have, DUCT_LEN(have), &rel, places, attnums);
	assert_int_equal(places[1], -1);
	assert_int_equal(attnums[1], 3);
}

static void value_is(const struct duct_live_column *live, const struct duct_column *c, bool known, const char *value)
{
	const struct duct_relation rel = {.live = live, .nlive = 1};
	const char *found = "unset";
	assert_int_equal(destination_old_rows_value(&rel, c, 3, &found), known);
	if (value)
		assert_string_equal(found, value);
	else
		assert_null(found);
}

static void older_rows_have_what_the_source_says(void **state)
{
	(void)state;
	const struct duct_live_column plain = {.attnum = 3, .type = &number, .missing_value = "7"};
	const struct duct_live_column computed = {.attnum = 3, .computed = true, .type = &number, .missing_value = "7"};
	const struct duct_column c = {.name = "c", .type = number, .attnum = 3, .missing_value = "5"};
	const struct duct_column earlier = {.name = "c", .type = number}, other = {.name = "c", .type = text};
	const struct duct_column nested = {.name = "c", .type = list, .attnum = 3, .missing_value = "[1]"};
	value_is(&plain, &c, true, "5");
	value_is(&plain, &earlier, true, "7"); /* by the number: its name was another then */
	value_is(&plain, &other, true, NULL);
	value_is(&computed, &c, false, NULL);
	value_is(&plain, &nested, false, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(renamed_columns_are_found_by_number),
					   cmocka_unit_test(columns_that_were_renamed_before_they_were_dropped),
					   cmocka_unit_test(older_rows_have_what_the_source_says)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
