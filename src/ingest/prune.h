#ifndef INGEST_PRUNE_H
#define INGEST_PRUNE_H

#include "ingest/fetch.h"
#include "ingest/keys.h"
#include "lake/catalog.h"

/* Which live files may hold rows that die: by the bounds that the catalog has of them. */

/* Of a value of a partition's column, in microseconds as the window has them; false: it is no instant at all. */
bool ingest_instant(const struct duct_type *type, int unit, struct duct_cell cell, int64_t *ret_us);
/* Whether the value belongs to the window: instants by its instants, dates by what the clocks of its zone show. */
bool ingest_in_window(const struct ingest_window *w, const struct duct_type *type, int unit, struct duct_cell cell);

struct ingest_prune;
/* keys: texts of ingest_key_part()s of these columns (none: no row dies by its key); more: the same, or NULL. window: with column and unit, or NULL. All
 * are borrowed. */
struct ingest_prune *ingest_prune_new(const struct lake_column *const *columns, int nkeys, const struct ingest_keys *keys,
				      const struct ingest_keys *more, const struct ingest_window *window, int unit);
void ingest_prune_free(struct ingest_prune *prune); /* accepts NULL */
/* Bounds: one per key column, then that of the window's column. False: no row of the file has one of the keys or is in the window. */
bool ingest_prune_may_have(struct ingest_prune *prune, const struct lake_file_bounds *bounds);

#endif
