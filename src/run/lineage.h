#ifndef RUN_LINEAGE_H
#define RUN_LINEAGE_H

#include <jansson.h>

#include "base/error.h"
#include "base/uuid.h"

/*
 * OpenLineage events of what runs read and write, where the environment says so (docs/runs.md): to an HTTP endpoint, or as lines of a file. Nobody who
 * does not listen holds a job up or fails it: a request takes at most some seconds, and after a few failures in a row nothing more is sent.
 * Threads: any.
 */
struct run_lineage;

/* *ret NULL: the environment asks for none. CONFIG: it asks for what cannot be. warn: told what could not be sent, once or a few times. */
int run_lineage_open(struct run_lineage **ret, void (*warn)(void *arg, const char *text), void *arg,
		     struct duct_error *err) DUCT_CHECKED;
void run_lineage_close(struct run_lineage *lineage); /* accepts NULL */

enum run_lineage_type { RUN_LINEAGE_START, RUN_LINEAGE_COMPLETE, RUN_LINEAGE_FAIL, RUN_LINEAGE_ABORT };
/* As the work ended. */
enum run_lineage_type run_lineage_end(int rc, const struct duct_error *err);

struct run_lineage_event {
	enum run_lineage_type type;
	const char *job;		    /* "model.gold.dim_date" */
	const char *run_id;		    /* the same from START on; one that is no UUID gets one (below) */
	const char *parent_job, *parent_id; /* the run that it is a part of; "" or NULL: none */
	const json_t *inputs, *outputs;	    /* lists of datasets (run/record.h); NULL: none */
	const char *sql;		    /* or NULL */
	const char *error;		    /* RUN_LINEAGE_FAIL */
};
/* NULL lineage: nothing. */
void run_lineage_send(struct run_lineage *lineage, const struct run_lineage_event *event);

/* A run's id as OpenLineage wants one: itself if it is a UUID, else one that is made of it, always the same. */
char *run_lineage_uuid(char to[DUCT_UUID_LEN], const char *id);

#endif
