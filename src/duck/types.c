/* Our types in DuckDB's terms: see types.h. */
#include "duck/types.h"

#include "base/mem.h"

#include <string.h>

static const char *scalar_name(enum duct_kind kind)
{
	static const char *const names[] = {
		[DUCT_BOOL] = "BOOLEAN",     [DUCT_INT8] = "TINYINT",	     [DUCT_INT16] = "SMALLINT",
		[DUCT_INT32] = "INTEGER",    [DUCT_INT64] = "BIGINT",	     [DUCT_UINT8] = "UTINYINT",
		[DUCT_UINT16] = "USMALLINT", [DUCT_UINT32] = "UINTEGER",     [DUCT_UINT64] = "UBIGINT",
		[DUCT_FLOAT32] = "FLOAT",    [DUCT_FLOAT64] = "DOUBLE",	     [DUCT_DATE] = "DATE",
		[DUCT_TIME] = "TIME",	     [DUCT_TIMESTAMP] = "TIMESTAMP", [DUCT_TIMESTAMPTZ] = "TIMESTAMP WITH TIME ZONE",
		[DUCT_UUID] = "UUID",	     [DUCT_VARCHAR] = "VARCHAR",     [DUCT_JSON] = "JSON",
		[DUCT_BLOB] = "BLOB",
	};
	return names[kind];
}

void duck_sql_type(struct duct_buf *to, const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_DECIMAL: duct_buf_printf(to, "DECIMAL(%d,%d)", type->precision, type->scale); break;
	case DUCT_LIST:
		duck_sql_type(to, &type->children[0]);
		duct_buf_puts(to, "[]");
		break;
	case DUCT_STRUCT:
	case DUCT_MAP:
		duct_buf_puts(to, type->kind == DUCT_MAP ? "MAP(" : "STRUCT(");
		for (int i = 0; i < type->nchildren; i++) {
			duct_buf_puts(to, i ? ", " : "");
			if (type->kind == DUCT_STRUCT) {
				duct_buf_sql_ident(to, type->children[i].name);
				duct_buf_putc(to, ' ');
			}
			duck_sql_type(to, &type->children[i]);
		}
		duct_buf_putc(to, ')');
		break;
	default: duct_buf_puts(to, scalar_name(type->kind)); break;
	}
}

static duckdb_type scalar_type(enum duct_kind kind)
{
	switch (kind) {
	case DUCT_BOOL: return DUCKDB_TYPE_BOOLEAN;
	case DUCT_INT8: return DUCKDB_TYPE_TINYINT;
	case DUCT_INT16: return DUCKDB_TYPE_SMALLINT;
	case DUCT_INT32: return DUCKDB_TYPE_INTEGER;
	case DUCT_INT64: return DUCKDB_TYPE_BIGINT;
	case DUCT_UINT8: return DUCKDB_TYPE_UTINYINT;
	case DUCT_UINT16: return DUCKDB_TYPE_USMALLINT;
	case DUCT_UINT32: return DUCKDB_TYPE_UINTEGER;
	case DUCT_UINT64: return DUCKDB_TYPE_UBIGINT;
	case DUCT_FLOAT32: return DUCKDB_TYPE_FLOAT;
	case DUCT_FLOAT64: return DUCKDB_TYPE_DOUBLE;
	case DUCT_DATE: return DUCKDB_TYPE_DATE;
	case DUCT_TIME: return DUCKDB_TYPE_TIME;
	case DUCT_TIMESTAMP: return DUCKDB_TYPE_TIMESTAMP;
	case DUCT_TIMESTAMPTZ: return DUCKDB_TYPE_TIMESTAMP_TZ;
	case DUCT_UUID: return DUCKDB_TYPE_UUID;
	case DUCT_BLOB: return DUCKDB_TYPE_BLOB;
	default: return DUCKDB_TYPE_VARCHAR;
	}
}

static bool read_child(duckdb_logical_type child, const char *name, struct duct_arena *arena, struct duct_type *ret)
{
	bool same = duck_read_type(child, arena, ret);
	ret->name = duct_arena_strdup(arena, name);
	duckdb_destroy_logical_type(&child);
	return same;
}

static bool read_nested(duckdb_logical_type from, duckdb_type id, struct duct_arena *arena, struct duct_type *ret)
{
	bool same = id != DUCKDB_TYPE_ARRAY;
	ret->nchildren = id == DUCKDB_TYPE_STRUCT ? (uint16_t)duckdb_struct_type_child_count(from) : id == DUCKDB_TYPE_MAP ? 2 : 1;
	struct duct_type *children = duct_arena_zalloc(arena, (size_t)ret->nchildren * sizeof *children);
	ret->children = children;
	if (id == DUCKDB_TYPE_STRUCT) {
		ret->kind = DUCT_STRUCT;
		for (int i = 0; i < ret->nchildren; i++) {
			char *name = duckdb_struct_type_child_name(from, (idx_t)i);
			same &= read_child(duckdb_struct_type_child_type(from, (idx_t)i), name, arena, &children[i]);
			duckdb_free(name);
		}
	} else if (id == DUCKDB_TYPE_MAP) {
		ret->kind = DUCT_MAP;
		same &= read_child(duckdb_map_type_key_type(from), "key", arena, &children[0]);
		same &= read_child(duckdb_map_type_value_type(from), "value", arena, &children[1]);
	} else {
		ret->kind = DUCT_LIST;
		same &= read_child(id == DUCKDB_TYPE_ARRAY ? duckdb_array_type_child_type(from) : duckdb_list_type_child_type(from),
				   "element", arena, &children[0]);
	}
	return same;
}

static bool read_text(duckdb_logical_type from, struct duct_type *ret)
{
	char *alias = duckdb_logical_type_get_alias(from);
	ret->kind = alias && strcmp(alias, "JSON") == 0 ? DUCT_JSON : DUCT_VARCHAR;
	duckdb_free(alias);
	return true;
}

bool duck_read_type(duckdb_logical_type from, struct duct_arena *arena, struct duct_type *ret)
{
	static const struct {
		duckdb_type id;
		enum duct_kind kind;
		bool same;
	} scalars[] = {
		{DUCKDB_TYPE_BOOLEAN, DUCT_BOOL, true},
		{DUCKDB_TYPE_TINYINT, DUCT_INT8, true},
		{DUCKDB_TYPE_SMALLINT, DUCT_INT16, true},
		{DUCKDB_TYPE_INTEGER, DUCT_INT32, true},
		{DUCKDB_TYPE_BIGINT, DUCT_INT64, true},
		{DUCKDB_TYPE_UTINYINT, DUCT_UINT8, true},
		{DUCKDB_TYPE_USMALLINT, DUCT_UINT16, true},
		{DUCKDB_TYPE_UINTEGER, DUCT_UINT32, true},
		{DUCKDB_TYPE_UBIGINT, DUCT_UINT64, true},
		{DUCKDB_TYPE_FLOAT, DUCT_FLOAT32, true},
		{DUCKDB_TYPE_DOUBLE, DUCT_FLOAT64, true},
		{DUCKDB_TYPE_DATE, DUCT_DATE, true},
		{DUCKDB_TYPE_TIME, DUCT_TIME, true},
		{DUCKDB_TYPE_TIMESTAMP, DUCT_TIMESTAMP, true},
		{DUCKDB_TYPE_TIMESTAMP_S, DUCT_TIMESTAMP, false},
		{DUCKDB_TYPE_TIMESTAMP_MS, DUCT_TIMESTAMP, false},
		{DUCKDB_TYPE_TIMESTAMP_NS, DUCT_TIMESTAMP, false},
		{DUCKDB_TYPE_TIMESTAMP_TZ, DUCT_TIMESTAMPTZ, true},
		{DUCKDB_TYPE_UUID, DUCT_UUID, true},
		{DUCKDB_TYPE_BLOB, DUCT_BLOB, true},
	};
	duckdb_type id = duckdb_get_type_id(from);
	*ret = (struct duct_type){.kind = DUCT_VARCHAR};
	for (size_t i = 0; i < DUCT_LEN(scalars); i++)
		if (scalars[i].id == id) {
			ret->kind = scalars[i].kind;
			return scalars[i].same;
		}
	switch (id) {
	case DUCKDB_TYPE_VARCHAR: return read_text(from, ret);
	case DUCKDB_TYPE_DECIMAL:
		*ret = (struct duct_type){.kind = DUCT_DECIMAL,
					  .precision = duckdb_decimal_width(from),
					  .scale = duckdb_decimal_scale(from)};
		return true;
	case DUCKDB_TYPE_HUGEINT: *ret = (struct duct_type){.kind = DUCT_DECIMAL, .precision = 38}; return false;
	case DUCKDB_TYPE_STRUCT:
	case DUCKDB_TYPE_MAP:
	case DUCKDB_TYPE_LIST:
	case DUCKDB_TYPE_ARRAY: return read_nested(from, id, arena, ret);
	default: return false;
	}
}

duckdb_logical_type duck_logical_type(const struct duct_type *type)
{
	if (type->kind == DUCT_DECIMAL)
		return duckdb_create_decimal_type(type->precision, type->scale);
	if (!duct_kind_is_nested(type->kind))
		return duckdb_create_logical_type(scalar_type(type->kind));
	AUTO_FREE duckdb_logical_type *children = duct_xcalloc((size_t)type->nchildren + 1, sizeof *children);
	AUTO_FREE const char **names = duct_xcalloc((size_t)type->nchildren + 1, sizeof *names);
	for (int i = 0; i < type->nchildren; i++) {
		children[i] = duck_logical_type(&type->children[i]);
		names[i] = type->children[i].name;
	}
	duckdb_logical_type made = type->kind == DUCT_LIST ? duckdb_create_list_type(children[0])
		: type->kind == DUCT_MAP		   ? duckdb_create_map_type(children[0], children[1])
							   : duckdb_create_struct_type(children, names, type->nchildren);
	for (int i = 0; i < type->nchildren; i++)
		duckdb_destroy_logical_type(&children[i]);
	return made;
}
