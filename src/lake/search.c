/* Rows that are known by their values: see search.h. */
#include "lake/search.h"

#include <stdlib.h>

#include "base/mem.h"
#include "lake/dead.h"
#include "lake/inline.h"
#include "lake/txn_plan.h"

enum {
	OWN_READER_ROWS = 50000,
	DELETE_FILE_ROWS = 1000, /* from so many of one file on; as the default of flows */
};

/* --- files --- */

struct file_search {
	struct lake_search *s;
	const struct lake_file *file;
	struct lake_dead dead;
	struct lake_positions dying;
};

static int take_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		     struct duct_error *err)
{
	struct file_search *f = arg;
	(void)row_ids;
	if (duct_ctx_stopped(f->s->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	for (uint32_t row = 0; row < batch->rows; row++)
		if (!lake_dead_has(&f->dead, positions[row]) && f->s->wants(f->s->arg, batch, row))
			lake_positions_add(&f->dying, positions[row], f->file->record_count);
	return 0;
}

static int read_file(struct file_search *f, struct duct_error *err)
{
	struct lake_search *s = f->s;
	const struct lake_file *file = f->file;
	if (file->record_count > OWN_READER_ROWS || s3_is_url(file->path))
		return lake_read_file(s->conn, file, s->columns, s->ncolumns, NULL, 0, take_rows, f, err);
	AUTO_FREE int64_t *all = duct_xmalloc(((size_t)file->record_count + 1) * sizeof *all);
	for (int64_t i = 0; i < file->record_count; i++)
		all[i] = i;
	return lake_read_rows(s->points, s->conn, file, s->columns, s->ncolumns, all, (size_t)file->record_count, take_rows, f,
			      err);
}

static int end_rows(struct file_search *f, struct duct_error *err)
{
	struct lake_search *s = f->s;
	const struct lake_file *file = f->file;
	bool fresh = file->delete_file_id < 0 && !file->mark_count;
	s->ended += f->dying.n;
	if ((int64_t)(f->dying.n + f->dead.n) == file->record_count) {
		lake_txn_end_file(s->txn, s->t, file->id);
		return 0;
	}
	lake_positions_sort(&f->dying);
	if (!fresh || (f->dying.n < DELETE_FILE_ROWS && lake_txn_has_room_for_marks(s->txn, s->t))) {
		lake_txn_mark(s->txn, s->t, file->id, &f->dying);
		return 0;
	}
	struct lake_new_delete_file d;
	if (lake_store_write_deletes(s->store, lake_txn_table_path(s->t), file->path, &f->dying, NULL, &d, err))
		return -(int)err->class;
	lake_txn_add_delete_file(s->txn, s->t, file->id, -1, &d);
	return 0;
}

static int allow(struct lake_search *s, const struct lake_file *file, struct duct_error *err)
{
	int rc = s->allow ? s->allow(s->arg, file->path, err) : 0;
	return rc || !s->allow || !file->delete_path ? rc : s->allow(s->arg, file->delete_path, err);
}

int lake_search_file(struct lake_search *s, const struct lake_file *file, struct duct_error *err)
{
	struct file_search f = {.s = s, .file = file};
	int rc = s->has_marks ? 0 : lake_read_marks(s->lake, s->table_id, &s->marks, err);
	s->has_marks = !rc;
	rc = rc ? rc : allow(s, file, err);
	rc = rc ? rc : lake_dead_read(&f.dead, &s->marks, s->conn, file, err);
	rc = rc ? rc : read_file(&f, err);
	if (!rc && s->txn && f.dying.n)
		rc = end_rows(&f, err);
	lake_positions_done(&f.dying);
	lake_dead_done(&f.dead);
	return rc;
}

/* --- rows in the catalog --- */

struct inlined_search {
	struct lake_search *s;
	int64_t version;
};

static int take_inlined(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	struct inlined_search *i = arg;
	struct lake_search *s = i->s;
	if (duct_ctx_stopped(s->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	for (uint32_t row = 0; row < batch->rows; row++) {
		if (!s->wants(s->arg, batch, row) || !s->txn)
			continue;
		lake_txn_end_inlined(s->txn, s->t, i->version, rows[row].row_id);
		s->ended++;
	}
	return 0;
}

int lake_search_inlined(struct lake_search *s, struct duct_error *err)
{
	struct duct_arena arena;
	int64_t *versions;
	size_t n;
	int rc = 0;
	duct_arena_init(&arena);
	lake_inlined_versions(s->lake, s->table_id, &arena, &versions, &n);
	for (size_t i = 0; i < n && !rc; i++) {
		struct inlined_search at = {s, versions[i]};
		const struct lake_inlined_wanted wanted = {.table_id = s->table_id,
							   .schema_version = versions[i],
							   .columns = s->columns,
							   .ncolumns = s->ncolumns};
		rc = lake_read_inlined(s->lake, s->conn, &wanted, take_inlined, &at, err);
	}
	duct_arena_done(&arena);
	return rc;
}

bool lake_search_any_inlined(const struct lake *lake, int64_t table_id)
{
	struct duct_arena arena;
	int64_t *versions;
	size_t n;
	duct_arena_init(&arena);
	lake_inlined_versions(lake, table_id, &arena, &versions, &n);
	duct_arena_done(&arena);
	return n > 0;
}

void lake_search_done(struct lake_search *s)
{
	lake_mark_set_done(&s->marks);
	s->has_marks = false;
}

void lake_search_unwrite(const struct lake_txn *txn, struct lake_store *store)
{
	for (size_t i = 0; i < txn->ndeletes; i++)
		lake_store_remove(store, txn->deletes[i].path);
}
