#include "api/flow_text.h"

#include <stdlib.h>

#include "base/buf.h"

/* Names of enum numbers as a flow file has them; index is the number, 0 is "not given". */
struct names {
	const char *field;
	const char *const *list;
	size_t n;
};
#define NAMES(name, field, ...) \
	static const char *const name##_list[] = {NULL, __VA_ARGS__}; \
	static const struct names name = {field, name##_list, sizeof name##_list / sizeof *name##_list}

NAMES(endpoint_types, "type", "postgres", "snowflake", "s3", "kafka", "http", "grpc", "proto", "pgstream", "snowpipe", "parquet",
      "duckdb", "bufstream", "clickhouse", "ducklake");
NAMES(wire_formats, "wire_format", "arrow", "parquet", "proto", "avro", "json");
NAMES(ack_policies, "ack_policy", "all", "primary");
NAMES(failure_modes, "failure_mode", "hold_slot", "drop_slot");
NAMES(give_up_policies, "give_up_policy", "never", "on_retry_exhaustion");

static int number_of(const struct names *names, const char *text)
{
	for (size_t i = 1; text && i < names->n; i++)
		if (strcmp(names->list[i], text) == 0)
			return (int)i;
	return 0;
}

/* --- from a Flow */

static void put_text(json_t *to, const char *key, const char *text)
{
	if (text && *text)
		json_object_set_new(to, key, json_string(text));
}

static void put_name(json_t *to, const struct names *names, int number, const char *path, struct duct_findings *findings)
{
	if (number > 0 && (size_t)number < names->n)
		put_text(to, names->field, names->list[number]);
	else if (number)
		duct_findings_say(findings, "%s.%s: there is no such number in the enum", path, names->field);
}

static json_t *from_endpoint(const Ductstream__V1__Endpoint *endpoint, const char *path, struct duct_findings *findings)
{
	json_t *to = json_object(), *options = json_object();
	put_text(to, "name", endpoint->name);
	put_name(to, &endpoint_types, (int)endpoint->type, path, findings);
	for (size_t i = 0; i < endpoint->n_options; i++) {
		const Ductstream__V1__Endpoint__OptionsEntry *option = endpoint->options[i];
		if (!*option->key)
			duct_findings_say(findings, "%s.options: an option has no name", path);
		else if (json_object_set_new(options, option->key, json_string(option->value)))
			duct_findings_say(findings, "%s.options: a name or a value is not valid UTF-8", path);
	}
	json_object_set_new(to, "options", options);
	return to;
}

static void put_switch(json_t *to, const char *key, bool given, bool on)
{
	if (given)
		json_object_set_new(to, key, json_boolean(on));
}

static json_t *from_config(const Ductstream__V1__FlowConfig *config, struct duct_findings *findings)
{
	static const char path[] = "flow.config";
	json_t *to = json_object();
	put_name(to, &ack_policies, (int)config->ack_policy, path, findings);
	put_text(to, "primary_destination", config->primary_destination);
	put_name(to, &failure_modes, (int)config->failure_mode, path, findings);
	put_name(to, &give_up_policies, (int)config->give_up_policy, path, findings);
	if (config->ddl) {
		json_t *ddl = json_object();
		put_switch(ddl, "gate", config->ddl->has_gate, config->ddl->gate);
		put_switch(ddl, "auto_approve", config->ddl->has_auto_approve, config->ddl->auto_approve);
		put_switch(ddl, "auto_apply", config->ddl->has_auto_apply, config->ddl->auto_apply);
		json_object_set_new(to, "ddl", ddl);
	}
	put_text(to, "schema_registry_subject", config->schema_registry_subject);
	put_text(to, "schema_registry_proto_types_subject", config->schema_registry_proto_types_subject);
	put_text(to, "schema_registry_subject_mode", config->schema_registry_subject_mode);
	put_text(to, "max_memory", config->max_memory);
	put_text(to, "give_up_after", config->give_up_after);
	put_text(to, "outbox_dir", config->outbox_dir);
	put_text(to, "outbox_limit", config->outbox_limit);
	return to;
}

json_t *flow_text_definition(const Ductstream__V1__Flow *flow, struct duct_findings *findings)
{
	json_t *to = json_object(), *destinations = json_array();
	if (flow->source)
		json_object_set_new(to, "source", from_endpoint(flow->source, "flow.source", findings));
	for (size_t i = 0; i < flow->n_destinations; i++) {
		char path[64];
		snprintf(path, sizeof path, "flow.destinations[%zu]", i);
		json_array_append_new(destinations, from_endpoint(flow->destinations[i], path, findings));
	}
	json_object_set_new(to, "destinations", destinations);
	put_name(to, &wire_formats, (int)flow->wire_format, "flow", findings);
	if (flow->parallelism)
		json_object_set_new(to, "parallelism", json_integer(flow->parallelism));
	if (flow->config)
		json_object_set_new(to, "config", from_config(flow->config, findings));
	return to;
}

/* --- to a Flow */

static char *text_in(struct duct_arena *arena, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);
	if (text || !value)
		return duct_arena_strdup(arena, text ? text : "");
	AUTO_FREE char *other = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	return duct_arena_strdup(arena, other);
}

static int name_in(const json_t *object, const struct names *names)
{
	return number_of(names, json_string_value(json_object_get(object, names->field)));
}

static Ductstream__V1__Endpoint *to_endpoint(json_t *endpoint, struct duct_arena *arena)
{
	json_t *options = json_object_get(endpoint, "options"), *value;
	const char *key;
	Ductstream__V1__Endpoint *to = duct_arena_alloc(arena, sizeof *to);
	ductstream__v1__endpoint__init(to);
	to->name = text_in(arena, endpoint, "name");
	to->type = (Ductstream__V1__EndpointType)name_in(endpoint, &endpoint_types);
	to->options = duct_arena_zalloc(arena, (json_object_size(options) + 1) * sizeof *to->options);
	json_object_foreach(options, key, value)
	{
		Ductstream__V1__Endpoint__OptionsEntry *entry = duct_arena_alloc(arena, sizeof *entry);
		ductstream__v1__endpoint__options_entry__init(entry);
		entry->key = duct_arena_strdup(arena, key);
		entry->value = text_in(arena, options, key);
		to->options[to->n_options++] = entry;
	}
	return to;
}

static protobuf_c_boolean switch_in(const json_t *object, const char *key, protobuf_c_boolean *ret_given)
{
	const json_t *value = json_object_get(object, key);
	*ret_given = value != NULL;
	return json_is_true(value) || (json_is_string(value) && strcmp(json_string_value(value), "true") == 0);
}

static Ductstream__V1__FlowConfig *to_config(const json_t *config, struct duct_arena *arena)
{
	const json_t *policy = json_object_get(config, "ddl");
	Ductstream__V1__FlowConfig *to = duct_arena_alloc(arena, sizeof *to);
	ductstream__v1__flow_config__init(to);
	to->ack_policy = (Ductstream__V1__AckPolicy)name_in(config, &ack_policies);
	to->primary_destination = text_in(arena, config, "primary_destination");
	to->failure_mode = (Ductstream__V1__FailureMode)name_in(config, &failure_modes);
	to->give_up_policy = (Ductstream__V1__GiveUpPolicy)name_in(config, &give_up_policies);
	to->schema_registry_subject = text_in(arena, config, "schema_registry_subject");
	to->schema_registry_proto_types_subject = text_in(arena, config, "schema_registry_proto_types_subject");
	to->schema_registry_subject_mode = text_in(arena, config, "schema_registry_subject_mode");
	to->max_memory = text_in(arena, config, "max_memory");
	to->give_up_after = text_in(arena, config, "give_up_after");
	to->outbox_dir = text_in(arena, config, "outbox_dir");
	to->outbox_limit = text_in(arena, config, "outbox_limit");
	if (policy) {
		Ductstream__V1__DDLPolicy *ddl = duct_arena_alloc(arena, sizeof *ddl);
		ductstream__v1__ddlpolicy__init(ddl);
		ddl->gate = switch_in(policy, "gate", &ddl->has_gate);
		ddl->auto_approve = switch_in(policy, "auto_approve", &ddl->has_auto_approve);
		ddl->auto_apply = switch_in(policy, "auto_apply", &ddl->has_auto_apply);
		to->ddl = ddl;
	}
	return to;
}

void flow_text_show(Ductstream__V1__Flow *ret, const struct state_flow *flow, const json_t *definition, struct duct_arena *arena)
{
	json_t *source = json_object_get(definition, "source"), *config = json_object_get(definition, "config"), *destination;
	json_t *destinations = json_object_get(definition, "destinations"),
	       *parallelism = json_object_get(definition, "parallelism");
	size_t i;
	ductstream__v1__flow__init(ret);
	ret->id = duct_arena_strdup(arena, flow->id);
	ret->name = duct_arena_strdup(arena, flow->name);
	ret->reason = duct_arena_strdup(arena, flow->reason ? flow->reason : "");
	ret->state = (Ductstream__V1__FlowState)flow->state;
	if (source)
		ret->source = to_endpoint(source, arena);
	ret->destinations = duct_arena_zalloc(arena, (json_array_size(destinations) + 1) * sizeof *ret->destinations);
	json_array_foreach(destinations, i, destination) ret->destinations[ret->n_destinations++] = to_endpoint(destination, arena);
	ret->wire_format = (Ductstream__V1__WireFormat)name_in(definition, &wire_formats);
	ret->parallelism = parallelism ? (int32_t)json_integer_value(parallelism) : 1;
	if (config)
		ret->config = to_config(config, arena);
}
