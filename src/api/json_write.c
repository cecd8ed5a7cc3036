#include <ctype.h>
#include <google/protobuf/timestamp.pb-c.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "api/json.h"
#include "base/base64.h"

/* ---- what both directions know about descriptors */

void api_json_camel(struct duct_buf *to, const char *name)
{
	bool up = false;
	for (; *name; name++) {
		if (*name != '_')
			duct_buf_putc(to, up ? (char)toupper((unsigned char)*name) : *name);
		up = *name == '_';
	}
}

/* Compares text of n bytes with the field's name in lowerCamelCase. */
static bool is_camel(const char *name, const char *text, size_t n)
{
	size_t at = 0;
	bool up = false;
	for (; *name; name++) {
		if (*name != '_') {
			if (at == n || text[at++] != (up ? (char)toupper((unsigned char)*name) : *name))
				return false;
		}
		up = *name == '_';
	}
	return at == n;
}

const ProtobufCFieldDescriptor *api_json_field(const ProtobufCMessageDescriptor *d, const char *name, size_t n)
{
	for (unsigned i = 0; i < d->n_fields; i++)
		if (is_camel(d->fields[i].name, name, n) ||
		    (strlen(d->fields[i].name) == n && memcmp(d->fields[i].name, name, n) == 0))
			return &d->fields[i];
	return NULL;
}

bool api_json_is_map(const ProtobufCMessageDescriptor *parent, const ProtobufCFieldDescriptor *field)
{
	const ProtobufCMessageDescriptor *entry = field->descriptor;
	if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE || entry->n_fields != 2 ||
	    entry->fields[0].id != 1 || entry->fields[1].id != 2 || strcmp(entry->fields[0].name, "key") != 0 ||
	    strcmp(entry->fields[1].name, "value") != 0 || entry->fields[0].type == PROTOBUF_C_TYPE_MESSAGE ||
	    entry->fields[0].label == PROTOBUF_C_LABEL_REPEATED || entry->fields[1].label == PROTOBUF_C_LABEL_REPEATED)
		return false;
	size_t n = strlen(parent->name);
	if (strncmp(entry->name, parent->name, n) != 0 || entry->name[n] != '.')
		return false;
	char camel[256];
	size_t at = 0;
	bool up = true;
	for (const char *p = field->name; *p && at < sizeof camel - 8; p++) {
		if (*p != '_')
			camel[at++] = up ? (char)toupper((unsigned char)*p) : *p;
		up = *p == '_';
	}
	memcpy(camel + at, "Entry", 6);
	return strcmp(entry->name + n + 1, camel) == 0;
}

size_t api_json_enum_prefix(const ProtobufCEnumDescriptor *d)
{
	static const char ending[] = "_UNSPECIFIED";
	const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(d, 0);
	size_t n = zero ? strlen(zero->name) : 0;
	if (n < sizeof ending || strcmp(zero->name + n - (sizeof ending - 1), ending) != 0)
		return 0;
	n -= sizeof ending - 2; /* the _ belongs to the prefix */
	for (unsigned i = 0; i < d->n_values; i++)
		if (strncmp(d->values[i].name, zero->name, n) != 0)
			return 0;
	return n;
}

size_t api_json_element_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE: return 8;
	case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
	default: return 4;
	}
}

/* ---- writing */

static void put_message(struct duct_buf *to, const ProtobufCMessage *message, unsigned flags);

/* The shortest text that is read back as the same number. */
static void put_double(struct duct_buf *to, double v, bool single)
{
	if (isnan(v) || isinf(v)) {
		duct_buf_puts(to, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
		return;
	}
	char text[40];
	for (int digits = single ? 6 : 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, v);
		if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v)
			break;
	}
	duct_buf_puts(to, text);
}

static void put_timestamp(struct duct_buf *to, const Google__Protobuf__Timestamp *t)
{
	static const int64_t first = -62135596800, last = 253402300799; /* 0001-01-01T00:00:00, 9999-12-31T23:59:59 */
	time_t seconds = t->seconds < first ? first : t->seconds > last ? last : t->seconds;
	int nanos = t->seconds < first || t->nanos < 0 ? 0 : t->seconds > last || t->nanos > 999999999 ? 999999999 : t->nanos;
	struct tm tm;
	gmtime_r(&seconds, &tm);
	duct_buf_printf(to, "\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			tm.tm_sec);
	if (nanos % 1000000 == 0 && nanos)
		duct_buf_printf(to, ".%03d", nanos / 1000000);
	else if (nanos % 1000 == 0 && nanos)
		duct_buf_printf(to, ".%06d", nanos / 1000);
	else if (nanos)
		duct_buf_printf(to, ".%09d", nanos);
	duct_buf_puts(to, "Z\"");
}

static void put_enum(struct duct_buf *to, const ProtobufCEnumDescriptor *d, int value)
{
	const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(d, value);
	if (known)
		duct_buf_printf(to, "\"%s\"", known->name);
	else
		duct_buf_printf(to, "%d", value);
}

static void put_text(struct duct_buf *to, const char *text)
{
	duct_buf_json_string(to, text ? text : "", text ? strlen(text) : 0);
}

/* One value at `at`, an element of the field's type. */
static void put_value(struct duct_buf *to, const ProtobufCFieldDescriptor *f, const void *at, unsigned flags)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32: duct_buf_printf(to, "%" PRId32, *(const int32_t *)at); return;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32: duct_buf_printf(to, "%" PRIu32, *(const uint32_t *)at); return;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64: duct_buf_printf(to, "\"%" PRId64 "\"", *(const int64_t *)at); return;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64: duct_buf_printf(to, "\"%" PRIu64 "\"", *(const uint64_t *)at); return;
	case PROTOBUF_C_TYPE_FLOAT: put_double(to, *(const float *)at, true); return;
	case PROTOBUF_C_TYPE_DOUBLE: put_double(to, *(const double *)at, false); return;
	case PROTOBUF_C_TYPE_BOOL: duct_buf_puts(to, *(const protobuf_c_boolean *)at ? "true" : "false"); return;
	case PROTOBUF_C_TYPE_ENUM: put_enum(to, f->descriptor, *(const int *)at); return;
	case PROTOBUF_C_TYPE_STRING: put_text(to, *(const char *const *)at); return;
	case PROTOBUF_C_TYPE_BYTES: {
		const ProtobufCBinaryData *bytes = at;
		duct_buf_putc(to, '"');
		duct_base64_encode(to, bytes->data, bytes->len);
		duct_buf_putc(to, '"');
		return;
	}
	case PROTOBUF_C_TYPE_MESSAGE: put_message(to, *(const ProtobufCMessage *const *)at, flags);
	}
}

static const void *member(const ProtobufCMessage *message, size_t offset)
{
	return (const char *)message + offset;
}

/* A key of a map: always a string. */
static void put_key(struct duct_buf *to, const ProtobufCFieldDescriptor *f, const void *at)
{
	bool quoted = f->type == PROTOBUF_C_TYPE_STRING || api_json_element_size(f->type) == 8;
	if (!quoted)
		duct_buf_putc(to, '"');
	put_value(to, f, at, 0);
	if (!quoted)
		duct_buf_putc(to, '"');
}

static void put_repeated(struct duct_buf *to, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f, unsigned flags)
{
	size_t n = *(const size_t *)member(message, f->quantifier_offset), size = api_json_element_size(f->type);
	const char *elements = *(const char *const *)member(message, f->offset);
	bool map = api_json_is_map(message->descriptor, f);
	duct_buf_putc(to, map ? '{' : '[');
	for (size_t i = 0; i < n; i++) {
		if (i)
			duct_buf_putc(to, ',');
		if (!map) {
			put_value(to, f, elements + i * size, flags);
			continue;
		}
		const ProtobufCMessage *entry = ((const ProtobufCMessage *const *)(const void *)elements)[i];
		const ProtobufCFieldDescriptor *kv = entry->descriptor->fields;
		put_key(to, &kv[0], member(entry, kv[0].offset));
		duct_buf_putc(to, ':');
		const void *value = member(entry, kv[1].offset);
		if (kv[1].type == PROTOBUF_C_TYPE_MESSAGE && !*(const void *const *)value)
			duct_buf_puts(to, "{}");
		else
			put_value(to, &kv[1], value, flags);
	}
	duct_buf_putc(to, map ? '}' : ']');
}

static bool is_zero(const ProtobufCFieldDescriptor *f, const void *at)
{
	static const char zeros[8];
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return !*(const char *const *)at || !**(const char *const *)at;
	if (f->type == PROTOBUF_C_TYPE_BYTES)
		return ((const ProtobufCBinaryData *)at)->len == 0;
	return memcmp(at, zeros, api_json_element_size(f->type)) == 0;
}

/* Is the field written? */
static bool is_there(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f, unsigned flags)
{
	const void *at = member(message, f->offset), *quantifier = member(message, f->quantifier_offset);
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)quantifier > 0 || flags & API_JSON_DEFAULTS;
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)quantifier == f->id && (f->type != PROTOBUF_C_TYPE_MESSAGE || *(const void *const *)at);
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return *(const void *const *)at != NULL;
	if (f->label == PROTOBUF_C_LABEL_OPTIONAL) /* strings have no flag of their own: NULL is absent, and so is the default */
		return f->type == PROTOBUF_C_TYPE_STRING ? *(const void *const *)at && *(const void *const *)at != f->default_value
							 : *(const protobuf_c_boolean *)quantifier;
	return f->label == PROTOBUF_C_LABEL_REQUIRED || flags & API_JSON_DEFAULTS || !is_zero(f, at);
}

static void put_message(struct duct_buf *to, const ProtobufCMessage *message, unsigned flags)
{
	const ProtobufCMessageDescriptor *d = message->descriptor;
	if (d == &google__protobuf__timestamp__descriptor) {
		put_timestamp(to, (const Google__Protobuf__Timestamp *)message);
		return;
	}
	duct_buf_putc(to, '{');
	bool first = true;
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		if (!is_there(message, f, flags))
			continue;
		duct_buf_puts(to, first ? "\"" : ",\"");
		first = false;
		if (flags & API_JSON_PROTO_NAMES)
			duct_buf_puts(to, f->name);
		else
			api_json_camel(to, f->name);
		duct_buf_puts(to, "\":");
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			put_repeated(to, message, f, flags);
		else
			put_value(to, f, member(message, f->offset), flags);
	}
	duct_buf_putc(to, '}');
}

void api_json_write(struct duct_buf *to, const ProtobufCMessage *message, unsigned flags)
{
	put_message(to, message, flags);
}
