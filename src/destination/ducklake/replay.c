/* Changes that the lake has already, applied once more by key: see ducklake.h and destination.h. */
#include "destination/ducklake/ducklake.h"

#include "record/ddl.h"

#include <string.h>
#include <strings.h>

int ducklake_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	(void)err;
	struct ducklake *d = dest;
	d->replay = how;
	d->refused.len = 0;
	return 0;
}

static void note_refused(struct ducklake *d, const struct duct_relation *rel)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "\"%s\".\"%s\"", rel->schema, rel->name);
	if (d->refused.len && strstr(d->refused.data, name.data))
		return;
	duct_buf_printf(&d->refused, "%s%s", d->refused.len ? ", " : "", name.data);
}

bool mirror_skips_replay(struct ducklake *d, const struct mirror *m)
{
	if (!d->replay)
		return false;
	if (m->rel->synthetic) /* dead letters are in the lake already */
		return true;
	if (m->mode == MIRROR_KEYED || d->replay == DUCT_REPLAY_APPEND)
		return false;
	note_refused(d, m->rel);
	return true;
}

int ducklake_check_refused(const struct ducklake *d, struct duct_error *err)
{
	if (!d->refused.len)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the replay brings rows of %s, which have no key here: they would be there twice; nothing of it was "
			 "applied; -replay-append adds them again",
			 d->refused.data);
}

/* The name is compared by the lake's table: the mirror may have met nothing yet. */
static bool renamed(const struct ducklake *d, const struct mirror *m, const struct duct_relation *rel)
{
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	return table && strcasecmp(table->name, rel->name) != 0;
}

int mirror_refuse_replay(const struct duct_relation *rel, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"table \"%s\".\"%s\" was another one at the replay's beginning than it is now (made, altered or renamed since): "
		"begin the replay after that, or copy the table again (-mode backfill)",
		rel->schema, rel->name);
}

int mirror_check_replay(struct ducklake *d, struct mirror *m, const struct duct_relation *rel, struct duct_error *err)
{
	if (!d->replay || d->load || rel->synthetic)
		return 0;
	if (m->gone || m->table_id < 0)
		return mirror_refuse_replay(rel, err);
	struct duct_ddl_plan plan;
	mirror_plan_changes(d, m, rel, &plan);
	bool differs = plan.n || renamed(d, m, rel) || mirror_changes_key(d, m, rel);
	duct_ddl_plan_done(&plan);
	return differs ? mirror_refuse_replay(rel, err) : 0;
}
