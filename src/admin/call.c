/* From flags to requests, from answers to JSON. */
#include "admin/admin.h"

#include <ductstream/v1/flow.pb-c.h>
#include <poll.h>
#include <string.h>

#include "net/rpc.h"
#include "admin/settings.h"
#include "api/json.h"
#include "options/text.h"

static size_t place_of(const struct admin *admin, const char *flag)
{
	size_t i = 0;
	while (strcmp(admin->command->flags[i].name, flag) != 0)
		i++;
	return i;
}

const char *admin_value(const struct admin *admin, const char *flag)
{
	size_t i = place_of(admin, flag);
	return admin->values[i] ? admin->values[i] : admin->command->flags[i].fallback;
}

bool admin_is(const struct admin *admin, const char *flag)
{
	const char *value = admin_value(admin, flag);
	return value && strcmp(value, "true") == 0;
}

bool admin_given(const struct admin *admin, const char *flag)
{
	return admin->values[place_of(admin, flag)] != NULL;
}

int admin_pause(struct admin *admin, int64_t ms, struct duct_error *err)
{
	struct pollfd fd = {.fd = admin->signals.stop_fd, .events = POLLIN};
	(void)poll(&fd, 1, (int)ms); /* EINTR: the caller looks again */
	return duct_ctx_stopped(&admin->signals.ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

/* ---- requests */

static json_t *one_value(const ProtobufCFieldDescriptor *field, const char *text)
{
	int64_t number;
	bool on;
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_ENUM:
	case PROTOBUF_C_TYPE_MESSAGE: /* a Timestamp; these two are checked by the mapping */ return json_string(text);
	case PROTOBUF_C_TYPE_BOOL: return duct_parse_bool(text, &on) ? json_boolean(on) : NULL;
	case PROTOBUF_C_TYPE_INT32: return duct_parse_int(text, &number) && number == (int32_t)number ? json_integer(number) : NULL;
	case PROTOBUF_C_TYPE_INT64: return duct_parse_int(text, &number) ? json_integer(number) : NULL;
	default: return NULL;
	}
}

static const char *form_of(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_BOOL: return "neither true nor false";
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_INT64: return "no whole number in range";
	default: return "not valid UTF-8";
	}
}

/* "a,b": a list; "k=v,l=w": a map. */
static json_t *many_values(const struct admin_flag *flag, const ProtobufCFieldDescriptor *field, const char *text,
			   struct duct_error *err)
{
	bool map = field->type == PROTOBUF_C_TYPE_MESSAGE;
	json_t *all = map ? json_object() : json_array();
	AUTO_FREE char *copy = duct_xstrdup(text);
	for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
		word += strspn(word, " ");
		char *equals = map ? strchr(word, '=') : NULL;
		json_t *one = map ? (equals ? json_string(equals + 1) : NULL) : one_value(field, word);
		if (equals)
			*equals = 0;
		if (!*word || !one || (map ? json_object_set_new(all, word, one) : json_array_append_new(all, one))) {
			json_decref(all);
			(void)duct_fail(err, DUCT_CONFIG, "flag \"--%s\": \"%.60s\": %s expected", flag->name, word,
					map						? "NAME=VALUE[,NAME=VALUE...]"
						: field->type == PROTOBUF_C_TYPE_STRING ? "names with commas between them"
											: "whole numbers with commas between them");
			return NULL;
		}
	}
	return all;
}

static int put_field(const struct admin_flag *flag, json_t *object, const ProtobufCMessageDescriptor *of, const char *path,
		     const char *text, struct duct_error *err)
{
	AUTO_FREE char *name = duct_xstrndup(path, strcspn(path, "."));
	const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(of, name);
	if (!field)
		return duct_fail(err, DUCT_FATAL, "%s has no field \"%s\"", of->name, name);
	if (strchr(path, '.')) {
		json_t *inner = json_object_get(object, name);
		if (!inner)
			json_object_set_new(object, name, inner = json_object());
		return put_field(flag, inner, field->descriptor, strchr(path, '.') + 1, text, err);
	}
	bool many = field->label == PROTOBUF_C_LABEL_REPEATED;
	json_t *value = many ? many_values(flag, field, text, err) : one_value(field, text);
	if (!value && many)
		return -(int)err->class;
	if (!value)
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\": \"%.60s\" is %s", flag->name, text, form_of(field));
	json_object_set_new(object, name, value);
	return 0;
}

json_t *admin_request(const struct admin *admin, const ProtobufCMessageDescriptor *of, struct duct_error *err)
{
	json_t *request = json_object();
	for (const struct admin_flag *flag = admin->command->flags; flag->name; flag++) {
		const char *text = admin_value(admin, flag->name);
		if (!flag->field || !text || !put_field(flag, request, of, flag->field, text, err))
			continue;
		json_decref(request);
		return NULL;
	}
	return request;
}

/* ---- calls */

static int open_client(struct admin *admin, struct duct_error *err)
{
	if (admin->client)
		return 0;
	const struct rpc_target *target;
	int rc = admin_settings_target(&target, err);
	return rc ? rc : rpc_open(&admin->client, target, &admin->signals.ctx, err);
}

struct taking {
	const ProtobufCMessageDescriptor *of;
	admin_json_fn *take;
	void *arg;
};

static int take_answer(void *arg, const ProtobufCMessage *message, struct duct_error *err)
{
	struct taking *t = arg;
	AUTO_BUF struct duct_buf text = {0};
	api_json_write(&text, message, API_JSON_DEFAULTS);
	json_t *json = json_loadb(text.data, text.len, 0, NULL);
	int rc = json ? t->take(t->arg, json, err) : duct_fail(err, DUCT_FATAL, "the server's %s is no JSON", t->of->name);
	json_decref(json);
	return rc;
}

static int take_message(void *arg, const void *data, size_t n, struct duct_error *err)
{
	struct taking *t = arg;
	ProtobufCMessage *message = protobuf_c_message_unpack(t->of, NULL, n, data);
	if (!message)
		return duct_fail(err, DUCT_FATAL, "the server's %s cannot be read: is it a newer program?", t->of->name);
	int rc = take_answer(t, message, err);
	protobuf_c_message_free_unpacked(message, NULL);
	return rc;
}

static int call_server(struct admin *admin, const struct admin_message *m, int64_t timeout_ms, struct taking *taking,
		       struct duct_error *err)
{
	AUTO_BUF struct duct_buf packed = {0};
	AUTO_FREE char *path = duct_xasprintf("/%s/%s", m->service->name, m->method->name);
	int rc = open_client(admin, err);
	if (rc)
		return rc;
	packed.len = protobuf_c_message_pack(m->request,
					     (uint8_t *)duct_buf_room(&packed, protobuf_c_message_get_packed_size(m->request)));
	return rpc_call(admin->client, path, packed.data, packed.len, timeout_ms, take_message, taking, err);
}

static int call_method(struct admin *admin, const ProtobufCServiceDescriptor *service, const char *method, json_t *request,
		       int64_t timeout_ms, admin_json_fn *take, void *arg, struct duct_error *err)
{
	const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(service, method);
	ProtobufCMessage *message = NULL;
	int rc = m ? api_json_read_parsed(&message, m->input, &admin->arena, request, err)
		   : duct_fail(err, DUCT_FATAL, "there is no method \"%s\"", method);
	json_decref(request);
	if (rc)
		return rc;
	struct taking taking = {.of = m->output, .take = take, .arg = arg};
	const struct admin_message call = {.service = service, .method = m, .request = message};
	return admin->here ? admin_call_here(admin, &call, take_answer, &taking, err)
			   : call_server(admin, &call, timeout_ms, &taking, err);
}

static int keep_answer(void *arg, const json_t *answer, struct duct_error *err)
{
	json_t **ret = arg;
	if (*ret)
		return duct_fail(err, DUCT_FATAL, "the server answered twice");
	*ret = json_incref((json_t *)(uintptr_t)answer);
	return 0;
}

int admin_call(struct admin *admin, const ProtobufCServiceDescriptor *service, const char *method, json_t *request, json_t **ret,
	       struct duct_error *err)
{
	enum { TIMEOUT_MS = 30000 };
	json_t *answer = NULL;
	int64_t wait_ms = json_integer_value(json_object_get(request, "wait_seconds")) * 1000; /* of a long poll */
	int rc = call_method(admin, service, method, request, admin_settings_timeout_ms(TIMEOUT_MS + wait_ms), keep_answer, &answer,
			     err);
	if (!rc && !answer)
		rc = duct_fail(err, DUCT_FATAL, "%s: the server gave no answer", method);
	if (rc) {
		json_decref(answer);
		return rc;
	}
	*ret = answer;
	return 0;
}

int admin_watch(struct admin *admin, const ProtobufCServiceDescriptor *service, const char *method, json_t *request,
		admin_json_fn *take, void *arg, struct duct_error *err)
{
	return call_method(admin, service, method, request, admin_settings_timeout_ms(0), take, arg, err);
}

/* Appends the next page's list to the first one's. */
static int fetch_pages(struct admin *admin, const json_t *request, json_t *answer, struct duct_error *err)
{
	const struct admin_command *c = admin->command;
	json_t *list = json_object_get(answer, c->view->at);
	for (;;) {
		json_t *token = json_object_get(answer, "nextPageToken"), *page;
		if (!token || !*json_string_value(token))
			return 0;
		json_t *again = json_deep_copy(request);
		json_object_set(again, "page_token", token);
		int rc = admin_call(admin, c->service, c->method, again, &page, err);
		if (rc)
			return rc;
		json_array_extend(list, json_object_get(page, c->view->at));
		json_t *after = json_object_get(page, "nextPageToken");
		if (after)
			json_object_set(answer, "nextPageToken", after);
		else
			json_object_del(answer, "nextPageToken");
		json_decref(page);
	}
}

int admin_fetch(struct admin *admin, json_t **ret, struct duct_error *err)
{
	const struct admin_command *c = admin->command;
	const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(c->service, c->method);
	json_t *request = admin_request(admin, m->input, err), *answer = NULL;
	if (!request)
		return -(int)err->class;
	int rc = admin_call(admin, c->service, c->method, json_incref(request), &answer, err);
	if (!rc && c->paged && !admin_given(admin, "page-size") && !admin_given(admin, "page-token"))
		rc = fetch_pages(admin, request, answer, err);
	json_decref(request);
	if (rc)
		json_decref(answer);
	else
		*ret = answer;
	return rc;
}

int admin_plain(struct admin *admin, struct duct_error *err)
{
	json_t *answer = NULL;
	int rc = admin_fetch(admin, &answer, err);
	rc = rc ? rc : admin_show(admin->command->view, answer, err);
	json_decref(answer);
	return rc;
}

int admin_normalise(struct admin *admin, const ProtobufCMessageDescriptor *of, json_t *from, json_t **ret, struct duct_error *err)
{
	ProtobufCMessage *message;
	int rc = api_json_read_parsed(&message, of, &admin->arena, from, err);
	if (rc)
		return rc;
	AUTO_BUF struct duct_buf text = {0};
	api_json_write(&text, message, 0);
	*ret = json_loadb(text.data, text.len, 0, NULL);
	return *ret ? 0 : duct_fail(err, DUCT_FATAL, "%s: cannot be written as JSON", of->name);
}

/* Slots and publications are those of a flow, or of a source that the caller names. */
int admin_source_named(const struct admin *admin, struct duct_error *err)
{
	const char *flow = admin_value(admin, "flow-id"), *dsn = admin_value(admin, "dsn");
	return (flow && *flow) != (dsn && *dsn)
		? 0
		: duct_fail(err, DUCT_CONFIG, "name a flow with --flow-id, or its source with --dsn");
}

int admin_flow_call(struct admin *admin, const char *method, const char *id, json_t **ret, struct duct_error *err)
{
	json_t *request = json_object();
	json_object_set_new(request, "flow_id", json_string(id));
	return admin_call(admin, &ductstream__v1__flow_service__descriptor, method, request, ret, err);
}
