/*
 * Values as JSON. What JSON has no word for is a string, spelled as Postgres spells it in JSON: times in ISO 8601 (RFC 3339 where that
 * reaches), "infinity", "NaN". Bytes are base64. See wire.h.
 */
#include "wire/wire.h"

#include "base/base64.h"
#include "record/format.h"
#include "record/nested.h"

#include <math.h>
#include <string.h>

static void put_text(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	duct_buf_putc(to, '"');
	duct_format_value(to, type, cell);
	duct_buf_putc(to, '"');
}

static void put_float(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	double v;
	if (type->kind == DUCT_FLOAT32) {
		float narrow;
		memcpy(&narrow, cell.data, sizeof narrow);
		v = (double)narrow;
	} else {
		memcpy(&v, cell.data, sizeof v);
	}
	if (isnan(v))
		duct_buf_puts(to, "\"NaN\"");
	else if (isinf(v))
		duct_buf_puts(to, v < 0 ? "\"-Infinity\"" : "\"Infinity\"");
	else
		duct_format_value(to, type, cell);
}

/* DuckDB writes .5 where JSON wants 0.5. */
static void put_decimal(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	AUTO_BUF struct duct_buf text = {0};
	duct_format_value(&text, type, cell);
	const char *digits = text.data;
	if (*digits == '-') {
		duct_buf_putc(to, '-');
		digits++;
	}
	if (*digits == '.')
		duct_buf_putc(to, '0');
	duct_buf_puts(to, digits);
}

/* From "0044-03-15 (BC) 12:30:00.1+00", with or without era, time and zone, to "0044-03-15T12:30:00.1Z BC". */
static void put_time(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	static const char era[] = " (BC)";
	AUTO_BUF struct duct_buf text = {0};
	duct_format_value(&text, type, cell);
	char *bc = strstr(text.data, era), *date_end;
	duct_buf_putc(to, '"');
	if (bc) {
		duct_buf_append(to, text.data, (size_t)(bc - text.data));
		date_end = bc + strlen(era);
	} else {
		date_end = strchr(text.data, ' ');
		date_end = date_end ? date_end : text.data + text.len;
		duct_buf_append(to, text.data, (size_t)(date_end - text.data));
	}
	if (*date_end) {
		char *zone = type->kind == DUCT_TIMESTAMPTZ ? strchr(date_end, '+') : NULL;
		size_t len = zone ? (size_t)(zone - date_end) : strlen(date_end);
		duct_buf_putc(to, 'T');
		duct_buf_append(to, date_end + 1, len - 1);
		duct_buf_puts(to, zone ? "Z" : "");
	}
	duct_buf_puts(to, bc ? " BC\"" : "\"");
}

/* Digits as Postgres prints a numeric; not NaN, not Infinity. */
static bool is_number(struct duct_cell cell)
{
	const char *p = cell.data, *end = p + cell.len;
	p += p < end && *p == '-';
	const char *whole = p;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	if (p == whole || (*whole == '0' && p - whole > 1))
		return false;
	if (p == end)
		return true;
	const char *fraction = p + 1;
	if (*p++ != '.')
		return false;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p == end && p > fraction;
}

static void put_value(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell, bool number);

static void put_list(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell, bool number)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	uint32_t n = duct_nested_count(&r);
	duct_buf_putc(to, '[');
	for (uint32_t i = 0; i < n && !r.bad; i++) {
		duct_buf_puts(to, i ? "," : "");
		put_value(to, &type->children[0], duct_nested_optional(&r, &type->children[0]), number);
	}
	duct_buf_putc(to, ']');
}

static void put_struct(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	duct_buf_putc(to, '{');
	for (int i = 0; i < type->nchildren && !r.bad; i++) {
		const struct duct_type *child = &type->children[i];
		duct_buf_puts(to, i ? "," : "");
		duct_buf_json_string(to, child->name, strlen(child->name));
		duct_buf_putc(to, ':');
		put_value(to, child, duct_nested_optional(&r, child), false);
	}
	duct_buf_putc(to, '}');
}

/* An object when keys are text, else pairs. */
static void put_map(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	bool object = type->children[0].kind == DUCT_VARCHAR;
	uint32_t n = duct_nested_count(&r);
	duct_buf_putc(to, object ? '{' : '[');
	for (uint32_t i = 0; i < n && !r.bad; i++) {
		duct_buf_puts(to, i ? "," : "");
		duct_buf_puts(to, object ? "" : "[");
		put_value(to, &type->children[0], duct_nested_value(&r, &type->children[0]), false);
		duct_buf_putc(to, object ? ':' : ',');
		put_value(to, &type->children[1], duct_nested_optional(&r, &type->children[1]), false);
		duct_buf_puts(to, object ? "" : "]");
	}
	duct_buf_putc(to, object ? '}' : ']');
}

/* number: text is a numeric that no other type can hold. */
static void put_value(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell, bool number)
{
	if (!cell.data) {
		duct_buf_puts(to, "null");
		return;
	}
	switch (type->kind) {
	case DUCT_BOOL:
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32:
	case DUCT_UINT64: duct_format_value(to, type, cell); break;
	case DUCT_FLOAT32:
	case DUCT_FLOAT64: put_float(to, type, cell); break;
	case DUCT_DECIMAL: put_decimal(to, type, cell); break;
	case DUCT_DATE:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: put_time(to, type, cell); break;
	case DUCT_TIME:
	case DUCT_UUID: put_text(to, type, cell); break;
	case DUCT_VARCHAR:
		if (number && is_number(cell))
			duct_buf_append(to, cell.data, cell.len);
		else
			duct_buf_json_string(to, cell.data, cell.len);
		break;
	case DUCT_JSON: duct_buf_append(to, cell.data, cell.len); break;
	case DUCT_BLOB:
		duct_buf_putc(to, '"');
		duct_base64_encode(to, cell.data, cell.len);
		duct_buf_putc(to, '"');
		break;
	case DUCT_LIST: put_list(to, type, cell, number); break;
	case DUCT_STRUCT: put_struct(to, type, cell); break;
	case DUCT_MAP: put_map(to, type, cell); break;
	}
}

/* Of a numeric column (or an array of them) whose digits are kept as text. */
static bool is_numeric(const struct duct_column *column)
{
	static const char name[] = "numeric";
	const char *source = column->source_type;
	return source && strncmp(source, name, strlen(name)) == 0 && strchr("([", source[strlen(name)]);
}

void wire_json_value(struct duct_buf *to, const struct duct_column *column, struct duct_cell cell)
{
	put_value(to, &column->type, cell, is_numeric(column));
}
