/* Members of records to columns: see shape.h. */
#include "ingest/shape.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { MOST_COLUMNS = 2000 };

struct ingest_field {
	char *name;
	size_t n;
	int column;		    /* -1: none yet */
	const char *path;	    /* column name of what is in it */
	struct ingest_shape *child; /* table of its lists */
	struct ingest_field *kids;
	size_t nkids, cap, hint;
};

struct ingest_shape *ingest_shape_new(const struct ingest_spec *spec, const char *table)
{
	struct ingest_shape *shape = duct_xcalloc(1, sizeof *shape);
	duct_arena_init(&shape->arena);
	shape->spec = spec;
	shape->table = duct_xstrdup(table);
	shape->fields = duct_xcalloc(1, sizeof *shape->fields);
	shape->fields->path = "";
	shape->fields->column = -1;
	return shape;
}

static void free_kids(struct ingest_field *field)
{
	for (size_t i = 0; i < field->nkids; i++)
		free_kids(&field->kids[i]);
	free(field->kids);
}

void ingest_shape_free(struct ingest_shape *shape)
{
	if (!shape)
		return;
	for (size_t i = 0; i < shape->nchildren; i++)
		ingest_shape_free(shape->children[i]);
	free_kids(shape->fields);
	free(shape->fields);
	free(shape->children);
	free(shape->columns);
	free(shape->known);
	free(shape->lists);
	free(shape->table);
	duct_arena_done(&shape->arena);
	free(shape);
}

void ingest_snake_case(struct duct_buf *to, const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)name[i], before = i ? (unsigned char)name[i - 1] : 0;
		bool next_low = i + 1 < n && islower((unsigned char)name[i + 1]);
		if (isupper(c) && i && (islower(before) || isdigit(before) || (isupper(before) && next_low)))
			duct_buf_putc(to, '_');
		duct_buf_putc(to, isalnum(c) || c >= 0x80 ? (char)tolower(c) : '_');
	}
}

int ingest_shape_column(const struct ingest_shape *shape, const char *name)
{
	for (size_t i = 0; i < shape->ncolumns; i++)
		if (strcasecmp(shape->columns[i].name, name) == 0)
			return (int)i;
	return -1;
}

/* --- new columns --- */

static void declare(const struct ingest_shape *shape, struct ingest_column *column)
{
	const char *columns = shape->spec->main.columns;
	struct json_doc doc = {0};
	struct duct_error ignored;
	if (!columns || shape->parent)
		return;
	if (!json_parse(&doc, columns, strlen(columns), &ignored)) {
		const struct json_node *type = json_member(&doc, doc.nodes, column->name, strlen(column->name));
		AUTO_BUF struct duct_buf text = {0};
		duct_buf_puts(&text, "");
		if (type)
			json_unescape(&doc, type, &text);
		column->declared = type && ingest_type_named(text.data, &column->type);
	}
	json_done(&doc);
}

void ingest_shape_know(struct ingest_shape *shape, const char *name)
{
	shape->known = duct_grow(shape->known, &shape->known_cap, shape->nknown + 1, sizeof *shape->known);
	shape->known[shape->nknown++] = duct_arena_strdup(&shape->arena, name);
}

static bool knows(const struct ingest_shape *shape, const char *name)
{
	for (size_t i = 0; i < shape->nknown; i++)
		if (strcmp(shape->known[i], name) == 0)
			return true;
	return false;
}

/* Names that differ only in case get numbers: the ones that the table has given them, in whatever order they come now. */
static void name_column(const struct ingest_shape *shape, const char *name, struct duct_buf *unique)
{
	enum { MOST_ALIKE = 10 };
	duct_buf_puts(unique, name);
	for (int i = 1; i < MOST_ALIKE && shape->nknown; i++) {
		if (knows(shape, unique->data) && ingest_shape_column(shape, unique->data) < 0)
			return;
		unique->len = 0;
		duct_buf_printf(unique, "%s_%d", name, i);
	}
	unique->len = 0;
	duct_buf_puts(unique, name);
	for (int i = 1; ingest_shape_column(shape, unique->data) >= 0; i++) {
		unique->len = 0;
		duct_buf_printf(unique, "%s_%d", name, i);
	}
}

static int add_column(struct ingest_shape *shape, const char *name, struct duct_error *err)
{
	AUTO_BUF struct duct_buf unique = {0};
	if (shape->ncolumns == MOST_COLUMNS)
		return duct_fail(err, DUCT_DATA,
				 "table \"%s\": records have more than %d different members: keep objects as JSON "
				 "(nested: json)",
				 shape->table, MOST_COLUMNS);
	name_column(shape, name, &unique);
	shape->columns = duct_grow(shape->columns, &shape->columns_cap, shape->ncolumns + 1, sizeof *shape->columns);
	shape->columns[shape->ncolumns] = (struct ingest_column){.name = duct_arena_strdup(&shape->arena, unique.data)};
	declare(shape, &shape->columns[shape->ncolumns]);
	return (int)shape->ncolumns++;
}

int ingest_shape_give(struct ingest_shape *shape, const char *name, const struct duct_type *given, bool from_text,
		      struct duct_error *err)
{
	AUTO_BUF struct duct_buf plain = {0};
	if (shape->spec->main.names)
		ingest_snake_case(&plain, name, strlen(name));
	else
		duct_buf_puts(&plain, name);
	int at = add_column(shape, plain.len ? plain.data : "_", err);
	if (at < 0)
		return at;
	struct ingest_column *c = &shape->columns[at];
	c->given = given;
	c->from_text = from_text;
	c->min = 1; /* above max: not known */
	return 0;
}

/* Of members that are one name in snake case the one that is spelled so has it, whichever comes first. */
static void give_way(struct ingest_shape *shape, struct ingest_field *parent, const char *path)
{
	for (size_t i = 0; i < parent->nkids; i++) {
		int column = strcmp(parent->kids[i].path, path) == 0 ? parent->kids[i].column : -1;
		AUTO_BUF struct duct_buf unique = {0};
		if (column < 0 || strcmp(shape->columns[column].name, path) != 0)
			continue;
		name_column(shape, path, &unique);
		shape->columns[column].name = duct_arena_strdup(&shape->arena, unique.data);
	}
}

static struct ingest_field *add_field(struct ingest_shape *shape, struct ingest_field *parent, const char *name, size_t n)
{
	AUTO_BUF struct duct_buf path = {0};
	duct_buf_puts(&path, parent->path);
	if (path.len)
		duct_buf_puts(&path, "__");
	size_t own = path.len;
	if (shape->spec->main.names)
		ingest_snake_case(&path, name, n);
	else
		duct_buf_append(&path, name, n);
	if (shape->spec->main.names && path.len - own == n && memcmp(path.data + own, name, n) == 0)
		give_way(shape, parent, path.data);
	parent->kids = duct_grow(parent->kids, &parent->cap, parent->nkids + 1, sizeof *parent->kids);
	struct ingest_field *field = &parent->kids[parent->nkids++];
	*field = (struct ingest_field){.n = n, .column = -1};
	field->name = duct_arena_dup(&shape->arena, name, n + 1);
	field->path = duct_arena_strdup(&shape->arena, path.len ? path.data : "_");
	return field;
}

static struct ingest_field *find_field(struct ingest_shape *shape, struct ingest_field *parent, const struct json_doc *doc,
				       const struct json_node *name)
{
	AUTO_BUF struct duct_buf plain = {0};
	const char *text = doc->text + name->at;
	size_t n = name->len;
	if (name->escaped || parent->nkids == 0) {
		json_unescape(doc, name, &plain);
		duct_buf_puts(&plain, "");
		text = plain.data;
		n = plain.len;
	}
	for (size_t i = 0; i < parent->nkids; i++) {
		size_t at = (parent->hint + i) % parent->nkids;
		struct ingest_field *field = &parent->kids[at];
		if (field->n == n && memcmp(field->name, text, n) == 0) {
			parent->hint = at + 1;
			return field;
		}
	}
	AUTO_FREE char *copy = duct_xstrndup(text, n);
	parent->hint = parent->nkids + 1;
	return add_field(shape, parent, copy, n);
}

bool ingest_shape_has_child(const struct ingest_shape *shape, const char *table)
{
	for (size_t i = 0; i < shape->nchildren; i++)
		if (strcasecmp(shape->children[i]->table, table) == 0)
			return true;
	return false;
}

struct ingest_shape *ingest_shape_child(struct ingest_shape *shape, const char *table)
{
	struct duct_error ignored; /* these few columns are not too many */
	struct ingest_shape *child = ingest_shape_new(shape->spec, table);
	child->parent = shape;
	for (char *const *key = shape->spec->main.merge_key; *key; key++) {
		AUTO_FREE char *name = duct_xasprintf("_parent_%s", *key);
		(void)add_column(child, name, &ignored);
	}
	(void)add_column(child, "_index", &ignored);
	child->columns[child->ncolumns - 1].guess = GUESS_INTEGER;
	shape->children = duct_grow(shape->children, &shape->children_cap, shape->nchildren + 1, sizeof(struct ingest_shape *));
	shape->children[shape->nchildren++] = child;
	return child;
}

static struct ingest_shape *child_of(struct ingest_shape *shape, struct ingest_field *field)
{
	AUTO_FREE char *table = duct_xasprintf("%s__%s", shape->table, field->path);
	for (int i = 1; !field->child && ingest_shape_has_child(shape, table); i++) {
		free(table);
		table = duct_xasprintf("%s__%s_%d", shape->table, field->path, i);
	}
	if (!field->child)
		field->child = ingest_shape_child(shape, table);
	return field->child;
}

void ingest_shape_bind_keys(struct ingest_shape *child)
{
	char *const *keys = child->spec->main.merge_key;
	for (size_t i = 0; keys[i]; i++) {
		int at = ingest_shape_column(child->parent, keys[i]);
		if (at < 0 || !child->parent->columns[at].type.kind)
			continue;
		child->columns[i].declared = true;
		child->columns[i].type = child->parent->columns[at].type;
	}
}

/* --- the record at hand --- */

static int take_object(struct ingest_shape *shape, struct ingest_field *at, const struct json_doc *doc,
		       const struct json_node *object, struct duct_error *err);

static void take_list(struct ingest_shape *shape, struct ingest_shape *child, const struct json_node *value)
{
	size_t at = 0;
	while (at < shape->nlists && shape->lists[at].shape != child)
		at++;
	shape->lists = duct_grow(shape->lists, &shape->lists_cap, at + 1, sizeof *shape->lists);
	shape->lists[at] = (struct ingest_list){child, value};
	shape->nlists += at == shape->nlists;
}

/* Of members of one name the last one counts, as everywhere. */
static int take_member(struct ingest_shape *shape, struct ingest_field *field, const struct json_doc *doc,
		       const struct json_node *value, struct duct_error *err)
{
	int nested = shape->spec->main.nested;
	if (value->kind == JSON_KIND_OBJECT && nested != INGEST_NESTED_JSON)
		return take_object(shape, field, doc, value, err);
	if (value->kind == JSON_KIND_ARRAY && nested == INGEST_NESTED_TABLES && !shape->parent) {
		take_list(shape, child_of(shape, field), value);
		return 0;
	}
	if (field->column < 0 && value->kind != JSON_KIND_NULL) {
		field->column = add_column(shape, field->path, err);
		if (field->column < 0)
			return field->column;
	}
	if (field->column >= 0)
		shape->columns[field->column].value = value;
	return 0;
}

static int take_object(struct ingest_shape *shape, struct ingest_field *at, const struct json_doc *doc,
		       const struct json_node *object, struct duct_error *err)
{
	const struct json_node *end = doc->nodes + object->end;
	at->hint = 0;
	if (at->nkids > 2 * MOST_COLUMNS)
		return duct_fail(err, DUCT_DATA,
				 "table \"%s\": objects have more than %d different members: keep them as JSON (nested: json)",
				 shape->table, 2 * MOST_COLUMNS);
	for (const struct json_node *name = object + 1; name < end; name = doc->nodes + name[1].end) {
		if (take_member(shape, find_field(shape, at, doc, name), doc, name + 1, err))
			return -(int)err->class;
	}
	return 0;
}

static void forget(struct ingest_shape *shape)
{
	for (size_t i = 0; i < shape->ncolumns; i++)
		shape->columns[i].value = NULL;
	shape->nlists = 0;
}

int ingest_shape_take(struct ingest_shape *shape, const struct json_doc *doc, const struct json_node *record,
		      struct duct_error *err)
{
	forget(shape);
	if (record->kind != JSON_KIND_OBJECT)
		return duct_fail(err, DUCT_DATA, "a record is no object but begins with \"%.20s\"", doc->text + record->at);
	return take_object(shape, shape->fields, doc, record, err);
}

/* What an item that is no object has. */
static struct ingest_field *value_field(struct ingest_shape *shape)
{
	struct ingest_field *all = shape->fields;
	for (size_t i = 0; i < all->nkids; i++)
		if (strcmp(all->kids[i].name, "value") == 0)
			return &all->kids[i];
	return add_field(shape, all, "value", 5);
}

int ingest_shape_take_item(struct ingest_shape *shape, const struct json_doc *doc, const struct json_node *item,
			   struct duct_error *err)
{
	char *const *keys = shape->spec->main.merge_key;
	forget(shape);
	for (int i = 0; keys[i]; i++) {
		int at = ingest_shape_column(shape->parent, keys[i]);
		shape->columns[i].value = at < 0 ? NULL : shape->parent->columns[at].value;
	}
	if (item->kind == JSON_KIND_OBJECT)
		return take_object(shape, shape->fields, doc, item, err);
	return take_member(shape, value_field(shape), doc, item, err);
}

/* --- what they are --- */

static const char *const guess_names[] = {"null", "boolean", "whole number", "large number", "number", "text", "JSON"};

static enum ingest_guess guess_of(const struct json_doc *doc, const struct json_node *node, int64_t *ret)
{
	switch ((enum json_kind)node->kind) {
	case JSON_KIND_NULL: return GUESS_NONE;
	case JSON_KIND_FALSE:
	case JSON_KIND_TRUE: return GUESS_BOOL;
	case JSON_KIND_NUMBER: return GUESS_NUMBER;
	case JSON_KIND_STRING: return GUESS_TEXT;
	case JSON_KIND_ARRAY:
	case JSON_KIND_OBJECT: return GUESS_JSON;
	case JSON_KIND_INTEGER: break;
	}
	const char *s = doc->text + node->at, *end = s + node->len;
	bool minus = *s == '-';
	int64_t v = 0;
	for (s += minus; s < end; s++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, minus ? '0' - *s : *s - '0', &v))
			return GUESS_BIG;
	*ret = v;
	return GUESS_INTEGER;
}

static bool join(enum ingest_guess a, enum ingest_guess b, enum ingest_guess *ret)
{
	bool numbers = a >= GUESS_INTEGER && a <= GUESS_NUMBER && b >= GUESS_INTEGER && b <= GUESS_NUMBER;
	if (a == b || a == GUESS_NONE || b == GUESS_NONE || numbers || a == GUESS_JSON || b == GUESS_JSON) {
		*ret = a > b ? a : b;
		return true;
	}
	return false;
}

int ingest_shape_learn(struct ingest_shape *shape, const struct json_doc *doc, int64_t row, struct duct_error *err)
{
	shape->rows++;
	for (size_t i = 0; i < shape->ncolumns; i++) {
		struct ingest_column *c = &shape->columns[i];
		int64_t v = 0;
		if (!c->value || c->declared)
			continue;
		enum ingest_guess guess = guess_of(doc, c->value, &v), before = c->guess;
		if (!join(before, guess, &c->guess))
			return duct_fail(
				err, DUCT_DATA,
				"column \"%s\": row %lld is a %s (%.*s), rows before it are a %s: declare its type (columns: "
				"{%s: varchar})",
				c->name, (long long)row, guess_names[guess], (int)(c->value->len < 60 ? c->value->len : 60),
				doc->text + c->value->at, guess_names[before], c->name);
		if (guess == GUESS_INTEGER) {
			c->min = v < c->min ? v : c->min;
			c->max = v > c->max ? v : c->max;
		}
	}
	return 0;
}

static bool guessed_type(enum ingest_guess guess, struct duct_type *ret)
{
	static const enum duct_kind kinds[] = {
		[GUESS_BOOL] = DUCT_BOOL,      [GUESS_INTEGER] = DUCT_INT64, [GUESS_BIG] = DUCT_DECIMAL,
		[GUESS_NUMBER] = DUCT_FLOAT64, [GUESS_TEXT] = DUCT_VARCHAR,  [GUESS_JSON] = DUCT_JSON};
	*ret = (struct duct_type){.kind = kinds[guess], .precision = guess == GUESS_BIG ? 38 : 0};
	return guess != GUESS_NONE;
}

/* Whether values of the guess are tried as values of the type; each is looked at when it is written. */
static bool accepts(const struct duct_type *type, const struct ingest_column *c)
{
	switch (type->kind) {
	case DUCT_VARCHAR: return c->guess != GUESS_JSON;
	case DUCT_JSON: return true;
	case DUCT_BOOL: return c->guess == GUESS_BOOL;
	case DUCT_INT8: return c->guess == GUESS_INTEGER && c->min >= INT8_MIN && c->max <= INT8_MAX;
	case DUCT_INT16: return c->guess == GUESS_INTEGER && c->min >= INT16_MIN && c->max <= INT16_MAX;
	case DUCT_INT32: return c->guess == GUESS_INTEGER && c->min >= INT32_MIN && c->max <= INT32_MAX;
	case DUCT_INT64: return c->guess == GUESS_INTEGER;
	case DUCT_FLOAT64: return c->guess >= GUESS_INTEGER && c->guess <= GUESS_NUMBER;
	case DUCT_DECIMAL: return c->guess >= GUESS_INTEGER && c->guess <= GUESS_TEXT;
	case DUCT_DATE:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ:
	case DUCT_UUID: return c->guess == GUESS_TEXT;
	default: return false;
	}
}

static bool is_whole(enum duct_kind kind)
{
	return kind >= DUCT_INT8 && kind <= DUCT_UINT64;
}

static bool holds(const struct duct_type *type, int64_t min, int64_t max)
{
	const int64_t exact = INT64_C(1) << 53;
	switch (type->kind) {
	case DUCT_INT8: return min >= INT8_MIN && max <= INT8_MAX;
	case DUCT_INT16: return min >= INT16_MIN && max <= INT16_MAX;
	case DUCT_INT32: return min >= INT32_MIN && max <= INT32_MAX;
	case DUCT_INT64: return true;
	case DUCT_UINT8: return min >= 0 && max <= UINT8_MAX;
	case DUCT_UINT16: return min >= 0 && max <= UINT16_MAX;
	case DUCT_UINT32: return min >= 0 && max <= UINT32_MAX;
	case DUCT_FLOAT64: return min > -exact && max < exact;
	default: return false;
	}
}

/* Whether values of c->given are values of the type, or (of text) are tried as such. */
static bool takes_given(const struct duct_type *type, const struct ingest_column *c)
{
	enum duct_kind kind = c->given->kind;
	if (duct_type_widens(c->given, type))
		return true;
	if (duct_kind_is_nested(kind) || duct_kind_is_nested(type->kind))
		return false;
	if (type->kind == DUCT_VARCHAR)
		return kind != DUCT_JSON;
	if (is_whole(kind) && (is_whole(type->kind) || type->kind == DUCT_FLOAT64))
		return c->min <= c->max && holds(type, c->min, c->max);
	if (is_whole(kind) && type->kind == DUCT_DECIMAL)
		return true; /* one that does not fit fails */
	return c->from_text && !duct_type_widens(type, c->given);
}

int ingest_column_settle(struct ingest_column *c, const struct duct_type *known, bool *ret_retype, struct duct_error *err)
{
	struct duct_type own = c->type;
	AUTO_BUF struct duct_buf a = {0}, b = {0};
	bool any = c->declared || c->given || guessed_type(c->guess, &own);
	if (c->given && !c->declared)
		own = *c->given;
	*ret_retype = false;
	if (!known) {
		c->type = any ? own : (struct duct_type){0};
		return 0;
	}
	bool taken = c->empty ||
		(c->declared	    ? duct_type_widens(&own, known)
			 : c->given ? takes_given(known, c)
				    : accepts(known, c));
	if (!any || taken || duct_type_equal(known, &own)) {
		c->type = *known;
		return 0;
	}
	if (duct_type_widens(known, &own)) {
		*ret_retype = true;
		c->type = own;
		return 0;
	}
	duct_type_print(&a, known);
	duct_type_print(&b, &own);
	return duct_fail(err, DUCT_DATA,
			 "column \"%s\": its values are %s, the table has %s, which does not widen to that: declare "
			 "what it is to be (columns), or put the rows into another table",
			 c->name, b.data, a.data);
}
