/* The server's parts, in the order in which they begin and, backwards, end. */
#include "api/server.h"

#include <poll.h>
#include <unistd.h>

#include "api/api.h"
#include "api/grpc_server.h"
#include "base/mem.h"

enum { DRAIN_MS = 10000 };

struct server {
	const struct service_settings *settings;
	const struct duct_ctx *ctx;
	struct api_health health;
	struct api api;
	struct api_auth *auth;
	struct api_grpc *grpc;
};

static int open_auth(struct server *server, struct duct_error *err)
{
	const struct service_settings *set = server->settings;
	const struct api_auth_config config = {
		.tokens_file = set->tokens_file,
		.token = set->token,
		.token_role = (enum api_role)(set->token_role + API_VIEWER),
		.certificates = set->tls_client_ca_file != NULL,
		.mtls_roles = set->mtls_roles,
	};
	return api_auth_open(&server->auth, &config, server->ctx->log, err);
}

static int start_grpc(struct server *server, struct duct_error *err)
{
	const struct service_settings *set = server->settings;
	const struct api_grpc_config config = {
		.api = &server->api,
		.auth = server->auth,
		.log = server->ctx->log,
		.services = api_services,
		.address = set->grpc_listen,
		.cert_file = set->tls_cert_file,
		.key_file = set->tls_key_file,
		.client_ca_file = set->tls_client_ca_file,
		.reflection = set->grpc_reflection,
		.inline_quick = set->postgres_dsn == NULL,
		.max_message_bytes = (size_t)set->grpc_max_message_bytes,
		.max_response_bytes = (size_t)set->grpc_max_response_bytes,
		.threads = (int)set->grpc_threads,
		.max_streams = (int)set->grpc_max_streams,
	};
	return api_grpc_start(&server->grpc, &config, err);
}

static void fill_api(struct server *server)
{
	const struct service_settings *set = server->settings;
	server->api = (struct api){
		.log = server->ctx->log,
		.health = &server->health,
		.dispatch = set->dispatch,
		.wire_format = service_wire_format(set),
		.wire_enforce = set->wire_enforce,
		.ddl_gate = set->ddl_gate,
		.ddl_auto_approve = set->ddl_auto_approve,
		.ddl_auto_apply = set->ddl_auto_apply,
	};
}

static int start(struct server *server, struct duct_error *err)
{
	fill_api(server);
	int rc = open_auth(server, err);
	return rc ? rc : start_grpc(server, err);
}

static void wait_for_stop(const struct duct_ctx *ctx)
{
	struct pollfd fd = {.fd = ctx->stop_fd, .events = POLLIN};
	while (!duct_ctx_stopped(ctx))
		(void)poll(&fd, 1, -1); /* an interruption is not the end */
}

/* False: something did not end, and what it uses stays. */
static bool stop(struct server *server)
{
	api_health_set(&server->health, true, false);
	if (server->grpc && !api_grpc_stop(server->grpc, DRAIN_MS)) {
		log_warn(server->ctx->log, "a method did not end in time, and is cut off");
		return false;
	}
	api_auth_free(server->auth);
	return true;
}

int api_server_run(const struct service_settings *settings, const struct duct_ctx *ctx, struct duct_error *err)
{
	/* Outlives a method that does not return. */
	struct server *server = duct_xcalloc(1, sizeof *server);
	server->settings = settings;
	server->ctx = ctx;
	int rc = start(server, err);
	if (rc == 0) {
		api_health_set(&server->health, true, true);
		log_info(ctx->log, "ready");
		wait_for_stop(ctx);
	}
	if (stop(server))
		free(server);
	else
		_exit(0); /* its thread would use what the process takes down */
	if (rc == 0)
		log_info(ctx->log, "stopped");
	return rc;
}
