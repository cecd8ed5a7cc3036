/* What a relation version changes of a mirrored table, told before it is done: see ducklake.h and record/ddl.h. */
#include "record/ddl.h"
#include "destination/ducklake/ducklake.h"

#include <string.h>

static const struct mirror_column *column_of(const struct mirror *m, int64_t column_id)
{
	for (size_t i = 0; i < m->ncolumns; i++)
		if (m->columns[i].column_id == column_id)
			return &m->columns[i];
	return NULL;
}

static const struct duct_type *type_of(struct ducklake *d, struct mirror *m, int64_t column_id)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(mirror_table(d, m), &columns);
	for (int i = 0; i < n; i++)
		if (columns[i].id == column_id)
			return &columns[i].type;
	return NULL;
}

static bool stays(const struct duct_relation *rel, const int64_t *ids, int64_t column_id)
{
	for (int i = 0; i < rel->ncolumns; i++)
		if (ids[i] == column_id)
			return true;
	return false;
}

static void plan_column(struct ducklake *d, struct mirror *m, const struct duct_column *c, int64_t column_id,
			struct duct_ddl_plan *plan)
{
	const struct mirror_column *mc = column_id >= 0 ? column_of(m, column_id) : NULL;
	const struct duct_type *type = mc ? type_of(d, m, column_id) : NULL;
	if (!mc) {
		duct_ddl_plan_add(plan, &(struct duct_ddl_change){DUCT_DDL_ADD_COLUMN, .column = c->name, .to = &c->type});
		return;
	}
	if (strcmp(mc->name, c->name) != 0)
		duct_ddl_plan_add(plan,
				  &(struct duct_ddl_change){DUCT_DDL_RENAME_COLUMN, .column = mc->name, .to_column = c->name});
	/* Rows from before a widening are not a change back. */
	if (type && !duct_type_equal(type, &c->type) && (duct_type_widens(type, &c->type) || !duct_type_widens(&c->type, type)))
		duct_ddl_plan_add(plan,
				  &(struct duct_ddl_change){DUCT_DDL_ALTER_COLUMN, .column = c->name, .from = type,
							    .to = &c->type});
}

void mirror_plan_changes(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_ddl_plan *plan)
{
	AUTO_FREE int64_t *ids = mirror_column_ids(d, m, rel, NULL);
	*plan = (struct duct_ddl_plan){.relation = rel};
	for (size_t i = 0; i < m->ncolumns; i++)
		if (m->columns[i].attnum >= 0 && !stays(rel, ids, m->columns[i].column_id))
			duct_ddl_plan_add(plan,
					  &(struct duct_ddl_change){DUCT_DDL_DROP_COLUMN, .column = m->columns[i].name,
								    .from = type_of(d, m, m->columns[i].column_id)});
	for (int i = 0; i < rel->ncolumns; i++)
		if (rel->columns[i].attnum >= 0) /* others are the destination's own */
			plan_column(d, m, &rel->columns[i], ids[i], plan);
}

int mirror_tell_changes(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	if (d->load || rel->synthetic || m->table_id < 0) /* a copy begins anew; a table of this transaction is new itself */
		return 0;
	struct duct_ddl_hook *hook = d->ctx->ddl;
	struct duct_ddl_plan plan = {.relation = rel}, columns;
	const char *before = mirror_other_name(d, m, rel);
	mirror_plan_changes(d, m, rel, &columns);
	if (before)
		duct_ddl_plan_add(&plan,
				  &(struct duct_ddl_change){DUCT_DDL_RENAME_TABLE, .column = before, .to_column = rel->name});
	for (size_t i = 0; i < columns.n; i++)
		duct_ddl_plan_add(&plan, &columns.changes[i]);
	duct_ddl_plan_done(&columns);
	int rc = plan.n ? hook->met(hook->arg, &plan, hook->lsn, err) : 0;
	duct_ddl_plan_done(&plan);
	return rc;
}
