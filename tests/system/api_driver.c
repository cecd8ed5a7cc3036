/*
 * The API server with methods made up for tests of the transport, under the names of the real ones:
 *
 *   FlowService.GetFlow        quick; id "missing", "internal": fails; "big:N": a name of N bytes; "slow:MS": takes that long;
 *                              else the flow's name is the caller's
 *   FlowService.ListFlows      on a worker; page_token "wait:MS" waits that long or until it is cancelled
 *   FlowService.CreateFlow     on a worker, admins only; gives the flow back; id "slow:MS": takes that long, whatever happens
 *   StreamService.Pull         waits max_messages ms for messages that never come, operators only
 *   RunService.WatchRun        a run every 10 ms, after_seq of them (0: for ever); id "big": of 1 MB each
 *
 * What waits is logged as "waiting" with the method, and as "cancelled" when it ended because of that.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ductstream/v1/flow.pb-c.h>
#include <ductstream/v1/run.pb-c.h>
#include <ductstream/v1/stream.pb-c.h>

#include "api/api.h"
#include "api/program.h"
#include "base/clock.h"

static bool wait_ms(struct api_call *call, const char *method, int ms)
{
	log_info(call->api->log, "waiting", LOG_STR("method", method));
	struct pollfd fd = {.fd = call->stop_fd, .events = POLLIN};
	return poll(&fd, 1, ms) == 0;
}

static enum api_code was_cancelled(struct api_call *call, const char *method)
{
	log_info(call->api->log, "cancelled", LOG_STR("method", method));
	return api_fail(call, API_CANCELLED, "cancelled");
}

static char *letters(struct api_call *call, size_t n)
{
	char *text = duct_arena_alloc(call->arena, n + 1);
	memset(text, 'x', n);
	text[n] = 0;
	return text;
}

static enum api_code get_flow(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__GetFlowRequest *in = request;
	Ductstream__V1__Flow *out = response;
	out->id = in->flow_id;
	out->name = duct_arena_strdup(call->arena, call->who->name);
	if (strcmp(in->flow_id, "missing") == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"missing\": there is none");
	if (strcmp(in->flow_id, "internal") == 0) {
		const struct duct_error err = {.class = DUCT_FATAL, .message = "two\nlines"};
		return api_failed(call, &err);
	}
	if (strncmp(in->flow_id, "big:", 4) == 0)
		out->name = letters(call, strtoul(in->flow_id + 4, NULL, 10));
	if (strncmp(in->flow_id, "slow:", 5) == 0)
		(void)poll(NULL, 0, atoi(in->flow_id + 5));
	return API_OK;
}

static enum api_code list_flows(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__ListFlowsRequest *in = request;
	Ductstream__V1__ListFlowsResponse *out = response;
	if (strncmp(in->page_token, "wait:", 5) == 0 && !wait_ms(call, "ListFlows", atoi(in->page_token + 5)))
		return was_cancelled(call, "ListFlows");
	char left[32];
	bool none = call->deadline_us == INT64_MAX;
	snprintf(left, sizeof left, "%ld", none ? -1 : (long)((call->deadline_us - duct_mono_us()) / 1000));
	out->next_page_token = duct_arena_strdup(call->arena, left);
	return API_OK;
}

static enum api_code create_flow(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__CreateFlowRequest *in = request;
	if (!in->flow)
		return api_fail(call, API_INVALID_ARGUMENT, "flow: is missing");
	if (strncmp(in->flow->id, "slow:", 5) == 0)
		(void)poll(NULL, 0, atoi(in->flow->id + 5));
	*(Ductstream__V1__Flow *)response = *in->flow;
	return API_OK;
}

static const struct api_method flow_methods[] = {
	{.name = "GetFlow", .role = API_VIEWER, .flags = API_QUICK, .run = get_flow},
	{.name = "ListFlows", .role = API_VIEWER, .run = list_flows},
	{.name = "CreateFlow", .role = API_ADMIN, .run = create_flow},
	{0},
};
static const struct api_service flow_service = {&ductstream__v1__flow_service__descriptor, flow_methods};

static enum api_code pull(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__StreamPullRequest *in = request;
	(void)response;
	return wait_ms(call, "Pull", in->max_messages) ? API_OK : was_cancelled(call, "Pull");
}

static const struct api_method stream_methods[] = {
	{.name = "Pull", .role = API_OPERATOR, .flags = API_WAITS, .run = pull},
	{0},
};
static const struct api_service stream_service = {&ductstream__v1__stream_service__descriptor, stream_methods};

static enum api_code watch_run(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__WatchRunRequest *in = request;
	(void)response;
	Ductstream__V1__Run run = DUCTSTREAM__V1__RUN__INIT;
	Ductstream__V1__RunEvent event = DUCTSTREAM__V1__RUN_EVENT__INIT;
	bool big = strcmp(in->id, "big") == 0;
	run.id = in->id;
	run.error = big ? letters(call, 1000000) : run.error;
	event.run = &run;
	for (int64_t i = 0; in->after_seq == 0 || i < in->after_seq; i++) {
		run.fence = i;
		if (!call->send(call, &event.base) || (!big && !wait_ms(call, "WatchRun", 10)))
			return was_cancelled(call, "WatchRun");
	}
	return API_OK;
}

static const struct api_method run_methods[] = {
	{.name = "WatchRun", .role = API_VIEWER, .flags = API_STREAM, .run = watch_run},
	{0},
};
static const struct api_service run_service = {&ductstream__v1__run_service__descriptor, run_methods};

const struct api_service *const api_services[] = {&flow_service, &stream_service, &run_service, NULL};

int main(void)
{
	return api_main(1, NULL, NULL);
}
