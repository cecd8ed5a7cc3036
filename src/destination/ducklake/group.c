/* The open group: changes are folded per mirror until the commit. See ducklake.h. */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"
#include "base/killpoint.h"

#include <string.h>

struct lake_txn *group_txn(struct ducklake *d)
{
	if (!d->txn)
		d->txn = lake_txn_new(d->lake);
	return d->txn;
}

static void release_rows(struct ducklake *d)
{
	for (size_t i = 0; i < d->nheld; i++)
		duct_changes_free(d->held[i]);
	for (size_t i = 0; i < d->npatched; i++)
		duct_batch_unref(d->patched[i]);
	d->nheld = d->npatched = 0;
	d->pending_bytes = 0;
	d->pending_rows = 0;
}

void group_reset(struct ducklake *d)
{
	if (d->txn && !d->sent)
		lake_txn_unlink_files(d->txn); /* a full disk is not filled again by each attempt */
	d->sent = false;
	release_rows(d);
	for (size_t i = 0; i < d->nasides; i++) {
		free(d->asides[i].path);
		lake_positions_done(&d->asides[i].dead);
		lake_positions_done(&d->asides[i].borrowed);
		lake_positions_done(&d->asides[i].lacking);
	}
	for (size_t i = 0; i < d->ntouched; i++) {
		struct mirror *m = d->touched[i];
		if (m->fold)
			fold_reset(m->fold);
		mirror_unsettle(m);
		m->t = NULL;
		free(m->lacking);
		m->lacking = NULL;
		m->in_group = m->truncated = m->inlines = false;
	}
	lake_txn_free(d->txn);
	d->txn = NULL;
	d->nasides = d->ntouched = 0;
	d->has_upto = d->partial = false;
	d->copy_again = NULL;
	d->source_rows = 0;
	d->opened_us = 0;
}

enum { AHEAD = 16 }; /* rows: where a key is in the fold's table is fetched meanwhile */

/* Folding of one batch into its mirror. */
struct folding {
	struct ducklake *d;
	struct mirror *m;
	const struct duct_batch *batch;
	int *keys;
	int nkeys;
	struct lake_hasher hasher;
	struct hashes {
		struct lake_key_hash old, new; /* of the row that is spoken of, and of what it becomes */
	} hashes[AHEAD];		       /* of the next rows, in turn */
};

static void hash_row(struct folding *f, uint32_t row)
{
	struct hashes *h = &f->hashes[row % AHEAD];
	int32_t old = f->batch->old_row[row];
	uint8_t op = f->batch->op[row];
	if (op == DUCT_TRUNCATE)
		return;
	if (op != DUCT_DELETE || old < 0)
		h->new = lake_hash_row(&f->hasher, f->batch->columns, row);
	h->old = old < 0 ? h->new : lake_hash_row(&f->hasher, f->batch->old, (uint32_t)old);
	fold_prefetch(f->m->fold, h->old);
}

static int drift(struct folding *f, uint32_t row, const char *what, struct duct_error *err)
{
	const struct duct_relation *rel = f->batch->relation;
	AUTO_BUF struct duct_buf key = {0};
	int32_t old = f->batch->old_row[row];
	if (old >= 0)
		lake_key_print(&key, rel, f->batch->old, f->keys, f->nkeys, (uint32_t)old);
	else
		lake_key_print(&key, rel, f->batch->columns, f->keys, f->nkeys, row);
	return mirror_drift(rel, key.data ? key.data : "", what, err);
}

void group_truncate(struct ducklake *d, struct mirror *m)
{
	lake_txn_truncate(group_txn(d), mirror_table(d, m));
	m->truncated = true;
	fold_truncate(m->fold);
	/* What the group wrote aside for this table is void: all its rows die at birth. */
	mirror_unsettle(m);
	for (size_t i = 0; i < d->nasides; i++) {
		struct aside *a = &d->asides[i];
		if (a->mirror != m)
			continue;
		lake_positions_done(&a->dead);
		for (int64_t p = 0; p < a->rows; p++)
			lake_positions_add(&a->dead, p, a->rows);
	}
}

/* An update or delete of a row that the group knows not to be there; only of a relation whose rows may lack. */
static int fold_lacking_row(struct folding *f, uint32_t row, struct duct_error *err)
{
	const struct duct_relation *rel = f->batch->relation;
	if (f->batch->op[row] == DUCT_DELETE)
		return 0;
	for (int i = 0; i < rel->ncolumns; i++)
		if (!duct_vector_is_sent(&f->batch->columns[i], row))
			return mirror_lacks_value(rel, rel->columns[i].name, err);
	if (fold_insert(f->m->fold, f->hashes[row % AHEAD].new, f->batch, row) == FOLD_OK)
		return 0;
	return drift(f, row, "an inserted row is there already", err);
}

/* Where an inserted row, or one under a new key, may find a row of that key, it takes its place. */
static void clear_place(struct folding *f, uint32_t row, struct hashes hashes)
{
	uint8_t op = f->batch->op[row];
	bool moves = op == DUCT_UPDATE && (hashes.old.high != hashes.new.high || hashes.old.low != hashes.new.low);
	if ((op == DUCT_INSERT || op == DUCT_READ || moves) && fold_is_live(f->m->fold, hashes.new))
		(void)fold_delete(f->m->fold, hashes.new);
}

static int fold_keyed_row(struct folding *f, uint32_t row, struct duct_error *err)
{
	struct fold *fold = f->m->fold;
	const struct hashes hashes = f->hashes[row % AHEAD];
	enum fold_outcome outcome = FOLD_OK;
	if (f->batch->relation->upsert)
		clear_place(f, row, hashes);
	switch ((enum duct_op)f->batch->op[row]) {
	case DUCT_INSERT:
	case DUCT_READ: outcome = fold_insert(fold, hashes.new, f->batch, row); break;
	case DUCT_UPDATE: outcome = fold_update(fold, hashes.old, hashes.new, f->batch, row); break;
	case DUCT_DELETE: outcome = fold_delete(fold, hashes.old); break;
	case DUCT_TRUNCATE: group_truncate(f->d, f->m); return 0;
	}
	if (outcome == FOLD_MISSING && f->batch->relation->may_lack)
		return fold_lacking_row(f, row, err);
	int rc = outcome == FOLD_OK ? 0 : ducklake_doubt(f->d, f->m, err);
	if (rc < 0)
		return rc;
	if (outcome == FOLD_DUPLICATE)
		return drift(f, row, "an inserted row is there already", err);
	if (outcome == FOLD_MISSING)
		return drift(f, row, "an updated or deleted row is not there", err);
	return 0;
}

static int fold_append_only(struct folding *f, uint32_t row, struct duct_error *err)
{
	switch ((enum duct_op)f->batch->op[row]) {
	case DUCT_INSERT:
	case DUCT_READ: fold_append_row(f->m->fold, f->batch, row); return 0;
	case DUCT_TRUNCATE: group_truncate(f->d, f->m); return 0;
	case DUCT_UPDATE:
	case DUCT_DELETE: break;
	}
	return duct_fail(err, DUCT_FATAL, "table \"%s\".\"%s\" has no key, but its source sent an update or delete",
			 f->batch->relation->schema, f->batch->relation->name);
}

static int fold_keyed(struct folding *f, struct duct_error *err)
{
	int rc = 0;
	for (uint32_t row = 0; row < f->batch->rows && row < AHEAD; row++)
		hash_row(f, row);
	for (uint32_t row = 0; row < f->batch->rows && rc == 0; row++) {
		rc = fold_keyed_row(f, row, err);
		if (row + AHEAD < f->batch->rows)
			hash_row(f, row + AHEAD);
	}
	return rc;
}

static int fold_appends(struct folding *f, struct duct_error *err)
{
	int rc = 0;
	for (uint32_t row = 0; row < f->batch->rows && rc == 0; row++)
		rc = fold_append_only(f, row, err);
	return rc;
}

static int fold_batch(struct ducklake *d, const struct duct_batch *batch, struct duct_error *err)
{
	struct folding f = {.d = d, .batch = batch};
	int rc = mirror_get(d, batch->relation, &f.m, err);
	if (rc < 0)
		return rc;
	if (destination_skips_replay(d->replay, f.m->rel, f.m->mode == MIRROR_KEYED, &d->refused))
		return 0;
	(void)mirror_table(d, f.m);
	f.keys = mirror_key_columns(f.m, batch->relation, &f.nkeys);
	f.hasher = mirror_hasher(d, f.m, f.keys, f.nkeys);
	rc = f.m->mode == MIRROR_APPEND ? fold_appends(&f, err) : fold_keyed(&f, err);
	free(f.keys);
	duct_buf_done(&f.hasher.scratch);
	return rc;
}

enum { FOLD_ROW_BYTES = 128 }; /* about what folding and writing need per changed row beside the row itself */

/* The group has grown past its limit: what is pending goes to files, so that memory can go. */
static int write_all_aside(struct ducklake *d, struct duct_error *err)
{
	for (size_t i = 0; i < d->ntouched; i++) {
		int rc = mirror_write_aside(d, d->touched[i], false, err);
		if (rc == 0)
			rc = mirror_settle(d, d->touched[i], err);
		if (rc < 0)
			return rc;
	}
	release_rows(d);
	duct_kill_point("window-settled");
	return 0;
}

/* Rows of another key cannot be folded with what is open: that is committed first. */
static int commit_before_new_key(struct ducklake *d, const struct duct_changes *changes, struct duct_error *err)
{
	for (size_t i = 0; i < changes->nbatches && d->ntouched && !d->partial && !d->replay; i++) {
		struct mirror *m = mirror_find(d, changes->batches[i]->relation->oid);
		struct duct_commit_result ignored;
		if (m && m->in_group && mirror_changes_key(d, m, changes->batches[i]->relation))
			return group_commit(d, &ignored, err);
	}
	return 0;
}

bool group_is_full(const struct ducklake *d)
{
	return d->pending_rows >= (size_t)d->config->flush_rows || d->pending_bytes >= (size_t)d->config->flush_bytes;
}

int group_write(struct ducklake *d, struct duct_changes *changes, struct duct_error *err)
{
	int rc = commit_before_new_key(d, changes, err);
	if (rc < 0) {
		duct_changes_free(changes);
		return rc;
	}
	d->held = duct_grow(d->held, &d->held_cap, d->nheld + 1, sizeof *d->held);
	d->held[d->nheld++] = changes;
	for (size_t i = 0; i < changes->nbatches; i++) {
		rc = fold_batch(d, changes->batches[i], err);
		if (rc < 0)
			return rc;
	}
	if (!d->opened_us)
		d->opened_us = duct_mono_us();
	if (changes->upto.lsn > d->upto.lsn) {
		d->upto.lsn = changes->upto.lsn;
		d->has_upto = true;
	}
	if (changes->upto.commit_us && changes->upto.lsn >= d->upto.lsn)
		d->upto.commit_us = changes->upto.commit_us;
	d->partial = !changes->ends_commit;
	d->pending_bytes += changes->bytes;
	d->pending_rows += changes->rows;
	d->source_rows += changes->rows;
	size_t waiting = d->pending_bytes + d->pending_rows * FOLD_ROW_BYTES;
	if ((d->partial || d->replay) &&
	    (waiting > (size_t)d->config->flush_bytes || d->pending_rows > (size_t)d->config->flush_rows))
		return write_all_aside(d, err);
	return 0;
}
