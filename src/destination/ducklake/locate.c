/* Where rows of a mirror are in the lake: its key index and its live files. See ducklake.h. */
#include "destination/ducklake/ducklake.h"

#include "base/killpoint.h"
#include "base/order.h"
#include "lake/dead.h"

#include <inttypes.h>
#include <string.h>

struct mirror_file *mirror_file(struct mirror *m, int64_t file_id)
{
	size_t at = duct_lower_bound_i64(m->files, m->nfiles, sizeof *m->files, file_id);
	return at < m->nfiles && m->files[at].id == file_id ? &m->files[at] : NULL;
}

/* File ids only rise, so a new file goes to the end. */
void mirror_add_file(struct mirror *m, const struct lake_file *file, int64_t dead_count, bool has_deletes)
{
	m->files = duct_grow(m->files, &m->files_cap, m->nfiles + 1, sizeof *m->files);
	struct mirror_file *f = &m->files[m->nfiles++];
	*f = (struct mirror_file){.id = file->id,
				  .record_count = file->record_count,
				  .dead_count = dead_count,
				  .has_deletes = has_deletes,
				  .path = duct_xstrdup(file->path),
				  .lake = *file};
	f->lake.path = f->path;
	f->lake.delete_path = f->lake.delete_format = NULL;
}

void mirror_drop_file(struct mirror *m, int64_t file_id)
{
	struct mirror_file *f = mirror_file(m, file_id);
	if (!f)
		return;
	free(f->path);
	lake_positions_done(&f->dying);
	size_t behind = (size_t)(m->files + m->nfiles - f) - 1;
	memmove(f, f + 1, behind * sizeof *f);
	m->nfiles--;
}

static void files_clear(struct mirror *m)
{
	for (size_t i = 0; i < m->nfiles; i++) {
		free(m->files[i].path);
		lake_positions_done(&m->files[i].dying);
	}
	m->nfiles = 0;
}

int mirror_unload(struct ducklake *d, struct mirror *m, bool invalidate, struct duct_error *err)
{
	int rc = 0;
	if (m->index && invalidate)
		rc = lake_index_reset(m->index, err);
	else if (invalidate && m->table_id >= 0) /* not open in this run, but there from an earlier one */
		rc = lake_index_drop(d->indexes, m->table_id, err);
	lake_index_close(m->index);
	m->index = NULL;
	files_clear(m);
	return rc;
}

int *mirror_key_columns(const struct mirror *m, const struct duct_relation *rel, int *ret_n)
{
	int n = m->mode == MIRROR_BAG ? rel->ncolumns : rel->nkeys;
	int *columns = duct_xmalloc(((size_t)n + 1) * sizeof *columns);
	for (int i = 0; i < n; i++)
		columns[i] = m->mode == MIRROR_BAG ? i : rel->keys[i];
	*ret_n = n;
	return columns;
}

struct lake_hasher mirror_hasher(const struct ducklake *d, const struct mirror *m, const int *keys, int nkeys)
{
	return (struct lake_hasher){.seed = lake_index_set_seed(d->indexes),
				    .keys = keys,
				    .nkeys = nkeys,
				    .exact = m->mode == MIRROR_BAG};
}

const struct lake_column **mirror_lake_keys(struct mirror *m, int *ret_n, struct duct_error *err)
{
	const struct duct_relation *rel = m->rel;
	int n;
	AUTO_FREE int *wanted = mirror_key_columns(m, rel, &n);
	const struct lake_column *columns, **keys = duct_xcalloc((size_t)n + 1, sizeof *keys);
	int ncolumns = lake_txn_columns(m->t, &columns);
	const int *map = mirror_map(m, rel);
	for (int k = 0; k < n; k++) {
		for (int i = 0; i < ncolumns; i++)
			if (map[i] == wanted[k])
				keys[k] = &columns[i];
		if (!keys[k]) {
			duct_fail(err, DUCT_FATAL, "key column \"%s\" of \"%s\".\"%s\" is not in the lake",
				  rel->columns[wanted[k]].name, rel->schema, rel->name);
			free(keys);
			return NULL;
		}
	}
	*ret_n = n;
	return keys;
}

/* One file's rows on their way into the index. */
struct scan {
	struct lake_index_runs *runs;
	struct lake_hasher hasher;
	uint32_t file_id, version;
	struct lake_mark_set marks;
	struct lake_dead dead; /* of the file */
};

static int add_row(struct scan *s, const struct duct_batch *batch, uint32_t row, struct lake_place place, struct duct_error *err)
{
	return lake_index_runs_add(s->runs, lake_hash_row(&s->hasher, batch->columns, row), place, err);
}

static int index_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		      struct duct_error *err)
{
	struct scan *s = arg;
	int rc = 0;
	for (uint32_t i = 0; i < batch->rows && rc == 0; i++) {
		if (lake_dead_has(&s->dead, positions[i]))
			continue;
		struct lake_place place = {row_ids[i], s->file_id, (uint32_t)positions[i]};
		rc = add_row(s, batch, i, place, err);
	}
	return rc;
}

/* The index becomes what was gathered. */
static int merge_runs(struct ducklake *d, struct mirror *m, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place,
		      void *arg, struct duct_error *err)
{
	bool equal = false;
	int rc = lake_index_reset(m->index, err);
	if (rc == 0)
		rc = lake_index_merge(m->index, runs, n, place, arg, &equal, err);
	if (rc == 0 && equal && m->mode == MIRROR_KEYED)
		rc = ducklake_doubt(d, m, err);
	if (rc == 0)
		lake_index_set_built(m->index);
	return rc;
}

static struct lake_place same_place(void *arg, size_t which, struct lake_place place)
{
	(void)arg;
	(void)which;
	return place;
}

static int index_inlined_rows(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows,
			      struct duct_error *err)
{
	struct scan *s = arg;
	int rc = 0;
	for (uint32_t i = 0; i < batch->rows && rc == 0; i++)
		rc = add_row(s, batch, i, (struct lake_place){rows[i].row_id, LAKE_INLINED, s->version}, err);
	return rc;
}

/* Rows inside the catalog, whoever put them there. */
static int index_inlined(struct ducklake *d, struct mirror *m, const struct lake_column *const *keys, struct scan *s,
			 struct duct_error *err)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	int64_t *versions;
	size_t n;
	int rc = 0;
	lake_inlined_versions(d->lake, m->table_id, &arena, &versions, &n);
	for (size_t i = 0; i < n && rc == 0; i++) {
		const struct lake_inlined_wanted wanted = {.table_id = m->table_id,
							   .schema_version = versions[i],
							   .columns = keys,
							   .ncolumns = s->hasher.nkeys};
		s->version = (uint32_t)versions[i];
		rc = lake_read_inlined(d->lake, d->conn, &wanted, index_inlined_rows, s, err);
	}
	duct_arena_done(&arena);
	return rc;
}

static int rebuild(struct ducklake *d, struct mirror *m, const struct lake_column *const *keys, int nkeys,
		   const struct lake_file *files, size_t nfiles, struct duct_error *err)
{
	AUTO_FREE int *numbers = duct_xmalloc((size_t)(nkeys + 1) * sizeof *numbers);
	for (int i = 0; i < nkeys; i++)
		numbers[i] = i; /* only the keys are read */
	struct scan s = {.hasher = mirror_hasher(d, m, numbers, nkeys)};
	int rc = lake_index_runs_open(&s.runs, d->indexes, err);
	if (rc == 0)
		rc = lake_read_marks(d->lake, m->table_id, &s.marks, err);
	for (size_t i = 0; i < nfiles && rc == 0; i++) {
		s.file_id = (uint32_t)files[i].id;
		rc = lake_dead_read(&s.dead, &s.marks, d->conn, &files[i], err);
		if (rc == 0 && files[i].record_count)
			rc = lake_read_file(d->conn, &files[i], keys, nkeys, NULL, 0, index_rows, &s, err);
	}
	if (rc == 0)
		duct_kill_point("index-files-read");
	if (rc == 0)
		rc = index_inlined(d, m, keys, &s, err);
	if (rc == 0)
		rc = lake_index_runs_finish(s.runs, err);
	if (rc == 0)
		rc = merge_runs(d, m, &s.runs, 1, same_place, NULL, err);
	lake_index_runs_close(s.runs);
	lake_dead_done(&s.dead);
	lake_mark_set_done(&s.marks);
	duct_buf_done(&s.hasher.scratch);
	if (rc == 0)
		log_debug(d->ctx->log, "key index built", LOG_STR("table", m->rel->name),
			  LOG_U64("keys", lake_index_count(m->index)));
	return rc;
}

static int load_files(struct ducklake *d, struct mirror *m, struct duct_arena *arena, struct lake_file **ret, size_t *ret_n,
		      struct duct_error *err)
{
	*ret_n = 0;
	if (m->table_id < 0)
		return 0;
	int rc = lake_list_files(d->lake, m->table_id, arena, ret, ret_n, err);
	for (size_t i = 0; i < *ret_n && rc == 0; i++) {
		const struct lake_file *f = &(*ret)[i];
		mirror_add_file(m, f, f->delete_count + f->mark_count, f->delete_path || f->mark_count);
	}
	return rc;
}

static void put_fingerprint(struct duct_buf *to, const struct mirror *m, const struct lake_column *const *keys, int nkeys)
{
	duct_buf_puts(to, m->mode == MIRROR_BAG ? "bag" : "key");
	for (int i = 0; i < nkeys; i++)
		duct_buf_printf(to, " %" PRId64, keys[i]->id);
	if (to->len > 500)
		duct_buf_printf(to, "%zu", to->len);
}

/* Opens the index by these keys. A table made by the open group has no id yet; its index gets a name when it is committed. */
static int open_index(struct ducklake *d, struct mirror *m, const struct lake_column *const *keys, int nkeys, bool *ret_built,
		      struct duct_error *err)
{
	*ret_built = false;
	if (m->table_id < 0)
		return 0;
	const struct lake_table *table = lake_table_by_id(d->lake, m->table_id);
	if (table && table->next_row_id >= -1 - LAKE_ROW_ID_MIN - UINT32_MAX) /* less the rows that one group may add */
		return duct_fail(err, DUCT_FATAL,
				 "table \"%s\".\"%s\": its next row id in the lake is %" PRId64 ", the key index "
				 "holds none above %" PRId64 ": copy the table again under another name",
				 m->rel->schema, m->rel->name, table->next_row_id, -1 - LAKE_ROW_ID_MIN);
	AUTO_BUF struct duct_buf fingerprint = {0};
	put_fingerprint(&fingerprint, m, keys, nkeys);
	return lake_index_open(&m->index, d->indexes, m->table_id, fingerprint.data, ret_built, err);
}

static int fill_index(struct ducklake *d, struct mirror *m, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place,
		      void *arg, struct duct_error *err)
{
	int nkeys;
	AUTO_FREE const struct lake_column **keys = mirror_lake_keys(m, &nkeys, err);
	if (!keys)
		return -(int)err->class;
	bool built;
	int rc = open_index(d, m, keys, nkeys, &built, err);
	return rc == 0 ? merge_runs(d, m, runs, n, place, arg, err) : rc;
}

void mirror_build_index(struct ducklake *d, struct mirror *m, struct lake_index_runs *const *runs, size_t n, lake_place_fn *place,
			void *arg)
{
	struct duct_error error;
	if (fill_index(d, m, runs, n, place, arg, &error) < 0)
		log_debug(d->ctx->log, "key index not built", LOG_STR("table", m->rel->name), LOG_STR("why", error.message));
	(void)mirror_unload(d, m, false, &error);
}

int mirror_load(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	if (m->index || m->mode == MIRROR_APPEND)
		return 0;
	mirror_table(d, m);
	int nkeys;
	AUTO_FREE const struct lake_column **keys = mirror_lake_keys(m, &nkeys, err);
	if (!keys)
		return -(int)err->class;
	struct duct_arena arena;
	duct_arena_init(&arena);
	struct lake_file *files = NULL;
	size_t nfiles;
	bool built = false;
	int rc = load_files(d, m, &arena, &files, &nfiles, err);
	if (rc == 0)
		rc = open_index(d, m, keys, nkeys, &built, err);
	if (rc == 0 && m->index && !built)
		rc = rebuild(d, m, keys, nkeys, files, nfiles, err);
	if (rc < 0) {
		struct duct_error ignored;
		(void)mirror_unload(d, m, true, &ignored);
	}
	duct_arena_done(&arena);
	return rc;
}
