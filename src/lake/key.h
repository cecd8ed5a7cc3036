#ifndef LAKE_KEY_H
#define LAKE_KEY_H

#include "lake/index.h"
#include "record/batch.h"

/*
 * The hash of a row's key: columns[keys[i]] for each i, at `row`. What is hashed is the canonical form of lake values, the
 * same whether they come from a change or are read back from the lake, and the same after any retype that widens
 * (integers as int64, floats as float64, decimals without trailing zeros, dates as microseconds). exact: -0 is not 0 (rows
 * found by their whole value); a key's are equal, as in Postgres. scratch is only for reuse of memory.
 */
struct lake_key_hash lake_key_hash_row(uint64_t seed, const struct duct_vector *columns, const int *keys, int nkeys,
				       uint32_t row, bool exact, struct duct_buf *scratch);

/* For messages: `id=5, region='eu'` (long values cut). */
void lake_key_print(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, const int *keys,
		    int nkeys, uint32_t row);

#endif
