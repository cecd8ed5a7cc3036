/* The program: the server with its settings, log, signals and exit code, or a command. */
#include "api/program.h"

#include <poll.h>
#include <unistd.h>

#include "api/openapi.h"
#include "api/roles.h"
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

static int serve_main(void)
{
	struct duct_error err = {0};
	struct service_settings settings;
	cli_begin();
	int rc = service_settings_from_env(&settings, &err);
	if (rc == 0) {
		rc = serve(&settings, &err);
		service_settings_done(&settings);
	}
	return cli_end(rc, &err);
}

/* The commands of src/cli, and before the last one, help, those about the API and others. */
static void list_commands(const struct cli_command **to, size_t most, const struct cli_command *const *more)
{
	size_t n = 0;
	while (cli_ductstream.commands[n] && n + 4 < most) {
		to[n] = cli_ductstream.commands[n];
		n++;
	}
	const struct cli_command *last = to[--n];
	to[n++] = &api_openapi_command;
	to[n++] = &api_roles_command;
	while (*more && n + 2 < most)
		to[n++] = *more++;
	to[n++] = last;
	to[n] = NULL;
}

int api_main(int argc, char **argv, const struct cli_command *const *more)
{
	if (argc <= 1)
		return serve_main();
	const struct cli_command *commands[64];
	struct cli_program program = cli_ductstream;
	list_commands(commands, DUCT_LEN(commands), more);
	program.commands = commands;
	return cli_main(&program, argc, argv);
}
