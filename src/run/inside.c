/* Both sides of a job in a child process: see inside.h. */
#include "run/inside.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum { TELL_MS = 200 };

/* --- the child --- */

static pthread_mutex_t told = PTHREAD_MUTEX_INITIALIZER; /* lines are whole */
static int64_t told_us;

/* A reader that went away ends us by other means. */
static void say(struct duct_buf *line)
{
	duct_buf_putc(line, '\n');
	for (size_t at = 0; at < line->len;) {
		ssize_t n = write(STDOUT_FILENO, line->data + at, line->len - at);
		if (n < 0 && errno != EINTR)
			return;
		at += n > 0 ? (size_t)n : 0;
	}
}

static void say_json(json_t *value)
{
	AUTO_BUF struct duct_buf line = {0};
	AUTO_FREE char *text = json_dumps(value, JSON_COMPACT);
	duct_buf_puts(&line, text ? text : "{}");
	say(&line);
	json_decref(value);
}

void run_inside_log(const char *level, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	AUTO_FREE char *clean = run_clean_text(text, strlen(text));
	pthread_mutex_lock(&told);
	say_json(json_pack("{s:{s:s,s:s}}", "log", "level", level, "text", clean));
	pthread_mutex_unlock(&told);
}

void run_inside_progress(const struct state_progress *progress, const json_t *checkpoint)
{
	int64_t now = duct_mono_us();
	pthread_mutex_lock(&told);
	if (checkpoint || now - told_us >= TELL_MS * 1000 || progress->done == progress->total) {
		told_us = now;
		json_t *line = json_pack("{s:{s:I,s:I,s:s*,s:s*}}", "progress", "done", (json_int_t)progress->done, "total",
					 (json_int_t)progress->total, "unit", progress->unit, "step", progress->step);
		if (checkpoint)
			json_object_set(line, "checkpoint", (json_t *)(uintptr_t)checkpoint);
		say_json(line);
	}
	pthread_mutex_unlock(&told);
}

int run_inside_pause(const struct run_inside *inside, int64_t ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = inside->ctx->stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, (int)ms);
	return duct_ctx_stopped(inside->ctx) ? duct_fail(err, DUCT_CANCELLED, "asked to end") : 0;
}

static int read_input(json_t **ret, struct duct_error *err)
{
	json_error_t why;
	json_t *input = json_loadfd(STDIN_FILENO, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &why);
	if (!json_is_object(input)) {
		json_decref(input);
		return duct_fail(err, DUCT_CONFIG, "standard input: a JSON object is expected: %.200s",
				 input ? "not an object" : why.text);
	}
	*ret = input;
	return 0;
}

static int64_t number_from_env(const char *name)
{
	const char *text = getenv(name);
	return text ? strtoll(text, NULL, 10) : 0;
}

/* The last line: the result, with what went wrong or why there was nothing to do. */
static void say_end(struct run_inside *inside, int rc, const struct duct_error *err)
{
	json_t *result = inside->result ? inside->result : json_object();
	if (rc < 0) {
		AUTO_FREE char *clean = run_clean_text(err->message, strlen(err->message));
		json_object_set_new(result, "error",
				    json_pack("{s:s,s:s}", "class", duct_class_name(err->class), "message", clean));
	} else if (inside->skipped && !json_object_get(result, "skipped")) {
		json_object_set_new(result, "skipped", json_string("there was nothing to do"));
	}
	say_json(result);
	inside->result = NULL;
}

int run_inside_main(const char *kind, const struct duct_ctx *ctx, struct duct_error *err)
{
	const struct run_job *job = run_job_find(kind);
	const char *id = getenv("DUCTSTREAM_RUN_ID"), *left = getenv("DUCTSTREAM_RUN_CHECKPOINT");
	json_t *input = NULL, *checkpoint = left ? json_loads(left, 0, NULL) : NULL;
	struct duct_arena arena;
	if (!job || !job->inside)
		return duct_fail(err, DUCT_CONFIG, "job \"%.60s\": there is none that has a process of its own", kind);
	int rc = read_input(&input, err);
	if (rc < 0)
		return rc;
	duct_arena_init(&arena);
	struct run_inside inside = {
		.input = input,
		.checkpoint = checkpoint,
		.ctx = ctx,
		.arena = &arena,
		.run_id = id ? id : "",
		.fence = number_from_env("DUCTSTREAM_RUN_FENCE"),
		.attempt = number_from_env("DUCTSTREAM_RUN_ATTEMPT"),
	};
	rc = job->check(input, err);
	rc = rc < 0 ? rc : job->inside(&inside, err);
	say_end(&inside, rc, err);
	duct_arena_done(&arena);
	json_decref(checkpoint);
	json_decref(input);
	return rc < 0 ? duct_class_exit_code(err->class) : 0;
}

/* --- the parent --- */

int run_work_inside(struct run_work *work, struct duct_error *err)
{
	char path[PATH_MAX] = "";
	if (run_program_path(path, sizeof path, "ductstream", err) < 0)
		return -(int)err->class;
	char *argv[] = {path, (char *)"job", (char *)(uintptr_t)work->run->kind, NULL};
	struct run_child child = {.argv = argv, .envp = run_child_environment(work, NULL), .input = work->run->input, .own = true};
	if (run_child_run(work, &child, err) < 0)
		return -(int)err->class;
	json_t *result = child.result ? json_loads(child.result, 0, NULL) : NULL;
	const char *said = json_string_value(json_object_get(json_object_get(result, "error"), "message"));
	int rc = run_child_outcome(&child, "the job's process", said, err);
	work->result = child.result ? child.result : "{}";
	work->skipped = rc == 0 && json_object_get(result, "skipped");
	json_decref(result);
	return rc;
}
