/* Our types in DuckDB's terms: see types.h. */
#include "duck/types.h"

#include "base/mem.h"

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
