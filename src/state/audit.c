/* Who did what: see state.h. */
#include "state/state_internal.h"

int state_audit_write(struct state_db *db, const struct state_actor *actor, const char *action, const char *object,
		      const char *detail, struct duct_error *err)
{
	int64_t rc =
		STATE_RUN(db, "INSERT INTO audit_log (at_us, actor, via, action, object, detail) VALUES ($1, $2, $3, $4, $5, $6)",
			  NULL, NULL, err, state_i64(state_now_us()), state_text(actor->name), state_text(actor->via),
			  state_text(action), state_text(object), state_text(detail ? detail : ""));
	return rc < 0 ? (int)rc : 0;
}

int state_audit(struct state *state, struct state_db *db, const struct state_actor *actor, const char *action, const char *object,
		const char *detail, struct duct_error *err)
{
	if (db)
		return state_audit_write(db, actor, action, object, detail, err);
	db = state_lend(state, err);
	if (!db)
		return err ? -(int)err->class : -DUCT_RETRY;
	int rc = state_audit_write(db, actor, action, object, detail, err);
	state_return(state, db);
	return rc;
}

struct entries {
	struct duct_arena *arena;
	struct state_audit_entry *next;
};

static int take_entry(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct entries *entries = arg;
	*entries->next++ = (struct state_audit_entry){
		.id = state_row_i64(row, 0),
		.at_us = state_row_i64(row, 1),
		.actor = state_column(entries->arena, row, 2),
		.via = state_column(entries->arena, row, 3),
		.action = state_column(entries->arena, row, 4),
		.object = state_column(entries->arena, row, 5),
		.detail = state_column(entries->arena, row, 6),
	};
	return 0;
}

int state_audit_list(struct state *state, struct duct_arena *arena, const char *object, int64_t before_id, int most,
		     struct state_audit_entry *ret, struct duct_error *err)
{
	struct entries entries = {arena, ret};
	return (int)STATE_QUERY(state,
				"SELECT id, at_us, actor, via, action, object, detail FROM audit_log "
				"WHERE ($1 = '' OR object = $1) AND id < $2 ORDER BY id DESC LIMIT $3",
				take_entry, &entries, err, state_text(object ? object : ""),
				state_i64(before_id > 0 ? before_id : INT64_MAX), state_i64(most));
}
