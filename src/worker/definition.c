#include "worker/definition.h"

#include <ctype.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"

/* One option of one connector of a definition. */
struct option {
	json_t *options; /* the map it is in */
	const char *key, *text;
	unsigned secrecy; /* DUCT_OPT_SECRET, DUCT_OPT_DSN, or 0 */
	char path[256];	  /* "flow.source.options.dsn" */
	char sealed[384]; /* the name it is sealed under */
	size_t endpoint;  /* 0: the source, 1..: destinations */
};
typedef void option_fn(void *arg, const struct option *option);

json_t *definition_parse(const char *text, struct duct_error *err)
{
	json_t *definition = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(definition))
		return definition;
	json_decref(definition);
	(void)duct_fail(err, DUCT_FATAL, "the stored definition of the flow is no JSON object");
	return NULL;
}

char *definition_text(const json_t *definition, struct duct_arena *arena)
{
	AUTO_FREE char *text = json_dumps(definition, JSON_COMPACT | JSON_PRESERVE_ORDER);
	return duct_arena_strdup(arena, text ? text : "{}");
}

/* By the table of the connector; everything is secret where this program does not know the connector or the option. */
static unsigned secrecy_of(const struct duct_opt *opts, const char *key)
{
	const char *name = key;
	for (const struct duct_opt *o = opts; o && o->name; o++)
		if (strcmp(o->name, key) == 0)
			name = o->alias_of ? o->alias_of : key;
	for (const struct duct_opt *o = opts; o && o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o->flags & DUCT_OPT_DSN;
	return DUCT_OPT_SECRET;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static void each_of_endpoint(json_t *endpoint, const struct duct_opt *opts, const char *path, const char *sealed, size_t number,
			     option_fn *fn, void *arg)
{
	json_t *options = json_object_get(endpoint, "options"), *value;
	const char *key;
	void *next;
	json_object_foreach_safe(options, next, key, value)
	{
		struct option option = {.options = options, .key = key, .endpoint = number, .secrecy = secrecy_of(opts, key)};
		option.text = json_string_value(value);
		if (!option.text)
			continue;
		snprintf(option.path, sizeof option.path, "%s.options.%.100s", path, key);
		snprintf(option.sealed, sizeof option.sealed, "%s/%.100s", sealed, key);
		fn(arg, &option);
	}
}

/* Every option that is a text; fn may replace the value. */
static void each_option(json_t *definition, const char *id, option_fn *fn, void *arg)
{
	json_t *source = json_object_get(definition, "source"), *destination;
	const struct duct_source_ops *from = duct_source_find(text_of(source, "type"));
	char path[64], sealed[256];
	size_t i;
	snprintf(sealed, sizeof sealed, "flow/%s/source", id);
	each_of_endpoint(source, from ? from->opts : NULL, "flow.source", sealed, 0, fn, arg);
	json_array_foreach(json_object_get(definition, "destinations"), i, destination)
	{
		const struct duct_destination_ops *to = duct_destination_find(text_of(destination, "type"));
		snprintf(path, sizeof path, "flow.destinations[%zu]", i);
		snprintf(sealed, sizeof sealed, "flow/%s/destination/%.63s", id, text_of(destination, "name"));
		each_of_endpoint(destination, to ? to->opts : NULL, path, sealed, i + 1, fn, arg);
	}
}

static void set_option(const struct option *option, const char *text)
{
	json_object_set_new(option->options, option->key, json_string(text));
}

/* ${NAME}, nothing before, nothing behind and no default, which could be a secret. */
static bool is_reference(const char *text)
{
	size_t n = strlen(text);
	if (n < 4 || strncmp(text, "${", 2) != 0 || text[n - 1] != '}')
		return false;
	for (const char *p = text + 2; p < text + n - 1; p++)
		if (!isalnum((unsigned char)*p) && *p != '_')
			return false;
	return true;
}

/* --- at rest and back */

struct sealing {
	struct state *state;
	struct duct_arena arena;
	struct duct_error *err;
	int rc;
};

static void reveal_one(void *arg, const struct option *option)
{
	struct sealing *s = arg;
	if (s->rc || !option->secrecy)
		return;
	const char *text = state_unseal(s->state, &s->arena, option->sealed, option->text, s->err);
	if (text)
		set_option(option, text);
	else
		s->rc = duct_wrap(s->err, "%s", option->path);
}

int definition_reveal(json_t *definition, const char *id, struct state *state, struct duct_error *err)
{
	struct sealing s = {.state = state, .err = err};
	duct_arena_init(&s.arena);
	each_option(definition, id, reveal_one, &s);
	duct_arena_done(&s.arena);
	return s.rc;
}

static void seal_one(void *arg, const struct option *option)
{
	struct sealing *s = arg;
	if (s->rc || !option->secrecy || is_reference(option->text))
		return;
	const char *text = state_seal(s->state, &s->arena, option->sealed, option->text, s->err);
	if (text)
		set_option(option, text);
	else
		s->rc = duct_wrap(s->err, "%s", option->path);
}

int definition_seal(json_t *definition, const char *id, struct state *state, struct duct_error *err)
{
	struct sealing s = {.state = state, .err = err};
	duct_arena_init(&s.arena);
	each_option(definition, id, seal_one, &s);
	duct_arena_done(&s.arena);
	return s.rc;
}

/* --- what is shown */

static const char hidden[] = "***";

/* Where the default of ${NAME:-DEFAULT} begins, when the text is that and nothing else; 0: it is not. */
static size_t default_of(const char *text)
{
	const char *dash = strstr(text, ":-"), *end = strchr(text, '}');
	bool is = strncmp(text, "${", 2) == 0 && dash && end && dash < end && !end[1];
	for (const char *p = text + 2; is && p < dash; p++)
		is = isalnum((unsigned char)*p) || *p == '_';
	return is ? (size_t)(dash - text) + 2 : 0;
}

/* Of a file's path nothing is secret, of a connection string the password is, of anything else all: a token can look like one. */
static char *shown(unsigned secrecy, const char *text)
{
	static const char postgres[] = "postgres:";
	if (!*text || is_reference(text))
		return duct_xstrdup(text);
	if (secrecy != DUCT_OPT_DSN)
		return duct_xstrdup(hidden);
	if (strncmp(text, "sqlite:", 7) == 0)
		return duct_xstrdup(duct_dsn_is_misplaced(text + 7) ? hidden : text);
	if (strncmp(text, postgres, strlen(postgres)) == 0 && strncmp(text, "postgres://", 11) != 0) {
		AUTO_FREE char *dsn = duct_dsn_redact(text + strlen(postgres));
		return duct_xasprintf("%s%s", postgres, dsn);
	}
	size_t name = default_of(text), n = strlen(text);
	if (!name)
		return duct_dsn_redact(text);
	AUTO_FREE char *otherwise = duct_xstrndup(text + name, n - name - 1);
	AUTO_FREE char *dsn = shown(secrecy, otherwise);
	return duct_xasprintf("%.*s%s}", (int)name, text, dsn);
}

static void hide_one(void *arg, const struct option *option)
{
	(void)arg;
	if (!option->secrecy)
		return;
	AUTO_FREE char *text = shown(option->secrecy, option->text);
	set_option(option, text);
}

void definition_hide(json_t *definition)
{
	each_option(definition, "", hide_one, NULL);
}

struct keeping {
	const json_t *definition, *stored;
	struct duct_findings *findings;
};

/* The same option of the stored definition: of the source, or of the destination with the same name. */
static const char *stored_text(const struct keeping *k, const struct option *option)
{
	if (option->endpoint == 0)
		return text_of(json_object_get(json_object_get(k->stored, "source"), "options"), option->key);
	json_t *mine = json_array_get(json_object_get(k->definition, "destinations"), option->endpoint - 1), *other;
	size_t i;
	json_array_foreach(json_object_get(k->stored, "destinations"), i, other)
	{
		if (strcmp(text_of(other, "name"), text_of(mine, "name")) == 0)
			return text_of(json_object_get(other, "options"), option->key);
	}
	return "";
}

/* What is shown of the stored value stands for it. */
static void keep_one(void *arg, const struct option *option)
{
	struct keeping *k = arg;
	if (!option->secrecy)
		return;
	const char *before = stored_text(k, option);
	AUTO_FREE char *was = shown(option->secrecy, before);
	AUTO_FREE char *is = shown(option->secrecy, option->text);
	if (*before && strcmp(was, option->text) == 0) {
		set_option(option, before);
	} else if (strstr(option->text, hidden) && strcmp(is, option->text) == 0) { /* it is hidden already */
		duct_findings_say(
			k->findings,
			"%s: a part of the value is hidden (***), and it is not what is shown of the stored one: give the whole "
			"value",
			option->path);
	}
}

void definition_keep(json_t *definition, const json_t *stored, struct duct_findings *findings)
{
	struct keeping k = {definition, stored, findings};
	each_option(definition, "", keep_one, &k);
}

/* --- checks */

static const char *known_later(const char *name)
{
	(void)name;
	return FLOW_ENV_LATER;
}

static const char *from_environment(const char *name)
{
	return getenv(name);
}

/* As the text of a flow file, whose name is the id. */
static char *as_file(const json_t *definition, const char *id)
{
	AUTO_JSON json_t *file = json_copy((json_t *)definition);
	json_object_set_new(file, "name", json_string(id));
	return json_dumps(file, JSON_COMPACT | JSON_PRESERVE_ORDER);
}

static int parse(struct flow_file **ret, const json_t *definition, const char *id, flow_getenv_fn *env,
		 struct duct_findings *findings, struct duct_error *err)
{
	const struct flow_load_options options = {
		.sources = duct_sources,
		.destinations = duct_destinations,
		.env = env,
		.findings = findings,
		.by_path = true,
	};
	AUTO_FREE char *text = as_file(definition, id);
	if (!text)
		return duct_fail(err, DUCT_CONFIG, "flow: a value is not valid UTF-8");
	return flow_file_parse(ret, text, strlen(text), "flow", &options, err);
}

void definition_check(const json_t *definition, const char *id, struct duct_findings *findings)
{
	AUTO_FINDINGS struct duct_findings own = {0};
	struct flow_file *flow = NULL;
	struct duct_error err;
	if (parse(&flow, definition, id, known_later, &own, &err) && !own.n)
		duct_findings_add(findings, &err);
	for (size_t i = 0; i < own.n; i++)
		duct_findings_add(findings, &own.list[i]);
	flow_file_free(flow);
}

int definition_load(struct flow_file **ret, const json_t *definition, const char *id, struct duct_error *err)
{
	return parse(ret, definition, id, from_environment, NULL, err);
}

json_t *definition_source_options(const json_t *definition)
{
	return json_object_get(json_object_get(definition, "source"), "options");
}

bool definition_is_atomic(const json_t *definition)
{
	json_t *destination;
	size_t i;
	json_array_foreach(json_object_get(definition, "destinations"), i, destination)
	{
		const struct duct_destination_ops *to = duct_destination_find(text_of(destination, "type"));
		if (to && to->caps & DUCT_DESTINATION_ATOMIC_POS)
			return true;
	}
	return false;
}
