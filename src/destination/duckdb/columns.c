/* Columns of a table, brought to what a relation version says inside the open transaction. See duckdb.h, destination/bind.h. */
#include "destination/duckdb/duckdb.h"

#include "duck/types.h"
#include "record/ddl.h"

#include <string.h>
#include <strings.h>

struct following {
	struct duckdb_dest *d;
	struct dd_table *t;
	struct duct_relation *rel;
	int *places;		/* column of rel -> of t, -1: new */
	int16_t *attnums;	/* the source's numbers of rel's columns */
	struct duct_buf values; /* of new columns in rows that are there, as in UPDATE ... SET */
};

static int alter(struct following *f, struct duct_buf *sql, struct duct_error *err)
{
	AUTO_BUF struct duct_buf all = {0};
	if (f->d->replay)
		return destination_refuse_replay(f->rel, err);
	duct_buf_puts(&all, "ALTER TABLE ");
	dd_name(&all, f->t->schema, f->t->name);
	duct_buf_putc(&all, ' ');
	duct_buf_append(&all, sql->data, sql->len);
	sql->len = 0;
	return duck_exec(f->d->conn, all.data, err);
}

static void bind(struct following *f)
{
	struct dd_table *t = f->t;
	AUTO_FREE struct bind_column *have = duct_xcalloc(t->ncolumns + 1, sizeof *have);
	for (size_t i = 0; i < t->ncolumns; i++)
		have[i] = (struct bind_column){t->columns[i].attnum, t->columns[i].name, &t->columns[i].type};
	destination_bind(have, t->ncolumns, f->rel, f->places, f->attnums);
}

static int column_of(const struct following *f, size_t place)
{
	for (int i = 0; i < f->rel->ncolumns; i++)
		if (f->places[i] == (int)place)
			return i;
	return -1;
}

static bool is_live(const struct duct_relation *rel, int16_t attnum)
{
	for (int i = 0; i < rel->nlive; i++)
		if (rel->live[i].attnum == attnum)
			return true;
	return rel->nlive == 0; /* the source does not say */
}

/* What the stream does not tell enough about, so that only a copy helps. */
static int check(struct following *f, struct duct_error *err)
{
	const struct duct_relation *rel = f->rel;
	bool any = false;
	if (rel->unseen && !f->t->incomplete)
		return dd_give_up(f->d, f->t, rel, err, "it has other columns than before, which the source did not show yet");
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		any |= f->places[i] >= 0;
		for (size_t k = 0; k < f->t->ncolumns && f->places[i] < 0; k++) {
			const struct dd_column *have = &f->t->columns[k];
			if (c->attnum < 0 || is_live(rel, have->attnum))
				continue;
			if (strcmp(have->name, c->name) == 0)
				return dd_give_up(f->d, f->t, rel, err, "column \"%s\" was dropped and made again", c->name);
			if (c->attnum == 0 && have->attnum > 0 && rel->nlive && column_of(f, k) < 0 &&
			    have->type.kind == c->type.kind)
				return dd_give_up(f->d, f->t, rel, err, "column \"%s\" may be \"%s\", renamed and dropped since",
						  c->name, have->name);
		}
	}
	return any ? 0 : dd_give_up(f->d, f->t, rel, err, "all of its columns are others now");
}

/* Widening; rows from before one are not a change back. */
static bool retypes(const struct dd_column *have, const struct duct_column *c)
{
	return !duct_type_equal(&have->type, &c->type) && !duct_type_widens(&c->type, &have->type);
}

/* The flow's hook is told what will be done; it may hold it back. Columns of our own are nobody's business. */
static int tell(struct following *f, struct duct_error *err)
{
	struct duct_ddl_hook *hook = f->d->ctx->ddl;
	struct duct_ddl_plan plan = {.relation = f->rel};
	if (!hook || f->d->loading || f->rel->synthetic)
		return 0;
	if (f->t->source && strcmp(f->t->source, f->rel->name) != 0 && !f->d->config->table)
		duct_ddl_plan_add(&plan,
				  &(struct duct_ddl_change){DUCT_DDL_RENAME_TABLE, .column = f->t->source,
							    .to_column = f->rel->name});
	for (size_t i = 0; i < f->t->ncolumns; i++)
		if (column_of(f, i) < 0 && f->t->columns[i].attnum >= 0)
			duct_ddl_plan_add(&plan,
					  &(struct duct_ddl_change){DUCT_DDL_DROP_COLUMN, .column = f->t->columns[i].name,
								    .from = &f->t->columns[i].type});
	for (int i = 0; i < f->rel->ncolumns; i++) {
		const struct duct_column *c = &f->rel->columns[i];
		const struct dd_column *have = f->places[i] < 0 ? NULL : &f->t->columns[f->places[i]];
		if (!have && c->attnum >= 0)
			duct_ddl_plan_add(&plan, &(struct duct_ddl_change){DUCT_DDL_ADD_COLUMN, .column = c->name, .to = &c->type});
		if (have && strcmp(have->name, c->name) != 0)
			duct_ddl_plan_add(&plan,
					  &(struct duct_ddl_change){DUCT_DDL_RENAME_COLUMN, .column = have->name,
								    .to_column = c->name});
		if (have && retypes(have, c))
			duct_ddl_plan_add(&plan,
					  &(struct duct_ddl_change){DUCT_DDL_ALTER_COLUMN, .column = c->name, .from = &have->type,
								    .to = &c->type});
	}
	int rc = plan.n ? hook->met(hook->arg, &plan, hook->lsn, err) : 0;
	duct_ddl_plan_done(&plan);
	return rc;
}

static int drop_gone(struct following *f, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	for (size_t i = 0; i < f->t->ncolumns;) {
		struct dd_column *c = &f->t->columns[i];
		if (column_of(f, i) >= 0) {
			i++;
			continue;
		}
		duct_buf_puts(&sql, "DROP COLUMN ");
		duct_buf_sql_ident(&sql, c->name);
		int rc = alter(f, &sql, err);
		if (rc)
			return rc;
		log_info(f->d->ctx->log, "column dropped", LOG_STR("table", f->t->name), LOG_STR("column", c->name));
		free(c->name);
		memmove(c, c + 1, (--f->t->ncolumns - i) * sizeof *c);
		for (int k = 0; k < f->rel->ncolumns; k++)
			f->places[k] -= f->places[k] > (int)i;
	}
	return 0;
}

static int rename_column(struct following *f, struct dd_column *c, const char *to, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "RENAME COLUMN ");
	duct_buf_sql_ident(&sql, c->name);
	duct_buf_puts(&sql, " TO ");
	duct_buf_sql_ident(&sql, to);
	int rc = alter(f, &sql, err);
	if (rc == 0) {
		free(c->name);
		c->name = duct_xstrdup(to);
	}
	return rc;
}

/* Names that columns hand on to each other are free before they are taken: who gives one up gets a passing one. */
static int rename_all(struct following *f, struct duct_error *err)
{
	int rc = 0;
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < f->rel->ncolumns && rc == 0; i++) {
			struct dd_column *c = f->places[i] < 0 ? NULL : &f->t->columns[f->places[i]];
			const char *name = f->rel->columns[i].name;
			if (!c || strcmp(c->name, name) == 0)
				continue;
			AUTO_FREE char *passing = duct_xasprintf("ductstream column %d", i);
			if (pass)
				log_info(f->d->ctx->log, "column renamed", LOG_STR("table", f->t->name), LOG_STR("to", name));
			rc = rename_column(f, c, pass ? name : passing, err);
		}
	return rc;
}

static int retype(struct following *f, int column, struct duct_error *err)
{
	const struct duct_column *c = &f->rel->columns[column];
	struct dd_column *have = &f->t->columns[f->places[column]];
	AUTO_BUF struct duct_buf sql = {0};
	if (!retypes(have, c))
		return 0;
	if (!duct_type_widens(&have->type, &c->type))
		return dd_give_up(f->d, f->t, f->rel, err,
				  "column \"%s\" has another type, to which its values were changed at the source", c->name);
	duct_buf_puts(&sql, "ALTER COLUMN ");
	duct_buf_sql_ident(&sql, have->name);
	duct_buf_puts(&sql, " TYPE ");
	duck_sql_type(&sql, &c->type);
	int rc = alter(f, &sql, err);
	if (rc == 0) {
		log_info(f->d->ctx->log, "column widened", LOG_STR("table", f->t->name), LOG_STR("column", c->name));
		have->type = duct_type_copy(&f->t->arena, &c->type);
	}
	return rc;
}

static int add_column(struct following *f, int column, struct duct_error *err)
{
	const struct duct_column *c = &f->rel->columns[column];
	const char *value;
	AUTO_BUF struct duct_buf sql = {0};
	if (f->d->replay)
		return destination_refuse_replay(f->rel, err);
	if (!destination_old_rows_value(f->rel, c, f->attnums[column], &value) && !f->t->incomplete)
		return dd_give_up(f->d, f->t, f->rel, err,
				  "its older rows have values in new column \"%s\" that only the source knows", c->name);
	duct_buf_puts(&sql, "ADD COLUMN ");
	duct_buf_sql_ident(&sql, c->name);
	duct_buf_putc(&sql, ' ');
	duck_sql_type(&sql, &c->type);
	int rc = alter(f, &sql, err);
	if (rc)
		return rc;
	if (value) {
		duct_buf_puts(&f->values, f->values.len ? ", " : "");
		duct_buf_sql_ident(&f->values, c->name);
		duct_buf_puts(&f->values, " = CAST(");
		duct_buf_sql_literal(&f->values, value);
		duct_buf_puts(&f->values, " AS ");
		duck_sql_type(&f->values, &c->type);
		duct_buf_putc(&f->values, ')');
	}
	log_info(f->d->ctx->log, "column added", LOG_STR("table", f->t->name), LOG_STR("column", c->name));
	dd_table_add_column(f->t, c->name, &c->type, f->attnums[column] ? f->attnums[column] : c->attnum, c->key);
	return 0;
}

static int set_values(struct following *f, struct duct_error *err)
{
	if (!f->values.len)
		return 0;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "UPDATE ");
	dd_name(&sql, f->t->schema, f->t->name);
	duct_buf_puts(&sql, " SET ");
	duct_buf_append(&sql, f->values.data, f->values.len);
	f->t->modified = true;
	return duck_exec(f->d->conn, sql.data, err);
}

/* A table that DuckDB will not alter any more in this transaction is replaced by a copy of itself. */
static int renew(struct following *f, struct duct_error *err)
{
	static const char passing[] = "ductstream table that is altered";
	struct dd_table *t = f->t;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "CREATE TABLE ");
	dd_name(&sql, t->schema, passing);
	duct_buf_puts(&sql, " AS FROM ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, "; DROP TABLE ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_puts(&sql, "; ALTER TABLE ");
	dd_name(&sql, t->schema, passing);
	duct_buf_puts(&sql, " RENAME TO ");
	duct_buf_sql_ident(&sql, t->name);
	t->modified = false;
	return duck_exec(f->d->conn, sql.data, err);
}

int dd_follow_columns(struct duckdb_dest *d, struct dd_table *t, struct duct_relation *rel, struct duct_error *err)
{
	AUTO_FREE int *places = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *places);
	AUTO_FREE int16_t *attnums = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *attnums);
	struct following f = {d, t, rel, places, attnums, {0}};
	bind(&f);
	int rc = d->replay ? 0 : tell(&f, err);
	if (rc == 0)
		rc = check(&f, err);
	if (rc == 0 && t->modified)
		rc = renew(&f, err);
	if (rc == 0)
		rc = drop_gone(&f, err);
	if (rc == 0)
		rc = rename_all(&f, err);
	for (int i = 0; i < rel->ncolumns && rc == 0; i++) {
		if (places[i] < 0)
			continue;
		if (attnums[i] > 0)
			t->columns[places[i]].attnum = attnums[i];
		rc = retype(&f, i, err);
	}
	for (int i = 0; i < rel->ncolumns && rc == 0; i++)
		if (places[i] < 0)
			rc = add_column(&f, i, err);
	if (rc == 0)
		rc = set_values(&f, err);
	duct_buf_done(&f.values);
	t->changed = true;
	return rc;
}
