#ifndef DUCT_DESTINATION_H
#define DUCT_DESTINATION_H

#include "base/ctx.h"
#include "base/report.h"
#include "options/options.h"
#include "record/batch.h"
#include "record/checkpoint.h"

/*
 * A destination connector is a folder that ends in ONE const struct of this type, listed in registry.c. Ownership,
 * time and error rules are those of source/source.h.
 *
 * Threads: all calls on one instance come from its applier thread, except load_* (below). A destination may own a pool
 * for pure work on sealed batches.
 *
 * Exactly once (DUCT_DESTINATION_ATOMIC_POS): commit stores rows and position in one transaction; the flow asks
 * resume() at start and trusts it over everything else; changes at or below that position never reach write().
 */
enum duct_destination_caps {
	DUCT_DESTINATION_ATOMIC_POS = 1 << 0,
	DUCT_DESTINATION_UPSERT = 1 << 1,
	DUCT_DESTINATION_LOAD = 1 << 2,
};

enum duct_load {
	DUCT_LOAD_EMPTY = 1 << 0,    /* the tables' present rows are not copied */
	DUCT_LOAD_ONCE = 1 << 1,     /* no changes follow: nothing needs to be ready for them */
	DUCT_LOAD_RESOLVE = 1 << 2,  /* what is staged is to be taken over with this copy, as resolve_staging does later */
	DUCT_LOAD_BACKFILL = 1 << 3, /* somebody asked for it: the tables are followed, and the run ends with the copy */
	DUCT_LOAD_ALONE = 1 << 4,    /* the flow has no other destination */
};

/* How changes at or below the destination's position are taken. */
enum duct_replay {
	DUCT_REPLAY_NONE, /* not at all */
	/* By key, whatever is there: an inserted row takes the place of one of its key, an updated one is inserted where it lacks, a deleted one
	 * may lack. Tables that rows are only added to are refused. */
	DUCT_REPLAY_KEYED,
	DUCT_REPLAY_APPEND, /* the same, but to those tables rows are added again */
};

/* What the destination wants of the flow, asked before each wait. */
struct duct_destination_pace {
	int64_t commit_at_us; /* monotonic time at which the open group should be committed; INT64_MAX: nothing is open */
	bool full;	      /* commit now: the group has reached its size */
};

/* What a commit did, for progress and metrics. */
struct duct_commit_result {
	int64_t snapshot_id; /* of the lake; -1 when none was made (position-only commit) */
	uint64_t rows;	     /* source rows in it */
};

struct duct_destination_ops {
	const char *name, *summary;
	unsigned caps;
	const struct duct_opt *opts;
	size_t config_size;

	int (*check)(const void *config, struct duct_error *err);
	/* May be NULL. What two destinations of one flow, with these names, would share and cannot ("catalog"); NULL: nothing. No I/O. */
	const char *(*same_place)(const void *a, const char *a_name, const void *b, const char *b_name);
	/* As a source's; `tables` are those of the source. */
	int (*probe)(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		     void *arg, struct duct_error *err);

	/* Connects, becomes the only owner of the flow's checkpoint (older owners can never commit again), makes what is
	 * missing (catalog, tables of our own). */
	int (*open)(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err);

	/* What the destination itself proves about this flow. */
	int (*resume)(void *dest, struct duct_checkpoint *ret, struct duct_error *err);

	/* Records that a first copy begins (state COPYING), before the source creates anything for it. */
	int (*begin_copy)(void *dest, const char *source_identity, struct duct_error *err);

	/*
	 * Copies: each worker thread has its own loader for one part; files go aside and are published by load_publish
	 * in ONE commit that also makes the state STREAMING at `pos` (first copy: set_position true) or leaves the position
	 * alone (tables added later). load_begin is called once, before workers, from the applier thread, with every relation
	 * of the snapshot; load_publish or load_abort ends it.
	 */
	int (*load_begin)(void *dest, struct duct_relation *const *relations, size_t n, unsigned flags /* of enum duct_load */,
			  struct duct_error *err);
	int (*loader_open)(void *dest, struct duct_relation *rel, void **ret_loader, struct duct_error *err); /* any thread */
	int (*loader_write)(void *loader, const struct duct_batch *batch, struct duct_error *err);
	int (*loader_finish)(void *loader, struct duct_error *err); /* files are durable aside */
	void (*loader_close)(void *loader);			    /* accepts NULL and unfinished */
	int (*load_publish)(void *dest, const struct duct_pos *pos, const char *source_identity, bool set_position,
			    struct duct_commit_result *ret, struct duct_error *err);
	void (*load_abort)(void *dest);

	/* May be NULL. What copies have left in staging tables goes into the tables, as the destination's options say, in one commit of its
	 * own. Nothing is open. */
	int (*resolve_staging)(void *dest, struct duct_error *err);

	/*
	 * Adds changes to the open group; whole source transactions or parts of one. Takes ownership of changes, also on
	 * failure. When it returns an error the group is lost (abort) and the flow resumes from resume().
	 */
	int (*write)(void *dest, struct duct_changes *changes, struct duct_error *err);

	/*
	 * May be NULL. Until the next call, or the end of the instance. All of a replay is one group, and its commit leaves the position as it
	 * is. Nobody is asked about shapes of tables of before: where the replay meets one, write fails with CONFIG. So does the commit when
	 * rows of tables that are refused came; its message names these. Nothing is open.
	 */
	int (*replay)(void *dest, enum duct_replay how, struct duct_error *err);

	/* May be NULL: false. Whether changes may come before their transaction has committed (duct_changes.ahead): nothing of them is seen by
	 * anybody before the commit, and abort() undoes them. */
	bool (*takes_ahead)(void *dest);

	struct duct_destination_pace (*pace)(void *dest);

	/* Commits the open group with its last position (or only the position, when no rows are in it). Only called when the
	 * group ends with a whole source transaction. Durable when it returns 0. With `last` the flow ends with it: nobody is served
	 * by leaving others the time that lies between commits. */
	int (*commit)(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err);

	/* May be NULL. Nothing is open, and nothing has come for about a second: work that is due by the clock, or was begun beside the
	 * commits. With `last` the stream ends: what was begun is finished. */
	int (*idle)(void *dest, bool last, struct duct_error *err);

	void (*abort)(void *dest); /* drops the open group; the instance stays usable */
	void (*close)(void *dest);
};

extern const struct duct_destination_ops *const duct_destinations[]; /* NULL-terminated, registry.c */
const struct duct_destination_ops *duct_destination_find(const char *name);

#endif
