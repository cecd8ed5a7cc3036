/* Protobuf and JSON by the same calls: see encode.h. */
#include "otel/encode.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

#include "base/utf8.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static size_t put_varint(uint8_t to[10], uint64_t v)
{
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		to[n++] = (uint8_t)(v | 0x80);
	to[n++] = (uint8_t)v;
	return n;
}

static void varint(struct otel_out *out, uint64_t v)
{
	uint8_t bytes[10];
	duct_buf_append(&out->buf, bytes, put_varint(bytes, v));
}

static void tag(struct otel_out *out, int field, enum wire wire)
{
	varint(out, (uint64_t)field << 3 | wire);
}

static void little_endian(struct otel_out *out, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++, v >>= 8)
		duct_buf_putc(&out->buf, (char)(v & 0xff));
}

/* "name": with a comma before it where one is due. */
static void key(struct otel_out *out, const char *name)
{
	if (out->comma)
		duct_buf_putc(&out->buf, ',');
	out->comma = true;
	if (name)
		duct_buf_printf(&out->buf, "\"%s\":", name);
}

void otel_list(struct otel_out *out, const char *name)
{
	if (!out->json)
		return;
	key(out, name);
	duct_buf_putc(&out->buf, '[');
	out->comma = false;
}

void otel_list_end(struct otel_out *out)
{
	if (!out->json)
		return;
	duct_buf_putc(&out->buf, ']');
	out->comma = true;
}

void otel_open(struct otel_out *out, int field, const char *name)
{
	assert(out->depth < OTEL_DEPTH);
	if (out->json) {
		key(out, name);
		duct_buf_putc(&out->buf, '{');
		out->comma = false;
	} else if (field) {
		tag(out, field, WIRE_BYTES);
	}
	out->starts[out->depth++] = field ? out->buf.len : SIZE_MAX;
}

void otel_close(struct otel_out *out)
{
	uint8_t bytes[10];
	size_t start = out->starts[--out->depth];
	if (out->json) {
		duct_buf_putc(&out->buf, '}');
		out->comma = true;
	} else if (start != SIZE_MAX) {
		size_t len = out->buf.len - start, n = put_varint(bytes, len);
		duct_buf_room(&out->buf, n);
		memmove(out->buf.data + start + n, out->buf.data + start, len);
		memcpy(out->buf.data + start, bytes, n);
		out->buf.len += n;
	}
}

/* Both forms want UTF-8. */
void otel_text(struct otel_out *out, int field, const char *name, const char *text)
{
	size_t n = strlen(text);
	if (out->json) {
		key(out, name);
		duct_buf_json_string(&out->buf, text, n);
		return;
	}
	tag(out, field, WIRE_BYTES);
	varint(out, n);
	bool valid = duct_utf8_valid(text, n);
	for (size_t i = 0; i < n; i++)
		duct_buf_putc(&out->buf, valid || !(text[i] & 0x80) ? text[i] : '?');
}

void otel_id(struct otel_out *out, int field, const char *name, const uint8_t *id, size_t n)
{
	if (!out->json) {
		tag(out, field, WIRE_BYTES);
		varint(out, n);
		duct_buf_append(&out->buf, id, n);
		return;
	}
	key(out, name);
	duct_buf_putc(&out->buf, '"');
	for (size_t i = 0; i < n; i++)
		duct_buf_printf(&out->buf, "%02x", id[i]);
	duct_buf_putc(&out->buf, '"');
}

void otel_number(struct otel_out *out, int field, const char *name, int64_t number)
{
	if (out->json) {
		key(out, name);
		duct_buf_printf(&out->buf, "%" PRId64, number);
	} else {
		tag(out, field, WIRE_VARINT);
		varint(out, (uint64_t)number);
	}
}

void otel_int64(struct otel_out *out, int field, const char *name, int64_t number)
{
	if (out->json) {
		key(out, name);
		duct_buf_printf(&out->buf, "\"%" PRId64 "\"", number);
	} else {
		otel_number(out, field, name, number);
	}
}

void otel_flag(struct otel_out *out, int field, const char *name, bool flag)
{
	if (out->json) {
		key(out, name);
		duct_buf_puts(&out->buf, flag ? "true" : "false");
	} else {
		otel_number(out, field, name, flag);
	}
}

void otel_fixed32(struct otel_out *out, int field, const char *name, uint32_t number)
{
	if (out->json) {
		otel_number(out, field, name, number);
		return;
	}
	tag(out, field, WIRE_32);
	little_endian(out, number, 4);
}

static void put_fixed64(struct otel_out *out, uint64_t number)
{
	if (out->json)
		duct_buf_printf(&out->buf, "\"%" PRIu64 "\"", number);
	else
		little_endian(out, number, 8);
}

static void put_double(struct otel_out *out, double number)
{
	uint64_t bits;
	memcpy(&bits, &number, sizeof bits);
	if (!out->json)
		little_endian(out, bits, 8);
	else if (isfinite(number))
		duct_buf_printf(&out->buf, "%.17g", number);
	else
		duct_buf_puts(&out->buf, isnan(number) ? "\"NaN\"" : number > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

void otel_fixed64(struct otel_out *out, int field, const char *name, uint64_t number)
{
	if (out->json)
		key(out, name);
	else
		tag(out, field, WIRE_64);
	put_fixed64(out, number);
}

void otel_double(struct otel_out *out, int field, const char *name, double number)
{
	if (out->json)
		key(out, name);
	else
		tag(out, field, WIRE_64);
	put_double(out, number);
}

static void begin_packed(struct otel_out *out, int field, const char *name, size_t n)
{
	otel_list(out, name);
	if (out->json)
		return;
	tag(out, field, WIRE_BYTES);
	varint(out, 8 * n);
}

void otel_fixed64s(struct otel_out *out, int field, const char *name, const uint64_t *numbers, size_t n)
{
	begin_packed(out, field, name, n);
	for (size_t i = 0; i < n; i++) {
		if (out->json)
			key(out, NULL);
		put_fixed64(out, numbers[i]);
	}
	otel_list_end(out);
}

void otel_doubles(struct otel_out *out, int field, const char *name, const double *numbers, size_t n)
{
	begin_packed(out, field, name, n);
	for (size_t i = 0; i < n; i++) {
		if (out->json)
			key(out, NULL);
		put_double(out, numbers[i]);
	}
	otel_list_end(out);
}

void otel_item(struct otel_out *out, const void *data, size_t n)
{
	if (out->json)
		key(out, NULL);
	duct_buf_append(&out->buf, data, n);
}

static void begin_attr(struct otel_out *out, int field, const char *name)
{
	otel_open(out, field, NULL);
	otel_text(out, 1, "key", name);
	otel_open(out, 2, "value");
}

void otel_attr_text(struct otel_out *out, int field, const char *name, const char *text)
{
	begin_attr(out, field, name);
	otel_text(out, 1, "stringValue", text);
	otel_close(out);
	otel_close(out);
}

void otel_attr_number(struct otel_out *out, int field, const char *name, int64_t number)
{
	begin_attr(out, field, name);
	otel_int64(out, 3, "intValue", number);
	otel_close(out);
	otel_close(out);
}
