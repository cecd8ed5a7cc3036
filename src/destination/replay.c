#include "destination/replay.h"

#include <string.h>

static void note_refused(struct duct_buf *refused, const struct duct_relation *rel)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "\"%s\".\"%s\"", rel->schema, rel->name);
	if (refused->len && strstr(refused->data, name.data))
		return;
	duct_buf_printf(refused, "%s%s", refused->len ? ", " : "", name.data);
}

bool destination_skips_replay(enum duct_replay how, const struct duct_relation *rel, bool keyed, struct duct_buf *refused)
{
	if (!how)
		return false;
	if (rel->synthetic) /* dead letters are there already */
		return true;
	if (keyed || how == DUCT_REPLAY_APPEND)
		return false;
	note_refused(refused, rel);
	return true;
}

int destination_check_refused(const struct duct_buf *refused, struct duct_error *err)
{
	if (!refused->len)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the replay brings rows of %s, which have no key here: they would be there twice; nothing of it was "
			 "applied; -replay-append adds them again",
			 refused->data);
}

int destination_refuse_replay(const struct duct_relation *rel, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"table \"%s\".\"%s\" was another one at the replay's beginning than it is now (made, altered or renamed since): "
		"begin the replay after that, or copy the table again (-mode backfill)",
		rel->schema, rel->name);
}
