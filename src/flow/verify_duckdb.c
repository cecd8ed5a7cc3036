/*
 * The destination's side of a comparison, in a DuckDB file. The file belongs to one process at a time, so it is opened for each look and
 * released after it; while the flow writes without a pause, looks wait for their turn.
 */
#include "flow/verify_internal.h"

#include "base/clock.h"
#include "destination/duckdb/duckdb.h"
#include "duck/types.h"

#include <string.h>
#include <unistd.h>

enum { TURN_MS = 50, DEFAULT_WAIT_MS = 60000 };

static const struct tablesink_options *duckdb_sink(const void *config)
{
	return &((const struct duckdb_config *)config)->sink;
}

static int open_duckdb(struct verify *v, struct duct_error *err)
{
	const struct duckdb_config *config = v->to;
	if (access(config->dsn, F_OK) < 0)
		return duct_fail(err, DUCT_CONFIG, "there is no database file \"%s\": has the flow run, and on this machine?",
				 config->dsn);
	v->duckdb = duct_xcalloc(1, sizeof *v->duckdb);
	v->duckdb->config = config;
	v->named = *v->ctx;
	v->named.flow = v->spec->name;
	v->duckdb->ctx = &v->named;
	v->duckdb->read_only = true;
	return 0;
}

static void close_duckdb(struct verify *v)
{
	if (!v->duckdb)
		return;
	dd_release(v->duckdb);
	dd_tables_free(v->duckdb);
	free(v->duckdb->tables);
	free(v->duckdb);
}

/* The file is ours to read, and what is stored in it is known. The caller releases it. */
static int take(struct verify *v, struct duct_error *err)
{
	int64_t ms = v->options->timeout_ms ? v->options->timeout_ms : DEFAULT_WAIT_MS;
	int64_t end = duct_mono_us() + ms * 1000;
	for (;;) {
		int rc = dd_look(v->duckdb, err);
		if (!rc)
			return 0;
		dd_release(v->duckdb);
		if (rc != -DUCT_RETRY)
			return rc;
		if (duct_mono_us() >= end)
			return duct_wrap(err, "waited %lld s: pause the flow, or compare when less changes", (long long)ms / 1000);
		if ((rc = verify_pause(v, TURN_MS, err)))
			return rc;
	}
}

static int position(struct verify *v, uint64_t *ret, struct duct_error *err)
{
	int rc = take(v, err);
	*ret = v->duckdb->checkpoint.pos.lsn;
	if (!rc)
		dd_release(v->duckdb);
	return rc;
}

/* What is at the destination of this table; NULL: nothing. */
static struct dd_table *table_of(struct verify *v, const struct verify_table *t)
{
	struct dd_table *table = dd_table_find(v->duckdb, t->published->oid);
	return table && !table->gone ? table : NULL;
}

static const struct dd_column *column_of(const struct dd_table *table, const struct duct_column *c)
{
	for (size_t i = 0; i < table->ncolumns; i++)
		if (c->attnum > 0 ? table->columns[i].attnum == c->attnum : strcmp(table->columns[i].name, c->name) == 0)
			return &table->columns[i];
	return NULL;
}

static int bind_columns(struct verify *v, struct verify_table *t, struct duct_error *err)
{
	struct dd_table *table = table_of(v, t);
	const struct duct_relation *rel = t->relation->rel;
	bool there = false;
	int rc = table ? dd_exists(v->duckdb, table->schema, table->name, &there, err) : 0;
	if (rc || !there)
		return rc;
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct dd_column *c = column_of(table, &rel->columns[i]);
		if (!c)
			return duct_fail(err, DUCT_DATA, "column \"%s\" of \"%s\".\"%s\" is not in the database",
					 rel->columns[i].name, rel->schema, rel->name);
		verify_add_column(t, i, &c->type);
	}
	return 1;
}

static int duckdb_columns(struct verify *v, struct verify_table *t, struct duct_error *err)
{
	int rc = take(v, err);
	if (rc)
		return rc;
	rc = bind_columns(v, t, err);
	dd_release(v->duckdb);
	return rc;
}

/* One chunk is one batch; the columns are the table's. */
static int add_chunk(struct verify_table *t, struct duct_relation *rel, duckdb_data_chunk chunk, struct verify_digest *to,
		     struct verify_row_scratch *scratch, struct duct_error *err)
{
	idx_t n = duckdb_data_chunk_get_size(chunk);
	struct duct_batch *batch = duct_batch_new(rel, (uint32_t)n);
	int rc = 0;
	for (idx_t i = 0; i < n; i++)
		duct_batch_add_row(batch, DUCT_READ, i);
	for (int c = 0; c < rel->ncolumns; c++)
		lake_take_vector(batch, &batch->columns[c], duckdb_data_chunk_get_vector(chunk, (idx_t)c), n, NULL);
	duct_batch_seal(batch);
	for (uint32_t i = 0; i < batch->rows && !rc; i++)
		rc = verify_add_row(to, t, batch, i, false, scratch, err);
	duct_batch_unref(batch);
	return rc;
}

static struct duct_relation *relation_of(const struct verify_table *t)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = rel->name = "";
	rel->ncolumns = t->ncolumns;
	rel->columns = duct_arena_zalloc(&rel->arena, ((size_t)t->ncolumns + 1) * sizeof *rel->columns);
	for (int i = 0; i < t->ncolumns; i++) {
		rel->columns[i].name = rel->columns[i].source_type = "";
		rel->columns[i].type = duct_type_copy(&rel->arena, &t->columns[i].type);
	}
	return rel;
}

/* Columns cast to what they are, should somebody have altered them. */
static int put_select(struct duct_buf *sql, struct verify *v, const struct verify_table *t, const struct dd_table *table,
		      struct duct_error *err)
{
	const struct tablesink_options *sink = duckdb_sink(v->to);
	duct_buf_puts(sql, "SELECT ");
	for (int i = 0; i < t->ncolumns; i++) {
		const struct dd_column *c = column_of(table, &t->relation->rel->columns[t->columns[i].source]);
		if (!c || !duct_type_equal(&c->type, &t->columns[i].type))
			return duct_fail(err, DUCT_RETRY, "table of \"%s\" was altered during the comparison", t->published->name);
		duct_buf_puts(sql, i ? ", CAST(" : "CAST(");
		duct_buf_sql_ident(sql, c->name);
		duct_buf_puts(sql, " AS ");
		duck_sql_type(sql, &c->type);
		duct_buf_putc(sql, ')');
	}
	duct_buf_puts(sql, " FROM ");
	dd_name(sql, table->schema, table->name);
	if (!sink->soft_delete)
		return 0;
	duct_buf_puts(sql, " WHERE ");
	duct_buf_sql_ident(sql, sink->meta_deleted);
	duct_buf_puts(sql, " IS NOT TRUE");
	return 0;
}

static int read_rows(struct verify *v, struct verify_table *t, struct verify_digest *to, struct duct_error *err)
{
	const struct dd_table *table = table_of(v, t);
	AUTO_BUF struct duct_buf sql = {0};
	duckdb_result result;
	int rc = table ? put_select(&sql, v, t, table, err)
		       : duct_fail(err, DUCT_RETRY, "table of \"%s\" went away during the comparison", t->published->name);
	rc = rc ? rc : duck_stream(v->duckdb->conn, sql.data, &result, err);
	if (rc)
		return rc;
	struct duct_relation *rel = relation_of(t);
	struct verify_row_scratch scratch = {0};
	for (duckdb_data_chunk chunk; !rc && (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk))
		rc = duct_ctx_stopped(v->ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped")
					      : add_chunk(t, rel, chunk, to, &scratch, err);
	rc = rc ? rc : duck_result_error(v->duckdb->conn, &result, err);
	duckdb_destroy_result(&result);
	verify_row_scratch_done(&scratch);
	duct_relation_unref(rel);
	return rc;
}

static int read_duckdb(struct verify *v, struct verify_table *t, struct verify_digest *to, struct duct_error *err)
{
	int rc = take(v, err);
	if (rc)
		return rc;
	rc = read_rows(v, t, to, err);
	dd_release(v->duckdb);
	if (rc)
		return duct_wrap(err, "read \"%s\".\"%s\" in the database", t->published->schema, t->published->name);
	verify_digest_finish(to);
	return 0;
}

const struct verify_side verify_duckdb = {"duckdb", duckdb_sink, open_duckdb, position, duckdb_columns, read_duckdb, close_duckdb};
