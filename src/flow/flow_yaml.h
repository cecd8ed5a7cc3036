#ifndef FLOW_FLOW_YAML_H
#define FLOW_FLOW_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/findings.h"

/*
 * The text of a flow file as a tree: YAML 1.1, of which JSON is a part. Everything lives in the caller's arena. Refused
 * with file and line: more than 1 MiB, more than 16 levels, two documents, a key twice, keys that are no plain text,
 * anchors, aliases, tags, NUL. Environment references in values are replaced after parsing, so a variable's content can
 * not become syntax: ${NAME}, ${NAME:-default} (also when empty), $${ for a literal ${.
 */
enum { FLOW_YAML_MAX_BYTES = 1 << 20, FLOW_YAML_MAX_DEPTH = 16 };

enum flow_node_kind { FLOW_NODE_TEXT, FLOW_NODE_NULL, FLOW_NODE_LIST, FLOW_NODE_MAP };

struct flow_node {
	enum flow_node_kind kind;
	int line;
	bool plain;			/* TEXT: not quoted, so it may mean a number or a boolean */
	const char *text;		/* TEXT */
	const char *key;		/* inside a map */
	struct flow_node *first, *next; /* children; next sibling */
};

/* Looks a variable up like getenv; NULL: there is none. */
typedef const char *flow_getenv_fn(const char *name);

/* What `env` gives for a variable that is known only where the flow will run, and the text of a value whose reference is a finding:
 * nothing is said about such a value. */
#define FLOW_ENV_LATER "\x1a"

/* env NULL: references stay as they are. Those that cannot be replaced are findings, everything else ends the parse. */
int flow_yaml_parse(struct flow_node **ret, struct duct_arena *arena, const char *data, size_t n, const char *file,
		    flow_getenv_fn *env, struct duct_findings *findings, struct duct_error *err) DUCT_CHECKED;

/* A value as JSON: plain numbers and booleans keep their type, everything else is a string. */
void flow_node_json(struct duct_buf *to, const struct flow_node *node);

#endif
