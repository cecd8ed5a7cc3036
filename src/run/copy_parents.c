/*
 * Kinds that leave a Delta table behind, and have it copied: "data-modeling-run" and "external-data-job". What is done is a build of SQL models,
 * "model": the input of a run of kind "model", or a program, "argv" and "timeout_seconds" as of kind "command" and under its rules, or both, the models
 * first. When all of it ends well, a run of "ducklake-copy.data-modeling" or "ducklake-copy.data-imports" begins as its child, with the rest of
 * the input. What becomes of that run is no matter of its parent.
 */
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "run/inside.h"

static const char *const of_command[] = {"argv", "timeout_seconds"}, *const of_parent[] = {"argv", "timeout_seconds", "model"};

/* The input's parts, for the caller to drop. */
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
	for (size_t i = 0; i < DUCT_LEN(of_parent); i++)
		json_object_del(part, of_parent[i]);
	return part;
}

static int check_model(const json_t *model, struct duct_error *err)
{
	if (!json_is_object(model))
		return duct_fail(err, DUCT_CONFIG, "input_json.model: the input of a run of kind \"model\" is expected: an object");
	return run_job_model.check(model, err) < 0 ? duct_wrap(err, "input_json.model") : 0;
}

static int check_both(const struct run_job *copy, const json_t *input, struct duct_error *err)
{
	const json_t *model = json_object_get(input, "model");
	json_t *first = command_part(input), *second = copy_part(input);
	int rc = model ? check_model(model, err) : 0;
	if (rc == 0 && !model && json_object_size(first) == 0)
		rc = duct_fail(err, DUCT_CONFIG, "input_json: \"argv\" (a program) or \"model\" (a build of SQL models) is needed");
	rc = rc == 0 && (!model || json_object_size(first)) ? run_job_command.check(first, err) : rc;
	rc = rc ? rc : copy->check(second, err);
	json_decref(first);
	json_decref(second);
	return rc;
}

/* --- the copy --- */

/*
 * A copy that has begun may have pinned the table before its parent changed it, so another one waits behind it, under a key of its own; one that
 * waits will see it all. The id is made of the parent's: another attempt of it starts no second copy. 1: *ret is new, 0: it was there.
 */
static int submit(struct run_work *w, const struct run_job *copy, struct state_run *ret, struct duct_error *err)
{
	enum { LOOKS = 4 };
	json_t *part = copy_part(w->input);
	AUTO_FREE char *input = json_dumps(part, JSON_COMPACT), *id = duct_xasprintf("copy-%s", w->run->id);
	json_decref(part);
	struct state_run run = {
		.id = id,
		.kind = copy->kind,
		.queue = w->run->queue,
		.parent_id = w->run->id,
		.input = input,
	};
	const char *key = run_job_key(copy->kind, input, w->arena);
	AUTO_FREE char *next = key ? duct_xasprintf("%s next", key) : NULL;
	for (int i = 0;; i++) {
		run.key = i % 2 ? next : key;
		run_job_limit(&run, key);
		int rc = state_run_submit(w->state, w->arena, &run, NULL, ret, err);
		if (rc < 0 || strcmp(ret->id, id) == 0 || ret->state != STATE_RUN_RUNNING || i + 1 == LOOKS)
			return rc < 0 ? rc : strcmp(ret->id, id) == 0;
	}
}

static void start_copy(struct run_work *w, const struct run_job *copy, json_t *result)
{
	struct state_run made;
	struct duct_error err;
	int rc = submit(w, copy, &made, &err);
	if (rc < 0) {
		run_work_log(w, "warn", "the copy into the lake could not be started: %s", err.message);
		return;
	}
	if (rc == 0)
		run_work_log(w, "info", "the copy into the lake is run %s, which waits for its turn already", made.id);
	else
		run_work_log(w, "info", "the copy into the lake is run %s", made.id);
	json_object_set_new(result, "copy_run_id", json_string(made.id));
}

/* --- what comes before it --- */

static json_t *result_of(const struct run_work *w)
{
	json_t *result = w->result ? json_loads(w->result, 0, NULL) : NULL;
	return result ? result : json_object();
}

/* The result is that of the build, with what was done more beside it. */
static int build_models(struct run_work *w, json_t **io_result, struct duct_error *err)
{
	const json_t *model = json_object_get(w->input, "model");
	if (!model)
		return 0;
	AUTO_FREE char *input = json_dumps(model, JSON_COMPACT);
	int rc = run_work_inside_as(w, run_job_model.kind, input, err);
	json_decref(*io_result);
	*io_result = result_of(w);
	w->skipped = false; /* nothing new for the models may be something new for the copy */
	json_object_del(*io_result, "skipped");
	return rc;
}

static int run_program(struct run_work *w, json_t *result, struct duct_error *err)
{
	const json_t *whole = w->input;
	json_t *part = command_part(whole);
	int rc = 0;
	if (json_object_size(part)) {
		w->input = part;
		rc = run_job_command.work(w, err);
		w->input = whole;
		if (rc == 0)
			json_object_set_new(result, "command", result_of(w));
	}
	json_decref(part);
	return rc;
}

static int work_parts(struct run_work *w, void *arg, struct duct_error *err)
{
	const struct run_job *copy = arg;
	json_t *result = json_object();
	int rc = build_models(w, &result, err);
	rc = rc ? rc : run_program(w, result, err);
	if (rc == 0)
		start_copy(w, copy, result);
	AUTO_FREE char *text = json_object_size(result) ? json_dumps(result, JSON_COMPACT) : NULL;
	w->result = text ? duct_arena_strdup(w->arena, text) : NULL;
	json_decref(result);
	return rc;
}

static int work_both(const struct run_job *copy, struct run_work *w, struct duct_error *err)
{
	return run_work_told(w, work_parts, (void *)(uintptr_t)copy, err);
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
	.summary = "does what leaves a Delta table of a saved query (models, a program), then copies that",
	.admin = true,
	.check = check_modeling,
	.work = work_modeling,
};
const struct run_job run_job_external_data = {
	.kind = "external-data-job",
	.summary = "does what leaves a Delta table of imported data (models, a program), then copies that",
	.admin = true,
	.check = check_imports,
	.work = work_imports,
};
