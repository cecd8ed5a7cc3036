/*
 * The state in a Postgres, in its schema "ductstream". A statement is prepared by its first use and sent by name afterwards; answers come
 * as text, row by row. A connection that was lost is opened again by the next statement outside of a transaction; what the lost
 * one had committed is asked by the number of its transaction.
 */
#include "state/db_internal.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hex.h"
#include "pg/session.h"

enum {
	ANSWER_MS = 45000, /* more than the server gives a statement: then the connection is given up */
	MOST_PARAMETERS = 64,
	OID_BYTEA = 17,
	OID_INT8 = 20,
	OID_TEXT = 25,
};

struct postgres_db {
	struct state_db base;
	struct pg_session *session; /* NULL: lost */
	char *dsn;
	unsigned prepared;    /* how many statements this connection has */
	char transaction[24]; /* number of the open or last one */
};

struct postgres_row {
	struct state_row base;
	const PGresult *result;
	struct duct_buf *blobs; /* one per column, decoded when asked for */
};

static struct postgres_db *of(struct state_db *db)
{
	return (struct postgres_db *)db;
}

static void keep_nothing(void *prepared)
{
	(void)prepared;
}

static void disconnect(struct postgres_db *db)
{
	pg_session_close(db->session);
	db->session = NULL;
	state_statements_forget(&db->base.statements, keep_nothing);
	db->prepared = 0;
}

/* A broken rule is the caller's business, not a race that another attempt would win. */
static int failed(struct postgres_db *db, const PGresult *result, const char *sql, struct duct_error *err)
{
	struct duct_error own;
	char what[96];
	if (!err)
		err = &own;
	(void)snprintf(what, sizeof what, "state: \"%.60s%s\"", sql, strlen(sql) > 60 ? "..." : "");
	int rc = pg_fail(err, db->session, result, what);
	if (strncmp(err->sqlstate, "23", 2) == 0) {
		err->class = DUCT_FATAL;
		rc = -DUCT_FATAL;
	}
	if (PQstatus(db->session->conn) == CONNECTION_BAD)
		disconnect(db);
	return rc;
}

/* --- connection --- */

/* The server's own defaults do not count. A frozen process of ours holds no lock for longer than 10 s. */
static const char set_up[] = "SET search_path = ductstream, pg_temp; SET statement_timeout = '30s'; SET lock_timeout = '10s'; "
			     "SET idle_in_transaction_session_timeout = '10s'; SET jit = off; "
			     "SET default_transaction_isolation = 'read committed'; "
			     "SELECT set_config('synchronous_commit', 'on', false) "
			     "WHERE current_setting('synchronous_commit') <> 'remote_apply'";

static int connect_db(struct postgres_db *db, struct duct_error *err)
{
	const struct pg_session_options options = {.dsn = db->dsn, .application_name = "ductstream", .stop_fd = -1};
	int rc = pg_session_open(&db->session, &options, err);
	if (rc < 0)
		return duct_wrap(err, "state");
	rc = pg_exec(db->session, set_up, NULL, err);
	if (rc == 0 && PQsetnonblocking(db->session->conn, 1))
		rc = duct_fail(err, DUCT_RETRY, "state on %s: the connection was lost", db->session->where);
	if (rc < 0)
		disconnect(db);
	return rc;
}

/* A server that went away while nobody asked it anything has closed the socket. */
static bool is_alive(struct pg_session *session)
{
	struct pollfd fd = {.fd = PQsocket(session->conn), .events = POLLIN};
	while (PQstatus(session->conn) == CONNECTION_OK) {
		if (poll(&fd, 1, 0) <= 0)
			return true;
		if (!PQconsumeInput(session->conn))
			return false;
		PQfreemem(PQnotifies(session->conn)); /* takes what came apart */
	}
	return false;
}

static int ready(struct postgres_db *db, struct duct_error *err)
{
	if (db->base.in_transaction)
		return db->session ? 0 : duct_fail(err, DUCT_RETRY, "state: the connection was lost inside a transaction");
	if (db->session && is_alive(db->session))
		return 0;
	disconnect(db);
	return connect_db(db, err);
}

/* --- statements --- */

/* The next result; *ret NULL after the last one. */
static int next_result(struct postgres_db *db, const char *sql, PGresult **ret, int64_t until_us, struct duct_error *err)
{
	PGconn *conn = db->session->conn;
	while (PQisBusy(conn)) {
		int64_t left_ms = (until_us - duct_mono_us()) / 1000;
		int rc = pg_wait(db->session, left_ms > 0 ? (int)left_ms : 0, err);
		if (rc > 0 && !PQconsumeInput(conn))
			return failed(db, NULL, sql, err);
		if (rc == 0 && left_ms <= 0)
			rc = duct_fail(err, DUCT_RETRY, "state on %s: no answer within %d s", db->session->where, ANSWER_MS / 1000);
		if (rc < 0) {
			disconnect(db);
			return rc;
		}
	}
	*ret = PQgetResult(conn);
	return 0;
}

static int rows_of(struct postgres_db *db, const PGresult *result, state_row_fn *take, void *arg, struct duct_error *err)
{
	struct postgres_row row = {{db->base.ops}, result, duct_xcalloc((size_t)PQnfields(result) + 1, sizeof(struct duct_buf))};
	int rc = take(arg, &row.base, err);
	for (int i = 0; i < PQnfields(result); i++)
		duct_buf_done(&row.blobs[i]);
	free(row.blobs);
	return rc;
}

/* All results of what was sent: how many rows it gave or changed, or the first error. */
static int64_t collect(struct postgres_db *db, const char *sql, state_row_fn *take, void *arg, struct duct_error *err)
{
	int64_t rc = 0, rows = 0, until_us = duct_mono_us() + ANSWER_MS * 1000LL;
	for (PGresult *result = NULL;; PQclear(result)) {
		struct duct_error later;
		int waited = next_result(db, sql, &result, until_us, rc < 0 ? &later : err);
		if (waited < 0)
			return rc < 0 ? rc : waited;
		if (!result)
			return rc < 0 ? rc : rows;
		ExecStatusType status = PQresultStatus(result);
		if (rc < 0)
			continue;
		if (status == PGRES_SINGLE_TUPLE || status == PGRES_TUPLES_OK) {
			rows += PQntuples(result);
			if (take && PQntuples(result))
				rc = rows_of(db, result, take, arg, err);
		} else if (status == PGRES_COMMAND_OK) {
			rows += strtoll(PQcmdTuples(result), NULL, 10);
		} else if (status != PGRES_EMPTY_QUERY) {
			rc = failed(db, result, sql, err);
			if (!db->session) {
				PQclear(result);
				return rc;
			}
		}
	}
}

static Oid type_of(const struct state_value *value)
{
	switch (value->kind) {
	case STATE_I64: return OID_INT8;
	case STATE_TEXT: return OID_TEXT;
	case STATE_BLOB: return OID_BYTEA;
	default: return 0;
	}
}

/* The name of the prepared statement, made by its first use on this connection. */
static int prepare(struct postgres_db *db, const char *sql, const struct state_value *values, size_t n, char name[16],
		   struct duct_error *err)
{
	struct state_statement *slot = state_statements_find(&db->base.statements, sql);
	if (!slot->prepared) {
		Oid types[MOST_PARAMETERS];
		for (size_t i = 0; i < n; i++)
			types[i] = type_of(&values[i]);
		(void)snprintf(name, 16, "s%u", db->prepared + 1);
		if (!PQsendPrepare(db->session->conn, name, sql, (int)n, types))
			return failed(db, NULL, sql, err);
		int64_t rc = collect(db, sql, NULL, NULL, err);
		if (rc < 0)
			return (int)rc;
		slot->prepared = (void *)(uintptr_t)++db->prepared;
	}
	(void)snprintf(name, 16, "s%u", (unsigned)(uintptr_t)slot->prepared);
	return 0;
}

struct parameters {
	const char *values[MOST_PARAMETERS];
	int lengths[MOST_PARAMETERS], formats[MOST_PARAMETERS];
	char numbers[MOST_PARAMETERS][24];
};

static void fill(struct parameters *p, const struct state_value *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct state_value *v = &values[i];
		p->values[i] = NULL;
		p->lengths[i] = (int)v->n;
		p->formats[i] = v->kind != STATE_I64; /* the binary form of a text is the text */
		if (v->kind == STATE_I64) {
			(void)snprintf(p->numbers[i], sizeof p->numbers[i], "%" PRId64, v->i64);
			p->values[i] = p->numbers[i];
		} else if (v->kind != STATE_NULL) {
			p->values[i] = v->data || v->kind == STATE_TEXT ? v->data : v->n ? NULL : "";
		}
	}
}

static int64_t run(struct state_db *base, const char *sql, const struct state_value *values, size_t n, state_row_fn *take,
		   void *arg, struct duct_error *err)
{
	struct postgres_db *db = of(base);
	struct parameters p;
	char name[16];
	if (n > MOST_PARAMETERS)
		return duct_fail(err, DUCT_FATAL, "state: \"%.60s\" has more than %d parameters", sql, MOST_PARAMETERS);
	int rc = ready(db, err);
	if (rc == 0)
		rc = prepare(db, sql, values, n, name, err);
	if (rc < 0)
		return rc;
	fill(&p, values, n);
	if (!PQsendQueryPrepared(db->session->conn, name, (int)n, p.values, p.lengths, p.formats, 0))
		return failed(db, NULL, sql, err);
	if (take)
		(void)PQsetSingleRowMode(db->session->conn);
	return collect(db, sql, take, arg, err);
}

static int script(struct state_db *base, const char *sql, struct duct_error *err)
{
	struct postgres_db *db = of(base);
	int rc = ready(db, err);
	if (rc < 0)
		return rc;
	if (!PQsendQuery(db->session->conn, sql))
		return failed(db, NULL, sql, err);
	int64_t rows = collect(db, sql, NULL, NULL, err);
	return rows < 0 ? (int)rows : 0;
}

/* --- transactions --- */

static int take_number(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	struct postgres_db *db = arg;
	(void)snprintf(db->transaction, sizeof db->transaction, "%s", state_row_text(row, 0));
	return 0;
}

static int begin(struct state_db *base, struct duct_error *err)
{
	static const char sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_current_xact_id()::text";
	struct postgres_db *db = of(base);
	int rc = ready(db, err);
	if (rc < 0)
		return rc;
	if (!PQsendQuery(db->session->conn, sql))
		return failed(db, NULL, sql, err);
	int64_t rows = collect(db, sql, take_number, db, err);
	return rows < 0 ? (int)rows : 0;
}

static int commit(struct state_db *base, bool *ret_unknown, struct duct_error *err)
{
	struct postgres_db *db = of(base);
	int rc = script(base, "COMMIT", err);
	*ret_unknown = rc < 0 && !db->session;
	return rc;
}

static int take_status(void *arg, const struct state_row *row, struct duct_error *err)
{
	(void)err;
	const char *status = state_row_text(row, 0);
	*(char *)arg = status ? *status : '?';
	return 0;
}

static int settle(struct state_db *base, struct duct_error *err)
{
	struct postgres_db *db = of(base);
	char status = '?';
	int64_t rows = STATE_RUN(base, "SELECT pg_xact_status($1::xid8)", take_status, &status, err, state_text(db->transaction));
	if (rows < 0)
		return (int)rows;
	if (status == 'i') /* the old server process has not noticed yet */
		return duct_fail(err, DUCT_RETRY, "state on %s: transaction %s is still under way", db->session->where,
				 db->transaction);
	return status == 'c';
}

static void rollback(struct state_db *base)
{
	struct postgres_db *db = of(base);
	struct duct_error ignored;
	/* A lost connection has rolled back by itself; one that cannot roll back is of no use. */
	if (db->session && PQtransactionStatus(db->session->conn) != PQTRANS_IDLE && script(base, "ROLLBACK", &ignored) < 0)
		disconnect(db);
}

static void close_db(struct state_db *base)
{
	struct postgres_db *db = of(base);
	disconnect(db);
	free(db->dsn);
	free(db);
}

/* --- rows --- */

static const PGresult *result_of(const struct state_row *row)
{
	return ((const struct postgres_row *)row)->result;
}

static bool row_is_null(const struct state_row *row, int column)
{
	return PQgetisnull(result_of(row), 0, column);
}

static const char *row_text(const struct state_row *row, int column)
{
	return row_is_null(row, column) ? NULL : PQgetvalue(result_of(row), 0, column);
}

static int64_t row_i64(const struct state_row *row, int column)
{
	const char *text = row_text(row, column);
	return text ? (*text == 't' ? 1 : strtoll(text, NULL, 10)) : 0; /* a boolean is "t" or "f" */
}

static const void *row_blob(const struct state_row *row, int column, size_t *ret_n)
{
	const char *text = row_text(row, column);
	struct duct_buf *blob = &((const struct postgres_row *)row)->blobs[column];
	*ret_n = 0;
	if (!text)
		return NULL;
	if (strncmp(text, "\\x", 2) == 0 && !blob->data) {
		size_t n = ((size_t)PQgetlength(result_of(row), 0, column) - 2) / 2;
		char *to = duct_buf_room(blob, n);
		for (size_t i = 0; i < n; i++)
			to[i] = (char)(duct_hex_digit(text[2 + 2 * i]) << 4 | duct_hex_digit(text[3 + 2 * i]));
		blob->len = n;
	}
	*ret_n = blob->len;
	return blob->data;
}

static const struct state_db_ops postgres_ops = {
	.run = run,
	.script = script,
	.begin = begin,
	.commit = commit,
	.settle = settle,
	.rollback = rollback,
	.close = close_db,
	.row_i64 = row_i64,
	.row_text = row_text,
	.row_blob = row_blob,
	.row_is_null = row_is_null,
};

bool state_db_is_postgres(const struct state_db *db)
{
	return db->ops == &postgres_ops;
}

int state_postgres_open(struct state_db **ret, const char *dsn, struct duct_error *err)
{
	struct postgres_db *db = duct_xcalloc(1, sizeof *db);
	db->base.ops = &postgres_ops;
	db->dsn = duct_xstrdup(dsn);
	int rc = connect_db(db, err);
	if (rc < 0) {
		close_db(&db->base);
		return rc;
	}
	*ret = &db->base;
	return 0;
}
