#ifndef API_FLOW_TEXT_H
#define API_FLOW_TEXT_H

#include <ductstream/v1/types.pb-c.h>

#include "base/arena.h"
#include "base/findings.h"
#include "state/flows.h"
#include "worker/definition.h"

/*
 * A Flow of the API and the definition of a stored flow (state/flows.h): the same thing, field by field. What a Flow leaves out, the
 * definition leaves out, too; id, name and state are not in it.
 */

/* A new reference. Enum numbers that mean nothing, options without a name and the like are findings. */
json_t *flow_text_definition(const Ductstream__V1__Flow *flow, struct duct_findings *findings);

/* What a call answers: strings live in the arena or in `flow`. definition: in its shown form. */
void flow_text_show(Ductstream__V1__Flow *ret, const struct state_flow *flow, const json_t *definition, struct duct_arena *arena);

#endif
