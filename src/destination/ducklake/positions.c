/* Sets of positions: see positions.h. */
#include "destination/ducklake/positions.h"

#include "base/mem.h"
#include "base/order.h"

#include <string.h>

static void set_bit(struct positions *p, int64_t at)
{
	p->bits[at / 64] |= UINT64_C(1) << (at % 64);
}

void positions_add(struct positions *p, int64_t at, int64_t rows)
{
	p->n++;
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

int64_t *positions_sorted(const struct positions *p)
{
	int64_t *sorted = duct_xmalloc((p->n + 1) * sizeof *sorted);
	if (!p->bits) {
		if (p->n)
			memcpy(sorted, p->list, p->n * sizeof *sorted);
		qsort(sorted, p->n, sizeof *sorted, duct_compare_i64);
		return sorted;
	}
	size_t n = 0;
	for (int64_t word = 0; word <= p->rows / 64; word++)
		for (uint64_t left = p->bits[word]; left; left &= left - 1)
			sorted[n++] = word * 64 + __builtin_ctzll(left);
	return sorted;
}

void positions_done(struct positions *p)
{
	free(p->list);
	free(p->bits);
	*p = (struct positions){0};
}
