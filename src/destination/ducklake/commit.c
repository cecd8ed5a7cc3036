/* The commit of the open group: one catalog transaction, then the indexes follow. See ducklake.h. */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_deletes(struct ducklake *d, struct mirror *m, int64_t file_id, int on_new_file, const char *data_path,
			 struct lake_positions *dead, struct duct_error *err)
{
	struct lake_new_delete_file file = {.count = (int64_t)dead->n};
	struct lake_txn_table *t = mirror_table(d, m);
	lake_positions_sort(dead);
	int rc = lake_write_delete_file(lake_txn_table_path(t), data_path, dead, NULL, &file.path, &file.size_bytes,
					&file.footer_size, err);
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

int ducklake_lost_inlined(struct ducklake *d, const struct mirror *m, struct duct_error *err)
{
	bool moved;
	int rc = lake_moved(d->lake, &moved, err);
	if (rc < 0)
		return rc;
	if (!moved) /* nobody did anything: the index is wrong */
		lake_index_set_begin(d->indexes);
	return duct_fail(err, DUCT_RETRY, "inlined rows of \"%s\" are gone: another client has flushed them", m->rel->name);
}

int ducklake_doubt(struct ducklake *d, const struct mirror *m, struct duct_error *err)
{
	if (!lake_index_set_doubt(d->indexes))
		return 0;
	return duct_fail(
		err, DUCT_RETRY,
		"a key of \"%s\".\"%s\" is there that should not be, or shares its hash with another: the key index is built "
		"anew with other hashes",
		m->rel->schema, m->rel->name);
}

/* The dead rows of one live file. */
static int plan_file_deaths(struct ducklake *d, struct mirror *m, struct mirror_file *file, struct duct_error *err)
{
	struct lake_txn_table *t = mirror_table(d, m);
	int64_t n = file->ndying = (int64_t)file->dying.n;
	if (file->record_count - file->dead_count == n) {
		lake_txn_end_file(d->txn, t, file->id);
	} else if (!file->has_deletes && (n >= d->config->delete_file_rows || !lake_txn_has_room_for_marks(d->txn, t))) {
		return write_deletes(d, m, file->id, -1, file->path, &file->dying, err);
	} else {
		lake_txn_mark(d->txn, t, file->id, &file->dying);
	}
	return 0;
}

static int plan_deaths(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	struct effect effect;
	struct mirror_file *file = NULL;
	for (size_t i = 0; i < m->nfiles; i++) {
		lake_positions_done(&m->files[i].dying);
		m->files[i].ndying = 0;
	}
	for (struct effects e = {.m = m}; effects_next(&e, &effect);) {
		if (!effect.in_lake)
			continue;
		if (effect.place.file_id == LAKE_INLINED) {
			lake_txn_end_inlined(d->txn, mirror_table(d, m), effect.place.position, effect.place.row_id);
			continue;
		}
		if (!file || file->id != effect.place.file_id)
			file = mirror_file(m, effect.place.file_id);
		if (!file || effect.place.position >= file->record_count)
			return ducklake_stale_index(d, m, effect.place.file_id, err);
		lake_positions_add(&file->dying, effect.place.position, file->record_count);
	}
	for (size_t i = 0; i < m->nfiles; i++) {
		int rc = m->files[i].dying.n ? plan_file_deaths(d, m, &m->files[i], err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int plan_aside_deaths(struct ducklake *d, struct duct_error *err)
{
	for (size_t i = 0; i < d->nasides; i++) {
		struct aside *a = &d->asides[i];
		int rc = a->dead.n ? write_deletes(d, a->mirror, -1, (int)i, a->path, &a->dead, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int ducklake_send(struct ducklake *d, const struct lake_commit_info *info, struct lake_txn_result *ret, struct duct_error *err)
{
	bool full = group_is_full(d);
	d->sent = true;
	if (full || d->was_full || d->last) /* a backlog, or its end */
		lake_txn_hurry(group_txn(d));
	d->was_full = full;
	int rc = lake_txn_fold_marks(group_txn(d), NULL, d->conn, err);
	rc = rc ? rc : lake_txn_commit(group_txn(d), info, ret, err);
	if (rc <= 0)
		return rc;
	/* Others changed what this group was planned on. Nothing was committed, so the indexes stand for what they stood for: forget the
	 * group, and resume from the lake. */
	d->sent = false;
	lake_index_set_end(d->indexes, lake_commit_id(d->lake));
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
	for (size_t i = m->nfiles; i-- > 0;) {
		struct mirror_file *file = &m->files[i];
		int64_t n = file->ndying;
		if (!n)
			continue;
		file->ndying = 0;
		if (file->record_count - file->dead_count == n) {
			mirror_drop_file(m, file->id);
			continue;
		}
		lake_positions_done(&file->dying);
		file->dead_count += n;
		file->has_deletes = true;
	}
}

static struct lake_place new_place(const struct mirror *m, const struct effect *e, const struct lake_txn_result *result)
{
	struct lake_place inlined;
	if (e->aside < 0) {
		(void)mirror_inlined_place(m, e->aside_pos, &inlined); /* known: the caller looked */
		inlined.row_id = e->in_lake ? e->place.row_id : inlined.row_id;
		return inlined;
	}
	const struct lake_txn_file_result *file = &result->files[e->aside];
	return (struct lake_place){.row_id = e->in_lake ? e->place.row_id : file->row_id_start + e->aside_pos,
				   .file_id = (uint32_t)file->file_id,
				   .position = e->aside_pos};
}

/* What goes goes first: no more room is needed than the index has in the end. */
static void follow_effects(struct mirror *m, const struct lake_txn_result *result)
{
	struct effect effect;
	for (struct effects e = {.m = m}; effects_next(&e, &effect);) {
		if (effect.in_lake && effect.live)
			(void)lake_index_move(m->index, effect.hash, new_place(m, &effect, result));
		else if (effect.in_lake)
			(void)lake_index_remove(m->index, effect.hash, effect.place.row_id);
	}
	for (struct effects e = {.m = m}; effects_next(&e, &effect);)
		if (effect.live && !effect.in_lake)
			lake_index_add(m->index, effect.hash, new_place(m, &effect, result));
}

/* Room for them is made before the commit: a full disk stops there. */
static int reserve_for_effects(struct mirror *m, struct duct_error *err)
{
	struct effect effect;
	int64_t more = 0;
	for (struct effects e = {.m = m}; effects_next(&e, &effect);)
		more += (int64_t)effect.live - (int64_t)effect.in_lake;
	return more > 0 ? lake_index_reserve(m->index, (size_t)more, err) : 0;
}

/* Brings index and file list of a mirror up to the commit. */
static int follow_commit(struct ducklake *d, struct mirror *m, const struct lake_txn_result *result, struct duct_error *err)
{
	mirror_count_inlined(d, m);
	if (m->table_id < 0 || !m->index) { /* new tables: index and files are read when first needed */
		mirror_committed(d, m);
		return mirror_unload(d, m, m->truncated, err);
	}
	struct lake_place ignored;
	if (m->truncated || (m->inlines && !mirror_inlined_place(m, 0, &ignored))) {
		mirror_committed(d, m);
		return mirror_unload(d, m, true, err);
	}
	mirror_committed(d, m);
	count_deaths(m);
	follow_effects(m, result);
	for (size_t i = 0; i < d->nasides; i++) {
		struct aside *a = &d->asides[i];
		if (a->mirror != m)
			continue;
		struct lake_file file = {.id = result->files[i].file_id,
					 .path = a->path,
					 .record_count = a->rows,
					 .size_bytes = a->size_bytes,
					 .begin_snapshot = result->snapshot_id,
					 .row_id_start = result->files[i].row_id_start,
					 .partial_max = -1,
					 .delete_file_id = -1};
		if ((int64_t)a->dead.n < a->rows)
			mirror_add_file(m, &file, (int64_t)a->dead.n, a->dead.n > 0);
	}
	return 0;
}

static int plan_group(struct ducklake *d, struct duct_error *err)
{
	for (size_t i = 0; i < d->ntouched; i++) {
		struct mirror *m = d->touched[i];
		int rc = mirror_write_aside(d, m, true, err);
		if (rc == 0 && m->settled) /* it was a large one: all of it goes the same way */
			rc = mirror_settle(d, m, err);
		if (rc == 0 && m->lacking)
			rc = mirror_check_lacking(d, m, err);
		if (rc == 0)
			rc = plan_deaths(d, m, err);
		if (rc == 0 && m->index)
			rc = reserve_for_effects(m, err);
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
	group_reset(d);
	d->last_commit_us = duct_mono_us();
	return ducklake_flush_inlined(d, false, err);
}
