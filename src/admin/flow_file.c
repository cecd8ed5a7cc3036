/* Commands on files that describe flows. */
#include <ductstream/v1/flow.pb-c.h>
#include <string.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__flow_service__descriptor

/* The file's request, its flow with the id of --flow-id. NULL: error. */
static json_t *read_request(struct admin *admin, struct duct_error *err)
{
	json_t *request = admin_read_flow(admin_value(admin, "file"), admin_is(admin, "expand-env"), err);
	json_t *flow = request ? json_object_get(request, "flow") : NULL;
	const char *id = admin_value(admin, "flow-id");
	if (request && !json_is_object(flow)) {
		(void)duct_fail(err, DUCT_CONFIG, "%s: \"flow\" must be a map", admin_value(admin, "file"));
		json_decref(request);
		return NULL;
	}
	if (request && id)
		json_object_set_new(flow, "id", json_string(id));
	return request;
}

static int create(struct admin *admin, struct duct_error *err)
{
	json_t *request = read_request(admin, err), *flow = NULL;
	if (!request)
		return -(int)err->class;
	if (admin_given(admin, "start")) {
		json_object_del(request, "startImmediately");
		json_object_set_new(request, "start_immediately", json_boolean(admin_is(admin, "start")));
	}
	int rc = admin_call(admin, SERVICE, "CreateFlow", request, &flow, err);
	rc = rc ? rc : admin_show(&admin_flow_state_view, flow, err);
	json_decref(flow);
	return rc;
}

/* The flow of the file alone, which must say which flow it is. NULL: error. */
static json_t *read_known_flow(struct admin *admin, struct duct_error *err)
{
	json_t *request = read_request(admin, err);
	json_t *flow = request ? json_incref(json_object_get(request, "flow")) : NULL;
	json_decref(request);
	const char *id = json_string_value(json_object_get(flow, "id"));
	if (!flow || (id && *id))
		return flow;
	(void)duct_fail(err, DUCT_CONFIG, "%s does not say which flow it is: add --flow-id", admin_value(admin, "file"));
	json_decref(flow);
	return NULL;
}

static int call_with_flow(struct admin *admin, const char *method, json_t *flow, json_t **ret, struct duct_error *err)
{
	json_t *request = json_object();
	json_object_set(request, "flow", flow);
	return admin_call(admin, SERVICE, method, request, ret, err);
}

int admin_pause_flow(struct admin *admin, const char *id, bool for_a_moment, bool *ret_was, struct duct_error *err)
{
	json_t *flow = NULL;
	*ret_was = false;
	int rc = admin_flow_call(admin, "GetFlow", id, &flow, err);
	AUTO_BUF struct duct_buf state = {0};
	admin_put_path(&state, flow, "state");
	json_decref(flow);
	if (rc || !state.data || strcmp(state.data, "running") != 0)
		return rc;
	json_t *request = json_object();
	json_object_set_new(request, "flow_id", json_string(id));
	json_object_set_new(request, "for_a_moment", json_boolean(for_a_moment));
	flow = NULL;
	rc = admin_call(admin, &ductstream__v1__flow_service__descriptor, "PauseFlow", request, &flow, err);
	json_decref(flow);
	*ret_was = !rc;
	return rc;
}

int admin_resume_flow(struct admin *admin, const char *id, int rc, struct duct_error *err)
{
	struct duct_error second;
	json_t *flow = NULL;
	int failed = admin_flow_call(admin, "ResumeFlow", id, &flow, rc ? &second : err);
	json_decref(flow);
	return rc ? rc : failed;
}

static int update(struct admin *admin, struct duct_error *err)
{
	json_t *flow = read_known_flow(admin, err), *updated = NULL;
	if (!flow)
		return -(int)err->class;
	const char *id = json_string_value(json_object_get(flow, "id"));
	bool was_running = false;
	int rc = admin_is(admin, "pause") ? admin_pause_flow(admin, id, admin_is(admin, "resume"), &was_running, err) : 0;
	bool paused = !rc;
	rc = rc ? rc : call_with_flow(admin, "UpdateFlow", flow, &updated, err);
	/* A flow that could not be updated goes on as it was; one that rested before is not started by a failure. */
	if (paused && admin_is(admin, "resume") && (!rc || was_running))
		rc = admin_resume_flow(admin, id, rc, err);
	json_decref(updated);
	updated = NULL;
	rc = rc ? rc : admin_flow_call(admin, "GetFlow", id, &updated, err);
	rc = rc ? rc : admin_show(&admin_flow_state_view, updated, err);
	json_decref(updated);
	json_decref(flow);
	return rc;
}

static int reconfigure(struct admin *admin, struct duct_error *err)
{
	json_t *flow = read_known_flow(admin, err), *answer = NULL;
	if (!flow)
		return -(int)err->class;
	json_t *request = json_object();
	json_object_set_new(request, "flow", flow);
	json_object_set_new(request, "pause_first", json_boolean(admin_is(admin, "pause")));
	json_object_set_new(request, "resume_after", json_boolean(admin_is(admin, "resume")));
	if (admin_given(admin, "sync-publication"))
		json_object_set_new(request, "sync_publication", json_boolean(admin_is(admin, "sync-publication")));
	int rc = admin_call(admin, SERVICE, "ReconfigureFlow", request, &answer, err);
	rc = rc ? rc : admin_show(&admin_flow_state_view, answer, err);
	json_decref(answer);
	return rc;
}

/* ---- what would be different */

/* "source.options.slot" -> text, for each leaf. Names of either spelling are one. */
static void flatten(json_t *to, const char *path, const json_t *value)
{
	const char *key;
	json_t *one;
	size_t i;
	if (json_is_object(value)) {
		json_object_foreach((json_t *)(uintptr_t)value, key, one)
		{
			AUTO_FREE char *inner = duct_xasprintf("%s%s%s", path, *path ? "." : "", key);
			flatten(to, inner, one);
		}
	} else if (json_is_array(value)) {
		json_array_foreach((json_t *)(uintptr_t)value, i, one)
		{
			AUTO_FREE char *inner = duct_xasprintf("%s[%zu]", path, i);
			flatten(to, inner, one);
		}
	} else {
		AUTO_BUF struct duct_buf text = {0};
		admin_put_path(&text, value, "");
		if (text.len && strcmp(text.data, "0") != 0)
			json_object_set_new(to, path, json_string(text.data));
	}
}

static void put_change(json_t *changes, const char *what, const char *path, const char *before, const char *after)
{
	json_t *change = json_object();
	json_object_set_new(change, "change", json_string(what));
	json_object_set_new(change, "path", json_string(path));
	json_object_set_new(change, "before", json_string(before));
	json_object_set_new(change, "after", json_string(after));
	json_array_append_new(changes, change);
}

/* The server shows a secret as ***, or a DSN without its password: whether it is the same cannot be seen. */
static bool is_masked(const char *shown)
{
	return strstr(shown, "***") != NULL;
}

static json_t *compare(json_t *before, json_t *after)
{
	json_t *changes = json_array(), *value;
	const char *path;
	json_object_foreach(after, path, value)
	{
		const char *was = json_string_value(json_object_get(before, path)), *is = json_string_value(value);
		if (!was)
			put_change(changes, "add", path, "", is_masked(is) ? "***" : is);
		else if (is_masked(was))
			put_change(changes, "secret", path, was, "***");
		else if (strcmp(was, is) != 0)
			put_change(changes, "change", path, was, is);
	}
	json_object_foreach(before, path, value)
	{
		if (!json_object_get(after, path) && strcmp(path, "state") != 0)
			put_change(changes, "remove", path, json_string_value(value), "");
	}
	return changes;
}

static const struct admin_column plan_columns[] = {
	{"CHANGE", "change"}, {"WHAT", "path"}, {"NOW", "before"}, {"THEN", "after"}, {0}};
static const struct admin_view plan_view = {"changes", true, "nothing would change", plan_columns};

static int plan(struct admin *admin, struct duct_error *err)
{
	json_t *flow = read_known_flow(admin, err), *now = NULL, *normal = NULL;
	if (!flow)
		return -(int)err->class;
	int rc = admin_flow_call(admin, "GetFlow", json_string_value(json_object_get(flow, "id")), &now, err);
	rc = rc ? rc : admin_normalise(admin, &ductstream__v1__flow__descriptor, flow, &normal, err);
	if (!rc) {
		json_t *before = json_object(), *after = json_object(), *answer = json_object();
		flatten(before, "", now);
		flatten(after, "", normal);
		json_object_set_new(answer, "changes", compare(before, after));
		rc = admin_show(&plan_view, answer, err);
		json_decref(answer);
		json_decref(before);
		json_decref(after);
	}
	json_decref(normal);
	json_decref(now);
	json_decref(flow);
	return rc;
}

/* ---- without a server */

static int validate(struct admin *admin, struct duct_error *err)
{
	const char *name;
	int rc = admin_check_file(admin, admin_value(admin, "file"), &name, err);
	return rc ? rc : admin_say(err, "flow \"%s\": valid", name);
}

/* Options that are secret by their table lose their value. */
static void mask_options(json_t *endpoint)
{
	const char *type = json_string_value(json_object_get(endpoint, "type"));
	json_t *options = json_object_get(endpoint, "options"), *value;
	const char *key;
	void *next;
	if (!type || !json_is_object(options))
		return;
	json_object_foreach_safe(options, next, key,
				 value) if (admin_option_is_secret(type, key) && !strstr(json_string_value(value), "${"))
		json_object_set_new(options, key, json_string("***"));
}

static int dry_run(struct admin *admin, struct duct_error *err)
{
	json_t *request = read_request(admin, err), *normal = NULL, *destination;
	size_t i;
	if (!request)
		return -(int)err->class;
	int rc = admin_normalise(admin, &ductstream__v1__create_flow_request__descriptor, request, &normal, err);
	if (!rc) {
		json_t *flow = json_object_get(normal, "flow");
		mask_options(json_object_get(flow, "source"));
		json_array_foreach(json_object_get(flow, "destinations"), i, destination) mask_options(destination);
		rc = admin_put_json(normal, err);
	}
	json_decref(normal);
	json_decref(request);
	return rc;
}

#define FILE_ \
	{ \
		"file", NULL, "FILE", "flow file, or request as JSON; - reads standard input", NULL, true \
	}
#define FLOW \
	{ \
		"flow-id", NULL, "ID", "the flow, when the file does not say it", NULL, false \
	}
#define EXPAND \
	{ \
		"expand-env", NULL, NULL, "put the values of ${NAME} in here and now", "false", false \
	}
static const struct admin_flag create_flags[] = {FILE_,
						 {"flow-id", NULL, "ID", "its id, default a new one", NULL, false},
						 {"start", NULL, NULL, "set it running", "false", false},
						 EXPAND,
						 {0}};
static const struct admin_flag update_flags[] = {FILE_,
						 FLOW,
						 {"pause", NULL, NULL, "pause it first", "false", false},
						 {"resume", NULL, NULL, "let it go on afterwards", "false", false},
						 EXPAND,
						 {0}};
static const struct admin_flag reconfigure_flags[] = {FILE_,
						      FLOW,
						      {"pause", NULL, NULL, "pause it first", "true", false},
						      {"resume", NULL, NULL, "let it go on afterwards", "true", false},
						      {"sync-publication", NULL, NULL, "bring the publication in line", NULL,
						       false},
						      EXPAND,
						      {0}};
static const struct admin_flag plan_flags[] = {FILE_, FLOW, EXPAND, {0}};
static const struct admin_flag file_flags[] = {FILE_, FLOW, EXPAND, {0}};
static const struct admin_flag validate_flags[] = {FILE_, {0}};

static const struct admin_command create_command = {create_flags, SERVICE, NULL, NULL, false, create};
static const struct admin_command update_command = {update_flags, SERVICE, NULL, NULL, false, update};
static const struct admin_command reconfigure_command = {reconfigure_flags, SERVICE, NULL, NULL, false, reconfigure};
static const struct admin_command plan_command = {plan_flags, SERVICE, NULL, NULL, false, plan};
static const struct admin_command dry_run_command = {file_flags, SERVICE, NULL, NULL, false, dry_run};
static const struct admin_command validate_command = {validate_flags, SERVICE, NULL, NULL, false, validate};

const struct cli_command *const admin_flow_file_commands[] = {
	ADMIN_COMMAND("flow create", " --file FILE [--start]", "make one from a file",
		      "Creates a flow. The file is a flow file (YAML or JSON, docs/flow-files.md) or a\n"
		      "CreateFlowRequest in JSON. ${NAME} stays as it is: whoever runs the flow puts\n"
		      "in its own environment.",
		      &create_command),
	ADMIN_COMMAND("flow update", " --file FILE [--flow-id ID]", "replace its definition",
		      "Replaces a flow's definition. State, position and slot stay.", &update_command),
	ADMIN_COMMAND("flow reconfigure", " --file FILE [--flow-id ID]", "pause, replace, go on",
		      "Pauses a flow, replaces its definition and lets it go on, in one call.", &reconfigure_command),
	ADMIN_COMMAND("flow plan", " --file FILE [--flow-id ID]", "what `flow update` would change",
		      "Compares a file with the flow that the server has. Secrets are not shown by the\n"
		      "server: whether they differ cannot be said.",
		      &plan_command),
	ADMIN_COMMAND("flow validate", " --file FILE", "check a file, without a server",
		      "Checks a flow file: names, connectors, options, rules between them. All findings\n"
		      "are shown. Connects nowhere.",
		      &validate_command),
	ADMIN_COMMAND("flow dry-run", " --file FILE", "show what `flow create` would send",
		      "Prints the request that `flow create` would send, secrets as ***.", &dry_run_command),
	NULL,
};
