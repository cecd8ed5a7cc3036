/* Bytes into changes: see freeze.h. */
#include "record/freeze.h"

#include "base/mem.h"
#include "base/reader.h"

#include <string.h>

enum { MAX_DEPTH = 64, MAX_COLUMNS = 1 << 16, HAS_VALUES = 1, HAS_NULL = 2, HAS_UNSENT = 4 };

/* Native byte order, so not the reader's own functions. */
static uint32_t get_u32(struct duct_reader *r)
{
	uint32_t v = 0;
	const char *p = duct_read_bytes(r, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return v;
}

static uint64_t get_u64(struct duct_reader *r)
{
	uint64_t v = 0;
	const char *p = duct_read_bytes(r, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return v;
}

/* A number of things of at least `size` bytes each. */
static uint32_t get_count(struct duct_reader *r, size_t size)
{
	uint32_t n = get_u32(r);
	if (n > duct_reader_left(r) / size)
		r->bad = true;
	return r->bad ? 0 : n;
}

static const char *get_text(struct duct_reader *r, struct duct_arena *arena)
{
	uint32_t n = get_u32(r);
	const char *p = n ? duct_read_bytes(r, n - 1) : NULL;
	if (!p)
		return NULL;
	char *text = duct_arena_alloc(arena, n);
	memcpy(text, p, n - 1);
	text[n - 1] = 0;
	return text;
}

static void get_type(struct duct_reader *r, struct duct_arena *arena, struct duct_type *type, int depth)
{
	type->kind = duct_read_u8(r);
	type->precision = duct_read_u8(r);
	type->scale = duct_read_u8(r);
	type->nchildren = (uint16_t)get_count(r, 8);
	type->name = get_text(r, arena);
	bool children = type->kind == DUCT_LIST ? type->nchildren == 1
		: type->kind == DUCT_MAP	? type->nchildren == 2
		: type->kind == DUCT_STRUCT	? true
						: type->nchildren == 0;
	if (type->kind < DUCT_BOOL || type->kind > DUCT_MAP || type->precision > 38 || !children || depth > MAX_DEPTH)
		r->bad = true;
	if (r->bad) {
		*type = (struct duct_type){.kind = DUCT_BOOL};
		return;
	}
	struct duct_type *list = duct_arena_zalloc(arena, type->nchildren * sizeof *list);
	for (int i = 0; i < type->nchildren; i++)
		get_type(r, arena, &list[i], depth + 1);
	type->children = list;
}

static void get_column(struct duct_reader *r, struct duct_arena *arena, struct duct_column *c)
{
	c->name = get_text(r, arena);
	get_type(r, arena, &c->type, 0);
	c->attnum = (int16_t)get_u32(r);
	uint8_t flags = duct_read_u8(r);
	c->key = flags & 1;
	c->not_null = flags >> 1 & 1;
	c->source_type = get_text(r, arena);
	c->missing_value = get_text(r, arena);
	r->bad |= !c->name;
}

static void get_live(struct duct_reader *r, struct duct_arena *arena, struct duct_live_column *c)
{
	c->attnum = (int16_t)get_u32(r);
	uint8_t flags = duct_read_u8(r);
	c->computed = flags & 1;
	if (flags & 2) {
		struct duct_type *type = duct_arena_zalloc(arena, sizeof *type);
		get_type(r, arena, type, 0);
		c->type = type;
	}
	c->missing_value = get_text(r, arena);
}

static void get_columns(struct duct_reader *r, struct duct_relation *rel)
{
	struct duct_arena *arena = &rel->arena;
	rel->columns = duct_arena_zalloc(arena, (size_t)rel->ncolumns * sizeof *rel->columns);
	rel->keys = duct_arena_zalloc(arena, (size_t)rel->nkeys * sizeof *rel->keys);
	struct duct_live_column *live = duct_arena_zalloc(arena, (size_t)rel->nlive * sizeof *live);
	int16_t *dropped = duct_arena_zalloc(arena, (size_t)rel->ndropped * sizeof *dropped);
	for (int i = 0; i < rel->ncolumns && !r->bad; i++)
		get_column(r, arena, &rel->columns[i]);
	for (int i = 0; i < rel->nkeys && !r->bad; i++) {
		uint32_t key = get_u32(r);
		r->bad |= key >= (uint32_t)rel->ncolumns;
		rel->keys[i] = (int)key;
	}
	for (int i = 0; i < rel->nlive && !r->bad; i++)
		get_live(r, arena, &live[i]);
	for (int i = 0; i < rel->ndropped && !r->bad; i++)
		dropped[i] = (int16_t)get_u32(r);
	rel->live = live;
	rel->dropped = dropped;
}

int duct_thaw_relation(struct duct_thaw *thaw, const char *data, size_t n, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, n);
	struct duct_relation *rel = duct_relation_new();
	rel->oid = get_u32(&r);
	uint64_t version = get_u64(&r);
	rel->version = DUCT_THAW_VERSIONS + ++thaw->given;
	rel->identity = duct_read_u8(&r);
	uint8_t flags = duct_read_u8(&r);
	rel->unseen = flags & 1;
	rel->may_lack = flags >> 1 & 1;
	rel->synthetic = flags >> 2 & 1;
	rel->schema = get_text(&r, &rel->arena);
	rel->name = get_text(&r, &rel->arena);
	rel->ncolumns = (int)get_count(&r, 1);
	rel->nkeys = (int)get_count(&r, 1);
	rel->nlive = (int)get_count(&r, 1);
	rel->ndropped = (int)get_count(&r, 1);
	if (rel->ncolumns > MAX_COLUMNS || rel->nlive > MAX_COLUMNS || rel->identity > DUCT_IDENTITY_FULL || !rel->schema ||
	    !rel->name)
		r.bad = true;
	if (!r.bad)
		get_columns(&r, rel);
	if (r.bad || duct_reader_left(&r)) {
		duct_relation_unref(rel);
		return duct_fail(err, DUCT_DATA, "a frozen relation is damaged");
	}
	thaw->relations = duct_grow(thaw->relations, &thaw->cap, thaw->n + 1, sizeof *thaw->relations);
	thaw->relations[thaw->n++] = (struct duct_thawed){version, rel};
	return 0;
}

void duct_thaw_forget(struct duct_thaw *thaw)
{
	while (thaw->n)
		duct_relation_unref(thaw->relations[--thaw->n].relation);
}

void duct_thaw_done(struct duct_thaw *thaw)
{
	duct_thaw_forget(thaw);
	free(thaw->relations);
	*thaw = (struct duct_thaw){0};
}

static struct duct_relation *find_relation(const struct duct_thaw *thaw, uint32_t oid, uint64_t version)
{
	for (size_t i = thaw->n; i-- > 0;)
		if (thaw->relations[i].relation->oid == oid && thaw->relations[i].version == version)
			return thaw->relations[i].relation;
	return NULL;
}

static void *get_copy(struct duct_reader *r, struct duct_arena *arena, size_t n)
{
	const char *p = duct_read_bytes(r, n);
	return p ? duct_arena_dup(arena, p, n) : NULL;
}

/* Offsets begin at 0 and do not fall. */
static bool offsets_ascend(const uint32_t *offsets, uint32_t rows)
{
	for (uint32_t i = 0; i < rows; i++)
		if (offsets[i + 1] < offsets[i])
			return false;
	return offsets[0] == 0;
}

static void get_vector(struct duct_reader *r, struct duct_arena *arena, const struct duct_type *type, uint32_t rows,
		       struct duct_vector *v)
{
	size_t bits = ((size_t)rows + 7) / 8;
	uint8_t flags = duct_read_u8(r);
	*v = (struct duct_vector){.type = type, .width = duct_type_width(type), .rows = rows, .cap = rows, .heap = (char *)""};
	v->has_null = flags & HAS_NULL;
	v->has_unsent = flags & HAS_UNSENT;
	if (v->has_null)
		v->valid = get_copy(r, arena, bits);
	if (v->has_unsent)
		v->sent = get_copy(r, arena, bits);
	if (!(flags & HAS_VALUES)) {
		for (uint32_t i = 0; i < rows && !r->bad; i++) /* nothing to read where a value is said to be */
			r->bad |= !v->has_null || duct_bit(v->valid, i);
	} else if (v->width) {
		v->data = get_copy(r, arena, (size_t)rows * v->width);
	} else {
		v->offsets = get_copy(r, arena, ((size_t)rows + 1) * sizeof *v->offsets);
		r->bad |= v->offsets && !offsets_ascend(v->offsets, rows);
		v->heap_len = v->heap_cap = r->bad ? 0 : v->offsets[rows];
		if (v->heap_len)
			v->heap = get_copy(r, arena, v->heap_len);
	}
}

static struct duct_vector *get_vectors(struct duct_reader *r, struct duct_batch *b, uint32_t rows)
{
	const struct duct_relation *rel = b->relation;
	struct duct_vector *vectors = duct_arena_zalloc(&b->arena, (size_t)rel->ncolumns * sizeof *vectors);
	for (int i = 0; i < rel->ncolumns && !r->bad; i++)
		get_vector(r, &b->arena, &rel->columns[i].type, rows, &vectors[i]);
	return vectors;
}

static bool rows_are_whole(const struct duct_batch *b)
{
	for (uint32_t i = 0; i < b->rows; i++) {
		if (!b->op[i] || !strchr("IUDTR", b->op[i]))
			return false;
		if (b->old_row[i] < -1 || b->old_row[i] >= (int64_t)b->old_rows || (b->op[i] == DUCT_DELETE && b->old_row[i] < 0))
			return false;
	}
	return true;
}

static struct duct_batch *get_batch(struct duct_reader *r, const struct duct_thaw *thaw)
{
	uint32_t oid = get_u32(r);
	uint64_t version = get_u64(r);
	struct duct_relation *rel = find_relation(thaw, oid, version);
	if (!rel) {
		r->bad = true;
		return NULL;
	}
	struct duct_batch *b = duct_xcalloc(1, sizeof *b);
	atomic_init(&b->refs, 1);
	duct_arena_init(&b->arena);
	b->relation = duct_relation_ref(rel);
	b->rows = b->cap = get_count(r, 1);
	b->old_rows = get_count(r, 1);
	b->op = get_copy(r, &b->arena, b->rows);
	b->seq = get_copy(r, &b->arena, b->rows * sizeof *b->seq);
	b->old_row = get_copy(r, &b->arena, b->rows * sizeof *b->old_row);
	r->bad |= r->bad || !rows_are_whole(b);
	if (!r->bad)
		b->columns = get_vectors(r, b, b->rows);
	if (!r->bad && b->old_rows)
		b->old = get_vectors(r, b, b->old_rows);
	b->sealed = true;
	return b;
}

static void get_commits(struct duct_reader *r, struct duct_changes *c, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct duct_commit commit = {.end_lsn = get_u64(r)};
		commit.commit_us = (int64_t)get_u64(r);
		commit.xid = get_u32(r);
		commit.last_seq = get_u64(r);
		duct_changes_add_commit(c, &commit);
	}
}

int duct_thaw_changes(const struct duct_thaw *thaw, const char *data, size_t n, struct duct_changes **ret, struct duct_error *err)
{
	struct duct_reader r = duct_reader_over(data, n);
	struct duct_changes *c = duct_changes_new();
	struct duct_pos upto = {.lsn = get_u64(&r)};
	upto.commit_us = (int64_t)get_u64(&r);
	bool ends_commit = duct_read_u8(&r);
	c->open_xid = get_u32(&r);
	c->open_lsn = get_u64(&r);
	c->open_commit_us = (int64_t)get_u64(&r);
	uint64_t rows = get_u64(&r);
	uint32_t ncommits = get_count(&r, 28), nbatches = get_count(&r, 20);
	get_commits(&r, c, ncommits);
	for (uint32_t i = 0; i < nbatches && !r.bad; i++) {
		struct duct_batch *batch = get_batch(&r, thaw);
		if (batch)
			duct_changes_add(c, batch);
	}
	c->upto = upto;
	c->ends_commit = ends_commit;
	if (r.bad || duct_reader_left(&r) || c->rows != rows) {
		duct_changes_free(c);
		return duct_fail(err, DUCT_DATA, "frozen changes are damaged");
	}
	*ret = c;
	return 0;
}
