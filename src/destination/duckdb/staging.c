/*
 * Copies that land beside the tables: batch_mode staging. At the end of a copy, in its transaction, staged rows go where batch_resolution
 * says; with none they stay until resolve_staging is asked for. See duckdb.h.
 */
#include "destination/duckdb/duckdb.h"

#include "duck/types.h"

#include <string.h>

bool dd_stages(const struct duckdb_dest *d, const struct dd_table *t)
{
	return (d->config->sink.batch_mode == TABLESINK_STAGING || t->beside) && !(t->rel && t->rel->synthetic);
}

/* malloc. Without batch_mode staging it is a table of the copy's transaction only. */
static void staging_of(const struct duckdb_dest *d, const struct dd_table *t, char **ret_schema, char **ret_name)
{
	if (d->config->sink.batch_mode == TABLESINK_STAGING) {
		tablesink_staging_name(&d->config->sink, t->schema, t->name, ret_schema, ret_name);
		return;
	}
	*ret_schema = duct_xstrdup(t->schema);
	*ret_name = duct_xasprintf("ductstream copy of %u", t->oid);
}

void dd_staging_name(struct duct_buf *to, const struct duckdb_dest *d, const struct dd_table *t)
{
	char *schema, *name;
	staging_of(d, t, &schema, &name);
	dd_name(to, schema, name);
	free(schema);
	free(name);
}

int dd_staging_create(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, name = {0};
	dd_staging_name(&name, d, t);
	if (d->config->sink.staging_schema) {
		duct_buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS ");
		duct_buf_sql_ident(&sql, d->config->sink.staging_schema);
		duct_buf_puts(&sql, "; ");
	}
	duct_buf_printf(&sql, "CREATE OR REPLACE TABLE %s AS FROM ", name.data);
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " LIMIT 0");
	return duck_exec(d->conn, sql.data, err);
}

static void put_names(struct duct_buf *to, const struct dd_table *t)
{
	for (size_t i = 0; i < t->ncolumns; i++) {
		duct_buf_puts(to, i ? ", " : "");
		duct_buf_sql_ident(to, t->columns[i].name);
	}
}

/* ` WHERE [NOT ]EXISTS (...)`: rows of a with a row of the same key in `other`; nothing for tables without key. */
static void put_same_key(struct duct_buf *to, const struct dd_table *t, const char *exists, const char *other)
{
	bool first = true;
	for (size_t i = 0; i < t->ncolumns; i++) {
		if (!t->columns[i].key)
			continue;
		if (first)
			duct_buf_printf(to, " WHERE %s (FROM %s AS b WHERE ", exists, other);
		duct_buf_puts(to, first ? "a." : " AND a.");
		duct_buf_sql_ident(to, t->columns[i].name);
		duct_buf_puts(to, " = b.");
		duct_buf_sql_ident(to, t->columns[i].name);
		first = false;
	}
	duct_buf_puts(to, first ? "" : ")");
}

static bool has_key(const struct dd_table *t)
{
	for (size_t i = 0; i < t->ncolumns; i++)
		if (t->columns[i].key)
			return true;
	return false;
}

/* Rows that stay although the copy has none of their key are rows that were deleted. */
static void put_mark_deleted(struct duct_buf *to, const struct tablesink_options *o, const char *target)
{
	duct_buf_printf(to, "UPDATE %s SET ", target);
	duct_buf_sql_ident(to, o->meta_deleted);
	duct_buf_puts(to, " = true, ");
	duct_buf_sql_ident(to, o->meta_synced_at);
	duct_buf_puts(to, " = now(), ");
	duct_buf_sql_ident(to, o->meta_op);
	duct_buf_puts(to, " = 'delete' WHERE ");
	duct_buf_sql_ident(to, o->meta_deleted);
	duct_buf_puts(to, " IS DISTINCT FROM true; ");
}

/* Rows of the table end where staged ones take their place; `newer`: it may have rows that are newer than staged ones. */
static void put_make_way(struct duct_buf *to, const struct duckdb_dest *d, const struct dd_table *t, bool replace, bool newer,
			 const char *target, const char *staging)
{
	bool soft = d->config->sink.soft_delete && has_key(t);
	/* Changes up to a copy are passed over, deletions among them: what a whole table has and the copy has not is to go. */
	bool whole = t->whole && t->mode != DD_APPEND && !newer;
	if (replace || (whole && !soft)) {
		duct_buf_printf(to, "DELETE FROM %s; ", target);
	} else if (has_key(t) && !newer) {
		duct_buf_printf(to, "DELETE FROM %s AS a", target);
		put_same_key(to, t, "EXISTS", staging);
		duct_buf_puts(to, "; ");
		if (soft && !t->incomplete)
			put_mark_deleted(to, &d->config->sink, target);
	}
}

/* Staged rows of one table; `newer`: the table may have rows that are newer than staged ones of the same key. */
static int resolve_table(struct duckdb_dest *d, struct dd_table *t, bool replace, bool newer, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, staging = {0}, target = {0};
	dd_staging_name(&staging, d, t);
	dd_name(&target, t->schema, t->name);
	put_make_way(&sql, d, t, replace, newer, target.data, staging.data);
	duct_buf_printf(&sql, "INSERT INTO %s (", target.data);
	put_names(&sql, t);
	duct_buf_puts(&sql, ") SELECT ");
	put_names(&sql, t);
	duct_buf_printf(&sql, " FROM %s AS a", staging.data);
	if (newer && !replace)
		put_same_key(&sql, t, "NOT EXISTS", target.data);
	duct_buf_printf(&sql, "; DROP TABLE %s", staging.data);
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc)
		return duct_wrap(err, "staging table %s", staging.data);
	t->incomplete = false;
	t->changed = true;
	return 0;
}

static int is_staged(struct duckdb_dest *d, const struct dd_table *t, bool *ret, struct duct_error *err)
{
	char *schema, *name;
	staging_of(d, t, &schema, &name);
	int rc = dd_exists(d, schema, name, ret, err);
	free(schema);
	free(name);
	return rc;
}

int dd_staging_finish(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = 0, wanted = tablesink_resolution(&d->config->sink, d->load_flags & DUCT_LOAD_RESOLVE);
	for (size_t i = 0; i < d->ntables && rc == 0; i++) {
		struct dd_table *t = d->tables[i];
		bool staged = false;
		if (!t->rel || !dd_stages(d, t) || t->gone)
			continue;
		rc = is_staged(d, t, &staged, err);
		if (rc || !staged)
			continue;
		int how = d->config->sink.batch_mode == TABLESINK_STAGING ? wanted : TABLESINK_RESOLVE_APPEND;
		if (how != TABLESINK_RESOLVE_NONE)
			rc = resolve_table(d, t, how == TABLESINK_RESOLVE_REPLACE, false, err);
		else if (!d->apart)
			t->incomplete = t->changed = true;
		t->beside = false;
	}
	return rc;
}

int dd_staging_resolve(void *dest, struct duct_error *err)
{
	struct duckdb_dest *d = dest;
	if (d->opened_us || d->loading)
		return duct_fail(err, DUCT_FATAL, "staged rows cannot be taken over inside an open group");
	int rc = dd_begin(d, err);
	for (size_t i = 0; i < d->ntables && rc == 0; i++) {
		struct dd_table *t = d->tables[i];
		bool staged = false;
		if (!t->gone)
			rc = is_staged(d, t, &staged, err);
		if (rc == 0 && staged)
			rc = resolve_table(d, t, d->config->sink.batch_resolution == TABLESINK_RESOLVE_REPLACE, true, err);
	}
	if (rc == 0)
		rc = dd_commit(d, d->checkpoint.state, &d->checkpoint.pos, d->checkpoint.source_identity, err);
	if (rc) {
		dd_rollback(d);
		dd_tables_free(d);
	}
	return rc;
}
