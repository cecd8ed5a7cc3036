#ifndef STATE_DDL_H
#define STATE_DDL_H

#include "state/state.h"

/* Changes of schema that a flow met, and what was decided about them. */
enum state_ddl_status { STATE_DDL_PENDING = 1, STATE_DDL_APPROVED, STATE_DDL_REJECTED, STATE_DDL_APPLIED };
const char *state_ddl_status_name(enum state_ddl_status status);
/* 0: none of them. */
enum state_ddl_status state_ddl_status_from(const char *name);

struct state_ddl_event {
	int64_t id;
	const char *flow_id, *schema, *table;
	const char *ddl;  /* SQL of the change, as the flow would apply it to its destination */
	const char *plan; /* JSON: {"changes":[...],"irreversible":bool} */
	uint64_t lsn;
	/* The change itself: the same change met again (after a restart) is the same event. */
	const char *fingerprint;
	enum state_ddl_status status;
	const char *decided_by;			    /* "" nobody yet; who recorded it when it was recorded as approved or applied */
	int64_t created_us, decided_us, applied_us; /* 0: not yet */
};

/* Writes the event down unless the flow has one with its fingerprint at its position: 1. 0: *event is the stored one. Status 0 is
 * pending; id and times are given by the store. */
int state_ddl_record(struct state *state, struct duct_arena *arena, struct state_ddl_event *event, const struct state_actor *actor,
		     struct duct_error *err) DUCT_CHECKED;
int state_ddl_get(struct state *state, struct duct_arena *arena, int64_t id, struct state_ddl_event *ret,
		  struct duct_error *err) DUCT_CHECKED; /* 1, or 0: there is none */
/* The newest `most`, oldest of them first; status 0: any, flow_id NULL: any. Returns how many. */
int state_ddl_list(struct state *state, struct duct_arena *arena, const char *flow_id, enum state_ddl_status status, int most,
		   struct state_ddl_event *ret, struct duct_error *err) DUCT_CHECKED;
/* pending -> approved, rejected; rejected -> approved; approved -> rejected, applied; pending -> applied. The same again succeeds. 1 moved or
 * the same, 0 not there, 2 refused: *ret_now says what it is. */
int state_ddl_decide(struct state *state, int64_t id, enum state_ddl_status to, const struct state_actor *actor,
		     enum state_ddl_status *ret_now, struct duct_error *err) DUCT_CHECKED;

#endif
