/* Flows and their transitions: see flows.h. */
#include "state/flows.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "state/state_internal.h"

static const char *const state_names[] = {
	[STATE_FLOW_CREATED] = "created",   [STATE_FLOW_RUNNING] = "running", [STATE_FLOW_PAUSED] = "paused",
	[STATE_FLOW_STOPPING] = "stopping", [STATE_FLOW_FAILED] = "failed",   [STATE_FLOW_STOPPED] = "stopped",
};

const char *state_flow_state_name(enum state_flow_state state)
{
	return state > 0 && state < DUCT_LEN(state_names) ? state_names[state] : "";
}

/* 0: none of them. */
static enum state_flow_state state_from(const char *name)
{
	for (size_t i = 1; i < DUCT_LEN(state_names); i++)
		if (name && strcmp(name, state_names[i]) == 0)
			return (enum state_flow_state)i;
	return 0;
}

/* --- reading --- */

#define COLUMNS "id, name, state, reason, definition, revision, created_us, updated_us"

struct flows {
	struct duct_arena *arena;
	struct state_flow *next;
};

static int take_flow(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct flows *flows = arg;
	*flows->next++ = (struct state_flow){
		.id = state_column(flows->arena, row, 0),
		.name = state_column(flows->arena, row, 1),
		.state = state_from(state_row_text(row, 2)),
		.reason = state_column(flows->arena, row, 3),
		.definition = state_column(flows->arena, row, 4),
		.revision = state_row_i64(row, 5),
		.created_us = state_row_i64(row, 6),
		.updated_us = state_row_i64(row, 7),
	};
	return 0;
}

int state_flow_get(struct state *state, struct duct_arena *arena, const char *id, struct state_flow *ret, struct duct_error *err)
{
	struct flows flows = {arena, ret};
	return (int)STATE_QUERY(state, "SELECT " COLUMNS " FROM flows WHERE id = $1", take_flow, &flows, err, state_text(id));
}

int state_flow_list(struct state *state, struct duct_arena *arena, const char *after, enum state_flow_state only, int most,
		    struct state_flow *ret, struct duct_error *err)
{
	struct flows flows = {arena, ret};
	return (int)STATE_QUERY(state,
				"SELECT " COLUMNS " FROM flows WHERE id > $1 AND ($2 = '' OR state = $2) ORDER BY id LIMIT $3",
				take_flow, &flows, err, state_text(after), state_text(state_flow_state_name(only)),
				state_i64(most));
}

struct transitions {
	struct duct_arena *arena;
	struct state_transition *next;
};

static int take_transition(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct transitions *transitions = arg;
	*transitions->next++ = (struct state_transition){
		.from = state_from(state_row_text(row, 0)),
		.to = state_from(state_row_text(row, 1)),
		.reason = state_column(transitions->arena, row, 2),
		.actor = state_column(transitions->arena, row, 3),
		.at_us = state_row_i64(row, 4),
	};
	return 0;
}

int state_flow_transitions(struct state *state, struct duct_arena *arena, const char *id, int most, struct state_transition *ret,
			   struct duct_error *err)
{
	struct transitions transitions = {arena, ret};
	return (int)STATE_QUERY(state,
				"SELECT from_state, to_state, reason, actor, at_us FROM flow_state_events WHERE flow_id = $1 "
				"ORDER BY id DESC LIMIT $2",
				take_transition, &transitions, err, state_text(id), state_i64(most));
}

/* --- changing --- */

struct change {
	const struct state_flow *flow;
	const struct state_actor *actor;
	const char *id, *reason;
	int64_t expected_revision;
	int64_t stored_revision;
	enum state_flow_state from, to;
	bool of_moment; /* only from a pause for a moment */
	bool refused;
};

static int64_t create(struct state_db *db, void *arg, struct duct_error *err)
{
	const struct change *c = arg;
	int64_t now = state_now_us();
	int64_t rows =
		STATE_RUN(db, "INSERT INTO flows (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT (id) DO NOTHING",
			  NULL, NULL, err, state_text(c->flow->id), state_text(c->flow->name),
			  state_text(state_flow_state_name(c->flow->state ? c->flow->state : STATE_FLOW_CREATED)),
			  state_text(c->flow->reason ? c->flow->reason : ""), state_text(c->flow->definition), state_i64(now));
	int rc = rows > 0 ? state_audit_write(db, c->actor, "flow.create", c->flow->id, NULL, err) : 0;
	return rc < 0 ? rc : rows;
}

int state_flow_create(struct state *state, const struct state_flow *flow, const struct state_actor *actor, struct duct_error *err)
{
	struct change change = {.flow = flow, .actor = actor};
	return (int)state_transact(state, create, &change, err);
}

/* Locks the row on Postgres by the write of a value that it has; *ret_revision 0: there is no such flow. */
static int lock_flow(struct state_db *db, const char *id, int64_t *ret_revision, struct duct_error *err)
{
	*ret_revision = 0;
	int64_t rc = STATE_RUN(db, "UPDATE flows SET revision = revision WHERE id = $1 RETURNING revision", state_take_i64,
			       ret_revision, err, state_text(id));
	return rc < 0 ? (int)rc : 0;
}

static int64_t update(struct state_db *db, void *arg, struct duct_error *err)
{
	struct change *c = arg;
	const struct state_flow *flow = c->flow;
	int rc = lock_flow(db, flow->id, &c->stored_revision, err);
	if (rc < 0 || !c->stored_revision)
		return rc;
	if (c->expected_revision && c->expected_revision != c->stored_revision)
		return 2;
	int64_t rows = STATE_RUN(db,
				 "UPDATE flows SET name = $2, definition = $3, revision = revision + 1, updated_us = $4 "
				 "WHERE id = $1 AND (name <> $2 OR definition <> $3)",
				 NULL, NULL, err, state_text(flow->id), state_text(flow->name), state_text(flow->definition),
				 state_i64(state_now_us()));
	rc = rows > 0 ? state_audit_write(db, c->actor, "flow.update", flow->id, NULL, err) : (int)rows;
	return rc < 0 ? rc : 1;
}

int state_flow_update(struct state *state, const struct state_flow *flow, int64_t expected_revision,
		      const struct state_actor *actor, struct duct_error *err)
{
	struct change change = {.flow = flow, .actor = actor, .expected_revision = expected_revision};
	int rc = (int)state_transact(state, update, &change, err);
	if (rc != 2)
		return rc;
	return duct_fail(err, DUCT_RETRY, "flow \"%s\" was changed meanwhile: it is at revision %lld, not %lld", flow->id,
			 (long long)change.stored_revision, (long long)expected_revision);
}

/* --- transitions --- */

static bool allowed(enum state_flow_state from, enum state_flow_state to)
{
	enum { C = 1 << STATE_FLOW_CREATED, R = 1 << STATE_FLOW_RUNNING, P = 1 << STATE_FLOW_PAUSED, G = 1 << STATE_FLOW_STOPPING };
	enum { F = 1 << STATE_FLOW_FAILED, S = 1 << STATE_FLOW_STOPPED };
	static const unsigned to_from[] = {
		[STATE_FLOW_RUNNING] = C | P | F | S,
		[STATE_FLOW_PAUSED] = R | G,
		[STATE_FLOW_STOPPING] = R,
		[STATE_FLOW_FAILED] = R | G,
		[STATE_FLOW_STOPPED] = C | R | P | F | G,
	};
	return to < DUCT_LEN(to_from) && to_from[to] >> from & 1;
}

static int take_state(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	*(enum state_flow_state *)arg = state_from(state_row_text(row, 0));
	return 0;
}

static int64_t delete (struct state_db *db, void *arg, struct duct_error *err)
{
	const struct change *c = arg;
	enum state_flow_state now = 0;
	int64_t rows = STATE_RUN(db, "UPDATE flows SET state = state WHERE id = $1 RETURNING state", take_state, &now, err,
				 state_text(c->id));
	if (rows > 0 && (now == STATE_FLOW_RUNNING || now == STATE_FLOW_STOPPING))
		return 2;
	rows = rows > 0 ? STATE_RUN(db, "DELETE FROM flows WHERE id = $1", NULL, NULL, err, state_text(c->id)) : rows;
	int rc = rows > 0 ? state_audit_write(db, c->actor, "flow.delete", c->id, NULL, err) : 0;
	return rc < 0 ? rc : rows;
}

int state_flow_delete(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err)
{
	struct change change = {.id = id, .actor = actor};
	return (int)state_transact(state, delete, &change, err);
}

bool state_flow_rests_a_moment(const struct state_flow *flow)
{
	return flow->state == STATE_FLOW_PAUSED && strncmp(flow->reason, STATE_FLOW_MOMENT, sizeof STATE_FLOW_MOMENT - 1) == 0;
}

static int64_t write_event(struct state_db *db, const struct change *c, const char *was, const char *is, int64_t now,
			   struct duct_error *err)
{
	return STATE_RUN(db,
			 "INSERT INTO flow_state_events (flow_id, from_state, to_state, reason, actor, at_us) "
			 "VALUES ($1, $2, $3, $4, $5, $6)",
			 NULL, NULL, err, state_text(c->id), state_text(was), state_text(is), state_text(c->reason),
			 state_text(c->actor->name), state_i64(now));
}

static int write_transition(struct state_db *db, const struct change *c, enum state_flow_state from, struct duct_error *err)
{
	const char *was = state_flow_state_name(from), *is = state_flow_state_name(c->to);
	AUTO_FREE char *detail = duct_xasprintf("{\"from\":\"%s\",\"to\":\"%s\"}", was, is);
	int64_t now = state_now_us();
	int64_t rc = STATE_RUN(db, "UPDATE flows SET state = $2, reason = $3, updated_us = $4 WHERE id = $1", NULL, NULL, err,
			       state_text(c->id), state_text(is), state_text(c->reason), state_i64(now));
	rc = rc < 0 ? rc : write_event(db, c, was, is, now, err);
	return rc < 0 ? (int)rc : state_audit_write(db, c->actor, "flow.move", c->id, detail, err);
}

struct standing {
	enum state_flow_state state;
	bool passes; /* a pause that ends by itself */
	bool moment;
};

static int take_standing(void *arg, const struct state_row *row, struct duct_error *err)
{
	struct standing *to = arg;
	const struct state_flow flow = {.state = STATE_FLOW_PAUSED, .reason = state_row_text(row, 1)};
	to->moment = state_flow_rests_a_moment(&flow);
	to->passes = to->moment || strcmp(flow.reason, STATE_FLOW_DDL_PENDING) == 0;
	return take_state(&to->state, row, err);
}

static int64_t move(struct state_db *db, void *arg, struct duct_error *err)
{
	struct change *c = arg;
	struct standing now = {0};
	c->refused = false;
	int rc = state_fence_check(db, c->id, c->actor, err);
	if (rc < 0)
		return rc;
	int64_t rows = STATE_RUN(db, "UPDATE flows SET state = state WHERE id = $1 RETURNING state, reason", take_standing, &now,
				 err, state_text(c->id));
	if (rows <= 0)
		return rows;
	bool stays = now.state == STATE_FLOW_PAUSED && c->to == STATE_FLOW_PAUSED && now.passes && !c->from;
	if (now.state == c->to && !stays)
		return 1;
	if ((c->from && c->from != now.state) || (c->of_moment && !now.moment))
		return 2;
	c->refused = !stays && !allowed(now.state, c->to);
	rc = c->refused ? 0 : write_transition(db, c, now.state, err);
	return rc < 0 ? rc : 1;
}

int state_flow_move(struct state *state, const char *id, enum state_flow_state from, enum state_flow_state to, const char *reason,
		    const struct state_actor *actor, bool *ret_refused, struct duct_error *err)
{
	struct change change = {.id = id, .from = from, .to = to, .reason = reason ? reason : "", .actor = actor};
	int rc = (int)state_transact(state, move, &change, err);
	if (rc >= 0)
		*ret_refused = change.refused;
	return rc;
}

int state_flow_end_moment(struct state *state, const char *id, const char *reason, const struct state_actor *actor,
			  struct duct_error *err)
{
	struct change change = {.id = id, .from = STATE_FLOW_PAUSED, .to = STATE_FLOW_RUNNING, .of_moment = true};
	change.reason = reason;
	change.actor = actor;
	return (int)state_transact(state, move, &change, err);
}

/* When the flow was last changed stays as it is. */
static int64_t note(struct state_db *db, void *arg, struct duct_error *err)
{
	const struct change *c = arg;
	enum state_flow_state now = 0;
	int64_t rc = state_fence_check(db, c->id, c->actor, err);
	rc = rc < 0 ? rc
		    : STATE_RUN(db, "UPDATE flows SET reason = $2 WHERE id = $1 AND reason <> $2 RETURNING state", take_state, &now,
				err, state_text(c->id), state_text(c->reason));
	if (rc <= 0)
		return rc;
	const char *is = state_flow_state_name(now);
	AUTO_BUF struct duct_buf detail = {0};
	duct_buf_puts(&detail, "{\"reason\":");
	duct_buf_json_string(&detail, c->reason, strlen(c->reason));
	duct_buf_putc(&detail, '}');
	rc = write_event(db, c, is, is, state_now_us(), err);
	rc = rc < 0 ? rc : state_audit_write(db, c->actor, "flow.note", c->id, detail.data, err);
	return rc < 0 ? rc : 1;
}

int state_flow_note(struct state *state, const char *id, const char *reason, const struct state_actor *actor,
		    struct duct_error *err)
{
	struct change change = {.id = id, .reason = reason, .actor = actor};
	return (int)state_transact(state, note, &change, err);
}

/* --- reports --- */

int state_flow_report(struct state *state, const char *id, int64_t fence, const char *report, struct duct_error *err)
{
	return (int)STATE_QUERY(
		state,
		"INSERT INTO flow_reports (flow_id, fence, report, at_us) SELECT id, $2, $3, $4 FROM flows WHERE id = $1 "
		"AND NOT EXISTS (SELECT 1 FROM leases WHERE name = 'flow/' || $1 AND fence > $2) "
		"ON CONFLICT (flow_id) DO UPDATE SET fence = excluded.fence, report = excluded.report, "
		"at_us = excluded.at_us WHERE flow_reports.fence <= excluded.fence",
		NULL, NULL, err, state_text(id), state_i64(fence), state_text(report), state_i64(state_now_us()));
}

struct report {
	struct duct_arena *arena;
	struct state_flow_report *ret;
};

static int take_report(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct report *to = arg;
	*to->ret = (struct state_flow_report){state_column(to->arena, row, 0), state_row_i64(row, 1), state_row_i64(row, 2)};
	return 0;
}

int state_flow_reported(struct state *state, struct duct_arena *arena, const char *id, struct state_flow_report *ret,
			struct duct_error *err)
{
	struct report to = {arena, ret};
	return (int)STATE_QUERY(state, "SELECT report, fence, at_us FROM flow_reports WHERE flow_id = $1", take_report, &to, err,
				state_text(id));
}
