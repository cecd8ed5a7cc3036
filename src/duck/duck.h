#ifndef DUCK_DUCK_H
#define DUCK_DUCK_H

#include "base/arena.h"
#include "base/error.h"
#include "duck/api.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * An in-process DuckDB (libduckdb 1.5.5) without extensions: in memory, to read Parquet and to cast texts, or a database file. One `duck_db` may serve
 * many threads; a `duck_conn` belongs to one thread at a time. With DUCKDB_ALLOW_UNSIGNED_EXTENSIONS=true extensions are loaded whoever signed them, and
 * without reading their files whole to see that.
 */
struct duck_db;
struct duck_conn;
/* The first statement opens the library and the instance behind it, which takes some 40 ms of CPU and MiB: most flows need none. */
struct duck_db *duck_open(void);
/* The same over a database file, which is made when there is none and belongs to this process until duck_close(). The first statement
 * fails with RETRY when another process has it, with CONFIG when it cannot be opened. */
struct duck_db *duck_open_file(const char *path);
/* The same, and nothing can be changed in it: it must be there, and may be open in other processes that do not write, either. */
struct duck_db *duck_open_read_only(const char *path);
/*
 * In memory, for work that is large, in a process of its own (session.h): several threads, a bound, and a folder to spill to. Rows
 * may change their order unless they are sorted. Strings are copied.
 */
struct duck_bounds {
	int threads;		  /* 0: as many as there are cores */
	const char *memory;	  /* "1GB"; NULL: DuckDB's own, 80 % of the machine */
	const char *spill_folder; /* NULL: nothing is spilled */
};
struct duck_db *duck_open_bounded(const struct duck_bounds *bounds);
void duck_close(struct duck_db *db); /* accepts NULL; all connections must be closed */

struct duck_conn *duck_connect(struct duck_db *db); /* connected by its first statement, which fails where that fails */
void duck_disconnect(struct duck_conn *conn);	    /* accepts NULL */

/* Whose keys are in a secret of the instance: refusals of S3 are told with it (refused.h). Any thread. */
void duck_asks_as(struct duck_conn *conn, const char *secret, const char *who, bool lasting);

/* Ends the statement that runs on the connection, which fails with CANCELLED. Any thread, while the connection is there. */
void duck_interrupt(struct duck_conn *conn);
/* How much of the running statement is done, 0 to 100; below 0: nobody knows. Needs SET enable_progress_bar. Any thread, as above. */
double duck_progress(struct duck_conn *conn);

/* What the library calls the error of a statement (when it could not be prepared: what its message says). */
static inline duckdb_error_type duck_error_type(const struct duct_error *err)
{
	return (duckdb_error_type)(err->vendor_code >> 8);
}

/* Runs a statement without result. Errors: DATA for conversion, RETRY for I/O, else FATAL. duck_change() also says how many rows an
 * INSERT, UPDATE or DELETE has changed. */
int duck_exec(struct duck_conn *conn, const char *sql, struct duct_error *err);
int duck_change(struct duck_conn *conn, const char *sql, uint64_t *ret_rows, struct duct_error *err);

/* Runs a statement and gives its result, which the caller destroys (on success only); chunks by duckdb_fetch_chunk().
 * duck_query() holds the whole result in memory. duck_stream() produces it while it is fetched: after a NULL chunk
 * duck_result_error() says whether that was the end (0) or a failure. Error classes as above. */
int duck_query(struct duck_conn *conn, const char *sql, duckdb_result *ret, struct duct_error *err);
int duck_stream(struct duck_conn *conn, const char *sql, duckdb_result *ret, struct duct_error *err);
int duck_result_error(struct duck_conn *conn, duckdb_result *result, struct duct_error *err);

/*
 * Rows as texts: for small answers, whose columns are all VARCHAR (others are FATAL). NULL is NULL; a value lives until take returns, which ends the
 * query by anything but 0. Returns that, or the statement's failure.
 */
typedef int duck_row_fn(void *arg, const char *const *values, struct duct_error *err);
int duck_rows(struct duck_conn *conn, const char *sql, duck_row_fn *take, void *arg, struct duct_error *err);
/* A text out of a VARCHAR column of a chunk, NULL for NULL: in the arena, or malloc when that is NULL. */
char *duck_text_at(duckdb_vector vector, idx_t row, struct duct_arena *arena);
/* The first value of the first row, *ret NULL when there is none or it is NULL; caller frees. The same as a whole number. */
int duck_text(struct duck_conn *conn, const char *sql, char **ret, struct duct_error *err);
int duck_number(struct duck_conn *conn, const char *sql, int64_t *ret, struct duct_error *err); /* of a BIGINT or a text */

/*
 * Rows for SQL out of C: while a feed is open, `SELECT * FROM duck_feed(ID)` on the same connection yields what
 * `fill` puts into the chunks, in that order (one caller at a time, but with threads > 1 perhaps on a thread of
 * DuckDB's). A chunk holds up to DUCK_VECTOR_ROWS rows and comes cleared; fill sets its size, 0 ends. What the chunk
 * points to (strings) must live until fill is called again or the statement ends.
 * When fill fails, the statement fails, and duck_exec()/duck_query() report fill's own error unchanged. Feeds of
 * different connections may run at the same time.
 */
struct duck_feed {
	int ncolumns;
	const char *const *names;
	const duckdb_type *types;	    /* or, for other types than scalars, */
	const duckdb_logical_type *logical; /* these */
	uint64_t rows;			    /* how many there will be; 0: not known */
	int (*fill)(void *arg, duckdb_data_chunk chunk, struct duct_error *err);
	void *arg;
	/* of duck.c */
	int id;
	bool failed;
	struct duct_error error;
};
int duck_feed_open(struct duck_conn *conn, struct duck_feed *feed, struct duct_error *err); /* sets feed->id */
void duck_feed_close(struct duck_conn *conn);						    /* the open one, if any */

/* Makes a scalar function of ours known to the connection's instance; it stays the caller's to destroy. The connection must have run a statement. */
int duck_register_scalar(struct duck_conn *conn, duckdb_scalar_function function, struct duct_error *err) DUCT_CHECKED;

#endif
