/*
 * Unsent values (unchanged TOAST): a pending row takes them from an earlier version inside the group, or they are read back
 * from the file in which the old row stands. Rows are completed into batches of our own. See DESIGN D6.
 */
#include "destination/ducklake/ducklake.h"

#include "record/format.h"

#include <stdlib.h>
#include <string.h>

/* A pending row that lacks values, and the place of the stored row that has them (when no version in the group does). */
struct lack {
	uint32_t slot;
	bool stored; /* a stored row must be read */
	bool in_aside;
	int64_t file;	  /* file id, aside number, or schema version of an inlined row */
	int64_t position; /* in the file; row id of an inlined row */
	bool inlined;
	size_t row_bytes; /* on average in its file: how wide is not known before it is read */
	bool newest;	  /* the stored row is not the one that the pending row was: see newest_place() */
	enum fold_borrowed borrowed;
	struct duct_batch *found; /* one reference; columns = `wanted` */
	uint32_t found_row;
};

struct filling {
	struct ducklake *d;
	struct mirror *m;
	bool may_lack; /* a value may be nowhere */
	struct lack *lacks;
	size_t n;
	const struct lake_column *columns; /* of the lake table */
	int ncolumns;
	const struct lake_column **wanted;
	int *wanted_at; /* by lake column: index into wanted, -1 */
	int nwanted;
	size_t from, to; /* lacks of the file being read */
};

static size_t row_bytes(const struct filling *f, const struct fold_slot *base, bool in_aside)
{
	const struct aside *aside = in_aside ? &f->d->asides[base->place.file_id] : NULL;
	const struct mirror_file *file = in_aside ? NULL : mirror_file(f->m, base->place.file_id);
	int64_t bytes = aside ? aside->size_bytes : file ? file->lake.size_bytes : 0;
	int64_t rows = aside ? aside->rows : file ? file->record_count : 0;
	return rows > 0 && bytes > 0 ? (size_t)(bytes / rows) : 0;
}

static void take_place(struct filling *f, struct lack *l, const struct fold_slot *base)
{
	l->stored = true;
	l->in_aside = base->prior == FOLD_WRITTEN;
	l->file = base->place.file_id;
	l->position = base->place.position;
	l->inlined = !l->in_aside && base->place.file_id == LAKE_INLINED;
	l->row_bytes = row_bytes(f, base, l->in_aside);
	if (l->inlined) {
		l->file = base->place.position;
		l->position = base->place.row_id;
	}
}

/* The row that an earlier window of the replay wrote has all its values from changes of the replay. */
static bool is_own(const struct ducklake *d, const struct fold_slot *base)
{
	if (base->prior != FOLD_WRITTEN)
		return false;
	const struct aside *a = &d->asides[base->place.file_id];
	return !lake_positions_has(&a->borrowed, base->place.position) && !lake_positions_has(&a->lacking, base->place.position);
}

/*
 * In a replay the lake's rows are newer than the changes. The one with the row's key has the value, for had that changed since, or the row gone, a
 * later change of the replay would say so; under a key that the row had before there may be another row by now.
 */
static void newest_place(struct filling *f, struct lack *l)
{
	struct fold_slot own = f->m->fold->slots[l->slot];
	if (f->m->truncated || !f->m->index || !lake_index_get(f->m->index, own.hash, 0, &own.place))
		return;
	own.prior = FOLD_LAKE;
	l->newest = true;
	take_place(f, l, &own);
}

static void stored_place(struct filling *f, struct lack *l)
{
	const struct fold *fold = f->m->fold;
	for (int32_t v = fold->slots[l->slot].behind; v >= 0; v = fold->versions[v].behind) {
		const struct fold_version *version = &fold->versions[v];
		const struct fold_slot *base = &fold->slots[version->slot];
		if (version->batch || !base->base_present)
			continue;
		if (!f->d->replay || is_own(f->d, base))
			take_place(f, l, base);
	}
	if (f->d->replay && !l->stored)
		newest_place(f, l);
}

static int compare_lacks(const void *a, const void *b)
{
	const struct lack *x = a, *y = b;
	if (x->stored != y->stored)
		return x->stored ? -1 : 1;
	if (x->in_aside != y->in_aside)
		return x->in_aside ? 1 : -1;
	if (x->inlined != y->inlined)
		return x->inlined ? 1 : -1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->position < y->position ? -1 : x->position > y->position;
}

/* The columns that some row lacks. */
static void choose_wanted(struct filling *f)
{
	f->wanted = duct_xcalloc((size_t)f->ncolumns + 1, sizeof *f->wanted);
	f->wanted_at = duct_xmalloc(((size_t)f->ncolumns + 1) * sizeof *f->wanted_at);
	for (int c = 0; c < f->ncolumns; c++) {
		f->wanted_at[c] = -1;
		for (size_t i = 0; i < f->n && f->wanted_at[c] < 0; i++) {
			const struct fold_slot *s = &f->m->fold->slots[f->lacks[i].slot];
			int at = mirror_map(f->m, s->batch->relation)[c];
			if (at < 0 || duct_vector_is_sent(&s->batch->columns[at], s->row))
				continue;
			f->wanted_at[c] = f->nwanted;
			f->wanted[f->nwanted++] = &f->columns[c];
		}
	}
}

static int take_found(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		      struct duct_error *err)
{
	(void)row_ids;
	(void)err;
	struct filling *f = arg;
	size_t i = f->from;
	for (uint32_t row = 0; row < batch->rows; row++) {
		while (i < f->to && f->lacks[i].position < positions[row])
			i++;
		for (size_t k = i; k < f->to && f->lacks[k].position == positions[row]; k++) {
			if (f->lacks[k].found)
				continue;
			f->lacks[k].found = duct_batch_ref((struct duct_batch *)batch);
			f->lacks[k].found_row = row;
		}
	}
	return 0;
}

static int take_inlined(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	AUTO_FREE int64_t *row_ids = duct_xmalloc((batch->rows + 1) * sizeof *row_ids);
	for (uint32_t i = 0; i < batch->rows; i++)
		row_ids[i] = rows[i].row_id;
	return take_found(arg, batch, row_ids, row_ids, err);
}

/* Reads the rows inside the catalog that are lacks [from, to): their positions are row ids. */
static int read_inlined(struct filling *f, const int64_t *row_ids, size_t n, struct duct_error *err)
{
	const struct lake_inlined_wanted wanted = {
		.table_id = f->m->table_id,
		.schema_version = f->lacks[f->from].file,
		.columns = f->wanted,
		.ncolumns = f->nwanted,
		.row_ids = row_ids,
		.nrow_ids = n,
	};
	int rc = lake_read_inlined(f->d->lake, f->d->conn, &wanted, take_inlined, f, err);
	for (size_t i = f->from; i < f->to && rc == 0; i++)
		if (!f->lacks[i].found)
			rc = ducklake_lost_inlined(f->d, f->m, err);
	return rc;
}

/* Reads the stored rows of lacks [from, to), which are all in one file. */
static int read_one_file(struct filling *f, struct duct_error *err)
{
	const struct lack *first = &f->lacks[f->from];
	struct lake_file aside = {.id = -1, .row_id_start = -1, .delete_file_id = -1, .partial_max = -1};
	const struct lake_file *file = &aside;
	if (first->in_aside) {
		aside.path = f->d->asides[first->file].path;
		aside.record_count = f->d->asides[first->file].rows;
		if (!f->d->asides[first->file].explicit_row_ids)
			aside.row_id_start = 0; /* given at the commit; nobody asks here */
	} else if (!first->inlined) {
		struct mirror_file *known = mirror_file(f->m, first->file);
		if (!known)
			return ducklake_stale_index(f->d, f->m, first->file, err);
		file = &known->lake;
	}
	AUTO_FREE int64_t *positions = duct_xmalloc((f->to - f->from) * sizeof *positions);
	size_t n = 0;
	for (size_t i = f->from; i < f->to; i++)
		if (!n || positions[n - 1] != f->lacks[i].position)
			positions[n++] = f->lacks[i].position;
	if (first->inlined)
		return read_inlined(f, positions, n, err);
	return lake_read_rows(f->d->points, f->d->conn, file, f->wanted, f->nwanted, positions, n, take_found, f, err);
}

static int read_stored(struct filling *f, struct duct_error *err)
{
	for (f->from = 0; f->from < f->n && f->lacks[f->from].stored; f->from = f->to) {
		const struct lack *first = &f->lacks[f->from];
		for (f->to = f->from + 1; f->to < f->n; f->to++) {
			const struct lack *l = &f->lacks[f->to];
			if (!l->stored || l->in_aside != first->in_aside || l->inlined != first->inlined || l->file != first->file)
				break;
		}
		int rc = read_one_file(f, err);
		if (rc < 0)
			return duct_wrap(err, "read unchanged values of \"%s\".\"%s\"", f->m->rel->schema, f->m->rel->name);
	}
	return 0;
}

/* The value is nowhere. */
static int leave_out(struct filling *f, struct lack *l, int c, struct duct_error *err)
{
	if (!f->may_lack)
		return mirror_lacks_value(f->m->rel, f->columns[c].name, err);
	l->borrowed = FOLD_LACKING;
	if (!f->m->lacking)
		f->m->lacking = duct_xstrdup(f->columns[c].name);
	return 0;
}

/* The cell of lake column c for a pending row: its own, an earlier version's, or the stored one. */
static int find_cell(struct filling *f, struct lack *l, int c, struct duct_cell *ret, const struct duct_type **ret_type,
		     struct duct_error *err)
{
	const struct fold *fold = f->m->fold;
	const struct fold_slot *s = &fold->slots[l->slot];
	const struct duct_batch *batch = s->batch;
	uint32_t row = s->row;
	for (int32_t v = s->behind;; v = fold->versions[v].behind) {
		int at = mirror_map(f->m, batch->relation)[c];
		if (at < 0) {
			*ret = (struct duct_cell){NULL, 0};
			*ret_type = &f->columns[c].type;
			return 0;
		}
		if (duct_vector_is_sent(&batch->columns[at], row)) {
			*ret = duct_vector_cell(&batch->columns[at], row);
			*ret_type = batch->columns[at].type;
			return 0;
		}
		if (v < 0 || !fold->versions[v].batch)
			break;
		batch = fold->versions[v].batch;
		row = fold->versions[v].row;
	}
	if (!l->found || f->wanted_at[c] < 0) {
		*ret = (struct duct_cell){NULL, 0};
		*ret_type = &f->columns[c].type;
		return leave_out(f, l, c, err);
	}
	if (l->newest && !l->borrowed)
		l->borrowed = FOLD_BORROWED;
	const struct duct_vector *v = &l->found->columns[f->wanted_at[c]];
	*ret = duct_vector_cell(v, l->found_row);
	*ret_type = v->type;
	return 0;
}

static int append_as(struct duct_batch *to, struct duct_vector *v, struct duct_cell cell, const struct duct_type *type,
		     struct duct_error *err)
{
	AUTO_BUF struct duct_buf cast = {0};
	if (cell.data && !duct_type_equal(type, v->type)) {
		int rc = duct_cell_cast(&cast, type, cell, v->type, err);
		if (rc < 0)
			return rc;
		cell = (struct duct_cell){cast.data ? cast.data : "", (uint32_t)cast.len};
	}
	duct_vector_append_cell(to, v, cell);
	return 0;
}

/* One completed row at the end of `to`, which has the relation of the pending row. */
static int complete_row(struct filling *f, struct lack *l, struct duct_batch *to, struct duct_error *err)
{
	struct fold_slot *s = &f->m->fold->slots[l->slot];
	const int *map = mirror_map(f->m, to->relation);
	uint32_t row = duct_batch_add_row(to, DUCT_UPDATE, s->batch->seq[s->row]);
	int rc = 0;
	for (int c = 0; c < f->ncolumns && rc == 0; c++) {
		struct duct_cell cell;
		const struct duct_type *type = NULL;
		if (map[c] < 0)
			continue;
		rc = find_cell(f, l, c, &cell, &type, err);
		if (rc == 0)
			rc = append_as(to, &to->columns[map[c]], cell, type, err);
	}
	duct_batch_fill_unset(to); /* columns that the lake does not have any more */
	if (rc == 0) {
		s->batch = to;
		s->row = row;
		s->behind = -1;
		s->borrowed = (uint8_t)l->borrowed;
	}
	return rc;
}

enum { BATCH_BYTES = 1 << 20 }; /* a batch that grows further is copied again and again */

static int complete_rows(struct filling *f, struct duct_error *err)
{
	struct ducklake *d = f->d;
	/* Versions behind other rows may show into slots: complete copies first, slots change only for their own row. */
	struct duct_batch *to = NULL;
	for (size_t i = 0; i < f->n; i++) {
		const struct duct_batch *from = f->m->fold->slots[f->lacks[i].slot].batch;
		if (!to || to->relation != from->relation || to->arena.bytes >= BATCH_BYTES) {
			to = duct_batch_new(from->relation, 64);
			d->patched = duct_grow(d->patched, &d->patched_cap, d->npatched + 1, sizeof *d->patched);
			d->patched[d->npatched++] = to;
		}
		int rc = complete_row(f, &f->lacks[i], to, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

enum { SLICE_BYTES = 32 << 20, FIRST_SLICE = 16, MOST_SLICE = 1 << 16 };

/* The lacks of a slice, which are together in the lake: read, and completed in memory. */
static int fill_slice(struct filling *f, struct duct_error *err)
{
	int rc = read_stored(f, err);
	if (rc == 0)
		rc = complete_rows(f, err);
	for (size_t i = 0; i < f->n; i++)
		duct_batch_unref(f->lacks[i].found);
	return rc;
}

/* Where the slice ends: rows that are wide in their files are few at once. */
static size_t slice_end(const struct lack *lacks, size_t from, size_t n, size_t take)
{
	size_t end = from + 1;
	for (size_t bytes = lacks[from].row_bytes; end < n && end - from < take; end++) {
		bytes += lacks[end].row_bytes;
		if (bytes > SLICE_BYTES)
			break;
	}
	return end;
}

static size_t patched_bytes(const struct ducklake *d, size_t first)
{
	size_t bytes = 0;
	for (size_t i = first; i < d->npatched; i++)
		bytes += d->patched[i]->arena.bytes;
	return bytes;
}

/* Completed rows go to files; their memory is free again. */
static int write_patched(struct ducklake *d, struct mirror *m, size_t first, const struct lack *lacks, size_t n,
			 struct duct_error *err)
{
	AUTO_FREE uint32_t *slots = duct_xmalloc((n + 1) * sizeof *slots);
	for (size_t i = 0; i < n; i++)
		slots[i] = lacks[i].slot;
	int rc = mirror_write_slots(d, m, slots, n, err);
	while (rc == 0 && d->npatched > first)
		duct_batch_unref(d->patched[--d->npatched]);
	return rc;
}

/* How many rows until the slice is full, by the size of those before. */
static size_t next_take(size_t last, size_t rows, size_t bytes)
{
	size_t left = bytes < SLICE_BYTES ? SLICE_BYTES - bytes : SLICE_BYTES;
	size_t fit = left / (bytes / (rows + 1) + 1) + 1, most = last * 8;
	fit = fit < most ? fit : most;
	return fit < MOST_SLICE ? fit : MOST_SLICE;
}

static int fill_all(struct filling *f, struct lack *lacks, size_t n, struct duct_error *err)
{
	struct ducklake *d = f->d;
	size_t first = d->npatched, written = 0, take = FIRST_SLICE;
	int rc = 0;
	for (size_t from = 0; from < n && rc == 0; from += f->n) {
		f->lacks = lacks + from;
		f->n = slice_end(lacks, from, n, take) - from;
		rc = fill_slice(f, err);
		size_t end = from + f->n, bytes = patched_bytes(d, first);
		take = next_take(take, end - written, bytes);
		if (rc < 0 || (bytes < SLICE_BYTES && (end < n || !written)))
			continue;
		rc = write_patched(d, f->m, first, lacks + written, end - written, err);
		written = end;
	}
	return rc;
}

/* What was read back for a table since `before`. */
static void log_read(const struct filling *f, const struct lake_points_counts *before)
{
	struct lake_points_counts after = lake_points_counts(f->d->points);
	log_debug(f->d->ctx->log, "unsent values read back", LOG_STR("table", f->m->rel->name),
		  LOG_U64("rows", after.rows - before->rows), LOG_U64("bytes", after.bytes - before->bytes),
		  LOG_U64("reads", after.reads - before->reads), LOG_U64("pages", after.pages - before->pages),
		  LOG_U64("rows_through_duckdb", after.elsewhere_rows - before->elsewhere_rows));
}

int mirror_fill_unsent(struct ducklake *d, struct mirror *m, bool commit, struct duct_error *err)
{
	struct fold *fold = m->fold;
	struct filling f = {.d = d, .m = m, .may_lack = d->replay && !commit};
	size_t cap = 0;
	for (size_t i = 0; i < fold->nslots; i++) {
		if (!fold->slots[i].batch || fold->slots[i].behind < 0)
			continue;
		f.lacks = duct_grow(f.lacks, &cap, f.n + 1, sizeof *f.lacks);
		f.lacks[f.n] = (struct lack){.slot = (uint32_t)i};
		stored_place(&f, &f.lacks[f.n++]);
	}
	if (!f.n)
		return 0;
	struct lack *lacks = f.lacks;
	qsort(lacks, f.n, sizeof *lacks, compare_lacks);
	f.ncolumns = lake_txn_columns(mirror_table(d, m), &f.columns);
	choose_wanted(&f);
	struct lake_points_counts before = lake_points_counts(d->points);
	int rc = fill_all(&f, lacks, f.n, err);
	log_read(&f, &before);
	free(lacks);
	free(f.wanted);
	free(f.wanted_at);
	return rc;
}

int mirror_check_lacking(struct ducklake *d, const struct mirror *m, struct duct_error *err)
{
	for (size_t i = 0; i < d->nasides; i++) {
		struct aside *a = &d->asides[i];
		if (a->mirror != m || !a->lacking.n)
			continue;
		int64_t at;
		lake_positions_sort(&a->dead);
		for (struct lake_positions_walk walk = {.positions = &a->lacking}; lake_positions_next(&walk, &at);)
			if (!lake_positions_has(&a->dead, at))
				return mirror_lacks_value(m->rel, m->lacking, err);
	}
	return 0;
}
