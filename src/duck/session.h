#ifndef DUCK_SESSION_H
#define DUCK_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "duck/duck.h"

/*
 * Sessions with the official extensions, for the child processes that do large or foreign work (run/inside.h): a process that uses them never opens a
 * catalog by other means, and its memory is bounded. Extensions are loaded by path, never installed, never by themselves.
 */

/* Where the file of an extension ("ducklake") is looked for: DUCTSTREAM_EXTENSIONS, else the folder beside the library's. CONFIG: the library
 * cannot be loaded. Caller frees. */
int duck_extension_path(char **ret, const char *name, struct duct_error *err) DUCT_CHECKED;
/* Once loaded, loading it again does nothing. CONFIG says what installs it. */
int duck_load_extension(struct duck_conn *conn, const char *name, struct duct_error *err) DUCT_CHECKED;

/*
 * An instance by the environment: DUCKDB_MEMORY_LIMIT (default 1GB), DUCKDB_THREADS (default: all cores), DUCKDB_TEMP_DIRECTORY (default $TMPDIR,
 * then /tmp), below which it spills into a folder of its own that goes with it; folders of processes that were killed go, too.
 */
struct duck_session;
int duck_session_open(struct duck_session **ret, struct duct_error *err) DUCT_CHECKED;
void duck_session_close(struct duck_session *session); /* accepts NULL; all connections must be closed */
struct duck_db *duck_session_db(struct duck_session *session);

/* A lake as our other options name it. */
struct duck_lake {
	const char *catalog;	     /* "sqlite:PATH" or "postgres:DSN" (keywords or URI) */
	const char *metadata_schema; /* of the catalog's tables in Postgres; NULL: public */
	const char *data_path;	     /* NULL: the catalog's own; needed to create it. Another one than the catalog's is CONFIG */
	const char *new_data_path;   /* in its place where the lake is created; one that is there keeps its own. NULL: none */
	bool create, read_only;
	/* How the extension tries a commit again that lost a race. Its waits have no ceiling when they grow, so each is wait_ms (at most 2 s), with
	 * its jitter; the caller's own attempts (duck_lake_pause_ms()) grow. 0: 200 times, 150 ms, 2.5. */
	int64_t retry_count, retry_wait_ms;
	double retry_backoff;
};
/*
 * DUCKLAKE_CATALOG, DUCKLAKE_METADATA_SCHEMA, DUCKLAKE_DATA_PATH, DUCKLAKE_RETRY_COUNT, DUCKLAKE_RETRY_WAIT_MS, DUCKLAKE_RETRY_BACKOFF; without the first a
 * Postgres by DUCKLAKE_RDS_HOST, _PORT, _DATABASE, _USERNAME, _PASSWORD. Without a data path a new lake is made in DUCKLAKE_BUCKET. CONFIG names what is
 * missing or wrong. Strings live in the arena.
 */
int duck_lake_from_env(struct duck_lake *ret, struct duct_arena *arena, struct duct_error *err) DUCT_CHECKED;
/* The schema of the catalog's tables as the extension has it attached. Borrowed. */
const char *duck_lake_schema(const struct duck_lake *lake);
/* "sqlite:/a/b", "postgres:host=db dbname=x password=***": for people and for keys of runs. Caller frees. */
char *duck_lake_label(const struct duck_lake *lake);

/* What ATTACH is to be given for its catalog, and the password that is not in it (NULL: none). The caller frees both. */
int duck_lake_target(const struct duck_lake *lake, char **ret_target, char **ret_password, struct duct_error *err) DUCT_CHECKED;

/*
 * Attaches it to the connection's instance under a name, with what it needs: extensions, and the password as a secret, so that it is in no
 * statement, no error, and no list of databases. Waits its turn at a SQLite catalog. Errors as duck_lake_failed().
 */
int duck_attach_lake(struct duck_conn *conn, const struct duck_lake *lake, const char *name, struct duct_error *err) DUCT_CHECKED;

/*
 * The class of an error that a statement about a lake gave, in *err and as -class: RETRY for lost races, locks and connections; CONFIG for
 * statements that are wrong, for rights, and for too little memory; DATA for values and constraints.
 */
int duck_lake_failed(struct duct_error *err);
/* Before attempt n + 1 (n from 1): grows from wait_ms by backoff, at most 2 s, anything between half of it and all. */
int64_t duck_lake_pause_ms(const struct duck_lake *lake, int n);

#endif
