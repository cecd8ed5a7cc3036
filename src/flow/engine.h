#ifndef FLOW_ENGINE_H
#define FLOW_ENGINE_H

#include "flow/dead_rows.h"
#include "flow/flow.h"
#include "flow/progress.h"
#include "flow/retry.h"

/* What the files of the engine share; nobody outside src/flow includes it. */

/* What a duct_ctx shows to a connector. Unlike the user's, it can be cleared: before the clean-up calls of a connector
 * that was interrupted. */
struct flow_signal {
	atomic_bool set;
	int fd;
};
int flow_signal_init(struct flow_signal *signal, struct duct_error *err);
void flow_signal_done(struct flow_signal *signal);
void flow_signal_raise(struct flow_signal *signal);

/*
 * One flow_run. The supervisor (the caller's thread) sets stopping and aborting and raises the signals; everything below
 * `source` belongs to the applier thread.
 */
struct flow_engine {
	const struct flow_spec *spec;
	const struct flow_options *options;
	const struct duct_ctx *user;
	const struct duct_source_ops *src;
	const struct duct_destination_ops *dst;
	struct flow_counters *counters;
	size_t queue_bytes;

	struct flow_signal source_stop, dest_stop; /* interrupt the calls of one side */
	struct flow_signal wake;		   /* for the supervisor: a new copy, or the end */
	struct duct_ctx source_ctx, dest_ctx;
	struct duct_ownership ownership;
	atomic_bool stopping, aborting, finished;
	_Atomic(struct flow_copy_view *) new_copy; /* handed to the supervisor, which exchanges it for NULL */

	struct flow_dead_rows dead;
	void *source, *dest;
	struct flow_retry retry;
	struct duct_pos head; /* of until_caught_up */
	bool have_head;
	bool caught_up; /* the head is durable */
	bool complete;	/* the run has nothing more to do: caught up, or only a copy was wanted */
	bool streamed;	/* the destination is past its first copy */
	bool copy_begun;
	int rc;
	struct duct_error err;
};

void flow_engine_phase(struct flow_engine *e, enum flow_phase phase);
static inline bool flow_stopping(struct flow_engine *e)
{
	return atomic_load(&e->stopping);
}
static inline bool flow_aborting(struct flow_engine *e)
{
	return atomic_load(&e->aborting);
}

/* Makes `pos` the durable position: what the source may tell its server. */
void flow_engine_durable(struct flow_engine *e, const struct duct_pos *pos);

/* Ends an interruption so that clean-up calls work; an abort stays. */
void flow_engine_calm(struct flow_engine *e);

bool flow_engine_reached_head(struct flow_engine *e, uint64_t lsn);

/*
 * Copies the tables of snap and publishes them; snapshot_done is called in every case. first: the copy sets the position.
 * copy.c
 */
int flow_copy(struct flow_engine *e, struct duct_snapshot *snap, bool first, struct duct_error *err) DUCT_CHECKED;

/*
 * Streams until the end: 0 when stopped or caught up, 1 when the source has new tables to copy (everything read is
 * committed), -class otherwise. No group is open afterwards. stream.c
 */
int flow_stream(struct flow_engine *e, struct duct_error *err) DUCT_CHECKED;

#endif
