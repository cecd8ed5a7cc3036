/* Runs as people see them: submit, look up, list, cancel, retry, prune. Who works on them is in run_claims.c. */
#include "state/runs_internal.h"

#include <string.h>

#include "base/mem.h"
#include "base/uuid.h"

const char *state_run_state_name(enum state_run_state state)
{
	static const char *const names[] = {
		[STATE_RUN_QUEUED] = "queued", [STATE_RUN_RUNNING] = "running",	    [STATE_RUN_SUCCEEDED] = "succeeded",
		[STATE_RUN_FAILED] = "failed", [STATE_RUN_CANCELLED] = "cancelled", [STATE_RUN_SKIPPED] = "skipped",
	};
	return state >= STATE_RUN_QUEUED && state <= STATE_RUN_SKIPPED ? names[state] : "unknown";
}

int run_take_i64(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(int64_t *)arg = state_row_i64(row, 0);
	return 0;
}

int state_clock(struct state_db *db, int64_t *ret_us, struct duct_error *err)
{
	int64_t rc = STATE_RUN(db, "SELECT store_now_us()", run_take_i64, ret_us, err);
	return rc < 0 ? (int)rc : 0;
}

static const char *dup(struct duct_arena *arena, const struct state_row *row, int column)
{
	return state_row_is_null(row, column) ? NULL : duct_arena_strdup(arena, state_row_text(row, column));
}

int run_take_row(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct run_rows *rows = arg;
	struct duct_arena *a = rows->arena;
	(void)err;
	if (rows->n == rows->room)
		return 0;
	int c = 0;
	struct state_run *r = &rows->runs[rows->n++];
	*r = (struct state_run){0};
	const char **texts[] = {&r->id,	     &r->kind,	     &r->key,	    &r->queue,	&r->parent_id,
				&r->flow_id, &r->schedule,   &r->partition, &r->input,	&r->result,
				&r->error,   &r->checkpoint, &r->tags,	    &r->worker, &r->concurrency_key};
	for (size_t i = 0; i < DUCT_LEN(texts); i++)
		*texts[i] = dup(a, row, c++);
	r->concurrency_limit = state_row_i64(row, c++);
	r->state = (enum state_run_state)state_row_i64(row, c++);
	r->attempt = state_row_i64(row, c++);
	r->max_attempts = state_row_i64(row, c++);
	r->fence = state_row_i64(row, c++);
	r->cancel_requested = state_row_i64(row, c++) != 0;
	r->progress.done = state_row_i64(row, c++);
	r->progress.total = state_row_i64(row, c++);
	r->progress.unit = dup(a, row, c++);
	r->progress.step = dup(a, row, c++);
	int64_t *numbers[] = {&r->log_seq,    &r->revision,	&r->created_us, &r->due_us,
			      &r->started_us, &r->heartbeat_us, &r->finished_us};
	for (size_t i = 0; i < DUCT_LEN(numbers); i++)
		*numbers[i] = state_row_i64(row, c++);
	return 0;
}

int run_move_partition(struct state_db *db, const char *run_id, const char *to, int64_t now_us, struct duct_error *err)
{
	int64_t rc =
		STATE_RUN(db,
			  "UPDATE partitions SET state = $1, updated_us = $2, attempts = (SELECT attempt FROM runs WHERE id = $3) "
			  "WHERE run_id = $3 AND state <> $1",
			  NULL, NULL, err, state_text(to), state_i64(now_us), state_text(run_id));
	return rc < 0 ? (int)rc : 0;
}

/* --- submit --- */

struct submit {
	struct state *state;
	const struct state_run *run;
	const struct state_actor *actor;
	const char *id;
	struct run_rows rows;
};

static int64_t insert(struct state_db *db, const struct submit *s, int64_t now, struct duct_error *err)
{
	const struct state_run *r = s->run;
	return STATE_RUN(
		db,
		"INSERT INTO runs (id, kind, key, queue, parent_id, flow_id, schedule, partition_key, input, tags, concurrency_key, "
		"concurrency_limit, state, attempt, max_attempts, fence, cancel_requested, progress_done, progress_total, log_seq, "
		"log_bytes, revision, created_us, due_us, started_us, heartbeat_us, lease_us, finished_us) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 1, 0, $13, 0, 0, 0, 0, 0, 0, 1, $14, $15, 0, 0, 0, 0) "
		"ON CONFLICT DO NOTHING RETURNING " RUN_COLUMNS,
		run_take_row, (void *)&s->rows, err, state_text(s->id), state_text(r->kind), run_text(r->key),
		state_text(r->queue && *r->queue ? r->queue : "default"), run_text(r->parent_id), run_text(r->flow_id),
		run_text(r->schedule), run_text(r->partition), state_text(r->input && *r->input ? r->input : "{}"),
		state_text(r->tags && *r->tags ? r->tags : "{}"), run_text(r->concurrency_key), state_i64(r->concurrency_limit),
		state_i64(r->max_attempts > 0 ? r->max_attempts : 3), state_i64(now), state_i64(r->due_us > now ? r->due_us : now));
}

/* The partition is the run's from now on. */
static int claim_partition(struct state_db *db, const struct submit *s, int64_t now, struct duct_error *err)
{
	if (!s->run->partition || !*s->run->partition)
		return 0;
	int64_t rc = STATE_RUN(
		db,
		"INSERT INTO partitions (job, key, state, attempts, run_id, updated_us) VALUES ($1, $2, 'queued', 0, $3, $4) "
		"ON CONFLICT (job, key) DO UPDATE SET state = 'queued', attempts = 0, run_id = excluded.run_id, "
		"updated_us = excluded.updated_us",
		NULL, NULL, err, state_text(s->run->kind), state_text(s->run->partition), state_text(s->id), state_i64(now));
	return rc < 0 ? (int)rc : 0;
}

/* 2: neither inserted nor found. The one that had the key ended in between: once more. */
static int64_t submit_once(struct state_db *db, void *arg, struct duct_error *err)
{
	struct submit *s = arg;
	int64_t now, rc;
	s->rows.n = 0;
	if ((rc = state_clock(db, &now, err)) < 0 || (rc = insert(db, s, now, err)) < 0)
		return rc;
	if (s->rows.n) {
		if ((rc = claim_partition(db, s, now, err)) < 0)
			return rc;
		if (s->actor && (rc = state_audit(s->state, db, s->actor, "run.submit", s->id, NULL, err)) < 0)
			return rc;
		return 1;
	}
	rc = STATE_RUN(db,
		       "SELECT " RUN_COLUMNS
		       " FROM runs WHERE id = $1 OR key = $2 AND state IN (1, 2) ORDER BY id = $1 DESC LIMIT 1",
		       run_take_row, &s->rows, err, state_text(s->id), run_text(s->run->key));
	return rc < 0 ? rc : s->rows.n ? 0 : 2;
}

int state_run_submit(struct state *state, struct duct_arena *arena, const struct state_run *run, const struct state_actor *actor,
		     struct state_run *ret, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	struct submit s = {.state = state, .run = run, .actor = actor, .rows = {.arena = arena, .runs = ret, .room = 1}};
	s.id = run->id && *run->id ? run->id : duct_uuid_v7(uuid);
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = 2;
	for (int i = 0; i < 10 && rc == 2; i++)
		rc = state_db_transact(db, submit_once, &s, err);
	state_return(state, db);
	if (rc == 2)
		return duct_fail(err, DUCT_RETRY, "run \"%s\": others with key \"%s\" come and go", s.id, run->key ? run->key : "");
	return (int)rc;
}

/* --- look --- */

int state_run_get(struct state *state, struct duct_arena *arena, const char *id, struct state_run *ret, struct duct_error *err)
{
	struct run_rows rows = {.arena = arena, .runs = ret, .room = 1};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, "SELECT " RUN_COLUMNS " FROM runs WHERE id = $1", run_take_row, &rows, err, state_text(id));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

/* One text per index that may lead; the other filters look at what it gives. */
#define LIST(lead) \
	"SELECT " RUN_COLUMNS " FROM runs WHERE " lead \
	" AND (CAST($2 AS BIGINT) = 0 OR created_us < $2 OR created_us = $2 AND id < $3) " \
	"AND (CAST($4 AS TEXT) IS NULL OR parent_id = $4) AND (CAST($5 AS TEXT) IS NULL OR key = $5) " \
	"AND (CAST($6 AS TEXT) IS NULL OR flow_id = $6) AND (CAST($7 AS TEXT) IS NULL OR schedule = $7) " \
	"AND (CAST($8 AS TEXT) IS NULL OR kind = $8) AND (CAST($9 AS TEXT) IS NULL OR queue = $9) " \
	"AND (CAST($10 AS BIGINT) = 0 OR state = $10) ORDER BY created_us DESC, id DESC LIMIT $11"

static const char *list_of_state(enum state_run_state state)
{
	return state == STATE_RUN_QUEUED     ? LIST("CAST($1 AS TEXT) IS NULL AND id IN (SELECT id FROM runs WHERE state = 1)")
		: state == STATE_RUN_RUNNING ? LIST("CAST($1 AS TEXT) IS NULL AND id IN (SELECT id FROM runs WHERE state = 2)")
					     : LIST("CAST($1 AS TEXT) IS NULL AND state > 2 AND state = $10");
}

int state_run_list(struct state *state, struct duct_arena *arena, const struct state_run_filter *f, int most, struct state_run *ret,
		   struct duct_error *err)
{
	struct run_rows rows = {.arena = arena, .runs = ret, .room = most};
	const char *sql = LIST("CAST($1 AS TEXT) IS NULL"), *lead = NULL;
	if (f->parent_id)
		sql = LIST("parent_id = $1"), lead = f->parent_id;
	else if (f->key)
		sql = LIST("key = $1"), lead = f->key;
	else if (f->flow_id)
		sql = LIST("flow_id = $1"), lead = f->flow_id;
	else if (f->schedule)
		sql = LIST("schedule = $1"), lead = f->schedule;
	else if (f->state && (!f->kind || f->state != STATE_RUN_SUCCEEDED)) /* most have succeeded */
		sql = list_of_state(f->state);
	else if (f->kind)
		sql = LIST("kind = $1"), lead = f->kind;
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, sql, run_take_row, &rows, err, state_text(lead), state_i64(f->before_us),
			       state_text(f->before_id ? f->before_id : ""), state_text(f->parent_id), state_text(f->key),
			       state_text(f->flow_id), state_text(f->schedule), state_text(f->kind), state_text(f->queue),
			       state_i64(f->state), state_i64(most));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

static int take_count(void *arg, const struct state_row *row, struct duct_error *err)
{
	int64_t at = state_row_i64(row, 0);
	(void)err;
	if (at >= 0 && at <= STATE_RUN_SKIPPED)
		((int64_t *)arg)[at] = state_row_i64(row, 1);
	return 0;
}

int state_run_counts(struct state *state, int64_t counts[STATE_RUN_SKIPPED + 1], struct duct_error *err)
{
	memset(counts, 0, (STATE_RUN_SKIPPED + 1) * sizeof *counts);
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, RUN_COUNTS, take_count, counts, err);
	state_return(state, db);
	return rc < 0 ? (int)rc : 0;
}

/* --- cancel, retry --- */

struct change {
	struct state *state;
	const char *id;
	const struct state_actor *actor;
	int64_t before_us;
	int most;
};

/* The run and those under it, at any depth. */
#define FAMILY \
	"id IN (WITH RECURSIVE family (id) AS (SELECT id FROM runs WHERE id = $1 UNION SELECT r.id FROM runs r JOIN family f ON r.parent_id = f.id) " \
	"SELECT id FROM family)"

static int64_t cancel(struct state_db *db, void *arg, struct duct_error *err)
{
	struct change *c = arg;
	int64_t now, state = 0, rc;
	if ((rc = state_clock(db, &now, err)) < 0)
		return rc;
	rc = STATE_RUN(db, "SELECT state FROM runs WHERE id = $1", run_take_i64, &state, err, state_text(c->id));
	if (rc <= 0)
		return rc;
	if (state > STATE_RUN_RUNNING)
		return 2;
	/* One statement: a claim or the end of an attempt in between two would be missed by both. */
	rc = STATE_RUN(
		db,
		"UPDATE runs SET cancel_requested = 1, revision = revision + 1, state = CASE state WHEN 1 THEN 5 ELSE state END, "
		"finished_us = CASE state WHEN 1 THEN $2 ELSE finished_us END, "
		"error = CASE state WHEN 1 THEN 'cancelled before it began' ELSE error END WHERE state IN (1, 2) AND " FAMILY,
		NULL, NULL, err, state_text(c->id), state_i64(now));
	if (rc > 0)
		rc = STATE_RUN(db,
			       "UPDATE partitions SET state = 'missing', updated_us = $1 WHERE state = 'queued' AND run_id IN "
			       "(SELECT id FROM runs WHERE state = 5 AND state > 2 AND finished_us = $1)", /* by the index */
			       NULL, NULL, err, state_i64(now));
	if (rc >= 0 && c->actor)
		rc = state_audit(c->state, db, c->actor, "run.cancel", c->id, NULL, err);
	return rc < 0 ? rc : 1;
}

static int64_t retry(struct state_db *db, void *arg, struct duct_error *err)
{
	struct change *c = arg;
	int64_t now, state = 0, rc;
	if ((rc = state_clock(db, &now, err)) < 0)
		return rc;
	rc = STATE_RUN(
		db,
		"UPDATE runs SET state = 1, attempt = 0, cancel_requested = 0, due_us = $2, finished_us = 0, started_us = 0, "
		"error = NULL, result = NULL, revision = revision + 1 WHERE id = $1 AND state IN (4, 5)",
		NULL, NULL, err, state_text(c->id), state_i64(now));
	if (rc == 0) {
		rc = STATE_RUN(db, "SELECT state FROM runs WHERE id = $1", run_take_i64, &state, err, state_text(c->id));
		return rc < 0 ? rc : rc ? 2 : 0;
	}
	if (rc > 0)
		rc = run_move_partition(db, c->id, "queued", now, err);
	if (rc >= 0 && c->actor)
		rc = state_audit(c->state, db, c->actor, "run.retry", c->id, NULL, err);
	return rc < 0 ? rc : 1;
}

static int change(struct state *state, state_body_fn *body, struct change *c, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_transact(db, body, c, err);
	state_return(state, db);
	return (int)rc;
}

int state_run_cancel(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err)
{
	return change(state, cancel, &(struct change){.state = state, .id = id, .actor = actor}, err);
}

int state_run_retry(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err)
{
	int rc = change(state, retry, &(struct change){.state = state, .id = id, .actor = actor}, err);
	return rc < 0 && strcmp(err->sqlstate, "23505") == 0 ? 3 : rc;
}

/* --- prune --- */

static int64_t prune(struct state_db *db, void *arg, struct duct_error *err)
{
	struct change *c = arg;
#define OLD "(SELECT id FROM runs WHERE state > 2 AND finished_us < $1 ORDER BY finished_us, id LIMIT $2)"
	int64_t rc = STATE_RUN(db, "DELETE FROM run_logs WHERE run_id IN " OLD, NULL, NULL, err, state_i64(c->before_us),
			       state_i64(c->most));
	return rc < 0
		? rc
		: STATE_RUN(db, "DELETE FROM runs WHERE id IN " OLD, NULL, NULL, err, state_i64(c->before_us), state_i64(c->most));
}

int state_run_prune(struct state *state, int64_t before_us, int most, struct duct_error *err)
{
	return change(state, prune, &(struct change){.before_us = before_us, .most = most}, err);
}
