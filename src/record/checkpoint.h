#ifndef DUCT_CHECKPOINT_H
#define DUCT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "record/position.h"

/* How far a destination has come with a flow, as the destination itself proves it. */
enum duct_flow_state {
	DUCT_STATE_NONE,      /* nothing was ever written for this flow */
	DUCT_STATE_COPYING,   /* the first copy was begun and not published: start it over */
	DUCT_STATE_STREAMING, /* pos is durable; everything up to it is in the destination */
};

struct duct_checkpoint {
	enum duct_flow_state state;
	struct duct_pos pos;
	/* What the source said about itself when pos was stored, as JSON text that only the source reads (system
	 * identifier, database, slot, timeline, ...). "" when none. */
	char source_identity[1024];
	/* Relations (duct_relation oids) that are complete in the destination; tables published now that are not among
	 * them are copied first. NULL: the destination cannot tell, all count as complete. Memory of the destination,
	 * valid until its close or next resume. */
	const uint32_t *known_oids;
	size_t nknown;
	/* Positions above pos where other destinations of the flow go on: nothing handed over reaches across one. */
	const uint64_t *cuts;
	size_t ncuts;
	const char *behind; /* the destination that this is the position of, where others are further; NULL: none is */
	/* Not 0: changes after this position, which is below pos, are wanted once more. */
	uint64_t replay_lsn;
};

#endif
