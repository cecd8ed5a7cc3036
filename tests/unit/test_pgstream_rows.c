/* Events as rows of COPY BINARY: what is in them, what is filled in when they are sent, which keys are the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/reader.h"
#include "destination/pgstream/pgstream.h"

#include <string.h>

enum { ID, TEXT, NCOLUMNS };

static struct duct_relation *make_relation(const char *schema, const char *name, int nkeys)
{
	static int key[] = {ID};
	struct duct_relation *rel = duct_relation_new();
	rel->oid = 4711;
	rel->schema = schema;
	rel->name = name;
	rel->ncolumns = NCOLUMNS;
	rel->nkeys = nkeys;
	rel->keys = key;
	rel->columns = duct_arena_zalloc(&rel->arena, NCOLUMNS * sizeof *rel->columns);
	rel->columns[ID] =
		(struct duct_column){.name = "id", .type = {.kind = DUCT_INT32}, .key = nkeys > 0, .source_type = "integer"};
	rel->columns[TEXT] = (struct duct_column){.name = "t", .type = {.kind = DUCT_VARCHAR}, .source_type = "text"};
	return rel;
}

static void put(struct duct_batch *b, struct duct_vector *columns, int32_t id, const char *text)
{
	memcpy(duct_vector_append(b, &columns[ID], 4), &id, 4);
	if (text)
		memcpy(duct_vector_append(b, &columns[TEXT], (uint32_t)strlen(text)), text, strlen(text));
	else
		duct_vector_append_unsent(b, &columns[TEXT]);
}

static void add(struct duct_batch *b, enum duct_op op, int32_t id, const char *text, int32_t old_id)
{
	static uint64_t seq;
	duct_batch_fill_unset(b);
	(void)duct_batch_add_row(b, op, ++seq);
	if (op == DUCT_DELETE || op == DUCT_TRUNCATE)
		b->lacks = true;
	else
		put(b, b->columns, id, text);
	if (!old_id)
		return;
	(void)duct_batch_add_old_row(b);
	put(b, b->old, old_id, NULL);
}

struct event {
	int64_t id, created, offset, key, old_key; /* keys 0: NULL */
	uint64_t lsn;
	int stream;
	char operation[16], schema[16], table[16], format[16];
	size_t payload;
};

static void take_text(struct duct_reader *r, char *to)
{
	uint32_t n = duct_read_u32(r);
	assert_in_range(n, 0, 15);
	memcpy(to, duct_read_bytes(r, n), n);
	to[n] = 0;
}

static int64_t take_i64(struct duct_reader *r)
{
	uint32_t n = duct_read_u32(r);
	if (n == UINT32_MAX)
		return 0;
	assert_int_equal(n, 8);
	return (int64_t)duct_read_u64(r);
}

static struct event take(struct duct_reader *r)
{
	struct event e;
	assert_int_equal(duct_read_u16(r), 12);
	e.id = take_i64(r);
	e.lsn = (uint64_t)take_i64(r);
	e.created = take_i64(r);
	e.offset = take_i64(r);
	e.key = take_i64(r);
	e.old_key = take_i64(r);
	assert_int_equal(duct_read_u32(r), 4);
	e.stream = (int)duct_read_u32(r);
	take_text(r, e.operation);
	take_text(r, e.schema);
	take_text(r, e.table);
	take_text(r, e.format);
	e.payload = duct_read_u32(r);
	(void)duct_read_bytes(r, e.payload);
	assert_false(r->bad);
	return e;
}

/* All rows of the batch as events of stream 7 behind id 100 and offset 1,000. */
static void encode(struct duct_batch *b, struct event *events)
{
	struct pgstream_rows rows = {0};
	struct duct_error err;
	int64_t id = 100, offset = 1000;
	duct_batch_seal(b);
	for (uint32_t i = 0; i < b->rows; i++) {
		const struct wire_rows from = {.batch = b, .first = i, .count = 1};
		assert_int_equal(pgstream_rows_add(&rows, &wire_json, &from, 0x1000 + i, &err), 0);
	}
	pgstream_rows_set_lsn(&rows, 0, 0xabcdef0123456789);
	pgstream_rows_number(&rows, 7, 946684800000000 + 5, &id, &offset);
	assert_int_equal(id, 100 + b->rows);
	struct duct_reader r = duct_reader_over(rows.bytes.data, rows.bytes.len);
	size_t bytes = 1000;
	for (uint32_t i = 0; i < b->rows; i++) {
		events[i] = take(&r);
		bytes += events[i].payload;
		assert_int_equal(events[i].id, 101 + i);
		assert_int_equal(events[i].offset, bytes);
		assert_int_equal(events[i].created, 5); /* since 2000 */
		assert_int_equal(events[i].stream, 7);
		assert_int_equal(events[i].lsn, i ? 0x1000 + i : 0xabcdef0123456789);
	}
	assert_int_equal(offset, bytes);
	assert_int_equal(duct_reader_left(&r), 0);
	pgstream_rows_done(&rows);
}

static void rows_are_complete(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation("s", "t", 1);
	struct duct_batch *b = duct_batch_new(rel, 0);
	struct event e[4];
	add(b, DUCT_INSERT, 1, "one", 0);
	add(b, DUCT_UPDATE, 2, NULL, 0);
	add(b, DUCT_DELETE, 0, NULL, 3);
	add(b, DUCT_TRUNCATE, 0, NULL, 0);
	encode(b, e);
	assert_string_equal(e[0].operation, "insert");
	assert_string_equal(e[1].operation, "update");
	assert_string_equal(e[2].operation, "delete");
	assert_string_equal(e[3].operation, "ddl");
	assert_string_equal(e[0].schema, "s");
	assert_string_equal(e[0].table, "t");
	assert_string_equal(e[0].format, "json");
	assert_int_equal(e[3].key, 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void a_row_has_one_key_whatever_happens_to_it(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation("s", "t", 1);
	struct duct_batch *b = duct_batch_new(rel, 0);
	struct event e[6];
	add(b, DUCT_INSERT, 1, "one", 0);
	add(b, DUCT_UPDATE, 1, "uno", 0);
	add(b, DUCT_UPDATE, 2, "two", 1); /* from 1 to 2 */
	add(b, DUCT_DELETE, 0, NULL, 2);
	add(b, DUCT_INSERT, 3, "one", 0);
	add(b, DUCT_UPDATE, 3, "x", 3); /* an old row of the same key */
	encode(b, e);
	assert_true(e[0].key != 0);
	assert_int_equal(e[1].key, e[0].key);
	assert_int_equal(e[2].old_key, e[0].key);
	assert_true(e[2].key != e[0].key);
	assert_int_equal(e[3].key, e[2].key);
	assert_true(e[4].key != e[0].key && e[4].key != e[2].key);
	assert_int_equal(e[5].key, e[4].key);
	assert_int_equal(e[0].old_key | e[1].old_key | e[3].old_key | e[5].old_key, 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void rows_without_key_have_none(void **state)
{
	(void)state;
	struct duct_relation *rel = make_relation("s", "t", 0);
	struct duct_batch *b = duct_batch_new(rel, 0);
	struct event e[1];
	add(b, DUCT_INSERT, 1, "one", 0);
	encode(b, e);
	assert_int_equal(e[0].key, 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

static void own_tables_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *schema, *name;
		int refused;
	} cases[] = {
		{"ductstream", "stream_events", 1}, {"ductstream", "stream_heads", 1}, {"ductstream", "source_state", 0},
		{"ductstream", "dead_letter", 0},   {"public", "stream_events", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct duct_error err = {0};
		struct duct_relation *rel = make_relation(cases[i].schema, cases[i].name, 1);
		assert_int_equal(pgstream_check_relation(rel, &err), cases[i].refused ? -DUCT_CONFIG : 0);
		duct_relation_unref(rel);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_complete),
		cmocka_unit_test(a_row_has_one_key_whatever_happens_to_it),
		cmocka_unit_test(rows_without_key_have_none),
		cmocka_unit_test(own_tables_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
