/* A query's columns as columns of a lake table. */
#include "duck/types.h"
#include "land/land.h"

#include <string.h>

/* Its columns with their types, and the list of a SELECT that casts what must be. */
static int take_columns(duckdb_result *result, struct duct_arena *arena, struct land_shape *ret, struct duct_buf *list,
			struct duct_buf *casts)
{
	int n = (int)duckdb_column_count(result);
	ret->columns = duct_arena_zalloc(arena, ((size_t)n + 1) * sizeof *ret->columns);
	for (int i = 0; i < n; i++) {
		struct duct_type *type = duct_arena_zalloc(arena, sizeof *type);
		duckdb_logical_type from = duckdb_column_logical_type(result, (idx_t)i);
		bool same = duck_read_type(from, arena, type);
		duckdb_destroy_logical_type(&from);
		const char *name = duct_arena_strdup(arena, duckdb_column_name(result, (idx_t)i));
		ret->columns[i] = (struct lake_column_def){.name = name, .type = type};
		duct_buf_puts(list, i ? ", " : "");
		if (!same) {
			duct_buf_puts(list, "CAST(");
			duct_buf_sql_ident(list, name);
			duct_buf_puts(list, " AS ");
			duck_sql_type(list, type);
			duct_buf_puts(list, ") AS ");
			duct_buf_puts(casts, casts->len ? ", " : "");
			duct_buf_sql_ident(casts, name);
			duct_buf_puts(casts, " as ");
			duck_sql_type(casts, type);
		}
		duct_buf_sql_ident(list, name);
	}
	return n;
}

int land_shape(struct duck_conn *conn, const char *query, struct duct_arena *arena, struct land_shape *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, list = {0}, casts = {0};
	duckdb_result result;
	*ret = (struct land_shape){0};
	duct_buf_printf(&sql, "SELECT * FROM (%s\n) LIMIT 0", query);
	if (duck_query(conn, sql.data, &result, err))
		return -(int)err->class;
	ret->ncolumns = take_columns(&result, arena, ret, &list, &casts);
	duckdb_destroy_result(&result);
	sql.len = 0;
	duct_buf_printf(&sql, "SELECT %s FROM (%s\n)", list.data, query);
	ret->select = duct_arena_strdup(arena, sql.data);
	ret->casts = casts.len ? duct_arena_strdup(arena, casts.data) : NULL;
	return 0;
}

bool land_same_columns(const struct lake_table *table, const struct land_shape *shape)
{
	if (table->ncolumns != shape->ncolumns)
		return false;
	for (int i = 0; i < table->ncolumns; i++)
		if (!table->columns[i].supported || strcasecmp(table->columns[i].name, shape->columns[i].name) != 0 ||
		    !duct_type_equal(&table->columns[i].type, shape->columns[i].type))
			return false;
	return true;
}
