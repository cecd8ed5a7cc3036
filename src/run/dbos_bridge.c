/*
 * Rows of a DBOS queue as runs of ours. Each look: what is due is swept, what is enqueued is claimed and submitted under the same id, what is
 * over here is finished there, what was cancelled there is cancelled here. A bridge that dies leaves both sides as they are; the
 * next one adopts the rows and finds the runs by their ids.
 */
#include "run/dbos.h"

#include <jansson.h>
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
#include "base/uuid.h"
#include "run/jobs.h"
#include "state/flows.h"

enum { LEASE_MS = 10000, RENEW_MS = 2000, LOOK_MS = 200, AWAY_MS = 2000, MOST_HELD = 200, MOST_ID = 1000 };

struct dbos_bridge {
	struct dbos_config config;
	struct state *state;
	const struct duct_log *log;
	struct run_executor *executor;
	pthread_t thread;
	atomic_bool stopping;
	int stop_fd;
	char name[160], lease[128];
	int64_t fence, renew_us;
	struct dbos dbos; /* session NULL: not connected */
	char **held;	  /* ids of what we have claimed */
	size_t n_held, cap_held;
	bool failing, warned;
};

/* --- a row as a run --- */

static const json_t *argument(const json_t *inputs, const char *name, size_t position)
{
	const json_t *named = json_object_get(inputs, "namedArgs"), *list = json_object_get(inputs, "positionalArgs");
	if (!named)
		named = json_object_get(inputs, "kwargs");
	if (!list)
		list = json_object_get(inputs, "args");
	const json_t *value = json_object_get(named, name);
	return value ? value : json_array_get(list, position);
}

static const char *text_argument(const json_t *inputs, const char *name, size_t position)
{
	const char *text = json_string_value(argument(inputs, name, position));
	return text ? text : "";
}

static char *input_of(const struct dbos_bridge *b, const json_t *inputs, bool flow)
{
	const json_t *given = argument(inputs, flow ? "max_empty_reads" : "input", flow ? 1 : 2);
	if (!flow)
		return json_is_object(given) ? json_dumps(given, JSON_COMPACT) : duct_xstrdup("{}");
	int64_t reads = json_is_integer(given) ? json_integer_value(given) : b->config.max_empty_reads;
	return duct_xasprintf("{\"max_empty_reads\":%lld}", (long long)reads);
}

/* Kinds that only admins enqueue are not for whoever can write to the queue. What no index of the state holds would be tried for ever. */
static int check_run(const struct state_run *run, struct duct_error *err)
{
	if (strlen(run->id) > MOST_ID)
		return duct_fail(err, DUCT_CONFIG, "workflow id: longer than %d bytes", MOST_ID);
	if (strlen(run->flow_id) > RUN_MOST_NAME)
		return duct_fail(err, DUCT_CONFIG, "flow_id: longer than %d bytes", RUN_MOST_NAME);
	if (run_job_check_settings(run, err) < 0)
		return -(int)err->class;
	const struct run_job *job = run_job_find(run->kind);
	if (job && job->admin)
		return duct_fail(err, DUCT_CONFIG, "kind: runs of kind \"%s\" are not taken from DBOS", run->kind);
	return run_job_check(run->kind, run->flow_id, run->input, err);
}

/* What the run that is there says about the row: 1 it is finished, 0 it goes on. */
static int settle(struct dbos_bridge *b, const char *id, const struct state_run *run, struct duct_error *err)
{
	int rc = 0;
	switch (run->state) {
	case STATE_RUN_SUCCEEDED:
	case STATE_RUN_SKIPPED: rc = dbos_finish(&b->dbos, id, run, run->result ? run->result : "{}", NULL, err); break;
	case STATE_RUN_FAILED: rc = dbos_finish(&b->dbos, id, run, NULL, run->error ? run->error : "failed", err); break;
	case STATE_RUN_CANCELLED: rc = dbos_finish(&b->dbos, id, run, NULL, "cancelled", err); break;
	default: return 0;
	}
	return rc < 0 ? rc : 1;
}

/* A run that was over before is begun anew: somebody resumed the workflow. */
static int again(struct dbos_bridge *b, const char *id, const struct state_run *run, struct duct_error *err)
{
	if (run->state != STATE_RUN_FAILED && run->state != STATE_RUN_CANCELLED)
		return settle(b, id, run, err);
	int rc = state_run_retry(b->state, id, NULL, err);
	return rc < 0 ? rc : 0;
}

/* Another run of the same flow goes on. */
static int skip(struct dbos_bridge *b, const char *id, const struct state_run *other, struct duct_error *err)
{
	AUTO_BUF struct duct_buf why = {0};
	duct_buf_puts(&why, "{\"skipped\":\"a run of the flow is under way\",\"run_id\":");
	duct_buf_json_string(&why, other->id, strlen(other->id));
	duct_buf_putc(&why, '}');
	int rc = dbos_finish(&b->dbos, id, NULL, why.data, NULL, err);
	return rc < 0 ? rc : 1;
}

static void hold(struct dbos_bridge *b, const char *id)
{
	b->held = duct_grow(b->held, &b->cap_held, b->n_held + 1, sizeof *b->held);
	b->held[b->n_held++] = duct_xstrdup(id);
}

/* adopted: the run may be over, and that is its end. Otherwise the row was enqueued, and is to be done. */
static int submit(struct dbos_bridge *b, struct duct_arena *arena, const struct dbos_row *row, bool adopted, struct duct_error *err)
{
	json_t *inputs = json_loads(row->inputs, 0, NULL);
	bool flow = strcmp(row->name, "ductstream.run_flow") == 0;
	AUTO_FREE char *input = input_of(b, inputs, flow);
	const char *flow_id = text_argument(inputs, "flow_id", flow ? 0 : 1);
	AUTO_FREE char *key = *flow_id ? duct_xasprintf("flow/%s", flow_id) : NULL;
	struct state_run there,
		run = {
			.id = row->id,
			.kind = flow ? "flow-once" : text_argument(inputs, "kind", 0),
			.key = key,
			.flow_id = flow_id,
			.input = input,
			.tags = "{\"from\":\"dbos\"}",
			.max_attempts = b->config.max_retries + 1,
		};
	int rc = check_run(&run, err);
	if (rc == -DUCT_CONFIG) {
		struct duct_error why = *err;
		rc = dbos_finish(&b->dbos, row->id, NULL, NULL, why.message, err);
		rc = rc < 0 ? rc : 1;
	} else if (rc == 0 && (rc = state_run_submit(b->state, arena, &run, NULL, &there, err)) == 0) {
		bool same = strcmp(there.id, row->id) == 0;
		rc = !same	  ? skip(b, row->id, &there, err)
			: adopted ? settle(b, row->id, &there, err)
				  : again(b, row->id, &there, err);
	} else if (rc == 1) {
		rc = 0;
	}
	if (rc == 0)
		hold(b, row->id);
	json_decref(inputs);
	return rc < 0 ? rc : 0;
}

/* --- what is held --- */

static bool is_in(const char *const *list, int n, const char *id)
{
	for (int i = 0; i < n; i++)
		if (strcmp(list[i], id) == 0)
			return true;
	return false;
}

static void let_go(struct dbos_bridge *b, size_t i)
{
	free(b->held[i]);
	b->held[i] = b->held[--b->n_held];
}

/* Ends there what is over here, and here what was ended there. */
static int follow(struct dbos_bridge *b, struct duct_arena *arena, struct duct_error *err)
{
	const char **ours;
	struct state_run run;
	if (!b->n_held)
		return 0;
	int n = dbos_held(&b->dbos, arena, &ours, err);
	if (n < 0)
		return n;
	for (size_t i = b->n_held; i-- > 0;) {
		int rc;
		if (!is_in(ours, n, b->held[i])) {
			rc = state_run_cancel(b->state, b->held[i], NULL, err);
			rc = rc < 0 ? rc : 1;
		} else if ((rc = state_run_get(b->state, arena, b->held[i], &run, err)) == 0) {
			rc = dbos_finish(&b->dbos, b->held[i], NULL, NULL, "the run was removed", err);
			rc = rc < 0 ? rc : 1;
		} else if (rc > 0) {
			rc = settle(b, b->held[i], &run, err);
		}
		if (rc < 0)
			return rc;
		if (rc > 0)
			let_go(b, i);
	}
	return 0;
}

/* --- looks --- */

static void forget(struct dbos_bridge *b)
{
	while (b->n_held)
		let_go(b, 0);
	dbos_close(&b->dbos);
}

static int submit_all(struct dbos_bridge *b, struct duct_arena *arena, const struct dbos_row *rows, int n, bool adopted,
		      struct duct_error *err)
{
	for (int i = 0; i < n; i++)
		if (submit(b, arena, &rows[i], adopted, err) < 0)
			return -(int)err->class;
	if (n > 0)
		run_executor_wake(b->executor);
	return n < 0 ? n : 0;
}

static int connect_dbos(struct dbos_bridge *b, struct duct_arena *arena, struct duct_error *err)
{
	struct dbos_row *rows;
	int rc = dbos_open(&b->dbos, &b->config, true, b->stop_fd, err);
	if (rc < 0)
		return rc;
	log_info(b->log, "DBOS: taking workflows", LOG_STR("app", b->config.app), LOG_STR("queue", b->config.queue),
		 LOG_I64("schema_version", b->dbos.version));
	if (b->dbos.version > DBOS_NEWEST && !b->warned)
		log_warn(b->log, "DBOS: a schema newer than what was tried", LOG_I64("schema_version", b->dbos.version),
			 LOG_I64("tried", DBOS_NEWEST));
	b->warned = true;
	rc = dbos_adopt(&b->dbos, arena, &rows, err);
	return submit_all(b, arena, rows, rc, true, err);
}

/* 1: we bridge. */
static int own(struct dbos_bridge *b, struct duct_arena *arena, struct duct_error *err)
{
	const char *holder;
	int64_t now = duct_mono_us(), fence = 0;
	if (now < b->renew_us)
		return b->fence != 0;
	if (b->fence && state_lease_renew(b->state, b->lease, b->name, b->fence, LEASE_MS, err) != 1)
		b->fence = 0;
	int rc = 1;
	if (!b->fence && (rc = state_lease_take(b->state, arena, b->lease, b->name, LEASE_MS, &fence, &holder, err)) == 1)
		b->fence = fence;
	if (!b->fence)
		forget(b); /* another one has adopted what was ours */
	b->renew_us = now + RENEW_MS * 1000;
	return rc;
}

static int look(struct dbos_bridge *b, struct duct_arena *arena, struct duct_error *err)
{
	struct dbos_row *rows;
	int rc = own(b, arena, err);
	if (rc <= 0)
		return rc;
	rc = b->dbos.session ? 0 : connect_dbos(b, arena, err);
	if (rc == 0)
		rc = dbos_sweep(&b->dbos, err);
	if (rc == 0)
		rc = follow(b, arena, err);
	if (rc == 0 && b->n_held < MOST_HELD) {
		int n = dbos_claim(&b->dbos, arena, (int)(MOST_HELD - b->n_held), &rows, err);
		rc = submit_all(b, arena, rows, n, false, err);
	}
	return rc;
}

static void *bridge_thread(void *arg)
{
	struct dbos_bridge *b = arg;
	struct duct_arena arena;
	duct_arena_init(&arena);
	while (!atomic_load(&b->stopping)) {
		struct duct_error err;
		int rc = look(b, &arena, &err);
		duct_arena_done(&arena);
		if (rc < 0 && rc != -DUCT_CANCELLED && !b->failing)
			log_error(b->log, "DBOS", LOG_STR("error", err.message));
		b->failing = rc < 0;
		if (rc < 0)
			forget(b);
		struct pollfd fd = {.fd = b->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, rc < 0 ? AWAY_MS : LOOK_MS);
	}
	return NULL;
}

/* --- life --- */

int dbos_bridge_start(struct dbos_bridge **ret, const struct dbos_config *config, struct state *state, const struct duct_log *log,
		      struct run_executor *executor, struct duct_error *err)
{
	char host[64] = "?", uuid[DUCT_UUID_LEN];
	struct dbos_bridge *b = duct_xcalloc(1, sizeof *b);
	b->config = *config;
	b->state = state;
	b->log = log;
	b->executor = executor;
	(void)gethostname(host, sizeof host - 1);
	(void)snprintf(b->name, sizeof b->name, "%s:%d:%s", host, (int)getpid(), duct_uuid_v4(uuid));
	(void)snprintf(b->lease, sizeof b->lease, "dbos/%.100s", config->app);
	b->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->stop_fd >= 0 && pthread_create(&b->thread, NULL, bridge_thread, b) == 0) {
		*ret = b;
		return 0;
	}
	if (b->stop_fd >= 0)
		close(b->stop_fd);
	free(b);
	return duct_fail(err, DUCT_RETRY, "DBOS cannot be bridged: no thread or descriptor left");
}

void dbos_bridge_stop(struct dbos_bridge *b)
{
	struct duct_error ignored;
	uint64_t one = 1;
	if (!b)
		return;
	atomic_store(&b->stopping, true);
	ssize_t n = write(b->stop_fd, &one, sizeof one);
	(void)n; /* the counter cannot overflow */
	pthread_join(b->thread, NULL);
	forget(b);
	/* The next one need not wait for the lease to run out; when this fails it does. */
	int rc = b->fence ? state_lease_release(b->state, b->lease, b->name, b->fence, &ignored) : 0;
	(void)rc;
	free(b->held);
	close(b->stop_fd);
	free(b);
}
