/* Types: see type.h. */
#include "record/type.h"

#include <string.h>

uint32_t duct_type_width(const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_BOOL:
	case DUCT_INT8:
	case DUCT_UINT8: return 1;
	case DUCT_INT16:
	case DUCT_UINT16: return 2;
	case DUCT_INT32:
	case DUCT_UINT32:
	case DUCT_FLOAT32:
	case DUCT_DATE: return 4;
	case DUCT_INT64:
	case DUCT_UINT64:
	case DUCT_FLOAT64:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: return 8;
	case DUCT_DECIMAL: return type->precision <= 18 ? 8 : 16;
	case DUCT_UUID: return 16;
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB:
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return 0;
	}
	return 0;
}

static bool same_name(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool duct_type_equal(const struct duct_type *a, const struct duct_type *b)
{
	if (a->kind != b->kind || a->precision != b->precision || a->scale != b->scale || a->nchildren != b->nchildren)
		return false;
	for (int i = 0; i < a->nchildren; i++)
		if (!same_name(a->children[i].name, b->children[i].name) || !duct_type_equal(&a->children[i], &b->children[i]))
			return false;
	return true;
}

static int integer_bits(enum duct_kind kind)
{
	return kind == DUCT_INT8 ? 8 : kind == DUCT_INT16 ? 16 : kind == DUCT_INT32 ? 32 : kind == DUCT_INT64 ? 64 : 0;
}

static int unsigned_bits(enum duct_kind kind)
{
	return kind == DUCT_UINT8 ? 8 : kind == DUCT_UINT16 ? 16 : kind == DUCT_UINT32 ? 32 : kind == DUCT_UINT64 ? 64 : 0;
}

bool duct_type_widens(const struct duct_type *from, const struct duct_type *to)
{
	if (duct_type_equal(from, to))
		return true;
	if (integer_bits(from->kind) && integer_bits(to->kind))
		return integer_bits(from->kind) < integer_bits(to->kind);
	if (unsigned_bits(from->kind) && (unsigned_bits(to->kind) || integer_bits(to->kind)))
		return unsigned_bits(from->kind) < unsigned_bits(to->kind) + integer_bits(to->kind);
	if (from->kind == DUCT_FLOAT32)
		return to->kind == DUCT_FLOAT64;
	if (integer_bits(from->kind) && integer_bits(from->kind) <= 32)
		return to->kind == DUCT_FLOAT64;
	if (from->kind == DUCT_DECIMAL && to->kind == DUCT_DECIMAL)
		return to->scale >= from->scale && to->precision - to->scale >= from->precision - from->scale;
	if (from->kind == DUCT_DATE)
		return to->kind == DUCT_TIMESTAMP;
	return false;
}

struct duct_type duct_type_copy(struct duct_arena *arena, const struct duct_type *type)
{
	struct duct_type copy = *type;
	if (type->name)
		copy.name = duct_arena_strdup(arena, type->name);
	if (type->nchildren) {
		struct duct_type *children = duct_arena_alloc(arena, type->nchildren * sizeof *children);
		for (int i = 0; i < type->nchildren; i++)
			children[i] = duct_type_copy(arena, &type->children[i]);
		copy.children = children;
	}
	return copy;
}

const char *duct_kind_name(enum duct_kind kind)
{
	static const char *const names[] = {
		[DUCT_BOOL] = "boolean",
		[DUCT_INT8] = "int8",
		[DUCT_INT16] = "int16",
		[DUCT_INT32] = "int32",
		[DUCT_INT64] = "int64",
		[DUCT_UINT8] = "uint8",
		[DUCT_UINT16] = "uint16",
		[DUCT_UINT32] = "uint32",
		[DUCT_UINT64] = "uint64",
		[DUCT_FLOAT32] = "float32",
		[DUCT_FLOAT64] = "float64",
		[DUCT_DECIMAL] = "decimal",
		[DUCT_DATE] = "date",
		[DUCT_TIME] = "time",
		[DUCT_TIMESTAMP] = "timestamp",
		[DUCT_TIMESTAMPTZ] = "timestamptz",
		[DUCT_UUID] = "uuid",
		[DUCT_VARCHAR] = "varchar",
		[DUCT_JSON] = "json",
		[DUCT_BLOB] = "blob",
		[DUCT_LIST] = "list",
		[DUCT_STRUCT] = "struct",
		[DUCT_MAP] = "map",
	};
	return (size_t)kind < DUCT_LEN(names) ? names[kind] : NULL;
}

void duct_type_print(struct duct_buf *to, const struct duct_type *type)
{
	duct_buf_puts(to, duct_kind_name(type->kind));
	if (type->kind == DUCT_DECIMAL)
		duct_buf_printf(to, "(%d,%d)", type->precision, type->scale);
	for (int i = 0; i < type->nchildren; i++) {
		duct_buf_puts(to, i ? ", " : "(");
		if (type->kind == DUCT_STRUCT)
			duct_buf_printf(to, "%s ", type->children[i].name);
		duct_type_print(to, &type->children[i]);
		if (i + 1 == type->nchildren)
			duct_buf_putc(to, ')');
	}
}
