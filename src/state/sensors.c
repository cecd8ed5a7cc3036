/* Sensors and partitions: rows; see schedules.h. */
#include "base/mem.h"
#include "state/runs.h"
#include "state/schedules.h"

static struct state_value text(const char *s)
{
	return state_text(s && *s ? s : NULL);
}

static const char *dup(struct duct_arena *arena, const struct state_row *row, int column)
{
	return state_row_is_null(row, column) ? NULL : duct_arena_strdup(arena, state_row_text(row, column));
}

#define SENSOR "name, cursor, error, paused, interval_ms, next_us, last_us, last_enqueued, failures"

struct sensors {
	struct duct_arena *arena;
	struct state_sensor *to;
	int n, room;
};

static int take_sensor(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct sensors *rows = arg;
	(void)err;
	if (rows->n < rows->room)
		rows->to[rows->n++] = (struct state_sensor){
			.name = dup(rows->arena, row, 0),
			.cursor = dup(rows->arena, row, 1),
			.error = dup(rows->arena, row, 2),
			.paused = state_row_i64(row, 3) != 0,
			.interval_ms = state_row_i64(row, 4),
			.next_us = state_row_i64(row, 5),
			.last_us = state_row_i64(row, 6),
			.last_enqueued = state_row_i64(row, 7),
			.failures = state_row_i64(row, 8),
		};
	return 0;
}

int state_sensor_register(struct state *state, const char *name, int64_t interval_ms, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc =
		STATE_RUN(db,
			  "INSERT INTO sensors (name, cursor, paused, interval_ms, next_us, last_us, last_enqueued, failures) "
			  "VALUES ($1, '', 0, $2, 0, 0, 0, 0) ON CONFLICT (name) DO UPDATE SET interval_ms = excluded.interval_ms",
			  NULL, NULL, err, state_text(name), state_i64(interval_ms));
	state_return(state, db);
	return rc < 0 ? (int)rc : 0;
}

int state_sensor_get(struct state *state, struct duct_arena *arena, const char *name, struct state_sensor *ret,
		     struct duct_error *err)
{
	struct sensors rows = {.arena = arena, .to = ret, .room = 1};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(db, "SELECT " SENSOR " FROM sensors WHERE name = $1", take_sensor, &rows, err, state_text(name));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

int state_sensor_list(struct state *state, struct duct_arena *arena, int most, struct state_sensor *ret, struct duct_error *err)
{
	struct sensors rows = {.arena = arena, .to = ret, .room = most};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc =
		STATE_RUN(db, "SELECT " SENSOR " FROM sensors ORDER BY name LIMIT $1", take_sensor, &rows, err, state_i64(most));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}

int state_sensor_ticked(struct state *state, const struct state_sensor *was, const char *cursor, int64_t next_us, int64_t at_us,
			int64_t enqueued, const char *error, struct duct_error *err)
{
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(
		db,
		"UPDATE sensors SET cursor = $4, next_us = $5, last_us = $6, last_enqueued = $7, failures = $8, error = $9 "
		"WHERE name = $1 AND cursor = $2 AND next_us = $3",
		NULL, NULL, err, state_text(was->name), state_text(was->cursor), state_i64(was->next_us), state_text(cursor),
		state_i64(next_us), state_i64(at_us), state_i64(enqueued), state_i64(error ? was->failures + 1 : 0), text(error));
	state_return(state, db);
	return (int)rc;
}

struct reset {
	struct state *state;
	const char *name, *cursor;
	const struct state_actor *actor;
};

static int64_t reset(struct state_db *db, void *arg, struct duct_error *err)
{
	struct reset *r = arg;
	int64_t rc = STATE_RUN(db, "UPDATE sensors SET cursor = $2, next_us = 0, failures = 0, error = NULL WHERE name = $1", NULL,
			       NULL, err, state_text(r->name), state_text(r->cursor));
	if (rc > 0 && r->actor && state_audit(r->state, db, r->actor, "sensor.reset", r->name, NULL, err) < 0)
		return -(int)err->class;
	return rc;
}

int state_sensor_reset(struct state *state, const char *name, const char *cursor, const struct state_actor *actor,
		       struct duct_error *err)
{
	struct reset r = {.state = state, .name = name, .cursor = cursor, .actor = actor};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_db_transact(db, reset, &r, err);
	state_return(state, db);
	return (int)rc;
}

/* --- partitions --- */

int state_partition_quarantine(struct state *state, const struct state_partition *was, struct duct_error *err)
{
	int64_t now;
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = state_clock(db, &now, err);
	if (rc == 0)
		rc = STATE_RUN(db,
			       "UPDATE partitions SET state = 'quarantined', updated_us = $1 WHERE job = $2 AND key = $3 AND "
			       "state = 'failed' AND run_id = $4",
			       NULL, NULL, err, state_i64(now), state_text(was->job), state_text(was->key), text(was->run_id));
	state_return(state, db);
	return (int)rc;
}

struct partitions {
	struct duct_arena *arena;
	struct state_partition *to;
	int n, room;
};

static int take_partition(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct partitions *rows = arg;
	(void)err;
	if (rows->n < rows->room)
		rows->to[rows->n++] = (struct state_partition){
			.job = dup(rows->arena, row, 0),
			.key = dup(rows->arena, row, 1),
			.state = dup(rows->arena, row, 2),
			.run_id = dup(rows->arena, row, 3),
			.attempts = state_row_i64(row, 4),
			.updated_us = state_row_i64(row, 5),
			.result = dup(rows->arena, row, 6),
		};
	return 0;
}

int state_partition_list(struct state *state, struct duct_arena *arena, const struct state_partition_filter *filter, int most,
			 struct state_partition *ret, struct duct_error *err)
{
	struct partitions rows = {.arena = arena, .to = ret, .room = most};
	struct state_db *db = state_lend(state, err);
	if (!db)
		return -(int)err->class;
	int64_t rc = STATE_RUN(
		db,
		"SELECT job, key, state, run_id, attempts, updated_us, CASE WHEN $7 = 1 THEN result END FROM partitions "
		"WHERE (job > $1 OR job = $1 AND key > $2) AND (CAST($3 AS TEXT) IS NULL OR job = $3) "
		"AND (CAST($4 AS TEXT) IS NULL OR state = $4) AND substr(key, 1, length($5)) = $5 ORDER BY job, key LIMIT $6",
		take_partition, &rows, err, state_text(filter->after_job ? filter->after_job : ""),
		state_text(filter->after_key ? filter->after_key : ""), text(filter->job), text(filter->state),
		state_text(filter->prefix ? filter->prefix : ""), state_i64(most), state_i64(filter->results));
	state_return(state, db);
	return rc < 0 ? (int)rc : rows.n;
}
