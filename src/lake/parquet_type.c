/* Our types in DuckDB's terms: see parquet_internal.h. */
#include "lake/parquet_internal.h"

#include "base/mem.h"

#include <inttypes.h>

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
	case DUCT_VARCHAR:
	case DUCT_JSON: return DUCKDB_TYPE_VARCHAR;
	case DUCT_BLOB: return DUCKDB_TYPE_BLOB;
	case DUCT_DECIMAL:
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: break;
	}
	return DUCKDB_TYPE_INVALID;
}

static duckdb_logical_type struct_type(const struct duct_type *type)
{
	AUTO_FREE duckdb_logical_type *members = duct_xcalloc(type->nchildren, sizeof *members);
	AUTO_FREE const char **names = duct_xcalloc(type->nchildren, sizeof *names);
	for (int i = 0; i < type->nchildren; i++) {
		members[i] = lake_duck_type(&type->children[i]);
		names[i] = type->children[i].name;
	}
	duckdb_logical_type t = duckdb_create_struct_type(members, names, type->nchildren);
	for (int i = 0; i < type->nchildren; i++)
		duckdb_destroy_logical_type(&members[i]);
	return t;
}

duckdb_logical_type lake_duck_type(const struct duct_type *type)
{
	duckdb_logical_type t, key, value;
	switch (type->kind) {
	case DUCT_DECIMAL: return duckdb_create_decimal_type(type->precision, type->scale);
	case DUCT_STRUCT: return struct_type(type);
	case DUCT_LIST:
		value = lake_duck_type(&type->children[0]);
		t = duckdb_create_list_type(value);
		duckdb_destroy_logical_type(&value);
		return t;
	case DUCT_MAP:
		key = lake_duck_type(&type->children[0]);
		value = lake_duck_type(&type->children[1]);
		t = duckdb_create_map_type(key, value);
		duckdb_destroy_logical_type(&key);
		duckdb_destroy_logical_type(&value);
		return t;
	case DUCT_JSON:
		t = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
		duckdb_logical_type_set_alias(t, "JSON"); /* makes the Parquet column's logical type JSON */
		return t;
	default: return duckdb_create_logical_type(scalar_type(type->kind));
	}
}

static const char *scalar_name(enum duct_kind kind)
{
	static const char *const names[] = {
		[DUCT_BOOL] = "BOOLEAN", [DUCT_INT8] = "TINYINT", [DUCT_INT16] = "SMALLINT",
		[DUCT_INT32] = "INTEGER", [DUCT_INT64] = "BIGINT", [DUCT_UINT8] = "UTINYINT",
		[DUCT_UINT16] = "USMALLINT", [DUCT_UINT32] = "UINTEGER", [DUCT_UINT64] = "UBIGINT",
		[DUCT_FLOAT32] = "FLOAT", [DUCT_FLOAT64] = "DOUBLE", [DUCT_DATE] = "DATE",
		[DUCT_TIME] = "TIME", [DUCT_TIMESTAMP] = "TIMESTAMP",
		[DUCT_TIMESTAMPTZ] = "TIMESTAMP WITH TIME ZONE", [DUCT_UUID] = "UUID",
		[DUCT_VARCHAR] = "VARCHAR", [DUCT_JSON] = "JSON", [DUCT_BLOB] = "BLOB",
	};
	return names[kind];
}

void lake_sql_type(struct duct_buf *to, const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_DECIMAL: duct_buf_printf(to, "DECIMAL(%d,%d)", type->precision, type->scale); break;
	case DUCT_LIST:
		lake_sql_type(to, &type->children[0]);
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
			lake_sql_type(to, &type->children[i]);
		}
		duct_buf_putc(to, ')');
		break;
	default: duct_buf_puts(to, scalar_name(type->kind)); break;
	}
}

/* Takes the ids of the nodes below from *ids, depth-first. */
static void put_field(struct duct_buf *to, const char *name, int64_t id, const struct duct_type *type, const int64_t **ids)
{
	duct_buf_sql_literal(to, name);
	if (!type->nchildren) {
		duct_buf_printf(to, ": %" PRId64, id);
		return;
	}
	duct_buf_printf(to, ": {__duckdb_field_id: %" PRId64, id);
	for (int i = 0; i < type->nchildren; i++) {
		duct_buf_puts(to, ", ");
		int64_t child_id = *(*ids)++;
		put_field(to, type->children[i].name, child_id, &type->children[i], ids);
	}
	duct_buf_putc(to, '}');
}

void lake_sql_field_ids(struct duct_buf *to, const struct lake_column *column)
{
	const int64_t *ids = column->leaf_ids;
	put_field(to, column->name, column->id, &column->type, &ids);
}
