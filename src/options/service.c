/* The settings of the service as one table, and how they come from the environment. */
#include "options/service.h"

#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *const roles[] = {"viewer", "operator", "admin", NULL};
static const char *const dispatches[] = {"none", "local", "dbos", NULL};
static const char *const wire_formats[] = {"none", "arrow", "parquet", "proto", "avro", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define PREFIX "DUCTSTREAM_"
#define SET(field, name, type, default_, summary, ...) \
	OPT(struct service_settings, field, PREFIX name, DUCT_OPT_##type, default_, summary, ##__VA_ARGS__)

const struct duct_opt service_opts[] = {
	SET(grpc_listen, "GRPC_LISTEN", STR, ":8080",
	    "address of the gRPC API: HOST:PORT; without a host only this machine reaches it"),
	SET(http_listen, "HTTP_LISTEN", STR, ":8082", "address of the HTTP API, /metrics, /healthz and /readyz; `off`: none"),
	SET(http_max_body_bytes, "HTTP_MAX_BODY", SIZE, "4MiB", "largest body of a request that is taken", .min = 1024,
	    .max = 1 << 30),
	SET(http_max_connections, "HTTP_MAX_CONNECTIONS", INT, "512", "most connections of the HTTP API; others wait", .min = 1,
	    .max = 65536),
	SET(http_request_timeout_ms, "HTTP_REQUEST_TIMEOUT", DURATION, "30s",
	    "longest time for a request to come in, for its answer to be taken, and between two requests", .min = 100,
	    .max = 3600000),
	SET(grpc_reflection, "GRPC_REFLECTION", BOOL, "false", "clients may ask for the descriptors of the API"),
	SET(grpc_max_message_bytes, "GRPC_MAX_MESSAGE", SIZE, "4MiB", "largest request that is taken", .min = 1024, .max = 1 << 30),
	SET(grpc_max_response_bytes, "GRPC_MAX_RESPONSE", SIZE, "16MiB", "largest response that is sent", .min = 1024,
	    .max = 1 << 30),
	SET(grpc_threads, "GRPC_THREADS", INT, "8", "calls that work at the same time; 256 more wait, others are refused", .min = 1,
	    .max = 256),
	SET(grpc_max_streams, "GRPC_MAX_STREAMS", INT, "64",
	    "calls that watch or wait at the same time, of all clients; others are refused", .min = 1, .max = 1024),

	SET(tls_cert_file, "TLS_CERT_FILE", STR, NULL,
	    "certificate of the server and those it was signed with (PEM); read again when it changes"),
	SET(tls_key_file, "TLS_KEY_FILE", STR, NULL, "its private key (PEM)"),
	SET(tls_client_ca_file, "TLS_CLIENT_CA_FILE", STR, NULL, "clients must show a certificate signed by one of these (PEM)"),
	SET(tokens_file, "TOKENS_FILE", STR, NULL,
	    "file of tokens, one a line: NAME ROLE TOKEN, or NAME ROLE sha256:HEX; mode 0600",
	    .doc = "Lines that are empty or begin with `#` are left out. A token has at least 16 printable characters; `sha256:` and 64 "
		   "hexadecimal digits stand for the token with that hash. The file is read again when it changes; one that is wrong is "
		   "reported, and the tokens stay as they were."),
	SET(token, "TOKEN", STR, NULL, "one more token, named `env`", .flags = DUCT_OPT_SECRET),
	SET(token_role, "TOKEN_ROLE", ENUM, "admin", "the role of that token", .values = roles),
	SET(mtls_roles, "MTLS_ROLES", STR, NULL,
	    "roles of client certificates by their common name: CN=ROLE,CN=ROLE; others are viewers"),

	SET(postgres_dsn, "POSTGRES_DSN", STR, NULL, "Postgres that holds the service's state; without it a SQLite file does",
	    .flags = DUCT_OPT_SECRET),
	SET(state_path, "STATE_PATH", STR, NULL, "the SQLite file; by default `$HOME/.ductstream/state.db`"),
	SET(secret_key, "SECRET_KEY", STR, NULL, "key that secret options are encrypted with: 64 hexadecimal digits",
	    .flags = DUCT_OPT_SECRET),
	SET(secret_key_file, "SECRET_KEY_FILE", STR, NULL,
	    "file of that key, made when it is not there; by default `secret.key` beside the SQLite file, or in `$HOME/.ductstream`"),
	SET(checkpoint_backend, "CHECKPOINT_BACKEND", STR, NULL,
	    "where checkpoints are kept: `postgres`, `sqlite` or `none`; by default where the state is"),
	SET(checkpoint_path, "CHECKPOINT_PATH", STR, NULL, "SQLite file of the checkpoints"),
	SET(checkpoint_dsn, "CHECKPOINT_DSN", STR, NULL, "Postgres of the checkpoints, or the whole DSN of their SQLite file",
	    .flags = DUCT_OPT_SECRET),

	SET(wire_format, "WIRE_FORMAT", ENUM, "none", "format of what destinations are sent, for flows that name none",
	    .values = wire_formats),
	SET(wire_enforce, "WIRE_ENFORCE", BOOL, "true", "a connector's own format must be the flow's"),
	SET(ingest_dsn, "INGEST_DSN", STR, NULL, "Postgres of the streams that others send to; by default where the state is",
	    .flags = DUCT_OPT_SECRET),
	SET(ingest_age_ms, "INGEST_RETENTION_AGE", DURATION, NULL, "such streams drop messages older than this (unset: keep them)",
	    .max = 3650LL * 86400 * 1000),
	SET(ingest_bytes, "INGEST_RETENTION_BYTES", SIZE, NULL,
	    "such streams drop the oldest messages beyond so much payload (unset: keep them)", .max = 1LL << 50),
	SET(ddl_gate, "DDL_GATE", BOOL, "false", "changes of schema wait for approval"),
	SET(ddl_auto_approve, "DDL_AUTO_APPROVE", BOOL, "false", "with the gate: they are approved at once"),
	SET(ddl_auto_apply, "DDL_AUTO_APPLY", BOOL, "false", "with the gate: the flow applies what is approved"),

	SET(dispatch, "DISPATCH", ENUM, "none", "who runs a started flow: nobody here, one local process per flow, or DBOS",
	    .values = dispatches),
	SET(run_workers, "RUN_WORKERS", INT, "2", "runs that the server (or `ductstream-worker -runs`) does at the same time",
	    .min = 0, .max = 64),
	SET(run_queues, "RUN_QUEUES", STR, "default", "the queues it takes them from, separated by commas"),
	SET(run_lease_ms, "RUN_LEASE", DURATION, "10s",
	    "who says nothing for so long is taken for dead, and others take over the run", .min = 500, .max = 3600000),
	SET(run_backoff_ms, "RUN_BACKOFF", DURATION, "1s", "longest wait before the second attempt; doubles up to 5 minutes",
	    .min = 1, .max = 300000),
	SET(run_retention_ms, "RUN_RETENTION", DURATION, "30d", "runs that were over for so long are removed", .min = 1000,
	    .max = 3153600000000),
	SET(run_commands, "RUN_COMMANDS", BOOL, "false", "runs of kind `command` start programs of this machine"),
	SET(run_command_env, "RUN_COMMAND_ENV", STR, NULL, "variables that such a program sees beyond PATH, HOME and the like"),
	SET(dbos_enabled, "DBOS_ENABLED", BOOL, "false", "runs are queued and executed through a DBOS system database"),
	SET(dbos_dsn, "DBOS_DSN", STR, NULL, "Postgres of that database; by default where the state is", .flags = DUCT_OPT_SECRET),
	SET(dbos_app, "DBOS_APP", STR, "ductstream", "application name in DBOS"),
	SET(dbos_queue, "DBOS_QUEUE", STR, "ductstream", "queue in DBOS"),
	SET(dbos_schedule, "DBOS_SCHEDULE", STR, NULL, "cron with six fields, seconds first: one run per running flow each time"),
	SET(dbos_max_empty_reads, "DBOS_MAX_EMPTY_READS", INT, "1", "empty polls after which such a run ends", .min = 1,
	    .max = 1000000),
	SET(dbos_max_retries, "DBOS_MAX_RETRIES", INT, "2", "attempts of such a run after the first", .min = 0, .max = 1000),

	SET(log_level, "LOG_LEVEL", ENUM, "info", "least important lines that are logged", .values = log_levels),
	SET(log_format, "LOG_FORMAT", ENUM, "text", "form of the log on stderr", .values = log_formats),
	{0},
};

const char *service_wire_format(const struct service_settings *settings)
{
	return settings->wire_format ? wire_formats[settings->wire_format] : NULL;
}

/* What the original takes for true and false, besides what option files do. */
static const char *plain_bool(const char *text)
{
	static const char *const yes[] = {"1", "t", "y", "true", "yes", "on"}, *const no[] = {"0", "f", "n", "false", "no", "off"};
	for (size_t i = 0; i < DUCT_LEN(yes); i++) {
		if (strcasecmp(text, yes[i]) == 0)
			return "true";
		if (strcasecmp(text, no[i]) == 0)
			return "false";
	}
	return text;
}

int service_settings_from_env(struct service_settings *ret, struct duct_error *err)
{
	struct duct_opt_value values[DUCT_LEN(service_opts)];
	size_t n = 0;
	for (const struct duct_opt *opt = service_opts; opt->name; opt++) {
		const char *text = getenv(opt->name);
		if (text && *text)
			values[n++] = (struct duct_opt_value){.name = opt->name,
							      .text = opt->type == DUCT_OPT_BOOL ? plain_bool(text) : text};
	}
	return duct_opts_load(ret, sizeof *ret, service_opts, values, n, "environment", err);
}

void service_settings_done(struct service_settings *settings)
{
	duct_opts_done(settings, sizeof *settings, service_opts);
}

void service_settings_warn(const struct duct_log *log)
{
	const char *names[DUCT_LEN(service_opts)] = {0};
	for (size_t i = 0; service_opts[i].name; i++)
		names[i] = service_opts[i].name + strlen(PREFIX);
	for (char **at = environ; at && *at; at++) {
		if (strncmp(*at, PREFIX, strlen(PREFIX)) != 0)
			continue;
		AUTO_FREE char *name = duct_xstrndup(*at + strlen(PREFIX), strcspn(*at, "=") - strlen(PREFIX));
		const char *near = duct_nearest(name, names);
		if (!near || strcmp(near, name) == 0)
			continue;
		AUTO_FREE char *whole = duct_xasprintf(PREFIX "%s", name), *meant = duct_xasprintf(PREFIX "%s", near);
		log_warn(log, "unknown setting", LOG_STR("name", whole), LOG_STR("nearest", meant));
	}
}
