/* FlowService: flows are made, changed and shown. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/dispatch.h"
#include "api/flow_internal.h"
#include "api/flow_shown.h"
#include "base/buf.h"
#include "base/hex.h"
#include "base/uuid.h"
#include "flow/flow_env.h"
#include "wire/wire.h"

enum { PAGE_DEFAULT = 100, PAGE_MOST = 1000, NAME_MOST = 200 };

/* --- shared */

enum api_code api_flow_get(struct api_call *call, const char *id, struct state_flow *ret)
{
	struct duct_error err;
	if (!*id)
		return api_fail(call, API_INVALID_ARGUMENT, "flow_id: is missing");
	if (!flow_name_valid(id))
		return api_fail(call, API_INVALID_ARGUMENT, "flow_id: \"%.100s\" is no id of a flow", id);
	int rc = state_flow_get(call->api->state, call->arena, id, ret, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"%s\": there is none", id);
	return rc < 0 ? api_failed(call, &err) : API_OK;
}

static enum api_code open_stored(struct api_call *call, struct flow_stored *stored)
{
	struct duct_error err;
	stored->definition = definition_parse(stored->flow.definition, &err);
	if (stored->definition && !definition_reveal(stored->definition, stored->flow.id, call->api->state, &err))
		return API_OK;
	flow_stored_done(stored);
	return api_unusable(call, &err); /* the key is not there, or another one */
}

enum api_code flow_find(struct api_call *call, const char *id, struct flow_stored *ret)
{
	*ret = (struct flow_stored){0};
	enum api_code code = api_flow_get(call, id, &ret->flow);
	return code ? code : open_stored(call, ret);
}

void flow_stored_done(struct flow_stored *stored)
{
	json_decref(stored->definition);
	stored->definition = NULL;
}

static const char *from_environment(const char *name)
{
	return getenv(name);
}

const char *flow_source_option(struct api_call *call, const struct flow_stored *stored, const char *name)
{
	const char *text = json_string_value(json_object_get(definition_source_options(stored->definition), name));
	const char *expanded;
	struct duct_error err;
	if (!text)
		return "";
	return flow_env_expand(&expanded, call->arena, text, from_environment, &err) ? "" : expanded;
}

static void show(struct api_call *call, struct flow_stored *stored, Ductstream__V1__Flow *ret)
{
	definition_hide(stored->definition);
	flow_text_show(ret, &stored->flow, stored->definition, call->arena);
	flow_shown_put(call->api->shown, &stored->flow, ret);
}

enum api_code flow_answer(struct api_call *call, const char *id, Ductstream__V1__Flow *ret)
{
	AUTO_STORED struct flow_stored stored = {0};
	enum api_code code = api_flow_get(call, id, &stored.flow);
	if (code || flow_shown_get(call->api->shown, call->arena, &stored.flow, ret))
		return code;
	code = open_stored(call, &stored);
	if (code == API_OK)
		show(call, &stored, ret);
	return code;
}

/* Of a definition that cannot be opened (another key) the rest is shown: a list does not fail for one flow. */
static void show_what_can_be(struct api_call *call, const struct state_flow *flow, Ductstream__V1__Flow *ret)
{
	AUTO_STORED struct flow_stored stored = {.flow = *flow};
	if (flow_shown_get(call->api->shown, call->arena, flow, ret))
		return;
	if (open_stored(call, &stored) == API_OK) {
		show(call, &stored, ret);
		return;
	}
	AUTO_JSON json_t *nothing = json_object();
	flow_text_show(ret, flow, nothing, call->arena);
}

enum api_code flow_answer_state(struct api_call *call, const char *id, Ductstream__V1__Flow *ret)
{
	struct state_flow flow;
	enum api_code code = api_flow_get(call, id, &flow);
	if (code == API_OK)
		show_what_can_be(call, &flow, ret);
	return code;
}

void flow_changed(struct api_call *call)
{
	dispatch_wake(atomic_load(&call->api->local));
}

/* --- findings */

/* All of them in one message, as far as it holds them. */
static enum api_code refuse(struct api_call *call, const struct duct_findings *findings)
{
	AUTO_BUF struct duct_buf text = {0};
	size_t shown = 0;
	for (; shown < findings->n; shown++) {
		const char *message = findings->list[shown].message;
		if (shown && text.len + strlen(message) + 40 > sizeof call->message)
			break;
		duct_buf_printf(&text, "%s%s", shown ? "; " : "", message);
	}
	if (shown < findings->n)
		duct_buf_printf(&text, "; and %zu more", findings->n - shown);
	return api_fail(call, API_INVALID_ARGUMENT, "%s", text.data);
}

static void check_name(const Ductstream__V1__Flow *flow, struct duct_findings *findings)
{
	bool control = false;
	for (const char *p = flow->name; *p; p++)
		control |= iscntrl((unsigned char)*p) != 0;
	if (control || strlen(flow->name) > NAME_MOST)
		duct_findings_say(findings, "flow.name: a name has at most %d bytes and no control characters", NAME_MOST);
}

/* A `format` that a connector names, against what flow or service say. */
static void check_own_formats(const struct api *api, const Ductstream__V1__Flow *flow, const json_t *definition,
			      struct duct_findings *findings)
{
	const char *wanted = json_string_value(json_object_get(definition, "wire_format"));
	json_t *destination;
	size_t i;
	json_array_foreach(json_object_get(definition, "destinations"), i, destination)
	{
		const char *own = json_string_value(json_object_get(json_object_get(destination, "options"), "format"));
		const struct wire_choice choice = {.connector = own,
						   .flow = wanted,
						   .service = api->wire_format,
						   .enforce = api->wire_enforce};
		const struct wire_format *ignored;
		struct duct_error err;
		if (own && *own && i < flow->n_destinations && wire_choose(&ignored, &choice, &err) < 0)
			duct_findings_say(findings, "flow.destinations[%zu].options.format: %s", i, err.message);
	}
}

/* What flows of this build cannot have, although they can be named. */
static void check_formats(const Ductstream__V1__Flow *flow, struct duct_findings *findings)
{
	static const char *const missing[] = {
		[DUCTSTREAM__V1__WIRE_FORMAT__WIRE_FORMAT_PARQUET] = "parquet",
		[DUCTSTREAM__V1__WIRE_FORMAT__WIRE_FORMAT_PROTO] = "proto",
		[DUCTSTREAM__V1__WIRE_FORMAT__WIRE_FORMAT_AVRO] = "avro",
	};
	size_t number = (size_t)flow->wire_format;
	if (number < DUCT_LEN(missing) && missing[number])
		duct_findings_say(findings, "flow.wire_format: this build has no encoder for \"%s\": there are arrow and json",
				  missing[number]);
}

/* The flow of a request as a revealed definition; NULL after findings. stored: what it takes the place of, NULL: nothing. */
static json_t *take_definition(const struct api *api, const Ductstream__V1__Flow *flow, const char *id, const json_t *stored,
			       struct duct_findings *findings)
{
	json_t *definition = flow_text_definition(flow, findings);
	check_name(flow, findings);
	check_formats(flow, findings);
	check_own_formats(api, flow, definition, findings);
	definition_keep(definition, stored, findings);
	definition_check(definition, id, findings);
	if (!findings->n)
		return definition;
	json_decref(definition);
	return NULL;
}

/* --- methods */

static enum api_code create(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__CreateFlowRequest *request = data;
	const Ductstream__V1__Flow *flow = request->flow;
	const struct state_actor actor = api_actor(call);
	AUTO_FINDINGS struct duct_findings findings = {0};
	char uuid[DUCT_UUID_LEN];
	struct duct_error err;
	if (!flow)
		return api_fail(call, API_INVALID_ARGUMENT, "flow: is missing");
	const char *id = *flow->id ? flow->id : duct_uuid_v4(uuid);
	bool valid = flow_name_valid(id);
	if (!valid)
		duct_findings_say(
			&findings,
			"flow.id: \"%.100s\" is no valid id: use 1 to 63 letters, digits, \"_\" and \"-\", or leave it out", id);
	if (flow->state != DUCTSTREAM__V1__FLOW_STATE__FLOW_STATE_UNSPECIFIED &&
	    flow->state != DUCTSTREAM__V1__FLOW_STATE__FLOW_STATE_CREATED)
		duct_findings_say(&findings, "flow.state: a flow begins as created; start_immediately starts it");
	AUTO_JSON json_t *definition = take_definition(call->api, flow, valid ? id : "flow", NULL, &findings);
	if (!definition)
		return refuse(call, &findings);
	if (definition_seal(definition, id, call->api->state, &err))
		return api_unusable(call, &err);
	const struct state_flow stored = {
		.id = id,
		.name = *flow->name ? flow->name : id,
		.state = request->start_immediately ? STATE_FLOW_RUNNING : STATE_FLOW_CREATED,
		.reason = "",
		.definition = definition_text(definition, call->arena),
	};
	int rc = state_flow_create(call->api->state, &stored, &actor, &err);
	if (rc == 0)
		return api_fail(call, API_ALREADY_EXISTS, "flow.id: there is a flow \"%s\" already", id);
	if (rc < 0)
		return api_failed(call, &err);
	flow_changed(call);
	return flow_answer(call, id, response);
}

static const char *source_text(const json_t *definition, const char *name)
{
	const char *text = json_string_value(json_object_get(definition_source_options(definition), name));
	return text ? text : "";
}

/* A flow that has begun has a position, which belongs to its slot. */
static enum api_code check_identity(struct api_call *call, const struct flow_stored *before, const json_t *after)
{
	if (before->flow.state == STATE_FLOW_CREATED ||
	    strcmp(source_text(before->definition, "slot"), source_text(after, "slot")) == 0)
		return API_OK;
	return api_fail(
		call, API_FAILED_PRECONDITION,
		"flow.source.options.slot: flow \"%s\" has begun with slot \"%.63s\", which its position belongs to: a flow with another slot "
		"is another flow",
		before->flow.id, source_text(before->definition, "slot"));
}

/* Replaces the definition of a stored flow, as long as nobody else does. */
static enum api_code replace(struct api_call *call, const Ductstream__V1__Flow *flow, struct flow_stored *stored)
{
	const struct state_actor actor = api_actor(call);
	AUTO_FINDINGS struct duct_findings findings = {0};
	struct duct_error err;
	AUTO_JSON json_t *definition = take_definition(call->api, flow, stored->flow.id, stored->definition, &findings);
	if (!definition)
		return refuse(call, &findings);
	enum api_code code = check_identity(call, stored, definition);
	if (code)
		return code;
	struct state_flow next = stored->flow, now;
	if (*flow->name)
		next.name = flow->name;
	/* A sealed text differs each time: a flow that stays the same is not changed, and its worker goes on undisturbed. */
	if (json_equal(definition, stored->definition) && strcmp(next.name, stored->flow.name) == 0)
		return API_OK;
	if (definition_seal(definition, stored->flow.id, call->api->state, &err))
		return api_unusable(call, &err);
	next.definition = definition_text(definition, call->arena);
	int rc = state_flow_update(call->api->state, &next, stored->flow.revision, &actor, &err);
	if (rc == 0)
		return api_fail(call, API_NOT_FOUND, "flow \"%s\": there is none", next.id);
	if (rc > 0)
		return API_OK;
	struct duct_error unused;
	if (err.class == DUCT_RETRY && state_flow_get(call->api->state, call->arena, next.id, &now, &unused) == 1 &&
	    now.revision != stored->flow.revision)
		return api_fail(call, API_ABORTED, "flow \"%s\" was changed by somebody else at the same time: read it again",
				next.id);
	return api_failed(call, &err);
}

static enum api_code find_given(struct api_call *call, const Ductstream__V1__Flow *flow, struct flow_stored *ret)
{
	*ret = (struct flow_stored){0};
	if (!flow)
		return api_fail(call, API_INVALID_ARGUMENT, "flow: is missing");
	if (!*flow->id)
		return api_fail(call, API_INVALID_ARGUMENT, "flow.id: is missing");
	return flow_find(call, flow->id, ret);
}

static enum api_code update(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__UpdateFlowRequest *request = data;
	AUTO_STORED struct flow_stored stored = {0};
	enum api_code code = find_given(call, request->flow, &stored);
	code = code ? code : replace(call, request->flow, &stored);
	if (code)
		return code;
	flow_changed(call);
	return flow_answer(call, request->flow->id, response);
}

static enum api_code sync_source(struct api_call *call, const char *id)
{
	AUTO_SOURCE struct flow_source source = {0};
	const struct flow_source_request request = {.flow_id = id, .dsn = "", .publication = "", .slot = ""};
	Ductstream__V1__SyncPublicationTablesResponse done = DUCTSTREAM__V1__SYNC_PUBLICATION_TABLES_RESPONSE__INIT;
	enum api_code code = flow_source_open(call, &request, &source);
	return code ? code
		    : flow_publication_sync(call, &source, 0, NULL,
					    flow_source_option(call, &source.stored, "sync_publication_mode"), &done);
}

/* Between pause and resume: what fails leaves the flow as it was found, running. */
static enum api_code reconfigure(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ReconfigureFlowRequest *request = data;
	AUTO_FINDINGS struct duct_findings findings = {0};
	AUTO_STORED struct flow_stored stored = {0};
	enum api_code code = find_given(call, request->flow, &stored);
	if (code)
		return code;
	const char *id = request->flow->id;
	/* Or somebody is at it, or was, and has died between pause and resume. */
	bool was_running = stored.flow.state == STATE_FLOW_RUNNING || state_flow_rests_a_moment(&stored.flow);
	bool pause = was_running && (!request->has_pause_first || request->pause_first);
	bool resume = was_running ? !request->has_resume_after || request->resume_after
				  : request->has_resume_after && request->resume_after;
	/* What can be refused is refused before anything stops. */
	AUTO_JSON json_t *tried = take_definition(call->api, request->flow, id, stored.definition, &findings);
	if (!tried)
		return refuse(call, &findings);
	code = check_identity(call, &stored, tried);
	bool paused = false;
	code = code || !pause ? code : flow_pause_and_wait(call, id, resume, &paused);
	code = code ? code : replace(call, request->flow, &stored);
	if (!code && request->has_sync_publication && request->sync_publication)
		code = sync_source(call, id);
	if (code ? paused : resume) {
		char why[sizeof call->message];
		snprintf(why, sizeof why, "%s", call->message);
		enum api_code moved = flow_move(call, id, STATE_FLOW_RUNNING, "resume", response);
		if (!code)
			return moved;
		return api_fail(call, code, "%s", why);
	}
	flow_changed(call);
	return code ? code : flow_answer(call, id, response);
}

static enum api_code get(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__GetFlowRequest *request = data;
	return flow_answer(call, request->flow_id, response);
}

/* A token is the last id of the page before, in hex: it says nothing that the page did not. */
static bool read_token(const char *token, char id[64])
{
	size_t n = strlen(token);
	if (n % 2 || n / 2 > 63)
		return false;
	for (size_t i = 0; i < n; i += 2) {
		int high = duct_hex_digit(token[i]), low = duct_hex_digit(token[i + 1]);
		if (high < 0 || low < 0)
			return false;
		id[i / 2] = (char)(high << 4 | low);
	}
	id[n / 2] = 0;
	return n == 0 || flow_name_valid(id);
}

static char *make_token(struct duct_arena *arena, const char *id)
{
	AUTO_BUF struct duct_buf hex = {0};
	for (; *id; id++)
		duct_buf_printf(&hex, "%02x", (unsigned char)*id);
	return duct_arena_strdup(arena, hex.data);
}

static enum api_code list(struct api_call *call, const void *data, void *response)
{
	const Ductstream__V1__ListFlowsRequest *request = data;
	Ductstream__V1__ListFlowsResponse *to = response;
	char after[64];
	struct duct_error err;
	if (request->page_size < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "page_size: %d is negative", (int)request->page_size);
	if (!read_token(request->page_token, after))
		return api_fail(call, API_INVALID_ARGUMENT, "page_token: is not one that ListFlows gave");
	int most = request->page_size ? request->page_size : PAGE_DEFAULT;
	most = most > PAGE_MOST ? PAGE_MOST : most;
	/* One more than asked for says whether there is another page. */
	struct state_flow *flows = duct_arena_zalloc(call->arena, (size_t)(most + 1) * sizeof *flows);
	int n = state_flow_list(call->api->state, call->arena, after, 0, most + 1, flows, &err);
	if (n < 0)
		return api_failed(call, &err);
	int shown = n > most ? most : n;
	to->flows = duct_arena_zalloc(call->arena, (size_t)(shown + 1) * sizeof *to->flows);
	for (int i = 0; i < shown; i++) {
		to->flows[i] = duct_arena_alloc(call->arena, sizeof **to->flows);
		show_what_can_be(call, &flows[i], to->flows[i]);
	}
	to->n_flows = (size_t)shown;
	if (n > most)
		to->next_page_token = make_token(call->arena, flows[most - 1].id);
	return API_OK;
}

static const struct api_method methods[] = {
	{"CreateFlow", API_ADMIN, 0, create},
	{"UpdateFlow", API_ADMIN, 0, update},
	{"ReconfigureFlow", API_ADMIN, API_WAITS, reconfigure},
	{"StartFlow", API_OPERATOR, 0, flow_start},
	{"RunFlowOnce", API_OPERATOR, 0, flow_run_once},
	{"StopFlow", API_OPERATOR, 0, flow_stop},
	{"PauseFlow", API_OPERATOR, 0, flow_pause},
	{"ResumeFlow", API_OPERATOR, 0, flow_resume},
	{"GetFlow", API_VIEWER, API_QUICK, get},
	{"ListFlows", API_VIEWER, 0, list},
	{"DeleteFlow", API_ADMIN, 0, flow_delete},
	{"CleanupFlow", API_ADMIN, 0, flow_cleanup},
	{"ListReplicationSlots", API_OPERATOR, 0, flow_list_slots},
	{"GetReplicationSlot", API_OPERATOR, 0, flow_get_slot},
	{"DropReplicationSlot", API_ADMIN, 0, flow_drop_slot},
	{"ListPublicationTables", API_OPERATOR, 0, flow_list_publication},
	{"AddPublicationTables", API_ADMIN, 0, flow_add_publication},
	{"DropPublicationTables", API_ADMIN, 0, flow_drop_publication},
	{"SyncPublicationTables", API_ADMIN, 0, flow_sync_publication},
	{"ScrapePublicationTables", API_ADMIN, 0, flow_scrape_publication},
	{0},
};
const struct api_service api_flow_service = {&ductstream__v1__flow_service__descriptor, methods};
