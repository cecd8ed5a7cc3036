/* Building and sharing batches: see batch.h. */
#include "record/batch.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

enum { FIRST_ROWS = 8, FIRST_HEAP_BYTES = 16 << 10 };

static size_t bitmap_bytes(uint32_t rows)
{
	return ((size_t)rows + 7) / 8;
}

/* Bits of rows to come are set: a value that is there need not touch them. */
static uint8_t *regrow_bits(struct duct_arena *arena, uint8_t *old, uint32_t rows, uint32_t cap)
{
	size_t used = bitmap_bytes(rows), size = bitmap_bytes(cap);
	uint8_t *bits = duct_arena_grow(arena, old, used, size);
	memset(bits + used, 0xff, size - used);
	return bits;
}

static void clear_bits(uint8_t *bits, uint32_t from, uint32_t to)
{
	for (; from < to && from & 7; from++)
		bits[from >> 3] &= (uint8_t) ~(1 << (from & 7));
	if (to - from >= 8) {
		memset(bits + (from >> 3), 0, (to - from) >> 3);
		from += (to - from) & ~UINT32_C(7);
	}
	for (; from < to; from++)
		bits[from >> 3] &= (uint8_t) ~(1 << (from & 7));
}

/* Values get room when there is the first one. */
static void values_reserve(struct duct_arena *arena, struct duct_vector *v, bool first)
{
	if (v->width) {
		v->data = duct_arena_grow(arena, v->data, first ? 0 : (size_t)v->rows * v->width, (size_t)v->cap * v->width);
		return;
	}
	v->offsets = duct_arena_grow(arena, v->offsets, first ? 0 : ((size_t)v->rows + 1) * 4, ((size_t)v->cap + 1) * 4);
	if (first)
		memset(v->offsets, 0, ((size_t)v->rows + 1) * 4);
}

static bool has_values(const struct duct_vector *v)
{
	return v->width ? v->data != NULL : v->offsets != NULL;
}

static void vector_reserve(struct duct_arena *arena, struct duct_vector *v, uint32_t cap)
{
	v->valid = regrow_bits(arena, v->valid, v->rows, cap);
	v->sent = regrow_bits(arena, v->sent, v->rows, cap);
	v->cap = cap;
	if (has_values(v))
		values_reserve(arena, v, false);
}

static void vector_init(struct duct_arena *arena, struct duct_vector *v, const struct duct_type *type, uint32_t cap)
{
	v->type = type;
	v->width = duct_type_width(type);
	v->heap = (char *)""; /* an empty value is not NULL */
	vector_reserve(arena, v, cap);
}

struct duct_batch *duct_batch_new(struct duct_relation *rel, uint32_t capacity)
{
	struct duct_batch *b = duct_xcalloc(1, sizeof *b);
	atomic_init(&b->refs, 1);
	duct_arena_init(&b->arena);
	b->relation = duct_relation_ref(rel);
	b->cap = capacity < FIRST_ROWS ? FIRST_ROWS : capacity;
	b->op = duct_arena_alloc(&b->arena, b->cap);
	b->seq = duct_arena_alloc(&b->arena, b->cap * sizeof *b->seq);
	b->old_row = duct_arena_alloc(&b->arena, b->cap * sizeof *b->old_row);
	b->columns = duct_arena_zalloc(&b->arena, (size_t)rel->ncolumns * sizeof *b->columns);
	for (int i = 0; i < rel->ncolumns; i++)
		vector_init(&b->arena, &b->columns[i], &rel->columns[i].type, b->cap);
	return b;
}

struct duct_batch *duct_batch_ref(struct duct_batch *batch)
{
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	return batch;
}

void duct_batch_unref(struct duct_batch *batch)
{
	if (!batch || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
		return;
	duct_relation_unref(batch->relation);
	duct_arena_done(&batch->arena);
	free(batch);
}

uint32_t duct_batch_add_row(struct duct_batch *b, enum duct_op op, uint64_t seq)
{
	assert(!b->sealed);
	if (b->rows == b->cap) {
		uint32_t cap = b->cap * 2;
		b->op = duct_arena_grow(&b->arena, b->op, b->rows, cap);
		b->seq = duct_arena_grow(&b->arena, b->seq, b->rows * sizeof *b->seq, cap * sizeof *b->seq);
		b->old_row = duct_arena_grow(&b->arena, b->old_row, b->rows * sizeof *b->old_row, cap * sizeof *b->old_row);
		b->cap = cap;
	}
	b->op[b->rows] = (uint8_t)op;
	b->seq[b->rows] = seq;
	b->old_row[b->rows] = -1;
	return b->rows++;
}

uint32_t duct_batch_add_old_row(struct duct_batch *b)
{
	assert(!b->sealed && b->rows && b->old_row[b->rows - 1] == -1);
	const struct duct_relation *rel = b->relation;
	if (!b->old) {
		b->old = duct_arena_zalloc(&b->arena, (size_t)rel->ncolumns * sizeof *b->old);
		for (int i = 0; i < rel->ncolumns; i++)
			vector_init(&b->arena, &b->old[i], &rel->columns[i].type, FIRST_ROWS);
	}
	b->old_row[b->rows - 1] = (int32_t)b->old_rows;
	return b->old_rows++;
}

/* Unsent rows up to `rows`. */
static void skip_to(struct duct_batch *b, struct duct_vector *v, uint32_t rows)
{
	if (v->rows >= rows)
		return;
	if (rows > v->cap)
		vector_reserve(&b->arena, v, rows > v->cap * 2 ? rows : v->cap * 2);
	clear_bits(v->valid, v->rows, rows);
	clear_bits(v->sent, v->rows, rows);
	for (uint32_t row = v->rows; v->offsets && row < rows; row++)
		v->offsets[row + 1] = (uint32_t)v->heap_len;
	v->has_null = v->has_unsent = true;
	v->rows = rows;
}

void duct_batch_fill_unset(struct duct_batch *b)
{
	for (int i = 0; i < b->relation->ncolumns; i++) {
		skip_to(b, &b->columns[i], b->rows);
		if (b->old)
			skip_to(b, &b->old[i], b->old_rows);
	}
	b->lacks = false;
}

static void undo_vector(struct duct_vector *v, uint32_t rows)
{
	if (v->rows <= rows)
		return;
	v->rows = rows;
	if (v->offsets)
		v->heap_len = v->offsets[rows];
	v->valid[rows >> 3] |= (uint8_t)(1 << (rows & 7));
	v->sent[rows >> 3] |= (uint8_t)(1 << (rows & 7));
}

void duct_batch_undo_row(struct duct_batch *b)
{
	assert(!b->sealed && b->rows);
	b->rows--;
	if (b->old_row[b->rows] >= 0)
		b->old_rows = (uint32_t)b->old_row[b->rows];
	for (int i = 0; i < b->relation->ncolumns; i++) {
		undo_vector(&b->columns[i], b->rows);
		if (b->old)
			undo_vector(&b->old[i], b->old_rows);
	}
}

void duct_batch_seal(struct duct_batch *b)
{
	duct_batch_fill_unset(b);
#ifndef NDEBUG
	for (int i = 0; i < b->relation->ncolumns; i++) {
		assert(b->columns[i].rows == b->rows);
		assert(!b->old || b->old[i].rows == b->old_rows);
	}
#endif
	b->sealed = true;
}

/* Room for one more row. */
static uint32_t next_row(struct duct_batch *b, struct duct_vector *v)
{
	if (v->rows == v->cap)
		vector_reserve(&b->arena, v, v->cap * 2);
	return v->rows++;
}

void *duct_vector_append(struct duct_batch *b, struct duct_vector *v, uint32_t len)
{
	uint32_t row = next_row(b, v);
	if (!has_values(v))
		values_reserve(&b->arena, v, true);
	if (v->width)
		return v->data + (size_t)row * v->width;
	if (v->heap_cap - v->heap_len < len) {
		size_t first = v->cap < FIRST_HEAP_BYTES / 16 ? (size_t)v->cap * 16 : FIRST_HEAP_BYTES;
		size_t cap = v->heap_cap ? v->heap_cap * 2 : first;
		while (cap - v->heap_len < len)
			cap *= 2;
		v->heap = duct_arena_grow(&b->arena, v->heap, v->heap_len, cap);
		v->heap_cap = cap;
	}
	char *to = v->heap + v->heap_len;
	v->heap_len += len;
	v->offsets[row + 1] = (uint32_t)v->heap_len;
	return to;
}

void duct_vector_append_null(struct duct_batch *b, struct duct_vector *v)
{
	uint32_t row = next_row(b, v);
	v->has_null = true;
	v->valid[row >> 3] &= (uint8_t) ~(1 << (row & 7));
	if (v->offsets)
		v->offsets[row + 1] = (uint32_t)v->heap_len;
}

void duct_vector_append_cell(struct duct_batch *b, struct duct_vector *v, struct duct_cell cell)
{
	if (!cell.data) {
		duct_vector_append_null(b, v);
		return;
	}
	char *to = duct_vector_append(b, v, cell.len);
	if (cell.len)
		memcpy(to, cell.data, cell.len);
}

void duct_vector_append_unsent(struct duct_batch *b, struct duct_vector *v)
{
	skip_to(b, v, v->rows + 1);
}

struct duct_changes *duct_changes_new(void)
{
	struct duct_changes *c = duct_xcalloc(1, sizeof *c);
	atomic_init(&c->refs, 1);
	return c;
}

struct duct_changes *duct_changes_ref(struct duct_changes *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void duct_changes_free(struct duct_changes *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < c->nbatches; i++)
		duct_batch_unref(c->batches[i]);
	free(c->batches);
	free(c->commits);
	free(c);
}

void duct_changes_add(struct duct_changes *c, struct duct_batch *batch)
{
	c->batches = duct_grow(c->batches, &c->batches_cap, c->nbatches + 1, sizeof *c->batches);
	c->batches[c->nbatches++] = batch;
	c->bytes += batch->arena.bytes;
	c->rows += batch->rows;
}

void duct_changes_add_commit(struct duct_changes *c, const struct duct_commit *commit)
{
	c->commits = duct_grow(c->commits, &c->commits_cap, c->ncommits + 1, sizeof *c->commits);
	c->commits[c->ncommits++] = *commit;
	c->upto = (struct duct_pos){commit->end_lsn, commit->commit_us};
}
