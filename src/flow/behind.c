/*
 * A secondary destination: see engine.h. Two threads while the flow streams: the lane's, which writes the outbox, and the follower, which
 * reads it and has an applier of its own.
 */
#include "flow/engine.h"

#include "base/clock.h"
#include "base/mem.h"
#include "flow/outbox.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { SYNC_MS = 50, POLL_MS = 500, FOLLOW_BYTES = 8 << 20, GRACE_MS = 5000, DRAIN_MS = 100 };

struct flow_behind {
	struct flow_member to; /* the destination itself; apart */
	char *dir;
	struct flow_outbox *outbox;
	struct duct_retry retry;
	bool wanted; /* by the definition */
	bool full;   /* nothing is taken any more: the source keeps what follows, until there is room and the stream begins anew */
	bool draining; /* likewise, until the destination has what is left: it is not to be behind any more */

	pthread_t follower;
	struct flow_signal stop, ended;
	atomic_bool away, failed, exhausted;
	struct duct_error err; /* of the follower */
};

/* --- the destination --- */

static void to_close(struct flow_behind *b)
{
	if (b->to.dest)
		b->to.ops->close(b->to.dest);
	b->to.dest = NULL;
}

static void show(struct flow_behind *b, enum flow_destination_state state)
{
	struct flow_destination_view *view = b->to.view;
	atomic_store(&view->state, (int)state);
	atomic_store(&view->outbox_bytes, b->outbox ? flow_outbox_bytes(b->outbox) : 0);
}

/* What is to be seen of it while it streams. */
static void show_lane(struct flow_behind *b)
{
	bool away = atomic_load(&b->away);
	show(b, b->draining ? FLOW_TO_DRAINING : b->full ? FLOW_TO_FULL : away ? FLOW_TO_AWAY : FLOW_TO_STREAMING);
}

/* --- given up --- */

static void show_given_up(struct flow_member *m, const char *reason)
{
	struct flow_destination_view *view = m->view;
	m->given_up = true;
	if (atomic_load(&view->state) == FLOW_TO_GIVEN_UP)
		return; /* it may be read */
	snprintf(view->reason, sizeof view->reason, "%s", reason);
	atomic_store(&view->outbox_bytes, 0);
	atomic_store(&view->state, FLOW_TO_GIVEN_UP);
}

/* Written down first; then the stream begins anew without it. Its outbox, of which nobody needs anything any more, goes. */
static int give_up(struct flow_member *m, const char *reason, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	int rc = flow_outbox_give_up(b->dir, reason, duct_wall_us(), err);
	if (rc)
		return rc;
	show_given_up(m, reason);
	log_error(m->e->user->log,
		  "a destination is given up: the others go on without it; it gets a new copy when the flow is started again",
		  LOG_STR("destination", m->to->name), LOG_STR("reason", reason));
	return duct_fail(err, DUCT_RETRY, "destination \"%s\" is given up: %s", m->to->name, reason);
}

/* --- open --- */

static char *dir_of(const struct flow_member *m)
{
	const struct flow_spec *spec = m->e->spec;
	return duct_xasprintf("%s/%s/%s", spec->outbox_dir, spec->name, m->to->name);
}

bool flow_behind_left(const struct flow_member *m)
{
	if (!m->e->spec->outbox_dir)
		return false;
	AUTO_FREE char *dir = dir_of(m), *reason = NULL;
	int64_t at_us;
	return flow_outbox_exists(dir) || flow_outbox_given_up(dir, &reason, &at_us);
}

static struct flow_behind *behind_new(struct flow_member *m)
{
	struct flow_behind *b = duct_xcalloc(1, sizeof *b);
	b->to = *m;
	b->to.apart = true;
	b->to.behind = NULL;
	b->to.retry = &b->retry;
	b->dir = dir_of(m);
	duct_retry_init(&b->retry, m->e->spec->gives_up ? m->e->give_up_ms * 1000 : 0,
			(uint64_t)(uintptr_t)b ^ (uint64_t)duct_wall_us());
	return b;
}

/* Nothing of another source may reach the destination, and nobody may miss it: it is put aside. */
static int put_aside(struct flow_behind *b, const struct duct_error *why, struct duct_error *err)
{
	AUTO_FREE char *aside = duct_xasprintf("%s.foreign-%" PRId64, b->dir, duct_wall_us());
	flow_outbox_close(b->outbox);
	b->outbox = NULL;
	if (rename(b->dir, aside))
		return duct_fail(err, DUCT_CONFIG, "outbox \"%s\" is of another source (%s), and cannot be moved to \"%s\": %s",
				 b->dir, why->message, aside, strerror(errno));
	log_warn(b->to.e->user->log, "an outbox is of another source than its destination: it was put aside",
		 LOG_STR("destination", b->to.to->name), LOG_STR("outbox", aside), LOG_STR("difference", why->message));
	return 0;
}

static int drop_outbox(struct flow_behind *b) /* 0 */
{
	flow_outbox_close(b->outbox);
	b->outbox = NULL;
	flow_outbox_drop(b->dir);
	return 0;
}

/* The outbox of a destination that streams, at the position `at` when it has none. identity "": not known, as it is away. */
static int outbox_open(struct flow_member *m, const struct duct_pos *at, const char *identity, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	const struct duct_source_ops *src = m->e->src;
	struct duct_error other;
	int rc = flow_outbox_open(&b->outbox, b->dir, identity, at->lsn, m->e->spec->outbox_limit_bytes, err);
	if (rc)
		return rc;
	bool foreign = src->same_source && src->same_source(flow_outbox_identity(b->outbox), identity, &other);
	uint64_t first = flow_outbox_first(b->outbox), last = flow_outbox_end(b->outbox).lsn;
	/* The destination went on without it, was restored to an older state, or has all of it: then it need not fill a disk. */
	bool useless = last < at->lsn || (*identity && first > at->lsn) || (last == at->lsn && first < last);
	if (foreign || useless) {
		rc = foreign ? put_aside(b, &other, err) : drop_outbox(b);
		return rc ? rc : outbox_open(m, at, identity, err);
	}
	struct duct_pos end = flow_outbox_end(b->outbox);
	m->streaming = true;
	m->from.pos = end;
	m->has_lsn = end.lsn;
	flow_position_store(&m->written, &end);
	flow_position_store(&m->durable, &end);
	return 0;
}

/* Also what an operator has to mend at the destination (a lock, a permission, a disk) holds nobody else up. */
static bool is_away(int rc)
{
	return rc == -DUCT_RETRY || rc == -DUCT_CONFIG;
}

/* It has changes that the source may have forgotten since, or somebody wants it back: as if it had nothing. */
static void renew(struct flow_member *m)
{
	m->from.state = m->behind->to.from.state = DUCT_STATE_COPYING;
	m->from.pos = (struct duct_pos){0};
	m->streaming = m->behind->to.streaming = false;
}

static int open_direct(struct flow_member *m, struct duct_error *err)
{
	if (m->behind->outbox)
		drop_outbox(m->behind);
	flow_behind_close(m);
	return flow_member_open(m, err);
}

static int open_away(struct flow_member *m, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	log_warn(m->e->user->log, "a secondary destination is away: its changes wait in its outbox",
		 LOG_STR("destination", m->to->name), LOG_STR("error", err->message));
	to_close(b);
	m->from = (struct duct_checkpoint){.state = DUCT_STATE_STREAMING};
	return outbox_open(m, &m->from.pos, "", err);
}

int flow_behind_open(struct flow_member *m, bool wanted, struct duct_error *err)
{
	struct flow_behind *b = m->behind = behind_new(m);
	b->wanted = wanted;
	AUTO_FREE char *reason = NULL;
	int64_t at_us;
	bool noted = flow_outbox_given_up(b->dir, &reason, &at_us);
	bool stays = noted && wanted && at_us >= m->e->started_us;
	int rc = stays ? 0 : flow_member_open(&b->to, err);
	if (stays || (noted && wanted && is_away(rc))) {
		log_warn(m->e->user->log, "a destination was given up: the others go on without it",
			 LOG_STR("destination", m->to->name), LOG_STR("reason", reason),
			 LOG_STR("now", rc ? err->message : "the flow was not started again since"));
		to_close(b);
		show_given_up(m, reason);
		return 0;
	}
	if (wanted && is_away(rc) && flow_outbox_exists(b->dir))
		return open_away(m, err);
	m->dest = b->to.dest;
	m->from = b->to.from;
	if (!rc && noted)
		renew(m);
	if (rc || m->from.state != DUCT_STATE_STREAMING)
		return rc;
	if ((rc = outbox_open(m, &b->to.from.pos, b->to.from.source_identity, err)))
		return rc;
	b->full = b->draining = !wanted;
	return wanted || flow_outbox_end(b->outbox).lsn > b->to.from.pos.lsn ? 0 : open_direct(m, err);
}

const char *flow_behind_identity(const struct flow_member *m)
{
	return m->behind->outbox ? flow_outbox_identity(m->behind->outbox) : "";
}

bool flow_behind_renew(struct flow_member *m)
{
	if (!m->behind->to.dest)
		return false;
	renew(m);
	return true;
}

int flow_behind_begin(struct flow_member *m, const struct duct_pos *pos, const char *identity, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	(void)drop_outbox(b); /* of the time before the copy */
	flow_position_store(&b->to.written, pos);
	flow_position_store(&b->to.durable, pos);
	b->to.has_lsn = pos->lsn;
	b->to.streaming = true;
	b->full = b->draining = !b->wanted;
	return outbox_open(m, pos, identity, err);
}

void flow_behind_close(struct flow_member *m)
{
	struct flow_behind *b = m->behind;
	to_close(b);
	flow_outbox_close(b->outbox);
	free(b->dir);
	free(b);
	m->behind = NULL;
	m->dest = NULL;
}

/* --- the follower: outbox to destination --- */

struct feed {
	struct flow_behind *b;
	struct duct_queue *queue;
	pthread_t thread;
	int rc;
	struct duct_error err;
};

static void *feed_run(void *arg)
{
	struct feed *f = arg;
	struct flow_behind *b = f->b;
	while (!atomic_load(&b->stop.set)) {
		struct duct_changes *changes;
		int rc = flow_outbox_next(b->outbox, &changes, POLL_MS, &f->err);
		if (rc < 0) {
			f->rc = rc == -DUCT_CANCELLED ? 0 : rc;
			break;
		}
		int taken = rc == 0 ? 1 : 0;
		while (taken == 0 && !atomic_load(&b->stop.set))
			taken = duct_queue_push(f->queue, changes, changes->bytes + 512, POLL_MS);
		if (rc == 1 && taken != 1)
			duct_changes_free(changes);
		if (taken < 0)
			break; /* the applier has failed */
		flow_outbox_trim(b->outbox, flow_position_load(&b->to.durable).lsn);
	}
	duct_queue_close(f->queue);
	return NULL;
}

/* One that was away may come back as another. */
static int check_source(const struct flow_behind *b, struct duct_error *err)
{
	const struct duct_source_ops *src = b->to.e->src;
	if (!src->same_source || !src->same_source(flow_outbox_identity(b->outbox), b->to.from.source_identity, err))
		return 0;
	err->class = DUCT_FATAL;
	return duct_wrap(err, "destination \"%s\" has changes of another source than its outbox \"%s\"", b->to.to->name, b->dir);
}

static int follow_open(struct flow_behind *b, struct duct_error *err)
{
	int rc = b->to.dest ? 0 : flow_member_open(&b->to, err);
	if (!rc && b->to.from.state != DUCT_STATE_STREAMING && !b->to.streaming)
		return duct_fail(err, DUCT_FATAL, "destination \"%s\" has lost what it had of this flow", b->to.to->name);
	rc = rc ? rc : check_source(b, err);
	return rc ? rc : flow_outbox_seek(b->outbox, flow_position_load(&b->to.durable).lsn, err);
}

/* Until it is stopped (0) or fails. */
static int follow(struct flow_behind *b, struct duct_error *err)
{
	int rc = follow_open(b, err);
	atomic_store(&b->away, rc != 0);
	if (rc)
		return rc;
	struct feed f = {.b = b, .queue = duct_queue_new(FOLLOW_BYTES)};
	enum flow_applied applied;
	rc = pthread_create(&f.thread, NULL, feed_run, &f);
	if (rc) {
		duct_queue_free(f.queue);
		return duct_fail(err, DUCT_RETRY, "start the feeder of an outbox: %s", strerror(rc));
	}
	rc = flow_apply(&b->to, f.queue, &applied, err);
	duct_queue_close(f.queue);
	flow_outbox_wake(b->outbox);
	pthread_join(f.thread, NULL);
	void *item;
	while (duct_queue_pop(f.queue, &item, 0) == 1)
		duct_changes_free(item);
	duct_queue_free(f.queue);
	if (!rc && f.rc) {
		*err = f.err;
		rc = f.rc;
	}
	return rc;
}

static void wait_out(struct flow_behind *b, int64_t us)
{
	struct pollfd fd = {.fd = b->stop.fd, .events = POLLIN};
	if (!atomic_load(&b->stop.set))
		(void)poll(&fd, 1, (int)(us / 1000) + 1); /* EINTR: tried a little earlier */
}

static void *follower(void *arg)
{
	struct flow_behind *b = arg;
	while (!atomic_load(&b->stop.set)) {
		int64_t started = duct_mono_us();
		struct duct_error err;
		int rc = follow(b, &err);
		if (!rc || rc == -DUCT_CANCELLED)
			break;
		to_close(b);
		if (atomic_load(&b->to.view->state) == FLOW_TO_GIVEN_UP) /* its segments are gone */
			break;
		atomic_store(&b->away, true);
		if (!is_away(rc)) {
			b->err = err;
			atomic_store(&b->failed, true);
			break;
		}
		int64_t wait = duct_retry_failed(&b->retry, started, duct_mono_us());
		if (wait < 0) {
			b->err = err;
			atomic_store(&b->exhausted, true);
			break;
		}
		log_warn(b->to.e->user->log, "a secondary destination is away: its changes wait in its outbox",
			 LOG_STR("destination", b->to.to->name), LOG_STR("error", err.message),
			 LOG_U64("outbox_bytes", flow_outbox_bytes(b->outbox)), LOG_I64("again_in_ms", wait / 1000));
		wait_out(b, wait);
	}
	flow_signal_raise(&b->ended);
	return NULL;
}

/* --- the lane: queue to outbox --- */

static int sync_outbox(struct flow_member *m, struct duct_error *err)
{
	int rc = flow_outbox_sync(m->behind->outbox, err);
	if (rc)
		return rc;
	struct duct_pos end = flow_outbox_end(m->behind->outbox);
	flow_member_written(m, &end);
	flow_member_durable(m, &end);
	return 0;
}

static int take(struct flow_member *m, struct duct_changes *changes, bool *dirty, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	bool keep_alive = !changes->nbatches && !changes->ncommits;
	uint64_t lsn = changes->ends_commit || keep_alive ? changes->upto.lsn : changes->open_lsn + 1;
	int rc = 1;
	if (!b->full && lsn > m->has_lsn)
		rc = flow_outbox_append(b->outbox, changes, err);
	duct_changes_free(changes);
	if (rc == 0) {
		b->full = true;
		if (m->e->spec->gives_up)
			return give_up(m, "its outbox is full", err);
		log_warn(m->e->user->log, "an outbox is full: the source keeps what follows for this destination",
			 LOG_STR("destination", m->to->name), LOG_U64("outbox_bytes", flow_outbox_bytes(b->outbox)));
	}
	*dirty |= rc == 1 && !b->full;
	return rc < 0 ? rc : 0;
}

/* There is room again, or nothing is left: the stream begins anew where the outbox ends. */
static int look_for_room(struct flow_member *m, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	if (b->draining)
		return flow_position_load(&b->to.durable).lsn < flow_outbox_end(b->outbox).lsn
			? 0
			: duct_fail(err, DUCT_RETRY, "destination \"%s\" has what its outbox kept, and needs none any more",
				    m->to->name);
	if (!b->full || !flow_outbox_has_room(b->outbox, flow_position_load(&b->to.durable).lsn))
		return 0;
	return duct_fail(err, DUCT_RETRY, "the outbox of destination \"%s\" has room again", m->to->name);
}

/* While the destination is away its outbox counts: who waits for the end of what was committed by now need not wait for that, too. */
static bool is_caught_up(struct flow_behind *b)
{
	struct flow_engine *e = b->to.e;
	return flow_engine_reached_head(e, flow_position_load(&b->to.durable).lsn) ||
		(atomic_load(&b->away) && flow_engine_reached_head(e, flow_outbox_end(b->outbox).lsn));
}

static int exhausted(struct flow_member *m, struct duct_error *err)
{
	char reason[200];
	struct flow_behind *b = m->behind;
	if (b->draining) { /* the flow itself waits for it */
		*err = b->err;
		err->class = DUCT_RETRY;
		return -DUCT_RETRY;
	}
	snprintf(reason, sizeof reason, "it has been away for too long: %.150s", b->err.message);
	return give_up(m, reason, err);
}

static int fill(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	bool dirty = false;
	int64_t dirty_us = 0;
	for (;;) {
		if (atomic_load(&b->failed)) {
			*err = b->err;
			return -(int)err->class;
		}
		if (atomic_load(&b->exhausted))
			return exhausted(m, err);
		show_lane(b);
		if (is_caught_up(b)) {
			*ret = FLOW_APPLIED_CAUGHT_UP;
			return 0;
		}
		void *item;
		int got = duct_queue_pop(queue, &item, dirty ? SYNC_MS : POLL_MS), rc = 0;
		if (got == 1) {
			dirty_us = dirty ? dirty_us : duct_mono_us();
			rc = take(m, item, &dirty, err);
		}
		if (!rc && dirty && (got != 1 || duct_mono_us() - dirty_us > SYNC_MS * 1000)) {
			rc = sync_outbox(m, err);
			dirty = false;
		}
		rc = rc ? rc : look_for_room(m, err);
		if (rc || got < 0)
			return rc;
	}
}

static void reopen(struct flow_member *m)
{
	struct flow_behind *b = m->behind;
	struct duct_error err;
	to_close(b);
	if (!flow_stopping(m->e) && flow_member_open(&b->to, &err)) {
		log_debug(m->e->user->log, "a secondary destination is away", LOG_STR("error", err.message));
		to_close(b);
	}
	m->dest = b->to.dest;
}

/* What it has under way comes to its end; where nothing moves it is not waited for, as the outbox has everything. */
static void end_follower(struct flow_behind *b)
{
	struct pollfd fd = {.fd = b->ended.fd, .events = POLLIN};
	int64_t until = duct_mono_us() + GRACE_MS * 1000, left;
	flow_signal_raise(&b->stop);
	flow_outbox_wake(b->outbox);
	while (!atomic_load(&b->ended.set) && (left = until - duct_mono_us()) > 0)
		(void)poll(&fd, 1, (int)(left / 1000) + 1); /* EINTR: the loop looks again */
	if (!atomic_load(&b->ended.set))
		flow_signal_raise(b->to.stop);
	pthread_join(b->follower, NULL);
	flow_member_calm(&b->to);
}

bool flow_behind_drained(const struct flow_member *m)
{
	struct flow_behind *b = m->behind;
	return b->outbox && flow_position_load(&b->to.durable).lsn >= flow_outbox_end(b->outbox).lsn;
}

/* The feeder ends when nothing is left. Who is away gets no copy, so it is not waited for. */
static void drain(struct flow_behind *b)
{
	struct pollfd fd = {.fd = b->ended.fd, .events = POLLIN};
	while (!atomic_load(&b->ended.set) && !atomic_load(&b->away) && !flow_stopping(b->to.e)) {
		flow_outbox_wake(b->outbox); /* a new attempt forgets it */
		(void)poll(&fd, 1, DRAIN_MS);
	}
}

static int with_follower(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	atomic_store(&b->exhausted, false);
	int rc = pthread_create(&b->follower, NULL, follower, b);
	if (rc)
		return duct_fail(err, DUCT_RETRY, "start a follower: %s", strerror(rc));
	rc = fill(m, queue, ret, err);
	if (!rc && atomic_load(&m->e->copy_due))
		drain(b);
	end_follower(b);
	return rc;
}

int flow_behind_apply(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err)
{
	struct flow_behind *b = m->behind;
	*ret = FLOW_APPLIED;
	b->ended.fd = -1;
	int rc = flow_signal_init(&b->stop, err);
	rc = rc ? rc : flow_signal_init(&b->ended, err);
	rc = rc ? rc : with_follower(m, queue, ret, err);
	flow_signal_done(&b->stop);
	flow_signal_done(&b->ended);
	if (!rc) /* what follows, a copy of new tables, has relations of the source's own */
		reopen(m);
	return rc;
}
