#ifndef LAKE_INDEX_INTERNAL_H
#define LAKE_INDEX_INTERNAL_H

#include "base/mem.h"
#include "lake/index.h"
#include "lake/index_set.h"

/* Inside of a table's index, for index.c, index_fill.c and index_runs.c only. */

enum { LAKE_ROW_ID_BITS = 64 - LAKE_HASH_LOW_BITS };

/* 24 bytes, also on disk (little-endian). Its first half is its order: (hash, row id). All 0: free. */
struct entry {
	uint64_t high;
	uint64_t tail; /* hash.low, and below it the row id, moved so that the least one is 0 */
	uint32_t file_id, position;
};

static inline uint64_t entry_tail(struct lake_key_hash hash, int64_t row_id)
{
	return hash.low << LAKE_ROW_ID_BITS | (uint64_t)(row_id - LAKE_ROW_ID_MIN);
}

static inline struct entry entry_make(struct lake_key_hash hash, struct lake_place place)
{
	return (struct entry){hash.high, entry_tail(hash, place.row_id), place.file_id, place.position};
}

static inline struct lake_key_hash entry_hash(const struct entry *e)
{
	return (struct lake_key_hash){e->high, e->tail >> LAKE_ROW_ID_BITS};
}

static inline struct lake_place entry_place(const struct entry *e)
{
	int64_t row_id = (int64_t)(e->tail & (((uint64_t)1 << LAKE_ROW_ID_BITS) - 1)) + LAKE_ROW_ID_MIN;
	return (struct lake_place){row_id, e->file_id, e->position};
}

static inline bool entry_is_free(const struct entry *e)
{
	return !(e->high | e->tail);
}

static inline bool entry_less(const struct entry *a, const struct entry *b)
{
	return a->high != b->high ? a->high < b->high : a->tail < b->tail;
}

static inline bool entry_same_hash(const struct entry *a, const struct entry *b)
{
	return a->high == b->high && a->tail >> LAKE_ROW_ID_BITS == b->tail >> LAKE_ROW_ID_BITS;
}

/* What an entry adds to the sum of its file. */
static inline uint64_t entry_mixed(const struct entry *e)
{
	uint64_t x = e->high ^ e->tail * 0x9E3779B97F4A7C15u;
	x ^= ((uint64_t)e->file_id << 32 | e->position) * 0xD6E8FEB86659FD93u;
	x = (x ^ x >> 32) * 0xFF51AFD7ED558CCDu;
	return x ^ x >> 29;
}

/* The slot where the search for a hash begins: the order of homes is the order of hashes. */
static inline uint64_t entry_home(uint64_t high, uint64_t capacity)
{
	return (uint64_t)((unsigned __int128)high * capacity >> 64);
}

/* Entries that were left out of a file that was written from its begin to its end: to be inserted afterwards. Zeroed: none. */
struct entry_list {
	struct entry *entries;
	size_t n, cap;
};

static inline void entry_list_add(struct entry_list *list, const struct entry *e)
{
	list->entries = duct_grow(list->entries, &list->cap, list->n + 1, sizeof *e);
	list->entries[list->n++] = *e;
}

enum { INDEX_HEADER_BYTES = 4096 };

static inline size_t index_file_bytes(uint64_t capacity)
{
	return INDEX_HEADER_BYTES + capacity * sizeof(struct entry);
}

/*
 * Entries on their way into a new file: `parts` streams (a power of two), each of which has the hashes of one equal share of
 * their range, in order. next(streams[i]) hands over the next entry, false at the end; each stream is read by a thread of its own.
 */
typedef bool index_next_fn(void *stream, struct entry *ret);
struct index_filling {
	int fd; /* its space is allocated */
	uint64_t capacity;
	index_next_fn *next;
	void *const *streams;
	unsigned parts;
	/* Results. */
	struct entry_list over; /* those whose slots another part begins with; the caller frees them */
	uint64_t count, sum;	/* with those */
};
int index_fill_file(struct index_filling *filling); /* 0 or an errno */

int index_write_slots(int fd, const struct entry *entries, uint64_t slot, uint64_t n); /* 0 or an errno */

/* An index that grows in its file, whose space is allocated already. */
struct index_growth {
	int fd;
	const struct entry *entries; /* the file, mapped */
	uint64_t old, capacity;	     /* capacities: of the entries, and wanted (a third more at least) */
	struct entry_list over;	     /* result; the caller frees them */
};
bool index_can_grow(const struct index_growth *growth); /* false: sequences are so long that it needs another file */
int index_grow_file(struct index_growth *growth);	/* 0, or an errno and no index any more */

/* Fills an empty index from such streams. */
int lake_index_fill(struct lake_index *index, size_t count, index_next_fn *next, void *const *streams, unsigned parts,
		    struct duct_error *err);

#endif
