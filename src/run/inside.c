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
#include "run/lineage.h"
#include "run/record.h"

enum { TELL_MS = 200 };

/* --- the child --- */

static pthread_mutex_t told = PTHREAD_MUTEX_INITIALIZER; /* lines are whole */
static int64_t told_us;
static char told_step[64]; /* its beginning */

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
	char *text = NULL;
	va_list args;
	va_start(args, fmt);
	int n = vasprintf(&text, fmt, args);
	va_end(args);
	AUTO_FREE char *clean = run_clean_text(n < 0 ? "" : text, n < 0 ? 0 : (size_t)n);
	free(text);
	pthread_mutex_lock(&told);
	say_json(json_pack("{s:{s:s,s:s}}", "log", "level", level, "text", clean));
	pthread_mutex_unlock(&told);
}

void run_inside_progress(const struct state_progress *progress, const json_t *checkpoint)
{
	const char *step = progress->step ? progress->step : "";
	int64_t now = duct_mono_us();
	pthread_mutex_lock(&told);
	/* A step may be the last thing that is said for long. */
	bool next = strncmp(step, told_step, sizeof told_step - 1) != 0;
	if (checkpoint || next || now - told_us >= TELL_MS * 1000 || progress->done == progress->total) {
		told_us = now;
		(void)snprintf(told_step, sizeof told_step, "%s", step);
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
	const char *id = getenv("DUCTSTREAM_RUN_ID"), *left = getenv("DUCTSTREAM_RUN_CHECKPOINT"),
		   *of = getenv("DUCTSTREAM_RUN_KIND");
	json_t *input = NULL, *checkpoint = left ? json_loads(left, 0, NULL) : NULL;
	struct duct_arena arena;
	if (!job || !job->inside)
		return duct_fail(err, DUCT_CONFIG, "job \"%.60s\": there is none that has a process of its own", kind);
	int rc = read_input(&input, err);
	if (rc < 0)
		return rc;
	duct_arena_init(&arena);
	struct run_inside inside = {
		.kind = kind,
		.input = input,
		.checkpoint = checkpoint,
		.ctx = ctx,
		.arena = &arena,
		.run_id = id ? id : "",
		.run_kind = of ? of : kind,
		.fence = number_from_env("DUCTSTREAM_RUN_FENCE"),
		.attempt = number_from_env("DUCTSTREAM_RUN_ATTEMPT"),
	};
	rc = job->check(input, err);
	rc = rc < 0 ? rc : run_record_open(&inside.record, &inside, err);
	rc = rc < 0 ? rc : job->inside(&inside, err);
	run_record_close(inside.record);
	say_end(&inside, rc, err);
	duct_arena_done(&arena);
	json_decref(checkpoint);
	json_decref(input);
	return rc < 0 ? duct_class_exit_code(err->class) : 0;
}

/* --- the parent --- */

int run_work_inside_as(struct run_work *work, const char *kind, const char *input, struct duct_error *err)
{
	char path[PATH_MAX] = "";
	if (run_program_path(path, sizeof path, "ductstream", err) < 0)
		return -(int)err->class;
	char *argv[] = {path, (char *)"job", (char *)(uintptr_t)kind, NULL};
	struct run_child child = {.argv = argv, .envp = run_child_environment(work, NULL), .input = input, .own = true};
	int ran = run_child_run(work, &child, err);
	work->result = child.result;
	if (ran < 0)
		return ran;
	json_t *result = child.result ? json_loads(child.result, 0, NULL) : NULL;
	const char *said = json_string_value(json_object_get(json_object_get(result, "error"), "message"));
	int rc = run_child_outcome(&child, "the job's process", said, err);
	work->result = child.result ? child.result : "{}";
	work->skipped = rc == 0 && json_object_get(result, "skipped");
	json_decref(result);
	return rc;
}

static void warn(void *arg, const char *text)
{
	run_work_log(arg, "warn", "%s", text);
}

/* The run as a whole; its parts, and what they read and write, are told by the child. A child that crashed tells nothing more. */
static void tell(struct run_work *work, struct run_lineage *lineage, enum run_lineage_type type, const struct duct_error *err)
{
	struct state_run parent = {0};
	struct duct_error ignored;
	const struct state_run *run = work->run;
	if (!lineage ||
	    (run->parent_id && *run->parent_id && state_run_get(work->state, work->arena, run->parent_id, &parent, &ignored) != 1))
		parent.id = NULL;
	run_lineage_send(lineage,
			 &(struct run_lineage_event){.type = type,
						     .job = run->kind,
						     .run_id = run->id,
						     .parent_job = parent.kind,
						     .parent_id = parent.id,
						     .error = err ? err->message : NULL});
}

int run_work_told(struct run_work *work, int (*part)(struct run_work *work, void *arg, struct duct_error *err), void *arg,
		  struct duct_error *err)
{
	struct run_lineage *lineage;
	if (run_lineage_open(&lineage, warn, work, err) < 0)
		return -(int)err->class;
	tell(work, lineage, RUN_LINEAGE_START, NULL);
	int rc = part(work, arg, err);
	tell(work, lineage, run_lineage_end(rc, err), rc < 0 ? err : NULL);
	run_lineage_close(lineage);
	return rc;
}

static int whole(struct run_work *work, void *arg, struct duct_error *err)
{
	(void)arg;
	return run_work_inside_as(work, work->run->kind, work->run->input, err);
}

int run_work_inside(struct run_work *work, struct duct_error *err)
{
	return run_work_told(work, whole, NULL, err);
}
