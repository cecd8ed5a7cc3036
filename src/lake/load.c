/* Reads the whole model of a catalog: one query per kind of row, in one round trip. See lake.h. */
#include "lake/lake.h"

#include <stdlib.h>
#include <string.h>

enum load_set {
	SET_HEAD,
	SET_SCHEMAS,
	SET_TABLES,
	SET_COLUMNS,
	SET_MAX_COLUMNS,
	SET_TABLE_STATS,
	SET_COLUMN_STATS,
	SET_PARTITIONS,
	SET_SORTED,
	SET_INLINED,
	SET_SCHEMA_VERSIONS,
	SET_DELETE_TABLES,
	SET_VIEWS,
	SET_DELETE_FILES,
	SET_ENDED_FILES,
	SET_RELATIONS,
};

static void delete_tables_sql(struct duct_buf *to, const struct lake_db *db)
{
	if (db->sqlite) {
		duct_buf_puts(to,
			      "SELECT name FROM sqlite_master WHERE type = 'table' "
			      "AND substr(name, 1, 24) = 'ducklake_inlined_delete_';");
		return;
	}
	duct_buf_puts(to,
		      "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
		      "WHERE c.relkind = 'r' AND left(c.relname, 24) = 'ducklake_inlined_delete_' AND n.nspname = ");
	duct_buf_sql_literal(to, db->schema);
	duct_buf_putc(to, ';');
}

/* The order of the statements is that of enum load_set. */
void lake_load_sql(struct duct_buf *to, const struct lake *lake, int64_t base)
{
	const struct lake_db *db = lake->db;
	lake_sqlf(to, db,
		  "SELECT snapshot_id, schema_version, next_catalog_id, next_file_id FROM @ducklake_snapshot "
		  "ORDER BY snapshot_id DESC LIMIT 1;"
		  "SELECT schema_id, schema_name, path, path_is_relative FROM @ducklake_schema "
		  "WHERE end_snapshot IS NULL ORDER BY schema_id;"
		  "SELECT table_id, schema_id, table_name, path, path_is_relative FROM @ducklake_table "
		  "WHERE end_snapshot IS NULL ORDER BY table_id;"
		  "SELECT table_id, column_id, parent_column, column_name, column_type, initial_default, nulls_allowed "
		  "FROM @ducklake_column WHERE end_snapshot IS NULL ORDER BY table_id, column_order, column_id;"
		  "SELECT table_id, max(column_id) FROM @ducklake_column GROUP BY table_id;"
		  "SELECT table_id, record_count, next_row_id, file_size_bytes FROM @ducklake_table_stats;"
		  "SELECT table_id, column_id, contains_null, contains_nan, min_value, max_value "
		  "FROM @ducklake_table_column_stats ORDER BY table_id, column_id;"
		  "SELECT i.table_id, i.partition_id, c.column_id, c.transform FROM @ducklake_partition_info i "
		  "JOIN @ducklake_partition_column c ON c.partition_id = i.partition_id AND c.table_id = i.table_id "
		  "WHERE i.end_snapshot IS NULL ORDER BY i.table_id, c.partition_key_index;"
		  "SELECT DISTINCT i.table_id FROM @ducklake_sort_info i JOIN @ducklake_sort_expression e "
		  "ON e.sort_id = i.sort_id AND e.table_id = i.table_id WHERE i.end_snapshot IS NULL;"
		  "SELECT table_id, table_name, schema_version FROM @ducklake_inlined_data_tables;"
		  "SELECT table_id, max(schema_version) FROM @ducklake_schema_versions GROUP BY table_id;");
	delete_tables_sql(to, db);
	lake_sqlf(to, db,
		  "SELECT schema_id, view_name FROM @ducklake_view WHERE end_snapshot IS NULL;"
		  "SELECT DISTINCT table_id FROM @ducklake_delete_file WHERE begin_snapshot > %lld OR partial_max > %lld;"
		  "SELECT DISTINCT table_id, end_snapshot FROM @ducklake_data_file WHERE end_snapshot > %lld;",
		  (long long)base, (long long)base, (long long)base);
	if (!lake->has_own_tables)
		return;
	lake_sqlf(to, db,
		  "SELECT source_oid, source_schema, source_name, table_id, columns, state "
		  "FROM @ductstream_relation WHERE flow = ");
	duct_buf_sql_literal(to, lake->flow);
	duct_buf_puts(to, " ORDER BY source_oid;");
}

static const char *keep(struct lake_model *m, const char *text)
{
	return text ? duct_arena_strdup(&m->arena, text) : NULL;
}

static void add_schema(struct lake_load *load, const char *const *v)
{
	struct lake_model *m = load->model;
	m->schemas = duct_grow(m->schemas, &m->schemas_cap, m->nschemas + 1, sizeof *m->schemas);
	m->schemas[m->nschemas++] = (struct lake_schema){
		.id = lake_int(v[0], -1),
		.name = keep(m, v[1]),
		.path = lake_join_folder(&m->arena, load->data_path, v[2] ? v[2] : "", lake_bool(v[3])),
	};
}

static void add_table(struct lake_load *load, const char *const *v)
{
	struct lake_model *m = load->model;
	const struct lake_schema *schema = NULL;
	for (size_t i = 0; i < m->nschemas; i++)
		if (m->schemas[i].id == lake_int(v[1], -1))
			schema = &m->schemas[i];
	if (!schema || !v[2])
		return;
	m->tables = duct_grow(m->tables, &m->tables_cap, m->ntables + 1, sizeof *m->tables);
	m->tables[m->ntables++] = (struct lake_table){
		.id = lake_int(v[0], -1),
		.schema_id = schema->id,
		.schema = schema->name,
		.name = keep(m, v[2]),
		.path = lake_join_folder(&m->arena, schema->path, v[3] ? v[3] : "", lake_bool(v[4])),
		.inlined_version = -1,
		.partition_id = -1,
	};
}

static void finish_columns(struct lake_load *load)
{
	struct lake_table *t = load->nrows ? lake_model_table(load->model, load->rows_table) : NULL;
	if (t)
		lake_build_columns(&load->model->arena, load->rows, load->nrows, &t->columns, &t->ncolumns);
	load->nrows = 0;
}

static void add_column(struct lake_load *load, const char *const *v)
{
	struct lake_model *m = load->model;
	int64_t table_id = lake_int(v[0], -1);
	if (table_id != load->rows_table)
		finish_columns(load);
	load->rows_table = table_id;
	load->rows = duct_grow(load->rows, &load->rows_cap, load->nrows + 1, sizeof *load->rows);
	load->rows[load->nrows++] = (struct lake_column_row){
		.id = lake_int(v[1], -1),
		.parent = lake_int(v[2], -1),
		.name = v[3] ? keep(m, v[3]) : "",
		.type = v[4] ? keep(m, v[4]) : "",
		.initial_default = keep(m, v[5]),
		.nulls_allowed = lake_bool(v[6]),
	};
}

static void add_column_stats(struct lake_table *t, const char *const *v)
{
	int n = t->ncolumn_stats;
	if ((n & (n - 1)) == 0) /* full at each power of two */
		t->column_stats = duct_xrealloc(t->column_stats, (n ? 2 * (size_t)n : 1) * sizeof *t->column_stats);
	t->column_stats[t->ncolumn_stats++] = (struct lake_table_column_stats){
		.column_id = lake_int(v[1], -1),
		.has_row = true,
		.contains_null = !v[2] || lake_bool(v[2]),
		.contains_nan = v[3] ? lake_bool(v[3]) : -1,
		.min = duct_xstrdup(v[4]),
		.max = duct_xstrdup(v[5]),
	};
}

static void add_partition_key(struct lake_table *t, const char *const *v)
{
	int n = t->npartition_keys++;
	t->partition_keys = duct_xrealloc(t->partition_keys, ((size_t)n + 1) * sizeof *t->partition_keys);
	t->partition_keys[n] = (struct lake_partition_key){lake_int(v[2], -1), duct_xstrdup(v[3] ? v[3] : "identity")};
	t->partition_id = lake_int(v[1], -1);
}

static void add_death(struct lake_load *load, const char *table_id, const char *snapshot_id)
{
	struct lake_evidence *e = &load->evidence;
	e->deaths = duct_grow(e->deaths, &e->cap, e->n + 1, sizeof *e->deaths);
	e->deaths[e->n++] = (struct lake_death){lake_int(table_id, -1), lake_int(snapshot_id, -1)};
}

static void add_relation(struct lake_model *m, const char *const *v)
{
	m->relations = duct_grow(m->relations, &m->relations_cap, m->nrelations + 1, sizeof *m->relations);
	m->relations[m->nrelations++] = (struct lake_relation){
		.source_oid = (uint32_t)lake_int(v[0], 0),
		.source_schema = keep(m, v[1]),
		.source_name = keep(m, v[2]),
		.table_id = lake_int(v[3], -1),
		.columns = keep(m, v[4]),
		.state = keep(m, v[5]),
	};
}

static void add_fact(struct lake_load *load, enum load_set set, const char *const *v)
{
	struct lake_table *t = lake_model_table(load->model, lake_int(v[0], -1));
	if (!t)
		return; /* of a dropped table */
	switch (set) {
	case SET_MAX_COLUMNS: t->max_column_id = lake_int(v[1], 0); break;
	case SET_SCHEMA_VERSIONS: t->schema_version = lake_int(v[1], 0); break;
	case SET_TABLE_STATS:
		t->has_stats = true;
		t->record_count = lake_int(v[1], 0);
		t->next_row_id = lake_int(v[2], 0);
		t->file_size_bytes = lake_int(v[3], 0);
		break;
	case SET_COLUMN_STATS: add_column_stats(t, v); break;
	case SET_PARTITIONS: add_partition_key(t, v); break;
	case SET_SORTED: t->sorted = true; break;
	default: break;
	}
}

static void add_name(struct lake_load *load, enum load_set set, const char *const *v)
{
	struct lake_model *m = load->model;
	struct lake_table *t;
	if (set == SET_DELETE_TABLES) {
		t = lake_model_table(m, lake_int(v[0] + strlen("ducklake_inlined_delete_"), -1));
		if (t)
			t->has_delete_table = true;
	} else if (set == SET_INLINED && v[1]) {
		m->inlined = duct_grow(m->inlined, &m->inlined_cap, m->ninlined + 1, sizeof *m->inlined);
		m->inlined[m->ninlined++] = (struct lake_inlined_table){lake_int(v[0], -1), lake_int(v[2], -1), keep(m, v[1])};
		t = lake_model_table(m, lake_int(v[0], -1));
		if (t) {
			t->ninlined_tables++;
			if (lake_int(v[2], -1) > t->inlined_version)
				t->inlined_version = lake_int(v[2], -1);
		}
	} else if (set == SET_VIEWS && v[1]) {
		m->views = duct_grow(m->views, &m->views_cap, m->nviews + 1, sizeof *m->views);
		m->views[m->nviews++] = (struct lake_view_name){lake_int(v[0], -1), keep(m, v[1])};
	}
}

int lake_load_row(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)err;
	struct lake_load *load = arg;
	if (set > SET_COLUMNS)
		finish_columns(load);
	switch ((enum load_set)set) {
	case SET_HEAD:
		load->model->head = lake_int(v[0], -1);
		load->model->schema_version = lake_int(v[1], 0);
		load->model->next_catalog_id = lake_int(v[2], 0);
		load->model->next_file_id = lake_int(v[3], 0);
		break;
	case SET_SCHEMAS:
		if (v[1])
			add_schema(load, v);
		break;
	case SET_TABLES: add_table(load, v); break;
	case SET_COLUMNS: add_column(load, v); break;
	case SET_INLINED:
	case SET_DELETE_TABLES:
	case SET_VIEWS: add_name(load, (enum load_set)set, v); break;
	case SET_DELETE_FILES: add_death(load, v[0], NULL); break;
	case SET_ENDED_FILES: add_death(load, v[0], v[1]); break;
	case SET_RELATIONS: add_relation(load->model, v); break;
	default: add_fact(load, (enum load_set)set, v);
	}
	return 0;
}

void lake_load_finish(struct lake_load *load)
{
	finish_columns(load);
	free(load->rows);
	free(load->evidence.deaths);
	load->rows = NULL;
	load->evidence = (struct lake_evidence){0};
}
