/* Of a planned commit: tables that go, how tables are partitioned, and what files of others call the columns. The rows are those of
 * the official client. */
#include "lake/txn_plan.h"

#include <stdlib.h>
#include <string.h>

/* --- planning --- */

void lake_txn_drop_table(struct lake_txn *txn, struct lake_txn_table *t)
{
	(void)txn;
	t->dropped = true;
}

void lake_txn_share(struct lake_txn_table *t)
{
	t->shared = true;
}

static bool is_transform(const char *text)
{
	static const char *const known[] = {"identity", "year", "month", "day", "hour"};
	for (size_t i = 0; i < DUCT_LEN(known); i++)
		if (strcmp(text, known[i]) == 0)
			return true;
	return false;
}

static int check_key(const struct lake_txn_table *t, const struct lake_partition_key *key, struct duct_error *err)
{
	bool found = false;
	for (int i = 0; i < t->nlive; i++)
		found |= t->live[i].id == key->column_id;
	if (!found)
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s\".\"%s\": it cannot be partitioned by a column that it does not have", t->schema,
				 t->name);
	if (!is_transform(key->transform))
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s\".\"%s\": partition by \"%s\": must be identity, year, month, day or hour", t->schema,
				 t->name, key->transform);
	return 0;
}

static bool same_keys(const struct lake_partition_key *a, int na, const struct lake_partition_key *b, int nb)
{
	bool same = na == nb;
	for (int i = 0; i < na && same; i++)
		same = a[i].column_id == b[i].column_id && strcmp(a[i].transform, b[i].transform) == 0;
	return same;
}

int lake_txn_set_partition(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_partition_key *keys, int n,
			   struct duct_error *err)
{
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
	for (int i = 0; i < n; i++)
		if (check_key(t, &keys[i], err))
			return -(int)err->class;
	if (same_keys(keys, n, known ? known->partition_keys : NULL, known ? known->npartition_keys : 0))
		return 0;
	free(t->keys);
	t->keys = duct_xcalloc((size_t)n + 1, sizeof *t->keys);
	for (int i = 0; i < n; i++)
		t->keys[i] = (struct lake_partition_key){keys[i].column_id, duct_arena_strdup(&txn->arena, keys[i].transform)};
	t->nkeys = n;
	t->repartitioned = true;
	return 0;
}

static bool same_fields(const struct lake_field_name *a, const struct lake_field_name *b, size_t n)
{
	bool same = true;
	for (size_t i = 0; i < n && same; i++)
		same = a[i].column_id == b[i].column_id && a[i].parent == b[i].parent && a[i].is_partition == b[i].is_partition &&
			strcmp(a[i].source_name, b[i].source_name) == 0;
	return same;
}

int lake_txn_find_mapping(const struct lake_txn *txn, const struct lake_txn_table *t, const struct lake_field_name *fields,
			  size_t n)
{
	for (size_t i = txn->nmappings; i-- > 0;) {
		const struct txn_mapping *m = &txn->mappings[i];
		if (m->table == t && m->nfields == n && same_fields(m->fields, fields, n))
			return (int)i + 1;
	}
	return 0;
}

int lake_txn_add_mapping(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_field_name *fields, size_t n, int64_t id)
{
	struct lake_field_name *copy = duct_arena_dup(&txn->arena, fields, n * sizeof *fields);
	for (size_t i = 0; i < n; i++)
		copy[i].source_name = duct_arena_strdup(&txn->arena, fields[i].source_name);
	txn->mappings = duct_grow(txn->mappings, &txn->mappings_cap, txn->nmappings + 1, sizeof *txn->mappings);
	txn->mappings[txn->nmappings++] = (struct txn_mapping){t, copy, n, id >= 0, id};
	return (int)txn->nmappings;
}

/* --- rendering --- */

void lake_txn_number_layout(struct lake_txn *txn)
{
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
		t->partition_id = known ? known->partition_id : -1;
		if (t->repartitioned)
			t->partition_id = txn->next_catalog_id++; /* also of a spec without keys, as the official client has it */
	}
	for (size_t i = 0; i < txn->nmappings; i++)
		if (!txn->mappings[i].known)
			txn->mappings[i].id = txn->next_file_id++;
}

void lake_render_dropped(const struct lake_txn_table *t, struct lake_script *script)
{
	static const struct {
		const char *table, *key;
	} ends[] = {
		{"ducklake_partition_info", "table_id"}, {"ducklake_column", "table_id"},      {"ducklake_column_tag", "table_id"},
		{"ducklake_data_file", "table_id"},	 {"ducklake_delete_file", "table_id"}, {"ducklake_tag", "object_id"},
		{"ducklake_sort_info", "table_id"},
	};
	const struct lake_db *db = t->txn->lake->db;
	lake_sqlf(lake_script_step(script, LAKE_STEP_CHANGED, 1, "the row of a dropped table"), db,
		  "UPDATE @ducklake_table SET end_snapshot = %lld WHERE table_id = %lld AND end_snapshot IS NULL",
		  (long long)t->txn->snapshot_id, (long long)t->id);
	for (size_t i = 0; i < DUCT_LEN(ends); i++)
		lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), db,
			  "UPDATE @%s SET end_snapshot = %lld WHERE end_snapshot IS NULL AND %s = %lld", ends[i].table,
			  (long long)t->txn->snapshot_id, ends[i].key, (long long)t->id);
}

void lake_render_partition(const struct lake_txn_table *t, struct lake_script *script)
{
	if (!t->repartitioned)
		return;
	const struct lake_db *db = t->txn->lake->db;
	long long snapshot = t->txn->snapshot_id, id = t->id;
	if (!t->is_new)
		lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), db,
			  "UPDATE @ducklake_partition_info SET end_snapshot = %lld WHERE table_id = %lld AND end_snapshot IS NULL",
			  snapshot, id);
	lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), db,
		  "INSERT INTO @ducklake_partition_info (partition_id, table_id, begin_snapshot, end_snapshot) "
		  "VALUES (%lld, %lld, %lld, NULL)",
		  (long long)t->partition_id, id, snapshot);
	if (!t->nkeys)
		return;
	struct duct_buf *to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
	lake_sqlf(
		to, db,
		"INSERT INTO @ducklake_partition_column (partition_id, table_id, partition_key_index, column_id, transform) VALUES ");
	for (int i = 0; i < t->nkeys; i++)
		duct_buf_printf(to, "%s(%lld, %lld, %d, %lld, '%s')", i ? ", " : "", (long long)t->partition_id, id, i,
				(long long)t->keys[i].column_id, t->keys[i].transform);
}

void lake_render_mappings(const struct lake_txn *txn, struct lake_script *script)
{
	for (size_t i = 0; i < txn->nmappings; i++) {
		const struct txn_mapping *m = &txn->mappings[i];
		if (m->known)
			continue;
		long long id = m->id;
		lake_sqlf(lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL), txn->lake->db,
			  "INSERT INTO @ducklake_column_mapping (mapping_id, table_id, type) VALUES (%lld, %lld, 'map_by_name')",
			  id, (long long)m->table->id);
		struct duct_buf *to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
		lake_sqlf(to, txn->lake->db,
			  "INSERT INTO @ducklake_name_mapping (mapping_id, column_id, source_name, target_field_id, parent_column, "
			  "is_partition) VALUES ");
		for (size_t k = 0; k < m->nfields; k++) {
			const struct lake_field_name *f = &m->fields[k];
			duct_buf_printf(to, "%s(%lld, %zu, ", k ? ", " : "", id, k);
			duct_buf_sql_literal(to, f->source_name);
			duct_buf_printf(to, ", %lld, ", (long long)f->column_id);
			if (f->parent >= 0)
				duct_buf_printf(to, "%d", f->parent);
			else
				duct_buf_puts(to, "NULL");
			duct_buf_printf(to, ", %s)", lake_sql_bool(txn->lake->db, f->is_partition));
		}
	}
}

/* Keys that a table has after the commit. */
static int count_keys(const struct lake_txn_table *t)
{
	if (t->repartitioned)
		return t->nkeys;
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(t->txn->lake->model, t->id);
	return known ? known->npartition_keys : 0;
}

void lake_render_partition_values(const struct lake_txn *txn, struct lake_script *script)
{
	enum { VALUES_PER_INSERT = 500 };
	struct duct_buf *to = NULL;
	size_t n = 0;
	for (size_t i = 0; i < txn->nfiles; i++) {
		const struct txn_file *f = &txn->files[i];
		int nkeys = f->file->partition_values ? count_keys(f->table) : 0;
		for (int k = 0; k < nkeys; k++) {
			if (n++ % VALUES_PER_INSERT == 0) {
				to = lake_script_step(script, LAKE_STEP_PLAIN, 0, NULL);
				lake_sqlf(
					to, txn->lake->db,
					"INSERT INTO @ducklake_file_partition_value (data_file_id, table_id, partition_key_index, "
					"partition_value) VALUES ");
			} else {
				duct_buf_puts(to, ", ");
			}
			duct_buf_printf(to, "(%lld, %lld, %d, ", (long long)f->id, (long long)f->table->id, k);
			duct_buf_sql_literal(to, f->file->partition_values[k]);
			duct_buf_putc(to, ')');
		}
	}
}
