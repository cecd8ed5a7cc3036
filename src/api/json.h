#ifndef API_JSON_H
#define API_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

/*
 * Messages as JSON, by the proto3 JSON mapping: names in lowerCamelCase, 64-bit integers as strings, bytes in base64, enums by name,
 * google.protobuf.Timestamp as RFC 3339, maps as objects, fields at their default left out.
 *
 * Map fields have no mark of their own in protobuf-c's descriptors. A repeated message is a map when its type is what protoc makes of
 * map<,>: nested in the message of the field, named like the field in CamelCase with Entry behind, with exactly key = 1 and value = 2.
 */

enum api_json_flags {
	API_JSON_PROTO_NAMES = 1 << 0, /* flow_id instead of flowId */
	API_JSON_DEFAULTS = 1 << 1,    /* also fields at their default, unless they know whether they were set */
};

/* Appends one line. Text that is not UTF-8 gets U+FFFD in its place; a Timestamp outside the years 1 to 9999 becomes the nearer end. */
void api_json_write(struct duct_buf *to, const ProtobufCMessage *message, unsigned flags);

/*
 * Reads a message of that kind; everything in it lives in the arena. Read are both spellings of a name, 64-bit integers as numbers too,
 * URL-safe base64, enums as numbers and, as flow files write them, without their prefix in small letters ("postgres" for
 * ENDPOINT_TYPE_POSTGRES). null is "not given". Unsigned numbers above 2^63-1 must be strings.
 *
 * Anything else is CONFIG: unknown fields (with the nearest name), wrong types, numbers out of range, a name given twice, text that is not
 * UTF-8 or has a NUL in it, more than API_JSON_DEPTH objects and lists inside each other, more than API_JSON_VALUES of them. All findings of
 * a text are in the error, each with its path: `flow.destinations[1].optoins: there is no such field, did you mean "options"?`. Values are
 * never quoted: they may be secrets. How large a text may be is the caller's to say.
 */
enum { API_JSON_DEPTH = 100, API_JSON_VALUES = 250000 };
int api_json_read(ProtobufCMessage **ret, const ProtobufCMessageDescriptor *descriptor, struct duct_arena *arena, const char *text,
		  size_t n, struct duct_error *err) DUCT_CHECKED;

/* The two halves of it, for those who put something in between. *ret: json_decref(). */
int api_json_parse(json_t **ret, const char *text, size_t n, struct duct_error *err) DUCT_CHECKED;
int api_json_read_parsed(ProtobufCMessage **ret, const ProtobufCMessageDescriptor *descriptor, struct duct_arena *arena,
			 json_t *from, struct duct_error *err) DUCT_CHECKED;

/* The field with that name in either spelling, or NULL. */
const ProtobufCFieldDescriptor *api_json_field(const ProtobufCMessageDescriptor *descriptor, const char *name, size_t n);
/* Is it a map? Its entries' key is fields[0] of the field's message, the value fields[1]. */
bool api_json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field);
/* Appends the field's name in lowerCamelCase. */
void api_json_camel(struct duct_buf *to, const char *name);
/* Letters before the values' own names: "ENDPOINT_TYPE_" for ENDPOINT_TYPE_UNSPECIFIED and so on; 0: they have nothing in common. */
size_t api_json_enum_prefix(const ProtobufCEnumDescriptor *descriptor);
/* Bytes of one element of that type in a message's struct or list. */
size_t api_json_element_size(ProtobufCType type);

#endif
