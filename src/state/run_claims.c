/*
 * Who works on which run. A claim takes the next fencing number first: its row is held until the claim is committed, so claims come one
 * after the other and each sees what the others left, which is what makes a limit of runs at once exact. Before that a look without
 * locks says whether there is anything to claim.
 */
#include "state/runs_internal.h"

#include "base/mem.h"

struct claim {
	const char *queues, *worker;
	int64_t lease_us;
	struct run_rows rows;
};

/* The id of the run that is next: due, of one of the queues, not above its limit. $1: queues. */
#define NEXT \
	"SELECT r.id FROM runs r LEFT JOIN (SELECT concurrency_key AS busy_key, count(*) AS busy FROM runs " \
	"WHERE state = 2 AND concurrency_key IS NOT NULL GROUP BY concurrency_key) b ON b.busy_key = r.concurrency_key " \
	"WHERE r.state = 1 AND r.due_us <= (SELECT store_now_us()) AND replace($1, ',' || r.queue || ',', '') <> $1 " \
	"AND (r.concurrency_limit = 0 OR b.busy IS NULL OR b.busy < r.concurrency_limit) ORDER BY r.due_us, r.id LIMIT 1"
#define CLAIM(lock) \
	"UPDATE runs SET state = 2, attempt = attempt + 1, fence = $2, worker = $3, started_us = $4, heartbeat_us = $4, " \
	"lease_us = $4 + $5, progress_done = 0, progress_total = 0, progress_unit = NULL, progress_step = NULL, " \
	"revision = revision + 1 WHERE id = (" NEXT lock ") RETURNING " RUN_COLUMNS

static int take_fence(void *arg, const struct state_row *row, struct duct_error *err)
{
	int64_t *to = arg;
	(void)err;
	to[0] = state_row_i64(row, 0);
	to[1] = state_row_i64(row, 1);
	return 0;
}

static int64_t claim(struct state_db *db, void *arg, struct duct_error *err)
{
	struct claim *c = arg;
	int64_t fence[2] = {0}; /* and when it was taken */
	c->rows.n = 0;
	int64_t rc =
		STATE_RUN(db, "UPDATE run_fence SET value = value + 1 RETURNING value, store_now_us()", take_fence, fence, err);
	if (rc < 0)
		return rc;
	rc = STATE_RUN(db, state_db_is_postgres(db) ? CLAIM(" FOR UPDATE OF r SKIP LOCKED") : CLAIM(""), run_take_row, &c->rows,
		       err, state_text(c->queues), state_i64(fence[0]), state_text(c->worker), state_i64(fence[1]),
		       state_i64(c->lease_us));
	if (rc > 0 && c->rows.runs[0].partition)
		rc = run_move_partition(db, c->rows.runs[0].id, "running", fence[1], err);
	return rc < 0 ? rc : c->rows.n;
}

int state_run_claim(struct state *state, struct duct_arena *arena, const char *queues, const char *worker, int64_t lease_ms,
		    struct state_run *ret, struct duct_error *err)
{
	struct claim c = {.queues = queues,
			  .worker = worker,
			  .lease_us = lease_ms * 1000,
			  .rows = {.arena = arena, .runs = ret, .room = 1}};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, NEXT, NULL, NULL, err, state_text(queues)); /* anything? */
	if (rc > 0)
		rc = state_db_transact(db, claim, &c, err);
	state_return(state, db);
	return (int)rc;
}

int state_run_heartbeat(struct state *state, const char *id, int64_t fence, int64_t lease_ms, bool *ret_cancel,
			struct duct_error *err)
{
	int64_t cancel = 0;
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db,
			       "UPDATE runs SET heartbeat_us = store_now_us(), lease_us = store_now_us() + $3 "
			       "WHERE id = $1 AND fence = $2 AND state = 2 RETURNING cancel_requested",
			       run_take_i64, &cancel, err, state_text(id), state_i64(fence), state_i64(lease_ms * 1000));
	state_return(state, db);
	*ret_cancel = cancel != 0;
	return (int)rc;
}

int state_run_wait(struct state *state, const char *id, int64_t lease_ms, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, "UPDATE runs SET lease_us = store_now_us() + $2 WHERE id = $1 AND state = 1", NULL, NULL, err,
			       state_text(id), state_i64(lease_ms * 1000));
	state_return(state, db);
	return rc < 0 ? (int)rc : 0;
}

int state_run_report(struct state *state, const char *id, int64_t fence, const struct state_progress *progress,
		     const char *checkpoint, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(
		db,
		"UPDATE runs SET progress_done = $3, progress_total = $4, progress_unit = $5, progress_step = $6, "
		"checkpoint = coalesce($7, checkpoint), revision = revision + 1 WHERE id = $1 AND fence = $2 AND state = 2",
		NULL, NULL, err, state_text(id), state_i64(fence), state_i64(progress->done), state_i64(progress->total),
		run_text(progress->unit), run_text(progress->step), state_text(checkpoint));
	state_return(state, db);
	return (int)rc;
}

/* --- the end of an attempt --- */

struct finish {
	const char *id, *result, *error;
	int64_t fence, delay_us;
	int64_t attempts; /* that it was: 1, or 0 */
	enum state_run_state to;
};

static const char *partition_state(enum state_run_state to)
{
	switch (to) {
	case STATE_RUN_QUEUED: return "queued";
	case STATE_RUN_SUCCEEDED:
	case STATE_RUN_SKIPPED: return "done";
	case STATE_RUN_FAILED: return "failed";
	default: return "missing";
	}
}

struct finished {
	bool partition;
	enum state_run_state state;
};

static int take_finished(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(struct finished *)arg = (struct finished){!state_row_is_null(row, 0), (enum state_run_state)state_row_i64(row, 1)};
	return 0;
}

static int64_t finish(struct state_db *db, void *arg, struct duct_error *err)
{
	struct finish *f = arg;
	struct finished done = {0};
	int64_t now, rc = state_clock(db, &now, err);
	if (rc < 0)
		return rc;
	/* A cancel that was asked for meanwhile counts as soon as the run would have to wait. */
	rc = STATE_RUN(
		db,
		"UPDATE runs SET state = CASE WHEN $3 = 1 AND cancel_requested = 1 THEN 5 ELSE $3 END, result = $4, error = $5, "
		"finished_us = CASE WHEN $3 = 1 AND cancel_requested = 0 THEN 0 ELSE $6 END, due_us = CASE WHEN $3 = 1 THEN "
		"$6 + $7 ELSE due_us END, lease_us = 0, attempt = attempt - 1 + $8, revision = revision + 1 WHERE id = $1 AND fence = $2 AND state = 2 "
		"RETURNING partition_key, state",
		take_finished, &done, err, state_text(f->id), state_i64(f->fence), state_i64(f->to), run_text(f->result),
		run_text(f->error), state_i64(now), state_i64(f->delay_us), state_i64(f->attempts));
	if (rc > 0 && done.partition && (rc = run_move_partition(db, f->id, partition_state(done.state), now, err)) == 0)
		rc = 1;
	if (rc > 0 && done.partition && f->result && *f->result) {
		rc = STATE_RUN(db, "UPDATE partitions SET result = $2 WHERE run_id = $1", NULL, NULL, err, state_text(f->id),
			       state_text(f->result));
		rc = rc < 0 ? rc : 1;
	}
	return rc;
}

static int end_attempt(struct state *state, struct finish *f, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_transact(db, finish, f, err);
	state_return(state, db);
	return (int)rc;
}

int state_run_finish(struct state *state, const char *id, int64_t fence, enum state_run_state to, const char *result,
		     const char *error, int64_t delay_ms, struct duct_error *err)
{
	struct finish f = {
		.id = id, .fence = fence, .to = to, .result = result, .error = error, .delay_us = delay_ms * 1000, .attempts = 1};
	return end_attempt(state, &f, err);
}

int state_run_give_back(struct state *state, const char *id, int64_t fence, const char *result, const char *error,
			struct duct_error *err)
{
	struct finish f = {.id = id, .fence = fence, .to = STATE_RUN_QUEUED, .result = result, .error = error};
	return end_attempt(state, &f, err);
}

/* --- those whose worker is gone --- */

/* A heartbeat that lies more than a lease ahead is from before the store's clock was set back: who lives sends another. */
#define LOST "state = 2 AND (lease_us < $1 OR heartbeat_us > $1 + lease_us - heartbeat_us)"

/* Only the process that made it takes it, which says that it still waits (state_run_wait). */
#define ABANDONED \
	"state = 1 AND queue LIKE 'here-%' AND lease_us < $1 AND " \
	"due_us < $1 - CASE WHEN attempt = 0 AND lease_us > 0 THEN 0 ELSE 10000000 END"

/* One statement per outcome; the last of them lets the partitions follow. */
static int64_t reap(struct state_db *db, void *arg, struct duct_error *err)
{
	(void)arg;
	static const char cancelled[] =
		"UPDATE runs SET state = 5, finished_us = $1, error = 'cancelled; its worker is gone', revision = revision + 1 "
		"WHERE " LOST " AND cancel_requested = 1";
	static const char failed[] =
		"UPDATE runs SET state = 4, finished_us = $1, error = 'worker ' || worker || ' is gone: no heartbeat for its lease', "
		"revision = revision + 1 WHERE " LOST " AND attempt >= max_attempts";
	static const char abandoned[] =
		"UPDATE runs SET state = 4, finished_us = $1, error = 'the process that began it is gone', revision = revision + 1 "
		"WHERE " ABANDONED;
	static const char queued[] =
		"UPDATE runs SET state = 1, due_us = $1, error = 'worker ' || worker || ' is gone: no heartbeat for its lease', "
		"revision = revision + 1 WHERE " LOST;
	static const char partitions[] =
		"UPDATE partitions SET state = (SELECT CASE r.state WHEN 1 THEN 'queued' WHEN 4 THEN 'failed' ELSE 'missing' END FROM "
		"runs r WHERE r.id = run_id), updated_us = $1 WHERE state IN ('running', 'queued') AND run_id IN (SELECT id FROM runs WHERE state IN "
		"(1, 4, 5) AND partition_key IS NOT NULL AND (due_us = $1 OR finished_us = $1))";
	const char *const statements[] = {cancelled, failed, abandoned, queued};
	int64_t now, n = 0, rc = state_clock(db, &now, err);
	for (size_t i = 0; i < DUCT_LEN(statements) && rc >= 0; i++) {
		rc = STATE_RUN(db, statements[i], NULL, NULL, err, state_i64(now));
		n += rc > 0 ? rc : 0;
	}
	if (rc >= 0 && n > 0)
		rc = STATE_RUN(db, partitions, NULL, NULL, err, state_i64(now));
	return rc < 0 ? rc : n;
}

int state_run_reap(struct state *state, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t now = 0, rc = state_clock(db, &now, err);
	/* Two looks, each by its index: with OR all runs that are kept would be gone through. */
	if (rc == 0)
		rc = STATE_RUN(db, "SELECT id FROM runs WHERE " LOST " UNION ALL SELECT id FROM runs WHERE " ABANDONED " LIMIT 1",
			       NULL, NULL, err, state_i64(now));
	if (rc > 0)
		rc = state_db_transact(db, reap, NULL, err);
	state_return(state, db);
	return (int)rc;
}
