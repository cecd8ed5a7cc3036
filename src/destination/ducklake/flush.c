/*
 * Rows inside the catalog become a Parquet file. A commit of its own, whose rows are all of past snapshots: the file says
 * of each row which snapshot it is of, and a delete file in which it died, so that every older snapshot stays as it was.
 * The files are written beside the commits of groups (flush_write.c); here is what is due, and the commit.
 */
#include "destination/ducklake/flush.h"

#include "base/clock.h"
#include "base/order.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_EVERY_US = 1000000, FILES_PER_STEP = 4, MOST_TIMES = 4 };

/* --- what is due --- */

/* A table with many small files gets larger ones, up to four times. */
bool mirror_inlines_too_much(const struct ducklake *d, const struct mirror *m)
{
	int64_t times = 1 + m->small_files / FILES_PER_STEP;
	times = times < MOST_TIMES ? times : MOST_TIMES;
	return m->inlined_rows >= d->config->inline_flush_rows * times || m->inlined_bytes >= d->config->inline_flush_bytes * times;
}

static bool is_due(const struct ducklake *d, const struct mirror *m, int64_t now_us)
{
	if (!m->inlined_rows || m->gone || m->table_id < 0)
		return false;
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	if (!table || table->npartition_keys) /* no mirror any more */
		return false;
	return mirror_inlines_too_much(d, m) || now_us - m->inlined_since_us >= d->config->inline_flush_age_ms * 1000;
}

static size_t count_inlining(const struct mirror *m)
{
	size_t n = 0;
	for (; m; m = m->next)
		n += m->inlined_rows > 0;
	return n;
}

/* The ids of the columns that rows are found by; none where the source's relation is not known yet. */
static void plan_keys(struct flush *f, struct mirror *m)
{
	int n;
	struct duct_error ignored;
	AUTO_FREE const struct lake_column **keys = m->rel && m->mode != MIRROR_APPEND ? mirror_lake_keys(m, &n, &ignored) : NULL;
	if (!keys)
		return;
	f->keys = duct_arena_alloc(&f->arena, ((size_t)n + 1) * sizeof *f->keys);
	f->nkeys = n;
	for (int k = 0; k < n; k++)
		f->keys[k] = keys[k]->id;
}

static void plan_version(struct ducklake *d, struct mirror *m, int64_t version, struct flushing *all)
{
	struct flush *f = flushing_add(all);
	f->oid = m->oid;
	f->table_id = m->table_id;
	f->version = version;
	f->spec = ducklake_write_spec(d, m, true);
	f->spec.snapshot_ids = true;
	f->spec.dir = duct_arena_strdup(&f->arena, f->spec.dir);
	f->spec.compression = duct_arena_strdup(&f->arena, f->spec.compression);
	f->hasher = mirror_hasher(d, m, NULL, 0);
	plan_keys(f, m);
}

static void plan_mirror(struct ducklake *d, struct mirror *m, struct flushing *all)
{
	struct duct_arena arena;
	int64_t *versions;
	size_t n;
	struct flush **first = all->end;
	duct_arena_init(&arena);
	lake_inlined_versions(d->lake, m->table_id, &arena, &versions, &n);
	for (size_t i = 0; i < n; i++)
		plan_version(d, m, versions[i], all);
	duct_arena_done(&arena);
	if (!*first)
		return;
	(*first)->counted_rows = m->inlined_rows;
	(*first)->counted_bytes = m->inlined_bytes;
}

static void plan_bucket(struct ducklake *d, struct mirror *m, int64_t now_us, size_t *room, struct flushing *all)
{
	for (; m; m = m->next) {
		if (!is_due(d, m, now_us))
			continue;
		if (!*room) {
			d->flush_due = true; /* the others come with the next one */
			return;
		}
		(*room)--;
		plan_mirror(d, m, all);
	}
}

/* *ret_crowded: more tables have inlined rows than the catalog has room for. */
static int plan_due(struct ducklake *d, struct flushing *all, bool *ret_crowded, struct duct_error *err)
{
	size_t most = lake_most_inlining_tables(d->lake), room = most, tables = 0;
	int64_t now_us = duct_mono_us();
	int rc = resting_read(d, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < MIRROR_BUCKETS; i++) {
		for (struct mirror *m = d->mirrors[i]; m; m = m->next)
			resting_wake(d, m);
		tables += count_inlining(d->mirrors[i]) + count_inlining(d->resting[i]);
	}
	*ret_crowded = tables > most;
	if (*ret_crowded)
		now_us = INT64_MAX / 2; /* all of them are due */
	for (size_t i = 0; i < MIRROR_BUCKETS; i++) {
		plan_bucket(d, d->mirrors[i], now_us, &room, all);
		plan_bucket(d, d->resting[i], now_us, &room, all);
	}
	return 0;
}

/* --- the commit --- */

/* The mirror of a table that is being flushed; NULL: it stands for another table by now. */
static struct mirror *mirror_of(struct ducklake *d, const struct flush *f)
{
	struct mirror *m = mirror_find(d, f->oid);
	if (!m)
		m = resting_find(d, f->oid);
	return m && m->table_id == f->table_id ? m : NULL;
}

static int compare_rows(const void *a, const void *b)
{
	const struct lake_inlined_row *x = a, *y = b;
	int order = duct_compare_i64(&x->row_id, &y->row_id);
	return order ? order : duct_compare_i64(&x->begin_snapshot, &y->begin_snapshot);
}

/* A row has died since the thread read it, or just before. */
static int take_end(void *arg, const struct lake_inlined_row *row, struct duct_error *err)
{
	struct flush *f = arg;
	struct lake_inlined_row *ours = bsearch(row, f->rows, f->nrows, sizeof *f->rows, compare_rows);
	if (!ours)
		return duct_fail(err, DUCT_RETRY,
				 "row %" PRId64 " of snapshot %" PRId64 " was not there before: another client wrote it",
				 row->row_id, row->begin_snapshot);
	ours->end_snapshot = row->end_snapshot;
	return 0;
}

/* One delete file for the rows that died while they were inlined. */
static int write_deaths(struct ducklake *d, struct flush *f, struct lake_txn_table *t, struct duct_error *err)
{
	struct lake_positions dead = {0};
	AUTO_FREE int64_t *snapshots = duct_xmalloc((f->nrows + 1) * sizeof *snapshots);
	int64_t first = INT64_MAX, last = 0;
	for (size_t i = 0; i < f->nrows; i++) {
		int64_t end = f->rows[i].end_snapshot;
		if (end < 0)
			continue;
		lake_positions_add(&dead, (int64_t)i, (int64_t)f->nrows);
		snapshots[f->ndead++] = end;
		first = end < first ? end : first;
		last = end > last ? end : last;
	}
	if (!f->ndead)
		return 0;
	struct lake_new_delete_file file = {.count = (int64_t)f->ndead,
					    .begin_snapshot = first,
					    .partial_max = last > first ? last : 0};
	int rc = lake_write_delete_file(lake_txn_table_path(t), f->path, &dead, snapshots, &file.path, &file.size_bytes,
					&file.footer_size, err);
	lake_positions_done(&dead);
	if (rc == 0)
		lake_txn_add_delete_file(d->txn, t, -1, f->ordinal, &file);
	return rc;
}

static int plan_file(struct ducklake *d, struct mirror *m, struct flush *f, int64_t upto, struct duct_error *err)
{
	struct lake_txn_table *t = mirror_table(d, m);
	int rc = lake_read_inlined_ends(d->lake, f->table_id, f->version, upto, take_end, f, err);
	if (rc < 0)
		return rc;
	f->path = duct_xstrdup(f->file->path);
	f->ordinal = lake_txn_add_file(d->txn, t, duct_steal(&f->file));
	lake_txn_flush_inlined(d->txn, t, f->version, upto, (int64_t)f->nrows);
	return write_deaths(d, f, t, err);
}

/* --- afterwards --- */

/* With the hashes of the rows. False: the index does not have one of them. */
static bool move_entries(const struct flush *f, struct lake_index *index, int64_t file_id)
{
	bool all = true;
	for (size_t i = 0; i < f->nrows && all; i++) {
		if (i + LAKE_INDEX_AHEAD < f->nrows)
			lake_index_prefetch(index, f->hashes[i + LAKE_INDEX_AHEAD]);
		const struct lake_place place = {f->rows[i].row_id, (uint32_t)file_id, (uint32_t)i};
		if (f->rows[i].end_snapshot < 0)
			all = lake_index_move(index, f->hashes[i], place);
	}
	return all;
}

/* Without: one walk over all of the index, which is less than building it anew. */
static bool find_entries(const struct flush *f, struct lake_index *index, int64_t file_id)
{
	struct live {
		int64_t row_id;
		uint32_t position;
	} *live AUTO_FREE = duct_xmalloc((f->nrows + 1) * sizeof *live);
	size_t n = 0, moved = 0;
	for (size_t i = 0; i < f->nrows; i++) /* each row id lives once at most */
		if (f->rows[i].end_snapshot < 0)
			live[n++] = (struct live){f->rows[i].row_id, (uint32_t)i};
	uint64_t cursor = 0;
	struct lake_key_hash hash;
	struct lake_place place;
	while (moved < n && lake_index_next(index, &cursor, &hash, &place)) {
		if (place.file_id != LAKE_INLINED || place.position != (uint32_t)f->version)
			continue;
		size_t at = duct_lower_bound_i64(live, n, sizeof *live, place.row_id);
		if (at == n || live[at].row_id != place.row_id)
			continue; /* inlined since */
		place = (struct lake_place){place.row_id, (uint32_t)file_id, live[at].position};
		moved += lake_index_move(index, hash, place);
	}
	return moved == n;
}

static int follow_closed(struct ducklake *d, const struct flush *f, int64_t file_id, struct duct_error *err)
{
	struct lake_index *index;
	bool built;
	int rc = lake_index_open(&index, d->indexes, f->table_id, NULL, &built, err);
	if (rc < 0 || !index)
		return rc;
	bool all = find_entries(f, index, file_id);
	lake_index_close(index);
	return all ? 0 : lake_index_drop(d->indexes, f->table_id, err);
}

static int follow_open(struct ducklake *d, struct mirror *m, const struct flush *f, const struct lake_txn_result *result,
		       struct duct_error *err)
{
	const struct lake_file file = {
		.id = result->files[f->ordinal].file_id,
		.path = f->path,
		.record_count = (int64_t)f->nrows,
		.begin_snapshot = result->snapshot_id,
		.row_id_start = -1,
		.partial_max = result->snapshot_id,
		.delete_file_id = -1,
	};
	bool hashed = f->hashes && f->hasher.seed == lake_index_set_seed(d->indexes);
	if (!(hashed ? move_entries(f, m->index, file.id) : find_entries(f, m->index, file.id)))
		return mirror_unload(d, m, true, err);
	if (f->ndead < f->nrows)
		mirror_add_file(m, &file, (int64_t)f->ndead, f->ndead > 0);
	return 0;
}

static int follow(struct ducklake *d, struct flush *f, const struct lake_txn_result *result, struct duct_error *err)
{
	struct mirror *m = mirror_of(d, f);
	if (f->ordinal < 0 || m->mode == MIRROR_APPEND)
		return 0;
	return m->index ? follow_open(d, m, f, result, err) : follow_closed(d, f, result->files[f->ordinal].file_id, err);
}

/*
 * What is still inside the catalog has come since the flush began. Rows with columns of types that we do not write stay there, and
 * are not counted any more: the official flush takes them. small_files is an estimate until the next flush.
 */
static void count_flushed(struct ducklake *d, const struct flushing *all)
{
	for (const struct flush *f = all->first; f; f = f->next) {
		struct mirror *m = mirror_of(d, f);
		if (!m)
			continue;
		m->small_files = f->small_files + (f->nrows > 0);
		m->inlined_rows = m->inlined_rows > f->counted_rows ? m->inlined_rows - f->counted_rows : 0;
		m->inlined_bytes = m->inlined_bytes > f->counted_bytes ? m->inlined_bytes - f->counted_bytes : 0;
		m->inlined_since_us = m->inlined_rows ? all->began_us : 0;
		d->flush_due |= mirror_inlines_too_much(d, m);
	}
}

static int commit(struct ducklake *d, const struct flushing *all, struct duct_error *err)
{
	AUTO_FREE char *message = duct_xasprintf("ductstream %s: flush of inlined rows", d->ctx->flow);
	struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = message};
	struct lake_txn_result result;
	lake_index_set_begin(d->indexes);
	int rc = ducklake_send(d, &info, &result, err);
	for (struct flush *f = all->first; f && rc == 0; f = f->next)
		rc = follow(d, f, &result, err);
	if (rc == 0)
		lake_index_set_end(d->indexes, lake_commit_id(d->lake));
	return rc;
}

/* What the thread has written becomes a commit; nothing when there was nothing to write. */
static int land(struct ducklake *d, const struct flushing *all, struct duct_error *err)
{
	for (struct flush *f = all->first; f; f = f->next) {
		struct mirror *m = mirror_of(d, f);
		int rc = m && f->file ? plan_file(d, m, f, all->upto, err) : 0;
		if (rc < 0)
			return duct_wrap(err, "flush of inlined rows, lake table %" PRId64, f->table_id);
	}
	return d->txn ? commit(d, all, err) : 0;
}

/* --- from begin to end --- */

static int begin(struct ducklake *d, bool *ret_crowded, struct duct_error *err)
{
	struct flushing *all = flushing_new();
	d->flush_checked_us = duct_mono_us();
	d->flush_due = false;
	int rc = plan_due(d, all, ret_crowded, err);
	if (d->txn)
		group_reset(d); /* planning asked what the tables are like */
	if (rc == 0 && all->first)
		rc = flushing_start(all, d, err);
	if (rc < 0 || !all->first)
		flushing_free(all);
	else
		d->flushing = all;
	return rc;
}

static int finish(struct ducklake *d, struct duct_error *err)
{
	struct flushing *all = duct_steal(&d->flushing);
	int rc = flushing_wait(all, err);
	if (rc == 0)
		rc = land(d, all, err);
	if (d->txn)
		group_reset(d);
	if (rc == 0)
		count_flushed(d, all);
	if (rc == 0)
		log_debug(d->ctx->log, "inlined rows flushed", LOG_U64("ms", (uint64_t)(duct_mono_us() - all->began_us) / 1000));
	flushing_free(all);
	return rc;
}

int ducklake_flush_inlined(struct ducklake *d, bool wait, struct duct_error *err)
{
	if (d->txn || d->load)
		return 0;
	bool crowded = false;
	int rc = 0;
	if (!d->flushing && (d->flush_due || duct_mono_us() - d->flush_checked_us >= CHECK_EVERY_US))
		rc = begin(d, &crowded, err);
	return rc == 0 && d->flushing && (wait || crowded || flushing_is_done(d->flushing)) ? finish(d, err) : rc;
}

void ducklake_flush_abort(struct ducklake *d)
{
	flushing_free(duct_steal(&d->flushing));
}
