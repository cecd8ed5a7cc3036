#include "api/http_routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/json.h"
#include "base/hex.h"
#include "base/utf8.h"

/* The first one that fits: a path with a word behind a colon stands before the same path without. */
const struct http_resource http_resources[] = {
	{"GET", "/v1/flows", "FlowService/ListFlows"},
	{"POST", "/v1/flows", "FlowService/CreateFlow"},
	{"GET", "/v1/flows/{flow_id}", "FlowService/GetFlow"},
	{"PUT", "/v1/flows/{flow.id}", "FlowService/UpdateFlow"},
	{"DELETE", "/v1/flows/{flow_id}", "FlowService/DeleteFlow"},
	{"POST", "/v1/flows/{flow.id}:reconfigure", "FlowService/ReconfigureFlow"},
	{"POST", "/v1/flows/{flow_id}:start", "FlowService/StartFlow"},
	{"POST", "/v1/flows/{flow_id}:run-once", "FlowService/RunFlowOnce"},
	{"POST", "/v1/flows/{flow_id}:stop", "FlowService/StopFlow"},
	{"POST", "/v1/flows/{flow_id}:pause", "FlowService/PauseFlow"},
	{"POST", "/v1/flows/{flow_id}:resume", "FlowService/ResumeFlow"},
	{"POST", "/v1/flows/{flow_id}:cleanup", "FlowService/CleanupFlow"},
	{"GET", "/v1/flows/{flow_id}/slots", "FlowService/ListReplicationSlots"},
	{"GET", "/v1/flows/{flow_id}/slots/{slot}", "FlowService/GetReplicationSlot"},
	{"DELETE", "/v1/flows/{flow_id}/slots/{slot}", "FlowService/DropReplicationSlot"},
	{"GET", "/v1/flows/{flow_id}/publication/tables", "FlowService/ListPublicationTables"},
	{"POST", "/v1/flows/{flow_id}/publication/tables", "FlowService/AddPublicationTables"},
	{"DELETE", "/v1/flows/{flow_id}/publication/tables", "FlowService/DropPublicationTables"},
	{"POST", "/v1/flows/{flow_id}/publication:sync", "FlowService/SyncPublicationTables"},
	{"POST", "/v1/flows/{flow_id}/publication:scrape", "FlowService/ScrapePublicationTables"},
	{"GET", "/v1/ddl", "DDLService/ListDDL"},
	{"GET", "/v1/ddl/pending", "DDLService/ListPendingDDL"},
	{"POST", "/v1/ddl/{id}:approve", "DDLService/ApproveDDL"},
	{"POST", "/v1/ddl/{id}:reject", "DDLService/RejectDDL"},
	{"POST", "/v1/ddl/{id}:mark-applied", "DDLService/MarkDDLApplied"},
	{"GET", "/v1/checkpoints", "CheckpointService/ListCheckpoints"},
	{"GET", "/v1/checkpoints/{flow_id}", "CheckpointService/GetCheckpoint"},
	{"PUT", "/v1/checkpoints/{flow_id}", "CheckpointService/PutCheckpoint"},
	{"POST", "/v1/streams/{stream}:pull", "StreamService/Pull"},
	{"POST", "/v1/streams/{stream}:ack", "StreamService/Ack"},
	{"POST", "/v1/streams/{stream}:nack", "StreamService/Nack"},
	{"POST", "/v1/streams/{stream}:extend", "StreamService/Extend"},
	{"POST", "/v1/streams/{stream}:replay", "StreamService/Replay"},
	{"GET", "/v1/streams/{stream}", "StreamService/GetStream"},
	{"GET", "/v1/streams/{stream}/groups", "StreamService/ListGroups"},
	{"PUT", "/v1/streams/{stream}/groups/{consumer_group}", "StreamService/ConfigureGroup"},
	{"DELETE", "/v1/streams/{stream}/groups/{consumer_group}", "StreamService/DeleteGroup"},
	{"GET", "/v1/streams/{stream}/groups/{consumer_group}/dead-letters", "StreamService/ListDeadLetters"},
	{"POST", "/v1/streams/{stream}/groups/{consumer_group}/dead-letters:redrive", "StreamService/RedriveDeadLetters"},
	{"POST", "/v1/streams/{stream}/groups/{consumer_group}/dead-letters:drop", "StreamService/DropDeadLetters"},
	{"POST", "/v1/ingest/{flow_id}/{destination}:position", "IngestService/GetIngestPosition"},
	{"POST", "/v1/ingest/{flow_id}/{destination}", "IngestService/IngestBatch"},
	{"GET", "/v1/runs", "RunService/ListRuns"},
	{"POST", "/v1/runs", "RunService/SubmitRun"},
	{"GET", "/v1/runs/{id}", "RunService/GetRun"},
	{"POST", "/v1/runs/{id}:cancel", "RunService/CancelRun"},
	{"POST", "/v1/runs/{id}:retry", "RunService/RetryRun"},
	{"GET", "/v1/runs/{id}/logs", "RunService/GetRunLogs"},
	{"GET", "/v1/runs/{id}/watch", "RunService/WatchRun"},
	{"GET", "/v1/schedules", "ScheduleService/ListSchedules"},
	{"POST", "/v1/schedules", "ScheduleService/CreateSchedule"},
	{"GET", "/v1/schedules/{name}", "ScheduleService/GetSchedule"},
	{"PUT", "/v1/schedules/{schedule.name}", "ScheduleService/UpdateSchedule"},
	{"DELETE", "/v1/schedules/{name}", "ScheduleService/DeleteSchedule"},
	{"POST", "/v1/schedules/{name}:tick", "ScheduleService/Tick"},
	{"GET", "/v1/sensors", "ScheduleService/ListSensors"},
	{"POST", "/v1/sensors/{name}:tick", "ScheduleService/Tick"},
	{"POST", "/v1/sensors/{name}:reset-cursor", "ScheduleService/ResetCursor"},
	{"GET", "/v1/partitions", "ScheduleService/ListPartitions"},
	{"GET", "/v1/calendar", "BackfillService/GetCalendar"},
	{"GET", "/v1/teams", "BackfillService/ListTeams"},
	{"GET", "/v1/teams/{team_id}", "BackfillService/GetTeam"},
	{"PUT", "/v1/teams/{team.team_id}", "BackfillService/PutTeam"},
	{"DELETE", "/v1/teams/{team_id}", "BackfillService/DeleteTeam"},
	{0},
};

static const char package[] = "ductstream.v1";

/* ---- which method */

/* The next piece of a path that a pattern has in braces: *name is the field, *value what stands there. False: it does not fit. */
struct walk {
	const char *pattern, *path, *end;
	const char *name, *value;
	size_t name_len, value_len;
};

/* 1: a field, 0: both are at their end, -1: they differ. */
static int walk_next(struct walk *w)
{
	while (*w->pattern && *w->pattern != '{') {
		if (w->path == w->end || *w->path != *w->pattern)
			return -1;
		w->pattern++;
		w->path++;
	}
	if (!*w->pattern)
		return w->path == w->end ? 0 : -1;
	const char *close = strchr(w->pattern, '}');
	w->name = w->pattern + 1;
	w->name_len = (size_t)(close - w->name);
	w->pattern = close + 1;
	/* Up to the next slash, or the end; a word behind a colon is the pattern's and not the value's. */
	const char *slash = memchr(w->path, '/', (size_t)(w->end - w->path)), *until = slash ? slash : w->end;
	size_t word = strcspn(w->pattern, "/"), n = (size_t)(until - w->path);
	if (n <= word || memcmp(until - word, w->pattern, word) != 0)
		return -1;
	w->value = w->path;
	w->value_len = n - word;
	w->path += w->value_len;
	return 1;
}

static bool pattern_fits(const char *pattern, const char *path, size_t n)
{
	struct walk w = {.pattern = pattern, .path = path, .end = path + n};
	int step;
	while ((step = walk_next(&w)) > 0)
		;
	return step == 0;
}

static const struct api_route *find_method(const struct api_routes *routes, const char *method, size_t n)
{
	char path[160];
	int len = snprintf(path, sizeof path, "/%s.%.*s", package, (int)n, method);
	return len > 0 && (size_t)len < sizeof path ? api_routes_find(routes, path, (size_t)len) : NULL;
}

static void add_verb(char allow[64], const char *verb)
{
	if (!strstr(allow, verb))
		snprintf(allow + strlen(allow), 64 - strlen(allow), "%s%s", *allow ? ", " : "", verb);
}

enum http_found http_route_find(const struct api_routes *routes, const char *verb, const char *target, struct http_match *ret,
				char ret_allow[64])
{
	static const char general[] = "/v1/";
	size_t n = strcspn(target, "?");
	struct http_match match = {.path = target, .path_len = n, .query = target[n] ? target + n + 1 : ""};
	bool head = strcmp(verb, "HEAD") == 0;
	const char *wanted = head ? "GET" : verb;
	ret_allow[0] = 0;
	if (n > sizeof general - 1 && memcmp(target, general, sizeof general - 1) == 0)
		match.route = find_method(routes, target + sizeof general - 1, n - (sizeof general - 1));
	if (match.route) {
		add_verb(ret_allow, "POST");
		match.body = true;
		if (strcmp(verb, "POST") == 0) {
			*ret = match;
			return HTTP_FOUND;
		}
		return HTTP_NO_SUCH_VERB;
	}
	for (const struct http_resource *r = http_resources; r->verb; r++) {
		if (!pattern_fits(r->pattern, target, n) || !(match.route = find_method(routes, r->method, strlen(r->method))))
			continue;
		add_verb(ret_allow, r->verb);
		if (strcmp(r->verb, "GET") == 0)
			add_verb(ret_allow, "HEAD");
		if (strcmp(r->verb, wanted) != 0)
			continue;
		match.resource = r;
		match.body = strcmp(r->verb, "POST") == 0 || strcmp(r->verb, "PUT") == 0;
		*ret = match;
		return HTTP_FOUND;
	}
	return *ret_allow ? HTTP_NO_SUCH_VERB : HTTP_NO_SUCH_PATH;
}

/* ---- its request */

/* %41 and, in a query, + for a space. Whatever comes out must be UTF-8 without NUL. */
static int decode(const char *text, size_t n, bool query, struct duct_arena *arena, char **ret, const char *what,
		  struct duct_error *err)
{
	char *out = duct_arena_alloc(arena, n + 1);
	size_t len = 0;
	for (size_t i = 0; i < n; i++) {
		int c = text[i] == '+' && query ? ' ' : (unsigned char)text[i];
		if (text[i] == '%') {
			int high = i + 1 < n ? duct_hex_digit(text[i + 1]) : -1, low = i + 2 < n ? duct_hex_digit(text[i + 2]) : -1;
			if (high < 0 || low < 0)
				return duct_fail(err, DUCT_CONFIG, "%s: a %% is followed by two hex digits", what);
			c = high * 16 + low;
			i += 2;
		}
		if (c == 0)
			return duct_fail(err, DUCT_CONFIG, "%s: it must not hold a NUL", what);
		out[len++] = (char)c;
	}
	out[len] = 0;
	if (!duct_utf8_valid(out, len))
		return duct_fail(err, DUCT_CONFIG, "%s: it is not UTF-8", what);
	*ret = out;
	return 0;
}

/* A value from path or query, in the form that JSON has for the field. */
static json_t *value_for(const ProtobufCFieldDescriptor *field, const char *value)
{
	if (field && field->type == PROTOBUF_C_TYPE_BOOL && (strcmp(value, "true") == 0 || strcmp(value, "false") == 0))
		return json_boolean(*value == 't');
	if (field && field->type == PROTOBUF_C_TYPE_ENUM && *value && strspn(value, "0123456789") == strlen(value) &&
	    strlen(value) < 10)
		return json_integer(atoi(value));
	return json_string(value);
}

/* Does the body say the same as the path? */
static bool is_same(const json_t *there, const char *value)
{
	char text[32];
	if (json_is_string(there))
		return strcmp(json_string_value(there), value) == 0;
	if (!json_is_integer(there))
		return false;
	snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(there));
	return strcmp(text, value) == 0;
}

/* The member of an object with that name in whichever spelling it is there. */
static json_t *get_member(json_t *object, const ProtobufCFieldDescriptor *field, const char *name)
{
	json_t *there = json_object_get(object, name);
	if (there || !field)
		return there;
	struct duct_buf camel = {0};
	api_json_camel(&camel, field->name);
	there = json_object_get(object, camel.data);
	duct_buf_done(&camel);
	return there ? there : json_object_get(object, field->name);
}

/* The object that holds the last word of "flow.id", made where it is missing; *name moves to that word. At a name that no field has it
 * stops: the reader of the whole knows how to say so. NULL: there are no fields in what was named. */
static json_t *get_holder(json_t *root, const ProtobufCMessageDescriptor **d, char **name)
{
	for (char *dot; *d && (dot = strchr(*name, '.')); *name = dot + 1) {
		const ProtobufCFieldDescriptor *field = api_json_field(*d, *name, (size_t)(dot - *name));
		if (!field) {
			*d = NULL;
			return root;
		}
		bool map = api_json_is_map(*d, field);
		if (field->type != PROTOBUF_C_TYPE_MESSAGE || (field->label == PROTOBUF_C_LABEL_REPEATED && !map))
			return NULL;
		*dot = 0;
		json_t *inner = get_member(root, field, *name);
		if (!inner || json_is_null(inner)) {
			inner = json_object();
			json_object_set_new(root, *name, inner);
		}
		if (!json_is_object(inner))
			return NULL;
		root = inner;
		*d = map ? NULL : field->descriptor; /* of a map, all the rest is the key */
	}
	return root;
}

/* path: from the path of the request, where it may say what the body says too. name is written to. */
static int put_field(json_t *root, const ProtobufCMessageDescriptor *d, char *name, const char *value, bool path,
		     struct duct_error *err)
{
	char whole[128];
	snprintf(whole, sizeof whole, "%s", name);
	json_t *holder = get_holder(root, &d, &name);
	if (!holder)
		return duct_fail(err, DUCT_CONFIG, "%s: there are no fields in it", whole);
	const ProtobufCFieldDescriptor *field = d ? api_json_field(d, name, strlen(name)) : NULL;
	json_t *there = get_member(holder, field, name);
	if (there && json_is_null(there))
		there = NULL;
	if (field && field->label == PROTOBUF_C_LABEL_REPEATED && field->type != PROTOBUF_C_TYPE_MESSAGE) {
		if (!there) {
			there = json_array();
			json_object_set_new(holder, name, there);
		}
		json_array_append_new(there, value_for(field, value));
		return 0;
	}
	if (there && path && is_same(there, value))
		return 0;
	if (there)
		return duct_fail(err, DUCT_CONFIG, "%s: %s", whole, path ? "path and body say different things" : "given twice");
	json_object_set_new(holder, name, value_for(field, value));
	return 0;
}

static int put_path(json_t *root, const struct http_match *match, struct duct_arena *arena, struct duct_error *err)
{
	struct walk w = {.pattern = match->resource->pattern, .path = match->path, .end = match->path + match->path_len};
	while (walk_next(&w) > 0) {
		char *name = duct_arena_dup(arena, w.name, w.name_len + 1), *value;
		name[w.name_len] = 0;
		if (decode(w.value, w.value_len, false, arena, &value, name, err) ||
		    put_field(root, match->route->input, name, value, true, err))
			return -err->class;
	}
	return 0;
}

static int put_query(json_t *root, const struct http_match *match, struct duct_arena *arena, struct duct_error *err)
{
	const ProtobufCMessageDescriptor *d = match->route->input;
	for (const char *at = match->query; *at;) {
		size_t n = strcspn(at, "&"), split = 0;
		while (split < n && at[split] != '=')
			split++;
		char *name, *value;
		if (n &&
		    (decode(at, split, true, arena, &name, "query", err) ||
		     decode(at + split + (split < n), n - split - (split < n), true, arena, &value, name, err)))
			return -err->class;
		if (n && (strcmp(name, "dsn") == 0 || strncmp(name, "options.", 8) == 0))
			return duct_fail(err, DUCT_CONFIG, "%s: not in a query, where secrets would be written down: POST /v1/%s",
					 name, match->resource->method);
		if (n && put_field(root, d, name, value, false, err))
			return -err->class;
		at += n + (at[n] == '&');
	}
	return 0;
}

static int build(const struct http_match *match, json_t *root, struct duct_arena *arena, ProtobufCMessage **ret,
		 struct duct_error *err)
{
	if (match->resource && !json_is_object(root))
		return duct_fail(err, DUCT_CONFIG, "the body must be an object");
	if (match->body && *match->query)
		return duct_fail(err, DUCT_CONFIG, "no query is read here: the request is in the body");
	if (!match->body && put_query(root, match, arena, err))
		return -err->class;
	if (match->resource && put_path(root, match, arena, err))
		return -err->class;
	return api_json_read_parsed(ret, match->route->input, arena, root, err);
}

int http_route_request(const struct http_match *match, const char *body, size_t n, struct duct_arena *arena, ProtobufCMessage **ret,
		       struct duct_error *err)
{
	json_t *root = NULL;
	if (n && !match->body)
		return duct_fail(err, DUCT_CONFIG, "no body is read here: the request is in path and query");
	if (n ? api_json_parse(&root, body, n, err) : !(root = json_object()))
		return -err->class;
	int rc = build(match, root, arena, ret, err);
	json_decref(root);
	return rc;
}
