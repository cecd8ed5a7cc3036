/* Content as sums over buckets of keys, and differences key by key: see verify_internal.h. */
#include "flow/verify_internal.h"

#include "record/format.h"

#include <string.h>
#include <xxhash.h>

void verify_digest_init(struct verify_digest *d, const bool *wanted)
{
	*d = (struct verify_digest){.wanted = wanted};
	d->buckets = duct_xcalloc(VERIFY_BUCKETS, sizeof *d->buckets);
	duct_arena_init(&d->texts);
}

void verify_digest_done(struct verify_digest *d)
{
	free(d->buckets);
	free(d->keys);
	duct_arena_done(&d->texts);
	d->buckets = NULL;
	d->keys = NULL;
}

static size_t bucket_of(const uint64_t key_hash[2])
{
	return key_hash[0] >> 48;
}

/* True when the key of this row is kept one by one, so that its text is needed. */
static bool is_wanted(const struct verify_digest *d, const uint64_t key_hash[2])
{
	return d->wanted && d->wanted[bucket_of(key_hash)];
}

static void sum_add(struct verify_sum *to, const struct verify_sum *more)
{
	to->a += more->a;
	to->b += more->b;
	to->count += more->count;
}

static bool sum_equal(const struct verify_sum *a, const struct verify_sum *b)
{
	return a->a == b->a && a->b == b->b && a->count == b->count;
}

void verify_digest_add(struct verify_digest *d, const uint64_t key_hash[2], const uint64_t row_hash[2], const char *text)
{
	const struct verify_sum one = {row_hash[0], row_hash[1], 1};
	sum_add(&d->buckets[bucket_of(key_hash)], &one);
	d->rows++;
	d->compared++;
	if (!is_wanted(d, key_hash))
		return;
	d->keys = duct_grow(d->keys, &d->keys_cap, d->nkeys + 1, sizeof *d->keys);
	d->keys[d->nkeys++] = (struct verify_key){{key_hash[0], key_hash[1]}, one, duct_arena_strdup(&d->texts, text ? text : "")};
}

static int compare_hash(const uint64_t a[2], const uint64_t b[2])
{
	if (a[0] != b[0])
		return a[0] < b[0] ? -1 : 1;
	return a[1] < b[1] ? -1 : a[1] > b[1];
}

static int compare_keys(const void *a, const void *b)
{
	return compare_hash(((const struct verify_key *)a)->hash, ((const struct verify_key *)b)->hash);
}

void verify_digest_finish(struct verify_digest *d)
{
	if (!d->nkeys)
		return;
	qsort(d->keys, d->nkeys, sizeof *d->keys, compare_keys);
	size_t n = 0;
	for (size_t i = 1; i < d->nkeys; i++) {
		if (compare_keys(&d->keys[n], &d->keys[i]) == 0)
			sum_add(&d->keys[n].sum, &d->keys[i].sum);
		else
			d->keys[++n] = d->keys[i];
	}
	d->nkeys = n + 1;
}

void verify_suspects_done(struct verify_suspects *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->list[i].text);
	free(s->list);
	*s = (struct verify_suspects){0};
}

static const struct verify_suspect *find(const struct verify_suspects *s, const uint64_t hash[2])
{
	for (size_t low = 0, high = s->n; low < high;) {
		size_t mid = low + (high - low) / 2;
		int c = compare_hash(s->list[mid].hash, hash);
		if (c == 0)
			return &s->list[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* Takes the difference of one key, when it is one and counts. Either side may be NULL. */
static void consider(struct verify_suspects *to, size_t *cap, const struct verify_suspects *before, const struct verify_key *source,
		     const struct verify_key *lake)
{
	const struct verify_key *any = source ? source : lake;
	struct verify_suspect now = {.hash = {any->hash[0], any->hash[1]}, .looks = 1};
	if (source)
		now.source = source->sum;
	if (lake)
		now.lake = lake->sum;
	if (sum_equal(&now.source, &now.lake))
		return;
	now.kind = now.source.count > now.lake.count ? VERIFY_MISSING
		: now.source.count < now.lake.count  ? VERIFY_EXTRA
						     : VERIFY_CONTENT;
	const struct verify_suspect *earlier = find(before, now.hash);
	if (before->begun && !earlier)
		return; /* it agreed once; what differs now is in flight */
	if (earlier && sum_equal(&earlier->source, &now.source) && sum_equal(&earlier->lake, &now.lake))
		now.looks = earlier->looks + 1;
	now.text = duct_xstrdup(any->text);
	to->list = duct_grow(to->list, cap, to->n + 1, sizeof *to->list);
	to->list[to->n++] = now;
}

void verify_suspects_look(struct verify_suspects *s, struct verify_digest *source, struct verify_digest *lake)
{
	struct verify_suspects now = {.begun = true};
	size_t cap = 0, i = 0, k = 0;
	while (i < source->nkeys || k < lake->nkeys) {
		int c = i == source->nkeys ? 1 : k == lake->nkeys ? -1 : compare_keys(&source->keys[i], &lake->keys[k]);
		consider(&now, &cap, s, c <= 0 ? &source->keys[i] : NULL, c >= 0 ? &lake->keys[k] : NULL);
		i += c <= 0;
		k += c >= 0;
	}
	verify_suspects_done(s);
	*s = now;
}

bool verify_suspects_settled(const struct verify_suspects *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].looks < VERIFY_LOOKS)
			return false;
	return true;
}

static void put_cell(struct duct_buf *to, struct duct_cell cell)
{
	duct_buf_putc(to, cell.data ? 1 : 0);
	if (!cell.data)
		return;
	duct_buf_append(to, &cell.len, sizeof cell.len);
	duct_buf_append(to, cell.data, cell.len);
}

static void hash_of(const struct duct_buf *bytes, uint64_t ret[2])
{
	XXH128_hash_t h = XXH3_128bits(bytes->data, bytes->len);
	ret[0] = h.high64;
	ret[1] = h.low64;
}

static int row_cell(const struct verify_table *t, const struct verify_column *c, const struct duct_batch *batch, int at,
		    uint32_t row, bool source, struct verify_row_scratch *scratch, struct duct_cell *ret, struct duct_error *err)
{
	struct duct_cell cell = duct_vector_cell(&batch->columns[at], row);
	if (c->cast && source && cell.data) {
		scratch->cast.len = 0;
		int rc = duct_cell_cast(&scratch->cast, &t->relation->rel->columns[at].type, cell, &c->type, err);
		if (rc)
			return rc;
		duct_buf_room(&scratch->cast, 0);
		cell = (struct duct_cell){scratch->cast.data, (uint32_t)scratch->cast.len};
	}
	*ret = cell;
	return 0;
}

static void put_text(struct duct_buf *to, const char *name, const struct duct_type *type, struct duct_cell cell)
{
	enum { LONGEST = 200 };
	duct_buf_printf(to, "%s%s=", to->len ? ", " : "", name);
	size_t start = to->len;
	if (cell.data)
		duct_format_value(to, type, cell);
	else
		duct_buf_puts(to, "NULL");
	if (to->len - start > LONGEST) {
		to->len = start + LONGEST;
		duct_buf_puts(to, "...");
	}
}

void verify_row_scratch_done(struct verify_row_scratch *s)
{
	duct_buf_done(&s->key);
	duct_buf_done(&s->row);
	duct_buf_done(&s->cast);
	duct_buf_done(&s->text);
}

int verify_add_row(struct verify_digest *d, const struct verify_table *t, const struct duct_batch *batch, uint32_t row, bool source,
		   struct verify_row_scratch *s, struct duct_error *err)
{
	uint64_t key_hash[2], row_hash[2];
	s->key.len = s->row.len = s->text.len = 0;
	for (int i = 0; i < t->ncolumns; i++) {
		const struct verify_column *c = &t->columns[i];
		struct duct_cell cell;
		int rc = row_cell(t, c, batch, source ? c->source : i, row, source, s, &cell, err);
		if (rc)
			return rc;
		put_cell(&s->row, cell);
		if (c->key)
			put_cell(&s->key, cell);
	}
	hash_of(t->keyed ? &s->key : &s->row, key_hash);
	if (key_hash[1] > t->sample) {
		d->rows++;
		return 0;
	}
	hash_of(&s->row, row_hash);
	if (!is_wanted(d, key_hash)) {
		verify_digest_add(d, key_hash, row_hash, NULL);
		return 0;
	}
	for (int i = 0; i < t->ncolumns; i++) {
		const struct verify_column *c = &t->columns[i];
		struct duct_cell cell;
		if (t->keyed && !c->key)
			continue;
		int rc = row_cell(t, c, batch, source ? c->source : i, row, source, s, &cell, err);
		if (rc)
			return rc;
		put_text(&s->text, t->relation->rel->columns[c->source].name, &c->type, cell);
	}
	verify_digest_add(d, key_hash, row_hash, s->text.data);
	return 0;
}
