#ifndef RUN_SERVICE_H
#define RUN_SERVICE_H

#include "base/log.h"
#include "state/runs.h"

/*
 * What the server runs beside its API, by its environment: the executor (DUCTSTREAM_RUN_WORKERS, 0: none), the scheduler, and the bridge to DBOS
 * (DUCTSTREAM_DBOS_ENABLED).
 */
struct duct_ctx;
struct run_service;
struct run_ticked;

/* Reads the environment and does nothing yet; calls by other threads may come from now on. */
int run_service_open(struct run_service **ret, struct duct_error *err) DUCT_CHECKED;
int run_service_start(struct run_service *service, struct state *state, const struct duct_log *log,
		      struct duct_error *err) DUCT_CHECKED;
/* Runs under way are asked to end and go back into the queue. Accepts NULL. */
void run_service_stop(struct run_service *service);

/* Something was enqueued, or a sensor's cursor was set: look now. Any thread; accepts NULL. */
void run_service_wake(struct run_service *service);
/* As run_tick(), through DBOS where that is on. */
int run_service_tick(struct run_service *service, struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx,
		     const char *name, struct run_ticked *ret, struct duct_error *err) DUCT_CHECKED;
/* One poll of a flow: enqueued in DBOS where that is on, until stop_fd is readable, else in our queue. 1, or 0: one is under way. */
int run_service_flow_once(struct run_service *service, struct state *state, const char *flow_id, const struct state_actor *actor,
			  int stop_fd, struct duct_error *err) DUCT_CHECKED;

#endif
