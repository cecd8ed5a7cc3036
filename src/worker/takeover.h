#ifndef WORKER_TAKEOVER_H
#define WORKER_TAKEOVER_H

#include "worker/lease.h"

/*
 * What the owner of a flow does about its last owner, which did not give its lease back: it has died, or it stands still.
 *
 * takeover_end: a worker of this flow that is on this machine still and has lost its lease would hold the key index locked: it is
 * killed. What it had not committed comes again. One on another machine is left to the destination's epoch.
 *
 * takeover_free_slot: a frozen process holds the replication slot for as long as the server waits for it (wal_sender_timeout). Ends that
 * server process and waits, at most 10 s, until the slot is free. What cannot be done is left to the server: only CANCELLED is an error.
 */
void takeover_end(const char *holder, const char *flow_id, const struct duct_ctx *ctx);
int takeover_free_slot(const char *dsn, const char *slot, const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

#endif
