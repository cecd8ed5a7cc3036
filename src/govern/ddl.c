/* Changes of tables: recorded, asked about, marked. See ddl.h. */
#include "govern/ddl.h"

#include "base/mem.h"
#include "base/trace.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

enum { MOST_EVENTS = 1000 };

struct govern_ddl {
	struct duct_ddl_hook hook;
	struct state *state;
	const char *flow_id;
	struct govern_ddl_policy policy;
	const struct state_actor *actor;
	const struct duct_log *log;
	pthread_mutex_t lock; /* of what follows: destinations meet the same change side by side */
	int64_t held;
	bool caught_up;
	/* Let through, not durable yet. */
	struct done {
		int64_t id;
		uint64_t lsn;
	} * done;
	size_t ndone, done_cap;
};

/* Whether an event with this status may be done. */
static bool lets_through(const struct govern_ddl *g, enum state_ddl_status status)
{
	return !g->policy.gate || status == STATE_DDL_APPLIED || (status == STATE_DDL_APPROVED && g->policy.auto_apply);
}

static int approve(struct govern_ddl *g, struct state_ddl_event *event, struct duct_error *err)
{
	int rc = state_ddl_decide(g->state, event->id, STATE_DDL_APPROVED, g->actor, &event->status, err);
	return rc < 0 ? rc : 0;
}

static void trace_hold(const struct govern_ddl *g, const struct state_ddl_event *event)
{
	struct duct_span *span = duct_span_begin("ddl", DUCT_SPAN_INTERNAL, NULL);
	duct_span_text(span, "ductstream.flow", g->flow_id);
	duct_span_number(span, "ductstream.ddl.id", event->id);
	duct_span_text(span, "ductstream.ddl.status", state_ddl_status_name(event->status));
	duct_span_text(span, "ductstream.schema", event->schema);
	duct_span_text(span, "ductstream.table", event->table);
	duct_span_lsn(span, "ductstream.lsn", event->lsn);
	duct_span_event(span, "ddl.gated");
	duct_span_end(span, NULL);
}

static int hold(struct govern_ddl *g, const struct state_ddl_event *event, struct duct_error *err)
{
	pthread_mutex_lock(&g->lock);
	g->held = event->id;
	pthread_mutex_unlock(&g->lock);
	trace_hold(g, event);
	return duct_fail(err, DUCT_CANCELLED,
			 "change %" PRId64 " of \"%s\".\"%s\" is %s and waits for a word: ductstream-admin ddl show -id %" PRId64,
			 event->id, event->schema, event->table, state_ddl_status_name(event->status), event->id);
}

static int met(void *arg, const struct duct_ddl_plan *plan, uint64_t lsn, struct duct_error *err)
{
	struct govern_ddl *g = arg;
	if (!lsn) /* the flow tries again when it has, and then it has a place */
		return duct_fail(err, DUCT_CONFIG, "a change of \"%s\".\"%s\" in a transaction that may still be rolled back",
				 plan->relation->schema, plan->relation->name);
	AUTO_BUF struct duct_buf sql = {0}, json = {0};
	char fingerprint[17];
	duct_ddl_sql(&sql, plan);
	duct_ddl_json(&json, plan);
	duct_ddl_fingerprint(fingerprint, plan->relation);
	struct state_ddl_event event = {
		.flow_id = g->flow_id,
		.schema = plan->relation->schema,
		.table = plan->relation->name,
		.ddl = sql.data,
		.plan = json.data,
		.lsn = lsn,
		.fingerprint = fingerprint,
		.status = STATE_DDL_PENDING,
	};
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = state_ddl_record(g->state, &arena, &event, g->actor, err);
	bool undecided = event.status == STATE_DDL_PENDING || (event.status == STATE_DDL_REJECTED && !g->policy.gate);
	if (rc >= 0 && undecided && (!g->policy.gate || g->policy.auto_approve))
		rc = approve(g, &event, err);
	if (rc >= 0 && !lets_through(g, event.status))
		rc = hold(g, &event, err);
	if (rc >= 0) {
		pthread_mutex_lock(&g->lock);
		g->done = duct_grow(g->done, &g->done_cap, g->ndone + 1, sizeof *g->done);
		g->done[g->ndone++] = (struct done){event.id, lsn};
		pthread_mutex_unlock(&g->lock);
		log_info(g->log, "change of a table", LOG_I64("event", event.id), LOG_STR("ddl", event.ddl), LOG_LSN("lsn", lsn));
	}
	duct_arena_done(&arena);
	return rc < 0 ? rc : 0;
}

static int mark_applied(struct govern_ddl *g, int64_t id, struct duct_error *err)
{
	enum state_ddl_status now;
	int rc = state_ddl_decide(g->state, id, STATE_DDL_APPLIED, g->actor, &now, err);
	return rc < 0 ? duct_wrap(err, "note that change %" PRId64 " is applied", id) : 0;
}

/* What an earlier run did and could not write down any more. */
static int catch_up(struct govern_ddl *g, uint64_t lsn, struct duct_error *err)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	struct state_ddl_event *events = duct_arena_zalloc(&arena, MOST_EVENTS * sizeof *events);
	int n = state_ddl_list(g->state, &arena, g->flow_id, STATE_DDL_APPROVED, MOST_EVENTS, events, err);
	int rc = n < 0 ? n : 0;
	for (int i = 0; i < n && rc == 0; i++)
		if (events[i].lsn <= lsn)
			rc = mark_applied(g, events[i].id, err);
	duct_arena_done(&arena);
	return rc;
}

static int durable(void *arg, uint64_t lsn, struct duct_error *err)
{
	struct govern_ddl *g = arg;
	size_t left = 0;
	pthread_mutex_lock(&g->lock);
	int rc = g->caught_up ? 0 : catch_up(g, lsn, err);
	g->caught_up = true;
	for (size_t i = 0; i < g->ndone; i++)
		if (rc || g->done[i].lsn > lsn)
			g->done[left++] = g->done[i];
		else
			rc = mark_applied(g, g->done[i].id, err);
	g->ndone = left;
	pthread_mutex_unlock(&g->lock);
	return rc;
}

struct govern_ddl *govern_ddl_new(struct state *state, const char *flow_id, const struct govern_ddl_policy *policy,
				  const struct state_actor *who, const struct duct_log *log)
{
	struct govern_ddl *g = duct_xcalloc(1, sizeof *g);
	*g = (struct govern_ddl){.state = state, .flow_id = flow_id, .policy = *policy, .actor = who, .log = log};
	pthread_mutex_init(&g->lock, NULL);
	g->hook = (struct duct_ddl_hook){.arg = g, .gate = policy->gate, .met = met, .durable = durable};
	return g;
}

void govern_ddl_free(struct govern_ddl *g)
{
	if (!g)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g->done);
	free(g);
}

struct duct_ddl_hook *govern_ddl_hook(struct govern_ddl *g)
{
	return &g->hook;
}

int64_t govern_ddl_held(const struct govern_ddl *g)
{
	return g->held;
}

int govern_ddl_decided(struct govern_ddl *g, enum state_ddl_status *ret_status, struct duct_error *err)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	struct state_ddl_event event;
	int rc = state_ddl_get(g->state, &arena, g->held, &event, err);
	*ret_status = rc == 1 ? event.status : STATE_DDL_APPLIED;
	duct_arena_done(&arena);
	if (rc < 0)
		return rc;
	if (rc == 1 && !lets_through(g, *ret_status))
		return 0;
	g->held = 0; /* decided, or the flow's events were deleted: it will be met anew */
	return 1;
}
