/* Single rows of data files through our own reader of pages: see parquet.h. */
#include "lake/parquet_internal.h"

#include "base/mem.h"
#include "net/s3_options.h"
#include "parquet/reader.h"
#include "record/format.h"

#include <inttypes.h>
#include <string.h>

enum {
	BATCH_ROWS = 2048,
	BATCH_BYTES = 1 << 20,
};

struct lake_points {
	struct parquet_reader *reader;
	uint64_t rows, elsewhere_rows;
};

struct lake_points *lake_points_new(void)
{
	struct lake_points *p = duct_xcalloc(1, sizeof *p);
	p->reader = parquet_reader_new();
	return p;
}

void lake_points_free(struct lake_points *p)
{
	if (!p)
		return;
	parquet_reader_free(p->reader);
	free(p);
}

struct lake_points_counts lake_points_counts(const struct lake_points *p)
{
	const struct parquet_reader_counts *c = parquet_reader_counts(p->reader);
	return (struct lake_points_counts){p->rows, p->elsewhere_rows, c->reads, c->bytes, c->pages};
}

/* Where the values of one column come from. */
struct point_column {
	struct parquet_cursor *cursor; /* NULL: all rows have `missing` */
	const struct duct_type *from;  /* the file's type */
	bool cast;
	struct duct_buf missing; /* the initial default; data NULL: none */
};

struct point_read {
	struct parquet_file *parquet;
	const struct lake_file *file;
	const struct lake_column *const *columns;
	int ncolumns;
	const int64_t *positions;
	size_t n;
	struct point_column *sources; /* ncolumns, then the row ids */
	struct duct_relation *relation;
	int64_t row_ids[BATCH_ROWS];
};

/* --- what is served --- */

static bool is_text(const struct duct_type *type)
{
	return type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON;
}

static int open_missing(struct point_column *to, const struct lake_column *column, struct duct_error *err)
{
	if (!column->initial_default)
		return 1;
	if (duct_kind_is_nested(column->type.kind))
		return 0;
	int rc = duct_parse_value(&to->missing, &column->type, column->initial_default, strlen(column->initial_default), err);
	if (rc < 0)
		return duct_wrap(err, "default of column \"%s\"", column->name);
	duct_buf_room(&to->missing, 1); /* an empty text is not NULL */
	return 1;
}

static int open_cursor(struct point_read *r, struct point_column *to, int at, const struct duct_type *into, struct duct_error *err)
{
	to->from = parquet_column_type(r->parquet, at);
	if (!to->from)
		return 0;
	to->cast = !duct_type_equal(to->from, into) && !(is_text(to->from) && is_text(into));
	if (to->cast && !duct_type_widens(to->from, into))
		return 0;
	return parquet_cursor_open(&to->cursor, r->parquet, at, r->positions, r->n, err);
}

/* Returns 1 when all columns can be read here, else 0. */
static int open_columns(struct point_read *r, struct duct_error *err)
{
	static const struct duct_type bigint = {.kind = DUCT_INT64};
	int rc = parquet_has_field_ids(r->parquet);
	r->sources = duct_xcalloc((size_t)r->ncolumns + 1, sizeof *r->sources);
	for (int i = 0; i < r->ncolumns && rc > 0; i++) {
		int at = parquet_column(r->parquet, r->columns[i]->id);
		rc = at < 0 ? open_missing(&r->sources[i], r->columns[i], err)
			    : open_cursor(r, &r->sources[i], at, &r->columns[i]->type, err);
	}
	int ids = parquet_column(r->parquet, LAKE_FIELD_ROW_ID);
	if (rc > 0 && ids >= 0)
		rc = open_cursor(r, &r->sources[r->ncolumns], ids, &bigint, err);
	return rc;
}

static void close_columns(struct point_read *r)
{
	for (int i = 0; r->sources && i <= r->ncolumns; i++) {
		parquet_cursor_close(r->sources[i].cursor);
		duct_buf_done(&r->sources[i].missing);
	}
	free(r->sources);
}

/* --- rows --- */

static int take_cell(struct point_read *r, int column, struct duct_batch *batch, struct duct_error *err)
{
	struct point_column *from = &r->sources[column];
	struct duct_vector *to = &batch->columns[column];
	struct duct_cell cell = {from->missing.data, (uint32_t)from->missing.len};
	struct duct_buf wide AUTO_BUF = {0};
	int rc = from->cursor ? parquet_cursor_next(from->cursor, &cell, err) : 0;
	if (!rc && cell.data && from->cast) {
		rc = duct_cell_cast(&wide, from->from, cell, to->type, err);
		cell = (struct duct_cell){wide.data, (uint32_t)wide.len};
	}
	if (rc)
		return duct_wrap(err, "column \"%s\"", r->columns[column]->name);
	duct_vector_append_cell(batch, to, cell);
	return 0;
}

static int take_row_id(struct point_read *r, int64_t position, int64_t *ret, struct duct_error *err)
{
	struct point_column *from = &r->sources[r->ncolumns];
	struct duct_cell cell = {NULL, 0};
	int rc = from->cursor ? parquet_cursor_next(from->cursor, &cell, err) : 0;
	if (rc)
		return rc;
	if (!cell.data && r->file->row_id_start < 0)
		return duct_fail(err, DUCT_FATAL, "\"%s\" has no row ids and the catalog gives it none", r->file->path);
	if (cell.data && from->cast)
		return duct_fail(err, DUCT_FATAL, "\"%s\" has row ids of another type", r->file->path);
	*ret = r->file->row_id_start + position;
	if (cell.data)
		memcpy(ret, cell.data, sizeof *ret);
	return 0;
}

/* A batch of the rows from `from` on, as many as fit into it; *ret_n says how many. */
static int take_batch(struct point_read *r, size_t from, struct duct_batch *batch, size_t *ret_n, struct duct_error *err)
{
	size_t n = 0;
	for (; n < BATCH_ROWS && from + n < r->n && batch->arena.bytes < BATCH_BYTES; n++) {
		int64_t position = r->positions[from + n];
		duct_batch_add_row(batch, DUCT_READ, (uint64_t)position);
		int rc = take_row_id(r, position, &r->row_ids[n], err);
		for (int c = 0; c < r->ncolumns && !rc; c++)
			rc = take_cell(r, c, batch, err);
		if (rc)
			return rc;
	}
	*ret_n = n;
	return 0;
}

static int hand_over(struct point_read *r, lake_read_fn *fn, void *arg, struct duct_error *err)
{
	int rc = 0;
	size_t n = 0;
	for (size_t from = 0; from < r->n && !rc; from += n) {
		size_t left = r->n - from;
		struct duct_batch *batch = duct_batch_new(r->relation, left < BATCH_ROWS ? (uint32_t)left : BATCH_ROWS);
		rc = take_batch(r, from, batch, &n, err);
		if (!rc) {
			duct_batch_seal(batch);
			rc = fn(arg, batch, r->positions + from, r->row_ids, err);
		}
		duct_batch_unref(batch);
	}
	return rc;
}

/* Returns 1 when the rows were handed over, 0 when the file is not served. */
static int read_rows(struct point_read *r, struct lake_points *points, lake_read_fn *fn, void *arg, struct duct_error *err)
{
	int rc = parquet_open(&r->parquet, points->reader, r->file->path, err);
	if (rc <= 0)
		return rc;
	int64_t rows = parquet_rows(r->parquet);
	for (size_t i = 0; i < r->n; i++)
		if (r->positions[i] < 0 || r->positions[i] >= rows)
			return duct_fail(err, DUCT_FATAL, "\"%s\" has no row at position %" PRId64, r->file->path, r->positions[i]);
	rc = open_columns(r, err);
	if (rc <= 0)
		return rc;
	r->relation = lake_read_relation(r->columns, r->ncolumns);
	rc = hand_over(r, fn, arg, err);
	duct_relation_unref(r->relation);
	return rc < 0 ? rc : 1;
}

int lake_read_rows(struct lake_points *points, struct duck_conn *conn, const struct lake_file *file,
		   const struct lake_column *const *columns, int ncolumns, const int64_t *positions, size_t npositions,
		   lake_read_fn *fn, void *arg, struct duct_error *err)
{
	struct point_read *r = duct_xmalloc(sizeof *r);
	*r = (struct point_read){.file = file, .columns = columns, .ncolumns = ncolumns, .positions = positions, .n = npositions};
	int rc = file->has_mapping || s3_is_url(file->path) ? 0 : read_rows(r, points, fn, arg, err);
	close_columns(r);
	parquet_close(r->parquet);
	free(r);
	if (rc == 0) {
		points->elsewhere_rows += npositions;
		return lake_read_file(conn, file, columns, ncolumns, positions, npositions, fn, arg, err);
	}
	if (rc < 0)
		return duct_wrap(err, "read rows");
	points->rows += npositions;
	return 0;
}
