/* Changes into bytes: see freeze.h. What reads them is thaw.c. */
#include "record/freeze.h"

#include <string.h>

static void put_u8(struct duct_buf *to, uint8_t v)
{
	duct_buf_append(to, &v, sizeof v);
}

static void put_u32(struct duct_buf *to, uint32_t v)
{
	duct_buf_append(to, &v, sizeof v);
}

static void put_u64(struct duct_buf *to, uint64_t v)
{
	duct_buf_append(to, &v, sizeof v);
}

/* u32 length + 1 and the bytes; 0: NULL. */
static void put_text(struct duct_buf *to, const char *s)
{
	size_t n = s ? strlen(s) : 0;
	put_u32(to, s ? (uint32_t)n + 1 : 0);
	duct_buf_append(to, s, n);
}

static void put_type(struct duct_buf *to, const struct duct_type *type)
{
	put_u8(to, (uint8_t)type->kind);
	put_u8(to, type->precision);
	put_u8(to, type->scale);
	put_u32(to, type->nchildren);
	put_text(to, type->name);
	for (int i = 0; i < type->nchildren; i++)
		put_type(to, &type->children[i]);
}

static void put_column(struct duct_buf *to, const struct duct_column *c)
{
	put_text(to, c->name);
	put_type(to, &c->type);
	put_u32(to, (uint16_t)c->attnum);
	put_u8(to, (uint8_t)(c->key | c->not_null << 1));
	put_text(to, c->source_type);
	put_text(to, c->missing_value);
}

static void put_live(struct duct_buf *to, const struct duct_live_column *c)
{
	put_u32(to, (uint16_t)c->attnum);
	put_u8(to, (uint8_t)(c->computed | (c->type ? 2 : 0)));
	if (c->type)
		put_type(to, c->type);
	put_text(to, c->missing_value);
}

void duct_freeze_relation(struct duct_buf *to, const struct duct_relation *rel)
{
	put_u32(to, rel->oid);
	put_u64(to, rel->version);
	put_u8(to, (uint8_t)rel->identity);
	put_u8(to, (uint8_t)(rel->unseen | rel->may_lack << 1 | rel->synthetic << 2));
	put_text(to, rel->schema);
	put_text(to, rel->name);
	put_u32(to, (uint32_t)rel->ncolumns);
	put_u32(to, (uint32_t)rel->nkeys);
	put_u32(to, (uint32_t)rel->nlive);
	put_u32(to, (uint32_t)rel->ndropped);
	for (int i = 0; i < rel->ncolumns; i++)
		put_column(to, &rel->columns[i]);
	for (int i = 0; i < rel->nkeys; i++)
		put_u32(to, (uint32_t)rel->keys[i]);
	for (int i = 0; i < rel->nlive; i++)
		put_live(to, &rel->live[i]);
	for (int i = 0; i < rel->ndropped; i++)
		put_u32(to, (uint16_t)rel->dropped[i]);
}

enum { HAS_VALUES = 1, HAS_NULL = 2, HAS_UNSENT = 4 };

static void put_vector(struct duct_buf *to, const struct duct_vector *v, uint32_t rows)
{
	bool values = v->width ? v->data != NULL : v->offsets != NULL;
	size_t bits = ((size_t)rows + 7) / 8;
	put_u8(to, (uint8_t)((values ? HAS_VALUES : 0) | (v->has_null ? HAS_NULL : 0) | (v->has_unsent ? HAS_UNSENT : 0)));
	if (v->has_null)
		duct_buf_append(to, v->valid, bits);
	if (v->has_unsent)
		duct_buf_append(to, v->sent, bits);
	if (values && v->width) {
		duct_buf_append(to, v->data, (size_t)rows * v->width);
	} else if (values) {
		duct_buf_append(to, v->offsets, ((size_t)rows + 1) * sizeof *v->offsets);
		duct_buf_append(to, v->heap, v->offsets[rows]);
	}
}

static void put_batch(struct duct_buf *to, const struct duct_batch *b)
{
	put_u32(to, b->relation->oid);
	put_u64(to, b->relation->version);
	put_u32(to, b->rows);
	put_u32(to, b->old_rows);
	duct_buf_append(to, b->op, b->rows);
	duct_buf_append(to, b->seq, b->rows * sizeof *b->seq);
	duct_buf_append(to, b->old_row, b->rows * sizeof *b->old_row);
	for (int i = 0; i < b->relation->ncolumns; i++)
		put_vector(to, &b->columns[i], b->rows);
	for (int i = 0; i < b->relation->ncolumns && b->old_rows; i++)
		put_vector(to, &b->old[i], b->old_rows);
}

void duct_freeze_changes(struct duct_buf *to, const struct duct_changes *c)
{
	put_u64(to, c->upto.lsn);
	put_u64(to, (uint64_t)c->upto.commit_us);
	put_u8(to, c->ends_commit);
	put_u32(to, c->open_xid);
	put_u64(to, c->open_lsn);
	put_u64(to, (uint64_t)c->open_commit_us);
	put_u64(to, c->rows);
	put_u32(to, (uint32_t)c->ncommits);
	put_u32(to, (uint32_t)c->nbatches);
	for (size_t i = 0; i < c->ncommits; i++) {
		put_u64(to, c->commits[i].end_lsn);
		put_u64(to, (uint64_t)c->commits[i].commit_us);
		put_u32(to, c->commits[i].xid);
		put_u64(to, c->commits[i].last_seq);
	}
	for (size_t i = 0; i < c->nbatches; i++)
		put_batch(to, c->batches[i]);
}
