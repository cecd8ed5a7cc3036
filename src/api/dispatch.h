#ifndef API_DISPATCH_H
#define API_DISPATCH_H

#include "base/ctx.h"
#include "state/flows.h"

/*
 * DUCTSTREAM_DISPATCH=local: one worker process (ductstream-worker, beside our own program) for each flow that is running. Speaks with
 * everything else through the state only: looks at it every second, and when woken. A worker that ends while its flow is still running is
 * started again, after a pause that grows from 0.2 to 30 s and is forgotten once one has lived for a minute. One that was refused because
 * another server's has the flow is started again once that one's lease ends. Workers of flows that are not running any more end by themselves, and are told to.
 */
struct dispatch;

struct dispatch_config {
	struct state *state;
	const struct duct_log *log;
	const char *worker; /* path of ductstream-worker; NULL: beside this program */
	bool json_log;
};
int dispatch_start(struct dispatch **ret, const struct dispatch_config *config, struct duct_error *err) DUCT_CHECKED;
/* Look now, and start at once what waits to be started again. Any thread; accepts NULL. */
void dispatch_wake(struct dispatch *dispatch);
/* Ends all workers in order, kills those that need more than 20 s, and frees. Should we be killed, they are told to end by the system.
 * Accepts NULL. */
void dispatch_stop(struct dispatch *dispatch);

#endif
