/* Tables of the database: which one a source relation is kept in, made and brought to its versions. See duckdb.h. */
#include "destination/duckdb/duckdb.h"

#include "destination/recopy.h"
#include "duck/types.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

void dd_name(struct duct_buf *to, const char *schema, const char *name)
{
	duct_buf_sql_ident(to, schema);
	duct_buf_putc(to, '.');
	duct_buf_sql_ident(to, name);
}

struct dd_table *dd_table_find(struct duckdb_dest *d, uint32_t oid)
{
	for (size_t i = 0; i < d->ntables; i++)
		if (d->tables[i]->oid == oid)
			return d->tables[i];
	return NULL;
}

struct dd_table *dd_table_new(struct duckdb_dest *d, uint32_t oid)
{
	struct dd_table *t = duct_xcalloc(1, sizeof *t);
	t->oid = oid;
	duct_arena_init(&t->arena);
	d->tables = duct_grow(d->tables, &d->tables_cap, d->ntables + 1, sizeof *d->tables);
	d->tables[d->ntables++] = t;
	return t;
}

static void clear_columns(struct dd_table *t)
{
	for (size_t i = 0; i < t->ncolumns; i++)
		free(t->columns[i].name);
	t->ncolumns = 0;
}

static void table_free(struct dd_table *t)
{
	clear_columns(t);
	free(t->columns);
	free(t->source_schema);
	free(t->source);
	free(t->schema);
	free(t->name);
	free(t->map);
	free(t->slots);
	fold_free(t->fold);
	duct_relation_unref(t->rel);
	duct_arena_done(&t->arena);
	free(t);
}

void dd_tables_free(struct duckdb_dest *d)
{
	for (size_t i = 0; i < d->ntables; i++)
		table_free(d->tables[i]);
	d->ntables = 0;
}

void dd_table_add_column(struct dd_table *t, const char *name, const struct duct_type *type, int16_t attnum, bool key)
{
	t->columns = duct_grow(t->columns, &t->columns_cap, t->ncolumns + 1, sizeof *t->columns);
	t->columns[t->ncolumns++] = (struct dd_column){attnum, duct_xstrdup(name), duct_type_copy(&t->arena, type), key};
}

int dd_give_up(struct duckdb_dest *d, struct dd_table *t, const struct duct_relation *rel, struct duct_error *err, const char *fmt,
	       ...)
{
	va_list args;
	va_start(args, fmt);
	int rc = destination_copy_again(err, rel, d->loading || t->incomplete, t->recopies, fmt, args);
	va_end(args);
	if (rc == -DUCT_RETRY)
		d->give_up_oid = t->oid;
	return rc;
}

/* --- names --- */

static char *part_of(const char *name, bool schema)
{
	const char *dot = strchr(name, '.');
	if (!dot)
		return schema ? NULL : duct_xstrdup(name);
	return schema ? duct_xstrndup(name, (size_t)(dot - name)) : duct_xstrdup(dot + 1);
}

/* Where the relation goes; malloc. */
static void target_of(const struct duckdb_dest *d, const struct duct_relation *rel, char **ret_schema, char **ret_name)
{
	const struct duckdb_config *c = d->config;
	bool named = c->table && !rel->synthetic;
	char *schema = named ? part_of(c->table, true) : NULL;
	*ret_schema = schema ? schema : duct_xstrdup(c->schema ? c->schema : rel->schema);
	*ret_name = named ? part_of(c->table, false) : duct_xstrdup(rel->name);
}

/* The table of ours that has the place, NULL: none. */
static struct dd_table *holder(struct duckdb_dest *d, const char *schema, const char *name)
{
	for (size_t i = 0; i < d->ntables; i++)
		if (!d->tables[i]->gone && strcasecmp(d->tables[i]->schema, schema) == 0 &&
		    strcasecmp(d->tables[i]->name, name) == 0)
			return d->tables[i];
	return NULL;
}

int dd_exists(struct duckdb_dest *d, const char *schema, const char *name, bool *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duckdb_result result;
	duct_buf_puts(
		&sql,
		"SELECT 1 FROM information_schema.tables WHERE table_catalog = current_database() AND lower(table_schema) = lower(");
	duct_buf_sql_literal(&sql, schema);
	duct_buf_puts(&sql, ") AND lower(table_name) = lower(");
	duct_buf_sql_literal(&sql, name);
	duct_buf_putc(&sql, ')');
	int rc = duck_query(d->conn, sql.data, &result, err);
	if (rc)
		return rc;
	duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
	*ret = chunk && duckdb_data_chunk_get_size(chunk) > 0;
	if (chunk)
		duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return 0;
}

/* --- shape --- */

static enum dd_mode mode_of(const struct duct_relation *rel)
{
	return rel->nkeys ? DD_KEYED : rel->identity == DUCT_IDENTITY_FULL && !rel->synthetic ? DD_BAG : DD_APPEND;
}

static int check_relation(const struct duckdb_dest *d, const struct duct_relation *rel, struct duct_error *err)
{
	for (int i = 0; i < rel->ncolumns; i++)
		for (int k = 0; k < i; k++)
			if (strcasecmp(rel->columns[i].name, rel->columns[k].name) == 0)
				return duct_fail(
					err, DUCT_CONFIG,
					"columns \"%s\" and \"%s\" of \"%s\".\"%s\" have one name in DuckDB, which does not look at case: "
					"rename one",
					rel->columns[k].name, rel->columns[i].name, rel->schema, rel->name);
	if (!rel->ncolumns)
		return duct_fail(err, DUCT_CONFIG, "\"%s\".\"%s\" has no columns, and DuckDB has no such tables", rel->schema,
				 rel->name);
	if (mode_of(rel) == DD_APPEND && !rel->synthetic && d->config->no_key == DD_NO_KEY_REFUSE &&
	    !tablesink_appends(&d->config->sink))
		return duct_fail(
			err, DUCT_CONFIG,
			"\"%s\".\"%s\" has no key, and option no_key is refuse: give it a primary key, or set no_key to append",
			rel->schema, rel->name);
	return 0;
}

/* The relation is what the table is now. */
static void take_version(struct dd_table *t, struct duct_relation *rel)
{
	duct_relation_ref(rel);
	duct_relation_unref(t->rel);
	t->rel = rel;
	t->mode = mode_of(rel);
	if (!t->fold || t->fold->bag != (t->mode == DD_BAG)) {
		fold_free(t->fold);
		t->fold = fold_new(t->mode == DD_BAG);
	}
	t->map = duct_xrealloc(t->map, (t->ncolumns + 1) * sizeof *t->map);
	for (size_t i = 0; i < t->ncolumns; i++)
		t->map[i] = duct_relation_column(rel, t->columns[i].name);
	for (size_t i = 0; i < t->ncolumns; i++)
		t->columns[i].key = t->map[i] >= 0 && rel->columns[t->map[i]].key;
	if (!t->source || strcmp(t->source, rel->name) != 0 || strcmp(t->source_schema, rel->schema) != 0) {
		free(t->source);
		free(t->source_schema);
		t->source = duct_xstrdup(rel->name);
		t->source_schema = duct_xstrdup(rel->schema);
		t->changed = true;
	}
}

static int make_table(struct duckdb_dest *d, struct dd_table *t, const struct duct_relation *rel, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	duct_buf_sql_ident(&sql, t->schema);
	duct_buf_puts(&sql, "; DROP TABLE IF EXISTS ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, "; CREATE TABLE ");
	dd_name(&sql, t->schema, t->name);
	clear_columns(t);
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		duct_buf_puts(&sql, i ? ", " : "(");
		duct_buf_sql_ident(&sql, c->name);
		duct_buf_putc(&sql, ' ');
		duck_sql_type(&sql, &c->type);
		dd_table_add_column(t, c->name, &c->type, c->attnum, c->key);
	}
	duct_buf_putc(&sql, ')');
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc)
		return duct_wrap(err, "source table \"%s\".\"%s\"", rel->schema, rel->name);
	t->changed = true;
	return 0;
}

/* The place is taken by another source table: one that was dropped there gives it up, any other keeps it. `t` may be NULL. */
static int clear_place(struct duckdb_dest *d, const struct dd_table *t, const char *schema, const char *name,
		       const struct duct_relation *rel, struct duct_error *err)
{
	struct dd_table *other = holder(d, schema, name);
	bool there = false;
	if (other && other == t)
		return 0;
	if (other) {
		if (strcmp(other->source_schema, rel->schema) != 0 || strcmp(other->source, rel->name) != 0)
			return duct_fail(
				err, DUCT_CONFIG,
				"\"%s\".\"%s\" and \"%s\".\"%s\" of the source would both be \"%s\".\"%s\": leave option schema or table "
				"out, or make a flow for each",
				other->source_schema, other->source, rel->schema, rel->name, schema, name);
		other->gone = other->changed = true;
		return 0;
	}
	int rc = dd_exists(d, schema, name, &there, err);
	if (rc == 0 && there)
		return duct_fail(
			err, DUCT_CONFIG,
			"the database has a table \"%s\".\"%s\" that flow \"%s\" did not make: rename or drop it, or set option schema",
			schema, name, d->ctx->flow);
	return rc;
}

/* Rows of a table that is made again, while it is made. */
struct carried {
	char *from; /* `"schema"."name"`; NULL: there are none */
	char **names;
	size_t n;
};

static int put_aside(struct duckdb_dest *d, const struct dd_table *before, struct carried *c, struct duct_error *err)
{
	static const char passing[] = "ductstream table that is made again";
	AUTO_BUF struct duct_buf sql = {0}, from = {0};
	bool there = false;
	int rc = dd_exists(d, before->schema, before->name, &there, err);
	if (rc || !there)
		return rc;
	duct_buf_puts(&sql, "ALTER TABLE ");
	dd_name(&sql, before->schema, before->name);
	duct_buf_puts(&sql, " RENAME TO ");
	duct_buf_sql_ident(&sql, passing);
	dd_name(&from, before->schema, passing);
	c->from = duct_steal(&from.data);
	c->names = duct_xcalloc(before->ncolumns + 1, sizeof *c->names);
	for (; c->n < before->ncolumns; c->n++)
		c->names[c->n] = duct_xstrdup(before->columns[c->n].name);
	return duck_exec(d->conn, sql.data, err);
}

/* As far as columns of that name are there, and have the values. */
static int bring_back(struct duckdb_dest *d, const struct dd_table *t, const struct carried *c, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, names = {0}, values = {0};
	for (size_t i = 0; i < t->ncolumns; i++)
		for (size_t k = 0; k < c->n; k++) {
			if (strcasecmp(t->columns[i].name, c->names[k]) != 0)
				continue;
			duct_buf_puts(&names, names.len ? ", " : "");
			duct_buf_sql_ident(&names, t->columns[i].name);
			duct_buf_puts(&values, values.len ? ", TRY_CAST(" : "TRY_CAST(");
			duct_buf_sql_ident(&values, t->columns[i].name);
			duct_buf_puts(&values, " AS ");
			duck_sql_type(&values, &t->columns[i].type);
			duct_buf_putc(&values, ')');
		}
	if (names.len) {
		duct_buf_puts(&sql, "INSERT INTO ");
		dd_name(&sql, t->schema, t->name);
		duct_buf_printf(&sql, " (%s) SELECT %s FROM %s; ", names.data, values.data, c->from);
	}
	duct_buf_printf(&sql, "DROP TABLE %s", c->from);
	return duck_exec(d->conn, sql.data, err);
}

static void carried_done(struct carried *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->names[i]);
	free(c->names);
	free(c->from);
}

/* Makes the table; where rows are kept that the source does not have, those of before stay in it. */
static int make_again(struct duckdb_dest *d, struct dd_table *t, const struct duct_relation *rel, struct carried *c,
		      struct duct_error *err)
{
	int rc = make_table(d, t, rel, err);
	if (rc == 0 && c->from)
		rc = bring_back(d, t, c, err);
	if (rc == 0 && c->from)
		t->beside = d->loading;
	return rc;
}

int dd_table_create(struct duckdb_dest *d, struct duct_relation *rel, struct dd_table **ret, struct duct_error *err)
{
	struct dd_table *t = dd_table_find(d, rel->oid);
	struct carried carried = {0};
	char *schema, *name;
	int rc = check_relation(d, rel, err);
	if (rc)
		return rc;
	target_of(d, rel, &schema, &name);
	const struct dd_table *before = t && t->ncolumns && !t->gone ? t : holder(d, schema, name);
	rc = clear_place(d, t, schema, name, rel, err);
	if (rc == 0 && before && tablesink_keeps(&d->config->sink) && !rel->synthetic)
		rc = put_aside(d, before, &carried, err);
	if (rc) {
		carried_done(&carried);
		free(schema);
		free(name);
		return rc;
	}
	if (!t)
		t = dd_table_new(d, rel->oid);
	free(t->schema);
	free(t->name);
	t->schema = schema;
	t->name = name;
	t->gone = t->copy_again = false;
	t->incomplete = !d->loading || (d->load_flags & DUCT_LOAD_EMPTY);
	t->meta_ready = false;
	rc = make_again(d, t, rel, &carried, err);
	carried_done(&carried);
	*ret = t;
	if (rc)
		return rc;
	take_version(t, rel);
	rc = dd_meta_prepare(d, t, err);
	return rc ? rc : dd_meta_clear(d, t, 0, false, err);
}

/* --- versions --- */

static int rename_table(struct duckdb_dest *d, struct dd_table *t, const struct duct_relation *rel, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	char *schema, *name;
	target_of(d, rel, &schema, &name);
	int rc = 0;
	bool moved = strcmp(schema, t->schema) != 0;
	if (moved || strcmp(name, t->name) == 0)
		goto out; /* DuckDB does not move tables between schemas */
	rc = d->replay ? destination_refuse_replay(rel, err) : clear_place(d, t, schema, name, rel, err);
	duct_buf_puts(&sql, "ALTER TABLE ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, " RENAME TO ");
	duct_buf_sql_ident(&sql, name);
	if (rc == 0)
		rc = duck_exec(d->conn, sql.data, err);
	if (rc == 0) {
		log_info(d->ctx->log, "table renamed", LOG_STR("from", t->name), LOG_STR("to", name));
		free(t->name);
		t->name = duct_steal(&name);
		t->changed = true;
	}
out:
	free(schema);
	free(name);
	return rc;
}

bool dd_table_differs(const struct dd_table *t, const struct duct_relation *rel)
{
	if (!t->rel)
		return true;
	return t->rel != rel &&
		(!duct_relation_equal(t->rel, rel) || strcmp(t->rel->name, rel->name) != 0 ||
		 strcmp(t->rel->schema, rel->schema) != 0 || t->rel->unseen != rel->unseen);
}

int dd_table_get(struct duckdb_dest *d, struct duct_relation *rel, struct dd_table **ret, struct duct_error *err)
{
	struct dd_table *t = dd_table_find(d, rel->oid);
	*ret = t;
	if (d->replay && !rel->synthetic && (!t || t->gone))
		return destination_refuse_replay(rel, err);
	if (!t)
		return dd_table_create(d, rel, ret, err);
	if (t->gone)
		return 0;
	if (!dd_table_differs(t, rel)) {
		if (t->rel != rel)
			take_version(t, rel);
		return 0;
	}
	int rc = check_relation(d, rel, err);
	if (rc == 0 && d->replay && t->rel && (t->rel->nkeys != rel->nkeys || t->rel->identity != rel->identity))
		return destination_refuse_replay(rel, err);
	if (rc == 0 && t->folded)
		rc = dd_apply(d, t, err);
	if (rc == 0)
		rc = rename_table(d, t, rel, err);
	if (rc == 0)
		rc = dd_follow_columns(d, t, rel, err);
	if (rc == 0)
		take_version(t, rel);
	return rc;
}
