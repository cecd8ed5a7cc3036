/*
 * The state in a SQLite file: WAL, synchronous FULL, foreign keys, one writer at a time. Only libsqlite3 opens the file: any other open()
 * and close() of it in this process would drop SQLite's POSIX locks.
 */
#include "state/db_internal.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/hex.h"
#include "sqlite/fail.h"

enum { BUSY_MS = 10000, MOST_PARAMETERS = 64 };

struct sqlite_db {
	struct state_db base;
	sqlite3 *handle;
	char *path;
	int64_t busy_since_us;
};

struct sqlite_statement {
	sqlite3_stmt *stmt;
	int parameters[MOST_PARAMETERS]; /* SQLite's number of $1, $2, ...; 0: not in the text */
};

struct sqlite_row {
	struct state_row base;
	sqlite3_stmt *stmt;
};

static struct sqlite_db *of(struct state_db *db)
{
	return (struct sqlite_db *)db;
}

/* --- errors --- */

/* As Postgres says it. */
static const char *sqlstate_of(int code)
{
	switch (code) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
	case SQLITE_CONSTRAINT_ROWID: return "23505";
	case SQLITE_CONSTRAINT_FOREIGNKEY: return "23503";
	case SQLITE_CONSTRAINT_NOTNULL: return "23502";
	case SQLITE_CONSTRAINT_CHECK: return "23514";
	default: return "";
	}
}

static int failed(struct sqlite_db *db, struct duct_error *err)
{
	int rc = duct_sqlite_fail(err, db->handle, "state", db->path, BUSY_MS);
	if (err)
		(void)snprintf(err->sqlstate, sizeof err->sqlstate, "%s", sqlstate_of(err->vendor_code));
	return rc;
}

/* Short random waits: SQLite's own grow to 100 ms, in which one that comes later goes first. */
static int on_busy(void *arg, int count)
{
	struct sqlite_db *db = arg;
	int64_t now = duct_mono_us();
	if (count == 0)
		db->busy_since_us = now;
	if (now - db->busy_since_us > BUSY_MS * 1000LL)
		return 0;
	state_pause(count < 8 ? 1 : 4);
	return 1;
}

/* --- statements --- */

static void drop_statement(void *prepared)
{
	struct sqlite_statement *statement = prepared;
	sqlite3_finalize(statement->stmt);
	free(statement);
}

/* A file that was removed takes whatever is written, and nobody finds it again. */
static int is_there(const struct sqlite_db *db, struct duct_error *err)
{
	int moved = 0;
	(void)sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved); /* of memory: it has not */
	return moved
		? duct_fail(
			  err, DUCT_RETRY,
			  "state \"%s\": the file that was opened is not there any more: put it back, or start again with the one "
			  "that is in its place",
			  db->path)
		: 0;
}

/* NULL: err is filled. */
static struct sqlite_statement *prepare(struct sqlite_db *db, const char *sql, struct duct_error *err)
{
	struct state_statement *slot = state_statements_find(&db->base.statements, sql);
	if (!slot->prepared) {
		sqlite3_stmt *stmt;
		if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
			(void)failed(db, err);
			return NULL;
		}
		struct sqlite_statement *statement = duct_xcalloc(1, sizeof *statement);
		statement->stmt = stmt;
		for (int i = 0; i < MOST_PARAMETERS; i++) {
			char name[16];
			(void)snprintf(name, sizeof name, "$%d", i + 1);
			statement->parameters[i] = sqlite3_bind_parameter_index(stmt, name);
		}
		slot->prepared = statement;
	}
	return slot->prepared;
}

static void bind_values(const struct sqlite_statement *statement, const struct state_value *values, size_t n)
{
	for (size_t i = 0; i < n && i < MOST_PARAMETERS; i++) {
		int at = statement->parameters[i];
		const struct state_value *v = &values[i];
		if (!at)
			continue;
		if (v->kind == STATE_I64)
			sqlite3_bind_int64(statement->stmt, at, v->i64);
		else if (v->kind == STATE_TEXT && v->data)
			sqlite3_bind_text64(statement->stmt, at, v->data, v->n, SQLITE_STATIC, SQLITE_UTF8);
		else if (v->kind == STATE_BLOB && v->data)
			sqlite3_bind_blob64(statement->stmt, at, v->data, v->n, SQLITE_STATIC);
		else if (v->kind == STATE_BLOB && v->n == 0)
			sqlite3_bind_zeroblob(statement->stmt, at, 0);
		else
			sqlite3_bind_null(statement->stmt, at);
	}
}

static int64_t run(struct state_db *base, const char *sql, const struct state_value *values, size_t n, state_row_fn *take,
		   void *arg, struct duct_error *err)
{
	struct sqlite_db *db = of(base);
	struct duct_error own;
	err = err ? err : &own;
	bool there = base->in_transaction || is_there(db, err) == 0;
	struct sqlite_statement *statement = there ? prepare(db, sql, err) : NULL;
	if (!statement)
		return -(int)err->class;
	bind_values(statement, values, n);
	struct sqlite_row row = {{base->ops}, statement->stmt};
	int64_t rc = 0, rows = 0;
	int code = SQLITE_DONE;
	while (rc == 0 && (code = sqlite3_step(statement->stmt)) == SQLITE_ROW) {
		rows++;
		rc = take ? take(arg, &row.base, err) : 0;
	}
	if (rc == 0 && code != SQLITE_DONE)
		rc = failed(db, err);
	if (rc == 0)
		rc = sqlite3_column_count(statement->stmt) ? rows : sqlite3_changes64(db->handle);
	(void)sqlite3_reset(statement->stmt); /* says the same error again */
	(void)sqlite3_clear_bindings(statement->stmt);
	return rc;
}

static int script(struct state_db *base, const char *sql, struct duct_error *err)
{
	struct sqlite_db *db = of(base);
	return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(db, err);
}

static int begin(struct state_db *base, struct duct_error *err)
{
	return is_there(of(base), err) < 0 ? -(int)err->class : script(base, "BEGIN IMMEDIATE", err);
}

static int commit(struct state_db *base, bool *ret_unknown, struct duct_error *err)
{
	*ret_unknown = false;
	return script(base, "COMMIT", err);
}

static int settle(struct state_db *base, struct duct_error *err)
{
	return duct_fail(err, DUCT_FATAL, "state \"%s\": a commit has no answer", of(base)->path);
}

static void rollback(struct state_db *base)
{
	struct sqlite_db *db = of(base);
	/* A failed COMMIT or a full disk may have ended it already; there is nothing to do about a failing ROLLBACK. */
	if (!sqlite3_get_autocommit(db->handle))
		(void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

static void close_db(struct state_db *base)
{
	struct sqlite_db *db = of(base);
	rollback(base);
	state_statements_forget(&db->base.statements, drop_statement);
	sqlite3_close(db->handle);
	free(db->path);
	free(db);
}

/* --- rows --- */

static int64_t row_i64(const struct state_row *row, int column)
{
	return sqlite3_column_int64(((const struct sqlite_row *)row)->stmt, column);
}

static const char *row_text(const struct state_row *row, int column)
{
	return (const char *)sqlite3_column_text(((const struct sqlite_row *)row)->stmt, column);
}

static const void *row_blob(const struct state_row *row, int column, size_t *ret_n)
{
	sqlite3_stmt *stmt = ((const struct sqlite_row *)row)->stmt;
	const void *data = sqlite3_column_blob(stmt, column);
	*ret_n = (size_t)sqlite3_column_bytes(stmt, column);
	return data || sqlite3_column_type(stmt, column) == SQLITE_NULL ? data : "";
}

static bool row_is_null(const struct state_row *row, int column)
{
	return sqlite3_column_type(((const struct sqlite_row *)row)->stmt, column) == SQLITE_NULL;
}

static const struct state_db_ops sqlite_ops = {
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

/* --- open --- */

char *state_sqlite_file(const char *path)
{
	AUTO_BUF struct duct_buf file = {0};
	bool uri = strncmp(path, "file:", 5) == 0;
	if (strcmp(path, ":memory:") == 0 || (uri && (strstr(path, "mode=memory") || strncmp(path + 5, ":memory:", 8) == 0)))
		return NULL;
	if (!uri)
		return duct_xstrdup(path);
	path += 5;
	if (strncmp(path, "//", 2) == 0) /* file://HOST/PATH */
		path += 2 + strcspn(path + 2, "/");
	for (; *path && *path != '?' && *path != '#'; path++) {
		bool escape = *path == '%' && duct_hex_digit(path[1]) >= 0 && duct_hex_digit(path[2]) >= 0;
		duct_buf_putc(&file, escape ? (char)(duct_hex_digit(path[1]) << 4 | duct_hex_digit(path[2])) : *path);
		path += escape ? 2 : 0;
	}
	return file.len ? duct_steal(&file.data) : NULL;
}

/* SQLite gives its -wal and -shm the mode of the file. mknod() makes it without a descriptor whose close() would drop locks. */
static int make_file(const char *path, struct duct_error *err)
{
	AUTO_FREE char *file = state_sqlite_file(path);
	if (!file || strstr(path, "mode=ro"))
		return 0;
	int rc = duct_folders_make(file, 0700, err);
	if (rc == 0 && mknod(file, S_IFREG | 0600, 0) == 0)
		rc = duct_folder_sync(file, err);
	else if (rc == 0 && errno != EEXIST)
		rc = duct_fail(err, DUCT_CONFIG, "the file cannot be made: %s", strerror(errno));
	return rc ? duct_wrap(err, "state \"%s\"", file) : 0;
}

static void store_now_us(sqlite3_context *context, int n, sqlite3_value **values)
{
	(void)n, (void)values;
	sqlite3_result_int64(context, duct_wall_us());
}

static int set_up(struct sqlite_db *db, struct duct_error *err)
{
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_busy_handler(db->handle, on_busy, db);
	if (sqlite3_create_function_v2(db->handle, "store_now_us", 0, SQLITE_UTF8, NULL, store_now_us, NULL, NULL, NULL) !=
	    SQLITE_OK)
		return failed(db, err);
	/* Two that make the file WAL at the same moment are told busy without the handler being asked. */
	int64_t until_us = duct_mono_us() + BUSY_MS * 1000LL;
	int rc;
	while ((rc = script(&db->base, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", err)) ==
		       -DUCT_RETRY &&
	       (sqlite3_errcode(db->handle) & 0xff) == SQLITE_BUSY && duct_mono_us() < until_us)
		state_pause(4);
	return rc;
}

int state_sqlite_open(struct state_db **ret, const char *path, struct duct_error *err)
{
	int rc = make_file(path, err);
	if (rc < 0)
		return rc;
	struct sqlite_db *db = duct_xcalloc(1, sizeof *db);
	db->base.ops = &sqlite_ops;
	db->path = duct_xstrdup(path);
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
	if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK)
		rc = duct_fail(err, DUCT_CONFIG, "state \"%s\": cannot be opened: %s", path, sqlite3_errmsg(db->handle));
	else
		rc = set_up(db, err);
	if (rc < 0) {
		close_db(&db->base);
		return rc;
	}
	*ret = &db->base;
	return 0;
}
