/* The model of a catalog in memory: columns out of rows, names, folders. See model.h and lake.h. */
#include "lake/lake.h"

#include "base/order.h"
#include "base/utf8.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { LONGEST_PATH_PART = 200 };

struct lake_model *lake_model_new(void)
{
	struct lake_model *model = duct_xcalloc(1, sizeof *model);
	duct_arena_init(&model->arena);
	return model;
}

void lake_model_free(struct lake_model *model)
{
	if (!model)
		return;
	for (size_t i = 0; i < model->ntables; i++) {
		struct lake_table *t = &model->tables[i];
		for (int c = 0; c < t->ncolumn_stats; c++) {
			free((char *)t->column_stats[c].min);
			free((char *)t->column_stats[c].max);
		}
		free(t->column_stats);
		for (int k = 0; k < t->npartition_keys; k++)
			free((char *)t->partition_keys[k].transform);
		free(t->partition_keys);
	}
	free(model->schemas);
	free(model->tables);
	free(model->inlined);
	free(model->views);
	free(model->relations);
	duct_arena_done(&model->arena);
	free(model);
}

struct lake_table *lake_model_table(const struct lake_model *model, int64_t table_id)
{
	size_t at = duct_lower_bound_i64(model->tables, model->ntables, sizeof *model->tables, table_id);
	return at < model->ntables && model->tables[at].id == table_id ? &model->tables[at] : NULL;
}

bool lake_path_is_remote(const char *path)
{
	const char *colon = strstr(path, "://");
	return colon && colon > path && !memchr(path, '/', (size_t)(colon - path));
}

static char fold(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool lake_same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (fold(*a) != fold(*b))
			return false;
	return *a == *b;
}

const struct lake_schema *lake_model_schema(const struct lake_model *model, const char *name)
{
	for (size_t i = 0; i < model->nschemas; i++)
		if (lake_same_name(model->schemas[i].name, name))
			return &model->schemas[i];
	return NULL;
}

static const struct {
	const char *name;
	enum duct_kind kind;
} scalar_types[] = {
	{"boolean", DUCT_BOOL},
	{"int8", DUCT_INT8},
	{"int16", DUCT_INT16},
	{"int32", DUCT_INT32},
	{"int64", DUCT_INT64},
	{"uint8", DUCT_UINT8},
	{"uint16", DUCT_UINT16},
	{"uint32", DUCT_UINT32},
	{"uint64", DUCT_UINT64},
	{"float32", DUCT_FLOAT32},
	{"float64", DUCT_FLOAT64},
	{"varchar", DUCT_VARCHAR},
	{"json", DUCT_JSON},
	{"blob", DUCT_BLOB},
	{"uuid", DUCT_UUID},
	{"date", DUCT_DATE},
	{"time", DUCT_TIME},
	{"timestamp", DUCT_TIMESTAMP},
	{"timestamp_us", DUCT_TIMESTAMP},
	{"timestamptz", DUCT_TIMESTAMPTZ},
	{"list", DUCT_LIST},
	{"struct", DUCT_STRUCT},
	{"map", DUCT_MAP},
};

/* Without its children; false: not one that we write. */
static bool parse_column_type(const char *text, struct duct_type *ret)
{
	int precision, scale, end = 0;
	if (sscanf(text, "decimal(%d,%d)%n", &precision, &scale, &end) == 2 && end && !text[end]) {
		if (precision < 1 || precision > 38 || scale < 0 || scale > precision)
			return false;
		*ret = (struct duct_type){.kind = DUCT_DECIMAL, .precision = (uint8_t)precision, .scale = (uint8_t)scale};
		return true;
	}
	for (size_t i = 0; i < DUCT_LEN(scalar_types); i++)
		if (strcasecmp(text, scalar_types[i].name) == 0) {
			*ret = (struct duct_type){.kind = scalar_types[i].kind};
			return true;
		}
	return false;
}

void lake_print_column_type(struct duct_buf *to, const struct duct_type *type)
{
	if (type->kind == DUCT_DECIMAL) {
		duct_buf_printf(to, "decimal(%d,%d)", type->precision, type->scale);
		return;
	}
	for (size_t i = 0; i < DUCT_LEN(scalar_types); i++)
		if (scalar_types[i].kind == type->kind) {
			duct_buf_puts(to, scalar_types[i].name);
			return;
		}
}

struct build {
	struct duct_arena *arena;
	const struct lake_column_row *rows;
	size_t n;
	int64_t *ids; /* of the nodes below the root being built */
	int nids;
	bool supported;
};

static bool children_fit(const struct duct_type *type)
{
	if (type->kind == DUCT_LIST)
		return type->nchildren == 1;
	if (type->kind == DUCT_MAP)
		return type->nchildren == 2;
	return type->kind != DUCT_STRUCT || type->nchildren > 0;
}

static struct duct_type build_type(struct build *b, const struct lake_column_row *row)
{
	struct duct_type type = {.kind = DUCT_VARCHAR};
	if (!parse_column_type(row->type, &type)) {
		b->supported = false;
		return type;
	}
	if (!duct_kind_is_nested(type.kind))
		return type;
	size_t n = 0;
	for (size_t i = 0; i < b->n; i++)
		n += b->rows[i].parent == row->id;
	struct duct_type *children = duct_arena_alloc(b->arena, n * sizeof *children);
	for (size_t i = 0, c = 0; i < b->n; i++) {
		/* A row that is its own ancestor must not recurse for ever: ids rise from parent to child. */
		if (b->rows[i].parent != row->id || b->rows[i].id <= row->id)
			continue;
		b->ids[b->nids++] = b->rows[i].id;
		children[c] = build_type(b, &b->rows[i]);
		children[c].name = b->rows[i].name;
		type.nchildren = (uint16_t)++c;
	}
	type.children = children;
	if (!children_fit(&type))
		b->supported = false;
	return type;
}

void lake_build_columns(struct duct_arena *arena, const struct lake_column_row *rows, size_t n, struct lake_column **ret,
			int *ret_n)
{
	struct lake_column *columns = duct_arena_zalloc(arena, (n + 1) * sizeof *columns);
	int64_t *ids = duct_xmalloc((n + 1) * sizeof *ids);
	int ncolumns = 0;
	for (size_t i = 0; i < n; i++) {
		if (rows[i].parent >= 0)
			continue;
		struct build b = {.arena = arena, .rows = rows, .n = n, .ids = ids, .supported = true};
		struct lake_column *c = &columns[ncolumns++];
		*c = (struct lake_column){
			.id = rows[i].id,
			.name = rows[i].name,
			.initial_default = rows[i].initial_default,
			.type_name = rows[i].type,
			.nulls_allowed = rows[i].nulls_allowed,
		};
		c->type = build_type(&b, &rows[i]);
		c->supported = b.supported;
		c->nleaf_ids = b.nids;
		if (b.nids)
			c->leaf_ids = duct_arena_dup(arena, ids, (size_t)b.nids * sizeof *ids);
	}
	free(ids);
	*ret = columns;
	*ret_n = ncolumns;
}

int lake_check_name(const char *what, const char *name, struct duct_error *err)
{
	if (!*name)
		return duct_fail(err, DUCT_CONFIG, "a %s with an empty name cannot be stored in a lake", what);
	if (!duct_utf8_valid(name, strlen(name)))
		return duct_fail(err, DUCT_CONFIG, "%s name is not valid UTF-8", what);
	return 0;
}

char *lake_path_part(struct duct_arena *arena, const char *name, const char *uuid)
{
	size_t n = strlen(name), plain = 0;
	while (plain < n && (isalnum((unsigned char)name[plain]) || name[plain] == '_' || name[plain] == '-') &&
	       !(name[plain] & 0x80))
		plain++;
	return lake_join_folder(arena, "", plain == n && n && n <= LONGEST_PATH_PART ? name : uuid, true);
}

char *lake_join_folder(struct duct_arena *arena, const char *base, const char *path, bool relative)
{
	size_t nbase = relative ? strlen(base) : 0, npath = strlen(path);
	char *whole = duct_arena_alloc(arena, nbase + npath + 2);
	memcpy(whole, base, nbase);
	memcpy(whole + nbase, path, npath);
	size_t n = nbase + npath;
	if (n && whole[n - 1] != '/')
		whole[n++] = '/';
	whole[n] = 0;
	return whole;
}

const char *lake_state_name(enum duct_flow_state state)
{
	return state == DUCT_STATE_STREAMING ? "streaming" : state == DUCT_STATE_COPYING ? "copying" : "none";
}

void lake_sqlite_now(char to[40])
{
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(to, 32, "%Y-%m-%d %H:%M:%S", &tm);
	/* The official spelling: no trailing zeros, so that texts of both writers sort by time. */
	if (now.tv_nsec / 1000) {
		n += (size_t)snprintf(to + n, 40 - n, ".%06ld", now.tv_nsec / 1000);
		while (to[n - 1] == '0')
			n--;
	}
	memcpy(to + n, "+00", 4);
}
