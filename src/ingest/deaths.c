/*
 * Old rows that a run takes the place of: found by their keys, and by the column that says which partition they are of. Nothing is kept per row for that:
 * key columns of the live files are read, few rows through our own reader, many through DuckDB.
 */
#include "ingest/load.h"

#include <string.h>
#include <strings.h>

#include "lake/dead.h"
#include "lake/inline.h"
#include "record/format.h"

enum { OWN_READER_ROWS = 50000 };

struct scan {
	struct ingest_load *l;
	struct lake_txn *txn;
	struct ingest_target *target;
	const struct lake_column *columns[64]; /* those of the key, then that of the partition */
	int nkeys, ncolumns;
	bool by_partition, is_root;
	const struct lake_dead *dead; /* of the file at hand */
	struct lake_positions dying;
	int64_t rows, version;
	struct duct_buf key, text;
};

/* --- which rows --- */

static bool instant_of(const struct duct_type *type, int unit, struct duct_cell cell, struct duct_buf *text, int64_t *ret_us)
{
	static const struct duct_type zoned = {.kind = DUCT_TIMESTAMPTZ}, whole = {.kind = DUCT_INT64};
	struct duct_error ignored;
	text->len = 0;
	if (type->kind == DUCT_TIMESTAMP || type->kind == DUCT_TIMESTAMPTZ) {
		memcpy(ret_us, cell.data, sizeof *ret_us);
		return true;
	}
	if (type->kind == DUCT_DATE) {
		int32_t days;
		memcpy(&days, cell.data, sizeof days);
		*ret_us = days * INT64_C(86400000000);
		return true;
	}
	if (type->kind == DUCT_VARCHAR) {
		/* As a value of the source would be read. */
		AUTO_BUF struct duct_buf quoted = {0};
		struct json_doc doc = {0};
		duct_buf_json_string(&quoted, cell.data, cell.len);
		bool good = !json_parse(&doc, quoted.data, quoted.len, &ignored) &&
			!ingest_value(&zoned, &doc, doc.nodes, text, &ignored) && text->len == sizeof *ret_us;
		if (good)
			memcpy(ret_us, text->data, sizeof *ret_us);
		json_done(&doc);
		return good;
	}
	int64_t number, scale = unit == INGEST_UNIT_EPOCH ? 1000000 : 1000;
	if (type->kind == DUCT_FLOAT64) {
		double d;
		memcpy(&d, cell.data, sizeof d);
		if (!(d > -9e12 && d < 9e15))
			return false;
		*ret_us = (int64_t)(d * (double)scale);
		return true;
	}
	if (!duct_type_equal(type, &whole) &&
	    (!duct_type_widens(type, &whole) || duct_cell_cast(text, type, cell, &whole, &ignored)))
		return false;
	memcpy(&number, text->len ? text->data : cell.data, sizeof number);
	return !__builtin_mul_overflow(number, scale, ret_us);
}

static bool is_of_partition(struct scan *s, const struct duct_batch *batch, uint32_t row)
{
	const struct ingest_window *w = s->l->window;
	const struct duct_vector *v = &batch->columns[s->nkeys];
	struct duct_cell cell = duct_vector_cell(v, row);
	int64_t us;
	return cell.data && instant_of(v->type, s->l->spec->partition.unit, cell, &s->text, &us) && us >= w->begin_us &&
		us < w->end_us;
}

/* s->key; false: the row has none. */
static bool key_of(struct scan *s, const struct duct_batch *batch, uint32_t row)
{
	s->key.len = 0;
	for (int i = 0; i < s->nkeys; i++) {
		struct duct_cell cell = duct_vector_cell(&batch->columns[i], row);
		if (!cell.data)
			return false;
		ingest_key_part(&s->key, batch->columns[i].type, cell);
	}
	return s->nkeys > 0;
}

static bool dies(struct scan *s, const struct duct_batch *batch, uint32_t row)
{
	bool has_key = key_of(s, batch, row);
	bool dies = has_key &&
		(ingest_keys_get(&s->l->keys, s->key.data, s->key.len) ||
		 (!s->is_root && ingest_keys_get(&s->l->gone, s->key.data, s->key.len)));
	if (!dies && s->by_partition)
		dies = is_of_partition(s, batch, row);
	if (dies && s->is_root && has_key)
		(void)ingest_keys_put(&s->l->gone, s->key.data, s->key.len, 0);
	s->l->result->deleted += dies && s->is_root;
	return dies;
}

/* --- files --- */

static int take_batch(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		      struct duct_error *err)
{
	struct scan *s = arg;
	(void)row_ids;
	if (duct_ctx_stopped(s->l->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	for (uint32_t row = 0; row < batch->rows; row++)
		if (!lake_dead_has(s->dead, positions[row]) && dies(s, batch, row))
			lake_positions_add(&s->dying, positions[row], s->rows);
	return 0;
}

static int read_keys(struct scan *s, const struct lake_file *file, struct duct_error *err)
{
	if (file->record_count > OWN_READER_ROWS)
		return lake_read_file(s->l->conn, file, s->columns, s->ncolumns, NULL, 0, take_batch, s, err);
	AUTO_FREE int64_t *all = duct_xmalloc(((size_t)file->record_count + 1) * sizeof *all);
	for (int64_t i = 0; i < file->record_count; i++)
		all[i] = i;
	return lake_read_rows(s->l->points, s->l->conn, file, s->columns, s->ncolumns, all, (size_t)file->record_count, take_batch,
			      s, err);
}

static int end_rows(struct scan *s, const struct lake_file *file, struct duct_error *err)
{
	struct lake_txn_table *t = s->target->t;
	if ((int64_t)s->dying.n + (int64_t)s->dead->n == file->record_count) {
		lake_txn_end_file(s->txn, t, file->id);
		return 0;
	}
	lake_positions_sort(&s->dying);
	if (lake_txn_has_room_for_marks(s->txn, t) || file->delete_file_id >= 0 || file->mark_count) {
		lake_txn_mark(s->txn, t, file->id, &s->dying);
		return 0;
	}
	struct lake_new_delete_file d = {.count = (int64_t)s->dying.n};
	if (lake_write_delete_file(lake_txn_table_path(t), file->path, &s->dying, NULL, &d.path, &d.size_bytes, &d.footer_size,
				   err))
		return -(int)err->class;
	lake_txn_add_delete_file(s->txn, t, file->id, -1, &d);
	return 0;
}

static int scan_file(struct scan *s, const struct lake_mark_set *marks, const struct lake_file *file, struct duct_error *err)
{
	struct lake_dead dead = {0};
	if (file->has_mapping)
		return duct_fail(
			err, DUCT_CONFIG,
			"file \"%s\" was registered by another program and names its columns in a way of its own: rewrite the "
			"table's files, or append instead of merging",
			file->path);
	int rc = lake_dead_read(&dead, marks, s->l->conn, file, err);
	s->dead = &dead;
	s->rows = file->record_count;
	rc = rc ? rc : read_keys(s, file, err);
	if (!rc && s->dying.n)
		rc = end_rows(s, file, err);
	lake_positions_done(&s->dying);
	lake_dead_done(&dead);
	return rc;
}

static int scan_files(struct scan *s, int64_t table_id, struct duct_error *err)
{
	struct lake_mark_set marks = {0};
	struct lake_file *files;
	struct duct_arena arena;
	size_t n;
	duct_arena_init(&arena);
	int rc = lake_list_files(s->l->lake, table_id, &arena, &files, &n, err);
	if (!rc && n)
		rc = lake_read_marks(s->l->lake, table_id, &marks, err);
	for (size_t i = 0; i < n && !rc; i++)
		rc = scan_file(s, &marks, &files[i], err);
	lake_mark_set_done(&marks);
	duct_arena_done(&arena);
	return rc;
}

/* --- rows in the catalog --- */

static int take_inlined(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	struct scan *s = arg;
	(void)err;
	for (uint32_t row = 0; row < batch->rows; row++)
		if (rows[row].end_snapshot < 0 && dies(s, batch, row))
			lake_txn_end_inlined(s->txn, s->target->t, s->version, rows[row].row_id);
	return 0;
}

static int scan_inlined(struct scan *s, int64_t table_id, struct duct_error *err)
{
	struct duct_arena arena;
	int64_t *versions;
	size_t n;
	int rc = 0;
	duct_arena_init(&arena);
	lake_inlined_versions(s->l->lake, table_id, &arena, &versions, &n);
	for (size_t i = 0; i < n && !rc; i++) {
		const struct lake_inlined_wanted wanted = {.table_id = table_id,
							   .schema_version = versions[i],
							   .columns = s->columns,
							   .ncolumns = s->ncolumns};
		s->version = versions[i];
		rc = lake_read_inlined(s->l->lake, s->l->conn, &wanted, take_inlined, s, err);
	}
	duct_arena_done(&arena);
	return rc;
}

/* --- the whole --- */

static const struct lake_column *column_named(const struct lake_table *table, const char *name)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (strcasecmp(table->columns[i].name, name) == 0)
			return &table->columns[i];
	return NULL;
}

static int find_columns(struct scan *s, const struct lake_table *known, struct duct_error *err)
{
	const struct ingest_spec *spec = s->l->spec;
	bool keyed = ingest_is_keyed(s->l) || !s->is_root || s->l->ntargets > 1;
	for (char *const *name = spec->main.merge_key; keyed && name && *name; name++) {
		AUTO_FREE char *column = duct_xasprintf("%s%s", s->is_root ? "" : "_parent_", *name);
		const struct lake_column *c = column_named(known, column);
		if (!c)
			return duct_fail(err, DUCT_CONFIG, "merge_key: table \"%s\".\"%s\" has no column \"%s\"", known->schema,
					 known->name, column);
		if (s->ncolumns + 1 < (int)DUCT_LEN(s->columns))
			s->columns[s->ncolumns++] = c;
	}
	s->nkeys = s->ncolumns;
	if (s->by_partition) {
		s->columns[s->ncolumns] = column_named(known, spec->partition.column);
		if (!s->columns[s->ncolumns++])
			return duct_fail(err, DUCT_CONFIG, "partition: table \"%s\".\"%s\" has no column \"%s\"", known->schema,
					 known->name, spec->partition.column);
	}
	return 0;
}

int ingest_plan_deaths(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, struct duct_error *err)
{
	const struct ingest_spec *spec = l->spec;
	const struct lake_table *known = lake_find_table(l->lake, spec->schema, target->shape->table);
	struct scan s = {.l = l, .txn = txn, .target = target, .is_root = target->shape == l->shape};
	if (!known || spec->main.write == INGEST_APPEND)
		return 0;
	s.by_partition = s.is_root && l->window->key && spec->partition.column;
	if (spec->main.write == INGEST_REPLACE && !(l->window->key && spec->partition.column)) {
		if (s.is_root)
			l->result->deleted = known->record_count;
		lake_txn_truncate(txn, target->t);
		return 0;
	}
	int rc = find_columns(&s, known, err);
	rc = rc ? rc : scan_files(&s, known->id, err);
	rc = rc ? rc : scan_inlined(&s, known->id, err);
	duct_buf_done(&s.key);
	duct_buf_done(&s.text);
	return rc;
}
