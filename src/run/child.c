/* A job's child process: fork, exec, its output as log lines, its end. */
#include "run/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/trace.h"

enum { GRACE_MS = 5000, FLUSH_MS = 500, MOST_LINES = 100, MOST_TEXT = 4000, MOST_WORDS = 200, MOST_OBJECT = 1 << 20 };

extern char **environ;

/* One of the child's outputs: what came of the line that is not over. */
struct stream {
	int fd;
	const char *level;
	struct duct_buf line;
	char *last; /* the last line that was not empty */
};

/* What it said of its progress, and nobody was told yet. */
struct news {
	bool due;
	json_t *progress, *checkpoint;
};

struct process {
	struct run_work *work;
	pid_t pid;
	int pidfd;
	struct stream out[2]; /* stdout, stderr */
	struct state_run_line lines[MOST_LINES];
	int n;
	struct news news;
	int64_t deadline_us, kill_us, flush_us; /* monotonic; INT64_MAX: none */
	enum run_stop told;
	bool timed_out, own;
};

/* --- lines --- */

/* Its beginning, without half a character at its end: texts of the state are UTF-8. */
static char *beginning(const char *text, size_t most)
{
	size_t n = strnlen(text, most);
	while (n && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return duct_xstrndup(text, n);
}

static void tell_progress(struct process *p)
{
	struct duct_error ignored;
	const json_t *said = p->news.progress;
	const char *unit = json_string_value(json_object_get(said, "unit")),
		   *step = json_string_value(json_object_get(said, "step"));
	AUTO_FREE char *of_unit = unit ? beginning(unit, MOST_WORDS) : NULL, *of_step = step ? beginning(step, MOST_WORDS) : NULL;
	struct state_progress progress = {
		.done = json_integer_value(json_object_get(said, "done")),
		.total = json_integer_value(json_object_get(said, "total")),
		.unit = of_unit,
		.step = of_step,
	};
	AUTO_FREE char *checkpoint = p->news.checkpoint ? json_dumps(p->news.checkpoint, JSON_COMPACT) : NULL;
	int rc = state_run_report(p->work->state, p->work->run->id, p->work->run->fence, &progress, checkpoint, &ignored);
	(void)rc; /* as of the log, below */
	p->news.due = false;
	json_decref(p->news.checkpoint);
	p->news.checkpoint = NULL;
}

static void flush_lines(struct process *p)
{
	struct duct_error ignored;
	if (p->news.due)
		tell_progress(p);
	if (p->n) {
		/* A log that cannot be written does not end the job: whether the claim lasts is for the heartbeat to say. */
		int rc = state_run_log(p->work->state, p->work->run->id, p->work->run->fence, p->lines, p->n, &ignored);
		(void)rc;
	}
	for (int i = 0; i < p->n; i++)
		free((char *)p->lines[i].text);
	p->n = 0;
	p->flush_us = INT64_MAX;
}

static void add_line(struct process *p, const char *level, const char *text)
{
	if (p->n == MOST_LINES)
		flush_lines(p);
	p->lines[p->n++] = (struct state_run_line){.level = level, .text = beginning(text, MOST_TEXT), .at_us = duct_wall_us()};
}

static const char *level_named(const char *name)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	for (size_t i = 0; name && i < DUCT_LEN(levels); i++)
		if (strcmp(name, levels[i]) == 0)
			return levels[i];
	return "info";
}

/* True: the line was news, or a log line with its level. */
static bool take_object(struct process *p, const char *line)
{
	json_t *value = *line == '{' ? json_loads(line, 0, NULL) : NULL;
	json_t *progress = json_object_get(value, "progress"), *checkpoint = json_object_get(value, "checkpoint");
	json_t *log = json_object_get(value, "log");
	const char *text = json_string_value(json_object_get(log, "text"));
	bool taken = json_is_object(progress) || text;
	if (json_is_object(progress)) {
		json_decref(p->news.progress);
		p->news.progress = json_incref(progress);
		p->news.due = true;
	}
	if (json_is_object(progress) && json_is_object(checkpoint)) {
		json_decref(p->news.checkpoint);
		p->news.checkpoint = json_incref(checkpoint);
	}
	if (text)
		add_line(p, level_named(json_string_value(json_object_get(log, "level"))), text);
	json_decref(value);
	return taken;
}

static void end_line(struct process *p, struct stream *s)
{
	size_t n = s->line.len;
	while (n && (s->line.data[n - 1] == '\r' || s->line.data[n - 1] == ' '))
		n--;
	s->line.len = 0;
	if (!n)
		return;
	if (p->flush_us == INT64_MAX)
		p->flush_us = duct_mono_us() + FLUSH_MS * 1000;
	AUTO_FREE char *line = run_clean_text(s->line.data, n);
	if (s == &p->out[0] && take_object(p, line))
		return;
	if (!p->own || s != &p->out[0] || *line != '{')
		add_line(p, s->level, line);
	free(s->last);
	s->last = duct_steal(&line);
}

/* A line goes on in the next one, if it can between two characters. An object is read whole: it may be the result. */
static bool is_full(const struct stream *s, char next)
{
	size_t most = s->line.len && *s->line.data == '{' ? MOST_OBJECT : MOST_TEXT - 3;
	return s->line.len >= most && (((unsigned char)next & 0xc0) != 0x80 || s->line.len >= most + 3);
}

/* False: the child closed it. */
static bool read_stream(struct process *p, struct stream *s)
{
	char chunk[4096];
	ssize_t got = read(s->fd, chunk, sizeof chunk);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (got <= 0) {
		end_line(p, s);
		close(s->fd);
		s->fd = -1;
		return false;
	}
	for (ssize_t i = 0; i < got; i++) {
		if (chunk[i] == '\n' || is_full(s, chunk[i]))
			end_line(p, s);
		if (chunk[i] != '\n')
			duct_buf_putc(&s->line, chunk[i]);
	}
	return true;
}

/* --- start --- */

/* Between fork and exec: only calls that are safe in a child of a process with threads. */
static _Noreturn void become(const struct run_child *child, int in, int out, int err_fd, int status, pid_t parent)
{
	sigset_t none;
	int code;
	sigemptyset(&none);
	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL); /* some cannot be set, and need not be */
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* It does not outlive us, also when we are killed; the thread that forked lives as long as the work. */
	if (setpgid(0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent && dup2(in, 0) == 0 &&
	    dup2(out, 1) == 1 && dup2(err_fd, 2) == 2 && dup3(status, 3, O_CLOEXEC) == 3 && close_range(4, ~0U, 0) == 0) {
		status = 3;
		(void)execve(child->argv[0], child->argv, child->envp);
	}
	code = errno;
	_exit(write(status, &code, sizeof code) == sizeof code ? 127 : 126);
}

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

/* Pipes of the outputs and of the exec's failure. The descriptors are above 3, so that the child's dup2() do not meet. */
static int open_pipes(int pipes[3][2], struct duct_error *err)
{
	for (int i = 0; i < 3; i++) {
		int pair[2];
		if (pipe2(pair, O_CLOEXEC) < 0)
			return duct_fail(err, DUCT_RETRY, "a pipe cannot be made: %s", strerror(errno));
		for (int j = 0; j < 2; j++) {
			pipes[i][j] = fcntl(pair[j], F_DUPFD_CLOEXEC, 10);
			close(pair[j]);
		}
		if (pipes[i][0] < 0 || pipes[i][1] < 0)
			return duct_fail(err, DUCT_RETRY, "a descriptor cannot be made: %s", strerror(errno));
	}
	return 0;
}

/* What the child reads: a file in memory, so that nobody has to feed it. -1: errno says why. */
static int open_input(const char *input)
{
	int fd = input ? memfd_create("input", MFD_CLOEXEC) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	size_t n = input ? strlen(input) : 0;
	bool ok = fd >= 0;
	for (size_t at = 0; ok && at < n;) {
		ssize_t wrote = write(fd, input + at, n - at);
		ok = wrote > 0;
		at += ok ? (size_t)wrote : 0;
	}
	int high = ok && (!n || lseek(fd, 0, SEEK_SET) == 0) ? fcntl(fd, F_DUPFD_CLOEXEC, 10) : -1;
	if (fd >= 0)
		close(fd);
	return high;
}

/* 0: it runs, or did. errno of the exec otherwise. */
static int exec_failed(int status)
{
	int code = 0;
	ssize_t got;
	do
		got = read(status, &code, sizeof code);
	while (got < 0 && errno == EINTR);
	return got == sizeof code ? code : 0;
}

static int start(struct process *p, const struct run_child *child, struct duct_error *err)
{
	int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
	pid_t self = getpid();
	int input = open_input(child->input);
	int rc = input >= 0 ? open_pipes(pipes, err)
			    : duct_fail(err, DUCT_RETRY, "a file in memory cannot be made: %s", strerror(errno));
	if (rc == 0 && (p->pid = fork()) == 0)
		become(child, input, pipes[0][1], pipes[1][1], pipes[2][1], self);
	if (rc == 0 && p->pid < 0)
		rc = duct_fail(err, DUCT_RETRY, "a process cannot be made: %s", strerror(errno));
	if (input >= 0)
		close(input);
	for (int i = 0; i < 3; i++)
		if (pipes[i][1] >= 0) {
			close(pipes[i][1]);
			pipes[i][1] = -1;
		}
	if (rc < 0) {
		for (int i = 0; i < 3; i++)
			close_pair(pipes[i]);
		return rc;
	}
	int code = exec_failed(pipes[2][0]);
	close(pipes[2][0]);
	p->out[0] = (struct stream){.fd = pipes[0][0], .level = "info"};
	p->out[1] = (struct stream){.fd = pipes[1][0], .level = "info"};
	p->pidfd = pidfd_open(p->pid, 0);
	if (code)
		return duct_fail(err, DUCT_CONFIG, "\"%s\" cannot be run: %s", child->argv[0], strerror(code));
	return p->pidfd >= 0 ? 0 : duct_fail(err, DUCT_RETRY, "the process cannot be watched: %s", strerror(errno));
}

/* --- until it ends --- */

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Tells the group to end, by what is due now. */
static void press(struct process *p, int64_t now)
{
	enum run_stop stop = (enum run_stop)atomic_load(p->work->stop);
	if (now >= p->deadline_us && !p->timed_out) {
		p->timed_out = true;
		p->deadline_us = INT64_MAX;
	}
	if ((stop != RUN_GOES_ON || p->timed_out) && p->kill_us == INT64_MAX) {
		(void)kill(-p->pid, SIGTERM);
		p->kill_us = now + GRACE_MS * 1000;
	}
	if (stop == RUN_STOP_LOST)
		p->kill_us = now;
	p->told = stop;
	if (now >= p->kill_us)
		(void)kill(-p->pid, SIGKILL);
}

static int wait_ms(const struct process *p, int64_t now)
{
	int64_t until = min64(min64(p->deadline_us, p->flush_us), p->kill_us);
	if (until == INT64_MAX)
		return -1;
	return until <= now ? 10 : (int)min64((until - now) / 1000 + 1, 60000);
}

/* Until the process is over; what it wrote is then read. */
static void attend(struct process *p)
{
	for (;;) {
		int64_t now = duct_mono_us();
		press(p, now);
		if (now >= p->flush_us)
			flush_lines(p);
		struct pollfd fds[] = {{.fd = p->pidfd, .events = POLLIN},
				       {.fd = p->out[0].fd, .events = POLLIN},
				       {.fd = p->out[1].fd, .events = POLLIN},
				       {.fd = p->told == RUN_GOES_ON ? p->work->stop_fd : -1, .events = POLLIN}};
		(void)poll(fds, DUCT_LEN(fds), wait_ms(p, now));
		for (int i = 0; i < 2; i++)
			if (p->out[i].fd >= 0 && fds[1 + i].revents)
				(void)read_stream(p, &p->out[i]);
		if (fds[0].revents)
			return;
	}
}

/* What is left in the pipes; others of its group, who may hold them open, are told to end. */
static void drain(struct process *p)
{
	(void)kill(-p->pid, SIGKILL);
	for (int i = 0; i < 2; i++) {
		if (p->out[i].fd >= 0)
			(void)fcntl(p->out[i].fd, F_SETFL, O_NONBLOCK);
		struct pollfd fd = {.fd = p->out[i].fd, .events = POLLIN};
		while (p->out[i].fd >= 0 && poll(&fd, 1, 0) > 0 && read_stream(p, &p->out[i]))
			;
		end_line(p, &p->out[i]);
	}
	flush_lines(p);
}

static void reap(struct process *p, struct run_child *child)
{
	siginfo_t info = {0};
	while (waitid(P_PID, (id_t)p->pid, &info, WEXITED) < 0 && errno == EINTR)
		;
	child->exit_code = info.si_code == CLD_EXITED ? info.si_status : -1;
	child->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
}

static const char *json_line(struct duct_arena *arena, const char *line)
{
	json_t *value = line ? json_loads(line, 0, NULL) : NULL;
	const char *result = json_is_object(value) ? duct_arena_strdup(arena, line) : NULL;
	json_decref(value);
	return result;
}

static void done(struct process *p, struct run_child *child)
{
	child->last_error = p->out[1].last ? duct_arena_strdup(p->work->arena, p->out[1].last) : NULL;
	child->result = json_line(p->work->arena, p->out[0].last);
	for (int i = 0; i < 2; i++) {
		if (p->out[i].fd >= 0)
			close(p->out[i].fd);
		duct_buf_done(&p->out[i].line);
		free(p->out[i].last);
	}
	if (p->pidfd >= 0)
		close(p->pidfd);
	json_decref(p->news.progress);
	json_decref(p->news.checkpoint);
}

int run_child_run(struct run_work *work, struct run_child *child, struct duct_error *err)
{
	int64_t now = duct_mono_us();
	struct process p = {.work = work, .pid = -1, .pidfd = -1, .out = {{.fd = -1}, {.fd = -1}}, .own = child->own};
	p.deadline_us = child->timeout_ms ? now + child->timeout_ms * 1000 : INT64_MAX;
	p.kill_us = p.flush_us = INT64_MAX;
	int rc = start(&p, child, err);
	if (rc == 0)
		attend(&p);
	if (p.pid > 0) {
		drain(&p);
		reap(&p, child);
	}
	done(&p, child);
	if (rc < 0)
		return rc;
	if (p.told != RUN_GOES_ON)
		return duct_fail(err, DUCT_CANCELLED, "asked to end");
	if (p.timed_out)
		return duct_fail(err, DUCT_RETRY, "took longer than %lld s", (long long)child->timeout_ms / 1000);
	return 0;
}

int run_child_outcome(const struct run_child *child, const char *program, const char *said, struct duct_error *err)
{
	said = said ? said : child->last_error ? child->last_error : "it said nothing";
	if (child->signal)
		return duct_fail(err, DUCT_RETRY, "%s ended by signal %d (%s)", program, child->signal, strsignal(child->signal));
	for (int class = DUCT_FATAL; class <= DUCT_RETRY; class ++)
		if (child->exit_code == duct_class_exit_code((enum duct_class) class))
			return duct_fail(err, (enum duct_class) class, "%.900s", said);
	if (child->exit_code)
		return duct_fail(err, DUCT_RETRY, "%s exited with %d: %.800s", program, child->exit_code, said);
	return 0;
}

int run_program_path(char to[], size_t size, const char *name, struct duct_error *err)
{
	ssize_t n = readlink("/proc/self/exe", to, size - 1);
	char *slash = n > 0 ? memrchr(to, '/', (size_t)n) : NULL;
	if (!slash || slash + 1 + strlen(name) >= to + size)
		return duct_fail(err, DUCT_CONFIG, "the folder of this program cannot be found, so %s cannot either", name);
	memcpy(slash + 1, name, strlen(name) + 1);
	return 0;
}

char **run_child_environment(struct run_work *work, const char *const *only)
{
	size_t n = 0, cap = 10;
	for (char **e = environ; *e; e++)
		cap++;
	char **to = duct_arena_alloc(work->arena, cap * sizeof *to);
	for (char **e = environ; *e; e++) {
		bool wanted = !only;
		for (const char *const *name = only; name && *name && !wanted; name++)
			wanted = strncmp(*e, *name, strlen(*name)) == 0 && (*e)[strlen(*name)] == '=';
		if (wanted && strncmp(*e, "DUCTSTREAM_RUN_", 15) != 0 && strncmp(*e, "TRACEPARENT=", 12) != 0)
			to[n++] = *e;
	}
	const struct state_run *run = work->run;
	AUTO_FREE char *id = duct_xasprintf("DUCTSTREAM_RUN_ID=%s", run->id);
	AUTO_FREE char *kind = duct_xasprintf("DUCTSTREAM_RUN_KIND=%s", run->kind);
	AUTO_FREE char *fence = duct_xasprintf("DUCTSTREAM_RUN_FENCE=%lld", (long long)run->fence);
	AUTO_FREE char *attempt = duct_xasprintf("DUCTSTREAM_RUN_ATTEMPT=%lld", (long long)run->attempt);
	to[n++] = duct_arena_strdup(work->arena, id);
	to[n++] = duct_arena_strdup(work->arena, kind);
	to[n++] = duct_arena_strdup(work->arena, fence);
	to[n++] = duct_arena_strdup(work->arena, attempt);
	if (run->checkpoint && *run->checkpoint) {
		AUTO_FREE char *checkpoint = duct_xasprintf("DUCTSTREAM_RUN_CHECKPOINT=%s", run->checkpoint);
		to[n++] = duct_arena_strdup(work->arena, checkpoint);
	}
	struct duct_trace trace = duct_trace_current();
	if (duct_trace_is_set(&trace)) {
		char text[12 + DUCT_TRACEPARENT_LEN] = "TRACEPARENT=";
		duct_trace_format(text + 12, &trace);
		to[n++] = duct_arena_strdup(work->arena, text);
	}
	to[n] = NULL;
	return to;
}
