#ifndef DUCK_TYPES_H
#define DUCK_TYPES_H

#include "base/buf.h"
#include "duck/api.h"
#include "record/batch.h"

/* Our types and values in DuckDB's terms. */

/* A type as SQL: `DECIMAL(9,2)[]`. */
void duck_sql_type(struct duct_buf *to, const struct duct_type *type);

/* A type for a feed (duck.h), for the caller to destroy. JSON is text here: what takes it casts it. */
duckdb_logical_type duck_logical_type(const struct duct_type *type);

/* DuckDB's type as one of ours. False: we have none for it (INTERVAL, HUGEINT, BIT, TIME WITH TIME ZONE, ...); *ret is then what its values are best
 * cast to: a wider one where there is one, text otherwise. Enums are text, arrays lists, times of other units become microseconds: also false. */
bool duck_read_type(duckdb_logical_type from, struct duct_arena *arena, struct duct_type *ret);

/* Writes one value into a vector of that type; lists and maps add to its end. data NULL: NULL. */
void duck_put_cell(duckdb_vector vector, idx_t row, const struct duct_type *type, struct duct_cell cell);

#endif
