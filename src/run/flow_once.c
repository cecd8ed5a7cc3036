/*
 * Kinds that are a worker of their own for a flow.
 *
 * "flow-once": one poll of a flow, {"max_empty_reads": 1, "any_state": false}. It is a worker of its own for the flow, ended by that many
 * empty reads: a crash of it is the run's failure and nobody else's. A flow that is not in running has nothing to do (skipped), unless
 * any_state says that it is to be polled all the same.
 *
 * "backfill": tables copied again, {"tables": "a,b", "schemas": "s", "partition_column": "c", "partition_count": 8, "snapshot_workers": 4,
 * "resolve_staging": false}, in whatever state the flow is but failed.
 */
#include "run/jobs.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

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
 * 1: nobody runs the flow. 0: somebody does: skipped. A later attempt (an error is left of the one before) may meet the lease of its
 * worker, which died with it: that is waited for.
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
		if (!w->run->error || duct_mono_us() > until_us)
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

static int run_worker(struct run_work *w, char **argv, struct duct_error *err)
{
	struct run_child child = {.argv = argv, .envp = run_child_environment(w, NULL)};
	if (run_child_run(w, &child, err) < 0 || run_child_outcome(&child, "ductstream-worker", NULL, err) < 0)
		return -(int)err->class;
	w->result = child.result ? child.result : "{}";
	return 0;
}

static int work(struct run_work *w, struct duct_error *err)
{
	char path[PATH_MAX] = "", reads_text[24];
	int64_t reads = 1;
	bool any_state = false;
	if (run_input_int(w->input, "max_empty_reads", 1, 1000000, &reads, err) < 0 ||
	    run_input_bool(w->input, "any_state", &any_state, err) < 0 ||
	    run_program_path(path, sizeof path, "ductstream-worker", err) < 0)
		return -(int)err->class;
	int rc = wanted(w, any_state, err);
	if (rc <= 0)
		return rc;
	(void)snprintf(reads_text, sizeof reads_text, "%lld", (long long)reads);
	char *argv[] = {path, (char *)"-flow-id", (char *)w->run->flow_id, (char *)"-max-empty-reads", reads_text, NULL};
	return run_worker(w, argv, err);
}

const struct run_job run_job_flow_once = {
	.kind = "flow-once",
	.summary = "polls a flow until it has nothing new",
	.needs_flow = true,
	.check = check,
	.work = work,
};

/* Fields of a backfill, and the flags that they are. */
static const struct field {
	const char *name, *flag;
	bool number;
} fields[] = {
	{"tables", "-tables", false},
	{"schemas", "-schemas", false},
	{"partition_column", "-partition-column", false},
	{"partition_count", "-partition-count", true},
	{"snapshot_workers", "-snapshot-workers", true},
};

/* A text that may be missing: NULL. */
static int optional_text(const json_t *input, const char *name, const char **ret, struct duct_error *err)
{
	*ret = NULL;
	return json_object_get(input, name) ? run_input_text(input, name, ret, err) : 0;
}

static int check_backfill(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"tables",	       "schemas", "partition_column", "partition_count", "snapshot_workers",
					    "resolve_staging", NULL};
	bool resolve = false, any = false;
	int rc = run_input_only(input, names, err);
	for (size_t i = 0; i < DUCT_LEN(fields) && rc >= 0; i++) {
		const char *text = NULL;
		int64_t n = 0;
		rc = fields[i].number ? run_input_int(input, fields[i].name, 1, 100000, &n, err)
				      : optional_text(input, fields[i].name, &text, err);
		any |= i < 2 && text && *text;
	}
	rc = rc < 0 ? rc : run_input_bool(input, "resolve_staging", &resolve, err);
	if (rc < 0)
		return -(int)err->class;
	return any || resolve ? 0 : duct_fail(err, DUCT_CONFIG, "input_json: a backfill needs tables, schemas or resolve_staging");
}

static int work_backfill(struct run_work *w, struct duct_error *err)
{
	char path[PATH_MAX] = "";
	char *argv[5 + 2 * DUCT_LEN(fields) + 2] = {path, (char *)"-flow-id", (char *)w->run->flow_id, (char *)"-mode",
						    (char *)"backfill"};
	size_t n = 5;
	bool resolve = false;
	int rc = run_program_path(path, sizeof path, "ductstream-worker", err);
	rc = rc < 0 ? rc : nobody_else(w, err);
	if (rc <= 0)
		return rc;
	for (size_t i = 0; i < DUCT_LEN(fields); i++) {
		const char *text = NULL;
		int64_t number = 0;
		if (fields[i].number ? run_input_int(w->input, fields[i].name, 1, 100000, &number, err) < 0
				     : optional_text(w->input, fields[i].name, &text, err) < 0)
			return -(int)err->class;
		if (number) {
			char digits[24];
			snprintf(digits, sizeof digits, "%lld", (long long)number);
			text = duct_arena_strdup(w->arena, digits);
		}
		if (!text || !*text)
			continue;
		argv[n++] = (char *)fields[i].flag;
		argv[n++] = (char *)text;
	}
	if (run_input_bool(w->input, "resolve_staging", &resolve, err) < 0)
		return -(int)err->class;
	if (resolve)
		argv[n++] = (char *)"-resolve-staging";
	return run_worker(w, argv, err);
}

const struct run_job run_job_backfill = {
	.kind = "backfill",
	.summary = "copies tables of a flow again and joins them with its stream",
	.needs_flow = true,
	.check = check_backfill,
	.work = work_backfill,
};
