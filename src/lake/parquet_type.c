/* Our types in DuckDB's terms: see parquet_internal.h. */
#include "lake/parquet_internal.h"

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
