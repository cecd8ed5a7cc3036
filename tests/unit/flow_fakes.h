#ifndef FLOW_FAKES_H
#define FLOW_FAKES_H

/* For test_flow.c only: a scripted source, and a destination that keeps what it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "base/retry.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_ROWS = 256, PATIENCE_MS = 10000 };

enum step_kind {
	END,	/* nothing more comes: read waits */
	TXN,	/* a whole transaction of one row */
	PIECE,	/* a part of a transaction: value in arg, no end */
	LAST,	/* its last part: value in arg, ends at lsn */
	ALIVE,	/* a keep-alive position */
	TABLES, /* new tables must be copied */
	ERROR,	/* once: class in arg */
	ERRORS, /* always */
	STOP,	/* the user's signal comes */
	ABORT,	/* and the second one */
};
struct step {
	enum step_kind kind;
	uint64_t lsn;
	int64_t arg;
};

/* Everything a test sets up and looks at. Guarded by the mutex while a flow runs. */
struct world {
	pthread_mutex_t mutex;
	pthread_cond_t changed;

	/* the script */
	const struct step *steps;
	uint64_t head;
	bool used[64];	     /* ERROR steps */
	int nparts, workers; /* of the first copy; 0: there is none */
	bool copy_only, stop_in_copy;
	int fail_part_class, fail_part; /* once */
	int64_t flush_us;		/* how long the destination lets a group grow */
	int write_waits_for_ticks;
	bool write_waits_for_stop, write_waits_for_abort;
	int fail_commit;	    /* the n-th commit fails with RETRY, 1-based */
	bool fail_after;	    /* ... after it became durable */
	int fail_publish;	    /* same, for load_publish */
	enum duct_flow_state state; /* what the destination has durably */
	struct duct_pos pos;
	int64_t rows[MAX_ROWS];
	int nrows;

	/* what happened */
	char log[4096];
	int opens, source_opens, reads, reads_at_write, ticks, commits;
	uint64_t opened_from[16], closed_with;
	bool durable_ahead, torn_commit, busy;

	/* signals */
	atomic_bool stop, abort;
	int stop_fd, abort_fd;
};
static struct world w;

static void note(const char *fmt, ...) DUCT_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
	size_t len = strlen(w.log);
	va_list args;
	va_start(args, fmt);
	vsnprintf(w.log + len, sizeof w.log - len, fmt, args);
	va_end(args);
}

static void lock(void)
{
	pthread_mutex_lock(&w.mutex);
}

static void unlock(void)
{
	pthread_cond_broadcast(&w.changed);
	pthread_mutex_unlock(&w.mutex);
}

static void wait_changed(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 10 * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&w.changed, &w.mutex, &t);
}

static void raise_signal(atomic_bool *flag, int fd)
{
	uint64_t one = 1;
	atomic_store(flag, true);
	assert_int_equal(write(fd, &one, sizeof one), sizeof one);
}

/* The source. */

struct source {
	const struct duct_ctx *ctx;
	size_t at;
	bool copy_due, tables_due;
	struct duct_relation *relation;
};

static struct duct_relation *make_relation(void)
{
	struct duct_relation *rel = duct_relation_new();
	rel->oid = 1;
	rel->schema = "public";
	rel->name = "t";
	rel->ncolumns = 1;
	rel->columns = duct_arena_zalloc(&rel->arena, sizeof *rel->columns);
	rel->columns[0].name = "v";
	rel->columns[0].type.kind = DUCT_INT64;
	return rel;
}

static struct duct_batch *make_batch(struct duct_relation *rel, enum duct_op op, int64_t value)
{
	struct duct_batch *b = duct_batch_new(rel, 1);
	duct_batch_add_row(b, op, 1);
	memcpy(duct_vector_append(b, &b->columns[0], 8), &value, 8);
	duct_batch_seal(b);
	return b;
}

static int source_open(void **ret, const void *config, const struct duct_ctx *ctx, const struct duct_checkpoint *from,
		       struct duct_error *err)
{
	(void)config, (void)err;
	struct source *s = duct_xcalloc(1, sizeof *s);
	s->ctx = ctx;
	s->relation = make_relation();
	s->copy_due = from->state != DUCT_STATE_STREAMING && w.nparts;
	lock();
	w.opened_from[w.source_opens++ % 16] = from->pos.lsn;
	for (; w.steps[s->at].kind != END; s->at++) {
		const struct step *step = &w.steps[s->at];
		if (step->lsn > from->pos.lsn || (!step->lsn && step->kind != PIECE))
			break;
		if (step->kind == PIECE) {
			size_t end = s->at;
			while (w.steps[end].kind == PIECE)
				end++;
			if (w.steps[end].lsn > from->pos.lsn || w.steps[end].kind != LAST)
				break;
		}
	}
	unlock();
	*ret = s;
	return 0;
}

static int source_snapshot(void *source, struct duct_snapshot **ret, struct duct_error *err)
{
	(void)err;
	struct source *s = source;
	*ret = NULL;
	if (!s->copy_due && !s->tables_due)
		return 0;
	lock();
	note("snapshot ");
	unlock();
	struct duct_snapshot *snap = duct_xcalloc(1, sizeof *snap);
	int n = s->copy_due ? w.nparts : 2;
	snap->pos = (struct duct_pos){s->copy_due ? 5 : 1000, 1};
	snap->nrelations = 1;
	snap->relations = duct_xcalloc(1, sizeof *snap->relations);
	snap->relations[0] = duct_relation_ref(s->relation);
	snap->nparts = (size_t)n;
	snap->parts = duct_xcalloc((size_t)n, sizeof *snap->parts);
	for (int i = 0; i < n; i++) {
		snap->parts[i].relation = s->relation;
		snap->parts[i].estimated_rows = 1;
		snap->parts[i].impl = (void *)(intptr_t)((s->copy_due ? 100 : 200) + i);
	}
	snap->workers = w.workers;
	snap->only = w.copy_only;
	*ret = snap;
	return 0;
}

static int source_part_open(void *source, struct duct_snapshot *snap, struct duct_snapshot_part *part, void **ret_reader,
			    struct duct_error *err)
{
	(void)snap;
	struct source *s = source;
	int64_t value = (intptr_t)part->impl;
	lock();
	bool fail = w.fail_part_class && value == w.fail_part;
	int class = w.fail_part_class;
	if (fail)
		w.fail_part_class = 0;
	unlock();
	if (fail)
		return duct_fail(err, (enum duct_class) class, "part %d is broken", (int)value);
	if (w.stop_in_copy && !atomic_exchange(&w.stop, true))
		raise_signal(&w.stop, w.stop_fd);
	if (w.stop_in_copy) { /* as a blocked read would */
		struct pollfd fd = {.fd = s->ctx->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, PATIENCE_MS);
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	}
	struct duct_batch **batch = duct_xcalloc(1, sizeof *batch);
	*batch = make_batch(s->relation, DUCT_READ, value);
	*ret_reader = batch;
	return 0;
}

static int source_part_read(void *reader, struct duct_batch **ret, struct duct_error *err)
{
	(void)err;
	*ret = duct_steal((struct duct_batch **)reader);
	return 0;
}

static void source_part_close(void *reader)
{
	duct_batch_unref(*(struct duct_batch **)reader);
	free(reader);
}

static int source_snapshot_done(void *source, struct duct_snapshot *snap, bool published, struct duct_error *err)
{
	(void)err;
	struct source *s = source;
	lock();
	note("done:%d ", published);
	if (duct_ctx_stopped(s->ctx))
		note("interrupted ");
	unlock();
	if (published)
		s->copy_due = s->tables_due = false;
	duct_relation_unref(snap->relations[0]);
	free(snap->relations);
	free(snap->parts);
	free(snap);
	return 0;
}

static struct duct_changes *make_changes(struct source *s, const struct step *step)
{
	struct duct_changes *c = duct_changes_new();
	if (step->kind != ALIVE)
		duct_changes_add(c, make_batch(s->relation, DUCT_INSERT, step->kind == TXN ? (int64_t)step->lsn : step->arg));
	if (step->kind == TXN || step->kind == LAST)
		duct_changes_add_commit(c, &(struct duct_commit){.end_lsn = step->lsn, .commit_us = 1, .last_seq = 1});
	if (step->kind == ALIVE)
		c->upto.lsn = step->lsn;
	c->ends_commit = step->kind != PIECE;
	return c;
}

/* True when another thread is inside the source's instance. */
static void source_enter(const struct duct_pos *durable)
{
	lock();
	if (w.busy)
		note("two-threads ");
	w.busy = true;
	if (durable && durable->lsn > w.pos.lsn)
		w.durable_ahead = true;
	unlock();
}

static void source_leave(void)
{
	lock();
	w.busy = false;
	unlock();
}

static int read_step(struct source *s, struct duct_changes **ret, int timeout_ms, struct duct_error *err)
{
	const struct step *step = &w.steps[s->at];
	struct pollfd fd = {.fd = s->ctx->stop_fd, .events = POLLIN};
	switch (step->kind) {
	case END:
		(void)poll(&fd, 1, timeout_ms);
		if (duct_ctx_stopped(s->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		return 0;
	case ERROR:
		if (w.used[s->at]) {
			s->at++;
			return 0;
		}
		w.used[s->at] = true;
		return duct_fail(err, (enum duct_class)step->arg, "scripted");
	case ERRORS: return duct_fail(err, (enum duct_class)step->arg, "scripted");
	case STOP:
	case ABORT:
		s->at++;
		raise_signal(&w.stop, w.stop_fd);
		if (step->kind == ABORT)
			raise_signal(&w.abort, w.abort_fd);
		return 0;
	case TABLES:
		s->at++;
		if (w.used[s->at])
			return 0;
		w.used[s->at] = true;
		s->tables_due = true;
		return 1;
	default:
		s->at++;
		*ret = make_changes(s, step);
		return 0;
	}
}

static int source_read(void *source, const struct duct_pos *durable, struct duct_changes **ret, int timeout_ms,
		       struct duct_error *err)
{
	source_enter(durable);
	int rc = read_step(source, ret, timeout_ms, err);
	source_leave();
	lock();
	w.reads += *ret != NULL;
	unlock();
	return rc;
}

static int source_tick(void *source, const struct duct_pos *durable, struct duct_error *err)
{
	(void)source, (void)err;
	source_enter(durable);
	source_leave();
	lock();
	w.ticks++;
	unlock();
	return 0;
}

static int source_head(void *source, struct duct_pos *ret, struct duct_error *err)
{
	(void)source, (void)err;
	ret->lsn = w.head;
	return 0;
}

static void source_close(void *source, const struct duct_pos *durable)
{
	struct source *s = source;
	lock();
	w.closed_with = durable->lsn;
	if (durable->lsn > w.pos.lsn)
		w.durable_ahead = true;
	unlock();
	duct_relation_unref(s->relation);
	free(s);
}

static const struct duct_source_ops fake_source = {
	.name = "fake",
	.caps = DUCT_SOURCE_STREAM | DUCT_SOURCE_SNAPSHOT,
	.open = source_open,
	.snapshot = source_snapshot,
	.part_open = source_part_open,
	.part_read = source_part_read,
	.part_close = source_part_close,
	.snapshot_done = source_snapshot_done,
	.read = source_read,
	.tick = source_tick,
	.head = source_head,
	.close = source_close,
};

/* The destination. */

struct dest {
	const struct duct_ctx *ctx;
	int64_t rows[MAX_ROWS];
	int nrows;
	struct duct_pos upto;
	bool open, whole;
	int64_t opened_us;
	pthread_mutex_t load_mutex;
};

static int dest_open(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	(void)config, (void)err;
	struct dest *d = duct_xcalloc(1, sizeof *d);
	d->ctx = ctx;
	pthread_mutex_init(&d->load_mutex, NULL);
	lock();
	w.opens++;
	unlock();
	*ret = d;
	return 0;
}

static int dest_resume(void *dest, struct duct_checkpoint *ret, struct duct_error *err)
{
	(void)dest, (void)err;
	lock();
	ret->state = w.state;
	ret->pos = w.pos;
	unlock();
	return 0;
}

static int dest_begin_copy(void *dest, const char *identity, struct duct_error *err)
{
	(void)dest, (void)err, (void)identity;
	lock();
	w.state = DUCT_STATE_COPYING;
	note("begin_copy ");
	unlock();
	return 0;
}

static int dest_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err)
{
	(void)flags;
	(void)relations, (void)n, (void)err;
	struct dest *d = dest;
	d->nrows = 0;
	return 0;
}

static int dest_loader_open(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err)
{
	(void)rel, (void)err;
	*ret_loader = dest;
	return 0;
}

static int dest_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err)
{
	(void)err;
	struct dest *d = loader;
	pthread_mutex_lock(&d->load_mutex);
	memcpy(&d->rows[d->nrows++], duct_vector_cell(&batch->columns[0], 0).data, 8);
	pthread_mutex_unlock(&d->load_mutex);
	return 0;
}

static int dest_loader_finish(void *loader, struct duct_error *err)
{
	(void)loader, (void)err;
	return 0;
}

static void dest_loader_close(void *loader)
{
	(void)loader;
}

static void keep_rows(struct dest *d)
{
	memcpy(w.rows + w.nrows, d->rows, (size_t)d->nrows * sizeof *d->rows);
	w.nrows += d->nrows;
	d->nrows = 0;
}

static int dest_load_publish(void *dest, const struct duct_pos *pos, const char *identity, bool set_position,
			     struct duct_commit_result *ret, struct duct_error *err)
{
	(void)identity;
	struct dest *d = dest;
	int rc = 0;
	lock();
	bool fail = w.fail_publish && w.fail_publish-- == 1;
	if (!fail || w.fail_after) {
		keep_rows(d);
		if (set_position) {
			w.pos = *pos;
			w.state = DUCT_STATE_STREAMING;
		}
		note("publish:%d ", set_position);
	}
	if (fail)
		rc = duct_fail(err, DUCT_RETRY, "publish: connection lost");
	unlock();
	ret->snapshot_id = 1;
	return rc;
}

static void dest_load_abort(void *dest)
{
	struct dest *d = dest;
	d->nrows = 0;
	lock();
	note("load_abort ");
	unlock();
}

static bool write_may_go_on(struct dest *d)
{
	if (w.write_waits_for_ticks && w.ticks < w.write_waits_for_ticks)
		return false;
	if (w.write_waits_for_stop && !atomic_load(&w.stop))
		return false;
	return !w.write_waits_for_abort || duct_ctx_stopped(d->ctx);
}

static int dest_write(void *dest, struct duct_changes *changes, struct duct_error *err)
{
	struct dest *d = dest;
	int64_t patience = duct_mono_us() + (int64_t)PATIENCE_MS * 1000;
	lock();
	while (!write_may_go_on(d) && duct_mono_us() < patience)
		wait_changed();
	if (!w.reads_at_write)
		w.reads_at_write = w.reads;
	bool stopped = duct_ctx_stopped(d->ctx);
	unlock();
	if (stopped) {
		duct_changes_free(changes);
		return duct_fail(err, DUCT_CANCELLED, "interrupted");
	}
	for (size_t i = 0; i < changes->nbatches; i++)
		memcpy(&d->rows[d->nrows++], duct_vector_cell(&changes->batches[i]->columns[0], 0).data, 8);
	if (!d->open)
		d->opened_us = duct_mono_us();
	d->open = true;
	d->whole = changes->ends_commit;
	if (changes->upto.lsn)
		d->upto = changes->upto;
	duct_changes_free(changes);
	return 0;
}

static struct duct_destination_pace dest_pace(void *dest)
{
	struct dest *d = dest;
	return (struct duct_destination_pace){.commit_at_us = d->open ? d->opened_us + w.flush_us : INT64_MAX};
}

static int dest_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err)
{
	struct dest *d = dest;
	int rc = 0;
	(void)last;
	lock();
	w.commits++;
	if (!d->open || !d->whole)
		w.torn_commit = true;
	bool fail = w.fail_commit && w.fail_commit == w.commits;
	if (!fail || w.fail_after) {
		ret->rows = (uint64_t)d->nrows;
		ret->snapshot_id = d->nrows ? w.commits : -1;
		keep_rows(d);
		w.pos = d->upto;
		w.state = DUCT_STATE_STREAMING;
		d->open = false;
		note("commit:%llu ", (unsigned long long)w.pos.lsn);
	}
	if (fail)
		rc = duct_fail(err, DUCT_RETRY, "commit: connection lost");
	unlock();
	return rc;
}

static void dest_abort(void *dest)
{
	struct dest *d = dest;
	d->nrows = 0;
	d->open = false;
	lock();
	note("abort ");
	unlock();
}

static void dest_close(void *dest)
{
	struct dest *d = dest;
	pthread_mutex_destroy(&d->load_mutex);
	free(d);
}

static const struct duct_destination_ops fake_destination = {
	.name = "fake",
	.caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_LOAD,
	.open = dest_open,
	.resume = dest_resume,
	.begin_copy = dest_begin_copy,
	.load_begin = dest_load_begin,
	.loader_open = dest_loader_open,
	.loader_write = dest_loader_write,
	.loader_finish = dest_loader_finish,
	.loader_close = dest_loader_close,
	.load_publish = dest_load_publish,
	.load_abort = dest_load_abort,
	.write = dest_write,
	.pace = dest_pace,
	.commit = dest_commit,
	.abort = dest_abort,
	.close = dest_close,
};

#endif
