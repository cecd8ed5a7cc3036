/*
 * The database file, and what we keep in it about flows: schema ductstream_meta with the tables checkpoint (a row per flow) and
 * relation (a row per source table of a flow). See duckdb.h.
 */
#include "destination/duckdb/duckdb.h"

#include "base/clock.h"
#include "base/killpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static bool in_memory(const struct duckdb_dest *d)
{
	return strcmp(d->config->dsn, ":memory:") == 0;
}

/* --- types as JSON: {"k": "decimal(0,0)", "p": 12, "s": 2, "n": "name", "c": [...]} --- */

static void kind_name(struct duct_buf *to, enum duct_kind kind)
{
	to->len = 0;
	duct_type_print(to, &(struct duct_type){.kind = kind});
}

static json_t *type_to_json(const struct duct_type *type)
{
	AUTO_BUF struct duct_buf kind = {0};
	kind_name(&kind, type->kind);
	json_t *to = json_pack("{s:s, s:i, s:i}", "k", kind.data, "p", type->precision, "s", type->scale);
	if (type->name)
		json_object_set_new(to, "n", json_string(type->name));
	if (type->nchildren)
		json_object_set_new(to, "c", json_array());
	for (int i = 0; i < type->nchildren; i++)
		json_array_append_new(json_object_get(to, "c"), type_to_json(&type->children[i]));
	return to;
}

static bool type_from_json(struct duct_arena *arena, const json_t *from, struct duct_type *ret)
{
	AUTO_BUF struct duct_buf kind = {0};
	const char *wanted = json_string_value(json_object_get(from, "k")), *name = json_string_value(json_object_get(from, "n"));
	const json_t *children = json_object_get(from, "c");
	*ret = (struct duct_type){
		.precision = (uint8_t)json_integer_value(json_object_get(from, "p")),
		.scale = (uint8_t)json_integer_value(json_object_get(from, "s")),
		.nchildren = (uint16_t)json_array_size(children),
		.name = name ? duct_arena_strdup(arena, name) : NULL,
	};
	for (int k = DUCT_BOOL; k <= DUCT_MAP && wanted && !ret->kind; k++) {
		kind_name(&kind, (enum duct_kind)k);
		if (strcmp(kind.data, wanted) == 0)
			ret->kind = (enum duct_kind)k;
	}
	struct duct_type *made = ret->nchildren ? duct_arena_zalloc(arena, ret->nchildren * sizeof *made) : NULL;
	ret->children = made;
	for (size_t i = 0; i < ret->nchildren; i++)
		if (!type_from_json(arena, json_array_get(children, i), &made[i]))
			return false;
	return ret->kind != 0;
}

/* --- reading --- */

/* Calls row() for each row with its `n` texts, which it may take. */
static int read_texts(struct duckdb_dest *d, const char *sql, int n, int (*row)(struct duckdb_dest *, char **, struct duct_error *),
		      struct duct_error *err)
{
	duckdb_result result;
	int rc = duck_query(d->conn, sql, &result, err);
	if (rc)
		return rc;
	AUTO_FREE char **texts = duct_xcalloc((size_t)n, sizeof *texts);
	for (duckdb_data_chunk chunk; rc == 0 && (chunk = duckdb_fetch_chunk(result)); duckdb_destroy_data_chunk(&chunk))
		for (idx_t r = 0; r < duckdb_data_chunk_get_size(chunk) && rc == 0; r++) {
			for (int i = 0; i < n; i++)
				texts[i] = duck_text_at(duckdb_data_chunk_get_vector(chunk, (idx_t)i), r, NULL);
			rc = row(d, texts, err);
			for (int i = 0; i < n; i++)
				free(texts[i]);
		}
	duckdb_destroy_result(&result);
	return rc;
}

static const struct {
	enum duct_flow_state state;
	const char *name;
} states[] = {{DUCT_STATE_NONE, "none"}, {DUCT_STATE_COPYING, "copying"}, {DUCT_STATE_STREAMING, "streaming"}};

/* epoch, owner, state, lsn, commit_us, source_identity */
static int take_checkpoint(struct duckdb_dest *d, char **f, struct duct_error *err)
{
	struct duct_ownership *own = d->ctx->ownership;
	d->epoch = strtoll(f[0], NULL, 10);
	if (own && own->epoch && strcmp(f[1], own->token) != 0)
		return duct_fail(err, DUCT_FATAL,
				 "flow \"%s\" has another owner now (epoch %" PRId64 ", ours was %" PRId64 "): this run has ended",
				 d->ctx->flow, d->epoch, own->epoch);
	for (size_t i = 0; i < DUCT_LEN(states); i++)
		if (strcmp(f[2], states[i].name) == 0)
			d->checkpoint.state = states[i].state;
	d->checkpoint.pos = (struct duct_pos){strtoull(f[3], NULL, 10), strtoll(f[4], NULL, 10)};
	snprintf(d->checkpoint.source_identity, sizeof d->checkpoint.source_identity, "%s", f[5]);
	return 0;
}

static int take_columns(struct dd_table *t, const char *text, struct duct_error *err)
{
	json_t *all = json_loads(text, 0, NULL), *c;
	size_t i;
	bool ok = all != NULL;
	json_array_foreach(all, i, c)
	{
		struct duct_type type;
		const char *name = json_string_value(json_array_get(c, 1));
		if (!name || !type_from_json(&t->arena, json_array_get(c, 2), &type)) {
			ok = false;
			break;
		}
		dd_table_add_column(t, name, &type, (int16_t)json_integer_value(json_array_get(c, 0)),
				    json_is_true(json_array_get(c, 3)));
	}
	json_decref(all);
	return ok ? 0
		  : duct_fail(err, DUCT_FATAL, "the row of \"%s\".\"%s\" in ductstream_meta.relation is damaged", t->source_schema,
			      t->source);
}

/* source_oid, source_schema, source_name, target_schema, target_name, columns, state, recopies */
static int take_relation(struct duckdb_dest *d, char **f, struct duct_error *err)
{
	struct dd_table *t = dd_table_new(d, (uint32_t)strtoul(f[0], NULL, 10));
	char **own[] = {&t->source_schema, &t->source, &t->schema, &t->name};
	for (size_t i = 0; i < DUCT_LEN(own); i++)
		*own[i] = duct_steal(&f[1 + i]);
	t->incomplete = strcmp(f[6], "incomplete") == 0;
	t->copy_again = strcmp(f[6], "copy again") == 0;
	t->gone = strcmp(f[6], "gone") == 0;
	t->recopies = atoi(f[7]);
	return take_columns(t, f[5], err);
}

/* --- opening --- */

static void make_parent_name(struct duct_buf *to, const char *path)
{
	const char *slash = strrchr(path, '/');
	duct_buf_append(to, slash ? path : ".", slash ? (size_t)(slash - path) : 1);
}

int dd_open(struct duckdb_dest *d, struct duct_error *err)
{
	if (d->conn)
		return 0;
	d->db = in_memory(d) ? duck_open() : d->read_only ? duck_open_read_only(d->config->dsn) : duck_open_file(d->config->dsn);
	d->conn = duck_connect(d->db);
	AUTO_FREE char *limit = duct_xasprintf("SET memory_limit = '%" PRId64 "B'", d->config->memory_limit);
	int rc = duck_exec(d->conn, limit, err);
	if (rc) {
		AUTO_BUF struct duct_buf folder = {0};
		make_parent_name(&folder, d->config->dsn);
		dd_release(d);
		return rc == -DUCT_CONFIG ? duct_wrap(err, "option \"dsn\" (in folder \"%s\")", folder.data) : rc;
	}
	return 0;
}

void dd_release(struct duckdb_dest *d)
{
	duck_disconnect(d->conn);
	duck_close(d->db);
	d->conn = NULL;
	d->db = NULL;
	d->in_transaction = false;
}

static int make_tables(struct duckdb_dest *d, struct duct_error *err)
{
	return duck_exec(
		d->conn,
		"CREATE SCHEMA IF NOT EXISTS ductstream_meta;"
		"CREATE TABLE IF NOT EXISTS ductstream_meta.checkpoint(flow VARCHAR, epoch BIGINT, owner VARCHAR, state VARCHAR,"
		" lsn UBIGINT, commit_us BIGINT, source_identity VARCHAR, commits BIGINT, updated_at TIMESTAMPTZ);"
		"CREATE TABLE IF NOT EXISTS ductstream_meta.relation(flow VARCHAR, source_oid UINTEGER, source_schema VARCHAR,"
		" source_name VARCHAR, target_schema VARCHAR, target_name VARCHAR, columns VARCHAR, state VARCHAR, recopies INTEGER)",
		err);
}

static void where_flow(struct duct_buf *to, const struct duckdb_dest *d)
{
	duct_buf_puts(to, " WHERE flow = ");
	duct_buf_sql_literal(to, d->ctx->flow);
}

static int read_stored(struct duckdb_dest *d, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	d->epoch = 0;
	d->checkpoint = (struct duct_checkpoint){0};
	duct_buf_puts(
		&sql,
		"SELECT epoch::VARCHAR, owner, state, lsn::VARCHAR, commit_us::VARCHAR, source_identity FROM ductstream_meta.checkpoint");
	where_flow(&sql, d);
	int rc = read_texts(d, sql.data, 6, take_checkpoint, err);
	if (rc)
		return rc;
	dd_tables_free(d);
	sql.len = 0;
	duct_buf_puts(
		&sql,
		"SELECT source_oid::VARCHAR, source_schema, source_name, target_schema, target_name, columns, state, recopies::VARCHAR"
		" FROM ductstream_meta.relation");
	where_flow(&sql, d);
	return read_texts(d, sql.data, 8, take_relation, err);
}

int dd_look(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = dd_open(d, err);
	return rc ? rc : read_stored(d, err);
}

static int raise_epoch(struct duckdb_dest *d, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_ownership *own = d->ctx->ownership;
	if (own && !own->token[0])
		duct_uuid_v4(own->token);
	if (!d->epoch) {
		duct_buf_puts(&sql, "INSERT INTO ductstream_meta.checkpoint VALUES (");
		duct_buf_sql_literal(&sql, d->ctx->flow);
		duct_buf_puts(&sql, ", 0, '', 'none', 0, 0, '', 0, now());");
	}
	d->epoch++;
	duct_buf_printf(&sql, "UPDATE ductstream_meta.checkpoint SET epoch = %" PRId64 ", owner = ", d->epoch);
	duct_buf_sql_literal(&sql, own ? own->token : "");
	where_flow(&sql, d);
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc == 0 && own)
		own->epoch = d->epoch;
	return rc;
}

int dd_take_over(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = dd_begin(d, err);
	if (rc == 0)
		rc = make_tables(d, err);
	if (rc == 0)
		rc = read_stored(d, err);
	if (rc == 0)
		rc = raise_epoch(d, err);
	if (rc == 0)
		rc = duck_exec(d->conn, "COMMIT", err);
	if (rc) {
		dd_rollback(d);
		return rc;
	}
	d->in_transaction = false;
	duct_kill_point("epoch-raised");
	return 0;
}

/* --- transactions --- */

int dd_begin(struct duckdb_dest *d, struct duct_error *err)
{
	int rc = dd_open(d, err);
	if (rc || d->in_transaction)
		return rc;
	rc = duck_exec(d->conn, "BEGIN", err);
	d->in_transaction = rc == 0;
	return rc;
}

void dd_rollback(struct duckdb_dest *d)
{
	struct duct_error ignored;
	if (d->in_transaction && duck_exec(d->conn, "ROLLBACK", &ignored))
		dd_release(d); /* closing it ends the transaction */
	d->in_transaction = false;
}

static const char *state_name(const struct dd_table *t)
{
	return t->gone ? "gone" : t->copy_again ? "copy again" : t->incomplete ? "incomplete" : "streaming";
}

static void put_columns(struct duct_buf *to, const struct dd_table *t)
{
	json_t *all = json_array();
	for (size_t i = 0; i < t->ncolumns; i++) {
		const struct dd_column *c = &t->columns[i];
		json_array_append_new(all, json_pack("[i, s, o, b]", c->attnum, c->name, type_to_json(&c->type), c->key));
	}
	char *text = json_dumps(all, JSON_COMPACT);
	duct_buf_sql_literal(to, text);
	free(text);
	json_decref(all);
}

static int store_table(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	const char *texts[] = {t->source_schema, t->source, t->schema, t->name};
	duct_buf_puts(&sql, "DELETE FROM ductstream_meta.relation");
	where_flow(&sql, d);
	duct_buf_printf(&sql, " AND source_oid = %u; INSERT INTO ductstream_meta.relation VALUES (", t->oid);
	duct_buf_sql_literal(&sql, d->ctx->flow);
	duct_buf_printf(&sql, ", %u", t->oid);
	for (size_t i = 0; i < DUCT_LEN(texts); i++) {
		duct_buf_puts(&sql, ", ");
		duct_buf_sql_literal(&sql, texts[i]);
	}
	duct_buf_puts(&sql, ", ");
	put_columns(&sql, t);
	duct_buf_printf(&sql, ", '%s', %d)", state_name(t), t->recopies);
	return duck_exec(d->conn, sql.data, err);
}

static int store_position(struct duckdb_dest *d, enum duct_flow_state state, const struct duct_pos *pos,
			  const char *source_identity, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	uint64_t changed;
	duct_buf_printf(&sql,
			"UPDATE ductstream_meta.checkpoint SET state = '%s', lsn = %" PRIu64 ", commit_us = %" PRId64
			", source_identity = ",
			states[state].name, pos->lsn, pos->commit_us);
	duct_buf_sql_literal(&sql, source_identity);
	duct_buf_puts(&sql, ", commits = commits + 1, updated_at = now()");
	where_flow(&sql, d);
	duct_buf_printf(&sql, " AND epoch = %" PRId64, d->epoch);
	int rc = duck_change(d->conn, sql.data, &changed, err);
	if (rc || changed == 1)
		return rc;
	return duct_fail(err, DUCT_FATAL, "flow \"%s\" has another owner now (ours was epoch %" PRId64 "): this run has ended",
			 d->ctx->flow, d->epoch);
}

int dd_commit(struct duckdb_dest *d, enum duct_flow_state state, const struct duct_pos *pos, const char *source_identity,
	      struct duct_error *err)
{
	int rc = dd_begin(d, err);
	for (size_t i = 0; i < d->ntables && rc == 0; i++)
		if (d->tables[i]->changed)
			rc = store_table(d, d->tables[i], err);
	if (rc == 0)
		rc = store_position(d, state, pos, source_identity, err);
	if (rc)
		return rc;
	duct_kill_point("duckdb-applied");
	rc = duck_exec(d->conn, "COMMIT", err);
	if (rc)
		return rc;
	duct_kill_point("duckdb-committed");
	d->in_transaction = false;
	d->checkpoint.state = state;
	d->checkpoint.pos = *pos;
	if (source_identity != d->checkpoint.source_identity)
		snprintf(d->checkpoint.source_identity, sizeof d->checkpoint.source_identity, "%s", source_identity);
	for (size_t i = 0; i < d->ntables; i++)
		d->tables[i]->changed = d->tables[i]->modified = false;
	return 0;
}

int dd_store_copy_again(struct duckdb_dest *d, uint32_t oid, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int rc = dd_open(d, err);
	if (rc)
		return rc;
	duct_buf_puts(&sql, "UPDATE ductstream_meta.relation SET state = 'copy again', recopies = recopies + 1");
	where_flow(&sql, d);
	duct_buf_printf(&sql, " AND source_oid = %u AND EXISTS (FROM ductstream_meta.checkpoint", oid);
	where_flow(&sql, d);
	duct_buf_printf(&sql, " AND epoch = %" PRId64 ")", d->epoch);
	return duck_exec(d->conn, sql.data, err);
}
