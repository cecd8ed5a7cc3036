#include "worker/slot.h"

#include <poll.h>

#include "base/clock.h"
#include "flow/flow_env.h"
#include "pg/session.h"

enum { FREE_WITHIN_MS = 10000, AGAIN_MS = 100 };

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

int slot_take_back(const char *dsn, const char *slot, const struct duct_ctx *ctx, struct duct_error *err)
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
