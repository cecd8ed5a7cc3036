/*
 * Rows inside the catalog become a Parquet file. A commit of its own, whose rows are all of past snapshots: the file says
 * of each row which snapshot it is of, and a delete file in which it died, so that every older snapshot stays as it was.
 */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"
#include "base/order.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_EVERY_US = 1000000 };

/* What is flushed in one commit, in the order in which its files are added: that of their ids. */
struct flushes {
	struct flush *first, **end;
};

/* The rows of one table and schema version on their way into a file. */
struct flush {
	struct ducklake *d;
	struct mirror *m;
	struct flush *next;
	struct duct_arena arena;
	int64_t version;
	struct lake_column *columns; /* as of then */
	int ncolumns;
	int *keys; /* of the mirror among them; NULL: one is not there */
	int nkeys;
	struct duct_batch **batches;
	size_t nbatches, batches_cap;
	struct lake_inlined_row *rows;
	size_t nrows, rows_cap;
	size_t batch_at, row_at; /* to be handed over next */
	struct lake_row_ref *refs;
	int64_t *ids, *snapshots; /* of the rows handed over */
	size_t ndead;
	char *path;
	int ordinal; /* of the file in the transaction, -1: there was no row */
};

static void flush_free(struct flush *f)
{
	while (f) {
		struct flush *next = f->next;
		for (size_t i = 0; i < f->nbatches; i++)
			duct_batch_unref(f->batches[i]);
		free(f->batches);
		free(f->rows);
		free(f->refs);
		free(f->ids);
		free(f->snapshots);
		free(f->path);
		duct_arena_done(&f->arena);
		free(f);
		f = next;
	}
}

static int take_rows(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows,
		     struct duct_error *err)
{
	(void)err;
	struct flush *f = arg;
	f->batches = duct_grow(f->batches, &f->batches_cap, f->nbatches + 1, sizeof *f->batches);
	f->batches[f->nbatches++] = duct_batch_ref((struct duct_batch *)(uintptr_t)batch); /* only the count changes */
	f->rows = duct_grow(f->rows, &f->rows_cap, f->nrows + batch->rows, sizeof *f->rows);
	memcpy(f->rows + f->nrows, rows, batch->rows * sizeof *rows);
	f->nrows += batch->rows;
	return 0;
}

/* One batch at a time. */
static int flush_next(void *arg, const struct lake_row_ref **rows, const int64_t **row_ids, size_t *n,
		      struct duct_error *err)
{
	(void)err;
	struct flush *f = arg;
	*n = 0;
	if (f->batch_at == f->nbatches)
		return 0;
	const struct duct_batch *batch = f->batches[f->batch_at++];
	f->refs = duct_xrealloc(f->refs, batch->rows * sizeof *f->refs);
	f->ids = duct_xrealloc(f->ids, batch->rows * sizeof *f->ids);
	f->snapshots = duct_xrealloc(f->snapshots, batch->rows * sizeof *f->snapshots);
	for (uint32_t i = 0; i < batch->rows; i++, f->row_at++) {
		f->refs[i] = (struct lake_row_ref){batch, i};
		f->ids[i] = f->rows[f->row_at].row_id;
		f->snapshots[i] = f->rows[f->row_at].begin_snapshot;
	}
	*rows = f->refs;
	*row_ids = f->ids;
	*n = batch->rows;
	return 0;
}

static const int64_t *flush_snapshots(void *arg)
{
	return ((struct flush *)arg)->snapshots;
}

/* The rows have the file's columns in their order. */
static const int *flush_map(void *arg, const struct duct_relation *rel)
{
	struct flush *f = arg;
	int *map = duct_arena_alloc(&f->arena, ((size_t)rel->ncolumns + 1) * sizeof *map);
	for (int i = 0; i < rel->ncolumns; i++)
		map[i] = i;
	return map;
}

static int read_rows(struct flush *f, struct duct_error *err)
{
	const struct lake_column **columns = duct_arena_alloc(&f->arena, ((size_t)f->ncolumns + 1) * sizeof *columns);
	for (int i = 0; i < f->ncolumns; i++)
		columns[i] = &f->columns[i];
	const struct lake_inlined_wanted wanted = {
		.table_id = f->m->table_id,
		.schema_version = f->version,
		.columns = columns,
		.ncolumns = f->ncolumns,
		.dead_too = true,
	};
	return lake_read_inlined(f->d->lake, f->d->conn, &wanted, take_rows, f, err);
}

/* One delete file for the rows that died while they were inlined. */
static int write_deaths(struct flush *f, struct lake_txn_table *t, struct duct_error *err)
{
	AUTO_FREE int64_t *positions = duct_xmalloc((f->nrows + 1) * sizeof *positions);
	AUTO_FREE int64_t *snapshots = duct_xmalloc((f->nrows + 1) * sizeof *snapshots);
	int64_t first = INT64_MAX, last = 0;
	for (size_t i = 0; i < f->nrows; i++) {
		int64_t end = f->rows[i].end_snapshot;
		if (end < 0)
			continue;
		positions[f->ndead] = (int64_t)i;
		snapshots[f->ndead++] = end;
		first = end < first ? end : first;
		last = end > last ? end : last;
	}
	if (!f->ndead)
		return 0;
	struct lake_new_delete_file file = {.count = (int64_t)f->ndead,
					    .begin_snapshot = first,
					    .partial_max = last > first ? last : 0};
	int rc = lake_write_delete_file(lake_txn_table_path(t), f->path, positions, snapshots, f->ndead,
					&file.path, &file.size_bytes, &file.footer_size, err);
	if (rc == 0)
		lake_txn_add_delete_file(f->d->txn, t, -1, f->ordinal, &file);
	return rc;
}

static int write_rows(struct flush *f, struct lake_txn_table *t, struct duct_error *err)
{
	struct lake_write_spec spec = ducklake_write_spec(f->d, f->m, true);
	struct lake_rows rows = {flush_next, flush_map, f, flush_snapshots};
	struct lake_new_file *file;
	spec.columns = f->columns;
	spec.ncolumns = f->ncolumns;
	spec.snapshot_ids = true;
	int rc = lake_write_file(&spec, &rows, &file, NULL, err);
	if (rc < 0)
		return rc;
	file->begin_snapshot = INT64_MAX;
	for (size_t i = 0; i < f->nrows; i++) {
		int64_t begin = f->rows[i].begin_snapshot;
		file->begin_snapshot = begin < file->begin_snapshot ? begin : file->begin_snapshot;
		file->partial_max = begin > file->partial_max ? begin : file->partial_max;
	}
	f->path = duct_xstrdup(file->path);
	f->ordinal = lake_txn_add_file(f->d->txn, t, file);
	lake_txn_flush_inlined(f->d->txn, t, f->version, (int64_t)f->nrows);
	return write_deaths(f, t, err);
}

static void find_keys(struct flush *f)
{
	int n;
	struct duct_error ignored;
	if (!f->m->rel)
		return;
	AUTO_FREE const struct lake_column **keys = mirror_lake_keys(f->m, &n, &ignored);
	if (!keys)
		return;
	f->keys = duct_arena_alloc(&f->arena, ((size_t)n + 1) * sizeof *f->keys);
	f->nkeys = n;
	for (int k = 0; k < n && f->keys; k++) {
		int at = 0;
		while (at < f->ncolumns && f->columns[at].id != keys[k]->id)
			at++;
		f->keys[k] = at;
		if (at == f->ncolumns) /* younger than these rows */
			f->keys = NULL;
	}
}

static int plan_version(struct ducklake *d, struct mirror *m, int64_t version, struct flushes *all,
			struct duct_error *err)
{
	struct flush *f = duct_xcalloc(1, sizeof *f);
	*f = (struct flush){.d = d, .m = m, .version = version, .ordinal = -1};
	*all->end = f;
	all->end = &f->next;
	duct_arena_init(&f->arena);
	bool supported;
	int rc = lake_inlined_columns(d->lake, m->table_id, version, &f->arena, &f->columns, &f->ncolumns, &supported,
				      err);
	if (rc < 0 || !supported)
		return rc;
	rc = read_rows(f, err);
	if (rc < 0 || !f->nrows)
		return rc;
	find_keys(f);
	return write_rows(f, m->t, err);
}

static int plan_mirror(struct ducklake *d, struct mirror *m, struct flushes *all, struct duct_error *err)
{
	struct duct_arena arena;
	int64_t *versions;
	size_t n;
	int rc = 0;
	duct_arena_init(&arena);
	(void)mirror_table(d, m);
	lake_inlined_versions(d->lake, m->table_id, &arena, &versions, &n);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = plan_version(d, m, versions[i], all, err);
	duct_arena_done(&arena);
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	return rc < 0 ? duct_wrap(err, "flush the inlined rows of \"%s\".\"%s\"", table->schema, table->name) : 0;
}

/* --- afterwards --- */

static bool move_entries(struct flush *f, int64_t file_id)
{
	struct lake_hasher hasher = mirror_hasher(f->d, f->m, f->keys, f->nkeys);
	bool all = f->keys != NULL;
	size_t at = 0;
	for (size_t b = 0; b < f->nbatches && all; b++)
		for (uint32_t i = 0; i < f->batches[b]->rows && all; i++, at++) {
			if (f->rows[at].end_snapshot >= 0)
				continue;
			struct lake_key_hash hash = lake_hash_row(&hasher, f->batches[b]->columns, i);
			struct lake_place place = {f->rows[at].row_id, (uint32_t)file_id, (uint32_t)at};
			all = lake_index_move(f->m->index, hash, place);
		}
	duct_buf_done(&hasher.scratch);
	return all;
}

static int compare_rows(const void *a, const void *b)
{
	return duct_compare_i64(&((const struct lake_inlined_row *)a)->row_id, &((const struct lake_inlined_row *)b)->row_id);
}

/* Without the keys, in an index that is not open: one walk over all of it, which is less than building it anew. */
static int move_unopened(struct flush *f, int64_t file_id, struct duct_error *err)
{
	struct lake_index *index;
	bool built;
	int rc = lake_index_open(&index, f->d->indexes, f->m->table_id, NULL, &built, err);
	if (rc < 0 || !index)
		return rc;
	AUTO_FREE struct lake_inlined_row *live = duct_xmalloc((f->nrows + 1) * sizeof *live);
	size_t n = 0, moved = 0;
	for (size_t i = 0; i < f->nrows; i++)
		if (f->rows[i].end_snapshot < 0)
			live[n++] = (struct lake_inlined_row){.row_id = f->rows[i].row_id, .begin_snapshot = (int64_t)i};
	qsort(live, n, sizeof *live, compare_rows);
	uint64_t cursor = 0;
	struct lake_key_hash hash;
	struct lake_place place;
	while (moved < n && lake_index_next(index, &cursor, &hash, &place)) {
		const struct lake_inlined_row wanted = {.row_id = place.row_id}, *row;
		if (place.file_id != LAKE_INLINED || place.position != (uint32_t)f->version)
			continue;
		row = bsearch(&wanted, live, n, sizeof *live, compare_rows);
		if (!row)
			break;
		place = (struct lake_place){place.row_id, (uint32_t)file_id, (uint32_t)row->begin_snapshot};
		moved += lake_index_move(index, hash, place);
	}
	lake_index_close(index);
	return moved == n ? 0 : lake_index_drop(f->d->indexes, f->m->table_id, err);
}

static int follow(struct flush *f, const struct lake_txn_result *result, struct duct_error *err)
{
	struct mirror *m = f->m;
	m->inlined_rows = m->inlined_bytes = m->inlined_since_us = 0;
	if (f->ordinal < 0 || m->mode == MIRROR_APPEND)
		return 0;
	if (!m->index)
		return move_unopened(f, result->files[f->ordinal].file_id, err);
	if (!move_entries(f, result->files[f->ordinal].file_id))
		return mirror_unload(f->d, m, true, err);
	struct lake_file file = {
		.id = result->files[f->ordinal].file_id,
		.path = f->path,
		.record_count = (int64_t)f->nrows,
		.begin_snapshot = result->snapshot_id,
		.row_id_start = -1,
		.partial_max = result->snapshot_id,
		.delete_file_id = -1,
	};
	if (f->ndead < f->nrows)
		mirror_add_file(m, &file, (int64_t)f->ndead, f->ndead > 0);
	return 0;
}

static int commit(struct ducklake *d, struct flush *list, struct duct_error *err)
{
	AUTO_FREE char *message = duct_xasprintf("ductstream %s: flush of inlined rows", d->ctx->flow);
	struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = message};
	struct lake_txn_result result;
	lake_index_set_begin(d->indexes);
	int rc = ducklake_send(d, &info, &result, err);
	for (struct flush *f = list; f && rc == 0; f = f->next)
		rc = follow(f, &result, err);
	if (rc == 0)
		lake_index_set_end(d->indexes, lake_commit_id(d->lake));
	return rc;
}

static bool is_due(const struct ducklake *d, const struct mirror *m, int64_t now_us)
{
	if (!m->inlined_rows || m->gone || m->table_id < 0)
		return false;
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	if (!table || table->partitioned) /* no mirror any more */
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

static int plan_bucket(struct ducklake *d, struct mirror *m, int64_t now_us, size_t *room, struct flushes *all,
		       struct duct_error *err)
{
	int rc = 0;
	for (; m && rc == 0; m = m->next) {
		if (!is_due(d, m, now_us))
			continue;
		if (!*room) {
			d->flush_due = true; /* the others come with the next one */
			return 0;
		}
		(*room)--;
		rc = plan_mirror(d, m, all, err);
	}
	return rc;
}

static int plan_due(struct ducklake *d, int64_t now_us, struct flushes *all, struct duct_error *err)
{
	size_t most = lake_most_inlining_tables(d->lake), room = most, tables = 0;
	int rc = resting_read(d, err);
	for (size_t i = 0; i < MIRROR_BUCKETS && rc == 0; i++) {
		for (struct mirror *m = d->mirrors[i]; m; m = m->next)
			resting_wake(d, m);
		tables += count_inlining(d->mirrors[i]) + count_inlining(d->resting[i]);
	}
	if (tables > most)
		now_us = INT64_MAX; /* all of them are due */
	for (size_t i = 0; i < MIRROR_BUCKETS && rc == 0; i++) {
		rc = plan_bucket(d, d->mirrors[i], now_us, &room, all, err);
		if (rc == 0)
			rc = plan_bucket(d, d->resting[i], now_us, &room, all, err);
	}
	return rc;
}

static bool has_rows(const struct flush *list)
{
	for (; list; list = list->next)
		if (list->ordinal >= 0)
			return true;
	return false;
}

int ducklake_flush_inlined(struct ducklake *d, struct duct_error *err)
{
	int64_t now_us = duct_mono_us();
	if (d->txn || d->load || (!d->flush_due && now_us - d->flush_checked_us < CHECK_EVERY_US))
		return 0;
	d->flush_checked_us = now_us;
	d->flush_due = false;
	struct flushes all = {.end = &all.first};
	int rc = plan_due(d, now_us, &all, err);
	if (rc == 0 && has_rows(all.first))
		rc = commit(d, all.first, err);
	if (d->txn)
		group_reset(d);
	flush_free(all.first);
	return rc;
}
