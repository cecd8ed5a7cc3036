#ifndef WORKER_WATCH_H
#define WORKER_WATCH_H

#include <pthread.h>

#include "state/checkpoints.h"
#include "worker/lease.h"
#include "worker/worker.h"

/*
 * Beside a run of a flow, by two threads: one passes on stops and the loss of the lease, and never waits for anything else; the other
 * looks what the state says about the flow, and reports to it.
 */
enum watch_verdict {
	WATCH_NOTHING,
	WATCH_STOPPED, /* a signal */
	WATCH_LOST,    /* the lease */
	WATCH_LEFT,    /* the flow is not running any more: paused, stopping, stopped, failed by somebody, deleted */
	WATCH_CHANGED, /* it has another definition */
};

struct watch {
	/* Given by the caller before watch_start. */
	const struct worker_flow *work;
	struct state *state;
	struct checkpoints *checkpoints;
	struct lease *lease;
	const struct duct_ctx *user;
	const struct flow_spec *spec;	 /* the names of its destinations */
	const struct state_actor *actor; /* who notes what became of them */
	int64_t revision;		 /* of the definition that runs */
	bool mirror;			 /* the destination keeps the position: copy it into the checkpoints */

	struct flow_counters counters;
	struct duct_ctx ctx; /* for the run */
	atomic_bool stop, abort;
	int stop_fd, abort_fd, end_fd;
	atomic_int verdict; /* the first one that was met */
	uint64_t mirrored_lsn;
	bool mirrored;
	int noted[FLOW_MOST_DESTINATIONS]; /* states of destinations that were told */
	pthread_t passing, looking;
};

int watch_start(struct watch *watch, struct duct_error *err) DUCT_CHECKED;
/* Ends the threads after a last report; the verdict is what ended the run, if anything did. */
enum watch_verdict watch_end(struct watch *watch);

#endif
