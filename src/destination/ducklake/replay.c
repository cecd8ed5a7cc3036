/* Changes that the lake has already, applied once more by key: see ducklake.h and destination.h. */
#include "destination/ducklake/ducklake.h"

#include "record/ddl.h"

#include <strings.h>

int ducklake_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	(void)err;
	struct ducklake *d = dest;
	d->replay = how;
	d->refused.len = 0;
	return 0;
}

/* The name is compared by the lake's table: the mirror may have met nothing yet. */
static bool renamed(const struct ducklake *d, const struct mirror *m, const struct duct_relation *rel)
{
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	return table && strcasecmp(table->name, rel->name) != 0;
}

int mirror_check_replay(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	if (!d->replay || d->load || rel->synthetic)
		return 0;
	if (m->gone || m->table_id < 0)
		return destination_refuse_replay(rel, err);
	struct duct_ddl_plan plan;
	mirror_plan_changes(d, m, rel, &plan);
	bool differs = plan.n || renamed(d, m, rel) || mirror_changes_key(d, m, rel);
	duct_ddl_plan_done(&plan);
	return differs ? destination_refuse_replay(rel, err) : 0;
}
