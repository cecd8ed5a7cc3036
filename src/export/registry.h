#ifndef EXPORT_REGISTRY_H
#define EXPORT_REGISTRY_H

#include <jansson.h>

#include "export/export.h"
#include "state/state.h"

/*
 * The teams: those of a file (--registry, a YAML list with the fields below) and those that the API keeps in the state. A team that both have is the
 * API's. "${NAME}" in a value is a variable of the environment of whoever works for the team, looked up then and not before: an entry that lacks one
 * stops its own team only.
 */
enum export_field {
	EXPORT_TEAM_ID,
	EXPORT_BUCKET,
	EXPORT_BUCKET_REGION,
	EXPORT_DB_HOST,
	EXPORT_DB_PORT,
	EXPORT_DB_NAME,
	EXPORT_DB_USER,
	EXPORT_DB_PASSWORD,
	EXPORT_ROLE_ARN,
	EXPORT_EXTERNAL_ID,
	EXPORT_ENDPOINT,
	EXPORT_CATALOG,
	EXPORT_FIELDS
};
extern const char *const export_field_names[EXPORT_FIELDS]; /* "team_id", ... */

struct export_entry {
	int64_t team_id;
	const char *values[EXPORT_FIELDS]; /* as given, references and all; NULL: not given. Of the state: secrets are sealed */
	const char *file;		   /* NULL: of the state */
	int line;
	bool shadows;	    /* of the state: the file has the team, too */
	int64_t updated_us; /* of the state */
};

/* Which file: the one that is given (NULL, "": none is), DUCTSTREAM_DUCKLINGS, ducklings.yaml where there is one; NULL: none. */
const char *export_registry_file(const char *given);
/* All teams by id; state, file NULL: without. All in the arena. CONFIG names file, line and field; no secret is in a message. */
int export_registry_read(struct state *state, const char *file, struct duct_arena *arena, struct export_entry **ret, size_t *ret_n,
			 struct duct_error *err) DUCT_CHECKED;

/* The team as it is to be worked with: secrets opened, references followed, everything checked. */
int export_entry_resolve(const struct export_entry *entry, struct state *state, struct duct_arena *arena, struct export_team *ret,
			 struct duct_error *err) DUCT_CHECKED;

/* --- entries of the state, for the API --- */

/* For people: *** in place of secrets; of a catalog's connection string only the password. In the arena. */
const char *export_entry_shown(const struct export_entry *entry, enum export_field field, struct state *state,
			       struct duct_arena *arena);
/* The JSON that the state keeps of values as they were given. What was shown of `stored` (NULL: none) stays what it is. CONFIG begins with the field. */
int export_entry_seal(const char *const values[EXPORT_FIELDS], const struct export_entry *stored, struct state *state,
		      struct duct_arena *arena, int64_t *ret_team, const char **ret, struct duct_error *err) DUCT_CHECKED;
int export_entry_get(struct state *state, int64_t team_id, struct duct_arena *arena, struct export_entry *ret,
		     struct duct_error *err) DUCT_CHECKED; /* 1, or 0 */

#endif
