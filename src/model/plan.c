/* Whether a model is to be built, why, and how. */
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#include "base/mem.h"
#include "model/internal.h"
#include "model/work.h"

enum { MOST_VIEWS = 32 };

struct plan {
	struct model_turn *turn;
	const struct model_lake *lake;
	json_t *views; /* that it reads, in the lake, with a hash of their text */
	struct duct_error *err;
};

/* --- the tables behind the inputs --- */

static int add_base(struct plan *p, const char *schema, const char *table, int depth);

/* A view that is no model of ours: what it reads is in its text. */
static int add_foreign_view(struct plan *p, const struct model_table *view, int depth)
{
	struct model reader = {.file = view->name};
	struct model_project *project = (struct model_project *)(uintptr_t)p->turn->project;
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error ignored;
	const char *resolved;
	static const char mark[] = "{DUCKLAKE_CATALOG}";
	for (const char *c = view->sql; *c;) {
		bool is_mark = strncmp(c, mark, sizeof mark - 1) == 0;
		if (is_mark)
			duct_buf_puts(&sql, MODEL_LAKE);
		else
			duct_buf_putc(&sql, *c);
		c += is_mark ? sizeof mark - 1 : 1;
	}
	/* Names of the whole project's arena: a private copy, as turns run side by side. */
	struct model_project copy = *project;
	copy.arena = (struct duct_arena){0};
	duct_arena_init(&copy.arena);
	int rc = model_resolve(&copy, &reader, p->turn->conn, sql.data, &resolved, &ignored);
	if (rc < 0 || reader.always)
		p->turn->versioned = false;
	rc = 0;
	for (size_t i = 0; i < reader.ninputs && rc == 0; i++)
		rc = add_base(p, duct_arena_strdup(&p->turn->arena, reader.inputs[i].schema),
			      duct_arena_strdup(&p->turn->arena, reader.inputs[i].table), depth + 1);
	duct_arena_done(&copy.arena);
	return rc;
}

static int no_such_table(struct plan *p, const char *schema, const char *table)
{
	return duct_fail(p->err, DUCT_CONFIG, "%s: it reads \"%s.%s\", which is neither a model nor a table of the lake",
			 p->turn->model->file, schema, table);
}

/* As it is, which need not be how the project has it: somebody else's, or a model's that this build leaves out. */
static void add_view(struct plan *p, const char *schema, const struct model_table *view)
{
	AUTO_FREE char *name = duct_xasprintf("%s.%s", schema, view->name);
	unsigned long long hash = XXH3_64bits(view->sql, strlen(view->sql));
	json_object_set_new(p->views, name, json_sprintf("%016llx", hash));
}

static int add_base(struct plan *p, const char *schema, const char *table, int depth)
{
	struct model_turn *t = p->turn;
	int at = model_find(t->project, schema, table);
	const struct model *m = at >= 0 ? &t->project->models[at] : NULL;
	const struct model_table *found = model_lake_table(p->lake, schema, table);
	if (!found)
		return no_such_table(p, schema, table);
	if (!found->view) {
		model_add_input(&t->arena, &t->bases, &t->nbases, schema, table);
		return 0;
	}
	if (depth > MOST_VIEWS)
		return duct_fail(p->err, DUCT_CONFIG, "%s: more than %d views behind each other", t->model->file, MOST_VIEWS);
	add_view(p, schema, found);
	if (!m || m->kind != MODEL_VIEW)
		return add_foreign_view(p, found, depth);
	t->versioned &= !m->always;
	for (size_t i = 0; i < m->ninputs; i++)
		if (add_base(p, m->inputs[i].schema, m->inputs[i].table, depth + 1) < 0)
			return -(int)p->err->class;
	return 0;
}

static int add_bases(struct plan *p)
{
	const struct model *m = p->turn->model;
	p->turn->versioned = !m->always;
	for (size_t i = 0; i < m->ninputs; i++)
		if (add_base(p, m->inputs[i].schema, m->inputs[i].table, 0) < 0)
			return -(int)p->err->class;
	return 0;
}

static int find_bases(struct plan *p)
{
	struct model_turn *t = p->turn;
	json_t *ids = p->views = json_object();
	int rc = add_bases(p);
	for (size_t i = 0; i < t->nbases && rc == 0; i++) {
		const struct model_table *table = model_lake_table(p->lake, t->bases[i].schema, t->bases[i].table);
		AUTO_FREE char *name = duct_xasprintf("%s.%s", t->bases[i].schema, t->bases[i].table);
		json_object_set_new(ids, name, json_integer(table->id));
	}
	AUTO_FREE char *text = json_dumps(ids, JSON_COMPACT | JSON_SORT_KEYS);
	t->inputs = duct_arena_strdup(&t->arena, text ? text : "{}");
	json_decref(ids);
	return rc;
}

/* --- what is new --- */

static const char *say(struct plan *p, const char *what, const struct model_input *input)
{
	AUTO_FREE char *text = duct_xasprintf("%s %s.%s", what, input->schema, input->table);
	return duct_arena_strdup(&p->turn->arena, text);
}

static bool has_changed(struct plan *p, const struct model_record *record, const struct model_input *base)
{
	const struct model_table *table = model_lake_table(p->lake, base->schema, base->table);
	return model_lake_changed(p->lake, table->id) > record->base;
}

/* Not even what it was made of is the same: only all rows will do. NULL: it is. */
static const char *made_otherwise(struct plan *p, const struct model_record *record, const struct model_table *target)
{
	const struct model *m = p->turn->model;
	if (!target)
		return "it is not there";
	if (target->view != (m->kind == MODEL_VIEW))
		return "it is materialised otherwise";
	if (!record)
		return "no build of it is known";
	if (strcmp(record->hash, m->hash) != 0)
		return "the model has changed";
	if (target->begin > record->snapshot)
		return "somebody else has made it";
	if (m->kind == MODEL_VIEW)
		return NULL;
	return model_lake_changed(p->lake, target->id) > record->snapshot ? "somebody else has changed it" : NULL;
}

/* Tables that were replaced have other ids, views another text. */
static bool same_inputs(const struct plan *p, const struct model_record *record)
{
	return strcmp(record->inputs ? record->inputs : "", p->turn->inputs) == 0;
}

static const char *has_news(struct plan *p, const struct model_record *record)
{
	struct model_turn *t = p->turn;
	if (t->model->kind == MODEL_VIEW)
		return NULL;
	if (!t->versioned)
		return "what it reads has no versions";
	if (!same_inputs(p, record))
		return "an input is another table, or another view";
	for (size_t i = 0; i < t->nbases; i++)
		if (has_changed(p, record, &t->bases[i]))
			return say(p, "new in", &t->bases[i]);
	/* Changes that have expired: of a table that has not changed since, nothing is missing when all of it is older. */
	if (!model_lake_knows_since(p->lake, record->base))
		return "the lake's history since the last build has expired";
	return NULL;
}

/* --- how --- */

static bool was_altered(struct plan *p, const struct model_record *record, const struct model_input *base)
{
	const struct model_table *table = model_lake_table(p->lake, base->schema, base->table);
	return model_lake_altered(p->lake, table->id) > record->base;
}

/* The changes of one table say it all: its columns are as they were, and no other input has any. */
static bool changes_suffice(struct plan *p, const struct model_record *record)
{
	const struct model *m = p->turn->model;
	bool found = false;
	if (!m->changes_table || !p->turn->versioned || !same_inputs(p, record) || !model_lake_knows_since(p->lake, record->base))
		return false;
	for (size_t i = 0; i < p->turn->nbases; i++) {
		const struct model_input *base = &p->turn->bases[i];
		if (strcasecmp(base->schema, m->changes_schema) == 0 && strcasecmp(base->table, m->changes_table) == 0)
			found = !was_altered(p, record, base);
		else if (has_changed(p, record, base))
			return false;
	}
	return found;
}

static enum model_write how(struct plan *p, const struct model_record *record, bool otherwise)
{
	const struct model *m = p->turn->model;
	switch (m->kind) {
	case MODEL_VIEW: return MODEL_WRITE_VIEW;
	case MODEL_TABLE: return MODEL_WRITE_ALL;
	case MODEL_SNAPSHOT: return p->turn->exists && !p->turn->exists_as_view ? MODEL_WRITE_SNAPSHOT : MODEL_WRITE_ALL;
	case MODEL_INCREMENTAL: break;
	}
	if (otherwise)
		return MODEL_WRITE_ALL;
	if (m->sql_new)
		return MODEL_WRITE_NEW;
	if (changes_suffice(p, record))
		return MODEL_WRITE_CHANGED;
	return m->key.n ? MODEL_WRITE_SYNC : MODEL_WRITE_ALL;
}

static const char *untold(struct plan *p, int64_t since)
{
	const struct model *m = p->turn->model;
	const struct model_table *table = model_lake_table(p->lake, m->changes_schema, m->changes_table);
	AUTO_BUF struct duct_buf sql = {0};
	model_lake_put_ended(&sql, p->lake, table->id, since);
	return duct_arena_strdup(&p->turn->arena, sql.data);
}

int model_plan(struct model_turn *turn, const struct model_lake *lake, bool full_refresh, struct duct_error *err)
{
	struct plan p = {.turn = turn, .lake = lake, .err = err};
	const struct model *m = turn->model;
	if (find_bases(&p) < 0)
		return -(int)err->class;
	const struct model_table *target = model_lake_table(lake, m->schema, m->name);
	const struct model_record *record = model_lake_record(lake, m->schema, m->name);
	turn->exists = target != NULL;
	turn->exists_as_view = target && target->view;
	const char *otherwise = full_refresh ? "all of it was asked for" : made_otherwise(&p, record, target);
	turn->reason = otherwise ? otherwise : has_news(&p, record);
	turn->write = turn->reason ? how(&p, record, otherwise != NULL) : MODEL_WRITE_NOTHING;
	turn->since = record ? record->base : -1;
	turn->untold = turn->write == MODEL_WRITE_CHANGED ? untold(&p, turn->since) : NULL;
	if (!turn->reason)
		turn->reason = "nothing is new";
	return 0;
}
