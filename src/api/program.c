/* The server as a program: settings, log, signals, exit code. */
#include "api/program.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "api/server.h"
#include "cli/cli.h"
#include "cli/signals.h"

/* The second signal ends the process at once: what it left undone, the next start finds. */
static void *watch_abort(void *arg)
{
	struct cli_signals *signals = arg;
	struct pollfd fd = {.fd = signals->abort_fd, .events = POLLIN};
	while (!atomic_load(&signals->abort))
		(void)poll(&fd, 1, -1);
	_exit(duct_class_exit_code(DUCT_CANCELLED));
}

static int serve(const struct service_settings *settings, struct duct_error *err)
{
	static struct cli_signals signals; /* its thread and ours use it until the process ends */
	pthread_t watcher;
	cli_json = settings->log_format == SERVICE_LOG_JSON;
	int rc = cli_signals_start(&signals, (enum duct_level)settings->log_level, "", err);
	if (rc)
		return rc;
	if (pthread_create(&watcher, NULL, watch_abort, &signals) != 0)
		return duct_fail(err, DUCT_RETRY, "a thread cannot be started");
	pthread_detach(watcher);
	service_settings_warn(signals.ctx.log);
	return api_server_run(settings, &signals.ctx, err);
}

int api_main(void)
{
	struct duct_error err = {0};
	struct service_settings settings;
	cli_signals_hold();
	signal(SIGPIPE, SIG_IGN); /* a client that went away is an error of write(2) */
	int rc = service_settings_from_env(&settings, &err);
	if (rc == 0) {
		rc = serve(&settings, &err);
		service_settings_done(&settings);
	}
	if (rc == 0)
		return 0;
	cli_print_error(&err);
	return duct_class_exit_code((enum duct_class)-rc);
}
