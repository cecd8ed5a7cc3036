/* What a model's header may say: YAML, of which every key is a row of the table at the end. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "flow/flow_yaml.h"
#include "model/internal.h"
#include "options/options.h"

struct reading {
	struct model *model;
	struct duct_arena *arena;
	const char *file;
	struct duct_error *err;
};

static int wrong(struct reading *r, const struct flow_node *node, const char *what)
{
	return duct_fail(r->err, DUCT_CONFIG, "%s:%d: %s%s%s", r->file, node->line, node->key ? node->key : "",
			 node->key ? ": " : "", what);
}

bool model_is_name(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '_')
			return false;
	return true;
}

/* --- values --- */

static int take_text(struct reading *r, const struct flow_node *node, const char **ret)
{
	if (node->kind != FLOW_NODE_TEXT || !*node->text)
		return wrong(r, node, "a text is expected");
	*ret = node->text;
	return 0;
}

static int take_name(struct reading *r, const struct flow_node *node, const char **ret)
{
	if (take_text(r, node, ret) < 0)
		return -(int)r->err->class;
	return model_is_name(*ret) ? 0 : wrong(r, node, "letters, digits and _ only");
}

static void add_name(struct duct_arena *arena, struct model_names *to, const char *text)
{
	const char **list = duct_arena_alloc(arena, (to->n + 1) * sizeof *list);
	if (to->n)
		memcpy(list, to->list, to->n * sizeof *list);
	list[to->n++] = text;
	to->list = list;
}

void model_split(struct model_names *to, struct duct_arena *arena, const char *text, size_t n)
{
	size_t begin = 0;
	int depth = 0;
	char quote = 0;
	for (size_t i = 0; i <= n; i++) {
		char c = i < n ? text[i] : ',';
		if (i < n && (quote ? c == quote : c == '\'' || c == '"'))
			quote = quote ? 0 : c;
		else if (!quote && (c == '(' || c == ')'))
			depth += c == '(' ? 1 : -1;
		if (i < n && (quote || depth || c != ','))
			continue;
		size_t from = begin, upto = i;
		while (from < upto && isspace((unsigned char)text[from]))
			from++;
		while (upto > from && isspace((unsigned char)text[upto - 1]))
			upto--;
		AUTO_FREE char *one = duct_xstrndup(text + from, upto - from);
		if (*one)
			add_name(arena, to, duct_arena_strdup(arena, one));
		begin = i + 1;
	}
}

/* A list, or one text with commas. */
static int take_names(struct reading *r, const struct flow_node *node, struct model_names *to)
{
	if (node->kind == FLOW_NODE_TEXT)
		model_split(to, r->arena, node->text, strlen(node->text));
	for (const struct flow_node *one = node->kind == FLOW_NODE_LIST ? node->first : NULL; one; one = one->next) {
		if (one->kind != FLOW_NODE_TEXT)
			return wrong(r, one, "a text is expected");
		add_name(r->arena, to, one->text);
	}
	return to->n ? 0 : wrong(r, node, "a text or a list of texts is expected");
}

static int take_columns_of_a_key(struct reading *r, const struct flow_node *node, struct model_names *to)
{
	if (take_names(r, node, to) < 0)
		return -(int)r->err->class;
	for (size_t i = 0; i < to->n; i++)
		if (!*to->list[i])
			return wrong(r, node, "a column's name is empty");
	return 0;
}

/* --- checks --- */

static struct model_check *add_check(struct reading *r, enum model_check_kind kind, int line)
{
	struct model *m = r->model;
	struct model_check *list = duct_arena_zalloc(r->arena, (m->nchecks + 1) * sizeof *list);
	if (m->nchecks)
		memcpy(list, m->checks, m->nchecks * sizeof *list);
	m->checks = list;
	list[m->nchecks].kind = kind;
	list[m->nchecks].line = line;
	return &list[m->nchecks++];
}

static void name_check(struct reading *r, struct model_check *check, const char *kind)
{
	AUTO_BUF struct duct_buf name = {0};
	duct_buf_printf(&name, "%s(", kind);
	for (size_t i = 0; i < check->columns.n; i++)
		duct_buf_printf(&name, "%s%s", i ? ", " : "", check->columns.list[i]);
	duct_buf_putc(&name, ')');
	check->name = duct_arena_strdup(r->arena, name.data);
}

static const struct flow_node *member(const struct flow_node *map, const char *key)
{
	for (const struct flow_node *one = map->kind == FLOW_NODE_MAP ? map->first : NULL; one; one = one->next)
		if (strcmp(one->key, key) == 0)
			return one;
	return NULL;
}

static int only_members(struct reading *r, const struct flow_node *map, const char *const *keys)
{
	for (const struct flow_node *one = map->first; one; one = one->next) {
		const char *const *key = keys;
		while (*key && strcmp(*key, one->key) != 0)
			key++;
		if (!*key)
			return wrong(r, one, "there is no such key here");
	}
	return 0;
}

/* column, when it is said elsewhere, else member "column". */
static int take_check_column(struct reading *r, const struct flow_node *node, const char *column, struct model_check *check)
{
	const struct flow_node *said = member(node, "column");
	if ((column != NULL) == (said != NULL))
		return wrong(r, node, column ? "the column is known here" : "\"column\" is missing");
	if (!column && take_text(r, said, &column) < 0)
		return -(int)r->err->class;
	add_name(r->arena, &check->columns, column);
	return 0;
}

static int take_accepted(struct reading *r, const struct flow_node *node, const char *column)
{
	static const char *const keys[] = {"column", "values", NULL};
	struct model_check *check = add_check(r, MODEL_ACCEPTED, node->line);
	const struct flow_node *values = node->kind == FLOW_NODE_LIST ? node : member(node, "values");
	if (!values)
		return wrong(r, node, "a list of values is expected");
	if (node->kind == FLOW_NODE_MAP && only_members(r, node, keys) < 0)
		return -(int)r->err->class;
	if (node->kind == FLOW_NODE_LIST && column)
		add_name(r->arena, &check->columns, column);
	else if (take_check_column(r, node, column, check) < 0)
		return -(int)r->err->class;
	name_check(r, check, "accepted_values");
	return take_names(r, values, &check->values);
}

static int take_relation(struct reading *r, const struct flow_node *node, const char *column)
{
	static const char *const keys[] = {"column", "to", "field", NULL};
	struct model_check *check = add_check(r, MODEL_RELATION, node->line);
	const struct flow_node *to = member(node, "to"), *field = member(node, "field");
	const char *table = NULL;
	if (node->kind != FLOW_NODE_MAP || !to || !field)
		return wrong(r, node, "\"to\" (a table) and \"field\" (its column) are expected");
	if (only_members(r, node, keys) < 0 || take_check_column(r, node, column, check) < 0 || take_text(r, to, &table) < 0 ||
	    take_text(r, field, &check->to_column) < 0)
		return -(int)r->err->class;
	const char *dot = strrchr(table, '.');
	AUTO_FREE char *schema = dot ? duct_xstrndup(table, (size_t)(dot - table)) : NULL;
	check->to_schema = schema ? duct_arena_strdup(r->arena, schema) : NULL;
	check->to_table = dot ? dot + 1 : table;
	name_check(r, check, "relationships");
	return 0;
}

static int take_sql_check(struct reading *r, const struct flow_node *node)
{
	struct model_check *check = add_check(r, MODEL_SQL, node->line);
	AUTO_FREE char *name = duct_xasprintf("sql(line %d)", node->line);
	check->name = duct_arena_strdup(r->arena, name);
	return take_text(r, node, &check->sql);
}

static int take_column_check(struct reading *r, const struct flow_node *node, enum model_check_kind kind, const char *word,
			     const char *column)
{
	struct model_check *check = add_check(r, kind, node->line);
	if (column)
		add_name(r->arena, &check->columns, column);
	else if (take_columns_of_a_key(r, node, &check->columns) < 0)
		return -(int)r->err->class;
	name_check(r, check, word);
	return 0;
}

/* "unique", or a map of one member: {unique: column}. column: of whose list it is, NULL: of the model's. */
static int take_check(struct reading *r, const struct flow_node *node, const char *column)
{
	const struct flow_node *body = node->kind == FLOW_NODE_MAP ? node->first : node;
	const char *word = node->kind == FLOW_NODE_MAP ? (body ? body->key : "") : node->kind == FLOW_NODE_TEXT ? node->text : "";
	bool bare = node->kind == FLOW_NODE_TEXT;
	if (node->kind == FLOW_NODE_MAP && (!body || body->next))
		return wrong(r, node, "one test an item: \"- not_null: id\"");
	if (bare == (column != NULL) || !bare) {
		if (strcmp(word, "unique") == 0 && bare == (column != NULL))
			return take_column_check(r, body, MODEL_UNIQUE, word, column);
		if (strcmp(word, "not_null") == 0 && bare == (column != NULL))
			return take_column_check(r, body, MODEL_NOT_NULL, word, column);
		if (strcmp(word, "accepted_values") == 0 && !bare)
			return take_accepted(r, body, column);
		if (strcmp(word, "relationships") == 0 && !bare)
			return take_relation(r, body, column);
		if (strcmp(word, "sql") == 0 && !bare && !column)
			return take_sql_check(r, body);
	}
	return wrong(r, node, "a test is unique, not_null, accepted_values, relationships or sql: see docs/models.md");
}

static int take_checks_of(struct reading *r, const struct flow_node *node, const char *column)
{
	if (node->kind != FLOW_NODE_LIST)
		return wrong(r, node, "a list of tests is expected");
	for (const struct flow_node *one = node->first; one; one = one->next)
		if (take_check(r, one, column) < 0)
			return -(int)r->err->class;
	return 0;
}

static int take_checks(struct reading *r, const struct flow_node *node)
{
	return take_checks_of(r, node, NULL);
}

static int take_column(struct reading *r, const struct flow_node *node)
{
	static const char *const keys[] = {"description", "tests", NULL};
	struct model *m = r->model;
	struct model_column *list = duct_arena_zalloc(r->arena, (m->ncolumns + 1) * sizeof *list);
	if (m->ncolumns)
		memcpy(list, m->columns, m->ncolumns * sizeof *list);
	m->columns = list;
	list = &list[m->ncolumns++];
	list->name = node->key;
	if (node->kind == FLOW_NODE_TEXT)
		return take_text(r, node, &list->description);
	if (node->kind != FLOW_NODE_MAP || only_members(r, node, keys) < 0)
		return node->kind == FLOW_NODE_MAP ? -(int)r->err->class : wrong(r, node, "a text or a map is expected");
	const struct flow_node *text = member(node, "description"), *tests = member(node, "tests");
	if (text && take_text(r, text, &list->description) < 0)
		return -(int)r->err->class;
	return tests ? take_checks_of(r, tests, node->key) : 0;
}

static int take_columns(struct reading *r, const struct flow_node *node)
{
	if (node->kind != FLOW_NODE_MAP)
		return wrong(r, node, "columns and what they are is expected");
	for (const struct flow_node *one = node->first; one; one = one->next)
		if (take_column(r, one) < 0)
			return -(int)r->err->class;
	return 0;
}

/* --- the other keys --- */

static int take_kind(struct reading *r, const struct flow_node *node)
{
	for (enum model_kind kind = MODEL_VIEW; kind <= MODEL_SNAPSHOT && node->kind == FLOW_NODE_TEXT; kind++)
		if (strcmp(node->text, model_kind_name(kind)) == 0) {
			r->model->kind = kind;
			return 0;
		}
	return wrong(r, node, "view, table, incremental or snapshot");
}

static int take_layer(struct reading *r, const struct flow_node *node)
{
	static const char *const layers[] = {"raw", "bronze", "silver", "gold"};
	for (size_t i = 0; i < DUCT_LEN(layers) && node->kind == FLOW_NODE_TEXT; i++)
		if (strcmp(node->text, layers[i]) == 0) {
			r->model->layer = layers[i];
			return 0;
		}
	return wrong(r, node, "raw, bronze, silver or gold");
}

static int take_model_name(struct reading *r, const struct flow_node *node)
{
	return take_name(r, node, &r->model->name);
}

static int take_schema(struct reading *r, const struct flow_node *node)
{
	return take_name(r, node, &r->model->schema);
}

static int take_description(struct reading *r, const struct flow_node *node)
{
	return take_text(r, node, &r->model->description);
}

static int take_tags(struct reading *r, const struct flow_node *node)
{
	return take_names(r, node, &r->model->tags);
}

static int take_key(struct reading *r, const struct flow_node *node)
{
	return take_columns_of_a_key(r, node, &r->model->key);
}

static int take_partition(struct reading *r, const struct flow_node *node)
{
	return take_columns_of_a_key(r, node, &r->model->partition);
}

static int take_partitioned_by(struct reading *r, const struct flow_node *node)
{
	return take_text(r, node, &r->model->partitioned_by);
}

/* schema.table(expression, ...) */
static int take_changes(struct reading *r, const struct flow_node *node)
{
	const char *text = NULL, *open, *close, *dot;
	if (take_text(r, node, &text) < 0)
		return -(int)r->err->class;
	open = strchr(text, '(');
	close = strrchr(text, ')');
	dot = strchr(text, '.');
	if (!open || !close || close < open || close[1] || !dot || dot > open)
		return wrong(r, node, "schema.table(expression, ...) is expected");
	AUTO_FREE char *schema = duct_xstrndup(text, (size_t)(dot - text));
	AUTO_FREE char *table = duct_xstrndup(dot + 1, (size_t)(open - dot - 1));
	r->model->changes_schema = duct_arena_strdup(r->arena, schema);
	r->model->changes_table = duct_arena_strdup(r->arena, table);
	model_split(&r->model->changes_exprs, r->arena, open + 1, (size_t)(close - open - 1));
	return 0;
}

static const struct key {
	const char *name;
	int (*take)(struct reading *r, const struct flow_node *node);
} all_keys[] = {
	{"name", take_model_name},	   {"layer", take_layer},	  {"schema", take_schema},
	{"description", take_description}, {"materialized", take_kind},	  {"tags", take_tags},
	{"unique_key", take_key},	   {"partition", take_partition}, {"partitioned_by", take_partitioned_by},
	{"changes_from", take_changes},	   {"columns", take_columns},	  {"tests", take_checks},
};

static int take_member(struct reading *r, const struct flow_node *node)
{
	const char *names[DUCT_LEN(all_keys) + 1] = {0};
	for (size_t i = 0; i < DUCT_LEN(all_keys); i++) {
		names[i] = all_keys[i].name;
		if (strcmp(node->key, names[i]) == 0)
			return all_keys[i].take(r, node);
	}
	const char *near = duct_nearest(node->key, names);
	AUTO_FREE char *meant = near ? duct_xasprintf("there is no such key: did you mean \"%s\"?", near) : NULL;
	return wrong(r, node,
		     meant ? meant : "there is no such key (prose belongs under \"description:\", or below an empty line)");
}

/* What the keys say together. */
static int check_keys(struct reading *r)
{
	const struct model *m = r->model;
	size_t n = m->key.n ? m->key.n : m->partition.n;
	const char *why = NULL;
	if (m->key.n && m->partition.n)
		why = "a model has a unique_key or a partition, not both";
	else if (m->kind == MODEL_SNAPSHOT && !m->key.n)
		why = "a snapshot needs a unique_key";
	else if (m->partition.n && m->kind != MODEL_INCREMENTAL)
		why = "partition: only of an incremental model (partitioned_by: is about its files)";
	else if (m->changes_table && m->kind != MODEL_INCREMENTAL)
		why = "changes_from: only of an incremental model";
	else if (m->changes_table && m->changes_exprs.n != n)
		why = "changes_from: as many expressions as the key or partition has columns";
	else if (m->kind == MODEL_VIEW && m->partitioned_by)
		why = "partitioned_by: a view has no files";
	return why ? duct_fail(r->err, DUCT_CONFIG, "%s: %s", r->file, why) : 0;
}

/* A key identifies its row: what is built on it needs that. */
static void add_key_checks(struct reading *r)
{
	struct model *m = r->model;
	if (!m->key.n)
		return;
	struct model_check *check = add_check(r, MODEL_UNIQUE, 0);
	check->columns = m->key;
	name_check(r, check, "unique");
	check = add_check(r, MODEL_NOT_NULL, 0);
	check->columns = m->key;
	name_check(r, check, "not_null");
}

int model_read_header(struct model *model, const struct model_text *text, struct duct_arena *arena, struct duct_error *err)
{
	struct reading r = {.model = model, .arena = arena, .file = text->header_file, .err = err};
	struct flow_node *root = NULL;
	if (text->header) {
		int rc = flow_yaml_parse(&root, arena, text->header, strlen(text->header), text->header_file, NULL, NULL, err);
		if (rc < 0)
			return rc;
	}
	if (root && root->kind != FLOW_NODE_MAP && root->kind != FLOW_NODE_NULL)
		return duct_fail(
			err, DUCT_CONFIG,
			"%s:%d: the comment at the top is the header: \"key: value\" lines (prose belongs under \"description:\", "
			"or below an empty line)",
			text->header_file, root->line);
	for (const struct flow_node *one = root ? root->first : NULL; one; one = one->next)
		if (take_member(&r, one) < 0)
			return -(int)err->class;
	if (!model->schema)
		model->schema = model->layer;
	if (!model->schema)
		return duct_fail(err, DUCT_CONFIG, "%s: layer: is missing: raw, bronze, silver or gold (or a folder of that name)",
				 text->file);
	if (!model->layer)
		model->layer = "";
	add_key_checks(&r);
	return check_keys(&r);
}
