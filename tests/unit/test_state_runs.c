/* state/runs.h on both engines: the queue, who has a run, its end, its history and log. */
#include "state_engines.h"

#include "base/clock.h"
#include "state/runs.h"
#include "state/schedules.h"
#include "state/state_internal.h"

static struct state_run submit(struct engine *e, struct state_run run, int expected)
{
	struct duct_error err;
	struct state_run made = {0};
	if (!run.kind)
		run.kind = "sql";
	assert_int_equal(ASSERT_OK(state_run_submit(e->state, &e->arena, &run, &engine_actor, &made, &err), &err), expected);
	return made;
}

static struct state_run get(struct engine *e, const char *id)
{
	struct duct_error err;
	struct state_run run = {0};
	assert_int_equal(ASSERT_OK(state_run_get(e->state, &e->arena, id, &run, &err), &err), 1);
	return run;
}

static bool claim(struct engine *e, const char *queues, int64_t lease_ms, struct state_run *ret)
{
	struct duct_error err;
	return ASSERT_OK(state_run_claim(e->state, &e->arena, queues, "host:1:a", lease_ms, ret, &err), &err) == 1;
}

static int finish(struct engine *e, const struct state_run *run, enum state_run_state to, int64_t delay_ms)
{
	struct duct_error err;
	return (int)ASSERT_OK(state_run_finish(e->state, run->id, run->fence, to, "{\"n\":1}", "why", delay_ms, &err), &err);
}

/* Until the store's clock has passed what a lease or a delay of 1 ms set. */
static void pass(void)
{
	(void)poll(NULL, 0, 5);
}

static void keeps_what_was_submitted(void **state)
{
	struct engine *e = *state;
	struct state_run run = submit(e,
				      (struct state_run){.kind = "flow-once",
							 .key = "flow/a",
							 .queue = "heavy",
							 .flow_id = "a",
							 .input = "{\"x\":1}",
							 .tags = "{\"t\":\"v\"}",
							 .concurrency_key = "lake",
							 .concurrency_limit = 2,
							 .max_attempts = 5},
				      1);
	assert_int_equal(strlen(run.id), 36);
	run = get(e, run.id);
	assert_string_equal(run.kind, "flow-once");
	assert_string_equal(run.key, "flow/a");
	assert_string_equal(run.queue, "heavy");
	assert_string_equal(run.flow_id, "a");
	assert_string_equal(run.input, "{\"x\":1}");
	assert_string_equal(run.tags, "{\"t\":\"v\"}");
	assert_string_equal(run.concurrency_key, "lake");
	assert_int_equal(run.concurrency_limit, 2);
	assert_int_equal(run.max_attempts, 5);
	assert_int_equal(run.state, STATE_RUN_QUEUED);
	assert_int_equal(run.attempt, 0);
	assert_true(run.created_us > 0 && run.due_us == run.created_us && run.started_us == 0 && run.finished_us == 0);
	assert_null(run.parent_id);
	assert_null(run.result);
	run = submit(e, (struct state_run){.kind = "sql"}, 1);
	assert_string_equal(run.queue, "default");
	assert_string_equal(run.input, "{}");
	assert_int_equal(run.max_attempts, 3);
}

static void an_id_or_a_key_is_there_once(void **state)
{
	struct engine *e = *state;
	struct state_run claimed;
	submit(e, (struct state_run){.id = "one", .key = "k"}, 1);
	assert_string_equal(submit(e, (struct state_run){.id = "one", .key = "other"}, 0).id, "one");
	assert_string_equal(submit(e, (struct state_run){.id = "two", .key = "k"}, 0).id, "one");
	assert_true(claim(e, ",default,", 60000, &claimed));
	assert_string_equal(submit(e, (struct state_run){.id = "two", .key = "k"}, 0).id, "one"); /* running counts */
	assert_int_equal(finish(e, &claimed, STATE_RUN_SUCCEEDED, 0), 1);
	assert_string_equal(submit(e, (struct state_run){.id = "two", .key = "k"}, 1).id, "two");
	assert_string_equal(submit(e, (struct state_run){.id = "one"}, 0).id, "one"); /* also when it is over */
	submit(e, (struct state_run){.key = ""}, 1);
	submit(e, (struct state_run){.key = ""}, 1); /* no key: any number */
}

static void is_claimed_by_due_time_and_queue(void **state)
{
	struct engine *e = *state;
	struct state_run run, other;
	int64_t now = state_now_us();
	submit(e, (struct state_run){.id = "later", .due_us = now + 3600 * 1000000LL}, 1);
	submit(e, (struct state_run){.id = "a_b", .queue = "a_b"}, 1);
	submit(e, (struct state_run){.id = "first"}, 1);
	submit(e, (struct state_run){.id = "second"}, 1);
	assert_true(claim(e, ",default,axb,", 60000, &run)); /* _ is no wildcard */
	assert_string_equal(run.id, "first");
	assert_int_equal(run.state, STATE_RUN_RUNNING);
	assert_int_equal(run.attempt, 1);
	assert_string_equal(run.worker, "host:1:a");
	assert_true(claim(e, ",default,", 60000, &other));
	assert_string_equal(other.id, "second");
	assert_true(other.fence > run.fence);
	assert_false(claim(e, ",default,", 60000, &run));
	assert_true(claim(e, ",default,a_b,", 60000, &run));
	assert_string_equal(run.id, "a_b");
}

static void a_late_worker_changes_nothing(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run late, now, none;
	bool cancel;
	const struct state_progress progress = {.done = 1, .total = 2, .unit = "rows", .step = "s"};
	const struct state_run_line line = {.level = "info", .text = "late"};
	submit(e, (struct state_run){.id = "r"}, 1);
	assert_true(claim(e, ",default,", 1, &late));
	pass();
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 1);
	assert_int_equal(get(e, "r").state, STATE_RUN_QUEUED);
	assert_non_null(strstr(get(e, "r").error, "host:1:a"));
	assert_true(claim(e, ",default,", 60000, &now));
	assert_true(now.fence > late.fence);
	assert_int_equal(now.attempt, 2);
	assert_false(claim(e, ",default,", 60000, &none));
	assert_int_equal(state_run_heartbeat(e->state, "r", late.fence, 60000, &cancel, &err), 0);
	assert_int_equal(state_run_report(e->state, "r", late.fence, &progress, "{}", &err), 0);
	assert_int_equal(state_run_log(e->state, "r", late.fence, &line, 1, &err), 0);
	assert_int_equal(finish(e, &late, STATE_RUN_SUCCEEDED, 0), 0);
	assert_int_equal(get(e, "r").state, STATE_RUN_RUNNING);
	assert_int_equal(state_run_heartbeat(e->state, "r", now.fence, 60000, &cancel, &err), 1);
	assert_false(cancel);
	assert_int_equal(finish(e, &now, STATE_RUN_SUCCEEDED, 0), 1);
	assert_int_equal(finish(e, &now, STATE_RUN_FAILED, 0), 0); /* once */
	assert_string_equal(get(e, "r").result, "{\"n\":1}");
}

static void a_heartbeat_keeps_the_claim(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	bool cancel;
	submit(e, (struct state_run){.id = "r"}, 1);
	assert_true(claim(e, ",default,", 1, &run));
	assert_int_equal(state_run_heartbeat(e->state, "r", run.fence, 60000, &cancel, &err), 1);
	pass();
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 0);
	assert_true(get(e, "r").heartbeat_us > run.started_us);
}

static void attempts_end(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	submit(e, (struct state_run){.id = "r", .max_attempts = 2}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(finish(e, &run, STATE_RUN_QUEUED, 3600 * 1000), 1);
	run = get(e, "r");
	assert_int_equal(run.state, STATE_RUN_QUEUED);
	assert_string_equal(run.error, "why");
	assert_int_equal(run.finished_us, 0);
	assert_true(run.due_us > state_now_us() + 3000 * 1000000LL);
	assert_false(claim(e, ",default,", 60000, &run)); /* not yet */
	submit(e, (struct state_run){.id = "s", .max_attempts = 1}, 1);
	assert_true(claim(e, ",default,", 1, &run));
	pass();
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 1);
	run = get(e, "s");
	assert_int_equal(run.state, STATE_RUN_FAILED);
	assert_true(run.finished_us > 0);
}

static void what_is_given_back_costs_no_attempt(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run = {0};
	submit(e, (struct state_run){.id = "r", .max_attempts = 1}, 1);
	for (int i = 0; i < 3; i++) {
		int64_t before = run.fence;
		assert_true(claim(e, ",default,", 60000, &run));
		assert_int_equal(run.attempt, 1);
		assert_true(run.fence > before);
		assert_int_equal(state_run_give_back(e->state, "r", before, NULL, "late", &err), 0);
		assert_int_equal(ASSERT_OK(state_run_give_back(e->state, "r", run.fence, NULL, "stopped", &err), &err), 1);
		assert_string_equal(get(e, "r").error, "stopped");
	}
	assert_int_equal(get(e, "r").attempt, 0);
	assert_int_equal(get(e, "r").state, STATE_RUN_QUEUED);
}

static void a_limit_is_exact(void **state)
{
	struct engine *e = *state;
	struct state_run runs[4], none;
	for (int i = 0; i < 5; i++)
		submit(e, (struct state_run){.concurrency_key = "lake", .concurrency_limit = 2}, 1);
	submit(e, (struct state_run){.id = "free"}, 1);
	for (int i = 0; i < 3; i++)
		assert_true(claim(e, ",default,", 60000, &runs[i]));
	assert_string_equal(runs[2].id, "free"); /* those above the limit do not stand in its way */
	assert_false(claim(e, ",default,", 60000, &none));
	assert_int_equal(finish(e, &runs[0], STATE_RUN_SUCCEEDED, 0), 1);
	assert_true(claim(e, ",default,", 60000, &runs[3]));
	assert_false(claim(e, ",default,", 60000, &none));
}

/* Claims all it can get and counts how many of a key run at once: exits 1 when more than one does. */
static void claim_all(void *arg)
{
	struct engine *e = arg;
	struct duct_error err;
	engine_open(e);
	for (int idle = 0; idle < 40;) {
		struct state_run run, list[16];
		const struct state_run_filter running = {.state = STATE_RUN_RUNNING};
		if (state_run_claim(e->state, &e->arena, ",default,", "w", 60000, &run, &err) != 1) {
			idle++;
			(void)poll(NULL, 0, 5);
			continue;
		}
		if (state_run_list(e->state, &e->arena, &running, 16, list, &err) != 1 ||
		    finish(e, &run, STATE_RUN_SUCCEEDED, 0) != 1)
			_exit(1);
		idle = 0;
	}
	engine_close(e);
}

static void a_limit_holds_between_processes(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	int64_t counts[STATE_RUN_SKIPPED + 1];
	for (int i = 0; i < 60; i++)
		submit(e, (struct state_run){.concurrency_key = "one", .concurrency_limit = 1}, 1);
	engine_close(e);
	pid_t pids[4];
	for (int i = 0; i < 4; i++)
		if ((pids[i] = fork()) == 0) {
			claim_all(e);
			_exit(0);
		}
	for (int i = 0; i < 4; i++) {
		int status;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	engine_open(e);
	ASSERT_OK(state_run_counts(e->state, counts, &err), &err);
	assert_int_equal(counts[STATE_RUN_SUCCEEDED], 60);
}

static void cancels(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	bool cancel;
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "none", &engine_actor, &err), &err), 0);
	submit(e, (struct state_run){.id = "p"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	submit(e, (struct state_run){.id = "c", .parent_id = "p"}, 1);
	submit(e, (struct state_run){.id = "cc", .parent_id = "c"}, 1);
	submit(e, (struct state_run){.id = "other"}, 1);
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "p", &engine_actor, &err), &err), 1);
	assert_int_equal(get(e, "p").state, STATE_RUN_RUNNING);
	assert_true(get(e, "p").cancel_requested);
	assert_int_equal(get(e, "c").state, STATE_RUN_CANCELLED); /* queued ones at once, at any depth */
	assert_int_equal(get(e, "cc").state, STATE_RUN_CANCELLED);
	assert_int_equal(get(e, "other").state, STATE_RUN_QUEUED);
	assert_int_equal(state_run_heartbeat(e->state, "p", run.fence, 60000, &cancel, &err), 1);
	assert_true(cancel);
	assert_int_equal(finish(e, &run, STATE_RUN_QUEUED, 0), 1);
	assert_int_equal(get(e, "p").state, STATE_RUN_CANCELLED); /* it does not wait for another attempt */
	assert_true(get(e, "p").finished_us > 0);
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "p", &engine_actor, &err), &err), 2);
}

static void a_cancelled_run_of_a_dead_worker_ends(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	submit(e, (struct state_run){.id = "r"}, 1);
	assert_true(claim(e, ",default,", 1, &run));
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "r", &engine_actor, &err), &err), 1);
	pass();
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 1);
	assert_int_equal(get(e, "r").state, STATE_RUN_CANCELLED);
}

static void retries(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	const struct state_progress progress = {.done = 1};
	assert_int_equal(ASSERT_OK(state_run_retry(e->state, "none", &engine_actor, &err), &err), 0);
	submit(e, (struct state_run){.id = "r", .key = "k"}, 1);
	assert_int_equal(ASSERT_OK(state_run_retry(e->state, "r", &engine_actor, &err), &err), 2);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(state_run_report(e->state, "r", run.fence, &progress, "{\"at\":7}", &err), 1);
	assert_int_equal(finish(e, &run, STATE_RUN_FAILED, 0), 1);
	submit(e, (struct state_run){.id = "s", .key = "k"}, 1);
	assert_int_equal(state_run_retry(e->state, "r", &engine_actor, &err), 3); /* its key has another one */
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "s", &engine_actor, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_retry(e->state, "r", &engine_actor, &err), &err), 1);
	run = get(e, "r");
	assert_int_equal(run.state, STATE_RUN_QUEUED);
	assert_int_equal(run.attempt, 0);
	assert_null(run.error);
	assert_string_equal(run.checkpoint, "{\"at\":7}"); /* it goes on where it was */
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(run.attempt, 1);
	assert_string_equal(run.checkpoint, "{\"at\":7}");
}

static void lists_in_pages(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run page[4];
	char id[16];
	for (int i = 0; i < 10; i++) {
		(void)snprintf(id, sizeof id, "r%d", i);
		submit(e,
		       (struct state_run){.id = id,
					  .parent_id = i % 2 ? "odd" : "even",
					  .flow_id = i % 5 ? NULL : "five",
					  .schedule = i < 3 ? "early" : NULL},
		       1);
	}
	struct state_run_filter filter = {0};
	int seen = 0, n;
	while ((n = (int)ASSERT_OK(state_run_list(e->state, &e->arena, &filter, 4, page, &err), &err)) > 0) {
		for (int i = 0; i < n; i++) {
			(void)snprintf(id, sizeof id, "r%d", 9 - seen++);
			assert_string_equal(page[i].id, id); /* newest first; ids break ties */
		}
		filter.before_us = page[n - 1].created_us;
		filter.before_id = page[n - 1].id;
	}
	assert_int_equal(seen, 10);
	filter = (struct state_run_filter){.parent_id = "odd"};
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 4);
	filter = (struct state_run_filter){.parent_id = "odd", .flow_id = "five"};
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 1);
	assert_string_equal(page[0].id, "r5");
	filter = (struct state_run_filter){.schedule = "early", .state = STATE_RUN_QUEUED, .kind = "sql", .queue = "default"};
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 3);
	filter.state = STATE_RUN_FAILED;
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 0);
	filter = (struct state_run_filter){.state = STATE_RUN_QUEUED, .before_us = get(e, "r9").created_us, .before_id = "r9"};
	assert_int_equal(ASSERT_OK(state_run_list(e->state, &e->arena, &filter, 1, page, &err), &err), 1);
	assert_string_equal(page[0].id, "r8");
	filter.kind = "sql";
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 4);
	filter.state = STATE_RUN_RUNNING;
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 0);
	filter = (struct state_run_filter){.state = STATE_RUN_CANCELLED};
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "r4", NULL, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_list(e->state, &e->arena, &filter, 4, page, &err), &err), 1);
	assert_string_equal(page[0].id, "r4");
	filter = (struct state_run_filter){.kind = "sql"};
	assert_int_equal(ASSERT_OK(state_run_list(e->state, &e->arena, &filter, 4, page, &err), &err), 4);
	filter.kind = "command";
	assert_int_equal(state_run_list(e->state, &e->arena, &filter, 4, page, &err), 0);
}

static void logs_are_numbered_and_bounded(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	struct state_run_line lines[8], read[8];
	submit(e, (struct state_run){.id = "r"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	for (int i = 0; i < 8; i++)
		lines[i] = (struct state_run_line){.level = i % 2 ? "warn" : "info", .text = i % 2 ? "odd" : "even"};
	assert_int_equal(ASSERT_OK(state_run_log(e->state, "r", run.fence, lines, 3, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_log(e->state, "r", run.fence, lines, 3, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_lines(e->state, &e->arena, "r", 2, 8, read, &err), &err), 4);
	assert_int_equal(read[0].seq, 3);
	assert_int_equal(read[3].seq, 6);
	assert_string_equal(read[0].text, "even");
	assert_string_equal(read[2].level, "warn");
	assert_int_equal(read[0].attempt, 1);
	assert_true(read[0].at_us > 0);
	assert_int_equal(get(e, "r").log_seq, 6);
	AUTO_FREE char *long_text = duct_xmalloc(300001);
	memset(long_text, 'x', 300000);
	long_text[300000] = 0;
	for (int i = 0; i < 8; i++)
		lines[i].text = long_text;
	assert_int_equal(ASSERT_OK(state_run_log(e->state, "r", run.fence, lines, 8, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_log(e->state, "r", run.fence, lines, 8, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_lines(e->state, &e->arena, "r", 6, 8, read, &err), &err), 4);
	assert_string_equal(read[3].text, "further lines are not kept");
}

static void shows_progress(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	const struct state_progress progress = {.done = 3, .total = 9, .unit = "rows", .step = "copying"};
	submit(e, (struct state_run){.id = "r"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(state_run_report(e->state, "r", run.fence, &progress, NULL, &err), 1);
	struct state_run now = get(e, "r");
	assert_int_equal(now.progress.done, 3);
	assert_int_equal(now.progress.total, 9);
	assert_string_equal(now.progress.unit, "rows");
	assert_string_equal(now.progress.step, "copying");
	assert_null(now.checkpoint);
	assert_true(now.revision > run.revision);
}

/* The store's clock goes back by an hour: what a dead worker has left lies an hour ahead of it. */
static void a_clock_that_is_set_back_keeps_no_run(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	bool cancel;
	static const char ahead[] =
		"UPDATE runs SET heartbeat_us = heartbeat_us + 3600000000, lease_us = lease_us + 3600000000 WHERE state = 2";
	submit(e, (struct state_run){.id = "r", .max_attempts = 2}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(STATE_QUERY(e->state, ahead, NULL, NULL, &err), 1);
	assert_int_equal(state_run_heartbeat(e->state, "r", run.fence, 60000, &cancel, &err), 1); /* it lives */
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 0);
	assert_int_equal(STATE_QUERY(e->state, ahead, NULL, NULL, &err), 1);
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 1);
	assert_int_equal(get(e, "r").state, STATE_RUN_QUEUED);
}

static void a_partition_follows_its_run(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	struct state_partition p;
	const struct state_partition_filter all = {.job = "sql", .prefix = "2026", .results = true},
					    failed = {.job = "sql", .state = "failed"}, older = {.state = "done", .prefix = "2025"};
#define PARTITION_IS(name) \
	do { \
		assert_int_equal(ASSERT_OK(state_partition_list(e->state, &e->arena, &all, 1, &p, &err), &err), 1); \
		assert_string_equal(p.state, name); \
	} while (0)
	submit(e, (struct state_run){.id = "r", .partition = "2026-01-01", .max_attempts = 2}, 1);
	PARTITION_IS("queued");
	assert_string_equal(p.run_id, "r");
	assert_true(claim(e, ",default,", 1, &run));
	PARTITION_IS("running");
	assert_int_equal(p.attempts, 1);
	pass();
	assert_int_equal(ASSERT_OK(state_run_reap(e->state, &err), &err), 1);
	PARTITION_IS("queued");
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(finish(e, &run, STATE_RUN_FAILED, 0), 1);
	PARTITION_IS("failed");
	assert_int_equal(p.attempts, 2);
	const struct state_partition was = p; /* as a sensor saw it, who is late */
	assert_int_equal(ASSERT_OK(state_run_retry(e->state, "r", &engine_actor, &err), &err), 1);
	PARTITION_IS("queued");
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(finish(e, &run, STATE_RUN_SUCCEEDED, 0), 1);
	assert_int_equal(ASSERT_OK(state_partition_quarantine(e->state, &was, &err), &err), 0);
	PARTITION_IS("done");
	submit(e, (struct state_run){.id = "f", .partition = "2026-01-01"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(finish(e, &run, STATE_RUN_FAILED, 0), 1);
	PARTITION_IS("failed");
	assert_int_equal(ASSERT_OK(state_partition_quarantine(e->state, &was, &err), &err), 0); /* another run's failure */
	assert_int_equal(ASSERT_OK(state_partition_quarantine(e->state, &p, &err), &err), 1);
	PARTITION_IS("quarantined");
	submit(e, (struct state_run){.id = "s", .partition = "2026-01-01"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(ASSERT_OK(state_run_cancel(e->state, "s", &engine_actor, &err), &err), 1);
	assert_int_equal(finish(e, &run, STATE_RUN_QUEUED, 0), 1); /* its worker was stopped: it is not begun again */
	assert_int_equal(get(e, "s").state, STATE_RUN_CANCELLED);
	PARTITION_IS("missing");
	assert_int_equal(state_partition_list(e->state, &e->arena, &failed, 1, &p, &err), 0);
	assert_int_equal(state_partition_list(e->state, &e->arena, &older, 1, &p, &err), 0);
}

static void prunes_what_is_over(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run;
	struct state_run_line line = {.level = "info", .text = "t"};
	submit(e, (struct state_run){.id = "over"}, 1);
	submit(e, (struct state_run){.id = "goes"}, 1);
	assert_true(claim(e, ",default,", 60000, &run));
	assert_int_equal(state_run_log(e->state, "over", run.fence, &line, 1, &err), 1);
	assert_int_equal(finish(e, &run, STATE_RUN_SUCCEEDED, 0), 1);
	assert_int_equal(ASSERT_OK(state_run_prune(e->state, 1, 10, &err), &err), 0);
	assert_int_equal(ASSERT_OK(state_run_prune(e->state, INT64_MAX, 10, &err), &err), 1);
	assert_int_equal(state_run_get(e->state, &e->arena, "over", &run, &err), 0);
	assert_int_equal(state_run_lines(e->state, &e->arena, "over", 0, 1, &line, &err), 0);
	assert_int_equal(get(e, "goes").state, STATE_RUN_QUEUED);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(keeps_what_was_submitted),
		ENGINE_TEST(an_id_or_a_key_is_there_once),
		ENGINE_TEST(is_claimed_by_due_time_and_queue),
		ENGINE_TEST(a_late_worker_changes_nothing),
		ENGINE_TEST(a_heartbeat_keeps_the_claim),
		ENGINE_TEST(attempts_end),
		ENGINE_TEST(what_is_given_back_costs_no_attempt),
		ENGINE_TEST(a_limit_is_exact),
		ENGINE_TEST(a_limit_holds_between_processes),
		ENGINE_TEST(cancels),
		ENGINE_TEST(a_cancelled_run_of_a_dead_worker_ends),
		ENGINE_TEST(retries),
		ENGINE_TEST(lists_in_pages),
		ENGINE_TEST(logs_are_numbered_and_bounded),
		ENGINE_TEST(shows_progress),
		ENGINE_TEST(a_clock_that_is_set_back_keeps_no_run),
		ENGINE_TEST(a_partition_follows_its_run),
		ENGINE_TEST(prunes_what_is_over),
	};
	return engine_run("state_runs", tests, DUCT_LEN(tests));
}
