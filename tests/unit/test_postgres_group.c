/* Changes of transactions into batches: hand-overs, parts, fences, unknown tables, new versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/postgres/group.h"

#include <stdio.h>
#include <string.h>

enum { INT4 = 23 };

struct world {
	struct postgres_group g;
	struct pg_catalog *catalog;
};

static int setup(void **state)
{
	static struct world w;
	w = (struct world){.catalog = pg_catalog_new()};
	pg_catalog_add_builtin(w.catalog, 150000);
	*state = &w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	postgres_group_done(&w->g);
	pg_catalog_free(w->catalog);
	return 0;
}

/* A table with key "id" (identity 'd') or without one and `extra` more columns. False: it is told too late. */
static bool describe_as(struct world *w, uint32_t oid, char identity, int extra)
{
	static char names[4][8] = {"id", "c1", "c2", "c3"};
	struct pgout_column columns[4] = {{names[0], INT4, -1, identity == 'd'}};
	for (int i = 1; i <= extra; i++)
		columns[i] = (struct pgout_column){names[i], INT4, -1, false};
	const struct pgout_relation m = {
		.oid = oid, .schema = "s", .name = "t", .identity = identity, .ncolumns = 1 + extra, .columns = columns};
	struct pg_relation *rel;
	struct duct_error err;
	assert_int_equal(pg_relation_from_message(&rel, &m, NULL, w->catalog, ++w->g.version, &err), 0);
	return postgres_group_relation(&w->g, postgres_group_table(&w->g, oid, true), rel, "raw", 3);
}

static struct postgres_table *describe(struct world *w, uint32_t oid, int extra)
{
	assert_true(describe_as(w, oid, 'd', extra));
	return postgres_group_table(&w->g, oid, false);
}

static int insert(struct world *w, uint32_t oid, int ncolumns, const char *digit)
{
	struct duct_error err;
	struct pg_value values[4];
	for (int i = 0; i < ncolumns; i++)
		values[i] = (struct pg_value){digit, 1, 't'};
	const struct pgout_message m = {.kind = 'I', .change = {.oid = oid, .new = {values, ncolumns}}};
	int r = postgres_group_change(&w->g, &m, &err);
	if (r)
		assert_int_equal(err.class, DUCT_FATAL);
	return r;
}

/* "oid:op seq,op seq ..." of all batches, then the commits. */
static const char *text(struct duct_changes *c)
{
	static char out[1024];
	size_t at = 0;
	out[0] = 0;
	for (size_t i = 0; c && i < c->nbatches; i++) {
		const struct duct_batch *b = c->batches[i];
		assert_true(b->sealed);
		at += (size_t)snprintf(out + at, sizeof out - at, "%s%u:", at ? " " : "", b->relation->oid);
		for (uint32_t r = 0; r < b->rows; r++)
			at += (size_t)snprintf(out + at, sizeof out - at, "%c%d", b->op[r], (int)b->seq[r]);
	}
	for (size_t i = 0; c && i < c->ncommits; i++)
		at += (size_t)snprintf(out + at, sizeof out - at, " |%d:%d", (int)c->commits[i].end_lsn,
				       (int)c->commits[i].last_seq);
	if (c)
		snprintf(out + at, sizeof out - at, " ->%d%s", (int)c->upto.lsn, c->ends_commit ? "" : "+");
	duct_changes_free(c);
	return out;
}

static void test_transactions(void **state)
{
	struct world *w = *state;
	describe(w, 1, 0)->known = true;
	describe(w, 2, 1)->known = true;
	postgres_group_begin(&w->g, 7, 95, 90);
	assert_int_equal(insert(w, 1, 1, "1"), 0);
	assert_int_equal(insert(w, 2, 2, "2"), 0);
	assert_int_equal(insert(w, 1, 1, "3"), 0);
	postgres_group_commit(&w->g, 100, 0);
	postgres_group_begin(&w->g, 8, 105, 90);
	assert_int_equal(insert(w, 2, 2, "4"), 0);
	postgres_group_commit(&w->g, 110, 0);
	postgres_group_begin(&w->g, 9, 115, 90); /* without rows: a position only */
	postgres_group_commit(&w->g, 120, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I1I3 2:I2I4 |100:3 |110:4 ->120");
	assert_null(postgres_group_take(&w->g));
	postgres_group_begin(&w->g, 10, 125, 130); /* stored already */
	assert_int_equal(insert(w, 1, 1, "5"), 0);
	postgres_group_commit(&w->g, 130, 0);
	assert_null(postgres_group_take(&w->g));
	assert_int_equal(w->g.last.lsn, 130);
}

static void test_parts(void **state)
{
	struct world *w = *state;
	describe(w, 1, 0)->known = true;
	postgres_group_begin(&w->g, 7, 95, 0);
	insert(w, 1, 1, "1");
	postgres_group_commit(&w->g, 100, 0);
	postgres_group_begin(&w->g, 8, 105, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I1 |100:1 ->100"); /* the open one has no rows yet */
	insert(w, 1, 1, "2");
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I2 ->100+");
	insert(w, 1, 1, "3");
	postgres_group_commit(&w->g, 110, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I3 |110:3 ->110");
	postgres_group_begin(&w->g, 9, 115, 0);
	insert(w, 1, 1, "4");
	postgres_group_reset(&w->g); /* connection lost: it comes again */
	postgres_group_begin(&w->g, 9, 115, 0);
	insert(w, 1, 1, "4");
	postgres_group_commit(&w->g, 120, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I5 |120:5 ->120");
}

static void test_versions(void **state)
{
	struct world *w = *state;
	describe(w, 1, 0)->known = true;
	postgres_group_begin(&w->g, 7, 95, 0);
	insert(w, 1, 1, "1");
	describe(w, 1, 2);
	insert(w, 1, 3, "2");
	postgres_group_commit(&w->g, 100, 0);
	struct duct_changes *c = postgres_group_take(&w->g);
	assert_int_equal(c->nbatches, 2);
	assert_int_equal(c->batches[0]->relation->ncolumns, 1);
	assert_int_equal(c->batches[1]->relation->ncolumns, 3);
	assert_true(c->batches[0]->relation->version < c->batches[1]->relation->version);
	assert_string_equal(text(c), "1:I1 1:I2 |100:2 ->100");
}

/* Another key ends the hand-over before its transaction; behind rows of the same transaction it is read once more. */
static void test_other_keys(void **state)
{
	struct world *w = *state;
	assert_true(describe_as(w, 1, 'f', 1));
	postgres_group_table(&w->g, 1, false)->known = true;
	describe(w, 2, 0)->known = true;
	for (int round = 0; round < 2; round++) { /* the server sends all of it twice */
		w->g.seq = 0;
		postgres_group_begin(&w->g, 7, 95, 0);
		insert(w, 1, 2, "1");
		postgres_group_commit(&w->g, 100, 0);
		postgres_group_begin(&w->g, 8, 105, 0);
		assert_int_equal(w->g.cut, round);
		if (round)
			assert_string_equal(text(postgres_group_take(&w->g)), "1:I1 |100:1 ->100");
		insert(w, 2, 1, "1");
		assert_int_equal(describe_as(w, 1, 'f', 2), round);
		assert_int_equal(w->g.cut_before, round ? 0 : 105);
		if (!round)
			postgres_group_reset(&w->g);
	}
	insert(w, 1, 3, "1");
	postgres_group_commit(&w->g, 110, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "2:I2 1:I3 |110:3 ->110");
}

static void test_unknown_and_fences(void **state)
{
	struct world *w = *state;
	struct postgres_table *t = describe(w, 1, 0), *own = describe(w, 2, 0);
	own->ignored = true;
	postgres_group_begin(&w->g, 7, 95, 0);
	insert(w, 2, 1, "1");
	assert_false(w->g.unknown_seen);
	insert(w, 1, 1, "1");
	assert_true(w->g.unknown_seen);
	postgres_group_commit(&w->g, 100, 0);
	assert_null(postgres_group_take(&w->g));
	t->known = true; /* copied: the copy has everything that ends at or before 110 */
	t->fence = 110;
	postgres_group_begin(&w->g, 8, 105, 0); /* ends at 110 */
	insert(w, 1, 1, "2");
	postgres_group_commit(&w->g, 110, 0);
	assert_null(postgres_group_take(&w->g));
	postgres_group_begin(&w->g, 9, 110, 0); /* its commit record begins at 110 */
	insert(w, 1, 1, "3");
	const struct pgout_message truncate = {.kind = 'T', .truncate = {.noids = 2, .oids = (const uint32_t[]){2, 1}}};
	struct duct_error err;
	assert_int_equal(postgres_group_change(&w->g, &truncate, &err), 0);
	postgres_group_commit(&w->g, 120, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I1T2 |120:2 ->120");
}

/* A relation that was only noted: rows before the fence need nothing of it, the first one behind it does. */
static void test_noted_relations(void **state)
{
	struct world *w = *state;
	struct postgres_table *t = describe(w, 1, 0);
	t->known = true;
	t->fence = 110;
	postgres_group_begin(&w->g, 7, 95, 0);
	assert_false(postgres_group_wants(&w->g, t));
	postgres_group_note_relation(t, "other", 5);
	assert_null(t->relation);
	insert(w, 1, 3, "1");
	postgres_group_commit(&w->g, 110, 0);
	assert_null(postgres_group_take(&w->g));
	postgres_group_begin(&w->g, 8, 115, 0);
	assert_true(postgres_group_wants(&w->g, t));
	assert_int_equal(insert(w, 1, 3, "1"), -DUCT_FATAL);
	describe(w, 1, 2);
	assert_int_equal(insert(w, 1, 3, "1"), 0);
	postgres_group_commit(&w->g, 120, 0);
	assert_string_equal(text(postgres_group_take(&w->g)), "1:I1 |120:1 ->120");
	t->left_lsn = 130;
	postgres_group_begin(&w->g, 9, 135, 0);
	assert_false(postgres_group_wants(&w->g, t));
	postgres_group_commit(&w->g, 140, 0);
	postgres_group_begin(&w->g, 10, 125, 150); /* stored already */
	assert_false(postgres_group_wants(&w->g, t));
}

static void test_broken_streams(void **state)
{
	struct world *w = *state;
	describe(w, 1, 0)->known = true;
	assert_int_equal(insert(w, 1, 1, "1"), -DUCT_FATAL); /* outside a transaction */
	postgres_group_begin(&w->g, 7, 95, 0);
	assert_int_equal(insert(w, 99, 1, "1"), -DUCT_FATAL); /* never described */
}

static void test_many_tables(void **state)
{
	struct world *w = *state;
	for (uint32_t oid = 1; oid <= 3000; oid++)
		postgres_group_table(&w->g, oid * 64, true)->known = oid % 2;
	for (uint32_t oid = 1; oid <= 3000; oid++) {
		struct postgres_table *t = postgres_group_table(&w->g, oid * 64, false);
		assert_non_null(t);
		assert_int_equal(t->oid, oid * 64);
		assert_int_equal(t->known, oid % 2);
	}
	assert_null(postgres_group_table(&w->g, 65, false));
	assert_int_equal(w->g.ntables, 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_and_fences, setup, teardown),
		cmocka_unit_test_setup_teardown(test_noted_relations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_tables, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
