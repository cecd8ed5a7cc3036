/* FlowService: flows are started, stopped, deleted. */
#include <poll.h>

#include "api/dispatch.h"
#include "api/flow_internal.h"
#include "base/clock.h"
#include "run/service.h"

enum { WORKER_ENDS_WITHIN_MS = 60000, LOOK_MS = 200 };

enum api_code flow_has_worker(struct api_call *call, const char *id, bool *ret, const char **ret_holder)
{
	struct state_lease lease;
	struct duct_error err;
	char name[80];
	snprintf(name, sizeof name, "flow/%.63s", id);
	int rc = state_lease_get(call->api->state, call->arena, name, &lease, &err);
	*ret = rc == 1 && lease.held;
	if (ret_holder)
		*ret_holder = *ret ? lease.holder : "";
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

static enum api_code move(struct api_call *call, const char *id, enum state_flow_state from, enum state_flow_state to,
			  const char *verb)
{
	const struct state_actor actor = api_actor(call);
	char reason[160];
	struct duct_error err;
	struct state_flow now;
	bool refused = false;
	snprintf(reason, sizeof reason, "%s by %s", verb, actor.name);
	int rc = state_flow_move(call->api->state, id, from, to, reason, &actor, &refused, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"%s\": there is none", id);
	if (rc == 1 && refused) {
		rc = state_flow_get(call->api->state, call->arena, id, &now, &err);
		return api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" is %s: it cannot be made %s from there", id,
				rc == 1 ? state_flow_state_name(now.state) : "gone", state_flow_state_name(to));
	}
	flow_changed(call);
	return API_OK;
}

/* A flow that is stopping and whose worker has died would be so for ever: it is stopped. *ret_state: what it is now. */
static enum api_code settle(struct api_call *call, const char *id, enum state_flow_state *ret_state)
{
	struct state_flow flow;
	bool worker = false;
	enum api_code code = api_flow_get(call, id, &flow);
	if (code)
		return code;
	*ret_state = flow.state;
	if (flow.state != STATE_FLOW_STOPPING)
		return API_OK;
	code = flow_has_worker(call, id, &worker, NULL);
	if (code || worker)
		return code;
	*ret_state = STATE_FLOW_STOPPED;
	return move(call, id, STATE_FLOW_STOPPING, STATE_FLOW_STOPPED, "found without a worker");
}

enum api_code flow_move(struct api_call *call, const char *id, enum state_flow_state to, const char *verb, void *response)
{
	enum state_flow_state now;
	char past[32];
	enum api_code code = settle(call, id, &now);
	snprintf(past, sizeof past, "%s%s", verb, verb[strlen(verb) - 1] == 'e' ? "d" : "ed");
	code = code ? code : move(call, id, 0, to, past);
	return code ? code : flow_answer_state(call, id, response);
}

enum api_code flow_start(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__StartFlowRequest *request = data;
	return flow_move(call, request->flow_id, STATE_FLOW_RUNNING, "start", response);
}

enum api_code flow_resume(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ResumeFlowRequest *request = data;
	return flow_move(call, request->flow_id, STATE_FLOW_RUNNING, "resume", response);
}

enum api_code flow_pause(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__PauseFlowRequest *request = data;
	if (!request->for_a_moment)
		return flow_move(call, request->flow_id, STATE_FLOW_PAUSED, "pause", response);
	enum api_code code = move(call, request->flow_id, 0, STATE_FLOW_PAUSED, STATE_FLOW_MOMENT);
	return code ? code : flow_answer_state(call, request->flow_id, response);
}

/* With a worker it is stopping until that one has ended; without, it is stopped at once. */
enum api_code flow_stop(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__StopFlowRequest *request = data;
	const char *id = request->flow_id;
	enum state_flow_state now;
	bool worker = false;
	enum api_code code = settle(call, id, &now);
	code = code ? code : flow_has_worker(call, id, &worker, NULL);
	if (!code && now == STATE_FLOW_RUNNING && worker) {
		code = move(call, id, STATE_FLOW_RUNNING, STATE_FLOW_STOPPING, "stopped");
		/* Its worker may have ended between the look and the move. */
		code = code ? code : settle(call, id, &now);
	}
	/* Or somebody has paused the flow in between. */
	if (!code && now != STATE_FLOW_STOPPING)
		code = move(call, id, 0, STATE_FLOW_STOPPED, "stopped");
	return code ? code : flow_answer_state(call, id, response);
}

enum api_code flow_pause_and_wait(struct api_call *call, const char *id, bool for_a_moment, bool *ret_paused)
{
	int64_t until = duct_mono_us() + (int64_t)WORKER_ENDS_WITHIN_MS * 1000;
	enum api_code code = move(call, id, 0, STATE_FLOW_PAUSED, for_a_moment ? STATE_FLOW_MOMENT : "paused");
	*ret_paused = code == API_OK;
	until = call->deadline_us < until ? call->deadline_us : until;
	while (!code) {
		bool worker = false;
		const char *holder;
		code = flow_has_worker(call, id, &worker, &holder);
		if (code || !worker)
			return code;
		if (atomic_load(call->cancelled))
			return api_fail(call, API_CANCELLED, "the caller went away while flow \"%s\" was ending", id);
		if (duct_mono_us() > until)
			return api_fail(call, API_UNAVAILABLE, "flow \"%s\" was paused, and its worker %s has not ended in time",
					id, holder);
		struct pollfd fd = {.fd = call->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, LOOK_MS); /* EINTR: looks a little earlier */
	}
	return code;
}

static enum api_code enqueue(struct api_call *call, const char *id)
{
	const struct state_actor actor = api_actor(call);
	struct duct_error err;
	int rc = run_service_flow_once(call->api->runs, call->api->state, id, &actor, call->stop_fd, &err);
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

enum api_code flow_run_once(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__RunFlowOnceRequest *request = data;
	Ductstream__V1__RunFlowOnceResponse *to = response;
	const char *id = request->flow_id;
	enum state_flow_state now;
	enum api_code code = settle(call, id, &now);
	if (code)
		return code;
	if (call->api->dispatch == API_DISPATCH_NONE)
		return api_fail(
			call, API_FAILED_PRECONDITION,
			"DUCTSTREAM_DISPATCH is none: this server runs no flows; run `ductstream-worker -flow-id %s -max-empty-reads 1`, or "
			"set it to local or dbos",
			id);
	if (now != STATE_FLOW_RUNNING)
		return api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" is %s: only a running flow is polled", id,
				state_flow_state_name(now));
	if (call->api->dispatch == API_DISPATCH_DBOS)
		code = enqueue(call, id);
	else
		flow_changed(call); /* its worker is kept anyway: one that waits to be started again is started now */
	to->dispatched = code == API_OK;
	return code;
}

enum api_code flow_delete(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__DeleteFlowRequest *request = data;
	Ductstream__V1__DeleteFlowResponse *to = response;
	const struct state_actor actor = api_actor(call);
	const char *id = request->flow_id, *holder = "";
	enum state_flow_state now;
	struct duct_error err;
	bool worker = false;
	enum api_code code = settle(call, id, &now);
	code = code ? code : flow_has_worker(call, id, &worker, &holder);
	if (code)
		return code;
	if (now == STATE_FLOW_RUNNING || now == STATE_FLOW_STOPPING)
		return api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" is %s: stop it first", id, state_flow_state_name(now));
	if (worker)
		return api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" has a worker that is still ending: %s", id, holder);
	/* The position may be in another database, and first: a flow of that id that is made later would begin there. */
	int rc = checkpoints_delete(call->api->checkpoints, id, &err);
	rc = rc < 0 ? rc : state_flow_delete(call->api->state, id, &actor, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"%s\": there is none", id);
	if (rc == 2)
		return api_fail(call, API_FAILED_PRECONDITION, "flow \"%s\" was started at the same time: stop it first", id);
	if (rc < 0)
		return api_failed(call, &err);
	to->deleted = true;
	return API_OK;
}
