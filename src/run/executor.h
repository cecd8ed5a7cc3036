#ifndef RUN_EXECUTOR_H
#define RUN_EXECUTOR_H

#include "base/ctx.h"
#include "options/service.h"
#include "state/runs.h"

/*
 * Takes runs from the queue and does them: one thread that claims, keeps the claims alive and takes up what dead workers left, and `workers`
 * threads that do the jobs. Any number of executors on any number of machines share a queue.
 */
struct run_executor;

struct run_executor_config {
	struct state *state;
	const struct duct_log *log;
	const char *queues; /* "default,heavy"; NULL or "": "default" */
	int workers;	    /* at least 1 */
	int64_t lease_ms;   /* a worker that says nothing for so long is taken for dead; 0: 10 s */
	int64_t backoff_ms; /* before the second attempt, at most; doubles up to 5 minutes; 0: 1 s */
	int64_t poll_ms;    /* between looks at an empty queue, on average; 0: 200 ms */
	/* Told of the end of each attempt, once it is written down, on the thread that did it; err NULL: it went well. It is
	 * not logged then. May be NULL. */
	void (*ended)(void *arg, enum state_run_state to, const struct duct_error *err);
	void *ended_arg;
};

/* Workers (which may be 0: none are wanted), queues, lease and back-off as the settings say; strings are theirs. */
void run_executor_configure(struct run_executor_config *config, const struct service_settings *settings);

int run_executor_start(struct run_executor **ret, const struct run_executor_config *config, struct duct_error *err) DUCT_CHECKED;
/* Something was enqueued: look now. Any thread. */
void run_executor_wake(struct run_executor *executor);
/* Claims nothing more; what is under way is asked to end and goes back into the queue. Waits for it and frees. Accepts NULL. */
void run_executor_stop(struct run_executor *executor);

/* `ductstream-worker -runs`: an executor on the environment's state until ctx->stop. queues NULL: those of the environment. */
int run_worker_main(const struct duct_ctx *ctx, const char *queues, struct duct_error *err) DUCT_CHECKED;

#endif
