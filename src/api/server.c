/* The server's parts, in the order in which they begin and, backwards, end. */
#include "api/server.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "api/dispatch.h"
#include "api/flow_shown.h"
#include "api/grpc_server.h"
#include "api/http_server.h"
#include "api/metrics.h"
#include "api/streams.h"
#include "base/mem.h"
#include "otel/otel.h"
#include "run/service.h"

enum { DRAIN_MS = 10000, LOOK_MS = 5000 };

struct server {
	const struct service_settings *settings;
	const struct duct_ctx *ctx;
	struct duct_arena arena; /* strings of the state's settings */
	struct api_health health;
	struct api api;
	struct api_auth *auth;
	struct api_grpc *grpc;
	struct api_http *http;
};

static int open_state(struct server *server, struct duct_error *err)
{
	struct state_config config;
	int rc = state_config_from_env(&config, &server->arena, err);
	rc = rc ? rc : state_open(&server->api.state, &config, err);
	if (rc)
		return rc;
	log_info(server->ctx->log, "state opened", LOG_STR("where", state_describe(server->api.state)));
	return checkpoints_open(&server->api.checkpoints, server->api.state, err);
}

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

/* What runs flows and runs beside the API. */
static int start_work(struct server *server, struct duct_error *err)
{
	const struct service_settings *set = server->settings;
	struct dispatch *local = NULL;
	int rc = run_service_start(server->api.runs, server->api.state, server->ctx->log, err);
	if (rc || set->dispatch != SERVICE_DISPATCH_LOCAL)
		return rc;
	const struct dispatch_config config = {
		.state = server->api.state,
		.log = server->ctx->log,
		.json_log = set->log_format == SERVICE_LOG_JSON,
	};
	rc = dispatch_start(&local, &config, err);
	atomic_store(&server->api.local, local);
	return rc;
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

static int start_http(struct server *server, struct duct_error *err)
{
	const struct service_settings *set = server->settings;
	if (strcmp(set->http_listen, "off") == 0)
		return 0;
	const struct api_http_config config = {
		.api = &server->api,
		.auth = server->auth,
		.log = server->ctx->log,
		.services = api_services,
		.address = set->http_listen,
		.cert_file = set->tls_cert_file,
		.key_file = set->tls_key_file,
		.client_ca_file = set->tls_client_ca_file,
		.inline_quick = set->postgres_dsn == NULL,
		.max_body_bytes = (size_t)set->http_max_body_bytes,
		.threads = (int)set->grpc_threads,
		.max_streams = (int)set->grpc_max_streams,
		.max_connections = (int)set->http_max_connections,
		.request_timeout_ms = (int)set->http_request_timeout_ms,
	};
	return api_http_start(&server->http, &config, err);
}

static void fill_api(struct server *server)
{
	const struct service_settings *set = server->settings;
	server->api = (struct api){
		.log = server->ctx->log,
		.health = &server->health,
		.shown = flow_shown_new(),
		.streams = api_streams_new(server->ctx->log),
		.dispatch = set->dispatch,
		.wire_format = service_wire_format(set),
		.wire_enforce = set->wire_enforce,
		.ingest_dsn = set->ingest_dsn,
		.ingest_age_ms = set->ingest_age_ms,
		.ingest_bytes = set->ingest_bytes,
		.ddl_gate = set->ddl_gate,
		.ddl_auto_approve = set->ddl_auto_approve,
		.ddl_auto_apply = set->ddl_auto_apply,
	};
}

static void put_metrics(void *arg, struct duct_buf *to)
{
	api_metrics_write(arg, to);
}

static int start_otel(struct server *server, struct duct_error *err)
{
	const struct otel_config config = {.log = server->ctx->log, .page = put_metrics, .arg = &server->api};
	api_metrics_start();
	return otel_start(&config, err);
}

static int start(struct server *server, struct duct_error *err)
{
	fill_api(server);
	int rc = open_auth(server, err);
	rc = rc ? rc : open_state(server, err);
	rc = rc ? rc : start_otel(server, err);
	rc = rc ? rc : run_service_open(&server->api.runs, err);
	rc = rc ? rc : start_grpc(server, err);
	rc = rc ? rc : start_http(server, err);
	/* Last: a second server on the address does not begin to work. */
	return rc ? rc : start_work(server, err);
}

static bool state_answers(struct server *server)
{
	struct duct_error err;
	struct state_db *db = state_lend(server->api.state, &err);
	bool answers = db && state_db_run(db, "SELECT 1", NULL, 0, NULL, NULL, &err) == 1;
	state_return(server->api.state, db);
	return answers;
}

/* Ready is who can reach the state. */
static void look_at_state(struct server *server, bool *ready)
{
	bool now = state_answers(server);
	if (now == *ready)
		return;
	*ready = now;
	if (now)
		log_info(server->ctx->log, "ready again: the state answers");
	else
		log_warn(server->ctx->log, "not ready: the state does not answer",
			 LOG_STR("where", state_describe(server->api.state)));
	api_health_set(&server->health, true, now);
	api_grpc_wake(server->grpc);
}

static void serve(struct server *server)
{
	struct pollfd fd = {.fd = server->ctx->stop_fd, .events = POLLIN};
	bool ready = true;
	api_health_set(&server->health, true, true);
	log_info(server->ctx->log, "ready");
	while (!duct_ctx_stopped(server->ctx))
		if (poll(&fd, 1, LOOK_MS) == 0)
			look_at_state(server, &ready);
}

/* False: something did not end, and what it uses stays. */
static bool stop(struct server *server)
{
	api_health_set(&server->health, true, false);
	bool http = api_http_stop(server->http, DRAIN_MS), grpc = !server->grpc || api_grpc_stop(server->grpc, DRAIN_MS);
	dispatch_stop(atomic_load(&server->api.local));
	run_service_stop(server->api.runs);
	otel_stop();
	if (!http || !grpc) {
		log_warn(server->ctx->log, "a method did not end in time, and is cut off");
		return false;
	}
	api_streams_free(server->api.streams);
	checkpoints_close(server->api.checkpoints);
	state_close(server->api.state);
	flow_shown_free(server->api.shown);
	api_auth_free(server->auth);
	duct_arena_done(&server->arena);
	return true;
}

int api_server_run(const struct service_settings *settings, const struct duct_ctx *ctx, struct duct_error *err)
{
	/* Outlives a method that does not return. */
	struct server *server = duct_xcalloc(1, sizeof *server);
	server->settings = settings;
	server->ctx = ctx;
	int rc = start(server, err);
	if (rc == 0)
		serve(server);
	if (!stop(server))
		_exit(0); /* its thread would use what the process takes down */
	free(server);
	if (rc == 0)
		log_info(ctx->log, "stopped");
	return rc;
}
