/* Waiting for a decision about a change of a table: see gate.h. */
#include "worker/gate.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "options/text.h"

enum { LOOK_MS = 500 };

static int from_env(int flow, const char *name, bool *ret, struct duct_error *err)
{
	const char *text = getenv(name);
	*ret = flow > 0;
	if (flow >= 0 || !text || !*text)
		return 0;
	return duct_parse_bool(text, ret) ? 0 : duct_fail(err, DUCT_CONFIG, "%s is \"%.40s\", neither true nor false", name, text);
}

int gate_policy(const struct flow_ddl_policy *flow, struct govern_ddl_policy *ret, struct duct_error *err)
{
	int rc = from_env(flow->gate, "DUCTSTREAM_DDL_GATE", &ret->gate, err);
	rc = rc ? rc : from_env(flow->auto_approve, "DUCTSTREAM_DDL_AUTO_APPROVE", &ret->auto_approve, err);
	return rc ? rc : from_env(flow->auto_apply, "DUCTSTREAM_DDL_AUTO_APPLY", &ret->auto_apply, err);
}

static int move(struct state *state, const char *flow_id, enum state_flow_state from, enum state_flow_state to, const char *reason,
		const struct state_actor *actor, struct duct_error *err)
{
	bool refused = false;
	int rc = state_flow_move(state, flow_id, from, to, reason, actor, &refused, err);
	return rc < 0 ? rc : 0;
}

/* 1: it runs again; 0: it waits on; 2: it is not to be run. */
static int look(struct govern_ddl *govern, struct state *state, const char *flow_id, const struct state_actor *actor,
		struct duct_error *err)
{
	struct duct_arena arena;
	struct state_flow flow;
	enum state_ddl_status status;
	duct_arena_init(&arena);
	int rc = state_flow_get(state, &arena, flow_id, &flow, err);
	bool running = rc == 1 && flow.state == STATE_FLOW_RUNNING;
	bool waits = rc == 1 && flow.state == STATE_FLOW_PAUSED && strcmp(flow.reason, STATE_FLOW_DDL_PENDING) == 0;
	duct_arena_done(&arena);
	if (rc < 0 || running)
		return rc;
	if (!waits)
		return 2;
	rc = govern_ddl_decided(govern, &status, err);
	if (rc != 1)
		return rc;
	rc = move(state, flow_id, STATE_FLOW_PAUSED, STATE_FLOW_RUNNING, "the change of a table was decided", actor, err);
	return rc ? rc : 1;
}

int gate_wait(struct govern_ddl *govern, struct state *state, const char *flow_id, const struct state_actor *actor,
	      struct lease *lease, const struct duct_ctx *ctx, bool wait, struct duct_error *err)
{
	int rc = move(state, flow_id, STATE_FLOW_RUNNING, STATE_FLOW_PAUSED, STATE_FLOW_DDL_PENDING, actor, err);
	if (rc)
		return rc;
	log_warn(ctx->log, "the flow is paused: a change of a table waits for a word", LOG_I64("event", govern_ddl_held(govern)));
	while (wait) {
		struct pollfd fds[] = {{.fd = ctx->stop_fd, .events = POLLIN}, {.fd = lease->lost_fd, .events = POLLIN}};
		(void)poll(fds, DUCT_LEN(fds), LOOK_MS); /* EINTR: looked at a little earlier */
		if (duct_ctx_stopped(ctx))
			return 0;
		if (atomic_load(&lease->lost))
			return duct_fail(err, DUCT_RETRY, "the lease of flow \"%s\" was lost: another worker may run it", flow_id);
		rc = look(govern, state, flow_id, actor, err);
		if (rc == -DUCT_RETRY)
			continue; /* the state is away: the lease says how long we may wait */
		if (rc)
			return rc == 1 ? 1 : rc == 2 ? 0 : -(int)err->class;
	}
	return 0;
}
