#ifndef DUCT_CTX_H
#define DUCT_CTX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/log.h"

/*
 * What a connector is given by the flow that runs it. Outlives the instance. `stop` is set (and `stop_fd`, an eventfd,
 * becomes readable and stays so) when the work is to end; whoever waits looks at one of them.
 */
struct duct_ctx {
	const struct duct_log *log;
	const char *flow; /* name of the flow */
	atomic_bool *stop;
	int stop_fd;
};

static inline bool duct_ctx_stopped(const struct duct_ctx *ctx)
{
	return atomic_load_explicit(ctx->stop, memory_order_relaxed);
}

#endif
