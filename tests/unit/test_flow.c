/* The engine between a scripted source and a destination that keeps what it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "flow/retry.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_ROWS = 256, PATIENCE_MS = 10000 };

enum step_kind {
	END, /* nothing more comes: read waits */
	TXN, /* a whole transaction of one row */
	PIECE, /* a part of a transaction: value in arg, no end */
	LAST, /* its last part: value in arg, ends at lsn */
	ALIVE, /* a keep-alive position */
	TABLES, /* new tables must be copied */
	ERROR, /* once: class in arg */
	ERRORS, /* always */
	STOP, /* the user's signal comes */
	ABORT, /* and the second one */
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
	bool used[64];			/* ERROR steps */
	int nparts, workers;		/* of the first copy; 0: there is none */
	bool copy_only, stop_in_copy;
	int fail_part_class, fail_part; /* once */
	int64_t flush_us;		/* how long the destination lets a group grow */
	int write_waits_for_ticks;
	bool write_waits_for_stop, write_waits_for_abort;
	int fail_commit;		/* the n-th commit fails with RETRY, 1-based */
	bool fail_after;		/* ... after it became durable */
	int fail_publish;		/* same, for load_publish */
	enum duct_flow_state state;	/* what the destination has durably */
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
		return duct_fail(err, (enum duct_class)class, "part %d is broken", (int)value);
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
	case ERRORS:
		return duct_fail(err, (enum duct_class)step->arg, "scripted");
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
	.name = "fake", .caps = DUCT_SOURCE_STREAM | DUCT_SOURCE_SNAPSHOT, .open = source_open,
	.snapshot = source_snapshot, .part_open = source_part_open, .part_read = source_part_read,
	.part_close = source_part_close, .snapshot_done = source_snapshot_done, .read = source_read,
	.tick = source_tick, .head = source_head, .close = source_close,
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

static int dest_load_begin(void *dest, struct duct_relation *const *relations, size_t n, struct duct_error *err)
{
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

static int dest_commit(void *dest, struct duct_commit_result *ret, struct duct_error *err)
{
	struct dest *d = dest;
	int rc = 0;
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
	.name = "fake", .caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_LOAD, .open = dest_open,
	.resume = dest_resume, .begin_copy = dest_begin_copy, .load_begin = dest_load_begin,
	.loader_open = dest_loader_open, .loader_write = dest_loader_write, .loader_finish = dest_loader_finish,
	.loader_close = dest_loader_close, .load_publish = dest_load_publish, .load_abort = dest_load_abort,
	.write = dest_write, .pace = dest_pace, .commit = dest_commit, .abort = dest_abort, .close = dest_close,
};

/* The tests. */

static int begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof w);
	pthread_mutex_init(&w.mutex, NULL);
	pthread_cond_init(&w.changed, NULL);
	w.stop_fd = eventfd(0, EFD_CLOEXEC);
	w.abort_fd = eventfd(0, EFD_CLOEXEC);
	w.state = DUCT_STATE_STREAMING;
	w.workers = 3;
	return 0;
}

static int end(void **state)
{
	(void)state;
	close(w.stop_fd);
	close(w.abort_fd);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.mutex);
	return 0;
}

static struct duct_error last_error;

static int run_with(const struct step *steps, struct flow_options options)
{
	static const struct duct_log log = {0};
	const struct flow_destination to = {.name = "to", .ops = &fake_destination};
	const struct flow_spec spec = {.name = "f", .source = &fake_source, .destinations = &to, .ndestinations = 1};
	const struct duct_ctx ctx = {.log = &log, .flow = "f", .stop = &w.stop, .stop_fd = w.stop_fd};
	w.steps = steps;
	options.output = FLOW_OUTPUT_NONE;
	options.abort = &w.abort;
	options.abort_fd = w.abort_fd;
	memset(&last_error, 0, sizeof last_error);
	int rc = flow_run(&spec, &options, &ctx, &last_error);
	assert_false(w.durable_ahead);
	assert_false(w.torn_commit);
	assert_null(strstr(w.log, "two-threads"));
	assert_null(strstr(w.log, "interrupted")); /* clean-up calls are not */
	if (rc)
		assert_int_equal(-rc, last_error.class);
	return rc;
}

static int run_until(const struct step *steps, uint64_t head)
{
	w.head = head;
	return run_with(steps, (struct flow_options){.until_caught_up = true});
}

static void expect_rows_(int n, const int64_t *rows, const char *file, int line)
{
	_assert_int_equal((uint64_t)w.nrows, (uint64_t)n, file, line);
	for (int i = 0; i < n; i++)
		_assert_int_equal((uint64_t)w.rows[i], (uint64_t)rows[i], file, line);
}
#define expect_rows(...)                                                                                    \
	expect_rows_((int)DUCT_LEN(((const int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__}, __FILE__, \
		     __LINE__)

static void sort_rows(void)
{
	for (int i = 1; i < w.nrows; i++)
		for (int j = i; j && w.rows[j] < w.rows[j - 1]; j--) {
			int64_t t = w.rows[j];
			w.rows[j] = w.rows[j - 1];
			w.rows[j - 1] = t;
		}
}

static void test_order_and_position(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TXN, 30, 0}, {ALIVE, 40, 0}, {0}};
	assert_int_equal(run_until(steps, 40), 0);
	expect_rows(10, 20, 30);
	assert_int_equal(w.pos.lsn, 40);
	assert_int_equal(w.closed_with, 40);
	assert_int_equal(w.opens, 1);
}

static void test_caught_up_does_not_wait_for_the_pace(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {ALIVE, 40, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	int64_t start = duct_mono_us();
	assert_int_equal(run_until(steps, 40), 0);
	assert_true(duct_mono_us() - start < 5000000);
	assert_string_equal(w.log, "commit:40 ");
}

static void test_caught_up_at_once(void **state)
{
	(void)state;
	const struct step steps[] = {{0}};
	w.pos.lsn = 50;
	assert_int_equal(run_until(steps, 50), 0);
	assert_int_equal(w.commits, 0);
	assert_int_equal(w.opened_from[0], 50);
}

static void test_pace_groups(void **state)
{
	(void)state;
	/* The stop comes when 10 and 20 wait in one group: it is committed as a whole, before its time. */
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {STOP, 0, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_string_equal(w.log, "commit:20 ");
	expect_rows(10, 20);
}

static void test_partial_waits_for_its_end(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {PIECE, 0, 21}, {PIECE, 0, 22}, {LAST, 30, 23}, {TXN, 40, 0}, {0}};
	assert_int_equal(run_until(steps, 40), 0);
	expect_rows(10, 21, 22, 23, 40);
	assert_string_equal(w.log, "commit:10 commit:30 commit:40 ");
}

static void test_whole_is_committed_before_a_partial(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {PIECE, 0, 21}, {STOP, 0, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	expect_rows(10);
	assert_string_equal(w.log, "commit:10 abort ");
	assert_int_equal(w.closed_with, 10);
}

static void test_retry_goes_on_from_resume(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {ERROR, 15, DUCT_RETRY}, {TXN, 20, 0}, {0}};
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_int_equal(w.opened_from[1], 10);
}

static void test_commit_that_fails(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {0}};
	w.fail_commit = 1;
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_int_equal(w.opened_from[1], 0);
	assert_non_null(strstr(w.log, "abort"));
}

static void test_commit_whose_reply_is_lost(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {0}};
	w.fail_commit = 1;
	w.fail_after = true;
	assert_int_equal(run_until(steps, 20), 0);
	expect_rows(10, 20);
	assert_int_equal(w.opens, 2);
	assert_true(w.opened_from[1] >= 10);
}

static void test_only_retry_is_retried(void **state)
{
	(void)state;
	for (int class = DUCT_FATAL; class <= DUCT_DATA; class++) {
		const struct step steps[] = {{TXN, 10, 0}, {ERRORS, 15, class}, {0}};
		end(NULL);
		begin(NULL);
		assert_int_equal(run_until(steps, 20), -class);
		expect_rows(10); /* what came before it is kept */
		assert_int_equal(w.opens, 1);
	}
}

static void test_gives_up(void **state)
{
	(void)state;
	const struct step steps[] = {{ERRORS, 15, DUCT_RETRY}, {0}};
	w.head = 20;
	assert_int_equal(run_with(steps, (struct flow_options){.until_caught_up = true, .give_up_ms = 300}), -DUCT_RETRY);
	assert_true(w.opens >= 2);
	assert_non_null(strstr(last_error.message, "given up after"));
}

static void test_stop_ends_the_back_off(void **state)
{
	(void)state;
	const struct step steps[] = {{STOP, 15, 0}, {ERRORS, 16, DUCT_RETRY}, {0}};
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_int_equal(w.opens, 1);
}

static void test_queue_is_bounded_and_ticks(void **state)
{
	(void)state;
	struct step steps[41] = {{0}};
	for (int i = 0; i < 40; i++)
		steps[i] = (struct step){TXN, (uint64_t)i + 1, 0};
	w.write_waits_for_ticks = 2;
	w.head = 40;
	assert_int_equal(run_with(steps, (struct flow_options){.until_caught_up = true, .max_memory_bytes = 64 << 10}), 0);
	assert_int_equal(w.nrows, 40);
	for (int i = 0; i < 40; i++)
		assert_int_equal(w.rows[i], i + 1);
	assert_true(w.ticks >= 2);
	/* 16 KiB of queue at some 1 to 5 KiB each, one being written, one in the reader's hand. */
	assert_in_range(w.reads_at_write, 3, 30);
}

static void test_stop_drains(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TXN, 30, 0}, {STOP, 0, 0}, {TXN, 40, 0}, {0}};
	w.write_waits_for_stop = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_true(w.nrows >= 3); /* 40 may have been read before the signal was passed on */
	assert_int_equal(w.closed_with, w.rows[w.nrows - 1]);
	assert_int_equal(w.rows[0], 10);
	assert_int_equal(w.rows[2], 30);
}

static void test_stop_before_caught_up(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {STOP, 0, 0}, {0}};
	assert_int_equal(run_until(steps, 20), -DUCT_CANCELLED);
	expect_rows(10);
}

static void test_second_stop_aborts(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {ABORT, 0, 0}, {0}};
	w.write_waits_for_abort = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), -DUCT_CANCELLED);
	assert_int_equal(w.nrows, 0);
	assert_int_equal(w.commits, 0);
	assert_int_equal(w.closed_with, 0);
}

static void test_repeated_transaction_is_fatal(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 20, 0}, {TXN, 10, 0}, {0}};
	assert_int_equal(run_until(steps, 30), -DUCT_FATAL);
	expect_rows(20);
}

static void test_first_copy(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 3, 0}, {TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 7;
	/* The scripted source has no filter of its own after a copy: start behind it. */
	assert_int_equal(run_until(steps + 1, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot publish:1 done:1 commit:10 ");
	assert_int_equal(w.rows[7], 10);
	w.nrows = 7;
	sort_rows();
	expect_rows(100, 101, 102, 103, 104, 105, 106);
}

static void test_copy_only(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_COPYING;
	w.nparts = 2;
	w.copy_only = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), 0);
	assert_string_equal(w.log, "begin_copy snapshot publish:1 done:1 ");
	assert_int_equal(w.closed_with, 5);
}

static void test_copy_without_tables(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy commit:10 ");
}

static void test_copy_worker_fails_and_starts_over(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.fail_part = 103;
	w.fail_part_class = DUCT_RETRY;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 begin_copy snapshot publish:1 done:1 commit:10 ");
	sort_rows();
	expect_rows(10, 100, 101, 102, 103, 104);
}

static void test_copy_worker_fails_for_good(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.fail_part = 100;
	w.fail_part_class = DUCT_DATA;
	assert_int_equal(run_until(steps, 10), -DUCT_DATA);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 ");
	assert_string_equal(last_error.message, "copy of \"public.t\": part 100 is broken");
	assert_int_equal(w.nrows, 0);
}

static void test_publish_whose_reply_is_lost(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 1;
	w.fail_publish = 1;
	w.fail_after = true;
	assert_int_equal(run_until(steps, 10), 0);
	/* done:1: the source must keep its slot, the copy is there */
	assert_string_equal(w.log, "begin_copy snapshot publish:1 load_abort done:1 commit:10 ");
	expect_rows(100, 10);
}

static void test_publish_that_fails(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 1;
	w.fail_publish = 1;
	assert_int_equal(run_until(steps, 10), 0);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 begin_copy snapshot publish:1 done:1 commit:10 ");
	expect_rows(100, 10);
}

static void test_stop_in_copy(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {0}};
	w.state = DUCT_STATE_NONE;
	w.nparts = 5;
	w.stop_in_copy = true;
	assert_int_equal(run_with(steps, (struct flow_options){0}), -DUCT_CANCELLED);
	assert_string_equal(w.log, "begin_copy snapshot load_abort done:0 ");
	assert_int_equal(w.nrows, 0);
}

static void test_new_tables(void **state)
{
	(void)state;
	const struct step steps[] = {{TXN, 10, 0}, {TXN, 20, 0}, {TABLES, 0, 0}, {TXN, 30, 0}, {0}};
	w.flush_us = (int64_t)3600 * 1000000;
	assert_int_equal(run_until(steps, 30), 0);
	assert_string_equal(w.log, "commit:20 snapshot publish:0 done:1 commit:30 ");
	assert_int_equal(w.pos.lsn, 30);
	sort_rows();
	expect_rows(10, 20, 30, 200, 201);
}

static void test_new_tables_inside_a_transaction(void **state)
{
	(void)state;
	const struct step steps[] = {{PIECE, 0, 11}, {TABLES, 0, 0}, {LAST, 30, 12}, {0}};
	assert_int_equal(run_until(steps, 30), -DUCT_FATAL);
	assert_int_equal(w.nrows, 0);
}

static void test_one_destination(void **state)
{
	(void)state;
	const struct flow_destination to[2] = {{"a", &fake_destination, NULL}, {"b", &fake_destination, NULL}};
	const struct flow_spec spec = {.name = "f", .source = &fake_source, .destinations = to, .ndestinations = 2};
	struct flow_options options = {0};
	struct duct_ctx ctx = {0};
	assert_int_equal(flow_run(&spec, &options, &ctx, &last_error), -DUCT_CONFIG);
	assert_non_null(strstr(last_error.message, "one destination per flow works today"));
}

static void test_back_off(void **state)
{
	(void)state;
	struct flow_retry r;
	flow_retry_init(&r, 0, 42);
	int64_t now = 1000000, limit = 200000, longest = 0;
	for (int i = 0; i < 40; i++) {
		int64_t wait = flow_retry_failed(&r, now - 10, now);
		assert_in_range(wait, 0, limit);
		if (wait > longest)
			longest = wait;
		limit = limit * 2 < 30000000 ? limit * 2 : 30000000;
		now += wait;
	}
	assert_true(longest > 15000000); /* jitter covers the whole range */
	assert_in_range(flow_retry_failed(&r, now - 60000000, now), 0, 200000); /* it lived for a minute */
	assert_in_range(flow_retry_failed(&r, now, now), 0, 400000);
	flow_retry_progress(&r);
	assert_in_range(flow_retry_failed(&r, now, now), 0, 200000);
	flow_retry_init(&r, 5000000, 7);
	assert_true(flow_retry_failed(&r, 0, 1000) >= 0);
	assert_true(flow_retry_failed(&r, 4000000, 4999999) >= 0);
	assert_int_equal(flow_retry_failed(&r, 4000000, 5001000), -1);
	flow_retry_progress(&r);
	assert_true(flow_retry_failed(&r, 4000000, 9001000) >= 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
	duct_log_setup(DUCT_ERROR, false);
	const struct CMUnitTest tests[] = {
		T(test_order_and_position),
		T(test_caught_up_does_not_wait_for_the_pace),
		T(test_caught_up_at_once),
		T(test_pace_groups),
		T(test_partial_waits_for_its_end),
		T(test_whole_is_committed_before_a_partial),
		T(test_retry_goes_on_from_resume),
		T(test_commit_that_fails),
		T(test_commit_whose_reply_is_lost),
		T(test_only_retry_is_retried),
		T(test_gives_up),
		T(test_stop_ends_the_back_off),
		T(test_queue_is_bounded_and_ticks),
		T(test_stop_drains),
		T(test_stop_before_caught_up),
		T(test_second_stop_aborts),
		T(test_repeated_transaction_is_fatal),
		T(test_first_copy),
		T(test_copy_only),
		T(test_copy_without_tables),
		T(test_copy_worker_fails_and_starts_over),
		T(test_copy_worker_fails_for_good),
		T(test_publish_whose_reply_is_lost),
		T(test_publish_that_fails),
		T(test_stop_in_copy),
		T(test_new_tables),
		T(test_new_tables_inside_a_transaction),
		T(test_one_destination),
		T(test_back_off),
	};
	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
