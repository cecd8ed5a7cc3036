#ifndef DUCT_SOURCE_POSTGRES_SPOOL_H
#define DUCT_SOURCE_POSTGRES_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Messages of transactions that are still open at the source (streamed transactions), in the order they came, each with
 * the xid of the sub-transaction it belongs to. In memory up to a limit over all transactions; past it the largest one
 * goes to an append-only file that has no name any more once it is open. Nothing survives the process: after a
 * reconnect the server sends all of it again. One thread.
 */
struct postgres_spool;

/* dir must outlive the spool. No file is made before the limit is passed. */
struct postgres_spool *postgres_spool_new(size_t memory_limit_bytes, const char *dir);
/* From the next message on. */
void postgres_spool_limit_memory(struct postgres_spool *spool, size_t bytes);
/* All files together: CONFIG past it. 0: no limit. */
void postgres_spool_limit_disk(struct postgres_spool *spool, uint64_t bytes);
void postgres_spool_free(struct postgres_spool *spool); /* accepts NULL */

/* A block of a transaction begins; with `first` whatever was kept of it is thrown away. */
void postgres_spool_start(struct postgres_spool *spool, uint32_t xid, bool first);

/* `keep` marks a message that counts even when its sub-transaction is aborted (relations: the server sends them once
 * per top transaction). RETRY when the disk refuses. */
int postgres_spool_append(struct postgres_spool *spool, uint32_t xid, uint32_t subxid, bool keep, const void *message, size_t len,
			  struct duct_error *err) DUCT_CHECKED;

/* Abort of a sub-transaction, or of all of it (subxid == xid). */
void postgres_spool_abort(struct postgres_spool *spool, uint32_t xid, uint32_t subxid);

/* Throws everything away. */
void postgres_spool_reset(struct postgres_spool *spool);

/* Replays a transaction: call next until it gives 0 (1: a message; it is valid until the next call), then drop. Nothing
 * may be appended to that transaction meanwhile. An unknown xid has no messages. */
struct postgres_replay {
	struct postgres_spool_txn *txn;
	uint64_t at;   /* in file + memory */
	uint64_t last; /* where the record given last begins */
	char *window;  /* a piece of the file */
	size_t window_cap, window_len;
	uint64_t window_start;
};
void postgres_replay_begin(struct postgres_replay *replay, struct postgres_spool *spool, uint32_t xid);
int postgres_replay_next(struct postgres_replay *replay, const char **ret, size_t *ret_len, struct duct_error *err) DUCT_CHECKED;
/* The message given last comes again with the next call; memory for a large one is free until then. */
void postgres_replay_take_back(struct postgres_replay *replay);
void postgres_replay_done(struct postgres_replay *replay);
void postgres_spool_drop(struct postgres_spool *spool, uint32_t xid);

size_t postgres_spool_memory(const struct postgres_spool *spool);
uint64_t postgres_spool_disk(const struct postgres_spool *spool);
size_t postgres_spool_open_transactions(const struct postgres_spool *spool);

#endif
