/* The API as OpenAPI 3.1: paths from http_resources and the services, schemas from the descriptors, descriptions from the .proto files. */
#include "api/openapi.h"

#include <google/protobuf/timestamp.pb-c.h>
#include <stdio.h>
#include <string.h>

#include "api/comments.h"
#include "api/http_routes.h"
#include "api/json.h"

struct writer {
	struct api_comments *comments;
	struct api_routes *routes;
	const struct api_service *const *services;
	json_t *paths, *schemas;
};

static json_t *ref_to(const char *kind, const char *name)
{
	char target[160];
	snprintf(target, sizeof target, "#/components/%s/%s", kind, name);
	return json_pack("{ss}", "$ref", target);
}

static void describe(json_t *to, const char *key, const char *text)
{
	if (text)
		json_object_set_new(to, key, json_string(text));
}

/* ---- schemas */

static void add_message(struct writer *w, const ProtobufCMessageDescriptor *d);

static json_t *enum_schema(struct writer *w, const ProtobufCEnumDescriptor *d)
{
	if (json_object_get(w->schemas, d->short_name))
		return ref_to("schemas", d->short_name);
	json_t *names = json_array(), *schema = json_object();
	for (unsigned i = 0; i < d->n_values; i++)
		json_array_append_new(names, json_string(d->values[i].name));
	describe(schema, "description", api_comment(w->comments, d->name, NULL));
	json_object_set_new(schema, "type", json_string("string"));
	json_object_set_new(schema, "enum", names);
	json_object_set_new(w->schemas, d->short_name, schema);
	return ref_to("schemas", d->short_name);
}

static json_t *message_schema(struct writer *w, const ProtobufCMessageDescriptor *d)
{
	if (d == &google__protobuf__timestamp__descriptor)
		return json_pack("{ssss}", "type", "string", "format", "date-time");
	add_message(w, d);
	return ref_to("schemas", d->short_name);
}

/* Of one element. */
static json_t *value_schema(struct writer *w, const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_BOOL: return json_pack("{ss}", "type", "boolean");
	case PROTOBUF_C_TYPE_STRING: return json_pack("{ss}", "type", "string");
	case PROTOBUF_C_TYPE_BYTES: return json_pack("{ssss}", "type", "string", "contentEncoding", "base64");
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE: return json_pack("{ss}", "type", "number");
	case PROTOBUF_C_TYPE_ENUM: return enum_schema(w, f->descriptor);
	case PROTOBUF_C_TYPE_MESSAGE: return message_schema(w, f->descriptor);
	default:
		return api_json_element_size(f->type) == 8 ? json_pack("{ssss}", "type", "string", "format", "int64")
							   : json_pack("{ssss}", "type", "integer", "format", "int32");
	}
}

static json_t *field_schema(struct writer *w, const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
	json_t *schema;
	if (api_json_is_map(d, f)) {
		const ProtobufCMessageDescriptor *entry = f->descriptor;
		schema = json_pack("{ssso}", "type", "object", "additionalProperties", value_schema(w, &entry->fields[1]));
	} else if (f->label == PROTOBUF_C_LABEL_REPEATED)
		schema = json_pack("{ssso}", "type", "array", "items", value_schema(w, f));
	else
		schema = value_schema(w, f);
	describe(schema, "description", api_comment(w->comments, d->name, f->name));
	return schema;
}

static void set_field(json_t *to, const ProtobufCFieldDescriptor *f, json_t *schema)
{
	struct duct_buf camel = {0};
	api_json_camel(&camel, f->name);
	json_object_set_new(to, camel.data, schema);
	duct_buf_done(&camel);
}

static void add_message(struct writer *w, const ProtobufCMessageDescriptor *d)
{
	if (json_object_get(w->schemas, d->short_name))
		return;
	json_t *schema = json_object(), *properties = json_object();
	json_object_set_new(w->schemas, d->short_name, schema); /* before its fields, which may lead back */
	describe(schema, "description", api_comment(w->comments, d->name, NULL));
	json_object_set_new(schema, "type", json_string("object"));
	json_object_set_new(schema, "additionalProperties", json_false());
	json_object_set_new(schema, "properties", properties);
	for (unsigned i = 0; i < d->n_fields; i++)
		set_field(properties, &d->fields[i], field_schema(w, d, &d->fields[i]));
}

/* ---- operations */

/* Everything a method has, whichever path leads to it. */
static json_t *operation(struct writer *w, const struct api_route *route, const char *id)
{
	const char *method = strrchr(route->path, '/') + 1;
	const ProtobufCServiceDescriptor *service = route->service->descriptor;
	json_t *to = json_object();
	json_object_set_new(to, "operationId", json_string(id));
	json_object_set_new(to, "tags", json_pack("[s]", service->short_name));
	char summary[160];
	snprintf(summary, sizeof summary, "%s, role %s", method, route->method ? api_role_name(route->method->role) : "admin");
	json_object_set_new(to, "summary", json_string(summary));
	describe(to, "description", api_comment(w->comments, service->name, method));
	return to;
}

static void add_answers(struct writer *w, json_t *to, const struct api_route *route)
{
	bool stream = route->method && route->method->flags & API_STREAM;
	json_t *content = json_object();
	json_object_set_new(content, stream ? "application/x-ndjson" : "application/json",
			    json_pack("{so}", "schema", message_schema(w, route->output)));
	json_object_set_new(to, "responses",
			    json_pack("{s{ssso}so}", "200", "description", stream ? "one object a line" : "done", "content",
				      content, "default", ref_to("responses", "Error")));
}

static void add_body(struct writer *w, json_t *to, const struct api_route *route)
{
	json_object_set_new(to, "requestBody",
			    json_pack("{s{s{so}}}", "content", "application/json", "schema", message_schema(w, route->input)));
}

static void set_operation(struct writer *w, const char *path, const char *verb, json_t *to)
{
	json_t *item = json_object_get(w->paths, path);
	if (!item) {
		item = json_object();
		json_object_set_new(w->paths, path, item);
	}
	char small[8] = "";
	for (size_t i = 0; verb[i] && i < sizeof small - 1; i++)
		small[i] = (char)(verb[i] + 32);
	json_object_set_new(item, small, to);
}

static void add_general(struct writer *w, const struct api_route *route)
{
	char path[200], id[200];
	const char *service = route->service->descriptor->short_name, *method = strrchr(route->path, '/') + 1;
	snprintf(path, sizeof path, "/v1/%s/%s", service, method);
	snprintf(id, sizeof id, "%s_%s", service, method);
	json_t *to = operation(w, route, id);
	add_body(w, to, route);
	add_answers(w, to, route);
	set_operation(w, path, "POST", to);
}

/* ---- paths of http_resources */

/* Do two patterns differ in nothing but the names in their braces? */
static bool is_same_shape(const char *a, const char *b)
{
	while (*a && *a == *b) {
		if (*a == '{') {
			a = strchr(a, '}');
			b = strchr(b, '}');
		}
		a++;
		b++;
	}
	return *a == *b;
}

/* The names in a path, in their order: OpenAPI wants the same ones in all operations of a path. */
static const char *shown_pattern(const char *pattern)
{
	for (const struct http_resource *r = http_resources; r->verb; r++)
		if (is_same_shape(r->pattern, pattern))
			return r->pattern;
	return pattern;
}

static void add_path_parameters(json_t *to, const char *shown)
{
	for (const char *at = shown; (at = strchr(at, '{')); at++)
		json_array_append_new(to,
				      json_pack("{ss%sssbs{ss}}", "name", at + 1, strcspn(at, "}") - 1, "in", "path", "required", 1,
						"schema", "type", "string"));
}

static bool is_in_path(const char *pattern, const char *field)
{
	char braced[80];
	snprintf(braced, sizeof braced, "{%s}", field);
	return strstr(pattern, braced);
}

static void add_query_parameters(struct writer *w, json_t *to, const struct http_resource *r, const ProtobufCMessageDescriptor *d)
{
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		if (is_in_path(r->pattern, f->name) || strcmp(f->name, "dsn") == 0 || f->type == PROTOBUF_C_TYPE_MESSAGE)
			continue;
		json_t *schema = field_schema(w, d, f), *parameter = json_object();
		struct duct_buf camel = {0};
		api_json_camel(&camel, f->name);
		json_object_set_new(parameter, "name", json_string(camel.data));
		json_object_set_new(parameter, "in", json_string("query"));
		json_object_set_new(parameter, "schema", schema);
		json_array_append_new(to, parameter);
		duct_buf_done(&camel);
	}
}

static void make_id(char *to, size_t size, const struct http_resource *r)
{
	size_t n = (size_t)snprintf(to, size, "%s%s", r->verb, r->pattern);
	for (size_t i = 0; i < n && i < size; i++)
		if (strchr("/{}:.-", to[i]))
			to[i] = '_';
}

static void add_resource(struct writer *w, const struct http_resource *r)
{
	char path[160], id[160];
	snprintf(path, sizeof path, "/ductstream.v1.%s", r->method);
	const struct api_route *route = api_routes_find(w->routes, path, strlen(path));
	if (!route)
		return;
	const char *shown = shown_pattern(r->pattern);
	make_id(id, sizeof id, r);
	json_t *to = operation(w, route, id), *parameters = json_array();
	add_path_parameters(parameters, shown);
	bool body = strcmp(r->verb, "POST") == 0 || strcmp(r->verb, "PUT") == 0;
	if (body)
		add_body(w, to, route);
	else
		add_query_parameters(w, parameters, r, route->input);
	json_object_set_new(to, "parameters", parameters);
	add_answers(w, to, route);
	set_operation(w, shown, r->verb, to);
}

/* ---- the rest */

static void add_page(struct writer *w, const char *path, const char *summary, const char *type)
{
	json_t *content = json_object();
	json_object_set_new(content, type, json_object());
	json_t *to =
		json_pack("{sssss[s]s{s{ssso}so}}", "operationId", path + 1, "summary", summary, "tags", "service", "responses",
			  "200", "description", "done", "content", content, "default", ref_to("responses", "Error"));
	if (path[strlen(path) - 1] == 'z')
		json_object_set_new(to, "security", json_array());
	set_operation(w, path, "GET", to);
}

static json_t *components(struct writer *w)
{
	json_object_set_new(w->schemas, "Error",
			    json_pack("{sss{s{ssss}s{ssss}s{ssss}}}", "type", "object", "properties", "code", "type", "integer",
				      "description", "number of the gRPC code", "status", "type", "string", "description",
				      "its name, such as NOT_FOUND", "message", "type", "string", "description",
				      "what is wrong, and what to do"));
	return json_pack("{sos{s{sss{s{so}}}}s{s{ssss}}}", "schemas", w->schemas, "responses", "Error", "description",
			 "the HTTP status belongs to the code", "content", "application/json", "schema", ref_to("schemas", "Error"),
			 "securitySchemes", "bearer", "type", "http", "scheme", "bearer");
}

static json_t *tags(struct writer *w)
{
	json_t *to = json_array();
	for (const struct api_service *const *service = w->services; *service; service++) {
		json_t *tag = json_pack("{ss}", "name", (*service)->descriptor->short_name);
		describe(tag, "description", api_comment(w->comments, (*service)->descriptor->name, NULL));
		json_array_append_new(to, tag);
	}
	json_array_append_new(to, json_pack("{ss}", "name", "service"));
	return to;
}

static void add_paths(struct writer *w)
{
	for (const struct http_resource *r = http_resources; r->verb; r++)
		add_resource(w, r);
	for (const struct api_service *const *service = w->services; *service; service++) {
		const ProtobufCServiceDescriptor *d = (*service)->descriptor;
		for (unsigned i = 0; i < d->n_methods; i++) {
			char path[160];
			int n = snprintf(path, sizeof path, "/%s/%s", d->name, d->methods[i].name);
			add_general(w, api_routes_find(w->routes, path, (size_t)n));
		}
	}
	add_page(w, "/healthz", "200 while the process lives", "text/plain");
	add_page(w, "/readyz", "200 while the state answers, else 503 with the reason", "text/plain");
	add_page(w, "/metrics", "metrics in the text format of Prometheus, role viewer", "text/plain");
	add_page(w, "/openapi.json", "this document, role viewer", "application/json");
}

void api_openapi(struct duct_buf *to, const struct api_service *const *services)
{
	static const char about[] =
		"The API of DuctStream as HTTP and JSON. POST /v1/SERVICE/METHOD is every method with its request message as the body; the other "
		"paths lead to the main ones: there the body (POST, PUT) or the query (GET, DELETE) is the request message, and names in "
		"the path are fields of it. JSON is the proto3 mapping; enums may also be written in short, such as \"postgres\".";
	const struct api_service *const *const lists[] = {services, NULL};
	struct writer w = {
		.comments = api_comments_new(),
		.routes = api_routes_new(lists),
		.services = services,
		.paths = json_object(),
		.schemas = json_object(),
	};
	add_paths(&w);
	json_t *root = json_pack("{sss{ssssss}s[{s[]}{}]sososo}", "openapi", "3.1.0", "info", "title", "DuctStream", "version",
				 DUCT_VERSION, "description", about, "security", "bearer", "tags", tags(&w), "paths", w.paths,
				 "components", components(&w));
	char *text = json_dumps(root, JSON_INDENT(1));
	duct_buf_puts(to, text);
	duct_buf_putc(to, '\n');
	free(text);
	json_decref(root);
	api_routes_free(w.routes);
	api_comments_free(w.comments);
}

static int run(int argc, char **argv, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	int rc = cli_flags_parse(argc, argv, (const struct cli_flag[]){{0}}, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	api_openapi(&to, api_services);
	return cli_print(&to, err);
}

const struct cli_command api_openapi_command = {
	.name = "openapi",
	.usage = "openapi",
	.summary = "the HTTP API as an OpenAPI document",
	.help = "Prints the HTTP API of this program in the form of OpenAPI 3.1, as the server gives it\nat /openapi.json.",
	.run = run,
};
