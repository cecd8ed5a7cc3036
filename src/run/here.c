/* A run recorded and done at once: see here.h. */
#include "run/here.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "run/executor.h"
#include "run/jobs.h"

enum { LOOK_MS = 200, MOST_LINES = 200 };

struct doing {
	const struct duct_ctx *ctx;
	const struct run_here *here;
	struct state *state;
	struct service_settings settings;
	char queue[160], id[DUCT_UUID_LEN];
	int64_t seen;	   /* the last line that was shown */
	int64_t waited_us; /* when it was last said that the run is waited for */

	int ended_fd; /* readable once the run is over */
	pthread_mutex_t lock;
	bool failed;
	struct duct_error error; /* of the last attempt */
};

/* --- the beginning --- */

static const char *host_name(char to[64])
{
	memcpy(to, "?", 2);
	(void)gethostname(to, 63);
	to[63] = 0;
	return to;
}

static bool is_gone_here(long pid)
{
	return pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

/* "HOST:PID:..." on this machine, and no such process. */
static bool is_gone(const char *worker)
{
	char host[64];
	size_t n = strlen(host_name(host));
	return worker && strncmp(worker, host, n) == 0 && worker[n] == ':' && is_gone_here(strtol(worker + n + 1, NULL, 10));
}

/* "here-PID-UUID-HOST": whose it is, before the run has a worker. */
static void name_queue(char to[160])
{
	char uuid[DUCT_UUID_LEN], host[64];
	(void)host_name(host);
	for (char *c = host; *c; c++)
		*c = isalnum((unsigned char)*c) || *c == '.' ? *c : '_';
	(void)snprintf(to, 160, RUN_HERE_QUEUE "%ld-%s-%s", (long)getpid(), duct_uuid_v7(uuid), host);
}

static bool is_left(const struct state_run *run)
{
	char own[160];
	size_t n = strlen(RUN_HERE_QUEUE);
	name_queue(own);
	const char *host = strrchr(own, '-'), *its = strrchr(run->queue, '-');
	if (run->state == STATE_RUN_RUNNING)
		return is_gone(run->worker);
	return strncmp(run->queue, RUN_HERE_QUEUE, n) == 0 && strcmp(its, host) == 0 &&
		is_gone_here(strtol(run->queue + n, NULL, 10));
}

static int wait_for_stop(const struct doing *d, int ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = d->ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, ms);
	return duct_ctx_stopped(d->ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped before it began") : 0;
}

static void say_waiting(const struct doing *d, const struct state_run *run)
{
	char text[160];
	(void)snprintf(text, sizeof text, "run %s was begun by a process that is gone: waiting for its lease to end (%g s at most)",
		       run->id, (double)d->settings.run_lease_ms / 1000);
	if (d->here->show)
		d->here->show(d->here->arg, run, &(struct state_run_line){.level = "warn", .text = text}, 1);
}

static int submit(struct doing *d, struct duct_arena *arena, struct duct_error *err)
{
	static const struct state_actor actor = {.name = "local", .via = "cli"};
	struct state_run run = *d->here->run, made;
	name_queue(d->queue);
	run.queue = d->queue;
	run.max_attempts = run.max_attempts ? run.max_attempts : 1;
	const char *key = run_job_key(run.kind, run.input, arena);
	if (!run.key)
		run.key = key;
	run_job_limit(&run, key);
	(void)run_job_partition(run.kind, run.input, arena, &run.partition); /* or as it is */
	for (bool said = false;; said = true) {
		int rc = state_run_reap(d->state, err);
		rc = rc < 0 ? rc : state_run_submit(d->state, arena, &run, &actor, &made, err);
		if (rc == 1)
			(void)snprintf(d->id, sizeof d->id, "%s", made.id);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		if (!is_left(&made))
			return duct_fail(err, DUCT_RETRY,
					 "run %s is %s and does the same (key \"%s\"): `ductstream runs show --id %s`", made.id,
					 state_run_state_name(made.state), run.key ? run.key : "", made.id);
		if (!said)
			say_waiting(d, &made);
		if ((rc = wait_for_stop(d, LOOK_MS, err)))
			return rc;
	}
}

/* --- until it is over --- */

static bool is_over(enum state_run_state state)
{
	return state != STATE_RUN_QUEUED && state != STATE_RUN_RUNNING;
}

static void ended(void *arg, enum state_run_state to, const struct duct_error *err)
{
	struct doing *d = arg;
	uint64_t one = 1;
	pthread_mutex_lock(&d->lock);
	d->failed = err != NULL;
	if (err)
		d->error = *err;
	pthread_mutex_unlock(&d->lock);
	ssize_t n = is_over(to) ? write(d->ended_fd, &one, sizeof one) : 0;
	(void)n; /* an eventfd takes it */
}

static int look(struct doing *d, struct duct_arena *arena, struct state_run *ret, struct duct_error *err)
{
	struct state_run_line lines[MOST_LINES];
	int n;
	do {
		int rc = state_run_get(d->state, arena, d->id, ret, err);
		n = rc < 0 ? rc : state_run_lines(d->state, arena, d->id, d->seen, MOST_LINES, lines, err);
		if (n < 0)
			return n;
		if (rc == 0)
			return duct_fail(err, DUCT_FATAL, "run %s is not there any more", d->id);
		if (n > 0)
			d->seen = lines[n - 1].seq;
		if (d->here->show)
			d->here->show(d->here->arg, ret, lines, n);
	} while (n == MOST_LINES);
	return 0;
}

static int wait_on(struct doing *d, struct duct_error *err)
{
	int64_t now = duct_mono_us();
	if (d->waited_us && now - d->waited_us < d->settings.run_lease_ms * 1000 / 4)
		return 0;
	d->waited_us = now;
	return state_run_wait(d->state, d->id, d->settings.run_lease_ms, err);
}

/* A look that fails is not the end of the work. */
static void attend(struct doing *d)
{
	for (;;) {
		struct duct_error ignored;
		struct duct_arena arena;
		struct state_run now;
		struct pollfd fds[] = {{.fd = d->ended_fd, .events = POLLIN}, {.fd = d->ctx->stop_fd, .events = POLLIN}};
		(void)poll(fds, DUCT_LEN(fds), LOOK_MS);
		if (fds[0].revents || duct_ctx_stopped(d->ctx))
			return;
		duct_arena_init(&arena);
		int rc = look(d, &arena, &now, &ignored);
		duct_arena_done(&arena);
		if (rc == 0 && now.state == STATE_RUN_QUEUED)
			rc = wait_on(d, &ignored);
		if (rc == 0 && is_over(now.state)) /* cancelled while it was queued */
			return;
	}
}

static int execute(struct doing *d, struct duct_error *err)
{
	static const struct state_actor actor = {.name = "local", .via = "cli"};
	struct run_executor *executor;
	struct run_executor_config config = {.state = d->state, .log = NULL};
	run_executor_configure(&config, &d->settings);
	config.queues = d->queue;
	config.workers = 1;
	config.poll_ms = LOOK_MS / 2;
	config.ended = ended;
	config.ended_arg = d;
	int rc = run_executor_start(&executor, &config, err);
	if (rc < 0)
		return rc;
	attend(d);
	if (duct_ctx_stopped(d->ctx))
		rc = state_run_cancel(d->state, d->id, &actor, err);
	run_executor_stop(executor);
	return rc < 0 ? rc : 0;
}

static int outcome(struct doing *d, const struct state_run *run, struct duct_error *err)
{
	if (run->state == STATE_RUN_SUCCEEDED || run->state == STATE_RUN_SKIPPED)
		return 0;
	if (run->state == STATE_RUN_CANCELLED)
		return duct_fail(err, DUCT_CANCELLED, "run %s: cancelled", run->id);
	if (!d->failed)
		return duct_fail(err, DUCT_RETRY, "run %s is %s: %.800s", run->id, state_run_state_name(run->state),
				 run->error ? run->error : "somebody else has it");
	*err = d->error;
	return -(int)err->class;
}

static int do_it(struct doing *d, struct duct_arena *arena, struct state_run *ret, struct duct_error *err)
{
	struct state_config config;
	int rc = state_config_from_env(&config, arena, err);
	rc = rc ? rc : state_open(&d->state, &config, err);
	rc = rc ? rc : submit(d, arena, err);
	rc = rc ? rc : wait_on(d, err);
	if (!rc)
		duct_kill_point("run-submitted");
	rc = rc ? rc : execute(d, err);
	if (!*d->id)
		return rc;
	struct duct_error why = *err;
	int shown = look(d, arena, ret, rc ? &why : err);
	return rc ? rc : shown ? shown : outcome(d, ret, err);
}

int run_here(const struct duct_ctx *ctx, const struct run_here *here, struct duct_arena *arena, struct state_run *ret,
	     struct duct_error *err)
{
	struct doing d = {.ctx = ctx, .here = here, .ended_fd = eventfd(0, EFD_CLOEXEC)};
	*ret = (struct state_run){0};
	if (d.ended_fd < 0)
		return duct_fail(err, DUCT_RETRY, "a descriptor cannot be made: %s", strerror(errno));
	int rc = run_job_check(here->run->kind, here->run->flow_id, here->run->input, err);
	rc = rc ? rc : service_settings_from_env(&d.settings, err);
	if (rc == 0) {
		pthread_mutex_init(&d.lock, NULL);
		rc = do_it(&d, arena, ret, err);
		state_close(d.state);
		pthread_mutex_destroy(&d.lock);
		service_settings_done(&d.settings);
	}
	close(d.ended_fd);
	return rc;
}
