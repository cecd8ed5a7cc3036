#include "worker/worker.h"

#include <inttypes.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/definition.h"
#include "worker/gate.h"
#include "worker/lease.h"
#include "worker/takeover.h"
#include "worker/watch.h"

enum {
	LOCKED_MS = 1000,
	LOOK_MS = 250,
	MOMENT_MS = 60000,
	MOMENT_LEAST_MS = 3000 /* of our own time, however old the pause is: clocks differ */
};

enum next { NEXT_END, NEXT_LOAD, NEXT_POLL, NEXT_HELD, NEXT_WAIT, NEXT_REST };

struct worker {
	const struct worker_flow *work;
	struct state *state;
	struct checkpoints *checkpoints;
	const struct duct_ctx *ctx;
	struct state_actor actor;
	char actor_name[192];
	struct lease lease;
	struct flow_replay replay; /* lsn 0: none */
};

/* One definition of the flow, ready to run. */
struct loaded {
	struct flow_file *file;
	int64_t revision, started_us; /* started_us: when the flow got its state */
	enum state_flow_state state;
	bool atomic;
	char slot[64], *dsn;
};

static void loaded_done(struct loaded *loaded)
{
	flow_file_free(loaded->file);
	free(loaded->dsn);
	*loaded = (struct loaded){0};
}

static const char *option_text(json_t *options, const char *name)
{
	const char *text = json_string_value(json_object_get(options, name));
	return text ? text : "";
}

static void override_number(json_t *options, const char *name, int64_t value)
{
	char text[32];
	snprintf(text, sizeof text, "%" PRId64, value);
	if (value)
		json_object_set_new(options, name, json_string(text));
}

/* What the command line says wins, for this run only. */
static void override_options(const struct worker_flow *work, json_t *definition)
{
	json_t *options = definition_source_options(definition);
	if (work->snapshot_workers)
		json_object_del(options, "parallel_tables");
	override_number(options, "snapshot_workers", work->snapshot_workers);
	override_number(options, "partition_count", work->partition_count);
	if (work->partition_column)
		json_object_set_new(options, "partition_column", json_string(work->partition_column));
}

static int load_definition(struct worker *w, const struct state_flow *flow, struct loaded *to, struct duct_error *err)
{
	AUTO_JSON json_t *definition = definition_parse(flow->definition, err);
	if (!definition)
		return -DUCT_FATAL;
	int rc = definition_reveal(definition, flow->id, w->state, err);
	if (rc)
		return rc;
	override_options(w->work, definition);
	to->atomic = definition_is_atomic(definition);
	to->dsn = duct_xstrdup(option_text(definition_source_options(definition), "dsn"));
	snprintf(to->slot, sizeof to->slot, "%s", option_text(definition_source_options(definition), "slot"));
	return definition_load(&to->file, definition, flow->id, err);
}

/* Why a flow in that state is not run. */
static int refuse(const struct state_flow *flow, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"flow \"%s\" is %s%s%s%s: a worker runs a flow that is created or running; resume it first (FlowService.ResumeFlow, "
		"ductstream-admin flow resume)",
		flow->id, state_flow_state_name(flow->state), *flow->reason ? " (" : "", flow->reason, *flow->reason ? ")" : "");
}

static bool may_run(const struct worker *w, enum state_flow_state state)
{
	bool follows = state == STATE_FLOW_CREATED || state == STATE_FLOW_RUNNING;
	return w->work->backfill ? state != STATE_FLOW_FAILED : follows;
}

/* Is the worker for as long as the flow runs? */
static bool stays(const struct worker *w)
{
	return !w->work->backfill && !w->work->max_empty_reads;
}

/* Looks the flow up; with `load` its definition, too. NEXT_REST: it is paused for a moment, which we wait for. */
static int look_up(struct worker *w, bool load, struct loaded *to, struct duct_error *err)
{
	struct duct_arena arena;
	struct state_flow flow;
	duct_arena_init(&arena);
	int rc = state_flow_get(w->state, &arena, w->work->flow_id, &flow, err);
	if (rc == 0)
		rc = duct_fail(err, DUCT_CONFIG, "flow \"%s\": there is none in %s", w->work->flow_id, state_describe(w->state));
	to->started_us = rc > 0 ? flow.updated_us : 0;
	if (rc > 0 && stays(w) && state_flow_rests_a_moment(&flow))
		rc = NEXT_REST;
	else if (rc > 0 && !may_run(w, flow.state))
		rc = refuse(&flow, err);
	else if (rc > 0) {
		to->revision = flow.revision;
		to->state = flow.state;
		rc = load ? load_definition(w, &flow, to, err) : 0;
	}
	duct_arena_done(&arena);
	return rc;
}

/* Moves the flow on, when it is still ours and in that state. A failure to do so is only told: the run's own end counts. */
static void move(struct worker *w, enum state_flow_state from, enum state_flow_state to, const char *reason)
{
	struct duct_error err;
	bool refused = false;
	if (state_flow_move(w->state, w->work->flow_id, from, to, reason, &w->actor, &refused, &err) < 0)
		log_warn(w->ctx->log, "the state of the flow was not changed", LOG_STR("to", state_flow_state_name(to)),
			 LOG_STR("error", err.message));
}

static bool is_final(int rc)
{
	return rc == -DUCT_FATAL || rc == -DUCT_CONFIG || rc == -DUCT_DATA;
}

static int lost(struct worker *w, struct duct_error *err)
{
	return duct_fail(err, DUCT_RETRY, "the lease of flow \"%s\" was lost: another worker may run it", w->work->flow_id);
}

/* Whether an error that stays is the flow's own, and not of what this run was asked for besides: a copy, a replay. */
static bool blames_flow(const struct worker *w)
{
	return !w->work->backfill && (!w->replay.lsn || w->replay.done);
}

/* Nothing of its definition was replaced by the command line. */
static bool is_plain(const struct worker_flow *work)
{
	return !work->snapshot_workers && !work->partition_count && !work->partition_column;
}

/* The flow was not running any more. It may be paused for a moment only, or run again by now. */
static int left(struct worker *w)
{
	struct loaded now = {0};
	struct duct_error unused; /* why it is not run: whoever made it so knows */
	int rc = stays(w) && !duct_ctx_stopped(w->ctx) ? look_up(w, false, &now, &unused) : NEXT_END;
	if (rc == NEXT_REST)
		return rc;
	if (rc == 0 && now.state == STATE_FLOW_RUNNING)
		return NEXT_LOAD;
	log_info(w->ctx->log, "the flow is not running any more");
	return NEXT_END;
}

/* What the end of a run means: enum next, or -class. */
static int verdict_of(struct worker *w, enum watch_verdict verdict, int rc, bool held, bool gives_up, struct duct_error *err)
{
	struct duct_error asked;
	/* Who took over may be what made the run fail: nothing is said about the flow then. */
	if (verdict == WATCH_LOST || (rc && lease_is_ours(&w->lease, &asked) == 0))
		return lost(w, err);
	if (verdict == WATCH_STOPPED)
		return rc;
	if (rc == -DUCT_CANCELLED && held)
		return NEXT_HELD;
	if (rc == -DUCT_CONFIG && (err->vendor_code & 0xff) == SQLITE_BUSY)
		return NEXT_WAIT;
	if (is_final(rc)) {
		/* A replay that is refused changes nothing, and says nothing about the flow. */
		if (blames_flow(w))
			move(w, STATE_FLOW_RUNNING, STATE_FLOW_FAILED, err->message);
		return rc;
	}
	if (verdict == WATCH_CHANGED) {
		log_info(w->ctx->log, "the flow was changed: going on with its new definition");
		return NEXT_LOAD;
	}
	if (verdict == WATCH_LEFT)
		return left(w);
	/* Asked to give up, it did: it is not begun again by itself. */
	if (rc == -DUCT_RETRY && gives_up && !w->work->backfill && !w->work->max_empty_reads)
		move(w, STATE_FLOW_RUNNING, STATE_FLOW_FAILED, err->message);
	if (rc == 0 && w->work->max_empty_reads && !w->work->backfill)
		return NEXT_POLL;
	if (rc == 0 && !w->work->backfill)
		move(w, STATE_FLOW_RUNNING, STATE_FLOW_STOPPED, "the copy is done: the source's option snapshot is \"only\"");
	return rc;
}

/* A catalog that another client has locked is not a mistake in the flow: it is tried again, as long as it is wanted. */
static int wait_out(struct worker *w, const struct duct_error *err)
{
	struct pollfd fds[] = {{.fd = w->ctx->stop_fd, .events = POLLIN}, {.fd = w->lease.lost_fd, .events = POLLIN}};
	log_warn(w->ctx->log, "the flow cannot begin yet", LOG_STR("error", err->message));
	(void)poll(fds, DUCT_LEN(fds), LOCKED_MS); /* EINTR: a little earlier */
	return duct_ctx_stopped(w->ctx) ? NEXT_END : NEXT_LOAD;
}

/* One run of one definition. */
static int run_once(struct worker *w, const struct loaded *loaded, uint64_t *ret_rows, struct duct_error *err)
{
	struct watch watch = {
		.work = w->work,
		.state = w->state,
		.checkpoints = w->checkpoints,
		.lease = &w->lease,
		.user = w->ctx,
		.revision = loaded->revision,
		.spec = &loaded->file->spec,
		.actor = &w->actor,
		.mirror = loaded->atomic,
	};
	const struct flow_file *file = loaded->file;
	struct govern_ddl_policy policy;
	int rc = gate_policy(&file->ddl, &policy, err);
	rc = rc ? rc : watch_start(&watch, err);
	if (rc)
		return rc;
	struct govern_ddl *govern = govern_ddl_new(w->state, w->work->flow_id, &policy, &w->actor, w->ctx->log);
	const struct flow_options options = {
		.backfill = w->work->backfill,
		.replay = w->replay.lsn ? &w->replay : NULL,
		.resolve_staging = w->work->resolve_staging,
		.until_caught_up = w->work->max_empty_reads > 0,
		.output = w->work->output,
		.max_memory_bytes = file->config.max_memory_bytes,
		.give_up_ms = file->config.give_up_ms,
		.started_us = loaded->started_us,
		.abort = &watch.abort,
		.abort_fd = watch.abort_fd,
		.ddl = govern_ddl_hook(govern),
		.counters = &watch.counters,
	};
	rc = flow_run(&file->spec, &options, &watch.ctx, err);
	*ret_rows = flow_counted(&watch.counters.committed_rows) + flow_counted(&watch.counters.copied_rows);
	rc = verdict_of(w, watch_end(&watch), rc, govern_ddl_held(govern) != 0, file->spec.gives_up, err);
	if (rc == NEXT_HELD) {
		rc = gate_wait(govern, w->state, w->work->flow_id, &w->actor, &w->lease, w->ctx, !w->work->max_empty_reads, err);
		rc = rc == 1 ? NEXT_LOAD : rc == 0 ? left(w) : rc;
	}
	govern_ddl_free(govern);
	return rc == NEXT_WAIT ? wait_out(w, err) : rc;
}

static int reload(struct worker *w, struct loaded *loaded, struct duct_error *err)
{
	loaded_done(loaded);
	int rc = look_up(w, true, loaded, err);
	if (is_final(rc) && blames_flow(w) && is_plain(w->work))
		move(w, STATE_FLOW_RUNNING, STATE_FLOW_FAILED, err->message);
	return rc;
}

/* Runs the flow, anew with each new definition, until it ends. */
static int run(struct worker *w, struct loaded *loaded, struct duct_error *err)
{
	for (int64_t empty = 0;;) {
		uint64_t rows = 0;
		int rc = run_once(w, loaded, &rows, err);
		if (rc == NEXT_LOAD)
			rc = reload(w, loaded, err);
		else if (rc != NEXT_POLL)
			return rc;
		else
			/* The end of the first run is an empty poll, and of each that met nothing new. */
			empty = rows && empty ? 1 : empty + 1;
		if (rc < 0 || rc == NEXT_REST)
			return rc;
		if (empty && (empty >= w->work->max_empty_reads || duct_ctx_stopped(w->ctx)))
			return 0;
	}
}

/* With the lease in hand. */
static int own(struct worker *w, struct duct_error *err)
{
	struct loaded loaded = {0};
	int rc = look_up(w, true, &loaded, err);
	if (is_final(rc) && loaded.state == STATE_FLOW_RUNNING && blames_flow(w) && is_plain(w->work))
		move(w, STATE_FLOW_RUNNING, STATE_FLOW_FAILED, err->message);
	if (!rc && loaded.state == STATE_FLOW_CREATED && !w->work->backfill)
		move(w, STATE_FLOW_CREATED, STATE_FLOW_RUNNING, "started by its worker");
	if (!rc && *w->lease.last_holder) {
		takeover_end(w->lease.last_holder, w->work->flow_id, w->ctx);
		rc = takeover_free_slot(loaded.dsn, loaded.slot, w->ctx, err);
	}
	rc = rc ? rc : run(w, &loaded, err);
	loaded_done(&loaded);
	return rc;
}

/* Whoever paused the flow for a moment is gone: a server that was killed inside ReconfigureFlow, for example. */
static int end_moment(struct worker *w)
{
	struct duct_error err;
	int rc = state_flow_end_moment(w->state, w->work->flow_id, "whoever paused it for a moment did not resume it", &w->actor,
				       &err);
	if (rc < 0)
		log_warn(w->ctx->log, "the flow's pause for a moment cannot be ended", LOG_STR("error", err.message));
	return rc == 1 ? 0 : NEXT_REST;
}

/* Without the lease, so that the flow can be changed. 1: it runs again, after a minute by our doing. 0: it does not, or we are to end. */
static int rest(struct worker *w)
{
	struct pollfd stop = {.fd = w->ctx->stop_fd, .events = POLLIN};
	int64_t began = duct_mono_us();
	int rc = NEXT_REST;
	w->actor.fence = 0;
	log_info(w->ctx->log, "the flow is paused for a moment");
	while ((rc == NEXT_REST || rc == -DUCT_RETRY) && !duct_ctx_stopped(w->ctx)) {
		struct loaded now = {0};
		struct duct_error unused;      /* a state that is away may come back; anything else is the flow's end here */
		(void)poll(&stop, 1, LOOK_MS); /* EINTR: looks a little earlier */
		rc = look_up(w, false, &now, &unused);
		int64_t waited_ms = (duct_mono_us() - began) / 1000, age_ms = (duct_wall_us() - now.started_us) / 1000;
		if (rc == NEXT_REST && waited_ms >= MOMENT_LEAST_MS && (waited_ms >= MOMENT_MS || age_ms >= MOMENT_MS))
			rc = end_moment(w);
	}
	bool goes_on = rc == 0 && !duct_ctx_stopped(w->ctx);
	log_info(w->ctx->log, goes_on ? "the flow goes on" : "the flow is not running any more");
	return goes_on;
}

/* Who stops a flow that has a worker leaves the rest to that one, however far it has come: also when it had just begun, or was about to end. */
static void end_stopping(struct worker *w)
{
	struct duct_arena arena;
	struct state_flow flow;
	struct duct_error unused; /* whoever stops or starts it next sees to it */
	duct_arena_init(&arena);
	if (state_flow_get(w->state, &arena, w->work->flow_id, &flow, &unused) == 1 && flow.state == STATE_FLOW_STOPPING)
		move(w, STATE_FLOW_STOPPING, STATE_FLOW_STOPPED, "its worker has ended");
	duct_arena_done(&arena);
}

/* Takes the lease, runs the flow, gives the lease back: enum next, or -class. */
static int take_turn(struct worker *w, struct duct_error *err)
{
	struct loaded unused = {0};
	w->actor.fence = 0;
	/* Before the lease: who asks for a flow that is paused is told so at once. */
	int rc = look_up(w, false, &unused, err);
	rc = rc ? rc : lease_take(&w->lease, w->state, w->work->flow_id, w->ctx, err);
	if (rc)
		return rc;
	w->actor.fence = w->lease.fence; /* from now on nothing is changed once another owner has come */
	rc = own(w, err);
	lease_give_back(&w->lease);
	if (!atomic_load(&w->lease.lost))
		end_stopping(w); /* without the lease: who stops the flow from here on finds it without a worker */
	return rc;
}

int worker_run_flow(const struct worker_flow *work, struct state *state, struct checkpoints *checkpoints,
		    const struct duct_ctx *ctx, struct duct_error *err)
{
	struct worker w = {
		.work = work,
		.state = state,
		.checkpoints = checkpoints,
		.ctx = ctx,
		.replay = {.lsn = work->replay_lsn, .append = work->replay_append},
	};
	char host[LEASE_HOST_LEN];
	lease_host(host);
	snprintf(w.actor_name, sizeof w.actor_name, "worker:%s:%d", host, (int)getpid());
	w.actor = (struct state_actor){.name = w.actor_name, .via = "worker"};
	int rc;
	while ((rc = take_turn(&w, err)) == NEXT_REST)
		if (!rest(&w))
			return 0;
	return rc;
}
