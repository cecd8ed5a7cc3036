/* Small commits go into the catalog instead of small files. See ducklake.h and lake/inline.h. */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"

#include <stdlib.h>

enum { MOST_BYTES = 1 << 20, MOST_ROW_BYTES = 64 << 10 };

static const int *map_of(void *arg, const struct duct_relation *rel)
{
	return mirror_map(arg, rel);
}

/* Rows that a commit may inline: the lake's own setting goes first, unless we inline nothing at all. */
static size_t limit_of(const struct ducklake *d, const struct mirror *m)
{
	const char *set = mirror_option(d, m, "data_inlining_row_limit");
	int64_t most = d->config->inline_rows;
	if (most && set)
		most = strtoll(set, NULL, 10);
	return most > 0 ? (size_t)most : 0;
}

static bool has_asides(const struct ducklake *d, const struct mirror *m)
{
	for (size_t i = 0; i < d->nasides; i++)
		if (d->asides[i].mirror == m)
			return true;
	return false;
}

/* The pending rows. Slots are told their place among the new ones. */
static size_t collect(struct fold *f, struct lake_row_ref *rows, int64_t *row_ids)
{
	size_t n = 0;
	uint32_t ninserts = 0;
	for (size_t i = 0; i < f->nslots; i++) {
		struct fold_slot *s = &f->slots[i];
		if (!s->batch)
			continue;
		rows[n] = (struct lake_row_ref){s->batch, s->row};
		row_ids[n++] = s->place.row_id;
		if (s->place.row_id < 0)
			s->aside_pos = ninserts++;
	}
	for (size_t i = 0; i < f->nappends; i++) {
		rows[n] = (struct lake_row_ref){f->appends[i].batch, f->appends[i].row};
		row_ids[n++] = -1;
	}
	return n;
}

bool mirror_inline(struct ducklake *d, struct mirror *m)
{
	struct fold *f = m->fold;
	size_t n = f->nappends, most = limit_of(d, m);
	for (size_t i = 0; i < f->nslots && n <= most; i++)
		n += f->slots[i].batch != NULL;
	if (!n || n > most || m->settled || has_asides(d, m))
		return false;
	AUTO_FREE struct lake_row_ref *rows = duct_xmalloc(n * sizeof *rows);
	AUTO_FREE int64_t *row_ids = duct_xmalloc(n * sizeof *row_ids);
	const struct lake_inline_rows all = {
		.rows = rows,
		.row_ids = row_ids,
		.n = collect(f, rows, row_ids),
		.map = map_of,
		.arg = m,
		.max_bytes = MOST_BYTES,
		.max_row_bytes = MOST_ROW_BYTES,
	};
	m->inlines = lake_txn_inline(d->txn, mirror_table(d, m), &all);
	if (m->inlines)
		f->nappends = 0;
	return m->inlines;
}

bool mirror_inlined_place(const struct mirror *m, uint32_t nth, struct lake_place *ret)
{
	int64_t version, first;
	bool known = lake_txn_inlined_at(m->t, &version, &first);
	*ret = (struct lake_place){.row_id = first + nth, .file_id = LAKE_INLINED, .position = (uint32_t)version};
	return known;
}

void mirror_count_inlined(struct ducklake *d, struct mirror *m)
{
	if (!m->inlines)
		return;
	int64_t rows, bytes;
	lake_txn_inlined_size(m->t, &rows, &bytes);
	m->inlined_rows += rows;
	m->inlined_bytes += bytes;
	if (!m->inlined_since_us)
		m->inlined_since_us = duct_mono_us();
	d->flush_due |= mirror_inlines_too_much(d, m);
}
