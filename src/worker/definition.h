#ifndef WORKER_DEFINITION_H
#define WORKER_DEFINITION_H

#include <jansson.h>

#include "base/findings.h"
#include "flow/flow_file.h"
#include "state/flows.h"

/*
 * The definition of a stored flow (state/flows.h) as JSON, and what is done about the secrets in it: those options that their connector
 * marks as such. In three forms:
 *
 *   at rest    each secret is sealed; a value that is one reference (${NAME}) stays as it is
 *   revealed   as it was given
 *   shown      *** in the place of secrets; of a connection string only its password is hidden
 *
 * Functions change the definition in place. Threads: any.
 */

/* NULL: the text is no definition (FATAL). A new reference. */
json_t *definition_parse(const char *text, struct duct_error *err);
char *definition_text(const json_t *definition, struct duct_arena *arena);

/* At rest to revealed and back. id: of the flow. */
int definition_reveal(json_t *definition, const char *id, struct state *state, struct duct_error *err) DUCT_CHECKED;
int definition_seal(json_t *definition, const char *id, struct state *state, struct duct_error *err) DUCT_CHECKED;
/* Revealed to shown. */
void definition_hide(json_t *definition);

/* A secret of a new (revealed) definition that is what is shown of the stored one (revealed, too) becomes the stored one. One with a
 * hidden part that is not is a finding. stored may be NULL. */
void definition_keep(json_t *definition, const json_t *stored, struct duct_findings *findings);

/* Everything that is wrong with a revealed definition; findings name field paths ("flow.source.options.slot: ..."). References to the
 * environment are not followed: whoever asks need not see ours. */
void definition_check(const json_t *definition, const char *id, struct duct_findings *findings);

/* A revealed definition as the engine takes it: spec.name is the id; references are replaced from our environment. */
int definition_load(struct flow_file **ret, const json_t *definition, const char *id, struct duct_error *err) DUCT_CHECKED;

/* The options of the source, or NULL; borrowed. */
json_t *definition_source_options(const json_t *definition);
/* Does a destination keep the flow's position itself (then that one decides)? */
bool definition_is_atomic(const json_t *definition);

static inline void definition_auto_free(json_t **definition)
{
	json_decref(*definition);
}
#define AUTO_JSON __attribute__((cleanup(definition_auto_free)))

#endif
