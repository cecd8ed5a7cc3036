/* Tests of a model's rows, as queries that count what fails. */
#include "base/mem.h"
#include "model/work.h"

void model_put_target(struct duct_buf *to, const struct model *model)
{
	duct_buf_puts(to, MODEL_LAKE ".");
	duct_buf_sql_ident(to, model->schema);
	duct_buf_putc(to, '.');
	duct_buf_sql_ident(to, model->name);
}

/* The rows that are tested: of a snapshot those that are valid. */
static void put_rows(struct duct_buf *to, const struct model *m)
{
	if (m->kind == MODEL_SNAPSHOT)
		duct_buf_puts(to, "(SELECT * FROM ");
	model_put_target(to, m);
	if (m->kind == MODEL_SNAPSHOT)
		duct_buf_puts(to, " WHERE valid_to IS NULL)");
}

static void put_columns(struct duct_buf *to, const struct model_names *names, const char *between, const char *behind)
{
	for (size_t i = 0; i < names->n; i++) {
		duct_buf_puts(to, i ? between : "");
		duct_buf_sql_ident(to, names->list[i]);
		duct_buf_puts(to, behind);
	}
}

static void put_accepted(struct duct_buf *to, const struct model_check *c)
{
	duct_buf_puts(to, " WHERE CAST(");
	duct_buf_sql_ident(to, c->columns.list[0]);
	duct_buf_puts(to, " AS VARCHAR) NOT IN (");
	for (size_t i = 0; i < c->values.n; i++) {
		duct_buf_puts(to, i ? ", " : "");
		duct_buf_sql_literal(to, c->values.list[i]);
	}
	duct_buf_putc(to, ')');
}

static void put_relation(struct duct_buf *to, const struct model_check *c)
{
	duct_buf_puts(to, " AS one WHERE one.");
	duct_buf_sql_ident(to, c->columns.list[0]);
	duct_buf_puts(to, " IS NOT NULL AND NOT EXISTS (SELECT 1 FROM " MODEL_LAKE ".");
	duct_buf_sql_ident(to, c->to_schema);
	duct_buf_putc(to, '.');
	duct_buf_sql_ident(to, c->to_table);
	duct_buf_puts(to, " AS other WHERE other.");
	duct_buf_sql_ident(to, c->to_column);
	duct_buf_puts(to, " = one.");
	duct_buf_sql_ident(to, c->columns.list[0]);
	duct_buf_putc(to, ')');
}

static void put_check(struct duct_buf *to, const struct model *m, const struct model_check *c)
{
	duct_buf_puts(to, "SELECT count(*) FROM ");
	switch (c->kind) {
	case MODEL_UNIQUE:
		duct_buf_puts(to, "(SELECT 1 FROM ");
		put_rows(to, m);
		duct_buf_puts(to, " WHERE ");
		put_columns(to, &c->columns, " AND ", " IS NOT NULL");
		duct_buf_puts(to, " GROUP BY ");
		put_columns(to, &c->columns, ", ", "");
		duct_buf_puts(to, " HAVING count(*) > 1)");
		break;
	case MODEL_NOT_NULL:
		put_rows(to, m);
		duct_buf_puts(to, " WHERE ");
		put_columns(to, &c->columns, " OR ", " IS NULL");
		break;
	case MODEL_ACCEPTED:
		put_rows(to, m);
		put_accepted(to, c);
		break;
	case MODEL_RELATION:
		put_rows(to, m);
		put_relation(to, c);
		break;
	case MODEL_SQL: duct_buf_printf(to, "(%s\n)", c->sql); break;
	}
}

int model_check_all(struct model_turn *turn, int *ret_n, struct duct_error *err)
{
	const struct model *m = turn->model;
	for (size_t i = 0; i < m->nchecks; i++) {
		AUTO_BUF struct duct_buf sql = {0};
		int64_t failures = 0;
		put_check(&sql, m, &m->checks[i]);
		if (duck_number(turn->conn, sql.data, &failures, err) < 0) {
			(void)duck_lake_failed(err);
			return duct_wrap(err, "test %s", m->checks[i].name);
		}
		++*ret_n;
		if (failures)
			return duct_fail(err, DUCT_DATA, "test %s fails: %lld %s", m->checks[i].name, (long long)failures,
					 m->checks[i].kind == MODEL_UNIQUE ? "values are there more than once" : "rows");
	}
	return 0;
}
