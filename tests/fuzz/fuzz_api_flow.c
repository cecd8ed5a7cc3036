/* A Flow of any bytes as CreateFlow takes it: findings, or a definition that can be stored, loaded and shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/flow_text.h"

static void round_trip(const json_t *definition, struct duct_arena *arena)
{
	const struct state_flow flow = {.id = "f", .name = "f", .state = STATE_FLOW_CREATED};
	Ductstream__V1__Flow shown;
	struct duct_error err;
	AUTO_JSON json_t *stored = definition_parse(definition_text(definition, arena), &err);
	if (!stored || !json_equal(stored, definition))
		abort();
	definition_hide(stored);
	flow_text_show(&shown, &flow, stored, arena);
	uint8_t *packed = duct_arena_alloc(arena, protobuf_c_message_get_packed_size(&shown.base));
	protobuf_c_message_pack(&shown.base, packed);
	/* What was shown stands for what is stored. */
	AUTO_FINDINGS struct duct_findings findings = {0};
	definition_keep(stored, definition, &findings);
	if (!findings.n && !json_equal(stored, definition))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Ductstream__V1__Flow *flow = ductstream__v1__flow__unpack(NULL, size, data);
	AUTO_FINDINGS struct duct_findings findings = {0};
	struct duct_arena arena;
	if (!flow)
		return 0;
	duct_arena_init(&arena);
	AUTO_JSON json_t *definition = flow_text_definition(flow, &findings);
	definition_keep(definition, NULL, &findings);
	definition_check(definition, "f", &findings);
	for (size_t i = 0; i < findings.n; i++)
		if (findings.list[i].class != DUCT_CONFIG || strncmp(findings.list[i].message, "flow", 4) != 0)
			abort();
	if (!findings.n)
		round_trip(definition, &arena);
	duct_arena_done(&arena);
	ductstream__v1__flow__free_unpacked(flow, NULL);
	return 0;
}
