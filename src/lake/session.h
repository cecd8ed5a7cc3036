#ifndef LAKE_SESSION_H
#define LAKE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"
#include "lake/positions.h"

/*
 * One connection to the database that holds a catalog. The rest of the folder writes SQL that both databases take;
 * catalog_sqlite.c and catalog_postgres.c only send it. One thread. Inside the folder only.
 */
struct lake_db;

/* One row of a query, as text; NULL for NULL. `set` counts the statements of the text that return rows, from 0. Anything
 * but 0 ends the query with that result. */
typedef int lake_row_fn(void *arg, int set, const char *const *values, struct duct_error *err);

enum lake_step_kind {
	LAKE_STEP_PLAIN,   /* whatever it does is right */
	LAKE_STEP_CHANGED, /* INSERT, UPDATE or DELETE that must touch exactly `expect` rows */
	LAKE_STEP_COUNT,   /* SELECT of one number that must be `expect` */
	LAKE_STEP_MARKS,   /* marks go into a deletes table: `marks` */
	LAKE_STEP_COPY,	   /* Postgres: rows in COPY's text form, by `rest`; the text is table and columns */
};

/* What it means when the count is not the expected one. */
enum lake_step_role {
	LAKE_ROLE_ASSERT, /* somebody broke a rule: stop */
	LAKE_ROLE_FENCE,  /* the checkpoint row is not as we left it: look at it */
	LAKE_ROLE_HEAD,	  /* another commit was first: try again */
};

/* Rows of one data file that die. */
struct lake_marks {
	int64_t file_id;
	struct lake_positions positions; /* sorted */
};

/* Appends what comes behind a step's text: values of rows, which would be long to keep for all tables at once. Called while the step is
 * sent, each time with the same result. */
typedef void lake_rest_fn(const void *arg, struct duct_buf *to);

struct lake_step {
	size_t at; /* the statement starts here in the script's text; it ends with a NUL */
	enum lake_step_kind kind;
	enum lake_step_role role;
	int64_t expect;
	const char *what;	       /* for people, when the count is wrong: static or as long-lived as the script */
	int64_t table_id, snapshot_id; /* LAKE_STEP_MARKS; the text is the quoted name of the deletes table */
	const struct lake_marks *marks;
	size_t nmarks;
	lake_rest_fn *rest; /* LAKE_STEP_COPY, and LAKE_STEP_PLAIN whose text is not all */
	const void *arg;
};

/* Postgres: what run() waits for under its lock. gap_ms 0: nothing. */
struct lake_pace {
	int64_t gap_ms, head; /* the head that the script was rendered on: when it has moved, waiting is of no use */
};

/* The inside of one transaction, statement by statement. Zero-initialise; lake_script_done() frees. */
struct lake_script {
	struct duct_buf text;
	struct lake_step *steps;
	size_t n, cap;
	struct lake_pace pace;
};
void lake_script_done(struct lake_script *script);

/* Starts a step and returns the buffer to append its statement to. */
struct duct_buf *lake_script_step(struct lake_script *script, enum lake_step_kind kind, int64_t expect, const char *what);
static inline struct lake_step *lake_script_last(struct lake_script *script)
{
	return &script->steps[script->n - 1];
}
size_t lake_marks_total(const struct lake_step *step);

enum lake_outcome {
	LAKE_RUN_OK,	  /* committed */
	LAKE_RUN_FAILED,  /* a statement failed: nothing was committed */
	LAKE_RUN_COUNT,	  /* a step's count was wrong: nothing was committed */
	LAKE_RUN_UNKNOWN, /* the connection broke: committed or not */
};

struct lake_db_ops {
	/* Runs statements separated by semicolons; fn may be NULL. A lost connection is RETRY. */
	int (*query)(struct lake_db *db, const char *sql, lake_row_fn *fn, void *arg, struct duct_error *err);
	/* Takes the right to write where the database has one lock for it (SQLite: BEGIN IMMEDIATE), so that what is
	 * read next is still true in run(). Nothing on Postgres. */
	int (*begin_write)(struct lake_db *db, struct duct_error *err);
	/* The script as one durable transaction (that of begin_write() when there is one). *ret_step: where it failed.
	 * 0 only for LAKE_RUN_OK; err is filled for LAKE_RUN_FAILED and LAKE_RUN_UNKNOWN. */
	enum lake_outcome (*run)(struct lake_db *db, const struct lake_script *script, size_t *ret_step, struct duct_error *err);
	/* Ends whatever transaction is open. */
	void (*reset)(struct lake_db *db);
	/* True when the connection cannot be used any more. */
	bool (*lost)(const struct lake_db *db);
	/* A new connection in place of a lost one; the old one's server process is ended where that is allowed. */
	int (*reconnect)(struct lake_db *db, struct duct_error *err);
	void (*close)(struct lake_db *db);
};

struct lake_db {
	const struct lake_db_ops *ops;
	const struct duct_ctx *ctx;
	bool sqlite;
	char *schema;	   /* NULL on SQLite */
	char *prefix;	   /* "schema". with quotes and dot, "" on SQLite; doubled % inside, for lake_sqlf */
	uint64_t lock_key; /* Postgres: advisory lock that run() takes first; 0: none */
	int64_t locks;	   /* Postgres: that the server has room for, of all its transactions; 0: any number */
};

int lake_sqlite_open(struct lake_db **ret, const char *path, bool create, bool read_only, int64_t busy_timeout_ms,
		     const struct duct_ctx *ctx, struct duct_error *err);
int lake_postgres_open(struct lake_db **ret, const char *dsn, const char *schema, const struct duct_ctx *ctx,
		       struct duct_error *err);

static inline void lake_db_close(struct lake_db *db)
{
	if (db)
		db->ops->close(db);
}

/* Like duct_buf_printf; every @ in fmt becomes the quoted metadata schema and a dot (nothing on SQLite). Arguments are
 * not looked at. Names and texts of users go through duct_buf_sql_ident/literal, never through fmt. */
void lake_sqlf(struct duct_buf *to, const struct lake_db *db, const char *fmt, ...) DUCT_PRINTF(3, 4);

/* A lake_row_fn: the first value as an int64_t in *arg, -1 for NULL. */
int lake_take_int(void *arg, int set, const char *const *values, struct duct_error *err);
/* A query built by lake_sqlf's rules. */
int lake_queryf(struct lake_db *db, lake_row_fn *fn, void *arg, struct duct_error *err, const char *fmt, ...) DUCT_PRINTF(5, 6);

/* pace.c: the statement that waits on the server until the gap after our last snapshot has passed. */
void lake_pace_sleep_sql(struct duct_buf *to, const struct lake_db *db, const struct lake_pace *pace);

/* "true"/"false" or 1/0, as the database spells it in SQL; -1: NULL. */
const char *lake_sql_bool(const struct lake_db *db, int value);

/* Numbers and booleans of a row; NULL gives `otherwise`. */
int64_t lake_int(const char *text, int64_t otherwise);
bool lake_bool(const char *text);

#endif
