#ifndef DUCT_CTX_H
#define DUCT_CTX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "base/uuid.h"

/*
 * Who a run is to a destination that lets one owner in at a time. Kept by the flow from one attempt to the next, so that
 * an owner that was replaced meanwhile does not take over again. Zeroed at first; the destination fills it.
 */
struct duct_ownership {
	char token[DUCT_UUID_LEN]; /* "" before the first attempt */
	int64_t epoch;		   /* the last one it was given, 0: none yet */
};

struct duct_ddl_hook; /* record/ddl.h */

/*
 * What a connector is given by the flow that runs it. Outlives the instance. `stop` is set (and `stop_fd`, an eventfd,
 * becomes readable and stays so) when the work is to end; whoever waits looks at one of them.
 */
struct duct_ctx {
	const struct duct_log *log;
	const char *flow; /* name of the flow */
	atomic_bool *stop;
	int stop_fd;
	struct duct_ownership *ownership; /* NULL: every open takes over, whoever was there before */
	struct duct_ddl_hook *ddl;	  /* changes of tables are told to it; NULL: nobody asks */
	/* Sources: changes may be handed over before their transaction has committed (duct_changes.ahead). Changes between attempts only. */
	bool ahead;
	const char *destination; /* name of the destination in its flow; NULL: not one, or not known */
	/* Which wire format its flow and the service ask for, for destinations that have one; NULL: they do not say. */
	struct duct_wire_wish {
		const char *flow, *service;
		bool enforce;
	} wire;
};

static inline bool duct_ctx_stopped(const struct duct_ctx *ctx)
{
	return atomic_load_explicit(ctx->stop, memory_order_relaxed);
}

#endif
