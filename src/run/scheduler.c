/* The thread that looks what is due: see scheduler.h. */
#include "run/scheduler.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "run/civil.h"
#include "run/tick.h"
#include "state/flows.h"

enum { LEASE_MS = 10000, RENEW_MS = 2000, LOOK_MS = 1000, PRUNE_MS = 60000, PAGE = 50, SLICE = 500 };
static const int64_t retention_default_ms = 30LL * 86400 * 1000;

struct run_scheduler {
	struct run_scheduler_config config;
	pthread_t thread;
	atomic_bool stopping;
	int wake_fd;
	char name[160];
	int64_t fence; /* 0: somebody else looks */
	int64_t renew_us, prune_us;
	int64_t ahead_us; /* of the store's clock before ours */
	bool failing;
};

static void failed(struct run_scheduler *s, const char *what, const struct duct_error *err)
{
	if (!s->failing)
		log_error(s->config.log, what, LOG_STR("error", err->message));
	s->failing = true;
}

/* --- who looks --- */

static int take_lease(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	const char *holder;
	int64_t fence = 0;
	if (s->fence && state_lease_renew(s->config.state, "scheduler", s->name, s->fence, LEASE_MS, err) == 1)
		return 1;
	s->fence = 0;
	int rc = state_lease_take(s->config.state, arena, "scheduler", s->name, LEASE_MS, &fence, &holder, err);
	if (rc == 1) {
		s->fence = fence;
		log_info(s->config.log, "scheduling", LOG_I64("fence", fence));
		for (const struct run_sensor *const *sensor = s->config.sensors; *sensor; sensor++)
			if (state_sensor_register(s->config.state, (*sensor)->name, (*sensor)->interval_ms, err) < 0)
				return -(int)err->class;
	}
	return rc;
}

/* The store's clock decides what is due; asked with each renewal. */
static int set_clock(struct run_scheduler *s, struct duct_error *err)
{
	int64_t now;
	struct state_db *db = state_lend(s->config.state, err);
	if (!db)
		return -(int)err->class;
	int rc = state_clock(db, &now, err);
	state_return(s->config.state, db);
	s->ahead_us = rc < 0 ? s->ahead_us : now - duct_wall_us();
	return rc;
}

static int64_t now_us(const struct run_scheduler *s)
{
	return duct_wall_us() + s->ahead_us;
}

/* 1: we look. */
static int own(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	int64_t now = duct_mono_us();
	if (now < s->renew_us)
		return s->fence != 0;
	int rc = take_lease(s, arena, err);
	if (rc == 1 && (rc = set_clock(s, err)) == 0)
		rc = 1;
	s->renew_us = now + (s->fence ? RENEW_MS : LOOK_MS) * 1000;
	return rc;
}

/* --- what is due --- */

static const char *moment(char to[80], int64_t us)
{
	struct civil c = civil_of(us / 1000000);
	(void)snprintf(to, 80, "%04lld-%02d-%02dT%02d:%02d:%02dZ", (long long)c.year, c.month, c.day, c.hour, c.minute, c.second);
	return to;
}

/* One tick, however many were missed; then the first that is still to come. */
static int do_schedule(struct run_scheduler *s, struct duct_arena *arena, const struct state_schedule *schedule,
		       struct duct_error *err)
{
	char tick[80];
	int64_t now = now_us(s), next = INT64_MAX;
	struct run_ticked ticked = {0};
	struct duct_error why;
	int rc =
		run_tick_schedule(s->config.state, arena, schedule, moment(tick, schedule->next_us), s->config.dbos, &ticked, &why);
	if (rc == -DUCT_RETRY) {
		*err = why;
		return rc; /* it stays due */
	}
	const char *error = rc < 0 ? why.message : NULL;
	if (run_schedule_next(schedule, now, &next, &why) < 0)
		error = why.message;
	if (error)
		log_error(s->config.log, "schedule failed", LOG_STR("schedule", schedule->name), LOG_STR("error", error));
	if (ticked.n)
		run_executor_wake(s->config.executor);
	rc = state_schedule_ticked(s->config.state, schedule->name, schedule->next_us, next, now, ticked.n, error, err);
	return rc < 0 ? rc : 0;
}

static int do_schedules(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	struct state_schedule due[PAGE];
	const char *after = "";
	for (int n = PAGE; n == PAGE;) {
		n = state_schedule_list(s->config.state, arena, after, now_us(s), PAGE, due, err);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			if (do_schedule(s, arena, &due[i], err) < 0)
				return -(int)err->class;
		after = n ? due[n - 1].name : after;
	}
	return 0;
}

static int do_sensors(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	for (const struct run_sensor *const *sensor = s->config.sensors; *sensor; sensor++) {
		struct state_sensor row;
		struct run_ticked ticked;
		int rc = state_sensor_get(s->config.state, arena, (*sensor)->name, &row, err);
		if (rc == 1 && !row.paused && row.next_us <= now_us(s)) {
			rc = run_tick_sensor(s->config.state, arena, *sensor, &row, now_us(s), &ticked, err);
			if (rc == 0 && ticked.n)
				run_executor_wake(s->config.executor);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int prune(struct run_scheduler *s, struct duct_error *err)
{
	int64_t now = duct_mono_us();
	if (now < s->prune_us)
		return 0;
	int n = state_run_prune(s->config.state, now_us(s) - s->config.retention_ms * 1000, SLICE, err);
	s->prune_us = n == SLICE ? now : now + PRUNE_MS * 1000;
	return n < 0 ? n : 0;
}

static int look(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	int rc = own(s, arena, err);
	if (rc <= 0)
		return rc;
	rc = do_schedules(s, arena, err);
	if (rc == 0)
		rc = do_sensors(s, arena, err);
	/* Executors do this too, where there are any left. */
	if (rc == 0 && (rc = state_run_reap(s->config.state, err)) > 0)
		rc = 0;
	return rc == 0 ? prune(s, err) : rc;
}

/* Schedules are due at whole seconds of the store's clock: looks come just after them. */
static int wait_ms(const struct run_scheduler *s)
{
	int64_t into = now_us(s) % 1000000;
	return s->fence ? (int)((1000000 - into) / 1000 + 1) : LOOK_MS;
}

static void *scheduler_thread(void *arg)
{
	struct run_scheduler *s = arg;
	struct duct_arena arena;
	duct_arena_init(&arena);
	while (!atomic_load(&s->stopping)) {
		struct duct_error err;
		if (look(s, &arena, &err) < 0)
			failed(s, "scheduling failed", &err);
		else
			s->failing = false;
		duct_arena_done(&arena);
		struct pollfd fd = {.fd = s->wake_fd, .events = POLLIN};
		uint64_t count;
		if (poll(&fd, 1, wait_ms(s)) > 0 && read(s->wake_fd, &count, sizeof count) < 0)
			continue; /* somebody else took it: impossible, and harmless */
	}
	return NULL;
}

/* --- life --- */

int run_scheduler_start(struct run_scheduler **ret, const struct run_scheduler_config *config, struct duct_error *err)
{
	char host[64] = "?", uuid[DUCT_UUID_LEN];
	struct run_scheduler *s = duct_xcalloc(1, sizeof *s);
	s->config = *config;
	s->config.sensors = config->sensors ? config->sensors : run_sensors;
	s->config.retention_ms = config->retention_ms ? config->retention_ms : retention_default_ms;
	(void)gethostname(host, sizeof host - 1);
	(void)snprintf(s->name, sizeof s->name, "%s:%d:%s", host, (int)getpid(), duct_uuid_v4(uuid));
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = s->wake_fd < 0 ? -1 : pthread_create(&s->thread, NULL, scheduler_thread, s);
	if (rc == 0) {
		*ret = s;
		return 0;
	}
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	free(s);
	return duct_fail(err, DUCT_RETRY, "the scheduler cannot be started: no thread or descriptor left");
}

void run_scheduler_wake(struct run_scheduler *s)
{
	uint64_t one = 1;
	ssize_t n = s ? write(s->wake_fd, &one, sizeof one) : 0;
	(void)n; /* the counter cannot overflow */
}

void run_scheduler_stop(struct run_scheduler *s)
{
	struct duct_error ignored;
	if (!s)
		return;
	atomic_store(&s->stopping, true);
	run_scheduler_wake(s);
	pthread_join(s->thread, NULL);
	/* The next one need not wait for the lease to run out; when this fails it does. */
	int rc = s->fence ? state_lease_release(s->config.state, "scheduler", s->name, s->fence, &ignored) : 0;
	(void)rc;
	close(s->wake_fd);
	free(s);
}
