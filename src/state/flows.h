#ifndef STATE_FLOWS_H
#define STATE_FLOWS_H

#include "state/state.h"

enum state_flow_state { /* numbers of ductstream.v1.FlowState */
			STATE_FLOW_CREATED = 1,
			STATE_FLOW_RUNNING,
			STATE_FLOW_PAUSED,
			STATE_FLOW_STOPPING,
			STATE_FLOW_FAILED,
			STATE_FLOW_STOPPED,
};
const char *state_flow_state_name(enum state_flow_state state); /* "running" */

/*
 * A flow as stored. `definition`: JSON text in the form of a flow file (flow/flow_file.h: source {type "postgres", options}, destinations,
 * wire_format "arrow", parallelism, config) without id and state. Its secret options are sealed with state_seal() under
 * "flow/ID/source/OPTION" or "flow/ID/destination/NAME/OPTION"; a reference such as ${NAME} is stored as it is and read from the
 * environment of whoever runs the flow.
 */
struct state_flow {
	const char *id, *name;
	enum state_flow_state state;
	const char *reason; /* of the last transition; "" none */
	const char *definition;
	int64_t revision; /* grows with each change of the definition */
	int64_t created_us, updated_us;
};

/* All strings given back live in the arena. NOT FOUND is 0 rows: functions return 1 when the flow is there, 0 when it is not. */
int state_flow_create(struct state *state, const struct state_flow *flow, const struct state_actor *actor,
		      struct duct_error *err) DUCT_CHECKED; /* 0: the id is taken */
int state_flow_get(struct state *state, struct duct_arena *arena, const char *id, struct state_flow *ret,
		   struct duct_error *err) DUCT_CHECKED;
/* Name and definition only; the state stays. expected_revision 0: whatever it is; otherwise RETRY when it is another. */
int state_flow_update(struct state *state, const struct state_flow *flow, int64_t expected_revision,
		      const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;
/* 2: it is running or stopping, and stays. */
int state_flow_delete(struct state *state, const char *id, const struct state_actor *actor, struct duct_error *err) DUCT_CHECKED;

/* By id, those after `after` ("" : from the first); state 0: any. Returns how many, at most `most`. */
int state_flow_list(struct state *state, struct duct_arena *arena, const char *after, enum state_flow_state only, int most,
		    struct state_flow *ret, struct duct_error *err) DUCT_CHECKED;

/*
 * Moves the flow to another state and writes the transition down with its reason. The same state again succeeds and changes nothing,
 * whatever `from` is: 1 with *ret_refused false.
 * Which moves there are: created -> running, stopped; running -> paused, stopping, stopped, failed; paused, failed, stopped -> running;
 * paused, failed -> stopped; stopping -> stopped, paused, failed. Others: 1 with *ret_refused true, nothing changed.
 * A pause for one of the two reasons below takes over the reason of a second one, unless `from` is given.
 * from: when not 0, only from that state (2 is returned when the flow is in another).
 */
int state_flow_move(struct state *state, const char *id, enum state_flow_state from, enum state_flow_state to, const char *reason,
		    const struct state_actor *actor, bool *ret_refused, struct duct_error *err) DUCT_CHECKED;

/* How the reason of a pause begins that whoever asked for it ends soon: the flow's worker waits for that instead of ending. */
#define STATE_FLOW_MOMENT "paused for a moment"
/* The reason of a pause that ends by itself once a change of a table has been decided. */
#define STATE_FLOW_DDL_PENDING "ddl_pending"
bool state_flow_rests_a_moment(const struct state_flow *flow);
/* Makes a flow in such a pause run again; 1 (it runs), or 2: it is in no such pause any more, nothing changed. */
int state_flow_end_moment(struct state *state, const char *id, const char *reason, const struct state_actor *actor,
			  struct duct_error *err) DUCT_CHECKED;

/* Something about a flow that people should know while its state stays: becomes its reason and one more of its transitions, from the state to
 * itself. 0: there is no such flow, or that is its reason already. */
int state_flow_note(struct state *state, const char *id, const char *reason, const struct state_actor *actor,
		    struct duct_error *err) DUCT_CHECKED;

struct state_transition {
	enum state_flow_state from, to;
	const char *reason, *actor;
	int64_t at_us;
};
int state_flow_transitions(struct state *state, struct duct_arena *arena, const char *id, int most, struct state_transition *ret,
			   struct duct_error *err) DUCT_CHECKED; /* newest first; returns how many */

/*
 * Who runs a flow: one owner at a time. A lease lasts ttl from its last renewal; the fencing number grows with every new owner and
 * never goes back, so a late owner is known by its lower one. The lease of a flow is named "flow/ID". When the store's clock is set back,
 * what dead owners left lasts STATE_LEASE_MOST_MS at most.
 */
enum { STATE_LEASE_MOST_MS = 20000 /* no ttl is longer */ };

struct state_lease {
	const char *holder; /* "HOST:PID:UUID"; "" nobody */
	int64_t fence, expires_us;
	bool held; /* by the store's clock */
};
/* 1: *ret_fence is ours; a holder that has it already keeps its number. 0: somebody else's lasts; *ret_holder (arena, may be NULL)
 * says whose. Time is the store's own (Postgres: of the server), not the callers'. */
int state_lease_take(struct state *state, struct duct_arena *arena, const char *name, const char *holder, int64_t ttl_ms,
		     int64_t *ret_fence, const char **ret_holder, struct duct_error *err) DUCT_CHECKED;
/* 1: it lasts ttl from now, also when it had run out and nobody else had come. 0: it was lost. */
int state_lease_renew(struct state *state, const char *name, const char *holder, int64_t fence, int64_t ttl_ms,
		      struct duct_error *err) DUCT_CHECKED;
int state_lease_release(struct state *state, const char *name, const char *holder, int64_t fence,
			struct duct_error *err) DUCT_CHECKED; /* 0: it was lost before */
int state_lease_get(struct state *state, struct duct_arena *arena, const char *name, struct state_lease *ret,
		    struct duct_error *err) DUCT_CHECKED; /* 1, or 0: nobody ever had it */

/* What the workers report about a flow, for people and metrics: a JSON object (phase, positions, counters). 1; 0: there is no such flow, or
 * the fence is not its lease's any more. */
int state_flow_report(struct state *state, const char *id, int64_t fence, const char *report, struct duct_error *err) DUCT_CHECKED;

struct state_flow_report {
	const char *report;
	int64_t fence, at_us;
};
int state_flow_reported(struct state *state, struct duct_arena *arena, const char *id, struct state_flow_report *ret,
			struct duct_error *err) DUCT_CHECKED; /* the last one: 1, or 0: there is none */

#endif
