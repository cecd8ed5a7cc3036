#ifndef MODEL_WORK_H
#define MODEL_WORK_H

#include <pthread.h>

#include "base/buf.h"
#include "base/uuid.h"
#include "model/build.h"
#include "model/lake.h"

/* Between the files that build. Inside of the folder only. */

/* How a model is to be written. */
enum model_write {
	MODEL_WRITE_NOTHING, /* it is up to date */
	MODEL_WRITE_VIEW,
	MODEL_WRITE_ALL,      /* replaced */
	MODEL_WRITE_SYNC,     /* all rows are computed; those that differ, by key, are written */
	MODEL_WRITE_CHANGED,  /* the keys or partitions that have changes are made again */
	MODEL_WRITE_NEW,      /* what the text says is new is added, in place of its keys or partitions */
	MODEL_WRITE_SNAPSHOT, /* versions of rows: old ones end, new ones begin */
};

/* One model while it is its turn. */
struct model_turn {
	const struct model_project *project;
	const struct model *model;
	struct duck_conn *conn;
	/* write.c says why: transactions begin one after the other, and keep what the extension knows of the lake's tables alive. NULL: no need. */
	pthread_mutex_t *beginning;
	struct duck_conn *pin;
	duckdb_result pinned;
	bool is_pinned;
	struct duct_arena arena;
	bool sqlite; /* its catalog takes a commit only when nothing was committed since the transaction began: keep it short */
	const char *run_id;
	char id[DUCT_UUID_LEN]; /* of this build of this model, once it has begun */

	/* plan.c: */
	enum model_write write;
	const char *reason; /* why it is built, or that it is up to date */
	bool exists, exists_as_view;
	struct model_input *bases; /* the tables behind its inputs, through views */
	size_t nbases;
	bool versioned;	    /* all of them have versions */
	const char *inputs; /* JSON: names and table ids of the bases, names of the views between with a hash of their text */
	int64_t since;	    /* MODEL_WRITE_CHANGED: changes after this snapshot */
	const char *untold; /* MODEL_WRITE_CHANGED: a query that counts files whose deaths the changes may lack: write.c */

	/* write.c: */
	int64_t base, snapshot, rows; /* snapshot 0: nothing was committed */
	int64_t met; /* the snapshot that its transaction met, in which its rows are right when nothing was committed */
};

/* What is to be done now, by what the lake says. */
int model_plan(struct model_turn *turn, const struct model_lake *lake, bool full_refresh, struct duct_error *err) DUCT_CHECKED;

/* write.c. Reads the inputs into the session's own tables, where the write is not to be one query; the lake is not changed. */
int model_stage(struct model_turn *turn, struct duct_error *err) DUCT_CHECKED;
/* The transaction, up to its commit; the caller ends it. */
int model_write_rows(struct model_turn *turn, struct duct_error *err) DUCT_CHECKED;
int model_commit(struct model_turn *turn, struct duct_error *err) DUCT_CHECKED;
void model_undo(struct model_turn *turn);
/* Frees what was staged. */
void model_forget(struct model_turn *turn);

/* checks.c. DATA names the test that failed; ret_n counts those that were done. */
int model_check_all(struct model_turn *turn, int *ret_n, struct duct_error *err) DUCT_CHECKED;

void model_put_target(struct duct_buf *to, const struct model *model);

#endif
