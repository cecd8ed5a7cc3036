/*
 * Inlined rows out of the catalog: see inline.h. Scalars are parsed here; nested values, which the catalog has as DuckDB's
 * text, are cast by DuckDB, as the official client does it.
 */
#include "lake/inline.h"

#include "base/hex.h"
#include "base/order.h"
#include "duck/types.h"
#include "lake/lake.h"
#include "lake/parquet_internal.h"
#include "record/format.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK_ROWS = DUCK_VECTOR_ROWS };

static const struct lake_inlined_table *table_of(const struct lake *lake, int64_t table_id, int64_t schema_version)
{
	for (size_t i = 0; i < lake->model->ninlined; i++) {
		const struct lake_inlined_table *t = &lake->model->inlined[i];
		if (t->table_id == table_id && t->schema_version == schema_version)
			return t;
	}
	return NULL;
}

void lake_inlined_versions(const struct lake *lake, int64_t table_id, struct duct_arena *arena, int64_t **ret, size_t *ret_n)
{
	const struct lake_model *model = lake->model;
	*ret = duct_arena_alloc(arena, (model->ninlined + 1) * sizeof **ret);
	*ret_n = 0;
	for (size_t i = 0; i < model->ninlined; i++)
		if (model->inlined[i].table_id == table_id)
			(*ret)[(*ret_n)++] = model->inlined[i].schema_version;
	qsort(*ret, *ret_n, sizeof **ret, duct_compare_i64);
}

/* --- columns of a schema version --- */

struct column_rows {
	struct duct_arena *arena;
	struct lake_column_row *rows;
	size_t n, cap;
};

static int take_column(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct column_rows *c = arg;
	c->rows = duct_grow(c->rows, &c->cap, c->n + 1, sizeof *c->rows);
	c->rows[c->n++] = (struct lake_column_row){
		.id = lake_int(v[0], -1),
		.parent = lake_int(v[1], -1),
		.name = duct_arena_strdup(c->arena, v[2] ? v[2] : ""),
		.type = duct_arena_strdup(c->arena, v[3] ? v[3] : ""),
		.initial_default = v[4] ? duct_arena_strdup(c->arena, v[4]) : NULL,
		.nulls_allowed = true,
	};
	return 0;
}

int lake_inlined_columns(struct lake *lake, int64_t table_id, int64_t schema_version, struct duct_arena *arena,
			 struct lake_column **ret, int *ret_n, bool *ret_supported, struct duct_error *err)
{
	struct column_rows rows = {.arena = arena};
	long long table = table_id;
	/* Every change of columns has a row in ducklake_schema_versions; a table for inlined rows may be younger. */
	int rc = lake_queryf(lake->db, take_column, &rows, err,
			     "SELECT column_id, parent_column, column_name, column_type, initial_default FROM "
			     "@ducklake_column c, (SELECT max(begin_snapshot) AS at FROM @ducklake_schema_versions "
			     "WHERE table_id = %lld AND schema_version <= %lld) v WHERE table_id = %lld AND "
			     "begin_snapshot <= v.at AND (end_snapshot IS NULL OR end_snapshot > v.at) "
			     "ORDER BY column_order, column_id",
			     table, (long long)schema_version, table);
	if (rc == 0)
		lake_build_columns(arena, rows.rows, rows.n, ret, ret_n);
	free(rows.rows);
	if (rc < 0)
		return duct_wrap(err, "columns of inlined rows");
	*ret_supported = *ret_n > 0;
	for (int i = 0; i < *ret_n; i++)
		*ret_supported &= (*ret)[i].supported;
	return 0;
}

/* --- rows --- */

struct reading {
	struct lake *lake;
	struct duck_conn *conn;
	const struct lake_inlined_wanted *wanted;
	const struct lake_column *columns; /* of the inlined table */
	int ncolumns;
	const struct lake_column **stored; /* per wanted column as the inlined table has it; NULL: not in it */
	struct duct_buf *defaults;	   /* per wanted column: bytes of what it has when it is not stored */
	struct duct_relation *relation, *texts_relation;
	struct duct_batch *batch, *texts; /* texts: nested values to be cast */
	struct lake_inlined_row rows[CHUNK_ROWS];
	struct duct_buf value, cast;
	lake_inlined_fn *fn;
	void *arg;
	uint32_t fed;
};

static bool in_bytes(const struct duct_type *type)
{
	return type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON || type->kind == DUCT_BLOB;
}

static struct duct_relation *relation_of(const struct lake_inlined_wanted *wanted, bool texts)
{
	static const struct duct_type varchar = {.kind = DUCT_VARCHAR};
	struct duct_relation *rel = duct_relation_new();
	rel->schema = rel->name = "";
	rel->columns = duct_arena_zalloc(&rel->arena, ((size_t)wanted->ncolumns + 1) * sizeof *rel->columns);
	for (int i = 0; i < wanted->ncolumns; i++) {
		const struct duct_type *type = &wanted->columns[i]->type;
		if (texts && !duct_kind_is_nested(type->kind))
			continue;
		struct duct_column *c = &rel->columns[rel->ncolumns++];
		c->name = duct_arena_strdup(&rel->arena, wanted->columns[i]->name);
		c->type = texts ? varchar : duct_type_copy(&rel->arena, type);
		c->source_type = "";
	}
	return rel;
}

static void begin_chunk(struct reading *r)
{
	r->batch = duct_batch_new(r->relation, CHUNK_ROWS);
	r->texts = duct_batch_new(r->texts_relation, CHUNK_ROWS);
}

static void set_null(duckdb_vector vector, idx_t at)
{
	duckdb_vector_ensure_validity_writable(vector);
	duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), at);
}

static int feed_texts(void *arg, duckdb_data_chunk chunk, struct duct_error *err)
{
	struct reading *r = arg;
	(void)err;
	uint32_t n = r->texts->rows - r->fed;
	for (int c = 0; c < r->texts_relation->ncolumns; c++) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, (idx_t)c);
		for (uint32_t i = 0; i < n; i++) {
			struct duct_cell cell = duct_vector_cell(&r->texts->columns[c], i);
			if (cell.data)
				duckdb_vector_assign_string_element_len(vector, i, cell.data, cell.len);
			else
				set_null(vector, i);
		}
	}
	r->fed += n;
	duckdb_data_chunk_set_size(chunk, n);
	return 0;
}

static int take_cast(struct reading *r, duckdb_result *result)
{
	duckdb_data_chunk chunk;
	for (; (chunk = duckdb_fetch_chunk(*result)); duckdb_destroy_data_chunk(&chunk))
		for (int c = 0, nested = 0; c < r->wanted->ncolumns; c++)
			if (duct_kind_is_nested(r->wanted->columns[c]->type.kind))
				lake_take_vector(r->batch, &r->batch->columns[c],
						 duckdb_data_chunk_get_vector(chunk, (idx_t)nested++),
						 duckdb_data_chunk_get_size(chunk), NULL);
	return 0;
}

/* Nested values of the chunk: text to their own type. */
static int cast_texts(struct reading *r, struct duct_error *err)
{
	int n = r->texts_relation->ncolumns;
	if (!n)
		return 0;
	AUTO_FREE duckdb_type *types = duct_xcalloc((size_t)n, sizeof *types);
	AUTO_FREE const char **names = duct_xcalloc((size_t)n, sizeof *names);
	AUTO_FREE char(*texts)[16] = duct_xcalloc((size_t)n, sizeof *texts);
	AUTO_BUF struct duct_buf sql = {0}, list = {0};
	for (int c = 0, i = 0; c < r->wanted->ncolumns; c++) {
		const struct duct_type *type = &r->wanted->columns[c]->type;
		if (!duct_kind_is_nested(type->kind))
			continue;
		types[i] = DUCKDB_TYPE_VARCHAR;
		snprintf(texts[i], sizeof texts[i], "c%d", i);
		names[i] = texts[i];
		duct_buf_printf(&list, "%sCAST(c%d AS ", i ? ", " : "", i);
		duck_sql_type(&list, type);
		duct_buf_putc(&list, ')');
		i++;
	}
	struct duck_feed feed = {.ncolumns = n, .names = names, .types = types, .fill = feed_texts, .arg = r};
	duckdb_result result;
	r->fed = 0;
	int rc = duck_feed_open(r->conn, &feed, err);
	if (rc == 0) {
		duct_buf_printf(&sql, "SELECT %s FROM duck_feed(%d)", list.data, feed.id);
		rc = duck_query(r->conn, sql.data, &result, err);
		if (rc == 0) {
			rc = take_cast(r, &result);
			duckdb_destroy_result(&result);
		}
		duck_feed_close(r->conn);
	}
	return rc;
}

static int end_chunk(struct reading *r, struct duct_error *err)
{
	int rc = 0;
	if (r->batch->rows) {
		rc = cast_texts(r, err);
		duct_batch_seal(r->batch);
		if (rc == 0)
			rc = r->fn(r->arg, r->batch, r->rows, err);
	}
	duct_batch_unref(r->batch);
	duct_batch_unref(r->texts);
	r->batch = r->texts = NULL;
	return rc;
}

/* Digits of SQLite's hex(), or a bytea as Postgres prints it. */
static bool unhex(struct duct_buf *to, const char *text)
{
	text += text[0] == '\\' && text[1] == 'x' ? 2 : 0;
	char *at = duct_buf_room(to, strlen(text) / 2 + 1);
	for (; *text; text += 2) {
		int high = duct_hex_digit(text[0]), low = text[1] ? duct_hex_digit(text[1]) : -1;
		if (high < 0 || low < 0)
			return false;
		*at++ = (char)(high << 4 | low);
		to->len++;
	}
	return true;
}

static void append_bytes(struct duct_batch *batch, struct duct_vector *v, const char *p, size_t n)
{
	void *to = duct_vector_append(batch, v, (uint32_t)n);
	if (n)
		memcpy(to, p, n);
}

/* The text of a stored scalar as a value of the wanted column. */
static int take_scalar(struct reading *r, int c, const char *text, struct duct_error *err)
{
	const struct duct_type *from = &r->stored[c]->type, *into = &r->wanted->columns[c]->type;
	r->value.len = r->cast.len = 0;
	int rc = 0;
	if (!in_bytes(from))
		rc = duct_parse_value(&r->value, from, text, strlen(text), err);
	else if (!unhex(&r->value, text))
		rc = duct_fail(err, DUCT_FATAL, "bytes are not given in hex");
	const struct duct_buf *bytes = &r->value;
	if (rc == 0 && !duct_type_equal(from, into) && !(in_bytes(from) && in_bytes(into))) {
		rc = duct_cell_cast(&r->cast, from, (struct duct_cell){r->value.data, (uint32_t)r->value.len}, into, err);
		bytes = &r->cast;
	}
	if (rc == 0)
		append_bytes(r->batch, &r->batch->columns[c], bytes->data, bytes->len);
	return rc;
}

static int take_value(struct reading *r, int c, int *nested, const char *text, struct duct_error *err)
{
	const struct duct_type *into = &r->wanted->columns[c]->type;
	if (duct_kind_is_nested(into->kind)) {
		struct duct_vector *v = &r->texts->columns[(*nested)++];
		if (!r->stored[c] || !text)
			duct_vector_append_null(r->texts, v);
		else
			append_bytes(r->texts, v, text, strlen(text));
		return 0;
	}
	struct duct_vector *v = &r->batch->columns[c];
	if (!r->stored[c] && r->defaults[c].data)
		append_bytes(r->batch, v, r->defaults[c].data, r->defaults[c].len);
	else if (!r->stored[c] || !text)
		duct_vector_append_null(r->batch, v);
	else
		return take_scalar(r, c, text, err);
	return 0;
}

static int take_row(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set;
	struct reading *r = arg;
	int rc = 0, nested = 0, at = 3;
	if (!r->batch)
		begin_chunk(r);
	r->rows[r->batch->rows] = (struct lake_inlined_row){lake_int(v[0], -1), lake_int(v[1], -1), lake_int(v[2], -1)};
	duct_batch_add_row(r->batch, DUCT_READ, 0);
	duct_batch_add_row(r->texts, DUCT_READ, 0);
	for (int c = 0; c < r->wanted->ncolumns; c++) {
		rc = take_value(r, c, &nested, r->stored[c] ? v[at] : NULL, err);
		if (rc < 0)
			return duct_wrap(err, "inlined value of column \"%s\"", r->wanted->columns[c]->name);
		at += r->stored[c] != NULL;
	}
	return r->batch->rows == CHUNK_ROWS ? end_chunk(r, err) : 0;
}

/* On Postgres the official client makes its tables of inlined rows with the names in lower case, we make ours with the names as they are:
 * the columns are called by their places. */
static void name_columns(const struct reading *r, struct duct_buf *to)
{
	bool capitals = false;
	for (int i = 0; i < r->ncolumns; i++)
		for (const char *p = r->columns[i].name; *p; p++)
			capitals |= *p >= 'A' && *p <= 'Z';
	if (r->lake->db->sqlite || !capitals)
		return;
	duct_buf_puts(to, " AS named (row_id, begin_snapshot, end_snapshot");
	for (int i = 0; i < r->ncolumns; i++) {
		duct_buf_puts(to, ", ");
		duct_buf_sql_ident(to, r->columns[i].name);
	}
	duct_buf_putc(to, ')');
}

static void select_sql(const struct reading *r, const struct lake_inlined_table *table, struct duct_buf *to)
{
	const struct lake_inlined_wanted *w = r->wanted;
	duct_buf_puts(to, "SELECT row_id, begin_snapshot, end_snapshot");
	for (int c = 0; c < w->ncolumns; c++) {
		if (!r->stored[c])
			continue;
		bool hex = r->lake->db->sqlite && in_bytes(&r->stored[c]->type);
		AUTO_BUF struct duct_buf name = {0};
		duct_buf_sql_ident(&name, r->stored[c]->name);
		/* A NUL inside a text would end it. */
		duct_buf_puts(to, ", ");
		if (hex) {
			duct_buf_puts(to, "CASE WHEN ");
			duct_buf_append(to, name.data, name.len);
			duct_buf_puts(to, " IS NOT NULL THEN hex(");
		}
		duct_buf_append(to, name.data, name.len);
		duct_buf_puts(to, hex ? ") END" : "");
	}
	lake_sqlf(to, r->lake->db, " FROM @");
	duct_buf_sql_ident(to, table->name);
	name_columns(r, to);
	long long head = r->lake->model->head;
	duct_buf_printf(to, " WHERE begin_snapshot <= %lld", head);
	if (!w->dead_too)
		duct_buf_printf(to, " AND (end_snapshot IS NULL OR end_snapshot > %lld)", head);
	for (size_t i = 0; w->row_ids && i < w->nrow_ids; i++)
		duct_buf_printf(to, "%s%lld", i ? "," : " AND row_id IN (", (long long)w->row_ids[i]);
	duct_buf_puts(to, w->row_ids ? ")" : "");
	if (w->after)
		duct_buf_printf(to, " AND row_id >= %lld AND (row_id > %lld OR begin_snapshot > %lld)", (long long)w->after->row_id,
				(long long)w->after->row_id, (long long)w->after->begin_snapshot);
	duct_buf_puts(to, " ORDER BY row_id, begin_snapshot");
	if (w->most)
		duct_buf_printf(to, " LIMIT %zu", w->most);
}

static int prepare(struct reading *r, struct duct_arena *arena, struct duct_error *err)
{
	const struct lake_inlined_wanted *w = r->wanted;
	struct lake_column *columns = NULL;
	int n = 0;
	bool supported;
	int rc = lake_inlined_columns(r->lake, w->table_id, w->schema_version, arena, &columns, &n, &supported, err);
	if (rc == 0 && !n)
		return duct_fail(err, DUCT_CONFIG,
				 "the catalog does not say which columns schema version %lld had: flush them with the "
				 "official client "
				 "(CALL ducklake_flush_inlined_data)",
				 (long long)w->schema_version);
	r->columns = columns;
	r->ncolumns = n;
	for (int c = 0; c < w->ncolumns && rc == 0; c++) {
		const struct lake_column *wanted = w->columns[c];
		for (int i = 0; i < n; i++)
			if (columns[i].id == wanted->id)
				r->stored[c] = &columns[i];
		if (r->stored[c] && !r->stored[c]->supported)
			rc = duct_fail(err, DUCT_CONFIG,
				       "column \"%s\" has inlined rows of type %s, which is not read from here: flush "
				       "them with the "
				       "official client (CALL ducklake_flush_inlined_data)",
				       wanted->name, r->stored[c]->type_name);
		if (!r->stored[c] && wanted->initial_default && !duct_kind_is_nested(wanted->type.kind)) {
			rc = duct_parse_value(&r->defaults[c], &wanted->type, wanted->initial_default,
					      strlen(wanted->initial_default), err);
			duct_buf_room(&r->defaults[c], 1); /* an empty text is not NULL */
		}
	}
	return rc;
}

static int fail_gone(int64_t schema_version, struct duct_error *err)
{
	return duct_fail(err, DUCT_RETRY, "inlined rows of schema version %lld are gone: another client has flushed them",
			 (long long)schema_version);
}

static int take_found(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)values, (void)err;
	*(bool *)arg = true;
	return 0;
}

/* An official flush drops older tables, and when they were empty it does so without a snapshot. */
int lake_explain_inlined(struct lake *lake, int64_t table_id, int64_t schema_version, struct duct_error *err)
{
	struct duct_error ignored;
	bool there = false;
	int rc = err->class == DUCT_CANCELLED
		? -(int)err->class
		: lake_queryf(lake->db, take_found, &there, &ignored,
			      "SELECT 1 FROM @ducklake_inlined_data_tables WHERE table_id = %lld AND schema_version = %lld",
			      (long long)table_id, (long long)schema_version);
	return rc < 0 || there ? -(int)err->class : fail_gone(schema_version, err);
}

int lake_read_inlined(struct lake *lake, struct duck_conn *conn, const struct lake_inlined_wanted *wanted, lake_inlined_fn *fn,
		      void *arg, struct duct_error *err)
{
	const struct lake_inlined_table *table = table_of(lake, wanted->table_id, wanted->schema_version);
	if (!table)
		return fail_gone(wanted->schema_version, err);
	if (wanted->row_ids && !wanted->nrow_ids)
		return 0;
	struct reading *r = duct_xcalloc(1, sizeof *r);
	*r = (struct reading){.lake = lake, .conn = conn, .wanted = wanted, .fn = fn, .arg = arg};
	struct duct_arena arena;
	duct_arena_init(&arena);
	r->stored = duct_arena_zalloc(&arena, ((size_t)wanted->ncolumns + 1) * sizeof *r->stored);
	r->defaults = duct_arena_zalloc(&arena, ((size_t)wanted->ncolumns + 1) * sizeof *r->defaults);
	r->relation = relation_of(wanted, false);
	r->texts_relation = relation_of(wanted, true);
	AUTO_BUF struct duct_buf sql = {0};
	int rc = prepare(r, &arena, err);
	if (rc == 0) {
		select_sql(r, table, &sql);
		rc = lake->db->ops->query(lake->db, sql.data, take_row, r, err);
		if (rc < 0)
			rc = lake_explain_inlined(lake, wanted->table_id, wanted->schema_version, err);
	}
	if (rc == 0 && r->batch)
		rc = end_chunk(r, err);
	if (r->batch) {
		duct_batch_unref(r->batch);
		duct_batch_unref(r->texts);
	}
	for (int c = 0; c < wanted->ncolumns; c++)
		duct_buf_done(&r->defaults[c]);
	duct_buf_done(&r->value);
	duct_buf_done(&r->cast);
	duct_relation_unref(r->relation);
	duct_relation_unref(r->texts_relation);
	duct_arena_done(&arena);
	free(r);
	return rc < 0 ? duct_wrap(err, "rows inside the catalog (\"%s\")", table->name) : 0;
}

struct ends {
	lake_inlined_end_fn *fn;
	void *arg;
};

static int take_end(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set;
	struct ends *ends = arg;
	const struct lake_inlined_row row = {lake_int(v[0], -1), lake_int(v[1], -1), lake_int(v[2], -1)};
	return ends->fn(ends->arg, &row, err);
}

int lake_read_inlined_ends(struct lake *lake, int64_t table_id, int64_t schema_version, int64_t upto, lake_inlined_end_fn *fn,
			   void *arg, struct duct_error *err)
{
	const struct lake_inlined_table *table = table_of(lake, table_id, schema_version);
	if (!table)
		return fail_gone(schema_version, err);
	struct ends ends = {fn, arg};
	AUTO_BUF struct duct_buf sql = {0};
	lake_sqlf(&sql, lake->db, "SELECT row_id, begin_snapshot, end_snapshot FROM @");
	duct_buf_sql_ident(&sql, table->name);
	duct_buf_printf(&sql, " WHERE begin_snapshot <= %lld AND end_snapshot > %lld", (long long)upto, (long long)upto);
	int rc = lake->db->ops->query(lake->db, sql.data, take_end, &ends, err);
	if (rc < 0)
		rc = lake_explain_inlined(lake, table_id, schema_version, err);
	return rc < 0 ? duct_wrap(err, "rows inside the catalog (\"%s\")", table->name) : 0;
}
