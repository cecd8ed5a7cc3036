#ifndef WORKER_GATE_H
#define WORKER_GATE_H

#include "flow/flow_file.h"
#include "govern/ddl.h"
#include "worker/lease.h"

/* Changes of tables that a flow holds back until somebody has decided. */

/* What the flow says, and where it says nothing the environment: DUCTSTREAM_DDL_GATE, _AUTO_APPROVE, _AUTO_APPLY (all false). CONFIG when one
 * of them is neither true nor false. */
int gate_policy(const struct flow_ddl_policy *flow, struct govern_ddl_policy *ret, struct duct_error *err) DUCT_CHECKED;

/*
 * The run ended at a change that waits for a word: the flow becomes paused with reason ddl_pending. Returns 1 when it is to go on (it was
 * decided, or somebody resumed it: it is running again), 0 when it is not (it was stopped, deleted, or we were asked to end). Without
 * `wait` it is paused, and the answer is 0 at once.
 */
int gate_wait(struct govern_ddl *govern, struct state *state, const char *flow_id, const struct state_actor *actor,
	      struct lease *lease, const struct duct_ctx *ctx, bool wait, struct duct_error *err) DUCT_CHECKED;

#endif
