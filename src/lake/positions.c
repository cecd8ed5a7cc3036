/* Sets of positions: see positions.h. */
#include "lake/positions.h"

#include "base/mem.h"
#include "base/order.h"

#include <stdlib.h>

static void set_bit(struct lake_positions *p, int64_t at)
{
	p->bits[at / 64] |= UINT64_C(1) << (at % 64);
}

void lake_positions_add(struct lake_positions *p, int64_t at, int64_t rows)
{
	if (!p->n++ || at > p->last)
		p->last = at;
	if (p->bits) {
		set_bit(p, at);
		return;
	}
	if ((int64_t)p->n <= rows / 64 + 16) {
		p->list = duct_grow(p->list, &p->cap, p->n, sizeof *p->list);
		p->list[p->n - 1] = at;
		return;
	}
	p->rows = rows;
	p->bits = duct_xcalloc((size_t)rows / 64 + 1, sizeof *p->bits);
	for (size_t i = 0; i + 1 < p->n; i++)
		set_bit(p, p->list[i]);
	set_bit(p, at);
	free(p->list);
	p->list = NULL;
	p->cap = 0;
}

void lake_positions_sort(struct lake_positions *p)
{
	if (p->list)
		qsort(p->list, p->n, sizeof *p->list, duct_compare_i64);
}

bool lake_positions_has(const struct lake_positions *p, int64_t at)
{
	if (!p->n || at > p->last)
		return false;
	if (p->bits)
		return p->bits[at / 64] >> (at % 64) & 1;
	return bsearch(&at, p->list, p->n, sizeof *p->list, duct_compare_i64) != NULL;
}

void lake_positions_done(struct lake_positions *p)
{
	free(p->list);
	free(p->bits);
	*p = (struct lake_positions){0};
}
