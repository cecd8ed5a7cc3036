#ifndef DUCK_DUCK_H
#define DUCK_DUCK_H

#include "base/error.h"
#include <duckdb.h>
#include <stdint.h>

/*
 * An in-process DuckDB (libduckdb 1.5.5) without extensions, used to write and read Parquet. One `duck_db` may serve
 * many threads; a `duck_conn` belongs to one thread at a time.
 */
struct duck_db;
struct duck_conn;

/* threads: DuckDB's own workers (1: every statement runs on its caller). memory_limit_bytes 0: DuckDB's default. */
int duck_open(struct duck_db **ret, int threads, int64_t memory_limit_bytes, const char *temp_dir, struct duct_error *err);
void duck_close(struct duck_db *db); /* accepts NULL; all connections must be closed */

int duck_connect(struct duck_conn **ret, struct duck_db *db, struct duct_error *err);
void duck_disconnect(struct duck_conn *conn); /* accepts NULL */

duckdb_connection duck_handle(struct duck_conn *conn);

/* Runs a statement without result. Errors: DATA for conversion, RETRY for I/O, else FATAL. */
int duck_exec(struct duck_conn *conn, const char *sql, struct duct_error *err);

const char *duck_version(void); /* "v1.5.5" */

#endif
