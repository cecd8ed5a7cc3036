#ifndef STATE_TEAMS_H
#define STATE_TEAMS_H

#include "state/state.h"

/* Teams of the exports (export/registry.h knows what they are), as the API keeps them. Threads: any. */
struct state_team {
	int64_t team_id;
	const char *fields; /* a JSON object; secrets in it are sealed by the caller */
	int64_t created_us, updated_us;
};

/* Adds or replaces it. 1: it is new, 0: it was there. */
int state_team_put(struct state *state, int64_t team_id, const char *fields, const struct state_actor *actor,
		   struct duct_error *err) DUCT_CHECKED;
int state_team_get(struct state *state, struct duct_arena *arena, int64_t team_id, struct state_team *ret,
		   struct duct_error *err) DUCT_CHECKED; /* 1, or 0 */
/* By id, those above `after`. Returns how many. */
int state_team_list(struct state *state, struct duct_arena *arena, int64_t after, int most, struct state_team *ret,
		    struct duct_error *err) DUCT_CHECKED;
/* 1, or 0: there is none. What was exported stays. */
int state_team_delete(struct state *state, int64_t team_id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;

#endif
