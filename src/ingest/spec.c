/* An ingestion file: YAML to sections, sections to options. */
#include "ingest/spec.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "flow/flow_yaml.h"
#include "ingest/json.h"
#include "record/type.h"

enum { MOST_KEY_COLUMNS = 32 };

struct section {
	const char *name;
	const struct duct_opt *opts;
	size_t offset, size;
};
#define SECTION(name_) \
	{ \
#name_, ingest_##name_##_opts, offsetof(struct ingest_spec, name_), sizeof(struct ingest_##name_) \
	}
static const struct section sections[] = {SECTION(main),	SECTION(auth),	SECTION(paging), SECTION(partition),
					  SECTION(incremental), SECTION(retry), SECTION(s3)};

struct load {
	struct ingest_spec *spec;
	struct duct_arena *arena;
	const char *name;
	bool early; /* references are not known yet */
	const struct flow_node *found[DUCT_LEN(sections)];
};

static const char *none_yet(const char *name)
{
	(void)name;
	return FLOW_ENV_LATER;
}

static bool is_later(const char *text)
{
	return strstr(text, FLOW_ENV_LATER) || strstr(text, "\\u001a");
}

static bool is_secret(const struct duct_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return opts->flags & DUCT_OPT_SECRET;
	return false;
}

static bool has_option(const struct duct_opt *opts, const char *name)
{
	for (; opts->name; opts++)
		if (strcmp(opts->name, name) == 0)
			return true;
	return false;
}

static int take_value(struct load *l, const struct section *s, const struct flow_node *node, struct duct_opt_value *ret,
		      struct duct_error *err)
{
	*ret = (struct duct_opt_value){.name = node->key, .text = node->text, .form = DUCT_OPT_TEXT, .line = node->line};
	if (node->kind == FLOW_NODE_NULL)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: option \"%.100s\" has no value: remove the line, or write \"\"", l->name,
				 node->line, node->key);
	if (node->kind != FLOW_NODE_TEXT) {
		AUTO_BUF struct duct_buf json = {0};
		flow_node_json(&json, node);
		ret->text = duct_arena_strdup(l->arena, json.data);
		ret->form = DUCT_OPT_JSON;
	}
	bool later = is_later(ret->text);
	if (l->early && is_secret(s->opts, node->key) && !later) {
		AUTO_FREE char *file = duct_xasprintf("%s_file", node->key);
		bool or_file = has_option(s->opts, file);
		return duct_fail(err, DUCT_CONFIG,
				 "%s:%d: \"%s\" is written out: give the secret as ${NAME} of the environment%s%s%s", l->name,
				 node->line, node->key, or_file ? ", or as a file's name in \"" : "", or_file ? file : "",
				 or_file ? "\"" : "");
	}
	if (later)
		ret->form = DUCT_OPT_LATER;
	l->spec->later |= later;
	return 0;
}

static int load_section(struct load *l, size_t at, struct duct_error *err)
{
	const struct section *s = &sections[at];
	const struct flow_node *map = l->found[at];
	size_t n = 0;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next)
		n++;
	struct duct_opt_value *values = duct_arena_zalloc(l->arena, (n + 1) * sizeof *values);
	n = 0;
	for (const struct flow_node *o = map ? map->first : NULL; o; o = o->next) {
		if (at == 0 && o->kind == FLOW_NODE_MAP) {
			bool is_section = false;
			for (size_t i = 1; i < DUCT_LEN(sections); i++)
				is_section |= strcmp(sections[i].name, o->key) == 0;
			if (is_section)
				continue;
		}
		if (take_value(l, s, o, &values[n++], err))
			return -(int)err->class;
	}
	return duct_opts_load_file((char *)l->spec + s->offset, s->size, s->opts, values, n, l->name,
				   at ? s->name : "the ingestion", err);
}

static int find_sections(struct load *l, const struct flow_node *root, struct duct_error *err)
{
	if (root->kind != FLOW_NODE_MAP)
		return duct_fail(err, DUCT_CONFIG, "%s:%d: a map of options is expected", l->name, root->line);
	l->found[0] = root;
	for (const struct flow_node *o = root->first; o; o = o->next)
		for (size_t i = 1; i < DUCT_LEN(sections); i++) {
			if (strcmp(sections[i].name, o->key) != 0)
				continue;
			if (o->kind != FLOW_NODE_MAP)
				return duct_fail(err, DUCT_CONFIG, "%s:%d: \"%s\" must be a map of options", l->name, o->line,
						 o->key);
			l->found[i] = o;
		}
	return 0;
}

/* --- rules over several options --- */

static int need(const struct load *l, bool there, const char *what, struct duct_error *err)
{
	return there ? 0 : duct_fail(err, DUCT_CONFIG, "%s: %s", l->name, what);
}

static int check_auth(const struct load *l, struct duct_error *err)
{
	const struct ingest_auth *a = &l->spec->auth;
	switch ((enum ingest_auth_type)a->type) {
	case INGEST_AUTH_NONE: return 0;
	case INGEST_AUTH_BEARER: return need(l, a->token || a->token_file, "auth: bearer needs \"token\" or \"token_file\"", err);
	case INGEST_AUTH_BASIC:
		return need(l, a->user && (a->password || a->password_file),
			    "auth: basic needs \"user\" and \"password\" or \"password_file\"", err);
	case INGEST_AUTH_API_KEY:
		return need(l, !a->header != !a->param && (a->value || a->value_file),
			    "auth: api_key needs either \"header\" or \"param\", and \"value\" or \"value_file\"", err);
	case INGEST_AUTH_OAUTH2:
		return need(l, a->token_url && a->client_id && (a->client_secret || a->client_secret_file),
			    "auth: oauth2 needs \"token_url\", \"client_id\" and \"client_secret\" or \"client_secret_file\"", err);
	}
	return 0;
}

static int check_paging(const struct load *l, struct duct_error *err)
{
	const struct ingest_paging *p = &l->spec->paging;
	bool needs_param = p->type == INGEST_PAGE_NUMBER || p->type == INGEST_PAGE_OFFSET || p->type == INGEST_PAGE_CURSOR;
	bool needs_path = p->type == INGEST_PAGE_CURSOR || p->type == INGEST_PAGE_NEXT;
	if (need(l, !needs_param || p->param, "paging: this type needs \"param\"", err) ||
	    need(l, !needs_path || p->path, "paging: this type needs \"path\"", err) ||
	    need(l, !p->size_param || p->size, "paging: \"size_param\" needs \"size\"", err))
		return -(int)err->class;
	return p->path ? json_path_check(p->path, err) : 0;
}

static bool lists(char *const *list, const char *name)
{
	for (; list && *list; list++)
		if (strcmp(*list, name) == 0)
			return true;
	return false;
}

static int check_write(const struct load *l, struct duct_error *err)
{
	const struct ingest_spec *s = l->spec;
	const struct ingest_main *m = &s->main;
	bool keyed = m->merge_key && m->merge_key[0];
	if (need(l, m->write != INGEST_MERGE || keyed, "write: merge needs \"merge_key\", the columns by which a row is found",
		 err) ||
	    need(l, m->nested != INGEST_NESTED_TABLES || keyed, "nested: tables needs \"merge_key\", which child rows refer to",
		 err) ||
	    need(l, m->write != INGEST_REPLACE || !s->partitioned || s->partition.column,
		 "write: replace of one partition needs partition \"column\": it says which rows are the partition's", err) ||
	    need(l, m->type != INGEST_FILES || (m->files && m->files[0]), "type: files needs \"files\"", err) ||
	    need(l, m->type != INGEST_FILES || m->nested == INGEST_NESTED_JSON,
		 "nested: what is nested in files keeps its type (\"columns\": {name: json} makes it JSON)", err) ||
	    need(l, m->type != INGEST_FILES || (!s->partitioned && !s->incremented),
		 "type: files have neither \"partition\" nor \"incremental\"", err) ||
	    need(l, !s->incremented || (m->write != INGEST_REPLACE && !(m->write == INGEST_MERGE && s->partition.column)),
		 "incremental: a run gets what is new alone, and what it does not get would go: by write: replace all of it, with partition "
		 "\"column\" what is of the partition",
		 err) ||
	    need(l, m->type != INGEST_REST || m->url, "option \"url\" is missing", err) ||
	    need(l, !s->has_s3 || m->type == INGEST_FILES, "s3: says where files are; type is not \"files\"", err) ||
	    need(l, !s->s3.access_key == !s->s3.secret_key, "s3: \"access_key\" and \"secret_key\" belong together", err))
		return -(int)err->class;
	for (size_t i = 0; m->merge_key && m->merge_key[i]; i++)
		if (i == MOST_KEY_COLUMNS)
			return duct_fail(err, DUCT_CONFIG, "%s: merge_key: more than %d columns", l->name, MOST_KEY_COLUMNS);
		else if (lists(m->merge_key + i + 1, m->merge_key[i]))
			return duct_fail(err, DUCT_CONFIG, "%s: merge_key: \"%s\" is given twice", l->name, m->merge_key[i]);
	return m->records ? json_path_check(m->records, err) : 0;
}

static int split_into(struct load *l, struct duct_error *err)
{
	const char *into = l->spec->main.into, *dot = strchr(into, '.');
	if (!dot || dot == into || !dot[1] || strchr(dot + 1, '.'))
		return duct_fail(err, DUCT_CONFIG, "%s: into: \"%.100s\" is not schema.table", l->name, into);
	l->spec->schema = duct_xstrndup(into, (size_t)(dot - into));
	l->spec->table = duct_xstrdup(dot + 1);
	return 0;
}

static int check_numbers(struct load *l, struct duct_error *err)
{
	struct ingest_retry *r = &l->spec->retry;
	char *end = NULL;
	r->backoff = r->backoff_text ? strtod(r->backoff_text, &end) : 2.5;
	if ((end && *end) || !isfinite(r->backoff) || r->backoff < 1 || r->backoff > 100)
		return duct_fail(err, DUCT_CONFIG, "%s: retry: ducklake_retry_backoff: a number from 1 to 100 is expected",
				 l->name);
	return 0;
}

static int check_types(const struct load *l, struct duct_error *err)
{
	const char *columns = l->spec->main.columns;
	struct json_doc doc = {0};
	if (!columns)
		return 0;
	int rc = json_parse(&doc, columns, strlen(columns), err);
	for (uint32_t i = 1; !rc && i < doc.nodes[0].end; i = doc.nodes[i + 1].end) {
		AUTO_BUF struct duct_buf name = {0}, type = {0};
		struct duct_type ignored;
		duct_buf_puts(&name, "");
		duct_buf_puts(&type, "");
		json_unescape(&doc, &doc.nodes[i], &name);
		if (doc.nodes[i + 1].kind == JSON_KIND_STRING)
			json_unescape(&doc, &doc.nodes[i + 1], &type);
		if (!ingest_type_named(type.data, &ignored))
			rc = duct_fail(err, DUCT_CONFIG,
				       "%s: columns: \"%.60s\": \"%.60s\" is none of varchar, json, boolean, int32, int64, double, "
				       "decimal(P,S), date, time, timestamp, timestamptz, uuid",
				       l->name, name.data, type.data);
	}
	json_done(&doc);
	return rc;
}

static int load(struct load *l, const char *text, size_t n, const char *(*look_up)(const char *), struct duct_error *err)
{
	struct flow_node *root = NULL;
	AUTO_FINDINGS struct duct_findings findings = {0};
	if (flow_yaml_parse(&root, l->arena, text, n, l->name, look_up ? look_up : none_yet, &findings, err) ||
	    find_sections(l, root, err))
		return -(int)err->class;
	if (findings.n) {
		*err = findings.list[0];
		return -(int)err->class;
	}
	for (size_t i = 0; i < DUCT_LEN(sections); i++)
		if ((i != 4 || l->found[i]) && load_section(l, i, err))
			return -(int)err->class;
	l->spec->partitioned = l->found[3];
	l->spec->incremented = l->found[4];
	l->spec->has_s3 = l->found[6];
	if (l->spec->later && l->early)
		return 0; /* the rest is checked where all is known */
	if (check_auth(l, err) || check_paging(l, err) || check_write(l, err) || check_types(l, err) || check_numbers(l, err))
		return -(int)err->class;
	return split_into(l, err);
}

int ingest_spec_parse(struct ingest_spec *ret, const char *text, size_t n, const char *name, const char *(*look_up)(const char *),
		      struct duct_error *err)
{
	struct duct_arena arena;
	struct load l = {.spec = ret, .arena = &arena, .name = name, .early = !look_up};
	*ret = (struct ingest_spec){0};
	duct_arena_init(&arena);
	int rc = load(&l, text, n, look_up, err);
	duct_arena_done(&arena);
	return rc;
}

void ingest_spec_done(struct ingest_spec *spec)
{
	for (size_t i = 0; i < DUCT_LEN(sections); i++)
		duct_opts_done((char *)spec + sections[i].offset, sections[i].size, sections[i].opts);
	free(spec->schema);
	free(spec->table);
	*spec = (struct ingest_spec){0};
}

bool ingest_type_named(const char *name, struct duct_type *ret)
{
	static const struct {
		const char *name;
		enum duct_kind kind;
	} names[] = {{"varchar", DUCT_VARCHAR},
		     {"text", DUCT_VARCHAR},
		     {"json", DUCT_JSON},
		     {"boolean", DUCT_BOOL},
		     {"int32", DUCT_INT32},
		     {"integer", DUCT_INT32},
		     {"int64", DUCT_INT64},
		     {"bigint", DUCT_INT64},
		     {"float64", DUCT_FLOAT64},
		     {"double", DUCT_FLOAT64},
		     {"date", DUCT_DATE},
		     {"time", DUCT_TIME},
		     {"timestamp", DUCT_TIMESTAMP},
		     {"timestamptz", DUCT_TIMESTAMPTZ},
		     {"uuid", DUCT_UUID}};
	int precision, scale, end = 0;
	*ret = (struct duct_type){0};
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (strcasecmp(names[i].name, name) == 0) {
			ret->kind = names[i].kind;
			return true;
		}
	if (sscanf(name, "decimal(%2d,%2d)%n", &precision, &scale, &end) != 2 || !end || name[end] || precision < 1 ||
	    precision > 38 || scale < 0 || scale > precision)
		return false;
	*ret = (struct duct_type){.kind = DUCT_DECIMAL, .precision = (uint8_t)precision, .scale = (uint8_t)scale};
	return true;
}
