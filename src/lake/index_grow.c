/*
 * An index grows in its file: the entries move on to where more room has them, the last ones first. No page is new but those of the
 * new room, and the disk needs no second file. A crash or a failure on the way leaves a file that has not the size its header says.
 */
#include "lake/index_internal.h"

#include <string.h>

enum { CHUNK = 1 << 16 }; /* slots that are laid out in memory and written at once */

/* The least high whose home is not before the slot. */
static uint64_t first_high(uint64_t slot, uint64_t capacity)
{
	return (uint64_t)((((unsigned __int128)slot << 64) + capacity - 1) / capacity);
}

/* Whether the entry in a slot belongs to a sequence that began at the end of the array. */
static bool is_wrapped(const struct index_growth *g, uint64_t slot)
{
	return entry_home(g->entries[slot].high, g->old) > slot;
}

bool index_can_grow(const struct index_growth *g)
{
	for (uint64_t at = CHUNK; at < g->old; at += CHUNK) {
		const struct entry *e = &g->entries[at];
		if (!entry_is_free(e) && !is_wrapped(g, at) && e->high < first_high(at, g->capacity))
			return false; /* it would be written over before it is read */
	}
	return true;
}

/* The entries whose home will be one of the slots [begin, end). */
static void lay_out(struct index_growth *g, struct entry *window, uint64_t begin, uint64_t end)
{
	bool last = end == g->capacity;
	uint64_t from = first_high(begin, g->capacity), upto = last ? UINT64_MAX : first_high(end, g->capacity) - 1;
	uint64_t next = begin, stop = entry_home(upto, g->old);
	for (uint64_t at = entry_home(from, g->old); at < g->old; at++) {
		const struct entry *e = &g->entries[at];
		bool free = entry_is_free(e);
		if (at >= stop && (free || (e->high > upto && !is_wrapped(g, at))))
			return;
		if (free || is_wrapped(g, at) || e->high < from || e->high > upto)
			continue;
		uint64_t slot = entry_home(e->high, g->capacity);
		slot = slot > next ? slot : next;
		next = slot + 1;
		if (slot < end)
			window[slot - begin] = *e;
		else
			entry_list_add(&g->over, e);
	}
}

int index_grow_file(struct index_growth *g)
{
	struct entry *window = duct_xmalloc(CHUNK * sizeof *window);
	int code = 0;
	for (uint64_t at = 0; at < g->old && !entry_is_free(&g->entries[at]) && is_wrapped(g, at); at++)
		entry_list_add(&g->over, &g->entries[at]);
	for (uint64_t end = g->capacity, begin; end && code == 0; end = begin) {
		begin = (end - 1) / CHUNK * CHUNK;
		memset(window, 0, CHUNK * sizeof *window);
		lay_out(g, window, begin, end);
		code = index_write_slots(g->fd, window, begin, end - begin);
	}
	free(window);
	return code;
}
