#ifndef DUCT_OPTIONS_SERVICE_H
#define DUCT_OPTIONS_SERVICE_H

#include "base/log.h"
#include "options/options.h"

/*
 * The settings of the service: one row per environment variable, read once at the start. What state_config_from_env() and
 * checkpoints_open() (src/state) read themselves is listed here as well, so that there is one list of all settings.
 */
enum service_role { SERVICE_VIEWER, SERVICE_OPERATOR, SERVICE_ADMIN };
enum service_log_format { SERVICE_LOG_TEXT, SERVICE_LOG_JSON };
enum service_dispatch { SERVICE_DISPATCH_NONE, SERVICE_DISPATCH_LOCAL, SERVICE_DISPATCH_DBOS };

struct service_settings {
	char *grpc_listen, *http_listen;
	int64_t http_max_body_bytes, http_max_connections, http_request_timeout_ms;
	bool grpc_reflection;
	int64_t grpc_max_message_bytes, grpc_max_response_bytes;
	int64_t grpc_threads, grpc_max_streams;

	char *tls_cert_file, *tls_key_file, *tls_client_ca_file;
	char *tokens_file, *token;
	int token_role; /* enum service_role */
	char *mtls_roles;

	char *postgres_dsn, *state_path, *secret_key, *secret_key_file;
	char *checkpoint_backend, *checkpoint_path, *checkpoint_dsn;

	int wire_format; /* number of ductstream.v1.WireFormat, 0: none given */
	bool wire_enforce;
	char *ingest_dsn;
	int64_t ingest_age_ms, ingest_bytes;
	bool ddl_gate, ddl_auto_approve, ddl_auto_apply;

	int dispatch; /* enum service_dispatch */
	int64_t run_workers, run_lease_ms, run_backoff_ms, run_retention_ms;
	char *run_queues, *run_command_env;
	bool run_commands;
	bool dbos_enabled;
	char *dbos_dsn, *dbos_app, *dbos_queue, *dbos_schedule;
	int64_t dbos_max_empty_reads, dbos_max_retries;

	int log_level;	/* enum duct_level */
	int log_format; /* enum service_log_format */
};
extern const struct duct_opt service_opts[];

/* NULL when none is given. */
const char *service_wire_format(const struct service_settings *settings);

/* CONFIG names the variable, its value unless it is secret, and the rule. A variable that is empty counts as not set; booleans may
 * also be 1, t, y, 0, f, n. Done with service_settings_done(). */
int service_settings_from_env(struct service_settings *ret, struct duct_error *err) DUCT_CHECKED;
void service_settings_done(struct service_settings *settings);

/* One warning per variable DUCTSTREAM_* that is none of the settings, but nearly one. */
void service_settings_warn(const struct duct_log *log);

#endif
