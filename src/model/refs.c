/*
 * What a query reads. DuckDB's own parser says where a table's name stands; a name that is meant for the lake is made whole there, so that it
 * means the same in any session and the author's text stays as it is otherwise.
 */
#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "duck/duck.h"
#include "model/internal.h"

struct scope { /* names of WITH queries around */
	const struct scope *outer;
	const json_t *ctes; /* the first n of them */
	size_t n;
	const char *recursive; /* or one that reads itself */
};

struct patch {
	size_t at, n;
	const char *schema, *table;
};

struct resolving {
	struct model_project *project;
	struct model *model;
	const char *sql;
	size_t len;
	struct patch *patches;
	size_t npatches, cap;
	struct duct_error *err;
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static int line_of(const struct resolving *r, size_t at)
{
	int line = 1;
	for (size_t i = 0; i < at && i < r->len; i++)
		line += r->sql[i] == '\n';
	return line;
}

/* --- the place of a name --- */

/* Behind one part of a name: plain or in quotes. */
static size_t part_end(const struct resolving *r, size_t at)
{
	if (r->sql[at] == '"') {
		for (at++; at < r->len; at++)
			if (r->sql[at] == '"' && r->sql[++at] != '"')
				return at;
		return at;
	}
	while (at < r->len && (isalnum((unsigned char)r->sql[at]) || r->sql[at] == '_' || r->sql[at] == '$' || (r->sql[at] & 0x80)))
		at++;
	return at;
}

static size_t skip_blanks(const struct resolving *r, size_t at)
{
	while (at < r->len && isspace((unsigned char)r->sql[at]))
		at++;
	return at;
}

/* Behind all of a name of so many parts that begins there; 0: there is none, of that many. */
static size_t name_end(const struct resolving *r, size_t at, int parts)
{
	size_t end = part_end(r, at);
	if (end == at)
		return 0;
	for (int i = 1; i < parts; i++) {
		size_t dot = skip_blanks(r, end);
		if (dot >= r->len || r->sql[dot] != '.')
			return 0;
		at = skip_blanks(r, dot + 1);
		end = part_end(r, at);
		if (end == at)
			return 0;
	}
	return end;
}

static void add_patch(struct resolving *r, size_t at, size_t end, const char *schema, const char *table)
{
	r->patches = duct_grow(r->patches, &r->cap, r->npatches + 1, sizeof *r->patches);
	r->patches[r->npatches++] = (struct patch){at, end - at, schema, table};
}

/* --- the tree --- */

static bool is_cte(const struct scope *scope, const char *name)
{
	for (; scope; scope = scope->outer) {
		if (scope->recursive && strcasecmp(scope->recursive, name) == 0)
			return true;
		for (size_t i = 0; i < scope->n; i++)
			if (strcasecmp(text_of(json_array_get(scope->ctes, i), "key"), name) == 0)
				return true;
	}
	return false;
}

/* Tables of the session, not of the lake: they have no version. */
static bool is_foreign(const char *catalog, const char *schema, const char *table)
{
	static const char *const schemas[] = {"information_schema", "pg_catalog"};
	if (*catalog && strcasecmp(catalog, MODEL_LAKE) != 0)
		return true;
	for (size_t i = 0; i < DUCT_LEN(schemas); i++)
		if (strcasecmp(schema, schemas[i]) == 0)
			return true;
	return !*schema && (strchr(table, '.') || strchr(table, '/') || strncmp(table, "duckdb_", 7) == 0);
}

static int take_table(struct resolving *r, const struct scope *scope, const json_t *node)
{
	const char *catalog = text_of(node, "catalog_name"), *schema = text_of(node, "schema_name"),
		   *table = text_of(node, "table_name");
	double place = json_real_value(json_object_get(node, "query_location"));
	size_t at = place < (double)r->len ? (size_t)place : r->len;
	if (!*catalog && (!*schema || strcasecmp(schema, "recurring") == 0) && is_cte(scope, table))
		return 0;
	if (is_foreign(catalog, schema, table)) {
		r->model->always = true;
		return 0;
	}
	int found = model_find(r->project, *schema ? schema : NULL, table);
	if (!*schema && found < 0)
		return duct_fail(r->err, DUCT_CONFIG, "%s:%d: \"%.100s\" is %s", r->model->file, line_of(r, at), table,
				 model_why_not(r->project, table));
	const struct model *other = found >= 0 ? &r->project->models[found] : NULL;
	if (other == r->model)
		return duct_fail(r->err, DUCT_CONFIG,
				 "%s:%d: the model reads itself: only {{ this }} between {%% if is_incremental() %%} and "
				 "{%% endif %%} may",
				 r->model->file, line_of(r, at));
	schema = duct_arena_strdup(&r->project->arena, other ? other->schema : schema);
	table = duct_arena_strdup(&r->project->arena, other ? other->name : table);
	size_t end = at < r->len ? name_end(r, at, *catalog ? 3 : *text_of(node, "schema_name") ? 2 : 1) : 0;
	if (!end)
		return duct_fail(r->err, DUCT_CONFIG,
				 "%s: the place of \"%.100s\" in the query is not known: write it as plain name", r->model->file,
				 table);
	add_patch(r, at, end, schema, table);
	model_add_input(&r->project->arena, &r->model->inputs, &r->model->ninputs, schema, table);
	return 0;
}

/* Functions that give the same rows for the same arguments. */
static void take_function(struct resolving *r, const json_t *node)
{
	static const char *const pure[] = {"range", "generate_series", "unnest", "repeat"};
	const char *name = text_of(json_object_get(node, "function"), "function_name");
	for (size_t i = 0; i < DUCT_LEN(pure); i++)
		if (strcasecmp(name, pure[i]) == 0)
			return;
	r->model->always = true;
}

static int walk(struct resolving *r, const struct scope *scope, const json_t *node);

/* A WITH query sees those before it, and neither itself nor those behind it: there such a name is a table's. */
static int walk_ctes(struct resolving *r, const struct scope *outer, const json_t *ctes)
{
	for (size_t i = 0; i < json_array_size(ctes); i++) {
		struct scope before = {.outer = outer, .ctes = ctes, .n = i};
		if (walk(r, &before, json_array_get(ctes, i)) < 0)
			return -(int)r->err->class;
	}
	return 0;
}

static int walk(struct resolving *r, const struct scope *scope, const json_t *node)
{
	const json_t *one, *ctes = json_object_get(json_object_get(node, "cte_map"), "map");
	struct scope inner = {.outer = scope, .ctes = ctes, .n = json_array_size(ctes)};
	bool recursive = strcmp(text_of(node, "type"), "RECURSIVE_CTE_NODE") == 0;
	struct scope itself = {.outer = &inner, .recursive = text_of(node, "cte_name")};
	const char *key;
	size_t i;
	if (strcmp(text_of(node, "type"), "BASE_TABLE") == 0 && json_object_get(node, "table_name")) {
		if (take_table(r, scope, node) < 0)
			return -(int)r->err->class;
	} else if (strcmp(text_of(node, "type"), "TABLE_FUNCTION") == 0) {
		take_function(r, node);
	}
	if (walk_ctes(r, scope, ctes) < 0)
		return -(int)r->err->class;
	json_object_foreach((json_t *)(uintptr_t)node, key, one)
	{
		const struct scope *of = recursive && strcmp(key, "right") == 0 ? &itself : &inner;
		if (strcmp(key, "cte_map") != 0 && walk(r, of, one) < 0)
			return -(int)r->err->class;
	}
	json_array_foreach((json_t *)(uintptr_t)node, i, one) if (walk(r, &inner, one) < 0) return -(int)r->err->class;
	return 0;
}

/* --- parse --- */

static int refused(struct resolving *r, const json_t *tree)
{
	const char *position = text_of(tree, "position"), *message = text_of(tree, "error_message");
	size_t at = *position ? strtoul(position, NULL, 10) : 0;
	if (strcmp(text_of(tree, "error_type"), "not implemented") == 0)
		return duct_fail(r->err, DUCT_CONFIG, "%s: a model is one SELECT statement", r->model->file);
	return duct_fail(r->err, DUCT_CONFIG, "%s:%d: %.600s", r->model->file, line_of(r, at), message);
}

static int take_tree(struct resolving *r, const char *text)
{
	json_error_t why;
	json_t *tree = json_loads(text ? text : "", JSON_DECODE_INT_AS_REAL, &why); /* no place is 2^64 - 1 */
	const json_t *statements = json_object_get(tree, "statements");
	int rc = 0;
	if (!tree)
		rc = duct_fail(r->err, DUCT_FATAL, "%s: the parsed query cannot be read: %s", r->model->file, why.text);
	else if (json_is_true(json_object_get(tree, "error")))
		rc = refused(r, tree);
	else if (json_array_size(statements) != 1)
		rc = duct_fail(r->err, DUCT_CONFIG, "%s: a model is one SELECT statement, not %zu", r->model->file,
			       json_array_size(statements));
	else
		rc = walk(r, NULL, statements);
	json_decref(tree);
	return rc;
}

static int by_place(const void *a, const void *b)
{
	const struct patch *x = a, *y = b;
	return (x->at > y->at) - (x->at < y->at);
}

static const char *patched(struct resolving *r)
{
	AUTO_BUF struct duct_buf to = {0};
	size_t at = 0;
	if (r->npatches)
		qsort(r->patches, r->npatches, sizeof *r->patches, by_place);
	for (size_t i = 0; i < r->npatches; i++) {
		const struct patch *p = &r->patches[i];
		if (p->at < at)
			continue; /* met twice in the tree */
		duct_buf_append(&to, r->sql + at, p->at - at);
		duct_buf_puts(&to, MODEL_LAKE ".");
		duct_buf_sql_ident(&to, p->schema);
		duct_buf_putc(&to, '.');
		duct_buf_sql_ident(&to, p->table);
		at = p->at + p->n;
	}
	duct_buf_append(&to, r->sql + at, r->len - at);
	return duct_arena_strdup(&r->project->arena, to.data);
}

int model_resolve(struct model_project *project, struct model *model, struct duck_conn *conn, const char *sql, const char **ret,
		  struct duct_error *err)
{
	struct resolving r = {.project = project, .model = model, .sql = sql, .len = strlen(sql), .err = err};
	AUTO_BUF struct duct_buf query = {0};
	AUTO_FREE char *tree = NULL;
	/* Blanks and a semicolon at the end are no part of a query that stands in another one. */
	while (r.len && (isspace((unsigned char)sql[r.len - 1]) || sql[r.len - 1] == ';'))
		r.len--;
	duct_buf_puts(&query, "SELECT CAST(json_serialize_sql(");
	duct_buf_sql_literal_n(&query, sql, r.len);
	duct_buf_puts(&query, ") AS VARCHAR)");
	int rc = duck_text(conn, query.data, &tree, err);
	rc = rc ? duct_wrap(err, "%s", model->file) : take_tree(&r, tree);
	if (rc == 0)
		*ret = patched(&r);
	free(r.patches);
	return rc;
}
