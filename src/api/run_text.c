/* Runs and schedules of the state as messages of the API. */
#include "api/run_text.h"

#include <jansson.h>
#include <string.h>

#include "run/jobs.h"

Google__Protobuf__Timestamp *run_text_time(int64_t us, struct duct_arena *arena)
{
	if (!us)
		return NULL;
	Google__Protobuf__Timestamp *t = duct_arena_alloc(arena, sizeof *t);
	google__protobuf__timestamp__init(t);
	int64_t rest = us % 1000000;
	rest += rest < 0 ? 1000000 : 0;
	t->seconds = (us - rest) / 1000000;
	t->nanos = (int32_t)rest * 1000;
	return t;
}

int run_text_take_time(const Google__Protobuf__Timestamp *time, const char *field, int64_t *ret_us, struct duct_error *err)
{
	*ret_us = 0;
	if (!time)
		return 0;
	if (time->seconds < -62135596800 || time->seconds > 253402300799 || time->nanos < 0 || time->nanos > 999999999)
		return duct_fail(err, DUCT_CONFIG, "%s: not a moment of the years 1 to 9999", field);
	*ret_us = time->seconds * 1000000 + time->nanos / 1000;
	return 0;
}

/* Nothing where nothing was reported. */
static void show_progress(Ductstream__V1__Run *ret, const struct state_progress *progress, struct duct_arena *arena)
{
	if (!progress->done && !progress->total && !progress->unit && !progress->step)
		return;
	ret->progress = duct_arena_alloc(arena, sizeof *ret->progress);
	ductstream__v1__run_progress__init(ret->progress);
	ret->progress->done = progress->done;
	ret->progress->total = progress->total;
	ret->progress->unit = run_string(progress->unit);
	ret->progress->step = run_string(progress->step);
}

static void show_tags(Ductstream__V1__Run *ret, const char *text, struct duct_arena *arena)
{
	const char *key;
	json_t *value, *tags = json_loads(text ? text : "{}", 0, NULL);
	size_t n = json_object_size(tags);
	ret->tags = duct_arena_alloc(arena, n * sizeof *ret->tags);
	json_object_foreach(tags, key, value)
	{
		Ductstream__V1__Run__TagsEntry *entry = duct_arena_alloc(arena, sizeof *entry);
		ductstream__v1__run__tags_entry__init(entry);
		entry->key = duct_arena_strdup(arena, key);
		entry->value = duct_arena_strdup(arena, json_is_string(value) ? json_string_value(value) : "");
		ret->tags[ret->n_tags++] = entry;
	}
	json_decref(tags);
}

void run_text_show(Ductstream__V1__Run *ret, const struct state_run *run, struct duct_arena *arena)
{
	struct {
		char **to;
		const char *from;
	} texts[] = {
		{&ret->id, run->id},
		{&ret->kind, run->kind},
		{&ret->key, run->key},
		{&ret->queue, run->queue},
		{&ret->parent_id, run->parent_id},
		{&ret->flow_id, run->flow_id},
		{&ret->input_json, run->input},
		{&ret->result_json, run->result},
		{&ret->error, run->error},
		{&ret->worker, run->worker},
		{&ret->schedule, run->schedule},
		{&ret->concurrency_key, run->concurrency_key},
	};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		*texts[i].to = run_string(texts[i].from);
	ret->state = (Ductstream__V1__RunState)run->state;
	ret->attempt = (int32_t)run->attempt;
	ret->max_attempts = (int32_t)run->max_attempts;
	ret->fence = run->fence;
	ret->concurrency_limit = (int32_t)run->concurrency_limit;
	ret->cancel_requested = run->cancel_requested;
	show_progress(ret, &run->progress, arena);
	show_tags(ret, run->tags, arena);
	ret->created_at = run_text_time(run->created_us, arena);
	ret->due_at = run_text_time(run->due_us, arena);
	ret->started_at = run_text_time(run->started_us, arena);
	ret->heartbeat_at = run_text_time(run->heartbeat_us, arena);
	ret->finished_at = run_text_time(run->finished_us, arena);
}

Ductstream__V1__Run **run_text_show_all(const struct state_run *runs, int n, struct duct_arena *arena)
{
	Ductstream__V1__Run **to = duct_arena_alloc(arena, (size_t)n * sizeof *to);
	for (int i = 0; i < n; i++) {
		to[i] = duct_arena_alloc(arena, sizeof **to);
		ductstream__v1__run__init(to[i]);
		run_text_show(to[i], &runs[i], arena);
	}
	return to;
}

Ductstream__V1__RunLogLine **run_text_lines(const struct state_run_line *lines, int n, struct duct_arena *arena)
{
	Ductstream__V1__RunLogLine **to = duct_arena_alloc(arena, (size_t)n * sizeof *to);
	for (int i = 0; i < n; i++) {
		to[i] = duct_arena_alloc(arena, sizeof **to);
		ductstream__v1__run_log_line__init(to[i]);
		to[i]->seq = lines[i].seq;
		to[i]->at = run_text_time(lines[i].at_us, arena);
		to[i]->attempt = (int32_t)lines[i].attempt;
		to[i]->level = run_string(lines[i].level);
		to[i]->text = run_string(lines[i].text);
	}
	return to;
}

void run_text_schedule(Ductstream__V1__Schedule *ret, const struct state_schedule *s, struct duct_arena *arena)
{
	ret->name = run_string(s->name);
	ret->cron = run_string(s->cron);
	ret->timezone = run_string(s->timezone);
	ret->paused = s->paused;
	ret->kind = run_string(s->kind);
	ret->each_running_flow = s->each_running_flow;
	ret->flow_id = run_string(s->flow_id);
	ret->input_json = run_string(s->input);
	ret->queue = run_string(s->queue);
	ret->max_attempts = (int32_t)s->max_attempts;
	ret->concurrency_key = run_string(s->concurrency_key);
	ret->concurrency_limit = (int32_t)s->concurrency_limit;
	ret->next_at = s->paused || s->next_us == INT64_MAX ? NULL : run_text_time(s->next_us, arena);
	ret->last_at = run_text_time(s->last_us, arena);
	ret->last_enqueued = s->last_enqueued;
}

enum api_code run_page_size(struct api_call *call, int32_t asked, int *ret)
{
	if (asked < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "page_size: not below 0");
	*ret = asked == 0 ? 100 : asked > 1000 ? 1000 : asked;
	return API_OK;
}

enum api_code run_may_enqueue(struct api_call *call, const char *kind)
{
	const struct run_job *job = run_job_find(kind ? kind : "");
	if (job && job->admin && call->who->role < API_ADMIN)
		return api_fail(call, API_PERMISSION_DENIED, "kind: only an admin may enqueue runs of kind \"%s\"", kind);
	return API_OK;
}
