/* Everything, or only what was added: see since.h. */
#include "copy/since.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "duck/types.h"
#include "lake/changes.h"

enum { MOST_SNAPSHOTS = 100000 };

/* --- the lake's side --- */

static bool is_ours(const struct lake_snapshot_row *row, const char *flow)
{
	json_t *extra = row->extra ? json_loads(row->extra, 0, NULL) : NULL;
	const char *by = json_string_value(json_object_get(extra, "flow"));
	bool ours = by && strcmp(by, flow) == 0;
	json_decref(extra);
	return ours;
}

/* Whether somebody else has put rows into the table, or taken some out of it, in this snapshot. */
static bool touches(const char *changes, int64_t table_id)
{
	struct lake_change_item item;
	int rc;
	while (changes && (rc = lake_changes_next(&changes, &item)) != 0)
		if (rc < 0 || item.tag == LAKE_TAG_UNKNOWN ||
		    (item.id == table_id && item.tag != LAKE_TAG_MOVED && item.tag != LAKE_TAG_NEUTRAL))
			return true;
	return false;
}

/* 1: since our last commit nobody has changed the table. 0: somebody has, or nobody can tell. */
static int is_untouched(struct copy_since *s, int64_t table_id, struct duct_error *err)
{
	struct lake_snapshot_row *rows;
	size_t n;
	AUTO_FREE char *flow = duct_xasprintf("copy/%s.%s", s->target->schema, s->target->table);
	if (lake_list_snapshots(s->lake, MOST_SNAPSHOTS, s->arena, &rows, &n, err) < 0)
		return -(int)err->class;
	for (size_t i = 0; i < n; i++) {
		if (i && rows[i - 1].snapshot_id != rows[i].snapshot_id + 1)
			return 0;
		if (is_ours(&rows[i], flow))
			return 1;
		if (touches(rows[i].changes, table_id))
			return 0;
	}
	return 0;
}

/* 1: the table's rows are just those of its files. */
static int take_files(struct copy_since *s, const struct lake_table *table, struct duct_error *err)
{
	if (lake_list_files(s->lake, table->id, s->arena, &s->files, &s->nfiles, err) < 0)
		return -(int)err->class;
	for (size_t i = 0; i < s->nfiles; i++)
		if (s->files[i].delete_file_id >= 0 || s->files[i].mark_count || s->files[i].has_mapping)
			return 0;
	return 1;
}

/* --- Delta's side --- */

static const struct duct_type *column_type(const struct land_shape *shape, const char *name)
{
	for (int i = 0; i < shape->ncolumns; i++)
		if (strcmp(shape->columns[i].name, name) == 0)
			return shape->columns[i].type;
	return NULL;
}

static void put_empty(struct duct_buf *to, const struct land_shape *shape)
{
	duct_buf_puts(to, "SELECT ");
	for (int i = 0; i < shape->ncolumns; i++) {
		duct_buf_puts(to, i ? ", CAST(NULL AS " : "CAST(NULL AS ");
		duck_sql_type(to, shape->columns[i].type);
		duct_buf_puts(to, ") AS ");
		duct_buf_sql_ident(to, shape->columns[i].name);
	}
	duct_buf_puts(to, " WHERE false");
}

static bool same_partition(const struct delta_file *a, const struct delta_file *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!a->values[i] != !b->values[i] || (a->values[i] && strcmp(a->values[i], b->values[i]) != 0))
			return false;
	return true;
}

/* Rows of the files of one partition, from the i-th on; its values are constants. False: a column that is not known. */
static bool put_partition(struct duct_buf *to, const struct delta_added *added, size_t i, const struct land_shape *shape)
{
	duct_buf_puts(to, " UNION ALL BY NAME SELECT *");
	for (size_t c = 0; c < added->ncolumns; c++) {
		const struct duct_type *type = column_type(shape, added->columns[c]);
		if (!type || type->kind == DUCT_BLOB)
			return false;
		duct_buf_puts(to, ", CAST(");
		duct_buf_sql_literal(to, added->files[i].values[c]);
		duct_buf_puts(to, " AS ");
		duck_sql_type(to, type);
		duct_buf_puts(to, ") AS ");
		duct_buf_sql_ident(to, added->columns[c]);
	}
	duct_buf_puts(to, " FROM read_parquet([");
	duct_buf_sql_literal(to, added->files[i].url);
	for (size_t k = i + 1; k < added->n; k++)
		if (same_partition(&added->files[i], &added->files[k], added->ncolumns)) {
			duct_buf_puts(to, ", ");
			duct_buf_sql_literal(to, added->files[k].url);
		}
	duct_buf_puts(to, "], union_by_name => true, hive_partitioning => false)");
	return true;
}

/* Whether a file of the same partition stands before it. */
static bool is_put(const struct delta_added *added, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (same_partition(&added->files[k], &added->files[i], added->ncolumns))
			return true;
	return false;
}

/* NULL: the files cannot be read as the table has them. */
static const char *added_rows(struct copy_since *s, const struct delta_added *added)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct land_shape shape;
	struct duct_error ignored;
	put_empty(&sql, s->shape);
	for (size_t i = 0; i < added->n; i++)
		if (!is_put(added, i) && !put_partition(&sql, added, i, s->shape))
			return NULL;
	const struct lake_table *table = lake_find_table(s->lake, s->target->schema, s->target->table);
	if (land_shape(s->conn, sql.data, s->arena, &shape, &ignored) < 0 || !land_same_columns(table, &shape))
		return NULL;
	return duct_arena_strdup(s->arena, sql.data);
}

static int look_at_log(struct copy_since *s, int64_t from, struct duct_error *err)
{
	struct delta_added added = {0};
	int rc = delta_added(s->delta, from, s->version, s->arena, &added, &s->why, err);
	s->added = rc == 1 ? added_rows(s, &added) : NULL;
	bool any = added.n > 0;
	delta_added_done(&added);
	if (rc < 0)
		return rc;
	if (rc == 1 && !s->added)
		s->why = "the files that were added have other columns";
	if (!s->added)
		return 0;
	s->why = NULL;
	s->mode = any ? COPY_ADDED : COPY_NOTHING;
	return 0;
}

/* --- both --- */

/* NULL, or why what is there cannot be added to. *ret_from: the version that is there. */
static const char *compare(struct copy_since *s, const json_t *last, int64_t *ret_from)
{
	const char *source = json_string_value(json_object_get(last, "source")),
		   *id = json_string_value(json_object_get(last, "delta_id")),
		   *mark = json_string_value(json_object_get(last, "commit"));
	*ret_from = json_integer_value(json_object_get(last, "version"));
	if (!source || strcmp(source, delta_uri(s->delta)) != 0)
		return "the table was copied from somewhere else";
	if (!id || !*id || strcmp(id, s->about->id) != 0)
		return "the Delta table was made anew";
	if (*ret_from > s->version)
		return "the Delta table is at an older version";
	if (!mark || strcmp(mark, delta_mark(s->delta, *ret_from, s->arena)) != 0)
		return "the commit that was copied last is not in the Delta log any more";
	return s->about->mapped ? "the Delta table maps its columns to other names" : NULL;
}

static int decide(struct copy_since *s, const json_t *last, struct duct_error *err)
{
	int64_t from;
	const struct lake_table *table = lake_find_table(s->lake, s->target->schema, s->target->table);
	s->why = compare(s, last, &from);
	if (!s->why && (!table || !land_same_columns(table, s->shape)))
		s->why = "the columns are not the same any more";
	if (s->why)
		return 0;
	int untouched = is_untouched(s, table->id, err);
	untouched = untouched <= 0 ? untouched : take_files(s, table, err);
	if (untouched < 0)
		return untouched;
	if (!untouched) {
		s->why = "others have changed the table";
		return 0;
	}
	if (from == s->version) {
		s->mode = COPY_NOTHING;
		return 0;
	}
	return look_at_log(s, from, err);
}

int copy_since(struct copy_since *s, struct duct_error *err)
{
	struct duct_checkpoint checkpoint;
	s->mode = COPY_ALL;
	lake_checkpoint(s->lake, &checkpoint);
	json_t *last = *checkpoint.source_identity ? json_loads(checkpoint.source_identity, 0, NULL) : NULL;
	const char *owner = json_string_value(json_object_get(last, "owner"));
	int rc = 0;
	if (owner && strcmp(owner, s->owner) != 0 && lake_find_table(s->lake, s->target->schema, s->target->table))
		rc = duct_fail(err, DUCT_CONFIG,
			       "\"%s\" and \"%s\" both become table \"%s\".\"%s\": rename one of them, or drop the table", s->owner,
			       owner, s->target->schema, s->target->table);
	else if (json_is_object(last))
		rc = decide(s, last, err);
	json_decref(last);
	if (s->mode == COPY_ALL)
		s->nfiles = 0;
	return rc;
}
