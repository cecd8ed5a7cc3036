/* Type mappings: see typemap.h. */
#include "destination/typemap.h"

#include "record/format.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct typemap {
	struct mapping {
		char *source; /* normal form */
		struct duct_type type;
	} * mappings;
	size_t n, cap;
};

static const struct {
	const char *name;
	enum duct_kind kind;
} destination_types[] = {
	{"BOOLEAN", DUCT_BOOL},
	{"TINYINT", DUCT_INT8},
	{"SMALLINT", DUCT_INT16},
	{"INTEGER", DUCT_INT32},
	{"BIGINT", DUCT_INT64},
	{"UTINYINT", DUCT_UINT8},
	{"USMALLINT", DUCT_UINT16},
	{"UINTEGER", DUCT_UINT32},
	{"UBIGINT", DUCT_UINT64},
	{"FLOAT", DUCT_FLOAT32},
	{"DOUBLE", DUCT_FLOAT64},
	{"DATE", DUCT_DATE},
	{"TIME", DUCT_TIME},
	{"TIMESTAMP", DUCT_TIMESTAMP},
	{"TIMESTAMPTZ", DUCT_TIMESTAMPTZ},
	{"TIMESTAMP WITH TIME ZONE", DUCT_TIMESTAMPTZ},
	{"UUID", DUCT_UUID},
	{"VARCHAR", DUCT_VARCHAR},
	{"TEXT", DUCT_VARCHAR},
	{"JSON", DUCT_JSON},
	{"BLOB", DUCT_BLOB},
};

/* Short names of source types. */
static const char *const aliases[][2] = {
	{"int2", "smallint"},
	{"int4", "integer"},
	{"int", "integer"},
	{"int8", "bigint"},
	{"float4", "real"},
	{"float8", "double precision"},
	{"bool", "boolean"},
	{"decimal", "numeric"},
	{"varchar", "character varying"},
	{"bpchar", "character"},
	{"char", "character"},
	{"timestamptz", "timestamp with time zone"},
	{"timestamp", "timestamp without time zone"},
	{"timetz", "time with time zone"},
	{"time", "time without time zone"},
};

static int parse_type(struct duct_type *ret, const char *text, struct duct_error *err)
{
	int precision, scale, end = 0;
	*ret = (struct duct_type){0};
	if (sscanf(text, "%*[A-Za-z](%d,%d)%n", &precision, &scale, &end) == 2 && !text[end] &&
	    (strncasecmp(text, "decimal(", 8) == 0 || strncasecmp(text, "numeric(", 8) == 0)) {
		if (precision < 1 || precision > 38 || scale < 0 || scale > precision)
			return duct_fail(err, DUCT_CONFIG,
					 "\"%.60s\": a decimal has 1 to 38 digits, of which up to all are behind the point", text);
		*ret = (struct duct_type){.kind = DUCT_DECIMAL, .precision = (uint8_t)precision, .scale = (uint8_t)scale};
		return 0;
	}
	for (size_t i = 0; i < DUCT_LEN(destination_types) && !ret->kind; i++)
		if (strcasecmp(destination_types[i].name, text) == 0)
			ret->kind = destination_types[i].kind;
	if (ret->kind)
		return 0;
	return duct_fail(
		err, DUCT_CONFIG,
		"\"%.60s\" is not a type that a column can be mapped to: BOOLEAN, integers (TINYINT to UBIGINT), FLOAT, DOUBLE, "
		"DECIMAL(p,s), DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, VARCHAR, JSON, BLOB",
		text);
}

/* `name` at the length in `rest`, where Postgres prints it: behind the first word (timestamp(3) with time zone). malloc. */
static char *with_length(const char *name, const char *rest)
{
	size_t length = *rest == '(' ? strcspn(rest, ")") : 0, word = strcspn(name, " ");
	bool inside = length && rest[length] && (strncmp(name, "time ", 5) == 0 || strncmp(name, "timestamp ", 10) == 0);
	if (!inside)
		return duct_xasprintf("%s%s", name, rest);
	length++;
	return duct_xasprintf("%.*s%.*s%s%s", (int)word, name, (int)length, rest, name + word, rest + length);
}

/* Lower case, without blanks behind a comma, without a leading "public." or "pg_catalog.", short names written out. malloc. */
static char *normal_form(const char *text)
{
	AUTO_FREE char *copy = duct_xstrdup(text);
	char *end = copy;
	for (const char *p = text; *p; p++)
		if (*p != ' ' || p == text || p[-1] != ',')
			*end++ = (char)tolower((unsigned char)*p);
	*end = 0;
	const char *source = copy;
	static const char *const schemas[] = {"public.", "pg_catalog."};
	for (size_t i = 0; i < DUCT_LEN(schemas); i++)
		if (strncmp(source, schemas[i], strlen(schemas[i])) == 0)
			source += strlen(schemas[i]);
	size_t n = strcspn(source, "([");
	for (size_t i = 0; i < DUCT_LEN(aliases); i++)
		if (strlen(aliases[i][0]) == n && !strchr(source + n, ' ') && strncmp(source, aliases[i][0], n) == 0)
			return with_length(aliases[i][1], source + n);
	return duct_xstrdup(source);
}

static int add(struct typemap *map, const char *where, json_t *all, struct duct_error *err)
{
	const char *source;
	json_t *value;
	if (!json_is_object(all))
		return duct_fail(err, DUCT_CONFIG, "%s is not a JSON object of source types to destination types", where);
	json_object_foreach(all, source, value)
	{
		struct duct_type type;
		if (!json_is_string(value))
			return duct_fail(err, DUCT_CONFIG, "%s: type of \"%.60s\" is not a text", where, source);
		if (parse_type(&type, json_string_value(value), err))
			return duct_wrap(err, "%s", where);
		map->mappings = duct_grow(map->mappings, &map->cap, map->n + 1, sizeof *map->mappings);
		map->mappings[map->n++] = (struct mapping){normal_form(source), type};
	}
	return 0;
}

static int add_text(struct typemap *map, const char *json, struct duct_error *err)
{
	json_error_t why;
	json_t *all = json_loads(json, 0, &why);
	int rc = all ? add(map, "option \"type_mappings\"", all, err)
		     : duct_fail(err, DUCT_CONFIG, "option \"type_mappings\" is not JSON: %s", why.text);
	json_decref(all);
	return rc;
}

static int add_file(struct typemap *map, const char *file, struct duct_error *err)
{
	json_error_t why;
	AUTO_FREE char *where = duct_xasprintf("option \"type_mappings_file\" (%s)", file);
	json_t *all = json_load_file(file, 0, &why);
	int rc = all ? add(map, where, all, err) : duct_fail(err, DUCT_CONFIG, "%s: %s", where, why.text);
	json_decref(all);
	return rc;
}

int typemap_load(struct typemap **ret, const char *json, const char *file, struct duct_error *err)
{
	struct typemap *map = duct_xcalloc(1, sizeof *map);
	int rc = json && *json ? add_text(map, json, err) : 0;
	if (rc == 0 && file && *file)
		rc = add_file(map, file, err);
	if (rc || !map->n) {
		typemap_free(map);
		map = NULL;
	}
	if (rc == 0)
		*ret = map;
	return rc;
}

void typemap_free(struct typemap *map)
{
	if (!map)
		return;
	for (size_t i = 0; i < map->n; i++)
		free(map->mappings[i].source);
	free(map->mappings);
	free(map);
}

static const struct duct_type *find(const struct typemap *map, const char *name)
{
	for (size_t i = 0; i < map->n; i++)
		if (strcmp(map->mappings[i].source, name) == 0)
			return &map->mappings[i].type;
	return NULL;
}

const struct duct_type *typemap_find(const struct typemap *map, const char *source_type)
{
	if (!map || !source_type)
		return NULL;
	AUTO_FREE char *name = normal_form(source_type);
	const struct duct_type *type = find(map, name);
	char *length = strchr(name, '('), *behind = length ? strchr(length, ')') : NULL;
	if (type || !behind)
		return type;
	memmove(length, behind + 1, strlen(behind + 1) + 1); /* without its length: also `timestamp(3) with time zone` */
	return find(map, name);
}

bool typemap_converts(const struct duct_type *from, const struct duct_type *to)
{
	bool parses =
		from->kind == DUCT_VARCHAR && !duct_kind_is_nested(to->kind) && to->kind != DUCT_JSON && to->kind != DUCT_BLOB;
	return duct_type_widens(from, to) || to->kind == DUCT_VARCHAR || parses;
}

int typemap_convert(struct duct_buf *to, const struct duct_type *from, struct duct_cell cell, const struct duct_type *into,
		    struct duct_error *err)
{
	if (duct_type_widens(from, into))
		return duct_cell_cast(to, from, cell, into, err);
	if (into->kind == DUCT_VARCHAR) {
		duct_format_value(to, from, cell);
		return 0;
	}
	return duct_parse_value(to, into, cell.data, cell.len, err);
}
