/* Counters and bounds of a table after a commit, from its new files and what the model knows. */
#include "lake/txn_plan.h"

#include <stdlib.h>

static const struct lake_column_stats *stats_of(const struct lake_new_file *file, int64_t column_id)
{
	for (int i = 0; i < file->nstats; i++)
		if (file->stats[i].column_id == column_id)
			return &file->stats[i];
	return NULL;
}

struct widening {
	struct lake_txn_table *t;
	const struct lake_table *known; /* NULL: new */
	const struct lake_new_file **files;
	const struct lake_column_stats **of_files;
	size_t nfiles;
	size_t cap;
};

static void widen_leaf(struct widening *w, int64_t column_id, const struct duct_type *type)
{
	const struct lake_table_column_stats *old = NULL;
	for (int i = 0; w->known && i < w->known->ncolumn_stats; i++)
		if (w->known->column_stats[i].column_id == column_id)
			old = &w->known->column_stats[i];
	for (size_t i = 0; i < w->nfiles; i++)
		w->of_files[i] = stats_of(w->files[i], column_id);
	bool was_empty = !w->known || (w->known->record_count == 0 && w->known->next_row_id == 0);
	struct lake_stats_change change = lake_widen_stats(column_id, type, old, was_empty, w->of_files, w->nfiles);
	if (change.action == LAKE_STATS_KEEP)
		return;
	w->t->stats = duct_grow(w->t->stats, &w->cap, w->t->nstats + 1, sizeof *w->t->stats);
	w->t->stats[w->t->nstats++] = change;
}

static void widen_nodes(struct widening *w, int64_t id, const struct duct_type *type, const int64_t **next_id)
{
	if (!duct_kind_is_nested(type->kind)) {
		widen_leaf(w, id, type);
		return;
	}
	for (int i = 0; i < type->nchildren; i++) {
		int64_t child = *(*next_id)++;
		widen_nodes(w, child, &type->children[i], next_id);
	}
}

void lake_txn_plan_stats(struct lake_txn_table *t)
{
	struct lake_txn *txn = t->txn;
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
	struct widening w = {.t = t, .known = known};
	free(t->stats);
	t->stats = NULL;
	t->nstats = 0;
	t->record_count = known ? known->record_count : 0;
	t->next_row_id = known ? known->next_row_id : 0;
	t->file_size_bytes = known ? known->file_size_bytes : 0;
	w.files = duct_xcalloc(t->nfiles + 2, sizeof *w.files);
	w.of_files = duct_xcalloc(t->nfiles + 2, sizeof *w.of_files);
	for (size_t i = 0; i < txn->nfiles; i++) {
		struct txn_file *f = &txn->files[i];
		if (f->table != t)
			continue;
		f->row_id_start = f->file->explicit_row_ids ? -1 : t->next_row_id;
		t->file_size_bytes += f->file->size_bytes;
		if (f->file->begin_snapshot) /* its rows have been counted when they were inlined */
			continue;
		t->record_count += f->file->record_count;
		t->next_row_id += f->file->explicit_row_ids ? 0 : f->file->record_count;
		if (f->file->record_count)
			w.files[w.nfiles++] = f->file;
	}
	if (t->inlined.n) {
		t->inlined.first_row_id = t->next_row_id;
		t->record_count += (int64_t)t->inlined.n;
		t->next_row_id += (int64_t)t->inlined.ninserts;
		w.files[w.nfiles++] = t->inlined.facts;
	}
	for (int i = 0; i < t->nlive; i++) {
		const int64_t *next_id = t->live[i].leaf_ids;
		if (t->live[i].supported)
			widen_nodes(&w, t->live[i].id, &t->live[i].type, &next_id);
	}
	free(w.files);
	free(w.of_files);
}

static bool has_null(const struct lake_new_file *file, int64_t column_id)
{
	const struct lake_column_stats *stats = stats_of(file, column_id);
	return !file->begin_snapshot && stats && stats->null_count > 0;
}

/* Official clients set NOT NULL on plain columns only. Rows that are flushed are older than what the column demands now. */
int lake_txn_check_nulls(const struct lake_txn_table *t, struct duct_error *err)
{
	for (int i = 0; i < t->nlive; i++) {
		const struct lake_column *c = &t->live[i];
		if (c->nulls_allowed || duct_kind_is_nested(c->type.kind))
			continue;
		bool found = t->inlined.n && has_null(t->inlined.facts, c->id);
		for (size_t k = 0; k < t->txn->nfiles && !found; k++)
			found = t->txn->files[k].table == t && has_null(t->txn->files[k].file, c->id);
		if (found)
			return duct_fail(
				err, DUCT_DATA,
				"table \"%s\".\"%s\": some row has no value in column \"%s\", which was set NOT NULL in the lake: "
				"ALTER TABLE \"%s\".\"%s\" ALTER \"%s\" DROP NOT NULL there",
				t->schema, t->name, c->name, t->schema, t->name, c->name);
	}
	return 0;
}
