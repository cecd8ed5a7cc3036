/* RunService: runs are enqueued, shown, watched, cancelled, retried. */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/run_text.h"
#include "run/here.h"
#include "run/jobs.h"
#include "run/service.h"
#include "state/flows.h"

enum { WATCH_MS = 150, MOST_LINES = 1000 };

static enum api_code not_there(struct api_call *call, const char *id)
{
	return api_fail(call, API_NOT_FOUND, "run \"%.100s\": there is none", id);
}

static enum api_code answer(struct api_call *call, const char *id, Ductstream__V1__Run *ret)
{
	struct state_run run;
	struct duct_error err;
	int rc = *id ? state_run_get(call->api->state, call->arena, id, &run, &err) : 0;
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return *id ? not_there(call, id) : api_fail(call, API_INVALID_ARGUMENT, "id: is missing");
	run_text_show(ret, &run, call->arena);
	return API_OK;
}

/* --- submit --- */

/* Names that stand in paths, lists and logs: no blanks, no control characters, not too long. */
static enum api_code check_name(struct api_call *call, const char *field, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)name[i]) && !((unsigned char)name[i] & 0x80))
			return api_fail(call, API_INVALID_ARGUMENT, "%s: without blanks and control characters", field);
	return n <= RUN_MOST_NAME ? API_OK : api_fail(call, API_INVALID_ARGUMENT, "%s: longer than %d bytes", field, RUN_MOST_NAME);
}

static enum api_code check_names(struct api_call *call, const Ductstream__V1__SubmitRunRequest *r)
{
	const char *const names[][2] = {{"id", r->id},		 {"key", r->key},
					{"queue", r->queue},	 {"parent_id", r->parent_id},
					{"flow_id", r->flow_id}, {"concurrency_key", r->concurrency_key}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		enum api_code code = check_name(call, names[i][0], names[i][1]);
		if (code != API_OK)
			return code;
	}
	return API_OK;
}

/* What a run refers to must be there. */
static enum api_code check_references(struct api_call *call, const Ductstream__V1__SubmitRunRequest *r)
{
	struct state_run parent;
	struct state_flow flow;
	struct duct_error err;
	int rc = *r->parent_id ? state_run_get(call->api->state, call->arena, r->parent_id, &parent, &err) : 1;
	if (rc == 0)
		return api_fail(call, API_FAILED_PRECONDITION, "parent_id: there is no run \"%s\"", r->parent_id);
	if (rc > 0)
		rc = *r->flow_id ? state_flow_get(call->api->state, call->arena, r->flow_id, &flow, &err) : 1;
	if (rc == 0)
		return api_fail(call, API_FAILED_PRECONDITION, "flow_id: there is no flow \"%s\"", r->flow_id);
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

static const char *tags_json(const Ductstream__V1__SubmitRunRequest *r, struct duct_arena *arena, const char **ret_partition)
{
	json_t *tags = json_object();
	for (size_t i = 0; i < r->n_tags; i++) {
		(void)json_object_set_new(tags, r->tags[i]->key, json_string(r->tags[i]->value)); /* UTF-8, as proto3 demands */
		if (strcmp(r->tags[i]->key, "partition") == 0)
			*ret_partition = r->tags[i]->value;
	}
	char *text = json_dumps(tags, JSON_COMPACT);
	const char *ret = duct_arena_strdup(arena, text ? text : "{}");
	free(text);
	json_decref(tags);
	return ret;
}

static enum api_code submit(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__SubmitRunRequest *r = request;
	struct state_actor actor = api_actor(call);
	struct duct_error err;
	struct state_run made,
		run = {
			.id = r->id,
			.kind = r->kind,
			.key = r->key,
			.queue = r->queue,
			.parent_id = r->parent_id,
			.flow_id = r->flow_id,
			.input = r->input_json,
			.concurrency_key = r->concurrency_key,
			.concurrency_limit = r->concurrency_limit,
			.max_attempts = r->max_attempts,
		};
	enum api_code code = run_may_enqueue(call, r->kind);
	if (code == API_OK)
		code = check_names(call, r);
	if (code != API_OK)
		return code;
	if (run_text_take_time(r->due_at, "due_at", &run.due_us, &err) < 0 || run_job_check_settings(&run, &err) < 0 ||
	    run_job_check(r->kind, r->flow_id, r->input_json, &err) < 0)
		return api_failed(call, &err);
	if ((code = check_references(call, r)) != API_OK)
		return code;
	const char *key = run_job_key(r->kind, r->input_json, call->arena);
	if (!run.key || !*run.key)
		run.key = key;
	run_job_limit(&run, key);
	run.tags = tags_json(r, call->arena, &run.partition);
	(void)run_job_partition(r->kind, r->input_json, call->arena, &run.partition); /* or as the tag says */
	if ((code = check_name(call, "tags.partition", run.partition ? run.partition : "")) != API_OK)
		return code;
	if (state_run_submit(call->api->state, call->arena, &run, &actor, &made, &err) < 0)
		return api_failed(call, &err);
	run_service_wake(call->api->runs);
	run_text_show(response, &made, call->arena);
	return API_OK;
}

/* --- look --- */

static enum api_code get(struct api_call *call, const void *request, void *response)
{
	return answer(call, ((const Ductstream__V1__GetRunRequest *)request)->id, response);
}

/* "MICROSECONDS:ID" of the last run of a page. */
static enum api_code take_token(struct api_call *call, const char *token, struct state_run_filter *filter)
{
	int64_t us;
	int n = 0;
	if (!*token)
		return API_OK;
	if (sscanf(token, "%" SCNd64 ":%n", &us, &n) != 1 || !n || us <= 0 || !token[n])
		return api_fail(call, API_INVALID_ARGUMENT, "page_token: not one of ours");
	filter->before_us = us;
	filter->before_id = token + n;
	return API_OK;
}

static const char *any(const char *s)
{
	return *s ? s : NULL;
}

static enum api_code list(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__ListRunsRequest *r = request;
	Ductstream__V1__ListRunsResponse *ret = response;
	struct duct_error err;
	struct state_run_filter filter = {
		.parent_id = any(r->parent_id),
		.key = any(r->key),
		.flow_id = any(r->flow_id),
		.kind = any(r->kind),
		.queue = any(r->queue),
		.schedule = any(r->schedule),
		.state = (enum state_run_state)r->state,
	};
	int size;
	enum api_code code = run_page_size(call, r->page_size, &size);
	if (code == API_OK)
		code = take_token(call, r->page_token, &filter);
	if (code != API_OK)
		return code;
	struct state_run *runs = duct_arena_alloc(call->arena, (size_t)size * sizeof *runs);
	int n = state_run_list(call->api->state, call->arena, &filter, size, runs, &err);
	if (n < 0)
		return api_failed(call, &err);
	ret->runs = run_text_show_all(runs, n, call->arena);
	ret->n_runs = (size_t)n;
	if (n == size) {
		size_t room = strlen(runs[n - 1].id) + 32;
		ret->next_page_token = duct_arena_alloc(call->arena, room);
		(void)snprintf(ret->next_page_token, room, "%" PRId64 ":%s", runs[n - 1].created_us, runs[n - 1].id);
	}
	return API_OK;
}

static enum api_code get_logs(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__GetRunLogsRequest *r = request;
	Ductstream__V1__GetRunLogsResponse *ret = response;
	struct state_run run;
	struct duct_error err;
	int most = r->max_lines == 0 || r->max_lines > MOST_LINES ? MOST_LINES : r->max_lines;
	if (r->max_lines < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "max_lines: not below 0");
	int rc = state_run_get(call->api->state, call->arena, r->id, &run, &err);
	if (rc == 0)
		return not_there(call, r->id);
	struct state_run_line *lines = duct_arena_alloc(call->arena, (size_t)most * sizeof *lines);
	int n = rc < 0 ? rc : state_run_lines(call->api->state, call->arena, r->id, r->after_seq, most, lines, &err);
	if (n < 0)
		return api_failed(call, &err);
	ret->lines = run_text_lines(lines, n, call->arena);
	ret->n_lines = (size_t)n;
	return API_OK;
}

/* --- cancel, retry --- */

static enum api_code cancel(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__CancelRunRequest *r = request;
	struct state_actor actor = api_actor(call);
	struct duct_error err;
	int rc = state_run_cancel(call->api->state, r->id, &actor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return not_there(call, r->id);
	enum api_code code = answer(call, r->id, response);
	const Ductstream__V1__Run *run = response;
	if (code == API_OK && rc == 2 && run->state != DUCTSTREAM__V1__RUN_STATE__RUN_STATE_CANCELLED)
		return api_fail(call, API_FAILED_PRECONDITION, "run \"%s\" is over: it is %s", r->id,
				state_run_state_name((enum state_run_state)run->state));
	return code;
}

static enum api_code retry(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__RetryRunRequest *r = request;
	struct state_actor actor = api_actor(call);
	struct state_run run;
	struct duct_error err;
	int rc = state_run_get(call->api->state, call->arena, r->id, &run, &err);
	if (rc > 0) {
		enum api_code code = run_may_enqueue(call, run.kind);
		if (code != API_OK)
			return code;
		if (strncmp(run.queue, RUN_HERE_QUEUE, strlen(RUN_HERE_QUEUE)) == 0)
			return api_fail(call, API_FAILED_PRECONDITION,
					"run \"%s\" was done by a command, with that command's environment: run the command again",
					r->id);
		rc = state_run_retry(call->api->state, r->id, &actor, &err);
	}
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return not_there(call, r->id);
	if (rc == 2)
		return api_fail(call, API_FAILED_PRECONDITION, "run \"%s\" is %s: only a failed or cancelled one is retried", r->id,
				state_run_state_name(run.state));
	if (rc == 3)
		return api_fail(call, API_FAILED_PRECONDITION, "key: another run with key \"%s\" is queued or running", run.key);
	run_service_wake(call->api->runs);
	return answer(call, r->id, response);
}

/* --- watch --- */

struct watching {
	struct api_call *call;
	const char *id;
	int64_t revision, seq;
	struct duct_error err;
};

/* Sends the run when it changed, with the lines that are new. 1: go on, 0: it is over or the caller is gone, -class. */
static int watch_once(struct watching *w, struct duct_arena *arena)
{
	struct state_run run;
	struct state_run_line lines[MOST_LINES];
	struct state *state = w->call->api->state;
	int rc = state_run_get(state, arena, w->id, &run, &w->err);
	if (rc <= 0)
		return rc < 0 ? rc : duct_fail(&w->err, DUCT_DATA, "run \"%.100s\": it was removed", w->id);
	bool over = run.state > STATE_RUN_RUNNING;
	if (run.revision == w->revision)
		return !over;
	int n = MOST_LINES;
	while (n == MOST_LINES) {
		Ductstream__V1__RunEvent event = DUCTSTREAM__V1__RUN_EVENT__INIT;
		Ductstream__V1__Run shown = DUCTSTREAM__V1__RUN__INIT;
		n = state_run_lines(state, arena, w->id, w->seq, MOST_LINES, lines, &w->err);
		if (n < 0)
			return n;
		run_text_show(&shown, &run, arena);
		event.run = &shown;
		event.lines = run_text_lines(lines, n, arena);
		event.n_lines = (size_t)n;
		w->seq = n ? lines[n - 1].seq : w->seq;
		if (!w->call->send(w->call, &event.base))
			return 0;
	}
	w->revision = run.revision;
	return !over;
}

static enum api_code watch(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__WatchRunRequest *r = request;
	struct watching w = {.call = call, .id = r->id, .revision = -1, .seq = r->after_seq};
	struct duct_arena arena;
	enum api_code code = answer(call, r->id, &(Ductstream__V1__Run)DUCTSTREAM__V1__RUN__INIT);
	(void)response;
	if (code != API_OK)
		return code;
	duct_arena_init(&arena);
	int rc;
	while ((rc = watch_once(&w, &arena)) == 1 && !atomic_load(call->cancelled)) {
		struct pollfd fd = {.fd = call->stop_fd, .events = POLLIN};
		duct_arena_done(&arena);
		(void)poll(&fd, 1, WATCH_MS);
	}
	duct_arena_done(&arena);
	return rc < 0 ? api_failed(call, &w.err) : API_OK;
}

static const struct api_method methods[] = {
	{"SubmitRun", API_OPERATOR, 0, submit},	     {"GetRun", API_VIEWER, API_QUICK, get},
	{"ListRuns", API_VIEWER, 0, list},	     {"CancelRun", API_OPERATOR, 0, cancel},
	{"RetryRun", API_OPERATOR, 0, retry},	     {"GetRunLogs", API_VIEWER, 0, get_logs},
	{"WatchRun", API_VIEWER, API_STREAM, watch}, {0},
};
const struct api_service api_run_service = {&ductstream__v1__run_service__descriptor, methods};
