/* DDLService: changes of schema that flows met, and what is decided about them. */
#include <ductstream/v1/ddl.pb-c.h>
#include <stdlib.h>
#include <string.h>

#include "api/flow_internal.h"
#include "options/text.h"
#include "record/position.h"
#include "state/ddl.h"
#include "worker/gate.h"

enum { MOST_EVENTS = 10000 };

static Ductstream__V1__DDLEvent *shown(struct duct_arena *arena, const struct state_ddl_event *event)
{
	Ductstream__V1__DDLEvent *to = duct_arena_alloc(arena, sizeof *to);
	Google__Protobuf__Timestamp *created = duct_arena_alloc(arena, sizeof *created);
	char lsn[DUCT_LSN_LEN];
	ductstream__v1__ddlevent__init(to);
	google__protobuf__timestamp__init(created);
	created->seconds = event->created_us / 1000000;
	created->nanos = (int32_t)(event->created_us % 1000000) * 1000;
	to->id = event->id;
	to->ddl = duct_arena_strdup(arena, event->ddl);
	to->lsn = duct_arena_strdup(arena, duct_lsn_format(lsn, event->lsn));
	to->status = (char *)state_ddl_status_name(event->status);
	to->plan_json = duct_arena_strdup(arena, event->plan);
	to->created_at = created;
	to->flow_id = duct_arena_strdup(arena, event->flow_id);
	return to;
}

/* Oldest first; of too many, the newest. */
static enum api_code list_events(struct api_call *call, const char *flow_id, enum state_ddl_status status, size_t *ret_n,
				 Ductstream__V1__DDLEvent ***ret)
{
	struct state_ddl_event *events = duct_arena_zalloc(call->arena, MOST_EVENTS * sizeof *events);
	struct duct_error err;
	int n = state_ddl_list(call->api->state, call->arena, *flow_id ? flow_id : NULL, status, MOST_EVENTS, events, &err);
	if (n < 0)
		return api_failed(call, &err);
	*ret = duct_arena_zalloc(call->arena, ((size_t)n + 1) * sizeof **ret);
	for (int i = 0; i < n; i++)
		(*ret)[i] = shown(call->arena, &events[i]);
	*ret_n = (size_t)n;
	return API_OK;
}

static enum api_code list_pending(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ListPendingDDLRequest *in = data;
	Ductstream__V1__ListPendingDDLResponse *to = response;
	return list_events(call, in->flow_id, STATE_DDL_PENDING, &to->n_events, &to->events);
}

static enum api_code list(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ListDDLRequest *in = data;
	Ductstream__V1__ListDDLResponse *to = response;
	bool all = !*in->status || strcmp(in->status, "all") == 0;
	enum state_ddl_status status = all ? 0 : state_ddl_status_from(in->status);
	if (!all && !status)
		return api_fail(call, API_INVALID_ARGUMENT,
				"status: \"%.40s\" is none of pending, approved, rejected, applied, all", in->status);
	return list_events(call, in->flow_id, status, &to->n_events, &to->events);
}

/* Whether an approved change of the flow is done without a further word, as its worker will see it. */
static bool applies_itself(const struct state_flow *flow)
{
	struct duct_error unused;
	AUTO_JSON json_t *definition = definition_parse(flow->definition, &unused);
	const json_t *own = json_object_get(json_object_get(json_object_get(definition, "config"), "ddl"), "auto_apply");
	const char *text = getenv("DUCTSTREAM_DDL_AUTO_APPLY");
	bool on = false;
	if (own)
		return json_is_true(own);
	return text && duct_parse_bool(text, &on) && on;
}

/* A worker that waits for the decision goes on by itself. Where none does (it has died, the server ended it, it was to poll only), the flow is
 * made to run again: should its worker ask once more, it is paused once more. */
static int let_go_on(struct api_call *call, const struct state_ddl_event *event, const struct state_actor *actor,
		     struct duct_error *err)
{
	struct state_flow flow;
	bool refused;
	int rc = state_flow_get(call->api->state, call->arena, event->flow_id, &flow, err);
	if (rc <= 0 || flow.state != STATE_FLOW_PAUSED || strcmp(flow.reason, STATE_FLOW_DDL_PENDING) != 0)
		return rc;
	if (event->status != STATE_DDL_APPLIED && !(event->status == STATE_DDL_APPROVED && applies_itself(&flow)))
		return 0;
	rc = state_flow_move(call->api->state, event->flow_id, STATE_FLOW_PAUSED, STATE_FLOW_RUNNING,
			     "the change of a table was decided", actor, &refused, err);
	flow_changed(call);
	return rc;
}

/* Decides about one event; the same decision again succeeds and changes nothing. */
static enum api_code decide(struct api_call *call, int64_t id, enum state_ddl_status to, Ductstream__V1__DDLEvent **ret)
{
	const struct state_actor actor = api_actor(call);
	struct state_ddl_event event;
	enum state_ddl_status now = 0;
	struct duct_error err;
	int rc = state_ddl_decide(call->api->state, id, to, &actor, &now, &err);
	if (rc == 2)
		return api_fail(call, API_FAILED_PRECONDITION, "change %lld is %s: it cannot become %s", (long long)id,
				state_ddl_status_name(now), state_ddl_status_name(to));
	if (rc > 0)
		rc = state_ddl_get(call->api->state, call->arena, id, &event, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "change %lld: there is none", (long long)id);
	rc = rc < 0 ? rc : let_go_on(call, &event, &actor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	*ret = shown(call->arena, &event);
	return API_OK;
}

static enum api_code approve(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ApproveDDLRequest *in = data;
	return decide(call, in->id, STATE_DDL_APPROVED, &((Ductstream__V1__ApproveDDLResponse *)response)->event);
}

static enum api_code reject(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__RejectDDLRequest *in = data;
	return decide(call, in->id, STATE_DDL_REJECTED, &((Ductstream__V1__RejectDDLResponse *)response)->event);
}

static enum api_code mark_applied(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__MarkDDLAppliedRequest *in = data;
	return decide(call, in->id, STATE_DDL_APPLIED, &((Ductstream__V1__MarkDDLAppliedResponse *)response)->event);
}

static const struct api_method methods[] = {
	{"ListPendingDDL", API_VIEWER, API_QUICK, list_pending},
	{"ListDDL", API_VIEWER, API_QUICK, list},
	{"ApproveDDL", API_OPERATOR, 0, approve},
	{"RejectDDL", API_OPERATOR, 0, reject},
	{"MarkDDLApplied", API_OPERATOR, 0, mark_applied},
	{0},
};
const struct api_service api_ddl_service = {&ductstream__v1__ddlservice__descriptor, methods};
