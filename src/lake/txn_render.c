/*
 * Turns a planned commit into statements. All numbers that are only given at commit (snapshot, catalog, file and row ids)
 * are derived here from the model, so that a lost race is another rendering on another model. The row formats are those
 * of the official client, column by column.
 */
#include "lake/txn_plan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS_PER_INSERT = 500 };

struct render {
	struct lake_txn *txn;
	const struct lake_model *model;
	const struct lake_db *db;
	const struct lake_commit_info *info;
	struct lake_script *script;
	long long snapshot; /* the new one */
};

static struct duct_buf *plain(struct render *r)
{
	return lake_script_step(r->script, LAKE_STEP_PLAIN, 0, NULL);
}

static struct duct_buf *changed(struct render *r, int64_t expect, const char *what)
{
	return lake_script_step(r->script, LAKE_STEP_CHANGED, expect, what);
}

static struct duct_buf *count(struct render *r, int64_t expect, const char *what)
{
	return lake_script_step(r->script, LAKE_STEP_COUNT, expect, what);
}

static void put_int(struct duct_buf *to, int64_t value)
{
	if (value < 0)
		duct_buf_puts(to, "NULL");
	else
		duct_buf_printf(to, "%lld", (long long)value);
}

/* --- checkpoint and snapshot --- */

static void render_checkpoint(struct render *r, int64_t expected_seq, bool position_only)
{
	const struct lake *lake = r->txn->lake;
	const struct lake_commit_info *info = r->info;
	struct duct_buf *to = changed(r, 1, "the flow's checkpoint row");
	lake_script_last(r->script)->role = LAKE_ROLE_FENCE;
	lake_sqlf(to, r->db, "UPDATE @ductstream_checkpoint SET seq = seq + 1, state = '%s'", lake_state_name(info->state));
	if (info->pos.lsn)
		duct_buf_printf(to, ", lsn = %lld, commit_us = %lld", (long long)info->pos.lsn, (long long)info->pos.commit_us);
	if (!position_only)
		duct_buf_printf(to, ", commit_id = '%s', snapshot_id = %lld", r->txn->commit_id, r->snapshot);
	if (info->source_identity) {
		duct_buf_puts(to, ", source_identity = ");
		duct_buf_sql_literal(to, info->source_identity);
	}
	duct_buf_puts(to, " WHERE flow = ");
	duct_buf_sql_literal(to, lake->flow);
	duct_buf_printf(to, " AND epoch = %lld AND seq = %lld", (long long)lake->mark.epoch, (long long)expected_seq);
	if (info->pos.lsn)
		duct_buf_printf(to, " AND lsn <= %lld", (long long)info->pos.lsn);
}

static void render_snapshot(struct render *r)
{
	char now[40];
	lake_sqlite_now(now);
	struct duct_buf *to = changed(r, 1, "the head of the catalog");
	lake_script_last(r->script)->role = LAKE_ROLE_HEAD;
	/* The clock of a host that lags must not make time travel go backwards. */
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_snapshot (snapshot_id, snapshot_time, schema_version, "
		  "next_catalog_id, next_file_id) SELECT %lld, %s%s%s, %lld, %lld, %lld FROM @ducklake_snapshot "
		  "WHERE snapshot_id = %lld AND snapshot_id = (SELECT max(snapshot_id) FROM @ducklake_snapshot)",
		  r->snapshot, r->db->sqlite ? "max('" : "greatest(clock_timestamp()", r->db->sqlite ? now : "",
		  r->db->sqlite ? "', snapshot_time)" : ", snapshot_time)", (long long)r->txn->schema_version,
		  (long long)r->txn->next_catalog_id, (long long)r->txn->next_file_id, r->snapshot - 1);
}

/* --- schemas, tables, columns --- */

static void render_schema(struct render *r, const struct txn_schema *s)
{
	struct duct_buf *to = plain(r);
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_schema (schema_id, schema_uuid, begin_snapshot, end_snapshot, "
		  "schema_name, path, path_is_relative) VALUES (%lld, '%s', %lld, NULL, ",
		  (long long)s->id, s->uuid, r->snapshot);
	duct_buf_sql_literal(to, s->name);
	duct_buf_puts(to, ", ");
	duct_buf_sql_literal(to, s->part);
	duct_buf_printf(to, ", %s)", lake_sql_bool(r->db, 1));
}

static int64_t schema_id(const struct render *r, const char *name)
{
	const struct lake_schema *known = lake_model_schema(r->model, name);
	if (known)
		return known->id;
	for (size_t i = 0; i < r->txn->nschemas; i++)
		if (lake_same_name(r->txn->schemas[i].name, name))
			return r->txn->schemas[i].id;
	return -1;
}

static void render_new_table(struct render *r, const struct lake_txn_table *t)
{
	struct duct_buf *to = plain(r);
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_table (table_id, table_uuid, begin_snapshot, end_snapshot, "
		  "schema_id, table_name, path, path_is_relative) VALUES (%lld, '%s', %lld, NULL, %lld, ",
		  (long long)t->id, t->uuid, r->snapshot, (long long)schema_id(r, t->schema));
	duct_buf_sql_literal(to, t->name);
	duct_buf_puts(to, ", ");
	duct_buf_sql_literal(to, t->moved ? t->path : t->part);
	duct_buf_printf(to, ", %s)", lake_sql_bool(r->db, !t->moved));
}

static void render_rename(struct render *r, const struct lake_txn_table *t)
{
	lake_sqlf(changed(r, 1, "the row of a renamed table"), r->db,
		  "UPDATE @ducklake_table SET end_snapshot = %lld WHERE table_id = %lld AND end_snapshot IS NULL", r->snapshot,
		  (long long)t->id);
	struct duct_buf *to = changed(r, 1, "the row of a renamed table");
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_table (table_id, table_uuid, begin_snapshot, end_snapshot, "
		  "schema_id, table_name, path, path_is_relative) SELECT table_id, table_uuid, %lld, NULL, %lld, ",
		  r->snapshot, (long long)schema_id(r, t->schema));
	duct_buf_sql_literal(to, t->name);
	duct_buf_puts(to, ", ");
	if (t->moved) {
		duct_buf_sql_literal(to, t->path);
		duct_buf_printf(to, ", %s", lake_sql_bool(r->db, 0));
	} else {
		duct_buf_puts(to, "path, path_is_relative");
	}
	lake_sqlf(to, r->db, " FROM @ducklake_table WHERE table_id = %lld AND end_snapshot = %lld", (long long)t->id, r->snapshot);
}

struct column_rows {
	struct render *r;
	struct duct_buf *to;
	const struct lake_txn_table *table;
	const int64_t *next_id; /* of the nodes below the root, depth-first */
	bool first;
};

static void column_row(struct column_rows *rows, int64_t id, int64_t parent, const char *name, const struct duct_type *type,
		       const char *initial_default, bool nulls_allowed)
{
	struct duct_buf *to = rows->to;
	duct_buf_printf(to, "%s(%lld, %lld, NULL, %lld, %lld, ", rows->first ? "" : ", ", (long long)id, rows->r->snapshot,
			(long long)rows->table->id, (long long)id);
	rows->first = false;
	duct_buf_sql_literal(to, name);
	duct_buf_puts(to, ", '");
	lake_print_column_type(to, type);
	duct_buf_puts(to, "', ");
	duct_buf_sql_literal(to, initial_default);
	duct_buf_puts(to, ", ");
	/* The official client writes the word for "no default". */
	duct_buf_sql_literal(to, initial_default ? initial_default : "NULL");
	duct_buf_printf(to, ", %s, ", lake_sql_bool(rows->r->db, nulls_allowed));
	put_int(to, parent);
	duct_buf_printf(to, ", '%s', 'duckdb')", duct_kind_is_nested(type->kind) ? "" : "literal");
}

static void child_rows(struct column_rows *rows, int64_t parent, const struct duct_type *type)
{
	static const char *const list_names[] = {"element"}, *const map_names[] = {"key", "value"};
	for (int i = 0; i < type->nchildren; i++) {
		const struct duct_type *child = &type->children[i];
		const char *name = type->kind == DUCT_LIST ? list_names[0] : type->kind == DUCT_MAP ? map_names[i] : child->name;
		int64_t id = *rows->next_id++;
		column_row(rows, id, parent, name, child, NULL, true);
		child_rows(rows, id, child);
	}
}

static void render_added_columns(struct render *r, const struct lake_txn_table *t)
{
	struct column_rows rows = {.r = r, .table = t, .first = true};
	for (size_t i = 0; i < t->ncolumns; i++) {
		const struct lake_column *c = &t->columns[i].column;
		if (!t->columns[i].added || t->columns[i].dropped)
			continue;
		if (!rows.to) {
			rows.to = plain(r);
			lake_sqlf(rows.to, r->db,
				  "INSERT INTO @ducklake_column (column_id, begin_snapshot, "
				  "end_snapshot, table_id, column_order, column_name, column_type, initial_default, "
				  "default_value, nulls_allowed, parent_column, default_value_type, "
				  "default_value_dialect) VALUES ");
		}
		rows.next_id = c->leaf_ids;
		column_row(&rows, c->id, -1, c->name, &c->type, c->initial_default, c->nulls_allowed);
		child_rows(&rows, c->id, &c->type);
	}
}

static void render_changed_column(struct render *r, const struct lake_txn_table *t, const struct lake_column *c)
{
	lake_sqlf(changed(r, 1, "the row of an altered column"), r->db,
		  "UPDATE @ducklake_column SET end_snapshot = %lld WHERE table_id = %lld AND column_id = %lld "
		  "AND end_snapshot IS NULL",
		  r->snapshot, (long long)t->id, (long long)c->id);
	struct duct_buf *to = changed(r, 1, "the row of an altered column");
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_column (column_id, begin_snapshot, end_snapshot, table_id, "
		  "column_order, column_name, column_type, initial_default, default_value, nulls_allowed, "
		  "parent_column, default_value_type, default_value_dialect) "
		  "SELECT column_id, %lld, NULL, table_id, column_order, ",
		  r->snapshot);
	duct_buf_sql_literal(to, c->name);
	duct_buf_puts(to, ", '");
	lake_print_column_type(to, &c->type);
	lake_sqlf(to, r->db,
		  "', initial_default, default_value, nulls_allowed, parent_column, default_value_type, "
		  "default_value_dialect FROM @ducklake_column WHERE table_id = %lld AND column_id = %lld "
		  "AND end_snapshot = %lld",
		  (long long)t->id, (long long)c->id, r->snapshot);
}

static void render_dropped_column(struct render *r, const struct lake_txn_table *t, const struct lake_column *c)
{
	static const char *const where[] = {"ducklake_column", "ducklake_column_tag"};
	for (int i = 0; i < 2; i++) {
		struct duct_buf *to = i ? plain(r) : changed(r, 1 + c->nleaf_ids, "the rows of a dropped column");
		lake_sqlf(to, r->db,
			  "UPDATE @%s SET end_snapshot = %lld WHERE table_id = %lld "
			  "AND end_snapshot IS NULL AND column_id IN (%lld",
			  where[i], r->snapshot, (long long)t->id, (long long)c->id);
		for (int k = 0; k < c->nleaf_ids; k++)
			duct_buf_printf(to, ",%lld", (long long)c->leaf_ids[k]);
		duct_buf_putc(to, ')');
	}
}

static void render_ddl(struct render *r, const struct lake_txn_table *t)
{
	if (t->dropped) {
		lake_render_dropped(t, r->script);
		return;
	}
	if (t->is_new)
		render_new_table(r, t);
	else if (t->renamed)
		render_rename(r, t);
	for (size_t i = 0; i < t->ncolumns; i++) {
		const struct txn_column *c = &t->columns[i];
		if (c->added)
			continue;
		if (c->dropped)
			render_dropped_column(r, t, &c->column);
		else if (c->changed)
			render_changed_column(r, t, &c->column);
	}
	render_added_columns(r, t);
	lake_render_partition(t, r->script);
	if (!t->is_new && !t->renamed && !t->altered && !t->repartitioned)
		return;
	lake_sqlf(plain(r), r->db,
		  "INSERT INTO @ducklake_schema_versions (begin_snapshot, schema_version, table_id) "
		  "VALUES (%lld, %lld, %lld)",
		  r->snapshot, (long long)r->txn->schema_version, (long long)t->id);
}

/* --- rows that die --- */

static void render_truncate(struct render *r, const struct lake_txn_table *t)
{
	lake_sqlf(plain(r), r->db,
		  "UPDATE @ducklake_data_file SET end_snapshot = %lld WHERE table_id = %lld "
		  "AND end_snapshot IS NULL",
		  r->snapshot, (long long)t->id);
	for (size_t i = 0; i < r->model->ninlined; i++) {
		if (r->model->inlined[i].table_id != t->id)
			continue;
		struct duct_buf *to = plain(r);
		lake_sqlf(to, r->db, "UPDATE @");
		duct_buf_sql_ident(to, r->model->inlined[i].name);
		duct_buf_printf(to, " SET end_snapshot = %lld WHERE end_snapshot IS NULL", r->snapshot);
	}
}

static void render_ended(struct render *r, const struct lake_txn_table *t)
{
	struct duct_buf *to = changed(r, (int64_t)t->ended.n, "a data file that was to end is not live");
	lake_sqlf(to, r->db,
		  "UPDATE @ducklake_data_file SET end_snapshot = %lld WHERE table_id = %lld "
		  "AND end_snapshot IS NULL AND data_file_id IN (",
		  r->snapshot, (long long)t->id);
	for (size_t i = 0; i < t->ended.n; i++)
		duct_buf_printf(to, "%s%lld", i ? "," : "", (long long)t->ended.ids[i]);
	duct_buf_putc(to, ')');
}

/* That no row is marked twice is what lake_txn_claim_marks() has proved for this head. */
static void render_marks(struct render *r, const struct lake_txn_table *t)
{
	long long id = t->id;
	const struct lake_table *known = lake_model_table(r->model, t->id);
	if (!known || !known->has_delete_table)
		lake_sqlf(plain(r), r->db,
			  "CREATE TABLE IF NOT EXISTS @ducklake_inlined_delete_%lld(file_id BIGINT, "
			  "row_id BIGINT, begin_snapshot BIGINT)",
			  id);
	struct duct_buf *to = count(r, (int64_t)t->nmarks,
				    "rows of a data file that is not live, or has fewer rows, "
				    "were to be marked deleted");
	lake_sqlf(to, r->db, "SELECT count(*) FROM @ducklake_data_file d JOIN (VALUES ");
	for (size_t i = 0; i < t->nmarks; i++)
		duct_buf_printf(to, "%s(%lld,%lld)", i ? "," : "", (long long)t->marks[i].file_id,
				(long long)t->marks[i].positions.last);
	duct_buf_printf(to,
			") AS v ON d.data_file_id = v.column1 WHERE d.table_id = %lld "
			"AND d.end_snapshot IS NULL AND d.record_count > v.column2",
			id);
	to = lake_script_step(r->script, LAKE_STEP_MARKS, 0, "a row is marked deleted already");
	lake_sqlf(to, r->db, "@ducklake_inlined_delete_%lld", id);
	struct lake_step *step = lake_script_last(r->script);
	step->table_id = t->id;
	step->snapshot_id = r->snapshot;
	step->marks = t->marks;
	step->nmarks = t->nmarks;
}

static void put_ids(struct duct_buf *to, const struct lake_txn *txn, const struct lake_txn_table *t)
{
	const char *comma = "";
	for (size_t i = 0; i < txn->ndeletes; i++)
		if (txn->deletes[i].table == t && txn->deletes[i].on_new_file < 0) {
			duct_buf_printf(to, "%s%lld", comma, (long long)txn->deletes[i].file_id);
			comma = ",";
		}
	duct_buf_putc(to, ')');
}

/* A first delete file goes only onto a live data file that has no delete file; nor marks: lake_txn_claim_marks(). */
static void render_delete_checks(struct render *r, const struct lake_txn_table *t)
{
	struct duct_buf *to = count(r, (int64_t)t->ndeletes, "a delete file was made for a data file that is not live");
	lake_sqlf(to, r->db,
		  "SELECT count(*) FROM @ducklake_data_file WHERE table_id = %lld "
		  "AND end_snapshot IS NULL AND data_file_id IN (",
		  (long long)t->id);
	put_ids(to, r->txn, t);
	to = count(r, 0, "a delete file was made for a data file that has one already");
	lake_sqlf(to, r->db,
		  "SELECT count(*) FROM @ducklake_delete_file WHERE end_snapshot IS NULL "
		  "AND data_file_id IN (");
	put_ids(to, r->txn, t);
}

/* --- files --- */

/* The path as its row has it: relative to the table's folder when it lies there. */
static void put_path(struct duct_buf *to, const struct render *r, const struct lake_txn_table *t, const char *path)
{
	size_t n = strlen(t->path);
	bool relative = strncmp(path, t->path, n) == 0;
	duct_buf_sql_literal(to, relative ? path + n : path);
	duct_buf_printf(to, ", %s", lake_sql_bool(r->db, relative));
}

static void render_data_files(struct render *r)
{
	struct duct_buf *to = NULL;
	for (size_t i = 0, n = 0; i < r->txn->nfiles; i++) {
		const struct txn_file *f = &r->txn->files[i];
		if (n++ % ROWS_PER_INSERT == 0) {
			to = plain(r);
			lake_sqlf(to, r->db,
				  "INSERT INTO @ducklake_data_file (data_file_id, table_id, "
				  "begin_snapshot, end_snapshot, file_order, path, path_is_relative, file_format, "
				  "record_count, file_size_bytes, footer_size, row_id_start, partition_id, "
				  "encryption_key, mapping_id, partial_max) VALUES ");
		} else {
			duct_buf_puts(to, ", ");
		}
		duct_buf_printf(to, "(%lld, %lld, %lld, NULL, NULL, ", (long long)f->id, (long long)f->table->id,
				f->file->begin_snapshot ? (long long)f->file->begin_snapshot : r->snapshot);
		put_path(to, r, f->table, f->file->path);
		duct_buf_printf(to, ", 'parquet', %lld, %lld, %lld, ", (long long)f->file->record_count,
				(long long)f->file->size_bytes, (long long)f->file->footer_size);
		put_int(to, f->row_id_start);
		duct_buf_puts(to, ", ");
		put_int(to, f->file->partition_values ? f->table->partition_id : -1);
		duct_buf_puts(to, ", NULL, ");
		put_int(to, f->file->mapping ? r->txn->mappings[f->file->mapping - 1].id : -1);
		duct_buf_puts(to, ", ");
		put_int(to, f->file->partial_max ? f->file->partial_max : -1);
		duct_buf_putc(to, ')');
	}
}

static void render_file_stats(struct render *r)
{
	struct duct_buf *to = NULL;
	size_t n = 0;
	for (size_t i = 0; i < r->txn->nfiles; i++) {
		const struct txn_file *f = &r->txn->files[i];
		for (int c = 0; c < f->file->nstats; c++) {
			const struct lake_column_stats *s = &f->file->stats[c];
			if (n++ % ROWS_PER_INSERT == 0) {
				to = plain(r);
				lake_sqlf(to, r->db,
					  "INSERT INTO @ducklake_file_column_stats (data_file_id, "
					  "table_id, column_id, column_size_bytes, value_count, null_count, min_value, "
					  "max_value, contains_nan, extra_stats) VALUES ");
			} else {
				duct_buf_puts(to, ", ");
			}
			duct_buf_printf(to, "(%lld, %lld, %lld, ", (long long)f->id, (long long)f->table->id,
					(long long)s->column_id);
			put_int(to, s->size_bytes);
			duct_buf_printf(to, ", %lld, %lld, ", (long long)s->value_count, (long long)s->null_count);
			duct_buf_sql_literal(to, s->min);
			duct_buf_puts(to, ", ");
			duct_buf_sql_literal(to, s->max);
			duct_buf_printf(to, ", %s, NULL)", lake_sql_bool(r->db, s->contains_nan));
		}
	}
}

static void render_delete_files(struct render *r)
{
	struct duct_buf *to = NULL;
	for (size_t i = 0; i < r->txn->ndeletes; i++) {
		const struct txn_delete *d = &r->txn->deletes[i];
		if (i % ROWS_PER_INSERT == 0) {
			to = plain(r);
			lake_sqlf(to, r->db,
				  "INSERT INTO @ducklake_delete_file (delete_file_id, table_id, "
				  "begin_snapshot, end_snapshot, data_file_id, path, path_is_relative, format, "
				  "delete_count, file_size_bytes, footer_size, encryption_key, partial_max) VALUES ");
		} else {
			duct_buf_puts(to, ", ");
		}
		duct_buf_printf(to, "(%lld, %lld, %lld, NULL, %lld, ",
				(long long)(r->txn->next_file_id - (int64_t)r->txn->ndeletes + (int64_t)i), (long long)d->table->id,
				d->begin_snapshot ? (long long)d->begin_snapshot : r->snapshot,
				(long long)(d->on_new_file >= 0 ? r->txn->files[d->on_new_file].id : d->file_id));
		put_path(to, r, d->table, d->path);
		duct_buf_printf(to, ", 'parquet', %lld, %lld, %lld, NULL, ", (long long)d->count, (long long)d->size_bytes,
				(long long)d->footer_size);
		put_int(to, d->partial_max ? d->partial_max : -1);
		duct_buf_putc(to, ')');
	}
}

/* --- statistics of tables --- */

static size_t count_stats(const struct lake_txn_table *t, enum lake_stats_action action)
{
	size_t n = 0;
	for (size_t i = 0; i < t->nstats; i++)
		n += t->stats[i].action == action;
	return n;
}

static void put_stats(struct render *r, struct duct_buf *to, const struct lake_txn_table *t, enum lake_stats_action action,
		      bool with_extra)
{
	const char *comma = "";
	for (size_t i = 0; i < t->nstats; i++) {
		const struct lake_stats_change *c = &t->stats[i];
		if (c->action != action)
			continue;
		duct_buf_printf(to, "%s(%lld, %lld, %s, %s, ", comma, (long long)t->id, (long long)c->column_id,
				lake_sql_bool(r->db, c->contains_null), lake_sql_bool(r->db, c->contains_nan));
		duct_buf_sql_literal(to, c->min);
		duct_buf_puts(to, ", ");
		duct_buf_sql_literal(to, c->max);
		duct_buf_puts(to, with_extra ? ", NULL)" : ")");
		comma = ", ";
	}
}

static void render_column_stats(struct render *r, const struct lake_txn_table *t)
{
	if (count_stats(t, LAKE_STATS_INSERT)) {
		struct duct_buf *to = plain(r);
		lake_sqlf(to, r->db,
			  "INSERT INTO @ducklake_table_column_stats (table_id, column_id, contains_null, "
			  "contains_nan, min_value, max_value, extra_stats) VALUES ");
		put_stats(r, to, t, LAKE_STATS_INSERT, true);
	}
	if (count_stats(t, LAKE_STATS_UPDATE)) {
		struct duct_buf *to = plain(r);
		lake_sqlf(to, r->db,
			  "UPDATE @ducklake_table_column_stats SET contains_null = v.column3, "
			  "contains_nan = v.column4, min_value = v.column5, max_value = v.column6 FROM (VALUES ");
		put_stats(r, to, t, LAKE_STATS_UPDATE, false);
		duct_buf_puts(to, ") AS v WHERE table_id = v.column1 AND column_id = v.column2");
	}
	if (count_stats(t, LAKE_STATS_DELETE)) {
		struct duct_buf *to = plain(r);
		const char *comma = "";
		lake_sqlf(to, r->db,
			  "DELETE FROM @ducklake_table_column_stats WHERE table_id = %lld "
			  "AND column_id IN (",
			  (long long)t->id);
		for (size_t i = 0; i < t->nstats; i++)
			if (t->stats[i].action == LAKE_STATS_DELETE) {
				duct_buf_printf(to, "%s%lld", comma, (long long)t->stats[i].column_id);
				comma = ",";
			}
		duct_buf_putc(to, ')');
	}
}

static void render_table_stats(struct render *r, const struct lake_txn_table *t)
{
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(r->model, t->id);
	long long id = t->id, rows = t->record_count, next = t->next_row_id, bytes = t->file_size_bytes;
	if (known && known->has_stats)
		lake_sqlf(changed(r, 1, "the statistics row of a table"), r->db,
			  "UPDATE @ducklake_table_stats "
			  "SET record_count = %lld, next_row_id = %lld, file_size_bytes = %lld WHERE table_id = %lld",
			  rows, next, bytes, id);
	else
		lake_sqlf(plain(r), r->db,
			  "INSERT INTO @ducklake_table_stats (table_id, record_count, next_row_id, "
			  "file_size_bytes) VALUES (%lld, %lld, %lld, %lld)",
			  id, rows, next, bytes);
	render_column_stats(r, t);
}

/* --- what is written about the commit --- */

static int by_id(const void *a, const void *b)
{
	const struct lake_txn_table *x = *(struct lake_txn_table *const *)a, *y = *(struct lake_txn_table *const *)b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void tag_id(struct duct_buf *to, const char *tag, int64_t id)
{
	duct_buf_printf(to, "%s%s:%lld", to->len ? "," : "", tag, (long long)id);
}

/* Order of the official client: dropped tables, created schemas and tables, inserts, deletes, alterations, inlined changes. */
static void put_tags(const struct render *r, struct duct_buf *to)
{
	struct lake_txn *txn = r->txn;
	size_t n = txn->ntables;
	struct lake_txn_table **sorted = duct_xmalloc((n + 1) * sizeof(struct lake_txn_table *));
	for (size_t i = 0; i < n; i++)
		sorted[i] = txn->tables[i];
	qsort(sorted, n, sizeof *sorted, by_id);
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->dropped)
			tag_id(to, "dropped_table", sorted[i]->id);
	for (size_t i = 0; i < txn->nschemas; i++)
		if (txn->schemas[i].id >= 0) {
			duct_buf_printf(to, "%screated_schema:", to->len ? "," : "");
			duct_buf_sql_ident(to, txn->schemas[i].name);
		}
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->is_new || sorted[i]->renamed) {
			duct_buf_printf(to, "%screated_table:", to->len ? "," : "");
			duct_buf_sql_ident(to, sorted[i]->schema);
			duct_buf_putc(to, '.');
			duct_buf_sql_ident(to, sorted[i]->name);
		}
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->nfiles > sorted[i]->nflushed_files)
			tag_id(to, "inserted_into_table", sorted[i]->id);
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->nmarks || sorted[i]->ndeletes || sorted[i]->ended.n || sorted[i]->truncated)
			tag_id(to, "deleted_from_table", sorted[i]->id);
	for (size_t i = 0; i < n; i++)
		if ((sorted[i]->altered || sorted[i]->repartitioned) && !sorted[i]->is_new)
			tag_id(to, "altered_table", sorted[i]->id);
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->inlined.n)
			tag_id(to, "inlined_insert", sorted[i]->id);
	for (size_t i = 0; i < n; i++) {
		const struct lake_table *known = lake_model_table(r->model, sorted[i]->id);
		/* With this tag an official merge that is under way gives up instead of losing the marks. */
		if (sorted[i]->nmarks || sorted[i]->inlined.nended || (sorted[i]->truncated && known && known->ninlined_tables))
			tag_id(to, "inlined_delete", sorted[i]->id);
	}
	for (size_t i = 0; i < n; i++)
		if (sorted[i]->inlined.nflushed)
			tag_id(to, "inline_flush", sorted[i]->id);
	free(sorted);
}

static void put_extra(const struct render *r, struct duct_buf *to)
{
	const struct lake *lake = r->txn->lake;
	const struct duct_pos *pos = r->info->pos.lsn ? &r->info->pos : &lake->mark.checkpoint.pos;
	char lsn[DUCT_LSN_LEN], text[40];
	duct_buf_puts(to, "{\"flow\":");
	duct_buf_json_string(to, lake->flow, strlen(lake->flow));
	if (pos->lsn)
		duct_buf_printf(to, ",\"lsn\":\"%s\"", duct_lsn_format(lsn, pos->lsn));
	if (pos->commit_us) {
		time_t seconds = (time_t)(pos->commit_us / 1000000);
		struct tm tm;
		gmtime_r(&seconds, &tm);
		strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
		duct_buf_printf(to, ",\"commit_time\":\"%s.%06dZ\"", text, (int)(pos->commit_us % 1000000));
	}
	duct_buf_printf(to, ",\"epoch\":%lld}", (long long)lake->mark.epoch);
}

static void render_changes(struct render *r)
{
	AUTO_BUF struct duct_buf tags = {0}, extra = {0};
	put_tags(r, &tags);
	put_extra(r, &extra);
	struct duct_buf *to = plain(r);
	lake_sqlf(to, r->db,
		  "INSERT INTO @ducklake_snapshot_changes (snapshot_id, changes_made, author, "
		  "commit_message, commit_extra_info) VALUES (%lld, ",
		  r->snapshot);
	duct_buf_sql_literal(to, tags.data ? tags.data : "");
	duct_buf_puts(to, ", 'ductstream', ");
	const char *message = r->info->message;
	duct_buf_sql_literal(to, message && *message ? message : "ductstream");
	duct_buf_puts(to, ", ");
	duct_buf_sql_literal(to, extra.data);
	duct_buf_putc(to, ')');
}

static void render_relation(struct render *r, const struct txn_relation *rel)
{
	struct duct_buf *to = plain(r);
	if (!rel->table) {
		lake_sqlf(to, r->db,
			  "DELETE FROM @ductstream_relation WHERE source_oid = %u AND flow = ", rel->relation.source_oid);
		duct_buf_sql_literal(to, r->txn->lake->flow);
		return;
	}
	const char *text[] = {rel->relation.source_schema, rel->relation.source_name, rel->relation.columns, rel->relation.state};
	lake_sqlf(to, r->db,
		  "INSERT INTO @ductstream_relation (flow, source_oid, table_id, source_schema, source_name, "
		  "columns, state) VALUES (");
	duct_buf_sql_literal(to, r->txn->lake->flow);
	duct_buf_printf(to, ", %u, %lld", rel->relation.source_oid, (long long)rel->table->id);
	for (size_t i = 0; i < DUCT_LEN(text); i++) {
		duct_buf_puts(to, ", ");
		duct_buf_sql_literal(to, text[i]);
	}
	duct_buf_puts(to,
		      ") ON CONFLICT (flow, source_oid) DO UPDATE SET table_id = excluded.table_id, "
		      "source_schema = excluded.source_schema, source_name = excluded.source_name, "
		      "columns = excluded.columns, state = excluded.state");
}

/* --- the whole --- */

static void give_numbers(struct render *r)
{
	struct lake_txn *txn = r->txn;
	const struct lake_model *m = r->model;
	txn->snapshot_id = m->head + 1;
	txn->next_catalog_id = m->next_catalog_id;
	txn->next_file_id = m->next_file_id;
	txn->has_ddl = false;
	bool inlined = false;
	for (size_t i = 0; i < txn->nschemas; i++) {
		bool made = lake_model_schema(m, txn->schemas[i].name) != NULL;
		txn->schemas[i].id = made ? -1 : txn->next_catalog_id++;
		txn->has_ddl |= !made;
	}
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		if (t->is_new)
			t->id = txn->next_catalog_id++;
		txn->has_ddl |=
			t->is_new || t->renamed || t->altered || t->dropped || t->repartitioned || lake_txn_needs_inlined_table(t);
		inlined |= t->inlined.n > 0;
	}
	lake_txn_number_layout(txn);
	for (size_t i = 0; i < txn->nfiles; i++)
		txn->files[i].id = txn->next_file_id++;
	txn->next_file_id += (int64_t)txn->ndeletes;
	/* Cached statistics of other clients are good for one value of it. */
	if (inlined && txn->next_file_id == m->next_file_id)
		txn->next_file_id++;
	txn->schema_version = m->schema_version + txn->has_ddl;
	r->snapshot = txn->snapshot_id;
}

void lake_txn_render(struct lake_txn *txn, const struct lake_commit_info *info, int64_t expected_seq, struct lake_script *script)
{
	struct render r = {.txn = txn, .model = txn->lake->model, .db = txn->lake->db, .info = info, .script = script};
	bool position_only = lake_txn_is_position_only(txn);
	give_numbers(&r);
	render_checkpoint(&r, expected_seq, position_only);
	if (!position_only)
		render_snapshot(&r);
	for (size_t i = 0; i < txn->nschemas; i++)
		if (txn->schemas[i].id >= 0)
			render_schema(&r, &txn->schemas[i]);
	for (size_t i = 0; i < txn->ntables; i++)
		render_ddl(&r, txn->tables[i]);
	for (size_t i = 0; i < txn->ntables; i++)
		lake_render_inlined_table(txn->tables[i], script);
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		if (t->nfolds)
			lake_render_folds(t, script);
		if (t->ndeletes)
			render_delete_checks(&r, t);
		if (t->truncated)
			render_truncate(&r, t);
		if (t->ended.n)
			render_ended(&r, t);
		if (t->nmarks)
			render_marks(&r, t);
		lake_txn_plan_stats(t);
		lake_render_inlined_rows(t, script);
	}
	lake_render_mappings(txn, script);
	render_data_files(&r);
	lake_render_partition_values(txn, script);
	render_file_stats(&r);
	render_delete_files(&r);
	for (size_t i = 0; i < txn->ntables; i++)
		if (txn->tables[i]->nfiles || txn->tables[i]->inlined.n)
			render_table_stats(&r, txn->tables[i]);
	for (size_t i = 0; i < txn->nrelations; i++)
		render_relation(&r, &txn->relations[i]);
	if (!position_only)
		render_changes(&r);
}
