#ifndef DUCT_BATCH_H
#define DUCT_BATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "record/position.h"
#include "record/relation.h"

/*
 * Records in columns. A batch holds rows of ONE relation at ONE schema version in source order; a `duct_changes` chains
 * the batches of one or more whole source transactions (or of a part of one that is too large). Built by one thread,
 * immutable after duct_batch_seal(), then shared by atomic reference count.
 */

/* One column of a batch: values in Arrow buffer layout (type.h says what one value is). */
struct duct_vector {
	const struct duct_type *type; /* of the relation's column */
	uint32_t width;		      /* bytes per value; 0: variable, then offsets[row] .. offsets[row + 1] in heap */
	uint32_t rows, cap;
	char *data;	   /* width > 0; NULL when it has no values, and unset where one is NULL */
	uint32_t *offsets; /* width == 0: rows + 1 entries; NULL when it has no values */
	char *heap;
	size_t heap_len, heap_cap;
	uint8_t *valid; /* bitmap, bit set = not NULL; what is beyond the rows is not said */
	uint8_t *sent;	/* bitmap, bit set = the source sent the value; clear = unchanged TOAST value, valid is clear too */
	bool has_null, has_unsent; /* false: the bitmap need not be looked at */
};

enum duct_op {
	DUCT_INSERT = 'I',
	DUCT_UPDATE = 'U',
	DUCT_DELETE = 'D',   /* the new columns are unset (NULL); the key is in the old row */
	DUCT_TRUNCATE = 'T', /* all columns unset */
	DUCT_READ = 'R',     /* a row of a snapshot */
};

struct duct_batch {
	atomic_uint refs;
	struct duct_arena arena;
	struct duct_relation *relation; /* one reference */
	uint32_t rows, cap;
	uint8_t *op;		     /* enum duct_op */
	uint64_t *seq;		     /* order over all batches of a reader session; rises by one per row */
	int32_t *old_row;	     /* index into `old`, -1: no old row (the key did not change) */
	struct duct_vector *columns; /* relation->ncolumns */
	/* Old rows: all relation columns, unset (sent clear) where the source did not send them. Present for every
	 * DELETE, for an UPDATE whose key changed, and for every UPDATE of a relation without key and identity FULL. */
	struct duct_vector *old;
	uint32_t old_rows;
	bool lacks; /* columns have fewer rows than the batch: the rest will be unset */
	bool sealed;
};

/* A source transaction that ended inside a duct_changes. Rows with seq < last_seq + 1 and above the previous one's
 * last_seq belong to it. */
struct duct_commit {
	uint64_t end_lsn;
	int64_t commit_us;
	uint32_t xid;
	uint64_t last_seq;
};

/* What a source hands over at once. Whoever has a reference gives it up with duct_changes_free(). */
struct duct_changes {
	atomic_uint refs;	     /* read-only once it is handed over */
	struct duct_batch **batches; /* in order of their first row */
	size_t nbatches, batches_cap;
	struct duct_commit *commits;
	size_t ncommits, commits_cap;
	struct duct_pos upto; /* position after the last whole transaction; with no batches: a keep-alive position */
	bool ends_commit;     /* false: the last transaction goes on in the next duct_changes */
	uint32_t open_xid;    /* of that one, where and when it was committed */
	uint64_t open_lsn;    /* the start of its commit */
	int64_t open_commit_us;
	bool ahead; /* it has not committed yet (open_lsn lies before its commit, open_commit_us is 0): it may still be withdrawn */
	bool withdrawn; /* what came of it does not count; nothing else is in these */
	size_t bytes;	/* memory held */
	size_t rows;
};

struct duct_batch *duct_batch_new(struct duct_relation *rel, uint32_t capacity); /* takes a reference of rel */
struct duct_batch *duct_batch_ref(struct duct_batch *batch);
void duct_batch_unref(struct duct_batch *batch); /* accepts NULL */

/* Builder: begin a row (returns its index), then append each column once, in any order. Columns may be left out of any number of rows
 * (set `lacks` then); before something is appended to them again, or read, duct_batch_fill_unset() makes up for it. */
uint32_t duct_batch_add_row(struct duct_batch *batch, enum duct_op op, uint64_t seq);
uint32_t duct_batch_add_old_row(struct duct_batch *batch); /* belongs to the last added row */
void duct_batch_fill_unset(struct duct_batch *batch);	   /* what was left out becomes unset; sealing does it, too */
/* Takes back the last row (and its old row), which may be half built. */
void duct_batch_undo_row(struct duct_batch *batch);
void duct_batch_seal(struct duct_batch *batch);

/* Appends one value; the pointer returned is where `width` (fixed) or `len` (variable) bytes go. Memory is the batch's
 * arena, hence the batch parameter. */
void *duct_vector_append(struct duct_batch *batch, struct duct_vector *v, uint32_t len);
void duct_vector_append_null(struct duct_batch *batch, struct duct_vector *v);
void duct_vector_append_unsent(struct duct_batch *batch, struct duct_vector *v);

static inline bool duct_bit(const uint8_t *bits, uint32_t i)
{
	return bits[i >> 3] >> (i & 7) & 1;
}

static inline bool duct_vector_is_null(const struct duct_vector *v, uint32_t row)
{
	return v->has_null && !duct_bit(v->valid, row);
}

static inline bool duct_vector_is_sent(const struct duct_vector *v, uint32_t row)
{
	return !v->has_unsent || duct_bit(v->sent, row);
}

/* One value: data is NULL when the value is NULL (an empty string has a non-NULL pointer and len 0). Unaligned. */
struct duct_cell {
	const char *data;
	uint32_t len;
};

static inline struct duct_cell duct_vector_cell(const struct duct_vector *v, uint32_t row)
{
	if (duct_vector_is_null(v, row))
		return (struct duct_cell){NULL, 0};
	if (v->width)
		return (struct duct_cell){v->data + (size_t)row * v->width, v->width};
	return (struct duct_cell){v->heap + v->offsets[row], v->offsets[row + 1] - v->offsets[row]};
}

/* Appends a cell of the vector's type; one without data is NULL. */
void duct_vector_append_cell(struct duct_batch *batch, struct duct_vector *v, struct duct_cell cell);

struct duct_changes *duct_changes_new(void);
struct duct_changes *duct_changes_ref(struct duct_changes *changes);
void duct_changes_free(struct duct_changes *changes);			       /* accepts NULL */
void duct_changes_add(struct duct_changes *changes, struct duct_batch *batch); /* takes the reference */
void duct_changes_add_commit(struct duct_changes *changes, const struct duct_commit *commit);

#endif
