/* Messages of clients: their strings are looked at, they are unpacked within a limit of memory, and reflection answers them. */
#include <stdint.h>
#include <stdlib.h>

#include <ductstream/v1/flow.pb-c.h>

#include "api/memory.h"
#include "api/reflection.h"

enum { LIMIT = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const services[] = {"ductstream.v1.FlowService", NULL};
	const ProtobufCMessageDescriptor *descriptor = &ductstream__v1__create_flow_request__descriptor;
	struct duct_arena arena;
	struct api_memory memory;
	char where[32];
	duct_arena_init(&arena);
	(void)api_strings_valid(descriptor, data, size, where, sizeof where);
	api_memory_init(&memory, &arena, LIMIT);
	ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &memory.allocator, size, data);
	if (arena.bytes > LIMIT + 4096)
		abort();
	if (message && !protobuf_c_message_check(message))
		abort();
	struct api_bytes answer;
	(void)api_reflect(&arena, (struct api_bytes){data, size}, services, &answer);
	duct_arena_done(&arena);
	return 0;
}
