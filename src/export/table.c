/* The tables of a team's lake: schema "posthog", partitioned as the objects are named. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "export/internal.h"
#include "lake/search.h"
#include "record/calendar.h"

static const char *const schema = "posthog";
enum { MOST_PLANS = 500 };

const struct lake_table *export_find_table(const struct export_place *place)
{
	return lake_find_table(place->lake, schema, export_shapes[place->request->what].table);
}

int export_commit(struct export_place *place, const char *message, export_plan_fn *plan, void *arg, int64_t *ret_snapshot,
		  struct duct_error *err)
{
	for (int i = 0; i < MOST_PLANS; i++) {
		struct lake_change_note *notes = NULL;
		struct lake_txn_result result = {.snapshot_id = -1};
		const struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = message};
		size_t n = 0;
		struct lake_txn *txn = lake_txn_new(place->lake);
		int rc = plan(place, txn, arg, err), nothing = rc == 1;
		if (!rc)
			rc = lake_txn_commit(txn, &info, &result, err);
		if (rc == 1 && !nothing)
			lake_search_unwrite(txn, place->store);
		lake_txn_free(txn);
		if (rc == 0)
			*ret_snapshot = result.snapshot_id;
		if (rc <= 0 || nothing)
			return rc < 0 ? rc : 0;
		rc = lake_sync(place->lake, &notes, &n, err);
		free(notes);
		if (rc)
			return rc;
		if (duct_ctx_stopped(place->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
	}
	return duct_fail(err, DUCT_RETRY, "others changed the table %d times while it was to be committed", MOST_PLANS);
}

/* --- drop and create --- */

static int plan_drop(struct export_place *place, struct lake_txn *txn, void *arg, struct duct_error *err)
{
	const struct lake_table *table = export_find_table(place);
	(void)arg;
	(void)err;
	if (!table)
		return 1;
	lake_txn_drop_table(txn, lake_txn_table(txn, table->id));
	return 0;
}

static int64_t column_id(const struct lake_txn_table *t, const char *name)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(t, &columns);
	const struct lake_column *found = lake_find_column(columns, n, name);
	return found ? found->id : -1;
}

static int partition(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, struct duct_error *err)
{
	int64_t team = column_id(t, "team_id"), time = column_id(t, export_shapes[place->request->what].time_column);
	const struct lake_partition_key keys[] = {{team, "identity"}, {time, "year"}, {time, "month"}, {time, "day"}};
	return lake_txn_set_partition(txn, t, keys, DUCT_LEN(keys), err);
}

/* What a key of the table's partitioning is for a day of the team; -1: it is none that is known here. */
static int64_t value_of_key(const struct export_place *place, const char *column, const char *transform, int64_t day)
{
	struct duct_civil c = duct_civil_of_days(day);
	bool time = strcasecmp(column, export_shapes[place->request->what].time_column) == 0;
	if (strcasecmp(column, "team_id") == 0 && strcmp(transform, "identity") == 0)
		return place->team.team_id;
	return !time				  ? -1
		: strcmp(transform, "year") == 0  ? c.year
		: strcmp(transform, "month") == 0 ? c.month
		: strcmp(transform, "day") == 0	  ? c.day
						  : -1;
}

int export_partition_values(const struct export_place *place, int64_t day, struct duct_arena *arena, const char *const **ret,
			    int *ret_n, struct duct_error *err)
{
	const struct lake_table *table = export_find_table(place);
	const char **values = duct_arena_zalloc(arena, ((size_t)table->npartition_keys + 1) * sizeof *values);
	for (int i = 0; i < table->npartition_keys; i++) {
		const struct lake_partition_key *key = &table->partition_keys[i];
		const char *column = "";
		for (int c = 0; c < table->ncolumns; c++)
			if (table->columns[c].id == key->column_id)
				column = table->columns[c].name;
		int64_t value = value_of_key(place, column, key->transform, day);
		if (value < 0)
			return duct_fail(
				err, DUCT_CONFIG,
				"table %s.%s is partitioned by %s of \"%s\", which a day of a team does not have one value of: "
				"create_tables_if_missing partitions it by team_id, year, month and day",
				schema, table->name, key->transform, column);
		AUTO_FREE char *text = duct_xasprintf("%" PRId64, value);
		values[i] = duct_arena_strdup(arena, text);
	}
	*ret = values;
	*ret_n = table->npartition_keys;
	return 0;
}

static int plan_create(struct export_place *place, struct lake_txn *txn, void *arg, struct duct_error *err)
{
	const struct export_shape *shape = &export_shapes[place->request->what];
	const struct lake_table *known = export_find_table(place);
	struct duct_type types[32] = {{0}};
	struct lake_column_def columns[32] = {{0}};
	struct lake_txn_table *t;
	bool *ret_created = arg;
	*ret_created = !known;
	if (known) {
		t = lake_txn_table(txn, known->id);
		return partition(place, txn, t, err);
	}
	for (int i = 0; i < shape->ncolumns; i++) {
		types[i].kind = shape->columns[i].kind;
		columns[i] = (struct lake_column_def){.name = shape->columns[i].name, .type = &types[i]};
	}
	int rc = lake_txn_create_table(txn, schema, shape->table, columns, shape->ncolumns, &t, err);
	return rc ? rc : partition(place, txn, t, err);
}

/* --- what is there, and what comes --- */

static void compare(struct export_place *place, const struct lake_table *table)
{
	const struct export_shape *shape = &export_shapes[place->request->what];
	for (int i = 0; i < shape->ncolumns; i++) {
		const struct lake_column *found = lake_find_column(table->columns, table->ncolumns, shape->columns[i].name);
		const struct duct_type type = {.kind = shape->columns[i].kind};
		if (!found)
			place->request->log("warn", "table %s.%s has no column \"%s\": it will be added", schema, shape->table,
					    shape->columns[i].name);
		else if (!found->supported || !duct_type_equal(&found->type, &type))
			place->request->log("warn", "table %s.%s: column \"%s\" is %s, another type is exported", schema,
					    shape->table, found->name, found->type_name ? found->type_name : "of another type");
	}
}

int export_prepare_table(struct export_place *place, struct duct_error *err)
{
	const struct export_config *config = &place->request->config;
	const char *name = export_shapes[place->request->what].table;
	bool created = false;
	int64_t snapshot = -1;
	/* An earlier attempt that has done something has dropped the table as well. */
	if (config->delete_tables && !json_array_size(json_object_get(place->request->checkpoint, "days"))) {
		if (export_commit(place, "ductstream backfill: reset", plan_drop, NULL, &snapshot, err))
			return duct_wrap(err, "drop table %s.%s", schema, name);
		place->request->log("warn", "table %s.%s was dropped: delete_tables", schema, name);
	}
	if (config->create_tables_if_missing) {
		const struct lake_table *before = export_find_table(place);
		int64_t partitioning = before ? before->partition_id : -1;
		if (export_commit(place, "ductstream backfill: table", plan_create, &created, &snapshot, err))
			return duct_wrap(err, "create table %s.%s", schema, name);
		if (created)
			place->request->log("info", "table %s.%s was created", schema, name);
		else if (export_find_table(place) && export_find_table(place)->partition_id != partitioning)
			place->request->log("warn", "table %s.%s is partitioned by team_id, year, month and day from now on",
					    schema, name);
	}
	const struct lake_table *table = export_find_table(place);
	if (!table)
		return duct_fail(err, DUCT_CONFIG, "table %s.%s is not there, and create_tables_if_missing is false", schema, name);
	if (!config->skip_schema_validation)
		compare(place, table);
	return 0;
}
