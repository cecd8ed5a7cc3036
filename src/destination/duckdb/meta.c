/*
 * The meta table: for every key of every keyed table a row that says when it was last changed, how, where in the log, and whether the row
 * is deleted at the source; and the key, as JSON and as texts. See duckdb.h, docs/duckdb.md.
 */
#include "destination/duckdb/duckdb.h"

#include "record/format.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

enum { KEY_JSON, OPERATION, DELETED, LSN, FIXED };

static const struct duct_type text = {.kind = DUCT_VARCHAR}, flag = {.kind = DUCT_BOOL}, number = {.kind = DUCT_UINT64};

/* A row on its way: its values are made before SQL asks for them. */
struct meta_row {
	struct duct_cell cells[FIXED];
	struct duct_cell *keys;
};

struct meta_rows {
	struct duct_arena arena; /* of all that follows */
	const struct dd_table *t;
	struct meta_row *rows;
	size_t n;
};

static void meta_name(struct duct_buf *to, const struct duckdb_dest *d)
{
	dd_name(to, d->config->meta_schema, d->config->meta_table);
}

static bool is_wanted(const struct duckdb_dest *d, const struct dd_table *t)
{
	return d->config->meta_table_enabled && t->mode == DD_KEYED;
}

static void key_column(struct duct_buf *to, const struct duckdb_dest *d, const struct dd_table *t, int key)
{
	AUTO_FREE char *name = duct_xasprintf("%s%s", d->config->meta_pk_prefix, t->rel->columns[t->rel->keys[key]].name);
	duct_buf_sql_ident(to, name);
}

int dd_meta_prepare(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	if (!is_wanted(d, t) || t->meta_ready)
		return 0;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "CREATE SCHEMA IF NOT EXISTS ");
	duct_buf_sql_ident(&sql, d->config->meta_schema);
	duct_buf_puts(&sql, "; CREATE TABLE IF NOT EXISTS ");
	meta_name(&sql, d);
	duct_buf_puts(
		&sql,
		"(flow_id VARCHAR, source_schema VARCHAR, source_table VARCHAR, synced_at TIMESTAMPTZ, is_deleted BOOLEAN, lsn UBIGINT,"
		" operation VARCHAR, key_json VARCHAR)");
	for (int i = 0; i < t->rel->nkeys; i++) {
		duct_buf_puts(&sql, "; ALTER TABLE ");
		meta_name(&sql, d);
		duct_buf_puts(&sql, " ADD COLUMN IF NOT EXISTS ");
		key_column(&sql, d, t, i);
		duct_buf_puts(&sql, " VARCHAR");
	}
	int rc = duck_exec(d->conn, sql.data, err);
	t->meta_ready = rc == 0;
	return rc;
}

static void put_where(struct duct_buf *to, const struct duckdb_dest *d, const struct dd_table *t)
{
	duct_buf_puts(to, "flow_id = ");
	duct_buf_sql_literal(to, d->ctx->flow);
	duct_buf_puts(to, " AND source_schema = ");
	duct_buf_sql_literal(to, t->rel->schema);
	duct_buf_puts(to, " AND source_table = ");
	duct_buf_sql_literal(to, t->rel->name);
}

static struct duct_cell meta_cell(const void *arg, size_t row, int column)
{
	const struct meta_rows *m = arg;
	return column < FIXED ? m->rows[row].cells[column] : m->rows[row].keys[column - FIXED];
}

static int run(struct duckdb_dest *d, const struct meta_rows *m, const char *before, const char *after, struct duct_error *err)
{
	static const char *const names[FIXED] = {"key_json", "operation", "is_deleted", "lsn"};
	static const struct duct_type *const types[FIXED] = {&text, &text, &flag, &number};
	struct duct_arena arena = {0};
	struct dd_rows rows;
	uint64_t ignored;
	duct_arena_init(&arena);
	dd_rows_init(&rows, FIXED + m->t->rel->nkeys);
	for (int i = 0; i < rows.ncolumns; i++) {
		AUTO_FREE char *name = i < FIXED ? duct_xstrdup(names[i]) : duct_xasprintf("k%d", i - FIXED);
		rows.names[i] = duct_arena_strdup(&arena, name);
		rows.types[i] = i < FIXED ? types[i] : &text;
	}
	rows.n = m->n;
	rows.cell = meta_cell;
	rows.arg = m;
	int rc = dd_rows_run(d, &rows, before, after, &ignored, err);
	dd_rows_done(&rows);
	duct_arena_done(&arena);
	return rc ? duct_wrap(err, "meta table \"%s\".\"%s\"", d->config->meta_schema, d->config->meta_table) : 0;
}

static int insert(struct duckdb_dest *d, const struct meta_rows *m, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "INSERT INTO ");
	meta_name(&sql, d);
	duct_buf_puts(&sql, " (flow_id, source_schema, source_table, synced_at, is_deleted, lsn, operation, key_json");
	for (int i = 0; i < m->t->rel->nkeys; i++) {
		duct_buf_puts(&sql, ", ");
		key_column(&sql, d, m->t, i);
	}
	const char *const literals[] = {d->ctx->flow, m->t->rel->schema, m->t->rel->name};
	duct_buf_puts(&sql, ") SELECT ");
	for (size_t i = 0; i < DUCT_LEN(literals); i++) {
		duct_buf_sql_literal(&sql, literals[i]);
		duct_buf_puts(&sql, ", ");
	}
	duct_buf_puts(&sql, "now(), is_deleted, lsn, operation, key_json");
	for (int i = 0; i < m->t->rel->nkeys; i++)
		duct_buf_printf(&sql, ", k%d", i);
	duct_buf_puts(&sql, " FROM ");
	return run(d, m, sql.data, "", err);
}

static int delete (struct duckdb_dest *d, const struct meta_rows *m, struct duct_error *err)
{
	AUTO_BUF struct duct_buf before = {0}, after = {0};
	duct_buf_puts(&before, "DELETE FROM ");
	meta_name(&before, d);
	duct_buf_puts(&before, " AS t USING ");
	duct_buf_puts(&after, " AS f WHERE t.key_json = f.key_json AND t.");
	put_where(&after, d, m->t);
	return run(d, m, before.data, after.data, err);
}

static struct duct_cell keep(struct duct_arena *arena, const struct duct_buf *b)
{
	return (struct duct_cell){duct_arena_dup(arena, b->data, b->len), (uint32_t)b->len};
}

/* Adds a row; the key is read from columns at `at`. */
static void add(struct meta_rows *m, const struct duct_vector *columns, uint32_t at, const char *operation, bool deleted,
		uint64_t lsn)
{
	const struct duct_relation *rel = m->t->rel;
	AUTO_BUF struct duct_buf value = {0};
	struct meta_row *r = &m->rows[m->n++];
	wire_json_key_of(&value, rel, columns, at);
	char is_deleted = deleted;
	r->cells[KEY_JSON] = keep(&m->arena, &value);
	r->cells[OPERATION] = (struct duct_cell){operation, (uint32_t)strlen(operation)};
	r->cells[DELETED] = (struct duct_cell){duct_arena_dup(&m->arena, &is_deleted, 1), 1};
	r->cells[LSN] = (struct duct_cell){lsn ? duct_arena_dup(&m->arena, &lsn, sizeof lsn) : NULL, sizeof lsn};
	r->keys = duct_arena_alloc(&m->arena, (size_t)rel->nkeys * sizeof *r->keys);
	for (int i = 0; i < rel->nkeys; i++) {
		const struct duct_vector *v = &columns[rel->keys[i]];
		value.len = 0;
		duct_format_value(&value, v->type, duct_vector_cell(v, at));
		r->keys[i] = keep(&m->arena, &value);
	}
}

static void begin(struct meta_rows *m, const struct dd_table *t, size_t most)
{
	*m = (struct meta_rows){.t = t};
	duct_arena_init(&m->arena);
	m->rows = duct_arena_alloc(&m->arena, (most + 1) * sizeof *m->rows);
}

int dd_meta_apply(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	struct meta_rows m;
	int rc = dd_meta_prepare(d, t, err);
	if (rc || !is_wanted(d, t))
		return rc;
	begin(&m, t, t->fold->nslots);
	for (size_t i = 0; i < t->fold->nslots; i++) {
		const struct dd_slot *s = &t->slots[i];
		bool deleted = !t->fold->slots[i].live;
		add(&m, s->old ? s->batch->old : s->batch->columns, s->row, wire_operation(deleted ? DUCT_DELETE : s->op), deleted,
		    s->lsn);
	}
	rc = delete (d, &m, err);
	if (rc == 0)
		rc = insert(d, &m, err);
	duct_arena_done(&m.arena);
	return rc;
}

int dd_meta_load(struct duckdb_dest *d, struct dd_table *t, const struct duct_batch *batch, struct duct_error *err)
{
	struct meta_rows m;
	int rc = dd_meta_prepare(d, t, err);
	if (rc || !is_wanted(d, t) || !batch->rows)
		return rc;
	begin(&m, t, batch->rows);
	for (uint32_t i = 0; i < batch->rows; i++)
		add(&m, batch->columns, i, wire_operation(DUCT_READ), false, 0);
	rc = insert(d, &m, err);
	duct_arena_done(&m.arena);
	return rc;
}

int dd_meta_clear(struct duckdb_dest *d, const struct dd_table *t, uint64_t lsn, bool truncated, struct duct_error *err)
{
	if (!t->meta_ready)
		return 0;
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, truncated ? "UPDATE " : "DELETE FROM ");
	meta_name(&sql, d);
	if (truncated)
		duct_buf_printf(&sql, " SET is_deleted = true, operation = 'truncate', synced_at = now(), lsn = %" PRIu64, lsn);
	duct_buf_puts(&sql, " WHERE ");
	put_where(&sql, d, t);
	return duck_exec(d->conn, sql.data, err);
}
