#ifndef INGEST_JSON_H
#define INGEST_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

/*
 * A JSON text (RFC 8259) as a flat list of nodes, parents before children, that point into the text: nothing of it is copied, numbers keep their
 * digits, and a value that is kept as JSON is a slice of what the server sent.
 */
enum json_kind {
	JSON_KIND_NULL,
	JSON_KIND_FALSE,
	JSON_KIND_TRUE,
	JSON_KIND_INTEGER, /* neither fraction nor exponent */
	JSON_KIND_NUMBER,
	JSON_KIND_STRING, /* at, len: without the quotes; escaped: has a backslash */
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT, /* its children: name, value, name, value, ... */
};

struct json_node {
	uint32_t at, len; /* in the text */
	uint32_t end;	  /* the node behind it and all that is in it */
	uint8_t kind;	  /* enum json_kind */
	bool escaped;
};

struct json_doc {
	const char *text;
	struct json_node *nodes; /* the first is the whole value */
	size_t n, cap;
};

enum { JSON_MOST_DEPTH = 200 };

/* Takes the place of what was in doc (zeroed at first). The text is borrowed. DATA names the byte. Longer than 2 GiB is DATA, too. */
int json_parse(struct json_doc *doc, const char *text, size_t n, struct duct_error *err) DUCT_CHECKED;
void json_done(struct json_doc *doc);

/* Appends the characters of a string node. A lone half of a surrogate pair becomes U+FFFD. */
void json_unescape(const struct json_doc *doc, const struct json_node *node, struct duct_buf *to);
/* Whether a string node says this. */
bool json_is_text(const struct json_doc *doc, const struct json_node *node, const char *text, size_t n);

/* The value of an object's member, NULL: none. */
const struct json_node *json_member(const struct json_doc *doc, const struct json_node *object, const char *name, size_t n);

/*
 * A path: names with dots between them, [3] for the place in a list, [-1] for its last one; an optional "$" or "$." before it. A name that has dots itself
 * stands in double quotes, or plainly at the end where nothing else is found. "" is the whole value.
 */
int json_path_check(const char *path, struct duct_error *err) DUCT_CHECKED; /* CONFIG names the byte */
/* NULL: there is nothing (what then stands in *ret_at, may be NULL: the length of the path's part that was found). */
const struct json_node *json_find(const struct json_doc *doc, const struct json_node *from, const char *path, size_t *ret_at);

#endif
