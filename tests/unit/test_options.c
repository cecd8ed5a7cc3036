/* src/options: texts, loading and its errors word by word, nearest names, descriptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "options/options.h"
#include "options/text.h"

static const char *const modes[] = {"add", "sync", "drop", NULL};

struct config {
	char *dsn, *slot, *map;
	bool create;
	int64_t batch_size, wait_ms, memory;
	int mode;
	char **tables;
	int64_t free_number;
};

static const struct duct_opt opts[] = {
	OPT(struct config, dsn, "dsn", DUCT_OPT_STR, NULL, "connection string", .flags = DUCT_OPT_REQUIRED | DUCT_OPT_SECRET,
	    .doc = "Keyword=value or URI."),
	OPT(struct config, slot, "slot", DUCT_OPT_STR, "main", "name of the slot"),
	OPT(struct config, create, "create_slot", DUCT_OPT_BOOL, "true", "create it | when missing"),
	OPT(struct config, batch_size, "batch_size", DUCT_OPT_INT, "100", "records in a batch", .min = 1, .max = 1000000),
	OPT_ALIAS("records", "batch_size"),
	OPT(struct config, wait_ms, "wait", DUCT_OPT_DURATION, "1s", "longest wait", .min = 0, .max = 3600000),
	OPT(struct config, memory, "memory", DUCT_OPT_SIZE, "128MiB", "most memory", .min = 1 << 20, .max = 1 << 30),
	OPT(struct config, mode, "mode", DUCT_OPT_ENUM, "add", "what to do", .values = modes),
	OPT(struct config, tables, "tables", DUCT_OPT_LIST, NULL, "which tables"),
	OPT(struct config, map, "map", DUCT_OPT_MAP, NULL, "names to names"),
	OPT(struct config, free_number, "free_number", DUCT_OPT_INT, NULL, "any", .flags = DUCT_OPT_HIDDEN),
	{0},
};

#define TEXT(n, t) ((struct duct_opt_value){.name = (n), .text = (t)})
#define JSON(n, t) ((struct duct_opt_value){.name = (n), .text = (t), .form = DUCT_OPT_JSON})
#define LOAD(c, err, ...) \
	duct_opts_load(c, sizeof *(c), opts, (const struct duct_opt_value[]){TEXT("dsn", "d"), __VA_ARGS__}, \
		       sizeof((const struct duct_opt_value[]){TEXT("dsn", "d"), __VA_ARGS__}) / sizeof(struct duct_opt_value), \
		       "source \"x\"", err)

static void fills_every_type(void **state)
{
	(void)state;
	struct duct_error err;
	struct config c;
	assert_int_equal(LOAD(&c, &err, TEXT("create_slot", "off"), TEXT("records", "1000000"), TEXT("wait", "1m30s"),
			      TEXT("memory", "64 mib"), TEXT("mode", "drop"), TEXT("tables", " a.b , c.d,e"),
			      JSON("map", "{\"b\":1,\"a\":{\"x\":[true]}}"), TEXT("free_number", "-9223372036854775808")),
			 0);
	assert_string_equal(c.dsn, "d");
	assert_string_equal(c.slot, "main");
	assert_false(c.create);
	assert_int_equal(c.batch_size, 1000000);
	assert_int_equal(c.wait_ms, 90000);
	assert_int_equal(c.memory, 64 << 20);
	assert_int_equal(c.mode, 2);
	assert_string_equal(c.tables[0], "a.b");
	assert_string_equal(c.tables[1], "c.d");
	assert_string_equal(c.tables[2], "e");
	assert_null(c.tables[3]);
	assert_string_equal(c.map, "{\"b\":1,\"a\":{\"x\":[true]}}");
	assert_true(c.free_number == INT64_MIN);
	duct_opts_done(&c, sizeof c, opts);
	assert_null(c.dsn);
	duct_opts_done(&c, sizeof c, opts); /* once more does no harm */
}

static void defaults_and_lists(void **state)
{
	(void)state;
	struct duct_error err;
	struct config c;
	assert_int_equal(LOAD(&c, &err, JSON("tables", "[\"a,b\", 1, true]")), 0);
	assert_true(c.create);
	assert_int_equal(c.batch_size, 100);
	assert_int_equal(c.wait_ms, 1000);
	assert_int_equal(c.memory, 128 << 20);
	assert_int_equal(c.mode, 0);
	assert_null(c.map);
	assert_string_equal(c.tables[0], "a,b");
	assert_string_equal(c.tables[1], "1");
	assert_string_equal(c.tables[2], "true");
	assert_null(c.tables[3]);
	duct_opts_done(&c, sizeof c, opts);
	assert_int_equal(LOAD(&c, &err, TEXT("tables", "  ")), 0);
	assert_non_null(c.tables);
	assert_null(c.tables[0]);
	duct_opts_done(&c, sizeof c, opts);
}

static void refuses_with_the_whole_sentence(void **state)
{
	(void)state;
	static const struct {
		struct duct_opt_value value;
		const char *message;
	} cases[] = {
		{{"batch_size", "0", DUCT_OPT_TEXT, 7}, "option \"batch_size\": \"0\" is outside 1..1000000"},
		{{"records", "1000001", DUCT_OPT_TEXT, 7}, "option \"batch_size\": \"1000001\" is outside 1..1000000"},
		{{"batch_size", "12a", DUCT_OPT_TEXT, 7}, "option \"batch_size\": \"12a\" is not a whole number"},
		{{"batch_size", "9223372036854775808", DUCT_OPT_TEXT, 7},
		 "option \"batch_size\": \"9223372036854775808\" is not a whole number"},
		{{"wait", "5", DUCT_OPT_TEXT, 7}, "option \"wait\": \"5\" is not a duration such as 100ms, 1s, 2m or 1h"},
		{{"wait", "300us", DUCT_OPT_TEXT, 7}, "option \"wait\": \"300us\" is not a duration such as 100ms, 1s, 2m or 1h"},
		{{"wait", "61m", DUCT_OPT_TEXT, 7}, "option \"wait\": \"61m\" is outside 0..1h"},
		{{"memory", "1023KiB", DUCT_OPT_TEXT, 7}, "option \"memory\": \"1023KiB\" is outside 1MiB..1GiB"},
		{{"memory", "much", DUCT_OPT_TEXT, 7},
		 "option \"memory\": \"much\" is not a size such as 64KB, 128MiB or 4096 (bytes)"},
		{{"mode", "snyc", DUCT_OPT_TEXT, 7},
		 "option \"mode\": \"snyc\" is not one of add, sync, drop: did you mean \"sync\"?"},
		{{"mode", "whatever", DUCT_OPT_TEXT, 7}, "option \"mode\": \"whatever\" is not one of add, sync, drop"},
		{{"create_slot", "perhaps", DUCT_OPT_TEXT, 7}, "option \"create_slot\": \"perhaps\" is neither true nor false"},
		{{"tables", "a,,b", DUCT_OPT_TEXT, 7}, "option \"tables\": \"a,,b\" has an empty item"},
		{{"tables", "a,", DUCT_OPT_TEXT, 7}, "option \"tables\": \"a,\" has an empty item"},
		{{"tables", "{\"a\":1}", DUCT_OPT_JSON, 7}, "option \"tables\": \"{\"a\":1}\" must be a list"},
		{{"tables", "[null]", DUCT_OPT_JSON, 7}, "option \"tables\": \"[null]\" must be a list of plain texts"},
		{{"map", "[1]", DUCT_OPT_JSON, 7}, "option \"map\": \"[1]\" must be a map of names to values"},
		{{"slot", "[1]", DUCT_OPT_JSON, 7}, "option \"slot\": \"[1]\" must be one value, not a list or a map"},
		{{"slto", "x", DUCT_OPT_TEXT, 7}, "unknown option \"slto\": did you mean \"slot\"?"},
		{{"publication_tables", "x", DUCT_OPT_TEXT, 7},
		 "unknown option \"publication_tables\": `ductstream options` lists the valid ones"},
		{{"free_numbr", "x", DUCT_OPT_TEXT, 7}, "unknown option \"free_numbr\": `ductstream options` lists the valid ones"},
		{{"mode", "postgres://me:hunter2@h/d", DUCT_OPT_TEXT, 7},
		 "option \"mode\": the value (hidden) is not one of add, sync, drop"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct duct_error err;
		struct config c;
		char expected[512];
		snprintf(expected, sizeof expected, "flow.yaml:7: source \"x\": %s", cases[i].message);
		const struct duct_opt_value values[] = {TEXT("dsn", "hunter2"), cases[i].value};
		assert_int_equal(duct_opts_load_file(&c, sizeof c, opts, values, 2, "flow.yaml", "source \"x\"", &err),
				 -DUCT_CONFIG);
		assert_string_equal(err.message, expected);
		assert_null(c.dsn);
	}
}

static void refuses_twice_missing_empty(void **state)
{
	(void)state;
	struct duct_error err;
	struct config c;
	assert_int_equal(LOAD(&c, &err, TEXT("slot", "a"), TEXT("slot", "b")), -DUCT_CONFIG);
	assert_string_equal(err.message, "source \"x\": option \"slot\" is given twice");
	struct duct_opt_value twice[] = {{"records", "1", DUCT_OPT_TEXT, 3}, {"batch_size", "2", DUCT_OPT_TEXT, 5}};
	assert_int_equal(duct_opts_load(&c, sizeof c, opts, twice, 2, "source \"x\"", &err), -DUCT_CONFIG);
	assert_string_equal(err.message,
			    "source \"x\", line 5: option \"batch_size\" is given twice: it is the same as "
			    "\"records\" (line 3)");
	assert_int_equal(duct_opts_load(&c, sizeof c, opts, NULL, 0, "source \"x\"", &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "source \"x\": option \"dsn\" is required: connection string");
	struct duct_opt_value empty = TEXT("dsn", "");
	assert_int_equal(duct_opts_load(&c, sizeof c, opts, &empty, 1, "source \"x\"", &err), -DUCT_CONFIG);
	assert_string_equal(err.message, "source \"x\": option \"dsn\": the value (hidden) is empty, but the option is required");
	struct duct_opt_value list = JSON("dsn", "[\"hunter2\"]");
	assert_int_equal(duct_opts_load(&c, sizeof c, opts, &list, 1, "source \"x\"", &err), -DUCT_CONFIG);
	assert_null(strstr(err.message, "hunter2"));
}

static void texts_round_trip(void **state)
{
	(void)state;
	static const char *const durations[] = {"0", "1ms", "999ms", "1s", "90s", "61m", "1h", "36h", "7d"};
	static const char *const sizes[] = {"0", "1B", "1000B", "1KiB", "64KB", "1MB", "128MiB", "3GiB", "2TiB"};
	int64_t v;
	for (size_t i = 0; i < DUCT_LEN(durations); i++) {
		AUTO_BUF struct duct_buf to = {0};
		assert_true(duct_parse_duration_ms(durations[i], &v));
		duct_put_duration(&to, v);
		assert_string_equal(to.data, durations[i]);
	}
	for (size_t i = 0; i < DUCT_LEN(sizes); i++) {
		AUTO_BUF struct duct_buf to = {0};
		int64_t again;
		assert_true(duct_parse_size_bytes(sizes[i], &v));
		duct_put_size(&to, v);
		assert_true(duct_parse_size_bytes(to.data, &again));
		assert_true(v == again);
	}
	static const char *const bad_durations[] = {
		"", "1", "s", "1 s", "-1s", "1s1m", "1s1s", "1.5s", "1us", "+1s", "1ss", "00", "9223372036854775807s", "1m "};
	for (size_t i = 0; i < DUCT_LEN(bad_durations); i++)
		assert_false(duct_parse_duration_ms(bad_durations[i], &v));
	static const char *const bad_sizes[] = {
		"", "MiB", "1  MiB", "-1", "1.5MiB", "1 ", "1XB", "9223372036854775808", "9007199254740992KiB"};
	for (size_t i = 0; i < DUCT_LEN(bad_sizes); i++)
		assert_false(duct_parse_size_bytes(bad_sizes[i], &v));
	static const char *const bad_ints[] = {
		"", "-", "+", "--1", "1 ", " 1", "0x10", "9223372036854775808", "-9223372036854775809"};
	for (size_t i = 0; i < DUCT_LEN(bad_ints); i++)
		assert_false(duct_parse_int(bad_ints[i], &v));
	assert_true(duct_parse_int("9223372036854775807", &v) && v == INT64_MAX);
	assert_true(duct_parse_size_bytes("64KB", &v) && v == 64000);
}

static void finds_the_nearest(void **state)
{
	(void)state;
	static const char *const names[] = {"publication", "publication_tables", "slot", "run", NULL};
	assert_string_equal(duct_nearest("publicaton", names), "publication");
	assert_string_equal(duct_nearest("publicationtables", names), "publication_tables");
	assert_string_equal(duct_nearest("SLOT", names), "slot");
	assert_string_equal(duct_nearest("slto", names), "slot");
	assert_string_equal(duct_nearest("rnu", names), "run");
	assert_null(duct_nearest("nearest", names));
	assert_null(duct_nearest("xlxt", names));
	assert_null(duct_nearest("", names));
	char huge[200];
	memset(huge, 'a', sizeof huge - 1);
	huge[sizeof huge - 1] = 0;
	assert_null(duct_nearest(huge, names));
}

static void describes(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf md = {0}, text = {0}, json = {0};
	duct_opts_markdown(&md, opts);
	static const char *const rows[] = {
		"| `dsn` | text | *required* | connection string; secret: never shown |\n",
		"| `create_slot` | bool | `true` | create it \\| when missing |\n",
		"| `batch_size`, also `records` | integer: 1..1000000 | `100` | records in a batch |\n",
		"| `wait` | duration: 0..1h | `1s` | longest wait |\n",
		"| `mode` | choice: `add`, `sync` or `drop` | `add` | what to do |\n",
		"| `tables` | list | | which tables |\n",
		"\n### `dsn`\n\nKeyword=value or URI.\n",
	};
	for (size_t i = 0; i < DUCT_LEN(rows); i++)
		assert_non_null(strstr(md.data, rows[i]));
	assert_null(strstr(md.data, "free_number"));
	duct_opts_text(&text, opts);
	assert_non_null(strstr(text.data,
			       "  batch_size (integer, default 100, 1..1000000, also records)\n"
			       "      records in a batch\n"));
	assert_null(strstr(text.data, "free_number"));
	duct_opts_json(&json, opts);
	json_t *array = json_loads(json.data, JSON_REJECT_DUPLICATES, NULL);
	assert_int_equal(json_array_size(array), DUCT_LEN(opts) - 2); /* neither the hidden one nor the end */
	json_t *size = json_array_get(array, 3), *alias = json_array_get(array, 4);
	assert_string_equal(json_string_value(json_object_get(size, "name")), "batch_size");
	assert_int_equal(json_integer_value(json_object_get(size, "max")), 1000000);
	assert_string_equal(json_string_value(json_object_get(alias, "alias_of")), "batch_size");
	json_decref(array);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_every_type),
		cmocka_unit_test(defaults_and_lists),
		cmocka_unit_test(refuses_with_the_whole_sentence),
		cmocka_unit_test(refuses_twice_missing_empty),
		cmocka_unit_test(texts_round_trip),
		cmocka_unit_test(finds_the_nearest),
		cmocka_unit_test(describes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
