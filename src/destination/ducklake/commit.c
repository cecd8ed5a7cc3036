/* The commit of the open group: one catalog transaction, then the indexes follow. See ducklake.h. */
#include "destination/ducklake/ducklake.h"
#include "destination/ducklake/fold.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int compare_i64(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

/* A base row that dies with this commit. */
struct death {
	int64_t file_id, position;
};

static int compare_deaths(const void *a, const void *b)
{
	const struct death *x = a, *y = b;
	if (x->file_id != y->file_id)
		return x->file_id < y->file_id ? -1 : 1;
	return x->position < y->position ? -1 : x->position > y->position;
}

static int write_deletes(struct ducklake *d, struct mirror *m, int64_t file_id, int on_new_file, const char *data_path,
			 const int64_t *positions, size_t n, struct duct_error *err)
{
	struct lake_new_delete_file file = {.count = (int64_t)n};
	struct lake_txn_table *t = mirror_table(d, m);
	int rc = lake_write_delete_file(d->conn, lake_txn_table_path(t), data_path, positions, NULL, n, &file.path,
					&file.size_bytes, &file.footer_size, err);
	if (rc == 0)
		lake_txn_add_delete_file(d->txn, t, file_id, on_new_file, &file);
	return rc;
}

int ducklake_stale_index(struct ducklake *d, const struct mirror *m, int64_t file_id, struct duct_error *err)
{
	lake_index_set_begin(d->indexes); /* dirty: the next attempt builds it anew */
	return duct_fail(err, DUCT_RETRY,
			 "the key index of \"%s\" names data file %lld, which is not live: another client merged or rewrote it",
			 m->rel->name, (long long)file_id);
}

/* The dead rows of one live file, ascending. */
static int plan_file_deaths(struct ducklake *d, struct mirror *m, int64_t file_id, const int64_t *positions, size_t n,
			    struct duct_error *err)
{
	struct mirror_file *file = mirror_file(m, file_id);
	if (!file)
		return ducklake_stale_index(d, m, file_id, err);
	struct lake_txn_table *t = mirror_table(d, m);
	if (file->record_count - file->dead_count == (int64_t)n)
		lake_txn_end_file(d->txn, t, file_id);
	else if (!file->has_deletes && (int64_t)n >= d->config->delete_file_rows)
		return write_deletes(d, m, file_id, -1, file->path, positions, n, err);
	else
		lake_txn_mark(d->txn, t, file_id, positions, n);
	return 0;
}

static int plan_deaths(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	const struct fold *f = m->fold;
	size_t n = 0;
	for (size_t i = 0; i < f->nslots; i++)
		n += f->slots[i].base_present;
	if (!n)
		return 0;
	AUTO_FREE struct death *deaths = duct_xmalloc(n * sizeof *deaths);
	AUTO_FREE int64_t *positions = duct_xmalloc(n * sizeof *positions);
	n = 0;
	for (size_t i = 0; i < f->nslots; i++) {
		const struct lake_place *place = &f->slots[i].place;
		if (!f->slots[i].base_present)
			continue;
		if (place->file_id == LAKE_INLINED)
			lake_txn_end_inlined(d->txn, mirror_table(d, m), place->position, place->row_id);
		else
			deaths[n++] = (struct death){place->file_id, place->position};
	}
	qsort(deaths, n, sizeof *deaths, compare_deaths);
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from; to < n && deaths[to].file_id == deaths[from].file_id; to++)
			positions[to - from] = deaths[to].position;
		int rc = plan_file_deaths(d, m, deaths[from].file_id, positions, to - from, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int plan_aside_deaths(struct ducklake *d, struct duct_error *err)
{
	for (size_t i = 0; i < d->nasides; i++) {
		struct aside *a = &d->asides[i];
		if (!a->ndead)
			continue;
		qsort(a->dead, a->ndead, sizeof *a->dead, compare_i64);
		int rc = write_deletes(d, a->mirror, -1, (int)i, a->path, a->dead, a->ndead, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int ducklake_send(struct ducklake *d, const struct lake_commit_info *info, struct lake_txn_result *ret,
		  struct duct_error *err)
{
	int rc = lake_txn_commit(group_txn(d), info, ret, err);
	if (rc <= 0)
		return rc;
	/* Others changed what this group was planned on. Nothing was committed: forget the group, and resume from the lake. */
	struct lake_change_note *notes = NULL;
	size_t n = 0;
	rc = lake_sync(d->lake, &notes, &n, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = ducklake_judge_note(d, &notes[i], err);
	free(notes);
	if (rc < 0)
		return rc;
	return duct_fail(err, DUCT_RETRY, "the lake was changed by another client in the meantime: planning again");
}

/* After the commit: dead counts of the touched files. */
static void count_deaths(struct mirror *m)
{
	const struct fold *f = m->fold;
	AUTO_FREE int64_t *ids = duct_xmalloc((f->nslots + 1) * sizeof *ids);
	size_t n = 0;
	for (size_t i = 0; i < f->nslots; i++)
		if (f->slots[i].base_present && f->slots[i].place.file_id != LAKE_INLINED)
			ids[n++] = f->slots[i].place.file_id;
	qsort(ids, n, sizeof *ids, compare_i64);
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from; to < n && ids[to] == ids[from]; to++)
			;
		struct mirror_file *file = mirror_file(m, ids[from]);
		if (file->record_count - file->dead_count == (int64_t)(to - from)) {
			mirror_drop_file(m, ids[from]);
			continue;
		}
		file->dead_count += (int64_t)(to - from);
		file->has_deletes = true;
	}
}

static void index_slot(struct mirror *m, const struct fold_slot *s, const struct lake_txn_result *result)
{
	if (!s->live) {
		if (s->base_present)
			(void)lake_index_remove(m->index, s->hash, s->place.row_id);
		return;
	}
	struct lake_place place;
	if (s->aside < 0) {
		(void)mirror_inlined_place(m, s, &place); /* known: the caller looked */
	} else {
		const struct lake_txn_file_result *file = &result->files[s->aside];
		place = (struct lake_place){.row_id = file->row_id_start + s->aside_pos,
					    .file_id = (uint32_t)file->file_id,
					    .position = s->aside_pos};
	}
	if (s->base_present)
		place.row_id = s->place.row_id;
	if (s->base_present)
		(void)lake_index_move(m->index, s->hash, place);
	else
		lake_index_add(m->index, s->hash, place);
}

/* Brings index and file list of a mirror up to the commit. */
static int follow_commit(struct ducklake *d, struct mirror *m, const struct lake_txn_result *result,
			 struct duct_error *err)
{
	mirror_count_inlined(d, m);
	if (m->table_id < 0 || !m->index) { /* new tables: index and files are read when first needed */
		mirror_committed(d, m);
		return mirror_unload(d, m, m->truncated, err);
	}
	struct lake_place ignored;
	if (m->truncated || (m->inlines && !mirror_inlined_place(m, &m->fold->slots[0], &ignored))) {
		mirror_committed(d, m);
		return mirror_unload(d, m, true, err);
	}
	mirror_committed(d, m);
	count_deaths(m);
	for (size_t i = 0; i < m->fold->nslots; i++)
		index_slot(m, &m->fold->slots[i], result);
	for (size_t i = 0; i < d->nasides; i++) {
		const struct aside *a = &d->asides[i];
		if (a->mirror != m)
			continue;
		struct lake_file file = {.id = result->files[i].file_id,
					 .path = a->path,
					 .record_count = a->rows,
					 .begin_snapshot = result->snapshot_id,
					 .row_id_start = result->files[i].row_id_start,
					 .partial_max = -1,
					 .delete_file_id = -1};
		if ((int64_t)a->ndead < a->rows)
			mirror_add_file(m, &file, (int64_t)a->ndead, a->ndead > 0);
	}
	return 0;
}

static int plan_group(struct ducklake *d, struct duct_error *err)
{
	for (size_t i = 0; i < d->ntouched; i++) {
		struct mirror *m = d->touched[i];
		int rc = mirror_write_aside(d, m, true, err);
		if (rc == 0)
			rc = plan_deaths(d, m, err);
		if (rc == 0 && m->index) /* room in the index is made before the commit: a full disk stops here */
			rc = lake_index_reserve(m->index, m->fold->nslots, err);
		if (rc < 0)
			return rc;
		m->relation_changed |= m->recopies > 0; /* a change of it is taken over: it goes on */
		m->recopies = 0;
		mirror_store(d, m);
	}
	return plan_aside_deaths(d, err);
}

int group_commit(struct ducklake *d, struct duct_commit_result *ret, struct duct_error *err)
{
	int rc = plan_group(d, err);
	if (rc < 0)
		return rc;
	AUTO_FREE char *message = duct_xasprintf("ductstream %s", d->ctx->flow);
	struct lake_commit_info info = {.pos = d->upto, .state = DUCT_STATE_STREAMING, .message = message};
	struct lake_txn_result result;
	lake_index_set_begin(d->indexes); /* dirty until they have followed: a crash in between means rebuilding them */
	rc = ducklake_send(d, &info, &result, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < d->ntouched && rc == 0; i++)
		rc = follow_commit(d, d->touched[i], &result, err);
	if (rc < 0)
		return rc;
	lake_index_set_end(d->indexes, lake_commit_id(d->lake));
	*ret = (struct duct_commit_result){result.snapshot_id, d->source_rows};
	group_reset(d, false);
	d->last_commit_us = duct_mono_us();
	return ducklake_flush_inlined(d, err);
}
