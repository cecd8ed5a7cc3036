/* The engine between a scripted source and a destination that keeps what it is given. */
#include "flow_fakes.h"

/* The tests. */

static int begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	pthread_mutex_init(&w.mutex, NULL);
	pthread_cond_init(&w.changed, NULL);
	w.stop_fd = eventfd(0, EFD_CLOEXEC);
	w.abort_fd = eventfd(0, EFD_CLOEXEC);
	w.state = DUCT_STATE_STREAMING;
	w.workers = 3;
	return 0;
}

static int end(void **state)
{
	(void)state;
	close(w.stop_fd);
	close(w.abort_fd);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.mutex);
	return 0;
}

static struct duct_error last_error;

static int run_with(const struct step *steps, struct flow_options options)
{
	static const struct duct_log log = {0};
	const struct flow_destination to = {.name = "to", .ops = &fake_destination};
	const struct flow_spec spec = {.name = "f", .source = &fake_source, .destinations = &to, .ndestinations = 1};
	const struct duct_ctx ctx = {.log = &log, .flow = "f", .stop = &w.stop, .stop_fd = w.stop_fd};
	w.steps = steps;
	options.output = FLOW_OUTPUT_NONE;
	options.abort = &w.abort;
	options.abort_fd = w.abort_fd;
	memset(&last_error, 0, sizeof last_error);
	int rc = flow_run(&spec, &options, &ctx, &last_error);
	assert_false(w.durable_ahead);
	assert_false(w.torn_commit);
	assert_null(strstr(w.log, "two-threads"));
	assert_null(strstr(w.log, "interrupted")); /* clean-up calls are not */
	if (rc)
		assert_int_equal(-rc, last_error.class);
	return rc;
}

static int run_until(const struct step *steps, uint64_t head)
{
	w.head = head;
	return run_with(steps, (struct flow_options){.until_caught_up = true});
}

static void expect_rows_(int n, const int64_t *rows, const char *file, int line)
{
	_assert_int_equal((uint64_t)w.nrows, (uint64_t)n, file, line);
	for (int i = 0; i < n; i++)
		_assert_int_equal((uint64_t)w.rows[i], (uint64_t)rows[i], file, line);
}
#define expect_rows(...) \
	expect_rows_((int)DUCT_LEN(((const int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__}, __FILE__, __LINE__)

static void sort_rows(void)
{
	for (int i = 1; i < w.nrows; i++)
		for (int j = i; j && w.rows[j] < w.rows[j - 1]; j--) {
			int64_t t = w.rows[j];
			w.rows[j] = w.rows[j - 1];
			w.rows[j - 1] = t;
		}
}

static void test_order_and_position(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TXN, 30, 0}, {ALIVE, 40, 0}, {0}};
	assert_int_equal(run_until(steps, 40), 0);
	expect_rows(10, 20, 30);
	assert_int_equal(w.pos.lsn, 40);
	assert_int_equal(w.closed_with, 40);
	assert_int_equal(w.opens, 1);
}

static void test_caught_up_does_not_wait_for_the_pace(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {ALIVE, 40, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	int64_t start = duct_mono_us();
	assert_int_equal(run_until(steps, 40), 0);
	assert_true(duct_mono_us() - start < 5000000);
	assert_string_equal(w.log, "commit:40 ");
}

static void test_caught_up_at_once(void **state)
{
	(void)state;
	const struct step steps[] = {{0}};
	w.pos.lsn = 50;
	assert_int_equal(run_until(steps, 50), 0);
	assert_int_equal(w.commits, 0);
	assert_int_equal(w.opened_from[0], 50);
}

static void test_pace_groups(void **state)
{
	(void)state;
	/* The stop comes when 10 and 20 wait in one group: it is committed as a whole, before its time. */
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {STOP, 0, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_string_equal(w.log, "commit:20 ");
	expect_rows(10, 20);
}

static void test_partial_waits_for_its_end(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {PIECE, 0, 21}, {PIECE, 0, 22}, {LAST, 30, 23}, {TXN, 40, 0}, {0}};
	assert_int_equal(run_until(steps, 40), 0);
	expect_rows(10, 21, 22, 23, 40);
	assert_string_equal(w.log, "commit:10 commit:30 commit:40 ");
}

static void test_whole_is_committed_before_a_partial(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {PIECE, 0, 21}, {STOP, 0, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	expect_rows(10);
	assert_string_equal(w.log, "commit:10 abort ");
	assert_int_equal(w.closed_with, 10);
}

static void test_retry_goes_on_from_resume(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {ERROR, 15, DUCT_RETRY}, {TXN, 20, 0}, {0}};
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_int_equal(w.opened_from[1], 10);
}

static void test_commit_that_fails(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {0}};
	w.fail_commit = 1;
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_int_equal(w.opened_from[1], 0);
	assert_non_null(strstr(w.log, "abort"));
}

static void test_commit_whose_reply_is_lost(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {0}};
	w.fail_commit = 1;
	w.fail_after = true;
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_true(w.opened_from[1] >= 10);
}

static void test_only_retry_is_retried(void **state)
{
	(void)state;
	for (int class = DUCT_FATAL; class <= DUCT_DATA; class ++) {
		const struct step steps[] = {{TXN, 10, 0}, {ERRORS, 15, class}, {0}};
		end(NULL);
		begin(NULL);
		assert_int_equal(run_until(steps, 20), -class);
		expect_rows(10); /* what came before it is kept */
		assert_int_equal(w.opens, 1);
	}
}

static void test_gives_up(void **state)
{
	(void)state;
	const struct step steps[] = {{ERRORS, 15, DUCT_RETRY}, {0}};
	w.head = 20;
	assert_int_equal(run_with(steps, (struct flow_options){.until_caught_up = true, .give_up_ms = 300}), -DUCT_RETRY);
	assert_true(w.opens >= 2);
	assert_non_null(strstr(last_error.message, "given up after"));
}

static void test_stop_ends_the_back_off(void **state)
{
	(void)state;
	const struct step steps[] = {{STOP, 15, 0}, {ERRORS, 16, DUCT_RETRY}, {0}};
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_int_equal(w.opens, 1);
}

static void test_queue_is_bounded_and_ticks(void **state)
{
	(void)state;
	struct step steps[41] = {{0}};
	for (int i = 0; i < 40; i++)
		steps[i] = (struct step){TXN, (uint64_t)i + 1, 0};
	w.write_waits_for_ticks = 2;
	w.head = 40;
	assert_int_equal(run_with(steps, (struct flow_options){.until_caught_up = true, .max_memory_bytes = 64 << 10}), 0);
	assert_int_equal(w.nrows, 40);
	for (int i = 0; i < 40; i++)
		assert_int_equal(w.rows[i], i + 1);
	assert_true(w.ticks >= 2);
	/* 16 KiB of queue at some 1 to 5 KiB each, one being written, one in the reader's hand. */
	assert_in_range(w.reads_at_write, 3, 30);
}

static void test_stop_drains(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TXN, 30, 0}, {STOP, 0, 0}, {TXN, 40, 0}, {0}};
	w.write_waits_for_stop = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_true(w.nrows >= 3); /* 40 may have been read before the signal was passed on */
	assert_int_equal(w.closed_with, w.rows[w.nrows - 1]);
	assert_int_equal(w.rows[0], 10);
	assert_int_equal(w.rows[2], 30);
}

/* Nothing is lost by it: what was not durable comes again. */
static void test_stop_at_a_commit_that_fails(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {STOP, 0, 0}, {0}};
	w.write_waits_for_stop = true;
	w.fail_commit = 1;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_int_equal(w.commits, 1);
	assert_int_equal(w.nrows, 0);
	assert_int_equal(w.closed_with, 0);
	atomic_store(&w.stop, false);
	const struct step again[] = {{TXN, 10, 0}, {0}};
	assert_int_equal(run_until(again, 10), 0);
	expect_rows(10);
}

static void test_stop_before_anything(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 2;
	raise_signal(&w.stop, w.stop_fd);
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_int_equal(w.opens, 0);
	assert_int_equal(run_until(steps, 10), -DUCT_CANCELLED);
	assert_int_equal(w.opens, 0);
}

static void test_stop_before_caught_up(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {STOP, 0, 0}, {0}};
	assert_int_equal(run_until(steps, 20), -DUCT_CANCELLED);
	expect_rows(10);
}

static void test_second_stop_aborts(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {ABORT, 0, 0}, {0}};
	w.write_waits_for_abort = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), -DUCT_CANCELLED);
	assert_int_equal(w.nrows, 0);
	assert_int_equal(w.commits, 0);
	assert_int_equal(w.closed_with, 0);
}

static void test_repeated_transaction_is_fatal(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 20, 0}, {TXN, 10, 0}, {0}};
	assert_int_equal(run_until(steps, 30), -DUCT_FATAL);
	expect_rows(20);
}

static void test_first_copy(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 3, 0}, {TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 7;
	/* The scripted source has no filter of its own after a copy: start behind it. */
	assert_int_equal(run_until(steps + 1, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot publish:1 done:1 commit:10 ");
	assert_int_equal(w.rows[7], 10);
	w.nrows = 7;
	sort_rows();
	expect_rows(100, 101, 102, 103, 104, 105, 106);
}

static void test_copy_only(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_COPYING;
	w.nparts = 2;
	w.copy_only = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_string_equal(w.log, "begin_copy snapshot publish:1 done:1 ");
	assert_int_equal(w.closed_with, 5);
}

static void test_copy_without_tables(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy commit:10 ");
}

static void test_copy_worker_fails_and_starts_over(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.fail_part = 103;
	w.fail_part_class = DUCT_RETRY;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 begin_copy snapshot publish:1 done:1 commit:10 ");
	sort_rows();
	expect_rows(10, 100, 101, 102, 103, 104);
}

static void test_copy_worker_fails_for_good(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.fail_part = 100;
	w.fail_part_class = DUCT_DATA;
	assert_int_equal(run_until(steps, 10), -DUCT_DATA);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 ");
	assert_string_equal(last_error.message, "copy of \"public.t\": part 100 is broken");
	assert_int_equal(w.nrows, 0);
}

static void test_publish_whose_reply_is_lost(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 1;
	w.fail_publish = 1;
	w.fail_after = true;
	assert_int_equal(run_until(steps, 10), 0);
	/* done:1: the source must keep its slot, the copy is there */
	assert_string_equal(w.log, "begin_copy snapshot publish:1 load_abort done:1 commit:10 ");
	expect_rows(100, 10);
}

static void test_publish_that_fails(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 1;
	w.fail_publish = 1;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 begin_copy snapshot publish:1 done:1 commit:10 ");
	expect_rows(100, 10);
}

static void test_stop_in_copy(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.stop_in_copy = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), -DUCT_CANCELLED);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 ");
	assert_int_equal(w.nrows, 0);
}

static void test_new_tables(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TABLES, 0, 0}, {TXN, 30, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_until(steps, 30), 0);
	assert_string_equal(w.log, "commit:20 snapshot publish:0 done:1 commit:30 ");
	assert_int_equal(w.pos.lsn, 30);
	sort_rows();
	expect_rows(10, 20, 30, 200, 201);
}

static void test_new_tables_inside_a_transaction(void **state)
{
	(void)state;
	const struct step steps[] = {{PIECE, 0, 11}, {TABLES, 0, 0}, {LAST, 30, 12}, {0}};
	assert_int_equal(run_until(steps, 30), -DUCT_FATAL);
	assert_int_equal(w.nrows, 0);
}

static void test_no_destination(void **state)
{
	(void)state;
	const struct flow_spec spec = {.name = "f", .source = &fake_source};
	struct flow_options options = {0};
	struct duct_ctx ctx = {0};
	assert_int_equal(flow_run(&spec, &options, &ctx, &last_error), -DUCT_CONFIG);
	assert_non_null(strstr(last_error.message, "has no destination"));
}

static void test_back_off(void **state)
{
	(void)state;
	struct duct_retry r;
	duct_retry_init(&r, 0, 42);
	int64_t now = 1000000, limit = 200000, longest = 0;
	for (int i = 0; i < 40; i++) {
		int64_t wait = duct_retry_failed(&r, now - 10, now);
		assert_in_range(wait, 0, limit);
		if (wait > longest)
			longest = wait;
		limit = limit * 2 < 30000000 ? limit * 2 : 30000000;
		now += wait;
	}
	assert_true(longest > 15000000);					/* jitter covers the whole range */
	assert_in_range(duct_retry_failed(&r, now - 60000000, now), 0, 200000); /* it lived for a minute */
	assert_in_range(duct_retry_failed(&r, now, now), 0, 400000);
	duct_retry_progress(&r);
	assert_in_range(duct_retry_failed(&r, now, now), 0, 200000);
	duct_retry_init(&r, 5000000, 7);
	assert_true(duct_retry_failed(&r, 0, 1000) >= 0);
	assert_true(duct_retry_failed(&r, 4000000, 4999999) >= 0);
	assert_int_equal(duct_retry_failed(&r, 4000000, 5001000), -1);
	duct_retry_progress(&r);
	assert_true(duct_retry_failed(&r, 4000000, 9001000) >= 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
	duct_log_setup(DUCT_ERROR, false);
	const struct CMUnitTest tests[] = {
		T(test_order_and_position),
		T(test_caught_up_does_not_wait_for_the_pace),
		T(test_caught_up_at_once),
		T(test_pace_groups),
		T(test_partial_waits_for_its_end),
		T(test_whole_is_committed_before_a_partial),
		T(test_retry_goes_on_from_resume),
		T(test_commit_that_fails),
		T(test_commit_whose_reply_is_lost),
		T(test_only_retry_is_retried),
		T(test_gives_up),
		T(test_stop_ends_the_back_off),
		T(test_queue_is_bounded_and_ticks),
		T(test_stop_drains),
		T(test_stop_at_a_commit_that_fails),
		T(test_stop_before_anything),
		T(test_stop_before_caught_up),
		T(test_second_stop_aborts),
		T(test_repeated_transaction_is_fatal),
		T(test_first_copy),
		T(test_copy_only),
		T(test_copy_without_tables),
		T(test_copy_worker_fails_and_starts_over),
		T(test_copy_worker_fails_for_good),
		T(test_publish_whose_reply_is_lost),
		T(test_publish_that_fails),
		T(test_stop_in_copy),
		T(test_new_tables),
		T(test_new_tables_inside_a_transaction),
		T(test_no_destination),
		T(test_back_off),
	};
	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
