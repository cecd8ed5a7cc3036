#ifndef API_API_H
#define API_API_H

#include "api/call.h"
#include "api/health.h"
#include "state/checkpoints.h"
#include "state/flows.h"
#include "state/state.h"

/* The service: what its methods work on. Lives as long as the listeners; threads: any. */
struct api {
	const struct duct_log *log;
	struct state *state;
	struct checkpoints *checkpoints;
	struct api_streams *streams; /* streams.h */
	struct run_service *runs;    /* executor, scheduler: run/service.h; NULL: none */
	struct api_health *health;
	struct flow_shown *shown; /* flows as they were shown, flow_shown.h; NULL: none are kept */
	enum { API_DISPATCH_NONE, API_DISPATCH_LOCAL, API_DISPATCH_DBOS } dispatch;
	_Atomic(struct dispatch *) local; /* what keeps the workers of API_DISPATCH_LOCAL; NULL: nothing does, or not yet */
	/* Service-wide defaults. */
	const char *wire_format; /* DUCTSTREAM_WIRE_FORMAT, NULL when not given */
	bool wire_enforce;
	const char *ingest_dsn;		     /* where others' streams are kept; NULL: with the state */
	int64_t ingest_age_ms, ingest_bytes; /* what they keep; 0: everything */
	bool ddl_gate, ddl_auto_approve, ddl_auto_apply;
};

/* The actor of a call, for the state's audit. */
static inline struct state_actor api_actor(const struct api_call *call)
{
	return (struct state_actor){.name = call->who->name, .via = call->via};
}

/* The flow that a request names in its flow_id, as it is stored; strings live in the call's arena. INVALID_ARGUMENT, NOT_FOUND. */
enum api_code api_flow_get(struct api_call *call, const char *id, struct state_flow *ret);

#endif
