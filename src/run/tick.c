/* What one tick of a schedule or sensor does. */
#include "run/tick.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "run/cron.h"
#include "run/jobs.h"
#include "state/flows.h"

enum { PAGE = 100, MOST_SENSOR_MS = 3600000 };

int run_schedule_next(const struct state_schedule *schedule, int64_t after_us, int64_t *ret_us, struct duct_error *err)
{
	struct run_cron cron;
	struct run_zone *zone;
	if (run_cron_parse(&cron, schedule->cron, err) < 0)
		return -(int)err->class;
	if (run_zone_load(&zone, schedule->timezone ? schedule->timezone : "", err) < 0)
		return duct_wrap(err, "timezone");
	int64_t next = run_cron_next(&cron, zone, after_us / 1000000 - (after_us % 1000000 < 0));
	run_zone_free(zone);
	*ret_us = next == INT64_MAX ? INT64_MAX : next * 1000000;
	return 0;
}

static bool is_name(const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
			return false;
	return n > 0 && n <= 100;
}

int run_schedule_check(struct state_schedule *s, int64_t now_us, struct duct_error *err)
{
	if (!s->name || !is_name(s->name))
		return duct_fail(err, DUCT_CONFIG, "name: up to 100 letters, digits and _ . - are needed");
	if (!s->cron || !*s->cron)
		return duct_fail(err, DUCT_CONFIG,
				 "cron: five fields are needed (minute hour day month weekday), or six with seconds first");
	const struct run_job *job = run_job_find(s->kind ? s->kind : "");
	if (s->each_running_flow && s->flow_id && *s->flow_id)
		return duct_fail(err, DUCT_CONFIG, "flow_id: not together with each_running_flow");
	if (s->each_running_flow && job && !job->needs_flow)
		return duct_fail(err, DUCT_CONFIG, "each_running_flow: a run of kind \"%s\" is not about a flow", s->kind);
	const struct state_run run = {.queue = s->queue,
				      .input = s->input,
				      .concurrency_key = s->concurrency_key,
				      .concurrency_limit = s->concurrency_limit,
				      .max_attempts = s->max_attempts};
	if (run_job_check_settings(&run, err) < 0)
		return -(int)err->class;
	if (run_job_check(s->kind, s->each_running_flow ? "each" : s->flow_id, s->input, err) < 0)
		return -(int)err->class;
	return run_schedule_next(s, now_us, &s->next_us, err);
}

/* --- schedules --- */

struct tick {
	struct state *state;
	struct duct_arena *arena;
	const struct state_schedule *schedule;
	const char *tick;
	struct run_ticked *ret;
	size_t cap;
	struct dbos *dbos; /* NULL: our own queue */
	struct duct_error *err;
};

static struct state_run *room(struct duct_arena *arena, struct run_ticked *to, size_t *cap)
{
	if ((size_t)to->n == *cap) {
		*cap = *cap ? *cap * 2 : 8;
		struct state_run *larger = duct_arena_alloc(arena, *cap * sizeof *larger);
		if (to->n)
			memcpy(larger, to->runs, (size_t)to->n * sizeof *larger);
		to->runs = larger;
	}
	return &to->runs[to->n];
}

static int enqueue_there(struct tick *t, const char *flow_id)
{
	AUTO_FREE char *id = duct_xasprintf("sched-%s-%s-%s", t->schedule->name, t->tick, flow_id);
	int rc = dbos_enqueue_on(t->dbos, id, flow_id, t->err);
	if (rc > 0) {
		const char *copy = duct_arena_strdup(t->arena, id);
		*room(t->arena, t->ret, &t->cap) = (struct state_run){.id = copy,
								      .kind = "flow-once",
								      .flow_id = flow_id,
								      .schedule = t->schedule->name,
								      .state = STATE_RUN_QUEUED};
		t->ret->n++;
	}
	return rc < 0 ? rc : 0;
}

/* One run, unless the one before it still goes. */
static int enqueue(struct tick *t, const char *flow_id)
{
	if (t->dbos)
		return enqueue_there(t, flow_id);
	const struct state_schedule *s = t->schedule;
	AUTO_FREE char *id = duct_xasprintf("%s@%s%s%s", s->name, t->tick, flow_id ? "@" : "", flow_id ? flow_id : "");
	AUTO_FREE char *key = flow_id ? duct_xasprintf("flow/%s", flow_id) : duct_xasprintf("schedule/%s", s->name);
	struct state_run run = {
		.id = id,
		.kind = s->kind,
		.key = key,
		.queue = s->queue,
		.flow_id = flow_id,
		.schedule = s->name,
		.input = s->input,
		.concurrency_key = s->concurrency_key,
		.concurrency_limit = s->concurrency_limit,
		.max_attempts = s->max_attempts,
	};
	run_job_limit(&run, run_job_key(s->kind, s->input, t->arena));
	int rc = state_run_submit(t->state, t->arena, &run, NULL, room(t->arena, t->ret, &t->cap), t->err);
	if (rc > 0)
		t->ret->n++;
	return rc < 0 ? rc : 0;
}

static int enqueue_flows(struct tick *t)
{
	const char *after = "";
	for (int n = PAGE; n == PAGE;) {
		struct state_flow flows[PAGE];
		n = state_flow_list(t->state, t->arena, after, STATE_FLOW_RUNNING, PAGE, flows, t->err);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			if (enqueue(t, flows[i].id) < 0)
				return -(int)t->err->class;
		after = n ? flows[n - 1].id : after;
	}
	return 0;
}

static int tick_there(struct tick *t, const struct dbos_config *config, int stop_fd)
{
	struct dbos dbos;
	if (!config || !config->enabled)
		return 0;
	int rc = dbos_open(&dbos, config, false, stop_fd, t->err);
	if (rc < 0)
		return rc;
	t->dbos = &dbos;
	rc = enqueue_flows(t);
	dbos_close(&dbos);
	return rc;
}

int run_tick_schedule(struct state *state, struct duct_arena *arena, const struct state_schedule *schedule, const char *tick,
		      const struct dbos_config *dbos, int stop_fd, struct run_ticked *ret, struct duct_error *err)
{
	struct tick t = {.state = state, .arena = arena, .schedule = schedule, .tick = tick, .ret = ret, .err = err};
	*ret = (struct run_ticked){0};
	if (strcmp(schedule->name, DBOS_SCHEDULE) == 0)
		return tick_there(&t, dbos, stop_fd);
	return schedule->each_running_flow ? enqueue_flows(&t)
					   : enqueue(&t, schedule->flow_id && *schedule->flow_id ? schedule->flow_id : NULL);
}

/* --- sensors --- */

static int64_t later(int64_t now_us, const struct state_sensor *row, int64_t interval_ms, bool failed)
{
	int64_t wait_ms = interval_ms;
	for (int64_t i = 0; failed && i <= row->failures && wait_ms < MOST_SENSOR_MS; i++)
		wait_ms *= 2;
	return now_us + (failed && wait_ms > MOST_SENSOR_MS ? MOST_SENSOR_MS : wait_ms) * 1000;
}

static int submit_found(struct state *state, struct duct_arena *arena, const struct run_findings *found, struct run_ticked *ret,
			struct duct_error *err)
{
	size_t cap = 0;
	for (int i = 0; i < found->n; i++) {
		int rc = state_run_submit(state, arena, &found->runs[i], NULL, room(arena, ret, &cap), err);
		if (rc < 0)
			return rc;
		ret->n += rc;
	}
	return 0;
}

int run_tick_sensor(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const struct run_sensor *sensor,
		    const struct state_sensor *row, int64_t now_us, struct run_ticked *ret, struct duct_error *err)
{
	struct run_findings found = {.cursor = row->cursor};
	struct duct_error why;
	*ret = (struct run_ticked){0};
	int failed = sensor->evaluate(state, arena, ctx, row->cursor, &found, &why);
	if (failed && duct_ctx_stopped(ctx))
		return duct_fail(err, DUCT_CANCELLED, "asked to end");
	if (failed == 0)
		failed = submit_found(state, arena, &found, ret, &why);
	/* The cursor moves when everything before it is enqueued; what is enqueued twice is enqueued once. */
	int rc = state_sensor_ticked(state, row, failed ? row->cursor : found.cursor,
				     later(now_us, row, sensor->interval_ms, failed != 0), now_us, ret->n,
				     failed ? why.message : NULL, err);
	return rc < 0 ? rc : 0;
}

/* --- by hand --- */

int run_tick(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, const char *name,
	     const struct dbos_config *dbos, struct run_ticked *ret, struct duct_error *err)
{
	struct state_schedule schedule;
	struct state_sensor row;
	char uuid[DUCT_UUID_LEN];
	int rc = state_schedule_get(state, arena, name, &schedule, err);
	if (rc < 0)
		return rc;
	if (rc > 0)
		return run_tick_schedule(state, arena, &schedule, duct_uuid_v7(uuid), dbos, ctx->stop_fd, ret, err) < 0
			? -(int)err->class
			: 1;
	for (const struct run_sensor *const *s = run_sensors; *s; s++)
		if (strcmp((*s)->name, name) == 0 && (rc = state_sensor_register(state, name, (*s)->interval_ms, err)) >= 0 &&
		    (rc = state_sensor_get(state, arena, name, &row, err)) == 1)
			return run_tick_sensor(state, arena, ctx, *s, &row, state_now_us(), ret, err) < 0 ? -(int)err->class : 1;
	return rc;
}
