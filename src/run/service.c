/* The parts of the server that make and do runs, in the order in which they begin and, backwards, end. */
#include "run/service.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/uuid.h"
#include "run/dbos.h"
#include "run/executor.h"
#include "run/scheduler.h"

struct run_service {
	struct service_settings settings;
	struct dbos_config dbos;
	_Atomic(struct run_executor *) executor; /* NULL until they are started; the API already serves then */
	_Atomic(struct run_scheduler *) scheduler;
	struct dbos_bridge *bridge;
};

/* The schedule that DUCTSTREAM_DBOS_SCHEDULE asks for is made, changed or removed. */
static int set_dbos_schedule(struct run_service *s, struct state *state, struct duct_error *err)
{
	static const struct state_actor actor = {.name = "environment", .via = "server"};
	struct state_schedule was,
		schedule = {
			.name = DBOS_SCHEDULE,
			.cron = s->dbos.schedule,
			.kind = "flow-once",
			.each_running_flow = true,
			.max_attempts = s->dbos.max_retries + 1,
		};
	struct duct_arena arena;
	duct_arena_init(&arena);
	bool wanted = s->dbos.enabled && s->dbos.schedule;
	int rc = wanted ? run_schedule_check(&schedule, state_now_us(), err) : 0;
	if (rc < 0)
		(void)duct_wrap(err, "DUCTSTREAM_DBOS_SCHEDULE");
	else
		rc = state_schedule_get(state, &arena, DBOS_SCHEDULE, &was, err);
	if (rc == 0 && wanted)
		rc = state_schedule_create(state, &schedule, &actor, err);
	else if (rc > 0 && wanted)
		rc = state_schedule_update(state, &schedule, &actor, err);
	else if (rc > 0)
		rc = state_schedule_delete(state, DBOS_SCHEDULE, &actor, err);
	duct_arena_done(&arena);
	return rc < 0 ? rc : 0;
}

int run_service_start(struct run_service *s, struct state *state, const struct duct_log *log, struct duct_error *err)
{
	struct run_executor *takes = NULL;
	struct run_scheduler *schedules = NULL;
	struct run_executor_config executor = {.state = state, .log = log};
	struct run_scheduler_config scheduler = {.state = state,
						 .log = log,
						 .dbos = &s->dbos,
						 .retention_ms = s->settings.run_retention_ms};
	run_executor_configure(&executor, &s->settings);
	int rc = set_dbos_schedule(s, state, err);
	if (rc == 0 && executor.workers > 0)
		rc = run_executor_start(&takes, &executor, err);
	atomic_store(&s->executor, takes);
	scheduler.executor = takes;
	rc = rc ? rc : run_scheduler_start(&schedules, &scheduler, err);
	atomic_store(&s->scheduler, schedules);
	if (rc == 0 && s->dbos.enabled)
		rc = dbos_bridge_start(&s->bridge, &s->dbos, state, log, takes, err);
	if (rc == 0 && !s->dbos.enabled && s->dbos.schedule)
		log_warn(log, "DUCTSTREAM_DBOS_SCHEDULE does nothing without DUCTSTREAM_DBOS_ENABLED=true");
	return rc;
}

int run_service_open(struct run_service **ret, struct duct_error *err)
{
	struct run_service *s = duct_xcalloc(1, sizeof *s);
	int rc = service_settings_from_env(&s->settings, err);
	rc = rc ? rc : dbos_configure(&s->dbos, &s->settings, err);
	if (rc < 0)
		run_service_stop(s);
	else
		*ret = s;
	return rc;
}

void run_service_stop(struct run_service *s)
{
	if (!s)
		return;
	dbos_bridge_stop(s->bridge);
	run_scheduler_stop(atomic_load(&s->scheduler));
	run_executor_stop(atomic_load(&s->executor));
	service_settings_done(&s->settings);
	free(s);
}

void run_service_wake(struct run_service *s)
{
	if (!s)
		return;
	run_executor_wake(atomic_load(&s->executor));
	run_scheduler_wake(atomic_load(&s->scheduler));
}

int run_service_tick(struct run_service *s, struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx,
		     const char *name, struct run_ticked *ret, struct duct_error *err)
{
	int rc = run_tick(state, arena, ctx, name, s ? &s->dbos : NULL, ret, err);
	run_service_wake(s);
	return rc;
}

static int flow_once_natively(struct state *state, struct duct_arena *arena, const char *flow_id, const struct state_actor *actor,
			      struct duct_error *err)
{
	AUTO_FREE char *key = duct_xasprintf("flow/%s", flow_id);
	const struct state_run run = {.kind = "flow-once", .key = key, .flow_id = flow_id};
	struct state_run made;
	return state_run_submit(state, arena, &run, actor, &made, err);
}

int run_service_flow_once(struct run_service *s, struct state *state, const char *flow_id, const struct state_actor *actor,
			  int stop_fd, struct duct_error *err)
{
	struct duct_arena arena;
	char uuid[DUCT_UUID_LEN];
	int rc;
	duct_arena_init(&arena);
	if (s && s->dbos.enabled)
		rc = dbos_enqueue_flow(&s->dbos, duct_uuid_v7(uuid), flow_id, stop_fd, err);
	else
		rc = flow_once_natively(state, &arena, flow_id, actor, err);
	duct_arena_done(&arena);
	run_service_wake(s);
	return rc;
}
