#include "flow/flow_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "options/text.h"

static const char *const ack_policies[] = {"all", "primary", NULL};
static const char *const failure_modes[] = {"hold_slot", NULL};
static const char *const give_up_policies[] = {"never", "on_retry_exhaustion", NULL};
static const char *const wire_formats[] = {"arrow", "parquet", "avro", "proto", "json", NULL};

enum { EXHAUSTED_MS = 5 * 60 * 1000 };

#define C struct flow_file_config
const struct duct_opt flow_file_config_opts[] = {
	OPT(C, ack_policy, "ack_policy", DUCT_OPT_ENUM, "all",
	    "a change is done when every destination has it, or when the primary one has", .values = ack_policies,
	    .doc = "With primary the other destinations get their changes through outboxes on disk, at their own pace."),
	OPT(C, primary_destination, "primary_destination", DUCT_OPT_STR, NULL,
	    "its name, with ack_policy primary; default the first"),
	OPT(C, outbox_dir, "outbox_dir", DUCT_OPT_STR, NULL, "where the outboxes are; default $HOME/.ductstream/outbox"),
	OPT(C, outbox_limit_bytes, "outbox_limit", DUCT_OPT_SIZE, "4GiB",
	    "disk that one outbox may take; past it the source keeps what follows, or its destination is given up (give_up_policy)",
	    .min = 1 << 20, .max = INT64_C(1) << 50),
	OPT(C, failure_mode, "failure_mode", DUCT_OPT_ENUM, "hold_slot", "after a failure the slot keeps what was not moved",
	    .values = failure_modes),
	OPT(C, give_up_policy, "give_up_policy", DUCT_OPT_ENUM, "never",
	    "try for ever, or give up after give_up_after (5m when that is 0)", .values = give_up_policies,
	    .doc = "Given up is the flow; of several destinations with ack_policy primary a secondary one, also when its outbox is "
		   "full. It gets a new copy when the flow is started again."),
	OPT(C, ddl, "ddl", DUCT_OPT_MAP, NULL, "gate, auto_approve, auto_apply: changes of schema, where not as the service does"),
	OPT(C, max_memory_bytes, "max_memory", DUCT_OPT_SIZE, "256MiB", "memory of the flow outside its connectors",
	    .min = 16 << 20, .max = INT64_C(1) << 40),
	OPT(C, give_up_ms, "give_up_after", DUCT_OPT_DURATION, "0",
	    "end when attempts fail for so long without progress; 0: never (5m with --until-caught-up)",
	    .max = INT64_C(365) * 86400000),
	{0},
};
#undef C

/* What one load works on. Its functions go on after a finding, so that all are found; `failed` says that there is one. */
struct load {
	struct flow_file *flow;
	const char *file;
	const struct flow_load_options *options;
	struct duct_findings *findings;
	bool failed;
};

/* A place in the file: how people call it ("": needs no name), and its path from the root. */
struct place {
	char where[192], path[64];
};
static const struct place root_place = {"flow", "flow"}, bare_place = {"", "flow"};

bool flow_name_valid(const char *name)
{
	size_t n = strlen(name);
	return n >= 1 && n <= 63 && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static void found(struct load *l, const struct place *at, const char *key, int line, const char *fmt, ...) DUCT_PRINTF(5, 6);

/* Writes a finding down. key: of the value at that place, NULL: the place itself. */
static void found(struct load *l, const struct place *at, const char *key, int line, const char *fmt, ...)
{
	struct duct_error err;
	va_list args;
	va_start(args, fmt);
	(void)duct_vfail(&err, DUCT_CONFIG, fmt, args);
	va_end(args);
	if (l->options->by_path)
		(void)duct_wrap(&err, "%s%s%.100s", at->path, key ? "." : "", key ? key : "");
	else if (*at->where)
		(void)duct_wrap(&err, "%s:%d: %s", l->file, line, at->where);
	else
		(void)duct_wrap(&err, "%s:%d", l->file, line);
	duct_findings_add(l->findings, &err);
	l->failed = true;
}

static const char *kind_name(const struct flow_node *node)
{
	static const char *const names[] = {"a text", "nothing", "a list", "a map"};
	return names[node->kind];
}

/* Keys that the file may have at one place. */
static void check_keys(struct load *l, const struct flow_node *map, const struct place *at, const char *const *known)
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
		found(l, at, NULL, n->line, "unknown key \"%.100s\": %s", n->key, hint.data);
	}
}

static const struct flow_node *child(const struct flow_node *map, const char *key)
{
	for (const struct flow_node *n = map->first; n; n = n->next)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

/* See flow_yaml.h; inside of JSON text it is escaped. */
static bool is_later(const char *text)
{
	return strstr(text, FLOW_ENV_LATER) || strstr(text, "\\u001a");
}

/* The child of that kind; NULL when it is missing or of another kind, which is a finding. */
static const struct flow_node *need(struct load *l, const struct flow_node *map, const struct place *at, const char *key,
				    enum flow_node_kind kind)
{
	const struct flow_node *n = child(map, key);
	struct flow_node wanted = {.kind = kind};
	if (!n)
		found(l, at, key, map->line, "key \"%s\" is missing", key);
	else if (n->kind != kind)
		found(l, at, key, n->line, "\"%s\" must be %s, not %s", key, kind_name(&wanted), kind_name(n));
	else if (kind == FLOW_NODE_TEXT && is_later(n->text) && l->options->by_path)
		found(l, at, key, n->line, "a reference to the environment is taken in options only");
	else if (kind == FLOW_NODE_TEXT && is_later(n->text))
		return NULL; /* the reference is a finding already */
	else
		return n;
	return NULL;
}

/* The name there, NULL: none that is valid. */
static const char *need_name(struct load *l, const struct flow_node *map, const struct place *at)
{
	const struct flow_node *n = need(l, map, at, "name", FLOW_NODE_TEXT);
	if (!n || flow_name_valid(n->text))
		return n ? n->text : NULL;
	found(l, at, "name", n->line, "name \"%.100s\" is no valid name: use 1 to 63 letters, digits, \"_\" and \"-\"", n->text);
	return NULL;
}

static bool comes_later(const char *type)
{
	static const char *const later[] = {"kafka",   "bufstream", "http",	 "grpc",     "s3",
					    "parquet", "proto",	    "snowflake", "snowpipe", "clickhouse"};
	for (size_t i = 0; i < DUCT_LEN(later); i++)
		if (strcmp(type, later[i]) == 0)
			return true;
	return false;
}

/* An unknown connector: names the nearest one, or all. */
static void unknown_type(struct load *l, const struct flow_node *type, const struct place *at, const char *const *names)
{
	bool later = comes_later(type->text);
	const char *near = l->options->by_path || later ? NULL : duct_nearest(type->text, names);
	AUTO_BUF struct duct_buf hint = {0};
	if (near)
		duct_buf_printf(&hint, "did you mean \"%s\"?", near);
	for (size_t i = 0; !near && names[i]; i++)
		duct_buf_printf(&hint, "%s%s", i ? ", " : later ? "there are " : "this program knows ", names[i]);
	found(l, at, "type", type->line, "type \"%.100s\" %s: %s", type->text,
	      later ? "is not built into this version yet" : "is unknown", hint.data ? hint.data : "");
}

/* The pairs of an options map as the option tables want them, in the arena. *ret_later: one is known only where the flow runs. */
static struct duct_opt_value *option_values(struct load *l, const struct flow_node *map, const struct place *at, size_t *ret_n,
					    bool *ret_later)
{
	size_t n = 0;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next)
		n++;
	/* One place more, for an option of the command line. */
	struct duct_opt_value *values = duct_arena_zalloc(&l->flow->arena, (n + 1) * sizeof *values);
	n = 0;
	*ret_later = false;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next) {
		struct duct_opt_value v = {.name = o->key, .text = o->text, .form = DUCT_OPT_TEXT, .line = o->line};
		if (o->kind == FLOW_NODE_NULL) {
			found(l, at, NULL, o->line, "option \"%.100s\" has no value: remove the line, or write \"\"", o->key);
			v.form = DUCT_OPT_LATER;
			v.text = "";
		} else if (o->kind != FLOW_NODE_TEXT) {
			AUTO_BUF struct duct_buf json = {0};
			flow_node_json(&json, o);
			v.text = duct_arena_strdup(&l->flow->arena, json.data);
			v.form = DUCT_OPT_JSON;
		}
		if (is_later(v.text)) {
			v.form = DUCT_OPT_LATER;
			*ret_later = true;
		}
		values[n++] = v;
	}
	*ret_n = n;
	return values;
}

/* Whether any text is taken for that option, and shown. Of one that is unknown it never is. */
static bool is_shown(const struct duct_opt *opts, const char *name)
{
	const char *real = name;
	for (const struct duct_opt *o = opts; o->name; o++)
		if (o->alias_of && strcmp(o->name, name) == 0)
			real = o->alias_of;
	for (const struct duct_opt *o = opts; o->name; o++)
		if (strcmp(o->name, real) == 0)
			return !(o->flags & DUCT_OPT_SECRET) && (o->type == DUCT_OPT_STR || o->type == DUCT_OPT_LIST);
	return false;
}

/* Names and paths are shown, so no connection string is taken for one. */
static bool none_is_misplaced(struct load *l, const struct duct_opt *opts, const struct duct_opt_value *values, size_t n,
			      const struct place *at)
{
	char key[128];
	bool good = true;
	for (const struct duct_opt_value *v = values; v < values + n; v++) {
		if (!is_shown(opts, v->name) || !duct_dsn_has_password(v->text))
			continue;
		snprintf(key, sizeof key, "options.%.100s", v->name);
		found(l, at, key, v->line, "option \"%.100s\": the value (hidden) has a password in it, and would be shown",
		      v->name);
		good = false;
	}
	return good;
}

/* A config from the options there, NULL after a finding. */
static void *load_options(struct load *l, const struct duct_opt *opts, size_t size, struct duct_opt_value *values, size_t n,
			  const struct place *at)
{
	char path[sizeof at->path + 16];
	snprintf(path, sizeof path, "%s.options", at->path);
	const struct duct_opt_place place = {.file = l->file, .where = at->where, .path = l->options->by_path ? path : NULL};
	void *config = duct_xcalloc(1, size ? size : 1);
	bool good = none_is_misplaced(l, opts, values, n, at);
	if (!good || duct_opts_load_all(config, size, opts, values, n, &place, l->findings)) {
		l->failed = true;
		free(config);
		return NULL;
	}
	return config;
}

static bool is_option(const struct duct_opt *opts, const char *name, size_t n)
{
	for (; opts->name; opts++)
		if (strlen(opts->name) == n && strncmp(opts->name, name, n) == 0)
			return true;
	return false;
}

/* What a connector's own rules say; such a message begins with the option it is about. */
static void check_config(struct load *l, int (*check)(const void *, struct duct_error *), const struct duct_opt *opts,
			 const void *config, const struct place *at, int line)
{
	struct duct_error err = {0};
	if (!check || !check(config, &err))
		return;
	char key[128] = "options";
	size_t n = strcspn(err.message, ": ");
	bool named = l->options->by_path && n < 100 && err.message[n] == ':' && is_option(opts, err.message, n);
	if (named)
		snprintf(key, sizeof key, "options.%.*s", (int)n, err.message);
	found(l, at, key, line, "%s", err.message + (named ? n + 2 : 0));
}

/* The option of the command line takes the place of the file's. */
static void override_value(struct load *l, const struct duct_source_ops *ops, struct duct_opt_value *values, size_t *n)
{
	const char *name = l->options->source_option;
	if (!name)
		return;
	if (!is_option(ops->opts, name, strlen(name))) {
		duct_findings_say(l->findings, "%s: source \"%s\" has no option \"%s\"", l->file, ops->name, name);
		l->failed = true;
		return;
	}
	size_t i = 0;
	while (i < *n && strcmp(values[i].name, name) != 0)
		i++;
	values[i] = (struct duct_opt_value){.name = name, .text = l->options->source_value};
	*n += i == *n;
}

/* The options map of a connector, NULL when it has none. */
static const struct flow_node *options_of(struct load *l, const struct flow_node *map, const struct place *at)
{
	const struct flow_node *options = child(map, "options");
	return options && options->kind != FLOW_NODE_NULL ? need(l, map, at, "options", FLOW_NODE_MAP) : NULL;
}

static void load_source(struct load *l, const struct flow_node *map)
{
	static const char *const known[] = {"name", "type", "options", NULL};
	struct place at = {"source", "flow.source"};
	const char *names[64] = {0};
	const struct duct_source_ops *ops = NULL;
	check_keys(l, map, &at, known);
	const struct flow_node *type = need(l, map, &at, "type", FLOW_NODE_TEXT);
	for (size_t i = 0; type && l->options->sources[i] && i + 1 < DUCT_LEN(names); i++) {
		names[i] = l->options->sources[i]->name;
		if (strcmp(names[i], type->text) == 0)
			ops = l->options->sources[i];
	}
	if (type && !ops)
		unknown_type(l, type, &at, names);
	const struct flow_node *options = options_of(l, map, &at);
	if (!ops)
		return;

	size_t n;
	bool later;
	snprintf(at.where, sizeof at.where, "source \"%s\"", ops->name);
	struct duct_opt_value *values = option_values(l, options, &at, &n, &later);
	override_value(l, ops, values, &n);
	l->flow->spec.source = ops;
	l->flow->source_config = load_options(l, ops->opts, ops->config_size, values, n, &at);
	l->flow->spec.source_config = l->flow->source_config;
	if (l->flow->source_config && !later)
		check_config(l, ops->check, ops->opts, l->flow->source_config, &at, map->line);
}

static const struct duct_destination_ops *destination_type(struct load *l, const struct flow_node *type, const struct place *at)
{
	const char *names[64] = {0};
	for (size_t i = 0; l->options->destinations[i] && i + 1 < DUCT_LEN(names); i++) {
		names[i] = l->options->destinations[i]->name;
		if (strcmp(names[i], type->text) == 0)
			return l->options->destinations[i];
	}
	unknown_type(l, type, at, names);
	return NULL;
}

static void check_twice(struct load *l, const struct flow_destination *to, const struct place *at, int line)
{
	for (const struct flow_destination *d = l->flow->destinations; d < to; d++)
		if (d->name && strcmp(d->name, to->name) == 0) {
			struct place bare = *at;
			bare.where[0] = 0;
			found(l, &bare, "name", line, "two destinations have the name \"%s\"", to->name);
			return;
		}
}

static void check_place(struct load *l, const struct flow_destination *to, const struct place *at, int line)
{
	for (const struct flow_destination *d = l->flow->destinations; d < to; d++) {
		bool both = d->name && d->config && d->ops == to->ops && to->ops->same_place;
		const char *shared = both ? to->ops->same_place(d->config, d->name, to->config, to->name) : NULL;
		if (shared)
			found(l, at, NULL, line,
			      "\"%s\" is where destination \"%s\" is (the same %s): each needs one of its own; or make it a flow of its own",
			      to->name, d->name, shared);
	}
}

/* Fills the next place of flow->destinations; it has a config when nothing is wrong with it. */
static void load_destination(struct load *l, const struct flow_node *map)
{
	static const char *const known[] = {"name", "type", "options", NULL};
	size_t number = l->flow->spec.ndestinations++;
	struct flow_destination *to = &l->flow->destinations[number];
	struct place at = {"destination", ""};
	snprintf(at.path, sizeof at.path, "flow.destinations[%zu]", number);
	if (map->kind != FLOW_NODE_MAP) {
		at.where[0] = 0;
		found(l, &at, NULL, map->line, "a destination must be a map, not %s", kind_name(map));
		return;
	}
	check_keys(l, map, &at, known);
	const struct flow_node *type = need(l, map, &at, "type", FLOW_NODE_TEXT);
	const struct flow_node *options = options_of(l, map, &at);
	to->name = need_name(l, map, &at);
	if (to->name) {
		check_twice(l, to, &at, map->line);
		snprintf(at.where, sizeof at.where, "destination \"%s\"", to->name);
	}
	const struct duct_destination_ops *ops = type ? destination_type(l, type, &at) : NULL;
	if (ops) {
		size_t n;
		bool later;
		struct duct_opt_value *values = option_values(l, options, &at, &n, &later);
		to->ops = ops;
		to->config = load_options(l, ops->opts, ops->config_size, values, n, &at);
		if (to->config && !later)
			check_config(l, ops->check, ops->opts, to->config, &at, map->line);
		if (to->config && !later && to->name)
			check_place(l, to, &at, map->line);
	}
}

static void load_destinations(struct load *l, const struct flow_node *root)
{
	size_t n = 0;
	const struct flow_node *list = need(l, root, &root_place, "destinations", FLOW_NODE_LIST);
	for (const struct flow_node *d = list ? list->first : NULL; d; d = d->next)
		n++;
	if (list && (n == 0 || n > FLOW_MOST_DESTINATIONS)) {
		found(l, &bare_place, "destinations", list->line, "%zu destinations: a flow has 1 to %d", n,
		      FLOW_MOST_DESTINATIONS);
		return;
	}
	l->flow->destinations = duct_arena_zalloc(&l->flow->arena, n * sizeof *l->flow->destinations);
	l->flow->spec.destinations = l->flow->destinations;
	for (const struct flow_node *d = list ? list->first : NULL; d; d = d->next)
		load_destination(l, d);
}

/* One member of config.ddl; -1: it is not there. */
static int ddl_member(struct load *l, json_t *ddl, const char *name, int line)
{
	static const struct place at = {"config", "flow.config.ddl"};
	json_t *value = json_object_get(ddl, name);
	bool on = json_is_true(value);
	if (!value)
		return -1;
	if (!json_is_boolean(value) && !(json_is_string(value) && duct_parse_bool(json_string_value(value), &on)))
		found(l, &at, name, line, "ddl: \"%s\" is neither true nor false", name);
	json_object_del(ddl, name);
	return on;
}

static void load_ddl_policy(struct load *l, int line)
{
	static const struct place at = {"config", "flow.config"};
	struct flow_ddl_policy *policy = &l->flow->ddl;
	json_t *ddl = l->flow->config.ddl ? json_loads(l->flow->config.ddl, 0, NULL) : json_object();
	policy->gate = ddl_member(l, ddl, "gate", line);
	policy->auto_approve = ddl_member(l, ddl, "auto_approve", line);
	policy->auto_apply = ddl_member(l, ddl, "auto_apply", line);
	const char *other = json_object_iter_key(json_object_iter(ddl));
	if (other)
		found(l, &at, "ddl", line, "ddl: unknown key \"%.100s\": known are gate, auto_approve, auto_apply", other);
	json_decref(ddl);
}

/* Where outboxes are, when somebody needs them. */
static void load_outboxes(struct load *l, const struct place *at, int line)
{
	struct flow_spec *spec = &l->flow->spec;
	const struct flow_file_config *config = &l->flow->config;
	const char *home = l->options->env ? l->options->env("HOME") : NULL;
	spec->ack_primary = config->ack_policy == FLOW_ACK_PRIMARY && spec->ndestinations > 1;
	spec->outbox_limit_bytes = config->outbox_limit_bytes;
	spec->outbox_dir = config->outbox_dir;
	spec->gives_up = config->give_up_policy == FLOW_GIVE_UP_ON_RETRY_EXHAUSTION;
	if (spec->outbox_dir)
		return;
	if (!home || !*home) {
		if (spec->ack_primary)
			found(l, at, "outbox_dir", line, "ack_policy primary needs outbox_dir, as there is no $HOME");
		return;
	}
	AUTO_FREE char *dir = duct_xasprintf("%s/.ductstream/outbox", home);
	spec->outbox_dir = duct_arena_strdup(&l->flow->arena, dir);
}

static void load_config(struct load *l, const struct flow_node *root)
{
	struct place at = {"config", "flow.config"};
	struct flow_file_config *config = &l->flow->config;
	const struct flow_node *n = child(root, "config");
	size_t nvalues, i = 0;
	bool later;
	if (n && n->kind != FLOW_NODE_NULL && !(n = need(l, root, &root_place, "config", FLOW_NODE_MAP)))
		return;
	struct duct_opt_value *values = option_values(l, n, &at, &nvalues, &later);
	const struct duct_opt_place place = {.file = l->file, .where = at.where, .path = l->options->by_path ? at.path : NULL};
	if (duct_opts_load_all(config, sizeof *config, flow_file_config_opts, values, nvalues, &place, l->findings)) {
		l->failed = true;
		return;
	}
	load_ddl_policy(l, n ? n->line : root->line);
	if (config->give_up_policy == FLOW_GIVE_UP_ON_RETRY_EXHAUSTION && !config->give_up_ms)
		config->give_up_ms = EXHAUSTED_MS;
	const char *primary = config->primary_destination;
	while (primary && i < l->flow->spec.ndestinations &&
	       !(l->flow->destinations[i].name && strcmp(l->flow->destinations[i].name, primary) == 0))
		i++;
	if (primary && i == l->flow->spec.ndestinations)
		found(l, &at, "primary_destination", n->line, "primary_destination: there is no destination \"%.100s\"", primary);
	l->flow->spec.primary = i;
	load_outboxes(l, &at, n ? n->line : root->line);
}

/* wire_format, parallelism. */
static void load_extras(struct load *l, const struct flow_node *root)
{
	const struct flow_node *n;
	struct flow_spec *spec = &l->flow->spec;
	spec->parallelism = 1;
	if (child(root, "wire_format") && (n = need(l, root, &root_place, "wire_format", FLOW_NODE_TEXT))) {
		const char *const *known = wire_formats;
		while (*known && strcmp(*known, n->text) != 0)
			known++;
		spec->wire_format = n->text;
		if (!*known)
			found(l, &bare_place, "wire_format", n->line,
			      "wire_format \"%.100s\" is none of arrow, parquet, avro, proto, json", n->text);
	}
	if (child(root, "parallelism") && (n = need(l, root, &root_place, "parallelism", FLOW_NODE_TEXT)) &&
	    (!duct_parse_int(n->text, &spec->parallelism) || spec->parallelism < 1 || spec->parallelism > 256))
		found(l, &bare_place, "parallelism", n->line, "parallelism \"%.100s\" is outside 1..256", n->text);
}

static void load_tree(struct load *l, const struct flow_node *root)
{
	static const char *const known[] = {"name", "source", "destinations", "wire_format", "parallelism", "config", NULL};
	if (root->kind != FLOW_NODE_MAP) {
		found(l, &bare_place, NULL, root->line, "a flow file is a map with name, source and destinations, not %s",
		      kind_name(root));
		return;
	}
	check_keys(l, root, &root_place, known);
	l->flow->spec.name = need_name(l, root, &root_place);
	const struct flow_node *source = need(l, root, &root_place, "source", FLOW_NODE_MAP);
	if (source)
		load_source(l, source);
	load_destinations(l, root);
	load_extras(l, root);
	load_config(l, root);
}

int flow_file_parse(struct flow_file **ret, const char *data, size_t n, const char *file, const struct flow_load_options *options,
		    struct duct_error *err)
{
	AUTO_FINDINGS struct duct_findings own = {0};
	struct duct_error unused;
	struct flow_file *flow = duct_xcalloc(1, sizeof *flow);
	struct load l = {.flow = flow, .file = file, .options = options, .findings = options->findings ? options->findings : &own};
	struct flow_node *root;
	err = err ? err : &unused;
	duct_arena_init(&flow->arena);
	int rc = flow_yaml_parse(&root, &flow->arena, data, n, file, options->env, l.findings, err);
	l.failed = l.findings->n > 0;
	if (rc)
		duct_findings_add(l.findings, err);
	else
		load_tree(&l, root);
	if (rc || l.failed) {
		flow_file_free(flow);
		*err = l.findings->list[0];
		return -(int)err->class;
	}
	*ret = flow;
	return 0;
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
	/* A config exists only where its connector is known. */
	if (flow->source_config) {
		duct_opts_done(flow->source_config, flow->spec.source->config_size, flow->spec.source->opts);
		free(flow->source_config);
	}
	for (size_t i = 0; i < flow->spec.ndestinations; i++) {
		struct flow_destination *d = &flow->destinations[i];
		if (!d->config)
			continue;
		duct_opts_done((void *)d->config, d->ops->config_size, d->ops->opts);
		free((void *)d->config);
	}
	duct_opts_done(&flow->config, sizeof flow->config, flow_file_config_opts);
	duct_arena_done(&flow->arena);
	free(flow);
}
