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
	char name[160];
	atomic_bool stopping;
	int stop_fd;		    /* readable from then on */
	_Atomic int64_t fence;	    /* 0: somebody else looks */
	_Atomic int64_t ahead_us;   /* of the store's clock before ours */
	int64_t renew_us, prune_us; /* of the clock's thread */
	struct looker {		    /* a thread that looks */
		struct run_scheduler *scheduler;
		pthread_t thread;
		int wake_fd;
		const char *failure; /* how its log calls one */
		bool failing;
		int (*look)(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err);
	} clock, dbos, sensors;
};

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
		for (const struct run_sensor *const *sensor = s->config.sensors; *sensor; sensor++)
			if (state_sensor_register(s->config.state, (*sensor)->name, (*sensor)->interval_ms, err) < 0)
				return -(int)err->class;
		s->fence = fence;
		log_info(s->config.log, "scheduling", LOG_I64("fence", fence));
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
	if (rc >= 0)
		s->ahead_us = now - duct_wall_us();
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

/* When it comes next cannot be said, as its time zone cannot be read: it stays due, and is made up for. Told once. */
static int hold(struct run_scheduler *s, const struct state_schedule *schedule, const char *error, struct duct_error *err)
{
	if (schedule->error && strcmp(schedule->error, error) == 0)
		return 0;
	log_error(s->config.log, "schedule failed", LOG_STR("schedule", schedule->name), LOG_STR("error", error));
	int rc = state_schedule_ticked(s->config.state, schedule->name, schedule->next_us, schedule->next_us, schedule->last_us, 0,
				       error, err);
	return rc < 0 ? rc : 0;
}

/* One tick, however many were missed; then the first that is still to come. */
static int do_schedule(struct run_scheduler *s, struct duct_arena *arena, const struct state_schedule *schedule,
		       struct duct_error *err)
{
	char tick[80];
	int64_t now = now_us(s), next;
	struct run_ticked ticked = {0};
	struct duct_error why;
	bool due = schedule->next_us <= now; /* or the clock was set back */
	if (run_schedule_next(schedule, now, &next, &why) < 0)
		return hold(s, schedule, why.message, err);
	int rc = due ? run_tick_schedule(s->config.state, arena, schedule, moment(tick, schedule->next_us), s->config.dbos,
					 s->stop_fd, &ticked, &why)
		     : 0;
	if (rc == -DUCT_RETRY || rc == -DUCT_CANCELLED) {
		*err = why;
		return rc; /* it stays due */
	}
	const char *error = rc < 0 ? why.message : NULL;
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
		int rc = own(s, arena, err);
		if (rc <= 0)
			return rc;
		n = state_schedule_list(s->config.state, arena, after, now_us(s), PAGE, due, err);
		if (n < 0)
			return n;
		for (int i = 0; i < n && !atomic_load(&s->stopping); i++)
			if (strcmp(due[i].name, DBOS_SCHEDULE) != 0 && do_schedule(s, arena, &due[i], err) < 0)
				return -(int)err->class;
		if (atomic_load(&s->stopping))
			return 0;
		after = n ? due[n - 1].name : after;
	}
	return 0;
}

static bool is_due(const struct run_scheduler *s, bool paused, int64_t next_us, int64_t last_us)
{
	return !paused && (next_us <= now_us(s) || last_us > now_us(s) + STATE_SET_BACK_US);
}

/* DBOS may be away, or say nothing, where the state is not. */
static int do_dbos(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	struct state_schedule row;
	int rc = s->fence ? state_schedule_get(s->config.state, arena, DBOS_SCHEDULE, &row, err) : 0;
	return rc == 1 && is_due(s, row.paused, row.next_us, row.last_us) ? do_schedule(s, arena, &row, err) : rc < 0 ? rc : 0;
}

static int do_sensors(struct run_scheduler *s, struct duct_arena *arena, struct duct_error *err)
{
	const struct duct_ctx ctx = {.log = s->config.log, .stop = &s->stopping, .stop_fd = s->stop_fd};
	for (const struct run_sensor *const *sensor = s->config.sensors; *sensor && s->fence; sensor++) {
		struct state_sensor row;
		struct run_ticked ticked;
		int rc = state_sensor_get(s->config.state, arena, (*sensor)->name, &row, err);
		if (rc == 1 && is_due(s, row.paused, row.next_us, row.last_us)) {
			rc = run_tick_sensor(s->config.state, arena, &ctx, *sensor, &row, now_us(s), &ticked, err);
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

static void *look_again(void *arg)
{
	struct looker *l = arg;
	struct run_scheduler *s = l->scheduler;
	struct duct_arena arena;
	duct_arena_init(&arena);
	while (!atomic_load(&s->stopping)) {
		struct duct_error err;
		bool failed = l->look(s, &arena, &err) < 0 && !atomic_load(&s->stopping);
		if (failed && !l->failing)
			log_error(s->config.log, l->failure, LOG_STR("error", err.message));
		l->failing = failed;
		duct_arena_done(&arena);
		struct pollfd fd = {.fd = l->wake_fd, .events = POLLIN};
		uint64_t count;
		if (poll(&fd, 1, wait_ms(s)) > 0 && read(l->wake_fd, &count, sizeof count) < 0)
			continue; /* somebody else took it: impossible, and harmless */
	}
	return NULL;
}

/* --- life --- */

static void raise_fd(int fd)
{
	uint64_t one = 1;
	ssize_t n = fd >= 0 ? write(fd, &one, sizeof one) : 0;
	(void)n; /* the counter cannot overflow */
}

static int start_looker(struct run_scheduler *s, struct looker *l)
{
	l->scheduler = s;
	int rc = pthread_create(&l->thread, NULL, look_again, l);
	if (rc)
		l->scheduler = NULL;
	return rc;
}

static void end_looker(struct looker *l)
{
	if (!l->scheduler)
		return;
	raise_fd(l->wake_fd);
	pthread_join(l->thread, NULL);
}

int run_scheduler_start(struct run_scheduler **ret, const struct run_scheduler_config *config, struct duct_error *err)
{
	char host[64] = "?", uuid[DUCT_UUID_LEN];
	struct run_scheduler *s = duct_xcalloc(1, sizeof *s);
	s->config = *config;
	s->config.sensors = config->sensors ? config->sensors : run_sensors;
	s->config.retention_ms = config->retention_ms ? config->retention_ms : retention_default_ms;
	(void)gethostname(host, sizeof host - 1);
	(void)snprintf(s->name, sizeof s->name, "%s:%d:%s", host, (int)getpid(), duct_uuid_v4(uuid));
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	s->clock = (struct looker){.failure = "scheduling failed", .look = look, .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	s->dbos = (struct looker){.failure = "scheduling in DBOS failed",
				  .look = do_dbos,
				  .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	s->sensors =
		(struct looker){.failure = "sensors failed", .look = do_sensors, .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	bool ok = s->stop_fd >= 0 && s->clock.wake_fd >= 0 && s->dbos.wake_fd >= 0 && s->sensors.wake_fd >= 0;
	ok = ok && start_looker(s, &s->clock) == 0 && start_looker(s, &s->sensors) == 0;
	if (ok && config->dbos && config->dbos->enabled)
		ok = start_looker(s, &s->dbos) == 0;
	if (ok) {
		*ret = s;
		return 0;
	}
	run_scheduler_stop(s);
	return duct_fail(err, DUCT_RETRY, "the scheduler cannot be started: no thread or descriptor left");
}

void run_scheduler_wake(struct run_scheduler *s)
{
	if (!s)
		return;
	raise_fd(s->clock.wake_fd);
	raise_fd(s->dbos.wake_fd);
	raise_fd(s->sensors.wake_fd);
}

void run_scheduler_stop(struct run_scheduler *s)
{
	struct duct_error ignored;
	if (!s)
		return;
	atomic_store(&s->stopping, true);
	raise_fd(s->stop_fd);
	end_looker(&s->clock);
	end_looker(&s->dbos);
	end_looker(&s->sensors);
	/* The next one need not wait for the lease to run out; when this fails it does. */
	int rc = s->fence ? state_lease_release(s->config.state, "scheduler", s->name, s->fence, &ignored) : 0;
	(void)rc;
	const int fds[] = {s->stop_fd, s->clock.wake_fd, s->dbos.wake_fd, s->sensors.wake_fd};
	for (size_t i = 0; i < DUCT_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(s);
}
