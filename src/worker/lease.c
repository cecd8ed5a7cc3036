#include "worker/lease.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	RENEW_MS = LEASE_TTL_MS / 4,
	AGAIN_MS = 500, /* after a renewal that failed */
	LOOK_MS = 250,	/* while another owner's lease lasts */
};

void lease_host(char to[LEASE_HOST_LEN])
{
	const char *given = getenv("DUCTSTREAM_HOST");
	memset(to, 0, LEASE_HOST_LEN);
	if (given && *given)
		snprintf(to, LEASE_HOST_LEN, "%s", given);
	else if (gethostname(to, LEASE_HOST_LEN - 1) != 0)
		*to = 0; /* the rest still names the process */
}

static void raise_event(int fd)
{
	uint64_t one = 1;
	/* It can only fail when the counter is full, and then the descriptor is readable anyway. */
	if (write(fd, &one, sizeof one) < 0)
		return;
}

/* Waits; false: the descriptor became readable before. */
static bool wait_ms(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t until = duct_mono_us() + (int64_t)ms * 1000;
	for (;;) {
		int64_t left = (until - duct_mono_us() + 999) / 1000;
		int n = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (n > 0)
			return false;
		if (n == 0)
			return true;
	}
}

static void *renew(void *arg)
{
	struct lease *l = arg;
	bool failed = false;
	while (wait_ms(l->end_fd, failed ? AGAIN_MS : RENEW_MS)) {
		struct duct_error err;
		int64_t now = duct_mono_us(); /* before the call: the lease begins no earlier */
		int rc = state_lease_renew(l->state, l->name, l->holder, l->fence, LEASE_TTL_MS, &err);
		failed = rc < 0;
		if (rc == 1)
			atomic_store(&l->until_us, now + (int64_t)LEASE_TTL_MS * 1000);
		if (rc == 0 || duct_mono_us() > atomic_load(&l->until_us)) {
			atomic_store(&l->lost, true);
			raise_event(l->lost_fd);
			return NULL;
		}
	}
	return NULL;
}

/* Who has the lease now. An owner that renews it is alive: RETRY. *last_us: until when it lasted at the last look. */
static int look(struct lease *l, struct duct_arena *arena, const char *flow_id, int64_t *last_us, struct duct_error *err)
{
	struct state_lease now;
	int rc = state_lease_get(l->state, arena, l->name, &now, err);
	if (rc <= 0)
		return rc;
	if (now.held && *last_us && now.expires_us != *last_us)
		return duct_fail(err, DUCT_RETRY, "flow \"%s\" is run by another worker: %s", flow_id, now.holder);
	*last_us = now.expires_us;
	snprintf(l->last_holder, sizeof l->last_holder, "%s", now.held ? "" : now.holder);
	return 0;
}

static int take(struct lease *l, const char *flow_id, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct duct_arena arena;
	int64_t last_us = 0;
	int rc;
	duct_arena_init(&arena);
	for (;;) {
		const char *holder;
		int64_t now = duct_mono_us();
		rc = look(l, &arena, flow_id, &last_us, err);
		rc = rc < 0 ? rc : state_lease_take(l->state, &arena, l->name, l->holder, LEASE_TTL_MS, &l->fence, &holder, err);
		atomic_store(&l->until_us, now + (int64_t)LEASE_TTL_MS * 1000);
		if (rc)
			break;
		if (!wait_ms(ctx->stop_fd, LOOK_MS)) {
			rc = duct_fail(err, DUCT_CANCELLED, "stopped while flow \"%s\" was still another worker's", flow_id);
			break;
		}
	}
	duct_arena_done(&arena);
	return rc < 0 ? rc : 0;
}

int lease_take(struct lease *l, struct state *state, const char *flow_id, const struct duct_ctx *ctx, struct duct_error *err)
{
	char host[LEASE_HOST_LEN], uuid[DUCT_UUID_LEN];
	*l = (struct lease){.state = state, .lost_fd = -1, .end_fd = -1};
	lease_host(host);
	snprintf(l->name, sizeof l->name, "flow/%.63s", flow_id);
	snprintf(l->holder, sizeof l->holder, "%s:%d:%s", host, (int)getpid(), duct_uuid_v4(uuid));
	int rc = take(l, flow_id, ctx, err);
	if (rc)
		return rc;
	l->lost_fd = eventfd(0, EFD_CLOEXEC);
	l->end_fd = eventfd(0, EFD_CLOEXEC);
	int failed = l->lost_fd < 0 || l->end_fd < 0 ? errno : pthread_create(&l->thread, NULL, renew, l);
	if (!failed)
		return 0;
	(void)duct_fail(err, DUCT_RETRY, "start the thread that renews the lease: %s", strerror(failed));
	struct duct_error ignored; /* it runs out by itself */
	if (state_lease_release(state, l->name, l->holder, l->fence, &ignored) < 0)
		failed = 0;
	return -DUCT_RETRY;
}

int lease_is_ours(struct lease *l, struct duct_error *err)
{
	if (atomic_load(&l->lost))
		return 0;
	return state_lease_renew(l->state, l->name, l->holder, l->fence, LEASE_TTL_MS, err);
}

void lease_give_back(struct lease *l)
{
	struct duct_error ignored; /* it runs out by itself */
	raise_event(l->end_fd);
	pthread_join(l->thread, NULL);
	if (!atomic_load(&l->lost) && state_lease_release(l->state, l->name, l->holder, l->fence, &ignored) < 0)
		atomic_store(&l->lost, true);
	close(l->lost_fd);
	close(l->end_fd);
}
