/*
 * Sends a planned commit. Two numbers decide what happened, whatever the network did: the checkpoint row's seq (moved by
 * nobody but the owner of the epoch, by one per commit) and the snapshot's primary key. Before anything is sent a second
 * time the row is read again: seq already moved means that the first one was committed.
 */
#include "lake/txn.h"

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/uuid.h"
#include "lake/inline.h"
#include "lake/orphans.h"
#include "lake/txn_plan.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { MOST_ATTEMPTS = 100, PATIENT_ATTEMPTS = 20, MOST_RECONNECTS = 6 };

struct commit {
	struct lake_txn *txn;
	struct lake *lake;
	const struct lake_commit_info *info;
	int64_t expected_seq;
	bool position_only;
	bool claimed;	  /* its marks */
	bool in_turn;	  /* Postgres: none of us can be first now */
	bool done_before; /* found committed after its outcome was unknown; the model has been read again */
};

/* Waits, or less when the stop comes. */
static void pause_ms(const struct lake *lake, int ms)
{
	struct pollfd fd = {.fd = lake->ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, ms); /* either way the caller looks at the stop flag */
}

static int stopped(const struct lake *lake, struct duct_error *err)
{
	return duct_ctx_stopped(lake->ctx) ? duct_fail(err, DUCT_CANCELLED, "commit: stopped") : 0;
}

/* --- others' changes --- */

static bool note_hits(const struct lake_change_note *note, const struct lake_txn_table *t)
{
	if (t->is_new || note->table_id != t->id)
		return false;
	bool marks = t->nmarks || t->ndeletes || t->inlined.nended;
	if (note->changes & LAKE_CHANGED_SCHEMA || (note->changes & LAKE_CHANGED_ROWS && (!t->shared || marks)))
		return true;
	return (note->changes & LAKE_CHANGED_FILES) && (marks || t->ended.n || t->inlined.nflushed);
}

/* Names that the plan takes may have been taken meanwhile, tables may be gone. */
static bool plan_is_stale(const struct lake_txn *txn)
{
	const struct lake_model *model = txn->lake->model;
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		if (!t->is_new && !lake_model_table(model, t->id))
			return true;
		if (t->dropped || (!t->is_new && !t->renamed))
			continue;
		const struct lake_table *other = lake_find_table(txn->lake, t->schema, t->name);
		bool renamed_too = false;
		for (size_t k = 0; other && k < txn->ntables; k++)
			renamed_too |= !txn->tables[k]->is_new && txn->tables[k]->id == other->id;
		if (other && !renamed_too)
			return true;
	}
	for (size_t i = 0; i < txn->nschemas; i++) {
		const struct lake_schema *made = lake_model_schema(model, txn->schemas[i].name);
		if (made && strcmp(made->path, txn->schemas[i].path) != 0)
			return true;
	}
	return false;
}

static bool others_interfere(const struct lake_txn *txn)
{
	for (size_t n = 0; n < txn->lake->nnotes; n++) {
		/* A table of the flow counts also when the txn leaves it alone: what is not handed out before our commit lies
		 * behind it, and the next opener looks only at what came after. */
		if (lake_is_mirrored(txn->lake, txn->lake->notes[n].table_id))
			return true;
		for (size_t i = 0; i < txn->ntables; i++)
			if (note_hits(&txn->lake->notes[n], txn->tables[i]))
				return true;
	}
	return plan_is_stale(txn);
}

/* --- the row --- */

/* After a refresh: 0 our commit is not there and may be sent, 1 it is there, -class it can never be. */
static int judge_row(struct commit *c, struct duct_error *err)
{
	const struct lake_mark_row *row = &c->lake->mark;
	if (row->seq == c->expected_seq + 1) {
		if (c->position_only || strcmp(row->commit_id, c->txn->commit_id) == 0)
			return 1;
		return duct_fail(err, DUCT_FATAL,
				 "flow \"%s\": another commit (%s) moved the checkpoint under the same "
				 "epoch",
				 c->lake->flow, row->commit_id);
	}
	if (row->seq != c->expected_seq)
		return duct_fail(err, DUCT_FATAL,
				 "flow \"%s\": the checkpoint row was changed by hand: seq is %" PRId64 ", expected %" PRId64,
				 c->lake->flow, row->seq, c->expected_seq);
	if (c->info->pos.lsn && row->checkpoint.pos.lsn > c->info->pos.lsn) {
		char stored[DUCT_LSN_LEN], wanted[DUCT_LSN_LEN];
		return duct_fail(err, DUCT_FATAL, "flow \"%s\": the stored position %s is beyond %s", c->lake->flow,
				 duct_lsn_format(stored, row->checkpoint.pos.lsn), duct_lsn_format(wanted, c->info->pos.lsn));
	}
	return 0;
}

/* Looks at the catalog as it is now. in_write: inside the write transaction of a SQLite catalog. */
static int look(struct commit *c, bool in_write, struct duct_error *err)
{
	if (lake_refresh(c->lake, false, in_write, err))
		return -(int)err->class;
	int judged = judge_row(c, err);
	if (judged == 1)
		c->done_before = true;
	return judged;
}

/*
 * The connection broke with a commit under way. The old server process may still be working on it: the row lock, which
 * it takes first, makes us wait for it; should it begin even later, its compare-and-set fails or ours does.
 */
static int look_after_loss(struct commit *c, struct duct_error *err)
{
	struct duct_error last;
	for (int attempt = 0, wait = 100; attempt < MOST_RECONNECTS; attempt++, wait *= 2) {
		if (stopped(c->lake, err))
			return -(int)err->class;
		struct lake_mark_row row;
		if (c->lake->db->ops->reconnect(c->lake->db, &last) == 0 && lake_read_mark(c->lake, true, &row, &last) == 0) {
			int looked = look(c, false, &last);
			if (looked >= 0 || last.class != DUCT_RETRY) {
				*err = last;
				return looked;
			}
		}
		if (last.class != DUCT_RETRY) {
			*err = last;
			return -(int)err->class;
		}
		pause_ms(c->lake, wait);
	}
	return duct_fail(err, DUCT_RETRY,
			 "the connection was lost while committing and whether it was committed is not "
			 "known yet: %s",
			 last.message);
}

/* --- one attempt --- */

static bool is_race(const struct lake_step *step, const struct duct_error *err)
{
	static const char *const keys[] = {"ducklake_snapshot_pkey", "ducklake_snapshot_changes_pkey", "ducklake_data_file_pkey",
					   "ducklake_delete_file_pkey"};
	if (strcmp(err->sqlstate, "40001") == 0 || strcmp(err->sqlstate, "40P01") == 0)
		return true;
	if (strcmp(err->sqlstate, "23505") != 0)
		return false;
	if (step && step->role == LAKE_ROLE_HEAD)
		return true;
	for (size_t i = 0; i < DUCT_LEN(keys); i++)
		if (strcmp(err->constraint, keys[i]) == 0)
			return true;
	return false;
}

/* A truncate ends the rows of all tables of inlined rows; an official flush drops empty ones without a snapshot. */
static void explain_truncate(const struct commit *c, struct duct_error *err)
{
	const struct lake_model *model = c->lake->model;
	for (size_t i = 0; i < c->txn->ntables; i++)
		for (size_t k = 0; k < model->ninlined && c->txn->tables[i]->truncated && err->class == DUCT_FATAL; k++)
			if (model->inlined[k].table_id == c->txn->tables[i]->id)
				(void)lake_explain_inlined(c->lake, model->inlined[k].table_id, model->inlined[k].schema_version,
							   err);
}

enum next { NEXT_DONE, NEXT_AGAIN, NEXT_LOOK, NEXT_FAIL };

static enum next send_once(struct commit *c, struct duct_error *err)
{
	struct lake_script script = {0};
	lake_txn_render(c->txn, c->info, c->expected_seq, &script);
	if (!c->position_only)
		script.pace = (struct lake_pace){c->txn->gap_ms, c->lake->model->head};
	duct_kill_point("commit-begin");
	size_t at;
	enum lake_outcome outcome = c->lake->db->ops->run(c->lake->db, &script, &at, err);
	const struct lake_step *step = at < script.n ? &script.steps[at] : NULL;
	enum next next = NEXT_FAIL;
	switch (outcome) {
	case LAKE_RUN_OK: next = NEXT_DONE; break;
	case LAKE_RUN_UNKNOWN: next = err->class == DUCT_RETRY ? NEXT_LOOK : NEXT_FAIL; break;
	case LAKE_RUN_COUNT:
		next = step->role == LAKE_ROLE_ASSERT ? NEXT_FAIL : NEXT_AGAIN;
		duct_fail(err, next == NEXT_FAIL ? DUCT_FATAL : DUCT_RETRY, "commit: %s", step->what);
		break;
	case LAKE_RUN_FAILED:
		if (is_race(step, err))
			next = NEXT_AGAIN;
		else if (step && step->what && (strcmp(err->sqlstate, "23505") == 0 || (err->vendor_code & 0xff) == 19))
			duct_fail(err, DUCT_FATAL, "commit: %s", step->what);
		else {
			explain_truncate(c, err);
			duct_wrap(err, "commit");
		}
		break;
	}
	lake_script_done(&script);
	return next;
}

static enum next send_held(struct commit *c, struct duct_error *err)
{
	bool held;
	if (lake_hold_objects(c->txn, &held, err))
		return NEXT_FAIL;
	enum next next = send_once(c, err);
	if (held)
		lake_release_objects(c->lake);
	return next;
}

/*
 * SQLite: begins to write once the gap after our last snapshot has passed. Nothing is held during the wait. Who has waited
 * longer comes first: the others wait a little more.
 */
static int begin_in_turn(struct commit *c, int64_t gap_ms, struct duct_error *err)
{
	struct lake *lake = c->lake;
	for (int tries = 0;; tries++) {
		int64_t left = 0;
		if (lake_pace_left(lake, gap_ms, &left, err))
			return -(int)err->class;
		if (!left) {
			if (lake->db->ops->begin_write(lake->db, err) || lake_pace_left(lake, gap_ms, &left, err))
				return -(int)err->class;
			if (!left)
				return 0;
			lake->db->ops->reset(lake->db); /* another one of us was first */
		}
		pause_ms(lake, (int)(left + duct_mono_us() % (gap_ms / (4 + 4 * tries) + 1)));
		if (stopped(lake, err))
			return -(int)err->class;
	}
}

int lake_txn_renew_files(const struct lake_txn *txn, struct duct_error *err)
{
	int ret = 0;
	for (size_t i = 0; i < txn->nfiles && !ret; i++)
		ret = lake_renew_file(txn->files[i].file->path, err);
	for (size_t i = 0; i < txn->ndeletes && !ret; i++)
		ret = lake_renew_file(txn->deletes[i].path, err);
	return ret;
}

/* What has to be read before sending: nothing on the first try on Postgres, where the head is asserted by the commit. A
 * later try takes its turn before it looks: who looks and then waits has lost as soon as somebody commits in the gap. The
 * files come last, as near to the commit as can be: the catalog must not name one that somebody has removed. */
static int prepare(struct commit *c, int attempt, struct duct_error *err)
{
	struct lake *lake = c->lake;
	int64_t gap_ms = c->position_only ? 0 : c->txn->gap_ms;
	if (lake->db->sqlite) {
		if (begin_in_turn(c, gap_ms, err))
			return duct_wrap(err, "commit");
	} else if (attempt && !c->in_turn) {
		if (lake_turn_take(lake, gap_ms, err))
			return duct_wrap(err, "commit");
		c->in_turn = true;
		duct_kill_point("turn-taken");
	}
	int looked = !attempt && !lake->db->sqlite ? 0 : look(c, lake->db->sqlite, err);
	return looked ? looked : lake_txn_renew_files(c->txn, err);
}

static int attempts(struct commit *c, struct duct_error *err)
{
	struct lake *lake = c->lake;
	struct duct_error loss;
	for (int attempt = 0, losses = 0; attempt < MOST_ATTEMPTS; attempt++) {
		if (stopped(lake, err))
			return -(int)err->class;
		int prepared = prepare(c, attempt, err);
		if (prepared)
			return prepared == 1 ? 0 : prepared;
		if (others_interfere(c->txn))
			return 1;
		if (!c->claimed && lake_txn_claim_marks(c->txn, err))
			return -(int)err->class;
		c->claimed = true;
		switch (send_held(c, err)) {
		case NEXT_DONE: return 0;
		case NEXT_FAIL: return -(int)err->class;
		case NEXT_LOOK:
			c->in_turn = false;
			loss = *err;
			prepared = look_after_loss(c, err);
			if (prepared)
				return prepared == 1 ? 0 : prepared;
			if (++losses == MOST_RECONNECTS)
				return duct_fail(err, DUCT_RETRY, "commit: tried %d times: %s", losses, loss.message);
			break;
		case NEXT_AGAIN:
			if (attempt >= PATIENT_ATTEMPTS)
				pause_ms(lake, 1 + (int)(duct_mono_us() % 50));
			break;
		}
	}
	return duct_fail(err, DUCT_RETRY, "commit: other writers were first %d times in a row", MOST_ATTEMPTS);
}

/* --- afterwards --- */

static void apply_column_stats(struct lake_table *known, const struct lake_stats_change *change)
{
	int at = 0;
	while (at < known->ncolumn_stats && known->column_stats[at].column_id != change->column_id)
		at++;
	struct lake_table_column_stats *row = known->column_stats + at;
	if (change->action == LAKE_STATS_INSERT && at == known->ncolumn_stats) {
		known->column_stats = duct_xrealloc(known->column_stats, ((size_t)at + 1) * 2 * sizeof *known->column_stats);
		row = known->column_stats + at;
		*row = (struct lake_table_column_stats){.column_id = change->column_id, .has_row = true};
		known->ncolumn_stats++;
	}
	char *old_min = (char *)row->min, *old_max = (char *)row->max;
	if (change->action == LAKE_STATS_DELETE) {
		*row = known->column_stats[--known->ncolumn_stats];
	} else {
		row->contains_null = change->contains_null;
		row->contains_nan = change->contains_nan;
		row->min = duct_xstrdup(change->min); /* may point into the old text */
		row->max = duct_xstrdup(change->max);
	}
	free(old_min);
	free(old_max);
}

static void apply_to_model(struct commit *c)
{
	struct lake_txn *txn = c->txn;
	struct lake_model *model = c->lake->model;
	model->head = txn->snapshot_id;
	model->next_file_id = txn->next_file_id;
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		struct lake_table *known = lake_model_table(model, t->id);
		if (!known)
			continue;
		known->has_delete_table |= t->nmarks > 0;
		if (!t->nfiles && !t->inlined.n)
			continue;
		known->has_stats = true;
		known->record_count = t->record_count;
		known->next_row_id = t->next_row_id;
		known->file_size_bytes = t->file_size_bytes;
		for (size_t s = 0; s < t->nstats; s++)
			apply_column_stats(known, &t->stats[s]);
	}
}

static void apply_to_mark(struct commit *c)
{
	struct lake_mark_row *row = &c->lake->mark;
	row->seq = c->expected_seq + 1;
	row->checkpoint.state = c->info->state;
	if (c->info->pos.lsn)
		row->checkpoint.pos = c->info->pos;
	if (c->info->source_identity)
		snprintf(row->checkpoint.source_identity, sizeof row->checkpoint.source_identity, "%s", c->info->source_identity);
	if (!c->position_only) {
		memcpy(row->commit_id, c->txn->commit_id, sizeof row->commit_id);
		row->snapshot_id = c->txn->snapshot_id;
	}
}

static int bring_up_to_date(struct commit *c, struct duct_error *err)
{
	struct lake_txn *txn = c->txn;
	if (c->done_before)
		return 0;
	apply_to_mark(c);
	if (!c->position_only) {
		c->lake->base = txn->snapshot_id;
		if (!txn->has_ddl)
			apply_to_model(c);
	}
	if (!txn->has_ddl && !txn->nrelations)
		return 0;
	return lake_refresh(c->lake, true, false, err) ? duct_wrap(err, "after the commit") : 0;
}

/* The numbers that the committed attempt gave. When an attempt before the last one was the lucky one, on another head,
 * its numbers are not those of the last rendering: then they are looked up. */
static int take_number_pair(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct lake_txn_file_result *result = arg;
	result->file_id = lake_int(v[0], -1);
	result->row_id_start = lake_int(v[1], -1);
	return 0;
}

static int look_up_numbers(struct commit *c, struct lake_txn_file_result *results, struct duct_error *err)
{
	for (size_t i = 0; i < c->txn->nfiles; i++) {
		const struct txn_file *f = &c->txn->files[i];
		const char *name = strrchr(f->file->path, '/');
		AUTO_BUF struct duct_buf sql = {0};
		results[i] = (struct lake_txn_file_result){-1, -1};
		lake_sqlf(&sql, c->lake->db,
			  "SELECT data_file_id, row_id_start FROM @ducklake_data_file "
			  "WHERE begin_snapshot = %lld AND (path = ",
			  (long long)c->lake->mark.snapshot_id);
		duct_buf_sql_literal(&sql, f->file->path);
		duct_buf_puts(&sql, " OR path = ");
		duct_buf_sql_literal(&sql, name ? name + 1 : f->file->path);
		duct_buf_putc(&sql, ')');
		if (c->lake->db->ops->query(c->lake->db, sql.data, take_number_pair, &results[i], err))
			return -(int)err->class;
	}
	return 0;
}

static int give_result(struct commit *c, struct lake_txn_result *ret, struct duct_error *err)
{
	struct lake_txn *txn = c->txn;
	struct lake_txn_file_result *results = duct_arena_alloc(&txn->arena, (txn->nfiles + 1) * sizeof *results);
	if (c->done_before && !c->position_only && c->lake->mark.snapshot_id != txn->snapshot_id) {
		txn->renumbered = true;
		if (look_up_numbers(c, results, err))
			return -(int)err->class;
		txn->snapshot_id = c->lake->mark.snapshot_id;
	} else {
		for (size_t i = 0; i < txn->nfiles; i++)
			results[i] = (struct lake_txn_file_result){txn->files[i].id, txn->files[i].row_id_start};
	}
	*ret = (struct lake_txn_result){
		.snapshot_id = c->position_only ? -1 : txn->snapshot_id,
		.ntables = (int64_t)txn->ntables,
		.files = results,
		.nfiles = txn->nfiles,
	};
	return 0;
}

static int check_plan(const struct lake_txn *txn, const struct lake_commit_info *info, struct duct_error *err)
{
	if (txn->lake->read_only)
		return duct_fail(err, DUCT_FATAL, "commit: the lake was opened for reading only");
	const struct duct_pos *stored = &txn->lake->mark.checkpoint.pos;
	if (info->pos.lsn && stored->lsn > info->pos.lsn) {
		char a[DUCT_LSN_LEN], b[DUCT_LSN_LEN];
		return duct_fail(err, DUCT_FATAL, "flow \"%s\": the stored position %s is beyond %s", txn->lake->flow,
				 duct_lsn_format(a, stored->lsn), duct_lsn_format(b, info->pos.lsn));
	}
	for (size_t i = 0; i < txn->ntables; i++)
		if (lake_txn_check_nulls(txn->tables[i], err))
			return -(int)err->class;
	return 0;
}

int lake_txn_commit(struct lake_txn *txn, const struct lake_commit_info *info, struct lake_txn_result *ret, struct duct_error *err)
{
	struct lake *lake = txn->lake;
	if (check_plan(txn, info, err))
		return -(int)err->class;
	struct commit c = {
		.txn = txn,
		.lake = lake,
		.info = info,
		.expected_seq = lake->mark.seq,
		.position_only = lake_txn_is_position_only(txn),
	};
	duct_uuid_v4(txn->commit_id);
	duct_kill_point("commit-planned");
	int result = attempts(&c, err);
	if (c.in_turn)
		lake_turn_leave(lake);
	lake_txn_settle_marks(txn, !result);
	if (result || c.done_before)
		lake->db->ops->reset(lake->db);
	if (result)
		return result;
	duct_kill_point("commit-done");
	if (bring_up_to_date(&c, err))
		return -(int)err->class;
	return give_result(&c, ret, err);
}
