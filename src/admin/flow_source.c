/*
 * Files that describe a flow, as the request that creates it. Three forms are one tree: a flow file (docs/flow-files.md), a Flow and a
 * CreateFlowRequest as grpcurl sends them. The service's own checks say what is wrong inside.
 */
#include "admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "flow/flow_yaml.h"

/* A list of an option: its texts with commas between them, as an option's text has it. */
static int option_list(const struct flow_node *list, const char *file, struct duct_buf *to, struct duct_error *err)
{
	for (const struct flow_node *n = list->first; n; n = n->next) {
		if (n->kind != FLOW_NODE_TEXT)
			return duct_fail(err, DUCT_CONFIG, "%s:%d: a list of an option has texts only", file, n->line);
		if (strchr(n->text, ','))
			return duct_fail(err, DUCT_CONFIG,
					 "%s:%d: \"%.100s\" has a comma, which the service's options cannot have in a list", file,
					 n->line, n->text);
		duct_buf_printf(to, "%s%s", n == list->first ? "" : ",", n->text);
	}
	return 0;
}

/* The options of a connector are texts to the service. */
static json_t *options_of(const struct flow_node *map, const char *file, struct duct_error *err)
{
	json_t *all = json_object();
	for (const struct flow_node *n = map->first; n; n = n->next) {
		AUTO_BUF struct duct_buf text = {0};
		int rc = 0;
		if (n->kind == FLOW_NODE_NULL)
			rc = duct_fail(err, DUCT_CONFIG, "%s:%d: option \"%.100s\" has no value: remove the line, or write \"\"",
				       file, n->line, n->key);
		else if (n->kind == FLOW_NODE_LIST)
			rc = option_list(n, file, &text, err);
		else if (n->kind == FLOW_NODE_MAP)
			flow_node_json(&text, n);
		else
			duct_buf_puts(&text, n->text);
		if (!rc && json_object_set_new(all, n->key, json_stringn(text.data ? text.data : "", text.len)))
			rc = duct_fail(err, DUCT_CONFIG, "%s:%d: option \"%.100s\" is not valid UTF-8", file, n->line, n->key);
		if (rc) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

static json_t *tree_of(const struct flow_node *node, const char *file, struct duct_error *err);

static json_t *member_of(const struct flow_node *n, const char *file, struct duct_error *err)
{
	return n->kind == FLOW_NODE_MAP && strcmp(n->key, "options") == 0 ? options_of(n, file, err) : tree_of(n, file, err);
}

static json_t *map_of(const struct flow_node *map, const char *file, struct duct_error *err)
{
	json_t *object = json_object();
	for (const struct flow_node *n = map->first; n; n = n->next) {
		if (n->kind == FLOW_NODE_NULL)
			continue;
		json_t *value = member_of(n, file, err);
		if (value && json_object_set_new(object, n->key, value) == 0)
			continue;
		if (value)
			(void)duct_fail(err, DUCT_CONFIG, "%s:%d: the key is not valid UTF-8", file, n->line);
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *tree_of(const struct flow_node *node, const char *file, struct duct_error *err)
{
	if (node->kind == FLOW_NODE_MAP)
		return map_of(node, file, err);
	if (node->kind == FLOW_NODE_LIST) {
		json_t *list = json_array();
		for (const struct flow_node *n = node->first; n; n = n->next) {
			json_t *one = tree_of(n, file, err);
			if (!one) {
				json_decref(list);
				return NULL;
			}
			json_array_append_new(list, one);
		}
		return list;
	}
	AUTO_BUF struct duct_buf text = {0};
	flow_node_json(&text, node);
	json_t *value = json_loadb(text.data, text.len, JSON_DECODE_ANY, NULL);
	if (!value)
		(void)duct_fail(err, DUCT_CONFIG, "%s:%d: the value is not valid", file, node->line);
	return value;
}

static const char *from_environment(const char *name)
{
	return getenv(name);
}

json_t *admin_parse_flow(const char *data, size_t n, const char *name, bool expand, struct duct_error *err)
{
	struct duct_arena arena;
	struct flow_node *root;
	json_t *tree = NULL;
	duct_arena_init(&arena);
	AUTO_FINDINGS struct duct_findings findings = {0};
	int rc = flow_yaml_parse(&root, &arena, data, n, name, expand ? from_environment : NULL, &findings, err);
	if (!rc && findings.n) {
		*err = findings.list[0];
		rc = -(int)err->class;
	}
	if (!rc && root->kind != FLOW_NODE_MAP)
		(void)duct_fail(err, DUCT_CONFIG, "%s: not a flow file: \"name\", \"source\" and \"destinations\" expected", name);
	else if (!rc)
		tree = map_of(root, name, err);
	duct_arena_done(&arena);
	if (!tree || json_object_get(tree, "flow"))
		return tree;
	json_t *request = json_object();
	json_object_set_new(request, "flow", tree);
	return request;
}

json_t *admin_read_flow(const char *path, bool expand, struct duct_error *err)
{
	AUTO_BUF struct duct_buf text = {0};
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;
	while (fd >= 0 && n > 0 && text.len <= FLOW_YAML_MAX_BYTES) {
		n = read(fd, duct_buf_room(&text, 65536), 65536);
		text.len += n > 0 ? (size_t)n : 0;
	}
	int failed = fd < 0 || n < 0 ? errno : 0;
	if (fd > STDIN_FILENO)
		close(fd);
	if (failed) {
		(void)duct_fail(err, DUCT_CONFIG, "%s: cannot be read: %s", path, strerror(failed));
		return NULL;
	}
	return admin_parse_flow(text.data, text.len, fd == STDIN_FILENO ? "standard input" : path, expand, err);
}
