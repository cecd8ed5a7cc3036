#ifndef WORKER_LEASE_H
#define WORKER_LEASE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/uuid.h"
#include "state/flows.h"

/*
 * The right to run a flow, kept by a thread of its own: taken for LEASE_TTL_MS, renewed every quarter of that. When it was lost (somebody
 * else has it, or the state could not be reached for as long as it lasts) `lost` is set and lost_fd becomes readable: the flow must end at
 * once. Until then nobody else runs the flow; after it the destination's own epoch keeps a late commit out.
 */
enum { LEASE_TTL_MS = 10000, LEASE_HOST_LEN = 128 };

/* The name of this machine in leases: DUCTSTREAM_HOST, or its host name. */
void lease_host(char to[LEASE_HOST_LEN]);

struct lease {
	struct state *state;
	char name[80], holder[LEASE_HOST_LEN + 64];
	int64_t fence;
	char last_holder[LEASE_HOST_LEN + 64]; /* that did not give it back, "" none: what it holds elsewhere may be held still */
	atomic_bool lost;
	atomic_int_least64_t until_us; /* monotonic: when it ends unless it is renewed; whoever sees it pass takes it as lost */
	int lost_fd, end_fd;
	pthread_t thread;
};

/* Takes the lease of a flow and begins to renew it. While another owner is alive: RETRY with its name, within some three seconds. One
 * that is dead is waited for, at most LEASE_TTL_MS. CANCELLED with ctx->stop. */
int lease_take(struct lease *lease, struct state *state, const char *flow_id, const struct duct_ctx *ctx,
	       struct duct_error *err) DUCT_CHECKED;
/* 1: it is ours now. 0: it was lost. */
int lease_is_ours(struct lease *lease, struct duct_error *err) DUCT_CHECKED;
/* Ends the thread and gives the lease back. */
void lease_give_back(struct lease *lease);

#endif
