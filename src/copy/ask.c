/* Small answers of DuckDB as texts: see ask.h. */
#include "copy/ask.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

int copy_ask(struct duck_conn *conn, const char *sql, size_t most, struct duct_arena *arena, struct copy_rows *ret,
	     struct duct_error *err)
{
	duckdb_result result;
	AUTO_FREE const char **values = NULL;
	size_t cap = 0, n = 0;
	if (duck_query(conn, sql, &result, err))
		return -(int)err->class;
	size_t ncolumns = duckdb_column_count(&result);
	for (duckdb_data_chunk chunk; (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk))
		for (idx_t row = 0; row < duckdb_data_chunk_get_size(chunk) && n < most; row++, n++) {
			values = duct_grow(values, &cap, (n + 1) * ncolumns, sizeof *values);
			for (size_t c = 0; c < ncolumns; c++)
				values[n * ncolumns + c] = duck_text_at(duckdb_data_chunk_get_vector(chunk, c), row, arena);
		}
	duckdb_destroy_result(&result);
	*ret = (struct copy_rows){
		.values = duct_arena_dup(arena, values ? (const void *)values : "", n * ncolumns * sizeof *values),
		.n = n,
		.ncolumns = ncolumns,
	};
	return 0;
}

int copy_describe(struct duck_conn *conn, const char *query, struct duct_arena *arena, struct copy_rows *ret,
		  struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql, "SELECT column_name, column_type FROM (DESCRIBE %s)", query);
	return copy_ask(conn, sql.data, 100000, arena, ret, err);
}
