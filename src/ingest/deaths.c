/*
 * Old rows that a run takes the place of: found by their keys, and by the column that says which partition they are of. Nothing is kept per row for that:
 * key columns of the live files whose bounds do not rule them out are read.
 */
#include "ingest/load.h"
#include "ingest/prune.h"

#include <string.h>
#include <strings.h>

#include "lake/search.h"

struct scan {
	struct ingest_load *l;
	struct ingest_target *target;
	const struct lake_column *columns[64]; /* those of the key, then that of the partition */
	int nkeys, ncolumns;
	bool by_partition, is_root;
	struct duct_buf key;
};

/* --- which rows --- */

static bool is_of_partition(struct scan *s, const struct duct_batch *batch, uint32_t row)
{
	const struct duct_vector *v = &batch->columns[s->nkeys];
	struct duct_cell cell = duct_vector_cell(v, row);
	return cell.data && ingest_in_window(s->l->window, v->type, s->l->spec->partition.unit, cell);
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

static bool dies(void *arg, const struct duct_batch *batch, uint32_t row)
{
	struct scan *s = arg;
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

static int allow(void *arg, const char *path, struct duct_error *err)
{
	struct scan *s = arg;
	return ingest_allow(s->l, path, err);
}

/* Those of the files that the catalog's bounds do not rule out. */
static int pick_files(struct scan *s, int64_t table_id, struct duct_arena *arena, struct lake_file *files, size_t *n,
		      struct duct_error *err)
{
	struct ingest_load *l = s->l;
	struct lake_file_bounds *bounds;
	int64_t ids[DUCT_LEN(s->columns)];
	size_t picked = 0;
	for (int i = 0; i < s->ncolumns; i++)
		ids[i] = s->columns[i]->id;
	if (lake_list_bounds(l->lake, table_id, ids, s->ncolumns, files, *n, arena, &bounds, err))
		return -(int)err->class;
	struct ingest_prune *prune = ingest_prune_new(s->columns, s->nkeys, &l->keys, s->is_root ? NULL : &l->gone,
						      s->by_partition ? l->window : NULL, l->spec->partition.unit);
	for (size_t i = 0; i < *n; i++)
		if (ingest_prune_may_have(prune, bounds + i * (size_t)s->ncolumns))
			files[picked++] = files[i];
	ingest_prune_free(prune);
	l->result->files_skipped += (int64_t)(*n - picked);
	l->result->files_scanned += (int64_t)picked;
	*n = picked;
	return 0;
}

static int scan_files(struct scan *s, struct lake_search *search, struct duct_error *err)
{
	struct lake_file *files;
	struct duct_arena arena;
	size_t n = 0;
	duct_arena_init(&arena);
	int rc = lake_list_files(s->l->lake, search->table_id, &arena, &files, &n, err);
	rc = rc ? rc : pick_files(s, search->table_id, &arena, files, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		rc = lake_search_file(search, &files[i], err);
	duct_arena_done(&arena);
	return rc;
}

/* --- the whole --- */

/* As it will be: what is read of older rows is cast to that, so that keys of a column that widens are spelled alike. */
static const struct lake_column *column_named(const struct ingest_target *target, const char *name)
{
	return lake_find_column(target->columns, target->ncolumns, name);
}

static int find_columns(struct scan *s, const struct lake_table *known, struct duct_error *err)
{
	const struct ingest_spec *spec = s->l->spec;
	bool keyed = ingest_is_keyed(s->l) || !s->is_root || s->l->ntargets > 1;
	for (char *const *name = spec->main.merge_key; keyed && name && *name; name++) {
		AUTO_FREE char *column = duct_xasprintf("%s%s", s->is_root ? "" : "_parent_", *name);
		const struct lake_column *c = column_named(s->target, column);
		if (!c)
			return duct_fail(err, DUCT_CONFIG, "merge_key: table \"%s\".\"%s\" has no column \"%s\"", known->schema,
					 known->name, column);
		if (s->ncolumns + 1 < (int)DUCT_LEN(s->columns))
			s->columns[s->ncolumns++] = c;
	}
	s->nkeys = s->ncolumns;
	if (s->by_partition) {
		const struct lake_column *c = column_named(s->target, spec->partition.column);
		s->by_partition = c; /* no row that is there can be of the partition */
		if (c)
			s->columns[s->ncolumns++] = c;
	}
	return 0;
}

int ingest_plan_deaths(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target, struct duct_error *err)
{
	const struct ingest_spec *spec = l->spec;
	const struct lake_table *known = lake_find_table(l->lake, spec->schema, target->shape->table);
	struct scan s = {.l = l, .target = target, .is_root = target->shape == l->shape};
	s.by_partition = s.is_root && l->window->key && spec->partition.column;
	if (s.by_partition && target->shape->rows && !column_named(target, spec->partition.column))
		return duct_fail(
			err, DUCT_DATA,
			"partition: no record has a value in \"%s\" (partition: column), nor is there such a column in \"%s\"",
			spec->partition.column, spec->main.into);
	if (target->created || spec->main.write == INGEST_APPEND)
		return 0;
	if (spec->main.write == INGEST_REPLACE && !(l->window->key && spec->partition.column)) {
		lake_txn_truncate(txn, target->t);
		return s.is_root ? lake_count_rows(l->lake, known->id, &l->result->deleted, err) : 0;
	}
	int rc = find_columns(&s, known, err);
	struct lake_search search = {.lake = l->lake,
				     .ctx = l->ctx,
				     .table_id = known->id,
				     .columns = s.columns,
				     .ncolumns = s.ncolumns,
				     .wants = dies,
				     .allow = allow,
				     .arg = &s,
				     .conn = l->conn,
				     .points = l->points,
				     .txn = txn,
				     .t = target->t,
				     .store = l->place->store};
	rc = rc ? rc : scan_files(&s, &search, err);
	rc = rc ? rc : lake_search_inlined(&search, err);
	lake_search_done(&search);
	duct_buf_done(&s.key);
	return rc;
}
