/* Folding of changes per key: see fold.h. */
#include "destination/fold.h"

#include "base/mem.h"

#include <string.h>

enum { FIRST_TABLE = 32 /* one per table */, KEPT_SLOTS = 1 << 18 };

struct fold *fold_new(bool bag)
{
	struct fold *f = duct_xcalloc(1, sizeof *f);
	f->bag = bag;
	return f;
}

void fold_free(struct fold *f)
{
	if (!f)
		return;
	free(f->slots);
	free(f->table);
	free(f->versions);
	free(f->appends);
	free(f);
}

void fold_reset(struct fold *f)
{
	if (f->nslots < f->slots_cap / 4 || f->nslots > KEPT_SLOTS) {
		struct fold empty = {.bag = f->bag};
		free(f->slots);
		free(f->table);
		free(f->versions);
		free(f->appends);
		*f = empty;
		return;
	}
	if (f->table)
		memset(f->table, 0, f->table_size * sizeof *f->table);
	f->nslots = f->nversions = f->nappends = 0;
	f->truncated = false;
}

static bool same(struct lake_key_hash a, struct lake_key_hash b)
{
	return a.high == b.high && a.low == b.low;
}

static uint32_t tag_of(struct lake_key_hash hash)
{
	return (uint32_t)(hash.high >> 32);
}

static size_t home_of(const struct fold *f, struct lake_key_hash hash)
{
	return hash.high & (f->table_size - 1);
}

/* Entry of the hash in the table, or the free entry where it belongs. */
static struct fold_entry *entry(struct fold *f, struct lake_key_hash hash)
{
	size_t mask = f->table_size - 1;
	uint32_t tag = tag_of(hash);
	for (size_t i = home_of(f, hash);; i = (i + 1) & mask) {
		struct fold_entry *e = &f->table[i];
		if (!e->slot || (e->tag == tag && same(f->slots[e->slot - 1].hash, hash)))
			return e;
	}
}

void fold_prefetch(const struct fold *f, struct lake_key_hash hash)
{
	if (f->table_size)
		__builtin_prefetch(&f->table[home_of(f, hash)], 1);
}

static void grow_table(struct fold *f)
{
	if ((f->nslots + 1) * 2 <= f->table_size)
		return;
	f->table_size = f->table_size ? f->table_size * 2 : FIRST_TABLE;
	free(f->table);
	f->table = duct_xcalloc(f->table_size, sizeof *f->table);
	for (size_t i = 0; i < f->nslots; i++) {
		struct fold_entry *e = entry(f, f->slots[i].hash);
		f->slots[i].next = e->slot ? e->slot - 1 : UINT32_MAX; /* a later slot of the same hash stands first */
		*e = (struct fold_entry){(uint32_t)i + 1, tag_of(f->slots[i].hash)};
	}
}

int64_t fold_find(struct fold *f, struct lake_key_hash hash)
{
	return f->table_size ? (int64_t)entry(f, hash)->slot - 1 : -1;
}

bool fold_is_live(struct fold *f, struct lake_key_hash hash)
{
	int64_t slot = fold_find(f, hash);
	return slot >= 0 && f->slots[slot].live;
}

static size_t add_slot(struct fold *f, struct lake_key_hash hash, bool base_present)
{
	grow_table(f);
	f->slots = duct_grow(f->slots, &f->slots_cap, f->nslots + 1, sizeof *f->slots);
	struct fold_entry *e = entry(f, hash);
	uint32_t next = e->slot ? e->slot - 1 : UINT32_MAX;
	f->slots[f->nslots] =
		(struct fold_slot){.hash = hash, .behind = -1, .aside = -1, .next = next, .base_present = base_present};
	*e = (struct fold_entry){(uint32_t)++f->nslots, tag_of(hash)};
	return f->nslots - 1;
}

static int32_t add_version(struct fold *f, struct fold_version v)
{
	f->versions = duct_grow(f->versions, &f->versions_cap, f->nversions + 1, sizeof *f->versions);
	f->versions[f->nversions] = v;
	return (int32_t)f->nversions++;
}

static bool row_has_unsent(const struct duct_batch *b, uint32_t row)
{
	for (int i = 0; i < b->relation->ncolumns; i++)
		if (!duct_vector_is_sent(&b->columns[i], row))
			return true;
	return false;
}

/* The version that the slot shows now, as something to take unsent values from. */
static int32_t version_of(struct fold *f, size_t i)
{
	struct fold_slot *s = &f->slots[i];
	if (!s->batch)
		return add_version(f, (struct fold_version){.slot = (uint32_t)i, .behind = -1});
	if (s->behind == -1 && row_has_unsent(s->batch, s->row))
		return -1; /* cannot be: pending rows with unsent values have one behind */
	return add_version(f, (struct fold_version){.batch = s->batch, .row = s->row, .behind = s->behind});
}

static void show(struct fold *f, size_t i, const struct duct_batch *batch, uint32_t row, int32_t behind)
{
	struct fold_slot *s = &f->slots[i];
	s->batch = batch;
	s->row = row;
	s->behind = behind;
	s->live = true;
}

/* The live row of the slot goes. */
static void hide(struct fold *f, size_t i)
{
	struct fold_slot *s = &f->slots[i];
	s->batch = NULL;
	s->behind = -1;
	s->live = false;
}

static enum fold_outcome insert_row(struct fold *f, struct lake_key_hash hash, const struct duct_batch *batch, uint32_t row,
				    int32_t behind)
{
	int64_t i = f->bag ? -1 : fold_find(f, hash);
	if (i >= 0 && f->slots[i].live)
		return FOLD_DUPLICATE;
	if (i < 0)
		i = (int64_t)add_slot(f, hash, false);
	show(f, (size_t)i, batch, row, behind);
	return FOLD_OK;
}

enum fold_outcome fold_insert(struct fold *f, struct lake_key_hash hash, const struct duct_batch *batch, uint32_t row)
{
	return insert_row(f, hash, batch, row, -1);
}

/* Slot of the live row with this key; a base row gets its slot now. -1: there is none. */
static int64_t find_live(struct fold *f, struct lake_key_hash hash)
{
	uint32_t nth = 0;
	int64_t i = fold_find(f, hash);
	if (!f->bag && i >= 0)
		return f->slots[i].live ? i : -1;
	while (i >= 0) { /* bag: one of the equal rows of the group, newest first */
		if (f->slots[i].live)
			return i;
		nth += f->slots[i].base_present;
		i = f->slots[i].next == UINT32_MAX ? -1 : (int64_t)f->slots[i].next;
	}
	if (f->truncated)
		return -1;
	size_t added = add_slot(f, hash, true);
	f->slots[added].live = true;
	f->slots[added].nth = nth;
	return (int64_t)added;
}

enum fold_outcome fold_delete(struct fold *f, struct lake_key_hash hash)
{
	int64_t i = find_live(f, hash);
	if (i < 0)
		return FOLD_MISSING;
	hide(f, (size_t)i);
	return FOLD_OK;
}

enum fold_outcome fold_update(struct fold *f, struct lake_key_hash old_hash, struct lake_key_hash new_hash,
			      const struct duct_batch *batch, uint32_t row)
{
	int64_t i = find_live(f, old_hash);
	if (i < 0)
		return FOLD_MISSING;
	int32_t behind = row_has_unsent(batch, row) ? version_of(f, (size_t)i) : -1;
	hide(f, (size_t)i);
	if (f->bag || !same(old_hash, new_hash))
		return insert_row(f, new_hash, batch, row, behind);
	show(f, (size_t)i, batch, row, behind);
	return FOLD_OK;
}

void fold_append_row(struct fold *f, const struct duct_batch *batch, uint32_t row)
{
	f->appends = duct_grow(f->appends, &f->appends_cap, f->nappends + 1, sizeof *f->appends);
	f->appends[f->nappends++] = (struct fold_append){batch, row};
}

void fold_truncate(struct fold *f)
{
	f->nslots = 0;
	f->nversions = 0;
	f->nappends = 0;
	if (f->table)
		memset(f->table, 0, f->table_size * sizeof *f->table);
	f->truncated = true;
}
