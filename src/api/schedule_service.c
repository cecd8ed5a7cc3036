/* ScheduleService: schedules, sensors, partitions. */
#include <stdio.h>
#include <string.h>

#include "api/run_text.h"
#include "run/scheduler.h"
#include "run/service.h"
#include "state/flows.h"

enum { MOST_SENSORS = 1000 };

static enum api_code not_there(struct api_call *call, const char *what, const char *name)
{
	return api_fail(call, *name ? API_NOT_FOUND : API_INVALID_ARGUMENT,
			*name ? "%s \"%.100s\": there is none" : "name: is missing", what, name);
}

static enum api_code answer(struct api_call *call, const char *name, Ductstream__V1__Schedule *ret)
{
	struct state_schedule schedule;
	struct duct_error err;
	int rc = state_schedule_get(call->api->state, call->arena, name, &schedule, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return not_there(call, "schedule", name);
	run_text_schedule(ret, &schedule, call->arena);
	return API_OK;
}

/* --- schedules --- */

/* As it is stored; next_us is set. */
static enum api_code take(struct api_call *call, const Ductstream__V1__Schedule *m, struct state_schedule *to)
{
	struct duct_error err;
	struct state_flow flow;
	if (!m)
		return api_fail(call, API_INVALID_ARGUMENT, "schedule: is missing");
	*to = (struct state_schedule){
		.name = m->name,
		.cron = m->cron,
		.timezone = m->timezone,
		.paused = m->paused,
		.kind = m->kind,
		.each_running_flow = m->each_running_flow,
		.flow_id = m->flow_id,
		.input = m->input_json,
		.queue = m->queue,
		.max_attempts = m->max_attempts,
		.concurrency_key = m->concurrency_key,
		.concurrency_limit = m->concurrency_limit,
	};
	enum api_code code = run_may_enqueue(call, m->kind);
	if (code != API_OK)
		return code;
	if (run_schedule_check(to, state_now_us(), &err) < 0) /* begins with the field */
		return api_fail(call, api_code_of(err.class), "schedule.%s", err.message);
	int rc = *m->flow_id ? state_flow_get(call->api->state, call->arena, m->flow_id, &flow, &err) : 1;
	if (rc == 0)
		return api_fail(call, API_FAILED_PRECONDITION, "schedule.flow_id: there is no flow \"%s\"", m->flow_id);
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

static enum api_code create(struct api_call *call, const void *request, void *response)
{
	struct state_actor actor = api_actor(call);
	struct state_schedule schedule;
	struct duct_error err;
	enum api_code code = take(call, ((const Ductstream__V1__CreateScheduleRequest *)request)->schedule, &schedule);
	if (code != API_OK)
		return code;
	int rc = state_schedule_create(call->api->state, &schedule, &actor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return api_fail(call, API_ALREADY_EXISTS, "schedule \"%s\": there is one already", schedule.name);
	return answer(call, schedule.name, response);
}

static enum api_code update(struct api_call *call, const void *request, void *response)
{
	struct state_actor actor = api_actor(call);
	struct state_schedule schedule, was;
	struct duct_error err;
	enum api_code code = take(call, ((const Ductstream__V1__UpdateScheduleRequest *)request)->schedule, &schedule);
	if (code != API_OK)
		return code;
	int rc = state_schedule_get(call->api->state, call->arena, schedule.name, &was, &err);
	if (rc > 0 && (code = run_may_enqueue(call, was.kind)) != API_OK)
		return code;
	if (rc > 0)
		rc = state_schedule_update(call->api->state, &schedule, &actor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	return rc ? answer(call, schedule.name, response) : not_there(call, "schedule", schedule.name);
}

static enum api_code get(struct api_call *call, const void *request, void *response)
{
	return answer(call, ((const Ductstream__V1__GetScheduleRequest *)request)->name, response);
}

static enum api_code list(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__ListSchedulesRequest *r = request;
	Ductstream__V1__ListSchedulesResponse *ret = response;
	struct duct_error err;
	int size;
	enum api_code code = run_page_size(call, r->page_size, &size);
	if (code != API_OK)
		return code;
	struct state_schedule *rows = duct_arena_alloc(call->arena, (size_t)size * sizeof *rows);
	int n = state_schedule_list(call->api->state, call->arena, r->page_token, 0, size, rows, &err);
	if (n < 0)
		return api_failed(call, &err);
	ret->schedules = duct_arena_alloc(call->arena, (size_t)n * sizeof *ret->schedules);
	for (; ret->n_schedules < (size_t)n; ret->n_schedules++) {
		Ductstream__V1__Schedule *to = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__schedule__init(to);
		run_text_schedule(to, &rows[ret->n_schedules], call->arena);
		ret->schedules[ret->n_schedules] = to;
	}
	if (n == size)
		ret->next_page_token = run_string(rows[n - 1].name);
	return API_OK;
}

static enum api_code delete (struct api_call *call, const void *request, void *response) {
	const char *name = ((const Ductstream__V1__DeleteScheduleRequest *)request)->name;
	struct state_actor actor = api_actor(call);
	struct state_schedule was;
	struct duct_error err;
	enum api_code code;
	int rc = state_schedule_get(call->api->state, call->arena, name, &was, &err);
	if (rc > 0 && (code = run_may_enqueue(call, was.kind)) != API_OK) return code;
	if (rc > 0) rc = state_schedule_delete(call->api->state, name, &actor, &err);
	if (rc < 0) return api_failed(call, &err);
	if (rc == 0) return not_there(call, "schedule", name);
	((Ductstream__V1__DeleteScheduleResponse *)response)->deleted = true;
	return API_OK;
}

/* --- sensors --- */

static void show_sensor(Ductstream__V1__Sensor *ret, const struct state_sensor *s, struct duct_arena *arena)
{
	ret->name = run_string(s->name);
	ret->cursor = run_string(s->cursor);
	ret->paused = s->paused;
	ret->interval_seconds = s->interval_ms / 1000;
	ret->next_at = run_text_time(s->next_us, arena);
	ret->last_at = run_text_time(s->last_us, arena);
	ret->last_enqueued = s->last_enqueued;
	ret->error = run_string(s->error);
}

static enum api_code list_sensors(struct api_call *call, const void *request, void *response)
{
	Ductstream__V1__ListSensorsResponse *ret = response;
	struct state_sensor *rows = duct_arena_alloc(call->arena, MOST_SENSORS * sizeof *rows);
	struct duct_error err;
	(void)request;
	int n = state_sensor_list(call->api->state, call->arena, MOST_SENSORS, rows, &err);
	if (n < 0)
		return api_failed(call, &err);
	ret->sensors = duct_arena_alloc(call->arena, (size_t)n * sizeof *ret->sensors);
	for (; ret->n_sensors < (size_t)n; ret->n_sensors++) {
		Ductstream__V1__Sensor *to = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__sensor__init(to);
		show_sensor(to, &rows[ret->n_sensors], call->arena);
		ret->sensors[ret->n_sensors] = to;
	}
	return API_OK;
}

static enum api_code reset_cursor(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__ResetCursorRequest *r = request;
	struct state_actor actor = api_actor(call);
	struct state_sensor sensor;
	struct duct_error err;
	int rc = state_sensor_reset(call->api->state, r->name, r->cursor, &actor, &err);
	if (rc > 0)
		rc = state_sensor_get(call->api->state, call->arena, r->name, &sensor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return not_there(call, "sensor", r->name);
	run_service_wake(call->api->runs);
	show_sensor(response, &sensor, call->arena);
	return API_OK;
}

static enum api_code tick(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__TickRequest *r = request;
	Ductstream__V1__TickResponse *ret = response;
	struct state_actor actor = api_actor(call);
	struct state_schedule schedule;
	struct run_ticked ticked;
	struct duct_error err;
	enum api_code code;
	const struct duct_ctx ctx = {.stop = (atomic_bool *)(uintptr_t)call->cancelled, .stop_fd = call->stop_fd};
	int rc = state_schedule_get(call->api->state, call->arena, r->name, &schedule, &err);
	if (rc > 0 && (code = run_may_enqueue(call, schedule.kind)) != API_OK)
		return code;
	if (rc >= 0)
		rc = run_service_tick(call->api->runs, call->api->state, call->arena, &ctx, r->name, &ticked, &err);
	if (rc > 0 && state_audit(call->api->state, NULL, &actor, "schedule.tick", r->name, NULL, &err) < 0)
		rc = -(int)err.class;
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return not_there(call, "schedule or sensor", r->name);
	ret->runs = run_text_show_all(ticked.runs, ticked.n, call->arena);
	ret->n_runs = (size_t)ticked.n;
	return API_OK;
}

/* --- partitions --- */

/* "JOB\nKEY" of the last one of a page; neither has a line feed. */
static enum api_code take_token(struct api_call *call, const char *token, const char **ret_job, const char **ret_key)
{
	const char *cut = strchr(token, '\n');
	*ret_job = *ret_key = "";
	if (!*token)
		return API_OK;
	if (!cut)
		return api_fail(call, API_INVALID_ARGUMENT, "page_token: not one of ours");
	char *job = duct_arena_dup(call->arena, token, (size_t)(cut - token) + 1);
	job[cut - token] = 0;
	*ret_job = job;
	*ret_key = cut + 1;
	return API_OK;
}

static enum api_code list_partitions(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__ListPartitionsRequest *r = request;
	Ductstream__V1__ListPartitionsResponse *ret = response;
	const char *job, *key;
	struct duct_error err;
	int size;
	enum api_code code = run_page_size(call, r->page_size, &size);
	if (code == API_OK)
		code = take_token(call, r->page_token, &job, &key);
	if (code != API_OK)
		return code;
	struct state_partition *rows = duct_arena_alloc(call->arena, (size_t)size * sizeof *rows);
	const struct state_partition_filter filter = {
		.job = *r->job ? r->job : NULL,
		.state = *r->state ? r->state : NULL,
		.prefix = r->key_prefix,
		.after_job = job,
		.after_key = key,
	};
	int n = state_partition_list(call->api->state, call->arena, &filter, size, rows, &err);
	if (n < 0)
		return api_failed(call, &err);
	ret->partitions = duct_arena_alloc(call->arena, (size_t)n * sizeof *ret->partitions);
	for (int i = 0; i < n; i++) {
		Ductstream__V1__Partition *to = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__partition__init(to);
		to->job = run_string(rows[i].job);
		to->key = run_string(rows[i].key);
		to->state = run_string(rows[i].state);
		to->attempts = (int32_t)rows[i].attempts;
		to->run_id = run_string(rows[i].run_id);
		to->updated_at = run_text_time(rows[i].updated_us, call->arena);
		ret->partitions[ret->n_partitions++] = to;
	}
	if (n == size) {
		size_t room = strlen(rows[n - 1].job) + strlen(rows[n - 1].key) + 2;
		ret->next_page_token = duct_arena_alloc(call->arena, room);
		(void)snprintf(ret->next_page_token, room, "%s\n%s", rows[n - 1].job, rows[n - 1].key);
	}
	return API_OK;
}

static const struct api_method methods[] = {
	{"CreateSchedule", API_OPERATOR, 0, create},	    {"UpdateSchedule", API_OPERATOR, 0, update},
	{"GetSchedule", API_VIEWER, API_QUICK, get},	    {"ListSchedules", API_VIEWER, 0, list},
	{"DeleteSchedule", API_OPERATOR, 0, delete},	    {"ListSensors", API_VIEWER, 0, list_sensors},
	{"ListPartitions", API_VIEWER, 0, list_partitions}, {"Tick", API_OPERATOR, 0, tick},
	{"ResetCursor", API_OPERATOR, 0, reset_cursor},	    {0},
};
const struct api_service api_schedule_service = {&ductstream__v1__schedule_service__descriptor, methods};
