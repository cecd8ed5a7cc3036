/* The listener's life, and the thread that takes events. */
#include "api/grpc_server.h"
#include "api/grpc_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/accept.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/handover.h"
#include "base/mem.h"

#define SETTING "DUCTSTREAM_GRPC_LISTEN"

enum { ARMED = 64, TICK_US = 100000, LOOK_US = 1000000, STUCK_US = 2000000, MEMORY_QUOTA = 256 << 20 };

/* ---- the thread */

static void drain(struct api_grpc *grpc)
{
	grpc->draining = true;
	grpc->cancel_at_us = duct_mono_us() + (int64_t)grpc->drain_ms * 1000;
	grpc->leave_at_us = grpc->cancel_at_us + STUCK_US;
	grpc_server_shutdown_and_notify(grpc->core, grpc->cq, &grpc->down);
	for (struct rpc *rpc = grpc->open; rpc; rpc = rpc->older) {
		if (rpc->has_thread)
			rpc_interrupt(rpc);
		else if (rpc->special && !rpc->watched && !rpc->out)
			rpc_end(rpc, API_UNAVAILABLE, "the server is shutting down");
	}
	special_wake_watchers(grpc);
}

/* Clients that are waited for too long, and the ends of draining. */
static void tick(struct api_grpc *grpc, int64_t now)
{
	grpc->next_tick_us = now + TICK_US;
	if (atomic_load(&grpc->stopping) && !grpc->draining)
		drain(grpc);
	if (atomic_exchange(&grpc->woken, false))
		special_wake_watchers(grpc);
	if (now >= grpc->next_look_us) {
		grpc->next_look_us = now + LOOK_US;
		for (struct rpc *rpc = grpc->open; rpc; rpc = rpc->older)
			if (atomic_load(&rpc->expires_us) < now)
				grpc_call_cancel(rpc->core, NULL);
	}
	if (grpc->draining && !grpc->cancelled_all && now >= grpc->cancel_at_us) {
		grpc->cancelled_all = true;
		grpc_server_cancel_all_calls(grpc->core);
	}
	if (grpc->draining && now >= grpc->leave_at_us)
		grpc->stuck = true;
}

static void take(struct api_grpc *grpc, const grpc_event *event)
{
	struct rpc_tag *tag = event->tag;
	duct_take_over(tag);
	if (tag->rpc) {
		rpc_take(tag->rpc, tag->event, event->success);
		return;
	}
	grpc->is_down = true;
}

/* Once all calls are over, and no worker has one any more: after that nothing may be begun on the queue. */
static void close_queue(struct api_grpc *grpc)
{
	if (!grpc->is_down || !grpc->core || atomic_load(&grpc->busy) > 0)
		return;
	grpc_server_destroy(grpc->core);
	grpc->core = NULL;
	grpc_completion_queue_shutdown(grpc->cq);
}

/* The library has no call that wakes its queue, so other threads are heard at the next tick. */
static void *serve(void *arg)
{
	struct api_grpc *grpc = arg;
	for (;;) {
		grpc_event event =
			grpc_completion_queue_next(grpc->cq, gpr_time_from_micros(grpc->next_tick_us, GPR_CLOCK_MONOTONIC), NULL);
		if (event.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		if (event.type == GRPC_OP_COMPLETE)
			take(grpc, &event);
		int64_t now = duct_mono_us();
		if (now >= grpc->next_tick_us && grpc->core)
			tick(grpc, now);
		close_queue(grpc);
		if (grpc->stuck)
			return NULL;
	}
}

void api_grpc_wake(struct api_grpc *grpc)
{
	atomic_store(&grpc->woken, true);
}

/* ---- binding */

/* The library only says that it cannot bind, not why. */
static int try_bind(const char *at, bool optional, const struct api_grpc_config *config, struct duct_error *err)
{
	struct api_address parsed;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found = NULL;
	char port[16];
	if (!api_address_parse(&parsed, at))
		return duct_fail(err, DUCT_FATAL, "address \"%s\" cannot be taken apart", at);
	snprintf(port, sizeof port, "%d", parsed.port);
	int rc = getaddrinfo(parsed.host, port, &hints, &found), one = 1;
	if (rc)
		return duct_fail(err, DUCT_CONFIG, SETTING "=\"%s\": %s", config->address, gai_strerror(rc));
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
		bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 1) == 0;
	int why = errno;
	if (fd >= 0)
		close(fd);
	freeaddrinfo(found);
	if (ok)
		return 1;
	if (optional && (why == EADDRNOTAVAIL || why == EAFNOSUPPORT))
		return 0;
	return duct_fail(err, DUCT_CONFIG, SETTING "=\"%s\": %s cannot be bound: %s%s", config->address, at, strerror(why),
			 why == EADDRINUSE ? ", another server has it" : "");
}

/* Binds all addresses; `bound` gets them as text. */
static int bind_all(struct api_grpc *grpc, struct api_listen *listen, struct duct_buf *bound, struct duct_error *err)
{
	grpc_server_credentials *credentials =
		grpc->tls ? grpc_tls_credentials(grpc->tls) : grpc_insecure_server_credentials_create();
	int rc = 0;
	for (size_t i = 0; i < listen->n && rc == 0; i++) {
		char *last_colon = strrchr(listen->at[i], ':');
		/* With port 0 the first address gets one, the others the same. */
		snprintf(last_colon + 1, sizeof listen->at[i] - (size_t)(last_colon + 1 - listen->at[i]), "%d", listen->port);
		rc = try_bind(listen->at[i], listen->without_host && i > 0, &grpc->config, err);
		if (rc <= 0)
			continue;
		int port = grpc_server_add_http2_port(grpc->core, listen->at[i], credentials);
		rc = port > 0
			? 0
			: duct_fail(err, DUCT_CONFIG, SETTING "=\"%s\": %s cannot be bound", grpc->config.address, listen->at[i]);
		listen->port = port;
		duct_buf_printf(bound, "%s%.*s%d", i ? " " : "", (int)(last_colon + 1 - listen->at[i]), listen->at[i], port);
	}
	grpc_server_credentials_release(credentials);
	return rc < 0 ? rc : 0;
}

/* ---- start and stop */

/* What goes wrong on one connection is for whoever looks into it. The library ends the process after a broken rule of its own. */
static void library_line(gpr_log_func_args *args)
{
	bool fatal = strncmp(args->message, "assertion failed", 16) == 0;
	DUCT_LOG(NULL, fatal ? DUCT_ERROR : DUCT_DEBUG, "grpc", LOG_STR("message", args->message));
}

static grpc_arg number(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static void create_core(struct api_grpc *grpc)
{
	grpc_resource_quota *quota = grpc_resource_quota_create("api");
	grpc_resource_quota_resize(quota, MEMORY_QUOTA);
	grpc_arg args[] = {
		number(GRPC_ARG_ALLOW_REUSEPORT, 0),
		number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)grpc->config.max_message_bytes),
		number(GRPC_ARG_MAX_METADATA_SIZE, 16 << 10),
		number(GRPC_ARG_MAX_CONCURRENT_STREAMS, 256),
		/* A compressed message may be a thousand times larger than what arrives: none are taken. */
		number(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
		number(GRPC_ARG_KEEPALIVE_TIME_MS, 60000),
		number(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000),
		number(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		number(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000),
		number(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 600000),
		number(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000),
		{.type = GRPC_ARG_POINTER,
		 .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
		 .value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()}},
	};
	grpc_channel_args all = {DUCT_LEN(args), args};
	grpc->cq = grpc_completion_queue_create_for_next(NULL);
	grpc->core = grpc_server_create(&all, NULL);
	grpc_resource_quota_unref(quota);
	grpc_server_register_completion_queue(grpc->core, grpc->cq, NULL);
}

static void name_services(struct api_grpc *grpc)
{
	static const struct api_service *const own[] = {&api_health_service, NULL};
	size_t n = 0, cap = 0;
	grpc->routes = api_routes_new((const struct api_service *const *const[]){grpc->config.services, own, NULL});
	for (const struct api_service *const *service = grpc->config.services; *service; service++) {
		grpc->names = duct_grow(grpc->names, &cap, n + 1, sizeof *grpc->names);
		grpc->names[n++] = (*service)->descriptor->name;
	}
	grpc->names = duct_grow(grpc->names, &cap, n + 4, sizeof *grpc->names);
	grpc->names[n++] = api_health_service.descriptor->name;
	grpc->names[n++] = "grpc.reflection.v1.ServerReflection";
	grpc->names[n++] = "grpc.reflection.v1alpha.ServerReflection";
	grpc->names[n] = NULL;
}

static void free_all(struct api_grpc *grpc)
{
	if (grpc->cq)
		grpc_completion_queue_destroy(grpc->cq);
	grpc_shutdown_blocking();
	grpc_tls_free(grpc->tls);
	api_routes_free(grpc->routes);
	free(grpc->names);
	free(grpc);
}

/* Of a listener that never served. */
static void give_up(struct api_grpc *grpc)
{
	if (grpc->core) {
		grpc_event event;
		grpc_server_shutdown_and_notify(grpc->core, grpc->cq, &grpc->down);
		while ((event = grpc_completion_queue_next(grpc->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)).type !=
		       GRPC_QUEUE_SHUTDOWN) {
			take(grpc, &event);
			close_queue(grpc);
		}
	}
	(void)api_pool_stop(grpc->pool, 1000); /* its threads have nothing to do */
	free_all(grpc);
}

static int start(struct api_grpc *grpc, struct duct_buf *bound, struct duct_error *err)
{
	struct api_listen listen;
	const struct api_grpc_config *config = &grpc->config;
	int rc = api_listen_resolve(&listen, SETTING, config->address, err);
	rc = rc ? rc : grpc_tls_open(&grpc->tls, config, err);
	const struct api_protection protection = {grpc->tls != NULL, api_auth_has_tokens(config->auth), grpc->certificates};
	rc = rc ? rc : api_listen_check(&listen, SETTING, config->address, &protection, err);
	if (rc)
		return rc;
	create_core(grpc);
	rc = bind_all(grpc, &listen, bound, err);
	rc = rc ? rc : api_pool_start(&grpc->pool, config->threads, config->max_streams, err);
	if (rc)
		return rc;
	grpc_server_start(grpc->core);
	for (int i = 0; i < ARMED; i++)
		rpc_arm(grpc);
	grpc->next_tick_us = duct_mono_us() + TICK_US;
	rc = pthread_create(&grpc->thread, NULL, serve, grpc);
	if (rc)
		return duct_fail(err, DUCT_RETRY, "a thread cannot be started: %s", strerror(rc));
	api_listen_log(grpc->log, "grpc", &listen, bound->data);
	return 0;
}

int api_grpc_start(struct api_grpc **ret, const struct api_grpc_config *config, struct duct_error *err)
{
	AUTO_BUF struct duct_buf bound = {0};
	int rc = grpc_api_load(err);
	if (rc)
		return rc;
	struct api_grpc *grpc = duct_xcalloc(1, sizeof *grpc);
	grpc->config = *config;
	grpc->log = config->log;
	grpc->certificates = config->client_ca_file != NULL;
	api_accept_prepare();
	gpr_set_log_function(library_line);
	gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR); /* clients of this process have set it to none */
	grpc_init();
	name_services(grpc);
	rc = start(grpc, &bound, err);
	if (rc) {
		give_up(grpc);
		return rc;
	}
	*ret = grpc;
	return 0;
}

bool api_grpc_stop(struct api_grpc *grpc, int drain_ms)
{
	grpc->drain_ms = drain_ms;
	atomic_store(&grpc->stopping, true);
	pthread_join(grpc->thread, NULL);
	if (grpc->stuck || !api_pool_stop(grpc->pool, 1000))
		return false;
	free_all(grpc);
	return true;
}
