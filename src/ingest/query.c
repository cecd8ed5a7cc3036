/* Files as a statement: which columns they have, and their rows as files of the table. */
#include "ingest/query.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "duck/types.h"
#include "land/land.h"

#define ROW_NUMBER "__ductstream_row"
#define LOOKED_AT ": declare the column's type"

int ingest_of_files(struct duct_error *err)
{
	static const char *const missing[] = {"No files found", "404", "403", "does not exist", "Cannot open file"};
	if (err->class == DUCT_RETRY && strstr(err->message, "Failed to open zip"))
		err->class = DUCT_DATA;
	for (size_t i = 0; i < DUCT_LEN(missing); i++)
		if (err->class == DUCT_RETRY && strstr(err->message, missing[i]))
			err->class = DUCT_CONFIG;
	if (err->class == DUCT_FATAL)
		err->class = duck_error_type(err) == DUCKDB_ERROR_BINDER || duck_error_type(err) == DUCKDB_ERROR_PARSER
			? DUCT_CONFIG
			: DUCT_DATA;
	return -(int)err->class;
}

/* --- columns --- */

/* A type that the reader is told for its texts: those that it would not make of them. */
static bool is_told(const struct ingest_query *q, const struct ingest_column *c)
{
	bool plain = c->given && !duct_kind_is_nested(c->given->kind) && !duct_kind_is_nested(c->type.kind);
	return ((q->typed && !c->folders) || q->json) && c->given && c->type.kind && (plain || c->empty) &&
		!duct_type_equal(c->given, &c->type);
}

static bool has_times(const struct duct_type *type)
{
	bool times = type->kind == DUCT_DATE || type->kind == DUCT_TIME || type->kind == DUCT_TIMESTAMP;
	for (int i = 0; i < type->nchildren && !times; i++)
		times = has_times(&type->children[i]);
	return times;
}

static bool is_whole(const struct duct_type *type)
{
	return type->kind >= DUCT_INT8 && type->kind <= DUCT_UINT64;
}

/* The reader finds types by the first rows of a file, and rounds or cuts off what fits them less further down. Such columns are taken as texts
 * (put_looked_at); those of a notation that only the reader has found are not. */
static bool is_looked_at(const struct ingest_query *q, const struct ingest_column *c)
{
	bool plain = !strstr(q->options.data, ", decimal_separator = ") && !strstr(q->options.data, ", thousands = ");
	if (!q->typed || c->folders || c->declared || !c->given)
		return false;
	if (c->given->kind != DUCT_FLOAT64 && strstr(q->options.data, ", ignore_errors = ")) /* only the reader leaves rows out */
		return false;
	if (c->given->kind == DUCT_DATE || c->given->kind == DUCT_TIME || c->given->kind == DUCT_TIMESTAMP)
		return q->iso && (c->type.kind == DUCT_DATE || c->type.kind == DUCT_TIME || c->type.kind == DUCT_TIMESTAMP);
	if (c->given->kind == DUCT_FLOAT64 && c->type.kind == DUCT_FLOAT64)
		return plain;
	return plain && (is_whole(c->given) || c->given->kind == DUCT_FLOAT64) &&
		(c->type.kind == DUCT_DECIMAL || is_whole(&c->type));
}

/* Whether any type is told. Of JSON all are then, and how times are written inside of others the reader finds out only where it is told nothing. */
static bool tells(const struct ingest_load *l, const struct ingest_query *q, bool looking)
{
	const struct ingest_shape *shape = l->shape;
	bool any = false;
	for (size_t i = 0; i < shape->ncolumns; i++) {
		const struct ingest_column *c = &shape->columns[i];
		any |= is_told(q, c) || (looking && is_looked_at(q, c));
		if (q->json && duct_kind_is_nested(c->given->kind) && has_times(c->given))
			return false;
	}
	return any;
}

/* Of a column of JSON that is as it was found: a timestamp may be written with a zone, which the cast of that type passes over. */
static void put_found(struct duct_buf *to, const struct duct_type *given)
{
	const struct duct_type zoned = {.kind = DUCT_TIMESTAMPTZ};
	duck_sql_type(to, given->kind == DUCT_TIMESTAMP ? &zoned : given);
}

/* read_csv() takes the types of some columns, read_json() of all or none. LOOKING: texts of what is looked at. */
static void put_reader(const struct ingest_load *l, const struct ingest_query *q, bool looking, struct duct_buf *sql)
{
	const struct ingest_shape *shape = l->shape;
	bool any = tells(l, q, looking);
	duct_buf_puts(sql, q->reader.data);
	if (any)
		duct_buf_puts(sql, q->json ? ", columns = {" : ", types = {");
	for (size_t i = 0, n = 0; any && i < shape->ncolumns; i++) {
		const struct ingest_column *c = &shape->columns[i];
		AUTO_BUF struct duct_buf type = {0};
		bool looked = looking && is_looked_at(q, c);
		if (!is_told(q, c) && !looked && !q->json)
			continue;
		duct_buf_puts(sql, n++ ? ", " : "");
		duct_buf_sql_ident(sql, q->names[i]);
		duct_buf_puts(sql, ": ");
		if (looked)
			duct_buf_puts(&type, "VARCHAR");
		else if (is_told(q, c))
			duck_sql_type(&type, &c->type);
		else
			put_found(&type, c->given);
		duct_buf_sql_literal(sql, type.data);
	}
	duct_buf_puts(sql, any ? "})" : ")");
}

/* Bounds of whole numbers that may be narrower than their type: the table's column is. */
static int find_bounds(struct ingest_load *l, const struct ingest_query *q, const struct lake_table *known, struct duct_error *err)
{
	struct ingest_shape *shape = l->shape;
	for (size_t i = 0; i < shape->ncolumns; i++) {
		struct ingest_column *c = &shape->columns[i];
		const struct lake_column *there = lake_find_column(known->columns, known->ncolumns, c->name);
		AUTO_BUF struct duct_buf sql = {0}, name = {0};
		bool whole = c->given->kind >= DUCT_INT8 && c->given->kind <= DUCT_UINT64;
		if (!there || !whole || c->declared || duct_type_widens(c->given, &there->type))
			continue;
		duct_buf_sql_ident(&name, q->names[i]);
		for (int end = 0; end < 2; end++) {
			sql.len = 0;
			duct_buf_printf(&sql, "SELECT coalesce(%s(%s), 0)::VARCHAR FROM (%s))", end ? "max" : "min", name.data,
					q->reader.data);
			if (duck_number(l->conn, sql.data, end ? &c->max : &c->min, err))
				return ingest_of_files(err);
		}
	}
	return 0;
}

/* What the readers make of nothing at all is one column, which no file has. */
static int leave_nothing(struct ingest_load *l, const struct ingest_query *q, struct land_shape *shape, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	const char *made = q->csv ? "column0" : q->json ? "json" : NULL;
	int64_t rows = 1;
	if (!made || shape->ncolumns != 1 || strcmp(shape->columns[0].name, made) != 0)
		return 0;
	duct_buf_printf(&sql, "SELECT count(*) FROM (SELECT 1 FROM (%s)) LIMIT 1)", q->reader.data);
	if (duck_number(l->conn, sql.data, &rows, err))
		return ingest_of_files(err);
	shape->ncolumns = rows ? 1 : 0;
	return 0;
}

/* Lines of which no delimiter makes the same number of columns. */
static int refuse_uneven(const struct ingest_query *q, const struct land_shape *shape, struct duct_error *err)
{
	if (!q->csv || q->delim || shape->ncolumns != 1 || !strpbrk(shape->columns[0].name, ",;|\t"))
		return 0;
	return duct_fail(
		err, DUCT_DATA,
		"its lines have different numbers of columns, so each would be one text in a column \"%.100s\": mend the file, "
		"or say what is between columns (read_options: {delim: ...})",
		shape->columns[0].name);
}

/* A part of a file that was split has no line of names: DuckDB numbers its columns, or takes a row for names. */
static int refuse_nameless(const struct ingest_load *l, const struct ingest_query *q, const struct lake_table *known,
			   struct duct_error *err)
{
	const struct ingest_shape *shape = l->shape;
	bool fits = !shape->ncolumns || l->spec->main.write == INGEST_REPLACE;
	for (size_t i = 0; i < shape->ncolumns && !fits; i++)
		fits = shape->columns[i].declared || lake_find_column(known->columns, known->ncolumns, shape->columns[i].name);
	if (fits || !(q->csv || q->excel))
		return 0;
	return duct_fail(
		err, DUCT_DATA,
		"none of its columns (the first is \"%.100s\") is one of the table's: does its first line name them? Name them there, "
		"or in \"columns\" one that is meant to be new, or put the rows into another table",
		shape->columns[0].name);
}

/* A folder like day=7 gives the column its values: the reader ends its database when it is told their type as that of the file's own. */
static bool is_of_folders(const struct ingest_query *q, const char *name)
{
	AUTO_BUF struct duct_buf folder = {0};
	duct_buf_printf(&folder, "/%s=", name);
	return strcasestr(q->files.data, folder.data) != NULL;
}

/* What a value is where there is more than a type that the reader takes for nothing at all. NULL: the type says enough. */
static const char *more_than_nothing(const struct ingest_load *l, const struct ingest_query *q, const struct ingest_column *c,
				     const struct lake_column *there)
{
	const struct duct_type *given = c->given, *item = given->nchildren ? &given->children[given->nchildren - 1] : NULL;
	if (c->declared || (there && duct_type_equal(given, &there->type)))
		return NULL;
	if ((q->json && given->kind == DUCT_JSON) || (q->parquet && there && given->kind != DUCT_LIST))
		return "IS NOT NULL";
	if (q->parquet && there)
		return "<> []";
	if (q->json && there && (given->kind == DUCT_LIST || given->kind == DUCT_MAP) && item && item->kind == DUCT_JSON)
		return given->kind == DUCT_LIST ? "<> []" : "<> MAP {}";
	return q->csv && there && given->kind == DUCT_VARCHAR && l->spec->main.write == INGEST_REPLACE ? "IS NOT NULL" : NULL;
}

/* Whether the column is null, [] or {} in all rows. */
static int look_for_values(struct ingest_load *l, const struct ingest_query *q, size_t at, const char *more, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, name = {0};
	int64_t n = 0;
	duct_buf_sql_ident(&name, q->names[at]);
	duct_buf_printf(&sql, "SELECT count(*) FROM (SELECT 1 FROM (%s)) WHERE %s %s LIMIT 1)", q->reader.data, name.data, more);
	if (duck_number(l->conn, sql.data, &n, err))
		return ingest_of_files(err);
	l->shape->columns[at].empty = n == 0;
	return 0;
}

/* What has no value is what the table has, or of JSON no column yet, as in records of an API. */
static int leave_empty(struct ingest_load *l, const struct ingest_query *q, const struct lake_table *known, struct duct_error *err)
{
	struct ingest_shape *shape = l->shape;
	size_t kept = 0;
	for (size_t i = 0; i < shape->ncolumns; i++) {
		struct ingest_column *c = &shape->columns[i];
		const struct lake_column *there = known ? lake_find_column(known->columns, known->ncolumns, c->name) : NULL;
		const char *more = more_than_nothing(l, q, c, there);
		if (more && look_for_values(l, q, i, more, err))
			return -(int)err->class;
		if (c->empty && !there && (kept || i + 1 < shape->ncolumns))
			continue;
		shape->columns[kept] = *c;
		q->names[kept++] = q->names[i];
	}
	shape->ncolumns = kept;
	return 0;
}

int ingest_query_learn(struct ingest_load *l, struct ingest_query *q, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct land_shape shape;
	duct_buf_printf(&sql, "%s)", q->reader.data);
	if (land_shape(l->conn, sql.data, &q->arena, &shape, err))
		return ingest_of_files(err);
	if (leave_nothing(l, q, &shape, err) || refuse_uneven(q, &shape, err) || ingest_query_look_right(l, q, shape.ncolumns, err))
		return -(int)err->class;
	if (shape.casts)
		l->report->log(l->report->arg, "info", shape.casts);
	q->names = duct_arena_zalloc(&q->arena, ((size_t)shape.ncolumns + 1) * sizeof *q->names);
	for (int i = 0; i < shape.ncolumns; i++) {
		q->names[i] = shape.columns[i].name;
		bool folders = is_of_folders(q, shape.columns[i].name);
		if (ingest_shape_give(l->shape, shape.columns[i].name, shape.columns[i].type, q->typed || folders, err) < 0)
			return -(int)err->class;
		l->shape->columns[i].folders = folders;
	}
	l->ntargets = 1;
	l->targets = duct_xcalloc(1, sizeof *l->targets);
	l->targets[0].shape = l->shape;
	const struct lake_table *known = lake_find_table(l->lake, l->spec->schema, l->spec->table);
	if ((known && refuse_nameless(l, q, known, err)) || leave_empty(l, q, known, err))
		return -(int)err->class;
	return known ? find_bounds(l, q, known, err) : 0;
}

/* --- rows --- */

/* What is none of the type would come out as another one: 1.5 as 2, a long whole number as a double near it, a moment as its day. Few values get to an
 * expression that is slow. */
static void put_wrong(const char *x, const struct duct_type *type, struct duct_buf *sql)
{
	if (type->kind == DUCT_FLOAT64)
		duct_buf_printf(sql, "regexp_full_match(%s, '[-+]?[0-9]{16,}') AND abs(CAST(%s AS DOUBLE)) >= 9007199254740992", x,
				x);
	else if (type->kind == DUCT_DATE)
		duct_buf_printf(sql, "length(%s) > 10 AND NOT regexp_full_match(trim(%s), '[^ T]*([ T][0:.]*)?')", x, x);
	else if (type->kind == DUCT_TIME)
		duct_buf_printf(sql, "length(%s) > 8 AND NOT regexp_full_match(trim(%s), '[0-9:]*([.][0-9]*)?')", x, x);
	else if (type->kind == DUCT_TIMESTAMP)
		duct_buf_printf(sql, "length(%s) > 19 AND NOT regexp_full_match(trim(%s), '[0-9-]*[ T][0-9:]*([.][0-9]*)?Z?')", x,
				x);
	else
		duct_buf_printf(sql,
				"(contains(%s, '.') OR (contains(%s, '-') AND regexp_matches(%s, '[eE]-'))) AND NOT "
				"regexp_full_match(trim(%s), '[-+]?[0-9]*([.][0-9]{0,%d}0*)?')",
				x, x, x, x, type->kind == DUCT_DECIMAL ? type->scale : 0);
}

static void put_looked_at(const char *name, const struct duct_type *type, struct duct_buf *sql)
{
	AUTO_BUF struct duct_buf column = {0}, what = {0}, text = {0}, shown = {0};
	duct_buf_sql_ident(&column, name);
	duct_type_print(&shown, type);
	duct_buf_puts(sql, "CASE WHEN ");
	put_wrong(column.data, type, sql);
	duct_buf_printf(&what, "column \"%s\": ", name);
	duct_buf_sql_literal(&text, what.data);
	duct_buf_printf(sql, " THEN CAST(error(%s || %s || ", text.data, column.data);
	what.len = text.len = 0;
	duct_buf_printf(&what, " is no %s%s" LOOKED_AT " (columns: {%s: varchar}), or put the rows into another table",
			type->kind == DUCT_FLOAT64 ? "whole number that fits into " : "", shown.data, name);
	duct_buf_sql_literal(&text, what.data);
	duct_buf_printf(sql, "%s) AS VARCHAR) ELSE %s END", text.data, column.data);
}

static void put_value(const struct ingest_load *l, const struct lake_column *column, int at, struct duct_buf *sql)
{
	if (at >= 0) {
		duct_buf_puts(sql, "CAST(");
		if (is_looked_at(l->query, &l->shape->columns[at]))
			put_looked_at(l->query->names[at], &l->shape->columns[at].type, sql);
		else
			duct_buf_sql_ident(sql, l->query->names[at]);
	} else if (column->initial_default) {
		duct_buf_puts(sql, "CAST(");
		duct_buf_sql_literal(sql, column->initial_default);
	} else {
		duct_buf_puts(sql, "CAST(NULL");
	}
	duct_buf_puts(sql, " AS ");
	duck_sql_type(sql, &column->type);
	duct_buf_puts(sql, ") AS ");
	duct_buf_sql_ident(sql, column->name);
}

/* The rows as the table has them; of those with one key the last one, if there are such. */
static void put_select(const struct ingest_load *l, const struct ingest_target *t, bool unique, struct duct_buf *sql)
{
	duct_buf_puts(sql, unique ? "SELECT * EXCLUDE (" ROW_NUMBER ") FROM (SELECT " : "SELECT ");
	for (int i = 0; i < t->ncolumns; i++) {
		duct_buf_puts(sql, i ? ", " : "");
		put_value(l, &t->columns[i], t->map[i], sql);
	}
	duct_buf_printf(sql, "%s FROM (", unique ? ", row_number() OVER () AS " ROW_NUMBER : "");
	put_reader(l, l->query, true, sql);
	duct_buf_putc(sql, ')');
	for (size_t i = 0; l->query->excel && i < l->shape->ncolumns; i++) { /* empty rows go */
		duct_buf_puts(sql, i ? " OR " : " WHERE ");
		duct_buf_sql_ident(sql, l->query->names[i]);
		duct_buf_puts(sql, " IS NOT NULL");
	}
	if (!unique)
		return;
	duct_buf_puts(sql, ") QUALIFY row_number() OVER (PARTITION BY ");
	for (char *const *name = l->spec->main.merge_key; *name; name++) {
		duct_buf_puts(sql, name == l->spec->main.merge_key ? "" : ", ");
		duct_buf_sql_ident(sql, *name);
	}
	duct_buf_puts(sql, " ORDER BY " ROW_NUMBER " DESC) = 1");
}

/* What the reader itself says of a value that is none of its type: it names the line. */
static int name_line(struct ingest_load *l, struct duct_error *err)
{
	const struct ingest_query *q = l->query;
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error said;
	int n = 0;
	duct_buf_puts(&sql, "SELECT ");
	for (size_t i = 0; i < l->shape->ncolumns; i++) {
		if (!is_looked_at(q, &l->shape->columns[i]))
			continue;
		duct_buf_puts(&sql, n++ ? ", count(" : "count(");
		duct_buf_sql_ident(&sql, q->names[i]);
		duct_buf_putc(&sql, ')');
	}
	duct_buf_puts(&sql, " FROM (");
	put_reader(l, q, false, &sql);
	duct_buf_putc(&sql, ')');
	if (n && !strstr(err->message, LOOKED_AT) && !duct_ctx_stopped(l->ctx) && duck_exec(l->conn, sql.data, &said))
		*err = said;
	return ingest_of_files(err);
}

static int write_rows(struct ingest_load *l, struct ingest_target *t, bool unique, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct land_files files = {0};
	ingest_begin_write(l, t);
	if (!l->shape->ncolumns)
		return 0;
	put_select(l, t, unique, &sql);
	int rc = unique ? duck_exec(l->conn, "SET preserve_insertion_order = true", err) : 0;
	rc = rc ? rc : land_write_into(l->conn, lake_txn_table_path(t->t), t->columns, t->ncolumns, sql.data, &files, err);
	for (size_t i = 0; i < files.n; i++) {
		t->files = duct_grow(t->files, &t->files_cap, t->nfiles + 1, sizeof(struct lake_new_file *));
		t->files[t->nfiles++] = duct_steal(&files.files[i]);
	}
	t->rows = files.rows;
	land_files_done(&files);
	return rc ? name_line(l, err) : 0;
}

/* --- keys of what was written --- */

struct key_scan {
	struct ingest_load *l;
	struct duct_buf key;
	int64_t rows;
	bool twice;
};

static int take_keys(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		     struct duct_error *err)
{
	struct key_scan *s = arg;
	(void)positions, (void)row_ids;
	if (duct_ctx_stopped(s->l->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	for (uint32_t row = 0; row < batch->rows; row++, s->rows++) {
		s->key.len = 0;
		for (int i = 0; i < batch->relation->ncolumns; i++) {
			struct duct_cell cell = duct_vector_cell(&batch->columns[i], row);
			if (!cell.data)
				return duct_fail(err, DUCT_DATA, "merge_key: a row has no \"%s\"",
						 batch->relation->columns[i].name);
			ingest_key_part(&s->key, batch->columns[i].type, cell);
		}
		s->twice |= !ingest_keys_put(&s->l->keys, s->key.data, s->key.len, s->rows);
	}
	return 0;
}

static int collect_keys(struct ingest_load *l, const struct ingest_target *t, bool *ret_twice, struct duct_error *err)
{
	enum { MOST = 64 };
	const struct lake_column *columns[MOST];
	struct key_scan scan = {.l = l};
	int n = 0, rc = 0;
	for (char *const *name = l->spec->main.merge_key; l->shape->ncolumns && *name; name++, n++) {
		int at = 0;
		while (at < t->ncolumns && strcasecmp(t->columns[at].name, *name) != 0)
			at++;
		if (at == t->ncolumns || n == MOST || t->map[at] < 0)
			return duct_fail(err, DUCT_CONFIG, "merge_key: the files have no column \"%s\"", *name);
		columns[n] = &t->columns[at];
	}
	ingest_keys_done(&l->keys);
	for (size_t i = 0; i < t->nfiles && !rc; i++) {
		const struct lake_file file = {.path = t->files[i]->path, .record_count = t->files[i]->record_count};
		rc = ingest_allow(l, file.path, err);
		rc = rc ? rc : lake_read_file(l->conn, &file, columns, n, NULL, 0, take_keys, &scan, err);
	}
	duct_buf_done(&scan.key);
	*ret_twice = scan.twice;
	return rc;
}

int ingest_query_write(struct ingest_load *l, struct ingest_target *target, struct duct_error *err)
{
	bool twice = false;
	if (write_rows(l, target, false, err) || (ingest_is_keyed(l) && collect_keys(l, target, &twice, err)))
		return -(int)err->class;
	if (twice && (write_rows(l, target, true, err) || collect_keys(l, target, &twice, err)))
		return -(int)err->class;
	l->result->fetched.records = l->result->fetched.records ? l->result->fetched.records : target->rows;
	return twice ? duct_fail(err, DUCT_FATAL, "rows of one key came twice") : 0;
}
