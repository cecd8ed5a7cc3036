/* The catalog's tables, changes and our records: see lake.h. */
#include "model/lake.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "lake/changes.h"

struct changed {
	int64_t id, snapshot, altered; /* altered: its columns, not its rows; -1: never */
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
	bool has_kept;	      /* ductstream_model is there */
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
	lake->changes[low] = (struct changed){.id = id, .snapshot = -1, .altered = -1};
	return &lake->changes[low];
}

static void take_tags(struct model_lake *lake, int64_t snapshot, const char *tags)
{
	struct lake_change_item item;
	while (tags && lake_changes_next(&tags, &item) == 1) {
		if (item.id < 0 || item.tag == LAKE_TAG_NEUTRAL || item.tag == LAKE_TAG_MOVED)
			continue;
		struct changed *change = change_of(lake, item.id);
		change->snapshot = snapshot;
		if (item.tag == LAKE_TAG_ALTERED_TABLE || item.tag == LAKE_TAG_UNKNOWN)
			change->altered = snapshot;
	}
}

/* The newer one is true: of its rows, then of those that it read. */
static void put_record(struct model_lake *lake, const struct model_record *record)
{
	size_t i = 0;
	while (i < lake->nrecords && strcmp(lake->records[i].name, record->name) != 0)
		i++;
	if (i == lake->nrecords) {
		lake->records = duct_grow(lake->records, &lake->records_cap, i + 1, sizeof *lake->records);
		lake->nrecords++;
	} else {
		struct model_record *old = &lake->records[i];
		if (record->snapshot < old->snapshot || (record->snapshot == old->snapshot && record->base <= old->base)) {
			old->kept |= record->kept && record->snapshot == old->snapshot && record->base == old->base;
			return;
		}
		free_record(old);
	}
	lake->records[i] = (struct model_record){.name = duct_xstrdup(record->name),
						 .hash = duct_xstrdup(record->hash),
						 .inputs = duct_xstrdup(record->inputs),
						 .base = record->base,
						 .snapshot = record->snapshot,
						 .kept = record->kept};
}

static void take_record(struct model_lake *lake, int64_t snapshot, const char *extra, bool kept)
{
	json_t *json = json_loads(extra, 0, NULL);
	const char *name = json_string_value(json_object_get(json, "model"));
	const char *hash = json_string_value(json_object_get(json, "hash"));
	AUTO_FREE char *inputs = json_dumps(json_object_get(json, "inputs"), JSON_COMPACT | JSON_SORT_KEYS);
	if (name && hash)
		put_record(lake,
			   &(struct model_record){.name = (char *)(uintptr_t)name,
						  .hash = (char *)(uintptr_t)hash,
						  .inputs = inputs,
						  .base = json_integer_value(json_object_get(json, "base")),
						  .snapshot = snapshot,
						  .kept = kept});
	json_decref(json);
}

/*
 * Whether somebody else has changed the model's table between the snapshot that its build met and the commit of the build, where all tables but the
 * new ones are its own: two builds at the same time, whose rows the extension takes both. Such a build is as if it were not known.
 */
static bool is_overlapped(struct model_lake *lake, const char *tags, const char *extra)
{
	struct lake_change_item item;
	json_t *json = json_loads(extra, 0, NULL);
	const json_t *met = json_object_get(json, "met");
	bool overlapped = false;
	while (json_is_integer(met) && tags && lake_changes_next(&tags, &item) == 1)
		overlapped |= item.id >= 0 && model_lake_changed(lake, item.id) > json_integer_value(met);
	json_decref(json);
	return overlapped;
}

static int take_snapshot(void *arg, const char *const *v, struct duct_error *err)
{
	struct model_lake *lake = arg;
	(void)err;
	lake->seen = number(v[0]);
	bool is_record = v[2] && !is_overlapped(lake, v[1], v[2]);
	take_tags(lake, lake->seen, v[1]);
	if (is_record)
		take_record(lake, lake->seen, v[2], false);
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

/* --- what is kept of the records --- */

static int take_kept(void *arg, const char *const *v, struct duct_error *err)
{
	(void)err;
	if (v[0] && v[1])
		take_record(arg, number(v[0]), v[1], true);
	return 0;
}

/* Whoever has built nothing yet has no such table, and no list of tables shows those of the catalog. */
static int read_kept(struct model_lake *lake, struct duct_error *err)
{
	int rc = rows(lake, take_kept, err, "SELECT CAST(snapshot_id AS VARCHAR), record FROM @ductstream_model");
	lake->has_kept = rc == 0;
	return rc < 0 && strstr(err->message, "does not exist") ? 0 : rc;
}

static void put_kept(struct duct_buf *to, const struct model_lake *lake, const struct model_record *record)
{
	json_t *inputs = json_loads(record->inputs, 0, NULL);
	json_t *json = json_pack("{s:s,s:s,s:I,s:o}", "model", record->name, "hash", record->hash, "base", (json_int_t)record->base,
				 "inputs", inputs ? inputs : json_object());
	AUTO_FREE char *text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	duct_buf_printf(to, "; DELETE FROM %s.ductstream_model WHERE name = ", lake->catalog);
	duct_buf_sql_literal(to, record->name);
	duct_buf_printf(to, " AND snapshot_id <= %" PRId64 "; INSERT INTO %s.ductstream_model VALUES (", record->snapshot,
			lake->catalog);
	duct_buf_sql_literal(to, record->name);
	duct_buf_printf(to, ", %" PRId64 ", ", record->snapshot);
	duct_buf_sql_literal(to, text ? text : "{}");
	duct_buf_putc(to, ')');
}

int model_lake_keep(struct model_lake *lake, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored;
	size_t n = 0;
	duct_buf_puts(&sql, "BEGIN");
	if (!lake->has_kept)
		duct_buf_printf(
			&sql, "; CREATE TABLE IF NOT EXISTS %s.ductstream_model (name VARCHAR, snapshot_id BIGINT, record VARCHAR)",
			lake->catalog);
	for (size_t i = 0; i < lake->nrecords; i++)
		if (!lake->records[i].kept && ++n)
			put_kept(&sql, lake, &lake->records[i]);
	duct_buf_puts(&sql, "; COMMIT");
	if (n == 0)
		return 0;
	int rc = duck_exec(lake->conn, sql.data, err);
	if (rc) {
		(void)duck_exec(lake->conn, "ROLLBACK", &ignored);
		return duck_lake_failed(err);
	}
	lake->has_kept = true;
	for (size_t i = 0; i < lake->nrecords; i++)
		lake->records[i].kept = true;
	return 0;
}

void model_lake_note(struct model_lake *lake, const struct model_record *record)
{
	put_record(lake, record);
}

int64_t model_lake_head(const struct model_lake *lake)
{
	return lake->seen;
}

int model_lake_open(struct model_lake **ret, const struct duck_lake *config, struct duck_conn *conn, struct duct_error *err)
{
	struct model_lake *lake = duct_xcalloc(1, sizeof *lake);
	AUTO_BUF struct duct_buf catalog = {0};
	duct_buf_puts(&catalog, "__ducklake_metadata_" MODEL_LAKE ".");
	duct_buf_sql_ident(&catalog, duck_lake_schema(config));
	lake->conn = conn;
	lake->catalog = duct_xstrdup(catalog.data);
	lake->seen = -1;
	int rc = model_lake_look(lake, err);
	rc = rc ? rc : read_kept(lake, err);
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

static const struct changed *find_change(const struct model_lake *lake, int64_t table_id)
{
	for (size_t i = 0; i < lake->nchanges; i++)
		if (lake->changes[i].id == table_id)
			return &lake->changes[i];
	return NULL;
}

int64_t model_lake_changed(const struct model_lake *lake, int64_t table_id)
{
	const struct changed *change = find_change(lake, table_id);
	return change ? change->snapshot : -1;
}

int64_t model_lake_altered(const struct model_lake *lake, int64_t table_id)
{
	const struct changed *change = find_change(lake, table_id);
	return change ? change->altered : -1;
}

bool model_lake_knows_since(const struct model_lake *lake, int64_t snapshot)
{
	return lake->oldest <= snapshot + 1;
}

void model_lake_put_ended(struct duct_buf *to, const struct model_lake *lake, int64_t table_id, int64_t snapshot)
{
	duct_buf_printf(to,
			"SELECT count(*) FROM %s.ducklake_data_file WHERE table_id = %" PRId64 " AND end_snapshot > %" PRId64
			" AND data_file_id IN (SELECT file_id FROM %s.ducklake_inlined_delete_%" PRId64 ")",
			lake->catalog, table_id, snapshot, lake->catalog, table_id);
}
