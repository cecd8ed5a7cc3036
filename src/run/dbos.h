#ifndef RUN_DBOS_H
#define RUN_DBOS_H

#include "pg/session.h"
#include "run/executor.h"
#include "state/schedules.h"

/*
 * Runs through a DBOS system database (PyPI `dbos` makes it: dbos migrate), so that DBOS clients enqueue, watch and cancel them. A row of its
 * queue becomes a run of ours with the same id: our executors do it, with log, progress, lease and attempts; when it is over its result is
 * written to DBOS. One process at a time does the bridging, under the lease "dbos/APP"; another takes over where it stopped.
 *
 * Workflows: "ductstream.run_flow" (flow_id, max_empty_reads) and "ductstream.run" (kind, flow_id, input).
 */
struct dbos_config {
	bool enabled;				  /* DUCTSTREAM_DBOS_*, see options/service.c */
	const char *dsn, *app, *queue, *schedule; /* schedule NULL: none */
	int64_t max_empty_reads, max_retries;
};
/* Strings are the settings'. CONFIG when it is on and there is no Postgres. */
int dbos_configure(struct dbos_config *ret, const struct service_settings *settings, struct duct_error *err) DUCT_CHECKED;

/* --- the database (dbos.c): one connection, one thread --- */

enum { DBOS_OLDEST = 114, DBOS_NEWEST = 125 }; /* of dbos.dbos_migrations.version */

struct dbos {
	const struct dbos_config *config;
	struct pg_session *session;
	char owner[40]; /* owner_xid of what this connection has claimed */
	int version;
};
/* CONFIG when the schema is missing, too old, or lacks a column. alone: RETRY while another connection is open with it. */
int dbos_open(struct dbos *dbos, const struct dbos_config *config, bool alone, int stop_fd, struct duct_error *err) DUCT_CHECKED;
void dbos_close(struct dbos *dbos);

/* 1: enqueued, 0: a workflow with that id or deduplication id is there. named_json: its arguments. */
int dbos_enqueue(struct dbos *dbos, const char *workflow, const char *id, const char *deduplication, const char *named_json,
		 struct duct_error *err) DUCT_CHECKED;

/* The same for one poll of a flow, with its id as deduplication id: 0 also while one is under way. dbos_enqueue_flow connects for it. */
int dbos_enqueue_on(struct dbos *dbos, const char *id, const char *flow_id, struct duct_error *err) DUCT_CHECKED;
int dbos_enqueue_flow(const struct dbos_config *config, const char *id, const char *flow_id, int stop_fd,
		      struct duct_error *err) DUCT_CHECKED;

struct dbos_row {
	const char *id, *name, *inputs;
};
/* Delayed rows that are due are enqueued, those past their deadline cancelled. */
int dbos_sweep(struct dbos *dbos, struct duct_error *err) DUCT_CHECKED;
/* What this application's earlier bridge had claimed is ours now: its rows. */
int dbos_adopt(struct dbos *dbos, struct duct_arena *arena, struct dbos_row **ret, struct duct_error *err) DUCT_CHECKED;
/* The next rows, at most `most`, by the queue's own limits: concurrency, rate, one per partition. */
int dbos_claim(struct dbos *dbos, struct duct_arena *arena, int most, struct dbos_row **ret, struct duct_error *err) DUCT_CHECKED;
/* The ids that are still ours. */
int dbos_held(struct dbos *dbos, struct duct_arena *arena, const char ***ret, struct duct_error *err) DUCT_CHECKED;
/* error NULL: SUCCESS with that JSON; otherwise ERROR with that message. run: what was done, which becomes the workflow's one step, or
 * NULL. 1, or 0: it was not ours any more. */
int dbos_finish(struct dbos *dbos, const char *id, const struct state_run *run, const char *output_json, const char *error,
		struct duct_error *err) DUCT_CHECKED;

/* --- the bridge (dbos_bridge.c) --- */

struct dbos_bridge;
int dbos_bridge_start(struct dbos_bridge **ret, const struct dbos_config *config, struct state *state, const struct duct_log *log,
		      struct run_executor *executor, struct duct_error *err) DUCT_CHECKED;
void dbos_bridge_stop(struct dbos_bridge *bridge); /* accepts NULL */

#define DBOS_SCHEDULE "dbos-flows"

#endif
