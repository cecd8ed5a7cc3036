/* Health's Watch and server reflection: calls that wait for events for long, without a thread. */
#include "api/grpc_internal.h"

#include <string.h>

#include <grpc/health/v1/health.pb-c.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { MOST_WATCHERS = 1024 };

static void end_stopping(struct rpc *rpc)
{
	rpc_end(rpc, API_UNAVAILABLE, "the server is shutting down");
}

/* ---- Watch */

/* Sends the status when it is another than the last. */
static void tell(struct rpc *rpc)
{
	if (rpc->out || rpc->ended)
		return; /* looked at again when that went out */
	int status = (int)api_health_of(rpc->grpc->config.api->health, rpc->watched);
	if (status == rpc->last_status) {
		if (rpc->grpc->draining)
			end_stopping(rpc);
		return;
	}
	rpc->last_status = status;
	Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
	uint8_t packed[32];
	rpc_put(rpc, (struct api_bytes){packed, grpc__health__v1__health_check_response__pack(&response, packed)});
}

static void watch_received(struct rpc *rpc, struct api_bytes message)
{
	struct api_grpc *grpc = rpc->grpc;
	Grpc__Health__V1__HealthCheckRequest *in = grpc__health__v1__health_check_request__unpack(NULL, message.n, message.data);
	if (!in || !duct_utf8_valid(in->service, strlen(in->service))) {
		rpc_end(rpc, API_INVALID_ARGUMENT, "the message is no grpc.health.v1.HealthCheckRequest");
	} else if (grpc->nwatchers >= MOST_WATCHERS) {
		rpc_end(rpc, API_RESOURCE_EXHAUSTED, "too many watch the health already");
	} else {
		rpc->watched = duct_xstrdup(in->service);
		rpc->next_watcher = grpc->watchers;
		grpc->watchers = rpc;
		grpc->nwatchers++;
		atomic_store(&rpc->expires_us, INT64_MAX);
		tell(rpc);
	}
	grpc__health__v1__health_check_request__free_unpacked(in, NULL);
}

static void watch_half_closed(struct rpc *rpc)
{
	rpc_end(rpc, API_INVALID_ARGUMENT, "the call has no message");
}

static void watch_closed(struct rpc *rpc)
{
	for (struct rpc **at = &rpc->grpc->watchers; *at; at = &(*at)->next_watcher)
		if (*at == rpc) {
			*at = rpc->next_watcher;
			rpc->grpc->nwatchers--;
			return;
		}
}

void special_wake_watchers(struct api_grpc *grpc)
{
	for (struct rpc *rpc = grpc->watchers; rpc; rpc = rpc->next_watcher)
		tell(rpc);
}

/* ---- reflection */

static void reflect_received(struct rpc *rpc, struct api_bytes message)
{
	struct api_bytes answer;
	duct_arena_done(&rpc->arena);
	if (rpc->grpc->draining)
		end_stopping(rpc);
	else if (!api_reflect(&rpc->arena, message, rpc->grpc->names, &answer))
		rpc_end(rpc, API_INVALID_ARGUMENT, "the message is no ServerReflectionRequest");
	else
		rpc_put(rpc, answer);
}

static void reflect_half_closed(struct rpc *rpc)
{
	rpc_end(rpc, API_OK, NULL);
}

static const struct rpc_special specials[] = {
	{"/grpc.health.v1.Health/Watch", API_NOBODY, watch_received, watch_half_closed, tell, watch_closed},
	{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", API_VIEWER, reflect_received, reflect_half_closed, rpc_want,
	 NULL},
	{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", API_VIEWER, reflect_received, reflect_half_closed,
	 rpc_want, NULL},
};

const struct rpc_special *special_find(const struct api_grpc *grpc, const char *path, size_t n)
{
	for (size_t i = 0; i < DUCT_LEN(specials); i++)
		if (strlen(specials[i].path) == n && memcmp(specials[i].path, path, n) == 0)
			return specials[i].received == reflect_received && !grpc->config.reflection ? NULL : &specials[i];
	return NULL;
}
