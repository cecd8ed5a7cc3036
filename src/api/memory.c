#include "api/memory.h"

#include <stdio.h>
#include <string.h>

#include "api/wire.h"
#include "base/utf8.h"

static void *take(void *arg, size_t size)
{
	struct api_memory *memory = arg;
	if (size > memory->limit_bytes || memory->arena->bytes > memory->limit_bytes - size) {
		memory->over = true;
		return NULL;
	}
	return duct_arena_alloc(memory->arena, size);
}

static void leave(void *arg, void *pointer)
{
	(void)arg;
	(void)pointer;
}

void api_memory_init(struct api_memory *memory, struct duct_arena *arena, size_t limit_bytes)
{
	*memory = (struct api_memory){
		.allocator = {.alloc = take, .free = leave, .allocator_data = memory},
		.arena = arena,
		.limit_bytes = limit_bytes,
	};
}

/* Messages lie inside each other as deep as the descriptors say, which is a few. */
static bool walk(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t n, char *where, size_t size, size_t at,
		 int depth)
{
	struct api_wire wire = {data, data + n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field)) {
		if (field.type != 2)
			continue;
		const ProtobufCFieldDescriptor *of = protobuf_c_message_descriptor_get_field(descriptor, field.number);
		if (!of || (of->type != PROTOBUF_C_TYPE_STRING && of->type != PROTOBUF_C_TYPE_MESSAGE))
			continue;
		snprintf(where + at, size - at, "%s%s", at ? "." : "", of->name);
		if (of->type == PROTOBUF_C_TYPE_STRING &&
		    (memchr(field.data, 0, field.n) || !duct_utf8_valid((const char *)field.data, field.n)))
			return false;
		if (of->type == PROTOBUF_C_TYPE_MESSAGE && depth < 32 &&
		    !walk(of->descriptor, field.data, field.n, where, size, strlen(where), depth + 1))
			return false;
	}
	return true;
}

bool api_strings_valid(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t n, char *where, size_t where_size)
{
	return walk(descriptor, data, n, where, where_size, 0, 0);
}
