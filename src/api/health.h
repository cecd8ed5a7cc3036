#ifndef API_HEALTH_H
#define API_HEALTH_H

#include "api/call.h"

/*
 * How the service is, as grpc.health.v1 says it. Names: "" and every service (as readiness), ductstream.startup (the listeners are
 * up), ductstream.readiness (and the state answers, and no stop was asked for), ductstream.liveness (the process works).
 * Threads: any.
 */
enum api_health_status { API_HEALTH_SERVING = 1, API_HEALTH_NOT_SERVING = 2, API_HEALTH_UNKNOWN = 3 };

struct api_health {
	atomic_bool started, ready;
};

/* A change is seen by watchers when they are woken (api_grpc_wake). */
void api_health_set(struct api_health *health, bool started, bool ready);
/* UNKNOWN: there is no such name. */
enum api_health_status api_health_of(struct api_health *health, const char *name);

/* Check; Watch is the transport's. */
extern const struct api_service api_health_service;

#endif
