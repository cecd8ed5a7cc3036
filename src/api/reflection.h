#ifndef API_REFLECTION_H
#define API_REFLECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/*
 * What the embedded descriptors (a FileDescriptorSet of all .proto files with their imports) say, and server reflection on it: v1, and
 * v1alpha, which has the same messages. Read only; any thread.
 */
struct api_bytes {
	const uint8_t *data;
	size_t n;
};
struct api_bytes api_descriptors(void); /* the whole set */

/* The FileDescriptorProto with that name ("ductstream/v1/flow.proto"), or the one that defines the symbol ("ductstream.v1.Flow.name"). */
bool api_descriptor_of_file(const char *name, struct api_bytes *ret);
bool api_descriptor_of_symbol(const char *symbol, struct api_bytes *ret);

/* Answers one ServerReflectionRequest (wire format); the answer's bytes live in the arena. services: full names, NULL-terminated.
 * False: the request is malformed. */
bool api_reflect(struct duct_arena *arena, struct api_bytes request, const char *const *services, struct api_bytes *ret);

#endif
