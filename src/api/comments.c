#include "api/comments.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/reflection.h"
#include "api/wire.h"
#include "base/buf.h"

/* Field numbers of descriptor.proto. */
enum { SET_FILE = 1, FILE_PACKAGE = 2, FILE_MESSAGE = 4, FILE_ENUM = 5, FILE_SERVICE = 6, FILE_SOURCE = 9 };
enum { NAME = 1, MEMBER = 2, LOCATION = 1, LOCATION_PATH = 1, LOCATION_LEADING = 3, LOCATION_TRAILING = 4 };

struct api_comments {
	struct comment {
		char *symbol, *text;
	} * all;
	size_t n, cap;
};

/* The index-th field with that number. */
static bool take(struct api_bytes of, uint32_t number, uint64_t index, struct api_bytes *ret)
{
	struct api_wire wire = {of.data, of.data + of.n};
	struct api_wire_field field;
	while (api_wire_next(&wire, &field))
		if (field.number == number && field.type == 2 && index-- == 0) {
			*ret = (struct api_bytes){field.data, field.n};
			return true;
		}
	return false;
}

/* Whitespace of any length is one space. */
static void put_line(struct duct_buf *to, struct api_bytes text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (!isspace(text.data[i]))
			duct_buf_putc(to, (char)text.data[i]);
		else if (to->len && to->data[to->len - 1] != ' ')
			duct_buf_putc(to, ' ');
	}
	while (to->len && to->data[to->len - 1] == ' ')
		to->data[--to->len] = 0;
}

/* A path is two numbers (a field of the file and its index), or four (and a field of that and its index). 0: something else. */
static int read_path(struct api_bytes location, uint64_t path[4])
{
	struct api_bytes packed;
	int n = 0;
	if (!take(location, LOCATION_PATH, 0, &packed))
		return 0;
	struct api_wire wire = {packed.data, packed.data + packed.n};
	uint64_t number;
	while (api_wire_varint(&wire, &number)) {
		if (n == 4)
			return 0;
		path[n++] = number;
	}
	bool known = n >= 2 && (path[0] == FILE_MESSAGE || path[0] == FILE_ENUM || path[0] == FILE_SERVICE);
	return known && (n == 2 || (n == 4 && path[2] == MEMBER)) ? n : 0;
}

static void add_location(struct api_comments *to, struct api_bytes file, struct api_bytes location)
{
	uint64_t path[4];
	struct api_bytes text, package = {0}, of, name, member = {0};
	int n = read_path(location, path);
	struct duct_buf line = {0};
	if (n && take(location, LOCATION_LEADING, 0, &text))
		put_line(&line, text);
	if (n && take(location, LOCATION_TRAILING, 0, &text)) {
		if (line.len)
			duct_buf_putc(&line, ' ');
		put_line(&line, text);
	}
	take(file, FILE_PACKAGE, 0, &package);
	if (!line.len || !take(file, (uint32_t)path[0], path[1], &of) || !take(of, NAME, 0, &name) ||
	    (n == 4 && (!take(of, MEMBER, path[3], &member) || !take(member, NAME, 0, &member)))) {
		duct_buf_done(&line);
		return;
	}
	to->all = duct_grow(to->all, &to->cap, to->n + 1, sizeof *to->all);
	to->all[to->n++] = (struct comment){
		.symbol = duct_xasprintf("%.*s.%.*s%s%.*s", (int)package.n, (const char *)package.data, (int)name.n,
					 (const char *)name.data, n == 4 ? "." : "", (int)member.n,
					 member.n ? (const char *)member.data : ""),
		.text = line.data,
	};
}

struct api_comments *api_comments_new(void)
{
	struct api_comments *comments = duct_xcalloc(1, sizeof *comments);
	struct api_bytes file, source, location;
	for (uint64_t f = 0; take(api_descriptors(), SET_FILE, f, &file); f++)
		if (take(file, FILE_SOURCE, 0, &source))
			for (uint64_t l = 0; take(source, LOCATION, l, &location); l++)
				add_location(comments, file, location);
	return comments;
}

void api_comments_free(struct api_comments *comments)
{
	for (size_t i = 0; i < comments->n; i++) {
		free(comments->all[i].symbol);
		free(comments->all[i].text);
	}
	free(comments->all);
	free(comments);
}

const char *api_comment(const struct api_comments *comments, const char *symbol, const char *member)
{
	size_t n = strlen(symbol);
	for (size_t i = 0; i < comments->n; i++) {
		const char *name = comments->all[i].symbol;
		if (strncmp(name, symbol, n) == 0 && (member ? name[n] == '.' && strcmp(name + n + 1, member) == 0 : name[n] == 0))
			return comments->all[i].text;
	}
	return NULL;
}
