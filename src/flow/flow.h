#ifndef FLOW_FLOW_H
#define FLOW_FLOW_H

#include "base/ctx.h"
#include "destination/destination.h"
#include "flow/counters.h"
#include "source/source.h"

/* A loaded flow: connectors and their checked configs. Everything is borrowed and outlives the run. */
struct flow_destination {
	const char *name; /* as in the flow file */
	const struct duct_destination_ops *ops;
	const void *config;
};

struct flow_spec {
	const char *name;
	const struct duct_source_ops *source;
	const void *source_config;
	const struct flow_destination *destinations;
	size_t ndestinations;
	const char *wire_format; /* NULL when not given */
	/* Every destination must have a change before the source may forget it; with ack_primary only the one at place `primary`, while the
	 * others get theirs through outboxes on disk. */
	bool ack_primary;
	size_t primary;
	const char *outbox_dir;	    /* NULL: there can be none */
	int64_t outbox_limit_bytes; /* of each */
	bool gives_up; /* one behind an outbox that stays away for give_up_ms, or fills its outbox, is given up: the others go on */
	int64_t parallelism; /* destinations that are written at the same time; 0: 1 */
};

/* What its destinations are told about wire formats: the flow's, and the service's (DUCTSTREAM_WIRE_FORMAT, _ENFORCE). */
struct duct_wire_wish flow_wire_wish(const struct flow_spec *spec);

enum flow_output {
	FLOW_OUTPUT_AUTO, /* stderr: a live display on a terminal, a line every few seconds otherwise */
	FLOW_OUTPUT_JSON, /* stdout: one JSON object per line */
	FLOW_OUTPUT_NONE,
};

/* Tables to be copied again: schema.name or a name in public, and all of a schema. NULL-terminated or NULL. */
struct flow_backfill {
	const char *const *tables, *const *schemas;
};

/* Changes that the destinations have already and that are to be applied once more. */
struct flow_replay {
	uint64_t lsn; /* those after this position */
	bool append;  /* also to tables that rows are only added to: they are added again; otherwise CONFIG, naming these tables */
	bool done;    /* set by the run, when it is durable; what was done is not done again */
};

struct flow_options {
	const struct flow_backfill *backfill; /* copy these and end; a flow without a copy gets its first one. NULL: no */
	bool resolve_staging; /* at the end of a backfill, or of the way to caught up: what copies left in staging tables goes into the tables */
	/* Before anything else. All of it is one commit of each destination, whose position does not move; when the run ends before that, nothing
	 * has happened. CONFIG when it leaves changes out, or the server has them no more. NULL: nothing. */
	struct flow_replay *replay;
	bool until_caught_up; /* end when everything committed at the source at the start (after a copy) is durable */
	enum flow_output output;
	int64_t max_memory_bytes; /* 0: 256 MiB; a quarter of it bounds what waits between source and destination */
	int64_t give_up_ms;	  /* end with RETRY when attempts fail for so long without progress; 0: 5 minutes with
				     until_caught_up, for ever otherwise */
	/* Wall clock: when somebody last started or changed the flow. A destination that was given up before gets a new copy. 0: now. */
	int64_t started_us;
	/* The second signal: set like ctx->stop, ends without draining or committing. abort NULL: there is none. */
	atomic_bool *abort;
	int abort_fd;
	struct duct_ddl_hook *ddl;	/* told of changes of tables, and asked when it is a gate; NULL: nobody */
	struct flow_counters *counters; /* initialized, filled while it runs; NULL: not wanted */
};

/*
 * Runs the flow until ctx->stop is set (when until_caught_up: or the end is reached, when the source copies only: or the
 * copy is published). Errors of class RETRY are logged as warnings and tried again here with back-off; every other one
 * is returned (and logged by the caller).
 *
 * A stop lets what was received as whole transactions become durable and returns 0; while a copy or the way to the end
 * of until_caught_up is under way it returns -CANCELLED, as that work is not done. After an abort it is -CANCELLED.
 *
 * Threads: the caller's one supervises and shows progress; an applier thread owns each destination, a reader thread the
 * source, copies have workers. All of them have ended when it returns.
 */
int flow_run(const struct flow_spec *spec, const struct flow_options *options, const struct duct_ctx *ctx,
	     struct duct_error *err) DUCT_CHECKED;

#endif
