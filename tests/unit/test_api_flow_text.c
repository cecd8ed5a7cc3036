/* src/api/flow_text.h: every field of a Flow there and back (issue 5, point 1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/flow_text.h"

static Ductstream__V1__Endpoint__OptionsEntry *entry(struct duct_arena *arena, const char *key, const char *value)
{
	Ductstream__V1__Endpoint__OptionsEntry *e = duct_arena_alloc(arena, sizeof *e);
	ductstream__v1__endpoint__options_entry__init(e);
	e->key = (char *)key;
	e->value = (char *)value;
	return e;
}

static Ductstream__V1__Endpoint *endpoint(struct duct_arena *arena, const char *name, int type)
{
	Ductstream__V1__Endpoint *e = duct_arena_alloc(arena, sizeof *e);
	ductstream__v1__endpoint__init(e);
	e->name = (char *)name;
	e->type = (Ductstream__V1__EndpointType)type;
	e->options = duct_arena_zalloc(arena, 2 * sizeof *e->options);
	e->options[e->n_options++] = entry(arena, "b", "2");
	e->options[e->n_options++] = entry(arena, "a", "ü\n\"1\"");
	return e;
}

static void assert_packed_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
	uint8_t one[4096], two[4096];
	size_t n = protobuf_c_message_get_packed_size(a);
	assert_true(n < sizeof one);
	assert_int_equal(protobuf_c_message_get_packed_size(b), n);
	protobuf_c_message_pack(a, one);
	protobuf_c_message_pack(b, two);
	assert_memory_equal(one, two, n);
}

static void every_field_returns(void **unused)
{
	(void)unused;
	struct duct_arena arena;
	duct_arena_init(&arena);
	for (int type = 1; type <= 14; type++) {
		Ductstream__V1__Flow flow = DUCTSTREAM__V1__FLOW__INIT, back;
		Ductstream__V1__FlowConfig config = DUCTSTREAM__V1__FLOW_CONFIG__INIT;
		Ductstream__V1__DDLPolicy ddl = DUCTSTREAM__V1__DDLPOLICY__INIT;
		AUTO_FINDINGS struct duct_findings findings = {0};
		Ductstream__V1__Endpoint *destinations[2] = {endpoint(&arena, "d1", type), endpoint(&arena, "d2", 15 - type)};
		flow.id = (char *)"f";
		flow.name = (char *)"name";
		flow.state = DUCTSTREAM__V1__FLOW_STATE__FLOW_STATE_PAUSED;
		flow.source = endpoint(&arena, "s", type);
		flow.destinations = destinations;
		flow.n_destinations = 2;
		flow.wire_format = (Ductstream__V1__WireFormat)(1 + type % 5);
		flow.parallelism = type;
		flow.config = &config;
		config.ack_policy = (Ductstream__V1__AckPolicy)(1 + type % 2);
		config.primary_destination = (char *)"d2";
		config.failure_mode = (Ductstream__V1__FailureMode)(1 + type % 2);
		config.give_up_policy = (Ductstream__V1__GiveUpPolicy)(1 + type % 2);
		config.schema_registry_subject = (char *)"x";
		config.schema_registry_proto_types_subject = (char *)"y";
		config.schema_registry_subject_mode = (char *)"z";
		config.ddl = &ddl;
		ddl.has_gate = ddl.gate = true;
		ddl.has_auto_apply = true;
		AUTO_JSON json_t *definition = flow_text_definition(&flow, &findings);
		assert_int_equal(findings.n, 0);
		/* By way of its text, as it is stored. */
		struct duct_error err;
		AUTO_JSON json_t *stored = definition_parse(definition_text(definition, &arena), &err);
		flow_text_show(&back, &(struct state_flow){.id = "f", .name = "name", .state = STATE_FLOW_PAUSED}, stored, &arena);
		assert_packed_equal(&flow.base, &back.base);
	}
	duct_arena_done(&arena);
}

static void unknown_numbers_are_findings(void **unused)
{
	(void)unused;
	struct duct_arena arena;
	AUTO_FINDINGS struct duct_findings findings = {0};
	Ductstream__V1__Flow flow = DUCTSTREAM__V1__FLOW__INIT;
	duct_arena_init(&arena);
	Ductstream__V1__Endpoint *destinations[1] = {endpoint(&arena, "d", 99)};
	destinations[0]->options[0]->key = (char *)"";
	destinations[0]->options[1]->value = (char *)"\xff";
	flow.destinations = destinations;
	flow.n_destinations = 1;
	flow.wire_format = (Ductstream__V1__WireFormat)-1;
	AUTO_JSON json_t *definition = flow_text_definition(&flow, &findings);
	assert_non_null(definition);
	assert_int_equal(findings.n, 4);
	assert_string_equal(findings.list[0].message, "flow.destinations[0].type: there is no such number in the enum");
	assert_string_equal(findings.list[1].message, "flow.destinations[0].options: an option has no name");
	assert_string_equal(findings.list[2].message, "flow.destinations[0].options: a name or a value is not valid UTF-8");
	assert_string_equal(findings.list[3].message, "flow.wire_format: there is no such number in the enum");
	duct_arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_field_returns),
		cmocka_unit_test(unknown_numbers_are_findings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
