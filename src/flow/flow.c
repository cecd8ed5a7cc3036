/*
 * The engine: supervisor (the caller of flow_run) and a thread that makes attempts, each of which opens both
 * sides, copies when that is due, streams, and closes; the supervisor passes signals on and shows progress.
 */
#include "flow/engine.h"

#include "base/clock.h"
#include "base/mem.h"
#include "options/text.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { DEFAULT_MEMORY_BYTES = 256 << 20, DEFAULT_GIVE_UP_MS = 5 * 60 * 1000, TERMINAL_FD = 2, DATA_FD = 1 };

int flow_signal_init(struct flow_signal *signal, struct duct_error *err)
{
	atomic_init(&signal->set, false);
	signal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (signal->fd < 0)
		return duct_fail(err, DUCT_RETRY, "make an event descriptor: %s", strerror(errno));
	return 0;
}

void flow_signal_done(struct flow_signal *signal)
{
	if (signal->fd >= 0)
		close(signal->fd);
	signal->fd = -1;
}

void flow_signal_raise(struct flow_signal *signal)
{
	atomic_store(&signal->set, true);
	uint64_t one = 1;
	/* It can only fail when the counter is full, and then the descriptor is readable anyway. */
	if (write(signal->fd, &one, sizeof one) < 0)
		return;
}

static void signal_clear(struct flow_signal *signal)
{
	uint64_t count;
	/* The flag goes last: who sees it set again raised it after this read, or will find the descriptor readable. */
	if (read(signal->fd, &count, sizeof count) < 0)
		count = 0;
	atomic_store(&signal->set, false);
}

void flow_engine_phase(struct flow_engine *e, enum flow_phase phase)
{
	atomic_store(&e->counters->phase, phase);
	flow_signal_raise(&e->wake); /* shown at once: a copy ends when it ends, not with the next line */
}

/* An abort may have come before the clearing; one that comes now raises it itself. */
static void calm(struct flow_engine *e, struct flow_signal *signal)
{
	signal_clear(signal);
	if (flow_aborting(e))
		flow_signal_raise(signal);
}

void flow_member_calm(struct flow_member *m)
{
	calm(m->e, m->stop);
}

void flow_engine_calm(struct flow_engine *e)
{
	calm(e, &e->source_stop);
	for (size_t i = 0; i < e->nmembers; i++)
		calm(e, &e->dest_stops[i]);
}

bool flow_engine_reached_head(struct flow_engine *e, uint64_t lsn)
{
	return e->have_head && lsn >= e->head.lsn;
}

/*
 * The first copy of destinations that have none: of all of them, or of those that join others, at a position of their own. Returns 1 when
 * the source wants to end with it.
 */
static int first_copy(struct flow_engine *e, const struct duct_checkpoint *from, struct duct_error *err)
{
	bool joins = from->state == DUCT_STATE_STREAMING;
	flow_engine_phase(e, FLOW_COPYING);
	if (flow_stopping(e))
		return duct_fail(err, DUCT_CANCELLED, "stopped before the first copy");
	if (joins && !e->src->snapshot_all)
		return duct_fail(err, DUCT_CONFIG, "source \"%s\" has no copy for a destination that is added later", e->src->name);
	e->copy_begun = true;
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		m->copying = !m->streaming && !m->given_up;
		if (m->copying)
			atomic_store(&m->view->state, FLOW_TO_COPYING);
		if (m->copying && m->ops->begin_copy(m->dest, m->from.source_identity, err))
			return -(int)err->class;
	}
	struct duct_snapshot *snap = NULL;
	int rc = joins		   ? e->src->snapshot_all(e->source, &snap, err)
		: e->src->snapshot ? e->src->snapshot(e->source, &snap, err)
				   : 0;
	if (rc < 0 || !snap)
		return rc;
	bool only = snap->only;
	rc = flow_copy(e, snap, true, err);
	return rc ? rc : only;
}

/* Streams, and copies the tables that the source meets on the way. */
static int stream_and_copy(struct flow_engine *e, struct duct_error *err)
{
	for (;;) {
		int rc = flow_stream(e, err);
		if (rc != 1)
			return rc;
		flow_engine_phase(e, FLOW_COPYING);
		if (flow_stopping(e))
			return duct_fail(err, DUCT_CANCELLED, "stopped before new tables were copied");
		for (size_t i = 0; i < e->nmembers; i++)
			e->members[i].copying = !e->members[i].given_up;
		struct duct_snapshot *snap = NULL;
		rc = e->src->snapshot(e->source, &snap, err);
		if (rc < 0)
			return rc;
		if (snap && (rc = flow_copy(e, snap, false, err)))
			return rc;
		if (flow_replaying(e)) /* what was replayed so far was one group, which the copy has ended */
			return duct_fail(err, DUCT_RETRY, "a table was copied in the middle of a replay, which begins anew");
	}
}

/* Follows the stream to what is committed now, so that copies are behind it. */
static int pass_copies(struct flow_engine *e, struct duct_error *err)
{
	int rc = e->src->head(e->source, &e->head, err);
	e->have_head = true;
	rc = rc ? rc : flow_stream(e, err);
	flow_engine_calm(e); /* the end of the stream interrupts the source */
	if (rc == 0 && (!e->caught_up || flow_stopping(e)))
		rc = duct_fail(err, DUCT_CANCELLED, "stopped during the backfill");
	e->have_head = e->caught_up = e->complete = false;
	struct duct_pos durable = flow_confirmed(e);
	if (rc == 0 && e->src->tick)
		rc = e->src->tick(e->source, &durable, err);
	flow_engine_phase(e, FLOW_COPYING);
	return rc < 0 ? rc : 0;
}

static bool all_drained(const struct flow_engine *e)
{
	for (size_t i = 0; i < e->nmembers; i++)
		if (e->members[i].behind && !e->members[i].given_up && !flow_behind_drained(&e->members[i]))
			return false;
	return true;
}

/* Copies tables again, at a position of their own: their earlier changes are passed over when the stream comes to them. */
static int backfill(struct flow_engine *e, bool copied, struct duct_error *err)
{
	const struct flow_backfill *wanted = e->options->backfill;
	struct duct_snapshot *snap = NULL;
	e->complete = copied; /* the first copy has all of them */
	if (copied)
		return 0;
	if (!e->src->copy_again)
		return duct_fail(err, DUCT_CONFIG, "source \"%s\" has no backfill", e->src->name);
	flow_engine_phase(e, FLOW_COPYING);
	if (flow_stopping(e))
		return duct_fail(err, DUCT_CANCELLED, "stopped before the backfill");
	for (size_t i = 0; i < e->nmembers; i++)
		e->members[i].copying = !e->members[i].given_up;
	if (!(wanted->tables && *wanted->tables) && !(wanted->schemas && *wanted->schemas)) { /* only what was staged before */
		e->complete = true;
		return 0;
	}
	int rc = all_drained(e) ? 0 : pass_copies(e, err);
	rc = rc ? rc : e->src->copy_again(e->source, wanted->tables, wanted->schemas, err);
	while (!rc && (rc = e->src->snapshot(e->source, &snap, err)) >= 0) {
		if (rc == 0 && !snap)
			break;
		rc = rc ? pass_copies(e, err) : flow_copy(e, snap, false, err);
	}
	e->complete = !rc;
	return rc;
}

/* An outbox, a replay and several destinations go by the positions of commits. */
static bool takes_ahead(const struct flow_engine *e)
{
	const struct flow_member *m = &e->members[0];
	return e->nmembers == 1 && !e->no_ahead && !m->behind && !flow_replaying((struct flow_engine *)e) && m->dest &&
		m->ops->takes_ahead && m->ops->takes_ahead(m->dest);
}

static int work(struct flow_engine *e, struct duct_error *err)
{
	struct duct_checkpoint from = {0};
	int rc = flow_members_open(e, &from, err);
	rc = rc ? rc : flow_replay_begin(e, &from, err);
	if (rc)
		return rc;
	e->streamed = from.state == DUCT_STATE_STREAMING;
	e->source_ctx.ahead = takes_ahead(e);
	rc = e->src->open(&e->source, e->spec->source_config, &e->source_ctx, &from, err);
	if (rc == -DUCT_CONFIG && !flow_replaying(e) && flow_members_renew(e, &from, err))
		rc = e->src->open(&e->source, e->spec->source_config, &e->source_ctx, &from, err);
	if (rc)
		return rc;
	bool first = !flow_members_all_stream(e);
	if (first) {
		rc = first_copy(e, &from, err);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < e->nmembers; i++)
			e->members[i].streaming = !e->members[i].given_up;
		e->streamed = true;
		e->complete = rc == 1;
		if (e->complete)
			return 0;
	}
	if (e->options->backfill)
		return backfill(e, first, err);
	/* Anew in each attempt: one may begin with a copy at a position that is reached. A replay ends with a change behind it, at the latest
	 * with this one. */
	if (e->options->until_caught_up || flow_replaying(e)) {
		struct duct_pos head;
		rc = e->src->head(e->source, &head, err);
		if (rc)
			return rc;
		if (e->options->until_caught_up)
			e->head = head;
		e->have_head = e->options->until_caught_up;
	}
	return stream_and_copy(e, err);
}

static int resolve_staging(struct flow_engine *e, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < e->nmembers && !rc; i++) {
		struct flow_member *m = &e->members[i];
		if (m->given_up)
			continue;
		if (!m->dest)
			return duct_fail(err, DUCT_RETRY, "destination \"%s\" is away: what is staged there stays staged",
					 m->to->name);
		rc = m->ops->resolve_staging ? m->ops->resolve_staging(m->dest, err) : 0;
	}
	return rc ? duct_wrap(err, "put staged rows into their tables") : 0;
}

/* One attempt, from opening both sides to closing them. */
static int attempt(struct flow_engine *e, struct duct_error *err)
{
	flow_engine_phase(e, FLOW_OPENING);
	int rc = work(e, err);
	if (!rc && e->options->resolve_staging && e->complete)
		rc = resolve_staging(e, err);
	flow_engine_calm(e);
	struct duct_pos durable = flow_confirmed(e);
	if (e->source)
		e->src->close(e->source, &durable);
	flow_members_close(e);
	e->source = NULL;
	return rc;
}

static void wait_out(struct flow_engine *e, int64_t us)
{
	flow_engine_phase(e, FLOW_WAITING);
	int64_t until = duct_mono_us() + us;
	while (!flow_stopping(e)) {
		int64_t left = until - duct_mono_us();
		if (left <= 0)
			break;
		struct pollfd fd = {.fd = e->source_stop.fd, .events = POLLIN};
		(void)poll(&fd, 1, (int)((left + 999) / 1000)); /* EINTR: the loop looks again */
	}
}

/* What the end of an attempt means once somebody asked for the end of the run. */
static int stopped(struct flow_engine *e, int rc, struct duct_error *err)
{
	int phase = atomic_load(&e->counters->phase);
	bool again = e->options->replay && !e->options->replay->done;
	if (again && (rc == 0 || rc == -DUCT_CANCELLED || rc == -DUCT_RETRY))
		return duct_fail(err, DUCT_CANCELLED, "stopped before the replay was done: nothing of it was applied");
	if (rc == 0 && (e->complete || (!e->options->until_caught_up && !flow_aborting(e))))
		return 0;
	if (flow_aborting(e))
		return duct_fail(err, DUCT_CANCELLED, "aborted: what was not durable comes again with the next run");
	if (rc < 0 && rc != -DUCT_CANCELLED && rc != -DUCT_RETRY)
		return rc;
	if (e->copy_begun && !e->streamed)
		return duct_fail(err, DUCT_CANCELLED, "stopped before streaming had begun: a first copy starts over");
	if (phase == FLOW_COPYING)
		return duct_fail(err, DUCT_CANCELLED, "stopped during the copy of new tables: it starts over");
	if (e->options->until_caught_up)
		return duct_fail(err, DUCT_CANCELLED, "stopped before it had caught up: the next run goes on from here");
	if (rc == -DUCT_RETRY)
		log_warn(e->user->log, "stopped at an error that passes: what is not durable comes again with the next run",
			 LOG_STR("error", err->message));
	return 0;
}

static int attempts(struct flow_engine *e, struct duct_error *err)
{
	if (flow_stopping(e))
		return stopped(e, -DUCT_CANCELLED, err);
	for (int number = 1;; number++) {
		int64_t started = duct_mono_us();
		int rc = attempt(e, err);
		if (flow_stopping(e))
			return stopped(e, rc, err);
		if (rc != -DUCT_RETRY)
			return rc;
		int64_t wait = duct_retry_failed(&e->retry, started, duct_mono_us());
		if (wait < 0)
			return duct_wrap(err, "given up after %d attempts", number);
		flow_count(&e->counters->retries, 1);
		log_warn(e->user->log, "attempt failed", LOG_I64("attempt", number), LOG_STR("error", err->message),
			 LOG_I64("again_in_ms", wait / 1000));
		wait_out(e, wait);
		if (flow_stopping(e))
			return stopped(e, -DUCT_CANCELLED, err);
	}
}

static void *run_attempts(void *arg)
{
	struct flow_engine *e = arg;
	duct_trace_set(&e->trace);
	e->rc = attempts(e, &e->err);
	atomic_store(&e->finished, true);
	flow_signal_raise(&e->wake);
	return NULL;
}

static void interrupt_destinations(struct flow_engine *e)
{
	for (size_t i = 0; i < e->nmembers; i++)
		flow_signal_raise(&e->dest_stops[i]);
}

static void pass_on_stop(struct flow_engine *e)
{
	atomic_store(&e->stopping, true);
	flow_signal_raise(&e->source_stop);
	/* While streaming the destination goes on: it makes durable what was received. */
	if (atomic_load(&e->counters->phase) != FLOW_STREAMING)
		interrupt_destinations(e);
}

static void pass_on_abort(struct flow_engine *e)
{
	atomic_store(&e->stopping, true);
	atomic_store(&e->aborting, true);
	flow_signal_raise(&e->source_stop);
	interrupt_destinations(e);
}

static void supervise(struct flow_engine *e, struct flow_progress *progress)
{
	while (!atomic_load(&e->finished)) {
		flow_progress_set_copy(progress, atomic_exchange(&e->new_copy, NULL));
		int timeout_ms = flow_progress_tick(progress, duct_mono_us());
		struct pollfd fds[] = {
			{.fd = e->wake.fd, .events = POLLIN},
			{.fd = flow_stopping(e) ? -1 : e->user->stop_fd, .events = POLLIN},
			{.fd = e->options->abort && !flow_aborting(e) ? e->options->abort_fd : -1, .events = POLLIN},
		};
		(void)poll(fds, DUCT_LEN(fds), timeout_ms); /* EINTR: the loop looks again */
		signal_clear(&e->wake);
		if (!flow_stopping(e) && duct_ctx_stopped(e->user))
			pass_on_stop(e);
		if (e->options->abort && !flow_aborting(e) && atomic_load(e->options->abort))
			pass_on_abort(e);
	}
}

static struct flow_progress *make_progress(struct flow_engine *e)
{
	enum flow_display display = FLOW_DISPLAY_NONE;
	if (e->options->output == FLOW_OUTPUT_JSON)
		display = FLOW_DISPLAY_JSON;
	else if (e->options->output == FLOW_OUTPUT_AUTO)
		display = isatty(TERMINAL_FD) ? FLOW_DISPLAY_TERMINAL : FLOW_DISPLAY_LINES;
	return flow_progress_new(e->spec->name, display, display == FLOW_DISPLAY_JSON ? DATA_FD : TERMINAL_FD, e->counters);
}

static int supervised_run(struct flow_engine *e, struct duct_error *err)
{
	pthread_t thread;
	if (duct_ctx_stopped(e->user)) /* while the program was starting: nothing is opened then */
		pass_on_stop(e);
	int rc = pthread_create(&thread, NULL, run_attempts, e);
	if (rc)
		return duct_fail(err, DUCT_RETRY, "start the thread of attempts: %s", strerror(rc));
	struct flow_progress *progress = make_progress(e);
	supervise(e, progress);
	pthread_join(thread, NULL);
	flow_progress_set_copy(progress, atomic_exchange(&e->new_copy, NULL));
	flow_progress_end(progress, duct_mono_us(), e->caught_up, e->rc ? duct_class_name(-e->rc) : "done");
	flow_progress_free(progress);
	if (e->rc && err)
		*err = e->err;
	return e->rc;
}

static int check_spec(const struct flow_spec *spec, struct duct_error *err)
{
	if (spec->ndestinations > FLOW_MOST_DESTINATIONS)
		return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has %zu destinations, %d are the most", spec->name,
				 spec->ndestinations, FLOW_MOST_DESTINATIONS);
	if (!spec->ndestinations)
		return duct_fail(err, DUCT_CONFIG, "flow \"%s\" has no destination", spec->name);
	if (!(spec->source->caps & DUCT_SOURCE_STREAM))
		return duct_fail(err, DUCT_CONFIG, "source \"%s\" of flow \"%s\" cannot stream", spec->source->name, spec->name);
	return 0;
}

static uint64_t seed(const void *salt)
{
	return (uint64_t)duct_wall_us() ^ (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)salt;
}

struct duct_wire_wish flow_wire_wish(const struct flow_spec *spec)
{
	const char *service = getenv("DUCTSTREAM_WIRE_FORMAT"), *enforce = getenv("DUCTSTREAM_WIRE_ENFORCE");
	bool none = !service || !*service || strcmp(service, "none") == 0, enforced = true;
	if (enforce && *enforce && !duct_parse_bool(enforce, &enforced))
		enforced = true; /* what nobody understands is the safe one */
	return (struct duct_wire_wish){
		.flow = spec->wire_format,
		.service = none ? NULL : service,
		.enforce = enforced,
	};
}

static int signals_init(struct flow_engine *e, struct duct_error *err)
{
	int rc = flow_signal_init(&e->source_stop, err);
	rc = rc ? rc : flow_signal_init(&e->wake, err);
	e->dest_stops = duct_xcalloc(e->nmembers, sizeof *e->dest_stops);
	for (size_t i = 0; i < e->nmembers; i++)
		e->dest_stops[i].fd = -1;
	for (size_t i = 0; i < e->nmembers && !rc; i++)
		rc = flow_signal_init(&e->dest_stops[i], err);
	return rc;
}

static void signals_done(struct flow_engine *e)
{
	flow_signal_done(&e->source_stop);
	flow_signal_done(&e->wake);
	for (size_t i = 0; i < e->nmembers; i++)
		flow_signal_done(&e->dest_stops[i]);
	free(e->dest_stops);
}

static void members_init(struct flow_engine *e)
{
	e->members = duct_xcalloc(e->nmembers, sizeof *e->members);
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		m->e = e;
		m->to = &e->spec->destinations[i];
		m->ops = m->to->ops;
		m->ctx = *e->user;
		m->stop = &e->dest_stops[i];
		m->ctx.stop = &m->stop->set;
		m->ctx.stop_fd = m->stop->fd;
		m->ctx.ownership = &m->ownership;
		m->ctx.destination = m->to->name;
		m->ctx.wire = flow_wire_wish(e->spec);
		m->retry = &e->retry;
		m->view = &e->counters->destinations[i];
	}
}

/* The run as a span: what its threads do is under it. */
static int traced_run(struct flow_engine *e, struct duct_error *err)
{
	struct duct_span *span = duct_span_begin("flow", DUCT_SPAN_INTERNAL, NULL);
	struct duct_trace outer = duct_span_enter(span);
	e->trace = duct_trace_current();
	int rc = supervised_run(e, err);
	duct_trace_set(&outer);
	duct_span_text(span, "ductstream.flow", e->spec->name);
	duct_span_text(span, "ductstream.source", e->src->name);
	duct_span_number(span, "ductstream.destinations", (int64_t)e->nmembers);
	duct_span_number(span, "ductstream.commits", (int64_t)flow_counted(&e->counters->commits));
	duct_span_number(span, "ductstream.rows", (int64_t)flow_counted(&e->counters->committed_rows));
	duct_span_number(span, "ductstream.copied_rows", (int64_t)flow_counted(&e->counters->copied_rows));
	duct_span_number(span, "ductstream.retries", (int64_t)flow_counted(&e->counters->retries));
	duct_span_end(span, rc && rc != -DUCT_CANCELLED ? e->err.message : NULL);
	return rc;
}

int flow_run(const struct flow_spec *spec, const struct flow_options *options, const struct duct_ctx *ctx, struct duct_error *err)
{
	int rc = check_spec(spec, err);
	if (rc)
		return rc;
	struct flow_counters own;
	flow_counters_init(&own);
	struct flow_engine e = {
		.spec = spec,
		.options = options,
		.user = ctx,
		.src = spec->source,
		.nmembers = spec->ndestinations,
		.turns = spec->parallelism > 0 ? (size_t)spec->parallelism : 1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.turn_ended = PTHREAD_COND_INITIALIZER,
		.counters = options->counters ? options->counters : &own,
		.source_stop.fd = -1,
		.wake.fd = -1,
	};
	int64_t memory = options->max_memory_bytes ? options->max_memory_bytes : DEFAULT_MEMORY_BYTES;
	e.queue_bytes = (size_t)memory / 4;
	int64_t give_up_ms = options->give_up_ms;
	if (!give_up_ms && options->until_caught_up)
		give_up_ms = DEFAULT_GIVE_UP_MS;
	e.give_up_ms = give_up_ms;
	e.started_us = options->started_us ? options->started_us : duct_wall_us();
	duct_retry_init(&e.retry, give_up_ms * 1000, seed(&e));
	rc = signals_init(&e, err);
	if (rc)
		goto out;
	e.source_ctx = *ctx;
	e.source_ctx.stop = &e.source_stop.set;
	e.source_ctx.stop_fd = e.source_stop.fd;
	e.source_ctx.ddl = options->ddl;
	members_init(&e);
	rc = traced_run(&e, err);
	free(e.members);
out:
	signals_done(&e);
	return rc;
}
