/* Small answers as texts: see duck.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "duck/duck.h"

/* The values of one row, cut out of their chunk. */
struct row {
	idx_t n;
	const char **values;
	char **owned;
};

char *duck_text_at(duckdb_vector vector, idx_t row, struct duct_arena *arena)
{
	uint64_t *valid = duckdb_vector_get_validity(vector);
	if (valid && !duckdb_validity_row_is_valid(valid, row))
		return NULL;
	duckdb_string_t *text = (duckdb_string_t *)duckdb_vector_get_data(vector) + row;
	size_t n = duckdb_string_t_length(*text);
	char *copy = arena ? duct_arena_alloc(arena, n + 1) : duct_xmalloc(n + 1);
	memcpy(copy, duckdb_string_t_data(text), n);
	copy[n] = 0;
	return copy;
}

static int take_chunk(duckdb_data_chunk chunk, struct row *row, duck_row_fn *take, void *arg, struct duct_error *err)
{
	int rc = 0;
	for (idx_t i = 0; i < duckdb_data_chunk_get_size(chunk) && rc == 0; i++) {
		for (idx_t c = 0; c < row->n; c++)
			row->values[c] = row->owned[c] = duck_text_at(duckdb_data_chunk_get_vector(chunk, c), i, NULL);
		rc = take(arg, row->values, err);
		for (idx_t c = 0; c < row->n; c++)
			free(row->owned[c]);
	}
	return rc;
}

static int take_result(duckdb_result *result, duck_row_fn *take, void *arg, struct duct_error *err)
{
	duckdb_data_chunk chunk;
	idx_t n = duckdb_column_count(result);
	for (idx_t c = 0; c < n; c++)
		if (duckdb_column_type(result, c) != DUCKDB_TYPE_VARCHAR)
			return duct_fail(err, DUCT_FATAL, "duckdb: column %d of an answer is no text", (int)c);
	struct row row = {.n = n, .values = duct_xcalloc(n, sizeof *row.values), .owned = duct_xcalloc(n, sizeof *row.owned)};
	int rc = 0;
	for (; rc == 0 && (chunk = duckdb_fetch_chunk(*result)); duckdb_destroy_data_chunk(&chunk))
		rc = take_chunk(chunk, &row, take, arg, err);
	if (rc != 0 && chunk)
		duckdb_destroy_data_chunk(&chunk);
	free(row.values);
	free(row.owned);
	return rc;
}

int duck_rows(struct duck_conn *conn, const char *sql, duck_row_fn *take, void *arg, struct duct_error *err)
{
	duckdb_result result;
	int rc = duck_query(conn, sql, &result, err);
	if (rc)
		return rc;
	rc = take_result(&result, take, arg, err);
	duckdb_destroy_result(&result);
	return rc;
}

static int take_first(void *arg, const char *const *values, struct duct_error *err)
{
	(void)err;
	*(char **)arg = duct_xstrdup(values[0]);
	return 1;
}

int duck_text(struct duck_conn *conn, const char *sql, char **ret, struct duct_error *err)
{
	char *text = NULL;
	int rc = duck_rows(conn, sql, take_first, &text, err);
	if (rc >= 0)
		*ret = text;
	return rc < 0 ? rc : 0;
}

static int64_t number_of(duckdb_data_chunk chunk, bool is_text)
{
	duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, 0);
	AUTO_FREE char *text = is_text ? duck_text_at(vector, 0, NULL) : NULL;
	if (is_text)
		return text ? strtoll(text, NULL, 10) : 0;
	uint64_t *validity = duckdb_vector_get_validity(vector);
	return validity && !duckdb_validity_row_is_valid(validity, 0) ? 0 : *(int64_t *)duckdb_vector_get_data(vector);
}

int duck_number(struct duck_conn *conn, const char *sql, int64_t *ret, struct duct_error *err)
{
	duckdb_result result;
	int rc = duck_query(conn, sql, &result, err);
	if (rc)
		return rc;
	duckdb_type type = duckdb_column_type(&result, 0);
	duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
	if (type != DUCKDB_TYPE_VARCHAR && type != DUCKDB_TYPE_BIGINT)
		rc = duct_fail(err, DUCT_FATAL, "duckdb: an answer is no BIGINT");
	else
		*ret = chunk && duckdb_data_chunk_get_size(chunk) ? number_of(chunk, type == DUCKDB_TYPE_VARCHAR) : 0;
	if (chunk)
		duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return rc;
}
