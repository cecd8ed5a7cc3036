/* One JSON value as the bytes of a column's type. */
#include "ingest/shape.h"

#include <errno.h>
#include <string.h>

#include "record/format.h"

static int refuse(const struct duct_type *type, const struct json_doc *doc, const struct json_node *node, struct duct_error *err)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_type_print(&name, type);
	return duct_fail(err, DUCT_DATA, "%.*s is no %s", (int)(node->len < 60 ? node->len : 60), doc->text + node->at, name.data);
}

static bool put_integer(const struct duct_type *type, const struct json_doc *doc, const struct json_node *node, struct duct_buf *to)
{
	const char *s = doc->text + node->at, *end = s + node->len;
	bool minus = *s == '-';
	int64_t v = 0, span = (int64_t)1 << (duct_type_width(type) * 8 - 1 > 62 ? 62 : duct_type_width(type) * 8 - 1);
	for (s += minus; s < end; s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, minus ? '0' - *s : *s - '0', &v))
			return false;
	if (duct_type_width(type) < 8 && (v >= span || v < -span))
		return false;
	duct_buf_append(to, &v, duct_type_width(type)); /* little-endian: the low bytes are the narrow value */
	return true;
}

static bool put_double(const struct json_doc *doc, const struct json_node *node, struct duct_buf *to)
{
	char text[64], *end, *long_text = NULL;
	bool fits = node->len < sizeof text;
	char *at = fits ? text : (long_text = duct_xstrndup(doc->text + node->at, node->len));
	if (fits) {
		memcpy(text, doc->text + node->at, node->len);
		text[node->len] = 0;
	}
	double d = strtod(at, &end);
	free(long_text);
	/* A whole number that a double cannot hold would come out as another one. */
	if (node->kind == JSON_KIND_INTEGER && (d >= 0x1p53 || d <= -0x1p53))
		return false;
	if (d > 1.7976931348623157e308 || d < -1.7976931348623157e308)
		return false;
	duct_buf_append(to, &d, sizeof d);
	return true;
}

/* "+0200" behind a time. */
static bool has_plain_offset(const struct duct_buf *text)
{
	const char *sign = text->len > 15 ? text->data + text->len - 5 : "";
	return (*sign == '+' || *sign == '-') && strspn(sign + 1, "0123456789") == 4;
}

/* Text as DuckDB writes such values: "2024-10-15T08:00:00.5Z" is "2024-10-15 08:00:00.5+00" there. */
static int put_parsed(const struct duct_type *type, struct duct_buf *text, struct duct_buf *to, struct duct_error *err)
{
	bool time = type->kind == DUCT_TIMESTAMP || type->kind == DUCT_TIMESTAMPTZ;
	if (time && text->len > 10 && (text->data[10] == 'T' || text->data[10] == 't'))
		text->data[10] = ' ';
	if (time && text->len && (text->data[text->len - 1] == 'Z' || text->data[text->len - 1] == 'z')) {
		text->data[--text->len] = 0;
		if (type->kind == DUCT_TIMESTAMPTZ)
			duct_buf_puts(text, "+00");
	}
	if (type->kind == DUCT_TIMESTAMPTZ && has_plain_offset(text)) {
		duct_buf_puts(text, ":");
		memmove(text->data + text->len - 2, text->data + text->len - 3, 2);
		text->data[text->len - 3] = ':';
	}
	return duct_parse_value(to, type, text->data, text->len, err);
}

int ingest_value(const struct duct_type *type, const struct json_doc *doc, const struct json_node *node, struct duct_buf *to,
		 struct duct_error *err)
{
	bool text = node->kind == JSON_KIND_STRING, number = node->kind == JSON_KIND_INTEGER || node->kind == JSON_KIND_NUMBER;
	bool good = false;
	switch (type->kind) {
	case DUCT_JSON:
		if (text)
			duct_buf_append(to, doc->text + node->at - 1, node->len + 2);
		else
			duct_buf_append(to, doc->text + node->at, node->len);
		return 0;
	case DUCT_VARCHAR:
		if (text)
			json_unescape(doc, node, to);
		else
			duct_buf_append(to, doc->text + node->at, node->len);
		return 0;
	case DUCT_BOOL:
		good = node->kind == JSON_KIND_TRUE || node->kind == JSON_KIND_FALSE;
		if (good)
			duct_buf_putc(to, node->kind == JSON_KIND_TRUE);
		break;
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64: good = node->kind == JSON_KIND_INTEGER && put_integer(type, doc, node, to); break;
	case DUCT_FLOAT64: good = number && put_double(doc, node, to); break;
	default:
		if (text || (number && type->kind == DUCT_DECIMAL)) {
			AUTO_BUF struct duct_buf plain = {0};
			struct duct_error ignored;
			duct_buf_puts(&plain, "");
			if (text)
				json_unescape(doc, node, &plain);
			else
				duct_buf_append(&plain, doc->text + node->at, node->len);
			good = put_parsed(type, &plain, to, &ignored) == 0;
		}
	}
	return good ? 0 : refuse(type, doc, node, err);
}
