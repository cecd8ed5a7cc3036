/*
 * Inlined rows on their way into files: see flush.h. Read in pieces, so that neither memory nor the catalog is taken up by them;
 * a row of up to the snapshot can only die meanwhile, which the applier looks at before it commits.
 */
#include "destination/ducklake/flush.h"

#include "base/clock.h"
#include "base/killpoint.h"

#include <string.h>
#include <unistd.h>

enum { PIECE_ROWS = 8192 };

struct flushing *flushing_new(void)
{
	struct flushing *f = duct_xcalloc(1, sizeof *f);
	f->end = &f->first;
	f->began_us = duct_mono_us();
	return f;
}

struct flush *flushing_add(struct flushing *f)
{
	struct flush *one = duct_xcalloc(1, sizeof *one);
	duct_arena_init(&one->arena);
	one->ordinal = -1;
	*f->end = one;
	f->end = &one->next;
	return one;
}

/* One file being written. */
struct writing {
	struct flushing *all;
	struct flush *f;
	struct lake_column *columns; /* as of the schema version */
	int ncolumns;
	int *keys; /* places of the keys among them; NULL: not all are there */
	bool ended;
	/* The piece that was read last. */
	struct duct_batch **batches;
	size_t nbatches, batches_cap;
	size_t from; /* its first row among the flush's */
	struct lake_row_ref *refs;
	int64_t *ids, *snapshots;
	size_t refs_cap, ids_cap, snapshots_cap;
};

static void drop_piece(struct writing *w)
{
	for (size_t i = 0; i < w->nbatches; i++)
		duct_batch_unref(w->batches[i]);
	w->nbatches = 0;
}

static int take_rows(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	struct writing *w = arg;
	struct flush *f = w->f;
	if (atomic_load(&w->all->cancelled))
		return duct_fail(err, DUCT_CANCELLED, "stopped during a flush");
	w->batches = duct_grow(w->batches, &w->batches_cap, w->nbatches + 1, sizeof *w->batches);
	w->batches[w->nbatches++] = duct_batch_ref((struct duct_batch *)(uintptr_t)batch); /* only the count changes */
	f->rows = duct_grow(f->rows, &f->rows_cap, f->nrows + batch->rows, sizeof *f->rows);
	memcpy(f->rows + f->nrows, rows, batch->rows * sizeof *rows);
	if (w->keys) {
		f->hashes = duct_grow(f->hashes, &f->hashes_cap, f->nrows + batch->rows, sizeof *f->hashes);
		for (uint32_t i = 0; i < batch->rows; i++)
			f->hashes[f->nrows + i] = lake_hash_row(&f->hasher, batch->columns, i);
	}
	f->nrows += batch->rows;
	return 0;
}

static int read_piece(struct writing *w, struct duct_error *err)
{
	struct flush *f = w->f;
	AUTO_FREE const struct lake_column **columns = duct_xcalloc((size_t)w->ncolumns + 1, sizeof *columns);
	for (int i = 0; i < w->ncolumns; i++)
		columns[i] = &w->columns[i];
	const struct lake_inlined_row last = f->nrows ? f->rows[f->nrows - 1] : (struct lake_inlined_row){0};
	const struct lake_inlined_wanted wanted = {
		.table_id = f->table_id,
		.schema_version = f->version,
		.columns = columns,
		.ncolumns = w->ncolumns,
		.dead_too = true,
		.after = f->nrows ? &last : NULL,
		.most = PIECE_ROWS,
	};
	w->from = f->nrows;
	int rc = lake_read_inlined(w->all->lake, w->all->conn, &wanted, take_rows, w, err);
	w->ended = f->nrows - w->from < PIECE_ROWS;
	return rc;
}

static int next_rows(void *arg, const struct lake_row_ref **rows, const int64_t **row_ids, size_t *n, struct duct_error *err)
{
	struct writing *w = arg;
	drop_piece(w);
	int rc = w->ended ? 0 : read_piece(w, err);
	if (rc < 0)
		return rc;
	size_t count = 0, all = w->nbatches ? w->f->nrows - w->from : 0;
	w->refs = duct_grow(w->refs, &w->refs_cap, all, sizeof *w->refs);
	w->ids = duct_grow(w->ids, &w->ids_cap, all, sizeof *w->ids);
	w->snapshots = duct_grow(w->snapshots, &w->snapshots_cap, all, sizeof *w->snapshots);
	for (size_t b = 0; b < w->nbatches; b++)
		for (uint32_t i = 0; i < w->batches[b]->rows; i++, count++) {
			const struct lake_inlined_row *row = &w->f->rows[w->from + count];
			w->refs[count] = (struct lake_row_ref){w->batches[b], i};
			w->ids[count] = row->row_id;
			w->snapshots[count] = row->begin_snapshot;
		}
	*rows = w->refs;
	*row_ids = w->ids;
	*n = count;
	return 0;
}

static const int64_t *row_snapshots(void *arg)
{
	return ((struct writing *)arg)->snapshots;
}

/* The rows have the file's columns in their order. */
static const int *map_columns(void *arg, const struct duct_relation *rel)
{
	struct writing *w = arg;
	int *map = duct_arena_alloc(&w->f->arena, ((size_t)rel->ncolumns + 1) * sizeof *map);
	for (int i = 0; i < rel->ncolumns; i++)
		map[i] = i;
	return map;
}

/* NULL stays where a key is younger than these rows. */
static void find_keys(struct writing *w)
{
	struct flush *f = w->f;
	if (!f->keys)
		return;
	int *keys = duct_arena_alloc(&f->arena, ((size_t)f->nkeys + 1) * sizeof *keys);
	for (int k = 0; k < f->nkeys; k++) {
		keys[k] = 0;
		while (keys[k] < w->ncolumns && w->columns[keys[k]].id != f->keys[k])
			keys[k]++;
		if (keys[k] == w->ncolumns)
			return;
	}
	w->keys = keys;
	f->hasher.keys = keys;
	f->hasher.nkeys = f->nkeys;
}

static int write_rows(struct writing *w, struct duct_error *err)
{
	struct flush *f = w->f;
	struct lake_rows rows = {next_rows, map_columns, w, row_snapshots};
	f->spec.columns = w->columns;
	f->spec.ncolumns = w->ncolumns;
	int rc = lake_write_file(&f->spec, &rows, &f->file, NULL, err);
	if (rc < 0 || !f->file)
		return rc;
	f->file->begin_snapshot = INT64_MAX;
	for (size_t i = 0; i < f->nrows; i++) {
		int64_t begin = f->rows[i].begin_snapshot;
		f->file->begin_snapshot = begin < f->file->begin_snapshot ? begin : f->file->begin_snapshot;
		f->file->partial_max = begin > f->file->partial_max ? begin : f->file->partial_max;
	}
	return 0;
}

static int write_flush(struct flushing *all, struct flush *f, struct duct_error *err)
{
	struct writing w = {.all = all, .f = f};
	bool supported;
	int rc = lake_inlined_columns(all->lake, f->table_id, f->version, &f->arena, &w.columns, &w.ncolumns, &supported, err);
	if (rc == 0 && supported) {
		find_keys(&w);
		rc = write_rows(&w, err);
	}
	if (rc == 0)
		rc = lake_count_small_files(all->lake, f->table_id, FLUSH_SMALL_FILE, &f->small_files, err);
	drop_piece(&w);
	free(w.batches);
	free(w.refs);
	free(w.ids);
	free(w.snapshots);
	duct_buf_done(&f->hasher.scratch);
	return rc;
}

static void *flushing_main(void *arg)
{
	struct flushing *all = arg;
	for (struct flush *f = all->first; f && all->rc == 0; f = f->next)
		all->rc = write_flush(all, f, &all->error);
	duct_kill_point("flush-written");
	atomic_store(&all->done, true);
	return NULL;
}

int flushing_start(struct flushing *f, struct ducklake *d, struct duct_error *err)
{
	const struct lake_config config = ducklake_read_only(d->config, d->ctx->flow);
	int rc = lake_open_beside(&f->lake, d->lake, &config, err);
	if (rc < 0)
		return rc;
	f->upto = lake_snapshot_id(d->lake);
	f->conn = duck_connect(d->db);
	int e = pthread_create(&f->thread, NULL, flushing_main, f);
	if (e)
		return duct_fail(err, DUCT_RETRY, "start a thread for a flush: %s", strerror(e));
	f->started = true;
	return 0;
}

bool flushing_is_done(const struct flushing *f)
{
	return atomic_load(&f->done);
}

int flushing_wait(struct flushing *f, struct duct_error *err)
{
	pthread_join(f->thread, NULL);
	f->started = false;
	if (f->rc < 0)
		*err = f->error;
	return f->rc;
}

static void flush_free(struct flush *f)
{
	if (f->file) {
		(void)unlink(f->file->path);
		lake_new_file_free(f->file);
	}
	free(f->rows);
	free(f->hashes);
	free(f->path);
	duct_arena_done(&f->arena);
	free(f);
}

void flushing_free(struct flushing *f)
{
	if (!f)
		return;
	atomic_store(&f->cancelled, true);
	if (f->started)
		pthread_join(f->thread, NULL);
	for (struct flush *one = f->first, *next; one; one = next) {
		next = one->next;
		flush_free(one);
	}
	duck_disconnect(f->conn);
	lake_close(f->lake);
	free(f);
}
