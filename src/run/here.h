#ifndef RUN_HERE_H
#define RUN_HERE_H

#include "base/ctx.h"
#include "state/runs.h"

#define RUN_HERE_QUEUE "here-" /* begins the queue of such a run: only the process that made it looks there */

/*
 * A run that is recorded, and done at once by the process that asks for it: what a command of the command line does is in the history, with log,
 * progress and result, like what the service does.
 */
struct run_here {
	const struct state_run *run; /* as for state_run_submit(); its queue is ours. max_attempts 0: 1 */
	/* What is new, a few times a second and once more at the end; n may be 0. May be NULL. */
	void (*show)(void *arg, const struct state_run *now, const struct state_run_line *lines, int n);
	void *arg;
};

/*
 * In the state of the environment. Waits while a run with the same key is left by a process that is gone; RETRY when one is under way. ctx->stop ends
 * the run (cancelled) and waits for that. 0: done, or skipped (ret->state); -class as the work failed. *ret in the arena, its id is NULL when
 * nothing was recorded.
 */
int run_here(const struct duct_ctx *ctx, const struct run_here *here, struct duct_arena *arena, struct state_run *ret,
	     struct duct_error *err) DUCT_CHECKED;

#endif
