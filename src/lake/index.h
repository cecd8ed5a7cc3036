#ifndef LAKE_INDEX_H
#define LAKE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * The key index: from the key of a row to its row id and place in the lake, so that the cost of an update or delete
 * does not grow with the table. One set of files per flow and lake, one file per table. It is a cache: its header
 * proves whose it is and as of which commit, and in doubt it is rebuilt from the lake.
 *
 * A table file is an open-addressing hash table in a shared mapping, in ordered linear probing: entries stand in order of
 * (hash, row id) along each probe sequence, so that the bytes depend only on the content and the capacity, not on the
 * order of insertion (Amble and Knuth, "Ordered hash tables", 1974). Space is allocated on disk before it is mapped: a full
 * disk is an error, not a signal. One thread at a time.
 */
struct lake_index_set;
struct lake_index;

/* 80-bit seeded hash of a key (key.h). high == 0 && low == 0 is never a valid hash. */
struct lake_key_hash {
	uint64_t high, low; /* low < 2^LAKE_HASH_LOW_BITS */
};
enum { LAKE_HASH_LOW_BITS = 16 };

/* Where the live row of a key is. */
struct lake_place {
	int64_t row_id;	   /* from LAKE_ROW_ID_MIN to -1 - LAKE_ROW_ID_MIN: 140 million millions */
	uint32_t file_id;  /* LAKE_INLINED: inside the catalog */
	uint32_t position; /* in the file; inside the catalog: the schema version that it was inlined at */
};
#define LAKE_INLINED UINT32_MAX
#define LAKE_ROW_ID_MIN (-((int64_t)1 << (63 - LAKE_HASH_LOW_BITS)))

/*
 * Opens the set in `dir` (made when missing). *ret_fresh: every table file in it stands for exactly the commit `commit_id` of
 * the lake `lake_uuid`; when false the set was emptied (another lake, behind or ahead, dirty, or a power cut since).
 */
int lake_index_set_open(struct lake_index_set **ret, const char *dir, const char *lake_uuid, const char *commit_id, bool *ret_fresh,
			struct duct_error *err);
void lake_index_set_close(struct lake_index_set *set); /* accepts NULL; syncs, so that it is fresh after a reboot too */

/* Between begin and end the set counts as dirty; end names the lake commit that it now stands for. */
void lake_index_set_begin(struct lake_index_set *set);
void lake_index_set_end(struct lake_index_set *set, const char *commit_id);

/*
 * A hash that is there and should not be: the keys are the same, or two keys have one hash. True: the set was emptied and has
 * another seed now; what is hashed and open is void, all is to be tried again. False: it was so before at this very commit
 * (two hashes of them, 256 bits, are equal): the keys are the same.
 */
bool lake_index_set_doubt(struct lake_index_set *set);

/* The seed of the set's hashes: random, made with the set. */
uint64_t lake_index_set_seed(const struct lake_index_set *set);

/*
 * The index of one table. `fingerprint` names the key columns (ids and types): another one empties it. *ret_built: it
 * holds the whole table (lake_index_set_built was called); otherwise it is empty and must be rebuilt. `fingerprint` NULL: as it
 * is, by whatever key; *ret is NULL when it is not built.
 */
int lake_index_open(struct lake_index **ret, struct lake_index_set *set, int64_t table_id, const char *fingerprint, bool *ret_built,
		    struct duct_error *err);
void lake_index_close(struct lake_index *index); /* accepts NULL */

/* One that stands for nothing in the lake and is gone when it is closed: room on disk for a large group's keys. */
int lake_index_open_scratch(struct lake_index **ret, struct lake_index_set *set, struct duct_error *err);

/* Forgets the index of a table that is not open. */
int lake_index_drop(struct lake_index_set *set, int64_t table_id, struct duct_error *err);

/* Empties it; it is not built afterwards. */
int lake_index_reset(struct lake_index *index, struct duct_error *err);
void lake_index_set_built(struct lake_index *index);

/* Makes sure that `more` further entries fit; may replace the mapping. RETRY with the folder when the disk is full. */
int lake_index_reserve(struct lake_index *index, size_t more, struct duct_error *err);

/* The nth (from 0, by row id) entry with this hash. */
bool lake_index_get(const struct lake_index *index, struct lake_key_hash hash, unsigned nth, struct lake_place *ret);

/* Begins to fetch what a get of this hash will touch: call it so many gets ahead. */
enum { LAKE_INDEX_AHEAD = 12 };
void lake_index_prefetch(const struct lake_index *index, struct lake_key_hash hash);

/* Adds an entry (after lake_index_reserve); (hash, row id) must not be in it. */
void lake_index_add(struct lake_index *index, struct lake_key_hash hash, struct lake_place place);
/* Changes file and position of the entry (hash, place.row_id); false when there is none. */
bool lake_index_move(struct lake_index *index, struct lake_key_hash hash, struct lake_place place);
/* Removes the entry (hash, row_id); false when there is none. */
bool lake_index_remove(struct lake_index *index, struct lake_key_hash hash, int64_t row_id);

/* The entry (hash, row_id). */
bool lake_index_find(const struct lake_index *index, struct lake_key_hash hash, int64_t row_id, struct lake_place *ret);

/* Walks all entries, nearly in the order of their hashes: *cursor begins with 0. False at the end. */
bool lake_index_next(const struct lake_index *index, uint64_t *cursor, struct lake_key_hash *ret_hash, struct lake_place *ret);

size_t lake_index_count(const struct lake_index *index);

#endif
