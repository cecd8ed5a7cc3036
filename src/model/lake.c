/* The catalog's tables, changes and our records: see lake.h. */
#include "model/lake.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "lake/changes.h"

struct changed {
	int64_t id, snapshot;
};

struct model_lake {
	struct duck_conn *conn;
	char *catalog; /* of its tables: "__ducklake_metadata_ducklake"."public" */
	struct model_table *tables;
	size_t ntables, tables_cap;
	struct model_record *records;
	size_t nrecords, records_cap;
	struct changed *changes; /* by id */
	size_t nchanges, changes_cap;
	int64_t seen, oldest; /* the newest snapshot that was looked at; the oldest that is kept */
};

static int64_t number(const char *text)
{
	return text ? strtoll(text, NULL, 10) : -1;
}

static void forget_tables(struct model_lake *lake)
{
	for (size_t i = 0; i < lake->ntables; i++) {
		free(lake->tables[i].schema);
		free(lake->tables[i].name);
		free(lake->tables[i].sql);
	}
	lake->ntables = 0;
}

static void free_record(struct model_record *record)
{
	free(record->name);
	free(record->hash);
	free(record->inputs);
}

/* --- changes --- */

static struct changed *change_of(struct model_lake *lake, int64_t id)
{
	size_t low = 0, high = lake->nchanges;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (lake->changes[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < lake->nchanges && lake->changes[low].id == id)
		return &lake->changes[low];
	lake->changes = duct_grow(lake->changes, &lake->changes_cap, lake->nchanges + 1, sizeof *lake->changes);
	memmove(&lake->changes[low + 1], &lake->changes[low], (lake->nchanges - low) * sizeof *lake->changes);
	lake->nchanges++;
	lake->changes[low] = (struct changed){.id = id, .snapshot = -1};
	return &lake->changes[low];
}

static void take_tags(struct model_lake *lake, int64_t snapshot, const char *tags)
{
	struct lake_change_item item;
	while (tags && lake_changes_next(&tags, &item) == 1)
		if (item.id >= 0 && item.tag != LAKE_TAG_NEUTRAL && item.tag != LAKE_TAG_MOVED)
			change_of(lake, item.id)->snapshot = snapshot;
}

static void take_record(struct model_lake *lake, int64_t snapshot, const char *extra)
{
	json_t *json = json_loads(extra, 0, NULL);
	const char *name = json_string_value(json_object_get(json, "model"));
	const char *hash = json_string_value(json_object_get(json, "hash"));
	if (name && hash) {
		size_t i = 0;
		while (i < lake->nrecords && strcmp(lake->records[i].name, name) != 0)
			i++;
		if (i == lake->nrecords) {
			lake->records = duct_grow(lake->records, &lake->records_cap, i + 1, sizeof *lake->records);
			lake->nrecords++;
		} else {
			free_record(&lake->records[i]);
		}
		char *inputs = json_dumps(json_object_get(json, "inputs"), JSON_COMPACT);
		lake->records[i] = (struct model_record){.name = duct_xstrdup(name),
							 .hash = duct_xstrdup(hash),
							 .inputs = inputs,
							 .base = json_integer_value(json_object_get(json, "base")),
							 .snapshot = snapshot};
	}
	json_decref(json);
}

static int take_snapshot(void *arg, const char *const *v, struct duct_error *err)
{
	struct model_lake *lake = arg;
	(void)err;
	lake->seen = number(v[0]);
	take_tags(lake, lake->seen, v[1]);
	if (v[2])
		take_record(lake, lake->seen, v[2]);
	return 0;
}

/* --- tables --- */

static int take_table(void *arg, const char *const *v, struct duct_error *err)
{
	struct model_lake *lake = arg;
	(void)err;
	lake->tables = duct_grow(lake->tables, &lake->tables_cap, lake->ntables + 1, sizeof *lake->tables);
	lake->tables[lake->ntables++] = (struct model_table){.id = number(v[0]),
							     .begin = number(v[1]),
							     .schema = duct_xstrdup(v[2]),
							     .name = duct_xstrdup(v[3]),
							     .view = v[4] != NULL,
							     .sql = duct_xstrdup(v[4])};
	return 0;
}

static int rows(struct model_lake *lake, duck_row_fn *take, struct duct_error *err, const char *fmt, ...) DUCT_PRINTF(4, 5);

/* @ stands for the catalog's schema. */
static int rows(struct model_lake *lake, duck_row_fn *take, struct duct_error *err, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	AUTO_BUF struct duct_buf sql = {0};
	for (const char *c = text; *c; c++) {
		if (*c == '@')
			duct_buf_printf(&sql, "%s.", lake->catalog);
		else
			duct_buf_putc(&sql, *c);
	}
	int rc = duck_rows(lake->conn, sql.data, take, lake, err);
	return rc < 0 ? duck_lake_failed(err) : rc;
}

static int take_oldest(void *arg, const char *const *v, struct duct_error *err)
{
	(void)err;
	((struct model_lake *)arg)->oldest = number(v[0]);
	return 0;
}

static int look(struct model_lake *lake, struct duct_error *err)
{
	int rc = rows(lake, take_oldest, err, "SELECT CAST(min(snapshot_id) AS VARCHAR) FROM @ducklake_snapshot");
	rc = rc ? rc
		: rows(lake, take_snapshot, err,
		       "SELECT CAST(snapshot_id AS VARCHAR), changes_made, CASE WHEN author = 'ductstream' AND commit_message LIKE 'model %%' "
		       "THEN commit_extra_info END FROM @ducklake_snapshot_changes WHERE snapshot_id > %lld ORDER BY snapshot_id",
		       (long long)lake->seen);
	forget_tables(lake);
	rc = rc ? rc
		: rows(lake, take_table, err,
		       "SELECT CAST(t.table_id AS VARCHAR), CAST(t.begin_snapshot AS VARCHAR), s.schema_name, t.table_name, NULL::VARCHAR FROM "
		       "@ducklake_table t JOIN @ducklake_schema s ON s.schema_id = t.schema_id WHERE t.end_snapshot IS NULL AND "
		       "s.end_snapshot IS NULL");
	return rc
		? rc
		: rows(lake, take_table, err,
		       "SELECT CAST(t.view_id AS VARCHAR), CAST(t.begin_snapshot AS VARCHAR), s.schema_name, t.view_name, t.sql FROM "
		       "@ducklake_view t JOIN @ducklake_schema s ON s.schema_id = t.schema_id WHERE t.end_snapshot IS NULL AND "
		       "s.end_snapshot IS NULL");
}

int model_lake_look(struct model_lake *lake, struct duct_error *err)
{
	struct duct_error ignored;
	int rc = duck_exec(lake->conn, "BEGIN", err);
	if (rc)
		return duck_lake_failed(err);
	rc = look(lake, err);
	(void)duck_exec(lake->conn, "ROLLBACK", &ignored);
	return rc;
}

int model_lake_open(struct model_lake **ret, const struct duck_lake *config, struct duck_conn *conn, struct duct_error *err)
{
	struct model_lake *lake = duct_xcalloc(1, sizeof *lake);
	AUTO_BUF struct duct_buf catalog = {0};
	const char *schema = config->metadata_schema && *config->metadata_schema ? config->metadata_schema : "public";
	duct_buf_puts(&catalog, "__ducklake_metadata_" MODEL_LAKE ".");
	duct_buf_sql_ident(&catalog, strncmp(config->catalog, "sqlite:", 7) == 0 ? "main" : schema);
	lake->conn = conn;
	lake->catalog = duct_xstrdup(catalog.data);
	lake->seen = -1;
	int rc = model_lake_look(lake, err);
	if (rc)
		model_lake_close(lake);
	else
		*ret = lake;
	return rc;
}

void model_lake_close(struct model_lake *lake)
{
	if (!lake)
		return;
	forget_tables(lake);
	for (size_t i = 0; i < lake->nrecords; i++)
		free_record(&lake->records[i]);
	free(lake->tables);
	free(lake->records);
	free(lake->changes);
	free(lake->catalog);
	free(lake);
}

const struct model_table *model_lake_table(const struct model_lake *lake, const char *schema, const char *name)
{
	for (size_t i = 0; i < lake->ntables; i++)
		if (strcasecmp(lake->tables[i].name, name) == 0 && strcasecmp(lake->tables[i].schema, schema) == 0)
			return &lake->tables[i];
	return NULL;
}

const struct model_record *model_lake_record(const struct model_lake *lake, const char *schema, const char *name)
{
	AUTO_FREE char *full = duct_xasprintf("%s.%s", schema, name);
	for (size_t i = 0; i < lake->nrecords; i++)
		if (strcmp(lake->records[i].name, full) == 0)
			return &lake->records[i];
	return NULL;
}

int64_t model_lake_changed(const struct model_lake *lake, int64_t table_id)
{
	for (size_t i = 0; i < lake->nchanges; i++)
		if (lake->changes[i].id == table_id)
			return lake->changes[i].snapshot;
	return -1;
}

bool model_lake_knows_since(const struct model_lake *lake, int64_t snapshot)
{
	return lake->oldest <= snapshot + 1;
}
