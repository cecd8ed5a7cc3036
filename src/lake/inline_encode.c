/* One value for an inlined table, and the bounds of many: see inline.h. */
#include "lake/inline.h"

#include "base/utf8.h"
#include "record/format.h"

#include <math.h>
#include <string.h>

enum { LONGEST_BOUND = 256 };

static const char upper_hex[] = "0123456789ABCDEF";

static void put_hex(struct duct_buf *to, const char *p, size_t n)
{
	char *at = duct_buf_room(to, 2 * n);
	for (size_t i = 0; i < n; i++) {
		*at++ = upper_hex[(uint8_t)p[i] >> 4];
		*at++ = upper_hex[(uint8_t)p[i] & 15];
	}
	*at = 0;
	to->len += 2 * n;
}

/* Bytes for a bytea of Postgres, for a blob of SQLite, or for a text of SQLite that has a NUL inside. */
static void put_bytes(struct duct_buf *to, enum lake_inline_form form, bool text, const char *p, size_t n)
{
	static const char *const before[] = {"x'", "'\\x", "\\\\x"}, *const behind[] = {"'", "'", ""};
	bool cast = text && form == LAKE_INLINE_SQLITE;
	duct_buf_puts(to, cast ? "CAST(x'" : before[form]);
	put_hex(to, p, n);
	duct_buf_puts(to, cast ? "' AS TEXT)" : behind[form]);
}

static bool put_text(struct duct_buf *to, enum lake_inline_form form, struct duct_cell cell)
{
	if (!duct_utf8_valid(cell.data, cell.len))
		return false;
	if (form != LAKE_INLINE_SQLITE || memchr(cell.data, 0, cell.len))
		put_bytes(to, form, true, cell.data, cell.len);
	else
		duct_buf_sql_literal_n(to, cell.data, cell.len);
	return true;
}

static void put_field(struct duct_buf *to, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		static const char special[] = "\\\n\r\t", letters[] = "\\nrt";
		const char *found = p[i] ? strchr(special, p[i]) : NULL;
		if (found)
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, found ? letters[found - special] : p[i]);
	}
}

/* DuckDB reads the text of a list of JSON as one JSON array: NULL and null, blanks and repeated keys would be lost. */
static bool has_json(const struct duct_type *type)
{
	for (int i = 0; i < type->nchildren; i++)
		if (has_json(&type->children[i]))
			return true;
	return type->kind == DUCT_JSON;
}

static bool put_nested(struct duct_buf *to, enum lake_inline_form form, const struct duct_type *type, struct duct_cell cell)
{
	AUTO_BUF struct duct_buf text = {0};
	if (has_json(type))
		return false;
	duct_format_value(&text, type, cell);
	if (memchr(text.data, 0, text.len) || !duct_utf8_valid(text.data, text.len))
		return false;
	if (form == LAKE_INLINE_COPY)
		put_field(to, text.data, text.len);
	else
		duct_buf_sql_literal_n(to, text.data, text.len);
	return true;
}

bool lake_inline_value(struct duct_buf *to, enum lake_inline_form form, const struct duct_type *type, struct duct_cell cell)
{
	const char *quote = form == LAKE_INLINE_COPY ? "" : "'";
	if (!cell.data) {
		duct_buf_puts(to, form == LAKE_INLINE_COPY ? "\\N" : "NULL");
		return true;
	}
	switch (type->kind) {
	case DUCT_BOOL:
		if (form == LAKE_INLINE_SQLITE)
			duct_buf_putc(to, *cell.data ? '1' : '0');
		else
			duct_buf_puts(to, *cell.data ? "true" : "false");
		return true;
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32: duct_format_value(to, type, cell); return true;
	case DUCT_VARCHAR:
	case DUCT_JSON: return put_text(to, form, cell);
	case DUCT_BLOB: put_bytes(to, form, false, cell.data, cell.len); return true;
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return put_nested(to, form, type, cell);
	default: /* text without anything that must be escaped */
		duct_buf_puts(to, quote);
		duct_format_value(to, type, cell);
		duct_buf_puts(to, quote);
		return true;
	}
}

/* --- bounds --- */

static bool is_nan(const struct duct_type *type, struct duct_cell cell)
{
	float f;
	double d;
	if (type->kind == DUCT_FLOAT32) {
		memcpy(&f, cell.data, sizeof f);
		return isnan(f);
	}
	if (type->kind != DUCT_FLOAT64)
		return false;
	memcpy(&d, cell.data, sizeof d);
	return isnan(d);
}

static void keep(struct duct_buf *to, struct duct_cell cell)
{
	to->len = 0;
	duct_buf_append(to, cell.data, cell.len);
}

static struct duct_cell kept(const struct duct_buf *b)
{
	return (struct duct_cell){b->data, (uint32_t)b->len};
}

void lake_bounds_add(struct lake_bounds *b, const struct duct_type *type, struct duct_cell cell)
{
	if (!cell.data) {
		b->nulls++;
		return;
	}
	b->values++;
	if (duct_kind_is_nested(type->kind))
		return;
	if (is_nan(type, cell)) {
		b->nan = true;
		return;
	}
	if (!b->min.data || duct_cell_compare(type, cell, kept(&b->min)) < 0)
		keep(&b->min, cell);
	if (!b->max.data || duct_cell_compare(type, cell, kept(&b->max)) > 0)
		keep(&b->max, cell);
}

void lake_bounds_done(struct lake_bounds *b)
{
	duct_buf_done(&b->min);
	duct_buf_done(&b->max);
}

static const char *bound_text(const struct duct_type *type, const char *p, size_t n, struct duct_arena *arena)
{
	AUTO_BUF struct duct_buf text = {0};
	if (type->kind == DUCT_BLOB)
		put_hex(&text, p, n);
	else if (!memchr(p, 0, n))
		duct_buf_append(&text, p, n);
	else
		return NULL;
	return duct_arena_strdup(arena, text.data);
}

/* Of bytes: long ones are cut, and a cut upper bound is raised at its last byte that can be. NULL: there is none. */
static const char *bytes_bound(const struct duct_type *type, const struct duct_buf *b, bool upper, struct duct_arena *arena)
{
	char cut[LONGEST_BOUND];
	size_t n = b->len;
	uint8_t highest = type->kind == DUCT_BLOB ? 0xff : 0x7f;
	if (n <= LONGEST_BOUND)
		return bound_text(type, b->data, n, arena);
	n = LONGEST_BOUND;
	while (type->kind != DUCT_BLOB && n && ((uint8_t)b->data[n] & 0xc0) == 0x80)
		n--; /* not inside a character */
	memcpy(cut, b->data, n);
	if (upper) {
		while (n && (uint8_t)cut[n - 1] >= highest)
			n--;
		if (!n)
			return NULL;
		cut[n - 1]++;
	}
	return bound_text(type, cut, n, arena);
}

static const char *bound(const struct duct_type *type, const struct duct_buf *b, bool upper, struct duct_arena *arena)
{
	if (!b->data)
		return NULL;
	if (type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON || type->kind == DUCT_BLOB)
		return bytes_bound(type, b, upper, arena);
	AUTO_BUF struct duct_buf text = {0};
	duct_format_value(&text, type, kept(b));
	return duct_arena_strdup(arena, text.data);
}

struct lake_column_stats lake_bounds_stats(const struct lake_bounds *b, int64_t column_id, const struct duct_type *type,
					   struct duct_arena *arena)
{
	struct lake_column_stats stats = {.column_id = column_id,
					  .value_count = b->values,
					  .null_count = b->nulls,
					  .contains_nan = -1};
	if (type->kind == DUCT_FLOAT32 || type->kind == DUCT_FLOAT64)
		stats.contains_nan = b->nan;
	stats.min = bound(type, &b->min, false, arena);
	stats.max = bound(type, &b->max, true, arena);
	/* Equal bounds beside NaN would be taken for "all values are equal". */
	if (!stats.min || !stats.max || (b->nan && strcmp(stats.min, stats.max) == 0))
		stats.min = stats.max = NULL;
	return stats;
}
