/* The steps of one copy: see table.h. */
#include "copy/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/killpoint.h"
#include "copy/ask.h"
#include "copy/delta.h"
#include "copy/since.h"
#include "copy/verify.h"
#include "duck/types.h"
#include "land/land.h"

enum { ATTEMPTS = 2, BUSY_MS = 30000, MOST_IDENTITY = 1000 };

/* One attempt. */
struct copying {
	const struct copy_session *s;
	const struct copy_table *table;
	struct duct_arena *arena;
	json_t *result;

	struct delta *delta;
	int64_t version;
	const char *mark; /* of its commit */
	struct delta_about about;
	struct lake *lake;
	struct duct_ctx ctx; /* of the lake */

	const char *source; /* a query: all rows of the pinned version */
	struct land_shape shape;
	struct land_target target;
	struct land_files files;
	const char *identity;
	const char *mode;
	const char *moved;	   /* a query: the rows that are to be moved */
	const char **columns;	   /* their names */
	struct duck_tap_sum *sums; /* of what was moved, per column */
	uint64_t rows;
	struct lake_file *old_files; /* that stay */
	size_t nold_files;
};

static void step(const struct copying *c, const char *name)
{
	c->s->step(c->s->arg, name);
}

/* --- metadata --- */

/* A checkpoint has the table's metadata when no commit since has. */
static void read_checkpoint(struct copying *c, int64_t checkpoint)
{
	AUTO_BUF struct duct_buf sql = {0}, pattern = {0};
	struct copy_rows rows;
	struct duct_error ignored;
	duct_buf_printf(&pattern, "%s/_delta_log/%020" PRId64 ".checkpoint*.parquet", delta_uri(c->delta), checkpoint);
	duct_buf_puts(&sql,
		      "SELECT metaData.id, metaData.partitionColumns[1], "
		      "map_extract(metaData.configuration, 'delta.columnMapping.mode')[1] FROM read_parquet(");
	duct_buf_sql_literal(&sql, pattern.data);
	duct_buf_puts(&sql, ") WHERE metaData.id IS NOT NULL");
	if (copy_ask(c->s->conn, sql.data, 1, c->arena, &rows, &ignored) < 0 || rows.n == 0)
		return;
	c->about = (struct delta_about){
		.id = rows.values[0] ? rows.values[0] : "",
		.partition_column = rows.values[1],
		.mapped = rows.values[2] && strcmp(rows.values[2], "none") != 0,
	};
}

static void tell_columns(struct copying *c)
{
	json_t *columns = json_array();
	for (int i = 0; i < c->shape.ncolumns; i++) {
		AUTO_BUF struct duct_buf type = {0};
		duck_sql_type(&type, c->shape.columns[i].type);
		json_array_append_new(columns, json_pack("{s:s,s:s}", "name", c->shape.columns[i].name, "type", type.data));
	}
	json_object_set_new(c->result, "columns", columns);
}

static int pin(struct copying *c, struct duct_error *err)
{
	int64_t checkpoint;
	if (delta_open(&c->delta, c->table->names.source_table_uri, c->s->s3, err) < 0 ||
	    delta_version(c->delta, &c->version, &checkpoint, err) < 0)
		return -(int)err->class;
	c->mark = delta_mark(c->delta, c->version, c->arena);
	int found = delta_about(c->delta, c->version, checkpoint + 1, c->arena, &c->about, err);
	if (found < 0)
		return found;
	if (!found)
		read_checkpoint(c, checkpoint);
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "SELECT * FROM system.main.delta_scan(");
	duct_buf_sql_literal(&sql, delta_uri(c->delta));
	duct_buf_printf(&sql, ", version => %" PRId64 ")", c->version);
	c->source = duct_arena_strdup(c->arena, sql.data);
	json_object_set_new(c->result, "delta_version", json_integer(c->version));
	if (land_shape(c->s->conn, c->source, c->arena, &c->shape, err) < 0)
		return duct_wrap(err, "read version %" PRId64 " of \"%s\"", c->version, delta_uri(c->delta));
	tell_columns(c);
	if (c->shape.casts)
		c->s->log("info", "%s: columns of other types in the lake: %s", c->target.table, c->shape.casts);
	return 0;
}

static int open_lake(struct copying *c, struct duct_error *err)
{
	const struct duck_lake *lake = &c->s->settings->lake;
	AUTO_FREE char *flow = duct_xasprintf("copy/%s.%s", c->target.schema, c->target.table);
	c->ctx = *c->s->ctx;
	c->ctx.flow = duct_arena_strdup(c->arena, flow);
	struct lake_config config = {
		.catalog = lake->catalog,
		.metadata_schema = lake->metadata_schema,
		.data_path = lake->data_path,
		.remote = true,
		.flow = c->ctx.flow,
		.create = true,
		.create_indexes = true,
		.busy_timeout_ms = BUSY_MS,
	};
	if (lake_open(&c->lake, &config, &c->ctx, err) < 0)
		return -(int)err->class;
	lake_use_s3(c->lake, c->s->s3);
	return 0;
}

/* --- what is to be moved --- */

static const char *new_identity(const struct copying *c)
{
	json_t *now = json_pack("{s:s,s:I,s:s,s:s,s:s}", "source", delta_uri(c->delta), "version", (json_int_t)c->version, "commit",
				c->mark, "delta_id", c->about.id, "owner", c->table->owner);
	AUTO_FREE char *text = json_dumps(now, JSON_COMPACT);
	json_decref(now);
	/* Without it the next copy moves everything. */
	return text && strlen(text) < MOST_IDENTITY ? duct_arena_strdup(c->arena, text) : "";
}

/* Sets mode and moved. */
static int plan(struct copying *c, struct duct_error *err)
{
	struct copy_since since = {
		.lake = c->lake,
		.delta = c->delta,
		.version = c->version,
		.about = &c->about,
		.target = &c->target,
		.shape = &c->shape,
		.conn = c->s->conn,
		.owner = c->table->owner,
		.arena = c->arena,
	};
	int rc = copy_since(&since, err);
	if (rc < 0)
		return rc;
	if (since.why)
		c->s->log("info", "%s: everything is copied: %s", c->target.table, since.why);
	c->mode = since.mode == COPY_ALL ? "full" : since.mode == COPY_ADDED ? "append" : "unchanged";
	c->target.replace = since.mode == COPY_ALL;
	c->old_files = since.files;
	c->nold_files = since.nfiles;
	c->moved = since.mode == COPY_ADDED ? since.added : c->source;
	json_object_set_new(c->result, "mode", json_string(c->mode));
	return 0;
}

/* --- copy, verify, commit --- */

/* Old files that a client has merged or rewritten have columns of the lake's own (_ducklake_internal_...), too: a new file
 * comes first and says what the columns are, without a look into the others for that. */
static void put_files(struct duct_buf *to, const struct copying *c, bool old)
{
	const char *comma = "";
	if (c->files.n + (old ? c->nold_files : 0) == 0) {
		duct_buf_printf(to, "SELECT * FROM (%s) LIMIT 0", c->shape.select);
		return;
	}
	duct_buf_puts(to, "SELECT ");
	for (int i = 0; i < c->shape.ncolumns; i++) {
		duct_buf_puts(to, i ? ", " : "");
		duct_buf_sql_ident(to, c->columns[i]);
	}
	duct_buf_puts(to, " FROM read_parquet([");
	for (size_t i = 0; i < c->files.n; i++, comma = ", ") {
		duct_buf_puts(to, comma);
		duct_buf_sql_literal(to, c->files.files[i]->path);
	}
	for (size_t i = 0; old && i < c->nold_files; i++, comma = ", ") {
		duct_buf_puts(to, comma);
		duct_buf_sql_literal(to, c->old_files[i].path);
	}
	duct_buf_printf(to, "], union_by_name => %s, hive_partitioning => false)", c->files.n ? "false" : "true");
}

/* In the words of the failed checks. */
static int refuse(const struct copying *c, const json_t *checks, int failed, struct duct_error *err)
{
	AUTO_BUF struct duct_buf told = {0};
	size_t i;
	json_t *check;
	json_array_foreach((json_t *)(uintptr_t)checks, i, check)
	{
		const char *why = json_string_value(json_object_get(check, "error")),
			   *observed = json_string_value(json_object_get(check, "observed_value"));
		if (!json_is_true(json_object_get(check, "passed")))
			duct_buf_printf(&told, "; %s: %.300s%.60s", json_string_value(json_object_get(check, "name")),
					why ? why : "observed ",
					why		   ? ""
						: observed ? observed
							   : "nothing");
	}
	return duct_fail(err, DUCT_DATA, "%d check%s of \"%s\".\"%s\" failed, so it stays as it was%.600s", failed,
			 failed == 1 ? "" : "s", c->target.schema, c->target.table, told.data ? told.data : "");
}

static int verify(struct copying *c, struct duct_error *err)
{
	struct copy_checks checks;
	AUTO_BUF struct duct_buf files = {0}, table = {0};
	json_t *results = NULL;
	int failed;
	if (copy_checks_load(c->s->checks_path, c->table->names.model_label, c->arena, &checks, err) < 0)
		return -(int)err->class;
	put_files(&files, c, false);
	put_files(&table, c, true);
	struct copy_verify v = {
		.conn = c->s->conn,
		.tap = c->s->tap,
		.kind = c->s->kind,
		.names = &c->table->names,
		.checks = &checks,
		.source = c->shape.select,
		.rows = c->rows,
		.sums = c->sums,
		.columns = c->columns,
		.ncolumns = c->shape.ncolumns,
		.files = files.data,
		.table = table.data,
		.version = c->version,
		.partition_column = c->about.partition_column,
		.arena = c->arena,
	};
	if (copy_verify(&v, &results, &failed, err) < 0)
		return -(int)err->class;
	json_object_set_new(c->result, "checks", results);
	return failed ? refuse(c, results, failed, err) : 0;
}

static int commit(struct copying *c, struct duct_error *err)
{
	struct land_result landed;
	AUTO_FREE char *message = duct_xasprintf("ductstream copy of version %" PRId64, c->version);
	c->target.identity = c->identity;
	if (land_commit(c->lake, &c->target, &c->shape, &c->files, message, &landed, err) < 0)
		return -(int)err->class;
	duct_kill_point("copy-committed");
	json_object_set_new(c->result, "snapshot_id", json_integer(landed.snapshot_id));
	return 0;
}

static void tell_files(struct copying *c)
{
	json_object_set_new(c->result, "files", json_integer((json_int_t)c->files.n));
	json_object_set_new(c->result, "rows", json_integer(c->files.rows));
	json_object_set_new(c->result, "bytes", json_integer(c->files.bytes));
}

/* The rows are read once: what they are is summed up on their way into the files. */
static int write_files(struct copying *c, struct duct_error *err)
{
	AUTO_BUF struct duct_buf tapped = {0};
	struct land_shape shape = c->shape;
	if (!c->target.replace && land_shape(c->s->conn, c->moved, c->arena, &shape, err) < 0)
		return -(int)err->class;
	c->columns = duct_arena_alloc(c->arena, ((size_t)shape.ncolumns + 1) * sizeof *c->columns);
	for (int i = 0; i < shape.ncolumns; i++)
		c->columns[i] = shape.columns[i].name;
	duck_tap_put(&tapped, shape.select, c->columns, shape.ncolumns);
	shape.select = tapped.data;
	duck_tap_begin(c->s->tap, shape.ncolumns);
	if (land_write(c->s->conn, c->lake, &c->target, &shape, &c->files, err) < 0)
		return -(int)err->class;
	size_t size = (size_t)shape.ncolumns * sizeof *c->sums;
	c->sums = duct_arena_alloc(c->arena, size + 1);
	memcpy(c->sums, duck_tap_sums(c->s->tap, &c->rows), size);
	return 0;
}

/* What was added may not be what there is more (a file given twice is one file in Delta): the version itself is asked how many rows it has. */
static bool makes_up_the_table(struct copying *c)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored; /* the checks say it */
	int64_t there, ours = c->files.rows;
	for (size_t i = 0; i < c->nold_files; i++)
		ours += c->old_files[i].record_count;
	duct_buf_printf(&sql, "SELECT count(*) FROM (%s)", c->source);
	return duck_number(c->s->conn, sql.data, &there, &ignored) < 0 || there == ours;
}

static void plan_all(struct copying *c)
{
	c->s->log("info", "%s: everything is copied: the files added since do not make up the table", c->target.table);
	land_files_done(&c->files);
	c->mode = "full";
	c->moved = c->source;
	c->target.replace = true;
	c->nold_files = 0;
	json_object_set_new(c->result, "mode", json_string(c->mode));
}

static int move(struct copying *c, struct duct_error *err)
{
	step(c, "copy");
	if (write_files(c, err) < 0)
		return -(int)err->class;
	if (!c->target.replace && !makes_up_the_table(c)) {
		plan_all(c);
		if (write_files(c, err) < 0)
			return -(int)err->class;
	}
	tell_files(c);
	duct_kill_point("copy-written");
	step(c, "verify");
	if (verify(c, err) < 0)
		return -(int)err->class;
	duct_kill_point("copy-verified");
	step(c, "commit");
	return commit(c, err);
}

static int attempt(struct copying *c, struct duct_error *err)
{
	step(c, "metadata");
	if (pin(c, err) < 0 || open_lake(c, err) < 0)
		return -(int)err->class;
	c->identity = new_identity(c);
	if (plan(c, err) < 0)
		return -(int)err->class;
	if (strcmp(c->mode, "unchanged") == 0) {
		tell_files(c);
		return 0;
	}
	return move(c, err);
}

static int once(const struct copy_session *session, const struct copy_table *table, struct duct_arena *arena, json_t *result,
		struct duct_error *err)
{
	struct copying c = {
		.s = session,
		.table = table,
		.arena = arena,
		.result = result,
		.target = {.schema = table->names.schema_name, .table = table->names.table_name},
	};
	int rc = attempt(&c, err);
	land_files_done(&c.files);
	lake_close(c.lake);
	delta_close(c.delta);
	return rc;
}

int copy_table(const struct copy_session *session, const struct copy_table *table, struct duct_arena *arena, json_t **ret_result,
	       struct duct_error *err)
{
	AUTO_FREE char *name = duct_xasprintf("%s.%s", table->names.schema_name, table->names.table_name);
	json_t *result = *ret_result = json_pack("{s:s,s:s,s:s}", "model", table->names.model_label, "table", name, "source",
						 table->names.source_table_uri);
	int rc = -DUCT_RETRY;
	for (int i = 1; i <= ATTEMPTS && rc == -DUCT_RETRY; i++) {
		rc = once(session, table, arena, result, err);
		if (rc == -DUCT_RETRY && i < ATTEMPTS)
			session->log("warn", "%s: tried again: %s", name, err->message);
	}
	return rc < 0 ? duct_wrap(err, "copy of \"%s\" to \"%s\"", table->names.source_table_uri, name) : 0;
}
