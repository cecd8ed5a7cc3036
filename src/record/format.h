#ifndef DUCT_FORMAT_H
#define DUCT_FORMAT_H

#include "base/error.h"
#include "record/batch.h"

/*
 * Text of values: DuckDB's VARCHAR cast of the value, which DuckLake uses for statistics, defaults and inlined values
 * (ducklake-types reference, tables 1.1, 1.2, 1.5). Examples: bool `true`, float64 `1e+16` `0.0001` `1.0` `nan` `-inf`,
 * decimal(9,9) `.000000001`, date `0044-03-15 (BC)`, timestamp `2024-01-15 12:30:00.1`, timestamptz with `+00`,
 * uuid in lower case, blob as `\x00\xFFab`, list `[1, NULL, 'a,b']`, struct `{'a': 1, 'b': x}`, map `{k=1}`.
 * Shortest round-trip digits for floats. Thread-safe, no I/O.
 */
void duct_format_value(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell);

/* The inverse for scalars: parses catalog text (statistics, defaults, inlined values; booleans also as t, f, 1, 0) into the
 * value's bytes. DATA when it cannot. */
int duct_parse_value(struct duct_buf *to, const struct duct_type *type, const char *text, size_t len,
		     struct duct_error *err) DUCT_CHECKED;

/* Total order inside one type, as DuckDB orders it (NaN greatest, infinities at the ends, strings and blobs by bytes).
 * Scalars only. Neither cell may be NULL. Returns <0, 0, >0. */
int duct_cell_compare(const struct duct_type *type, struct duct_cell a, struct duct_cell b);

/* Converts a value to a type that `from` widens to (duct_type_widens), appending its bytes; DATA when it cannot. */
int duct_cell_cast(struct duct_buf *to, const struct duct_type *from, struct duct_cell cell, const struct duct_type *into,
		   struct duct_error *err) DUCT_CHECKED;

#endif
