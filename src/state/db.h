#ifndef STATE_DB_H
#define STATE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * One connection to where the service keeps its state: SQLite or Postgres behind the same calls. SQL is written once, in what both
 * understand: $1, $2 for parameters, INSERT .. ON CONFLICT .. RETURNING, BIGINT for numbers and instants (microseconds since 1970,
 * UTC), TEXT, and nothing that only one of them has. store_now_us() is the store's own clock in both. Where they differ,
 * state_db_is_postgres() says which it is.
 *
 * Threads: one at a time. Statements are prepared once per connection and found again by the address of their text, so `sql` is a
 * string literal (or lives as long as the connection). A parameter keeps the type it had at the first call: a NULL text is
 * state_text(NULL), a NULL of another type STATE_NULL. On Postgres answers come as text: sum() of a BIGINT is CAST to BIGINT.
 * Errors: RETRY for what passes (locked, connection lost, serialisation), CONFIG for what an operator must mend (no permission, not a
 * database, a schema of a newer program), FATAL for a broken rule; sqlstate "23505" for a unique violation in both, "23503" for a
 * foreign key. A statement that fails inside a transaction ends it: what follows in it is refused, on both.
 * A lost Postgres connection is opened again by the next call that is not inside a transaction. A statement outside of one that was
 * under way when the connection was lost may have been done; state_db_transact() finds out.
 * No call waits for ever: a statement has 30 s, a lock 10 s.
 */
struct state_db;

struct state_db_config {
	const char *postgres_dsn; /* or NULL */
	/* When there is no DSN. "file:PATH?..." is a URI of SQLite. A new file is 0600, its folder 0700. */
	const char *sqlite_path;
};

int state_db_open(struct state_db **ret, const struct state_db_config *config, struct duct_error *err) DUCT_CHECKED;
void state_db_close(struct state_db *db); /* accepts NULL */
bool state_db_is_postgres(const struct state_db *db);

struct state_value {
	enum { STATE_NULL, STATE_I64, STATE_TEXT, STATE_BLOB } kind;
	int64_t i64;
	const void *data; /* TEXT and BLOB */
	size_t n;
};
struct state_value state_text(const char *text); /* NULL: a NULL of type text */
struct state_value state_bytes(const void *data, size_t n);
static inline struct state_value state_i64(int64_t v)
{
	return (struct state_value){.kind = STATE_I64, .i64 = v};
}

/* A row of an answer, valid inside the callback. NULL columns: 0, NULL. */
struct state_row;
int64_t state_row_i64(const struct state_row *row, int column);
const char *state_row_text(const struct state_row *row, int column); /* NUL-terminated */
const void *state_row_blob(const struct state_row *row, int column, size_t *ret_n);
bool state_row_is_null(const struct state_row *row, int column);

/* 0: go on; -class with err filled: the statement ends with it. It must not use the connection. */
typedef int state_row_fn(void *arg, const struct state_row *row, struct duct_error *err);

/* Runs one statement. take may be NULL. Returns the number of rows it gave or changed, or -class. */
int64_t state_db_run(struct state_db *db, const char *sql, const struct state_value *values, size_t n, state_row_fn *take,
		     void *arg, struct duct_error *err) DUCT_CHECKED;
#define STATE_RUN(db, sql, take, arg, err, ...) \
	state_db_run(db, sql, (const struct state_value[]){__VA_ARGS__ __VA_OPT__(, ){0}}, \
		     sizeof((const struct state_value[]){__VA_ARGS__ __VA_OPT__(, ){0}}) / sizeof(struct state_value) - 1, take, \
		     arg, err)

/* Several statements without parameters or answers (migrations). */
int state_db_script(struct state_db *db, const char *sql, struct duct_error *err) DUCT_CHECKED;

/*
 * Runs `body` in a transaction (SQLite: BEGIN IMMEDIATE; Postgres: READ COMMITTED) and commits when it returns 0 or more; that number is
 * returned. Anything else rolls back. RETRY from the body or the commit is tried again, a few times with a growing pause of at most 50 ms
 * on average: the body may run several times and must only change what it was given again. A commit whose answer was lost is looked
 * up: it counts once. Transactions do not nest, and wait for nothing else: Postgres ends one that is idle for 10 s.
 */
typedef int64_t state_body_fn(struct state_db *db, void *arg, struct duct_error *err);
int64_t state_db_transact(struct state_db *db, state_body_fn *body, void *arg, struct duct_error *err) DUCT_CHECKED;

int64_t state_now_us(void); /* since 1970, UTC */

#endif
