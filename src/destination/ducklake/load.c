/*
 * Copies: each loader turns one part of a table into files aside, with a thread of its own for the encoding; load_publish
 * registers the files of all tables in one commit. See destination.h.
 */
#include "destination/ducklake/ducklake.h"

#include "base/queue.h"
#include "lake/orphans.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE_BYTES = 16 << 20, FILE_ROWS = 4 << 20 };

/* A table that is being copied; fixed by load_begin, read by all loaders. */
struct load_table {
	struct mirror *mirror;
	struct lake_txn_table *staged; /* where its rows go; NULL: into the mirror's table */
	bool whole;		       /* before this copy: it was copied, and nothing of it is missing */
	struct lake_write_spec spec;
	int *map;  /* lake column -> relation column */
	int *keys; /* hashed for the key index; NULL: it has none */
	int nkeys;
};

struct ducklake_load {
	struct load_table *tables; /* by oid */
	size_t ntables;
	pthread_mutex_t lock; /* guards the list of finished files */
	struct finished {
		struct mirror *mirror;
		struct lake_txn_table *staged;
		struct lake_new_file *file;
	} * files;
	size_t nfiles, files_cap;
	int64_t renewed_us; /* likewise guarded */
	struct gathered {   /* keys of one loader's files */
		size_t table;
		struct lake_index_runs *runs;
		size_t first; /* of `files` */
	} * gathered;
	size_t ngathered, gathered_cap;
	unsigned flags;
};

struct loader {
	struct ducklake *d;
	const struct load_table *table;
	struct duct_queue *queue; /* of struct duct_batch *, one reference each */
	pthread_t thread;
	bool started;
	atomic_bool failed;
	struct duct_error error; /* of the thread, when failed */
	struct lake_new_file **files;
	size_t nfiles, files_cap;
	int64_t renewed_us; /* monotonic: when its files were last said to be wanted */
	/* The batch being written. */
	struct duct_batch *batch;
	struct lake_row_ref *refs;
	size_t refs_cap;
	bool ended;
	/* Keys on their way to the index; places name the number of the file among the loader's. */
	struct lake_index_runs *runs;
	uint32_t position; /* of the next row in the file being written */
	struct lake_hasher hasher;
};

/* Its rows stay away from the mirror's table for now. */
static int add_staged(struct ducklake *d, struct duct_relation *rel, struct load_table *t, struct duct_error *err)
{
	int rc = mirror_staging_table(d, rel, &t->staged, err);
	if (rc < 0)
		return rc;
	if (!t->whole || !(d->load->flags & DUCT_LOAD_BACKFILL)) /* else it is followed as ever */
		t->mirror->incomplete = t->mirror->relation_changed = true;
	t->spec = ducklake_write_spec(d, t->mirror, false);
	t->spec.max_rows = FILE_ROWS;
	t->spec.dir = lake_txn_table_path(t->staged);
	t->spec.ncolumns = lake_txn_columns(t->staged, &t->spec.columns);
	t->map = duct_xmalloc(((size_t)t->spec.ncolumns + 1) * sizeof *t->map);
	for (int i = 0; i < t->spec.ncolumns; i++)
		t->map[i] = i;
	return 0;
}

static int add_load_table(struct ducklake *d, struct duct_relation *rel, unsigned flags, struct load_table *t,
			  struct duct_error *err)
{
	int rc = mirror_get(d, rel, &t->mirror, err);
	if (rc < 0)
		return rc;
	struct mirror *m = t->mirror;
	t->whole = m->table_id >= 0 && !m->incomplete && !m->copy_again;
	(void)mirror_table(d, m);
	if (mirror_stages(d, m, rel, flags))
		return add_staged(d, rel, t, err);
	if (m->table_id >= 0 && !m->truncated && !rel->synthetic && !tablesink_appends(&d->config->sink)) {
		/* Copied again: what the lake has of it ends with the commit that brings the copy. */
		if (d->config->sink.soft_delete)
			log_warn(d->ctx->log, "rows that are marked as deleted go with a copy; snapshots before it have them",
				 LOG_STR("table", rel->name));
		lake_txn_truncate(d->txn, m->t);
		m->truncated = true;
		fold_truncate(m->fold);
	}
	m->incomplete = flags & DUCT_LOAD_EMPTY;
	m->copy_again = false;
	m->relation_changed = true;
	t->spec = ducklake_write_spec(d, m, false);
	t->spec.max_rows = FILE_ROWS;
	const int *map = mirror_map(m, rel);
	t->map = duct_xmalloc(((size_t)t->spec.ncolumns + 1) * sizeof *map);
	memcpy(t->map, map, (size_t)t->spec.ncolumns * sizeof *map);
	if (m->mode != MIRROR_APPEND && !(flags & DUCT_LOAD_ONCE)) /* else the index is built when a change asks for it */
		t->keys = mirror_key_columns(m, rel, &t->nkeys);
	return 0;
}

static int compare_tables(const void *a, const void *b)
{
	uint32_t x = ((const struct load_table *)a)->mirror->oid, y = ((const struct load_table *)b)->mirror->oid;
	return x < y ? -1 : x > y;
}

static const struct load_table *find_table(const struct ducklake_load *load, uint32_t oid)
{
	struct mirror wanted = {.oid = oid};
	return bsearch(&(struct load_table){.mirror = &wanted}, load->tables, load->ntables, sizeof *load->tables, compare_tables);
}

int ducklake_load_begin(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags, struct duct_error *err)
{
	struct ducklake *d = dest;
	if (d->txn || d->load)
		return duct_fail(err, DUCT_FATAL, "a copy cannot begin inside an open group");
	int named = tablesink_check_staging(&d->config->sink, relations, n, err);
	if (named < 0)
		return named;
	size_t copied = 0, whole = 0;
	struct ducklake_load *load = duct_xcalloc(1, sizeof *load);
	load->tables = duct_xcalloc(n + 1, sizeof *load->tables);
	load->flags = flags;
	pthread_mutex_init(&load->lock, NULL);
	d->load = load;
	for (size_t i = 0; i < n; i++) {
		struct duct_relation *rel = relations[i];
		int rc = d->sink ? tablesink_relation(d->sink, rel, &rel, err) : 0;
		if (rc == 0)
			rc = add_load_table(d, rel, flags, &load->tables[load->ntables++], err);
		if (rc == 0 && !rel->synthetic) {
			copied++;
			whole += load->tables[i].whole && load->tables[i].staged;
		}
		if (rc < 0) {
			ducklake_load_abort(d);
			return rc;
		}
	}
	int rc = tablesink_apart(&d->config->sink, flags, copied, whole, &d->apart, err);
	if (rc < 0) {
		ducklake_load_abort(d);
		return rc;
	}
	/* Planning one table may move the columns of another in memory only when it is the same table: now they are fixed. */
	for (size_t i = 0; i < n; i++)
		load->tables[i].spec.ncolumns =
			lake_txn_columns(load->tables[i].staged ? load->tables[i].staged : load->tables[i].mirror->t,
					 &load->tables[i].spec.columns);
	qsort(load->tables, n, sizeof *load->tables, compare_tables);
	return 0;
}

/* A copy may take days, and its first files wait until it is published. */
static int renew_finished(struct ducklake_load *load, struct duct_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&load->lock);
	bool due = lake_renewal_due(&load->renewed_us);
	for (size_t i = 0; due && i < load->nfiles && rc == 0; i++)
		rc = lake_renew_file(load->files[i].file->path, err);
	pthread_mutex_unlock(&load->lock);
	return rc;
}

static int renew_own(struct loader *l, struct duct_error *err)
{
	int rc = 0;
	bool due = lake_renewal_due(&l->renewed_us);
	for (size_t i = 0; due && i < l->nfiles && rc == 0; i++)
		rc = lake_renew_file(l->files[i]->path, err);
	return rc;
}

/* A file ends only where the next rows would be asked for: all of these get into the file that is being written. */
static int gather_keys(struct loader *l, struct duct_error *err)
{
	for (uint32_t i = 0; i < l->batch->rows; i++) {
		struct lake_key_hash hash = lake_hash_row(&l->hasher, l->batch->columns, i);
		struct lake_place place = {.row_id = l->position, .file_id = (uint32_t)l->nfiles, .position = l->position};
		l->position++;
		int rc = lake_index_runs_add(l->runs, hash, place, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int loader_next(void *arg, const struct lake_row_ref **rows, const int64_t **row_ids, size_t *n, struct duct_error *err)
{
	struct loader *l = arg;
	duct_batch_unref(l->batch);
	l->batch = NULL;
	*row_ids = NULL;
	*n = 0;
	if (duct_ctx_stopped(l->d->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped during the copy");
	if (renew_own(l, err))
		return -(int)err->class;
	void *item;
	if (duct_queue_pop(l->queue, &item, -1) < 0) {
		l->ended = true;
		return 0;
	}
	l->batch = item;
	l->refs = duct_grow(l->refs, &l->refs_cap, l->batch->rows, sizeof *l->refs);
	for (uint32_t i = 0; i < l->batch->rows; i++)
		l->refs[i] = (struct lake_row_ref){l->batch, i};
	*rows = l->refs;
	*n = l->batch->rows;
	return l->runs ? gather_keys(l, err) : 0;
}

static const int *loader_map(void *arg, const struct duct_relation *rel)
{
	(void)rel; /* all batches of a part have the relation that the copy was planned with */
	return ((struct loader *)arg)->table->map;
}

static void *loader_main(void *arg)
{
	struct loader *l = arg;
	struct lake_rows rows = {.next = loader_next, .map = loader_map, .arg = l};
	for (bool more = true; more;) {
		struct lake_new_file *file;
		l->position = 0;
		int rc = lake_write_file(&l->table->spec, &rows, &file, &more, &l->error);
		if (rc < 0) {
			atomic_store(&l->failed, true);
			duct_queue_close(l->queue);
			return NULL;
		}
		if (file) { /* no row, no file */
			l->files = duct_grow(l->files, &l->files_cap, l->nfiles + 1, sizeof *l->files);
			l->files[l->nfiles++] = file;
		}
		if (l->ended)
			break;
	}
	return NULL;
}

int ducklake_loader_open(void *dest, struct duct_relation *rel, void **ret, struct duct_error *err)
{
	struct ducklake *d = dest;
	const struct load_table *table = find_table(d->load, rel->oid);
	if (!table)
		return duct_fail(err, DUCT_FATAL, "table \"%s\" is not part of this copy", rel->name);
	struct loader *l = duct_xcalloc(1, sizeof *l);
	l->d = d;
	l->table = table;
	l->queue = duct_queue_new(QUEUE_BYTES);
	duct_queue_count_taken(l->queue);
	l->hasher = mirror_hasher(d, table->mirror, table->keys, table->nkeys);
	int rc = table->keys ? lake_index_runs_open(&l->runs, d->indexes, err) : 0;
	if (rc < 0) {
		ducklake_loader_close(l);
		return rc;
	}
	*ret = l;
	return 0;
}

/* The thread begins with the first row: empty parts make no file. */
static int start_thread(struct loader *l, struct duct_error *err)
{
	int e = pthread_create(&l->thread, NULL, loader_main, l);
	if (e)
		return duct_fail(err, DUCT_RETRY, "start a thread for the copy: %s", strerror(e));
	l->started = true;
	return 0;
}

static int thread_error(struct loader *l, struct duct_error *err)
{
	*err = l->error;
	return -(int)err->class;
}

int ducklake_loader_write(void *loader, const struct duct_batch *batch, struct duct_error *err)
{
	struct loader *l = loader;
	if (!batch->rows)
		return 0;
	int rc = l->started ? 0 : start_thread(l, err);
	if (rc == 0)
		rc = renew_finished(l->d->load, err);
	if (rc < 0)
		return rc;
	struct duct_batch *ref;
	if (!l->d->sink)
		ref = duct_batch_ref((struct duct_batch *)batch);
	else if ((rc = tablesink_batch(l->d->sink, (struct duct_batch *)batch, &ref, err)) < 0)
		return rc;
	while ((rc = duct_queue_push(l->queue, ref, ref->arena.bytes, 1000)) == 0)
		if (duct_ctx_stopped(l->d->ctx)) {
			duct_batch_unref(ref);
			return duct_fail(err, DUCT_CANCELLED, "stopped during the copy");
		}
	if (rc > 0)
		return 0;
	duct_batch_unref(ref);
	pthread_join(l->thread, NULL);
	l->started = false;
	return thread_error(l, err);
}

int ducklake_loader_finish(void *loader, struct duct_error *err)
{
	struct loader *l = loader;
	if (!l->started)
		return atomic_load(&l->failed) ? thread_error(l, err) : 0;
	duct_queue_close(l->queue);
	pthread_join(l->thread, NULL);
	l->started = false;
	if (atomic_load(&l->failed))
		return thread_error(l, err);
	int rc = l->runs ? lake_index_runs_finish(l->runs, err) : 0;
	if (rc < 0)
		return rc;
	struct ducklake_load *load = l->d->load;
	pthread_mutex_lock(&load->lock);
	if (l->runs) {
		load->gathered = duct_grow(load->gathered, &load->gathered_cap, load->ngathered + 1, sizeof *load->gathered);
		load->gathered[load->ngathered++] =
			(struct gathered){(size_t)(l->table - load->tables), duct_steal(&l->runs), load->nfiles};
	}
	for (size_t i = 0; i < l->nfiles; i++) {
		load->files = duct_grow(load->files, &load->files_cap, load->nfiles + 1, sizeof *load->files);
		load->files[load->nfiles++] = (struct finished){l->table->mirror, l->table->staged, l->files[i]};
	}
	pthread_mutex_unlock(&load->lock);
	l->nfiles = 0;
	return 0;
}

void ducklake_loader_close(void *loader)
{
	struct loader *l = loader;
	if (!l)
		return;
	duct_queue_close(l->queue);
	if (l->started)
		pthread_join(l->thread, NULL);
	void *item;
	while (duct_queue_pop(l->queue, &item, 0) > 0)
		duct_batch_unref(item);
	duct_queue_free(l->queue);
	duct_batch_unref(l->batch);
	for (size_t i = 0; i < l->nfiles; i++) {
		(void)unlink(l->files[i]->path);
		lake_new_file_free(l->files[i]);
	}
	free(l->files);
	free(l->refs);
	lake_index_runs_close(l->runs);
	duct_buf_done(&l->hasher.scratch);
	free(l);
}

static void load_free(struct ducklake *d, bool unlink_files)
{
	struct ducklake_load *load = d->load;
	for (size_t i = 0; i < load->nfiles; i++) {
		if (unlink_files)
			(void)unlink(load->files[i].file->path);
		lake_new_file_free(load->files[i].file);
	}
	for (size_t i = 0; i < load->ntables; i++) {
		free(load->tables[i].map);
		free(load->tables[i].keys);
	}
	for (size_t i = 0; i < load->ngathered; i++)
		lake_index_runs_close(load->gathered[i].runs);
	free(load->gathered);
	pthread_mutex_destroy(&load->lock);
	free(load->files);
	free(load->tables);
	free(load);
	d->load = NULL;
}

/* One table's indexes-to-be, and the files that their places speak of. */
struct placing {
	const struct lake_txn_result *result;
	const size_t *firsts;
};

static struct lake_place place_copied(void *arg, size_t which, struct lake_place place)
{
	const struct placing *p = arg;
	const struct lake_txn_file_result *file = &p->result->files[p->firsts[which] + place.file_id];
	return (struct lake_place){file->row_id_start + place.position, (uint32_t)file->file_id, place.position};
}

static int compare_gathered(const void *a, const void *b)
{
	size_t x = ((const struct gathered *)a)->table, y = ((const struct gathered *)b)->table;
	return x < y ? -1 : x > y;
}

/* What the loaders gathered becomes the key indexes: the first change of a table need not read it again. */
static void build_indexes(struct ducklake *d, const struct lake_txn_result *result)
{
	struct ducklake_load *load = d->load;
	uint64_t seed = lake_index_set_seed(d->indexes);
	AUTO_FREE struct lake_index_runs **runs = duct_xcalloc(load->ngathered + 1, sizeof *runs);
	AUTO_FREE size_t *firsts = duct_xcalloc(load->ngathered + 1, sizeof *firsts);
	if (load->ngathered)
		qsort(load->gathered, load->ngathered, sizeof *load->gathered, compare_gathered);
	for (size_t t = 0, i = 0; t < load->ntables; t++) {
		struct mirror *m = load->tables[t].mirror;
		size_t n = 0;
		for (; i < load->ngathered && load->gathered[i].table == t; i++, n++) {
			runs[n] = load->gathered[i].runs;
			firsts[n] = load->gathered[i].first;
		}
		struct placing placing = {result, firsts};
		if (load->tables[t].keys && m->table_id >= 0)
			mirror_build_index(d, m, runs, n, place_copied, &placing);
		if (lake_index_set_seed(d->indexes) != seed)
			return; /* two keys shared a hash: the others are void too */
	}
}

int ducklake_load_publish(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			  struct duct_commit_result *ret, struct duct_error *err)
{
	struct ducklake *d = dest;
	struct ducklake_load *load = d->load;
	uint64_t rows = 0;
	for (size_t i = 0; i < load->nfiles; i++) {
		rows += (uint64_t)load->files[i].file->record_count;
		aside_add(d, load->files[i].mirror, load->files[i].staged, load->files[i].file);
	}
	load->nfiles = 0; /* the transaction owns them */
	for (size_t i = 0; i < d->ntouched; i++)
		mirror_store(d, d->touched[i]);
	AUTO_FREE char *message = duct_xasprintf("ductstream %s: copy", d->ctx->flow);
	struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = message, .source_identity = source_identity};
	bool append = tablesink_resolution(&d->config->sink, load->flags & DUCT_LOAD_RESOLVE) == TABLESINK_RESOLVE_APPEND;
	if (set_position)
		info.pos = *pos;
	else if (d->apart && !append) /* changes of before the copy are news to the tables still */
		info.source_identity = NULL;
	struct lake_txn_result result;
	lake_index_set_begin(d->indexes);
	int rc = ducklake_send(d, &info, &result, err);
	if (rc < 0) {
		load_free(d, false); /* the catalog may know the files */
		return rc;
	}
	for (size_t i = 0; i < d->ntouched && rc == 0; i++) {
		mirror_committed(d, d->touched[i]);
		rc = mirror_unload(d, d->touched[i], true, err);
	}
	if (rc == 0)
		build_indexes(d, &result);
	load_free(d, false);
	lake_index_set_end(d->indexes, lake_commit_id(d->lake));
	*ret = (struct duct_commit_result){result.snapshot_id, rows};
	if (set_position)
		d->upto = *pos;
	group_reset(d);
	if (rc == 0 && append)
		rc = ducklake_resolve(d, false, err);
	return rc;
}

void ducklake_load_abort(void *dest)
{
	struct ducklake *d = dest;
	if (d->load)
		load_free(d, true);
	group_reset(d);
	mirrors_free(d); /* what was planned for them is void */
}
