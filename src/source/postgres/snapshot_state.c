/*
 * Which tables a backfill has copied, kept outside of this process: in a table at the source (or elsewhere), or in a JSON file. A row for
 * each part of a table; all of them are done when the table is, for only then has its copy been published. See postgres.h.
 */
#include "source/postgres/postgres.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- a table --- */

static void put_table(struct duct_buf *b, const struct postgres_config *c)
{
	duct_buf_sql_ident(b, c->snapshot_state_schema);
	duct_buf_putc(b, '.');
	duct_buf_sql_ident(b, c->snapshot_state_table);
}

static int open_session(struct postgres_source *src, struct duct_error *err)
{
	const struct pg_session_options options = {
		.dsn = src->config->snapshot_state_dsn ? src->config->snapshot_state_dsn : src->config->dsn,
		.settings = "-c default_transaction_read_only=off",
		.stop_fd = src->ctx->stop_fd,
	};
	return src->backfill.session ? 0 : pg_session_open(&src->backfill.session, &options, err);
}

/* Unlogged: a publication of all tables leaves it out. A server that crashes empties it, and the backfill begins anew. */
static int make_table(struct postgres_source *src, struct duct_error *err)
{
	const struct postgres_config *c = src->config;
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	const char *const params[] = {c->snapshot_state_schema, c->snapshot_state_table};
	int r = open_session(src, err);
	if (!r)
		r = pg_query(src->backfill.session,
			     "select exists (select from pg_catalog.pg_namespace where nspname = $1), exists (select from "
			     "pg_catalog.pg_tables where schemaname = $1 and tablename = $2)",
			     2, params, &res, err);
	if (r || pg_get_bool(res, 0, 1))
		return r;
	if (!pg_get_bool(res, 0, 0)) {
		duct_buf_puts(&sql, "create schema if not exists ");
		duct_buf_sql_ident(&sql, c->snapshot_state_schema);
		duct_buf_puts(&sql, "; ");
	}
	duct_buf_puts(&sql, "create unlogged table if not exists ");
	put_table(&sql, c);
	duct_buf_puts(
		&sql,
		" (flow_id text not null, table_name text not null, partition_index int not null, partition_count int not null, "
		"cursor text, status text not null, updated_at timestamptz not null default now(), "
		"primary key (flow_id, table_name, partition_index))");
	return pg_exec(src->backfill.session, sql.data, NULL, err);
}

static int read_rows(struct postgres_source *src, json_t *rows, struct duct_error *err)
{
	AUTO_PGRESULT PGresult *res = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	const char *const params[] = {src->flow_id, src->config->slot};
	int r = make_table(src, err);
	if (r)
		return r;
	duct_buf_puts(&sql, "select table_name, partition_count, status from ");
	put_table(&sql, src->config);
	duct_buf_puts(&sql, " where flow_id = $1 and partition_index = 0 and coalesce(cursor, $2) = $2");
	r = pg_query(src->backfill.session, sql.data, DUCT_LEN(params), params, &res, err);
	for (int i = 0; !r && i < PQntuples(res); i++)
		json_array_append_new(rows,
				      json_pack("{s:s,s:s,s:I,s:s}", "flow_id", src->flow_id, "table_name", pg_get(res, i, 0),
						"partition_count", (json_int_t)pg_get_i64(res, i, 1), "status", pg_get(res, i, 2)));
	return r;
}

/* One transaction: the rows of the flow are those of `rows`. Their cursor is the slot: a flow of another service may have the same id. What it
 * had done is forgotten, and it begins anew. */
static int write_rows(struct postgres_source *src, const json_t *rows, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	size_t i;
	json_t *row;
	duct_buf_puts(&sql, "delete from ");
	put_table(&sql, src->config);
	duct_buf_puts(&sql, " where flow_id = ");
	duct_buf_sql_literal(&sql, src->flow_id);
	json_array_foreach(rows, i, row)
	{
		int64_t n = json_integer_value(json_object_get(row, "partition_count"));
		duct_buf_puts(&sql, "; insert into ");
		put_table(&sql, src->config);
		duct_buf_puts(&sql, " (flow_id, table_name, partition_index, partition_count, cursor, status) select ");
		duct_buf_sql_literal(&sql, src->flow_id);
		duct_buf_puts(&sql, ", ");
		duct_buf_sql_literal(&sql, json_string_value(json_object_get(row, "table_name")));
		duct_buf_printf(&sql, ", i, %" PRId64 ", ", n);
		duct_buf_sql_literal(&sql, src->config->slot);
		duct_buf_puts(&sql, ", ");
		duct_buf_sql_literal(&sql, json_string_value(json_object_get(row, "status")));
		duct_buf_printf(&sql, " from pg_catalog.generate_series(0, %" PRId64 ") i", n - 1);
	}
	int r = open_session(src, err);
	return r ? r : pg_exec(src->backfill.session, sql.data, NULL, err);
}

/* --- a file: {"snapshot_state": [rows of all flows]} --- */

static bool is_row(const json_t *row)
{
	return json_is_string(json_object_get(row, "flow_id")) && json_is_string(json_object_get(row, "table_name")) &&
		json_is_string(json_object_get(row, "status")) && json_is_integer(json_object_get(row, "partition_index")) &&
		json_is_integer(json_object_get(row, "partition_count"));
}

/* All rows of the file, a new reference; an empty array when there is none. */
static json_t *load_file(const char *path, struct duct_error *err)
{
	json_error_t why;
	size_t i;
	json_t *row;
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return json_array();
	json_t *all = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	json_t *rows = json_incref(json_object_get(all, "snapshot_state"));
	bool good = json_is_array(rows);
	json_array_foreach(rows, i, row) good = good && is_row(row);
	json_decref(all);
	if (good)
		return rows;
	json_decref(rows);
	duct_fail(err, DUCT_CONFIG,
		  "snapshot_state_path: \"%s\" is not what a backfill has written%s%s: remove it, or name another file", path,
		  all ? "" : ": ", all ? "" : why.text);
	return NULL;
}

static bool is_ours(const struct postgres_source *src, const json_t *row)
{
	return strcmp(json_string_value(json_object_get(row, "flow_id")), src->flow_id) == 0;
}

static int read_file_rows(struct postgres_source *src, json_t *rows, struct duct_error *err)
{
	json_t *all = load_file(src->config->snapshot_state_path, err), *row;
	size_t i;
	if (!all)
		return -(int)err->class;
	json_array_foreach(all, i, row)
	{
		if (is_ours(src, row) && json_integer_value(json_object_get(row, "partition_index")) == 0)
			json_array_append(rows, row);
	}
	json_decref(all);
	return 0;
}

static int sync_folder(const char *path)
{
	AUTO_FREE char *copy = duct_xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed = fd < 0 || fsync(fd) != 0;
	if (fd >= 0)
		close(fd);
	return failed;
}

static int replace_file(const char *path, const json_t *rows, struct duct_error *err)
{
	AUTO_FREE char *next = duct_xasprintf("%s.new", path);
	json_t *all = json_pack("{s:O}", "snapshot_state", rows);
	int fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool failed = fd < 0 || json_dumpfd(all, fd, JSON_INDENT(1)) != 0 || fsync(fd) != 0;
	int error = errno;
	if (fd >= 0 && close(fd) != 0 && !failed) {
		failed = true;
		error = errno;
	}
	json_decref(all);
	if (!failed && (rename(next, path) != 0 || sync_folder(path))) {
		failed = true;
		error = errno;
	}
	return failed ? duct_fail(err, DUCT_RETRY, "snapshot_state_path: write \"%s\": %s", path, strerror(error)) : 0;
}

static void append_parts(json_t *to, const struct postgres_source *src, const json_t *row)
{
	char now[32];
	time_t seconds = time(NULL);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_int_t n = json_integer_value(json_object_get(row, "partition_count"));
	for (json_int_t i = 0; i < n; i++)
		json_array_append_new(to,
				      json_pack("{s:s,s:O,s:I,s:I,s:n,s:O,s:s}", "flow_id", src->flow_id, "table_name",
						json_object_get(row, "table_name"), "partition_index", i, "partition_count", n,
						"cursor", "status", json_object_get(row, "status"), "updated_at", now));
}

static int write_file_rows(struct postgres_source *src, const json_t *rows, struct duct_error *err)
{
	const char *path = src->config->snapshot_state_path;
	json_t *old = load_file(path, err), *all = json_array(), *row;
	size_t i;
	if (!old) {
		json_decref(all);
		return -(int)err->class;
	}
	json_array_foreach(old, i, row)
	{
		if (!is_ours(src, row))
			json_array_append(all, row);
	}
	json_array_foreach(rows, i, row) append_parts(all, src, row);
	int r = replace_file(path, all, err);
	json_decref(old);
	json_decref(all);
	return r;
}

/* --- either --- */

static bool in_file(const struct postgres_source *src)
{
	return src->config->snapshot_state_backend == POSTGRES_STATE_FILE;
}

static int store(struct postgres_source *src, struct duct_error *err)
{
	return in_file(src) ? write_file_rows(src, src->backfill.rows, err) : write_rows(src, src->backfill.rows, err);
}

static json_t *row_of(const struct postgres_source *src, const char *table)
{
	size_t i;
	json_t *row;
	json_array_foreach(src->backfill.rows, i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "table_name")), table) == 0)
			return row;
	}
	return NULL;
}

static bool has_status(const json_t *row, const char *status)
{
	return row && strcmp(json_string_value(json_object_get(row, "status")), status) == 0;
}

static void set_row(struct postgres_source *src, const char *table, size_t parts, const char *status)
{
	json_t *row = row_of(src, table);
	if (!row) {
		row = json_pack("{s:s,s:s}", "flow_id", src->flow_id, "table_name", table);
		json_array_append_new(src->backfill.rows, row);
	}
	json_object_set_new(row, "partition_count", json_integer(parts ? (json_int_t)parts : 1));
	json_object_set_new(row, "status", json_string(status));
}

/* The backfill that is there is another one, or at its end: what was done belongs to that. */
static void forget_done(struct postgres_source *src)
{
	for (size_t i = json_array_size(src->backfill.rows); i-- > 0;)
		if (has_status(json_array_get(src->backfill.rows, i), "done"))
			json_array_remove(src->backfill.rows, i);
}

/* Tables that are done leave the list. */
static void skip_done(struct postgres_source *src)
{
	struct postgres_backfill *b = &src->backfill;
	size_t left = 0;
	for (size_t i = 0; i < b->n; i++) {
		if (!has_status(row_of(src, b->tables[i].name), "done")) {
			b->tables[left++] = b->tables[i];
			continue;
		}
		log_info(src->ctx->log, "the backfill goes on: a table is done already", LOG_STR("table", b->tables[i].name));
		free(b->tables[i].name);
	}
	b->n = left;
}

static int begin(struct postgres_source *src, struct duct_error *err)
{
	struct postgres_backfill *b = &src->backfill;
	bool goes_on = false;
	int r = in_file(src) ? read_file_rows(src, b->rows, err) : read_rows(src, b->rows, err);
	if (r)
		return r;
	for (size_t i = 0; i < b->n; i++)
		goes_on |= has_status(row_of(src, b->tables[i].name), "running");
	if (goes_on)
		skip_done(src);
	else
		forget_done(src);
	for (size_t i = 0; i < b->n; i++)
		set_row(src, b->tables[i].name, 1, "running");
	return store(src, err);
}

int postgres_snapshot_state_begin(struct postgres_source *src, struct duct_error *err)
{
	struct postgres_backfill *b = &src->backfill;
	if (src->config->snapshot_state_backend == POSTGRES_STATE_NONE)
		return 0;
	struct duct_error why = {0};
	b->rows = json_array();
	b->kept = begin(src, &why) == 0;
	if (b->kept)
		return 0;
	if (in_file(src) || why.class == DUCT_RETRY || why.class == DUCT_CANCELLED) {
		*err = why;
		return duct_wrap(err, "what a backfill has done");
	}
	log_warn(src->ctx->log, "what the backfill has done is not kept: should it be interrupted, it begins anew",
		 LOG_STR("reason", why.message));
	return 0;
}

int postgres_snapshot_state_set(struct postgres_source *src, const struct duct_snapshot *snap, size_t from, size_t to, bool done,
				struct duct_error *err)
{
	if (!src->backfill.kept)
		return 0;
	for (size_t i = from; i < to; i++) {
		const struct duct_relation *rel = snap->relations[i];
		AUTO_FREE char *name = duct_xasprintf("%s.%s", rel->schema, rel->name);
		size_t parts = 0;
		for (size_t k = 0; k < snap->nparts; k++)
			parts += snap->parts[k].table == (int)i;
		set_row(src, name, parts, done ? "done" : "running");
	}
	return store(src, err);
}

void postgres_backfill_done(struct postgres_backfill *b)
{
	for (size_t i = b->next; i < b->n; i++)
		free(b->tables[i].name);
	free(b->tables);
	json_decref(b->rows);
	pg_session_close(b->session);
	*b = (struct postgres_backfill){0};
}
