/* src/ingest without a server and without a lake: JSON, paths, placeholders, Link headers, the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ingest/ingest.h"
#include "ingest/keys.h"
#include "ingest/shape.h"

static struct json_doc parsed(const char *text)
{
	struct json_doc doc = {0};
	struct duct_error err;
	if (json_parse(&doc, text, strlen(text), &err))
		fail_msg("%s: %s", text, err.message);
	return doc;
}

static void json_is_read(void **state)
{
	(void)state;
	struct json_doc doc = parsed(" {\"a\": [1, -2.5e3, true, null, \"x\\u20ac\\ud83d\\ude00\\n\"], \"b\": {}} ");
	assert_int_equal(doc.nodes[0].end, doc.n);
	const struct json_node *text = json_find(&doc, doc.nodes, "a[4]", NULL);
	AUTO_BUF struct duct_buf plain = {0};
	json_unescape(&doc, text, &plain);
	assert_string_equal(plain.data, "x\u20ac\U0001f600\n");
	assert_int_equal(json_find(&doc, doc.nodes, "$.a[0]", NULL)->kind, JSON_KIND_INTEGER);
	assert_int_equal(json_find(&doc, doc.nodes, "a[1]", NULL)->kind, JSON_KIND_NUMBER);
	assert_int_equal(json_find(&doc, doc.nodes, "\"b\"", NULL)->kind, JSON_KIND_OBJECT);
	assert_ptr_equal(json_find(&doc, doc.nodes, "a[-1]", NULL), text);
	assert_null(json_find(&doc, doc.nodes, "b[-1]", NULL));
	assert_null(json_find(&doc, doc.nodes, "a[5]", NULL));
	assert_null(json_find(&doc, doc.nodes, "b.c", NULL));
	json_done(&doc);
}

static void wrong_json_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {"",	     "{",	 "[1,]", "{\"a\"}", "{\"a\":1,}", "01",	       "1.",
					    "-",     "+1",	 "tru",	 "\"\t\"",  "\"\\x\"",	  "\"\\u12\"", "[1] 2",
					    "{a:1}", "\"\xff\"", "[}",	 "1e",	    NULL};
	for (int i = 0; wrong[i]; i++) {
		struct json_doc doc = {0};
		struct duct_error err;
		if (json_parse(&doc, wrong[i], strlen(wrong[i]), &err) != -DUCT_DATA)
			fail_msg("taken: %s", wrong[i]);
		json_done(&doc);
	}
	AUTO_BUF struct duct_buf deep = {0};
	for (int i = 0; i <= JSON_MOST_DEPTH; i++)
		duct_buf_putc(&deep, '[');
	struct json_doc doc = {0};
	struct duct_error err;
	assert_int_equal(json_parse(&doc, deep.data, deep.len, &err), -DUCT_DATA);
	json_done(&doc);
}

static void wrong_paths_are_refused(void **state)
{
	(void)state;
	struct duct_error err;
	static const char *const good[] = {"", "$", "a", "$.a.b[0].c", "[0]", "\"a.b\".c", NULL};
	static const char *const wrong[] = {"a..b", "a[", "a[x]", ".", "a.", "\"a", "a[1]b", NULL};
	for (int i = 0; good[i]; i++)
		assert_int_equal(json_path_check(good[i], &err), 0);
	for (int i = 0; wrong[i]; i++)
		assert_int_equal(json_path_check(wrong[i], &err), -DUCT_CONFIG);
}

static void expands(const char *text, const struct ingest_window *w, const char *into)
{
	AUTO_BUF struct duct_buf to = {0};
	struct duct_error err;
	int rc = ingest_expand(&to, text, w, &err);
	if (!into)
		assert_int_equal(rc, -DUCT_CONFIG);
	else
		assert_string_equal(to.data, into);
}

static void placeholders(void **state)
{
	(void)state;
	const struct ingest_window day = {.key = "2024-10-15",
					  .begin_us = INT64_C(1728950400000000),
					  .end_us = INT64_C(1729036800000000),
					  .cursor = "c1"},
				   none = {0};
	expands("{partition.start}..{partition.end}", &day, "2024-10-15T00:00:00.000Z..2024-10-16T00:00:00.000Z");
	expands("{partition.start:epoch}/{partition.end:epoch_ms}/{partition.start:date}/{partition.key}", &day,
		"1728950400/1729036800000/2024-10-15/2024-10-15");
	expands("a{cursor}b{other}{", &day, "ac1b{other}{");
	expands("{partition.middle}", &day, NULL);
	expands("{partition.start:hex}", &day, NULL);
	expands("{partition.start}", &none, NULL);
	expands("{cursor}", &none, NULL);
}

static void links(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"<http://x/2>; rel=\"next\"", "http://x/2"},
		{"<http://x/1>; rel=\"prev\", <http://x/3>; rel=next", "http://x/3"},
		{"<http://x/1>; title=\"a, b\"; rel=\"last next\"", "http://x/1"},
		{"<http://x/1>; rel=\"nextish\"", NULL},
		{"http://x/1; rel=next", NULL},
		{"<http://x/1", NULL},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_BUF struct duct_buf to = {0};
		bool found = ingest_link_next(cases[i][0], &to);
		assert_int_equal(found, cases[i][1] != NULL);
		if (found)
			assert_string_equal(to.data, cases[i][1]);
	}
}

static void references(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{"http://h:1/a/b?x=1", "http://h:1/c", "http://h:1/c"},
		{"http://h:1/a/b?x=1", "/c?y", "http://h:1/c?y"},
		{"http://h:1/a/b?x=1", "c", "http://h:1/a/c"},
		{"http://h:1/a/b?x=1", "?page=2", "http://h:1/a/b?page=2"},
		{"http://h:1", "c", "http://h:1/c"},
		{"http://h:1/a", "http://h:2/c", NULL},
		{"http://h:1/a", "http://h:1.evil/c", NULL},
		{"https://h/a", "http://h/c", NULL},
		{"http://h:1/a", "//evil/c", NULL},
		{"http://h/a", "http://h@evil/c", NULL},
		{"http://h/a", "ftp://h/c", NULL},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_BUF struct duct_buf to = {0};
		bool followed = ingest_follow(cases[i][0], cases[i][1], &to);
		if (followed != (cases[i][2] != NULL))
			fail_msg("%s %s", cases[i][0], cases[i][1]);
		if (followed)
			assert_string_equal(to.data, cases[i][2]);
	}
}

static void snake_case(void **state)
{
	(void)state;
	static const char *const cases[][2] = {{"dateString", "date_string"}, {"utcOffset", "utc_offset"}, {"_id", "_id"},
					       {"HTTPServer", "http_server"}, {"a-b c", "a_b_c"},	   {"x2Y", "x2_y"}};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_BUF struct duct_buf to = {0};
		ingest_snake_case(&to, cases[i][0], strlen(cases[i][0]));
		assert_string_equal(to.data, cases[i][1]);
	}
}

static void keys_are_kept(void **state)
{
	(void)state;
	struct ingest_keys keys = {0};
	char text[32];
	for (int64_t i = 0; i < 5000; i++) {
		snprintf(text, sizeof text, "key-%lld", (long long)i);
		assert_true(ingest_keys_put(&keys, text, strlen(text), i));
	}
	assert_false(ingest_keys_put(&keys, "key-7", 5, 70));
	assert_int_equal(*ingest_keys_get(&keys, "key-7", 5), 70);
	assert_int_equal(*ingest_keys_get(&keys, "key-4999", 8), 4999);
	assert_null(ingest_keys_get(&keys, "key-5000", 8));
	ingest_keys_done(&keys);
	assert_null(ingest_keys_get(&keys, "key-7", 5));
}

/* No wait is longer than 2 s, whatever the factor: what hung the system of the page. */
static void waits_have_a_ceiling(void **state)
{
	(void)state;
	const struct ingest_retry retry = {.count = 200, .wait_ms = 150, .backoff = 2.5};
	for (int64_t n = 1; n <= 200; n++)
		for (uint64_t random = 0; random < 3000; random += 599) {
			int64_t ms = ingest_pause_ms(&retry, n, random);
			assert_in_range(ms, 75, 2000);
		}
	assert_int_equal(ingest_pause_ms(&retry, 1, 0), 150);
	assert_int_equal(ingest_pause_ms(&retry, 2, 0), 375);
	assert_int_equal(ingest_pause_ms(&retry, 200, 0), 2000);
}

static const char *look_up(const char *name)
{
	return strcmp(name, "TOKEN") == 0 ? "t" : NULL;
}

static void the_file(void **state)
{
	(void)state;
	static const char text[] = "into: raw.t\nurl: http://h/x\nauth: {type: bearer, token: \"${TOKEN}\"}\n"
				   "retry: {ducklake_retry_count: 3}\n";
	struct ingest_spec spec;
	struct duct_error err;
	assert_int_equal(ingest_spec_parse(&spec, text, strlen(text), "f", NULL, &err), 0);
	assert_true(spec.later);
	ingest_spec_done(&spec);
	assert_int_equal(ingest_spec_parse(&spec, text, strlen(text), "f", look_up, &err), 0);
	assert_string_equal(spec.auth.token, "t");
	assert_string_equal(spec.schema, "raw");
	assert_int_equal(spec.retry.count, 3);
	assert_int_equal(spec.retry.wait_ms, 150);
	assert_true(spec.retry.backoff == 2.5);
	ingest_spec_done(&spec);
	static const char *const wrong[] = {"into: raw\nurl: http://h\n",
					    "into: raw.t\n",
					    "into: raw.t\nurl: x\nwirte: merge\n",
					    "into: raw.t\nurl: x\nauth: 1\n",
					    "into: raw.t\nurl: x\ncolumns: {a: strnig}\n",
					    "into: raw.t\nurl: x\nretry: {ducklake_retry_backoff: x}\n",
					    "[]",
					    NULL};
	for (int i = 0; wrong[i]; i++) {
		assert_int_equal(ingest_spec_parse(&spec, wrong[i], strlen(wrong[i]), "f", look_up, &err), -DUCT_CONFIG);
		ingest_spec_done(&spec);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_is_read),
		cmocka_unit_test(wrong_json_is_refused),
		cmocka_unit_test(wrong_paths_are_refused),
		cmocka_unit_test(placeholders),
		cmocka_unit_test(links),
		cmocka_unit_test(references),
		cmocka_unit_test(snake_case),
		cmocka_unit_test(keys_are_kept),
		cmocka_unit_test(waits_have_a_ceiling),
		cmocka_unit_test(the_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
