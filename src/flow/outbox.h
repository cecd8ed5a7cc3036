#ifndef FLOW_OUTBOX_H
#define FLOW_OUTBOX_H

#include "base/error.h"
#include "record/batch.h"

/*
 * Changes on disk between a source and one destination that may be slower or away: what was synced here need not be kept by the source.
 * A folder of segments, each a file that is appended to, with what it needs to be read by itself:
 *
 *   header   "DUCTOUTB", u32 version, u32 hash of what follows in it, u64 position before its first frame, the source's identity (1024 bytes)
 *   frame    u32 length, u32 hash of the bytes, u8 kind ('R' relation, 'C' changes), the bytes (record/freeze.h)
 *
 * A frame that is cut off or damaged at the end of the last segment was not synced and is forgotten at open; anywhere else it is DATA.
 * Segments go when the destination has all of theirs. Native byte order: nobody else reads it.
 *
 * Threads: one writes, one reads; trim and the questions may be asked by either.
 */
struct flow_outbox;

/* dir is made. from_lsn: where an empty one begins. identity: whose changes it keeps, in the source's words (record/checkpoint.h); one that is
 * there has its own. limit_bytes: on disk. DATA: it is damaged, or of another version of the program. */
int flow_outbox_open(struct flow_outbox **ret, const char *dir, const char *identity, uint64_t from_lsn, int64_t limit_bytes,
		     struct duct_error *err) DUCT_CHECKED;
const char *flow_outbox_identity(const struct flow_outbox *outbox);
void flow_outbox_close(struct flow_outbox *outbox); /* accepts NULL; nobody may be inside */
bool flow_outbox_exists(const char *dir);	    /* whether the folder has one */
void flow_outbox_drop(const char *dir);		    /* with all its segments, and the note below */

/*
 * A note in the folder, instead of an outbox: the destination was given up, why, and when (wall clock). The segments go with it.
 */
int flow_outbox_give_up(const char *dir, const char *reason, int64_t now_us, struct duct_error *err) DUCT_CHECKED;
/* Whether there is one. ret_reason: the caller frees it. */
bool flow_outbox_given_up(const char *dir, char **ret_reason, int64_t *ret_at_us);

/* The position before its first change, and the one after the last whole transaction that is synced. */
uint64_t flow_outbox_first(struct flow_outbox *outbox);
struct duct_pos flow_outbox_end(struct flow_outbox *outbox);
uint64_t flow_outbox_bytes(struct flow_outbox *outbox);

/* Adds changes. 1: taken; 0: the limit is reached, or the disk is full: nothing was written. A transaction that was begun below the limit goes in
 * whole. RETRY: another failure of the disk. */
int flow_outbox_append(struct flow_outbox *outbox, const struct duct_changes *changes, struct duct_error *err) DUCT_CHECKED;
/* Everything appended so far is durable afterwards, and may be read. */
int flow_outbox_sync(struct flow_outbox *outbox, struct duct_error *err) DUCT_CHECKED;

/* Whether one that has taken nothing more would take some again after it was opened anew; the destination has everything up to durable_lsn. */
bool flow_outbox_has_room(struct flow_outbox *outbox, uint64_t durable_lsn);

/* Reading begins anew behind lsn. */
int flow_outbox_seek(struct flow_outbox *outbox, uint64_t lsn, struct duct_error *err) DUCT_CHECKED;
/* The next synced changes. 1: *ret is the caller's; 0: none within timeout_ms; CANCELLED after flow_outbox_wake(). */
int flow_outbox_next(struct flow_outbox *outbox, struct duct_changes **ret, int timeout_ms, struct duct_error *err) DUCT_CHECKED;
void flow_outbox_wake(struct flow_outbox *outbox);
/* The destination has everything up to lsn. */
void flow_outbox_trim(struct flow_outbox *outbox, uint64_t lsn);

#endif
