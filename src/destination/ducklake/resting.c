/*
 * Tables that have rows inside the catalog, and that nobody has changed since the flow opened: these rows are flushed too. What a
 * *resting* mirror knows is its lake table; nothing of the source's. See ducklake.h.
 */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"
#include "base/order.h"

#include <stdlib.h>
#include <string.h>

static struct mirror **place_of(struct ducklake *d, uint32_t oid)
{
	struct mirror **at = &d->resting[mirror_bucket(oid)];
	while (*at && (*at)->oid != oid)
		at = &(*at)->next;
	return at;
}

static void take_size(struct mirror *m, const struct lake_inlined_size *size)
{
	m->inlined_rows = size->rows;
	if (m->inlined_bytes < size->bytes) /* a server counts what it has compressed */
		m->inlined_bytes = size->bytes;
	/* Older than this process, and maybe than this machine's clock. */
	int64_t since_us = duct_mono_us() - size->age_ms * 1000;
	m->inlined_since_us = since_us ? since_us : -1;
}

static int compare_sizes(const void *a, const void *b)
{
	return duct_compare_i64(&((const struct lake_inlined_size *)a)->table_id, &((const struct lake_inlined_size *)b)->table_id);
}

int resting_read(struct ducklake *d, struct duct_error *err)
{
	struct lake_inlined_sizes sizes;
	size_t n;
	int rc = d->inlined_read ? 0 : lake_inlined_sizes(d->lake, &sizes, err);
	if (d->inlined_read || rc < 0)
		return rc;
	d->inlined_read = true;
	const struct lake_relation *relations = lake_relations(d->lake, &n);
	for (size_t i = 0; i < n && sizes.n; i++) {
		const struct lake_inlined_size wanted = {.table_id = relations[i].table_id};
		const struct lake_inlined_size *size = bsearch(&wanted, sizes.sizes, sizes.n, sizeof wanted, compare_sizes);
		if (!size || strcmp(relations[i].state, MIRROR_GONE) == 0)
			continue;
		struct mirror *m = mirror_find(d, relations[i].source_oid);
		if (!m) {
			m = duct_xcalloc(1, sizeof *m);
			m->oid = relations[i].source_oid;
			m->table_id = size->table_id;
			*place_of(d, m->oid) = m;
		}
		take_size(m, size);
	}
	free(sizes.sizes);
	return 0;
}

struct mirror *resting_find(struct ducklake *d, uint32_t oid)
{
	return *place_of(d, oid);
}

void resting_wake(struct ducklake *d, struct mirror *m)
{
	struct mirror **at = place_of(d, m->oid), *r = *at;
	if (!r)
		return;
	*at = r->next;
	if (r->table_id == m->table_id) {
		m->inlined_rows += r->inlined_rows;
		m->inlined_bytes += r->inlined_bytes;
		m->inlined_since_us = m->inlined_rows ? r->inlined_since_us : 0;
	}
	mirror_free(d, r);
}
