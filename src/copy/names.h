#ifndef COPY_NAMES_H
#define COPY_NAMES_H

#include "base/arena.h"
#include "base/error.h"

/*
 * Names in the lake that are made of names of people: each run of what is no letter or digit of ASCII becomes one "_", none at either end, in
 * small letters; `otherwise` where nothing is left, and before a name that begins with a digit. Longer than 63 bytes: cut, with eight
 * hexadecimal digits of the whole, so that two that begin alike stay apart.
 */
enum { COPY_NAME_MOST = 63 };
const char *copy_name(struct duct_arena *arena, const char *raw, const char *otherwise);

/* "data_modeling_team_123". */
const char *copy_schema(struct duct_arena *arena, const char *prefix, long long team_id);

/* "stripe_invoices_a1b2c3d4": the last part are the first eight digits of the schema's uuid, which a cut leaves there. CONFIG: it is no uuid. */
int copy_import_table(struct duct_arena *arena, const char *source_type, const char *name, const char *schema_id, const char **ret,
		      struct duct_error *err) DUCT_CHECKED;

#endif
