/* Changes that the database has already, applied once more by key: see duckdb.h and destination.h. */
#include "destination/duckdb/duckdb.h"

#include <string.h>

int dd_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	(void)err;
	struct duckdb_dest *d = dest;
	d->replay = how;
	d->refused.len = 0;
	return 0;
}

bool dd_skips_replay(struct duckdb_dest *d, const struct dd_table *t)
{
	AUTO_BUF struct duct_buf name = {0};
	if (!d->replay)
		return false;
	if (t->rel->synthetic) /* dead letters are in the database already */
		return true;
	if (t->mode == DD_KEYED || d->replay == DUCT_REPLAY_APPEND)
		return false;
	duct_buf_printf(&name, "\"%s\".\"%s\"", t->rel->schema, t->rel->name);
	if (!d->refused.len || !strstr(d->refused.data, name.data))
		duct_buf_printf(&d->refused, "%s%s", d->refused.len ? ", " : "", name.data);
	return true;
}

int dd_check_refused(const struct duckdb_dest *d, struct duct_error *err)
{
	if (!d->refused.len)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the replay brings rows of %s, which have no key here: they would be there twice; nothing of it was "
			 "applied; -replay-append adds them again",
			 d->refused.data);
}

int dd_refuse_replay(const struct duct_relation *rel, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"table \"%s\".\"%s\" was another one at the replay's beginning than it is now (made, altered or renamed since): "
		"begin the replay after that, or copy the table again (-mode backfill)",
		rel->schema, rel->name);
}
