/*
 * Rows of batches into a file's columns: rows are cut into spans of one batch, and each column is taken span by span, as the lake
 * has it now: columns that a batch lacks get their default, older types are widened.
 */
#include "lake/parquet_internal.h"

#include "base/mem.h"
#include "record/format.h"

#include <string.h>

struct lake_rows_plan {
	const struct duct_relation *relation;
	const int *map;
	bool *cast; /* per lake column: the relation's type differs and widens */
};

/* An unchanged TOAST value that nobody read back would be stored as NULL: refuse. */
static int check_sent(const struct duct_vector *v, const struct lake_rows_span *s, struct duct_error *err)
{
	if (!v->has_unsent)
		return 0;
	for (uint32_t i = 0; i < s->n; i++)
		if (!duct_bit(v->sent, s->rows ? s->rows[i] : s->first + i))
			return duct_fail(err, DUCT_FATAL, "the source did not send the value of a row to be written");
	return 0;
}

static int put_cast(struct lake_rows_taker *t, int column, const struct duct_vector *v, const struct lake_rows_span *s,
		    struct duct_error *err)
{
	struct duct_buf wide AUTO_BUF = {0};
	int ret = 0;
	duct_buf_room(&wide, 1); /* an empty text is not NULL */
	for (uint32_t i = 0; i < s->n && !ret; i++) {
		struct duct_cell cell = duct_vector_cell(v, s->rows ? s->rows[i] : s->first + i);
		wide.len = 0;
		if (cell.data)
			ret = duct_cell_cast(&wide, v->type, cell, &t->spec->columns[column].type, err);
		if (cell.data)
			cell = (struct duct_cell){wide.data, (uint32_t)wide.len};
		ret = ret ? ret : parquet_put_cell(t->writer, column, cell, 1, err);
	}
	return ret;
}

/* A column that the relation does not have. */
static int put_default(struct lake_rows_taker *t, int column, uint32_t n, struct duct_error *err)
{
	const struct lake_column *c = &t->spec->columns[column];
	struct duct_buf *value = &t->defaults[column];
	if (!c->initial_default)
		return parquet_put_cell(t->writer, column, (struct duct_cell){0}, n, err);
	if (!value->data) {
		duct_buf_room(value, 1); /* an empty text is not NULL */
		int ret = duct_parse_value(value, &c->type, c->initial_default, strlen(c->initial_default), err);
		if (ret)
			return duct_wrap(err, "its default");
	}
	return parquet_put_cell(t->writer, column, (struct duct_cell){value->data, (uint32_t)value->len}, n, err);
}

static int put_column(struct lake_rows_taker *t, int column, const struct lake_rows_span *s, struct duct_error *err)
{
	const struct lake_rows_plan *plan = &t->plans[s->plan];
	int from = plan->map[column], ret;
	if (from < 0) {
		ret = put_default(t, column, s->n, err);
	} else {
		const struct duct_vector *v = &s->batch->columns[from];
		ret = check_sent(v, s, err);
		if (!ret)
			ret = plan->cast[column] ? put_cast(t, column, v, s, err)
						 : parquet_put_rows(t->writer, column, v, s->rows, s->first, s->n, err);
	}
	return ret ? duct_wrap(err, "column \"%s\"", t->spec->columns[column].name) : 0;
}

/* --- rows into spans --- */

static int plan_new(struct lake_rows_taker *t, const struct duct_relation *rel, struct duct_error *err)
{
	struct lake_rows_plan plan = {.relation = rel, .map = t->rows->map(t->rows->arg, rel)};
	plan.cast = duct_xcalloc((size_t)t->spec->ncolumns + 1, sizeof *plan.cast);
	t->plans = duct_grow(t->plans, &t->plans_cap, t->nplans + 1, sizeof *t->plans);
	t->plan_at = t->nplans;
	t->plans[t->nplans++] = plan;
	for (int i = 0; i < t->spec->ncolumns; i++) {
		const struct duct_type *into = &t->spec->columns[i].type;
		const struct duct_type *from = plan.map[i] < 0 ? into : &rel->columns[plan.map[i]].type;
		plan.cast[i] = !duct_type_equal(from, into);
		if (!plan.cast[i] || duct_type_widens(from, into))
			continue;
		struct duct_buf a AUTO_BUF = {0}, b AUTO_BUF = {0};
		duct_type_print(&a, from);
		duct_type_print(&b, into);
		return duct_fail(err, DUCT_FATAL, "column \"%s\" of type %s does not take values of type %s",
				 t->spec->columns[i].name, b.data, a.data);
	}
	return 0;
}

static int plan_of(struct lake_rows_taker *t, const struct duct_relation *rel, struct duct_error *err)
{
	if (t->plan_at < t->nplans && t->plans[t->plan_at].relation == rel)
		return 0;
	for (t->plan_at = 0; t->plan_at < t->nplans; t->plan_at++)
		if (t->plans[t->plan_at].relation == rel)
			return 0;
	return plan_new(t, rel, err);
}

/* Cuts the next n rows handed over into spans of one batch each. */
static int cut_spans(struct lake_rows_taker *t, uint32_t n, struct duct_error *err)
{
	t->nspans = 0;
	t->numbers = duct_grow(t->numbers, &t->numbers_cap, n, sizeof *t->numbers);
	for (uint32_t i = 0; i < n;) {
		const struct lake_row_ref *refs = t->refs + i;
		struct lake_rows_span s = {.batch = refs->batch, .first = refs->row};
		bool contiguous = true;
		t->numbers[i] = refs->row;
		for (s.n = 1; i + s.n < n && refs[s.n].batch == s.batch; s.n++) {
			contiguous &= refs[s.n].row == refs[s.n - 1].row + 1;
			t->numbers[i + s.n] = refs[s.n].row;
		}
		int ret = plan_of(t, s.batch->relation, err);
		if (ret)
			return ret;
		s.rows = contiguous ? NULL : t->numbers + i;
		s.plan = t->plan_at;
		t->spans = duct_grow(t->spans, &t->spans_cap, t->nspans + 1, sizeof *t->spans);
		t->spans[t->nspans++] = s;
		i += s.n;
	}
	return 0;
}

static int put_ids(struct lake_rows_taker *t, int column, const int64_t **ids, uint32_t n, struct duct_error *err)
{
	int ret = parquet_put_int64(t->writer, column, *ids, n, err);
	*ids += n;
	return ret;
}

static int put_slice(struct lake_rows_taker *t, uint32_t n, struct duct_error *err)
{
	int ret = cut_spans(t, n, err);
	for (int c = 0; c < t->spec->ncolumns && !ret; c++)
		for (size_t i = 0; i < t->nspans && !ret; i++)
			ret = put_column(t, c, &t->spans[i], err);
	if (t->spec->row_ids && !ret)
		ret = put_ids(t, t->spec->ncolumns, &t->row_ids, n, err);
	if (t->spec->snapshot_ids && !ret)
		ret = put_ids(t, t->spec->ncolumns + t->spec->row_ids, &t->snapshot_ids, n, err);
	t->refs += n;
	t->nrefs -= n;
	t->nrows += n;
	return ret ? ret : parquet_writer_end_rows(t->writer, n, err);
}

/* --- the whole --- */

int lake_rows_pull(struct lake_rows_taker *t, struct duct_error *err)
{
	int ret = t->rows->next(t->rows->arg, &t->refs, &t->row_ids, &t->nrefs, err);
	if (ret < 0)
		return ret;
	t->ended = t->nrefs == 0;
	if (t->spec->snapshot_ids)
		t->snapshot_ids = t->rows->snapshot_ids(t->rows->arg);
	return t->nrefs > 0;
}

/* Only where next() may be asked again: rows that were handed over are always written. */
static bool reached_limit(const struct lake_rows_taker *t)
{
	return (t->spec->max_rows && t->nrows >= t->spec->max_rows) ||
		(t->spec->max_bytes && parquet_writer_bytes(t->writer) >= t->spec->max_bytes);
}

int lake_rows_take(struct lake_rows_taker *t, struct duct_error *err)
{
	int ret = 0;
	while (ret >= 0 && !t->ended) {
		while (t->nrefs && !ret) {
			uint32_t room = parquet_writer_room(t->writer);
			ret = put_slice(t, t->nrefs < room ? (uint32_t)t->nrefs : room, err);
		}
		if (ret || reached_limit(t))
			return ret;
		ret = lake_rows_pull(t, err);
		ret = ret > 0 ? 0 : ret;
	}
	return ret;
}

void lake_rows_done(struct lake_rows_taker *t)
{
	for (size_t i = 0; i < t->nplans; i++)
		free(t->plans[i].cast);
	for (int i = 0; t->defaults && i < t->spec->ncolumns; i++)
		duct_buf_done(&t->defaults[i]);
	free(t->plans);
	free(t->spans);
	free(t->numbers);
	free(t->defaults);
}
