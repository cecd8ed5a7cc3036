/*
 * A catalog in Postgres through libpq. A commit is ONE simple-query string, `BEGIN; ...; COMMIT` (only that of very many
 * tables is cut into several), in which every count that must hold divides by zero when it does not, so that the server
 * itself rolls back and names the statement. Waits poll the socket together with the stop descriptor. Inside the folder
 * only; sessions of src/pg/ are for the source side.
 */
#include "base/clock.h"
#include "base/killpoint.h"
#include "base/log.h"
#include "lake/session.h"
#include "pg/notice.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CONNECT_TIMEOUT_MS = 15000,
	STOP_GRACE_MS = 10000, /* a statement in flight may end within it after the stop was asked */
	COPY_CHUNK = 1 << 16,
	COPY_FROM_ROWS = 10, /* binary COPY wins over VALUES from here up */
	PIECE = 1 << 18,     /* a commit that is longer is sent as several strings: a copy of each is here, and one more in libpq */
};

struct pg_db {
	struct lake_db base;
	PGconn *conn;
	char *dsn;
	char *label; /* for messages: never holds a secret */
	int backend_pid;
	char backend_start[64]; /* pids are used again: this tells ours from another's */
	int64_t stop_seen_us;
};

static struct pg_db *of(struct lake_db *db)
{
	return (struct pg_db *)db;
}

static enum duct_class class_of(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum duct_class class;
	} classes[] = {
		{"08", DUCT_RETRY},	{"40", DUCT_RETRY},	{"53", DUCT_RETRY},  {"55P03", DUCT_RETRY}, {"57", DUCT_RETRY},
		{"58", DUCT_RETRY},	{"25P03", DUCT_RETRY},	{"28", DUCT_CONFIG}, {"3D", DUCT_CONFIG},   {"3F", DUCT_CONFIG},
		{"42501", DUCT_CONFIG}, {"25006", DUCT_CONFIG}, {"0A", DUCT_CONFIG},
	};
	for (size_t i = 0; i < DUCT_LEN(classes); i++)
		if (strncmp(sqlstate, classes[i].prefix, strlen(classes[i].prefix)) == 0)
			return classes[i].class;
	return DUCT_FATAL;
}

static int is_lost(struct pg_db *db, struct duct_error *err)
{
	return duct_fail(err, DUCT_RETRY, "catalog %s: the connection was lost", db->label);
}

static int fail_result(struct pg_db *db, const PGresult *res, struct duct_error *err)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
	if (!state)
		return is_lost(db, err);
	if (PQstatus(db->conn) == CONNECTION_BAD)
		return duct_fail(err, DUCT_RETRY, "catalog %s: the connection was lost: %s (%s)", db->label,
				 text ? text : "no message", state);
	int ret = duct_fail(err, class_of(state), "catalog %s: %s (%s)%s", db->label, text ? text : "no message", state,
			    strcmp(state, "53200") == 0 ? ": raise max_locks_per_transaction of its server, or its memory" : "");
	snprintf(err->sqlstate, sizeof err->sqlstate, "%s", state);
	snprintf(err->constraint, sizeof err->constraint, "%s", constraint ? constraint : "");
	return ret;
}

/* Waits until the socket is ready for what is asked; 0, or the connection is of no use any more. */
static int wait_socket(struct pg_db *db, short events, int64_t deadline_us, struct duct_error *err)
{
	for (;;) {
		int64_t now = duct_mono_us();
		bool stopped = duct_ctx_stopped(db->base.ctx);
		if (stopped && !db->stop_seen_us)
			db->stop_seen_us = now;
		if (stopped && (!deadline_us || deadline_us > db->stop_seen_us + STOP_GRACE_MS * 1000LL))
			deadline_us = db->stop_seen_us + STOP_GRACE_MS * 1000LL;
		if (deadline_us && now >= deadline_us)
			return stopped ? duct_fail(err, DUCT_CANCELLED, "catalog %s: stopped while waiting", db->label)
				       : duct_fail(err, DUCT_RETRY, "catalog %s: no answer in time", db->label);
		struct pollfd fds[2] = {
			{.fd = PQsocket(db->conn), .events = events},
			/* Once seen, the descriptor stays readable: it would turn the wait into a spin. */
			{.fd = stopped ? -1 : db->base.ctx->stop_fd, .events = POLLIN},
		};
		int timeout = deadline_us ? (int)((deadline_us - now) / 1000 + 1) : -1;
		int n = poll(fds, 2, timeout);
		if (n < 0 && errno != EINTR)
			return duct_fail(err, DUCT_RETRY, "catalog %s: poll: %s", db->label, strerror(errno));
		if (n > 0 && fds[0].revents)
			return 0;
	}
}

static int flush_out(struct pg_db *db, struct duct_error *err)
{
	int left;
	while ((left = PQflush(db->conn)) > 0) {
		if (wait_socket(db, POLLIN | POLLOUT, 0, err))
			return -(int)err->class;
		if (!PQconsumeInput(db->conn))
			return is_lost(db, err);
	}
	return left < 0 ? is_lost(db, err) : 0;
}

/* The next result, waiting for it; *ret NULL at the end. */
static int next_result(struct pg_db *db, PGresult **ret, struct duct_error *err)
{
	while (PQisBusy(db->conn)) {
		if (wait_socket(db, POLLIN, 0, err))
			return -(int)err->class;
		if (!PQconsumeInput(db->conn))
			return is_lost(db, err);
	}
	*ret = PQgetResult(db->conn);
	return 0;
}

static bool lost(const struct lake_db *base)
{
	return PQstatus(((const struct pg_db *)base)->conn) == CONNECTION_BAD;
}

/* After a wait that gave up the protocol state is unknown: the connection is closed. */
static void give_up(struct pg_db *db)
{
	PQfinish(db->conn);
	db->conn = NULL;
}

static int rows_of(const PGresult *res, int set, lake_row_fn *fn, void *arg, struct duct_error *err)
{
	int ncols = PQnfields(res), nrows = PQntuples(res), ret = 0;
	const char *few[16];
	const char **values = ncols <= (int)DUCT_LEN(few) ? few : duct_xcalloc((size_t)ncols, sizeof *values);
	for (int row = 0; row < nrows && !ret; row++) {
		for (int i = 0; i < ncols; i++)
			values[i] = PQgetisnull(res, row, i) ? NULL : PQgetvalue(res, row, i);
		ret = fn(arg, set, values, err);
	}
	if (values != few)
		free(values);
	return ret;
}

static int query(struct lake_db *base, const char *sql, lake_row_fn *fn, void *arg, struct duct_error *err)
{
	struct pg_db *db = of(base);
	if (!db->conn || !PQsendQuery(db->conn, sql) || flush_out(db, err))
		return is_lost(db, err);
	int ret = 0, set = 0;
	for (PGresult *res = NULL;; PQclear(res)) {
		struct duct_error wait_err;
		if (next_result(db, &res, &wait_err)) {
			*err = wait_err;
			give_up(db);
			return -(int)err->class;
		}
		if (!res)
			return ret;
		ExecStatusType status = PQresultStatus(res);
		if (ret)
			continue;
		if (status == PGRES_TUPLES_OK)
			ret = fn ? rows_of(res, set++, fn, arg, err) : 0;
		else if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
			ret = fail_result(db, res, err);
	}
}

static int begin_write(struct lake_db *base, struct duct_error *err)
{
	(void)base, (void)err;
	return 0;
}

static void reset(struct lake_db *base)
{
	struct pg_db *db = of(base);
	struct duct_error ignored;
	if (db->conn && PQtransactionStatus(db->conn) != PQTRANS_IDLE)
		(void)query(base, "ROLLBACK", NULL, NULL, &ignored); /* a lost connection has rolled back by itself */
}

/* --- the commit string --- */

static void marks_text(struct duct_buf *to, const struct lake_step *step, const char *table)
{
	if (lake_marks_total(step) >= COPY_FROM_ROWS) {
		duct_buf_printf(to, "COPY %s (file_id, row_id, begin_snapshot) FROM STDIN (FORMAT binary)", table);
		return;
	}
	duct_buf_printf(to, "INSERT INTO %s (file_id, row_id, begin_snapshot) VALUES ", table);
	const char *comma = "";
	for (size_t i = 0; i < step->nmarks; i++) {
		int64_t at;
		for (struct lake_positions_walk w = {&step->marks[i].positions, 0, 0}; lake_positions_next(&w, &at); comma = ",")
			duct_buf_printf(to, "%s(%lld,%lld,%lld)", comma, (long long)step->marks[i].file_id, (long long)at,
					(long long)step->snapshot_id);
	}
}

/* Statements before the script's first, which give one result each; their number is the return value. */
static size_t preamble(struct duct_buf *to, const struct pg_db *db, const struct lake_pace *pace)
{
	duct_buf_puts(to,
		      "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
		      "SELECT set_config('synchronous_commit', 'on', true) "
		      "WHERE current_setting('synchronous_commit') <> 'remote_apply';");
	if (!db->base.lock_key)
		return 2;
	duct_buf_printf(to, "SELECT pg_advisory_xact_lock(%lld);", (long long)db->base.lock_key);
	if (!pace->gap_ms)
		return 3;
	lake_pace_sleep_sql(to, &db->base, pace); /* in the queue of the lock, on the server: a frozen process blocks nobody */
	return 4;
}

static void step_text(struct duct_buf *to, const struct lake_step *step, const char *sql)
{
	switch (step->kind) {
	case LAKE_STEP_PLAIN:
		duct_buf_puts(to, sql);
		if (step->rest)
			step->rest(step->arg, to);
		break;
	case LAKE_STEP_CHANGED:
		duct_buf_printf(to, "WITH changed AS (%s RETURNING 1) SELECT 1/(count(*)=%lld)::int FROM changed", sql,
				(long long)step->expect);
		break;
	case LAKE_STEP_COUNT: duct_buf_printf(to, "SELECT 1/((%s)=%lld)::int", sql, (long long)step->expect); break;
	case LAKE_STEP_MARKS: marks_text(to, step, sql); break;
	case LAKE_STEP_COPY: duct_buf_printf(to, "COPY %s FROM STDIN", sql); break;
	}
	duct_buf_putc(to, ';');
}

/* libpq would keep whatever a slow server does not take yet: each chunk is sent before there is another. */
static int put_copy(struct pg_db *db, struct duct_buf *chunk, struct duct_error *err)
{
	int sent;
	while ((sent = PQputCopyData(db->conn, chunk->data, (int)chunk->len)) == 0)
		if (flush_out(db, err))
			return -(int)err->class;
	chunk->len = 0;
	return sent < 0 ? is_lost(db, err) : flush_out(db, err);
}

/* COPY binary: header, per row a field count and (length, value) pairs, all big-endian, then -1. */
static int send_marks(struct pg_db *db, const struct lake_step *step, struct duct_error *err)
{
	AUTO_BUF struct duct_buf chunk = {0};
	duct_buf_append(&chunk, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
	for (size_t i = 0; i < step->nmarks; i++) {
		int64_t at;
		for (struct lake_positions_walk w = {&step->marks[i].positions, 0, 0}; lake_positions_next(&w, &at);) {
			const int64_t row[3] = {step->marks[i].file_id, at, step->snapshot_id};
			duct_buf_be16(&chunk, 3);
			for (int c = 0; c < 3; c++) {
				duct_buf_be32(&chunk, 8);
				duct_buf_be64(&chunk, (uint64_t)row[c]);
			}
			if (chunk.len > COPY_CHUNK && put_copy(db, &chunk, err))
				return -(int)err->class;
		}
	}
	duct_buf_be16(&chunk, 0xffff);
	return put_copy(db, &chunk, err);
}

static int send_rows(struct pg_db *db, const struct lake_step *step, struct duct_error *err)
{
	AUTO_BUF struct duct_buf rows = {0}, chunk = {0};
	step->rest(step->arg, &rows);
	for (size_t at = 0; at < rows.len; at += COPY_CHUNK) {
		size_t left = rows.len - at;
		duct_buf_append(&chunk, rows.data + at, left < COPY_CHUNK ? left : COPY_CHUNK);
		if (put_copy(db, &chunk, err))
			return -(int)err->class;
	}
	return 0;
}

static int send_copy(struct pg_db *db, const struct lake_step *step, struct duct_error *err)
{
	if (step->kind == LAKE_STEP_MARKS ? send_marks(db, step, err) : send_rows(db, step, err))
		return -(int)err->class;
	int ended;
	while ((ended = PQputCopyEnd(db->conn, NULL)) == 0)
		if (flush_out(db, err))
			return -(int)err->class;
	return ended < 0 ? is_lost(db, err) : flush_out(db, err);
}

/* A string of the commit: the script's steps from `first` to before `end`, behind `before` results that belong to no step. */
struct piece {
	size_t first, end, before;
};

static const struct lake_step *copy_step(const struct lake_script *script, const struct piece *piece, size_t nth)
{
	size_t at = piece->first + nth - piece->before;
	if (nth < piece->before || at >= piece->end)
		return NULL;
	const struct lake_step *step = &script->steps[at];
	return step->kind == LAKE_STEP_MARKS || step->kind == LAKE_STEP_COPY ? step : NULL;
}

/* Reads the results of the string. *ret_failed stays false when all went well. */
static int read_results(struct pg_db *db, const struct lake_script *script, const struct piece *piece, size_t *ret_step,
			bool *ret_failed, struct duct_error *err)
{
	size_t nth = 0;
	*ret_failed = false;
	for (PGresult *res = NULL;; PQclear(res)) {
		if (next_result(db, &res, err))
			return -(int)err->class;
		if (!res)
			return PQstatus(db->conn) == CONNECTION_BAD ? is_lost(db, err) : 0;
		ExecStatusType status = PQresultStatus(res);
		if (status == PGRES_COPY_IN) {
			const struct lake_step *step = copy_step(script, piece, nth);
			if (!step || send_copy(db, step, err)) {
				PQclear(res);
				return is_lost(db, err);
			}
			continue;
		}
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
			fail_result(db, res, err);
			if (PQstatus(db->conn) == CONNECTION_BAD) {
				PQclear(res);
				return -(int)err->class;
			}
			*ret_step = piece->first + (nth < piece->before ? 0 : nth - piece->before);
			*ret_failed = true;
		}
		nth++;
	}
}

/* Sends the steps from piece->first on, as many as one string holds; the first string begins the transaction, the last one ends it. */
static int send_piece(struct pg_db *db, const struct lake_script *script, struct piece *piece, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	piece->before = piece->first ? 0 : preamble(&sql, db, &script->pace);
	for (piece->end = piece->first; piece->end < script->n && sql.len < PIECE; piece->end++)
		step_text(&sql, &script->steps[piece->end], script->text.data + script->steps[piece->end].at);
	if (piece->end == script->n)
		duct_buf_puts(&sql, "COMMIT");
	else if (!piece->first) /* whoever stands still between two strings must not hold the locks for ever */
		duct_buf_puts(&sql, "SET LOCAL idle_in_transaction_session_timeout = '10s'");
	return !db->conn || !PQsendQuery(db->conn, sql.data) || flush_out(db, err) ? is_lost(db, err) : 0;
}

static enum lake_outcome run(struct lake_db *base, const struct lake_script *script, size_t *ret_step, struct duct_error *err)
{
	struct pg_db *db = of(base);
	struct piece piece = {0};
	*ret_step = script->n;
	do {
		if (send_piece(db, script, &piece, err))
			return LAKE_RUN_UNKNOWN;
		duct_kill_point(piece.end < script->n ? "commit-piece-sent" : "commit-sent");
		bool step_failed;
		if (read_results(db, script, &piece, ret_step, &step_failed, err)) {
			give_up(db);
			return LAKE_RUN_UNKNOWN;
		}
		if (step_failed) {
			reset(base);
			bool counted = *ret_step < script->n && script->steps[*ret_step].kind != LAKE_STEP_PLAIN;
			return counted && strcmp(err->sqlstate, "22012") == 0 ? LAKE_RUN_COUNT : LAKE_RUN_FAILED;
		}
		piece.first = piece.end;
	} while (piece.first < script->n);
	return LAKE_RUN_OK;
}

/* --- connecting --- */

/*
 * libpq has no SQLSTATE for a refused connection, but in verbose form its message holds one in a fixed place:
 * "FATAL:  28P01: password authentication failed ...". Finds it and the sentence behind it.
 */
static bool find_sqlstate(const char *message, char state[6], const char **ret_text)
{
	for (const char *at = strstr(message, ":  "); at; at = strstr(at + 1, ":  ")) {
		int n = 0;
		while (n < 5 && (isdigit((unsigned char)at[3 + n]) || isupper((unsigned char)at[3 + n])))
			n++;
		if (n == 5 && at[8] == ':' && at[9] == ' ') {
			memcpy(state, at + 3, 5);
			state[5] = 0;
			*ret_text = at + 10;
			return true;
		}
	}
	return false;
}

static int fail_connect(struct pg_db *db, struct duct_error *err)
{
	const char *message = PQerrorMessage(db->conn), *text = message;
	char state[6] = "";
	bool refused = PQconnectionNeedsPassword(db->conn) || duct_dsn_was_refused(message);
	enum duct_class class = refused ? DUCT_CONFIG : DUCT_RETRY;
	if (find_sqlstate(message, state, &text))
		class = class_of(state) == DUCT_FATAL ? DUCT_CONFIG : class_of(state);
	int ret = duct_fail(err, class, "catalog %s: cannot connect: %.*s", db->label, (int)strcspn(text, "\n"), text);
	snprintf(err->sqlstate, sizeof err->sqlstate, "%s", state);
	return ret;
}

static int remember_backend(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	struct pg_db *db = arg;
	if (values[0])
		snprintf(db->backend_start, sizeof db->backend_start, "%s", values[0]);
	db->base.locks = values[1] ? strtoll(values[1], NULL, 10) : 0;
	return 0;
}

static int set_up(struct pg_db *db, struct duct_error *err)
{
	PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
	pg_notices_drop(db->conn);
	if (PQsetnonblocking(db->conn, 1))
		return is_lost(db, err);
	db->backend_pid = PQbackendPID(db->conn);
	db->backend_start[0] = 0;
	/* The server's own limits do not count: who removes files holds a transaction open meanwhile, and must not lose its lock. */
	int ret = query(
		&db->base,
		"SET standard_conforming_strings = on; SET client_encoding = 'UTF8';"
		"SET timezone = 'UTC'; SET datestyle = 'ISO'; SET statement_timeout = 0; SET lock_timeout = 0;"
		"SET idle_in_transaction_session_timeout = 0;"
		"SET search_path = pg_catalog; SET extra_float_digits = 1; SET bytea_output = 'hex'; SET intervalstyle = 'postgres';"
		"SET jit = off; SELECT set_config(name, '0', false) FROM unnest('{transaction_timeout,idle_session_timeout}'::text[]) "
		"name WHERE current_setting(name, true) <> '0'",
		NULL, NULL, err);
	return ret ? ret
		   : query(&db->base,
			   "SELECT backend_start::text, current_setting('max_locks_per_transaction')::int8 * "
			   "(current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8) "
			   "FROM pg_stat_activity WHERE pid = pg_backend_pid()",
			   remember_backend, db, err);
}

static int connect_db(struct pg_db *db, struct duct_error *err)
{
	/* The DSN is expanded where dbname stands, so it overrides what comes before and not what comes after. */
	const char *keys[] = {"keepalives_idle",	   "keepalives_interval",
			      "keepalives_count",	   "tcp_user_timeout",
			      "fallback_application_name", "dbname",
			      "client_encoding",	   NULL};
	const char *values[] = {"20", "5", "3", "30000", "ductstream", db->dsn, "UTF8", NULL};
	PQfinish(db->conn);
	db->conn = PQconnectStartParams(keys, values, 1);
	if (!db->conn)
		abort();
	const struct pg_notices notices = {db->base.ctx->log, "catalog"};
	pg_notices_log(db->conn, &notices);
	PQsetErrorVerbosity(db->conn, PQERRORS_VERBOSE);
	if (PQstatus(db->conn) == CONNECTION_BAD)
		return fail_connect(db, err);
	int64_t deadline_us = duct_mono_us() + CONNECT_TIMEOUT_MS * 1000LL;
	for (PostgresPollingStatusType state = PGRES_POLLING_WRITING; state != PGRES_POLLING_OK;) {
		if (wait_socket(db, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline_us, err))
			return -(int)err->class;
		state = PQconnectPoll(db->conn);
		if (state == PGRES_POLLING_FAILED)
			return fail_connect(db, err);
	}
	return set_up(db, err);
}

/*
 * The old server process may still be about to commit. Ending it is a courtesy (the checkpoint's compare-and-set
 * decides in any case), so not being allowed to, or not finding it, is no error.
 */
static void end_old_backend(struct pg_db *db, int pid, const char *start)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored;
	duct_buf_printf(&sql,
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %d "
			"AND usename = current_user AND backend_start::text = ",
			pid);
	duct_buf_sql_literal(&sql, start);
	(void)query(&db->base, sql.data, NULL, NULL, &ignored);
}

static int reconnect(struct lake_db *base, struct duct_error *err)
{
	struct pg_db *db = of(base);
	int old_pid = db->backend_pid;
	char old_start[sizeof db->backend_start];
	memcpy(old_start, db->backend_start, sizeof old_start);
	if (connect_db(db, err))
		return -(int)err->class;
	if (old_start[0])
		end_old_backend(db, old_pid, old_start);
	return 0;
}

static void close_db(struct lake_db *base)
{
	struct pg_db *db = of(base);
	PQfinish(db->conn);
	free(db->dsn);
	free(db->label);
	free(base->schema);
	free(base->prefix);
	free(db);
}

static const struct lake_db_ops postgres_ops = {
	.query = query,
	.begin_write = begin_write,
	.run = run,
	.reset = reset,
	.lost = lost,
	.reconnect = reconnect,
	.close = close_db,
};

/* "\"db\" on \"host\"" from the parsed DSN, NULL when it cannot be parsed: libpq's own message may quote a password. */
static char *label_of(const char *dsn)
{
	PQconninfoOption *options = PQconninfoParse(dsn, NULL);
	if (!options)
		return NULL;
	const char *db = NULL, *host = NULL, *service = NULL;
	for (PQconninfoOption *o = options; o->keyword; o++) {
		if (strcmp(o->keyword, "dbname") == 0)
			db = o->val;
		else if (strcmp(o->keyword, "host") == 0 || (strcmp(o->keyword, "hostaddr") == 0 && !host))
			host = o->val;
		else if (strcmp(o->keyword, "service") == 0)
			service = o->val;
	}
	char *label = duct_xasprintf("\"%s\" on \"%s\"", db ? db : service ? service : "default", host ? host : "default host");
	PQconninfoFree(options);
	return label;
}

static char *prefix_of(const char *schema)
{
	AUTO_BUF struct duct_buf quoted = {0}, prefix = {0};
	duct_buf_sql_ident(&quoted, schema);
	for (const char *s = quoted.data; *s; s++) {
		if (*s == '%')
			duct_buf_putc(&prefix, '%');
		duct_buf_putc(&prefix, *s);
	}
	duct_buf_putc(&prefix, '.');
	return duct_steal(&prefix.data);
}

int lake_postgres_open(struct lake_db **ret, const char *dsn, const char *schema, const struct duct_ctx *ctx,
		       struct duct_error *err)
{
	if (duct_dsn_is_torn(dsn))
		return duct_fail(err, DUCT_CONFIG, "catalog: " DUCT_DSN_TORN);
	char *label = label_of(dsn);
	if (!label)
		return duct_fail(err, DUCT_CONFIG, "catalog: the Postgres connection string cannot be parsed");
	struct pg_db *db = duct_xcalloc(1, sizeof *db);
	db->base = (struct lake_db){.ops = &postgres_ops, .ctx = ctx, .schema = duct_xstrdup(schema)};
	db->base.prefix = prefix_of(schema);
	db->dsn = duct_xstrdup(dsn);
	db->label = label;
	if (connect_db(db, err)) {
		close_db(&db->base);
		return -(int)err->class;
	}
	*ret = &db->base;
	return 0;
}
