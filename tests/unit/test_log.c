/* base/log.h: lines of both forms, compared as a whole behind the time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

/* A pipe holds what a test writes (64 KiB), and takes a short write as a whole. */
static int saved_stderr, captured;

static void begin_capture(void)
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	captured = ends[0];
}

static char *end_capture(void)
{
	char *text = duct_xcalloc(1, 65537);
	ssize_t n;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	for (size_t at = 0; (n = read(captured, text + at, 65536 - at)) > 0;)
		at += (size_t)n;
	close(captured);
	return text;
}

enum { TIME_LEN = sizeof "2025-11-21T01:42:00.123Z" - 1 };

static const struct duct_log root = {0};
static const struct duct_log flow = {&root, "flow", "shop"};
static const struct duct_log part = {&flow, "destination", "the lake"};

static void writes_text(void **state)
{
	(void)state;
	duct_log_setup(DUCT_INFO, false);
	begin_capture();
	errno = ENOENT;
	log_debug(&part, "not written");
	log_info(&part, "batch committed", LOG_U64("rows", UINT64_MAX), LOG_I64("left", -3), LOG_LSN("lsn", 0x16B374D848),
		 LOG_F64("s", 0.25), LOG_STR("why", "a \"b\"\nc"), LOG_STR("none", NULL), LOG_STR("empty", ""));
	log_warn(NULL, "two\nlines");
	assert_int_equal(errno, ENOENT);
	AUTO_FREE char *text = end_capture();
	assert_int_equal(text[10], 'T');
	assert_int_equal(text[TIME_LEN - 1], 'Z');
	char *second = strchr(text, '\n') + 1;
	second[-1] = 0;
	assert_string_equal(text + TIME_LEN,
			    " info  batch committed flow=shop destination=\"the lake\" rows=18446744073709551615 left=-3 "
			    "lsn=16/B374D848 s=0.25 why=\"a \\\"b\\\"\\nc\" none=null empty=\"\"");
	assert_string_equal(second + TIME_LEN, " warn  \"two\\nlines\"\n");
}

static void writes_json(void **state)
{
	(void)state;
	duct_log_setup(DUCT_DEBUG, true);
	begin_capture();
	log_debug(&flow, "say \"hi\"", LOG_STR("bad", "\xff\x01"), LOG_LSN("lsn", 1), LOG_F64("nan", NAN));
	AUTO_FREE char *text = end_capture();
	assert_int_equal(strchr(text, '\n') - text, strlen(text) - 1);
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(line);
	assert_string_equal(json_string_value(json_object_get(line, "level")), "debug");
	assert_string_equal(json_string_value(json_object_get(line, "event")), "say \"hi\"");
	assert_string_equal(json_string_value(json_object_get(line, "flow")), "shop");
	assert_string_equal(json_string_value(json_object_get(line, "bad")), "\xef\xbf\xbd\x01");
	assert_string_equal(json_string_value(json_object_get(line, "lsn")), "0/1");
	assert_true(json_is_null(json_object_get(line, "nan")));
	json_decref(line);
	duct_log_setup(DUCT_INFO, false);
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < 200; i++)
		log_info(&flow, "line", LOG_STR("who", arg), LOG_I64("n", i));
	return NULL;
}

static void lines_stay_whole(void **state)
{
	(void)state;
	static char names[3][2] = {"a", "b", "c"};
	pthread_t threads[3];
	begin_capture();
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, write_lines, names[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	AUTO_FREE char *text = end_capture();
	int next[3] = {0};
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char who;
		int n, used = 0;
		assert_int_equal(sscanf(line + TIME_LEN, " info line flow=shop who=%c n=%d%n", &who, &n, &used), 2);
		assert_int_equal(line[TIME_LEN + used], 0);
		assert_int_equal(n, next[who - 'a']++);
	}
	assert_int_equal(next[0] + next[1] + next[2], 600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_text),
		cmocka_unit_test(writes_json),
		cmocka_unit_test(lines_stay_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
