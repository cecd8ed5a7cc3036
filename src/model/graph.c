/* Inputs, depth, cycles, hashes. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#include "base/mem.h"
#include "model/internal.h"

int model_find(const struct model_project *project, const char *schema, const char *table)
{
	int found = -1;
	for (size_t i = 0; i < project->n; i++) {
		if (strcasecmp(project->models[i].name, table) != 0 ||
		    (schema && strcasecmp(project->models[i].schema, schema) != 0))
			continue;
		if (found >= 0)
			return -1; /* which one? */
		found = (int)i;
	}
	return found;
}

const char *model_why_not(const struct model_project *project, const char *table)
{
	for (size_t i = 0; i < project->n; i++)
		if (strcasecmp(project->models[i].name, table) == 0)
			return "the name of several models: write schema.table";
	return "no model: a table of the lake is written schema.table";
}

void model_add_input(struct duct_arena *arena, struct model_input **list, size_t *n, const char *schema, const char *table)
{
	for (size_t i = 0; i < *n; i++)
		if (strcasecmp((*list)[i].schema, schema) == 0 && strcasecmp((*list)[i].table, table) == 0)
			return;
	struct model_input *more = duct_arena_alloc(arena, (*n + 1) * sizeof *more);
	if (*n)
		memcpy(more, *list, *n * sizeof *more);
	more[(*n)++] = (struct model_input){.schema = schema, .table = table, .model = -1};
	*list = more;
}

/* --- depth --- */

enum { UNSEEN = -1, UNDER_WAY = -2 };

struct walk {
	struct model_project *project;
	size_t *path, npath;
	struct duct_error *err;
};

static int cycle(struct walk *w, size_t again)
{
	AUTO_BUF struct duct_buf text = {0};
	size_t from = 0;
	while (w->path[from] != again)
		from++;
	for (size_t i = from; i < w->npath; i++)
		duct_buf_printf(&text, "%s.%s reads ", w->project->models[w->path[i]].schema, w->project->models[w->path[i]].name);
	duct_buf_printf(&text, "%s.%s", w->project->models[again].schema, w->project->models[again].name);
	return duct_fail(w->err, DUCT_CONFIG, "the models go round in a circle: %s", text.data);
}

static int visit(struct walk *w, size_t i);

static int visit_inputs(struct walk *w, struct model_input *list, size_t n, int *depth)
{
	for (size_t k = 0; k < n; k++) {
		int other = list[k].model = model_find(w->project, list[k].schema, list[k].table);
		if (other < 0)
			continue;
		if (visit(w, (size_t)other) < 0)
			return -(int)w->err->class;
		if (w->project->models[other].depth >= *depth)
			*depth = w->project->models[other].depth + 1;
	}
	return 0;
}

static int visit(struct walk *w, size_t i)
{
	struct model *m = &w->project->models[i];
	int depth = 0;
	if (m->depth == UNDER_WAY)
		return cycle(w, i);
	if (m->depth != UNSEEN)
		return 0;
	m->depth = UNDER_WAY;
	w->path[w->npath++] = i;
	if (visit_inputs(w, m->inputs, m->ninputs, &depth) < 0 || visit_inputs(w, m->after, m->nafter, &depth) < 0)
		return -(int)w->err->class;
	m->depth = depth;
	w->npath--;
	return 0;
}

static int by_depth(const void *a, const void *b)
{
	const struct model *x = a, *y = b;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	int schema = strcmp(x->schema, y->schema);
	return schema ? schema : strcmp(x->name, y->name);
}

/* --- hashes --- */

static void put_names(struct duct_buf *to, const struct model_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		duct_buf_printf(to, "%s,", names->list[i]);
	duct_buf_putc(to, '|');
}

static void put_checks(struct duct_buf *to, const struct model *m)
{
	for (size_t i = 0; i < m->nchecks; i++) {
		const struct model_check *c = &m->checks[i];
		duct_buf_printf(to, "%d:", (int)c->kind);
		put_names(to, &c->columns);
		put_names(to, &c->values);
		duct_buf_printf(to, "%s.%s.%s|%s|", c->to_schema ? c->to_schema : "", c->to_table ? c->to_table : "",
				c->to_column ? c->to_column : "", c->sql ? c->sql : "");
	}
}

/* A view's rows are those of its query: what reads it changes with its text. */
static void set_hash(struct model_project *project, struct model *m)
{
	AUTO_BUF struct duct_buf text = {0};
	duct_buf_printf(&text, "1|%s.%s|%d|%s|%s|%s|%s.%s|", m->schema, m->name, (int)m->kind, m->sql, m->sql_new ? m->sql_new : "",
			m->partitioned_by ? m->partitioned_by : "", m->changes_schema ? m->changes_schema : "",
			m->changes_table ? m->changes_table : "");
	put_names(&text, &m->key);
	put_names(&text, &m->partition);
	put_names(&text, &m->changes_exprs);
	put_checks(&text, m);
	for (size_t i = 0; i < m->ninputs; i++) {
		const struct model *other = m->inputs[i].model >= 0 ? &project->models[m->inputs[i].model] : NULL;
		if (other && other->kind == MODEL_VIEW)
			duct_buf_printf(&text, "%s|", other->hash);
	}
	XXH128_hash_t hash = XXH3_128bits(text.data, text.len);
	(void)snprintf(m->hash, sizeof m->hash, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

int model_order(struct model_project *project, struct duct_error *err)
{
	AUTO_FREE size_t *path = duct_xcalloc(project->n + 1, sizeof *path);
	struct walk w = {.project = project, .path = path, .err = err};
	for (size_t i = 0; i < project->n; i++)
		project->models[i].depth = UNSEEN;
	for (size_t i = 0; i < project->n; i++)
		if (visit(&w, i) < 0)
			return -(int)err->class;
	if (project->n)
		qsort(project->models, project->n, sizeof *project->models, by_depth);
	for (size_t i = 0; i < project->n; i++) {
		struct model *m = &project->models[i];
		for (size_t k = 0; k < m->ninputs; k++)
			m->inputs[k].model = model_find(project, m->inputs[k].schema, m->inputs[k].table);
		for (size_t k = 0; k < m->nafter; k++)
			m->after[k].model = model_find(project, m->after[k].schema, m->after[k].table);
		set_hash(project, m);
	}
	return 0;
}
