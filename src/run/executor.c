/* Threads and claims: see executor.h. What a job is: jobs.h. */
#include "run/executor.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"
#include "base/retry.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "run/inside.h"
#include "run/jobs.h"

enum { LEASE_MS = 10000, BACKOFF_MS = 1000, MOST_BACKOFF_MS = 300000, POLL_MS = 200, MOST_WORKERS = 64 };

/*
 * A run under way. The claiming thread fills it and hands it to a worker, and both read it; until that one sets `busy` false, only the atomics
 * are changed. Its memory is the claiming thread's, which may be sending a heartbeat when the run ends.
 */
struct slot {
	struct run_executor *executor;
	pthread_t thread;
	struct duct_arena arena;
	struct state_run run;
	atomic_bool busy;
	atomic_int stop; /* enum run_stop */
	int stop_fd;
	int64_t beat_us; /* of the last heartbeat that was answered, monotonic, taken before it was sent */
	bool unheard;	 /* the last one failed: said once; a state that cannot be written may be read all the same */
};

struct run_executor {
	struct run_executor_config config;
	char *queues; /* ",default,heavy," */
	char name[160];
	struct slot *slots;
	struct duct_queue *work;
	pthread_t thread;
	int wake_fd;
	atomic_bool stopping;
	uint64_t random;
	bool failing; /* the state cannot be reached: said once */
};

static void raise_fd(int fd)
{
	uint64_t one = 1;
	/* The counter cannot overflow, and nothing else makes a write to an eventfd fail. */
	ssize_t n = write(fd, &one, sizeof one);
	(void)n;
}

static void lower_fd(int fd)
{
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof count); /* EAGAIN: it was not raised */
	(void)n;
}

static uint64_t next_random(struct run_executor *e)
{
	e->random ^= e->random << 13;
	e->random ^= e->random >> 7;
	e->random ^= e->random << 17;
	return e->random;
}

/* --- one attempt, on a worker's thread --- */

static int64_t backoff_ms(const struct slot *slot)
{
	struct duct_retry retry;
	int64_t now = duct_mono_us();
	duct_retry_init(&retry, 0, (uint64_t)now ^ (uint64_t)slot->run.fence << 32);
	retry.base_us = slot->executor->config.backoff_ms * 1000;
	retry.cap_us = MOST_BACKOFF_MS * 1000LL;
	retry.failures = (int)(slot->run.attempt < 32 ? slot->run.attempt - 1 : 31);
	return duct_retry_failed(&retry, now, now) / 1000;
}

struct verdict {
	enum state_run_state to;
	const char *result, *error;
	int64_t delay_ms;
	bool given_back;
};

static struct verdict judge(const struct slot *slot, const struct run_work *work, int rc, const struct duct_error *err)
{
	enum run_stop stop = (enum run_stop)atomic_load(&slot->stop);
	if (rc == 0)
		return (struct verdict){.to = work->skipped ? STATE_RUN_SKIPPED : STATE_RUN_SUCCEEDED, .result = work->result};
	if (stop == RUN_STOP_CANCEL)
		return (struct verdict){.to = STATE_RUN_CANCELLED, .result = work->result, .error = "cancelled"};
	if (stop == RUN_STOP_SHUTDOWN)
		return (struct verdict){.to = STATE_RUN_QUEUED,
					.result = work->result,
					.error = "its worker was stopped",
					.given_back = true};
	if ((rc == -DUCT_RETRY || rc == -DUCT_CANCELLED) && slot->run.attempt < slot->run.max_attempts)
		return (struct verdict){.to = STATE_RUN_QUEUED, .error = err->message, .delay_ms = backoff_ms(slot)};
	return (struct verdict){.to = STATE_RUN_FAILED, .result = work->result, .error = err->message};
}

static int attempt(struct slot *slot, struct run_work *work, struct duct_error *err)
{
	const struct run_job *job = run_job_find(slot->run.kind);
	if (!job)
		return duct_fail(err, DUCT_RETRY, "kind: this worker (version " DUCT_VERSION ") does not know \"%s\"",
				 slot->run.kind);
	json_t *input = json_loads(slot->run.input, 0, NULL);
	work->input = input;
	int rc = json_is_object(input) ? job->check(input, err) : duct_fail(err, DUCT_CONFIG, "input_json: not an object");
	if (rc == 0)
		rc = job->work ? job->work(work, err) : run_work_inside(work, err);
	json_decref(input);
	return rc;
}

static int write_once(const struct slot *slot, const struct verdict *v, const char *error, struct duct_error *err)
{
	struct state *state = slot->executor->config.state;
	const struct state_run *run = &slot->run;
	return v->given_back ? state_run_give_back(state, run->id, run->fence, v->result, error, err)
			     : state_run_finish(state, run->id, run->fence, v->to, v->result, error, v->delay_ms, err);
}

/*
 * Until it is written down or somebody else has the run: the result of hours of work is not dropped because the state is away for a minute,
 * or refuses its role for one.
 * 1: it is written down; 0: somebody else has the run; -class: given up.
 */
static int write_down(struct slot *slot, const struct verdict *v, struct duct_error *err)
{
	struct run_executor *e = slot->executor;
	AUTO_FREE char *error = v->error ? run_clean_text(v->error, strlen(v->error)) : NULL;
	for (;;) {
		int rc = write_once(slot, v, error, err);
		if (rc != -DUCT_RETRY && rc != -DUCT_CONFIG)
			return rc;
		if (atomic_load(&slot->stop) == RUN_STOP_LOST || atomic_load(&e->stopping))
			return rc;
		struct pollfd fd = {.fd = atomic_load(&slot->stop) ? -1 : slot->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, 250);
	}
}

static void say(const struct slot *slot, const struct verdict *v, const char *error, int64_t began_us)
{
	const struct duct_log *log = slot->executor->config.log;
	if (slot->executor->config.ended)
		return;
	if (v->to == STATE_RUN_FAILED)
		log_error(log, "run failed", LOG_STR("run", slot->run.id), LOG_STR("kind", slot->run.kind),
			  LOG_I64("attempt", slot->run.attempt), LOG_STR("error", error));
	else
		log_info(log, "run", LOG_STR("run", slot->run.id), LOG_STR("kind", slot->run.kind),
			 LOG_I64("attempt", slot->run.attempt), LOG_STR("state", state_run_state_name(v->to)),
			 LOG_F64("seconds", (double)(duct_mono_us() - began_us) / 1e6));
}

/* v: NULL when somebody else has the run. */
static void end_span(const struct slot *slot, struct duct_span *span, const struct verdict *v)
{
	duct_span_text(span, "ductstream.run.kind", slot->run.kind);
	duct_span_text(span, "ductstream.run.id", slot->run.id);
	duct_span_number(span, "ductstream.run.attempt", slot->run.attempt);
	duct_span_text(span, "ductstream.run.state", v ? state_run_state_name(v->to) : "lost");
	duct_span_text(span, "ductstream.flow", slot->run.flow_id && *slot->run.flow_id ? slot->run.flow_id : NULL);
	duct_span_end(span, v ? v->error : NULL);
}

static void do_run(struct slot *slot)
{
	struct run_executor *e = slot->executor;
	struct duct_error err = {0};
	struct run_work work = {
		.state = e->config.state, .run = &slot->run, .arena = &slot->arena, .stop = &slot->stop, .stop_fd = slot->stop_fd};
	int64_t began_us = duct_mono_us();
	struct duct_span *span = duct_span_begin("run", DUCT_SPAN_CONSUMER, NULL);
	(void)duct_span_enter(span);
	int rc = attempt(slot, &work, &err);
	struct verdict v = judge(slot, &work, rc, &err);
	struct duct_error why = {0};
	int written = atomic_load(&slot->stop) == RUN_STOP_LOST ? 0 : write_down(slot, &v, &why);
	end_span(slot, span, written ? &v : NULL);
	if (written > 0 && e->config.ended)
		e->config.ended(e->config.ended_arg, v.to, rc ? &err : NULL);
	if (written > 0)
		say(slot, &v, err.message, began_us);
	else if (written == 0)
		log_warn(e->config.log, "run lost: somebody else has it", LOG_STR("run", slot->run.id),
			 LOG_I64("fence", slot->run.fence));
	else
		log_error(e->config.log, "end of a run not written down", LOG_STR("run", slot->run.id),
			  LOG_STR("error", why.message));
}

static void *worker_thread(void *arg)
{
	struct run_executor *e = arg;
	void *item;
	while (duct_queue_pop(e->work, &item, -1) == 1) {
		struct slot *slot = item;
		const struct duct_trace none = {0};
		do_run(slot);
		duct_trace_set(&none);
		atomic_store(&slot->busy, false); /* the arena stays: a heartbeat of this run may be under way */
		raise_fd(e->wake_fd);
	}
	return NULL;
}

/* --- claims, on a thread of their own --- */

static void stop_slot(struct slot *slot, enum run_stop why)
{
	if (atomic_load(&slot->stop) < (int)why) {
		atomic_store(&slot->stop, (int)why);
		raise_fd(slot->stop_fd);
	}
}

/* A state that cannot be reached is said once. */
static void state_failed(struct run_executor *e, const char *what, const struct duct_error *err)
{
	if (!e->failing)
		log_error(e->config.log, what, LOG_STR("error", err->message));
	e->failing = true;
}

static void heartbeat(struct slot *slot)
{
	struct run_executor *e = slot->executor;
	struct duct_error err;
	bool cancel = false;
	int64_t now = duct_mono_us();
	int rc = state_run_heartbeat(e->config.state, slot->run.id, slot->run.fence, e->config.lease_ms, &cancel, &err);
	bool said = slot->unheard;
	slot->unheard = rc < 0;
	if (rc == 1) {
		slot->beat_us = now;
		if (cancel)
			stop_slot(slot, RUN_STOP_CANCEL);
	} else if (rc == 0) {
		stop_slot(slot, RUN_STOP_LOST); /* or it has just been finished: then nobody looks */
	} else {
		if (!said)
			state_failed(e, "heartbeat of a run failed", &err);
		/* By its own clock too: others may take the run from here on. */
		if (duct_mono_us() - slot->beat_us > e->config.lease_ms * 1000)
			stop_slot(slot, RUN_STOP_LOST);
	}
}

static void heartbeats(struct run_executor *e)
{
	int64_t now = duct_mono_us();
	for (int i = 0; i < e->config.workers; i++) {
		struct slot *slot = &e->slots[i];
		if (atomic_load(&slot->busy) && atomic_load(&slot->stop) != RUN_STOP_LOST &&
		    now - slot->beat_us >= e->config.lease_ms * 1000 / 4)
			heartbeat(slot);
	}
}

static struct slot *free_slot(struct run_executor *e)
{
	for (int i = 0; i < e->config.workers; i++)
		if (!atomic_load(&e->slots[i].busy))
			return &e->slots[i];
	return NULL;
}

/* Claims until there is nothing, or nobody to do it. */
static void claims(struct run_executor *e)
{
	struct duct_error err;
	for (struct slot *slot; !atomic_load(&e->stopping) && (slot = free_slot(e));) {
		int64_t now = duct_mono_us();
		duct_arena_done(&slot->arena); /* of its last run */
		int rc = state_run_claim(e->config.state, &slot->arena, e->queues, e->name, e->config.lease_ms, &slot->run, &err);
		if (rc < 0)
			state_failed(e, "no run can be claimed", &err);
		else
			e->failing = false;
		if (rc <= 0)
			return;
		lower_fd(slot->stop_fd);
		atomic_store(&slot->stop, RUN_GOES_ON);
		slot->beat_us = now;
		slot->unheard = false;
		atomic_store(&slot->busy, true);
		(void)duct_queue_push(e->work, slot, 1, -1); /* it has room for all slots */
	}
}

static void *claim_thread(void *arg)
{
	struct run_executor *e = arg;
	int64_t reap_us = 0;
	while (!atomic_load(&e->stopping)) {
		struct duct_error err;
		heartbeats(e);
		int64_t now = duct_mono_us();
		if (now >= reap_us) {
			int n = state_run_reap(e->config.state, &err);
			if (n > 0)
				log_warn(e->config.log, "runs of workers that are gone", LOG_I64("runs", n));
			reap_us = now + e->config.lease_ms * 1000 / 10;
		}
		claims(e);
		/* Between half and one and a half of the average, so that many executors do not look in step. */
		int64_t wait = e->config.poll_ms / 2 + (int64_t)(next_random(e) % (uint64_t)(e->config.poll_ms + 1));
		struct pollfd fd = {.fd = e->wake_fd, .events = POLLIN};
		if (poll(&fd, 1, (int)wait) > 0)
			lower_fd(e->wake_fd);
	}
	return NULL;
}

/* --- life --- */

static int queue_list(struct run_executor *e, const char *queues, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	AUTO_FREE char *list = duct_xstrdup(queues && *queues ? queues : "default");
	char *rest = NULL;
	duct_buf_putc(&to, ',');
	for (char *name = strtok_r(list, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest)) {
		for (const char *c = name; *c; c++)
			if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
				return duct_fail(err, DUCT_CONFIG, "queue \"%.60s\": letters, digits, _ . and - only", name);
		duct_buf_printf(&to, "%s,", name);
	}
	if (to.len == 1)
		return duct_fail(err, DUCT_CONFIG, "no queue is named");
	e->queues = duct_steal(&to.data);
	return 0;
}

static void free_executor(struct run_executor *e)
{
	for (int i = 0; e->slots && i < e->config.workers; i++) {
		close(e->slots[i].stop_fd);
		duct_arena_done(&e->slots[i].arena);
	}
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	if (e->work)
		duct_queue_free(e->work);
	free(e->slots);
	free(e->queues);
	free(e);
}

static int set_up(struct run_executor *e, const char *queues, struct duct_error *err)
{
	char host[64] = "?", uuid[DUCT_UUID_LEN];
	if (queue_list(e, queues, err) < 0)
		return -(int)err->class;
	(void)gethostname(host, sizeof host - 1);
	(void)snprintf(e->name, sizeof e->name, "%s:%d:%.8s", host, (int)getpid(), duct_uuid_v4(uuid));
	e->random = (uint64_t)duct_mono_us() * 0x9e3779b97f4a7c15ULL | 1;
	e->work = duct_queue_new((size_t)e->config.workers);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->slots = duct_xcalloc((size_t)e->config.workers, sizeof *e->slots);
	bool ok = e->wake_fd >= 0;
	for (int i = 0; i < e->config.workers; i++) {
		e->slots[i].executor = e;
		duct_arena_init(&e->slots[i].arena);
		e->slots[i].stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ok = ok && e->slots[i].stop_fd >= 0;
	}
	return ok ? 0 : duct_fail(err, DUCT_RETRY, "descriptors cannot be made: %s", strerror(errno));
}

static void join_workers(struct run_executor *e, int n)
{
	duct_queue_close(e->work);
	for (int i = 0; i < n; i++)
		pthread_join(e->slots[i].thread, NULL);
}

int run_executor_start(struct run_executor **ret, const struct run_executor_config *config, struct duct_error *err)
{
	struct run_executor *e = duct_xcalloc(1, sizeof *e);
	e->config = *config;
	e->wake_fd = -1;
	e->config.workers = config->workers < 1 ? 1 : config->workers > MOST_WORKERS ? MOST_WORKERS : config->workers;
	e->config.lease_ms = config->lease_ms ? config->lease_ms : LEASE_MS;
	e->config.backoff_ms = config->backoff_ms ? config->backoff_ms : BACKOFF_MS;
	e->config.poll_ms = config->poll_ms ? config->poll_ms : POLL_MS;
	if (e->config.poll_ms > e->config.lease_ms / 4)
		e->config.poll_ms = e->config.lease_ms / 4;
	if (set_up(e, config->queues, err) < 0) {
		free_executor(e);
		return -(int)err->class;
	}
	int started = 0, rc = 0;
	while (started < e->config.workers && (rc = pthread_create(&e->slots[started].thread, NULL, worker_thread, e)) == 0)
		started++;
	if (rc == 0)
		rc = pthread_create(&e->thread, NULL, claim_thread, e);
	if (rc) {
		join_workers(e, started);
		free_executor(e);
		return duct_fail(err, DUCT_RETRY, "threads for runs cannot be started: %s", strerror(rc));
	}
	if (!config->ended)
		log_info(config->log, "taking runs", LOG_STR("worker", e->name), LOG_I64("workers", e->config.workers),
			 LOG_STR("queues", config->queues && *config->queues ? config->queues : "default"));
	*ret = e;
	return 0;
}

void run_executor_wake(struct run_executor *executor)
{
	if (executor)
		raise_fd(executor->wake_fd);
}

/* Heartbeats go on while the runs end: they may need their time. */
void run_executor_stop(struct run_executor *e)
{
	if (!e)
		return;
	atomic_store(&e->stopping, true);
	raise_fd(e->wake_fd);
	pthread_join(e->thread, NULL);
	for (bool any = true; any;) {
		any = false;
		for (int i = 0; i < e->config.workers; i++)
			if (atomic_load(&e->slots[i].busy)) {
				stop_slot(&e->slots[i], RUN_STOP_SHUTDOWN);
				any = true;
			}
		if (!any)
			break;
		heartbeats(e);
		struct pollfd fd = {.fd = e->wake_fd, .events = POLLIN};
		if (poll(&fd, 1, (int)(e->config.lease_ms / 8)) > 0)
			lower_fd(e->wake_fd);
	}
	join_workers(e, e->config.workers);
	free_executor(e);
}

/* --- settings, worker mode --- */

void run_executor_configure(struct run_executor_config *config, const struct service_settings *settings)
{
	config->workers = (int)settings->run_workers;
	config->queues = settings->run_queues;
	config->lease_ms = settings->run_lease_ms;
	config->backoff_ms = settings->run_backoff_ms;
}

static int take_runs(struct state *state, const struct service_settings *settings, const struct duct_ctx *ctx, const char *queues,
		     struct duct_error *err)
{
	struct run_executor *executor;
	struct run_executor_config config = {.state = state, .log = ctx->log};
	run_executor_configure(&config, settings);
	if (queues)
		config.queues = queues;
	if (config.workers < 1)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_RUN_WORKERS is 0: this worker would do nothing");
	if (run_executor_start(&executor, &config, err) < 0)
		return -(int)err->class;
	struct pollfd fd = {.fd = ctx->stop_fd, .events = POLLIN};
	while (!duct_ctx_stopped(ctx))
		(void)poll(&fd, 1, -1);
	run_executor_stop(executor);
	return 0;
}

int run_worker_main(const struct duct_ctx *ctx, const char *queues, struct duct_error *err)
{
	struct service_settings settings;
	struct state_config config;
	struct state *state = NULL;
	struct duct_arena arena;
	int rc = service_settings_from_env(&settings, err);
	if (rc)
		return rc;
	duct_arena_init(&arena);
	rc = state_config_from_env(&config, &arena, err);
	rc = rc ? rc : state_open(&state, &config, err);
	rc = rc ? rc : take_runs(state, &settings, ctx, queues, err);
	state_close(state);
	duct_arena_done(&arena);
	service_settings_done(&settings);
	return rc;
}
