/* Batches: rows taken back, in any state of building, leave no trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "record/batch.h"

#include <stdio.h>
#include <string.h>

enum { NUMBER, TEXT, COLUMNS };

static struct duct_relation *make_relation(void)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = "s";
	rel->name = "t";
	rel->ncolumns = COLUMNS;
	rel->columns = duct_arena_zalloc(&rel->arena, COLUMNS * sizeof *rel->columns);
	rel->columns[NUMBER] = (struct duct_column){.name = "n", .type = {.kind = DUCT_INT32}};
	rel->columns[TEXT] = (struct duct_column){.name = "t", .type = {.kind = DUCT_VARCHAR}};
	return rel;
}

/* What row i holds: numbers, texts of many lengths, NULLs and unsent values in turn. */
static void append(struct duct_batch *b, struct duct_vector *columns, uint32_t i, int ncolumns)
{
	char text[64];
	int32_t number = (int32_t)i * 7;
	if (ncolumns > 0 && i % 3 == 0)
		duct_vector_append_null(b, &columns[NUMBER]);
	else if (ncolumns > 0)
		memcpy(duct_vector_append(b, &columns[NUMBER], 4), &number, 4);
	if (ncolumns < 2)
		return;
	int len = snprintf(text, sizeof text, "%*s%u", (int)(i % 40), "", i);
	if (i % 4 == 1)
		duct_vector_append_unsent(b, &columns[TEXT]);
	else
		memcpy(duct_vector_append(b, &columns[TEXT], (uint32_t)len), text, (size_t)len);
}

static void check(const struct duct_vector *columns, uint32_t row, uint32_t i)
{
	char text[64];
	struct duct_cell n = duct_vector_cell(&columns[NUMBER], row), t = duct_vector_cell(&columns[TEXT], row);
	int len = snprintf(text, sizeof text, "%*s%u", (int)(i % 40), "", i);
	assert_true(duct_vector_is_sent(&columns[NUMBER], row));
	if (i % 3 == 0) {
		assert_null(n.data);
	} else {
		int32_t number;
		memcpy(&number, n.data, 4);
		assert_int_equal(number, (int32_t)i * 7);
	}
	assert_int_equal(duct_vector_is_sent(&columns[TEXT], row), i % 4 != 1);
	if (i % 4 == 1) {
		assert_null(t.data);
	} else {
		assert_int_equal(t.len, len);
		assert_memory_equal(t.data, text, (size_t)len);
	}
}

/* Between any two good rows one that is begun, with 0 to 4 of its values, and taken back. */
static void undone_rows_leave_no_trace(void **state)
{
	(void)state;
	enum { ROWS = 1000 };
	struct duct_relation *rel = make_relation();
	struct duct_batch *b = duct_batch_new(rel, 0);
	for (uint32_t i = 0; i < ROWS; i++) {
		(void)duct_batch_add_row(b, DUCT_DELETE, 5000 + i);
		append(b, b->columns, ROWS - i, (int)(i % 3));
		if (i % 2) {
			(void)duct_batch_add_old_row(b);
			append(b, b->old, i * 31, (int)(i % 5) - 2);
		}
		duct_batch_undo_row(b);
		assert_int_equal(b->rows, i);
		assert_int_equal(duct_batch_add_row(b, DUCT_UPDATE, i), i);
		append(b, b->columns, i, 2);
		if (i % 7 == 0) {
			(void)duct_batch_add_old_row(b);
			append(b, b->old, i + 1, 2);
		}
	}
	duct_batch_seal(b);
	assert_int_equal(b->old_rows, (ROWS + 6) / 7);
	for (uint32_t i = 0; i < ROWS; i++) {
		assert_int_equal(b->op[i], DUCT_UPDATE);
		assert_int_equal(b->seq[i], i);
		check(b->columns, i, i);
		assert_int_equal(b->old_row[i], i % 7 ? -1 : (int)i / 7);
		if (i % 7 == 0)
			check(b->old, (uint32_t)b->old_row[i], i + 1);
	}
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* A column that is never appended, or first in row FIRST. */
static void columns_left_out_are_unset(void **state)
{
	(void)state;
	enum { ROWS = 100, FIRST = 77 };
	struct duct_relation *rel = make_relation();
	struct duct_batch *b = duct_batch_new(rel, 0);
	for (uint32_t i = 0; i < ROWS; i++) {
		if (i >= FIRST)
			duct_batch_fill_unset(b);
		(void)duct_batch_add_row(b, DUCT_DELETE, i);
		(void)duct_batch_add_old_row(b);
		if (i >= FIRST)
			memset(duct_vector_append(b, &b->old[NUMBER], 4), 1, 4);
		if (i >= FIRST)
			(void)duct_vector_append(b, &b->old[TEXT], 0);
	}
	duct_batch_seal(b);
	for (uint32_t i = 0; i < ROWS; i++)
		for (int column = NUMBER; column < COLUMNS; column++) {
			assert_null(duct_vector_cell(&b->columns[column], i).data);
			assert_false(duct_vector_is_sent(&b->columns[column], i));
			assert_int_equal(duct_vector_cell(&b->old[column], i).data != NULL, i >= FIRST);
			assert_int_equal(duct_vector_is_sent(&b->old[column], i), i >= FIRST);
		}
	assert_int_equal(duct_vector_cell(&b->old[NUMBER], ROWS - 1).data[3], 1);
	assert_int_equal(duct_vector_cell(&b->old[TEXT], FIRST).len, 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* NULL, an empty text and an empty column are three things. */
static void cells_come_over_as_they_are(void **state)
{
	(void)state;
	static const struct duct_cell texts[] = {{NULL, 0}, {"", 0}, {"three", 5}, {NULL, 0}};
	struct duct_relation *rel = make_relation();
	struct duct_batch *b = duct_batch_new(rel, 0);
	for (uint32_t i = 0; i < DUCT_LEN(texts); i++) {
		(void)duct_batch_add_row(b, DUCT_INSERT, i);
		duct_vector_append_cell(b, &b->columns[NUMBER], (struct duct_cell){(const char *)&i, 4});
		duct_vector_append_cell(b, &b->columns[TEXT], texts[i]);
	}
	duct_batch_fill_unset(b);
	for (uint32_t i = 0; i < DUCT_LEN(texts); i++) {
		struct duct_cell number = duct_vector_cell(&b->columns[NUMBER], i), text = duct_vector_cell(&b->columns[TEXT], i);
		assert_memory_equal(number.data, &i, 4);
		assert_int_equal(text.data != NULL, texts[i].data != NULL);
		assert_int_equal(text.len, texts[i].len);
		if (text.len)
			assert_memory_equal(text.data, texts[i].data, text.len);
		assert_true(duct_vector_is_sent(&b->columns[TEXT], i));
	}
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* A batch that grows gives back what it has grown out of: some twice its values are held, not the sum of all sizes. */
static void growth_is_given_back(void **state)
{
	enum { ROWS = 100000, LEN = 100 };
	(void)state;
	struct duct_relation *rel = make_relation();
	struct duct_batch *b = duct_batch_new(rel, 0);
	char text[LEN];
	for (int32_t i = 0; i < ROWS; i++) {
		(void)duct_batch_add_row(b, DUCT_INSERT, (uint64_t)i);
		memcpy(duct_vector_append(b, &b->columns[NUMBER], 4), &i, 4);
		memset(text, 'a' + i % 26, LEN);
		memcpy(duct_vector_append(b, &b->columns[TEXT], LEN), text, LEN);
	}
	for (int32_t i = 0; i < ROWS; i++) {
		struct duct_cell n = duct_vector_cell(&b->columns[NUMBER], (uint32_t)i);
		struct duct_cell t = duct_vector_cell(&b->columns[TEXT], (uint32_t)i);
		assert_memory_equal(n.data, &i, 4);
		assert_int_equal(t.len, LEN);
		assert_int_equal(t.data[0], 'a' + i % 26);
		assert_int_equal(t.data[LEN - 1], 'a' + i % 26);
	}
	/* op, seq, old row, number, offset, text */
	assert_in_range(b->arena.bytes, ROWS * (1 + 8 + 4 + 4 + 4 + LEN), ROWS * (1 + 8 + 4 + 4 + 4 + LEN) * 9 / 4);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(undone_rows_leave_no_trace),
					   cmocka_unit_test(columns_left_out_are_unset),
					   cmocka_unit_test(cells_come_over_as_they_are), cmocka_unit_test(growth_is_given_back)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
