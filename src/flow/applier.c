/* The applier of one destination: writes what the queue brings, commits whole source transactions, and publishes what is durable. */
#include "flow/engine.h"

#include "base/clock.h"
#include "base/killpoint.h"

enum { IDLE_MS = 1000 };

struct applier {
	struct flow_member *m;
	struct flow_engine *e;
	struct duct_queue *queue;
	bool counts; /* of several destinations one's work is what progress shows */

	/* The open group. */
	bool open;  /* something was written since the last commit */
	bool whole; /* and it ends with a whole source transaction */
	uint64_t dead_rows;
	uint64_t newest_relation; /* version of the newest one that was written */
	uint64_t part_lsn;	  /* of the transaction that comes in parts: the start of its commit */
	int64_t large_us;	  /* monotonic: when the first part of counters->large came */
};

/* A part of a transaction too large to come whole has come. */
static void note_part(struct applier *a, const struct duct_changes *changes)
{
	struct flow_large *large = &a->e->counters->large;
	if (!a->counts)
		return;
	if (!flow_counted(&large->rows)) {
		a->large_us = duct_mono_us();
		atomic_store(&large->xid, changes->open_xid);
	}
	if (changes->open_commit_us || changes->ends_commit)
		atomic_store(&large->commit_us, changes->ends_commit ? changes->upto.commit_us : changes->open_commit_us);
	flow_count(&large->bytes, changes->bytes);
	flow_count(&large->rows, changes->rows);
}

/* What came of a transaction ahead of its commit does not count. */
static void withdraw(struct applier *a)
{
	if (!a->open || a->whole)
		return;
	log_debug(a->e->user->log, "changes that came ahead of their commit are withdrawn");
	a->m->ops->abort(a->m->dest);
	a->open = false;
	a->dead_rows = 0;
	if (a->counts)
		flow_large_reset(&a->e->counters->large);
}

/* What is wrong before the commit may be none of it: the next attempt waits for that. */
static int judge_later(struct applier *a, int rc, struct duct_error *err)
{
	if (rc == -DUCT_RETRY || rc == -DUCT_CANCELLED)
		return rc;
	a->e->no_ahead = true;
	err->class = DUCT_RETRY;
	return duct_wrap(err, "of a transaction that has not committed yet");
}

/* What was committed after a large transaction has waited for it: that is told, once. */
static void tell_large(struct applier *a)
{
	struct flow_large *large = &a->e->counters->large;
	uint64_t rows = flow_counted(&large->rows);
	int64_t commit_us = atomic_load(&large->commit_us);
	if (!rows)
		return;
	log_info(a->e->user->log, "large transaction applied", LOG_U64("xid", atomic_load(&large->xid)), LOG_U64("rows", rows),
		 LOG_U64("bytes", flow_counted(&large->bytes)), LOG_F64("seconds", (double)(duct_mono_us() - a->large_us) / 1e6),
		 LOG_F64("behind_s", commit_us ? (double)(duct_wall_us() - commit_us) / 1e6 : 0));
	flow_large_reset(large);
}

static void count_commit(struct applier *a, const struct duct_commit_result *result)
{
	struct flow_counters *counters = a->e->counters;
	if (!a->counts)
		return;
	if (result->snapshot_id >= 0)
		atomic_store(&counters->snapshot_id, result->snapshot_id);
	flow_count(&counters->committed_rows, result->rows);
	flow_count(&counters->commits, 1);
	flow_count(&counters->dead_rows, a->dead_rows);
	a->dead_rows = 0;
	tell_large(a);
}

/* A commit of nothing but a position is not told. */
static void end_span(struct applier *a, struct duct_span *span, int rc, const struct duct_commit_result *result, uint64_t lsn,
		     const struct duct_error *err)
{
	if (!rc && result->snapshot_id < 0 && !result->rows) {
		duct_span_drop(span);
		return;
	}
	duct_span_text(span, "ductstream.flow", a->e->spec->name);
	duct_span_text(span, "ductstream.destination", a->m->to->name);
	duct_span_lsn(span, "ductstream.lsn", lsn);
	if (result->snapshot_id >= 0)
		duct_span_number(span, "ductstream.snapshot_id", result->snapshot_id);
	duct_span_number(span, "ductstream.rows", (int64_t)result->rows);
	duct_span_end(span, rc ? err->message : NULL);
}

static int commit(struct applier *a, struct duct_error *err)
{
	struct flow_member *m = a->m;
	struct duct_pos pos = flow_position_load(&m->written);
	struct duct_commit_result result = {.snapshot_id = -1};
	bool last = flow_stopping(a->e) || flow_engine_reached_head(a->e, pos.lsn);
	flow_member_take_turn(m);
	struct duct_span *span = duct_span_begin("commit", DUCT_SPAN_INTERNAL, &a->e->trace);
	struct duct_trace outer = duct_span_enter(span);
	int rc = m->ops->commit(m->dest, last, &result, err);
	duct_trace_set(&outer);
	end_span(a, span, rc, &result, pos.lsn, err);
	flow_member_end_turn(m);
	if (rc)
		return rc;
	a->open = a->whole = false;
	flow_member_durable(m, &pos);
	count_commit(a, &result);
	return m->ctx.ddl ? m->ddl.durable(m->ddl.arg, pos.lsn, err) : 0;
}

/* Whether this destination has it already: it comes again for the sake of one that is behind. */
static bool has_it(const struct applier *a, const struct duct_changes *changes)
{
	if (!changes->ends_commit)
		return changes->open_lsn < a->m->has_lsn;
	return changes->ncommits && changes->commits[changes->ncommits - 1].end_lsn <= a->m->has_lsn;
}

/* Positions only rise; a source that breaks this would double or lose rows. */
static int check_order(struct applier *a, const struct duct_changes *changes, struct duct_error *err)
{
	struct duct_pos written = flow_position_load(&a->m->written);
	if (!changes->nbatches || !changes->ends_commit || changes->upto.lsn > written.lsn)
		return 0;
	char got[DUCT_LSN_LEN], have[DUCT_LSN_LEN];
	return duct_fail(err, DUCT_FATAL, "source \"%s\" sent a transaction at %s again, %s is written already", a->e->src->name,
			 duct_lsn_format(got, changes->upto.lsn), duct_lsn_format(have, written.lsn));
}

static uint64_t tell_dead_rows(struct applier *a, const struct duct_changes *changes)
{
	uint64_t n = 0;
	for (size_t i = 0; i < changes->nbatches && a->counts; i++) {
		const struct duct_batch *batch = changes->batches[i];
		if (!batch->relation->synthetic)
			continue;
		flow_dead_rows_tell(&a->e->dead, a->e->user->log, batch);
		n += batch->rows;
	}
	return n;
}

static bool brings_relation(struct applier *a, const struct duct_changes *changes)
{
	uint64_t newest = a->newest_relation;
	for (size_t i = 0; i < changes->nbatches; i++)
		if (changes->batches[i]->relation->version > newest)
			newest = changes->batches[i]->relation->version;
	bool brings = newest > a->newest_relation;
	a->newest_relation = newest;
	return brings;
}

/* Where a change of a table is, the same at each attempt: the end of its transaction; of one in parts the start of its commit. */
static uint64_t place_of(struct applier *a, const struct duct_changes *changes)
{
	bool goes_on = a->open && !a->whole;
	if (!goes_on)
		a->part_lsn = 0;
	if (!changes->ends_commit && !changes->ahead && !a->part_lsn)
		a->part_lsn = changes->open_lsn;
	return changes->ncommits && (!goes_on || !a->part_lsn) ? changes->commits[0].end_lsn : a->part_lsn;
}

/* A change of a table that is held back holds nothing back that was committed before it. */
static int before_relations(struct applier *a, const struct duct_changes *changes, struct duct_error *err)
{
	struct duct_ddl_hook *ddl = &a->m->ddl;
	ddl->lsn = place_of(a, changes);
	return brings_relation(a, changes) && ddl->gate && a->open && a->whole ? commit(a, err) : 0;
}

/* Everything of the replay has come. */
static int end_replay(struct applier *a, struct duct_error *err)
{
	duct_kill_point("replay-read");
	a->whole = true;
	int rc = a->open ? commit(a, err) : 0;
	duct_kill_point("replay-committed");
	return rc ? rc : flow_replay_end(a->m, err);
}

static int write_changes(struct applier *a, struct duct_changes *changes, struct duct_error *err)
{
	flow_member_take_turn(a->m);
	int rc = a->m->ops->write(a->m->dest, changes, err);
	flow_member_end_turn(a->m);
	return rc;
}

/* What the member has already is one group, as if it were one transaction. Returns 1 when the changes are none of it: they are not taken. */
static int apply_again(struct applier *a, struct duct_changes *changes, struct duct_error *err)
{
	bool keep_alive = !changes->nbatches && !changes->ncommits;
	if (keep_alive ? changes->upto.lsn >= a->m->has_lsn : !has_it(a, changes)) {
		int rc = end_replay(a, err);
		if (rc)
			duct_changes_free(changes);
		return rc ? rc : 1;
	}
	/* The source may begin below it, for the sake of another destination. */
	uint64_t lsn = a->e->options->replay->lsn;
	if (keep_alive || (changes->ends_commit ? changes->upto.lsn <= lsn : changes->open_lsn < lsn)) {
		duct_changes_free(changes);
		return 0;
	}
	int rc = write_changes(a, changes, err);
	if (rc)
		return rc;
	a->open = true;
	a->whole = false;
	return 0;
}

/* Adds changes to the open group; takes them. */
static int apply_new(struct applier *a, struct duct_changes *changes, struct duct_error *err)
{
	struct flow_member *m = a->m;
	if (changes->withdrawn) {
		withdraw(a);
		duct_changes_free(changes);
		return 0;
	}
	struct duct_pos written = flow_position_load(&m->written), upto = changes->upto;
	bool keep_alive = !changes->nbatches && !changes->ncommits;
	bool ends = changes->ends_commit || keep_alive;
	bool not_wanted = a->e->nmembers > 1 && !keep_alive && has_it(a, changes);
	int rc = not_wanted ? 0 : check_order(a, changes, err);
	/* A keep-alive that says nothing new, or inside a transaction. */
	not_wanted |= keep_alive && (upto.lsn <= written.lsn || (a->open && !a->whole));
	/* Whole transactions do not wait for the end of a large one that follows them. */
	if (!rc && !not_wanted && !ends && a->open && a->whole)
		rc = commit(a, err);
	if (!rc && !not_wanted && m->ctx.ddl)
		rc = before_relations(a, changes, err);
	if (rc || not_wanted) {
		duct_changes_free(changes);
		return rc;
	}
	uint64_t dead_rows = tell_dead_rows(a, changes);
	bool ahead = changes->ahead;
	if (!ends || (a->open && !a->whole))
		note_part(a, changes);
	rc = write_changes(a, changes, err);
	if (rc)
		return ahead ? judge_later(a, rc, err) : rc;
	a->dead_rows += dead_rows;
	a->open = true;
	a->whole = ends;
	if (upto.lsn > written.lsn)
		flow_member_written(m, &upto);
	return 0;
}

static int apply(struct applier *a, struct duct_changes *changes, struct duct_error *err)
{
	int rc = atomic_load(&a->m->replaying) ? apply_again(a, changes, err) : 1;
	return rc == 1 ? apply_new(a, changes, err) : rc;
}

/* Whether the group should be committed before anything else, and if not, how long to wait for more. */
static bool commit_is_due(struct applier *a, int *ret_wait_ms)
{
	struct flow_engine *e = a->e;
	*ret_wait_ms = IDLE_MS;
	if (!a->open || !a->whole)
		return false;
	if (flow_engine_reached_head(e, flow_position_load(&a->m->written).lsn))
		return true;
	if (flow_stopping(e))
		return false; /* what was received goes into one last commit */
	struct duct_destination_pace pace = a->m->ops->pace(a->m->dest);
	int64_t left_us = pace.commit_at_us == INT64_MAX ? INT64_MAX : pace.commit_at_us - duct_mono_us();
	if (pace.full || left_us <= 0)
		return true;
	if (left_us < (int64_t)IDLE_MS * 1000)
		*ret_wait_ms = (int)((left_us + 999) / 1000);
	return false;
}

static int apply_all(struct applier *a, enum flow_applied *ret, struct duct_error *err)
{
	struct flow_engine *e = a->e;
	for (;;) {
		if (flow_aborting(e))
			return duct_fail(err, DUCT_CANCELLED, "aborted");
		if (flow_engine_reached_head(e, flow_position_load(&a->m->durable).lsn) && !atomic_load(&a->m->replaying)) {
			*ret = FLOW_APPLIED_CAUGHT_UP;
			return 0;
		}
		int wait_ms, rc = 0;
		if (commit_is_due(a, &wait_ms)) {
			if ((rc = commit(a, err)))
				return rc;
			continue;
		}
		void *item;
		int got = duct_queue_pop(a->queue, &item, wait_ms);
		if (a->counts)
			atomic_store(&e->counters->queue_bytes, duct_queue_weight(a->queue));
		if (got == 1)
			rc = apply(a, item, err);
		else if (got < 0)
			return a->open && a->whole ? commit(a, err) : 0;
		else if (!a->open && a->m->ops->idle)
			rc = a->m->ops->idle(a->m->dest, false, err);
		if (rc)
			return rc;
	}
}

int flow_apply(struct flow_member *m, struct duct_queue *queue, enum flow_applied *ret, struct duct_error *err)
{
	struct applier a = {.m = m, .e = m->e, .queue = queue, .counts = flow_member_counts(m)};
	*ret = FLOW_APPLIED;
	duct_trace_set(&m->e->trace);
	int rc = apply_all(&a, ret, err);
	if (rc == 0 && !a.open && m->ops->idle)
		rc = m->ops->idle(m->dest, true, err);
	if (rc == 0 && a.open)
		*ret = FLOW_APPLIED_TORN;
	if (a.open)
		m->ops->abort(m->dest);
	return rc;
}
