/* Connections: see session.h. */
#include "pg/session.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pg/notice.h"
#include "record/position.h"

enum { DEFAULT_CONNECT_MS = 10000, CANCEL_DRAIN_MS = 2000, OLDEST_SERVER = 130000 };

/* One form of text values whatever the server's own settings; lc_monetary is set after its scale was read. */
static const char forced_settings[] = "-c DateStyle=ISO -c IntervalStyle=iso_8601 -c bytea_output=hex "
				      "-c extra_float_digits=3 -c TimeZone=UTC -c search_path= -c statement_timeout=0 "
				      "-c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on";

static enum duct_class class_of(const char *state)
{
	static const struct {
		const char *prefix;
		enum duct_class class;
	} rules[] = {
		{"08", DUCT_RETRY},    /* connection */
		{"28", DUCT_CONFIG},   /* authorization */
		{"3D", DUCT_CONFIG},   /* no such database */
		{"3F", DUCT_CONFIG},   /* no such schema */
		{"40", DUCT_RETRY},    /* serialization, deadlock */
		{"42", DUCT_CONFIG},   /* syntax, permission, missing object */
		{"0A", DUCT_CONFIG},   /* not supported */
		{"22", DUCT_DATA},     /* value */
		{"23", DUCT_RETRY},    /* constraint: lost a race; writers look at the constraint's name first */
		{"25", DUCT_RETRY},    /* transaction state, time-outs of idle transactions */
		{"53", DUCT_RETRY},    /* resources */
		{"55006", DUCT_RETRY}, /* object in use */
		{"55P03", DUCT_RETRY}, /* lock not available */
		{"55", DUCT_CONFIG},   /* wal_level, slot lost */
		{"57", DUCT_RETRY},    /* cancelled, shutting down, starting */
		{"58", DUCT_RETRY},    /* operating system */
		{"XX001", DUCT_FATAL}, /* data corrupted */
		{"XX002", DUCT_FATAL}, /* index corrupted */
		{"XX", DUCT_RETRY},    /* internal: "cache lookup failed" beside DDL */
	};
	if (!*state)
		return DUCT_RETRY;
	for (size_t i = 0; i < DUCT_LEN(rules); i++)
		if (strncmp(state, rules[i].prefix, strlen(rules[i].prefix)) == 0)
			return rules[i].class;
	return DUCT_FATAL;
}

/* libpq messages end in a line feed and may have several lines: one line, without "FATAL:  " noise at the end. */
static void one_line(char *to, size_t size, const char *message)
{
	size_t n = 0;
	for (; *message && n + 3 < size; message++) {
		if (*message != '\n' && *message != '\t')
			to[n++] = *message;
		else if (message[1] && n && to[n - 1] != ' ')
			to[n++] = ' ';
	}
	while (n && to[n - 1] == ' ')
		n--;
	to[n] = 0;
}

static int fail_state(struct duct_error *err, const char *state, const char *constraint, enum duct_class class, const char *fmt,
		      ...) DUCT_PRINTF(5, 6);

static int fail_state(struct duct_error *err, const char *state, const char *constraint, enum duct_class class, const char *fmt,
		      ...)
{
	va_list args;
	va_start(args, fmt);
	(void)duct_vfail(err, class, fmt, args);
	va_end(args);
	if (err) {
		(void)snprintf(err->sqlstate, sizeof err->sqlstate, "%s", state);
		(void)snprintf(err->constraint, sizeof err->constraint, "%s", constraint ? constraint : "");
	}
	return -(int)class;
}

int pg_fail(struct duct_error *err, const struct pg_session *s, const PGresult *res, const char *what)
{
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	char why[600], extra[300] = "";
	if (!state) {
		one_line(why, sizeof why, res && *PQresultErrorMessage(res) ? PQresultErrorMessage(res) : PQerrorMessage(s->conn));
		return fail_state(err, "08006", NULL, DUCT_RETRY, "%s on %s: %s", what, s->where,
				  *why ? why : "the connection was lost");
	}
	const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
	one_line(why, sizeof why, primary ? primary : "unknown error");
	if (detail)
		one_line(extra, sizeof extra, detail);
	return fail_state(err, state, PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME), class_of(state), "%s on %s: %s%s%s (%s)",
			  what, s->where, why, *extra ? ": " : "", extra, state);
}

/* With verbosity VERBOSE a refusal at connect reads "...FATAL:  28P01: text" and "LOCATION: ..." lines: there is no
 * result to ask, so the state is taken from the text. */
static int fail_connect(struct duct_error *err, const struct pg_session *s)
{
	char why[700], state[6] = "";
	const char *message = PQerrorMessage(s->conn);
	const char *location = strstr(message, "\nLOCATION:");
	AUTO_FREE char *cut = location ? duct_xstrndup(message, (size_t)(location - message)) : duct_xstrdup(message);
	for (char *p = strstr(cut, ":  "); p; p = strstr(p + 1, ":  ")) {
		if (strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && p[8] == ':') {
			(void)snprintf(state, sizeof state, "%.5s", p + 3);
			memmove(p + 3, p + 3 + 7, strlen(p + 3 + 7) + 1);
			break;
		}
	}
	one_line(why, sizeof why, cut);
	bool refused = PQconnectionNeedsPassword(s->conn) || duct_dsn_was_refused(message);
	enum duct_class class = *state ? class_of(state) : refused ? DUCT_CONFIG : DUCT_RETRY;
	return fail_state(err, *state ? state : "08001", NULL, class, "connect to %s: %s", s->where, *why ? why : "no answer");
}

/* 1 ready, 0 timed out. */
static int wait_socket(struct pg_session *s, short events, int timeout_ms, struct duct_error *err)
{
	struct pollfd fds[2] = {{.fd = PQsocket(s->conn), .events = events}, {.fd = s->stop_fd, .events = POLLIN}};
	int64_t until = timeout_ms < 0 ? INT64_MAX : duct_mono_us() + (int64_t)timeout_ms * 1000;
	if (fds[0].fd < 0)
		return pg_fail(err, s, NULL, "wait");
	for (;;) {
		int64_t left = timeout_ms < 0 ? -1 : (until - duct_mono_us() + 999) / 1000;
		if (timeout_ms >= 0 && left < 0)
			left = 0;
		int n = poll(fds, s->stop_fd >= 0 ? 2 : 1, (int)left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return duct_fail(err, DUCT_RETRY, "wait for %s: %s", s->where, strerror(errno));
		if (s->stop_fd >= 0 && fds[1].revents)
			return duct_fail(err, DUCT_CANCELLED, "asked to stop while waiting for %s", s->where);
		return n > 0;
	}
}

int pg_wait(struct pg_session *s, int timeout_ms, struct duct_error *err)
{
	int pending = PQflush(s->conn);
	if (pending < 0)
		return pg_fail(err, s, NULL, "send");
	return wait_socket(s, pending ? POLLIN | POLLOUT : POLLIN, timeout_ms, err);
}

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val && *options->val ? options->val : NULL;
	return NULL;
}

/* The defaults that libpq would take itself are in the connection, not in the parsed DSN. */
static void describe(struct pg_session *s)
{
	const char *host = PQhost(s->conn), *port = PQport(s->conn), *db = PQdb(s->conn);
	(void)snprintf(s->where, sizeof s->where, "%s:%s/%s", host && *host ? host : "?", port && *port ? port : "?",
		       db && *db ? db : "?");
	s->local = host && (*host == '/' || *host == '@');
}

static int connect_poll(struct pg_session *s, int timeout_ms, struct duct_error *err)
{
	int64_t until = duct_mono_us() + (int64_t)timeout_ms * 1000;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	while (status != PGRES_POLLING_OK) {
		if (status == PGRES_POLLING_FAILED)
			return fail_connect(err, s);
		int64_t left = (until - duct_mono_us()) / 1000;
		int rc = left <= 0 ? 0 : wait_socket(s, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, (int)left, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return fail_state(err, "08001", NULL, DUCT_RETRY, "connect to %s: no answer within %d ms", s->where,
					  timeout_ms);
		status = PQconnectPoll(s->conn);
		describe(s);
	}
	return 0;
}

/* Settings that not every supported version knows, and the scale of money: that of the database's own lc_monetary,
 * read before it is overridden for the text form. */
static int settle(struct pg_session *s, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	s->money_scale = 2;
	s->version = PQserverVersion(s->conn);
	if (s->version < OLDEST_SERVER)
		return duct_fail(err, DUCT_CONFIG, "server %s has version %d.%d: 13 or later is needed", s->where,
				 s->version / 10000, s->version % 10000);
	const char *encoding = PQparameterStatus(s->conn, "server_encoding");
	s->ascii = encoding && strcmp(encoding, "SQL_ASCII") == 0;
	/* Bytes as they are: what is no UTF-8 is then refused by us, who can name row and column. */
	if (s->ascii && PQsetClientEncoding(s->conn, "SQL_ASCII"))
		return pg_fail(err, s, NULL, "setting the client encoding");
	duct_buf_puts(&sql, "SELECT pg_catalog.encode(pg_catalog.cash_send(1::pg_catalog.money), 'hex')");
	if (s->version >= 140000)
		duct_buf_puts(&sql, ", pg_catalog.set_config('idle_session_timeout', '0', false)");
	if (s->version >= 170000)
		duct_buf_puts(&sql, ", pg_catalog.set_config('transaction_timeout', '0', false)");
	if (!s->replication)
		duct_buf_puts(&sql,
			      ", pg_catalog.set_config('lc_monetary', 'C', false)"
			      ", pg_catalog.set_config('row_security', 'off', false)");
	int rc = pg_exec(s, sql.data, &res, err);
	if (rc < 0 || s->replication)
		return rc;
	unsigned long long one = strtoull(PQgetvalue(res, 0, 0), NULL, 16);
	for (s->money_scale = 0; one >= 10; one /= 10)
		s->money_scale++;
	return 0;
}

static void join_settings(struct duct_buf *to, const char *dsn_options, const char *more, bool replication)
{
	if (dsn_options)
		duct_buf_printf(to, "%s ", dsn_options);
	if (more)
		duct_buf_printf(to, "%s ", more);
	duct_buf_puts(to, forced_settings);
	if (replication)
		duct_buf_puts(to, " -c lc_monetary=C");
}

static int start(struct pg_session *s, const struct pg_session_options *o, const struct pg_notices *notices, struct duct_error *err)
{
	char *parse_error = NULL;
	AUTO_BUF struct duct_buf settings = {0};
	PQconninfoOption *parsed = PQconninfoParse(o->dsn, &parse_error);
	/* libpq's message may quote a part of the DSN that is the password's. */
	PQfreemem(parse_error);
	if (!parsed)
		return duct_fail(err, DUCT_CONFIG,
				 "the connection string cannot be parsed: it must be keyword=value pairs, "
				 "values with blanks in single quotes, or a postgres:// URI");
	if (duct_dsn_is_torn(o->dsn)) {
		PQconninfoFree(parsed);
		return duct_fail(err, DUCT_CONFIG, DUCT_DSN_TORN);
	}
	const char *seconds = option_of(parsed, "connect_timeout");
	int timeout_ms = o->connect_timeout_ms > 0 ? o->connect_timeout_ms : DEFAULT_CONNECT_MS;
	if (seconds && atoi(seconds) > 0)
		timeout_ms = atoi(seconds) < INT32_MAX / 1000 ? atoi(seconds) * 1000 : INT32_MAX;
	join_settings(&settings, option_of(parsed, "options"), o->settings, o->replication);
	const char *keys[8] = {"dbname"}, *values[8] = {o->dsn};
	size_t n = 1;
	keys[n] = "options", values[n++] = settings.data;
	keys[n] = "client_encoding", values[n++] = "UTF8";
	if (o->replication)
		keys[n] = "replication", values[n++] = "database";
	if (!option_of(parsed, "application_name"))
		keys[n] = "application_name", values[n++] = o->application_name ? o->application_name : "ductstream";
	PQconninfoFree(parsed);
	s->conn = PQconnectStartParams(keys, values, 1);
	if (!s->conn)
		return duct_fail(err, DUCT_RETRY, "connect: out of memory");
	describe(s);
	pg_notices_log(s->conn, notices);
	(void)PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
	if (PQstatus(s->conn) == CONNECTION_BAD)
		return fail_connect(err, s);
	int rc = connect_poll(s, timeout_ms, err);
	if (rc == 0)
		(void)PQsetErrorVerbosity(s->conn, PQERRORS_DEFAULT);
	return rc;
}

int pg_session_open(struct pg_session **ret, const struct pg_session_options *o, struct duct_error *err)
{
	struct pg_session *s = duct_xcalloc(1, sizeof *s);
	s->replication = o->replication;
	s->stop_fd = o->stop_fd;
	(void)snprintf(s->where, sizeof s->where, "?");
	const struct pg_notices notices = {o->log, "source"};
	int rc = start(s, o, &notices, err);
	if (rc == 0) {
		pg_notices_drop(s->conn);
		rc = settle(s, err);
	}
	if (rc < 0) {
		pg_session_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void pg_session_close(struct pg_session *s)
{
	if (!s)
		return;
	PQfinish(s->conn);
	free(s);
}

/* Asks the server to give up, then waits a bounded time so that the session stays usable for a clean-up. */
static void cancel(struct pg_session *s)
{
	char ignored[256];
	PGcancel *handle = PQgetCancel(s->conn);
	if (handle)
		(void)PQcancel(handle, ignored, sizeof ignored);
	PQfreeCancel(handle);
	int fd = s->stop_fd;
	s->stop_fd = -1;
	int64_t until = duct_mono_us() + CANCEL_DRAIN_MS * 1000;
	while (duct_mono_us() < until && PQstatus(s->conn) == CONNECTION_OK) {
		if (!PQisBusy(s->conn)) {
			PGresult *res = PQgetResult(s->conn);
			if (!res)
				break;
			PQclear(res);
		} else if (wait_socket(s, POLLIN, 100, NULL) > 0 && !PQconsumeInput(s->conn)) {
			break;
		}
	}
	s->stop_fd = fd;
}

/* The results of what was sent; the last one, or the first failed one. */
static int collect(struct pg_session *s, const char *sql, PGresult **ret, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *last = NULL;
	for (;;) {
		while (PQisBusy(s->conn)) {
			int rc = pg_wait(s, -1, err);
			if (rc == -DUCT_CANCELLED)
				cancel(s);
			if (rc < 0)
				return rc;
			if (!PQconsumeInput(s->conn))
				return pg_fail(err, s, NULL, "query");
		}
		PGresult *res = PQgetResult(s->conn);
		if (!res)
			break;
		if (last && PQresultStatus(last) == PGRES_FATAL_ERROR) {
			PQclear(res);
			continue;
		}
		PQclear(last);
		last = res;
		ExecStatusType status = PQresultStatus(res);
		if (status == PGRES_COPY_OUT || status == PGRES_COPY_IN || status == PGRES_COPY_BOTH)
			break;
		if (PQstatus(s->conn) == CONNECTION_BAD)
			break;
	}
	if (!last)
		return pg_fail(err, s, NULL, "query");
	ExecStatusType status = PQresultStatus(last);
	if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE || status == PGRES_NONFATAL_ERROR) {
		char what[96];
		(void)snprintf(what, sizeof what, "\"%.60s%s\"", sql, strlen(sql) > 60 ? "..." : "");
		return pg_fail(err, s, last, what);
	}
	if (ret)
		*ret = duct_steal(&last);
	return 0;
}

int pg_exec(struct pg_session *s, const char *sql, PGresult **ret, struct duct_error *err)
{
	if (!PQsendQuery(s->conn, sql))
		return pg_fail(err, s, NULL, "query");
	return collect(s, sql, ret, err);
}

int pg_execf(struct pg_session *s, PGresult **ret, struct duct_error *err, const char *fmt, ...)
{
	va_list args;
	AUTO_FREE char *sql = NULL;
	va_start(args, fmt);
	int n = vasprintf(&sql, fmt, args);
	va_end(args);
	if (n < 0)
		abort();
	return pg_exec(s, sql, ret, err);
}

int pg_session_widen(struct pg_session *session, struct duct_error *err)
{
	return pg_exec(session, "select pg_catalog.repeat(' ', 100000)", NULL, err); /* libpq doubles: 128 KiB */
}

int pg_query(struct pg_session *s, const char *sql, int nparams, const char *const *params, PGresult **ret, struct duct_error *err)
{
	assert(!s->replication);
	if (!PQsendQueryParams(s->conn, sql, nparams, NULL, params, NULL, NULL, 0))
		return pg_fail(err, s, NULL, "query");
	return collect(s, sql, ret, err);
}

int pg_query_binary(struct pg_session *s, const char *sql, int nparams, const char *const *params, PGresult **ret,
		    struct duct_error *err)
{
	assert(!s->replication);
	if (!PQsendQueryParams(s->conn, sql, nparams, NULL, params, NULL, NULL, 1))
		return pg_fail(err, s, NULL, "query");
	return collect(s, sql, ret, err);
}

int pg_query_bytes(struct pg_session *s, const char *sql, int nparams, const char *const *params, size_t last_bytes, PGresult **ret,
		   struct duct_error *err)
{
	assert(!s->replication && nparams > 0 && last_bytes <= INT_MAX);
	AUTO_FREE int *lengths = duct_xcalloc((size_t)nparams, sizeof *lengths);
	AUTO_FREE int *formats = duct_xcalloc((size_t)nparams, sizeof *formats);
	lengths[nparams - 1] = (int)last_bytes;
	formats[nparams - 1] = 1;
	if (!PQsendQueryParams(s->conn, sql, nparams, NULL, params, lengths, formats, 0))
		return pg_fail(err, s, NULL, "query");
	return collect(s, sql, ret, err);
}

int64_t pg_get_i64(const PGresult *res, int row, int column)
{
	return PQgetisnull(res, row, column) ? 0 : strtoll(PQgetvalue(res, row, column), NULL, 10);
}

uint32_t pg_get_oid(const PGresult *res, int row, int column)
{
	return (uint32_t)pg_get_i64(res, row, column);
}

bool pg_get_bool(const PGresult *res, int row, int column)
{
	return !PQgetisnull(res, row, column) && *PQgetvalue(res, row, column) == 't';
}

uint64_t pg_get_lsn(const PGresult *res, int row, int column)
{
	uint64_t lsn = 0;
	if (PQgetisnull(res, row, column) || duct_lsn_parse(PQgetvalue(res, row, column), &lsn, NULL) < 0)
		return 0;
	return lsn;
}
