/*
 * Kind "command": a program of the machine, {"argv": ["/usr/bin/rsync", ...], "timeout_seconds": 600}. An API that runs programs is as good as a
 * shell, so it is off unless DUCTSTREAM_RUN_COMMANDS is true where it is enqueued and where it runs, and only admins enqueue it. The
 * program sees its run as DUCTSTREAM_RUN_ID, _KIND, _FENCE and _ATTEMPT; of our environment it has what DUCTSTREAM_RUN_COMMAND_ENV names beyond a
 * harmless few, because what it prints can be read by every viewer.
 */
#include "run/jobs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "options/text.h"

static int check(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"argv", "timeout_seconds", NULL};
	const char *on = getenv("DUCTSTREAM_RUN_COMMANDS");
	bool allowed = false;
	size_t n;
	int64_t timeout_s;
	if (!on || !duct_parse_bool(on, &allowed) || !allowed)
		return duct_fail(err, DUCT_CONFIG,
				 "kind: runs of kind \"command\" are switched off: set DUCTSTREAM_RUN_COMMANDS=true on the "
				 "server and on the workers that may run programs");
	if (run_input_only(input, names, err) < 0 || run_input_texts(input, "argv", &n, err) < 0 ||
	    run_input_int(input, "timeout_seconds", 0, 30 * 86400, &timeout_s, err) < 0)
		return -(int)err->class;
	if (*json_string_value(json_array_get(json_object_get(input, "argv"), 0)) != '/')
		return duct_fail(err, DUCT_CONFIG, "input_json.argv[0]: the program's path from the root on is needed");
	return 0;
}

static char **environment(struct run_work *work)
{
	static const char *const always[] = {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"};
	const char *more = getenv("DUCTSTREAM_RUN_COMMAND_ENV");
	const char *names[DUCT_LEN(always) + 64] = {0};
	size_t n = 0;
	for (; n < DUCT_LEN(always); n++)
		names[n] = always[n];
	AUTO_FREE char *list = duct_xstrdup(more ? more : "");
	char *rest = NULL;
	for (char *name = strtok_r(list, ", ", &rest); name && n + 1 < DUCT_LEN(names); name = strtok_r(NULL, ", ", &rest))
		names[n++] = name;
	return run_child_environment(work, names);
}

static int work(struct run_work *w, struct duct_error *err)
{
	const json_t *list = json_object_get(w->input, "argv");
	size_t n = json_array_size(list);
	int64_t timeout_s = 0;
	if (run_input_int(w->input, "timeout_seconds", 0, INT32_MAX, &timeout_s, err) < 0)
		return -(int)err->class;
	char **argv = duct_arena_zalloc(w->arena, (n + 1) * sizeof *argv);
	for (size_t i = 0; i < n; i++)
		argv[i] = duct_arena_strdup(w->arena, json_string_value(json_array_get(list, i)));
	struct run_child child = {.argv = argv, .envp = environment(w), .timeout_ms = timeout_s * 1000};
	if (run_child_run(w, &child, err) < 0)
		return -(int)err->class;
	if (child.signal)
		return duct_fail(err, DUCT_RETRY, "%s ended by signal %d (%s)", argv[0], child.signal, strsignal(child.signal));
	if (child.exit_code)
		return duct_fail(err, DUCT_RETRY, "%s exited with %d%s%.300s", argv[0], child.exit_code,
				 child.last_error ? ": " : "", child.last_error ? child.last_error : "");
	w->result = child.result ? child.result : "{\"exit_code\":0}";
	return 0;
}

const struct run_job run_job_command = {
	.kind = "command",
	.summary = "runs a program (off unless DUCTSTREAM_RUN_COMMANDS is true)",
	.admin = true,
	.check = check,
	.work = work,
};
