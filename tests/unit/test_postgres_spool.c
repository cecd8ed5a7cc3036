/* The spool of streamed transactions: order, aborts, the file beyond the memory limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "source/postgres/spool.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/duct-test-spool-XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void put(struct postgres_spool *s, uint32_t xid, uint32_t subxid, const char *text)
{
	struct duct_error err;
	assert_int_equal(postgres_spool_append(s, xid, subxid, text[0] == 'R', text, strlen(text), &err), 0);
}

/* All messages of a transaction, with blanks between; drops it. */
static char *take(struct postgres_spool *s, uint32_t xid)
{
	static struct duct_buf out;
	struct postgres_replay r;
	struct duct_error err;
	const char *m;
	size_t n;
	int rc;
	duct_buf_done(&out);
	duct_buf_puts(&out, "");
	postgres_replay_begin(&r, s, xid);
	while ((rc = postgres_replay_next(&r, &m, &n, &err)) == 1) {
		postgres_replay_take_back(&r); /* comes again, once */
		assert_int_equal(postgres_replay_next(&r, &m, &n, &err), 1);
		duct_buf_puts(&out, out.len ? " " : "");
		duct_buf_append(&out, m, n);
	}
	assert_int_equal(rc, 0);
	postgres_replay_done(&r);
	postgres_spool_drop(s, xid);
	return out.data;
}

/* A message that is more than may be in memory goes to the file at once, behind what came before it. */
static void test_messages_beyond_the_memory(void **state)
{
	(void)state;
	struct postgres_spool *s = postgres_spool_new(40, dir);
	put(s, 10, 10, "I1");
	put(s, 10, 11, "I-a-message-that-is-longer-than-the-memory-is-allowed-to-be");
	assert_int_equal(postgres_spool_memory(s), 0);
	put(s, 10, 10, "I2");
	put(s, 10, 12, "I-another-message-that-is-longer-than-the-memory-may-be");
	put(s, 10, 10, "I3");
	postgres_spool_abort(s, 10, 12);
	assert_string_equal(take(s, 10), "I1 I-a-message-that-is-longer-than-the-memory-is-allowed-to-be I2 I3");
	assert_int_equal(postgres_spool_memory(s), 0);
	assert_int_equal(postgres_spool_disk(s), 0);
	postgres_spool_free(s);
}

static void test_order_and_aborts(void **state)
{
	(void)state;
	struct postgres_spool *s = postgres_spool_new(1 << 20, dir);
	postgres_spool_start(s, 10, true);
	put(s, 10, 10, "Ra");
	put(s, 10, 10, "I1");
	postgres_spool_start(s, 20, true);
	put(s, 20, 20, "I9");
	postgres_spool_start(s, 10, false);
	put(s, 10, 11, "I2");
	put(s, 10, 12, "Rb");
	put(s, 10, 12, "I3");
	put(s, 10, 13, "I4");
	put(s, 10, 11, "I5");
	postgres_spool_abort(s, 10, 12);
	postgres_spool_abort(s, 10, 11);
	postgres_spool_abort(s, 77, 78); /* never seen */
	put(s, 10, 10, "I6");
	assert_string_equal(take(s, 10), "Ra I1 Rb I4 I6"); /* relations stay */
	assert_string_equal(take(s, 20), "I9");
	assert_string_equal(take(s, 20), "");
	put(s, 30, 30, "I1");
	postgres_spool_abort(s, 30, 30);
	assert_int_equal(postgres_spool_open_transactions(s), 0);
	assert_int_equal(postgres_spool_memory(s), 0);
	put(s, 40, 40, "old");
	postgres_spool_start(s, 40, true); /* sent again from the start */
	put(s, 40, 40, "new");
	assert_string_equal(take(s, 40), "new");
	postgres_spool_free(s);
}

static int entries(void)
{
	DIR *d = opendir(dir);
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_file(void **state)
{
	(void)state;
	enum { N = 20000 };
	struct postgres_spool *s = postgres_spool_new(4096, dir);
	struct duct_error err;
	char *wide = malloc(700000);
	memset(wide, 'w', 700000);
	for (uint32_t i = 0; i < N; i++) {
		char text[32];
		snprintf(text, sizeof text, "I%u", i);
		put(s, 5, i % 7 == 3 ? 1000 + i : 5, text);
		if (i % 7 == 3 && i % 2)
			postgres_spool_abort(s, 5, 1000 + i);
		if (i % 50 == 0)
			put(s, 6, 6, "x");
		if (i == N / 2) /* wider than the window of the file */
			assert_int_equal(postgres_spool_append(s, 5, 5, false, wide, 700000, &err), 0);
	}
	assert_true(postgres_spool_disk(s) > 700000);
	assert_true(postgres_spool_memory(s) <= 4096);
	assert_int_equal(entries(), 0); /* the files have no name */
	struct postgres_replay r;
	const char *m;
	size_t n;
	postgres_replay_begin(&r, s, 5);
	for (uint32_t i = 0; i < N; i++) {
		char text[32];
		if (i % 7 != 3 || i % 2 == 0) {
			snprintf(text, sizeof text, "I%u", i);
			assert_int_equal(postgres_replay_next(&r, &m, &n, &err), 1);
			assert_int_equal(n, strlen(text));
			assert_memory_equal(m, text, n);
		}
		if (i == N / 2) {
			assert_int_equal(postgres_replay_next(&r, &m, &n, &err), 1);
			assert_int_equal(n, 700000);
			assert_memory_equal(m, wide, n);
		}
	}
	assert_int_equal(postgres_replay_next(&r, &m, &n, &err), 0);
	postgres_replay_done(&r);
	postgres_spool_reset(s);
	assert_int_equal(postgres_spool_disk(s), 0);
	assert_int_equal(postgres_spool_memory(s), 0);
	postgres_spool_free(s);
	free(wide);
}

static void test_no_folder(void **state)
{
	(void)state;
	struct postgres_spool *s = postgres_spool_new(4, "/nowhere/at/all");
	struct duct_error err;
	assert_int_equal(postgres_spool_append(s, 1, 1, false, "hello", 5, &err), -DUCT_RETRY);
	assert_non_null(strstr(err.message, "spool_dir"));
	postgres_spool_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages_beyond_the_memory),
		cmocka_unit_test(test_order_and_aborts),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_no_folder),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
