/* Looks into the descriptors as they lie on the wire: protobuf-c has no run-time form of them. */
#include "api/reflection.h"

#include <string.h>

#include <descriptors.h>
#include <grpc/reflection/v1/reflection.pb-c.h>

#include "api/call.h"
#include "api/memory.h"
#include "api/wire.h"

/* Field numbers of descriptor.proto. */
enum { SET_FILE = 1, FILE_NAME = 1, FILE_PACKAGE = 2, FILE_MESSAGE = 4, FILE_ENUM = 5, FILE_SERVICE = 6 };
enum {
	NAME = 1,
	MEMBER = 2 /* field of a message, value of an enum, method of a service */,
	NESTED = 3,
	NESTED_ENUM = 4,
	ONEOF = 8
};

struct api_bytes api_descriptors(void)
{
	return (struct api_bytes){descriptors, sizeof descriptors};
}

static bool sub(struct api_bytes of, uint32_t number, struct api_bytes *ret)
{
	struct api_wire wire = {of.data, of.data + of.n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field))
		if (field.number == number && field.type == 2) {
			*ret = (struct api_bytes){field.data, field.n};
			return true;
		}
	return false;
}

static bool is(struct api_bytes bytes, const char *text)
{
	return strlen(text) == bytes.n && memcmp(bytes.data, text, bytes.n) == 0;
}

static bool member_is(struct api_bytes member, const char *name)
{
	struct api_bytes own;
	return sub(member, NAME, &own) && is(own, name);
}

/* Names of an enum's values belong to what the enum is in. */
static bool has_member(struct api_bytes of, const char *name)
{
	struct api_wire wire = {of.data, of.data + of.n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field))
		if (field.number == MEMBER && field.type == 2 && member_is((struct api_bytes){field.data, field.n}, name))
			return true;
	return false;
}

/* Whether a message (or an enum, a service) is what the dotted rest of a symbol names, or holds it. */
static bool defines(struct api_bytes of, bool message, const char *symbol)
{
	struct api_bytes name;
	if (!sub(of, NAME, &name) || strncmp(symbol, (const char *)name.data, name.n) != 0)
		return false;
	if (!symbol[name.n])
		return true;
	if (symbol[name.n] != '.')
		return false;
	symbol += name.n + 1;
	struct api_wire wire = {of.data, of.data + of.n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field)) {
		struct api_bytes in = {field.data, field.n};
		if (field.type != 2)
			continue;
		if ((field.number == MEMBER || (message && field.number == ONEOF)) && member_is(in, symbol))
			return true;
		if (message && (field.number == NESTED || field.number == NESTED_ENUM) &&
		    defines(in, field.number == NESTED, symbol))
			return true;
		if (message && field.number == NESTED_ENUM && has_member(in, symbol))
			return true;
	}
	return false;
}

static bool file_defines(struct api_bytes file, const char *symbol)
{
	struct api_bytes package;
	if (*symbol == '.')
		symbol++;
	if (sub(file, FILE_PACKAGE, &package)) {
		if (strncmp(symbol, (const char *)package.data, package.n) != 0 || symbol[package.n] != '.')
			return false;
		symbol += package.n + 1;
	}
	struct api_wire wire = {file.data, file.data + file.n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field)) {
		struct api_bytes in = {field.data, field.n};
		if (field.type != 2 || (field.number != FILE_MESSAGE && field.number != FILE_ENUM && field.number != FILE_SERVICE))
			continue;
		if (defines(in, field.number == FILE_MESSAGE, symbol) || (field.number == FILE_ENUM && has_member(in, symbol)))
			return true;
	}
	return false;
}

static bool find_file(bool by_name, const char *wanted, struct api_bytes *ret)
{
	struct api_wire wire = {descriptors, descriptors + sizeof descriptors};
	struct api_wire_field field;
	struct api_bytes name;
	while (api_wire_next(&wire, &field)) {
		struct api_bytes file = {field.data, field.n};
		if (field.number == SET_FILE && field.type == 2 &&
		    (by_name ? sub(file, FILE_NAME, &name) && is(name, wanted) : file_defines(file, wanted))) {
			*ret = file;
			return true;
		}
	}
	return false;
}

bool api_descriptor_of_file(const char *name, struct api_bytes *ret)
{
	return find_file(true, name, ret);
}

bool api_descriptor_of_symbol(const char *symbol, struct api_bytes *ret)
{
	return find_file(false, symbol, ret);
}

/* ---- the protocol */

static void put_services(struct duct_arena *arena, Grpc__Reflection__V1__ServerReflectionResponse *to, const char *const *services)
{
	size_t n = 0;
	while (services[n])
		n++;
	Grpc__Reflection__V1__ListServiceResponse *list = duct_arena_alloc(arena, sizeof *list);
	grpc__reflection__v1__list_service_response__init(list);
	list->n_service = n;
	list->service = duct_arena_alloc(arena, n * sizeof *list->service);
	for (size_t i = 0; i < n; i++) {
		list->service[i] = duct_arena_alloc(arena, sizeof *list->service[i]);
		grpc__reflection__v1__service_response__init(list->service[i]);
		list->service[i]->name = duct_arena_strdup(arena, services[i]);
	}
	to->list_services_response = list;
	to->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
}

static void put_file(struct duct_arena *arena, Grpc__Reflection__V1__ServerReflectionResponse *to, struct api_bytes file)
{
	Grpc__Reflection__V1__FileDescriptorResponse *answer = duct_arena_alloc(arena, sizeof *answer);
	grpc__reflection__v1__file_descriptor_response__init(answer);
	answer->n_file_descriptor_proto = 1;
	answer->file_descriptor_proto = duct_arena_alloc(arena, sizeof *answer->file_descriptor_proto);
	answer->file_descriptor_proto[0] = (ProtobufCBinaryData){.len = file.n, .data = (uint8_t *)(uintptr_t)file.data};
	to->file_descriptor_response = answer;
	to->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
}

static void put_error(struct duct_arena *arena, Grpc__Reflection__V1__ServerReflectionResponse *to, enum api_code code,
		      const char *message)
{
	Grpc__Reflection__V1__ErrorResponse *error = duct_arena_alloc(arena, sizeof *error);
	grpc__reflection__v1__error_response__init(error);
	error->error_code = code;
	error->error_message = duct_arena_strdup(arena, message);
	to->error_response = error;
	to->message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
}

static void answer(struct duct_arena *arena, const Grpc__Reflection__V1__ServerReflectionRequest *request,
		   const char *const *services, Grpc__Reflection__V1__ServerReflectionResponse *to)
{
	struct api_bytes file;
	switch (request->message_request_case) {
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
		put_services(arena, to, services);
		return;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
		if (api_descriptor_of_file(request->file_by_filename, &file))
			put_file(arena, to, file);
		else
			put_error(arena, to, API_NOT_FOUND, "there is no such file");
		return;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
		if (api_descriptor_of_symbol(request->file_containing_symbol, &file))
			put_file(arena, to, file);
		else
			put_error(arena, to, API_NOT_FOUND, "there is no such symbol");
		return;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
		put_error(arena, to, API_NOT_FOUND, "there are no extensions");
		return;
	default: put_error(arena, to, API_INVALID_ARGUMENT, "the request asks for nothing that is known here");
	}
}

bool api_reflect(struct duct_arena *arena, struct api_bytes request, const char *const *services, struct api_bytes *ret)
{
	struct api_memory memory;
	api_memory_init(&memory, arena, 4 << 20);
	Grpc__Reflection__V1__ServerReflectionRequest *in =
		grpc__reflection__v1__server_reflection_request__unpack(&memory.allocator, request.n, request.data);
	if (!in)
		return false;
	Grpc__Reflection__V1__ServerReflectionResponse out = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
	out.valid_host = in->host;
	out.original_request = in;
	answer(arena, in, services, &out);
	uint8_t *packed = duct_arena_alloc(arena, grpc__reflection__v1__server_reflection_response__get_packed_size(&out));
	*ret = (struct api_bytes){packed, grpc__reflection__v1__server_reflection_response__pack(&out, packed)};
	return true;
}
