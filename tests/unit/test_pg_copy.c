/* COPY in binary: rows from a stream cut at every byte, and streams that are not one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "pg/copy.h"
#include "record/format.h"

static struct pg_catalog *catalog;
static struct pg_relation *relation;

static struct pg_table_column columns[] = {
	{.name = "id", .attnum = 1, .typid = 23, .typmod = -1, .not_null = true, .primary = true, .type_name = "integer"},
	{.name = "a \"b\"", .attnum = 2, .typid = 25, .typmod = -1, .type_name = "text"},
	{.name = "cls", .attnum = 4, .typid = 2205, .typmod = -1, .type_name = "regclass"},
};
static const struct pg_table table = {
	.oid = 9, .schema = "s", .name = "t", .kind = 'r', .identity = 'd', .ncolumns = 3, .columns = columns};

static void value(struct duct_buf *to, const char *data, size_t n)
{
	duct_buf_be32(to, data ? (uint32_t)n : UINT32_MAX);
	duct_buf_append(to, data, data ? n : 0);
}

static void head(struct duct_buf *to, uint32_t flags, const char *extension)
{
	duct_buf_append(to, "PGCOPY\n\377\r\n\0", 11);
	duct_buf_be32(to, flags);
	duct_buf_be32(to, (uint32_t)strlen(extension));
	duct_buf_puts(to, extension);
}

/* rows (1, 'x', 'pg_class'), (2, NULL, NULL), (3, '', 'é') */
static void whole(struct duct_buf *to, const char *extension)
{
	head(to, 0, extension);
	duct_buf_be16(to, 3);
	value(to, "\0\0\0\1", 4);
	value(to, "x", 1);
	value(to, "pg_class", 8);
	duct_buf_be16(to, 3);
	value(to, "\0\0\0\2", 4);
	value(to, NULL, 0);
	value(to, NULL, 0);
	duct_buf_be16(to, 3);
	value(to, "\0\0\0\3", 4);
	value(to, "", 0);
	value(to, "\xc3\xa9", 2);
	duct_buf_be16(to, UINT16_MAX);
}

static void check_cell(const struct duct_batch *b, int column, uint32_t row, const char *want)
{
	struct duct_buf text AUTO_BUF = {0};
	struct duct_cell cell = duct_vector_cell(&b->columns[column], row);
	assert_int_equal(cell.data == NULL, want == NULL);
	if (!want)
		return;
	duct_format_value(&text, b->columns[column].type, cell);
	assert_string_equal(text.data ? text.data : "", want);
}

static void check_rows(const struct duct_batch *b)
{
	static const char *const want[3][3] = {{"1", "x", "pg_class"}, {"2", NULL, NULL}, {"3", "", "\xc3\xa9"}};
	assert_int_equal(b->rows, 3);
	for (uint32_t row = 0; row < 3; row++) {
		assert_int_equal(b->op[row], DUCT_READ);
		assert_int_equal(b->seq[row], 100 + row);
		for (int c = 0; c < 3; c++)
			check_cell(b, c, row, want[row][c]);
	}
}

static void cut_anywhere(void **state)
{
	(void)state;
	for (int extension = 0; extension < 2; extension++) {
		struct duct_buf all AUTO_BUF = {0};
		whole(&all, extension ? "extra" : "");
		for (size_t step = 1; step <= all.len; step++) {
			struct pg_copy c = {0};
			struct duct_error err = {0};
			struct duct_batch *b = duct_batch_new(relation->rel, 0);
			for (size_t at = 0; at < all.len; at += step) {
				assert_int_equal(pg_copy_finish(&c, &err), -DUCT_RETRY);
				size_t n = all.len - at < step ? all.len - at : step;
				assert_int_equal(pg_copy_feed(&c, relation, b, 100, all.data + at, n, &err), 0);
			}
			assert_int_equal(pg_copy_finish(&c, &err), 0);
			assert_int_equal(c.rows, 3);
			check_rows(b);
			duct_batch_seal(b);
			duct_batch_unref(b);
			pg_copy_done(&c);
		}
	}
}

/* Counts the calls, and looks at the values that come after the bad one, too. */
static int set_aside(void *arg, const struct pg_value *values, uint64_t seq, struct duct_error *err)
{
	(void)err;
	assert_int_equal(seq, 101);
	assert_int_equal(values[0].len, 3);
	assert_memory_equal(values[1].data, "abc", 3);
	assert_int_equal(values[2].kind, 'n');
	++*(int *)arg;
	return 0;
}

/* A row that cannot be stored is set aside once, when all of it is there. */
static void refused_row_cut_anywhere(void **state)
{
	struct duct_buf all AUTO_BUF = {0};
	(void)state;
	head(&all, 0, "");
	for (uint32_t row = 0; row < 3; row++) {
		duct_buf_be16(&all, 3);
		value(&all, "\0\0\0\7", row == 1 ? 3 : 4);
		value(&all, "abc", 3);
		value(&all, NULL, 0);
	}
	duct_buf_be16(&all, UINT16_MAX);
	for (size_t step = 1; step <= all.len; step++) {
		int calls = 0;
		struct pg_copy c = {.refused = set_aside, .arg = &calls};
		struct duct_error err = {0};
		struct duct_batch *b = duct_batch_new(relation->rel, 0);
		for (size_t at = 0; at < all.len; at += step)
			assert_int_equal(pg_copy_feed(&c, relation, b, 100, all.data + at,
						      all.len - at < step ? all.len - at : step, &err),
					 0);
		assert_int_equal(pg_copy_finish(&c, &err), 0);
		assert_int_equal(c.rows, 3);
		assert_int_equal(calls, 1);
		assert_int_equal(b->rows, 2);
		assert_int_equal(b->seq[1], 102);
		for (uint32_t row = 0; row < 2; row++) {
			check_cell(b, 0, row, "7");
			check_cell(b, 1, row, "abc");
			check_cell(b, 2, row, NULL);
		}
		duct_batch_seal(b);
		duct_batch_unref(b);
		pg_copy_done(&c);
	}
}

static int feed(const struct duct_buf *bytes, uint32_t *ret_rows, struct duct_error *err)
{
	struct pg_copy c = {0};
	struct duct_batch *b = duct_batch_new(relation->rel, 0);
	int rc = pg_copy_feed(&c, relation, b, 0, bytes->data, bytes->len, err);
	*ret_rows = b->rows;
	duct_batch_seal(b);
	duct_batch_unref(b);
	pg_copy_done(&c);
	return rc;
}

static void malformed(void **state)
{
	struct duct_buf b AUTO_BUF = {0};
	struct duct_error err = {0};
	uint32_t rows;
	(void)state;
	duct_buf_puts(&b, "PGCOPX");
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	b.len = 0;
	head(&b, 1U << 16, "");
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	b.len = 0;
	head(&b, 0, "");
	duct_buf_be16(&b, 2);
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	b.len = 0;
	head(&b, 0, "");
	duct_buf_be16(&b, 3);
	duct_buf_be32(&b, UINT32_MAX - 1);
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	b.len = 0;
	head(&b, 0, "");
	duct_buf_be16(&b, 3);
	value(&b, "bad", 3); /* cannot be stored, but what follows is no row */
	duct_buf_be32(&b, UINT32_MAX - 1);
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	b.len = 0;
	whole(&b, "");
	duct_buf_putc(&b, 'x');
	assert_int_equal(feed(&b, &rows, &err), -DUCT_FATAL);
	assert_int_equal(rows, 3);
	/* a value of the wrong size: named, and its row is taken back */
	b.len = 0;
	head(&b, 0, "");
	duct_buf_be16(&b, 3);
	value(&b, "\0\0\0\1", 4);
	value(&b, "x", 1);
	value(&b, "y", 1);
	duct_buf_be16(&b, 3);
	value(&b, "\0\0", 2);
	value(&b, "x", 1);
	value(&b, "y", 1);
	assert_int_equal(feed(&b, &rows, &err), -DUCT_DATA);
	assert_int_equal(rows, 1);
	assert_string_equal(err.message, "row (id)=(?): column \"id\": type integer: its binary value of 2 bytes is malformed");
}

static void select_list(void **state)
{
	struct duct_buf text AUTO_BUF = {0};
	(void)state;
	pg_copy_select(&text, relation);
	assert_string_equal(text.data,
			    "\"id\", \"a \"\"b\"\"\", CASE WHEN \"cls\" IS DISTINCT FROM NULL THEN "
			    "format('%s', \"cls\") END");
}

/* What a relation takes from the catalog: published columns only, keys, identity. */
static void published_columns(void **state)
{
	static const char *const without_key[] = {"cls", "a \"b\""}, *const with_key[] = {"cls", "id"};
	struct pg_relation *r;
	struct duct_error err;
	(void)state;
	assert_int_equal(relation->rel->nkeys, 1);
	assert_true(relation->rel->columns[0].key);
	assert_int_equal(relation->rel->columns[2].attnum, 4);
	assert_true(relation->stream_text);
	assert_non_null(strstr(relation->stream_text_reason, "column \"cls\" of \"s.t\" has type regclass"));
	assert_int_equal(pg_relation_from_table(&r, &table, catalog, with_key, 2, 1, &err), 0);
	assert_int_equal(r->rel->ncolumns, 2);
	assert_string_equal(r->rel->columns[0].name, "id");
	assert_int_equal(r->rel->identity, DUCT_IDENTITY_KEY);
	pg_relation_free(r);
	assert_int_equal(pg_relation_from_table(&r, &table, catalog, without_key, 2, 1, &err), 0);
	assert_int_equal(r->rel->nkeys, 0);
	assert_int_equal(r->rel->identity, DUCT_IDENTITY_NONE);
	pg_relation_free(r);
	/* half a key is none */
	columns[1].primary = true;
	assert_int_equal(pg_relation_from_table(&r, &table, catalog, with_key, 2, 1, &err), 0);
	columns[1].primary = false;
	assert_int_equal(r->rel->nkeys, 0);
	assert_false(r->rel->columns[0].key);
	assert_int_equal(r->rel->identity, DUCT_IDENTITY_NONE);
	pg_relation_free(r);
	static const struct {
		char identity;
		enum duct_identity want;
		int nkeys, key;
	} identities[] = {{'d', DUCT_IDENTITY_KEY, 1, 0},
			  {'f', DUCT_IDENTITY_FULL, 1, 0},
			  {'n', DUCT_IDENTITY_NONE, 0, 0},
			  {'i', DUCT_IDENTITY_KEY, 1, 1}};
	for (size_t i = 0; i < DUCT_LEN(identities); i++) {
		struct pg_table t = table;
		t.identity = identities[i].identity;
		columns[1].identity = true;
		assert_int_equal(pg_relation_from_table(&r, &t, catalog, NULL, 0, 1, &err), 0);
		columns[1].identity = false;
		assert_int_equal(r->rel->identity, identities[i].want);
		assert_int_equal(r->rel->nkeys, identities[i].nkeys);
		if (r->rel->nkeys)
			assert_int_equal(r->rel->keys[0], identities[i].key);
		pg_relation_free(r);
	}
}

static int setup(void **state)
{
	struct duct_error err;
	(void)state;
	catalog = pg_catalog_new();
	pg_catalog_add_builtin(catalog, 150000);
	return pg_relation_from_table(&relation, &table, catalog, NULL, 0, 1, &err);
}

static int teardown(void **state)
{
	(void)state;
	pg_relation_free(relation);
	pg_catalog_free(catalog);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_anywhere), cmocka_unit_test(refused_row_cut_anywhere), cmocka_unit_test(malformed),
		cmocka_unit_test(select_list),	cmocka_unit_test(published_columns),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
