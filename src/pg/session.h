#ifndef PG_SESSION_H
#define PG_SESSION_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ctx.h"
#include "base/error.h"

/*
 * One connection to a Postgres server. Text values read through it have one form whatever the server's settings are:
 * ISO dates, ISO 8601 intervals, hex bytea, shortest round-trip floats, UTC, UTF-8, qualified names. One thread at a
 * time. While it waits it looks at `stop_fd`; a clean-up after the stop sets stop_fd to -1 first.
 */
struct pg_session {
	PGconn *conn;
	int version;	  /* e.g. 150020 */
	bool replication; /* a walsender of a database: simple queries only (pg_exec) */
	bool local;	  /* over a unix socket */
	bool ascii;	  /* the database is SQL_ASCII: text may be invalid UTF-8 */
	int money_scale;  /* fraction digits of the type money in this database; 2 on a replication connection */
	int stop_fd;	  /* readable: calls return CANCELLED; -1: none */
	char where[256];  /* "host:port/database" for messages */
};

struct duct_log;
struct pg_session_options {
	const char *dsn; /* keyword=value pairs or a URI */
	bool replication;
	const char *application_name; /* NULL: "ductstream"; one in the DSN wins */
	const char *settings;	      /* more start-up settings, e.g. "-c lock_timeout=10s"; NULL: none. Win over the DSN's */
	int connect_timeout_ms;	      /* 0: 10 s; the DSN's connect_timeout wins. Name look-ups are not covered */
	int stop_fd;		      /* -1: none */
	const struct duct_log *log;   /* for what the server says while we connect; NULL: nowhere */
};

/* Connects. RETRY when the server cannot be reached, is full or starting; CONFIG for a refused login, a missing
 * database, a DSN that cannot be parsed, a server older than 13. */
int pg_session_open(struct pg_session **ret, const struct pg_session_options *options, struct duct_error *err) DUCT_CHECKED;
void pg_session_close(struct pg_session *session); /* accepts NULL */

/* Whether two connection strings, as far as they say, lead to one database. False when one cannot be parsed. Connects to nothing. */
bool pg_same_database(const char *a, const char *b);

static inline void pg_auto_clear(PGresult **res)
{
	PQclear(*res);
}
#define AUTO_PGRESULT __attribute__((cleanup(pg_auto_clear)))

/* Runs SQL by the simple protocol (several statements allowed, the last result is kept) and waits for it. `ret` may be
 * NULL. COPY commands return with their PGRES_COPY_* result at once. */
int pg_exec(struct pg_session *session, const char *sql, PGresult **ret, struct duct_error *err) DUCT_CHECKED;
int pg_execf(struct pg_session *session, PGresult **ret, struct duct_error *err, const char *fmt, ...) DUCT_CHECKED
	DUCT_PRINTF(4, 5);

/* One statement with text parameters $1.. and text results. Not on a replication connection. */
int pg_query(struct pg_session *session, const char *sql, int nparams, const char *const *params, PGresult **ret,
	     struct duct_error *err) DUCT_CHECKED;

/* The same with results in binary. */
int pg_query_binary(struct pg_session *session, const char *sql, int nparams, const char *const *params, PGresult **ret,
		    struct duct_error *err) DUCT_CHECKED;

/* pg_query() whose last parameter is bytes. */
int pg_query_bytes(struct pg_session *session, const char *sql, int nparams, const char *const *params, size_t last_bytes,
		   PGresult **ret, struct duct_error *err) DUCT_CHECKED;

/*
 * For a session that reads much: libpq takes as much from the socket at once as its buffer has room for, 16 KiB, and that grows with the widest
 * message only (pqCheckInBufferSpace). So one wide message is asked for: else a server that sends faster than we decode waits for room.
 */
int pg_session_widen(struct pg_session *session, struct duct_error *err) DUCT_CHECKED;

/* Waits until the socket is readable (or also writable when libpq has output pending), the stop, or the time-out. 1
 * ready, 0 timed out, -CANCELLED, -RETRY. timeout_ms -1: no limit. */
int pg_wait(struct pg_session *session, int timeout_ms, struct duct_error *err) DUCT_CHECKED;

/* Fill *err from a failed result, or from the connection when res is NULL, with class, sqlstate, constraint, primary
 * message and detail; return -class. `what` says what was being done. */
int pg_fail(struct duct_error *err, const struct pg_session *session, const PGresult *res, const char *what);

/* Cells of a text result. */
static inline const char *pg_get(const PGresult *res, int row, int column) /* NULL when NULL */
{
	return PQgetisnull(res, row, column) ? NULL : PQgetvalue(res, row, column);
}
int64_t pg_get_i64(const PGresult *res, int row, int column); /* 0 when NULL */
uint32_t pg_get_oid(const PGresult *res, int row, int column);
bool pg_get_bool(const PGresult *res, int row, int column);    /* false when NULL */
uint64_t pg_get_lsn(const PGresult *res, int row, int column); /* 0 when NULL */

#endif
