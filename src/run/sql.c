/*
 * Kind "sql": statements on a Postgres, {"dsn": "warehouse", "statements": [...], "transaction": "all" | "each"}. The connection string is that
 * of the worker's environment, DUCTSTREAM_RUN_DSN_WAREHOUSE, so no run carries a secret and no run reaches what no operator named.
 *
 * Each statement takes effect once, however often the run is begun: the target has a table ductstream.run_steps with the run's (id and moment
 * of submission) fencing number and how many statements are done. An attempt first raises the number to its own; then every transaction (one for all statements,
 * or one each) begins by locking that row under that number and ends by counting up, so an attempt whose worker was taken for dead can commit
 * nothing after a later one has begun, and what was committed is not done again. The statements see current_setting('ductstream.run_id'),
 * 'ductstream.fence', 'ductstream.attempt' and 'ductstream.flow_id'.
 */
#include "run/jobs.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/killpoint.h"
#include "base/mem.h"
#include "pg/session.h"

static int check(const json_t *input, struct duct_error *err)
{
	static const char *const names[] = {"dsn", "statements", "transaction", NULL};
	const char *dsn, *transaction = "all";
	size_t n;
	if (run_input_only(input, names, err) < 0 || run_input_text(input, "dsn", &dsn, err) < 0 ||
	    run_input_texts(input, "statements", &n, err) < 0)
		return -(int)err->class;
	if (json_object_get(input, "transaction") && run_input_text(input, "transaction", &transaction, err) < 0)
		return -(int)err->class;
	if (strcmp(transaction, "all") != 0 && strcmp(transaction, "each") != 0)
		return duct_fail(err, DUCT_CONFIG, "input_json.transaction: \"all\" or \"each\"");
	for (size_t i = 0; dsn[i]; i++)
		if (!isalnum((unsigned char)dsn[i]) && dsn[i] != '_')
			return duct_fail(err, DUCT_CONFIG,
					 "input_json.dsn: a name of letters, digits and _; the connection string itself is "
					 "in the workers' environment, under DUCTSTREAM_RUN_DSN_NAME");
	return 0;
}

struct sql_work {
	struct run_work *work;
	struct pg_session *session;
	const json_t *statements;
	char *row; /* run_steps.run_id: other states may have had a run of this id, and so may this one, long ago */
	char fence[24], attempt[24];
	bool each;
};

/* A rule that the statements broke is not mended by trying again. */
static int failed(struct duct_error *err)
{
	if (strncmp(err->sqlstate, "23", 2) == 0)
		err->class = DUCT_DATA;
	return -(int)err->class;
}

static int open_session(struct sql_work *s, struct duct_error *err)
{
	const char *name = json_string_value(json_object_get(s->work->input, "dsn"));
	AUTO_FREE char *variable = duct_xasprintf("DUCTSTREAM_RUN_DSN_%s", name);
	for (char *c = variable; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	const char *dsn = getenv(variable);
	if (!dsn || !*dsn)
		return duct_fail(err, DUCT_CONFIG, "input_json.dsn: this worker's environment has no %s", variable);
	const struct pg_session_options options = {.dsn = dsn, .application_name = "ductstream-run", .stop_fd = s->work->stop_fd};
	if (pg_session_open(&s->session, &options, err) < 0)
		return -(int)err->class;
	return pg_exec(s->session, "SET search_path = \"$user\", public; SET row_security = on", NULL, err);
}

/* Two that make the table at the same moment: the second finds it. */
static int make_table(struct sql_work *s, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *found = NULL;
	int rc = pg_exec(s->session, "SELECT pg_catalog.to_regclass('ductstream.run_steps') IS NOT NULL", &found, err);
	if (rc < 0 || pg_get_bool(found, 0, 0))
		return rc;
	rc = pg_exec(s->session,
		     "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(7245037812011); CREATE SCHEMA IF NOT EXISTS ductstream; "
		     "CREATE TABLE IF NOT EXISTS ductstream.run_steps (run_id text PRIMARY KEY, fence bigint NOT NULL, "
		     "steps bigint NOT NULL DEFAULT 0, changed_at timestamptz NOT NULL DEFAULT pg_catalog.now()); COMMIT",
		     NULL, err);
	return rc < 0 ? duct_wrap(err, "table ductstream.run_steps, which counts what a run has done") : 0;
}

static int fenced(const struct sql_work *s, struct duct_error *err)
{
	return duct_fail(err, DUCT_CANCELLED, "run \"%s\": a later attempt has begun; fencing number %s is too old",
			 s->work->run->id, s->fence);
}

/* Older programs had the id alone there. A row of theirs is this run's when it was changed since the run was submitted, by clocks that may
 * differ by a day. */
static int adopt_row(struct sql_work *s, struct duct_error *err)
{
	char created[32];
	(void)snprintf(created, sizeof created, "%" PRId64, s->work->run->created_us / 1000000);
	const char *params[] = {s->work->run->id, s->fence, s->row, created};
	return pg_query(s->session,
			"UPDATE ductstream.run_steps SET run_id = $3 WHERE run_id = $1 AND fence < $2::bigint AND "
			"changed_at > pg_catalog.to_timestamp($4::float8) - interval '1 day' AND "
			"NOT EXISTS (SELECT FROM ductstream.run_steps WHERE run_id = $3)",
			DUCT_LEN(params), params, NULL, err);
}

/* Raises the number to ours. Returns the steps that are done. */
static int64_t take_over(struct sql_work *s, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const char *params[] = {s->row, s->fence};
	int rc = adopt_row(s, err);
	if (rc < 0)
		return rc;
	rc = pg_query(s->session,
		      "INSERT INTO ductstream.run_steps (run_id, fence) VALUES ($1, $2::bigint) ON CONFLICT (run_id) DO UPDATE "
		      "SET fence = excluded.fence WHERE run_steps.fence <= excluded.fence RETURNING steps",
		      2, params, &res, err);
	if (rc < 0)
		return rc;
	return PQntuples(res) ? pg_get_i64(res, 0, 0) : fenced(s, err);
}

/* Begins a transaction that holds the run's row under our number. */
static int begin(struct sql_work *s, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	const struct state_run *run = s->work->run;
	const char *params[] = {run->id, s->fence, s->attempt, run->flow_id ? run->flow_id : "", s->row};
	int rc = pg_exec(s->session, "BEGIN", NULL, err);
	if (rc == 0)
		rc = pg_query(s->session,
			      "SELECT set_config('ductstream.run_id', $1, true), set_config('ductstream.fence', $2, true), "
			      "set_config('ductstream.attempt', $3, true), set_config('ductstream.flow_id', $4, true) "
			      "FROM ductstream.run_steps WHERE run_id = $5 AND fence = $2::bigint FOR UPDATE",
			      DUCT_LEN(params), params, &res, err);
	return rc < 0 || PQntuples(res) ? rc : fenced(s, err);
}

/* Counts and commits. The setting ends with the transaction that made it: not ours any more when it is gone. */
static int commit(struct sql_work *s, size_t steps, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	char done[24];
	(void)snprintf(done, sizeof done, "%zu", steps);
	const char *params[] = {s->work->run->id, s->fence, done, s->row};
	int rc = pg_query(s->session,
			  "UPDATE ductstream.run_steps SET steps = $3::bigint, changed_at = pg_catalog.now() WHERE run_id = $4 AND "
			  "fence = $2::bigint AND pg_catalog.current_setting('ductstream.run_id', true) = $1 RETURNING 1",
			  DUCT_LEN(params), params, &res, err);
	if (rc < 0)
		return rc;
	if (!PQntuples(res))
		return duct_fail(err, DUCT_CONFIG,
				 "input_json.statements: a statement ended the transaction that counts it: leave BEGIN, "
				 "COMMIT and ROLLBACK out");
	return pg_exec(s->session, "COMMIT", NULL, err);
}

static int statement(struct sql_work *s, size_t i, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	size_t n = json_array_size(s->statements);
	struct state_progress progress = {.done = (int64_t)i, .total = (int64_t)n, .unit = "statements"};
	if (pg_exec(s->session, json_string_value(json_array_get(s->statements, i)), &res, err) < 0)
		return duct_wrap(err, "input_json.statements[%zu]", i), failed(err);
	progress.done++;
	run_work_log(s->work, "info", "statement %zu of %zu: %s", i + 1, n, PQcmdStatus(res));
	return n > 1 ? run_work_report(s->work, &progress, NULL, err) : 0;
}

static int do_statements(struct sql_work *s, struct duct_error *err)
{
	size_t n = json_array_size(s->statements);
	int64_t done = take_over(s, err);
	if (done < 0)
		return (int)done;
	duct_kill_point("run-taken-over");
	if (done)
		run_work_log(s->work, "info", "%lld of %zu statements were done by an earlier attempt", (long long)done, n);
	for (size_t i = (size_t)done; i < n;) {
		int rc = begin(s, err);
		do
			rc = rc == 0 ? statement(s, i, err) : rc;
		while (++i < n && !s->each && rc == 0);
		if (rc == 0)
			rc = commit(s, i, err);
		if (rc < 0)
			return rc; /* closing the session rolls back */
	}
	return 0;
}

static int work(struct run_work *w, struct duct_error *err)
{
	const char *transaction = json_string_value(json_object_get(w->input, "transaction"));
	struct sql_work s = {.work = w, .statements = json_object_get(w->input, "statements")};
	s.each = transaction && strcmp(transaction, "each") == 0;
	(void)snprintf(s.fence, sizeof s.fence, "%" PRId64, w->run->fence);
	(void)snprintf(s.attempt, sizeof s.attempt, "%" PRId64, w->run->attempt);
	s.row = duct_xasprintf("%s@%" PRId64, w->run->id, w->run->created_us);
	int rc = open_session(&s, err);
	if (rc == 0)
		rc = make_table(&s, err);
	if (rc == 0)
		rc = do_statements(&s, err);
	pg_session_close(s.session);
	free(s.row);
	if (rc == 0) {
		AUTO_FREE char *result = duct_xasprintf("{\"statements\":%zu}", json_array_size(s.statements));
		w->result = duct_arena_strdup(w->arena, result);
	}
	return rc;
}

const struct run_job run_job_sql = {
	.kind = "sql",
	.summary = "runs statements on a Postgres, each once",
	.check = check,
	.work = work,
};
