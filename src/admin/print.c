/* Answers, for people and for programs. */
#include "admin/admin.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "admin/settings.h"

enum { MOST_COLUMNS = 16, WIDEST = 60 };

int admin_put_json(const json_t *value, struct duct_error *err)
{
	char *text = json_dumps(value,
				JSON_ENCODE_ANY | JSON_PRESERVE_ORDER | (admin_settings_pretty() ? JSON_INDENT(2) : JSON_COMPACT));
	if (!text)
		return duct_fail(err, DUCT_FATAL, "the answer cannot be written as JSON");
	AUTO_BUF struct duct_buf line = {0};
	duct_buf_puts(&line, text);
	duct_buf_putc(&line, '\n');
	free(text);
	return cli_print(&line, err);
}

/* FLOW_STATE_RUNNING is "running". */
static void put_enum(struct duct_buf *to, const char *text)
{
	static const char *const prefixes[] = {"FLOW_STATE_", "ENDPOINT_TYPE_", "WIRE_FORMAT_",	  "RUN_STATE_",
					       "ACK_POLICY_", "FAILURE_MODE_",	"GIVE_UP_POLICY_"};
	for (size_t i = 0; i < DUCT_LEN(prefixes); i++) {
		size_t n = strlen(prefixes[i]);
		if (strncmp(text, prefixes[i], n) != 0)
			continue;
		if (strcmp(text + n, "UNSPECIFIED") == 0)
			return;
		for (text += n; *text; text++)
			duct_buf_putc(to, *text == '_' ? '-' : (char)(*text | 0x20));
		return;
	}
	for (; *text; text++) /* a line stays one, and a terminal gets no orders */
		duct_buf_putc(to, (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text);
}

static void put_value(struct duct_buf *to, const json_t *value)
{
	if (json_is_string(value)) {
		put_enum(to, json_string_value(value));
	} else if (json_is_array(value)) {
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (i)
				duct_buf_putc(to, ',');
			put_value(to, json_array_get(value, i));
		}
	} else if (json_is_object(value)) {
		const char *key;
		json_t *one;
		bool later = false;
		json_object_foreach((json_t *)(uintptr_t)value, key, one)
		{
			duct_buf_printf(to, "%s%s=", later ? "," : "", key);
			put_value(to, one);
			later = true;
		}
	} else if (json_is_integer(value)) {
		duct_buf_printf(to, "%lld", (long long)json_integer_value(value));
	} else if (json_is_boolean(value)) {
		duct_buf_puts(to, json_is_true(value) ? "yes" : "no");
	} else if (json_is_real(value)) {
		duct_buf_printf(to, "%g", json_real_value(value));
	}
}

void admin_put_path(struct duct_buf *to, const json_t *value, const char *path)
{
	if (!value || !*path) {
		put_value(to, value);
		return;
	}
	if (json_is_array(value)) {
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (i)
				duct_buf_putc(to, ',');
			admin_put_path(to, json_array_get(value, i), path);
		}
		return;
	}
	if (json_is_string(value)) { /* JSON inside of JSON, as results of runs are */
		json_t *inner = json_loads(json_string_value(value), 0, NULL);
		if (inner && !json_is_string(inner))
			admin_put_path(to, inner, path);
		json_decref(inner);
		return;
	}
	size_t n = strcspn(path, ".");
	AUTO_FREE char *key = duct_xstrndup(path, n);
	admin_put_path(to, json_object_get(value, key), path[n] ? path + n + 1 : path + n);
}

/* Characters, as wide as a terminal shows most of them. */
static size_t width_of(const char *text)
{
	size_t n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static char *cell_of(const json_t *row, const char *path)
{
	AUTO_BUF struct duct_buf cell = {0};
	admin_put_path(&cell, row, path);
	return cell.data ? duct_steal(&cell.data) : duct_xstrdup("");
}

/* What is wider than its column keeps its distance from the next one. */
static void put_cell(struct duct_buf *to, const char *text, size_t width, bool last)
{
	size_t n = width_of(text);
	duct_buf_printf(to, "%s%*s", text, last ? 0 : (int)(n < width ? width - n + 2 : 2), "");
}

static void put_table(struct duct_buf *to, const struct admin_column *columns, const json_t *list)
{
	size_t widths[MOST_COLUMNS] = {0}, ncolumns = 0, nrows = json_array_size(list);
	while (columns[ncolumns].title)
		ncolumns++;
	char **cells = duct_xcalloc(nrows * ncolumns + 1, sizeof *cells);
	for (size_t c = 0; c < ncolumns; c++) {
		widths[c] = strlen(columns[c].title);
		for (size_t r = 0; r < nrows; r++) {
			char *cell = cells[r * ncolumns + c] = cell_of(json_array_get(list, r), columns[c].path);
			size_t width = width_of(cell);
			widths[c] = width > widths[c] ? (width < WIDEST ? width : WIDEST) : widths[c];
		}
	}
	for (size_t c = 0; c < ncolumns; c++)
		put_cell(to, columns[c].title, widths[c], c + 1 == ncolumns);
	duct_buf_putc(to, '\n');
	for (size_t i = 0; i < nrows * ncolumns; i++) {
		size_t c = i % ncolumns;
		put_cell(to, cells[i], widths[c], c + 1 == ncolumns);
		if (c + 1 == ncolumns)
			duct_buf_putc(to, '\n');
		free(cells[i]);
	}
	free(cells);
}

/* One object: a line for each column that has something. */
static void put_object(struct duct_buf *to, const struct admin_column *columns, const json_t *object)
{
	for (; columns->title; columns++) {
		AUTO_FREE char *cell = cell_of(object, columns->path);
		if (*cell)
			duct_buf_printf(to, "%-14s %s\n", columns->title, cell);
	}
}

int admin_show(const struct admin_view *view, const json_t *answer, struct duct_error *err)
{
	if (cli_json || !view)
		return admin_put_json(answer, err);
	const json_t *what = view->at ? json_object_get(answer, view->at) : answer;
	AUTO_BUF struct duct_buf to = {0};
	if (!view->is_list)
		put_object(&to, view->columns, what);
	else if (json_array_size(what) == 0)
		duct_buf_printf(&to, "%s\n", view->none);
	else
		put_table(&to, view->columns, what);
	const char *token = json_string_value(json_object_get(answer, "nextPageToken"));
	if (view->is_list && token && *token)
		duct_buf_printf(&to, "more: --page-token %s\n", token);
	return cli_print(&to, err);
}

int admin_say(struct duct_error *err, const char *fmt, ...)
{
	if (cli_json)
		return 0;
	AUTO_BUF struct duct_buf line = {0};
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	duct_buf_printf(&line, "%s\n", text);
	return cli_print(&line, err);
}
