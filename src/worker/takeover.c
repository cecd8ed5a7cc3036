#include "worker/takeover.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "flow/flow_env.h"
#include "pg/session.h"

enum { FREE_WITHIN_MS = 10000, AGAIN_MS = 100, ENDS_WITHIN_MS = 5000 };

/* --- the process */

/* Is that process a worker of this flow? Its command line says so; words end in NUL. */
static bool is_worker_of(pid_t pid, const char *flow_id)
{
	char path[64], words[4096];
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof words - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	words[n] = 0;
	const char *name = strrchr(words, '/');
	if (strcmp(name ? name + 1 : words, "ductstream-worker") != 0)
		return false;
	bool names_flow = false;
	for (const char *word = words; word < words + n; word += strlen(word) + 1) {
		const char *value = strchr(word, '=');
		names_flow |= strcmp(word, flow_id) == 0 || (value && strcmp(value + 1, flow_id) == 0);
	}
	return names_flow;
}

void takeover_end(const char *holder, const char *flow_id, const struct duct_ctx *ctx)
{
	char host[LEASE_HOST_LEN];
	int pid = 0;
	const char *end = strchr(holder, ':');
	lease_host(host);
	if (!end || strlen(host) != (size_t)(end - holder) || strncmp(host, holder, strlen(host)) != 0 ||
	    sscanf(end, ":%d:", &pid) != 1 || pid <= 1 || pid == getpid())
		return;
	/* First the descriptor, then the look: it is the process that was looked at, or none. */
	int fd = pidfd_open(pid, 0);
	if (fd < 0)
		return;
	if (is_worker_of(pid, flow_id)) {
		log_warn(ctx->log, "the last owner of the flow has lost its lease and is still here: it is ended",
			 LOG_I64("pid", pid));
		struct pollfd gone = {.fd = fd, .events = POLLIN};
		if (pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0)
			(void)poll(&gone, 1, ENDS_WITHIN_MS); /* what it still holds then is waited for like any lock */
	}
	close(fd);
}

/* --- the slot */

/* 1: free. Asked again and again: a server process that waits in a write to its frozen client ends only with the next request. */
static int ask(struct pg_session *session, const char *slot, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *const params[] = {slot};
	int rc = pg_query(session,
			  "select pg_catalog.pg_terminate_backend(active_pid) from pg_catalog.pg_replication_slots "
			  "where slot_name = $1 and active_pid is not null",
			  1, params, &res, err);
	return rc ? rc : PQntuples(res) == 0;
}

static int free_slot(struct pg_session *session, const char *slot, const struct duct_ctx *ctx, struct duct_error *err)
{
	int64_t until = duct_mono_us() + (int64_t)FREE_WITHIN_MS * 1000;
	bool told = false;
	for (;;) {
		int rc = ask(session, slot, err);
		if (rc || duct_mono_us() > until)
			return rc < 0 ? rc : 0;
		if (!told)
			log_warn(ctx->log, "the slot is still held by the last owner of the flow: its connection is ended",
				 LOG_STR("slot", slot));
		told = true;
		struct pollfd fd = {.fd = ctx->stop_fd, .events = POLLIN};
		(void)poll(&fd, 1, AGAIN_MS); /* EINTR: asked a little earlier */
	}
}

static const char *from_environment(const char *name)
{
	return getenv(name);
}

int takeover_free_slot(const char *dsn, const char *slot, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct pg_session *session = NULL;
	struct duct_arena arena;
	const char *expanded;
	duct_arena_init(&arena);
	int rc = flow_env_expand(&expanded, &arena, dsn, from_environment, err);
	const struct pg_session_options options = {.dsn = rc ? dsn : expanded, .stop_fd = ctx->stop_fd, .log = ctx->log};
	rc = rc ? rc : pg_session_open(&session, &options, err);
	rc = rc ? rc : free_slot(session, slot, ctx, err);
	pg_session_close(session);
	duct_arena_done(&arena);
	if (rc && rc != -DUCT_CANCELLED)
		log_debug(ctx->log, "the slot was not asked for", LOG_STR("error", err->message));
	return rc == -DUCT_CANCELLED ? rc : 0;
}
