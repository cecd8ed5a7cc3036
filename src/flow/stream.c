/*
 * Streaming: the reader thread pulls changes from the source into a bounded queue, the applier writes and commits them
 * and publishes the durable position, which the reader passes on to the source.
 */
#include "flow/engine.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"
#include "record/ddl.h"

#include <pthread.h>
#include <string.h>

enum {
	READ_TIMEOUT_MS = 200, /* how late the source hears of a durable position when nothing comes */
	TICK_MS = 500,	       /* how often the source is kept alive while the queue is full */
	IDLE_MS = 1000,
	MIN_WEIGHT_BYTES = 512, /* so that the queue is bounded by count, too */
};

struct stream {
	struct flow_engine *e;
	struct duct_queue *queue;

	/* Set by the reader before it closes the queue; read after it was joined. */
	int reader_rc; /* 0: told to stop, 1: new tables, -class */
	struct duct_error reader_err;

	/* The open group, applier only. */
	bool open;  /* something was written since the last commit */
	bool whole; /* and it ends with a whole source transaction */
	uint64_t dead_rows;
	uint64_t newest_relation; /* version of the newest one that was written */
	int64_t large_us;	  /* monotonic: when the first part of counters->large came */
};

/* The reader. */

/* Hands changes over. False when nobody takes them any more (they are freed then). */
static bool hand_over(struct stream *s, struct duct_changes *changes, int *ret_rc, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	size_t weight = changes->bytes + MIN_WEIGHT_BYTES;
	int taken;
	while ((taken = duct_queue_push(s->queue, changes, weight, TICK_MS)) == 0 && !flow_aborting(e)) {
		struct duct_pos durable = flow_position_load(&e->counters->durable);
		int rc = e->src->tick ? e->src->tick(e->source, &durable, err) : 0;
		if (rc && !flow_stopping(e)) {
			*ret_rc = rc;
			break;
		}
	}
	if (taken != 1)
		duct_changes_free(changes);
	return taken == 1;
}

static int read_all(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	while (!atomic_load(&e->source_stop.set)) {
		struct duct_pos durable = flow_position_load(&e->counters->durable);
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

static void *reader(void *arg)
{
	struct stream *s = arg;
	s->reader_rc = read_all(s, &s->reader_err);
	duct_queue_close(s->queue);
	return NULL;
}

/* The applier. */

/* A part of a transaction too large to come whole has come. */
static void note_part(struct stream *s, const struct duct_changes *changes)
{
	struct flow_large *large = &s->e->counters->large;
	if (!flow_counted(&large->rows)) {
		s->large_us = duct_mono_us();
		atomic_store(&large->xid, changes->open_xid);
		atomic_store(&large->commit_us, changes->open_commit_us);
	}
	flow_count(&large->bytes, changes->bytes);
	flow_count(&large->rows, changes->rows);
}

/* What was committed after a large transaction has waited for it: that is told, once. */
static void tell_large(struct stream *s)
{
	struct flow_large *large = &s->e->counters->large;
	uint64_t rows = flow_counted(&large->rows);
	int64_t commit_us = atomic_load(&large->commit_us);
	if (!rows)
		return;
	log_info(s->e->user->log, "large transaction applied", LOG_U64("xid", atomic_load(&large->xid)), LOG_U64("rows", rows),
		 LOG_U64("bytes", flow_counted(&large->bytes)), LOG_F64("seconds", (double)(duct_mono_us() - s->large_us) / 1e6),
		 LOG_F64("behind_s", commit_us ? (double)(duct_wall_us() - commit_us) / 1e6 : 0));
	flow_large_reset(large);
}

static int commit(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	struct duct_pos pos = flow_position_load(&e->counters->written);
	struct duct_commit_result result = {.snapshot_id = -1};
	bool last = flow_stopping(e) || flow_engine_reached_head(e, pos.lsn);
	int rc = e->dst->commit(e->dest, last, &result, err);
	if (rc)
		return rc;
	s->open = s->whole = false;
	flow_engine_durable(e, &pos);
	if (result.snapshot_id >= 0)
		atomic_store(&e->counters->snapshot_id, result.snapshot_id);
	flow_count(&e->counters->committed_rows, result.rows);
	flow_count(&e->counters->commits, 1);
	flow_count(&e->counters->dead_rows, s->dead_rows);
	s->dead_rows = 0;
	tell_large(s);
	struct duct_ddl_hook *ddl = e->options->ddl;
	return ddl ? ddl->durable(ddl->arg, pos.lsn, err) : 0;
}

/* Positions only rise; a source that breaks this would double or lose rows. */
static int check_order(struct stream *s, const struct duct_changes *changes, struct duct_error *err)
{
	struct duct_pos written = flow_position_load(&s->e->counters->written);
	if (!changes->nbatches || !changes->ends_commit || changes->upto.lsn > written.lsn)
		return 0;
	char got[DUCT_LSN_LEN], have[DUCT_LSN_LEN];
	return duct_fail(err, DUCT_FATAL, "source \"%s\" sent a transaction at %s again, %s is written already", s->e->src->name,
			 duct_lsn_format(got, changes->upto.lsn), duct_lsn_format(have, written.lsn));
}

static uint64_t tell_dead_rows(struct flow_engine *e, const struct duct_changes *changes)
{
	uint64_t n = 0;
	for (size_t i = 0; i < changes->nbatches; i++) {
		const struct duct_batch *batch = changes->batches[i];
		if (!batch->relation->synthetic)
			continue;
		flow_dead_rows_tell(&e->dead, e->user->log, batch);
		n += batch->rows;
	}
	return n;
}

static bool brings_relation(struct stream *s, const struct duct_changes *changes)
{
	uint64_t newest = s->newest_relation;
	for (size_t i = 0; i < changes->nbatches; i++)
		if (changes->batches[i]->relation->version > newest)
			newest = changes->batches[i]->relation->version;
	bool brings = newest > s->newest_relation;
	s->newest_relation = newest;
	return brings;
}

/* A change of a table that is held back holds nothing back that was committed before it. */
static int before_relations(struct stream *s, const struct duct_changes *changes, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	struct duct_ddl_hook *ddl = e->options->ddl;
	ddl->lsn = changes->ncommits ? changes->commits[0].end_lsn : flow_position_load(&e->counters->durable).lsn + 1;
	return brings_relation(s, changes) && ddl->gate && s->open && s->whole ? commit(s, err) : 0;
}

/* Adds changes to the open group; takes them. */
static int apply(struct stream *s, struct duct_changes *changes, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	struct duct_pos written = flow_position_load(&e->counters->written), upto = changes->upto;
	bool keep_alive = !changes->nbatches && !changes->ncommits;
	bool ends = changes->ends_commit || keep_alive;
	int rc = check_order(s, changes, err);
	if (rc || (keep_alive && (upto.lsn <= written.lsn || (s->open && !s->whole)))) {
		duct_changes_free(changes); /* a keep-alive that says nothing new, or inside a transaction */
		return rc;
	}
	/* Whole transactions do not wait for the end of a large one that follows them. */
	if (!ends && s->open && s->whole && (rc = commit(s, err))) {
		duct_changes_free(changes);
		return rc;
	}
	if (e->options->ddl && (rc = before_relations(s, changes, err))) {
		duct_changes_free(changes);
		return rc;
	}
	uint64_t dead_rows = tell_dead_rows(e, changes);
	if (!ends || (s->open && !s->whole))
		note_part(s, changes);
	rc = e->dst->write(e->dest, changes, err);
	if (rc)
		return rc;
	s->dead_rows += dead_rows;
	s->open = true;
	s->whole = ends;
	if (upto.lsn > written.lsn)
		flow_position_store(&e->counters->written, &upto);
	return 0;
}

/* Whether the group should be committed before anything else, and if not, how long to wait for more. */
static bool commit_is_due(struct stream *s, int *ret_wait_ms)
{
	struct flow_engine *e = s->e;
	*ret_wait_ms = IDLE_MS;
	if (!s->open || !s->whole)
		return false;
	struct duct_pos written = flow_position_load(&e->counters->written);
	if (flow_engine_reached_head(e, written.lsn))
		return true;
	if (flow_stopping(e))
		return false; /* what was received goes into one last commit */
	struct duct_destination_pace pace = e->dst->pace(e->dest);
	int64_t left_us = pace.commit_at_us == INT64_MAX ? INT64_MAX : pace.commit_at_us - duct_mono_us();
	if (pace.full || left_us <= 0)
		return true;
	if (left_us < (int64_t)IDLE_MS * 1000)
		*ret_wait_ms = (int)((left_us + 999) / 1000);
	return false;
}

/* Until the reader has ended and everything whole is committed (0), the head is durable (0), or a failure. */
static int apply_all(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	for (;;) {
		if (flow_aborting(e))
			return duct_fail(err, DUCT_CANCELLED, "aborted");
		if (flow_engine_reached_head(e, flow_position_load(&e->counters->durable).lsn)) {
			e->caught_up = e->complete = true;
			return 0;
		}
		int wait_ms, rc = 0;
		if (commit_is_due(s, &wait_ms)) {
			if ((rc = commit(s, err)))
				return rc;
			continue;
		}
		void *item;
		int got = duct_queue_pop(s->queue, &item, wait_ms);
		atomic_store(&e->counters->queue_bytes, duct_queue_weight(s->queue));
		if (got == 1)
			rc = apply(s, item, err);
		else if (got < 0)
			return s->open && s->whole ? commit(s, err) : 0;
		else if (!s->open && e->dst->idle)
			rc = e->dst->idle(e->dest, false, err);
		if (rc)
			return rc;
	}
}

/* What the reader's end means when the applier has nothing to complain about. */
static int verdict(struct stream *s, struct duct_error *err)
{
	struct flow_engine *e = s->e;
	if (e->caught_up)
		return 0;
	if (s->reader_rc < 0) {
		bool interrupted = s->reader_rc == -DUCT_CANCELLED || s->reader_rc == -DUCT_RETRY;
		if (flow_stopping(e) && interrupted)
			return 0;
		*err = s->reader_err;
		return s->reader_rc;
	}
	if (s->reader_rc == 1 && s->open)
		return duct_fail(err, DUCT_FATAL, "source \"%s\" asks for a copy inside a transaction", e->src->name);
	return s->reader_rc;
}

static void drain(struct duct_queue *queue)
{
	void *item;
	while (duct_queue_pop(queue, &item, 0) == 1)
		duct_changes_free(item);
}

int flow_stream(struct flow_engine *e, struct duct_error *err)
{
	flow_engine_phase(e, FLOW_STREAMING);
	if (flow_stopping(e))
		return 0;
	struct stream s = {.e = e, .queue = duct_queue_new(e->queue_bytes)};
	duct_queue_count_taken(s.queue);
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, reader, &s);
	if (rc) {
		duct_queue_free(s.queue);
		return duct_fail(err, DUCT_RETRY, "start the reader thread: %s", strerror(rc));
	}
	rc = apply_all(&s, err);
	if (rc == 0 && !s.open && e->dst->idle)
		rc = e->dst->idle(e->dest, true, err);
	bool reader_ended = rc == 0 && !e->caught_up;
	if (!reader_ended) { /* interrupt it */
		duct_queue_close(s.queue);
		flow_signal_raise(&e->source_stop);
	}
	pthread_join(thread, NULL);
	drain(s.queue);
	duct_queue_free(s.queue);
	atomic_store(&e->counters->queue_bytes, 0);
	flow_large_reset(&e->counters->large);
	if (!rc)
		rc = verdict(&s, err);
	if (s.open)
		e->dst->abort(e->dest);
	return rc;
}
