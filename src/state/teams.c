/* Teams of the exports: rows; see teams.h. */
#include "state/teams.h"

#include <inttypes.h>
#include <stdio.h>

#include "state/state_internal.h"

#define COLUMNS "team_id, fields, created_us, updated_us"

struct rows {
	struct duct_arena *arena;
	struct state_team *to;
	int n, room;
};

static int take(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct rows *rows = arg;
	(void)err;
	if (rows->n < rows->room)
		rows->to[rows->n++] = (struct state_team){
			.team_id = state_row_i64(row, 0),
			.fields = state_column(rows->arena, row, 1),
			.created_us = state_row_i64(row, 2),
			.updated_us = state_row_i64(row, 3),
		};
	return 0;
}

int state_team_get(struct state *state, struct duct_arena *arena, int64_t team_id, struct state_team *ret, struct duct_error *err)
{
	struct rows rows = {arena, ret, 0, 1};
	int64_t rc = STATE_QUERY(state, "SELECT " COLUMNS " FROM teams WHERE team_id = $1", take, &rows, err, state_i64(team_id));
	return rc < 0 ? (int)rc : rows.n;
}

int state_team_list(struct state *state, struct duct_arena *arena, int64_t after, int most, struct state_team *ret,
		    struct duct_error *err)
{
	struct rows rows = {arena, ret, 0, most};
	int64_t rc = STATE_QUERY(state, "SELECT " COLUMNS " FROM teams WHERE team_id > $1 ORDER BY team_id LIMIT $2", take, &rows,
				 err, state_i64(after), state_i64(most));
	return rc < 0 ? (int)rc : rows.n;
}

struct write {
	int64_t team_id;
	const char *fields;
	const struct state_actor *actor;
};

static int audit(struct state_db *db, const struct write *w, const char *action, struct duct_error *err)
{
	char object[32];
	(void)snprintf(object, sizeof object, "team/%" PRId64, w->team_id);
	return w->actor ? state_audit_write(db, w->actor, action, object, NULL, err) : 0;
}

static int64_t put(struct state_db *db, void *arg, struct duct_error *err)
{
	struct write *w = arg;
	int64_t was = 0;
	int64_t rc =
		STATE_RUN(db, "SELECT count(*) FROM teams WHERE team_id = $1", state_take_i64, &was, err, state_i64(w->team_id));
	if (rc >= 0)
		rc = STATE_RUN(db,
			       "INSERT INTO teams (team_id, fields, created_us, updated_us) VALUES ($1, $2, store_now_us(), "
			       "store_now_us()) ON CONFLICT (team_id) DO UPDATE SET fields = excluded.fields, updated_us = "
			       "excluded.updated_us",
			       NULL, NULL, err, state_i64(w->team_id), state_text(w->fields));
	if (rc >= 0)
		rc = audit(db, w, was ? "team.update" : "team.create", err);
	return rc < 0 ? rc : !was;
}

int state_team_put(struct state *state, int64_t team_id, const char *fields, const struct state_actor *actor,
		   struct duct_error *err)
{
	return (int)state_transact(state, put, &(struct write){team_id, fields, actor}, err);
}

static int64_t delete (struct state_db *db, void *arg, struct duct_error *err)
{
	struct write *w = arg;
	int64_t rc = STATE_RUN(db, "DELETE FROM teams WHERE team_id = $1", NULL, NULL, err, state_i64(w->team_id));
	return rc > 0 && audit(db, w, "team.delete", err) < 0 ? -(int64_t)err->class : rc;
}

int state_team_delete(struct state *state, int64_t team_id, const struct state_actor *actor, struct duct_error *err)
{
	return (int)state_transact(state, delete, &(struct write){team_id, NULL, actor}, err);
}
