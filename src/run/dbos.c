/*
 * A DBOS system database in SQL. DBOS has no leases: a row is its executor's until somebody enqueues it anew, so the executor's id is the
 * application's name, the same in whichever process bridges, and our own lease says which one that is. owner_xid is the fencing
 * token: what was claimed or adopted by another connection cannot be finished by this one. Every row has the application's name, or a
 * Python worker of another application would take what it cannot run. Payloads are portable JSON.
 */
#include "run/dbos.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/uuid.h"

/* --- settings --- */

int dbos_configure(struct dbos_config *ret, const struct service_settings *settings, struct duct_error *err)
{
	*ret = (struct dbos_config){
		.enabled = settings->dbos_enabled,
		.dsn = settings->dbos_dsn ? settings->dbos_dsn : settings->postgres_dsn,
		.app = settings->dbos_app,
		.queue = settings->dbos_queue,
		.schedule = settings->dbos_schedule,
		.max_empty_reads = settings->dbos_max_empty_reads,
		.max_retries = settings->dbos_max_retries,
	};
	if (ret->enabled && !ret->dsn)
		return duct_fail(err, DUCT_CONFIG,
				 "DUCTSTREAM_DBOS_ENABLED: DBOS lives in a Postgres: set DUCTSTREAM_POSTGRES_DSN, or "
				 "DUCTSTREAM_DBOS_DSN when it is another one");
	return 0;
}

/* --- open --- */

/* The columns that are used; which are missing, if any. */
static int check_columns(struct dbos *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_exec(
		d->session,
		"SELECT string_agg(t || '.' || c, ', ') FROM (VALUES ('workflow_status', 'owner_xid'), "
		"('workflow_status', 'application_name'), ('workflow_status', 'queue_partition_key'), "
		"('workflow_status', 'deduplication_id'), ('workflow_status', 'rate_limited'), "
		"('workflow_status', 'serialization'), ('workflow_status', 'delay_until_epoch_ms'), "
		"('operation_outputs', 'serialization'), ('workflow_input', 'inputs'), ('workflow_output', 'output'), ('queues', 'concurrency'), "
		"('queues', 'partition_concurrency'), ('queues', 'rate_limit_period_sec')) needed (t, c) "
		"WHERE NOT EXISTS (SELECT FROM information_schema.columns WHERE table_schema = 'dbos' AND table_name = t "
		"AND column_name = c)",
		&res, err);
	if (rc == 0 && pg_get(res, 0, 0))
		return duct_fail(err, DUCT_CONFIG, "DBOS on %s, schema version %d, has no %s", d->session->where, d->version,
				 pg_get(res, 0, 0));
	return rc;
}

static int check_version(struct dbos *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *found = NULL, *res = NULL;
	int rc = pg_exec(d->session, "SELECT to_regclass('dbos.dbos_migrations') IS NOT NULL", &found, err);
	if (rc == 0 && !pg_get_bool(found, 0, 0))
		return duct_fail(err, DUCT_CONFIG,
				 "DBOS: %s has no schema \"dbos\": make it with `dbos migrate -s DSN` (PyPI dbos)",
				 d->session->where);
	if (rc == 0)
		rc = pg_exec(d->session, "SELECT max(version) FROM dbos.dbos_migrations", &res, err);
	if (rc < 0)
		return rc;
	d->version = (int)pg_get_i64(res, 0, 0);
	if (d->version < DBOS_OLDEST)
		return duct_fail(err, DUCT_CONFIG,
				 "DBOS on %s has schema version %d: %d or later is needed (PyPI dbos 3.0 and `dbos migrate`)",
				 d->session->where, d->version, DBOS_OLDEST);
	return check_columns(d, err);
}

/* Servers with different states do not know each other's lease: two that bridged one application would take each other's rows. */
static int lock_app(struct dbos *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(d->session, "SELECT pg_try_advisory_lock(hashtextextended('ductstream/dbos/' || $1, 0))", 1,
			  &d->config->app, &res, err);
	if (rc == 0 && !pg_get_bool(res, 0, 0))
		return duct_fail(err, DUCT_RETRY, "DBOS on %s: another server bridges application \"%s\"", d->session->where,
				 d->config->app);
	return rc;
}

int dbos_open(struct dbos *d, const struct dbos_config *config, bool alone, int stop_fd, struct duct_error *err)
{
	char uuid[DUCT_UUID_LEN];
	*d = (struct dbos){.config = config};
	(void)snprintf(d->owner, sizeof d->owner, "%s", duct_uuid_v4(uuid));
	const struct pg_session_options options = {.dsn = config->dsn, .application_name = "ductstream-dbos", .stop_fd = stop_fd};
	int rc = pg_session_open(&d->session, &options, err);
	if (rc == 0)
		rc = check_version(d, err);
	if (rc == 0 && alone)
		rc = lock_app(d, err);
	if (rc < 0)
		dbos_close(d);
	return rc;
}

void dbos_close(struct dbos *d)
{
	pg_session_close(d->session);
	d->session = NULL;
}

/* --- in --- */

#define NOW "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
#define OURS(t) "(" t "application_name = $1 OR " t "application_name IS NULL)"

int dbos_enqueue(struct dbos *d, const char *workflow, const char *id, const char *deduplication, const char *named_json,
		 struct duct_error *err)
{
	AUTO_PGRESULT PGresult *there = NULL, *res = NULL;
	const char *params[] = {workflow, d->config->queue, named_json, id, deduplication, d->config->app};
	int rc = pg_query(d->session, "SELECT FROM dbos.workflow_status WHERE workflow_uuid = $1", 1, &id, &there, err);
	if (rc < 0 || PQntuples(there))
		return rc;
	rc = pg_query(d->session,
		      "SELECT dbos.enqueue_workflow($1, $2, ARRAY[]::json[], $3::json, workflow_id => $4, deduplication_id => $5, "
		      "application_name => $6)",
		      6, params, &res, err);
	if (rc < 0 && strcmp(err->sqlstate, "23505") == 0)
		return 0;
	return rc < 0 ? rc : 1;
}

int dbos_enqueue_on(struct dbos *d, const char *id, const char *flow_id, struct duct_error *err)
{
	AUTO_BUF struct duct_buf named = {0};
	duct_buf_puts(&named, "{\"flow_id\":");
	duct_buf_json_string(&named, flow_id, strlen(flow_id));
	duct_buf_printf(&named, ",\"max_empty_reads\":%lld}", (long long)d->config->max_empty_reads);
	return dbos_enqueue(d, "ductstream.run_flow", id, flow_id, named.data, err);
}

int dbos_enqueue_flow(const struct dbos_config *config, const char *id, const char *flow_id, int stop_fd, struct duct_error *err)
{
	struct dbos d;
	int rc = dbos_open(&d, config, false, stop_fd, err);
	if (rc < 0)
		return rc;
	rc = dbos_enqueue_on(&d, id, flow_id, err);
	dbos_close(&d);
	return rc;
}

int dbos_sweep(struct dbos *d, struct duct_error *err)
{
	int rc = pg_query(d->session,
			  "UPDATE dbos.workflow_status SET status = 'ENQUEUED', updated_at = " NOW " WHERE status = 'DELAYED' AND "
			  "delay_until_epoch_ms <= " NOW " AND " OURS(""),
			  1, &d->config->app, NULL, err);
	if (rc == 0)
		rc = pg_query(d->session,
			      "UPDATE dbos.workflow_status SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL, "
			      "deduplication_id = NULL, completed_at = " NOW ", updated_at = " NOW
			      " WHERE status IN ('PENDING', 'ENQUEUED') "
			      "AND workflow_deadline_epoch_ms <= " NOW " AND application_name = $1",
			      1, &d->config->app, NULL, err);
	return rc;
}

static int take_rows(const PGresult *res, struct duct_arena *arena, struct dbos_row **ret)
{
	int n = PQntuples(res);
	struct dbos_row *rows = duct_arena_alloc(arena, (size_t)n * sizeof *rows);
	for (int i = 0; i < n; i++) {
		const char *inputs = pg_get(res, i, 2);
		rows[i].id = duct_arena_strdup(arena, PQgetvalue(res, i, 0));
		rows[i].name = duct_arena_strdup(arena, PQgetvalue(res, i, 1));
		rows[i].inputs = duct_arena_strdup(arena, inputs ? inputs : "{}");
	}
	*ret = rows;
	return n;
}

#define ROW "w.workflow_uuid, w.name, (SELECT i.inputs FROM dbos.workflow_input i WHERE i.workflow_uuid = w.workflow_uuid)"

int dbos_adopt(struct dbos *d, struct duct_arena *arena, struct dbos_row **ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {d->config->app, d->owner};
	int rc = pg_query(
		d->session,
		"UPDATE dbos.workflow_status w SET owner_xid = $2, updated_at = " NOW " WHERE status = 'PENDING' AND "
		"executor_id = $1 AND application_name = $1 AND name IN ('ductstream.run_flow', 'ductstream.run') RETURNING " ROW,
		2, params, &res, err);
	return rc < 0 ? rc : take_rows(res, arena, ret);
}

/*
 * $1 app, $2 queue, $3 owner, $4 how many. Room is what the queue's own row leaves; a queue with partitions gives one row per idle partition
 * (the heads are taken under a lock of their partition, and looked at again). A row that another application's serializer wrote is not ours to read.
 */
#define CLAIM(lock) \
	"WITH q AS (SELECT * FROM dbos.queues WHERE name = $2), room AS (SELECT greatest(0, least($4::bigint, " \
	"coalesce((SELECT concurrency FROM q) - (SELECT count(*) FROM dbos.workflow_status WHERE queue_name = $2 AND status = 'PENDING' " \
	"AND " OURS( \
		"") "), $4::bigint), coalesce((SELECT rate_limit_max FROM q) - (SELECT count(*) FROM dbos.workflow_status " \
		    "WHERE queue_name = $2 AND rate_limited AND status NOT IN ('ENQUEUED', 'DELAYED') AND started_at_epoch_ms > " NOW \
		    " - ((SELECT rate_limit_period_sec FROM q) * 1000)::bigint AND " OURS( \
			    "") "), $4::bigint))) AS n), " \
				"c AS (SELECT e.workflow_uuid, e.queue_partition_key FROM dbos.workflow_status e WHERE queue_name IN ($2, " \
				"'_dbos_internal_queue') AND status = 'ENQUEUED' AND name IN ('ductstream.run_flow', 'ductstream.run') " \
				"AND (serialization = 'portable_json' OR serialization IS NULL AND EXISTS (SELECT FROM dbos.workflow_input i " \
				"WHERE i.workflow_uuid = e.workflow_uuid AND left(i.inputs, 1) = '{')) AND " OURS( \
					"") " AND (e.queue_partition_key IS NULL OR coalesce((SELECT partition_concurrency FROM q), 2147483647) > (SELECT count(*) " \
					    "FROM dbos.workflow_status p WHERE p.queue_name = $2 AND p.status = 'PENDING' AND p.queue_partition_key = e.queue_partition_key) " \
					    "+ (SELECT count(*) FROM dbos.workflow_status b WHERE b.queue_name = $2 AND b.status = 'ENQUEUED' AND b.queue_partition_key = " \
					    "e.queue_partition_key AND (b.priority, b.created_at, b.workflow_uuid) < (e.priority, e.created_at, e.workflow_uuid))) " \
					    "ORDER BY priority, created_at LIMIT (SELECT n FROM room) FOR UPDATE OF e " lock ") " \
					    "UPDATE dbos.workflow_status w SET status = 'PENDING', owner_xid = $3, executor_id = $1, application_name = $1, " \
					    "started_at_epoch_ms = " NOW ", updated_at = " NOW \
					    ", recovery_attempts = recovery_attempts + 1, " \
					    "rate_limited = coalesce((SELECT rate_limit_max IS NOT NULL FROM q), false), workflow_deadline_epoch_ms = " \
					    "coalesce(workflow_deadline_epoch_ms, " NOW \
					    " + workflow_timeout_ms) FROM c WHERE w.workflow_uuid = c.workflow_uuid " \
					    "AND w.status = 'ENQUEUED' RETURNING " ROW

/* Is there a limit that several claimers share? Then they must see each other. */
static int is_shared(struct dbos *d, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	int rc = pg_query(
		d->session,
		"SELECT concurrency IS NOT NULL OR rate_limit_max IS NOT NULL OR partition_concurrency IS NOT NULL FROM dbos.queues "
		"WHERE name = $1",
		1, &d->config->queue, &res, err);
	return rc < 0 ? rc : PQntuples(res) && pg_get_bool(res, 0, 0);
}

int dbos_claim(struct dbos *d, struct duct_arena *arena, int most, struct dbos_row **ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char n[16];
	(void)snprintf(n, sizeof n, "%d", most);
	const char *params[] = {d->config->app, d->config->queue, d->owner, n};
	int shared = is_shared(d, err);
	if (shared < 0)
		return shared;
	int rc = pg_exec(d->session, shared ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN", NULL, err);
	if (rc == 0)
		rc = pg_query(d->session, shared ? CLAIM("NOWAIT") : CLAIM("SKIP LOCKED"), 4, params, &res, err);
	struct duct_error later;
	if (rc == 0)
		return pg_exec(d->session, "COMMIT", NULL, err) < 0 ? -(int)err->class : take_rows(res, arena, ret);
	bool conflict = strcmp(err->sqlstate, "40001") == 0 || strcmp(err->sqlstate, "55P03") == 0;
	if (pg_exec(d->session, "ROLLBACK", NULL, &later) < 0)
		*err = later;
	else if (conflict)
		return 0; /* another claimer was first: next time */
	return -(int)err->class;
}

int dbos_held(struct dbos *d, struct duct_arena *arena, const char ***ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {d->config->app, d->owner};
	int rc = pg_query(
		d->session,
		"SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id = $1 AND owner_xid = $2",
		2, params, &res, err);
	if (rc < 0)
		return rc;
	int n = PQntuples(res);
	*ret = duct_arena_alloc(arena, (size_t)n * sizeof **ret);
	for (int i = 0; i < n; i++)
		(*ret)[i] = duct_arena_strdup(arena, PQgetvalue(res, i, 0));
	return n;
}

/* --- out --- */

/* Moments of ours are microseconds. */
static void put_ms(char to[24], int64_t us)
{
	(void)snprintf(to, 24, "%lld", (long long)us / 1000);
}

int dbos_finish(struct dbos *d, const char *id, const struct state_run *run, const char *output_json, const char *error,
		struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf why = {0};
	char began[24], ended[24];
	if (error) {
		duct_buf_puts(&why, "{\"name\":\"DuctStreamRunFailed\",\"message\":");
		duct_buf_json_string(&why, error, strlen(error));
		duct_buf_puts(&why, ",\"code\":null,\"data\":{\"run_id\":");
		duct_buf_json_string(&why, id, strlen(id));
		duct_buf_puts(&why, "}}");
	}
	put_ms(began, run ? run->started_us : 0);
	put_ms(ended, run ? run->finished_us : 0);
	const char *params[] = {
		id,    d->owner, error ? "ERROR" : "SUCCESS", error ? NULL : output_json, why.data, run ? run->kind : NULL,
		began, ended};
	int rc = pg_query(
		d->session,
		"WITH u AS (UPDATE dbos.workflow_status SET status = $3, deduplication_id = NULL, owner_xid = NULL, updated_at = " NOW
		", completed_at = " NOW " WHERE workflow_uuid = $1 AND status = 'PENDING' AND owner_xid = $2 RETURNING 1), "
		"s AS (INSERT INTO dbos.workflow_output (workflow_uuid, output, error) SELECT $1, $4, $5 WHERE EXISTS "
		"(SELECT FROM u) ON CONFLICT (workflow_uuid) DO UPDATE SET output = excluded.output, error = excluded.error), "
		"o AS (INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output, error, "
		"started_at_epoch_ms, completed_at_epoch_ms, serialization) SELECT $1, 1, $6, $4, $5, $7::bigint, $8::bigint, "
		"'portable_json' WHERE $6::text IS NOT NULL AND EXISTS (SELECT FROM u) ON CONFLICT (workflow_uuid, function_id) "
		"DO UPDATE SET output = excluded.output, error = excluded.error, completed_at_epoch_ms = "
		"excluded.completed_at_epoch_ms) SELECT count(*) FROM u",
		8, params, &res, err);
	return rc < 0 ? rc : (int)pg_get_i64(res, 0, 0);
}
