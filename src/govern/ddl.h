#ifndef GOVERN_DDL_H
#define GOVERN_DDL_H

#include "base/log.h"
#include "record/ddl.h"
#include "state/ddl.h"

/*
 * Governance of a flow's changes of tables. Each is written down as an event of the flow before it is done, and becomes `applied` once the
 * commit with it is durable.
 *
 *   gate false   it is done at its place in the stream, whatever the rest says
 *   gate true    it is done when it is approved and auto_apply is set, or when somebody marked it applied; until then the flow ends at it
 *                with everything before it durable, and govern_ddl_held() says at which. auto_approve approves it at once.
 *
 * What was decided stays: the same change met again (by another run) is the same event. Threads: the hook's calls come from the flow's
 * appliers; the rest is for the thread that runs the flow, outside of flow_run().
 */
/* One per run of a flow. Events that a commit of an earlier run has done, whose end it did not live to write down, are caught up with. */
struct govern_ddl;

struct govern_ddl_policy {
	bool gate, auto_approve, auto_apply;
};

/* Everything is borrowed. actor: who runs the flow. */
struct govern_ddl *govern_ddl_new(struct state *state, const char *flow_id, const struct govern_ddl_policy *policy,
				  const struct state_actor *actor, const struct duct_log *log);
void govern_ddl_free(struct govern_ddl *govern); /* accepts NULL */
struct duct_ddl_hook *govern_ddl_hook(struct govern_ddl *govern);

/* The event that the last run ended at, 0: none. */
int64_t govern_ddl_held(const struct govern_ddl *govern);
/* 1: the flow may go on past it; 0: it still waits (*ret_status says for what); forgets it when 1. */
int govern_ddl_decided(struct govern_ddl *govern, enum state_ddl_status *ret_status, struct duct_error *err) DUCT_CHECKED;

#endif
