#ifndef RUN_LINEAGE_H
#define RUN_LINEAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * OpenLineage events of what jobs read and write, where the environment says so (docs/models.md): to an HTTP endpoint, or as lines of a file. Nobody who
 * does not listen holds a job up or fails it: a request takes at most some seconds, and after a few failures in a row nothing more is sent.
 * Threads: any.
 */
struct run_lineage;

/* *ret NULL: the environment asks for none. CONFIG: it asks for what cannot be. stop_fd: ends requests. */
int run_lineage_open(struct run_lineage **ret, int stop_fd, struct duct_error *err) DUCT_CHECKED;
void run_lineage_close(struct run_lineage *lineage); /* accepts NULL */

struct run_lineage_event {
	enum { RUN_LINEAGE_START, RUN_LINEAGE_COMPLETE, RUN_LINEAGE_FAIL, RUN_LINEAGE_ABORT } type;
	const char *job;		    /* "model.gold.dim_date" */
	const char *run_id;		    /* a UUID, the same from START on */
	const char *parent_job, *parent_id; /* the run that it is a part of; "" or NULL: none */
	const char *store;		    /* the namespace of the tables: the lake, without secrets */
	const char *const *reads;	    /* "ducklake.raw.entries" */
	size_t nreads;
	const char *writes;
	const char *sql;   /* or NULL */
	int64_t rows;	   /* of what was written; -1: not known */
	const char *error; /* RUN_LINEAGE_FAIL */
};
/* NULL lineage: nothing. What fails is a line of the run's log (run/inside.h). */
void run_lineage_send(struct run_lineage *lineage, const struct run_lineage_event *event);

#endif
