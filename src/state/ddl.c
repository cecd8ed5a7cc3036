/* Schema changes and decisions about them: see ddl.h. */
#include "state/ddl.h"

#include <string.h>

#include "state/state_internal.h"

static const char *const status_names[] = {
	[STATE_DDL_PENDING] = "pending",
	[STATE_DDL_APPROVED] = "approved",
	[STATE_DDL_REJECTED] = "rejected",
	[STATE_DDL_APPLIED] = "applied",
};

const char *state_ddl_status_name(enum state_ddl_status status)
{
	return status > 0 && status < DUCT_LEN(status_names) ? status_names[status] : "";
}

enum state_ddl_status state_ddl_status_from(const char *name)
{
	for (size_t i = 1; i < DUCT_LEN(status_names); i++)
		if (name && strcmp(name, status_names[i]) == 0)
			return (enum state_ddl_status)i;
	return 0;
}

#define COLUMNS \
	"id, flow_id, schema_name, table_name, ddl, plan, lsn, fingerprint, status, decided_by, created_us, decided_us, applied_us"

struct events {
	struct duct_arena *arena;
	struct state_ddl_event *next;
};

static int take_event(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct events *events = arg;
	*events->next++ = (struct state_ddl_event){
		.id = state_row_i64(row, 0),
		.flow_id = state_column(events->arena, row, 1),
		.schema = state_column(events->arena, row, 2),
		.table = state_column(events->arena, row, 3),
		.ddl = state_column(events->arena, row, 4),
		.plan = state_column(events->arena, row, 5),
		.lsn = (uint64_t)state_row_i64(row, 6),
		.fingerprint = state_column(events->arena, row, 7),
		.status = state_ddl_status_from(state_row_text(row, 8)),
		.decided_by = state_column(events->arena, row, 9),
		.created_us = state_row_i64(row, 10),
		.decided_us = state_row_i64(row, 11),
		.applied_us = state_row_i64(row, 12),
	};
	return 0;
}

int state_ddl_get(struct state *state, struct duct_arena *arena, int64_t id, struct state_ddl_event *ret, struct duct_error *err)
{
	struct events events = {arena, ret};
	return (int)STATE_QUERY(state, "SELECT " COLUMNS " FROM ddl_events WHERE id = $1", take_event, &events, err, state_i64(id));
}

int state_ddl_list(struct state *state, struct duct_arena *arena, const char *flow_id, enum state_ddl_status status, int most,
		   struct state_ddl_event *ret, struct duct_error *err)
{
	struct events events = {arena, ret};
	return (int)STATE_QUERY(state,
				"SELECT * FROM (SELECT " COLUMNS " FROM ddl_events WHERE ($1 = '' OR flow_id = $1) AND "
				"($2 = '' OR status = $2) ORDER BY id DESC LIMIT $3) AS newest ORDER BY id",
				take_event, &events, err, state_text(flow_id ? flow_id : ""),
				state_text(state_ddl_status_name(status)), state_i64(most));
}

/* --- recording --- */

struct record {
	struct duct_arena *arena;
	struct state_ddl_event *event, stored;
	const struct state_actor *actor;
};

static int64_t insert(struct state_db *db, struct record *r, struct duct_error *err)
{
	const struct state_ddl_event *e = r->event;
	enum state_ddl_status status = e->status ? e->status : STATE_DDL_PENDING;
	int64_t now = state_now_us();
	struct events events = {r->arena, &r->stored};
	return STATE_RUN(
		db,
		"INSERT INTO ddl_events (flow_id, schema_name, table_name, ddl, plan, lsn, fingerprint, status, decided_by, "
		"created_us, decided_us, applied_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
		"ON CONFLICT (flow_id, lsn, fingerprint) DO NOTHING RETURNING " COLUMNS,
		take_event, &events, err, state_text(e->flow_id), state_text(e->schema), state_text(e->table), state_text(e->ddl),
		state_text(e->plan), state_i64((int64_t)e->lsn), state_text(e->fingerprint),
		state_text(state_ddl_status_name(status)), state_text(status == STATE_DDL_PENDING ? "" : r->actor->name),
		state_i64(now), state_i64(status == STATE_DDL_PENDING ? 0 : now), state_i64(status == STATE_DDL_APPLIED ? now : 0));
}

static int64_t record(struct state_db *db, void *arg, struct duct_error *err)
{
	struct record *r = arg;
	const struct state_ddl_event *e = r->event;
	int rc = state_fence_check(db, e->flow_id, r->actor, err);
	if (rc < 0)
		return rc;
	int64_t rows = insert(db, r, err);
	if (rows > 0)
		rc = state_audit_write(db, r->actor, "ddl.record", e->flow_id, NULL, err);
	if (rows != 0)
		return rc < 0 ? rc : rows;
	struct events events = {r->arena, &r->stored};
	rows = STATE_RUN(db, "SELECT " COLUMNS " FROM ddl_events WHERE flow_id = $1 AND lsn = $2 AND fingerprint = $3", take_event,
			 &events, err, state_text(e->flow_id), state_i64((int64_t)e->lsn), state_text(e->fingerprint));
	if (rows == 0) /* it went between the two statements, with its flow */
		return duct_fail(err, DUCT_RETRY, "flow \"%s\": a schema change that was there is gone", e->flow_id);
	return rows < 0 ? rows : 0;
}

int state_ddl_record(struct state *state, struct duct_arena *arena, struct state_ddl_event *event, const struct state_actor *actor,
		     struct duct_error *err)
{
	struct record r = {.arena = arena, .event = event, .actor = actor};
	int rc = (int)state_transact(state, record, &r, err);
	if (rc >= 0)
		*event = r.stored;
	return rc;
}

/* --- deciding --- */

static bool allowed(enum state_ddl_status from, enum state_ddl_status to)
{
	switch (from) {
	case STATE_DDL_PENDING: return true;
	case STATE_DDL_APPROVED: return to == STATE_DDL_REJECTED || to == STATE_DDL_APPLIED;
	case STATE_DDL_REJECTED: return to == STATE_DDL_APPROVED;
	default: return false;
	}
}

struct decision {
	int64_t id;
	enum state_ddl_status to, now;
	const struct state_actor *actor;
	char *flow_id;
};

static int take_status(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct decision *d = arg;
	d->now = state_ddl_status_from(state_row_text(row, 0));
	free(d->flow_id);
	d->flow_id = duct_xstrdup(state_row_text(row, 1));
	return 0;
}

static int64_t decide(struct state_db *db, void *arg, struct duct_error *err)
{
	struct decision *d = arg;
	int64_t rc = STATE_RUN(db, "UPDATE ddl_events SET status = status WHERE id = $1 RETURNING status, flow_id", take_status, d,
			       err, state_i64(d->id));
	if (rc <= 0)
		return rc;
	rc = state_fence_check(db, d->flow_id, d->actor, err);
	if (rc < 0 || d->now == d->to)
		return rc < 0 ? rc : 1;
	if (!allowed(d->now, d->to))
		return 2;
	AUTO_FREE char *detail = duct_xasprintf("{\"id\":%lld,\"from\":\"%s\",\"to\":\"%s\"}", (long long)d->id,
						state_ddl_status_name(d->now), state_ddl_status_name(d->to));
	/* Who applies what was approved does not decide it. */
	bool decides = d->to != STATE_DDL_APPLIED || d->now == STATE_DDL_PENDING;
	rc = STATE_RUN(db,
		       "UPDATE ddl_events SET status = $2, decided_by = CASE WHEN $3 = 1 THEN $4 ELSE decided_by END, "
		       "decided_us = CASE WHEN $3 = 1 THEN $5 ELSE decided_us END, applied_us = $6 WHERE id = $1",
		       NULL, NULL, err, state_i64(d->id), state_text(state_ddl_status_name(d->to)), state_i64(decides),
		       state_text(d->actor->name), state_i64(state_now_us()),
		       state_i64(d->to == STATE_DDL_APPLIED ? state_now_us() : 0));
	if (rc >= 0)
		rc = state_audit_write(db, d->actor, "ddl.decide", d->flow_id, detail, err);
	d->now = d->to;
	return rc < 0 ? rc : 1;
}

int state_ddl_decide(struct state *state, int64_t id, enum state_ddl_status to, const struct state_actor *actor,
		     enum state_ddl_status *ret_now, struct duct_error *err)
{
	struct decision d = {.id = id, .to = to, .actor = actor};
	int rc = (int)state_transact(state, decide, &d, err);
	if (rc > 0)
		*ret_now = d.now;
	free(d.flow_id);
	return rc;
}
