#ifndef DUCT_SOURCE_H
#define DUCT_SOURCE_H

#include "base/ctx.h"
#include "base/report.h"
#include "options/options.h"
#include "record/batch.h"
#include "record/checkpoint.h"

/*
 * A source connector is a folder that ends in ONE const struct of this type, listed in registry.c.
 *
 * Ownership: open allocates the instance, close frees it and accepts NULL and half-open. read hands the changes over.
 * Config is owned by the flow and outlives the instance. `ret` is written only on success.
 * Threads: all calls on one instance come from one thread at a time, except snapshot parts (see below).
 * Time: no call blocks much longer than its timeout_ms, and ctx->stop is looked at whenever it waits.
 * Errors: 0 or -class. A connector classifies and never retries by itself; the flow owns back-off.
 */

enum duct_source_caps {
	DUCT_SOURCE_STREAM = 1 << 0,
	DUCT_SOURCE_SNAPSHOT = 1 << 1,
};

/* One piece of a copy that one worker can read by itself. */
struct duct_snapshot_part {
	struct duct_relation *relation; /* borrowed from the snapshot */
	int table;			/* index into the snapshot's relations */
	uint64_t estimated_rows, estimated_bytes;
	void *impl; /* the source's own */
};

/*
 * A consistent copy of tables as of one position. Obtained from the source before streaming begins; its parts may be
 * read from several threads at once, each through its own reader. Stays valid until snapshot_done.
 */
struct duct_snapshot {
	struct duct_pos pos; /* all commits with end_lsn <= pos.lsn are in it, later ones come by read() */
	char source_identity[1024];
	struct duct_relation **relations; /* one reference each; includes empty tables */
	size_t nrelations;
	struct duct_snapshot_part *parts;
	size_t nparts;
	int workers;	   /* how many parts the source wants read at once */
	bool without_rows; /* the tables' present rows are not wanted: there are no parts */
	bool only;	   /* end after the copy: no streaming follows */
	bool stepwise;	   /* tables are published in steps, as many as there are workers, each between step_begin and step_done */
	void *impl;
};

struct duct_source_ops {
	const char *name, *summary;
	unsigned caps;
	const struct duct_opt *opts;
	size_t config_size;

	/* Cross-option rules; no I/O. */
	int (*check)(const void *config, struct duct_error *err);

	/* `ductstream check`: tries connections, permissions, objects and type mappings, changes nothing, reports each
	 * finding. Adds the tables that the flow has, or will have once it is started, as far as they can be looked at, so that
	 * destinations can say what they think of them. Returns 0 when the probing itself ran (errors found or not). */
	int (*probe)(const void *config, const struct duct_ctx *ctx, struct duct_relations *tables, duct_report_fn *report,
		     void *arg, struct duct_error *err);

	/* Connects and compares itself with the destination's checkpoint (identity, gaps): a mismatch is an error with
	 * its own sentence; so is a replay_lsn that the server has not kept. Does not create anything that could not be
	 * found again after a crash. */
	int (*open)(void **ret, const void *config, const struct duct_ctx *ctx, const struct duct_checkpoint *from,
		    struct duct_error *err);

	/* May be NULL. Whether two stored identities are of one stream of changes: 0, or CONFIG with what differs. No I/O. */
	int (*same_source)(const char *a, const char *b, struct duct_error *err);

	/*
	 * What must be copied before read() may go on: *ret is NULL when nothing. Called after open (first copy, state
	 * NONE or COPYING: the destination has recorded COPYING before) and again when read() returned 1 (tables that
	 * were added later). After the copy is durable the flow calls snapshot_done with published = true; with false
	 * the copy failed and everything made for it is removed. snapshot_done frees the snapshot. 1: the changes between the
	 * tables copied so far and now are to be passed first.
	 */
	int (*snapshot)(void *source, struct duct_snapshot **ret, struct duct_error *err);
	/* Published tables that are to be copied again, before read() and by the next snapshot(): those in `tables` (schema.name, or a name in
	 * public) and all in `schemas`; both NULL-terminated or NULL. CONFIG when one of them is not published. */
	int (*copy_again)(void *source, const char *const *tables, const char *const *schemas, struct duct_error *err);
	/* What a destination needs that joins the others while they stream: all tables, at a position of its own. The source goes on where it
	 * is; nothing handed over later reaches across that position. Ends with snapshot_done, too. */
	int (*snapshot_all)(void *source, struct duct_snapshot **ret, struct duct_error *err);
	/* Before and after the relations [from, to) of a stepwise copy are published; those before are, in source_identity too. */
	int (*step_begin)(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err);
	int (*step_done)(void *source, struct duct_snapshot *snap, size_t from, size_t to, struct duct_error *err);
	int (*part_open)(void *source, struct duct_snapshot *snap, struct duct_snapshot_part *part, void **ret_reader,
			 struct duct_error *err); /* any thread */
	/* Hands over a batch of DUCT_READ rows (one reference), NULL at the end of the part. Rows of the part's relation, or of
	 * a synthetic one among the snapshot's. */
	int (*part_read)(void *reader, struct duct_batch **ret, struct duct_error *err);
	void (*part_close)(void *reader);
	int (*snapshot_done)(void *source, struct duct_snapshot *snap, bool published, struct duct_error *err);

	/*
	 * The next changes, or *ret = NULL when timeout_ms passed without any. `durable` is what the destination has
	 * proven durable since the last call; it is what the server may be told. Returns 0, 1 when tables were added
	 * that must be copied first (call snapshot), or -class. Where the context allows it changes may be `ahead`; either the rest of
	 * their transaction follows, or `withdrawn` does before anything else.
	 */
	int (*read)(void *source, const struct duct_pos *durable, struct duct_changes **ret, int timeout_ms,
		    struct duct_error *err);

	/* Keep-alive while the queue behind is full or a copy runs: answers the server, reads nothing. */
	int (*tick)(void *source, const struct duct_pos *durable, struct duct_error *err);

	/* The position of everything committed at the source now (a position that read() will reach and pass). */
	int (*head)(void *source, struct duct_pos *ret, struct duct_error *err);

	/* Tells the server the last durable position (when there is a server), then frees. */
	void (*close)(void *source, const struct duct_pos *durable);
};

extern const struct duct_source_ops *const duct_sources[];	  /* NULL-terminated, registry.c */
const struct duct_source_ops *duct_source_find(const char *name); /* NULL when there is none */

#endif
