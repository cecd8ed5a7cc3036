/* Rows out of memory for SQL: see duckdb.h. */
#include "destination/duckdb/duckdb.h"

#include "duck/types.h"

#include <string.h>

struct filling {
	const struct dd_rows *rows;
	size_t next;
};

static int fill(void *arg, duckdb_data_chunk chunk, struct duct_error *err)
{
	(void)err;
	struct filling *f = arg;
	size_t n = f->rows->n - f->next < DUCK_VECTOR_ROWS ? f->rows->n - f->next : DUCK_VECTOR_ROWS;
	for (int c = 0; c < f->rows->ncolumns; c++) {
		duckdb_vector v = duckdb_data_chunk_get_vector(chunk, (idx_t)c);
		for (size_t i = 0; i < n; i++)
			duck_put_cell(v, i, f->rows->types[c], f->rows->cell(f->rows->arg, f->next + i, c));
	}
	f->next += n;
	duckdb_data_chunk_set_size(chunk, n);
	return 0;
}

void dd_rows_init(struct dd_rows *rows, int ncolumns)
{
	*rows = (struct dd_rows){.ncolumns = ncolumns};
	rows->names = duct_xcalloc((size_t)ncolumns + 1, sizeof *rows->names);
	rows->types = duct_xcalloc((size_t)ncolumns + 1, sizeof *rows->types);
}

void dd_rows_done(struct dd_rows *rows)
{
	free(rows->names);
	free(rows->types);
}

int dd_rows_run(struct duckdb_dest *d, const struct dd_rows *rows, const char *before, const char *after, uint64_t *ret_changed,
		struct duct_error *err)
{
	struct filling f = {.rows = rows};
	AUTO_FREE duckdb_logical_type *types = duct_xcalloc((size_t)rows->ncolumns + 1, sizeof *types);
	AUTO_BUF struct duct_buf sql = {0};
	int rc = duck_load(err);
	if (rc)
		return rc;
	for (int c = 0; c < rows->ncolumns; c++)
		types[c] = duck_logical_type(rows->types[c]);
	struct duck_feed feed = {
		.ncolumns = rows->ncolumns,
		.names = rows->names,
		.logical = types,
		.rows = rows->n,
		.fill = fill,
		.arg = &f,
	};
	rc = duck_feed_open(d->conn, &feed, err);
	if (rc == 0) {
		duct_buf_printf(&sql, "%sduck_feed(%d)%s", before, feed.id, after);
		rc = duck_change(d->conn, sql.data, ret_changed, err);
		duck_feed_close(d->conn);
	}
	for (int c = 0; c < rows->ncolumns; c++)
		duckdb_destroy_logical_type(&types[c]);
	return rc;
}

static bool has_json(const struct duct_type *type)
{
	for (int i = 0; i < type->nchildren; i++)
		if (has_json(&type->children[i]))
			return true;
	return type->kind == DUCT_JSON;
}

void dd_rows_column(struct duct_buf *to, const char *name, const struct duct_type *type)
{
	bool cast = has_json(type);
	duct_buf_puts(to, cast ? "CAST(f." : "f.");
	duct_buf_sql_ident(to, name);
	if (!cast)
		return;
	duct_buf_puts(to, " AS ");
	duck_sql_type(to, type);
	duct_buf_putc(to, ')');
}
