/* Rows for the catalog, as part of a planned commit: see inline.h. Statements are made of them in txn_inlined.c. */
#include "lake/inline.h"
#include "lake/txn_plan.h"

#include "record/format.h"

#include <stdlib.h>
#include <string.h>

/* Rows on their way into a plan. */
struct inlining {
	struct lake_txn_table *t;
	const struct lake_inline_rows *from;
	struct txn_inlined *to;
	struct lake_bounds *bounds;
	const struct duct_relation *rel; /* that the map is of */
	const int *map;
	size_t most_bytes;
};

enum {
	COPY_FROM_ROWS = 20,	     /* from here up a COPY beats the values of an INSERT, although the server stops for it */
	MOST_OF_A_COMMIT = 32 << 20, /* bytes of all tables together: they are in memory until the commit is done */
};

/* The value of a lake column in a row; casts and defaults stand in scratch. False: not to be had. */
static bool find_value(struct inlining *in, const struct lake_row_ref *ref, int column, struct duct_buf *scratch,
		       struct duct_cell *ret)
{
	const struct lake_column *c = &in->t->live[column];
	struct duct_error ignored;
	scratch->len = 0;
	if (in->map[column] < 0) {
		*ret = (struct duct_cell){NULL, 0};
		if (!c->initial_default)
			return true;
		if (duct_parse_value(scratch, &c->type, c->initial_default, strlen(c->initial_default), &ignored))
			return false;
	} else {
		const struct duct_vector *v = &ref->batch->columns[in->map[column]];
		if (!duct_vector_is_sent(v, ref->row))
			return false;
		*ret = duct_vector_cell(v, ref->row);
		if (!ret->data || duct_type_equal(v->type, &c->type))
			return true;
		if (duct_cell_cast(scratch, v->type, *ret, &c->type, &ignored))
			return false;
	}
	duct_buf_room(scratch, 1); /* an empty text is not NULL */
	*ret = (struct duct_cell){scratch->data, (uint32_t)scratch->len};
	return true;
}

static bool add_row(struct inlining *in, size_t i, struct duct_buf *scratch)
{
	const struct lake_row_ref *ref = &in->from->rows[i];
	struct duct_buf *text = &in->to->text;
	size_t start = text->len;
	if (ref->batch->relation != in->rel) {
		in->rel = ref->batch->relation;
		in->map = in->from->map(in->from->arg, in->rel);
	}
	for (int c = 0; c < in->t->nlive; c++) {
		struct duct_cell cell;
		duct_buf_putc(text, in->to->form == LAKE_INLINE_COPY ? '\t' : ',');
		if (!find_value(in, ref, c, scratch, &cell) || cell.len > in->from->max_row_bytes ||
		    !lake_inline_value(text, in->to->form, &in->t->live[c].type, cell))
			return false;
		lake_bounds_add(&in->bounds[c], &in->t->live[c].type, cell);
	}
	duct_buf_putc(text, 0);
	in->to->row_ids[i] = in->from->row_ids ? in->from->row_ids[i] : -1;
	in->to->ninserts += in->to->row_ids[i] < 0;
	return text->len - start <= in->from->max_row_bytes && text->len <= in->most_bytes;
}

/* Statistics in the form of those of a file. Nested columns have none: their bounds are given up. */
static void sum_up(struct inlining *in)
{
	struct lake_new_file *facts = duct_xcalloc(1, sizeof *facts);
	duct_arena_init(&facts->arena);
	facts->record_count = (int64_t)in->to->n;
	facts->stats = duct_xcalloc((size_t)in->t->nlive + 1, sizeof *facts->stats);
	for (int c = 0; c < in->t->nlive; c++) {
		const struct lake_column *column = &in->t->live[c];
		if (!duct_kind_is_nested(column->type.kind))
			facts->stats[facts->nstats++] = lake_bounds_stats(&in->bounds[c], column->id, &column->type, &facts->arena);
	}
	in->to->facts = facts;
}

void lake_txn_inlined_done(struct txn_inlined *inlined)
{
	duct_buf_done(&inlined->text);
	free(inlined->row_ids);
	free(inlined->ended);
	free(inlined->flushed);
	lake_new_file_free(inlined->facts);
	*inlined = (struct txn_inlined){0};
}

static void forget_rows(struct txn_inlined *inlined)
{
	duct_buf_done(&inlined->text);
	free(duct_steal(&inlined->row_ids));
	inlined->n = inlined->ninserts = 0;
}

bool lake_txn_inline(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_inline_rows *rows)
{
	struct inlining in = {.t = t, .from = rows, .to = &t->inlined};
	AUTO_BUF struct duct_buf ignored = {0};
	if (!rows->n || !lake_inlined_table_sql(&ignored, t, 0))
		return false;
	for (int c = 0; c < t->nlive; c++)
		if (!t->live[c].supported)
			return false;
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
	bool made = known && !t->altered && !t->renamed && known->inlined_version >= known->schema_version;
	if (!lake_txn_take_locks(txn, made ? LAKE_LOCKS_KNOWN_TABLE : LAKE_LOCKS_NEW_TABLE))
		return false;
	in.to->form = txn->lake->db->sqlite ? LAKE_INLINE_SQLITE
		: rows->n < COPY_FROM_ROWS  ? LAKE_INLINE_POSTGRES
					    : LAKE_INLINE_COPY;
	size_t left = MOST_OF_A_COMMIT - txn->inlined_bytes;
	in.most_bytes = rows->max_bytes < left ? rows->max_bytes : left;
	in.bounds = duct_xcalloc((size_t)t->nlive + 1, sizeof *in.bounds);
	in.to->row_ids = duct_xmalloc(rows->n * sizeof *in.to->row_ids);
	AUTO_BUF struct duct_buf scratch = {0};
	bool fits = true;
	for (size_t i = 0; i < rows->n && fits; i++)
		fits = add_row(&in, i, &scratch);
	in.to->n = rows->n;
	if (fits) {
		sum_up(&in);
		txn->inlined_bytes += in.to->text.len;
	} else {
		forget_rows(in.to);
	}
	for (int c = 0; c < t->nlive; c++)
		lake_bounds_done(&in.bounds[c]);
	free(in.bounds);
	return fits;
}

void lake_txn_end_inlined(struct lake_txn *txn, struct lake_txn_table *t, int64_t schema_version, int64_t row_id)
{
	struct txn_inlined *in = &t->inlined;
	(void)txn;
	in->ended = duct_grow(in->ended, &in->ended_cap, in->nended + 1, sizeof *in->ended);
	in->ended[in->nended++] = (struct txn_inlined_row){schema_version, row_id};
}

void lake_txn_flush_inlined(struct lake_txn *txn, struct lake_txn_table *t, int64_t schema_version, int64_t upto, int64_t nrows)
{
	struct txn_inlined *in = &t->inlined;
	(void)txn;
	in->flushed = duct_grow(in->flushed, &in->flushed_cap, in->nflushed + 1, sizeof *in->flushed);
	in->flushed[in->nflushed++] = (struct txn_inlined_flush){schema_version, upto, nrows};
}

bool lake_txn_inlined_at(const struct lake_txn_table *t, int64_t *ret_schema_version, int64_t *ret_first_row_id)
{
	*ret_schema_version = t->inlined.schema_version;
	*ret_first_row_id = t->inlined.first_row_id;
	return !t->txn->renumbered;
}

void lake_txn_inlined_size(const struct lake_txn_table *t, int64_t *ret_rows, int64_t *ret_bytes)
{
	*ret_rows = (int64_t)t->inlined.n;
	*ret_bytes = (int64_t)t->inlined.text.len;
}
