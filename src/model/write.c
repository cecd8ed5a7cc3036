/* How the rows of a model get into the lake: what is read before, and the one transaction. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "base/killpoint.h"
#include "base/mem.h"
#include "model/work.h"

/* Tables of the connection alone: all or new rows of the model; keys or partitions that have changed. */
#define STAGE "temp.main.new_rows"
#define KEYS "temp.main.changed_keys"

static int run(struct model_turn *t, const struct duct_buf *sql, struct duct_error *err)
{
	return duck_exec(t->conn, sql->data, err) < 0 ? duck_lake_failed(err) : 0;
}

static int run_text(struct model_turn *t, const char *sql, struct duct_error *err)
{
	return duck_exec(t->conn, sql, err) < 0 ? duck_lake_failed(err) : 0;
}

/* --- where a transaction begins --- */

/*
 * The extension (1.0, duckdb/ducklake#1248) keeps the lake's tables, as they were at a schema version, in a cache of the instance, where an entry is
 * replaced when two transactions read it at the same time, and dropped when memory is short or another transaction ends; what a transaction
 * has made or changed points into it all the same. So transactions begin one after the other, up to when they have the entry; and one that writes
 * has a query of another connection beside it, which does not end, because queries hold the entry as long as they run. On a SQLite catalog that query would
 * hold a lock which forbids the commit; there no other transaction of ours is open meanwhile (build.c).
 */
enum { MOST_PINS = 20 };
#define HEAD "SELECT CAST(id AS BIGINT) FROM ducklake_current_snapshot('" MODEL_LAKE "')"

static void unpin(struct model_turn *t)
{
	struct duct_error ignored;
	if (!t->is_pinned)
		return;
	duckdb_destroy_result(&t->pinned);
	t->is_pinned = false;
	(void)duck_exec(t->pin, "SELECT 1", &ignored); /* the one before it ends with its transaction */
}

/* 1: at that snapshot. 0: there is a newer one. */
static int pin(struct model_turn *t, int64_t snapshot, struct duct_error *err)
{
	static const char sql[] = "SELECT h.id FROM range(1000000000000000) r, (" HEAD
				  ") h(id), (SELECT count(*) FROM duckdb_schemas() WHERE database_name = '" MODEL_LAKE "') s";
	if (duck_stream(t->pin, sql, &t->pinned, err) < 0)
		return duck_lake_failed(err);
	t->is_pinned = true;
	duckdb_data_chunk chunk = duckdb_fetch_chunk(t->pinned);
	bool same = chunk && ((int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0)))[0] == snapshot;
	if (chunk)
		duckdb_destroy_data_chunk(&chunk);
	int rc = chunk ? 0 : duck_result_error(t->pin, &t->pinned, err);
	return rc < 0 ? duck_lake_failed(err) : same;
}

static int begin_once(struct model_turn *t, bool writes, int64_t *ret_snapshot, struct duct_error *err)
{
	int64_t n;
	static const char touch[] = "SELECT count(*) FROM duckdb_schemas() WHERE database_name = '" MODEL_LAKE "'";
	if (duck_exec(t->conn, "BEGIN", err) < 0 || duck_number(t->conn, HEAD, ret_snapshot, err) < 0 ||
	    duck_number(t->conn, touch, &n, err) < 0)
		return duck_lake_failed(err);
	return writes && t->pin ? pin(t, *ret_snapshot, err) : 1;
}

/* A failed one is undone by the caller. */
static int begin(struct model_turn *t, bool writes, int64_t *ret_snapshot, struct duct_error *err)
{
	for (int i = 0; i < MOST_PINS; i++) {
		pthread_mutex_lock(t->beginning);
		int rc = begin_once(t, writes, ret_snapshot, err);
		pthread_mutex_unlock(t->beginning);
		if (rc)
			return rc < 0 ? rc : 0;
		model_undo(t);
	}
	return duct_fail(err, DUCT_RETRY, "others commit to the lake all the time");
}

static const struct model_names *key_of(const struct model *m)
{
	return m->key.n ? &m->key : &m->partition;
}

/* a."x" IS NOT DISTINCT FROM b."x" AND ... */
static void put_same(struct duct_buf *to, const char *a, const char *b, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		duct_buf_printf(to, "%s%s.", i ? " AND " : "", a);
		duct_buf_sql_ident(to, names[i]);
		duct_buf_printf(to, " IS NOT DISTINCT FROM %s.", b);
		duct_buf_sql_ident(to, names[i]);
	}
}

/* --- what is read before --- */

static void put_changed_keys(struct duct_buf *to, struct model_turn *t)
{
	const struct model *m = t->model;
	duct_buf_puts(to, "CREATE OR REPLACE TEMP TABLE " KEYS " AS SELECT DISTINCT ");
	for (size_t i = 0; i < m->changes_exprs.n; i++) {
		duct_buf_printf(to, "%s%s AS ", i ? ", " : "", m->changes_exprs.list[i]);
		duct_buf_sql_ident(to, key_of(m)->list[i]);
	}
	duct_buf_puts(to, " FROM ducklake_table_changes('" MODEL_LAKE "', ");
	duct_buf_sql_literal(to, m->changes_schema);
	duct_buf_puts(to, ", ");
	duct_buf_sql_literal(to, m->changes_table);
	duct_buf_printf(to, ", %" PRId64 ", %" PRId64 ")", t->since + 1, t->base);
}

static int stage(struct model_turn *t, struct duct_error *err)
{
	const struct model *m = t->model;
	AUTO_BUF struct duct_buf keys = {0}, rows = {0};
	duct_buf_puts(&rows, "CREATE OR REPLACE TEMP TABLE " STAGE " AS ");
	if (t->write == MODEL_WRITE_CHANGED) {
		put_changed_keys(&keys, t);
		duct_buf_printf(&rows, "SELECT m.* FROM (%s\n) AS m SEMI JOIN " KEYS " AS k ON ", m->sql);
		put_same(&rows, "m", "k", key_of(m)->list, key_of(m)->n);
	} else {
		duct_buf_printf(&rows, "%s\n", t->write == MODEL_WRITE_NEW ? m->sql_new : m->sql);
	}
	int rc = keys.len ? run(t, &keys, err) : 0;
	return rc ? rc : run(t, &rows, err);
}

/* "a INTEGER, b VARCHAR" */
static int columns_of(struct model_turn *t, bool staged, char **ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(
		&sql,
		"SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) FROM duckdb_columns() WHERE ");
	if (staged) {
		duct_buf_puts(&sql, "database_name = 'temp' AND table_name = 'new_rows'");
	} else {
		duct_buf_puts(&sql, "database_name = '" MODEL_LAKE "' AND lower(schema_name) = lower(");
		duct_buf_sql_literal(&sql, t->model->schema);
		duct_buf_puts(&sql, ") AND lower(table_name) = lower(");
		duct_buf_sql_literal(&sql, t->model->name);
		duct_buf_putc(&sql, ')');
		if (t->model->kind == MODEL_SNAPSHOT)
			duct_buf_puts(&sql, " AND column_name NOT IN ('valid_from', 'valid_to')");
	}
	return duck_text(t->conn, sql.data, ret, err) < 0 ? duck_lake_failed(err) : 0;
}

/* DuckDB would give one of two columns of a name another one. */
static int has_names_for_versions(struct model_turn *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t n;
	if (t->model->kind != MODEL_SNAPSHOT)
		return 0;
	duct_buf_printf(
		&sql, "SELECT count(*) FROM (DESCRIBE SELECT * FROM (%s\n)) WHERE lower(column_name) IN ('valid_from', 'valid_to')",
		t->model->sql);
	if (duck_number(t->conn, sql.data, &n, err) < 0)
		return duck_lake_failed(err);
	return n
		? duct_fail(err, DUCT_CONFIG,
			    "its query has a column valid_from or valid_to, which a snapshot has for its versions: give it another "
			    "name")
		: 0;
}

/* A table of another kind has no versions that could go on. */
static int has_versions(struct model_turn *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t n;
	duct_buf_puts(&sql,
		      "SELECT count(*) FROM duckdb_columns() WHERE database_name = '" MODEL_LAKE "' AND column_name IN "
		      "('valid_from', 'valid_to') AND lower(schema_name) = lower(");
	duct_buf_sql_literal(&sql, t->model->schema);
	duct_buf_puts(&sql, ") AND lower(table_name) = lower(");
	duct_buf_sql_literal(&sql, t->model->name);
	duct_buf_putc(&sql, ')');
	if (duck_number(t->conn, sql.data, &n, err) < 0)
		return duck_lake_failed(err);
	return n == 2 ? 0
		      : duct_fail(err, DUCT_CONFIG,
				  "the table that is there has no versions of rows (columns valid_from and valid_to), so it is no "
				  "snapshot: give the model another name, or DROP the table in the lake");
}

/* Rows go into the table that is there only when it has their columns; else all of it is made again. */
static int fits(struct model_turn *t, struct duct_error *err)
{
	AUTO_FREE char *staged = NULL, *there = NULL;
	int rc = t->write == MODEL_WRITE_SNAPSHOT ? has_versions(t, err) : 0;
	rc = rc ? rc : columns_of(t, true, &staged, err);
	rc = rc ? rc : columns_of(t, false, &there, err);
	if (rc || (staged && there && strcmp(staged, there) == 0))
		return rc;
	if (t->write == MODEL_WRITE_SNAPSHOT)
		return duct_fail(
			err, DUCT_CONFIG,
			"the columns of a snapshot cannot change, as its history has the old ones: they are (%.300s), and were "
			"(%.300s): give the model another name, or ALTER the table in the lake",
			staged ? staged : "", there ? there : "");
	bool partial = t->write != MODEL_WRITE_SYNC;
	t->write = MODEL_WRITE_ALL;
	t->reason = "its columns are others";
	return partial ? stage(t, err) : 0;
}

/* Whether rows are kept in the session before they are written. */
static bool is_staged(const struct model_turn *t)
{
	return t->write != MODEL_WRITE_VIEW && (t->write != MODEL_WRITE_ALL || t->sqlite);
}

static int stage_once(struct model_turn *t, struct duct_error *err)
{
	int rc = begin(t, false, &t->base, err);
	rc = rc ? rc : has_names_for_versions(t, err);
	rc = rc ? rc : stage(t, err);
	if (rc == 0 && t->write != MODEL_WRITE_ALL)
		rc = fits(t, err);
	if (rc == 0)
		rc = run_text(t, "COMMIT", err);
	else
		model_undo(t);
	return rc;
}

/*
 * Of a file that has ended as a whole (a native writer does that: a partition that is replaced) the extension (1.0) tells no other deaths than its marks,
 * where it has any. Asked after the changes were read, so that none of it is missed.
 */
static bool tell_all(struct model_turn *t)
{
	struct duct_error why;
	int64_t n = 0;
	if (duck_number(t->conn, t->untold, &n, &why) < 0)
		return strstr(why.message, "does not exist") != NULL; /* no row of the table was ever marked */
	return n == 0;
}

int model_stage(struct model_turn *t, struct duct_error *err)
{
	if (!is_staged(t))
		return 0;
	int rc = stage_once(t, err);
	if (rc == 0 && t->write == MODEL_WRITE_CHANGED && !tell_all(t)) {
		t->write = t->model->key.n ? MODEL_WRITE_SYNC : MODEL_WRITE_ALL;
		rc = is_staged(t) ? stage_once(t, err) : 0;
	}
	duct_kill_point("model-staged");
	return rc;
}

/* --- the transaction --- */

static void put_drop(struct duct_buf *to, const struct model_turn *t, bool view)
{
	duct_buf_printf(to, "DROP %s ", view ? "VIEW" : "TABLE");
	model_put_target(to, t->model);
	duct_buf_puts(to, "; ");
}

/* All rows of the model: of the session, or of the query itself. */
static void put_source(struct duct_buf *to, const struct model_turn *t)
{
	if (t->sqlite || t->write != MODEL_WRITE_ALL)
		duct_buf_puts(to, "SELECT * FROM " STAGE);
	else
		duct_buf_printf(to, "SELECT * FROM (%s\n)", t->model->sql);
	if (t->model->kind == MODEL_SNAPSHOT)
		duct_buf_puts(to, " CROSS JOIN (SELECT now() AS valid_from, NULL::TIMESTAMPTZ AS valid_to)");
}

static void put_all(struct duct_buf *to, const struct model_turn *t)
{
	const char *parts = t->model->partitioned_by;
	if (t->exists_as_view)
		put_drop(to, t, true);
	duct_buf_puts(to, "CREATE OR REPLACE TABLE ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " AS ");
	put_source(to, t);
	if (!parts)
		return;
	duct_buf_puts(to, " LIMIT 0; ALTER TABLE ");
	model_put_target(to, t->model);
	duct_buf_printf(to, " SET PARTITIONED BY (%s); INSERT INTO ", parts);
	model_put_target(to, t->model);
	duct_buf_putc(to, ' ');
	put_source(to, t);
}

static void put_view(struct duct_buf *to, const struct model_turn *t)
{
	if (t->exists && !t->exists_as_view)
		put_drop(to, t, false);
	duct_buf_puts(to, "CREATE OR REPLACE VIEW ");
	model_put_target(to, t->model);
	duct_buf_printf(to, " AS %s\n", t->model->sql);
}

/* The columns of the model, of the staged table. */
struct columns {
	struct duct_arena *arena;
	struct model_names names, printed; /* printed: those with intervals, where a month equals 30 days */
};

static void add_name(struct duct_arena *arena, struct model_names *names, const char *name)
{
	const char **list = duct_arena_alloc(arena, (names->n + 1) * sizeof *list);
	if (names->n)
		memcpy(list, names->list, names->n * sizeof *list);
	list[names->n++] = duct_arena_strdup(arena, name);
	names->list = list;
}

static int take_column(void *arg, const char *const *v, struct duct_error *err)
{
	struct columns *c = arg;
	(void)err;
	add_name(c->arena, &c->names, v[0]);
	if (strstr(v[1], "INTERVAL"))
		add_name(c->arena, &c->printed, v[0]);
	return 0;
}

static int staged_columns(struct model_turn *t, struct columns *ret, struct duct_error *err)
{
	static const char sql[] =
		"SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'temp' AND table_name = "
		"'new_rows' ORDER BY column_index";
	ret->arena = &t->arena;
	return duck_rows(t->conn, sql, take_column, ret, err) < 0 ? duck_lake_failed(err) : 0;
}

/* The same row in n and t. */
static void put_same_row(struct duct_buf *to, const struct columns *c)
{
	put_same(to, "n", "t", c->names.list, c->names.n);
	for (size_t i = 0; i < c->printed.n; i++) {
		duct_buf_puts(to, " AND CAST(n.");
		duct_buf_sql_ident(to, c->printed.list[i]);
		duct_buf_puts(to, " AS VARCHAR) IS NOT DISTINCT FROM CAST(t.");
		duct_buf_sql_ident(to, c->printed.list[i]);
		duct_buf_puts(to, " AS VARCHAR)");
	}
}

/* Rows that are not as they were go, those that are not there come. */
static void put_sync(struct duct_buf *to, const struct model_turn *t, const struct columns *columns)
{
	duct_buf_puts(to, "DELETE FROM ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " AS t WHERE NOT EXISTS (SELECT 1 FROM " STAGE " AS n WHERE ");
	put_same_row(to, columns);
	duct_buf_puts(to, "); INSERT INTO ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " SELECT n.* FROM " STAGE " AS n WHERE NOT EXISTS (SELECT 1 FROM ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " AS t WHERE ");
	put_same(to, "n", "t", t->model->key.list, t->model->key.n);
	duct_buf_putc(to, ')');
}

/* The rows of some keys or partitions are replaced. of: a table of the session that names them. */
static void put_replaced(struct duct_buf *to, const struct model_turn *t, bool by_keys)
{
	const struct model_names *key = key_of(t->model);
	if (key->n) {
		duct_buf_puts(to, "DELETE FROM ");
		model_put_target(to, t->model);
		duct_buf_puts(to, " AS t WHERE EXISTS (SELECT 1 FROM ");
		duct_buf_puts(to, by_keys ? KEYS : STAGE);
		duct_buf_puts(to, " AS n WHERE ");
		put_same(to, "n", "t", key->list, key->n);
		duct_buf_puts(to, "); ");
	}
	duct_buf_puts(to, "INSERT INTO ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " SELECT * FROM " STAGE);
}

/* Versions end whose row is not as it was, or gone; others begin. */
static void put_snapshot(struct duct_buf *to, const struct model_turn *t, const struct columns *columns)
{
	duct_buf_puts(to, "UPDATE ");
	model_put_target(to, t->model);
	duct_buf_puts(to,
		      " AS t SET valid_to = now() WHERE t.valid_to IS NULL AND NOT EXISTS (SELECT 1 FROM " STAGE " AS n WHERE ");
	put_same_row(to, columns);
	duct_buf_puts(to, "); INSERT INTO ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " SELECT n.*, now(), NULL FROM " STAGE " AS n WHERE NOT EXISTS (SELECT 1 FROM ");
	model_put_target(to, t->model);
	duct_buf_puts(to, " AS t WHERE t.valid_to IS NULL AND ");
	put_same(to, "n", "t", t->model->key.list, t->model->key.n);
	duct_buf_putc(to, ')');
}

static int put_rows(struct duct_buf *to, struct model_turn *t, struct duct_error *err)
{
	struct columns columns = {0};
	int rc = t->write == MODEL_WRITE_SYNC || t->write == MODEL_WRITE_SNAPSHOT ? staged_columns(t, &columns, err) : 0;
	switch (t->write) {
	case MODEL_WRITE_NOTHING: break;
	case MODEL_WRITE_VIEW: put_view(to, t); break;
	case MODEL_WRITE_ALL: put_all(to, t); break;
	case MODEL_WRITE_SYNC: put_sync(to, t, &columns); break;
	case MODEL_WRITE_CHANGED: put_replaced(to, t, true); break;
	case MODEL_WRITE_NEW: put_replaced(to, t, false); break;
	case MODEL_WRITE_SNAPSHOT: put_snapshot(to, t, &columns); break;
	}
	return rc;
}

/* --- comments: what it is, for whoever looks at the lake --- */

static bool is_described(const struct model *m)
{
	bool described = m->description != NULL;
	for (size_t i = 0; i < m->ncolumns && m->kind != MODEL_VIEW; i++)
		described |= m->columns[i].description != NULL;
	return described;
}

/* The comments that are there, by column; "" is the table itself. */
struct comments {
	struct duct_arena *arena;
	struct model_names names, texts;
};

static int take_comment(void *arg, const char *const *v, struct duct_error *err)
{
	struct comments *c = arg;
	(void)err;
	add_name(c->arena, &c->names, v[0]);
	add_name(c->arena, &c->texts, v[1]);
	return 0;
}

static void put_comments_of(struct duct_buf *to, const struct model *m, const char *columns, const char *of, const char *name)
{
	duct_buf_printf(to,
			"SELECT %s, coalesce(comment, '') FROM %s WHERE database_name = '" MODEL_LAKE
			"' AND lower(schema_name) = lower(",
			columns, of);
	duct_buf_sql_literal(to, m->schema);
	duct_buf_printf(to, ") AND lower(%s) = lower(", name);
	duct_buf_sql_literal(to, m->name);
	duct_buf_putc(to, ')');
}

static int read_comments(struct model_turn *t, struct comments *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	ret->arena = &t->arena;
	if (t->model->kind == MODEL_VIEW) {
		put_comments_of(&sql, t->model, "''", "duckdb_views()", "view_name");
	} else {
		put_comments_of(&sql, t->model, "''", "duckdb_tables()", "table_name");
		duct_buf_puts(&sql, " UNION ALL ");
		put_comments_of(&sql, t->model, "column_name", "duckdb_columns()", "table_name");
	}
	return duck_rows(t->conn, sql.data, take_comment, ret, err) < 0 ? duck_lake_failed(err) : 0;
}

/* NULL: there is no such column. */
static const char *comment_of(const struct comments *c, const char *column)
{
	for (size_t i = 0; i < c->names.n; i++)
		if (strcasecmp(c->names.list[i], column) == 0)
			return c->texts.list[i];
	return NULL;
}

static void put_comment(struct duct_buf *to, const struct model *m, const char *column, const char *text)
{
	duct_buf_printf(to, "COMMENT ON %s ", *column ? "COLUMN" : m->kind == MODEL_VIEW ? "VIEW" : "TABLE");
	model_put_target(to, m);
	if (*column) {
		duct_buf_putc(to, '.');
		duct_buf_sql_ident(to, column);
	}
	duct_buf_puts(to, " IS ");
	duct_buf_sql_literal(to, text);
	duct_buf_puts(to, "; ");
}

/* Those that are not there yet: a comment changes the table for whoever follows its columns. The extension (1.0) ends the process where a column is none. */
static int put_comments(struct duct_buf *to, struct model_turn *t, struct duct_error *err)
{
	const struct model *m = t->model;
	struct comments there = {0};
	if (!is_described(m))
		return 0;
	if (read_comments(t, &there, err) < 0)
		return -(int)err->class;
	const char *old = comment_of(&there, "");
	if (m->description && (!old || strcmp(old, m->description) != 0))
		put_comment(to, m, "", m->description);
	for (size_t i = 0; i < m->ncolumns && m->kind != MODEL_VIEW; i++) {
		const struct model_column *column = &m->columns[i];
		old = comment_of(&there, column->name);
		if (!old)
			return duct_fail(err, DUCT_CONFIG, "columns: \"%.100s\" is no column of its query", column->name);
		if (column->description && strcmp(old, column->description) != 0)
			put_comment(to, m, column->name, column->description);
	}
	return 0;
}

/* What the next build and people want to know: in the commit itself. */
static void put_message(struct duct_buf *to, const struct model_turn *t)
{
	AUTO_FREE char *full = model_full_name(t->model), *message = duct_xasprintf("model %s: %s", full, t->reason);
	json_t *inputs = json_loads(t->inputs, 0, NULL);
	json_t *extra = json_pack("{s:s,s:s,s:I,s:I,s:o,s:s,s:s}", "model", full, "hash", t->model->hash, "base",
				  (json_int_t)t->base, "met", (json_int_t)t->met, "inputs", inputs ? inputs : json_object(),
				  "materialized", model_kind_name(t->model->kind), "run", t->run_id);
	AUTO_FREE char *text = json_dumps(extra, JSON_COMPACT);
	json_decref(extra);
	duct_buf_puts(to, "CALL " MODEL_LAKE ".set_commit_message('ductstream', ");
	duct_buf_sql_literal(to, message);
	duct_buf_puts(to, ", extra_info => ");
	duct_buf_sql_literal(to, text ? text : "{}");
	duct_buf_putc(to, ')');
}

int model_write_rows(struct model_turn *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, told = {0}, count = {0};
	int rc = begin(t, true, &t->met, err);
	if (!is_staged(t)) {
		t->base = t->met;
		rc = rc ? rc : has_names_for_versions(t, err);
	}
	rc = rc ? rc : put_rows(&sql, t, err);
	rc = rc ? rc : run(t, &sql, err);
	rc = rc ? rc : put_comments(&told, t, err);
	if (rc)
		return rc;
	put_message(&told, t);
	if ((rc = run(t, &told, err)))
		return rc;
	duct_kill_point("model-written");
	if (t->model->kind == MODEL_VIEW) /* counting its rows would be reading them */
		return 0;
	duct_buf_puts(&count, "SELECT count(*) FROM ");
	model_put_target(&count, t->model);
	return duck_number(t->conn, count.data, &t->rows, err) < 0 ? duck_lake_failed(err) : 0;
}

int model_commit(struct model_turn *t, struct duct_error *err)
{
	int64_t before = 0;
	static const char last[] = "SELECT CAST(id AS BIGINT) FROM ducklake_last_committed_snapshot('" MODEL_LAKE "')";
	struct duct_error ignored;
	if (duck_number(t->conn, last, &before, &ignored) < 0)
		before = 0;
	duct_kill_point("model-checked");
	int rc = run_text(t, "COMMIT", err);
	if (rc)
		return rc;
	unpin(t);
	duct_kill_point("model-committed");
	if (duck_number(t->conn, last, &t->snapshot, &ignored) < 0 || t->snapshot == before)
		t->snapshot = 0;
	return 0;
}

void model_forget(struct model_turn *t)
{
	struct duct_error ignored;
	int rc = duck_exec(t->conn, "DROP TABLE IF EXISTS " STAGE "; DROP TABLE IF EXISTS " KEYS,
			   &ignored); /* else with the connection */
	(void)rc;
}

void model_undo(struct model_turn *t)
{
	struct duct_error ignored;
	int rc = duck_exec(t->conn, "ROLLBACK", &ignored); /* without a transaction there is nothing to undo */
	(void)rc;
	unpin(t);
}
