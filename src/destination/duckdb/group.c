/* The open group: changes are folded per key until they are applied. See duckdb.h. */
#include "destination/duckdb/slots.h"

#include "base/clock.h"
#include "wire/wire.h"

#include <string.h>

enum { FOLD_ROW_BYTES = 128 }; /* about what folding needs per changed row beside the row itself */

static void release_rows(struct duckdb_dest *d)
{
	for (size_t i = 0; i < d->nheld; i++)
		duct_changes_free(d->held[i]);
	d->nheld = 0;
	d->pending_bytes = 0;
	d->pending_rows = 0;
}

void dd_group_reset(struct duckdb_dest *d)
{
	release_rows(d);
	for (size_t i = 0; i < d->ntables; i++) {
		if (d->tables[i]->folded)
			fold_reset(d->tables[i]->fold);
		d->tables[i]->folded = d->tables[i]->twin = false;
	}
	d->partial = false;
	d->source_rows = 0;
	d->opened_us = 0;
}

bool dd_group_is_full(const struct duckdb_dest *d)
{
	return d->pending_rows >= (size_t)d->config->flush_rows || d->pending_bytes >= (size_t)d->config->flush_bytes;
}

int dd_group_apply(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < d->ntables && rc == 0; i++)
		if (d->tables[i]->folded)
			rc = dd_apply(d, d->tables[i], err);
	if (rc == 0)
		release_rows(d);
	return rc;
}

/* Folding of one batch. */
struct folding {
	struct duckdb_dest *d;
	struct dd_table *t;
	const struct duct_batch *batch;
	struct wire_rows rows;
	int *keys;
	int nkeys;
	struct lake_hasher hasher;
	struct lake_key_hash old, new; /* of the row that is spoken of, and of what it becomes */
};

static void hash_row(struct folding *f, uint32_t row)
{
	int32_t old = f->batch->old_row[row];
	if (f->batch->op[row] != DUCT_DELETE || old < 0)
		f->new = lake_hash_row(&f->hasher, f->batch->columns, row);
	f->old = old < 0 ? f->new : lake_hash_row(&f->hasher, f->batch->old, (uint32_t)old);
	if (f->batch->op[row] == DUCT_DELETE)
		f->new = f->old;
}

/* Slots that came with the row remember where their key can be read; the slots of both keys, what happened to them. */
static void note(struct folding *f, uint32_t row, size_t first)
{
	struct dd_table *t = f->t;
	int32_t old = f->batch->old_row[row];
	uint64_t lsn = wire_row_pos(&f->rows, row).lsn;
	t->slots = duct_grow(t->slots, &t->slots_cap, t->fold->nslots, sizeof *t->slots);
	for (size_t i = first; i < t->fold->nslots; i++) {
		bool is_old = old >= 0 && t->fold->slots[i].base_present;
		t->slots[i] = (struct dd_slot){.batch = f->batch, .row = is_old ? (uint32_t)old : row, .old = is_old};
	}
	if (!f->d->config->meta_table_enabled)
		return;
	struct lake_key_hash hashes[] = {f->old, f->new};
	for (int i = 0; i < 2; i++) {
		int64_t slot = fold_find(t->fold, hashes[i]);
		if (slot >= 0) {
			t->slots[slot].op = t->fold->slots[slot].live ? (enum duct_op)f->batch->op[row] : DUCT_DELETE;
			t->slots[slot].lsn = lsn;
		}
	}
}

static void print_key(struct folding *f, uint32_t row, struct duct_buf *to)
{
	int32_t old = f->batch->old_row[row];
	lake_key_print(to, f->batch->relation, old >= 0 ? f->batch->old : f->batch->columns, f->keys, f->nkeys,
		       old >= 0 ? (uint32_t)old : row);
}

static int drift(struct folding *f, uint32_t row, const char *what, struct duct_error *err)
{
	const struct duct_relation *rel = f->batch->relation;
	AUTO_BUF struct duct_buf key = {0};
	print_key(f, row, &key);
	return duct_fail(
		err, DUCT_FATAL,
		"database and source differ at \"%s\".\"%s\" key (%s): %s; set option on_drift to repair to take the source's row",
		rel->schema, rel->name, key.data ? key.data : "", what);
}

static bool repairs(const struct folding *f)
{
	return f->d->replay || f->t->incomplete || f->batch->relation->may_lack || f->d->config->on_drift == DD_DRIFT_REPAIR;
}

/* An update or delete of a row that the group knows not to be there. */
static int fold_lacking_row(struct folding *f, uint32_t row, struct duct_error *err)
{
	const struct duct_relation *rel = f->batch->relation;
	if (!repairs(f))
		return drift(f, row, "an updated or deleted row is not there", err);
	if (f->batch->op[row] == DUCT_DELETE)
		return 0;
	for (int i = 0; i < rel->ncolumns; i++)
		if (!duct_vector_is_sent(&f->batch->columns[i], row))
			return duct_fail(
				err, DUCT_DATA,
				"column \"%s\" of \"%s\".\"%s\": the source did not send an unchanged value that the database does not have",
				rel->columns[i].name, rel->schema, rel->name);
	(void)fold_insert(f->t->fold, f->new, f->batch, row);
	return 0;
}

/* An inserted row, or a row under a new key, finds a row of that key in the group. */
static int take_place(struct folding *f, uint32_t row, struct duct_error *err)
{
	if (!f->batch->relation->upsert && !repairs(f))
		return drift(f, row, "an inserted row is there already", err);
	(void)fold_delete(f->t->fold, f->new);
	return 0;
}

static int fold_row(struct folding *f, uint32_t row, struct duct_error *err)
{
	struct fold *fold = f->t->fold;
	enum fold_outcome outcome = FOLD_OK;
	enum duct_op op = (enum duct_op)f->batch->op[row];
	size_t first = fold->nslots;
	int rc = 0;
	if (op == DUCT_TRUNCATE)
		return dd_truncate(f->d, f->t, wire_row_pos(&f->rows, row).lsn, err);
	hash_row(f, row);
	bool moves = op == DUCT_UPDATE && (f->old.high != f->new.high || f->old.low != f->new.low);
	if (!fold->bag && (op == DUCT_INSERT || op == DUCT_READ || moves) && fold_is_live(fold, f->new))
		rc = take_place(f, row, err);
	if (rc)
		return rc;
	if (op == DUCT_DELETE)
		outcome = fold_delete(fold, f->old);
	else if (op == DUCT_UPDATE)
		outcome = fold_update(fold, f->old, f->new, f->batch, row);
	else
		outcome = fold_insert(fold, f->new, f->batch, row);
	if (outcome == FOLD_MISSING)
		rc = fold_lacking_row(f, row, err);
	note(f, row, first);
	return rc;
}

static int append_row(struct folding *f, uint32_t row, struct duct_error *err)
{
	const struct duct_relation *rel = f->batch->relation;
	enum duct_op op = (enum duct_op)f->batch->op[row];
	if (op == DUCT_TRUNCATE)
		return dd_truncate(f->d, f->t, wire_row_pos(&f->rows, row).lsn, err);
	if (op != DUCT_INSERT && op != DUCT_READ)
		return duct_fail(err, DUCT_FATAL, "table \"%s\".\"%s\" has no key, but its source sent an update or delete",
				 rel->schema, rel->name);
	fold_append_row(f->t->fold, f->batch, row);
	return 0;
}

int dd_truncate(struct duckdb_dest *d, struct dd_table *t, uint64_t lsn, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	fold_truncate(t->fold);
	t->modified = true;
	duct_buf_puts(&sql, "DELETE FROM ");
	dd_name(&sql, t->schema, t->name);
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc == 0)
		rc = twin_truncate(d, t, err);
	if (rc == 0)
		rc = dd_meta_prepare(d, t, err);
	return rc ? rc : dd_meta_clear(d, t, lsn, true, err);
}

static int *key_columns(const struct dd_table *t, int *ret_n)
{
	const struct duct_relation *rel = t->rel;
	int n = t->mode == DD_KEYED ? rel->nkeys : rel->ncolumns;
	int *keys = duct_xmalloc(((size_t)n + 1) * sizeof *keys);
	for (int i = 0; i < n; i++)
		keys[i] = t->mode == DD_KEYED ? rel->keys[i] : i;
	*ret_n = n;
	return keys;
}

static int fold_batch(struct duckdb_dest *d, const struct duct_changes *changes, const struct duct_batch *batch,
		      struct duct_error *err)
{
	struct folding f = {.d = d, .batch = batch, .rows = wire_all_rows(changes, batch)};
	int rc = dd_table_get(d, batch->relation, &f.t, err);
	if (rc || f.t->gone || destination_skips_replay(d->replay, f.t->rel, f.t->mode == DD_KEYED, &d->refused))
		return rc;
	f.keys = key_columns(f.t, &f.nkeys);
	f.hasher = (struct lake_hasher){.seed = d->seed, .keys = f.keys, .nkeys = f.nkeys, .exact = f.t->mode == DD_BAG};
	f.t->folded = true;
	if (f.t->recopies) {
		f.t->recopies = 0;
		f.t->changed = true;
	}
	for (uint32_t row = 0; row < batch->rows && rc == 0; row++)
		rc = f.t->mode == DD_APPEND ? append_row(&f, row, err) : fold_row(&f, row, err);
	free(f.keys);
	duct_buf_done(&f.hasher.scratch);
	return rc;
}

int dd_group_commit(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = destination_check_refused(&d->refused, err);
	if (rc == 0)
		rc = dd_group_apply(d, err);
	for (size_t i = 0; i < d->ntables && rc == 0; i++)
		rc = d->tables[i]->twin ? twin_finish(d, d->tables[i], err) : 0;
	if (rc == 0)
		rc = dd_commit(d, DUCT_STATE_STREAMING, &d->upto, d->checkpoint.source_identity, err);
	if (rc)
		return rc;
	dd_group_reset(d);
	d->last_commit_us = duct_mono_us();
	return 0;
}

/* DuckDB does not alter a table whose rows the transaction has changed: what is whole is committed before. */
static int commit_before_new_shape(struct duckdb_dest *d, const struct duct_changes *changes, struct duct_error *err)
{
	for (size_t i = 0; i < changes->nbatches && d->opened_us && !d->partial && !d->replay; i++) {
		const struct dd_table *t = dd_table_find(d, changes->batches[i]->relation->oid);
		if (t && (t->folded || t->modified) && dd_table_differs(t, changes->batches[i]->relation))
			return dd_group_commit(d, err);
	}
	return 0;
}

int dd_group_write(struct duckdb_dest *d, struct duct_changes *changes, struct duct_error *err)
{
	int rc = d->sink ? tablesink_changes(d->sink, &changes, err) : 0;
	if (rc == 0)
		rc = commit_before_new_shape(d, changes, err);
	if (rc == 0 && changes->nbatches)
		rc = dd_begin(d, err);
	d->held = duct_grow(d->held, &d->held_cap, d->nheld + 1, sizeof *d->held);
	d->held[d->nheld++] = changes;
	for (size_t i = 0; i < changes->nbatches && rc == 0; i++)
		rc = fold_batch(d, changes, changes->batches[i], err);
	if (rc)
		return rc;
	if (!d->opened_us)
		d->opened_us = duct_mono_us();
	if (changes->upto.lsn > d->upto.lsn)
		d->upto.lsn = changes->upto.lsn;
	if (changes->upto.commit_us && changes->upto.lsn >= d->upto.lsn)
		d->upto.commit_us = changes->upto.commit_us;
	d->partial = !changes->ends_commit;
	d->pending_bytes += changes->bytes;
	d->pending_rows += changes->rows;
	d->source_rows += changes->rows;
	size_t waiting = d->pending_bytes + d->pending_rows * FOLD_ROW_BYTES;
	if ((d->partial || d->replay) &&
	    (waiting > (size_t)d->config->flush_bytes || d->pending_rows > (size_t)d->config->flush_rows))
		return dd_group_apply(d, err);
	return 0;
}
