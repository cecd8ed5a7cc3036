#include "cli/signals.h"
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void raise_flag(atomic_bool *flag, int fd)
{
	uint64_t one = 1;
	atomic_store(flag, true);
	/* The counter cannot overflow, and nothing else makes a write to an eventfd fail. */
	ssize_t n = write(fd, &one, sizeof one);
	(void)n;
}

/* Reads one signal, when there is one. */
static void take_signal(struct cli_signals *s)
{
	struct signalfd_siginfo info;
	if (read(s->signal_fd, &info, sizeof info) != sizeof info)
		return;
	if (atomic_load(&s->abort))
		_exit(duct_class_exit_code(DUCT_CANCELLED));
	if (atomic_load(&s->stop)) {
		log_warn(s->ctx.log, "stopping at once", LOG_STR("signal", sigabbrev_np((int)info.ssi_signo)));
		raise_flag(&s->abort, s->abort_fd);
	} else {
		log_info(s->ctx.log, "stopping", LOG_STR("signal", sigabbrev_np((int)info.ssi_signo)));
		raise_flag(&s->stop, s->stop_fd);
	}
}

static void *read_signals(void *arg)
{
	struct cli_signals *s = arg;
	struct pollfd fds[2] = {{.fd = s->signal_fd, .events = POLLIN}, {.fd = s->end_fd, .events = POLLIN}};
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[1].revents)
			return NULL;
		take_signal(s);
	}
}

static void close_all(struct cli_signals *s)
{
	const int fds[] = {s->stop_fd, s->abort_fd, s->signal_fd, s->end_fd};
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void watched_signals(sigset_t *set)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	sigemptyset(set);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		struct sigaction now;
		if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaddset(set, numbers[i]);
	}
}

void cli_signals_hold(void)
{
	sigset_t set;
	watched_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void cli_signals_let_go(void)
{
	sigset_t set;
	watched_signals(&set);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int cli_signals_start(struct cli_signals *s, enum duct_level level, const char *flow, struct duct_error *err)
{
	sigset_t set;
	duct_log_setup(level, cli_json || cli_log_json);
	memset(s, 0, sizeof *s);
	s->log = (struct duct_log){.key = "flow", .value = flow};
	cli_signals_hold();
	watched_signals(&set);
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	s->abort_fd = eventfd(0, EFD_CLOEXEC);
	s->end_fd = eventfd(0, EFD_CLOEXEC);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->ctx = (struct duct_ctx){.log = *flow ? &s->log : NULL, .flow = flow, .stop = &s->stop, .stop_fd = s->stop_fd};
	int rc = errno;
	if (s->stop_fd >= 0 && s->abort_fd >= 0 && s->end_fd >= 0 && s->signal_fd >= 0) {
		take_signal(s); /* what came while the program was starting counts before anything begins */
		rc = pthread_create(&s->thread, NULL, read_signals, s);
	}
	if (rc == 0)
		return 0;
	close_all(s);
	return duct_fail(err, DUCT_RETRY, "signals cannot be watched: %s", strerror(rc));
}

void cli_signals_end(struct cli_signals *s)
{
	atomic_bool unused = false;
	raise_flag(&unused, s->end_fd);
	pthread_join(s->thread, NULL);
	close_all(s);
	/* What comes from now on ends the process the usual way, unless it is told to end again while it does. */
	if (!atomic_load(&s->stop))
		cli_signals_let_go();
}
