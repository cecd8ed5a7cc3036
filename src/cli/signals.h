#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <pthread.h>

#include "base/ctx.h"
#include "base/error.h"

/*
 * SIGINT, SIGTERM and SIGHUP as flags and event descriptors. The first asks to stop (ctx->stop, stop_fd), the second to
 * stop without draining (abort, abort_fd), the third ends the process at once, which is as safe as a crash: exactly once
 * does not depend on an orderly end. The signals are blocked in all threads and read by one thread here, so that no
 * other call is interrupted; a child must empty its signal mask before exec.
 */
struct cli_signals {
	struct duct_ctx ctx; /* ready for the flow */
	struct duct_log log;
	atomic_bool stop, abort;
	int stop_fd, abort_fd;
	int signal_fd, end_fd;
	pthread_t thread;
};

/*
 * From here on they wait until cli_signals_start() reads them: called first thing, so that a stop cannot come too early.
 * What the parent ignores (nohup, a background job of a shell) stays ignored.
 */
void cli_signals_hold(void);
/* For commands that are ended by a signal the usual way. */
void cli_signals_let_go(void);

/* For a command that works with a flow ("": with none): sets up the log, too. `flow` is borrowed. Called before other
 * threads start. */
int cli_signals_start(struct cli_signals *signals, enum duct_level level, const char *flow, struct duct_error *err) DUCT_CHECKED;
void cli_signals_end(struct cli_signals *signals);

#endif
