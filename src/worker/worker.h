#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "flow/flow.h"
#include "state/checkpoints.h"
#include "state/flows.h"

/*
 * Runs one flow of the state: `ductstream-worker -flow-id ID`. Takes the flow's lease, loads its definition, runs it, and meanwhile
 * follows what the state says about it: paused, stopped or deleted ends it in order, a new definition is taken up. A pause for a moment
 * (STATE_FLOW_MOMENT) only takes the lease from it: when the flow is resumed within a minute it goes on. What it counts is reported every second, its durable position is copied into the checkpoints.
 */
struct worker_flow {
	const char *flow_id;
	int64_t max_empty_reads; /* end after so many polls that brought nothing; 0: never */
	/* Not to follow the changes, but to copy these tables again and end; the flow may be in any state but failed, and stays in it. How many
	 * of them are one commit, and what an interruption leaves, is the source's option snapshot_state_backend. NULL: no. */
	const struct flow_backfill *backfill;
	bool resolve_staging;	      /* flow_options.resolve_staging */
	uint64_t replay_lsn;	      /* first of all, changes after this one once more (flow_options.replay); 0: no */
	bool replay_append;	      /* flow_replay.append */
	int64_t snapshot_workers;     /* instead of the source's option; 0: as there */
	const char *partition_column; /* likewise, with partition_count; NULL: as there */
	int64_t partition_count;
	enum flow_output output;
	atomic_bool *abort; /* of the second signal, as in struct flow_options */
	int abort_fd;
};

/*
 * 0: stopped, or what max_empty_reads asked for is done. -RETRY: another worker has the flow, the lease was lost, or the flow gave up
 * trying. -CONFIG: there is no such flow, it is paused, stopped or failed, or its definition cannot be run. FATAL, CONFIG and DATA errors
 * of a run make the flow `failed`, with the message as the reason. ctx: log and stop; its flow is not looked at.
 */
int worker_run_flow(const struct worker_flow *work, struct state *state, struct checkpoints *checkpoints,
		    const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

#endif
