/* What one commit of a Delta table did: foreign text, read without trust. See delta.h. */
#include "copy/delta.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Paths of a log are URIs: "%20" is a blank. NULL: it is none that we follow. */
static const char *whole_path(const char *path, const char *base, struct duct_arena *arena)
{
	AUTO_BUF struct duct_buf to = {0};
	bool whole = strstr(path, "://") || *path == '/';
	if (whole && strncmp(path, "s3://", 5) != 0)
		return NULL;
	if (!whole)
		duct_buf_printf(&to, "%s/", base);
	for (; *path; path++) {
		int high = *path == '%' ? digit(path[1]) : -1, low = high >= 0 ? digit(path[2]) : -1;
		if (*path == '%' && (low < 0 || high * 16 + low == 0))
			return NULL;
		duct_buf_putc(&to, *path == '%' ? (char)(high * 16 + low) : *path);
		path += *path == '%' ? 2 : 0;
	}
	/* DuckDB takes names for patterns. */
	return strpbrk(to.data ? to.data : "*", "*?[") ? NULL : duct_arena_strdup(arena, to.data);
}

static void take_columns(const json_t *values, struct duct_arena *arena, struct delta_added *to)
{
	size_t n = json_object_size(values), i = 0;
	const char **names = duct_arena_zalloc(arena, (n + 1) * sizeof *names);
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)values, key, value) names[i++] = duct_arena_strdup(arena, key);
	to->columns = names;
	to->ncolumns = n;
}

/* Every file must have the same partition columns; text or null each. */
static bool take_values(const json_t *values, struct duct_arena *arena, struct delta_added *to, struct delta_file *file)
{
	if (to->n == 0)
		take_columns(values, arena, to);
	if (json_object_size(values) != to->ncolumns)
		return false;
	const char **texts = duct_arena_zalloc(arena, (to->ncolumns + 1) * sizeof *texts);
	for (size_t i = 0; i < to->ncolumns; i++) {
		const json_t *value = json_object_get(values, to->columns[i]);
		if (!json_is_string(value) && !json_is_null(value))
			return false;
		/* An empty text is NULL in Delta, whatever the type. */
		const char *text = json_string_value(value);
		texts[i] = text && *text ? duct_arena_strdup(arena, text) : NULL;
	}
	file->values = texts;
	return true;
}

static const char *take_add(const json_t *add, const char *base, struct duct_arena *arena, struct delta_added *to)
{
	struct delta_file file = {.size = json_integer_value(json_object_get(add, "size"))};
	const char *path = json_string_value(json_object_get(add, "path"));
	const json_t *vector = json_object_get(add, "deletionVector"), *values = json_object_get(add, "partitionValues");
	if (vector && !json_is_null(vector))
		return "rows were deleted since (deletion vectors)";
	if (json_is_false(json_object_get(add, "dataChange")))
		return "the table was compacted since";
	file.url = path ? whole_path(path, base, arena) : NULL;
	if (!file.url)
		return "a file added since has a name that is not followed";
	if (file.size < 0 || !take_values(values, arena, to, &file))
		return "files added since have other partition columns";
	to->files = duct_grow(to->files, &to->cap, to->n + 1, sizeof *to->files);
	to->files[to->n++] = file;
	to->bytes += file.size;
	return NULL;
}

/* NULL: this action leaves it an append. */
static const char *take_action(const json_t *action, const char *base, struct duct_arena *arena, struct delta_added *to)
{
	const json_t *add = json_object_get(action, "add");
	if (json_object_get(action, "commitInfo") || json_object_get(action, "txn"))
		return NULL;
	if (json_is_object(add))
		return take_add(add, base, arena, to);
	if (json_object_get(action, "remove"))
		return "files were removed since";
	if (json_object_get(action, "metaData"))
		return "the table was altered since";
	if (json_object_get(action, "protocol"))
		return "the table's protocol was changed since";
	return "a commit since did something that is not known here";
}

int delta_read_commit(const char *text, size_t n, const char *base, struct duct_arena *arena, struct delta_added *to,
		      const char **ret_why, struct duct_error *err)
{
	const char *end = text + n;
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text)), *next = stop ? stop : end;
		size_t len = (size_t)(next - text);
		const char *line = text;
		text = next + (stop != NULL);
		if (len == 0 || (len == 1 && *line == '\r'))
			continue;
		json_t *action = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(action)) {
			json_decref(action);
			return duct_fail(err, DUCT_DATA, "its commit is no list of JSON objects");
		}
		*ret_why = take_action(action, base, arena, to);
		json_decref(action);
		if (*ret_why)
			return 0;
	}
	return 1;
}
