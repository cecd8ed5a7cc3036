/* Marks of data files that end: see lake_txn_fold_marks() in txn.h. */
#include "lake/deaths.h"

#include "base/buf.h"
#include "base/mem.h"
#include "lake/lake.h"
#include "lake/parquet_internal.h"

#include <string.h>

struct marked {
	int64_t id, rows;
	const char *path;
	struct lake_old_delete_file old;
};

struct marked_list {
	struct duct_arena *arena;
	const char *table_path;
	struct marked *files;
	size_t n, cap;
};

static int take_marked(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct marked_list *list = arg;
	list->files = duct_grow(list->files, &list->cap, list->n + 1, sizeof *list->files);
	list->files[list->n++] = (struct marked){
		.id = lake_int(v[0], -1),
		.rows = lake_int(v[1], 0),
		.path = lake_file_path(list->arena, list->table_path, v[2], v[3]),
		.old = {lake_int(v[4], -1), lake_int(v[5], -1), lake_int(v[6], -1),
			v[7] ? lake_file_path(list->arena, list->table_path, v[7], v[8]) : NULL},
	};
	return 0;
}

/* Live files that end and may have marks. */
static int list_marked(struct marked_list *list, const struct lake_txn_table *t, struct duct_error *err)
{
	struct lake_db *db = t->txn->lake->db;
	AUTO_BUF struct duct_buf sql = {0};
	size_t n = 0;
	lake_sqlf(&sql, db,
		  "SELECT d.data_file_id, d.record_count, d.path, d.path_is_relative, "
		  "x.delete_file_id, x.begin_snapshot, x.partial_max, x.path, x.path_is_relative "
		  "FROM @ducklake_data_file d LEFT JOIN @ducklake_delete_file x ON x.data_file_id = d.data_file_id "
		  "AND x.end_snapshot IS NULL WHERE d.table_id = %lld AND d.end_snapshot IS NULL "
		  "AND coalesce(x.delete_count, 0) <= %d AND d.data_file_id IN (",
		  (long long)t->id, LAKE_MOST_DEATHS);
	for (size_t i = 0; !t->truncated && i < t->ended.n; i++)
		if (lake_may_have_marks(t->txn->lake, t->id, t->ended.ids[i]))
			duct_buf_printf(&sql, "%s%lld", n++ ? "," : "", (long long)t->ended.ids[i]);
	if (t->truncated)
		lake_sqlf(&sql, db, "SELECT file_id FROM @ducklake_inlined_delete_%lld", (long long)t->id);
	else if (!n)
		return 0;
	duct_buf_putc(&sql, ')');
	return db->ops->query(db, sql.data, take_marked, list, err);
}

static int fold_file(struct lake_txn_table *t, const struct marked *m, struct lake_store *store, struct duck_conn *conn,
		     struct duct_error *err)
{
	struct lake_txn *txn = t->txn;
	struct lake_deaths deaths;
	struct lake_new_delete_file file;
	if (lake_deaths_read(&deaths, txn->lake, conn, t->id, m->id, m->rows, &m->old, 1, err))
		return -(int)err->class;
	if (!deaths.nmarks || deaths.n > LAKE_MOST_DEATHS) {
		lake_deaths_done(&deaths);
		return 0;
	}
	struct txn_fold fold = {.file_id = m->id, .nmarks = (int64_t)deaths.nmarks};
	int rc = lake_deaths_write(&deaths, store, t->path, m->path, m->rows, &file, err);
	lake_deaths_done(&deaths);
	if (rc)
		return rc;
	if (m->old.id >= 0) {
		fold.old = duct_arena_dup(&txn->arena, &m->old, sizeof m->old);
		fold.old->path = duct_arena_strdup(&txn->arena, m->old.path);
	}
	lake_txn_add_delete_file(txn, t, m->id, -1, &file);
	txn->deletes[txn->ndeletes - 1].folds = true;
	t->folds = duct_grow(t->folds, &t->folds_cap, t->nfolds + 1, sizeof *t->folds);
	t->folds[t->nfolds++] = fold;
	return 0;
}

static int fold_table(struct lake_txn_table *t, struct lake_store *store, struct duck_conn *conn, struct duct_error *err)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	struct marked_list list = {.arena = &arena, .table_path = t->path};
	int rc = list_marked(&list, t, err);
	for (size_t i = 0; i < list.n && !rc; i++)
		rc = fold_file(t, &list.files[i], store, conn, err);
	free(list.files);
	duct_arena_done(&arena);
	return rc ? duct_wrap(err, "marks of data files of \"%s\" that end", t->name) : 0;
}

int lake_txn_fold_marks(struct lake_txn *txn, struct lake_store *store, struct duck_conn *conn, struct duct_error *err)
{
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
		if (known && known->has_delete_table && !t->dropped && (t->truncated || t->ended.n) &&
		    fold_table(t, store, conn, err))
			return -(int)err->class;
	}
	return 0;
}

void lake_render_folds(const struct lake_txn_table *t, struct lake_script *script)
{
	const struct lake *lake = t->txn->lake;
	int64_t marks = 0;
	for (size_t i = 0; i < t->nfolds; i++) {
		const struct lake_old_delete_file *old = t->folds[i].old;
		marks += t->folds[i].nmarks;
		if (!old)
			continue;
		lake_schedule_delete_file(script, lake, old);
		lake_sqlf(lake_script_step(script, LAKE_STEP_CHANGED, 1, "the delete file of a data file that was to end is gone"),
			  lake->db, "DELETE FROM @ducklake_delete_file WHERE delete_file_id = %lld AND end_snapshot IS NULL",
			  (long long)old->id);
	}
	struct duct_buf *to =
		lake_script_step(script, LAKE_STEP_CHANGED, marks, "marks of a data file that was to end changed meanwhile");
	lake_sqlf(to, lake->db, "DELETE FROM @ducklake_inlined_delete_%lld WHERE file_id IN (", (long long)t->id);
	for (size_t i = 0; i < t->nfolds; i++)
		duct_buf_printf(to, "%s%lld", i ? "," : "", (long long)t->folds[i].file_id);
	duct_buf_putc(to, ')');
}
