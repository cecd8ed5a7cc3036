#include "flow/flow_yaml.h"

#include <ctype.h>
#include <stdint.h>
#include <yaml.h>

#include "flow/flow_env.h"

struct parse {
	yaml_parser_t yaml;
	struct duct_arena *arena;
	const char *file;
	flow_getenv_fn *env;
	struct duct_findings *findings;
	struct duct_error *err;
	int depth;
};

static int line_of(const yaml_event_t *event)
{
	return (int)event->start_mark.line + 1;
}

static int syntax_error(struct parse *p)
{
	const yaml_parser_t *y = &p->yaml;
	size_t line = y->problem_mark.line + 1;
	if (y->error == YAML_READER_ERROR)
		return duct_fail(p->err, DUCT_CONFIG, "%s: byte %zu: %s: save the file as UTF-8", p->file, y->problem_offset,
				 y->problem ? y->problem : "cannot be read");
	return duct_fail(p->err, DUCT_CONFIG, "%s:%zu: not valid YAML: %s%s%s", p->file, line,
			 y->problem ? y->problem : "cannot be parsed", y->context ? " " : "", y->context ? y->context : "");
}

static int next_event(struct parse *p, yaml_event_t *event)
{
	return yaml_parser_parse(&p->yaml, event) ? 0 : syntax_error(p);
}

static struct flow_node *new_node(struct parse *p, enum flow_node_kind kind, const yaml_event_t *event)
{
	struct flow_node *node = duct_arena_zalloc(p->arena, sizeof *node);
	node->kind = kind;
	node->line = line_of(event);
	return node;
}

static bool is_null(const char *s)
{
	return !*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 || strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0;
}

/* What YAML can say and a flow file need not. */
static int refuse_extras(struct parse *p, const yaml_event_t *event, const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: anchors (&) are not accepted: write the value out", p->file,
				 line_of(event));
	if (tag)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: tags (!) are not accepted: leave \"%.40s\" away", p->file,
				 line_of(event), (const char *)tag);
	return 0;
}

static int scalar_node(struct parse *p, const yaml_event_t *event, struct flow_node **ret)
{
	const char *text = (const char *)event->data.scalar.value;
	int rc = refuse_extras(p, event, event->data.scalar.anchor, event->data.scalar.tag);
	if (rc)
		return rc;
	if (strlen(text) != event->data.scalar.length)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: a value contains a NUL character", p->file, line_of(event));
	bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct flow_node *node = new_node(p, plain && is_null(text) ? FLOW_NODE_NULL : FLOW_NODE_TEXT, event);
	node->plain = plain;
	rc = 0;
	if (p->env)
		rc = flow_env_expand(&node->text, p->arena, text, p->env, p->err);
	else
		node->text = duct_arena_strdup(p->arena, text);
	if (rc) {
		(void)duct_wrap(p->err, "%s:%d", p->file, node->line);
		duct_findings_add(p->findings, p->err);
		node->text = FLOW_ENV_LATER;
	}
	*ret = node;
	return 0;
}

static int any_node(struct parse *p, const yaml_event_t *event, struct flow_node **ret);

static int list_node(struct parse *p, struct flow_node *list)
{
	for (struct flow_node **tail = &list->first;;) {
		yaml_event_t event;
		int rc = next_event(p, &event);
		if (rc)
			return rc;
		bool end = event.type == YAML_SEQUENCE_END_EVENT;
		if (!end)
			rc = any_node(p, &event, tail);
		yaml_event_delete(&event);
		if (end || rc)
			return rc;
		tail = &(*tail)->next;
	}
}

static int map_key(struct parse *p, const yaml_event_t *event, const struct flow_node *map, const char **ret)
{
	if (event->type != YAML_SCALAR_EVENT)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: a key must be plain text", p->file, line_of(event));
	const char *key = (const char *)event->data.scalar.value;
	int rc = refuse_extras(p, event, event->data.scalar.anchor, event->data.scalar.tag);
	if (rc)
		return rc;
	if (!*key || strlen(key) != event->data.scalar.length)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: a key is empty or contains a NUL character", p->file, line_of(event));
	for (const struct flow_node *n = map->first; n; n = n->next)
		if (strcmp(n->key, key) == 0)
			return duct_fail(p->err, DUCT_CONFIG, "%s:%d: key \"%.100s\" is given twice (line %d)", p->file,
					 line_of(event), key, n->line);
	*ret = duct_arena_strdup(p->arena, key);
	return 0;
}

static int map_node(struct parse *p, struct flow_node *map)
{
	enum { MOST_KEYS = 1000 }; /* each key is compared with all before it */
	int keys = 0;
	for (struct flow_node **tail = &map->first;; tail = &(*tail)->next) {
		yaml_event_t event;
		const char *key = NULL;
		int rc = next_event(p, &event);
		if (rc)
			return rc;
		int key_line = line_of(&event);
		bool end = event.type == YAML_MAPPING_END_EVENT;
		if (!end && ++keys > MOST_KEYS)
			rc = duct_fail(p->err, DUCT_CONFIG, "%s:%d: more than %d keys in one map", p->file, key_line, MOST_KEYS);
		else if (!end)
			rc = map_key(p, &event, map, &key);
		yaml_event_delete(&event);
		if (end || rc || (rc = next_event(p, &event)))
			return rc;
		rc = any_node(p, &event, tail);
		yaml_event_delete(&event);
		if (rc)
			return rc;
		(*tail)->key = key;
		(*tail)->line = key_line;
	}
}

/* The node that begins with `event`, linked to *ret only when it is whole. */
static int any_node(struct parse *p, const yaml_event_t *event, struct flow_node **ret)
{
	struct flow_node *node;
	int rc;
	if (event->type == YAML_SCALAR_EVENT)
		return scalar_node(p, event, ret);
	if (event->type == YAML_ALIAS_EVENT)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: aliases (*) are not accepted: write the value out", p->file,
				 line_of(event));
	if (p->depth == FLOW_YAML_MAX_DEPTH)
		return duct_fail(p->err, DUCT_CONFIG, "%s:%d: more than %d levels", p->file, line_of(event), FLOW_YAML_MAX_DEPTH);
	p->depth++;
	if (event->type == YAML_SEQUENCE_START_EVENT) {
		node = new_node(p, FLOW_NODE_LIST, event);
		rc = refuse_extras(p, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
		rc = rc ? rc : list_node(p, node);
	} else {
		node = new_node(p, FLOW_NODE_MAP, event);
		rc = refuse_extras(p, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
		rc = rc ? rc : map_node(p, node);
	}
	p->depth--;
	if (!rc)
		*ret = node;
	return rc;
}

/* Stream start, one document with one node, stream end. */
static int whole_stream(struct parse *p, struct flow_node **ret)
{
	struct flow_node *root = NULL;
	for (bool end = false; !end;) {
		yaml_event_t event;
		int rc = next_event(p, &event);
		if (rc)
			return rc;
		end = event.type == YAML_STREAM_END_EVENT;
		if (event.type == YAML_DOCUMENT_START_EVENT && root)
			rc = duct_fail(p->err, DUCT_CONFIG, "%s:%d: a second document begins: one file is one flow", p->file,
				       line_of(&event));
		else if (!end && event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT &&
			 event.type != YAML_DOCUMENT_END_EVENT)
			rc = any_node(p, &event, &root);
		yaml_event_delete(&event);
		if (rc)
			return rc;
	}
	if (!root)
		return duct_fail(p->err, DUCT_CONFIG, "%s: the file is empty", p->file);
	*ret = root;
	return 0;
}

int flow_yaml_parse(struct flow_node **ret, struct duct_arena *arena, const char *data, size_t n, const char *file,
		    flow_getenv_fn *env, struct duct_findings *findings, struct duct_error *err)
{
	struct parse p = {.arena = arena, .file = file, .env = env, .findings = findings, .err = err};
	if (n > FLOW_YAML_MAX_BYTES)
		return duct_fail(err, DUCT_CONFIG, "%s: larger than 1 MiB: not a flow file", file);
	if (!yaml_parser_initialize(&p.yaml))
		return duct_fail(err, DUCT_FATAL, "out of memory");
	yaml_parser_set_input_string(&p.yaml, (const unsigned char *)data, n);
	int rc = whole_stream(&p, ret);
	yaml_parser_delete(&p.yaml);
	return rc;
}

/* The number grammar of JSON (RFC 8259): what else looks like a number stays text. */
static bool is_json_number(const char *s)
{
	s += *s == '-';
	if (*s == '0')
		s++;
	else if (isdigit((unsigned char)*s))
		s += strspn(s, "0123456789");
	else
		return false;
	if (*s == '.') {
		size_t fraction = strspn(++s, "0123456789");
		if (!fraction)
			return false;
		s += fraction;
	}
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '+' || *s == '-';
		size_t exponent = strspn(s, "0123456789");
		if (!exponent)
			return false;
		s += exponent;
	}
	return !*s;
}

void flow_node_json(struct duct_buf *to, const struct flow_node *node)
{
	if (node->kind == FLOW_NODE_NULL) {
		duct_buf_puts(to, "null");
	} else if (node->kind == FLOW_NODE_TEXT) {
		if (node->plain &&
		    (is_json_number(node->text) || strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0))
			duct_buf_puts(to, node->text);
		else
			duct_buf_json_string(to, node->text, strlen(node->text));
	} else {
		bool map = node->kind == FLOW_NODE_MAP;
		duct_buf_putc(to, map ? '{' : '[');
		for (const struct flow_node *n = node->first; n; n = n->next) {
			if (n != node->first)
				duct_buf_putc(to, ',');
			if (map) {
				duct_buf_json_string(to, n->key, strlen(n->key));
				duct_buf_putc(to, ':');
			}
			flow_node_json(to, n);
		}
		duct_buf_putc(to, map ? '}' : ']');
	}
}
