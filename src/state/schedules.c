/* Schedules: rows; what they mean is in src/run/scheduler.c. */
#include "state/schedules.h"

#include "base/mem.h"

static struct state_value text(const char *s)
{
	return state_text(s && *s ? s : NULL);
}

static const char *dup(struct duct_arena *arena, const struct state_row *row, int column)
{
	return state_row_is_null(row, column) ? NULL : duct_arena_strdup(arena, state_row_text(row, column));
}

#define COLUMNS \
	"name, cron, timezone, kind, flow_id, input, queue, concurrency_key, error, paused, each_running_flow, concurrency_limit, " \
	"max_attempts, next_us, last_us, last_enqueued"

struct rows {
	struct duct_arena *arena;
	struct state_schedule *to;
	int n, room;
};

static int take(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct rows *rows = arg;
	(void)err;
	if (rows->n == rows->room)
		return 0;
	struct state_schedule *s = &rows->to[rows->n++];
	const char **texts[] = {&s->name,  &s->cron,  &s->timezone,	   &s->kind, &s->flow_id,
				&s->input, &s->queue, &s->concurrency_key, &s->error};
	int c = 0;
	*s = (struct state_schedule){0};
	for (size_t i = 0; i < DUCT_LEN(texts); i++)
		*texts[i] = dup(rows->arena, row, c++);
	s->paused = state_row_i64(row, c++) != 0;
	s->each_running_flow = state_row_i64(row, c++) != 0;
	int64_t *numbers[] = {&s->concurrency_limit, &s->max_attempts, &s->next_us, &s->last_us, &s->last_enqueued};
	for (size_t i = 0; i < DUCT_LEN(numbers); i++)
		*numbers[i] = state_row_i64(row, c++);
	return 0;
}

struct write {
	struct state *state;
	const struct state_schedule *schedule;
	const char *name;
	const struct state_actor *actor;
};

#define VALUES(s) \
	state_text(s->name), state_text(s->cron), state_text(s->timezone ? s->timezone : ""), state_i64(s->paused), \
		state_text(s->kind), state_i64(s->each_running_flow), text(s->flow_id), \
		state_text(s->input && * s->input ? s->input : "{}"), state_text(s->queue && * s->queue ? s->queue : "default"), \
		state_i64(s->max_attempts), text(s->concurrency_key), state_i64(s->concurrency_limit), state_i64(s->next_us)

static int64_t create(struct state_db *db, void *arg, struct duct_error *err)
{
	struct write *w = arg;
	const struct state_schedule *s = w->schedule;
	int64_t rc =
		STATE_RUN(db,
			  "INSERT INTO schedules (name, cron, timezone, paused, kind, each_running_flow, flow_id, input, queue, "
			  "max_attempts, concurrency_key, concurrency_limit, next_us, last_us, last_enqueued) "
			  "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0) ON CONFLICT (name) DO NOTHING",
			  NULL, NULL, err, VALUES(s));
	if (rc > 0 && w->actor && state_audit(w->state, db, w->actor, "schedule.create", s->name, NULL, err) < 0)
		return -(int)err->class;
	return rc;
}

static int64_t update(struct state_db *db, void *arg, struct duct_error *err)
{
	struct write *w = arg;
	const struct state_schedule *s = w->schedule;
	int64_t rc = STATE_RUN(
		db,
		"UPDATE schedules SET cron = $2, timezone = $3, paused = $4, kind = $5, each_running_flow = $6, flow_id = $7, "
		"input = $8, queue = $9, max_attempts = $10, concurrency_key = $11, concurrency_limit = $12, next_us = $13 "
		"WHERE name = $1",
		NULL, NULL, err, VALUES(s));
	if (rc > 0 && w->actor && state_audit(w->state, db, w->actor, "schedule.update", s->name, NULL, err) < 0)
		return -(int)err->class;
	return rc;
}

static int64_t delete (struct state_db *db, void *arg, struct duct_error *err)
{
	struct write *w = arg;
	int64_t rc = STATE_RUN(db, "DELETE FROM schedules WHERE name = $1", NULL, NULL, err, state_text(w->name));
	if (rc > 0 && w->actor && state_audit(w->state, db, w->actor, "schedule.delete", w->name, NULL, err) < 0)
		return -(int)err->class;
	return rc;
}

static int write(struct state *state, state_body_fn *body, struct write *w, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	w->state = state;
	int64_t rc = state_db_transact(db, body, w, err);
	state_return(state, db);
	return (int)rc;
}

int state_schedule_create(struct state *state, const struct state_schedule *schedule, const struct state_actor *actor,
			  struct duct_error *err)
{
	return write(state, create, &(struct write){.schedule = schedule, .actor = actor}, err);
}

int state_schedule_update(struct state *state, const struct state_schedule *schedule, const struct state_actor *actor,
			  struct duct_error *err)
{
	return write(state, update, &(struct write){.schedule = schedule, .actor = actor}, err);
}

int state_schedule_delete(struct state *state, const char *name, const struct state_actor *actor, struct duct_error *err)
{
	return write(state, delete, &(struct write){.name = name, .actor = actor}, err);
}

int state_schedule_get(struct state *state, struct duct_arena *arena, const char *name, struct state_schedule *ret,
		       struct duct_error *err)
{
	struct rows rows = {.arena = arena, .to = ret, .room = 1};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, "SELECT " COLUMNS " FROM schedules WHERE name = $1", take, &rows, err, state_text(name));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

int state_schedule_list(struct state *state, struct duct_arena *arena, const char *after, int64_t due_us, int most,
			struct state_schedule *ret, struct duct_error *err)
{
	struct rows rows = {.arena = arena, .to = ret, .room = most};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc =
		STATE_RUN(db,
			  "SELECT " COLUMNS " FROM schedules WHERE name > $1 AND (CAST($2 AS BIGINT) = 0 OR paused = 0 AND "
			  "(next_us <= $2 OR last_us - $4 > $2)) ORDER BY name LIMIT $3",
			  take, &rows, err, state_text(after), state_i64(due_us), state_i64(most), state_i64(STATE_SET_BACK_US));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

int state_schedule_ticked(struct state *state, const char *name, int64_t from_us, int64_t next_us, int64_t at_us, int64_t enqueued,
			  const char *error, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(
		db,
		"UPDATE schedules SET next_us = $3, last_us = $4, last_enqueued = $5, error = $6 WHERE name = $1 AND next_us = $2",
		NULL, NULL, err, state_text(name), state_i64(from_us), state_i64(next_us), state_i64(at_us), state_i64(enqueued),
		text(error));
	state_return(state, db);
	return (int)rc;
}
