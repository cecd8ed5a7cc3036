#ifndef API_MEMORY_H
#define API_MEMORY_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/arena.h"

/*
 * protobuf-c's allocations in an arena, up to a limit: a small message can ask for very much memory (a million empty elements of two
 * bytes each). Past the limit unpacking fails, and `over` says why. Nothing is freed by itself.
 */
struct api_memory {
	ProtobufCAllocator allocator; /* for protobuf_c_message_unpack() */
	struct duct_arena *arena;
	size_t limit_bytes; /* of the arena */
	bool over;
};
void api_memory_init(struct api_memory *memory, struct duct_arena *arena, size_t limit_bytes);

/*
 * What protobuf-c does not look at in a message: strings that are not UTF-8, or hold a zero byte (C would cut them there). Returns false
 * with the field's path in `where` ("flow.source.name"). A message that cannot be taken apart passes: unpacking refuses it.
 */
bool api_strings_valid(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t n, char *where, size_t where_size);

#endif
