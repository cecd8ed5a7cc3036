#ifndef DESTINATION_FOLD_H
#define DESTINATION_FOLD_H

#include "lake/index.h"
#include "record/batch.h"

/*
 * Folding: all changes of one table in one lake commit become one net effect per key (DESIGN D2 rule 8):
 * I.U -> I, I.D -> nothing, U.U -> U, D.I -> U, key change = D(old) + I(new), truncate clears what came before. An unsent
 * value (unchanged TOAST) takes the earlier version's; what no version in the group sent is read back from the lake.
 * Pure memory, no I/O. It covers one window of the group: when a large one is written aside, its fold goes to the settled
 * table (settled.c), and the next window begins with an empty fold, whose base rows are what the earlier ones left.
 */

/* Where the row is that a key had before the window. */
enum fold_prior {
	FOLD_NOWHERE,
	FOLD_LAKE,    /* in the lake: place */
	FOLD_WRITTEN, /* in a file that an earlier window wrote aside: place.file_id is its number */
	FOLD_DEAD,    /* an earlier window has ended the lake's row place.row_id */
};

/* Where the values come from that a pending row of a replay was completed with. */
enum fold_borrowed {
	FOLD_OWN,      /* the group's own changes */
	FOLD_BORROWED, /* the lake's row of its key: right as long as the row stays as it is until the group's end */
	FOLD_LACKING,  /* one is nowhere: the row has to go before the group's end */
};

/* One key. Net effect: base_present/live = update, !base_present/live = insert, base_present/!live = delete. */
struct fold_slot {
	struct lake_key_hash hash;
	const struct duct_batch *batch; /* pending row; NULL when dead or written aside */
	uint32_t row;
	int32_t behind; /* earlier version that unsent values come from (fold_version), -1: all are sent */
	int32_t aside;	/* file that the live row was written to, -1: none */
	uint32_t aside_pos;
	uint32_t nth;		 /* bag: which of the equal base rows */
	uint32_t next;		 /* slot of the same hash (bag), UINT32_MAX: none */
	struct lake_place place; /* when resolved: of the base row; row_id < 0: none of the lake's */
	uint8_t prior;		 /* enum fold_prior, when resolved */
	uint8_t borrowed;	 /* enum fold_borrowed */
	bool base_present;	 /* the key had a row before the window */
	bool live;		 /* it has one after it */
};

struct fold_version {
	const struct duct_batch *batch; /* NULL: the base row of `slot` */
	uint32_t row, slot;
	int32_t behind; /* the one before it, -1: complete */
};

struct fold {
	struct fold_slot *slots;
	size_t nslots, slots_cap;
	struct fold_entry {
		uint32_t slot; /* + 1, 0: free */
		uint32_t tag;  /* of the hash: most look-ups end here, without the slot's cache line */
	} * table;
	size_t table_size;
	struct fold_version *versions;
	size_t nversions, versions_cap;
	/* Rows of a table without key: no slots, only what is to be written. */
	struct fold_append {
		const struct duct_batch *batch;
		uint32_t row;
	} * appends;
	size_t nappends, appends_cap;
	bool bag, truncated;
};

struct fold *fold_new(bool bag);
void fold_free(struct fold *f); /* accepts NULL */
/* Empty again, for the next window; memory is kept when most of it was used. */
void fold_reset(struct fold *f);

/* Results of one step. */
enum fold_outcome {
	FOLD_OK,
	FOLD_DUPLICATE, /* insert of a key that is live in the window */
	FOLD_MISSING,	/* update or delete of a key that is dead in the window (or cannot exist after a truncate) */
};

/* Begins to fetch what a step with this hash will touch: some ten steps ahead. */
void fold_prefetch(const struct fold *f, struct lake_key_hash hash);
/* The slot of the key (a bag: the newest of its slots), -1: it has none; and whether the window has a live row of it. */
int64_t fold_find(struct fold *f, struct lake_key_hash hash);
bool fold_is_live(struct fold *f, struct lake_key_hash hash);
enum fold_outcome fold_insert(struct fold *f, struct lake_key_hash hash, const struct duct_batch *batch, uint32_t row);
enum fold_outcome fold_update(struct fold *f, struct lake_key_hash old_hash, struct lake_key_hash new_hash,
			      const struct duct_batch *batch, uint32_t row);
enum fold_outcome fold_delete(struct fold *f, struct lake_key_hash hash);
void fold_append_row(struct fold *f, const struct duct_batch *batch, uint32_t row);
/* Everything before is void; keys that come later have no base row. Rows written aside are the caller's to drop. */
void fold_truncate(struct fold *f);

#endif
