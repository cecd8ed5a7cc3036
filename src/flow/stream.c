/*
 * Streaming: the reader thread pulls changes from the source and hands them to every destination by a bounded queue of its own; each has
 * an applier, whose durable positions the reader passes on to the source.
 */
#include "flow/engine.h"

#include "base/mem.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	APPLIER_NICE = 5,
	READ_TIMEOUT_MS = 200,	/* how late the source hears of a durable position when nothing comes */
	TICK_MS = 500,		/* how often the source is kept alive while a queue is full */
	MIN_WEIGHT_BYTES = 512, /* so that a queue is bounded by count, too */
};

/* One destination of the stream. */
struct lane {
	struct stream *s;
	struct flow_member *member;
	struct duct_queue *queue;
	pthread_t thread;
	bool started;
	int rc;
	enum flow_applied applied; /* read after it was joined, but for: */
	atomic_bool caught_up;	   /* it needs nothing more */
	struct duct_error err;
};

struct stream {
	struct flow_engine *e;
	struct lane *lanes;
	size_t nlanes;
	atomic_size_t ncaught_up;

	/* Set by the reader before it closes the queues; read after it was joined. */
	int reader_rc; /* 0: told to stop, 1: new tables, -class */
	struct duct_error reader_err;
};

/* The reader. */

/* Hands changes to one of them. False when it takes none any more. */
static bool hand_to(struct lane *lane, struct duct_changes *changes, int *ret_rc, struct duct_error *err)
{
	struct flow_engine *e = lane->s->e;
	size_t weight = changes->bytes + MIN_WEIGHT_BYTES;
	struct duct_changes *theirs = duct_changes_ref(changes);
	int taken;
	while ((taken = duct_queue_push(lane->queue, theirs, weight, TICK_MS)) == 0 && !flow_aborting(e)) {
		struct duct_pos durable = flow_confirmed(e);
		int rc = e->src->tick ? e->src->tick(e->source, &durable, err) : 0;
		if (rc && !flow_stopping(e)) {
			*ret_rc = rc;
			break;
		}
	}
	if (taken != 1)
		duct_changes_free(theirs);
	return taken == 1 || (taken < 0 && atomic_load(&lane->caught_up));
}

/* False when somebody takes none any more, though it should. */
static bool hand_over(struct stream *s, struct duct_changes *changes, int *ret_rc, struct duct_error *err)
{
	bool taken = true;
	for (size_t i = 0; i < s->nlanes && taken; i++)
		taken = hand_to(&s->lanes[i], changes, ret_rc, err);
	duct_changes_free(changes);
	return taken;
}

static int read_all(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	while (!atomic_load(&e->source_stop.set)) {
		struct duct_pos durable = flow_confirmed(e);
		struct duct_changes *changes = NULL;
		int rc = e->src->read(e->source, &durable, &changes, READ_TIMEOUT_MS, err);
		if (rc < 0)
			return rc;
		if (changes) {
			struct duct_pos upto = changes->upto;
			flow_count(&e->counters->received_rows, changes->rows);
			flow_count(&e->counters->received_bytes, changes->bytes);
			int push_rc = 0;
			if (!hand_over(s, changes, &push_rc, err))
				return push_rc;
			if (upto.lsn)
				flow_position_store(&e->counters->received, &upto);
		}
		if (rc == 1)
			return 1;
	}
	return 0;
}

static void close_queues(struct stream *s)
{
	for (size_t i = 0; i < s->nlanes; i++)
		duct_queue_close(s->lanes[i].queue);
}

static void *reader(void *arg)
{
	struct stream *s = arg;
	s->reader_rc = read_all(s, &s->reader_err);
	atomic_store(&s->e->copy_due, s->reader_rc == 1);
	close_queues(s);
	return NULL;
}

/* The appliers. */

static void end_stream(struct stream *s)
{
	close_queues(s);
	flow_signal_raise(&s->e->source_stop);
}

/* Where cores are short the reader goes first: a source whose socket is full works for nobody. Nice is a thread's own here. */
static void let_reader_first(void)
{
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), APPLIER_NICE);
}

static void *run_lane(void *arg)
{
	struct lane *lane = arg;
	struct stream *s = lane->s;
	let_reader_first();
	if (!lane->member->behind)
		atomic_store(&lane->member->view->state, FLOW_TO_STREAMING);
	lane->rc = lane->member->behind ? flow_behind_apply(lane->member, lane->queue, &lane->applied, &lane->err)
					: flow_apply(lane->member, lane->queue, &lane->applied, &lane->err);
	bool caught_up = lane->rc == 0 && lane->applied == FLOW_APPLIED_CAUGHT_UP;
	if (caught_up) {
		atomic_store(&lane->caught_up, true);
		duct_queue_close(lane->queue); /* what the others still need is nothing to this one */
	}
	if (lane->rc || (caught_up && atomic_fetch_add(&s->ncaught_up, 1) + 1 == s->nlanes))
		end_stream(s);
	return NULL;
}

static int start_lanes(struct stream *s, struct duct_error *err)
{
	for (size_t i = 0; i < s->nlanes; i++) {
		int rc = pthread_create(&s->lanes[i].thread, NULL, run_lane, &s->lanes[i]);
		if (rc)
			return duct_fail(err, DUCT_RETRY, "start an applier thread: %s", strerror(rc));
		s->lanes[i].started = true;
	}
	return 0;
}

/* What the appliers' ends mean together: the first that failed by itself says why. */
static int lanes_verdict(struct stream *s, struct duct_error *err)
{
	const struct lane *worst = NULL;
	for (size_t i = 0; i < s->nlanes; i++) {
		const struct lane *lane = &s->lanes[i];
		if (lane->rc && (!worst || worst->rc == -DUCT_CANCELLED))
			worst = lane;
	}
	if (!worst)
		return 0;
	*err = worst->err;
	return s->nlanes > 1 ? duct_wrap(err, "destination \"%s\"", worst->member->to->name) : worst->rc;
}

/* What the reader's end means when no applier has anything to complain about. */
static int verdict(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	bool torn = false;
	if (e->caught_up)
		return 0;
	if (s->reader_rc < 0) {
		bool interrupted = s->reader_rc == -DUCT_CANCELLED || s->reader_rc == -DUCT_RETRY;
		if (flow_stopping(e) && interrupted)
			return 0;
		*err = s->reader_err;
		return s->reader_rc;
	}
	for (size_t i = 0; i < s->nlanes; i++)
		torn |= s->lanes[i].applied == FLOW_APPLIED_TORN && !atomic_load(&s->lanes[i].member->replaying);
	if (s->reader_rc == 1 && torn)
		return duct_fail(err, DUCT_FATAL, "source \"%s\" asks for a copy inside a transaction", e->src->name);
	return s->reader_rc;
}

static void lanes_init(struct stream *s)
{
	struct flow_engine *e = s->e;
	s->lanes = duct_xcalloc(e->nmembers, sizeof *s->lanes);
	for (size_t i = 0; i < e->nmembers; i++)
		if (!e->members[i].given_up)
			s->lanes[s->nlanes++] = (struct lane){.s = s, .member = &e->members[i]};
	for (size_t i = 0; i < s->nlanes; i++) {
		s->lanes[i].queue = duct_queue_new(e->queue_bytes / s->nlanes);
		duct_queue_count_taken(s->lanes[i].queue);
	}
}

static void lanes_done(struct stream *s)
{
	for (size_t i = 0; i < s->nlanes; i++) {
		void *item;
		while (duct_queue_pop(s->lanes[i].queue, &item, 0) == 1)
			duct_changes_free(item);
		duct_queue_free(s->lanes[i].queue);
	}
	free(s->lanes);
}

static void join_lanes(struct stream *s)
{
	for (size_t i = 0; i < s->nlanes; i++)
		if (s->lanes[i].started)
			pthread_join(s->lanes[i].thread, NULL);
}

static int run(struct stream *s, struct duct_error *err)
{
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, reader, s);
	if (rc)
		return duct_fail(err, DUCT_RETRY, "start the reader thread: %s", strerror(rc));
	rc = start_lanes(s, err);
	if (rc)
		end_stream(s);
	join_lanes(s);
	pthread_join(thread, NULL);
	s->e->caught_up = s->e->complete = atomic_load(&s->ncaught_up) == s->nlanes;
	rc = rc ? rc : lanes_verdict(s, err);
	return rc ? rc : verdict(s, err);
}

int flow_stream(struct flow_engine *e, struct duct_error *err)
{
	flow_engine_phase(e, FLOW_STREAMING);
	if (flow_stopping(e))
		return 0;
	struct stream s = {.e = e};
	atomic_store(&e->copy_due, false);
	lanes_init(&s);
	int rc = run(&s, err);
	lanes_done(&s);
	atomic_store(&e->counters->queue_bytes, 0);
	flow_large_reset(&e->counters->large);
	return rc;
}
