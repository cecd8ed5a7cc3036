/* Wire formats: records and values as JSON, the order of formats, positions of rows. Arrow is read back by tests/system/test_wire.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "random_values.h"
#include "wire/wire.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static const struct duct_type int_list[] = {{.kind = DUCT_INT32, .name = "element"}};
static const struct duct_type text_list[] = {{.kind = DUCT_VARCHAR, .name = "element"}};
static const struct duct_type range[] = {{.kind = DUCT_INT32, .name = "lower"}, {.kind = DUCT_BOOL, .name = "upper_inc"}};
static const struct duct_type text_map[] = {{.kind = DUCT_VARCHAR, .name = "key"}, {.kind = DUCT_VARCHAR, .name = "value"}};
static const struct duct_type int_map[] = {{.kind = DUCT_INT32, .name = "key"}, {.kind = DUCT_INT32, .name = "value"}};

static void expect(struct duct_type type, const char *source_type, const void *data, size_t len, const char *wanted)
{
	AUTO_BUF struct duct_buf text = {0};
	struct duct_column column = {.name = "c", .type = type, .source_type = source_type};
	wire_json_value(&text, &column, (struct duct_cell){data, (uint32_t)len});
	assert_string_equal(text.data, wanted);
}

#define EXPECT(type, ctype, value, wanted) expect((struct duct_type)type, NULL, &(ctype){value}, sizeof(ctype), wanted)
#define TYPE(...) \
	{ \
		__VA_ARGS__ \
	}

static void numbers_keep_their_digits(void **state)
{
	(void)state;
	EXPECT(TYPE(.kind = DUCT_INT64), int64_t, INT64_MIN, "-9223372036854775808");
	EXPECT(TYPE(.kind = DUCT_UINT64), uint64_t, UINT64_MAX, "18446744073709551615");
	EXPECT(TYPE(.kind = DUCT_FLOAT64), double, 0.1, "0.1");
	EXPECT(TYPE(.kind = DUCT_FLOAT64), double, -0.0, "-0.0");
	EXPECT(TYPE(.kind = DUCT_FLOAT64), double, 1e300, "1e+300");
	EXPECT(TYPE(.kind = DUCT_FLOAT64), double, NAN, "\"NaN\"");
	EXPECT(TYPE(.kind = DUCT_FLOAT32), float, -INFINITY, "\"-Infinity\"");
	EXPECT(TYPE(.kind = DUCT_DECIMAL, .precision = 12, .scale = 2), int64_t, -150, "-1.50");
	EXPECT(TYPE(.kind = DUCT_DECIMAL, .precision = 2, .scale = 2), int64_t, -5, "-0.05");
	EXPECT(TYPE(.kind = DUCT_DECIMAL, .precision = 38), test_i128, (test_i128)INT64_MAX * 10, "92233720368547758070");
	EXPECT(TYPE(.kind = DUCT_BOOL), uint8_t, 1, "true");
	struct duct_type text = {.kind = DUCT_VARCHAR};
	expect(text, "numeric", "12345678901234567890.10", 23, "12345678901234567890.10");
	expect(text, "numeric(50,10)", "-0.5", 4, "-0.5");
	expect(text, "numeric", "NaN", 3, "\"NaN\"");
	expect(text, "numeric", "-Infinity", 9, "\"-Infinity\"");
	expect(text, "numeric_text", "1", 1, "\"1\"");
	expect(text, "text", "1", 1, "\"1\"");
	expect((struct duct_type){.kind = DUCT_LIST, .nchildren = 1, .children = text_list}, "numeric[]",
	       "\2\0\0\0\1\3\0\0\0001.5\1\3\0\0\0NaN", 20, "[1.5,\"NaN\"]");
}

static void times_are_as_postgres_writes_them_in_json(void **state)
{
	(void)state;
	struct duct_type date = {.kind = DUCT_DATE}, ts = {.kind = DUCT_TIMESTAMP}, tz = {.kind = DUCT_TIMESTAMPTZ};
	expect(date, NULL, &(int32_t){19782}, 4, "\"2024-02-29\"");
	expect(date, NULL, &(int32_t){DUCT_DATE_INF}, 4, "\"infinity\"");
	expect(date, NULL, &(int32_t){-735160}, 4, "\"0044-03-15 BC\"");
	expect(ts, NULL, &(int64_t){INT64_C(1705321800100000)}, 8, "\"2024-01-15T12:30:00.1\"");
	expect(tz, NULL, &(int64_t){INT64_C(1705321800000001)}, 8, "\"2024-01-15T12:30:00.000001Z\"");
	expect(tz, NULL, &(int64_t){DUCT_TS_NINF}, 8, "\"-infinity\"");
	expect(tz, NULL, &(int64_t){INT64_C(-735160) * 86400000000}, 8, "\"0044-03-15T00:00:00Z BC\"");
	EXPECT(TYPE(.kind = DUCT_TIME), int64_t, INT64_C(86400000000), "\"24:00:00\"");
}

static void texts_bytes_and_json(void **state)
{
	(void)state;
	expect((struct duct_type){.kind = DUCT_VARCHAR}, "text", "a\"\\\n\x01é", 7, "\"a\\\"\\\\\\n\\u0001é\"");
	expect((struct duct_type){.kind = DUCT_VARCHAR}, "text", "", 0, "\"\"");
	expect((struct duct_type){.kind = DUCT_JSON}, "jsonb", "{\"a\": [1, null]}", 16, "{\"a\": [1, null]}");
	struct duct_type blob = {.kind = DUCT_BLOB};
	expect(blob, NULL, "", 0, "\"\"");
	expect(blob, NULL, "\xff", 1, "\"/w==\"");
	expect(blob, NULL, "\0\xff", 2, "\"AP8=\"");
	expect(blob, NULL, "foo", 3, "\"Zm9v\"");
	expect((struct duct_type){.kind = DUCT_UUID}, NULL, "\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00", 16,
	       "\"550e8400-e29b-41d4-a716-446655440000\"");
	expect(blob, NULL, NULL, 0, "null");
}

static void nested_values(void **state)
{
	(void)state;
	expect((struct duct_type){.kind = DUCT_LIST, .nchildren = 1, .children = int_list}, NULL, "\2\0\0\0\1\7\0\0\0\0", 10,
	       "[7,null]");
	expect((struct duct_type){.kind = DUCT_LIST, .nchildren = 1, .children = int_list}, NULL, "\0\0\0\0", 4, "[]");
	expect((struct duct_type){.kind = DUCT_STRUCT, .nchildren = 2, .children = range}, NULL, "\0\1\1", 3,
	       "{\"lower\":null,\"upper_inc\":true}");
	expect((struct duct_type){.kind = DUCT_MAP, .nchildren = 2, .children = text_map}, NULL,
	       "\2\0\0\0\1\0\0\0a\1\1\0\0\0x\1\0\0\0b\0", 21, "{\"a\":\"x\",\"b\":null}");
	expect((struct duct_type){.kind = DUCT_MAP, .nchildren = 2, .children = int_map}, NULL, "\1\0\0\0\2\0\0\0\1\3\0\0\0", 13,
	       "[[2,3]]");
}

/* --- records --- */

enum { ID, BODY, PART, COLUMNS };

static struct duct_relation *orders(void)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = "public";
	rel->name = "orders";
	rel->version = 3;
	rel->ncolumns = COLUMNS;
	rel->columns = duct_arena_zalloc(&rel->arena, COLUMNS * sizeof *rel->columns);
	rel->columns[ID] = (struct duct_column){.name = "id", .type = {.kind = DUCT_INT32}, .key = true, .not_null = true};
	rel->columns[BODY] = (struct duct_column){.name = "body", .type = {.kind = DUCT_VARCHAR}, .source_type = "text"};
	rel->columns[PART] = (struct duct_column){.name = "a part", .type = {.kind = DUCT_INT32}, .key = true, .not_null = true};
	rel->nkeys = 2;
	rel->keys = duct_arena_alloc(&rel->arena, 2 * sizeof *rel->keys);
	rel->keys[0] = ID;
	rel->keys[1] = PART;
	return rel;
}

static void put_int(struct duct_batch *b, struct duct_vector *v, int32_t n)
{
	memcpy(duct_vector_append(b, v, 4), &n, 4);
}

static void put_row(struct duct_batch *b, struct duct_vector *columns, int32_t id, const char *body)
{
	put_int(b, &columns[ID], id);
	if (body)
		memcpy(duct_vector_append(b, &columns[BODY], (uint32_t)strlen(body)), body, strlen(body));
	else
		duct_vector_append_unsent(b, &columns[BODY]);
	put_int(b, &columns[PART], 7);
}

/* An insert, an update without its body, one that changes the key, a delete, a truncate; two transactions, a third one open. */
static struct duct_changes *some_changes(void)
{
	struct duct_relation *rel = orders();
	struct duct_batch *b = duct_batch_new(rel, 0);
	struct duct_changes *changes = duct_changes_new();
	duct_batch_add_row(b, DUCT_INSERT, 10);
	put_row(b, b->columns, 1, "x");
	duct_batch_add_row(b, DUCT_UPDATE, 11);
	put_row(b, b->columns, 1, NULL);
	duct_batch_add_row(b, DUCT_UPDATE, 12);
	duct_batch_add_old_row(b);
	put_row(b, b->old, 1, NULL);
	put_row(b, b->columns, 2, "y");
	duct_batch_add_row(b, DUCT_DELETE, 13);
	duct_batch_add_old_row(b);
	put_row(b, b->old, 2, NULL);
	b->lacks = true;
	duct_batch_add_row(b, DUCT_TRUNCATE, 14);
	duct_batch_seal(b);
	duct_changes_add(changes, b);
	duct_changes_add_commit(changes, &(struct duct_commit){.end_lsn = 0x1600000010, .commit_us = 1000000, .last_seq = 11});
	duct_changes_add_commit(changes, &(struct duct_commit){.end_lsn = 0x1600000020, .commit_us = 2000000, .last_seq = 13});
	changes->open_commit_us = 3000000;
	duct_relation_unref(rel);
	return changes;
}

/* jansson has no integers of more than 64 bits: flags may say how to take them. */
static json_t *encoded(const struct wire_rows *rows, size_t flags)
{
	AUTO_BUF struct duct_buf text = {0};
	struct duct_error err;
	json_error_t why;
	assert_int_equal(wire_json.encode(&text, rows, &err), 0);
	json_t *all = json_loadb(text.data, text.len, flags, &why);
	if (!all)
		fail_msg("%s in %s", why.text, text.data);
	return all;
}

static void assert_record(json_t *all, size_t i, const char *wanted)
{
	json_t *record = json_array_get(json_object_get(all, "Records"), i), *expected = json_loads(wanted, 0, NULL);
	assert_non_null(expected);
	char *is = json_dumps(record, JSON_SORT_KEYS), *should = json_dumps(expected, JSON_SORT_KEYS);
	assert_string_equal(is, should);
	free(is);
	free(should);
	json_decref(expected);
}

#define COMMON "\"Table\":\"orders\",\"SchemaVersion\":3,\"Payload\":null,\"DDLPlan\":null,"

static void records_say_what_happened(void **state)
{
	(void)state;
	struct duct_changes *changes = some_changes();
	struct wire_rows rows = wire_all_rows(changes, changes->batches[0]);
	json_t *all = encoded(&rows, 0);
	/* {"a part":7,"id":1} and with id 2 */
	assert_record(all, 0,
		      "{" COMMON "\"Operation\":\"insert\",\"Key\":\"eyJhIHBhcnQiOjcsImlkIjoxfQ==\",\"Before\":null,"
		      "\"After\":{\"id\":1,\"body\":\"x\",\"a part\":7},\"Unchanged\":null,\"DDL\":\"\","
		      "\"Timestamp\":\"1970-01-01T00:00:01Z\",\"LSN\":\"16/10\"}");
	assert_record(all, 1,
		      "{" COMMON "\"Operation\":\"update\",\"Key\":\"eyJhIHBhcnQiOjcsImlkIjoxfQ==\",\"Before\":null,"
		      "\"After\":{\"id\":1,\"a part\":7},\"Unchanged\":[\"body\"],\"DDL\":\"\","
		      "\"Timestamp\":\"1970-01-01T00:00:01Z\",\"LSN\":\"16/10\"}");
	assert_record(all, 2,
		      "{" COMMON
		      "\"Operation\":\"update\",\"Key\":\"eyJhIHBhcnQiOjcsImlkIjoxfQ==\",\"Before\":{\"id\":1,\"a part\":7},"
		      "\"After\":{\"id\":2,\"body\":\"y\",\"a part\":7},\"Unchanged\":null,\"DDL\":\"\","
		      "\"Timestamp\":\"1970-01-01T00:00:02Z\",\"LSN\":\"16/20\"}");
	assert_record(all, 3,
		      "{" COMMON
		      "\"Operation\":\"delete\",\"Key\":\"eyJhIHBhcnQiOjcsImlkIjoyfQ==\",\"Before\":{\"id\":2,\"a part\":7},"
		      "\"After\":null,\"Unchanged\":null,\"DDL\":\"\",\"Timestamp\":\"1970-01-01T00:00:02Z\",\"LSN\":\"16/20\"}");
	assert_record(
		all, 4,
		"{" COMMON "\"Operation\":\"ddl\",\"Key\":null,\"Before\":null,\"After\":null,\"Unchanged\":null,"
		"\"DDL\":\"TRUNCATE TABLE \\\"public\\\".\\\"orders\\\"\",\"Timestamp\":\"1970-01-01T00:00:03Z\",\"LSN\":\"\"}");
	assert_string_equal(json_string_value(json_object_get(all, "WireFormat")), "json");
	json_decref(all);
	duct_changes_free(changes);
}

static void a_payload_has_schema_and_checkpoint(void **state)
{
	(void)state;
	struct duct_changes *changes = some_changes();
	struct wire_rows rows = {.batch = changes->batches[0], .first = 1, .count = 2, .changes = changes};
	json_t *all = encoded(&rows, 0), *schema = json_object_get(all, "Schema"), *checkpoint = json_object_get(all, "Checkpoint");
	assert_int_equal(json_array_size(json_object_get(all, "Records")), 2);
	assert_string_equal(json_string_value(json_object_get(schema, "Name")), "orders");
	assert_string_equal(json_string_value(json_object_get(schema, "Namespace")), "public");
	assert_int_equal(json_integer_value(json_object_get(schema, "Version")), 3);
	json_t *column = json_array_get(json_object_get(schema, "Columns"), BODY);
	assert_string_equal(json_string_value(json_object_get(column, "Name")), "body");
	assert_string_equal(json_string_value(json_object_get(column, "Type")), "text");
	assert_true(json_is_true(json_object_get(column, "Nullable")));
	assert_string_equal(json_string_value(json_object_get(checkpoint, "LSN")), "16/20");
	assert_string_equal(json_string_value(json_object_get(checkpoint, "Timestamp")), "1970-01-01T00:00:02Z");
	json_decref(all);
	AUTO_BUF struct duct_buf nothing = {0};
	rows.count = 0;
	assert_int_equal(wire_json.encode(&nothing, &rows, NULL), 0);
	assert_int_equal(wire_arrow.encode(&nothing, &rows, NULL), 0);
	assert_int_equal(nothing.len, 0);
	duct_changes_free(changes);
}

/* Whatever the values are: JSON that a strict parser takes, and an Arrow stream of whole messages. */
static void any_values_can_be_encoded(void **state)
{
	(void)state;
	struct random_values r = {.state = 42, .plain = true};
	struct duct_relation *rel = types_relation(test_types, DUCT_LEN(test_types));
	for (int round = 0; round < 20; round++) {
		struct duct_batch *b = random_batch(rel, 50, (unsigned)round % 4, &r);
		struct wire_rows rows = {.batch = b, .first = 3, .count = 44, .pos = {5, 6}};
		json_t *all = encoded(&rows, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL);
		assert_int_equal(json_array_size(json_object_get(all, "Records")), 44);
		json_decref(all);
		AUTO_BUF struct duct_buf bytes = {0};
		assert_int_equal(wire_arrow.encode(&bytes, &rows, NULL), 0);
		assert_int_equal(bytes.len % 8, 0);
		assert_memory_equal(bytes.data + bytes.len - 8, "\xff\xff\xff\xff\0\0\0\0", 8);
		duct_batch_unref(b);
	}
	duct_relation_unref(rel);
}

static void arrow_refuses_a_column_of_its_own_name(void **state)
{
	(void)state;
	struct duct_relation *rel = types_relation(test_types, 2);
	struct random_values r = {.state = 1};
	rel->columns[1].name = "__key";
	struct duct_batch *b = random_batch(rel, 1, 0, &r);
	struct wire_rows rows = wire_all_rows(NULL, b);
	AUTO_BUF struct duct_buf bytes = {0};
	struct duct_error err = {0};
	assert_int_equal(wire_arrow.encode(&bytes, &rows, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "\"__key\" of \"s\".\"t\""));
	assert_int_equal(bytes.len, 0);
	assert_int_equal(wire_json.encode(&bytes, &rows, &err), 0);
	duct_batch_unref(b);
	duct_relation_unref(rel);
}

/* --- which format --- */

/* connector, flow, service, enforce -> format, or NULL: refused. The connector's default is arrow. */
static void the_order_of_formats(void **state)
{
	(void)state;
	static const struct {
		const char *connector, *flow, *service;
		bool enforce;
		const char *wanted;
	} table[] = {
		{NULL, NULL, NULL, false, "arrow"},	  {NULL, NULL, NULL, true, "arrow"},
		{NULL, NULL, "json", false, "json"},	  {NULL, NULL, "json", true, "json"},
		{NULL, "json", NULL, false, "json"},	  {NULL, "json", NULL, true, "json"},
		{NULL, "json", "arrow", false, "json"},	  {NULL, "json", "arrow", true, "json"},
		{NULL, "arrow", "json", true, "arrow"},	  {"json", NULL, NULL, false, "json"},
		{"json", NULL, NULL, true, "json"},	  {"json", NULL, "arrow", false, "json"},
		{"json", NULL, "arrow", true, NULL},	  {"json", NULL, "json", true, "json"},
		{"json", "arrow", NULL, false, "json"},	  {"json", "arrow", NULL, true, NULL},
		{"json", "json", "arrow", true, "json"},  {"json", "arrow", "json", true, NULL},
		{"json", "arrow", "json", false, "json"}, {"", "", "", true, "arrow"},
		{"", "json", "", true, "json"},
	};
	for (size_t i = 0; i < DUCT_LEN(table); i++) {
		struct wire_choice c = {table[i].connector, table[i].flow, table[i].service, "arrow", table[i].enforce};
		const struct wire_format *format = NULL;
		struct duct_error err = {0};
		int rc = wire_choose(&format, &c, &err);
		if (table[i].wanted) {
			assert_int_equal(rc, 0);
			assert_string_equal(format->name, table[i].wanted);
		} else {
			assert_int_equal(rc, -DUCT_CONFIG);
			assert_non_null(strstr(err.message, "\"json\""));
			assert_non_null(strstr(err.message, "\"arrow\""));
		}
	}
}

static void formats_that_are_not_there(void **state)
{
	(void)state;
	const struct wire_format *format = NULL;
	struct duct_error err = {0};
	assert_int_equal(wire_format_find(&format, "parquet", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "not built into this version"));
	assert_int_equal(wire_format_find(&format, "xml", &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "there is no wire format \"xml\""));
	assert_null(format);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_keep_their_digits), cmocka_unit_test(times_are_as_postgres_writes_them_in_json),
		cmocka_unit_test(texts_bytes_and_json),	     cmocka_unit_test(nested_values),
		cmocka_unit_test(records_say_what_happened), cmocka_unit_test(a_payload_has_schema_and_checkpoint),
		cmocka_unit_test(any_values_can_be_encoded), cmocka_unit_test(arrow_refuses_a_column_of_its_own_name),
		cmocka_unit_test(the_order_of_formats),	     cmocka_unit_test(formats_that_are_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
