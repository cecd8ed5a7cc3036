#include <ductstream/v1/run.pb-c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin.h"
#include "cli/here.h"

#define SERVICE &ductstream__v1__run_service__descriptor

static const struct admin_column columns[] = {{"ID", "id"},
					      {"KIND", "kind"},
					      {"STATE", "state"},
					      {"FLOW", "flowId"},
					      {"ATTEMPT", "attempt"},
					      {"QUEUE", "queue"},
					      {"ROWS", "resultJson.rows"},
					      {"CREATED", "createdAt"},
					      {"FINISHED", "finishedAt"},
					      {0}};
static const struct admin_column one_columns[] = {
	{"id", "id"},
	{"kind", "kind"},
	{"state", "state"},
	{"key", "key"},
	{"queue", "queue"},
	{"flow", "flowId"},
	{"parent", "parentId"},
	{"schedule", "schedule"},
	{"attempt", "attempt"},
	{"of", "maxAttempts"},
	{"worker", "worker"},
	{"progress", "progress.done"},
	{"of", "progress.total"},
	{"unit", "progress.unit"},
	{"step", "progress.step"},
	{"created", "createdAt"},
	{"due", "dueAt"},
	{"started", "startedAt"},
	{"finished", "finishedAt"},
	{"input", "inputJson"},
	{"reads", "resultJson.inputs.name"},
	{"writes", "resultJson.outputs.name"},
	{"rows", "resultJson.rows"},
	{"bytes", "resultJson.bytes"},
	{"files", "resultJson.files"},
	{"snapshot", "resultJson.snapshot_id"},
	{"result", "resultJson"},
	{"error", "error"},
	{0},
};
static const struct admin_view list_view = {"runs", true, "no runs", columns};
const struct admin_view admin_run_view = {NULL, false, NULL, one_columns};

static void put_lines(struct duct_buf *to, const json_t *lines)
{
	json_t *line;
	size_t i;
	json_array_foreach((json_t *)(uintptr_t)lines, i, line)
	{
		admin_put_path(to, line, "at");
		duct_buf_putc(to, ' ');
		admin_put_path(to, line, "level");
		duct_buf_putc(to, ' ');
		admin_put_path(to, line, "text");
		duct_buf_putc(to, '\n');
	}
}

static int logs(struct admin *admin, struct duct_error *err)
{
	json_t *answer = NULL;
	AUTO_BUF struct duct_buf to = {0};
	int rc = admin_fetch(admin, &answer, err);
	put_lines(&to, json_object_get(answer, "lines"));
	if (!rc)
		rc = cli_json ? admin_put_json(answer, err) : cli_print(&to, err);
	json_decref(answer);
	return rc;
}

struct watching {
	char state[64];
	bool terminal, drawn; /* a bar is the line's end */
};

static int64_t number_of(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key); /* a text, as in all JSON of protobuf, or a number */
	return json_is_string(value) ? strtoll(json_string_value(value), NULL, 10) : json_integer_value(value);
}

static void put_progress(struct duct_buf *to, struct watching *w, const json_t *progress)
{
	const struct state_progress p = {
		.done = number_of(progress, "done"),
		.total = number_of(progress, "total"),
		.unit = json_string_value(json_object_get(progress, "unit")),
		.step = json_string_value(json_object_get(progress, "step")),
	};
	if (!p.done && !p.total && !(p.step && *p.step))
		return;
	if (!w->drawn)
		duct_buf_puts(to, ": ");
	cli_put_progress(to, &p, w->drawn);
}

static int show_event(void *arg, const json_t *event, struct duct_error *err)
{
	struct watching *w = arg;
	const json_t *run = json_object_get(event, "run");
	AUTO_BUF struct duct_buf state = {0}, line = {0};
	admin_put_path(&state, run, "state");
	snprintf(w->state, sizeof w->state, "%s", state.data ? state.data : "");
	if (cli_json)
		return admin_put_json(event, err);
	if (w->drawn)
		duct_buf_puts(&line, "\r\033[K");
	put_lines(&line, json_object_get(event, "lines"));
	w->drawn = w->terminal && strcmp(w->state, "running") == 0;
	if (!w->drawn)
		duct_buf_puts(&line, w->state);
	put_progress(&line, w, json_object_get(run, "progress"));
	if (strcmp(w->state, "failed") == 0) {
		duct_buf_puts(&line, ": ");
		admin_put_path(&line, run, "error");
	}
	if (!w->drawn)
		duct_buf_putc(&line, '\n');
	return cli_print(&line, err);
}

/* Ends as the run does. */
static int watch(struct admin *admin, struct duct_error *err)
{
	struct watching w = {.terminal = isatty(STDOUT_FILENO)};
	json_t *request = admin_request(admin, &ductstream__v1__watch_run_request__descriptor, err);
	int rc = request ? admin_watch(admin, SERVICE, "WatchRun", request, show_event, &w, err) : -(int)err->class;
	if (!rc && strcmp(w.state, "failed") == 0)
		admin->exit_code = duct_class_exit_code(DUCT_DATA);
	if (!rc && strcmp(w.state, "cancelled") == 0)
		admin->exit_code = duct_class_exit_code(DUCT_CANCELLED);
	return rc;
}

#define ID \
	{ \
		"id", "id", "ID", "the run", NULL, true \
	}
static const struct admin_flag id_flags[] = {ID, {0}};
static const struct admin_flag submit_flags[] = {
	{"kind", "kind", "KIND", "what is to be done: flow-once, backfill, ...", NULL, true},
	{"id", "id", "ID", "its id; the same again is the same run", NULL, false},
	{"flow-id", "flow_id", "ID", "the flow it works on", NULL, false},
	{"key", "key", "KEY", "one run with it at a time", NULL, false},
	{"queue", "queue", "NAME", "who takes it", NULL, false},
	{"parent-id", "parent_id", "ID", "the run it belongs to", NULL, false},
	{"input", "input_json", "JSON", "an object", NULL, false},
	{"max-attempts", "max_attempts", "N", "how often it is tried", NULL, false},
	{"concurrency-key", "concurrency_key", "KEY", "runs that share a limit", NULL, false},
	{"concurrency-limit", "concurrency_limit", "N", "the limit", NULL, false},
	{"tags", "tags", "K=V[,K=V...]", "for people", NULL, false},
	{"due-at", "due_at", "TIME", "not before, as 2026-01-01T00:00:00Z", NULL, false},
	{0},
};
static const struct admin_flag list_flags[] = {
	{"state", "state", "STATE", "queued, running, succeeded, failed, ...", NULL, false},
	{"flow-id", "flow_id", "ID", "of this flow", NULL, false},
	{"parent-id", "parent_id", "ID", "of this run", NULL, false},
	{"key", "key", "KEY", "with this key", NULL, false},
	{"kind", "kind", "KIND", "of this kind", NULL, false},
	{"queue", "queue", "NAME", "of this queue", NULL, false},
	{"schedule", "schedule", "NAME", "of this schedule", NULL, false},
	{"page-size", "page_size", "N", "one page of so many", "100", false},
	{"page-token", "page_token", "TOKEN", "the page after another one", NULL, false},
	{0},
};
static const struct admin_flag logs_flags[] = {ID,
					       {"after", "after_seq", "N", "lines after this one", NULL, false},
					       {"max", "max_lines", "N", "so many", NULL, false},
					       {0}};
static const struct admin_flag watch_flags[] = {ID, {"after", "after_seq", "N", "lines after this one", NULL, false}, {0}};

static const struct admin_command submit_command = {submit_flags, SERVICE, "SubmitRun", &admin_run_view, false, NULL};
static const struct admin_command get_command = {id_flags, SERVICE, "GetRun", &admin_run_view, false, NULL};
static const struct admin_command list_command = {list_flags, SERVICE, "ListRuns", &list_view, false, NULL};
static const struct admin_command cancel_command = {id_flags, SERVICE, "CancelRun", &admin_run_view, false, NULL};
static const struct admin_command retry_command = {id_flags, SERVICE, "RetryRun", &admin_run_view, false, NULL};
static const struct admin_command logs_command = {logs_flags, SERVICE, "GetRunLogs", NULL, false, logs};
static const struct admin_command watch_command = {watch_flags, SERVICE, "WatchRun", NULL, false, watch};

const struct cli_command *const admin_run_commands[] = {
	ADMIN_COMMAND("run submit", " --kind KIND ...", "have something done", "Puts a run into its queue.", &submit_command),
	ADMIN_COMMAND("run get", " --id ID", "one of them", "Shows a run.", &get_command),
	ADMIN_COMMAND("run list", " [--state STATE] ...", "runs, newest first", "Lists runs.", &list_command),
	ADMIN_COMMAND("run cancel", " --id ID", "end it", "Cancels a queued run, asks a running one to end.", &cancel_command),
	ADMIN_COMMAND("run retry", " --id ID", "once more", "Puts a failed or cancelled run back into its queue.", &retry_command),
	ADMIN_COMMAND("run logs", " --id ID", "what it said", "Shows the log of a run.", &logs_command),
	ADMIN_COMMAND("run watch", " --id ID", "until it is over",
		      "Shows a run, its progress and its log until it is over. Exit codes: 0 done,\n"
		      "3 failed, 130 cancelled.",
		      &watch_command),
	NULL,
};

#define HERE(name_, arguments, summary_, help_, detail_) \
	&(const struct cli_command) \
	{ \
		.name = name_, .usage = name_ arguments, .summary = summary_, .help = help_ HERE_STATE, .holds_signals = true, \
		.run_with = admin_run_here, .put_flags = admin_put_flags, .detail = detail_ \
	}
#define HERE_STATE "\nThe state is where DUCTSTREAM_POSTGRES_DSN or DUCTSTREAM_STATE_PATH says; no\nserver is needed."

const struct cli_command *const admin_here_commands[] = {
	HERE("runs submit", " KIND [--input JSON] ...", "have something done",
	     "Puts a run into its queue; who takes runs (the server, ductstream-worker -runs)\ndoes it.", &submit_command),
	HERE("runs list", " [--state STATE] ...", "runs, newest first", "Lists runs.", &list_command),
	HERE("runs show", " ID", "one of them", "Shows a run.", &get_command),
	&(const struct cli_command){.name = "runs get",
				    .usage = "runs get ID",
				    .summary = "one of them",
				    .help = "The same as `ductstream runs show`.",
				    .hidden = true,
				    .holds_signals = true,
				    .run_with = admin_run_here,
				    .put_flags = admin_put_flags,
				    .detail = &get_command},
	HERE("runs logs", " ID", "what it said", "Shows the log of a run.", &logs_command),
	HERE("runs watch", " ID", "until it is over",
	     "Shows a run, its progress and its log until it is over. Exit codes: 0 done,\n3 failed, 130 cancelled.",
	     &watch_command),
	HERE("runs cancel", " ID", "end it", "Cancels a queued run, asks a running one to end.", &cancel_command),
	HERE("runs retry", " ID", "once more", "Puts a failed or cancelled run back into its queue.", &retry_command),
	HERE("backfill sensors", "", "what looks for partitions", "Lists sensors with their cursor.", &admin_backfill_sensors),
	HERE("backfill partitions", " [--job JOB] [--state STATE | --calendar] ...", "partitions and their state",
	     "Lists partitions: missing, queued, running, done, failed, quarantined (three\nretries failed, too); with --calendar days, "
	     "also empty ones (done, no rows).",
	     &admin_backfill_partitions),
	HERE("backfill teams", "", "whose days are exported",
	     "Lists the teams: those of the API (ductstream-admin team put), which go first,\nand those of the file.",
	     &admin_backfill_teams),
	HERE("backfill tick", " --sensor NAME", "look now", "Evaluates a sensor now, due or not.", &admin_backfill_tick),
	HERE("backfill reset-cursor", " --sensor NAME [--cursor TEXT]", "look from the beginning",
	     "Sets the cursor of a sensor, which is due at once then.", &admin_backfill_cursor),
	NULL,
};
