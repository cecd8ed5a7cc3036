#ifndef WORKER_SLOT_H
#define WORKER_SLOT_H

#include "base/ctx.h"
#include "base/error.h"

/*
 * For the owner of a flow whose last owner did not give its lease back: a frozen process still holds the replication slot, for as long as
 * the server waits for it (wal_sender_timeout). Ends that server process and waits, at most 10 s, until the slot is free. What cannot be
 * done is left to the server: only CANCELLED is an error.
 */
int slot_take_back(const char *dsn, const char *slot, const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

#endif
