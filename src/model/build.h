#ifndef MODEL_BUILD_H
#define MODEL_BUILD_H

#include <jansson.h>

#include "base/ctx.h"
#include "duck/session.h"
#include "model/model.h"

/*
 * Builds models: each is one transaction of the lake, which writes its rows, tests them, and is committed only when the tests pass; so a model that
 * fails, or a process that is killed, leaves what was there before. Which are to be built is found out when it is their turn, from what the
 * catalog says has changed (lake.h). A model whose input failed is left out.
 */
/* The begin or end of one model's work. */
struct model_event {
	const struct model *model;
	enum { MODEL_BEGINS, MODEL_DONE, MODEL_FAILED, MODEL_ABANDONED } what;
	int64_t rows;			/* of a table that was built; -1 */
	int64_t snapshot;		/* of its commit; 0: there was none */
	struct duck_conn *conn;		/* for questions to the lake: idle */
	const struct duct_error *error; /* MODEL_FAILED, MODEL_ABANDONED */
	const char *id;			/* a UUID, the same for both */
};

struct model_build_options {
	const struct duct_ctx *ctx;   /* ctx->stop ends it: what is under way is undone */
	const struct duck_lake *lake; /* attached to the session as MODEL_LAKE */
	const char *run_id;	      /* for records and events; "" */
	int parallel;		      /* models at the same time, at least 1 */
	bool full_refresh;	      /* whether anything is new or not; incremental ones for all rows */
	bool test_only;		      /* builds nothing, tests what is there */
	/* Any thread. */
	void (*log)(void *arg, const char *level, const char *text);
	void (*progress)(void *arg, int done, int total, const char *step);
	/* Of models that are built, not of those that are up to date; may be NULL. */
	void (*event)(void *arg, const struct model_event *event);
	void *arg;
	/* Before each model, on its connection: keys of the object store that end. May be NULL. */
	int (*renew)(void *arg, struct duck_conn *conn, struct duct_error *err);
	void *renew_arg;
};

/*
 * *ret: {"models": [{"name", "state", ...}], "built": n, "up_to_date": n, "failed": n, "left_out": n}, also when models failed; to be given to
 * json_decref(). 0, or -class of the first model that failed.
 */
int model_build(const struct model_project *project, const bool *selected, struct duck_session *session,
		const struct model_build_options *options, json_t **ret, struct duct_error *err) DUCT_CHECKED;

#endif
