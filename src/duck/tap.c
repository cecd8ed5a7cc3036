/* Sums of rows that pass by: see tap.h. */
#include "duck/tap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct duck_tap {
	atomic_int begun;
	pthread_mutex_t lock; /* DuckDB's threads come with a chunk each */
	uint64_t rows, null_hash;
	struct duck_tap_sum *sums;
	int ncolumns;
};

static struct duck_tap_sum sum_of(const uint64_t *hashes, idx_t n, uint64_t null_hash)
{
	struct duck_tap_sum sum = {0};
	for (idx_t i = 0; i < n; i++) {
		sum.hash += hashes[i];
		sum.nulls += hashes[i] == null_hash;
	}
	return sum;
}

/* Columns of hashes, none of them NULL; whoever asks is told TRUE. */
static void pass(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
	struct duck_tap *tap = duckdb_scalar_function_get_extra_info(info);
	/* Says to a sanitizer what DuckDB's locks, which it cannot see, have ordered: this comes after the begin. */
	(void)atomic_load(&tap->begun);
	idx_t n = duckdb_data_chunk_get_size(input);
	int ncolumns = (int)duckdb_data_chunk_get_column_count(input);
	memset(duckdb_vector_get_data(output), true, n);
	pthread_mutex_lock(&tap->lock);
	tap->rows += n;
	for (int c = 0; c < ncolumns && c < tap->ncolumns; c++) {
		struct duck_tap_sum sum =
			sum_of(duckdb_vector_get_data(duckdb_data_chunk_get_vector(input, (idx_t)c)), n, tap->null_hash);
		tap->sums[c].hash += sum.hash;
		tap->sums[c].nulls += sum.nulls;
	}
	pthread_mutex_unlock(&tap->lock);
}

static int register_tap(struct duck_tap *tap, struct duck_conn *conn, struct duct_error *err)
{
	duckdb_scalar_function f = duckdb_create_scalar_function();
	duckdb_logical_type hash = duckdb_create_logical_type(DUCKDB_TYPE_UBIGINT),
			    truth = duckdb_create_logical_type(DUCKDB_TYPE_BOOLEAN);
	duckdb_scalar_function_set_name(f, "duck_tap");
	duckdb_scalar_function_set_varargs(f, hash);
	duckdb_scalar_function_set_return_type(f, truth);
	duckdb_scalar_function_set_special_handling(f);
	duckdb_scalar_function_set_volatile(f);
	duckdb_scalar_function_set_extra_info(f, tap, NULL);
	duckdb_scalar_function_set_function(f, pass);
	int rc = duck_register_scalar(conn, f, err);
	duckdb_destroy_logical_type(&hash);
	duckdb_destroy_logical_type(&truth);
	duckdb_destroy_scalar_function(&f);
	return rc;
}

int duck_tap_open(struct duck_tap **ret, struct duck_conn *conn, struct duct_error *err)
{
	AUTO_FREE char *null_hash = NULL;
	int rc = duck_text(conn, "SELECT CAST(hash(NULL) AS VARCHAR)", &null_hash, err);
	if (rc)
		return rc;
	struct duck_tap *tap = duct_xcalloc(1, sizeof *tap);
	pthread_mutex_init(&tap->lock, NULL);
	tap->null_hash = strtoull(null_hash, NULL, 10);
	rc = register_tap(tap, conn, err);
	if (rc)
		duck_tap_close(tap);
	else
		*ret = tap;
	return rc;
}

void duck_tap_close(struct duck_tap *tap)
{
	if (!tap)
		return;
	pthread_mutex_destroy(&tap->lock);
	free(tap->sums);
	free(tap);
}

void duck_tap_put(struct duct_buf *to, const char *query, const char *const *columns, int ncolumns)
{
	duct_buf_printf(to, "SELECT * FROM (%s) WHERE duck_tap(", query);
	for (int i = 0; i < ncolumns; i++) {
		duct_buf_puts(to, i ? ", hash(" : "hash(");
		duct_buf_sql_ident(to, columns[i]);
		duct_buf_putc(to, ')');
	}
	duct_buf_putc(to, ')');
}

void duck_tap_begin(struct duck_tap *tap, int ncolumns)
{
	pthread_mutex_lock(&tap->lock);
	free(tap->sums);
	tap->sums = duct_xcalloc((size_t)ncolumns + 1, sizeof *tap->sums);
	tap->ncolumns = ncolumns;
	tap->rows = 0;
	pthread_mutex_unlock(&tap->lock);
	atomic_fetch_add(&tap->begun, 1);
}

const struct duck_tap_sum *duck_tap_sums(struct duck_tap *tap, uint64_t *ret_rows)
{
	pthread_mutex_lock(&tap->lock);
	*ret_rows = tap->rows;
	pthread_mutex_unlock(&tap->lock);
	return tap->sums;
}
