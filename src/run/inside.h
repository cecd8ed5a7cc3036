#ifndef RUN_INSIDE_H
#define RUN_INSIDE_H

#include "base/ctx.h"
#include "run/jobs.h"

struct run_record;

/*
 * A job's work in a process of its own: `ductstream job KIND` reads the input from stdin and says on stdout how far it is and, in its last line, the
 * result. So memory is bounded per run, a crash is that run's failure, and libraries that must not meet in one process do not: the official
 * extensions open a SQLite catalog themselves.
 */
struct run_inside {
	const char *kind;
	const json_t *input;	    /* an object, checked as before it was enqueued; borrowed */
	const json_t *checkpoint;   /* that an earlier attempt left, or NULL */
	const struct duct_ctx *ctx; /* ctx->stop and stop_fd: SIGTERM or SIGINT came */
	struct duct_arena *arena;   /* of the thread that does the work */
	const char *run_id;	    /* "" when nobody keeps a record of it */
	const char *run_kind;	    /* of that run: kind, but for a job that is a part of it */
	int64_t fence, attempt;

	/* What it reads and writes; the job tells each part of its work. */
	struct run_record *record;

	/* Set by the job: */
	json_t *result; /* an object, or NULL; also of work that fails: what came of it, but for what the record adds (run/record.h) */
	bool skipped; /* there was nothing to do; {"skipped": "why"} in the result */
};

/* A line of the run's log: debug, info, warn, error. Any thread. */
void run_inside_log(const char *level, const char *fmt, ...) DUCT_PRINTF(2, 3);
/* How far it is, and (when not NULL) where the next attempt goes on. Any thread, as often as one likes: told at most a few times a second, and
 * always with another step or a checkpoint. */
void run_inside_progress(const struct state_progress *progress, const json_t *checkpoint);

/* Waits so long, or until it is to end: -CANCELLED. */
int run_inside_pause(const struct run_inside *inside, int64_t ms, struct duct_error *err) DUCT_CHECKED;

/* The child's whole work, by stdin and the environment: 0, or the exit code, with everything said on stdout. -class: nothing could be begun. */
int run_inside_main(const char *kind, const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

/* The parent's: the run's work in such a child. */
int run_work_inside(struct run_work *work, struct duct_error *err) DUCT_CHECKED;
/* The work of another kind, as a part of the run: input is checked. Nobody is told of the run as a whole. */
int run_work_inside_as(struct run_work *work, const char *kind, const char *input, struct duct_error *err) DUCT_CHECKED;
/* What part() does, with the OpenLineage events of the run as a whole around it. */
int run_work_told(struct run_work *work, int (*part)(struct run_work *work, void *arg, struct duct_error *err), void *arg,
		  struct duct_error *err) DUCT_CHECKED;

#endif
