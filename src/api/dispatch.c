#include "api/dispatch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
	LOOK_MS = 1000,
	STOP_MS = 20000,
	FIRST_PAUSE_MS = 200,
	LONGEST_PAUSE_MS = 30000,
	HEALTHY_MS = 60000,
	PAGE = 100,
};

/* A flow that is, or was until now, running, and its worker. */
struct child {
	char id[64];
	bool wanted; /* the flow is running */
	pid_t pid;   /* 0: none */
	int pidfd;
	bool told;	     /* to end */
	bool refused;	     /* the last one ended because the flow has another owner, or would not wait any longer */
	int64_t started_us;  /* monotonic */
	int64_t start_at_us; /* when the next one may be started */
	int64_t pause_ms;
};

struct dispatch {
	struct dispatch_config config;
	char worker[PATH_MAX];
	struct child *children;
	size_t n, cap;
	int wake_fd;
	atomic_bool ending, at_once;
	pthread_t thread;
};

static void raise_event(int fd)
{
	uint64_t one = 1;
	/* It can only fail when the counter is full, and then the descriptor is readable anyway. */
	if (write(fd, &one, sizeof one) < 0)
		return;
}

/* --- one worker */

/* Between fork and exec: only calls that are safe in a child of a process with threads. */
static _Noreturn void become(char *const *argv, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL); /* some cannot be set, and need not be */
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* Should we be killed, it ends in order; the thread that forks lives as long as we do. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent && close_range(3, ~0U, 0) == 0)
		(void)execv(argv[0], argv);
	_exit(127);
}

/* Each time one ends, or cannot be started, the pause before the next one doubles. */
static void put_off(struct child *c)
{
	c->pause_ms = c->pause_ms ? c->pause_ms * 2 : FIRST_PAUSE_MS;
	if (c->pause_ms > LONGEST_PAUSE_MS)
		c->pause_ms = LONGEST_PAUSE_MS;
	c->start_at_us = duct_mono_us() + c->pause_ms * 1000;
}

static void start_worker(struct dispatch *d, struct child *c)
{
	char *argv[] = {d->worker, (char *)"-flow-id", c->id, (char *)"-quiet", d->config.json_log ? (char *)"-json" : NULL, NULL};
	pid_t parent = getpid();
	c->started_us = duct_mono_us();
	c->told = false;
	pid_t pid = fork();
	if (pid == 0)
		become(argv, parent);
	if (pid < 0) {
		log_warn(d->config.log, "a worker cannot be started", LOG_STR("flow", c->id), LOG_STR("error", strerror(errno)));
		put_off(c);
		return;
	}
	c->pid = pid;
	c->pidfd = pidfd_open(pid, 0); /* without one its end is seen with the next look */
	log_info(d->config.log, "worker started", LOG_STR("flow", c->id), LOG_I64("pid", pid));
}

/* Takes the end of a worker, if it has ended. */
static void reap(struct dispatch *d, struct child *c)
{
	int status;
	if (!c->pid || waitpid(c->pid, &status, WNOHANG) != c->pid)
		return;
	int64_t lived_ms = (duct_mono_us() - c->started_us) / 1000;
	if (lived_ms >= HEALTHY_MS)
		c->pause_ms = 0;
	put_off(c);
	c->refused = WIFEXITED(status) && WEXITSTATUS(status) == duct_class_exit_code(DUCT_RETRY);
	/* Whoever was refused has said why; a crash says nothing itself. */
	DUCT_LOG(d->config.log, WIFEXITED(status) ? DUCT_INFO : DUCT_WARN, "worker ended", LOG_STR("flow", c->id),
		 LOG_I64("pid", c->pid), LOG_I64("code", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)),
		 LOG_I64("pause_ms", c->pause_ms));
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->pidfd = -1;
	c->pid = 0;
}

/* --- all of them */

static struct child *child_of(struct dispatch *d, const char *id)
{
	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->children[i].id, id) == 0)
			return &d->children[i];
	d->children = duct_grow(d->children, &d->cap, d->n + 1, sizeof *d->children);
	struct child *c = &d->children[d->n++];
	*c = (struct child){.pidfd = -1};
	snprintf(c->id, sizeof c->id, "%s", id);
	return c;
}

static bool look_at(struct dispatch *d, enum state_flow_state state)
{
	struct duct_arena arena;
	struct state_flow flows[PAGE];
	struct duct_error err;
	char after[64] = "";
	int n = 0;
	do {
		duct_arena_init(&arena);
		n = state_flow_list(d->config.state, &arena, after, state, PAGE, flows, &err);
		for (int i = 0; i < n; i++)
			if (state == STATE_FLOW_RUNNING || state_flow_rests_a_moment(&flows[i]))
				child_of(d, flows[i].id)->wanted = true;
		if (n > 0)
			snprintf(after, sizeof after, "%s", flows[n - 1].id);
		duct_arena_done(&arena);
	} while (n == PAGE);
	if (n < 0)
		log_warn(d->config.log, "the flows cannot be read", LOG_STR("error", err.message));
	return n >= 0;
}

/* Which flows are running now, or paused for a moment: that is their worker's to wait for. False: the state did not say; everything stays as
 * it is. */
static bool look(struct dispatch *d)
{
	for (size_t i = 0; i < d->n; i++)
		d->children[i].wanted = false;
	return look_at(d, STATE_FLOW_RUNNING) && look_at(d, STATE_FLOW_PAUSED);
}

static void forget(struct dispatch *d)
{
	size_t kept = 0;
	for (size_t i = 0; i < d->n; i++)
		if (d->children[i].pid || d->children[i].wanted)
			d->children[kept++] = d->children[i];
	d->n = kept;
}

/* Is it still another owner's: a worker of another server, or of a terminal? */
static bool has_owner(struct dispatch *d, const struct child *c)
{
	struct duct_arena arena;
	struct state_lease lease;
	struct duct_error err; /* a state that does not answer is told by whoever is started */
	char name[80];
	snprintf(name, sizeof name, "flow/%.63s", c->id);
	duct_arena_init(&arena);
	bool held = state_lease_get(d->config.state, &arena, name, &lease, &err) == 1 && lease.held;
	duct_arena_done(&arena);
	return held;
}

/* When the next worker may be started; INT64_MAX: none waits. */
static int64_t start_due(struct dispatch *d)
{
	int64_t due = INT64_MAX, now = duct_mono_us();
	bool at_once = atomic_exchange(&d->at_once, false);
	for (size_t i = 0; i < d->n; i++) {
		struct child *c = &d->children[i];
		if (c->pid || !c->wanted)
			continue;
		if (at_once || now >= c->start_at_us) {
			if (c->refused && has_owner(d, c))
				c->start_at_us = now + LOOK_MS * 1000;
			else
				start_worker(d, c);
		}
		if (!c->pid && c->start_at_us < due)
			due = c->start_at_us;
	}
	return due;
}

static void tell(struct child *c, int number)
{
	if (c->pid)
		(void)kill(c->pid, number); /* not reaped yet, so it is ours */
}

static void wait_for_something(struct dispatch *d, int64_t until_us)
{
	struct pollfd *fds = duct_xcalloc(d->n + 1, sizeof *fds);
	int64_t left = (until_us - duct_mono_us() + 999) / 1000;
	uint64_t count;
	fds[0] = (struct pollfd){.fd = d->wake_fd, .events = POLLIN};
	for (size_t i = 0; i < d->n; i++)
		fds[i + 1] = (struct pollfd){.fd = d->children[i].pidfd, .events = POLLIN};
	(void)poll(fds, (nfds_t)d->n + 1, left > 0 ? (int)left : 0); /* EINTR: looks a little earlier */
	free(fds);
	if (read(d->wake_fd, &count, sizeof count) < 0)
		count = 0; /* nobody woke us */
	for (size_t i = 0; i < d->n; i++)
		reap(d, &d->children[i]);
}

/* In order, then by force. */
static void end_all(struct dispatch *d)
{
	int64_t until = duct_mono_us() + (int64_t)STOP_MS * 1000;
	bool forced = false;
	for (size_t i = 0; i < d->n; i++)
		tell(&d->children[i], SIGTERM);
	for (;;) {
		for (size_t i = 0; i < d->n; i++)
			d->children[i].wanted = false;
		forget(d);
		if (!d->n)
			return;
		if (!forced && duct_mono_us() >= until) {
			forced = true;
			log_warn(d->config.log, "workers did not end in time and are killed", LOG_U64("workers", d->n));
			for (size_t i = 0; i < d->n; i++)
				tell(&d->children[i], SIGKILL);
			until = INT64_MAX;
		}
		int64_t soon = duct_mono_us() + LOOK_MS * 1000;
		wait_for_something(d, soon < until ? soon : until);
	}
}

static void *keep(void *arg)
{
	struct dispatch *d = arg;
	while (!atomic_load(&d->ending)) {
		int64_t until = duct_mono_us() + LOOK_MS * 1000, due = INT64_MAX;
		if (look(d)) {
			for (size_t i = 0; i < d->n; i++) {
				struct child *c = &d->children[i];
				if (c->pid && !c->wanted && !c->told)
					tell(c, SIGTERM);
				c->told = c->told || !c->wanted;
			}
			forget(d);
			due = start_due(d);
		}
		wait_for_something(d, due < until ? due : until);
	}
	end_all(d);
	return NULL;
}

static int find_worker(struct dispatch *d, struct duct_error *err)
{
	static const char name[] = "ductstream-worker";
	if (d->config.worker) {
		snprintf(d->worker, sizeof d->worker, "%s", d->config.worker);
	} else {
		ssize_t n = readlink("/proc/self/exe", d->worker, sizeof d->worker - 1);
		char *slash = n > 0 ? memrchr(d->worker, '/', (size_t)n) : NULL;
		if (!slash || slash + 1 + sizeof name > d->worker + sizeof d->worker)
			return duct_fail(err, DUCT_CONFIG,
					 "the folder of this program cannot be found, so ductstream-worker cannot either");
		memcpy(slash + 1, name, sizeof name);
	}
	if (access(d->worker, X_OK) != 0)
		return duct_fail(err, DUCT_CONFIG, "DUCTSTREAM_DISPATCH is local, but \"%s\" cannot be run: %s", d->worker,
				 strerror(errno));
	return 0;
}

int dispatch_start(struct dispatch **ret, const struct dispatch_config *config, struct duct_error *err)
{
	struct dispatch *d = duct_xcalloc(1, sizeof *d);
	d->config = *config;
	int rc = find_worker(d, err);
	d->wake_fd = rc ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!rc) {
		int failed = d->wake_fd < 0 ? errno : pthread_create(&d->thread, NULL, keep, d);
		rc = failed ? duct_fail(err, DUCT_RETRY, "start the thread that keeps the workers: %s", strerror(failed)) : 0;
	}
	if (rc) {
		if (d->wake_fd >= 0)
			close(d->wake_fd);
		free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void dispatch_wake(struct dispatch *d)
{
	if (!d)
		return;
	atomic_store(&d->at_once, true);
	raise_event(d->wake_fd);
}

void dispatch_stop(struct dispatch *d)
{
	if (!d)
		return;
	atomic_store(&d->ending, true);
	raise_event(d->wake_fd);
	pthread_join(d->thread, NULL);
	close(d->wake_fd);
	free(d->children);
	free(d);
}
