#include "flow/flow_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "options/text.h"

static const char *const ack_policies[] = {"all", NULL};
static const char *const wire_formats[] = {"arrow", "parquet", "avro", "proto", "json", NULL};

#define C struct flow_file_config
const struct duct_opt flow_file_config_opts[] = {
	OPT(C, ack_policy, "ack_policy", DUCT_OPT_ENUM, "all", "a change is done when every destination has it",
	    .values = ack_policies),
	OPT(C, max_memory_bytes, "max_memory", DUCT_OPT_SIZE, "256MiB", "memory of the flow outside its connectors",
	    .min = 16 << 20, .max = INT64_C(1) << 40),
	OPT(C, give_up_ms, "give_up_after", DUCT_OPT_DURATION, "0",
	    "end when attempts fail for so long without progress; 0: never (5m with --until-caught-up)",
	    .max = INT64_C(365) * 86400000),
	{0},
};
#undef C

/* What one load works on. */
struct load {
	struct flow_file *flow;
	const char *file;
	const struct flow_load_options *options;
	struct duct_error *err;
};

bool flow_name_valid(const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= 63 && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static const char *kind_name(const struct flow_node *node)
{
	static const char *const names[] = {"a text", "nothing", "a list", "a map"};
	return names[node->kind];
}

/* Keys that the file may have at one place. */
static int check_keys(const struct load *l, const struct flow_node *map, const char *where, const char *const *known)
{
	for (const struct flow_node *n = map->first; n; n = n->next) {
		size_t i = 0;
		while (known[i] && strcmp(known[i], n->key) != 0)
			i++;
		if (known[i])
			continue;
		const char *near = duct_nearest(n->key, known);
		AUTO_BUF struct duct_buf hint = {0};
		if (near)
			duct_buf_printf(&hint, "did you mean \"%s\"?", near);
		for (i = 0; !near && known[i]; i++)
			duct_buf_printf(&hint, "%s%s", i ? ", " : "known are ", known[i]);
		return duct_fail(l->err, DUCT_CONFIG, "%s:%d: %s: unknown key \"%.100s\": %s", l->file, n->line, where, n->key,
				 hint.data);
	}
	return 0;
}

static const struct flow_node *child(const struct flow_node *map, const char *key)
{
	for (const struct flow_node *n = map->first; n; n = n->next)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

/* The child of that kind; NULL with an error when it is missing or of another kind. */
static const struct flow_node *need(const struct load *l, const struct flow_node *map, const char *where, const char *key,
				    enum flow_node_kind kind)
{
	const struct flow_node *n = child(map, key);
	struct flow_node wanted = {.kind = kind};
	if (!n)
		(void)duct_fail(l->err, DUCT_CONFIG, "%s:%d: %s: key \"%s\" is missing", l->file, map->line, where, key);
	else if (n->kind != kind)
		(void)duct_fail(l->err, DUCT_CONFIG, "%s:%d: %s: \"%s\" must be %s, not %s", l->file, n->line, where, key,
				kind_name(&wanted), kind_name(n));
	else
		return n;
	return NULL;
}

static int need_name(const struct load *l, const struct flow_node *map, const char *where, const char **ret)
{
	const struct flow_node *n = need(l, map, where, "name", FLOW_NODE_TEXT);
	if (!n)
		return -DUCT_CONFIG;
	if (!flow_name_valid(n->text))
		return duct_fail(l->err, DUCT_CONFIG,
				 "%s:%d: %s: name \"%.100s\" is no valid name: use 1 to 63 letters, digits, \"_\" and "
				 "\"-\"",
				 l->file, n->line, where, n->text);
	*ret = n->text;
	return 0;
}

/* An unknown connector: names the nearest one, or all. */
static int unknown_type(const struct load *l, const struct flow_node *type, const char *where, const char *const *names)
{
	const char *near = duct_nearest(type->text, names);
	AUTO_BUF struct duct_buf hint = {0};
	if (near)
		duct_buf_printf(&hint, "did you mean \"%s\"?", near);
	for (size_t i = 0; !near && names[i]; i++)
		duct_buf_printf(&hint, "%s%s", i ? ", " : "this program knows ", names[i]);
	return duct_fail(l->err, DUCT_CONFIG, "%s:%d: %s: type \"%.100s\" is unknown: %s", l->file, type->line, where, type->text,
			 hint.data ? hint.data : "");
}

/* The pairs of an options map as the option tables want them, in the arena. */
static int option_values(const struct load *l, const struct flow_node *map, const char *where, struct duct_opt_value **ret,
			 size_t *ret_n)
{
	size_t n = 0;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next)
		n++;
	struct duct_opt_value *values = duct_arena_zalloc(&l->flow->arena, (n + 1) * sizeof *values);
	n = 0;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next) {
		struct duct_opt_value *v = &values[n++];
		*v = (struct duct_opt_value){.name = o->key, .text = o->text, .form = DUCT_OPT_TEXT, .line = o->line};
		if (o->kind == FLOW_NODE_NULL)
			return duct_fail(l->err, DUCT_CONFIG,
					 "%s:%d: %s: option \"%.100s\" has no value: remove the line, or write \"\"", l->file,
					 o->line, where, o->key);
		if (o->kind != FLOW_NODE_TEXT) {
			AUTO_BUF struct duct_buf json = {0};
			flow_node_json(&json, o);
			v->text = duct_arena_strdup(&l->flow->arena, json.data);
			v->form = DUCT_OPT_JSON;
		}
	}
	*ret = values;
	*ret_n = n;
	return 0;
}

/* type and options of a source or destination, which may also have the keys in `known`. */
static int connector_parts(const struct load *l, const struct flow_node *map, const char *where, const char *const *known,
			   const struct flow_node **ret_type, const struct flow_node **ret_options)
{
	int rc = check_keys(l, map, where, known);
	if (rc)
		return rc;
	*ret_type = need(l, map, where, "type", FLOW_NODE_TEXT);
	if (!*ret_type)
		return -DUCT_CONFIG;
	*ret_options = NULL;
	if (child(map, "options") && child(map, "options")->kind != FLOW_NODE_NULL) {
		*ret_options = need(l, map, where, "options", FLOW_NODE_MAP);
		if (!*ret_options)
			return -DUCT_CONFIG;
	}
	return 0;
}

static int load_options(const struct load *l, const struct duct_opt *opts, size_t size, struct duct_opt_value *values, size_t n,
			const char *where, void **ret)
{
	void *config = duct_xcalloc(1, size ? size : 1);
	int rc = duct_opts_load_file(config, size, opts, values, n, l->file, where, l->err);
	if (rc)
		free(config);
	else
		*ret = config;
	return rc;
}

static bool is_option(const struct duct_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return true;
	return false;
}

/* The option of the command line takes the place of the file's. */
static int override_value(const struct load *l, const struct duct_source_ops *ops, struct duct_opt_value *values, size_t *n)
{
	const char *name = l->options->source_option;
	if (!name)
		return 0;
	if (!is_option(ops->opts, name))
		return duct_fail(l->err, DUCT_CONFIG, "%s: source \"%s\" has no option \"%s\"", l->file, ops->name, name);
	size_t i = 0;
	while (i < *n && strcmp(values[i].name, name) != 0)
		i++;
	values[i] = (struct duct_opt_value){.name = name, .text = l->options->source_value};
	*n += i == *n;
	return 0;
}

static int load_source(const struct load *l, const struct flow_node *map)
{
	static const char *const known[] = {"type", "options", NULL};
	const struct flow_node *type, *options;
	const char *names[64] = {0};
	int rc = connector_parts(l, map, "source", known, &type, &options);
	if (rc)
		return rc;
	const struct duct_source_ops *ops = NULL;
	for (size_t i = 0; l->options->sources[i] && i + 1 < DUCT_LEN(names); i++) {
		names[i] = l->options->sources[i]->name;
		if (strcmp(names[i], type->text) == 0)
			ops = l->options->sources[i];
	}
	if (!ops)
		return unknown_type(l, type, "source", names);

	char where[96];
	snprintf(where, sizeof where, "source \"%s\"", ops->name);
	struct duct_opt_value *values;
	size_t n;
	rc = option_values(l, options, where, &values, &n);
	rc = rc ? rc : override_value(l, ops, values, &n);
	rc = rc ? rc : load_options(l, ops->opts, ops->config_size, values, n, where, &l->flow->source_config);
	if (rc)
		return rc;
	l->flow->spec.source = ops;
	l->flow->spec.source_config = l->flow->source_config;
	if (ops->check && ops->check(l->flow->source_config, l->err))
		return duct_wrap(l->err, "%s:%d: %s", l->file, map->line, where);
	return 0;
}

/* Fills the next place of flow->destinations, which counts as soon as it owns a config. */
static int load_destination(const struct load *l, const struct flow_node *map)
{
	static const char *const known[] = {"name", "type", "options", NULL};
	const struct flow_node *type, *options;
	const char *names[64] = {0};
	struct flow_destination *to = &l->flow->destinations[l->flow->spec.ndestinations];
	if (map->kind != FLOW_NODE_MAP)
		return duct_fail(l->err, DUCT_CONFIG, "%s:%d: a destination must be a map, not %s", l->file, map->line,
				 kind_name(map));
	int rc = connector_parts(l, map, "destination", known, &type, &options);
	rc = rc ? rc : need_name(l, map, "destination", &to->name);
	if (rc)
		return rc;
	for (size_t i = 0; i < l->flow->spec.ndestinations; i++)
		if (strcmp(l->flow->destinations[i].name, to->name) == 0)
			return duct_fail(l->err, DUCT_CONFIG, "%s:%d: two destinations have the name \"%s\"", l->file, map->line,
					 to->name);
	for (size_t i = 0; l->options->destinations[i] && i + 1 < DUCT_LEN(names); i++) {
		names[i] = l->options->destinations[i]->name;
		if (strcmp(names[i], type->text) == 0)
			to->ops = l->options->destinations[i];
	}
	char where[192];
	snprintf(where, sizeof where, "destination \"%s\"", to->name);
	if (!to->ops)
		return unknown_type(l, type, where, names);

	struct duct_opt_value *values;
	size_t n;
	void *config = NULL;
	rc = option_values(l, options, where, &values, &n);
	rc = rc ? rc : load_options(l, to->ops->opts, to->ops->config_size, values, n, where, &config);
	if (rc)
		return rc;
	to->config = config;
	l->flow->spec.ndestinations++;
	if (to->ops->check && to->ops->check(config, l->err))
		return duct_wrap(l->err, "%s:%d: %s", l->file, map->line, where);
	return 0;
}

static int load_destinations(const struct load *l, const struct flow_node *root)
{
	enum { MOST_DESTINATIONS = 64 };
	size_t n = 0;
	const struct flow_node *list = need(l, root, "flow", "destinations", FLOW_NODE_LIST);
	if (!list)
		return -DUCT_CONFIG;
	for (const struct flow_node *d = list->first; d; d = d->next)
		n++;
	if (n == 0 || n > MOST_DESTINATIONS)
		return duct_fail(l->err, DUCT_CONFIG, "%s:%d: %zu destinations: a flow has 1 to %d", l->file, list->line, n,
				 MOST_DESTINATIONS);
	l->flow->destinations = duct_arena_zalloc(&l->flow->arena, n * sizeof *l->flow->destinations);
	l->flow->spec.destinations = l->flow->destinations;
	int rc = 0;
	for (const struct flow_node *d = list->first; d && !rc; d = d->next)
		rc = load_destination(l, d);
	return rc;
}

/* wire_format, parallelism, config. */
static int load_extras(const struct load *l, const struct flow_node *root)
{
	const struct flow_node *n = child(root, "wire_format");
	l->flow->parallelism = 1;
	if (n) {
		const char *const *known = wire_formats;
		if (!(n = need(l, root, "flow", "wire_format", FLOW_NODE_TEXT)))
			return -DUCT_CONFIG;
		while (*known && strcmp(*known, n->text) != 0)
			known++;
		if (!*known)
			return duct_fail(l->err, DUCT_CONFIG,
					 "%s:%d: wire_format \"%.100s\" is none of arrow, parquet, avro, proto, json", l->file,
					 n->line, n->text);
		l->flow->wire_format = l->flow->spec.wire_format = n->text;
	}
	if (child(root, "parallelism")) {
		if (!(n = need(l, root, "flow", "parallelism", FLOW_NODE_TEXT)))
			return -DUCT_CONFIG;
		if (!duct_parse_int(n->text, &l->flow->parallelism) || l->flow->parallelism < 1 || l->flow->parallelism > 256)
			return duct_fail(l->err, DUCT_CONFIG, "%s:%d: parallelism \"%.100s\" is outside 1..256", l->file, n->line,
					 n->text);
	}
	n = child(root, "config");
	if (n && n->kind != FLOW_NODE_NULL && !(n = need(l, root, "flow", "config", FLOW_NODE_MAP)))
		return -DUCT_CONFIG;
	struct duct_opt_value *values;
	size_t nvalues;
	int rc = option_values(l, n, "config", &values, &nvalues);
	return rc ? rc
		  : duct_opts_load_file(&l->flow->config, sizeof l->flow->config, flow_file_config_opts, values, nvalues, l->file,
					"config", l->err);
}

static int load_tree(const struct load *l, const struct flow_node *root)
{
	static const char *const known[] = {"name", "source", "destinations", "wire_format", "parallelism", "config", NULL};
	if (root->kind != FLOW_NODE_MAP)
		return duct_fail(l->err, DUCT_CONFIG,
				 "%s:%d: a flow file is a map with name, source and destinations, "
				 "not %s",
				 l->file, root->line, kind_name(root));
	int rc = check_keys(l, root, "flow", known);
	rc = rc ? rc : need_name(l, root, "flow", &l->flow->spec.name);
	if (rc)
		return rc;
	const struct flow_node *source = need(l, root, "flow", "source", FLOW_NODE_MAP);
	if (!source)
		return -DUCT_CONFIG;
	rc = load_source(l, source);
	rc = rc ? rc : load_destinations(l, root);
	return rc ? rc : load_extras(l, root);
}

int flow_file_parse(struct flow_file **ret, const char *data, size_t n, const char *file, const struct flow_load_options *options,
		    struct duct_error *err)
{
	struct duct_error own;
	struct flow_file *flow = duct_xcalloc(1, sizeof *flow);
	struct load l = {flow, file, options, err ? err : &own};
	struct flow_node *root;
	duct_arena_init(&flow->arena);
	int rc = flow_yaml_parse(&root, &flow->arena, data, n, file, options->env, l.err);
	rc = rc ? rc : load_tree(&l, root);
	if (rc)
		flow_file_free(flow);
	else
		*ret = flow;
	return rc;
}

/* The whole file, at most one byte more than is allowed: the parser then refuses it. */
static int read_file(struct duct_buf *to, const char *path, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "%s: cannot be opened: %s", path, strerror(errno));
	ssize_t n;
	do {
		char *room = duct_buf_room(to, 65536);
		n = read(fd, room, 65536);
		if (n > 0)
			to->len += (size_t)n;
	} while ((n > 0 && to->len <= FLOW_YAML_MAX_BYTES) || (n < 0 && errno == EINTR));
	int saved = errno;
	close(fd);
	return n < 0 ? duct_fail(err, DUCT_CONFIG, "%s: cannot be read: %s", path, strerror(saved)) : 0;
}

int flow_file_load(struct flow_file **ret, const char *path, const struct flow_load_options *options, struct duct_error *err)
{
	AUTO_BUF struct duct_buf data = {0};
	int rc = read_file(&data, path, err);
	return rc ? rc : flow_file_parse(ret, data.data, data.len, path, options, err);
}

void flow_file_free(struct flow_file *flow)
{
	if (!flow)
		return;
	/* A config exists once its connector is known; the source's only then has ops. */
	if (flow->source_config) {
		duct_opts_done(flow->source_config, flow->spec.source->config_size, flow->spec.source->opts);
		free(flow->source_config);
	}
	for (size_t i = 0; i < flow->spec.ndestinations; i++) {
		struct flow_destination *d = &flow->destinations[i];
		duct_opts_done((void *)d->config, d->ops->config_size, d->ops->opts);
		free((void *)d->config);
	}
	duct_opts_done(&flow->config, sizeof flow->config, flow_file_config_opts);
	duct_arena_done(&flow->arena);
	free(flow);
}
