/* The replication protocol: frames, messages of versions 1 to 4 written by hand, and rows made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "pg/decode_tuple.h"
#include "pg/pgoutput.h"
#include "pg/relation.h"
#include "record/format.h"

/* Builds a message: c char, h u16, i u32, q u64, s NUL-terminated, t text value of a tuple. */
static void build_args(struct duct_buf *to, const char *spec, va_list args)
{
	for (; *spec; spec++) {
		const char *s;
		switch (*spec) {
		case 'c': duct_buf_putc(to, (char)va_arg(args, int)); break;
		case 'h': duct_buf_be16(to, (uint16_t)va_arg(args, int)); break;
		case 'i': duct_buf_be32(to, va_arg(args, unsigned)); break;
		case 'q': duct_buf_be64(to, va_arg(args, uint64_t)); break;
		case 's':
			s = va_arg(args, const char *);
			duct_buf_append(to, s, strlen(s) + 1);
			break;
		default:
			s = va_arg(args, const char *);
			duct_buf_putc(to, 't');
			duct_buf_be32(to, (uint32_t)strlen(s));
			duct_buf_puts(to, s);
		}
	}
}

static void build(struct duct_buf *to, const char *spec, ...)
{
	va_list args;
	va_start(args, spec);
	build_args(to, spec, args);
	va_end(args);
}

#define T(v) ((uint64_t)((v)-946684800000000))

static struct duct_buf held; /* the bytes that the last message points into */

static void decode_args(struct pgout *d, struct pgout_message *m, const char *spec, va_list args)
{
	struct duct_error err = {0};
	held.len = 0;
	build_args(&held, spec, args);
	if (pgout_decode(d, held.data, held.len, m, &err))
		fail_msg("%s", err.message);
}

static void decode(struct pgout *d, struct pgout_message *m, const char *spec, ...)
{
	va_list args;
	va_start(args, spec);
	decode_args(d, m, spec, args);
	va_end(args);
}

static void frames(void **state)
{
	struct duct_buf b AUTO_BUF = {0};
	struct pgout_frame f;
	struct duct_error err;
	(void)state;
	build(&b, "cqqqcc", 'w', 0x10ULL, 0x20ULL, T(1000), 'B', 7);
	assert_int_equal(pgout_frame(&f, b.data, b.len, &err), 0);
	assert_int_equal(f.kind, 'w');
	assert_int_equal(f.start, 0x10);
	assert_int_equal(f.end, 0x20);
	assert_int_equal(f.time_us, 1000);
	assert_int_equal(f.len, 2);
	assert_memory_equal(f.payload, "B\7", 2);
	b.len = 0;
	build(&b, "cqqc", 'k', 0x30ULL, T(-5), 1);
	assert_int_equal(b.len, 18);
	assert_int_equal(pgout_frame(&f, b.data, b.len, &err), 0);
	assert_int_equal(f.end, 0x30);
	assert_int_equal(f.time_us, -5);
	assert_true(f.reply_now);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(pgout_frame(&f, b.data, n, &err), -DUCT_FATAL);
	assert_int_equal(pgout_frame(&f, "x", 1, &err), -DUCT_FATAL);
}

static void feedback(void **state)
{
	char got[PGOUT_FEEDBACK_LEN];
	struct duct_buf want AUTO_BUF = {0};
	(void)state;
	build(&want, "cqqqqc", 'r', 3ULL, 2ULL, 1ULL, T(77), 1);
	pgout_feedback(got, 3, 2, 1, 77, true);
	assert_int_equal(want.len, sizeof got);
	assert_memory_equal(got, want.data, sizeof got);
}

static void transactions(void **state)
{
	struct pgout d = {0};
	struct pgout_message m;
	(void)state;
	decode(&d, &m, "cqqi", 'B', 0x123ULL, T(5), 42U);
	assert_int_equal(m.begin.final_lsn, 0x123);
	assert_int_equal(m.begin.commit_us, 5);
	assert_int_equal(m.xid, 42);
	decode(&d, &m, "cqs", 'O', 0x99ULL, "elsewhere");
	assert_int_equal(m.origin.lsn, 0x99);
	assert_string_equal(m.origin.name, "elsewhere");
	decode(&d, &m, "ccqqq", 'C', 0, 0x123ULL, 0x150ULL, T(5));
	assert_int_equal(m.commit.commit_lsn, 0x123);
	assert_int_equal(m.commit.end_lsn, 0x150);
	assert_int_equal(m.commit.commit_us, 5);
	decode(&d, &m, "ccqsi", 'M', 0, 0x77ULL, "prefix", 0U);
	assert_false(m.message.transactional);
	assert_int_equal(m.message.lsn, 0x77);
	assert_string_equal(m.message.prefix, "prefix");
	assert_int_equal(m.message.len, 0);
	pgout_done(&d);
}

static void streams(void **state)
{
	struct pgout d = {0};
	struct pgout_message m;
	(void)state;
	decode(&d, &m, "cic", 'S', 700U, 1);
	assert_int_equal(m.xid, 700);
	assert_true(m.stream_start.first);
	decode(&d, &m, "ciiss", 'Y', 701U, 19028U, "", "int4");
	assert_int_equal(m.xid, 701);
	assert_int_equal(m.type.oid, 19028);
	assert_string_equal(m.type.name, "int4");
	decode(&d, &m, "ciicht", 'I', 702U, 9U, 'N', 1, "v");
	assert_int_equal(m.xid, 702);
	assert_int_equal(m.change.oid, 9);
	assert_memory_equal(m.change.new.values[0].data, "v", 1);
	decode(&d, &m, "ciicii", 'T', 700U, 2U, 3, 11U, 12U);
	assert_int_equal(m.truncate.noids, 2);
	assert_true(m.truncate.cascade && m.truncate.restart);
	assert_int_equal(m.truncate.oids[0], 11);
	assert_int_equal(m.truncate.oids[1], 12);
	decode(&d, &m, "cicqsicc", 'M', 700U, 1, 5ULL, "p", 2U, 'h', 'i');
	assert_int_equal(m.xid, 700);
	assert_memory_equal(m.message.data, "hi", 2);
	decode(&d, &m, "c", 'E');
	assert_false(d.in_stream);
	decode(&d, &m, "cii", 'A', 700U, 702U);
	assert_int_equal(m.xid, 700);
	assert_int_equal(m.stream_abort.subxid, 702);
	assert_int_equal(m.stream_abort.lsn, 0);
	decode(&d, &m, "ciiqq", 'A', 700U, 702U, 0x55ULL, T(9));
	assert_int_equal(m.stream_abort.lsn, 0x55);
	assert_int_equal(m.stream_abort.abort_us, 9);
	decode(&d, &m, "cicqqq", 'c', 700U, 0, 0x60ULL, 0x70ULL, T(8));
	assert_int_equal(m.xid, 700);
	assert_int_equal(m.commit.end_lsn, 0x70);
	/* Outside a block there is no xid. */
	decode(&d, &m, "cicht", 'I', 9U, 'N', 1, "v");
	assert_int_equal(m.xid, 0);
	assert_int_equal(m.change.oid, 9);
	/* A reset forgets an open block, as a new connection must. */
	decode(&d, &m, "cic", 'S', 700U, 1);
	pgout_reset(&d);
	decode(&d, &m, "cicht", 'I', 9U, 'N', 1, "v");
	pgout_done(&d);
}

static void two_phase(void **state)
{
	struct pgout d = {0};
	struct pgout_message m;
	(void)state;
	decode(&d, &m, "cqqqis", 'b', 1ULL, 2ULL, T(3), 4U, "gid");
	assert_int_equal(m.prepare.lsn, 1);
	assert_int_equal(m.prepare.end_lsn, 2);
	assert_int_equal(m.prepare.time_us, 3);
	assert_int_equal(m.xid, 4);
	assert_string_equal(m.prepare.gid, "gid");
	for (const char *kind = "PpK"; *kind; kind++) {
		decode(&d, &m, "ccqqqis", *kind, 0, 1ULL, 2ULL, T(3), 4U, "g");
		assert_int_equal(m.prepare.end_lsn, 2);
		assert_int_equal(m.prepare.time_us, 3);
		assert_int_equal(m.xid, 4);
	}
	decode(&d, &m, "ccqqqqis", 'r', 0, 1ULL, 2ULL, T(3), T(5), 4U, "g");
	assert_int_equal(m.prepare.begin_us, 3);
	assert_int_equal(m.prepare.time_us, 5);
	assert_int_equal(m.xid, 4);
	pgout_done(&d);
}

/* R of table s.t(id int key, name text, big text) */
#define R_SPEC "cisschcsiicsiicsii"
#define R_BODY(identity, k1, k2) 'R', 9U, "s", "t", identity, 3, k1, "id", 23U, ~0U, k2, "name", 25U, ~0U, k2, "big", 25U, ~0U

static void relation_message(void **state)
{
	struct pgout d = {0};
	struct pgout_message m;
	(void)state;
	decode(&d, &m, R_SPEC, R_BODY('d', 1, 0));
	assert_int_equal(m.relation.oid, 9);
	assert_string_equal(m.relation.schema, "s");
	assert_string_equal(m.relation.name, "t");
	assert_int_equal(m.relation.identity, 'd');
	assert_int_equal(m.relation.ncolumns, 3);
	assert_true(m.relation.columns[0].key);
	assert_false(m.relation.columns[1].key);
	assert_string_equal(m.relation.columns[2].name, "big");
	assert_int_equal(m.relation.columns[0].typid, 23);
	assert_int_equal(m.relation.columns[0].typmod, -1);
	decode(&d, &m, "cissch", 'R', 9U, "", "t", 'n', 0);
	assert_string_equal(m.relation.schema, "pg_catalog");
	assert_int_equal(m.relation.ncolumns, 0);
	pgout_done(&d);
}

/* Every prefix of every message is refused, and so is a byte too many. */
static void cut_messages(void **state)
{
	struct duct_buf all[8] = {0};
	(void)state;
	build(&all[0], "cqqi", 'B', 1ULL, 2ULL, 3U);
	build(&all[1], R_SPEC, R_BODY('d', 1, 0));
	build(&all[2], "cichtcc", 'I', 9U, 'N', 3, "1", 'n', 'u');
	build(&all[3], "cichtccchttc", 'U', 9U, 'O', 3, "1", 'n', 'n', 'N', 3, "1", "x", 'u');
	build(&all[4], "cichtcc", 'D', 9U, 'K', 3, "1", 'n', 'n');
	build(&all[5], "ciciii", 'T', 3U, 0, 1U, 2U, 3U);
	build(&all[6], "cqqqis", 'b', 1ULL, 2ULL, 3ULL, 4U, "gid");
	build(&all[7], "ccqqq", 'C', 0, 1ULL, 2ULL, 3ULL);
	for (size_t i = 0; i < DUCT_LEN(all); i++) {
		struct pgout d = {0};
		struct pgout_message m;
		struct duct_error err = {0};
		assert_int_equal(pgout_decode(&d, all[i].data, all[i].len, &m, &err), 0);
		for (size_t n = 0; n < all[i].len; n++) {
			assert_int_equal(pgout_decode(&d, all[i].data, n, &m, &err), -DUCT_FATAL);
			assert_non_null(strstr(err.message, "malformed at offset"));
		}
		duct_buf_putc(&all[i], 0);
		assert_int_equal(pgout_decode(&d, all[i].data, all[i].len, &m, &err), -DUCT_FATAL);
		pgout_done(&d);
		duct_buf_done(&all[i]);
	}
}

static void unknown_messages(void **state)
{
	struct pgout d = {0};
	struct pgout_message m;
	struct duct_error err = {0};
	(void)state;
	assert_int_equal(pgout_decode(&d, "Z", 1, &m, &err), -DUCT_FATAL);
	assert_non_null(strstr(err.message, "'Z' (0x5a)"));
	assert_int_equal(pgout_decode(&d, "\0", 1, &m, &err), -DUCT_FATAL);
	assert_int_equal(pgout_decode(&d, "E", 1, &m, &err), -DUCT_FATAL); /* no block is open */
	pgout_done(&d);
}

/* Rows. A batch row is shown as "op new.. | old..", "-" for a value that was not sent. */
static void show_cell(struct duct_buf *to, const struct duct_vector *v, uint32_t row)
{
	struct duct_cell cell = duct_vector_cell(v, row);
	duct_buf_putc(to, ' ');
	if (!duct_vector_is_sent(v, row))
		duct_buf_putc(to, '-');
	else if (!cell.data)
		duct_buf_puts(to, "NULL");
	else
		duct_format_value(to, v->type, cell);
}

static void check_row(struct duct_batch *b, uint32_t row, const char *want)
{
	struct duct_buf text AUTO_BUF = {0};
	duct_batch_fill_unset(b);
	duct_buf_putc(&text, (char)b->op[row]);
	for (int i = 0; i < b->relation->ncolumns; i++)
		show_cell(&text, &b->columns[i], row);
	if (b->old_row[row] >= 0) {
		duct_buf_puts(&text, " |");
		for (int i = 0; i < b->relation->ncolumns; i++)
			show_cell(&text, &b->old[i], (uint32_t)b->old_row[row]);
	}
	assert_string_equal(text.data, want);
}

struct table {
	struct pgout d;
	struct pg_catalog *catalog;
	struct pg_relation *relation;
	struct duct_batch *batch;
	struct duct_buf scratch;
};

static void open_table(struct table *t, char identity, int key, int others, const struct pg_table *facts)
{
	struct pgout_message m;
	struct duct_error err = {0};
	*t = (struct table){.catalog = pg_catalog_new()};
	pg_catalog_add_builtin(t->catalog, 150000);
	decode(&t->d, &m, R_SPEC, R_BODY(identity, key, others));
	assert_int_equal(pg_relation_from_message(&t->relation, &m.relation, facts, t->catalog, 1, &err), 0);
	t->batch = duct_batch_new(t->relation->rel, 0);
}

static void close_table(struct table *t)
{
	duct_batch_seal(t->batch);
	duct_batch_unref(t->batch);
	pg_relation_free(t->relation);
	pg_catalog_free(t->catalog);
	duct_buf_done(&t->scratch);
	pgout_done(&t->d);
}

static struct duct_error last_error;

static int append(struct table *t, const char *spec, ...)
{
	struct pgout_message m;
	va_list args;
	va_start(args, spec);
	decode_args(&t->d, &m, spec, args);
	va_end(args);
	return pg_append_change(t->batch, t->relation, &m, t->batch->rows, &t->scratch, &last_error);
}

static void rows_by_key(void **state)
{
	struct table t;
	(void)state;
	open_table(&t, 'd', 1, 0, NULL);
	assert_int_equal(t.relation->rel->identity, DUCT_IDENTITY_KEY);
	assert_int_equal(t.relation->rel->nkeys, 1);
	assert_int_equal(append(&t, "cichttc", 'I', 9U, 'N', 3, "1", "a", 'n'), 0);
	/* unchanged TOAST */
	assert_int_equal(append(&t, "cichttc", 'U', 9U, 'N', 3, "1", "b", 'u'), 0);
	/* the key changed: 'n' outside the key means nothing */
	assert_int_equal(append(&t, "cichtccchttc", 'U', 9U, 'K', 3, "1", 'n', 'n', 'N', 3, "2", "b", 'u'), 0);
	/* a toasted key: sent in K though unchanged, 'u' in N */
	assert_int_equal(append(&t, "cichtccchctt", 'U', 9U, 'K', 3, "2", 'n', 'n', 'N', 3, 'u', "c", "d"), 0);
	assert_int_equal(append(&t, "cichtcc", 'D', 9U, 'K', 3, "2", 'n', 'n'), 0);
	pg_append_truncate(t.batch, 5);
	/* values after columns that were left out, in all orders */
	assert_int_equal(append(&t, "cichttt", 'I', 9U, 'N', 3, "3", "e", "f"), 0);
	assert_int_equal(append(&t, "cichtcc", 'D', 9U, 'K', 3, "3", 'n', 'n'), 0);
	assert_int_equal(append(&t, "cichtcc", 'D', 9U, 'K', 3, "4", 'n', 'n'), 0);
	assert_int_equal(append(&t, "cichtccchttt", 'U', 9U, 'K', 3, "5", 'n', 'n', 'N', 3, "6", "g", "h"), 0);
	assert_int_equal(append(&t, "cichtcc", 'D', 9U, 'K', 3, "7", 'n', 'n'), 0);
	check_row(t.batch, 0, "I 1 a NULL");
	check_row(t.batch, 1, "U 1 b -");
	check_row(t.batch, 2, "U 2 b - | 1 - -");
	check_row(t.batch, 3, "U 2 c d");
	check_row(t.batch, 4, "D - - - | 2 - -");
	check_row(t.batch, 5, "T - - -");
	check_row(t.batch, 6, "I 3 e f");
	check_row(t.batch, 7, "D - - - | 3 - -");
	check_row(t.batch, 8, "D - - - | 4 - -");
	check_row(t.batch, 9, "U 6 g h | 5 - -");
	check_row(t.batch, 10, "D - - - | 7 - -");
	close_table(&t);
}

static void rows_full(void **state)
{
	struct pg_table_column columns[] = {
		{.name = "id", .attnum = 1, .typid = 23, .typmod = -1, .not_null = true, .primary = true, .type_name = "integer"},
		{.name = "name", .attnum = 3, .typid = 25, .typmod = -1, .type_name = "text", .missing = "x'y"},
		{.name = "big", .attnum = 4, .typid = 1043, .typmod = -1, .type_name = "character varying"},
	};
	struct pg_table facts = {
		.oid = 9, .schema = "s", .name = "t", .kind = 'r', .identity = 'f', .ncolumns = 3, .columns = columns};
	struct table t;
	(void)state;
	for (int with_key = 0; with_key < 2; with_key++) {
		open_table(&t, 'f', 1, 1, with_key ? &facts : NULL);
		const struct duct_relation *rel = t.relation->rel;
		assert_int_equal(rel->identity, DUCT_IDENTITY_FULL);
		assert_int_equal(rel->nkeys, with_key);
		/* the new tuple lacks the TOAST value, the old one has it */
		assert_int_equal(append(&t, "cichtctchttc", 'U', 9U, 'O', 3, "1", 'n', "big", 'N', 3, "1", "b", 'u'), 0);
		assert_int_equal(append(&t, "cichtttchttt", 'U', 9U, 'O', 3, "1", "b", "c", 'N', 3, "2", "b", "c"), 0);
		assert_int_equal(append(&t, "cichtct", 'D', 9U, 'O', 3, "2", 'n', "c"), 0);
		check_row(t.batch, 0, with_key ? "U 1 b big" : "U 1 b big | 1 NULL big");
		check_row(t.batch, 1, "U 2 b c | 1 b c");
		check_row(t.batch, 2, "D - - - | 2 NULL c");
		if (with_key) {
			assert_true(rel->columns[0].key && rel->columns[0].not_null);
			assert_int_equal(rel->columns[0].attnum, 1);
			assert_int_equal(rel->columns[1].attnum, 3);
			assert_string_equal(rel->columns[1].missing_value, "x'y");
			assert_int_equal(rel->columns[2].attnum, 0); /* retyped since: not known to be the same */
		}
		close_table(&t);
	}
}

/* A bad value: the error names the column, the batch is as before and goes on. */
static void undone_rows(void **state)
{
	struct table t;
	(void)state;
	open_table(&t, 'd', 1, 0, NULL);
	assert_int_equal(append(&t, "cichttt", 'I', 9U, 'N', 3, "1", "a", "b"), 0);
	assert_int_equal(append(&t, "cichtccchttt", 'U', 9U, 'K', 3, "x", 'n', 'n', 'N', 3, "7", "cc", "dd"), -DUCT_DATA);
	assert_string_equal(last_error.message, "row (id)=(7): column \"id\": type integer: its text form cannot be parsed");
	assert_int_equal(append(&t, "cichctt", 'I', 9U, 'N', 3, 'u', "a", "b"), -DUCT_FATAL);
	assert_int_equal(append(&t, "cichtt", 'I', 9U, 'N', 2, "1", "a"), -DUCT_FATAL);
	assert_int_equal(t.batch->rows, 1);
	assert_int_equal(t.batch->old_rows, 0);
	assert_int_equal(append(&t, "cichtct", 'I', 9U, 'N', 3, "2", 'n', "e"), 0);
	assert_int_equal(append(&t, "cichtcc", 'D', 9U, 'K', 3, "2", 'n', 'n'), 0);
	check_row(t.batch, 0, "I 1 a b");
	check_row(t.batch, 1, "I 2 NULL e");
	check_row(t.batch, 2, "D - - - | 2 - -");
	close_table(&t);
}

/* No replica identity: an update cannot be applied and is never dropped silently. */
static void no_identity(void **state)
{
	struct table t;
	(void)state;
	open_table(&t, 'n', 0, 0, NULL);
	assert_int_equal(t.relation->rel->identity, DUCT_IDENTITY_NONE);
	assert_int_equal(append(&t, "cichttt", 'U', 9U, 'N', 3, "1", "a", "b"), -DUCT_CONFIG);
	assert_int_equal(t.batch->rows, 0);
	close_table(&t);
}

/* K is sent when the bytes of the key differ; what counts is the lake's value. */
static void same_key_in_other_bytes(void **state)
{
	struct table t;
	(void)state;
	open_table(&t, 'd', 1, 0, NULL);
	assert_int_equal(append(&t, "cichtccchciitt", 'U', 9U, 'K', 3, "1", 'n', 'n', 'N', 3, 'b', 4U, 1U, "a", "b"), 0);
	assert_int_equal(append(&t, "cichtccchciitt", 'U', 9U, 'K', 3, "1", 'n', 'n', 'N', 3, 'b', 4U, 2U, "a", "b"), 0);
	check_row(t.batch, 0, "U 1 a b");
	check_row(t.batch, 1, "U 2 a b | 1 - -");
	close_table(&t);
}

static int done(void **state)
{
	(void)state;
	duct_buf_done(&held);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames),
		cmocka_unit_test(feedback),
		cmocka_unit_test(transactions),
		cmocka_unit_test(streams),
		cmocka_unit_test(two_phase),
		cmocka_unit_test(relation_message),
		cmocka_unit_test(cut_messages),
		cmocka_unit_test(unknown_messages),
		cmocka_unit_test(rows_by_key),
		cmocka_unit_test(rows_full),
		cmocka_unit_test(undone_rows),
		cmocka_unit_test(no_identity),
		cmocka_unit_test(same_key_in_other_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, done);
}
