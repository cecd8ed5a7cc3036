/* Relations: see relation.h. */
#include "record/relation.h"

#include "base/mem.h"

#include <string.h>

struct duct_relation *duct_relation_new(void)
{
	struct duct_relation *rel = duct_xcalloc(1, sizeof *rel);
	atomic_init(&rel->refs, 1);
	duct_arena_init(&rel->arena);
	return rel;
}

struct duct_relation *duct_relation_ref(struct duct_relation *rel)
{
	atomic_fetch_add_explicit(&rel->refs, 1, memory_order_relaxed);
	return rel;
}

void duct_relation_unref(struct duct_relation *rel)
{
	if (!rel || atomic_fetch_sub_explicit(&rel->refs, 1, memory_order_acq_rel) != 1)
		return;
	duct_arena_done(&rel->arena);
	free(rel);
}

void duct_relations_add(struct duct_relations *relations, struct duct_relation *rel)
{
	relations->list = duct_grow(relations->list, &relations->cap, relations->n + 1, sizeof(struct duct_relation *));
	relations->list[relations->n++] = duct_relation_ref(rel);
}

void duct_relations_done(struct duct_relations *relations)
{
	for (size_t i = 0; i < relations->n; i++)
		duct_relation_unref(relations->list[i]);
	free(relations->list);
	*relations = (struct duct_relations){0};
}

int duct_relation_column(const struct duct_relation *rel, const char *name)
{
	for (int i = 0; i < rel->ncolumns; i++)
		if (strcmp(rel->columns[i].name, name) == 0)
			return i;
	return -1;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool duct_relation_equal(const struct duct_relation *a, const struct duct_relation *b)
{
	if (a->oid != b->oid || a->identity != b->identity || a->ncolumns != b->ncolumns || a->nkeys != b->nkeys ||
	    !same_text(a->schema, b->schema) || !same_text(a->name, b->name))
		return false;
	for (int i = 0; i < a->ncolumns; i++) {
		const struct duct_column *x = &a->columns[i], *y = &b->columns[i];
		if (!same_text(x->name, y->name) || !duct_type_equal(&x->type, &y->type) || x->attnum != y->attnum ||
		    x->key != y->key || x->not_null != y->not_null || !same_text(x->source_type, y->source_type))
			return false;
	}
	return true;
}
