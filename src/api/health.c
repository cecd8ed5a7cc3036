#include "api/health.h"

#include <string.h>

#include <grpc/health/v1/health.pb-c.h>

#include "api/api.h"

void api_health_set(struct api_health *health, bool started, bool ready)
{
	atomic_store(&health->started, started);
	atomic_store(&health->ready, ready);
}

static bool is_service(const char *name)
{
	for (const struct api_service *const *service = api_services; *service; service++)
		if (strcmp((*service)->descriptor->name, name) == 0)
			return true;
	return strcmp(api_health_service.descriptor->name, name) == 0;
}

enum api_health_status api_health_of(struct api_health *health, const char *name)
{
	bool well = atomic_load(&health->started);
	if (!*name || strcmp(name, "ductstream.readiness") == 0 || is_service(name))
		well = well && atomic_load(&health->ready);
	else if (strcmp(name, "ductstream.liveness") == 0)
		well = true;
	else if (strcmp(name, "ductstream.startup") != 0)
		return API_HEALTH_UNKNOWN;
	return well ? API_HEALTH_SERVING : API_HEALTH_NOT_SERVING;
}

static enum api_code check(struct api_call *call, const void *request, void *response)
{
	const Grpc__Health__V1__HealthCheckRequest *in = request;
	Grpc__Health__V1__HealthCheckResponse *out = response;
	enum api_health_status status = api_health_of(call->api->health, in->service);
	if (status == API_HEALTH_UNKNOWN)
		return api_fail(call, API_NOT_FOUND, "service \"%.100s\": there is none", in->service);
	out->status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
	return API_OK;
}

static const struct api_method methods[] = {
	{.name = "Check", .role = API_NOBODY, .flags = API_QUICK, .run = check},
	{0},
};
const struct api_service api_health_service = {.descriptor = &grpc__health__v1__health__descriptor, .methods = methods};
