#ifndef STATE_CHECKPOINTS_H
#define STATE_CHECKPOINTS_H

#include "state/state.h"

/*
 * Positions that the service keeps. Where the destination keeps its own, that one decides and this is a copy for people
 * (`authoritative` false). They may lie in a database of their own:
 *
 *   DUCTSTREAM_CHECKPOINT_BACKEND   postgres, sqlite or none; not given: where DUCTSTREAM_CHECKPOINT_DSN or _PATH point, else where the
 *                                   state is
 *   DUCTSTREAM_CHECKPOINT_PATH      of the SQLite file; by default $HOME/.ductstream/checkpoints.db when the backend is sqlite
 *   DUCTSTREAM_CHECKPOINT_DSN       of the Postgres (by default DUCTSTREAM_POSTGRES_DSN), or the whole DSN of the SQLite file
 *                                   (file:PATH?...)
 *
 * What contradicts itself is CONFIG and names the variables. Threads: any.
 */
struct checkpoints;

struct state_checkpoint {
	const char *flow_id;
	uint64_t lsn;
	int64_t timestamp_us;
	bool authoritative;
	const char *metadata; /* a JSON object of strings; NULL: {} */
	int64_t updated_us;
};

/* With the state's own connections unless the environment says otherwise; the state outlives it. */
int checkpoints_open(struct checkpoints **ret, struct state *state, struct duct_error *err) DUCT_CHECKED;
void checkpoints_close(struct checkpoints *checkpoints);		 /* accepts NULL */
const char *checkpoints_describe(const struct checkpoints *checkpoints); /* as state_describe(); "none" */

/* 1 when it is there, 0 when not (and always 0 with backend none). */
int checkpoints_get(struct checkpoints *checkpoints, struct duct_arena *arena, const char *flow_id, struct state_checkpoint *ret,
		    struct duct_error *err) DUCT_CHECKED;
/* Stores it when it is not below the stored one, compared as numbers: 1. Below: 0 and nothing changed, unless `back`. updated_us is set by
 * the store. Backend none: 1, and nothing is stored. */
int checkpoints_put(struct checkpoints *checkpoints, const struct state_checkpoint *checkpoint, bool back,
		    struct duct_error *err) DUCT_CHECKED;
/* All of them by flow id; *ret lives in the arena. Returns 0. */
int checkpoints_list(struct checkpoints *checkpoints, struct duct_arena *arena, struct state_checkpoint **ret, size_t *ret_n,
		     struct duct_error *err) DUCT_CHECKED;
/* 1, or 0: there was none. */
int checkpoints_delete(struct checkpoints *checkpoints, const char *flow_id, struct duct_error *err) DUCT_CHECKED;

#endif
