/*
 * Text of lists, structs and maps as DuckDB's cast to VARCHAR gives it: a scalar inside is put in '...' with \' and \\
 * when it is empty, NULL in any case, has blanks at an end, or has one of , ' " [ ] { } ( ) = : in it; a nested value
 * never. A list of JSON is one JSON array to DuckDB: its elements are bare, and a NULL element is written as `null`,
 * because DuckDB's own spelling (NULL) cannot be read back by it.
 */
#include "record/format_internal.h"
#include "record/nested.h"

#include <strings.h>

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool needs_quotes(const char *s, size_t n)
{
	if (n == 0 || is_blank(s[0]) || is_blank(s[n - 1]) || (n == 4 && strncasecmp(s, "NULL", 4) == 0))
		return true;
	for (size_t i = 0; i < n; i++)
		if (s[i] && strchr(",'\"[]{}()=:", s[i]))
			return true;
	return false;
}

static void put_quoted(struct duct_buf *to, const char *s, size_t n)
{
	duct_buf_putc(to, '\'');
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\'' || s[i] == '\\')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, s[i]);
	}
	duct_buf_putc(to, '\'');
}

static void format_scalar(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_buf text AUTO_BUF = {0};
	if (type->kind != DUCT_VARCHAR && type->kind != DUCT_JSON) {
		duct_format_value(&text, type, cell);
		cell = (struct duct_cell){text.data, (uint32_t)text.len};
	}
	if (needs_quotes(cell.data, cell.len))
		put_quoted(to, cell.data, cell.len);
	else
		duct_buf_append(to, cell.data, cell.len);
}

static void format_child(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	if (!cell.data)
		duct_buf_puts(to, "NULL");
	else if (duct_kind_is_nested(type->kind))
		duct_format_nested(to, type, cell);
	else
		format_scalar(to, type, cell);
}

static void format_list(struct duct_buf *to, const struct duct_type *child, struct duct_reader *r)
{
	uint32_t n = duct_nested_count(r);
	duct_buf_putc(to, '[');
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		duct_buf_puts(to, i ? ", " : "");
		struct duct_cell cell = duct_nested_optional(r, child);
		if (child->kind != DUCT_JSON)
			format_child(to, child, cell);
		else if (cell.data)
			duct_buf_append(to, cell.data, cell.len);
		else
			duct_buf_puts(to, "null");
	}
	duct_buf_putc(to, ']');
}

static void format_struct(struct duct_buf *to, const struct duct_type *type, struct duct_reader *r)
{
	duct_buf_putc(to, '{');
	for (int i = 0; i < type->nchildren && !r->bad; i++) {
		const struct duct_type *child = &type->children[i];
		duct_buf_puts(to, i ? ", " : "");
		put_quoted(to, child->name, strlen(child->name));
		duct_buf_puts(to, ": ");
		format_child(to, child, duct_nested_optional(r, child));
	}
	duct_buf_putc(to, '}');
}

static void format_map(struct duct_buf *to, const struct duct_type *type, struct duct_reader *r)
{
	uint32_t n = duct_nested_count(r);
	duct_buf_putc(to, '{');
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		duct_buf_puts(to, i ? ", " : "");
		format_child(to, &type->children[0], duct_nested_value(r, &type->children[0]));
		duct_buf_putc(to, '=');
		format_child(to, &type->children[1], duct_nested_optional(r, &type->children[1]));
	}
	duct_buf_putc(to, '}');
}

void duct_format_nested(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	if (type->kind == DUCT_LIST)
		format_list(to, &type->children[0], &r);
	else if (type->kind == DUCT_STRUCT)
		format_struct(to, type, &r);
	else
		format_map(to, type, &r);
}
