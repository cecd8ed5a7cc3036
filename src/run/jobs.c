/* The kinds of runs, and what their jobs share. */
#include "run/jobs.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"

enum { MOST_INPUT = 1 << 20 };

const struct run_job *const run_jobs[] = {
	&run_job_flow_once,
	&run_job_backfill,
	&run_job_sql,
	&run_job_command,
	&run_job_events_export,
	&run_job_persons_export,
	&run_job_copy_modeling,
	&run_job_copy_imports,
	&run_job_modeling_run,
	&run_job_external_data,
	&run_job_ingest,
	&run_job_model,
	NULL,
};

const struct run_job *run_job_find(const char *kind)
{
	for (const struct run_job *const *job = run_jobs; *job; job++)
		if (strcmp((*job)->kind, kind) == 0)
			return *job;
	return NULL;
}

static int unknown_kind(const char *kind, struct duct_error *err)
{
	AUTO_BUF struct duct_buf names = {0};
	for (const struct run_job *const *job = run_jobs; *job; job++)
		duct_buf_printf(&names, "%s%s", names.len ? ", " : "", (*job)->kind);
	return duct_fail(err, DUCT_CONFIG, "kind: \"%.60s\" is none; there are %s", kind, names.data);
}

int run_job_check(const char *kind, const char *flow_id, const char *input_json, struct duct_error *err)
{
	json_error_t why;
	const struct run_job *job = run_job_find(kind ? kind : "");
	if (!job)
		return unknown_kind(kind ? kind : "", err);
	if (job->needs_flow && (!flow_id || !*flow_id))
		return duct_fail(err, DUCT_CONFIG, "flow_id: a run of kind \"%s\" needs one", kind);
	json_t *input = json_loads(input_json && *input_json ? input_json : "{}", JSON_REJECT_DUPLICATES, &why);
	if (!input)
		return duct_fail(err, DUCT_CONFIG, "input_json: line %d: %.200s", why.line, why.text);
	int rc = json_is_object(input) ? job->check(input, err) : duct_fail(err, DUCT_CONFIG, "input_json: not an object");
	json_decref(input);
	return rc;
}

static int check_queue(const char *queue, struct duct_error *err)
{
	for (const char *c = queue; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
			return duct_fail(err, DUCT_CONFIG, "queue: letters, digits, _ . and - only");
	return strlen(queue) <= RUN_MOST_NAME ? 0 : duct_fail(err, DUCT_CONFIG, "queue: longer than %d bytes", RUN_MOST_NAME);
}

int run_job_check_settings(const struct state_run *run, struct duct_error *err)
{
	if (run->queue && check_queue(run->queue, err) < 0)
		return -(int)err->class;
	if (run->max_attempts < 0 || run->max_attempts > 1000)
		return duct_fail(err, DUCT_CONFIG, "max_attempts: from 0 to 1000");
	if (run->concurrency_limit < 0)
		return duct_fail(err, DUCT_CONFIG, "concurrency_limit: not below 0");
	if (run->concurrency_limit && (!run->concurrency_key || !*run->concurrency_key))
		return duct_fail(err, DUCT_CONFIG, "concurrency_key: a limit needs one");
	if (run->concurrency_key && strlen(run->concurrency_key) > RUN_MOST_NAME)
		return duct_fail(err, DUCT_CONFIG, "concurrency_key: longer than %d bytes", RUN_MOST_NAME);
	if (run->input && strlen(run->input) > MOST_INPUT)
		return duct_fail(err, DUCT_CONFIG, "input_json: longer than 1 MiB");
	return 0;
}

const char *run_job_key(const char *kind, const char *input_json, struct duct_arena *arena)
{
	const struct run_job *job = run_job_find(kind);
	json_t *input = job && job->key ? json_loads(input_json && *input_json ? input_json : "{}", 0, NULL) : NULL;
	AUTO_FREE char *key = input ? job->key(input) : NULL;
	json_decref(input);
	return key ? duct_arena_strdup(arena, key) : NULL;
}

bool run_job_partition(const char *kind, const char *input_json, struct duct_arena *arena, const char **ret)
{
	const struct run_job *job = run_job_find(kind);
	json_t *input = job && job->partition ? json_loads(input_json && *input_json ? input_json : "{}", 0, NULL) : NULL;
	const char *found = input ? job->partition(input) : NULL;
	if (input)
		*ret = found ? duct_arena_strdup(arena, found) : NULL;
	json_decref(input);
	return input != NULL;
}

void run_job_limit(struct state_run *run, const char *key)
{
	const struct run_job *job = run_job_find(run->kind);
	if (!job || !job->alone || !key || (run->concurrency_key && *run->concurrency_key))
		return;
	run->concurrency_key = key;
	run->concurrency_limit = 1;
}

/* --- log and progress --- */

char *run_clean_text(const char *data, size_t n)
{
	AUTO_BUF struct duct_buf quoted = {0};
	if (!memchr(data, 0, n) && duct_utf8_valid(data, n))
		return duct_xstrndup(data, n);
	for (size_t i = 0; i < n; i++)
		duct_buf_putc(&quoted, (unsigned char)data[i] < 0x20 || (unsigned char)data[i] > 0x7e ? '?' : data[i]);
	return duct_steal(&quoted.data);
}

void run_work_log(struct run_work *work, const char *level, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	AUTO_FREE char *clean = run_clean_text(text, strlen(text));
	struct state_run_line line = {.level = level, .text = clean};
	struct duct_error ignored;
	int rc = state_run_log(work->state, work->run->id, work->run->fence, &line, 1, &ignored);
	(void)rc; /* see the header */
}

int run_work_report(struct run_work *work, const struct state_progress *progress, const char *checkpoint, struct duct_error *err)
{
	int rc = state_run_report(work->state, work->run->id, work->run->fence, progress, checkpoint, err);
	if (rc == 0)
		return duct_fail(err, DUCT_CANCELLED, "run \"%s\": somebody else has it now", work->run->id);
	return rc < 0 ? rc : 0;
}

/* --- input --- */

int run_input_only(const json_t *input, const char *const *names, struct duct_error *err)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)input, key, value)
	{
		const char *const *name = names;
		while (*name && strcmp(*name, key) != 0)
			name++;
		if (!*name)
			return duct_fail(err, DUCT_CONFIG, "input_json.%.60s: there is no such field", key);
	}
	return 0;
}

int run_input_int(const json_t *input, const char *name, int64_t least, int64_t most, int64_t *io, struct duct_error *err)
{
	const json_t *value = json_object_get(input, name);
	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < least || json_integer_value(value) > most)
		return duct_fail(err, DUCT_CONFIG, "input_json.%s: must be a whole number, %lld to %lld", name, (long long)least,
				 (long long)most);
	*io = json_integer_value(value);
	return 0;
}

int run_input_bool(const json_t *input, const char *name, bool *io, struct duct_error *err)
{
	const json_t *value = json_object_get(input, name);
	if (value && !json_is_boolean(value))
		return duct_fail(err, DUCT_CONFIG, "input_json.%s: must be true or false", name);
	*io = value ? json_is_true(value) : *io;
	return 0;
}

int run_input_text(const json_t *input, const char *name, const char **ret, struct duct_error *err)
{
	const json_t *value = json_object_get(input, name);
	if (!json_is_string(value) || !*json_string_value(value))
		return duct_fail(err, DUCT_CONFIG, "input_json.%s: a text is needed", name);
	*ret = json_string_value(value);
	return 0;
}

int run_input_texts(const json_t *input, const char *name, size_t *ret_n, struct duct_error *err)
{
	const json_t *list = json_object_get(input, name);
	*ret_n = json_is_array(list) ? json_array_size(list) : 0;
	for (size_t i = 0; i < *ret_n; i++)
		if (!json_is_string(json_array_get(list, i)) || !*json_string_value(json_array_get(list, i)))
			return duct_fail(err, DUCT_CONFIG, "input_json.%s[%zu]: a text is needed", name, i);
	return *ret_n ? 0 : duct_fail(err, DUCT_CONFIG, "input_json.%s: a list of texts is needed", name);
}
