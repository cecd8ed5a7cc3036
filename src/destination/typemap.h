#ifndef DESTINATION_TYPEMAP_H
#define DESTINATION_TYPEMAP_H

#include "base/buf.h"
#include "base/error.h"
#include "record/batch.h"

/*
 * Type mappings: columns of some source types get another type at the destination. A mapping is a JSON object of source types to
 * destination types, {"numeric(12,2)": "DOUBLE", "jsonb": "VARCHAR"}. A source type is named as Postgres prints it, with or without its
 * length and schema, or by its short name (int4, timestamptz, varchar). A destination type is one of DuckDB's names of a scalar.
 */
struct typemap;

/* From the option's JSON text and the file's, either may be NULL; *ret is NULL when nothing is mapped. CONFIG says what is wrong. */
int typemap_load(struct typemap **ret, const char *json, const char *file, struct duct_error *err) DUCT_CHECKED;
void typemap_free(struct typemap *map); /* accepts NULL */

/* The type that a column of this source type becomes, NULL: its own. */
const struct duct_type *typemap_find(const struct typemap *map, const char *source_type);

/* Whether each value of a type can be said in the other one, or at least tried: what widens, anything as text, text as a scalar. */
bool typemap_converts(const struct duct_type *from, const struct duct_type *to);
/* Appends the value's bytes; DATA when it cannot be said. */
int typemap_convert(struct duct_buf *to, const struct duct_type *from, struct duct_cell cell, const struct duct_type *into,
		    struct duct_error *err) DUCT_CHECKED;

#endif
