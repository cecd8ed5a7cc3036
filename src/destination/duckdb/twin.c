/*
 * Replays: what they do to a table by key goes to a twin of it, a temporary table c0 .. of its columns and u0 .., true where the replay has not sent
 * the value; `gone` has the keys that were changed. The table stays as it is until all has come: its rows are newer than the changes, so the
 * one of the same key has what was not sent, for had that changed since, a later change of the replay would have sent it. See slots.h.
 */
#include "destination/duckdb/slots.h"

#include "base/killpoint.h"

#include <inttypes.h>

static void put_twin(struct duct_buf *to, const struct dd_table *t)
{
	duct_buf_printf(to, "temp.ductstream_twin_%" PRIu32, t->oid);
}

static void put_gone(struct duct_buf *to, const struct dd_table *t)
{
	duct_buf_printf(to, "temp.ductstream_gone_%" PRIu32, t->oid);
}

/* The column of the table in which a key column of the relation is. */
static int column_of(const struct dd_table *t, int key)
{
	int i = 0;
	while (t->map[i] != key)
		i++;
	return i;
}

static int begin(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (t->twin)
		return 0;
	duct_buf_puts(&sql, "CREATE OR REPLACE TEMP TABLE ");
	put_twin(&sql, t);
	duct_buf_puts(&sql, " AS SELECT ");
	for (size_t i = 0; i < t->ncolumns; i++) {
		duct_buf_puts(&sql, i ? ", " : "");
		duct_buf_sql_ident(&sql, t->columns[i].name);
		duct_buf_printf(&sql, " AS c%zu, false AS u%zu", i, i);
	}
	duct_buf_puts(&sql, " FROM ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " LIMIT 0; CREATE OR REPLACE TEMP TABLE ");
	put_gone(&sql, t);
	duct_buf_puts(&sql, " AS SELECT ");
	for (int k = 0; k < t->rel->nkeys; k++)
		duct_buf_printf(&sql, "%sc%d AS k%d", k ? ", " : "", column_of(t, t->rel->keys[k]), k);
	duct_buf_puts(&sql, " FROM ");
	put_twin(&sql, t);
	int rc = duck_exec(d->conn, sql.data, err);
	t->twin = rc == 0;
	return rc;
}

/* `w.c0 = f.k0 AND ..`: w is the twin, f the slots. */
static void put_match(struct duct_buf *to, const struct slots *s)
{
	for (int k = 0; k < s->nkeys; k++) {
		duct_buf_printf(to, "%sw.c%d = ", k ? " AND " : "", column_of(s->t, s->keys[k]));
		slots_put_key(to, s, k);
	}
}

static bool is_stored(const struct slots *s, int column)
{
	for (int i = 0; i < s->nstored; i++)
		if (s->stored[i] == column)
			return true;
	return false;
}

/* `INSERT INTO TO SELECT values FROM `, with what the row before, w, has of what is not sent. */
static void put_insert(struct duct_buf *sql, const struct slots *s)
{
	duct_buf_puts(sql, " SELECT ");
	for (int i = 0; i < (int)s->t->ncolumns; i++) {
		bool stored = is_stored(s, i);
		duct_buf_puts(sql, i ? ", " : "");
		if (stored)
			duct_buf_printf(sql, "CASE WHEN f.u%d THEN w.c%d ELSE ", i, i);
		slots_put_value(sql, s, i);
		if (stored)
			duct_buf_printf(sql, " END, f.u%d AND coalesce(w.u%d, true)", i, i);
		else
			duct_buf_puts(sql, ", false");
	}
	duct_buf_puts(sql, " FROM ");
}

/* Rows that are not sent whole, put together aside: the twin may have what they lack under the keys that they had before. */
static int put_aside(struct duckdb_dest *d, struct slots *lacking, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, before = {0}, after = {0};
	uint64_t ignored;
	duct_buf_puts(&sql, "CREATE OR REPLACE TEMP TABLE ductstream_lacking AS FROM ");
	put_twin(&sql, lacking->t);
	duct_buf_puts(&sql, " LIMIT 0");
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc)
		return rc;
	duct_buf_puts(&before, "INSERT INTO temp.ductstream_lacking");
	put_insert(&before, lacking);
	duct_buf_puts(&after, " AS f LEFT JOIN ");
	put_twin(&after, lacking->t);
	duct_buf_puts(&after, " AS w ON ");
	put_match(&after, lacking);
	return slots_run(d, lacking, before.data, after.data, &ignored, err);
}

static int take_away(struct duckdb_dest *d, struct slots *dead, struct duct_error *err)
{
	AUTO_BUF struct duct_buf before = {0}, after = {0}, gone = {0};
	uint64_t ignored;
	duct_buf_puts(&before, "DELETE FROM ");
	put_twin(&before, dead->t);
	duct_buf_puts(&before, " AS w USING ");
	duct_buf_puts(&after, " AS f WHERE ");
	put_match(&after, dead);
	int rc = slots_run(d, dead, before.data, after.data, &ignored, err);
	duct_buf_puts(&gone, "INSERT INTO ");
	put_gone(&gone, dead->t);
	duct_buf_puts(&gone, " SELECT ");
	for (int k = 0; k < dead->nkeys; k++) {
		duct_buf_puts(&gone, k ? ", " : "");
		slots_put_key(&gone, dead, k);
	}
	duct_buf_puts(&gone, " FROM ");
	return rc ? rc : slots_run(d, dead, gone.data, " AS f", &ignored, err);
}

static int add(struct duckdb_dest *d, struct slots *new, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	uint64_t ignored;
	duct_buf_puts(&sql, "INSERT INTO ");
	put_twin(&sql, new->t);
	put_insert(&sql, new);
	return slots_run(d, new, sql.data, " AS f", &ignored, err);
}

static int add_from_aside(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "INSERT INTO ");
	put_twin(&sql, t);
	duct_buf_puts(&sql, " FROM temp.ductstream_lacking; DROP TABLE temp.ductstream_lacking");
	return duck_exec(d->conn, sql.data, err);
}

int twin_apply(struct duckdb_dest *d, struct dd_table *t, struct slots_plan *p, struct duct_error *err)
{
	int rc = begin(d, t, err);
	if (rc == 0 && p->lacking.n)
		rc = put_aside(d, &p->lacking, err);
	if (rc == 0 && p->dead.n)
		rc = take_away(d, &p->dead, err);
	if (rc == 0 && p->new.n)
		rc = add(d, &p->new, err);
	if (rc == 0 && p->lacking.n)
		rc = add_from_aside(d, t, err);
	return rc;
}

int twin_truncate(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (!t->twin)
		return 0;
	duct_buf_puts(&sql, "DELETE FROM ");
	put_twin(&sql, t);
	return duck_exec(d->conn, sql.data, err);
}

/* `t."id" = w.LETTER0 AND ..`: t is the table. */
static void put_table_match(struct duct_buf *to, const struct dd_table *t, bool gone)
{
	for (int k = 0; k < t->rel->nkeys; k++) {
		int column = column_of(t, t->rel->keys[k]);
		duct_buf_puts(to, k ? " AND t." : "t.");
		duct_buf_sql_ident(to, t->columns[column].name);
		duct_buf_printf(to, gone ? " = w.k%d" : " = w.c%d", gone ? k : column);
	}
}

/* The rows of the twin, whole; *ret_column: one that some row lacks in twin and table, -1. */
static int complete(struct duckdb_dest *d, const struct dd_table *t, int *ret_column, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	const char *key = t->columns[column_of(t, t->rel->keys[0])].name; /* NULL where the table has no such row */
	duckdb_result result;
	duct_buf_puts(&sql, "CREATE OR REPLACE TEMP TABLE ductstream_whole AS SELECT CASE");
	for (size_t i = 0; i < t->ncolumns; i++) {
		duct_buf_printf(&sql, " WHEN w.u%zu AND t.", i);
		duct_buf_sql_ident(&sql, key);
		duct_buf_printf(&sql, " IS NULL THEN %zu", i);
	}
	duct_buf_puts(&sql, " ELSE -1 END AS lacks");
	for (size_t i = 0; i < t->ncolumns; i++) {
		duct_buf_printf(&sql, ", CASE WHEN w.u%zu THEN t.", i);
		duct_buf_sql_ident(&sql, t->columns[i].name);
		duct_buf_printf(&sql, " ELSE w.c%zu END AS c%zu", i, i);
	}
	duct_buf_puts(&sql, " FROM ");
	put_twin(&sql, t);
	duct_buf_puts(&sql, " AS w LEFT JOIN ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " AS t ON ");
	put_table_match(&sql, t, false);
	int rc = duck_exec(d->conn, sql.data, err);
	rc = rc ? rc : duck_query(d->conn, "SELECT coalesce(max(lacks), -1)::INTEGER FROM temp.ductstream_whole", &result, err);
	if (rc)
		return rc;
	duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
	*ret_column = chunk ? *(int32_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0)) : -1;
	if (chunk)
		duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return 0;
}

static int exchange(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "DELETE FROM ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " AS t USING ");
	put_gone(&sql, t);
	duct_buf_puts(&sql, " AS w WHERE ");
	put_table_match(&sql, t, true);
	int rc = duck_exec(d->conn, sql.data, err);
	duct_kill_point("duckdb-statement");
	sql.len = 0;
	duct_buf_puts(&sql, "INSERT INTO ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " (");
	for (size_t i = 0; i < t->ncolumns; i++) {
		duct_buf_puts(&sql, i ? ", " : "");
		duct_buf_sql_ident(&sql, t->columns[i].name);
	}
	duct_buf_puts(&sql, ") SELECT * EXCLUDE (lacks) FROM temp.ductstream_whole; DROP TABLE temp.ductstream_whole; DROP TABLE ");
	put_twin(&sql, t);
	duct_buf_puts(&sql, "; DROP TABLE ");
	put_gone(&sql, t);
	return rc ? rc : duck_exec(d->conn, sql.data, err);
}

int twin_finish(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	int lacks = -1;
	int rc = complete(d, t, &lacks, err);
	if (rc == 0 && lacks >= 0)
		rc = slots_lack(t, lacks, err);
	if (rc == 0)
		rc = exchange(d, t, err);
	t->modified = true;
	t->twin = false;
	return rc;
}
