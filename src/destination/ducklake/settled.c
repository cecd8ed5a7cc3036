/*
 * Large groups: what the windows that are written aside did to each key, in a hash table on disk (an index of its own, with
 * files aside as its places); and the net effects of a group, wherever they are. See ducklake.h.
 */
#include "destination/ducklake/ducklake.h"

#include <stdlib.h>

#define NO_FILE (UINT32_MAX - 1) /* place.file_id of a key that has no row any more */

static void settle_slot(struct ducklake *d, struct mirror *m, const struct fold_slot *s)
{
	bool known = s->prior == FOLD_WRITTEN || s->prior == FOLD_DEAD, has_row_id = s->place.row_id >= 0;
	if (s->prior == FOLD_WRITTEN)
		lake_positions_add(&d->asides[s->place.file_id].dead, s->place.position, d->asides[s->place.file_id].rows);
	if (known)
		(void)lake_index_remove(m->settled, s->hash, s->place.row_id);
	struct lake_place now = {.row_id = s->place.row_id, .file_id = NO_FILE};
	if (!has_row_id && !s->live)
		return; /* it came and went */
	if (s->live) {
		now.file_id = (uint32_t)s->aside;
		now.position = s->aside_pos;
	}
	if (!has_row_id) /* the lake gives it one at the commit; here it has one of its own */
		now.row_id = --d->temporary_row_id;
	lake_index_add(m->settled, s->hash, now);
}

struct order {
	uint64_t high;
	size_t slot;
};

static int compare_order(const void *a, const void *b)
{
	const struct order *x = a, *y = b;
	return x->high < y->high ? -1 : x->high > y->high;
}

int mirror_settle(struct ducklake *d, struct mirror *m, struct duct_error *err)
{
	if (!m->fold || !m->fold->nslots)
		return 0;
	int rc = m->settled ? 0 : lake_index_open_scratch(&m->settled, d->indexes, err);
	if (rc == 0)
		rc = lake_index_reserve(m->settled, m->fold->nslots, err);
	if (rc < 0)
		return rc;
	/* In the table's order: each of its pages is touched once. */
	size_t n = m->fold->nslots;
	AUTO_FREE struct order *order = duct_xmalloc(n * sizeof *order);
	for (size_t i = 0; i < n; i++)
		order[i] = (struct order){m->fold->slots[i].hash.high, i};
	qsort(order, n, sizeof *order, compare_order);
	for (size_t i = 0; i < n; i++)
		settle_slot(d, m, &m->fold->slots[order[i].slot]);
	fold_reset(m->fold);
	return 0;
}

void mirror_unsettle(struct mirror *m)
{
	lake_index_close(m->settled);
	m->settled = NULL;
}

enum fold_prior settled_find(const struct mirror *m, const struct fold_slot *s, unsigned *ret_nth, struct lake_place *ret)
{
	struct lake_place place;
	if (m->mode == MIRROR_KEYED) {
		if (!lake_index_get(m->settled, s->hash, 0, &place))
			return FOLD_NOWHERE;
		*ret = place;
		return place.file_id == NO_FILE ? FOLD_DEAD : FOLD_WRITTEN;
	}
	/* Equal rows: first those that the group wrote, then the lake's, of which the group has used up the first ones. */
	unsigned written = 0, used = 0;
	for (unsigned i = 0; lake_index_get(m->settled, s->hash, i, &place); i++) {
		if (place.row_id >= 0) {
			used++;
		} else if (written++ == *ret_nth) {
			*ret = place;
			return FOLD_WRITTEN;
		}
	}
	*ret_nth = *ret_nth - written + used;
	return FOLD_NOWHERE;
}

static bool next_settled(struct effects *e, struct effect *ret)
{
	struct lake_place place;
	if (!lake_index_next(e->m->settled, &e->next, &ret->hash, &place))
		return false;
	ret->live = place.file_id != NO_FILE;
	ret->aside = (int32_t)place.file_id;
	ret->aside_pos = place.position;
	ret->in_lake = place.row_id >= 0;
	ret->place = (struct lake_place){.row_id = place.row_id, .file_id = NO_FILE}; /* no file when the index lacks it: stale */
	if (ret->in_lake)
		(void)lake_index_find(e->m->index, ret->hash, place.row_id, &ret->place);
	return true;
}

bool effects_next(struct effects *e, struct effect *ret)
{
	if (e->m->settled)
		return next_settled(e, ret);
	if (e->next >= e->m->fold->nslots)
		return false;
	const struct fold *fold = e->m->fold;
	if (e->m->index && e->next + LAKE_INDEX_AHEAD < fold->nslots)
		lake_index_prefetch(e->m->index, fold->slots[e->next + LAKE_INDEX_AHEAD].hash);
	const struct fold_slot *s = &fold->slots[e->next++];
	*ret = (struct effect){.hash = s->hash,
			       .in_lake = s->base_present,
			       .live = s->live,
			       .place = s->place,
			       .aside = s->aside,
			       .aside_pos = s->aside_pos};
	return true;
}
