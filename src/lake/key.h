#ifndef LAKE_KEY_H
#define LAKE_KEY_H

#include "lake/index.h"
#include "record/batch.h"

/* How the rows of a table are hashed. */
struct lake_hasher {
	uint64_t seed;
	const int *keys; /* of the columns; borrowed */
	int nkeys;
	bool exact;		 /* -0 is not 0 (rows found by their whole value); a key's are equal, as in Postgres */
	struct duct_buf scratch; /* only for reuse of memory; its end is the owner's */
};

/*
 * The hash of a row's key: columns[keys[i]] for each i, at `row`. What is hashed is the canonical form of lake values, the
 * same whether they come from a change or are read back from the lake, and the same after any retype that widens
 * (integers as int64, floats as float64, decimals without trailing zeros, dates as microseconds).
 */
struct lake_key_hash lake_hash_row(struct lake_hasher *hasher, const struct duct_vector *columns, uint32_t row);

/* For messages: `id=5, region='eu'` (long values cut). */
void lake_key_print(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, const int *keys,
		    int nkeys, uint32_t row);

#endif
