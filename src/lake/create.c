/* Makes a new catalog exactly as the official client makes it, our own tables beside it, and indexes. See lake.h. */
#include "lake/lake.h"

#include "base/uuid.h"

#include <string.h>

/* Type letters: b bigint, p bigint primary key, v varchar, n varchar not null, o boolean, t timestamptz, u uuid. */
static const struct {
	const char *name, *columns;
} official_tables[] = {
	{"ducklake_metadata", "key n value n scope v scope_id b"},
	{"ducklake_snapshot", "snapshot_id p snapshot_time t schema_version b next_catalog_id b next_file_id b"},
	{"ducklake_snapshot_changes", "snapshot_id p changes_made v author v commit_message v commit_extra_info v"},
	{"ducklake_schema", "schema_id p schema_uuid u begin_snapshot b end_snapshot b schema_name v path v path_is_relative o"},
	{"ducklake_table",
	 "table_id b table_uuid u begin_snapshot b end_snapshot b schema_id b table_name v path v "
	 "path_is_relative o"},
	{"ducklake_view",
	 "view_id b view_uuid u begin_snapshot b end_snapshot b schema_id b view_name v dialect v "
	 "sql v column_aliases v"},
	{"ducklake_tag", "object_id b begin_snapshot b end_snapshot b key v value v"},
	{"ducklake_column_tag", "table_id b column_id b begin_snapshot b end_snapshot b key v value v"},
	{"ducklake_data_file",
	 "data_file_id p table_id b begin_snapshot b end_snapshot b file_order b path v path_is_relative o "
	 "file_format v record_count b file_size_bytes b footer_size b row_id_start b partition_id b "
	 "encryption_key v mapping_id b partial_max b"},
	{"ducklake_file_column_stats",
	 "data_file_id b table_id b column_id b column_size_bytes b value_count b "
	 "null_count b min_value v max_value v contains_nan o extra_stats v"},
	{"ducklake_file_variant_stats",
	 "data_file_id b table_id b column_id b variant_path v shredded_type v column_size_bytes b "
	 "value_count b null_count b min_value v max_value v contains_nan o extra_stats v"},
	{"ducklake_delete_file",
	 "delete_file_id p table_id b begin_snapshot b end_snapshot b data_file_id b path v path_is_relative o "
	 "format v delete_count b file_size_bytes b footer_size b encryption_key v partial_max b"},
	{"ducklake_column",
	 "column_id b begin_snapshot b end_snapshot b table_id b column_order b column_name v column_type v "
	 "initial_default v default_value v nulls_allowed o parent_column b default_value_type v "
	 "default_value_dialect v"},
	{"ducklake_table_stats", "table_id b record_count b next_row_id b file_size_bytes b"},
	{"ducklake_table_column_stats",
	 "table_id b column_id b contains_null o contains_nan o min_value v max_value v extra_stats v"},
	{"ducklake_partition_info", "partition_id b table_id b begin_snapshot b end_snapshot b"},
	{"ducklake_partition_column", "partition_id b table_id b partition_key_index b column_id b transform v"},
	{"ducklake_file_partition_value", "data_file_id b table_id b partition_key_index b partition_value v"},
	{"ducklake_files_scheduled_for_deletion", "data_file_id b path v path_is_relative o schedule_start t"},
	{"ducklake_inlined_data_tables", "table_id b table_name v schema_version b"},
	{"ducklake_column_mapping", "mapping_id b table_id b type v"},
	{"ducklake_name_mapping", "mapping_id b column_id b source_name v target_field_id b parent_column b is_partition o"},
	{"ducklake_schema_versions", "begin_snapshot b schema_version b table_id b"},
	{"ducklake_macro", "schema_id b macro_id b macro_name v begin_snapshot b end_snapshot b"},
	{"ducklake_macro_impl", "macro_id b impl_id b dialect v sql v type v"},
	{"ducklake_macro_parameters",
	 "macro_id b impl_id b column_id b parameter_name v parameter_type v default_value v "
	 "default_value_type v"},
	{"ducklake_sort_info", "sort_id b table_id b begin_snapshot b end_snapshot b"},
	{"ducklake_sort_expression", "sort_id b table_id b sort_key_index b expression v dialect v sort_direction v null_order v"},
};

static const char *type_of(const struct lake_db *db, char letter)
{
	switch (letter) {
	case 'b': return "BIGINT";
	case 'p': return "BIGINT PRIMARY KEY";
	case 'n': return "VARCHAR NOT NULL";
	case 'o': return db->sqlite ? "BIGINT" : "BOOLEAN";
	case 't': return db->sqlite ? "VARCHAR" : "TIMESTAMP WITH TIME ZONE";
	case 'u': return db->sqlite ? "VARCHAR" : "UUID";
	default: return "VARCHAR";
	}
}

static void create_table_sql(struct duct_buf *to, const struct lake_db *db, const char *name, const char *columns)
{
	lake_sqlf(to, db, "CREATE TABLE @%s(", name);
	for (const char *comma = ""; *columns; comma = ", ") {
		size_t n = strcspn(columns, " ");
		duct_buf_printf(to, "%s\"%.*s\" %s", comma, (int)n, columns, type_of(db, columns[n + 1]));
		columns += n + 2;
		columns += *columns == ' ';
	}
	duct_buf_putc(to, ')');
}

static int take_true(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)values, (void)err;
	*(bool *)arg = true;
	return 0;
}

int lake_has_table(struct lake_db *db, const char *name, bool *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	if (db->sqlite) {
		duct_buf_puts(&sql, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ");
	} else {
		duct_buf_puts(&sql,
			      "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
			      "WHERE n.nspname = ");
		duct_buf_sql_literal(&sql, db->schema);
		duct_buf_puts(&sql, " AND c.relname = ");
	}
	duct_buf_sql_literal(&sql, name);
	*ret = false;
	return db->ops->query(db, sql.data, take_true, ret, err);
}

static int create_schema(struct lake_db *db, struct duct_error *err)
{
	if (db->sqlite)
		return 0;
	AUTO_BUF struct duct_buf sql = {0};
	bool there = false;
	duct_buf_puts(&sql, "SELECT 1 FROM pg_namespace WHERE nspname = ");
	duct_buf_sql_literal(&sql, db->schema);
	if (db->ops->query(db, sql.data, take_true, &there, err))
		return -(int)err->class;
	if (there)
		return 0;
	sql.len = 0;
	duct_buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	duct_buf_sql_ident(&sql, db->schema);
	return db->ops->query(db, sql.data, NULL, NULL, err);
}

static void first_rows(struct lake_script *script, const struct lake_db *db, const char *data_path)
{
	char uuid[DUCT_UUID_LEN], now[40];
	struct duct_buf *to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(to, db,
		  "INSERT INTO @ducklake_metadata (key, value, scope, scope_id) VALUES "
		  "('version', '1.0', NULL, NULL), ('created_by', 'DuctStream " DUCT_VERSION "', NULL, NULL), "
		  "('data_path', ");
	duct_buf_sql_literal(to, data_path);
	duct_buf_puts(to, ", NULL, NULL), ('encrypted', 'false', NULL, NULL)");
	to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(to, db,
		  "INSERT INTO @ducklake_snapshot (snapshot_id, snapshot_time, schema_version, "
		  "next_catalog_id, next_file_id) VALUES (0, ");
	lake_sqlite_now(now);
	if (db->sqlite)
		duct_buf_sql_literal(to, now);
	else
		duct_buf_puts(to, "now()");
	duct_buf_puts(to, ", 0, 1, 0)");
	to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(to, db,
		  "INSERT INTO @ducklake_snapshot_changes (snapshot_id, changes_made) "
		  "VALUES (0, 'created_schema:\"main\"')");
	to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(to, db,
		  "INSERT INTO @ducklake_schema (schema_id, schema_uuid, begin_snapshot, end_snapshot, "
		  "schema_name, path, path_is_relative) VALUES (0, '%s', 0, NULL, 'main', 'main/', %s)",
		  duct_uuid_v4(uuid), lake_sql_bool(db, 1));
}

/* Tables that are there already: somebody else was first, which is as good. */
static int created_by_others(struct lake_db *db, const char *table, struct duct_error *err)
{
	struct duct_error look;
	bool there;
	if (err->class == DUCT_RETRY || lake_has_table(db, table, &there, &look) || !there)
		return -(int)err->class;
	return 0;
}

int lake_create_catalog(struct lake_db *db, const char *data_path, struct duct_error *err)
{
	if (create_schema(db, err))
		return duct_wrap(err, "create the catalog's schema");
	struct lake_script script = {0};
	for (size_t i = 0; i < DUCT_LEN(official_tables); i++)
		create_table_sql(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db, official_tables[i].name,
				 official_tables[i].columns);
	first_rows(&script, db, data_path);
	size_t step;
	enum lake_outcome outcome = db->ops->run(db, &script, &step, err);
	lake_script_done(&script);
	if (outcome != LAKE_RUN_OK && created_by_others(db, "ducklake_metadata", err))
		return duct_wrap(err, "create the catalog's tables");
	return 0;
}

int lake_create_own_tables(struct lake_db *db, struct duct_error *err)
{
	bool there;
	if (lake_has_table(db, "ductstream_relation", &there, err))
		return -(int)err->class;
	if (there)
		return 0;
	struct lake_script script = {0};
	char uuid[DUCT_UUID_LEN];
	lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "CREATE TABLE @ductstream_lake(uuid VARCHAR NOT NULL, version BIGINT)");
	lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "INSERT INTO @ductstream_lake (uuid, version) VALUES ('%s', %d)", duct_uuid_v4(uuid), LAKE_OWN_VERSION);
	lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "CREATE TABLE @ductstream_checkpoint(flow VARCHAR PRIMARY KEY, epoch BIGINT NOT NULL, "
		  "seq BIGINT NOT NULL, state VARCHAR NOT NULL, lsn BIGINT NOT NULL, commit_us BIGINT NOT NULL, "
		  "commit_id VARCHAR, source_identity VARCHAR, snapshot_id BIGINT, owner VARCHAR)%s",
		  /* updated with every commit: room for it in the same page keeps the table small */
		  db->sqlite ? "" : " WITH (fillfactor = 20)");
	lake_sqlf(lake_script_step(&script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "CREATE TABLE @ductstream_relation(flow VARCHAR NOT NULL, source_oid BIGINT NOT NULL, "
		  "source_schema VARCHAR NOT NULL, source_name VARCHAR NOT NULL, table_id BIGINT NOT NULL, "
		  "\"columns\" VARCHAR, state VARCHAR, PRIMARY KEY (flow, source_oid))");
	size_t step;
	enum lake_outcome outcome = db->ops->run(db, &script, &step, err);
	lake_script_done(&script);
	if (outcome != LAKE_RUN_OK && created_by_others(db, "ductstream_relation", err))
		return duct_wrap(err, "create the tables of ductstream beside the catalog");
	return 0;
}

static const struct {
	const char *name, *on;
} indexes[] = {
	{"ductstream_file_column_stats_column", "ducklake_file_column_stats(table_id, column_id)"},
	{"ductstream_file_column_stats_file", "ducklake_file_column_stats(data_file_id)"},
	{"ductstream_data_file_live", "ducklake_data_file(table_id) WHERE end_snapshot IS NULL"},
	{"ductstream_delete_file_data", "ducklake_delete_file(data_file_id)"},
	{"ductstream_column_table", "ducklake_column(table_id)"},
};

static int has_index(struct lake_db *db, const char *name, bool *ret, struct duct_error *err)
{
	if (!db->sqlite)
		return lake_has_table(db, name, ret, err); /* pg_class holds both */
	*ret = false;
	return lake_queryf(db, take_true, ret, err, "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = '%s'", name);
}

int lake_create_indexes(struct lake_db *db, struct duct_error *err)
{
	for (size_t i = 0; i < DUCT_LEN(indexes); i++) {
		bool there;
		if (has_index(db, indexes[i].name, &there, err))
			return -(int)err->class;
		if (there)
			continue;
		AUTO_BUF struct duct_buf sql = {0};
		lake_sqlf(&sql, db, "CREATE INDEX IF NOT EXISTS %s ON @%s", indexes[i].name, indexes[i].on);
		/* An index only saves time: not owning the catalog's tables is no reason to stop, and a concurrent
		 * creator is as good as ourselves. */
		if (db->ops->query(db, sql.data, NULL, NULL, err) && err->class != DUCT_CONFIG &&
		    strcmp(err->sqlstate, "23505") != 0)
			return duct_wrap(err, "create index \"%s\"", indexes[i].name);
	}
	return 0;
}
