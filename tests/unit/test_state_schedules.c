/* state/schedules.h and run/scheduler.h on both engines: what is due enqueues its runs, once. */
#include "state_engines.h"

#include "base/clock.h"
#include "run/scheduler.h"
#include "run/tick.h"
#include "state/flows.h"

static const struct state_schedule each_flow = {.name = "flows",
						.cron = "* * * * * *",
						.kind = "flow-once",
						.each_running_flow = true};

static void make_flow(struct engine *e, const char *id, bool running)
{
	struct duct_error err;
	bool refused;
	const struct state_flow flow = {.id = id, .name = id, .definition = "{}"};
	assert_int_equal(ASSERT_OK(state_flow_create(e->state, &flow, &engine_actor, &err), &err), 1);
	if (running)
		ASSERT_OK(state_flow_move(e->state, id, 0, STATE_FLOW_RUNNING, "", &engine_actor, &refused, &err), &err);
}

static int runs_of(struct engine *e, const char *schedule, enum state_run_state in)
{
	struct duct_error err;
	struct state_run runs[50];
	const struct state_run_filter filter = {.schedule = schedule, .state = in};
	return (int)ASSERT_OK(state_run_list(e->state, &e->arena, &filter, 50, runs, &err), &err);
}

static void keeps_a_schedule(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_schedule s = each_flow, got;
	s.timezone = "Europe/Berlin";
	s.input = "{\"max_empty_reads\":2}";
	s.next_us = 5;
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 0);
	assert_int_equal(ASSERT_OK(state_schedule_get(e->state, &e->arena, "flows", &got, &err), &err), 1);
	assert_string_equal(got.cron, s.cron);
	assert_string_equal(got.timezone, "Europe/Berlin");
	assert_string_equal(got.input, s.input);
	assert_string_equal(got.queue, "default");
	assert_true(got.each_running_flow && !got.paused);
	s.paused = true;
	assert_int_equal(ASSERT_OK(state_schedule_update(e->state, &s, &engine_actor, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_schedule_list(e->state, &e->arena, "", 0, 1, &got, &err), &err), 1);
	assert_true(got.paused);
	assert_int_equal(state_schedule_list(e->state, &e->arena, "", INT64_MAX, 1, &got, &err), 0); /* paused: never due */
	assert_int_equal(state_schedule_list(e->state, &e->arena, "flows", 0, 1, &got, &err), 0);
	assert_int_equal(ASSERT_OK(state_schedule_delete(e->state, "flows", &engine_actor, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_schedule_delete(e->state, "flows", &engine_actor, &err), &err), 0);
	assert_int_equal(ASSERT_OK(state_schedule_update(e->state, &s, &engine_actor, &err), &err), 0);
}

static void refuses_what_is_no_schedule(void **state)
{
	struct duct_error err;
	struct state_schedule s = each_flow;
	(void)state;
	ASSERT_OK(run_schedule_check(&s, 1000000, &err), &err);
	assert_int_equal(s.next_us, 2000000);
#define REFUSES(member, value, text) \
	do { \
		s = each_flow; \
		s.member = value; \
		assert_int_equal(run_schedule_check(&s, 0, &err), -DUCT_CONFIG); \
		assert_non_null(strstr(err.message, text)); \
	} while (0)
	REFUSES(name, "a b", "name");
	REFUSES(name, "", "name");
	REFUSES(cron, "", "cron");
	REFUSES(cron, "61 * * * *", "minute");
	REFUSES(timezone, "Mars/Olympus", "timezone");
	REFUSES(kind, "nothing", "kind");
	REFUSES(kind, "sql", "each_running_flow");
	REFUSES(flow_id, "a", "flow_id");
	REFUSES(input, "[]", "input_json");
	REFUSES(input, "{\"max_empty_reads\":0}", "input_json.max_empty_reads");
	REFUSES(max_attempts, -1, "max_attempts");
}

static void a_tick_enqueues_each_running_flow_once(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct run_ticked ticked;
	struct state_run run;
	make_flow(e, "a", true);
	make_flow(e, "b", true);
	make_flow(e, "idle", false);
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t1", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 2);
	assert_string_equal(ticked.runs[0].id, "flows@t1@a");
	assert_string_equal(ticked.runs[1].flow_id, "b");
	/* The runs of the last tick still wait: none. The same tick again: none, also when they are over. */
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t2", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 0);
	assert_int_equal(ASSERT_OK(state_run_claim(e->state, &e->arena, ",default,", "w", 60000, &run, &err), &err), 1);
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t3", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 0);
	ASSERT_OK(state_run_finish(e->state, run.id, run.fence, STATE_RUN_SUCCEEDED, NULL, NULL, 0, &err), &err);
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t1", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 0);
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t4", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 1);
	assert_string_equal(ticked.runs[0].flow_id, "a");
}

static void more_flows_than_a_page(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct run_ticked ticked;
	char id[16];
	for (int i = 0; i < 103; i++) {
		(void)snprintf(id, sizeof id, "f%03d", i);
		make_flow(e, id, true);
	}
	ASSERT_OK(run_tick_schedule(e->state, &e->arena, &each_flow, "t", NULL, -1, &ticked, &err), &err);
	assert_int_equal(ticked.n, 103);
	assert_string_equal(ticked.runs[102].flow_id, "f102");
}

/* --- the scheduler's thread --- */

struct waiting {
	struct engine *e;
	const char *name;
	int least;
};

static bool has_runs(void *arg)
{
	struct waiting *w = arg;
	return runs_of(w->e, w->name, 0) >= w->least;
}

static struct run_scheduler *start(struct engine *e, const struct run_sensor *const *sensors)
{
	struct duct_error err;
	struct run_scheduler *scheduler;
	const struct run_scheduler_config config = {.state = e->state, .sensors = sensors};
	ASSERT_OK(run_scheduler_start(&scheduler, &config, &err), &err);
	return scheduler;
}

static void due_schedules_tick_and_paused_ones_do_not(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_schedule s = {.name = "every", .cron = "* * * * * *", .kind = "flow-once", .flow_id = "a"}, got;
	struct waiting wait = {e, "every", 1};
	make_flow(e, "a", true);
	s.next_us = state_now_us();
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 1);
	s.name = "paused";
	s.paused = true;
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 1);
	struct run_scheduler *scheduler = start(e, NULL);
	bool ticked = engine_wait(has_runs, &wait);
	run_scheduler_stop(scheduler);
	assert_true(ticked);
	assert_int_equal(runs_of(e, "paused", 0), 0);
	assert_int_equal(ASSERT_OK(state_schedule_get(e->state, &e->arena, "every", &got, &err), &err), 1);
	assert_true(got.next_us > got.last_us && got.next_us % 1000000 == 0);
	assert_null(got.error);
}

static void missed_ticks_are_made_up_for_by_one(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_schedule s = {.name = "hourly", .cron = "0 * * * *", .kind = "flow-once", .flow_id = "a"}, got;
	struct waiting wait = {e, "hourly", 1};
	make_flow(e, "a", true);
	int64_t now = state_now_us(), hour = 3600 * 1000000LL;
	s.next_us = now / hour * hour - 50 * hour;
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 1);
	struct run_scheduler *scheduler = start(e, NULL);
	bool ticked = engine_wait(has_runs, &wait);
	run_scheduler_stop(scheduler);
	assert_true(ticked);
	assert_int_equal(runs_of(e, "hourly", 0), 1);
	assert_int_equal(ASSERT_OK(state_schedule_get(e->state, &e->arena, "hourly", &got, &err), &err), 1);
	assert_true(got.next_us > now && got.next_us <= now + hour + 1000000);
}

static void one_scheduler_at_a_time(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_schedule s = {.name = "every", .cron = "* * * * * *", .kind = "flow-once", .flow_id = "a"};
	struct waiting wait = {e, "every", 1};
	int64_t fence;
	make_flow(e, "a", true);
	s.next_us = state_now_us();
	assert_int_equal(ASSERT_OK(state_schedule_create(e->state, &s, &engine_actor, &err), &err), 1);
	/* Somebody else has it: nothing happens until his lease ends. */
	assert_int_equal(state_lease_take(e->state, &e->arena, "scheduler", "other", 2500, &fence, NULL, &err), 1);
	struct run_scheduler *scheduler = start(e, NULL);
	(void)poll(NULL, 0, 1500);
	int early = runs_of(e, "every", 0);
	bool ticked = engine_wait(has_runs, &wait);
	run_scheduler_stop(scheduler);
	assert_int_equal(early, 0);
	assert_true(ticked);
	assert_int_equal(state_lease_take(e->state, &e->arena, "scheduler", "next", 1000, &fence, NULL, &err),
			 1); /* it was given back */
}

static bool is_queued_again(void *arg)
{
	struct waiting *w = arg;
	return runs_of(w->e, w->name, STATE_RUN_QUEUED) == w->least;
}

static void runs_of_the_dead_do_not_need_an_executor(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_run run = {.kind = "sql", .schedule = "s"}, made;
	struct waiting wait = {e, "s", 1};
	assert_int_equal(ASSERT_OK(state_run_submit(e->state, &e->arena, &run, NULL, &made, &err), &err), 1);
	assert_int_equal(ASSERT_OK(state_run_claim(e->state, &e->arena, ",default,", "w", 1, &run, &err), &err), 1);
	struct run_scheduler *scheduler = start(e, NULL);
	bool again = engine_wait(is_queued_again, &wait);
	run_scheduler_stop(scheduler);
	assert_true(again);
}

/* --- sensors --- */

static int finds(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const char *cursor,
		 struct run_findings *ret, struct duct_error *err)
{
	static struct state_run run = {.kind = "flow-once", .flow_id = "a", .schedule = "finder"};
	(void)state, (void)arena, (void)ctx;
	if (strcmp(cursor, "bad") == 0)
		return duct_fail(err, DUCT_CONFIG, "cursor \"bad\" leads nowhere");
	run.id = *cursor ? "found-again" : "found";
	*ret = (struct run_findings){.runs = &run, .n = 1, .cursor = "seen"};
	return 0;
}
static const struct run_sensor finder = {.name = "finder", .interval_ms = 3600000, .evaluate = finds};
static const struct run_sensor *const finders[] = {&finder, NULL};

static void a_sensor_finds_and_remembers(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_sensor row;
	struct waiting first = {e, "finder", 1}, second = {e, "finder", 2};
	make_flow(e, "a", true);
	struct run_scheduler *scheduler = start(e, finders);
	bool found = engine_wait(has_runs, &first);
	assert_int_equal(ASSERT_OK(state_sensor_get(e->state, &e->arena, "finder", &row, &err), &err), 1);
	/* A cursor that is set is looked at now, not at the next interval. */
	assert_int_equal(ASSERT_OK(state_sensor_reset(e->state, "finder", "back", &engine_actor, &err), &err), 1);
	run_scheduler_wake(scheduler);
	int64_t began = duct_mono_us();
	bool again = engine_wait(has_runs, &second);
	run_scheduler_stop(scheduler);
	assert_true(found && again);
	assert_true(duct_mono_us() - began < 5000000);
	assert_int_equal(row.interval_ms, 3600000);
	assert_int_equal(state_sensor_list(e->state, &e->arena, 1, &row, &err), 1);
	assert_string_equal(row.cursor, "seen");
	assert_int_equal(ASSERT_OK(state_sensor_reset(e->state, "none", "", &engine_actor, &err), &err), 0);
}

static void a_failing_sensor_waits_longer_and_longer(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_sensor row = {.cursor = "bad", .name = "finder"};
	struct run_ticked ticked;
	struct run_sensor sensor = finder;
	atomic_bool stop = false;
	const struct duct_ctx ctx = {.stop = &stop, .stop_fd = -1};
	sensor.interval_ms = 1000;
	ASSERT_OK(state_sensor_register(e->state, "finder", 1000, &err), &err);
	assert_int_equal(state_sensor_reset(e->state, "finder", "bad", &engine_actor, &err), 1);
	int64_t waited[20];
	for (int i = 0; i < 20; i++) {
		assert_int_equal(ASSERT_OK(state_sensor_get(e->state, &e->arena, "finder", &row, &err), &err), 1);
		ASSERT_OK(run_tick_sensor(e->state, &e->arena, &ctx, &sensor, &row, 1000, &ticked, &err), &err);
		assert_int_equal(state_sensor_get(e->state, &e->arena, "finder", &row, &err), 1);
		waited[i] = (row.next_us - 1000) / 1000;
		assert_string_equal(row.cursor, "bad");
		assert_non_null(strstr(row.error, "leads nowhere"));
	}
	assert_int_equal(waited[0], 2000);
	assert_int_equal(waited[1], 4000);
	assert_int_equal(waited[19], 3600000);
}

static void a_reset_beside_a_look_is_not_lost(void **state)
{
	struct engine *e = *state;
	struct duct_error err;
	struct state_sensor row;
	struct run_ticked ticked;
	atomic_bool stop = false;
	const struct duct_ctx ctx = {.stop = &stop, .stop_fd = -1};
	make_flow(e, "a", true);
	ASSERT_OK(state_sensor_register(e->state, "finder", 1000, &err), &err);
	assert_int_equal(state_sensor_get(e->state, &e->arena, "finder", &row, &err), 1);
	assert_int_equal(state_sensor_reset(e->state, "finder", "back", &engine_actor, &err), 1);
	ASSERT_OK(run_tick_sensor(e->state, &e->arena, &ctx, &finder, &row, 1000, &ticked, &err), &err); /* it looked from "" on */
	assert_int_equal(state_sensor_get(e->state, &e->arena, "finder", &row, &err), 1);
	assert_string_equal(row.cursor, "back");
	assert_int_equal(row.next_us, 0);
}

int main(void)
{
	const struct engine_test tests[] = {
		ENGINE_TEST(keeps_a_schedule),
		ENGINE_TEST(refuses_what_is_no_schedule),
		ENGINE_TEST(a_tick_enqueues_each_running_flow_once),
		ENGINE_TEST(more_flows_than_a_page),
		ENGINE_TEST(due_schedules_tick_and_paused_ones_do_not),
		ENGINE_TEST(missed_ticks_are_made_up_for_by_one),
		ENGINE_TEST(one_scheduler_at_a_time),
		ENGINE_TEST(runs_of_the_dead_do_not_need_an_executor),
		ENGINE_TEST(a_sensor_finds_and_remembers),
		ENGINE_TEST(a_failing_sensor_waits_longer_and_longer),
		ENGINE_TEST(a_reset_beside_a_look_is_not_lost),
	};
	return engine_run("state_schedules", tests, DUCT_LEN(tests));
}
