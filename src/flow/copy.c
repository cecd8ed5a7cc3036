/*
 * Copies of whole tables: workers take parts from a shared list and write them aside, a keeper thread keeps the source's
 * connections alive, the applier publishes everything in one commit.
 */
#include "flow/engine.h"

#include "base/mem.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>

enum { TICK_MS = 1000, MAX_WORKERS = 64 };

struct copy {
	struct flow_engine *e;
	struct duct_snapshot *snap;
	struct flow_copy_view *view;
	atomic_size_t next; /* the first part that nobody took */
	atomic_uint_least64_t dead_rows;
	atomic_bool failed;
	struct duct_error error; /* of the first failure; read after the threads were joined */
	struct flow_signal done; /* ends the keeper */
};

static void copy_fail(struct copy *c, const struct duct_error *error)
{
	if (!atomic_exchange(&c->failed, true))
		c->error = *error;
}

static bool copy_given_up(struct copy *c)
{
	return atomic_load(&c->failed) || flow_stopping(c->e);
}

/* What one part is written through at one destination: a loader for its relation, and one for a synthetic relation when it has such rows. */
struct writer {
	struct flow_member *member;
	void *loader, *aside;
};

static int write_batch(struct writer *w, const struct duct_batch *batch, struct duct_error *err)
{
	const struct duct_destination_ops *ops = w->member->ops;
	if (!batch->relation->synthetic)
		return ops->loader_write(w->loader, batch, err);
	int rc = w->aside ? 0 : ops->loader_open(w->member->dest, batch->relation, &w->aside, err);
	return rc ? rc : ops->loader_write(w->aside, batch, err);
}

static int writers_open(struct copy *c, struct duct_relation *rel, struct writer *writers, size_t *n, struct duct_error *err)
{
	struct flow_engine *e = c->e;
	int rc = 0;
	for (size_t i = 0; i < e->nmembers && !rc; i++) {
		if (!e->members[i].copying)
			continue;
		writers[*n] = (struct writer){.member = &e->members[i]};
		rc = e->members[i].ops->loader_open(e->members[i].dest, rel, &writers[*n].loader, err);
		++*n;
	}
	return rc;
}

static int writers_finish(struct writer *writers, size_t n, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		struct writer *w = &writers[i];
		rc = w->aside ? w->member->ops->loader_finish(w->aside, err) : 0;
		rc = rc ? rc : w->member->ops->loader_finish(w->loader, err);
	}
	return rc;
}

static void writers_close(struct writer *writers, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (writers[i].aside)
			writers[i].member->ops->loader_close(writers[i].aside);
		if (writers[i].loader)
			writers[i].member->ops->loader_close(writers[i].loader);
	}
}

static int pump(struct copy *c, void *reader, struct writer *writers, size_t n, struct flow_table_view *table,
		struct duct_error *err)
{
	struct flow_engine *e = c->e;
	while (!copy_given_up(c)) {
		struct duct_batch *batch = NULL;
		int rc = e->src->part_read(reader, &batch, err);
		if (rc)
			return rc;
		if (!batch)
			return writers_finish(writers, n, err);
		uint64_t rows = batch->rows, bytes = batch->arena.bytes;
		if (batch->relation->synthetic) {
			flow_dead_rows_tell(&e->dead, e->user->log, batch);
			flow_count(&c->dead_rows, rows);
		}
		for (size_t i = 0; i < n && !rc; i++)
			rc = write_batch(&writers[i], batch, err);
		duct_batch_unref(batch);
		if (rc)
			return rc;
		flow_count(&table->rows, rows);
		flow_count(&table->bytes, bytes);
		flow_count(&e->counters->copied_rows, rows);
		flow_count(&e->counters->copied_bytes, bytes);
	}
	return duct_fail(err, DUCT_CANCELLED, "given up");
}

static int copy_part(struct copy *c, struct duct_snapshot_part *part, struct duct_error *err)
{
	struct flow_engine *e = c->e;
	struct flow_table_view *table = &c->view->tables[part->table];
	AUTO_FREE struct writer *writers = duct_xcalloc(e->nmembers, sizeof *writers);
	size_t n = 0;
	void *reader = NULL;
	int rc = e->src->part_open(e->source, c->snap, part, &reader, err);
	if (!rc)
		rc = writers_open(c, part->relation, writers, &n, err);
	if (!rc)
		rc = pump(c, reader, writers, n, table, err);
	writers_close(writers, n);
	if (reader)
		e->src->part_close(reader);
	if (rc)
		return duct_wrap(err, "copy of \"%s\"", table->name);
	atomic_fetch_sub(&table->parts_left, 1);
	return 0;
}

static void *worker(void *arg)
{
	struct copy *c = arg;
	while (!copy_given_up(c)) {
		size_t i = atomic_fetch_add(&c->next, 1);
		if (i >= c->snap->nparts)
			break;
		struct duct_error err = {0};
		if (copy_part(c, &c->snap->parts[i], &err))
			copy_fail(c, &err);
	}
	return NULL;
}

/* Owns the source's instance (but for its parts) while the copy runs. */
static void *keeper(void *arg)
{
	struct copy *c = arg;
	struct flow_engine *e = c->e;
	for (;;) {
		struct pollfd fd = {.fd = c->done.fd, .events = POLLIN};
		(void)poll(&fd, 1, TICK_MS); /* EINTR: one tick more */
		if (atomic_load(&c->done.set))
			return NULL;
		struct duct_pos durable = flow_confirmed(e);
		struct duct_error err = {0};
		if (e->src->tick && e->src->tick(e->source, &durable, &err)) {
			duct_wrap(&err, "keep the source's connection alive during the copy");
			copy_fail(c, &err);
			return NULL;
		}
	}
}

static void run_workers(struct copy *c)
{
	pthread_t threads[MAX_WORKERS];
	size_t wanted = c->snap->workers > 1 ? (size_t)c->snap->workers : 1, started = 0;
	if (wanted > MAX_WORKERS)
		wanted = MAX_WORKERS;
	if (wanted > c->snap->nparts)
		wanted = c->snap->nparts;
	for (; started < wanted; started++) {
		int rc = pthread_create(&threads[started], NULL, worker, c);
		if (rc) {
			struct duct_error err;
			duct_fail(&err, DUCT_RETRY, "start a copy worker: %s", strerror(rc));
			copy_fail(c, &err);
			break;
		}
	}
	while (started)
		pthread_join(threads[--started], NULL);
}

/* A publish that failed may have happened all the same (its reply was lost): only the destination knows. Where it
 * cannot say, a first copy counts as published: that leaves the source's slot alone, and the next attempt, which finds
 * the state COPYING when it was not, begins anew. */
static bool was_published(struct flow_member *m, const struct duct_snapshot *snap, bool first)
{
	struct duct_checkpoint now = {0};
	struct duct_error err = {0};
	if (!first)
		return false;
	if (m->ops->resume(m->dest, &now, &err))
		return true;
	return now.state == DUCT_STATE_STREAMING && now.pos.lsn >= snap->pos.lsn;
}

static void abort_loads(struct flow_engine *e, size_t from)
{
	flow_engine_calm(e);
	for (size_t i = from; i < e->nmembers; i++)
		if (e->members[i].copying)
			e->members[i].ops->load_abort(e->members[i].dest);
}

static int begin_load(struct copy *c, struct flow_member *m, struct duct_error *err)
{
	struct duct_snapshot *snap = c->snap;
	unsigned flags = (snap->without_rows ? DUCT_LOAD_EMPTY : 0u) | (snap->only ? DUCT_LOAD_ONCE : 0u) |
		(c->e->options->resolve_staging ? DUCT_LOAD_RESOLVE : 0u) | (c->e->options->backfill ? DUCT_LOAD_BACKFILL : 0u) |
		(c->e->nmembers == 1 ? DUCT_LOAD_ALONE : 0u);
	if (!m->dest)
		return duct_fail(err, DUCT_RETRY, "destination \"%s\" is away, and there are new tables to be copied into it",
				 m->to->name);
	if (m->behind && m->streaming && !flow_behind_drained(m))
		return duct_fail(err, DUCT_RETRY,
				 "destination \"%s\" has not yet what its outbox keeps, and there are tables to be copied",
				 m->to->name);
	return m->ops->load_begin(m->dest, snap->relations, snap->nrelations, flags, err);
}

static int begin_loads(struct copy *c, struct duct_error *err)
{
	struct flow_engine *e = c->e;
	int rc = 0;
	size_t begun = 0;
	for (; begun < e->nmembers && !rc; begun += !rc)
		rc = e->members[begun].copying ? begin_load(c, &e->members[begun], err) : 0;
	while (rc && begun-- > 0)
		if (e->members[begun].copying)
			e->members[begun].ops->load_abort(e->members[begun].dest);
	return rc;
}

static int took_over(struct flow_member *m, const struct duct_snapshot *snap, struct duct_error *err)
{
	const struct duct_pos *pos = &snap->pos;
	if (m->behind && flow_behind_begin(m, pos, snap->source_identity, err))
		return -(int)err->class;
	m->streaming = true;
	m->has_lsn = pos->lsn;
	flow_member_written(m, pos);
	flow_member_durable(m, pos);
	struct flow_counters *counters = m->e->counters;
	struct duct_pos durable = flow_position_load(&counters->durable);
	if (flow_position_load(&counters->received).lsn < durable.lsn) /* nothing was read yet */
		flow_position_store(&counters->received, &durable);
	return 0;
}

/* One after the other: where one has it and the next fails, the next attempt finds that and copies for the others only. */
static int publish(struct copy *c, bool first, bool *ret_published, struct duct_error *err)
{
	struct flow_engine *e = c->e;
	struct duct_snapshot *snap = c->snap;
	for (size_t i = 0; i < e->nmembers; i++) {
		struct flow_member *m = &e->members[i];
		struct duct_commit_result result = {.snapshot_id = -1};
		if (!m->copying)
			continue;
		if (m->ops->load_publish(m->dest, &snap->pos, snap->source_identity, first, &result, err)) {
			abort_loads(e, i);
			*ret_published |= was_published(m, snap, first);
			return -(int)err->class;
		}
		*ret_published |= first;
		if (first && took_over(m, snap, err))
			return -(int)err->class;
		if (flow_member_counts(m) && result.snapshot_id >= 0)
			atomic_store(&e->counters->snapshot_id, result.snapshot_id);
	}
	*ret_published = true;
	return 0;
}

static int load(struct copy *c, bool first, bool *ret_published, struct duct_error *err)
{
	struct flow_engine *e = c->e;
	int rc = begin_loads(c, err);
	if (rc)
		return rc;
	run_workers(c);
	if (copy_given_up(c)) {
		abort_loads(e, 0);
		if (!atomic_load(&c->failed))
			return duct_fail(err, DUCT_CANCELLED, "stopped during a copy");
		*err = c->error;
		return -(int)err->class;
	}
	rc = publish(c, first, ret_published, err);
	if (!rc)
		flow_count(&e->counters->dead_rows, flow_counted(&c->dead_rows));
	return rc;
}

static struct flow_copy_view *make_view(const struct duct_snapshot *snap)
{
	struct flow_copy_view *view = flow_copy_view_new(snap->nrelations);
	for (size_t i = 0; i < snap->nrelations; i++)
		view->tables[i].name = duct_xasprintf("%s.%s", snap->relations[i]->schema, snap->relations[i]->name);
	for (size_t i = 0; i < snap->nparts; i++) {
		struct flow_table_view *table = &view->tables[snap->parts[i].table];
		table->estimated_rows += snap->parts[i].estimated_rows;
		table->estimated_bytes += snap->parts[i].estimated_bytes;
		atomic_fetch_add(&table->parts_left, 1);
	}
	return view;
}

static void show(struct flow_engine *e, struct flow_copy_view *view)
{
	flow_copy_view_unref(atomic_exchange(&e->new_copy, flow_copy_view_ref(view)));
	flow_signal_raise(&e->wake);
}

static int load_kept_alive(struct copy *c, bool first, bool *ret_published, struct duct_error *err)
{
	int rc = flow_signal_init(&c->done, err);
	if (rc)
		return rc;
	pthread_t thread;
	int error = pthread_create(&thread, NULL, keeper, c);
	if (error) {
		rc = duct_fail(err, DUCT_RETRY, "start the keeper of a copy: %s", strerror(error));
	} else {
		rc = load(c, first, ret_published, err);
		flow_signal_raise(&c->done);
		pthread_join(thread, NULL);
	}
	flow_signal_done(&c->done);
	return rc;
}

static void end_span(struct copy *c, struct duct_span *span, uint64_t rows_before, int rc, const struct duct_error *err)
{
	duct_span_text(span, "ductstream.flow", c->e->spec->name);
	duct_span_number(span, "ductstream.tables", (int64_t)c->snap->nrelations);
	duct_span_number(span, "ductstream.rows", (int64_t)(flow_counted(&c->e->counters->copied_rows) - rows_before));
	duct_span_lsn(span, "ductstream.lsn", c->snap->pos.lsn);
	duct_span_end(span, rc ? err->message : NULL);
}

/* Copies and publishes all tables of snap. */
static int copy_all(struct flow_engine *e, struct duct_snapshot *snap, bool first, bool *ret_published, struct duct_error *err)
{
	struct copy c = {.e = e, .snap = snap, .view = make_view(snap)};
	uint64_t rows_before = flow_counted(&e->counters->copied_rows);
	show(e, c.view);
	struct duct_span *span = duct_span_begin("copy", DUCT_SPAN_INTERNAL, &e->trace);
	struct duct_trace outer = duct_span_enter(span);
	int rc = load_kept_alive(&c, first, ret_published, err);
	duct_trace_set(&outer);
	end_span(&c, span, rows_before, rc, err);
	if (rc)
		flow_engine_calm(e);
	else
		duct_retry_progress(&e->retry);
	flow_copy_view_unref(c.view);
	return rc;
}

/* A copy of its own of these tables: those in [from, to), and synthetic ones. */
static int copy_step(struct flow_engine *e, const struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err)
{
	struct duct_snapshot step = *snap;
	bool published = false;
	step.relations = duct_xcalloc(snap->nrelations, sizeof *step.relations);
	step.parts = duct_xcalloc(snap->nparts + 1, sizeof *step.parts);
	step.nrelations = step.nparts = 0;
	for (size_t i = 0; i < snap->nrelations; i++)
		if ((i >= from && i < to) || snap->relations[i]->synthetic)
			step.relations[step.nrelations++] = snap->relations[i];
	for (size_t i = 0; i < snap->nparts; i++) {
		if (snap->parts[i].table < (int)from || snap->parts[i].table >= (int)to)
			continue;
		step.parts[step.nparts] = snap->parts[i];
		step.parts[step.nparts++].table -= (int)from;
	}
	int rc = copy_all(e, &step, false, &published, err);
	free(step.relations);
	free(step.parts);
	return rc;
}

/* A few tables after the other. What was published stays so, whatever becomes of the others. */
static int copy_stepwise(struct flow_engine *e, struct duct_snapshot *snap, bool *ret_published, struct duct_error *err)
{
	size_t n = snap->nrelations, at_once = snap->workers > 1 ? (size_t)snap->workers : 1;
	int rc = 0;
	while (n && snap->relations[n - 1]->synthetic)
		n--;
	for (size_t from = 0, to; from < n && !rc; from = to) {
		to = from + at_once < n ? from + at_once : n;
		rc = e->src->step_begin(e->source, snap, from, to, err);
		rc = rc ? rc : copy_step(e, snap, from, to, err);
		rc = rc ? rc : e->src->step_done(e->source, snap, from, to, err);
	}
	*ret_published = !rc;
	return rc;
}

int flow_copy(struct flow_engine *e, struct duct_snapshot *snap, bool first, struct duct_error *err)
{
	bool published = false;
	int rc = snap->stepwise ? copy_stepwise(e, snap, &published, err) : copy_all(e, snap, first, &published, err);
	struct duct_error done_err = {0};
	int done_rc = e->src->snapshot_done(e->source, snap, published, &done_err);
	if (!rc && done_rc) {
		*err = done_err;
		return duct_wrap(err, "end of a published copy");
	}
	if (done_rc) /* the copy's own failure is returned; what is left behind is found again at the next open */
		log_warn(e->user->log, "clean-up after a failed copy", LOG_STR("error", done_err.message));
	return rc;
}
