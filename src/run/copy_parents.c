/*
 * Kinds that leave a Delta table behind, and have it copied: "data-modeling-run" and "external-data-job" run a program, {"argv": [...],
 * "timeout_seconds": 600}, as the kind "command" does, under its rules; when it ends well, a run of "ducklake-copy.data-modeling" or
 * "ducklake-copy.data-imports" begins as its child, with the rest of the input. What becomes of that run is no matter of its parent.
 */
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "run/jobs.h"

static const char *const of_command[] = {"argv", "timeout_seconds"};

/* The input's two parts, for the caller to drop. */
static json_t *command_part(const json_t *input)
{
	json_t *part = json_object();
	for (size_t i = 0; i < DUCT_LEN(of_command); i++)
		if (json_object_get(input, of_command[i]))
			json_object_set(part, of_command[i], json_object_get(input, of_command[i]));
	return part;
}

static json_t *copy_part(const json_t *input)
{
	json_t *part = json_copy((json_t *)(uintptr_t)input);
	for (size_t i = 0; i < DUCT_LEN(of_command); i++)
		json_object_del(part, of_command[i]);
	return part;
}

static int check_both(const struct run_job *copy, const json_t *input, struct duct_error *err)
{
	json_t *first = command_part(input), *second = copy_part(input);
	int rc = run_job_command.check(first, err);
	rc = rc ? rc : copy->check(second, err);
	json_decref(first);
	json_decref(second);
	return rc;
}

/* The id is made of the parent's: another attempt of it starts no second copy. */
static int submit(struct run_work *w, const struct run_job *copy, struct state_run *ret, struct duct_error *err)
{
	json_t *part = copy_part(w->input);
	AUTO_FREE char *input = json_dumps(part, JSON_COMPACT), *id = duct_xasprintf("copy-%s", w->run->id);
	json_decref(part);
	struct state_run run = {
		.id = id,
		.kind = copy->kind,
		.key = run_job_key(copy->kind, input, w->arena),
		.queue = w->run->queue,
		.parent_id = w->run->id,
		.input = input,
	};
	int rc = state_run_submit(w->state, w->arena, &run, NULL, ret, err);
	return rc < 0 ? rc : strcmp(ret->id, id) == 0;
}

static void start_copy(struct run_work *w, const struct run_job *copy)
{
	struct state_run made;
	struct duct_error err;
	AUTO_BUF struct duct_buf result = {0};
	int rc = submit(w, copy, &made, &err);
	if (rc < 0) {
		run_work_log(w, "warn", "the copy into the lake could not be started: %s", err.message);
		return;
	}
	if (rc == 0)
		run_work_log(w, "warn", "a copy of the same tables is under way: run %s; no other one is started", made.id);
	else
		run_work_log(w, "info", "the copy into the lake is run %s", made.id);
	duct_buf_puts(&result, "{\"copy_run_id\":");
	duct_buf_json_string(&result, made.id, strlen(made.id));
	duct_buf_printf(&result, ",\"command\":%s}", w->result ? w->result : "{}");
	w->result = duct_arena_strdup(w->arena, result.data);
}

static int work_both(const struct run_job *copy, struct run_work *w, struct duct_error *err)
{
	const json_t *whole = w->input;
	json_t *part = command_part(whole);
	w->input = part;
	int rc = run_job_command.work(w, err);
	w->input = whole;
	json_decref(part);
	if (rc == 0)
		start_copy(w, copy);
	return rc;
}

static int check_modeling(const json_t *input, struct duct_error *err)
{
	return check_both(&run_job_copy_modeling, input, err);
}

static int check_imports(const json_t *input, struct duct_error *err)
{
	return check_both(&run_job_copy_imports, input, err);
}

static int work_modeling(struct run_work *w, struct duct_error *err)
{
	return work_both(&run_job_copy_modeling, w, err);
}

static int work_imports(struct run_work *w, struct duct_error *err)
{
	return work_both(&run_job_copy_imports, w, err);
}

const struct run_job run_job_modeling_run = {
	.kind = "data-modeling-run",
	.summary = "runs a program that leaves a Delta table of a saved query, then copies that",
	.admin = true,
	.check = check_modeling,
	.work = work_modeling,
};
const struct run_job run_job_external_data = {
	.kind = "external-data-job",
	.summary = "runs a program that leaves a Delta table of imported data, then copies that",
	.admin = true,
	.check = check_imports,
	.work = work_imports,
};
