/* Changes of tables, told: see ddl.h. */
#include "record/ddl.h"

#include "base/mem.h"

#include <stdio.h>
#include <xxhash.h>

static const char *const kinds[] = {
	[DUCT_DDL_ADD_COLUMN] = "add_column",	    [DUCT_DDL_DROP_COLUMN] = "drop_column",
	[DUCT_DDL_RENAME_COLUMN] = "rename_column", [DUCT_DDL_ALTER_COLUMN] = "alter_column",
	[DUCT_DDL_RENAME_TABLE] = "rename_table",
};

void duct_ddl_plan_add(struct duct_ddl_plan *plan, const struct duct_ddl_change *change)
{
	plan->changes = duct_grow(plan->changes, &plan->cap, plan->n + 1, sizeof *plan->changes);
	plan->changes[plan->n++] = *change;
}

void duct_ddl_plan_done(struct duct_ddl_plan *plan)
{
	free(plan->changes);
	*plan = (struct duct_ddl_plan){0};
}

bool duct_ddl_irreversible(const struct duct_ddl_change *change)
{
	return change->kind == DUCT_DDL_DROP_COLUMN ||
		(change->kind == DUCT_DDL_ALTER_COLUMN && !duct_type_widens(change->from, change->to));
}

static void put_change(struct duct_buf *to, const struct duct_ddl_change *c)
{
	switch (c->kind) {
	case DUCT_DDL_ADD_COLUMN:
		duct_buf_puts(to, "ADD COLUMN ");
		duct_buf_sql_ident(to, c->column);
		duct_buf_putc(to, ' ');
		duct_type_print(to, c->to);
		break;
	case DUCT_DDL_DROP_COLUMN:
		duct_buf_puts(to, "DROP COLUMN ");
		duct_buf_sql_ident(to, c->column);
		break;
	case DUCT_DDL_RENAME_COLUMN:
		duct_buf_puts(to, "RENAME COLUMN ");
		duct_buf_sql_ident(to, c->column);
		duct_buf_puts(to, " TO ");
		duct_buf_sql_ident(to, c->to_column);
		break;
	case DUCT_DDL_ALTER_COLUMN:
		duct_buf_puts(to, "ALTER COLUMN ");
		duct_buf_sql_ident(to, c->column);
		duct_buf_puts(to, " SET DATA TYPE ");
		duct_type_print(to, c->to);
		break;
	case DUCT_DDL_RENAME_TABLE:
		duct_buf_puts(to, "RENAME TO ");
		duct_buf_sql_ident(to, c->to_column);
		break;
	}
}

/* The table's name before the change. */
static const char *table_of(const struct duct_ddl_plan *plan, const struct duct_ddl_change *c)
{
	return c->kind == DUCT_DDL_RENAME_TABLE ? c->column : plan->relation->name;
}

void duct_ddl_sql(struct duct_buf *to, const struct duct_ddl_plan *plan)
{
	for (size_t i = 0; i < plan->n; i++) {
		duct_buf_puts(to, i ? "; ALTER TABLE " : "ALTER TABLE ");
		duct_buf_sql_ident(to, plan->relation->schema);
		duct_buf_putc(to, '.');
		duct_buf_sql_ident(to, table_of(plan, &plan->changes[i]));
		duct_buf_putc(to, ' ');
		put_change(to, &plan->changes[i]);
	}
}

static void put_string(struct duct_buf *to, const char *key, const char *value)
{
	if (!value)
		return;
	duct_buf_printf(to, ",\"%s\":", key);
	duct_buf_json_string(to, value, strlen(value));
}

static void put_type(struct duct_buf *to, const char *key, const struct duct_type *type)
{
	AUTO_BUF struct duct_buf text = {0};
	if (!type)
		return;
	duct_type_print(&text, type);
	put_string(to, key, text.data);
}

void duct_ddl_json(struct duct_buf *to, const struct duct_ddl_plan *plan)
{
	bool irreversible = false;
	duct_buf_puts(to, "{\"changes\":[");
	for (size_t i = 0; i < plan->n; i++) {
		const struct duct_ddl_change *c = &plan->changes[i];
		duct_buf_printf(to, "%s{\"type\":\"%s\"", i ? "," : "", kinds[c->kind]);
		put_string(to, "namespace", plan->relation->schema);
		bool column = c->kind != DUCT_DDL_RENAME_TABLE;
		put_string(to, "table", table_of(plan, c));
		put_string(to, "column", column ? c->column : NULL);
		put_string(to, column ? "to_column" : "to_table", c->to_column);
		put_type(to, "from_type", c->from);
		put_type(to, "to_type", c->to);
		duct_buf_printf(to, ",\"irreversible\":%s}", duct_ddl_irreversible(c) ? "true" : "false");
		irreversible |= duct_ddl_irreversible(c);
	}
	duct_buf_printf(to, "],\"irreversible\":%s}", irreversible ? "true" : "false");
}

void duct_ddl_fingerprint(char to[17], const struct duct_relation *relation)
{
	AUTO_BUF struct duct_buf text = {0};
	duct_buf_printf(&text, "%u", relation->oid);
	for (int i = 0; i < relation->ncolumns; i++) {
		const struct duct_column *c = &relation->columns[i];
		duct_buf_sql_ident(&text, c->name);
		duct_type_print(&text, &c->type);
	}
	snprintf(to, 17, "%016llx", (unsigned long long)XXH3_64bits(text.data, text.len));
}
