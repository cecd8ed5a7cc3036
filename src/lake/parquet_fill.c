/*
 * Rows of batches into DuckDB's column vectors. The hot path of every write: rows are cut into spans of one batch, and each column
 * is filled span by span, with the switch over the type outside the loop over rows and one memcpy for rows that follow
 * each other. Strings are not copied: the chunk points into the batch, which is kept (pinned) until the next chunk.
 */
#include "lake/parquet_internal.h"

#include "base/mem.h"
#include "base/reader.h"
#include "base/utf8.h"
#include "record/format.h"

#include <string.h>
#include <sys/stat.h>

enum { LOOK_BYTES = 1 << 20 }; /* fed between two looks at the size of the file */

struct lake_fill_plan {
	const struct duct_relation *relation;
	const int *map;
	bool *cast; /* per lake column: the relation's type differs and widens */
};

struct lake_fill_span {
	const struct duct_batch *batch;
	size_t plan; /* index: the array may move */
	const struct lake_row_ref *refs;
	uint32_t start, n; /* place in the chunk */
	bool contiguous;   /* rows follow each other */
};

struct duck_hugeint {
	uint64_t lower;
	int64_t upper;
};

static int fail_nested(const struct duct_type *type, struct duct_error *err)
{
	struct duct_buf name AUTO_BUF = {0};
	duct_type_print(&name, type);
	return duct_fail(err, DUCT_FATAL, "a value of type %s is encoded wrongly", name.data);
}

/* --- single values --- */

static struct duck_hugeint uuid_to_duck(const char *p)
{
	uint64_t high, low;
	memcpy(&high, p, 8);
	memcpy(&low, p + 8, 8);
	return (struct duck_hugeint){__builtin_bswap64(low), (int64_t)(__builtin_bswap64(high) ^ UINT64_C(1) << 63)};
}

static inline duckdb_string_t string_to_duck(const char *p, uint32_t len)
{
	duckdb_string_t s = {0};
	s.value.inlined.length = len;
	if (len <= sizeof s.value.inlined.inlined) {
		memcpy(s.value.inlined.inlined, p, len);
	} else {
		memcpy(s.value.pointer.prefix, p, sizeof s.value.pointer.prefix);
		s.value.pointer.ptr = (char *)(uintptr_t)p; /* DuckDB only reads it */
	}
	return s;
}

static int check_utf8(const struct duct_type *type, const char *p, uint32_t len, struct duct_error *err)
{
	if (type->kind == DUCT_BLOB || duct_utf8_valid(p, len))
		return 0;
	return duct_fail(err, DUCT_DATA, "a text value of %u bytes is not valid UTF-8", len);
}

static void put_decimal(void *data, idx_t at, const struct duct_type *type, const char *p)
{
	int64_t v = 0;
	if (type->precision <= 18)
		memcpy(&v, p, sizeof v);
	if (type->precision <= 4)
		((int16_t *)data)[at] = (int16_t)v;
	else if (type->precision <= 9)
		((int32_t *)data)[at] = (int32_t)v;
	else if (type->precision <= 18)
		((int64_t *)data)[at] = v;
	else
		memcpy((char *)data + at * 16, p, 16);
}

static void set_null(duckdb_vector vector, idx_t at, const struct duct_type *type)
{
	duckdb_vector_ensure_validity_writable(vector);
	duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), at);
	if (type->kind == DUCT_LIST || type->kind == DUCT_MAP)
		((duckdb_list_entry *)duckdb_vector_get_data(vector))[at] =
			(duckdb_list_entry){duckdb_list_vector_get_size(vector), 0};
	for (int i = 0; type->kind == DUCT_STRUCT && i < type->nchildren; i++)
		set_null(duckdb_struct_vector_get_child(vector, (idx_t)i), at, &type->children[i]);
}

/* The next value of `type` out of a nested one; data NULL when the bytes are short. */
static struct duct_cell read_cell(struct duct_reader *r, const struct duct_type *type)
{
	uint32_t len = duct_type_width(type);
	if (!len) {
		const char *p = duct_read_bytes(r, 4);
		if (p)
			memcpy(&len, p, 4);
	}
	return (struct duct_cell){duct_read_bytes(r, len), len};
}

static int put_read(duckdb_vector vector, idx_t at, const struct duct_type *type, struct duct_reader *r, bool optional,
	struct duct_error *err)
{
	if (optional && !duct_read_u8(r)) {
		set_null(vector, at, type);
		return 0;
	}
	struct duct_cell cell = read_cell(r, type);
	return cell.data ? lake_put_value(vector, at, type, cell, err) : fail_nested(type, err);
}

static int put_list(duckdb_vector vector, idx_t at, const struct duct_type *type, struct duct_reader *r,
	struct duct_error *err)
{
	const char *p = duct_read_bytes(r, 4);
	uint32_t n = 0;
	if (p)
		memcpy(&n, p, 4);
	if (!p || n > duct_reader_left(r)) /* each element takes a byte at least */
		return fail_nested(type, err);
	idx_t base = duckdb_list_vector_get_size(vector);
	duckdb_list_vector_reserve(vector, base + n);
	duckdb_list_vector_set_size(vector, base + n);
	((duckdb_list_entry *)duckdb_vector_get_data(vector))[at] = (duckdb_list_entry){base, n};
	duckdb_vector child = duckdb_list_vector_get_child(vector);
	bool map = type->kind == DUCT_MAP;
	duckdb_vector key = map ? duckdb_struct_vector_get_child(child, 0) : NULL;
	duckdb_vector value = map ? duckdb_struct_vector_get_child(child, 1) : child;
	int ret = 0;
	for (idx_t i = 0; i < n && !ret; i++) {
		if (map)
			ret = put_read(key, base + i, &type->children[0], r, false, err);
		if (!ret)
			ret = put_read(value, base + i, &type->children[map], r, true, err);
	}
	return ret;
}

static int put_nested(duckdb_vector vector, idx_t at, const struct duct_type *type, struct duct_cell cell,
	struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	int ret = 0;
	if (type->kind != DUCT_STRUCT)
		ret = put_list(vector, at, type, &r, err);
	for (int i = 0; type->kind == DUCT_STRUCT && i < type->nchildren && !ret; i++) {
		duckdb_vector child = duckdb_struct_vector_get_child(vector, (idx_t)i);
		ret = put_read(child, at, &type->children[i], &r, true, err);
	}
	return ret || !(r.bad || duct_reader_left(&r)) ? ret : fail_nested(type, err);
}

int lake_put_value(duckdb_vector vector, idx_t at, const struct duct_type *type, struct duct_cell cell,
	struct duct_error *err)
{
	if (duct_kind_is_nested(type->kind))
		return put_nested(vector, at, type, cell, err);
	void *data = duckdb_vector_get_data(vector);
	switch (type->kind) {
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB:
		((duckdb_string_t *)data)[at] = string_to_duck(cell.data, cell.len);
		return check_utf8(type, cell.data, cell.len, err);
	case DUCT_UUID: ((struct duck_hugeint *)data)[at] = uuid_to_duck(cell.data); break;
	case DUCT_DECIMAL: put_decimal(data, at, type, cell.data); break;
	default: memcpy((char *)data + at * cell.len, cell.data, cell.len); break;
	}
	return 0;
}

/* --- spans of a column --- */

#define ROW(span, i) ((span)->refs[i].row)

/* Fixed-width values that are the same on both sides. */
#define GATHER(ctype, out, v, span)                                                       \
	do {                                                                              \
		ctype *to_ = (ctype *)(out) + (span)->start;                              \
		const ctype *from_ = (const ctype *)(const void *)(v)->data;              \
		if ((span)->contiguous)                                                   \
			memcpy(to_, from_ + ROW(span, 0), (span)->n * sizeof *to_);       \
		else                                                                      \
			for (uint32_t i_ = 0; i_ < (span)->n; i_++)                       \
				to_[i_] = from_[ROW(span, i_)];                           \
	} while (0)

static void gather_fixed(void *out, const struct duct_vector *v, const struct lake_fill_span *s)
{
	switch (v->width) {
	case 1: GATHER(uint8_t, out, v, s); break;
	case 2: GATHER(uint16_t, out, v, s); break;
	case 4: GATHER(uint32_t, out, v, s); break;
	case 8: GATHER(uint64_t, out, v, s); break;
	default: GATHER(struct duck_hugeint, out, v, s); break;
	}
}

static void gather_decimal(void *out, const struct duct_vector *v, const struct lake_fill_span *s, int precision)
{
	const int64_t *from = (const int64_t *)(const void *)v->data;
	if (precision > 9) {
		gather_fixed(out, v, s);
	} else if (precision > 4) {
		for (uint32_t i = 0; i < s->n; i++)
			((int32_t *)out)[s->start + i] = (int32_t)from[ROW(s, i)];
	} else {
		for (uint32_t i = 0; i < s->n; i++)
			((int16_t *)out)[s->start + i] = (int16_t)from[ROW(s, i)];
	}
}

static void gather_uuid(struct duck_hugeint *out, const struct duct_vector *v, const struct lake_fill_span *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		out[s->start + i] = uuid_to_duck(v->data + (size_t)ROW(s, i) * 16);
}

static bool all_ascii(const char *p, size_t n)
{
	uint64_t any = 0, word;
	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		any |= word;
	}
	for (; n; p++, n--)
		any |= (uint64_t)(uint8_t)*p;
	return !(any & UINT64_C(0x8080808080808080));
}

/* A NULL has equal offsets: it becomes an empty string that nobody looks at. */
static int gather_strings(duckdb_string_t *out, const struct duct_vector *v, const struct lake_fill_span *s,
	struct duct_error *err)
{
	bool text = v->type->kind != DUCT_BLOB;
	if (text && s->contiguous) {
		uint32_t from = v->offsets[ROW(s, 0)], to = v->offsets[ROW(s, s->n - 1) + 1];
		text = !all_ascii(v->heap + from, to - from);
	}
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t row = ROW(s, i), len = v->offsets[row + 1] - v->offsets[row];
		const char *p = v->heap + v->offsets[row];
		out[s->start + i] = string_to_duck(p, len);
		if (text && !all_ascii(p, len) && check_utf8(v->type, p, len, err))
			return -(int)DUCT_DATA;
	}
	return 0;
}

static int gather_nested(duckdb_vector vector, const struct duct_vector *v, const struct lake_fill_span *s,
	const struct duct_type *type, struct duct_error *err)
{
	int ret = 0;
	for (uint32_t i = 0; i < s->n && !ret; i++) {
		struct duct_cell cell = duct_vector_cell(v, ROW(s, i));
		if (!cell.data)
			set_null(vector, s->start + i, type);
		else
			ret = put_nested(vector, s->start + i, type, cell, err);
	}
	return ret;
}

static int gather(duckdb_vector vector, const struct duct_vector *v, const struct lake_fill_span *s,
	const struct duct_type *type, struct duct_error *err)
{
	void *out = duckdb_vector_get_data(vector);
	switch (type->kind) {
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return gather_nested(vector, v, s, type, err);
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB: return gather_strings(out, v, s, err);
	case DUCT_UUID: gather_uuid(out, v, s); return 0;
	case DUCT_DECIMAL: gather_decimal(out, v, s, type->precision); return 0;
	default: gather_fixed(out, v, s); return 0;
	}
}

static void gather_nulls(duckdb_vector vector, const struct duct_vector *v, const struct lake_fill_span *s)
{
	if (!v->has_null)
		return;
	duckdb_vector_ensure_validity_writable(vector);
	uint64_t *valid = duckdb_vector_get_validity(vector);
	for (uint32_t i = 0; i < s->n; i++)
		if (!duct_bit(v->valid, ROW(s, i)))
			valid[(s->start + i) >> 6] &= ~(UINT64_C(1) << ((s->start + i) & 63));
}

/* An unchanged TOAST value that nobody read back would be stored as NULL: refuse. */
static int check_sent(const struct duct_vector *v, const struct lake_fill_span *s, const char *name,
	struct duct_error *err)
{
	if (!v->has_unsent)
		return 0;
	for (uint32_t i = 0; i < s->n; i++)
		if (!duct_bit(v->sent, ROW(s, i)))
			return duct_fail(err, DUCT_FATAL, "column \"%s\": the source did not send the value of a row to be written",
				name);
	return 0;
}

static int fill_cast(duckdb_vector vector, const struct duct_vector *v, const struct lake_fill_span *s,
	const struct duct_type *type, struct duct_error *err)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct duct_cell cell = duct_vector_cell(v, ROW(s, i));
		struct duct_buf wide AUTO_BUF = {0};
		if (!cell.data) {
			set_null(vector, s->start + i, type);
			continue;
		}
		int ret = duct_cell_cast(&wide, v->type, cell, type, err);
		if (!ret)
			ret = lake_put_value(vector, s->start + i, type,
				(struct duct_cell){wide.data, (uint32_t)wide.len}, err);
		if (ret)
			return ret;
	}
	return 0;
}

/* A column that the relation does not have. */
static int fill_default(struct lake_fill *f, int column, duckdb_vector vector, const struct lake_fill_span *s,
	struct duct_error *err)
{
	const struct lake_column *c = &f->spec->columns[column];
	struct duct_buf *value = &f->defaults[column];
	if (c->initial_default && !f->default_ready[column]) {
		int ret = duct_parse_value(value, &c->type, c->initial_default, strlen(c->initial_default), err);
		if (ret)
			return duct_wrap(err, "default of column \"%s\"", c->name);
		duct_buf_room(value, 1); /* an empty text is not NULL */
		f->default_ready[column] = true;
	}
	int ret = 0;
	for (uint32_t i = 0; i < s->n && !ret; i++) {
		if (!c->initial_default)
			set_null(vector, s->start + i, &c->type);
		else
			ret = lake_put_value(vector, s->start + i, &c->type,
				(struct duct_cell){value->data, (uint32_t)value->len}, err);
	}
	return ret;
}

static int fill_column(struct lake_fill *f, int column, duckdb_vector vector, const struct lake_fill_span *s,
	struct duct_error *err)
{
	const struct lake_column *c = &f->spec->columns[column];
	const struct lake_fill_plan *plan = &f->plans[s->plan];
	int from = plan->map[column];
	if (from < 0)
		return fill_default(f, column, vector, s, err);
	const struct duct_vector *v = &s->batch->columns[from];
	int ret = check_sent(v, s, c->name, err);
	if (ret)
		return ret;
	if (plan->cast[column]) {
		ret = fill_cast(vector, v, s, &c->type, err);
	} else {
		ret = gather(vector, v, s, &c->type, err);
		if (!ret && !duct_kind_is_nested(c->type.kind))
			gather_nulls(vector, v, s);
	}
	return ret ? duct_wrap(err, "column \"%s\"", c->name) : 0;
}

/* --- rows into spans --- */

static int plan_new(struct lake_fill *f, const struct duct_relation *rel, struct duct_error *err)
{
	struct lake_fill_plan plan = {.relation = rel, .map = f->rows->map(f->rows->arg, rel)};
	plan.cast = duct_xcalloc((size_t)f->spec->ncolumns + 1, sizeof *plan.cast);
	f->plans = duct_grow(f->plans, &f->plans_cap, f->nplans + 1, sizeof *f->plans);
	f->plan_at = f->nplans;
	f->plans[f->nplans++] = plan;
	for (int i = 0; i < f->spec->ncolumns; i++) {
		const struct duct_type *into = &f->spec->columns[i].type;
		const struct duct_type *from = plan.map[i] < 0 ? into : &rel->columns[plan.map[i]].type;
		plan.cast[i] = !duct_type_equal(from, into);
		if (!plan.cast[i] || duct_type_widens(from, into))
			continue;
		struct duct_buf a AUTO_BUF = {0}, b AUTO_BUF = {0};
		duct_type_print(&a, from);
		duct_type_print(&b, into);
		return duct_fail(err, DUCT_FATAL, "column \"%s\" of type %s does not take values of type %s",
			f->spec->columns[i].name, b.data, a.data);
	}
	return 0;
}

static int plan_of(struct lake_fill *f, const struct duct_relation *rel, struct duct_error *err)
{
	if (f->plan_at < f->nplans && f->plans[f->plan_at].relation == rel)
		return 0;
	for (f->plan_at = 0; f->plan_at < f->nplans; f->plan_at++)
		if (f->plans[f->plan_at].relation == rel)
			return 0;
	return plan_new(f, rel, err);
}

static void pin(struct lake_fill *f, const struct duct_batch *batch)
{
	for (size_t i = f->npins, tries = 8; i-- > 0 && tries-- > 0;)
		if (f->pins[i] == batch)
			return;
	f->pins = duct_grow(f->pins, &f->pins_cap, f->npins + 1, sizeof *f->pins);
	f->pins[f->npins++] = duct_batch_ref((struct duct_batch *)(uintptr_t)batch); /* only the count changes */
}

static void unpin(struct lake_fill *f)
{
	while (f->npins)
		duct_batch_unref(f->pins[--f->npins]);
}

/* Cuts the next n rows handed over into spans of one batch each. */
static int cut_spans(struct lake_fill *f, uint32_t start, uint32_t n, struct duct_error *err)
{
	f->nspans = 0;
	for (uint32_t i = 0; i < n;) {
		const struct lake_row_ref *refs = f->refs + i;
		struct lake_fill_span s = {.batch = refs->batch, .refs = refs, .start = start + i, .contiguous = true};
		for (s.n = 1; i + s.n < n && refs[s.n].batch == s.batch; s.n++)
			s.contiguous &= refs[s.n].row == refs[s.n - 1].row + 1;
		int ret = plan_of(f, s.batch->relation, err);
		if (ret)
			return ret;
		pin(f, s.batch);
		f->spans = duct_grow(f->spans, &f->spans_cap, f->nspans + 1, sizeof *f->spans);
		s.plan = f->plan_at;
		f->spans[f->nspans++] = s;
		i += s.n;
	}
	return 0;
}

static void take_ids(duckdb_data_chunk chunk, int column, uint32_t start, const int64_t **ids, uint32_t n)
{
	int64_t *out = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, (idx_t)column));
	memcpy(out + start, *ids, n * sizeof *out);
	*ids += n;
}

static int fill_rows(struct lake_fill *f, duckdb_data_chunk chunk, uint32_t start, uint32_t n, struct duct_error *err)
{
	int ret = cut_spans(f, start, n, err);
	for (int c = 0; c < f->spec->ncolumns && !ret; c++) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, (idx_t)c);
		for (size_t i = 0; i < f->nspans && !ret; i++)
			ret = fill_column(f, c, vector, &f->spans[i], err);
	}
	if (f->spec->row_ids && !ret)
		take_ids(chunk, f->spec->ncolumns, start, &f->row_ids, n);
	if (f->spec->snapshot_ids && !ret)
		take_ids(chunk, f->spec->ncolumns + f->spec->row_ids, start, &f->snapshot_ids, n);
	f->refs += n;
	f->nrefs -= n;
	f->nrows += n;
	return ret;
}

/* --- the feed --- */

uint64_t lake_fill_row_bytes(const struct lake_fill *f)
{
	uint64_t bytes = 0, n = f->nrefs < 200 ? f->nrefs : 200;
	for (size_t i = 0; i < n; i++) {
		const struct duct_batch *batch = f->refs[i].batch;
		for (int c = 0; c < batch->relation->ncolumns; c++)
			bytes += 4 + duct_vector_cell(&batch->columns[c], f->refs[i].row).len;
	}
	return n ? bytes / n : 0;
}

int lake_fill_pull(struct lake_fill *f, struct duct_error *err)
{
	if (f->nrefs)
		return 1;
	if (f->ended || f->full)
		return 0;
	int ret = f->rows->next(f->rows->arg, &f->refs, &f->row_ids, &f->nrefs, err);
	if (ret < 0)
		return ret;
	f->ended = f->nrefs == 0;
	if (f->spec->snapshot_ids)
		f->snapshot_ids = f->rows->snapshot_ids(f->rows->arg);
	if (f->nrefs && f->spec->max_bytes)
		f->bytes_fed += f->nrefs * lake_fill_row_bytes(f);
	return f->nrefs > 0;
}

/* Only where next() may be asked again: rows that were handed over are always written. The file grows by whole row groups;
 * what it does not hold yet is taken to shrink like what it holds, at first to a third. */
static bool reached_limit(struct lake_fill *f)
{
	struct stat st;
	if (f->spec->max_rows && f->nrows >= f->spec->max_rows)
		return true;
	if (!f->spec->max_bytes)
		return false;
	if (f->bytes_fed - f->bytes_looked >= LOOK_BYTES && stat(f->path, &st) == 0) {
		f->bytes_looked = f->bytes_fed;
		if ((uint64_t)st.st_size > f->bytes_on_disk)
			f->bytes_flushed = f->bytes_fed;
		f->bytes_on_disk = (uint64_t)st.st_size;
	}
	double shrink = f->bytes_flushed ? (double)f->bytes_on_disk / (double)f->bytes_flushed : 1.0 / 3;
	return (double)f->bytes_on_disk + (double)(f->bytes_fed - f->bytes_flushed) * shrink >= (double)f->spec->max_bytes;
}

int lake_fill_chunk(void *arg, duckdb_data_chunk chunk, struct duct_error *err)
{
	struct lake_fill *f = arg;
	uint32_t at = 0, room = f->most_rows ? f->most_rows : (uint32_t)duckdb_vector_size();
	unpin(f);
	while (at < room) {
		if (!f->nrefs && f->nrows && !f->full)
			f->full = reached_limit(f);
		int ret = lake_fill_pull(f, err);
		if (ret < 0)
			return ret;
		if (!ret)
			break;
		uint32_t n = f->nrefs < room - at ? (uint32_t)f->nrefs : room - at;
		ret = fill_rows(f, chunk, at, n, err);
		if (ret)
			return ret;
		at += n;
	}
	duckdb_data_chunk_set_size(chunk, at);
	return 0;
}

void lake_fill_done(struct lake_fill *f)
{
	unpin(f);
	for (size_t i = 0; i < f->nplans; i++)
		free(f->plans[i].cast);
	for (int i = 0; f->defaults && i < f->spec->ncolumns; i++)
		duct_buf_done(&f->defaults[i]);
	free(f->plans);
	free(f->spans);
	free(f->pins);
	free(f->defaults);
	free(f->default_ready);
}
