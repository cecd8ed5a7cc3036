#ifndef API_FLOW_SHOWN_H
#define API_FLOW_SHOWN_H

#include <ductstream/v1/types.pb-c.h>

#include "base/arena.h"
#include "state/flows.h"

/*
 * Flows in the form in which they are shown: made from what is stored by parsing, opening secrets and hiding them again, which takes some
 * four times as long as looking the flow up. Kept for the last few hundred, and used only while the stored text is byte for byte the one that
 * it was made from. Holds no secret. Threads: any.
 */
struct flow_shown;

struct flow_shown *flow_shown_new(void);
void flow_shown_free(struct flow_shown *shown); /* accepts NULL */

/* Fills *ret, its strings in the arena, and says true; false: it has to be made. NULL knows nothing. */
bool flow_shown_get(struct flow_shown *shown, struct duct_arena *arena, const struct state_flow *flow, Ductstream__V1__Flow *ret);
/* Keeps what was made. NULL keeps nothing. */
void flow_shown_put(struct flow_shown *shown, const struct state_flow *flow, const Ductstream__V1__Flow *made);

#endif
