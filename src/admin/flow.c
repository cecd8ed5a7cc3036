/* Commands on flows that the server has. */
#include <ductstream/v1/flow.pb-c.h>
#include <string.h>

#include "admin/admin.h"
#include "base/clock.h"
#include "options/text.h"

#define SERVICE &ductstream__v1__flow_service__descriptor

static const struct admin_column columns[] = {
	{"ID", "id"}, {"NAME", "name"}, {"STATE", "state"}, {"SOURCE", "source.type"}, {"DESTINATIONS", "destinations.name"}, {0}};
static const struct admin_column one_columns[] = {{"id", "id"},
						  {"name", "name"},
						  {"state", "state"},
						  {"source", "source.type"},
						  {"options", "source.options"},
						  {"destinations", "destinations.name"},
						  {"types", "destinations.type"},
						  {"options", "destinations.options"},
						  {"wire format", "wireFormat"},
						  {"parallelism", "parallelism"},
						  {"config", "config"},
						  {0}};
static const struct admin_column state_columns[] = {{"id", "id"}, {"name", "name"}, {"state", "state"}, {0}};
static const struct admin_column once_columns[] = {{"dispatched", "dispatched"}, {0}};
static const struct admin_column deleted_columns[] = {{"deleted", "deleted"}, {0}};
static const struct admin_column cleaned_columns[] = {{"cleaned", "cleaned"}, {0}};
static const struct admin_view list_view = {"flows", true, "no flows", columns};
static const struct admin_view flow_view = {NULL, false, NULL, one_columns};
const struct admin_view admin_flow_state_view = {NULL, false, NULL, state_columns};
static const struct admin_view once_view = {NULL, false, NULL, once_columns};
static const struct admin_view deleted_view = {NULL, false, NULL, deleted_columns};
static const struct admin_view cleaned_view = {NULL, false, NULL, cleaned_columns};

static const char *const states[] = {"created", "running", "paused", "stopping", "failed", "stopped", NULL};

/* The flag's state; NULL with an error when there is no such state. "" when it is not given. */
static const char *state_wanted(const struct admin *admin, struct duct_error *err)
{
	const char *state = admin_value(admin, "state");
	for (size_t i = 0; state && states[i]; i++)
		if (strcmp(state, states[i]) == 0)
			return state;
	if (!state)
		return "";
	const char *near = duct_nearest(state, states);
	(void)duct_fail(err, DUCT_CONFIG,
			"flag \"--state\": \"%.40s\" is none of created, running, paused, stopping, failed, stopped%s%s%s", state,
			near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	return NULL;
}

static bool is_in_state(const json_t *flow, const char *state)
{
	AUTO_BUF struct duct_buf now = {0};
	admin_put_path(&now, flow, "state");
	return now.data && strcmp(now.data, state) == 0;
}

/* The service gives all; those in another state are left out here. */
static int list(struct admin *admin, struct duct_error *err)
{
	const char *state = state_wanted(admin, err);
	json_t *answer = NULL, *flow;
	if (!state)
		return -(int)err->class;
	int rc = admin_fetch(admin, &answer, err);
	if (rc)
		return rc;
	json_t *all = json_object_get(answer, "flows"), *kept = json_array();
	size_t i;
	json_array_foreach(all, i, flow) if (!*state || is_in_state(flow, state)) json_array_append(kept, flow);
	json_object_set_new(answer, "flows", kept);
	rc = admin_show(&list_view, answer, err);
	json_decref(answer);
	return rc;
}

static int duration_of(const struct admin *admin, const char *flag, int64_t *ret, struct duct_error *err)
{
	if (duct_parse_duration_ms(admin_value(admin, flag), ret) && *ret > 0)
		return 0;
	return duct_fail(err, DUCT_CONFIG, "flag \"--%s\": \"%.40s\" is not a duration such as 30s or 5m", flag,
			 admin_value(admin, flag));
}

static int wait_for(struct admin *admin, const char *state, int64_t timeout_ms, int64_t interval_ms, struct duct_error *err)
{
	const char *id = admin_value(admin, "flow-id");
	int64_t end_us = duct_mono_us() + timeout_ms * 1000;
	for (;;) {
		json_t *flow = NULL;
		int rc = admin_flow_call(admin, "GetFlow", id, &flow, err);
		bool there = !rc && is_in_state(flow, state), failed = !rc && is_in_state(flow, "failed");
		int64_t left_ms = (end_us - duct_mono_us()) / 1000;
		if (!rc && there)
			rc = admin_show(&admin_flow_state_view, flow, err);
		else if (!rc && failed)
			rc = duct_fail(err, DUCT_CONFIG, "flow \"%.100s\" has failed: it will not be %s by itself", id, state);
		else if (!rc && left_ms <= 0)
			rc = duct_fail(err, DUCT_RETRY, "flow \"%.100s\" is not %s after %s", id, state,
				       admin_value(admin, "timeout"));
		json_decref(flow);
		if (rc || there)
			return rc;
		rc = admin_pause(admin, left_ms < interval_ms ? left_ms : interval_ms, err);
		if (rc)
			return rc;
	}
}

static int wait(struct admin *admin, struct duct_error *err)
{
	int64_t timeout_ms, interval_ms;
	const char *state = state_wanted(admin, err);
	int rc = state ? duration_of(admin, "timeout", &timeout_ms, err) : -(int)err->class;
	rc = rc ? rc : duration_of(admin, "interval", &interval_ms, err);
	return rc ? rc : wait_for(admin, state, timeout_ms, interval_ms, err);
}

#define FLOW \
	{ \
		"flow-id", "flow_id", "ID", "the flow", NULL, true \
	}
static const struct admin_flag id_flags[] = {FLOW, {0}};
static const struct admin_flag list_flags[] = {
	{"state", NULL, "STATE", "only those in it: created, running, paused, ...", NULL, false},
	{"page-size", "page_size", "N", "one page of so many", NULL, false},
	{"page-token", "page_token", "TOKEN", "the page after another one", NULL, false},
	{0},
};
static const struct admin_flag wait_flags[] = {
	FLOW,
	{"state", NULL, "STATE", "the state to wait for", "running", false},
	{"timeout", NULL, "T", "how long", "60s", false},
	{"interval", NULL, "T", "how often it is asked for", "2s", false},
	{0},
};
static const struct admin_flag cleanup_flags[] = {
	FLOW,
	{"drop-slot", "drop_slot", NULL, "the replication slot", "true", false},
	{"drop-publication", "drop_publication", NULL, "the publication", "false", false},
	{"drop-source-state", "drop_source_state", NULL, "its row in the source's source_state", "true", false},
	{0},
};

#define CALL(name, flags, method, view) static const struct admin_command name = {flags, SERVICE, method, view, false, NULL}
CALL(start_command, id_flags, "StartFlow", &admin_flow_state_view);
CALL(once_command, id_flags, "RunFlowOnce", &once_view);
CALL(stop_command, id_flags, "StopFlow", &admin_flow_state_view);
CALL(pause_command, id_flags, "PauseFlow", &admin_flow_state_view);
CALL(resume_command, id_flags, "ResumeFlow", &admin_flow_state_view);
CALL(get_command, id_flags, "GetFlow", &flow_view);
CALL(delete_command, id_flags, "DeleteFlow", &deleted_view);
CALL(cleanup_command, cleanup_flags, "CleanupFlow", &cleaned_view);
static const struct admin_command list_command = {list_flags, SERVICE, "ListFlows", &list_view, true, list};
static const struct admin_command wait_command = {wait_flags, SERVICE, "GetFlow", NULL, false, wait};

const struct cli_command *const admin_flow_commands[] = {
	ADMIN_COMMAND("flow list", " [--state STATE] [--page-size N]", "flows and their states",
		      "Lists flows. Without --page-size and --page-token: all of them.", &list_command),
	ADMIN_COMMAND("flow get", " --flow-id ID", "one of them", "Shows a flow. Secrets are shown as ***.", &get_command),
	ADMIN_COMMAND("flow start", " --flow-id ID", "let it run",
		      "Sets a flow running. Who runs it is DUCTSTREAM_DISPATCH of the server: with none\n"
		      "that is `ductstream-worker -flow-id ID`, started by you.",
		      &start_command),
	ADMIN_COMMAND("flow stop", " --flow-id ID", "end it",
		      "Ends a flow: what was received is committed first. `flow resume` goes on where\n"
		      "it was.",
		      &stop_command),
	ADMIN_COMMAND("flow pause", " --flow-id ID", "let it rest", "Pauses a running flow: position and slot stay.",
		      &pause_command),
	ADMIN_COMMAND("flow resume", " --flow-id ID", "let it go on",
		      "Sets a paused, stopped or failed flow running. Of one that runs: nothing\n"
		      "happens.",
		      &resume_command),
	ADMIN_COMMAND("flow run-once", " --flow-id ID", "run it until it is caught up",
		      "Has a running flow run once, until it has caught up. Needs a server that runs\n"
		      "flows (DUCTSTREAM_DISPATCH=local or dbos).",
		      &once_command),
	ADMIN_COMMAND("flow wait", " --flow-id ID [--state STATE] [--timeout T]", "wait for a state",
		      "Waits until a flow is in a state. Ends with 4 when it is not in time, with 2\n"
		      "when it has failed meanwhile.",
		      &wait_command),
	ADMIN_COMMAND("flow delete", " --flow-id ID", "forget it",
		      "Deletes a flow that does not run. What it made at its source stays: `flow\n"
		      "cleanup` first drops that.",
		      &delete_command),
	ADMIN_COMMAND("flow cleanup", " --flow-id ID", "drop what it made at the source",
		      "Drops slot, publication and state that a flow made at its source. The flow must\n"
		      "not run.",
		      &cleanup_command),
	NULL,
};
