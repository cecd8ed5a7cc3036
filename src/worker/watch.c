#include "worker/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum { LOOK_MS = 500 /* a report with every second look */ };

static void raise_event(int fd)
{
	uint64_t one = 1;
	/* It can only fail when the counter is full, and then the descriptor is readable anyway. */
	if (write(fd, &one, sizeof one) < 0)
		return;
}

/* Asks the run to end, in order or (abort) at once. */
static void end_run(struct watch *w, enum watch_verdict verdict, bool abort)
{
	int nothing = WATCH_NOTHING;
	atomic_compare_exchange_strong(&w->verdict, &nothing, verdict);
	if (!atomic_exchange(&w->stop, true))
		raise_event(w->stop_fd);
	if (abort && !atomic_exchange(&w->abort, true))
		raise_event(w->abort_fd);
}

static void put_position(struct duct_buf *to, const char *name, struct flow_position *position)
{
	char text[DUCT_LSN_LEN];
	struct duct_pos pos = flow_position_load(position);
	duct_buf_printf(to, ",\"%s\":\"%s\"", name, duct_lsn_format(text, pos.lsn));
}

/* How old the newest change is that is not durable yet. */
static int64_t lag_ms(struct flow_counters *c)
{
	struct duct_pos received = flow_position_load(&c->received), durable = flow_position_load(&c->durable);
	if (received.lsn <= durable.lsn || !durable.commit_us)
		return 0;
	int64_t lag = (duct_wall_us() - durable.commit_us) / 1000;
	return lag > 0 ? lag : 0;
}

static void put_destinations(struct duct_buf *to, struct watch *w)
{
	duct_buf_puts(to, ",\"destinations\":[");
	for (size_t i = 0; i < w->spec->ndestinations; i++) {
		struct flow_destination_view *view = &w->counters.destinations[i];
		const char *name = w->spec->destinations[i].name;
		int state = atomic_load(&view->state);
		duct_buf_puts(to, i ? ",{\"name\":" : "{\"name\":");
		duct_buf_json_string(to, name, strlen(name));
		duct_buf_printf(to, ",\"state\":\"%s\",\"outbox_bytes\":%" PRIu64, flow_destination_state_name(state),
				flow_counted(&view->outbox_bytes));
		put_position(to, "durable", &view->durable);
		if (state == FLOW_TO_GIVEN_UP) {
			duct_buf_puts(to, ",\"reason\":");
			duct_buf_json_string(to, view->reason, strlen(view->reason));
		}
		duct_buf_putc(to, '}');
	}
	duct_buf_putc(to, ']');
}

static void put_report(struct duct_buf *to, struct watch *w)
{
	static const char *const phases[] = {"opening", "copying", "streaming", "waiting"};
	struct flow_counters *c = &w->counters;
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{"received_rows", flow_counted(&c->received_rows)},
		{"received_bytes", flow_counted(&c->received_bytes)},
		{"committed_rows", flow_counted(&c->committed_rows)},
		{"copied_rows", flow_counted(&c->copied_rows)},
		{"dead_rows", flow_counted(&c->dead_rows)},
		{"commits", flow_counted(&c->commits)},
		{"retries", flow_counted(&c->retries)},
		{"queue_bytes", flow_counted(&c->queue_bytes)},
	};
	duct_buf_puts(to, "{\"worker\":");
	duct_buf_json_string(to, w->lease->holder, strlen(w->lease->holder));
	duct_buf_printf(to, ",\"phase\":\"%s\"", phases[(unsigned)atomic_load(&c->phase) % DUCT_LEN(phases)]);
	put_position(to, "received", &c->received);
	put_position(to, "written", &c->written);
	put_position(to, "durable", &c->durable);
	duct_buf_printf(to, ",\"lag_ms\":%" PRId64 ",\"snapshot_id\":%" PRId64, lag_ms(c), (int64_t)atomic_load(&c->snapshot_id));
	for (size_t i = 0; i < DUCT_LEN(counts); i++)
		duct_buf_printf(to, ",\"%s\":%" PRIu64, counts[i].name, counts[i].value);
	put_destinations(to, w);
	duct_buf_putc(to, '}');
}

/* What an operator should know of a destination whose changes do not reach it, or do so again. */
static void note(struct watch *w, size_t i)
{
	struct flow_destination_view *view = &w->counters.destinations[i];
	struct duct_error err;
	int state = atomic_load(&view->state), was = w->noted[i];
	bool bad = state == FLOW_TO_GIVEN_UP || state == FLOW_TO_FULL, was_bad = was == FLOW_TO_GIVEN_UP || was == FLOW_TO_FULL;
	if (state == was || (!bad && !(was_bad && state == FLOW_TO_STREAMING)))
		return;
	AUTO_FREE char *reason = duct_xasprintf("destination \"%s\" %s%s", w->spec->destinations[i].name,
						state == FLOW_TO_GIVEN_UP	? "is given up: "
							: state == FLOW_TO_FULL ? "has a full outbox: the source keeps what follows"
										: "has room in its outbox again",
						state == FLOW_TO_GIVEN_UP ? view->reason : "");
	if (state_flow_note(w->state, w->work->flow_id, reason, w->actor, &err) < 0)
		log_debug(w->user->log, "no note", LOG_STR("error", err.message));
	else
		w->noted[i] = state;
}

/* A report that cannot be written is written with the next one; only a person would miss it. */
static void report(struct watch *w)
{
	struct duct_error err;
	AUTO_BUF struct duct_buf text = {0};
	if (atomic_load(&w->lease->lost))
		return;
	for (size_t i = 0; i < w->spec->ndestinations; i++)
		note(w, i);
	put_report(&text, w);
	if (state_flow_report(w->state, w->work->flow_id, w->lease->fence, text.data, &err) < 0)
		log_debug(w->user->log, "no report", LOG_STR("error", err.message));
	struct duct_pos durable = flow_position_load(&w->counters.durable);
	if (!w->mirror || !durable.lsn || durable.lsn == w->mirrored_lsn)
		return;
	const struct state_checkpoint checkpoint = {
		.flow_id = w->work->flow_id,
		.lsn = durable.lsn,
		.timestamp_us = durable.commit_us ? durable.commit_us : duct_wall_us(),
	};
	/* The first one of a run may be lower than what was copied before: the destination decides. */
	if (checkpoints_put(w->checkpoints, &checkpoint, !w->mirrored, &err) < 0) {
		log_debug(w->user->log, "no copy of the position", LOG_STR("error", err.message));
		return;
	}
	w->mirrored = true;
	w->mirrored_lsn = durable.lsn;
}

static void look(struct watch *w)
{
	struct state_flow flow;
	struct duct_error err;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = state_flow_get(w->state, &arena, w->work->flow_id, &flow, &err);
	if (rc < 0)
		log_debug(w->user->log, "the state does not answer", LOG_STR("error", err.message));
	else if (rc == 0 || (flow.state != STATE_FLOW_RUNNING && !w->work->backfill))
		end_run(w, WATCH_LEFT, false);
	else if (flow.revision != w->revision)
		end_run(w, WATCH_CHANGED, false);
	duct_arena_done(&arena);
}

/* How long until the lease ends, unless it is renewed before. */
static int lease_left_ms(struct watch *w)
{
	int64_t left = (atomic_load(&w->lease->until_us) - duct_mono_us()) / 1000 + 1;
	return left > 0 ? (int)left : 0;
}

static void *pass_on(void *arg)
{
	struct watch *w = arg;
	for (;;) {
		bool stopped = atomic_load(&w->stop), aborted = atomic_load(&w->abort);
		struct pollfd fds[] = {
			{.fd = w->end_fd, .events = POLLIN},
			{.fd = stopped ? -1 : w->user->stop_fd, .events = POLLIN},
			{.fd = aborted || !w->work->abort ? -1 : w->work->abort_fd, .events = POLLIN},
			{.fd = aborted ? -1 : w->lease->lost_fd, .events = POLLIN},
		};
		(void)poll(fds, DUCT_LEN(fds), aborted ? -1 : lease_left_ms(w)); /* EINTR: the loop looks again */
		if (fds[0].revents)
			return NULL;
		/* The thread that renews may itself wait for a state that does not answer. */
		if (!aborted && (atomic_load(&w->lease->lost) || lease_left_ms(w) == 0)) {
			atomic_store(&w->lease->lost, true);
			end_run(w, WATCH_LOST, true);
		}
		if (!stopped && duct_ctx_stopped(w->user))
			end_run(w, WATCH_STOPPED, false);
		if (!aborted && w->work->abort && atomic_load(w->work->abort))
			end_run(w, WATCH_STOPPED, true);
	}
}

static void *look_and_report(void *arg)
{
	struct watch *w = arg;
	struct pollfd end = {.fd = w->end_fd, .events = POLLIN};
	for (unsigned n = 0; poll(&end, 1, LOOK_MS) <= 0; n++) { /* EINTR: looks a little earlier */
		if (!atomic_load(&w->stop))
			look(w);
		if (n % 2)
			report(w);
	}
	report(w);
	return NULL;
}

int watch_start(struct watch *w, struct duct_error *err)
{
	atomic_init(&w->stop, false);
	atomic_init(&w->abort, false);
	atomic_init(&w->verdict, WATCH_NOTHING);
	flow_counters_init(&w->counters);
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	w->abort_fd = eventfd(0, EFD_CLOEXEC);
	w->end_fd = eventfd(0, EFD_CLOEXEC);
	w->ctx = (struct duct_ctx){.log = w->user->log, .flow = w->work->flow_id, .stop = &w->stop, .stop_fd = w->stop_fd};
	int failed = w->stop_fd < 0 || w->abort_fd < 0 || w->end_fd < 0 ? errno : pthread_create(&w->passing, NULL, pass_on, w);
	if (!failed && (failed = pthread_create(&w->looking, NULL, look_and_report, w)) != 0) {
		raise_event(w->end_fd);
		pthread_join(w->passing, NULL);
	}
	return failed ? duct_fail(err, DUCT_RETRY, "start the thread that watches the flow: %s", strerror(failed)) : 0;
}

enum watch_verdict watch_end(struct watch *w)
{
	raise_event(w->end_fd);
	pthread_join(w->passing, NULL);
	pthread_join(w->looking, NULL);
	const int fds[] = {w->stop_fd, w->abort_fd, w->end_fd};
	for (size_t i = 0; i < DUCT_LEN(fds); i++)
		close(fds[i]);
	return atomic_load(&w->verdict);
}
