/*
 * Kind "flow-once": one poll of a flow, {"max_empty_reads": 1, "any_state": false}. It is a worker of its own for the flow, ended by that many
 * empty reads: a crash of it is the run's failure and nobody else's. A flow that is not in running has nothing to do (skipped), unless
 * any_state says that it is to be polled all the same.
 */
#include "run/jobs.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "state/flows.h"

enum { MOST_LEASE_MS = 12000 }; /* a little more than a worker's lease of its flow lasts */

static int check(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"max_empty_reads", "any_state", NULL};
	int64_t reads;
	bool any;
	if (run_input_only(input, names, err) < 0 || run_input_int(input, "max_empty_reads", 1, 1000000, &reads, err) < 0 ||
	    run_input_bool(input, "any_state", &any, err) < 0)
		return -(int)err->class;
	return 0;
}

/* ductstream-worker beside this program. */
static int worker_path(char to[PATH_MAX], struct duct_error *err)
{
	ssize_t n = readlink("/proc/self/exe", to, PATH_MAX - 1);
	char *slash = n > 0 ? memrchr(to, '/', (size_t)n) : NULL;
	static const char name[] = "ductstream-worker";
	if (!slash || slash + 1 + sizeof name > to + PATH_MAX)
		return duct_fail(err, DUCT_CONFIG,
				 "the folder of this program cannot be found, so ductstream-worker cannot either");
	memcpy(slash + 1, name, sizeof name);
	return 0;
}

static int skip(struct run_work *w, const char *why, const char *who)
{
	AUTO_BUF struct duct_buf text = {0}, result = {0};
	duct_buf_printf(&text, "%s%s", why, who);
	duct_buf_puts(&result, "{\"skipped\":");
	duct_buf_json_string(&result, text.data, text.len);
	duct_buf_putc(&result, '}');
	w->skipped = true;
	w->result = duct_arena_strdup(w->arena, result.data);
	return 0;
}

/*
 * 1: nobody runs the flow. 0: somebody does: skipped. A later attempt may meet the lease of an earlier one's worker, which died with it:
 * that is waited for.
 */
static int nobody_else(struct run_work *w, struct duct_error *err)
{
	AUTO_FREE char *lease = duct_xasprintf("flow/%s", w->run->flow_id);
	int64_t until_us = duct_mono_us() + MOST_LEASE_MS * 1000;
	for (;;) {
		struct state_lease now;
		int rc = state_lease_get(w->state, w->arena, lease, &now, err);
		if (rc <= 0 || !now.held)
			return rc < 0 ? rc : 1;
		if (w->run->attempt == 1 || duct_mono_us() > until_us)
			return skip(w, "the flow is run by ", now.holder);
		struct pollfd fd = {.fd = w->stop_fd, .events = POLLIN};
		if (poll(&fd, 1, 250) > 0)
			return duct_fail(err, DUCT_CANCELLED, "asked to end");
	}
}

/* 1: poll it. 0: skipped: it is not running, or somebody else runs it. */
static int wanted(struct run_work *w, bool any_state, struct duct_error *err)
{
	struct state_flow flow;
	int rc = state_flow_get(w->state, w->arena, w->run->flow_id, &flow, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return duct_fail(err, DUCT_CONFIG, "flow_id: there is no flow \"%s\"", w->run->flow_id);
	if (!any_state && flow.state != STATE_FLOW_RUNNING)
		return skip(w, "the flow is ", state_flow_state_name(flow.state));
	return nobody_else(w, err);
}

static int outcome(struct run_work *w, const struct run_child *child, struct duct_error *err)
{
	const char *why = child->last_error ? child->last_error : "it said nothing";
	if (child->signal)
		return duct_fail(err, DUCT_RETRY, "ductstream-worker ended by signal %d (%s)", child->signal,
				 strsignal(child->signal));
	for (int class = DUCT_FATAL; class <= DUCT_RETRY; class ++)
		if (child->exit_code == duct_class_exit_code((enum duct_class) class))
			return duct_fail(err, (enum duct_class) class, "%.900s", why);
	if (child->exit_code)
		return duct_fail(err, DUCT_RETRY, "ductstream-worker exited with %d: %.800s", child->exit_code, why);
	w->result = child->result ? child->result : "{}";
	return 0;
}

static int work(struct run_work *w, struct duct_error *err)
{
	char path[PATH_MAX] = "", reads_text[24];
	int64_t reads = 1;
	bool any_state = false;
	if (run_input_int(w->input, "max_empty_reads", 1, 1000000, &reads, err) < 0 ||
	    run_input_bool(w->input, "any_state", &any_state, err) < 0 || worker_path(path, err) < 0)
		return -(int)err->class;
	int rc = wanted(w, any_state, err);
	if (rc <= 0)
		return rc;
	(void)snprintf(reads_text, sizeof reads_text, "%lld", (long long)reads);
	char *argv[] = {path, (char *)"-flow-id", (char *)w->run->flow_id, (char *)"-max-empty-reads", reads_text, NULL};
	struct run_child child = {.argv = argv, .envp = run_child_environment(w, NULL)};
	if (run_child_run(w, &child, err) < 0)
		return -(int)err->class;
	return outcome(w, &child, err);
}

const struct run_job run_job_flow_once = {
	.kind = "flow-once",
	.summary = "polls a flow until it has nothing new",
	.needs_flow = true,
	.check = check,
	.work = work,
};
