#ifndef FLOW_COUNTERS_H
#define FLOW_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "record/position.h"

/*
 * What a running flow counts: written by its threads, read by progress and metrics at any time. Every field is an
 * atomic of its own; two fields read one after the other may be of different moments, except in flow_position.
 */

/* A position that one thread publishes and others read as a whole: the sequence is odd while it changes. */
struct flow_position {
	atomic_uint sequence;
	atomic_uint_least64_t lsn;
	atomic_int_least64_t commit_us;
};
void flow_position_store(struct flow_position *p, const struct duct_pos *pos); /* one writer */
struct duct_pos flow_position_load(struct flow_position *p);		       /* any thread */

enum flow_phase {
	FLOW_OPENING, /* connecting, resuming */
	FLOW_COPYING, /* a copy of tables runs */
	FLOW_STREAMING,
	FLOW_WAITING, /* backing off after a failure */
};

/* A source transaction that comes in parts: what was committed after it waits for its end. */
struct flow_large {
	atomic_uint_least64_t rows, bytes; /* so far; rows 0: there is none */
	atomic_uint_least32_t xid;
	atomic_int_least64_t commit_us; /* when the source committed it, 0: not known */
};

/* One destination, by its place in the flow. */
enum flow_destination_state {
	FLOW_TO_OPENING,
	FLOW_TO_COPYING,
	FLOW_TO_STREAMING,
	FLOW_TO_AWAY,	  /* it does not answer: its changes wait in its outbox */
	FLOW_TO_FULL,	  /* they wait at the source, as its outbox is full */
	FLOW_TO_DRAINING, /* what is in its outbox comes first */
	FLOW_TO_GIVEN_UP, /* it gets nothing any more */
};
struct flow_destination_view {
	atomic_int state;	      /* enum flow_destination_state */
	struct flow_position durable; /* what it has itself */
	atomic_uint_least64_t outbox_bytes;
	char reason[256]; /* with FLOW_TO_GIVEN_UP, which is for the rest of the run: why */
};
const char *flow_destination_state_name(int state); /* "streaming" */
enum { FLOW_MOST_DESTINATIONS = 64 };

struct flow_counters {
	atomic_int phase; /* enum flow_phase */
	/* The three positions that are never confused. */
	struct flow_position received, written, durable;
	atomic_uint_least64_t received_rows, received_bytes;
	atomic_uint_least64_t committed_rows; /* of the stream */
	atomic_uint_least64_t copied_rows, copied_bytes;
	atomic_uint_least64_t dead_rows;  /* that became dead letters, durably */
	atomic_uint_least64_t commits;	  /* position-only ones included */
	atomic_int_least64_t snapshot_id; /* the last one made in the lake, -1: none yet */
	atomic_uint_least64_t queue_bytes;
	atomic_uint_least64_t retries;
	struct flow_large large; /* the transaction that is being applied in parts */
	struct flow_destination_view destinations[FLOW_MOST_DESTINATIONS];
};
void flow_large_reset(struct flow_large *large);
void flow_counters_init(struct flow_counters *counters);

static inline void flow_count(atomic_uint_least64_t *counter, uint64_t more)
{
	atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

static inline uint64_t flow_counted(atomic_uint_least64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
