/* Files that were written aside become a table, in one commit. */
#include "land/land.h"

#include <stdlib.h>

enum { MOST_PLANS = 50 };

static int altered(const struct land_target *target, struct duct_error *err)
{
	return duct_fail(err, DUCT_RETRY, "table \"%s\".\"%s\" was altered while its files were written", target->schema,
			 target->table);
}

/* Whether the files were written for this table as it will be. */
static bool fits(const struct lake_txn_table *t, const struct land_files *files)
{
	const struct lake_column *columns;
	bool fit = lake_txn_columns(t, &columns) == files->ncolumn_ids;
	for (int i = 0; fit && i < files->ncolumn_ids; i++)
		fit = columns[i].id == files->column_ids[i];
	return fit;
}

static int plan_table(struct lake *lake, struct lake_txn *txn, const struct land_target *target, const struct land_shape *shape,
		      struct lake_txn_table **ret, bool *ret_created, struct duct_error *err)
{
	const struct lake_table *known = lake_find_table(lake, target->schema, target->table);
	bool mirrored = false;
	if (known && lake_is_mirror(lake, known->id, &mirrored, err))
		return -(int)err->class;
	if (mirrored)
		return duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\" is the mirror of a flow: nothing else may be put into it",
				 target->schema, target->table);
	*ret_created = !known || !land_same_columns(known, shape);
	if (known && *ret_created && !target->replace)
		return altered(target, err);
	if (known && *ret_created)
		lake_txn_drop_table(txn, lake_txn_table(txn, known->id));
	if (*ret_created)
		return lake_txn_create_table(txn, target->schema, target->table, shape->columns, shape->ncolumns, ret, err);
	*ret = lake_txn_table(txn, known->id);
	if (target->replace)
		lake_txn_truncate(txn, *ret);
	else
		lake_txn_share(*ret);
	return 0;
}

static int commit_once(struct lake *lake, const struct land_target *target, const struct land_shape *shape,
		       const struct land_files *files, const char *message, struct land_result *ret, struct duct_error *err)
{
	struct lake_txn *txn = lake_txn_new(lake);
	struct lake_txn_table *t;
	struct lake_txn_result result;
	struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .source_identity = target->identity, .message = message};
	int rc = plan_table(lake, txn, target, shape, &t, &ret->created, err);
	if (!rc && !fits(t, files))
		rc = altered(target, err);
	for (size_t i = 0; !rc && i < files->n; i++)
		if (files->files[i]->record_count)
			lake_txn_add_file(txn, t, lake_new_file_copy(files->files[i]));
	if (!rc)
		rc = lake_txn_commit(txn, &info, &result, err);
	if (!rc)
		ret->snapshot_id = result.snapshot_id;
	lake_txn_free(txn);
	return rc;
}

int land_commit(struct lake *lake, const struct land_target *target, const struct land_shape *shape, const struct land_files *files,
		const char *message, struct land_result *ret, struct duct_error *err)
{
	for (int plan = 0; plan < MOST_PLANS; plan++) {
		*ret = (struct land_result){.snapshot_id = -1, .table_id = -1};
		int rc = commit_once(lake, target, shape, files, message, ret, err);
		if (rc < 0)
			return duct_wrap(err, "put the files of \"%s\".\"%s\" into the lake", target->schema, target->table);
		if (!rc) {
			const struct lake_table *now = lake_find_table(lake, target->schema, target->table);
			ret->table_id = now ? now->id : -1;
			return 0;
		}
		struct lake_change_note *notes = NULL;
		size_t n = 0;
		int synced = lake_sync(lake, &notes, &n, err);
		free(notes);
		if (synced)
			return -(int)err->class;
	}
	return duct_fail(err, DUCT_RETRY, "table \"%s\".\"%s\": others changed it %d times while it was to be committed",
			 target->schema, target->table, MOST_PLANS);
}
