/* What a running flow shows, by the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "flow/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct flow_counters counters;
static char text[65536];

static int open_output(void)
{
	int fd = memfd_create("progress", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static const char *take(int fd)
{
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	assert_true(n >= 0);
	text[n] = 0;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return text;
}

static struct flow_copy_view *two_tables(void)
{
	struct flow_copy_view *view = flow_copy_view_new(2);
	view->tables[0].name = duct_xstrdup("public.a");
	view->tables[0].estimated_rows = 1000;
	view->tables[0].parts_left = 1;
	view->tables[1].name = duct_xstrdup("public.\"b\"");
	view->tables[1].estimated_rows = 3000;
	view->tables[1].parts_left = 2;
	return view;
}

static void copied(struct flow_copy_view *view, int table, uint64_t rows)
{
	flow_count(&view->tables[table].rows, rows);
	flow_count(&view->tables[table].bytes, rows * 10);
	flow_count(&counters.copied_rows, rows);
	flow_count(&counters.copied_bytes, rows * 10);
}

static void streamed(uint64_t received, uint64_t durable, uint64_t rows, int64_t snapshot)
{
	flow_position_store(&counters.received, &(struct duct_pos){received, 5000000});
	flow_position_store(&counters.durable, &(struct duct_pos){durable, 3500000});
	flow_count(&counters.committed_rows, rows);
	flow_count(&counters.commits, 1);
	atomic_store(&counters.snapshot_id, snapshot);
}

static void test_numbers(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf b = {0};
	flow_format_count(&b, 0);
	duct_buf_putc(&b, '|');
	flow_format_count(&b, 999);
	duct_buf_putc(&b, '|');
	flow_format_count(&b, 1234567);
	duct_buf_putc(&b, '|');
	flow_format_bytes(&b, 999);
	duct_buf_putc(&b, '|');
	flow_format_bytes(&b, 1500);
	duct_buf_putc(&b, '|');
	flow_format_bytes(&b, 999950);
	duct_buf_putc(&b, '|');
	flow_format_duration(&b, 1540000);
	duct_buf_putc(&b, '|');
	flow_format_duration(&b, 59400000);
	duct_buf_putc(&b, '|');
	flow_format_duration(&b, 125000000);
	duct_buf_putc(&b, '|');
	flow_format_duration(&b, 7380000000);
	assert_string_equal(b.data, "0|999|1,234,567|999 B|1.5 kB|1.0 MB|1.5s|59s|2m05s|2h03m");
}

static void test_bar(void **state)
{
	(void)state;
	AUTO_BUF struct duct_buf b = {0};
	flow_format_bar(&b, 0, 4);
	flow_format_bar(&b, 0.5, 4);
	flow_format_bar(&b, 0.999, 4);
	flow_format_bar(&b, 1, 4);
	flow_format_bar(&b, 7, 4);
	assert_string_equal(b.data, "[....]   0%[##..]  50%[###.]  99%[####] 100%[####] 100%");
}

static void test_json(void **state)
{
	(void)state;
	int fd = open_output();
	flow_counters_init(&counters);
	struct flow_progress *p = flow_progress_new("sh\"op", FLOW_DISPLAY_JSON, fd, &counters);
	struct flow_copy_view *view = two_tables();
	flow_progress_set_copy(p, flow_copy_view_ref(view));
	atomic_store(&counters.phase, FLOW_COPYING);
	copied(view, 0, 400);
	flow_progress_tick(p, 1000000);
	assert_string_equal(take(fd),
			    "{\"event\":\"copy\",\"flow\":\"sh\\\"op\",\"table\":\"public.a\",\"rows\":400,"
			    "\"bytes\":4000,\"estimated_rows\":1000,\"done\":false}\n");
	copied(view, 0, 600);
	atomic_store(&view->tables[0].parts_left, 0);
	flow_progress_tick(p, 1300000);
	assert_string_equal(take(fd), ""); /* too early */
	flow_progress_tick(p, 2100000);
	assert_string_equal(take(fd),
			    "{\"event\":\"copy\",\"flow\":\"sh\\\"op\",\"table\":\"public.a\",\"rows\":1000,"
			    "\"bytes\":10000,\"estimated_rows\":1000,\"done\":true}\n");
	copied(view, 1, 5);
	atomic_store(&view->tables[1].parts_left, 0);
	atomic_store(&counters.phase, FLOW_STREAMING);
	flow_progress_tick(p, 2200000); /* what was left is written when the copy ends */
	assert_string_equal(take(fd),
			    "{\"event\":\"copy\",\"flow\":\"sh\\\"op\",\"table\":\"public.\\\"b\\\"\","
			    "\"rows\":5,\"bytes\":50,\"estimated_rows\":3000,\"done\":true}\n");
	streamed(0x30, 0x20, 7, 3);
	streamed(0x30, 0x28, 1, 4);
	flow_progress_tick(p, 3000000);
	assert_string_equal(
		take(fd),
		"{\"event\":\"commit\",\"flow\":\"sh\\\"op\",\"lsn\":\"0/28\",\"lag_bytes\":8,\"lag_seconds\":"
		"1.500,\"snapshot_id\":4,\"rows\":8,\"copied_rows\":1005,\"dead_rows\":0,\"commits\":2,\"retries\":0}\n");
	flow_progress_tick(p, 4000000);
	assert_string_equal(take(fd), "");
	streamed(0x30, 0x30, 2, 5);
	flow_progress_end(p, 4100000, true, "done");
	take(fd);
	assert_non_null(strstr(text,
			       "{\"event\":\"commit\",\"flow\":\"sh\\\"op\",\"lsn\":\"0/30\",\"lag_bytes\":0,"
			       "\"lag_seconds\":0.000,\"snapshot_id\":5,\"rows\":10,"));
	assert_non_null(strstr(text, "\n{\"event\":\"caught-up\",\"flow\":"));
	assert_non_null(strstr(text, "\n{\"event\":\"stopped\",\"flow\":\"sh\\\"op\",\"result\":\"done\","));
	flow_progress_free(p);
	flow_copy_view_unref(view);
	close(fd);
}

static void test_lines(void **state)
{
	(void)state;
	int fd = open_output();
	flow_counters_init(&counters);
	struct flow_progress *p = flow_progress_new("shop", FLOW_DISPLAY_LINES, fd, &counters);
	struct flow_copy_view *view = two_tables();
	flow_progress_set_copy(p, flow_copy_view_ref(view));
	atomic_store(&counters.phase, FLOW_COPYING);
	flow_progress_tick(p, 1000000);
	take(fd);
	copied(view, 0, 500);
	copied(view, 1, 500);
	assert_int_equal(flow_progress_tick(p, 2000000), 4000);
	assert_string_equal(take(fd), "");
	flow_progress_tick(p, 6000000);
	assert_string_equal(take(fd), "shop: copy: 0 of 2 tables, 1,000 of about 4,000 rows, 200 rows/s, 2.0 kB/s, 15s left\n");
	copied(view, 0, 500);
	copied(view, 1, 2600); /* more than estimated */
	atomic_store(&view->tables[0].parts_left, 0);
	atomic_store(&view->tables[1].parts_left, 0);
	atomic_store(&counters.phase, FLOW_STREAMING);
	flow_progress_tick(p, 11000000);
	assert_non_null(strstr(take(fd), "shop: copy: 2 of 2 tables, 4,100 rows, "));
	assert_non_null(strstr(text, "done in 10s\n"));
	flow_progress_tick(p, 16000000);
	assert_string_equal(take(fd), ""); /* idle: silent */
	streamed(0x3000, 0x2000, 1000, 42);
	flow_progress_tick(p, 21000000);
	assert_string_equal(take(fd),
			    "shop: streaming, 200 rows/s, 1,000 rows, behind by 4.1 kB and 1.5 s, "
			    "durable 0/2000, snapshot 42\n");
	flow_progress_end(p, 22000000, false, "cancelled");
	assert_string_equal(take(fd), "shop: stopped (cancelled), 1,000 rows in 1 commits, durable 0/2000\n");
	flow_progress_free(p);
	flow_copy_view_unref(view);
	close(fd);
}

/* What waits behind a transaction that comes in parts is told before it has ended. */
static void test_behind_a_large_transaction(void **state)
{
	(void)state;
	int fd = open_output();
	flow_counters_init(&counters);
	struct flow_progress *lines = flow_progress_new("shop", FLOW_DISPLAY_LINES, fd, &counters);
	atomic_store(&counters.phase, FLOW_STREAMING);
	streamed(0x3000, 0x3000, 10, 42);
	flow_progress_tick(lines, 1000000);
	assert_null(strstr(take(fd), "xid"));
	atomic_store(&counters.large.xid, 745);
	atomic_store(&counters.large.rows, 1234567);
	atomic_store(&counters.large.bytes, 99);
	atomic_store(&counters.large.commit_us, duct_wall_us() - 12200000);
	flow_progress_tick(lines, 6000000);
	assert_non_null(strstr(take(fd),
			       " and 12.2 s, durable 0/3000, snapshot 42, behind a transaction of 1,234,567 rows so far "
			       "(xid 745): 12 s\n"));
	flow_progress_free(lines);
	struct flow_progress *json = flow_progress_new("shop", FLOW_DISPLAY_JSON, fd, &counters);
	flow_progress_tick(json, 1000000);
	assert_non_null(strstr(take(fd),
			       "{\"event\":\"large-transaction\",\"flow\":\"shop\",\"xid\":745,\"rows\":1234567,"
			       "\"bytes\":99,\"behind_seconds\":12."));
	flow_progress_tick(json, 1300000);
	assert_null(strstr(take(fd), "large")); /* too early */
	flow_large_reset(&counters.large);
	flow_progress_tick(json, 3000000);
	assert_null(strstr(take(fd), "large"));
	flow_progress_free(json);
	close(fd);
}

static void test_terminal(void **state)
{
	(void)state;
	int fd = open_output();
	flow_counters_init(&counters);
	struct flow_progress *p = flow_progress_new("shop", FLOW_DISPLAY_TERMINAL, fd, &counters);
	struct flow_copy_view *view = two_tables();
	atomic_store(&counters.phase, FLOW_COPYING);
	flow_progress_set_copy(p, view);
	copied(view, 0, 500);
	copied(view, 1, 9000); /* an estimate that was passed is no full bar */
	flow_progress_tick(p, 1000000);
	const char *shown = take(fd);
	assert_ptr_equal(strstr(shown, "[############............]  50% public.a "), shown);
	assert_non_null(strstr(shown, " 500 rows\033[K\n[#######################.]  99% public.\"b\""));
	flow_progress_tick(p, 1200000);
	shown = take(fd);
	assert_ptr_equal(strstr(shown, "\033[3A\r\033[J"), shown); /* drawn over */
	flow_progress_end(p, 1300000, false, "cancelled");
	flow_progress_free(p);
	close(fd);
}

static void test_position_is_whole(void **state)
{
	(void)state;
	struct flow_position at = {0};
	flow_position_store(&at, &(struct duct_pos){7, -9});
	struct duct_pos got = flow_position_load(&at);
	assert_int_equal(got.lsn, 7);
	assert_int_equal(got.commit_us, -9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_bar),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_behind_a_large_transaction),
		cmocka_unit_test(test_position_is_whole),
	};
	return cmocka_run_group_tests_name("flow_progress", tests, NULL, NULL);
}
