/*
 * A catalog in a SQLite file: WAL, synchronous FULL, one transaction at a time taken with BEGIN IMMEDIATE, so that the
 * head read inside it cannot be overtaken. Only libsqlite3 touches the file: any other open() and close() of it in this
 * process would drop SQLite's POSIX locks.
 */
#include "base/clock.h"
#include "base/killpoint.h"
#include "lake/session.h"
#include "sqlite/fail.h"

#include <poll.h>
#include <sqlite3.h>
#include <stdlib.h>

struct sqlite_db {
	struct lake_db base;
	sqlite3 *handle;
	char *path;
	int64_t busy_timeout_ms;
	int64_t flush; /* snapshot of the last official flush that we gave way to */
};

static struct sqlite_db *of(struct lake_db *db)
{
	return (struct sqlite_db *)db;
}

static int failed(struct sqlite_db *db, struct duct_error *err)
{
	return duct_sqlite_fail(err, db->handle, "catalog", db->path, db->busy_timeout_ms);
}

/* Steps one statement to its end, handing out its rows. */
static int drain(struct sqlite_db *db, sqlite3_stmt *stmt, int set, lake_row_fn *fn, void *arg, struct duct_error *err)
{
	int ncols = sqlite3_column_count(stmt);
	const char *few[16];
	const char **values = ncols <= (int)DUCT_LEN(few) ? few : duct_xcalloc((size_t)ncols, sizeof *values);
	int ret = 0, code;
	while (!ret && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (int i = 0; i < ncols; i++)
			values[i] = (const char *)sqlite3_column_text(stmt, i);
		if (fn)
			ret = fn(arg, set, values, err);
	}
	if (!ret && code != SQLITE_DONE)
		ret = failed(db, err);
	if (values != few)
		free(values);
	return ret;
}

static int query(struct lake_db *base, const char *sql, lake_row_fn *fn, void *arg, struct duct_error *err)
{
	struct sqlite_db *db = of(base);
	int ret = 0, set = 0;
	while (!ret && *sql) {
		sqlite3_stmt *stmt;
		if (sqlite3_prepare_v2(db->handle, sql, -1, &stmt, &sql) != SQLITE_OK)
			return failed(db, err);
		if (!stmt) /* only blanks were left */
			break;
		bool has_rows = sqlite3_column_count(stmt) > 0;
		ret = drain(db, stmt, set, fn, arg, err);
		set += has_rows;
		sqlite3_finalize(stmt);
	}
	return ret;
}

static void reset(struct lake_db *base)
{
	struct sqlite_db *db = of(base);
	/* A failed COMMIT or a full disk may have ended it already; there is nothing to do about a failing ROLLBACK. */
	if (!sqlite3_get_autocommit(db->handle))
		(void)sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

static bool is_busy(const struct duct_error *err)
{
	return (err->vendor_code & 0xff) == SQLITE_BUSY;
}

/* --- the lock --- */

enum { GIVE_WAY_MS = 1000, LOOK_AGAIN_MS = 10 };

/*
 * The official flush commits, and then drops the emptied tables of inlined rows of older columns in transactions of their own. One that meets the
 * lock there takes the whole flush for failed and removes the files that its commit has named: their rows are lost. So none of us takes the lock
 * right after such a commit until these tables are gone. The snapshot of that commit, -1: none.
 */
static int64_t flush_under_way(struct sqlite_db *db)
{
	int64_t ret = -1;
	struct duct_error ignored; /* a catalog that is still to be made */
	if (query(&db->base,
		  "SELECT snapshot_id FROM ducklake_snapshot_changes WHERE snapshot_id = (SELECT max(snapshot_id) FROM ducklake_snapshot) "
		  "AND author IS NOT 'ductstream' AND changes_made LIKE '%inline_flush:%' AND EXISTS (SELECT 1 FROM "
		  "ducklake_inlined_data_tables o JOIN ducklake_inlined_data_tables n ON n.table_id = o.table_id "
		  "AND n.schema_version > o.schema_version)",
		  lake_take_int, &ret, &ignored))
		return -1;
	return ret;
}

static void give_way(struct sqlite_db *db)
{
	int64_t flush = flush_under_way(db), until_us = duct_mono_us() + GIVE_WAY_MS * 1000LL;
	if (flush < 0 || flush == db->flush)
		return;
	do
		(void)poll(NULL, 0, LOOK_AGAIN_MS);
	while (flush_under_way(db) == flush && duct_mono_us() < until_us);
	db->flush = flush;
}

/* With the lock nothing can have come between. */
static bool may_keep_lock(struct sqlite_db *db)
{
	int64_t flush = flush_under_way(db);
	return flush < 0 || flush == db->flush;
}

/* Waits without SQLite, which would take the lock the moment that a flush has committed, but by its pauses: others get through as before. */
static int begin_write(struct lake_db *base, struct duct_error *err)
{
	static const int pauses_ms[] = {1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100};
	struct sqlite_db *db = of(base);
	int64_t until_us = duct_mono_us() + db->busy_timeout_ms * 1000;
	sqlite3_busy_timeout(db->handle, 0);
	for (size_t i = 0;; i += i + 1 < DUCT_LEN(pauses_ms)) {
		give_way(db);
		int rc = query(base, "PRAGMA query_only = 0; BEGIN IMMEDIATE", NULL, NULL, err);
		bool late = duct_mono_us() > until_us;
		if (rc == 0 && (late || may_keep_lock(db)))
			break;
		reset(base);
		if (rc && (late || !is_busy(err)))
			break;
		(void)poll(NULL, 0, pauses_ms[i]);
	}
	sqlite3_busy_timeout(db->handle, (int)db->busy_timeout_ms);
	return sqlite3_get_autocommit(db->handle) ? -(int)err->class : 0;
}

enum { MARKS_AT_ONCE = 32 }; /* rows of one INSERT: a statement costs as much as a row */

static sqlite3_stmt *prepare_marks(struct sqlite_db *db, const struct lake_step *step, const char *table, size_t rows)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql, "INSERT INTO %s (file_id, row_id, begin_snapshot) VALUES", table);
	for (size_t i = 0; i < rows; i++)
		duct_buf_printf(&sql, "%s(?1, ?%zu, %lld)", i ? "," : " ", i + 2, (long long)step->snapshot_id);
	sqlite3_stmt *stmt;
	return sqlite3_prepare_v2(db->handle, sql.data, -1, &stmt, NULL) == SQLITE_OK ? stmt : NULL;
}

static bool insert_rows(sqlite3_stmt *stmt, int64_t file_id, const int64_t *positions, size_t rows)
{
	sqlite3_bind_int64(stmt, 1, file_id);
	for (size_t i = 0; i < rows; i++)
		sqlite3_bind_int64(stmt, (int)i + 2, positions[i]);
	bool ok = sqlite3_step(stmt) == SQLITE_DONE;
	return sqlite3_reset(stmt) == SQLITE_OK && ok;
}

static int insert_marks(struct sqlite_db *db, const struct lake_step *step, const char *table, struct duct_error *err)
{
	sqlite3_stmt *many = prepare_marks(db, step, table, MARKS_AT_ONCE), *one = prepare_marks(db, step, table, 1);
	bool ok = many && one;
	for (size_t i = 0; i < step->nmarks && ok; i++) {
		const struct lake_marks *marks = &step->marks[i];
		struct lake_positions_walk walk = {&marks->positions, 0, 0};
		for (size_t left = marks->positions.n, rows; left && ok; left -= rows) {
			int64_t positions[MARKS_AT_ONCE];
			rows = left < MARKS_AT_ONCE ? 1 : MARKS_AT_ONCE;
			for (size_t k = 0; k < rows; k++)
				(void)lake_positions_next(&walk, &positions[k]); /* there are n: lake_txn_claim_marks() */
			ok = insert_rows(rows == 1 ? one : many, marks->file_id, positions, rows);
		}
	}
	int ret = ok ? 0 : failed(db, err); /* before a finalize forgets the error */
	sqlite3_finalize(many);
	sqlite3_finalize(one);
	return ret;
}

static int run_step(struct sqlite_db *db, const struct lake_step *step, const char *sql, bool *ret_count_ok, struct duct_error *err)
{
	*ret_count_ok = true;
	if (step->kind == LAKE_STEP_MARKS)
		return insert_marks(db, step, sql, err);
	AUTO_BUF struct duct_buf whole = {0};
	if (step->rest) {
		duct_buf_puts(&whole, sql);
		step->rest(step->arg, &whole);
		sql = whole.data;
	}
	int64_t count = -1;
	int ret = query(&db->base, sql, step->kind == LAKE_STEP_COUNT ? lake_take_int : NULL, &count, err);
	if (step->kind == LAKE_STEP_CHANGED)
		count = sqlite3_changes64(db->handle);
	if (!ret && step->kind != LAKE_STEP_PLAIN)
		*ret_count_ok = count == step->expect;
	return ret;
}

static enum lake_outcome run(struct lake_db *base, const struct lake_script *script, size_t *ret_step, struct duct_error *err)
{
	struct sqlite_db *db = of(base);
	*ret_step = 0;
	if (sqlite3_get_autocommit(db->handle) && begin_write(base, err))
		return LAKE_RUN_FAILED;
	for (size_t i = 0; i < script->n; i++) {
		*ret_step = i;
		bool count_ok;
		if (run_step(db, &script->steps[i], script->text.data + script->steps[i].at, &count_ok, err)) {
			reset(base);
			return LAKE_RUN_FAILED;
		}
		if (!count_ok) {
			reset(base);
			return LAKE_RUN_COUNT;
		}
		duct_kill_point("commit-statement");
	}
	*ret_step = script->n;
	if (query(base, "COMMIT", NULL, NULL, err)) {
		reset(base);
		return LAKE_RUN_FAILED;
	}
	return LAKE_RUN_OK;
}

static bool lost(const struct lake_db *db)
{
	(void)db;
	return false;
}

static int reconnect(struct lake_db *db, struct duct_error *err)
{
	(void)db, (void)err;
	return 0;
}

static void close_db(struct lake_db *base)
{
	struct sqlite_db *db = of(base);
	reset(base);
	sqlite3_close(db->handle);
	free(db->path);
	free(base->prefix);
	free(db);
}

static const struct lake_db_ops sqlite_ops = {
	.query = query,
	.begin_write = begin_write,
	.run = run,
	.reset = reset,
	.lost = lost,
	.reconnect = reconnect,
	.close = close_db,
};

static int set_up(struct sqlite_db *db, bool read_only, struct duct_error *err)
{
	sqlite3_busy_timeout(db->handle, (int)db->busy_timeout_ms);
	/* The first statement that reads the file finds out whether it is a database and whether it is locked. Two that switch to the write-ahead
	 * log at once would wait for each other: SQLite refuses one without waiting. */
	const char *sql = read_only ? "PRAGMA query_only = 1; SELECT count(*) FROM sqlite_master"
				    : "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";
	int64_t until_us = duct_mono_us() + db->busy_timeout_ms * 1000;
	int ret;
	while ((ret = query(&db->base, sql, NULL, NULL, err)) && is_busy(err) && duct_mono_us() < until_us &&
	       !duct_ctx_stopped(db->base.ctx))
		(void)poll(NULL, 0, 1 + (int)(duct_mono_us() % 20));
	if (ret && is_busy(err))
		err->class = DUCT_CONFIG, ret = -DUCT_CONFIG;
	return ret;
}

int lake_sqlite_open(struct lake_db **ret, const char *path, bool create, bool read_only, int64_t busy_timeout_ms,
		     const struct duct_ctx *ctx, struct duct_error *err)
{
	struct sqlite_db *db = duct_xcalloc(1, sizeof *db);
	db->base = (struct lake_db){.ops = &sqlite_ops, .ctx = ctx, .sqlite = true, .prefix = duct_xstrdup("")};
	db->flush = -1;
	db->path = duct_xstrdup(path);
	db->busy_timeout_ms = busy_timeout_ms > 0 ? busy_timeout_ms : 5000;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	int code = sqlite3_open_v2(path, &db->handle, flags | (create && !read_only ? SQLITE_OPEN_CREATE : 0), NULL);
	int result;
	if (code == SQLITE_OK)
		result = set_up(db, read_only, err);
	else if ((code & 0xff) == SQLITE_CANTOPEN && !create)
		result = duct_fail(err, DUCT_CONFIG,
				   "catalog \"%s\": cannot be opened: there is no such file, or no "
				   "permission",
				   path);
	else
		result = duct_fail(err, DUCT_CONFIG, "catalog \"%s\": cannot be opened: %s", path, sqlite3_errmsg(db->handle));
	if (result) {
		close_db(&db->base);
		return result;
	}
	*ret = &db->base;
	return 0;
}
