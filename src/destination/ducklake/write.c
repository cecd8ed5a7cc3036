/* Pending rows become Parquet files aside; the old rows of updates and deletes are looked up. See ducklake.h. */
#include "destination/ducklake/ducklake.h"

#include "lake/orphans.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

int aside_add(struct ducklake *d, struct mirror *m, struct lake_txn_table *into, struct lake_new_file *file)
{
	d->asides = duct_grow(d->asides, &d->asides_cap, d->nasides + 1, sizeof *d->asides);
	d->asides[d->nasides] = (struct aside){
		.mirror = m,
		.path = duct_xstrdup(file->path),
		.rows = file->record_count,
		.size_bytes = file->size_bytes,
		.explicit_row_ids = file->explicit_row_ids,
	};
	int ordinal = lake_txn_add_file(d->txn, into ? into : mirror_table(d, m), file);
	d->nasides++;
	return ordinal;
}

struct lake_write_spec ducklake_write_spec(struct ducklake *d, struct mirror *m, bool row_ids)
{
	struct lake_txn_table *t = mirror_table(d, m);
	const char *codec = mirror_option(d, m, "parquet_compression");
	struct lake_write_spec spec = {
		.dir = lake_txn_table_path(t),
		.row_ids = row_ids,
		.compression = codec ? codec : d->config->compression,
	};
	const char *version = mirror_option(d, m, "parquet_version");
	spec.first_version = version && strcasecmp(version, "V1") == 0; /* as the official client writes it down */
	if (strcasecmp(spec.compression, "zstd") == 0)
		spec.compression_level = (int)d->config->compression_level;
	spec.ncolumns = lake_txn_columns(t, &spec.columns);
	return spec;
}

/* An index that was built while others flushed may lack what they moved: their commit is there by then. */
static int drifted(struct ducklake *d, struct mirror *m, const struct fold_slot *s, const char *what, struct duct_error *err)
{
	AUTO_BUF struct duct_buf key = {0};
	bool moved = false;
	int rc = lake_moved(d->lake, &moved, err);
	if (rc < 0)
		return rc;
	if (moved)
		return duct_fail(err, DUCT_RETRY,
				 "table \"%s\".\"%s\": others changed the lake while it was read: reading it again", m->rel->schema,
				 m->rel->name);
	if (s->batch && m->mode == MIRROR_KEYED)
		lake_key_print(&key, s->batch->relation, s->batch->columns, s->batch->relation->keys, s->batch->relation->nkeys,
			       s->row);
	else
		duct_buf_printf(&key, "hash %016llx", (unsigned long long)s->hash.high);
	return mirror_drift(m->rel, key.data, what, err);
}

/* Where the slot's base row is. */
static enum fold_prior find_prior(const struct mirror *m, const struct fold_slot *s, struct lake_place *ret)
{
	unsigned nth = s->nth;
	*ret = (struct lake_place){.row_id = -1};
	if (m->mode == MIRROR_BAG && !s->base_present)
		return FOLD_NOWHERE; /* any number of equal rows may be there */
	enum fold_prior prior = m->settled ? settled_find(m, s, &nth, ret) : FOLD_NOWHERE;
	/* After a truncate the lake's rows do not count; a table made by this group has none. */
	if (prior == FOLD_NOWHERE && m->index && !m->truncated && lake_index_get(m->index, s->hash, nth, ret))
		prior = FOLD_LAKE;
	return prior;
}

/* Finds the base rows of updates and deletes; makes sure that inserted keys are new. */
static int resolve(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	struct fold *f = m->fold;
	bool repair = d->replay || m->incomplete || m->takes_staged || m->copy_again || m->rel->may_lack || m->rel->upsert ||
		d->config->on_drift == DRIFT_REPAIR;
	for (size_t i = 0; i < f->nslots; i++) {
		struct fold_slot *s = &f->slots[i];
		if (m->index && i + LAKE_INDEX_AHEAD < f->nslots)
			lake_index_prefetch(m->index, f->slots[i + LAKE_INDEX_AHEAD].hash);
		s->prior = find_prior(m, s, &s->place);
		bool there = s->prior == FOLD_LAKE || s->prior == FOLD_WRITTEN;
		bool drift = s->base_present != there;
		if (drift && there && !repair) {
			int rc = ducklake_doubt(d, m, err);
			if (rc < 0)
				return rc;
		}
		if (drift && !repair)
			return drifted(d, m, s,
				       there ? "an inserted row is in the lake already"
					     : "an updated or deleted row is not in the lake",
				       err);
		if (drift)
			s->base_present = there; /* the source is right: replace the row, or begin it here */
	}
	return 0;
}

/* Rows for one file: the pending inserts, or the pending updates, of a mirror. */
struct feed {
	struct mirror *m;
	struct lake_row_ref *rows;
	int64_t *row_ids; /* NULL: inserts */
	uint32_t *slots;
	size_t n;
	bool given;
};

static int feed_next(void *arg, const struct lake_row_ref **rows, const int64_t **row_ids, size_t *n, struct duct_error *err)
{
	(void)err;
	struct feed *f = arg;
	*rows = f->rows;
	*row_ids = f->row_ids;
	*n = f->given ? 0 : f->n;
	f->given = true;
	return 0;
}

static const int *feed_map(void *arg, const struct duct_relation *rel)
{
	return mirror_map(((struct feed *)arg)->m, rel);
}

static int write_feed(struct ducklake *d, struct feed *f, bool row_ids, int *ret_aside, struct duct_error *err)
{
	struct lake_write_spec spec = ducklake_write_spec(d, f->m, row_ids);
	struct lake_rows rows = {.next = feed_next, .map = feed_map, .arg = f};
	struct lake_new_file *file;
	bool more;
	int rc = lake_write_file(&spec, &rows, &file, &more, err);
	if (rc < 0)
		return duct_wrap(err, "table \"%s\".\"%s\"", f->m->rel->schema, f->m->rel->name);
	*ret_aside = aside_add(d, f->m, NULL, file);
	return 0;
}

/* A row that the lake has keeps its row id, also when it was deleted and comes again. */
static bool is_update(const struct fold_slot *s)
{
	return s->place.row_id >= 0;
}

/* Writes the pending rows of one kind. */
static int write_kind(struct ducklake *d, struct mirror *m, bool updates, const uint32_t *slots, size_t nslots,
		      struct duct_error *err)
{
	struct fold *fold = m->fold;
	size_t n = 0;
	for (size_t i = 0; i < nslots; i++) {
		const struct fold_slot *s = &fold->slots[slots ? slots[i] : i];
		n += s->batch && is_update(s) == updates;
	}
	if (!n)
		return 0;
	struct feed f = {.m = m, .rows = duct_xmalloc(n * sizeof *f.rows), .slots = duct_xmalloc(n * sizeof *f.slots)};
	if (updates)
		f.row_ids = duct_xmalloc(n * sizeof *f.row_ids);
	for (size_t i = 0; i < nslots; i++) {
		uint32_t slot = slots ? slots[i] : (uint32_t)i;
		const struct fold_slot *s = &fold->slots[slot];
		if (!s->batch || is_update(s) != updates)
			continue;
		f.rows[f.n] = (struct lake_row_ref){s->batch, s->row};
		if (updates)
			f.row_ids[f.n] = s->place.row_id;
		f.slots[f.n++] = slot;
	}
	int aside, rc = write_feed(d, &f, updates, &aside, err);
	for (size_t i = 0; i < f.n && rc == 0; i++) {
		struct fold_slot *s = &fold->slots[f.slots[i]];
		s->batch = NULL;
		s->behind = -1;
		s->aside = aside;
		s->aside_pos = (uint32_t)i;
		if (s->borrowed)
			lake_positions_add(s->borrowed == FOLD_LACKING ? &d->asides[aside].lacking : &d->asides[aside].borrowed,
					   (int64_t)i, (int64_t)f.n);
	}
	free(f.rows);
	free(f.row_ids);
	free(f.slots);
	return rc;
}

int mirror_write_slots(struct ducklake *d, struct mirror *m, const uint32_t *slots, size_t n, struct duct_error *err)
{
	if (!slots)
		n = m->fold->nslots;
	int rc = write_kind(d, m, false, slots, n, err);
	return rc == 0 ? write_kind(d, m, true, slots, n, err) : rc;
}

static int write_appends(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	struct fold *fold = m->fold;
	if (!fold->nappends)
		return 0;
	struct feed f = {.m = m, .n = fold->nappends, .rows = duct_xmalloc(fold->nappends * sizeof *f.rows)};
	for (size_t i = 0; i < f.n; i++)
		f.rows[i] = (struct lake_row_ref){fold->appends[i].batch, fold->appends[i].row};
	int aside, rc = write_feed(d, &f, false, &aside, err);
	free(f.rows);
	fold->nappends = 0;
	return rc;
}

/* A transaction that is larger than memory may be on its way for hours, its first files with it. */
static int renew_asides(struct ducklake *d, struct duct_error *err)
{
	return d->txn && lake_renewal_due(&d->renewed_us) ? lake_txn_renew_files(d->txn, err) : 0;
}

int mirror_write_aside(struct ducklake *d, struct mirror *m, bool commit, struct duct_error *err)
{
	if (!m->fold || (!m->fold->nslots && !m->fold->nappends))
		return 0;
	if (renew_asides(d, err))
		return -(int)err->class;
	if (m->mode == MIRROR_APPEND)
		return commit && mirror_inline(d, m) ? 0 : write_appends(d, m, err);
	int rc = mirror_load(d, m, err);
	if (rc == 0)
		rc = resolve(d, m, err);
	if (rc == 0)
		rc = mirror_fill_unsent(d, m, commit, err);
	if (rc == 0 && commit && mirror_inline(d, m))
		return 0;
	if (rc == 0)
		rc = mirror_write_slots(d, m, NULL, 0, err);
	m->fold->nversions = 0;
	return rc;
}
