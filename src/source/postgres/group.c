/* Changes into batches: see group.h. */
#include "source/postgres/group.h"
#include "source/postgres/dead_letter.h"

#include "base/clock.h"
#include "base/mem.h"

#include <string.h>

enum { FIRST_SLOTS = 64 };

/* --- tables by oid --- */

static size_t slot_of(const struct postgres_group *g, uint32_t oid)
{
	size_t at = (oid * UINT32_C(2654435769)) & (g->nslots - 1);
	while (g->slots[at] && g->slots[at]->oid != oid)
		at = (at + 1) & (g->nslots - 1);
	return at;
}

static void slots_grow(struct postgres_group *g)
{
	struct postgres_table **old = g->slots;
	size_t n = g->nslots;
	g->nslots = n ? n * 2 : FIRST_SLOTS;
	g->slots = duct_xcalloc(g->nslots, sizeof *g->slots);
	for (size_t i = 0; i < n; i++)
		if (old[i])
			g->slots[slot_of(g, old[i]->oid)] = old[i];
	free(old);
}

struct postgres_table *postgres_group_table(struct postgres_group *g, uint32_t oid, bool add)
{
	if (g->nslots) {
		size_t at = slot_of(g, oid);
		if (g->slots[at] || !add)
			return g->slots[at];
	}
	if (!add)
		return NULL;
	if ((g->ntables + 1) * 2 > g->nslots)
		slots_grow(g);
	struct postgres_table *t = duct_xcalloc(1, sizeof *t);
	t->oid = oid;
	g->slots[slot_of(g, oid)] = t;
	g->ntables++;
	return t;
}

static bool same_key(const struct duct_relation *a, const struct duct_relation *b)
{
	if (a->identity != b->identity || a->nkeys != b->nkeys)
		return false;
	for (int i = 0; i < a->nkeys; i++)
		if (a->columns[a->keys[i]].attnum != b->columns[b->keys[i]].attnum)
			return false;
	return a->nkeys || a->ncolumns == b->ncolumns;
}

bool postgres_group_relation(struct postgres_group *g, struct postgres_table *t, struct pg_relation *relation, const void *raw,
			     size_t raw_len)
{
	/* A destination cannot commit inside a transaction, so rows of both keys must not come in one hand-over. Where changes of a table may
	 * be held back, what was committed before them must not be held with them. */
	bool apart = g->apart || (t->relation && !same_key(t->relation->rel, relation->rel));
	if (apart && g->ncommits && g->open) {
		if (g->seq != g->first_seq) {
			g->cut_before = g->commit_lsn;
			pg_relation_free(relation);
			return false;
		}
		g->cut = true;
	}
	postgres_group_note_relation(t, raw, raw_len);
	t->relation = relation;
	return true;
}

void postgres_group_note_relation(struct postgres_table *t, const void *raw, size_t raw_len)
{
	char *copy = duct_xmalloc(raw_len + 1);
	memcpy(copy, raw, raw_len);
	free(t->raw);
	t->raw = copy;
	t->raw_len = raw_len;
	pg_relation_free(t->relation);
	t->relation = NULL;
	t->open = NULL; /* stays in the list, closed */
}

void postgres_group_forget_relation(struct postgres_table *t)
{
	free(t->raw);
	t->raw = NULL;
	pg_relation_free(t->relation);
	t->relation = NULL;
	t->open = NULL;
}

bool postgres_group_wants(const struct postgres_group *g, const struct postgres_table *t)
{
	return t->known && !t->ignored && !g->skip && g->commit_lsn >= t->fence && !(t->left_lsn && g->commit_lsn > t->left_lsn);
}

/* --- transactions --- */

void postgres_group_cut_at(struct postgres_group *g, uint64_t lsn)
{
	g->cuts = duct_grow(g->cuts, &g->cuts_cap, g->ncuts + 1, sizeof *g->cuts);
	g->cuts[g->ncuts++] = lsn;
}

void postgres_group_begin(struct postgres_group *g, uint32_t xid, uint64_t commit_lsn, uint64_t stored_lsn)
{
	g->open = true;
	g->skip = commit_lsn < stored_lsn; /* positions lie between records: it ends at or before stored_lsn */
	g->partial = false;
	g->commit_lsn = commit_lsn;
	g->xid = xid;
	g->first_seq = g->seq;
	if (g->cut_before == commit_lsn) {
		g->cut = g->ncommits > 0;
		g->cut_before = 0;
	}
	for (size_t i = 0; i < g->ncuts && g->ncommits; i++)
		g->cut |= g->commits[0].end_lsn <= g->cuts[i] && g->cuts[i] <= commit_lsn;
}

static struct duct_batch *add_batch(struct postgres_group *g, struct duct_relation *rel)
{
	struct duct_batch *b = duct_batch_new(rel, 0);
	g->batches = duct_grow(g->batches, &g->batches_cap, g->nbatches + 1, sizeof *g->batches);
	g->batches[g->nbatches++] = b;
	g->bytes += b->arena.bytes;
	return b;
}

/* The batch for the table's next row; NULL when the row is not wanted. */
static struct duct_batch *batch_for(struct postgres_group *g, struct postgres_table *t)
{
	if (t->ignored)
		return NULL;
	if (t->left_lsn && g->commit_lsn > t->left_lsn) { /* it has come back */
		t->known = t->asked = false;
		t->left_lsn = 0;
	}
	if (!t->known) {
		g->unknown_seen |= !t->asked;
		return NULL;
	}
	if (g->commit_lsn < t->fence)
		return NULL;
	if (!t->open)
		t->open = add_batch(g, t->relation->rel);
	return t->open;
}

static void row_added(struct postgres_group *g, const struct duct_batch *b, size_t bytes_before)
{
	g->seq++;
	g->rows++;
	g->bytes += b->arena.bytes - bytes_before;
	if (!g->first_us)
		g->first_us = duct_mono_us();
}

static bool not_described(const struct postgres_group *g, const struct postgres_table *t)
{
	return !t->ignored && !t->relation && (!t->raw || postgres_group_wants(g, t));
}

static int truncate_one(struct postgres_group *g, uint32_t oid, struct duct_error *err)
{
	struct postgres_table *t = postgres_group_table(g, oid, false);
	if (!t || not_described(g, t))
		return duct_fail(err, DUCT_FATAL, "the stream truncates relation %u which it has not described", oid);
	struct duct_batch *b = batch_for(g, t);
	if (!b)
		return 0;
	size_t before = b->arena.bytes;
	pg_append_truncate(b, g->seq + 1);
	row_added(g, b, before);
	return 0;
}

static void tell_dead_letter(struct postgres_group *g, const struct postgres_table *t, const struct pgout_message *m,
			     const struct duct_error *why)
{
	const struct postgres_dead_letter letter = {
		.relation = t->relation,
		.op = m->kind,
		.values = m->change.new.values,
		.old = m->change.old_kind == 'O' ? m->change.old.values : NULL,
		.error = why->message,
		.lsn = g->commit_lsn,
		.commit_us = g->commit_us,
	};
	if (!g->dead_open)
		g->dead_open = add_batch(g, g->dead_letter);
	size_t before = g->dead_open->arena.bytes;
	postgres_dead_letter_append(g->dead_open, &letter, g->seq + 1);
	row_added(g, g->dead_open, before);
}

/*
 * A value of the change cannot be stored. What was there before the change goes, when it could be stored, and so was; the
 * new row comes, when only the old one could not be stored, else it is told as a dead letter.
 */
static int set_aside(struct postgres_group *g, struct postgres_table *t, struct duct_batch *b, const struct pgout_message *m,
		     struct duct_error *err)
{
	struct duct_error why = *err;
	size_t before = b->arena.bytes;
	if (m->kind != 'I') {
		int r = pg_append_delete_old(b, t->relation, m, g->seq + 1, &g->scratch, err);
		if (r && r != -DUCT_DATA)
			return r;
		if (!r)
			row_added(g, b, before);
	}
	if (m->kind == 'D')
		return 0;
	before = b->arena.bytes;
	int r = m->kind == 'U' ? pg_append_insert_new(b, t->relation, m, g->seq + 1, &g->scratch, err) : -DUCT_DATA;
	if (!r)
		row_added(g, b, before);
	else if (r == -DUCT_DATA)
		tell_dead_letter(g, t, m, &why);
	return r == -DUCT_DATA ? 0 : r;
}

/* No batch stays without rows: something would seem to be there. */
static void drop_empty(struct postgres_group *g, struct postgres_table *t)
{
	if (t->open->rows)
		return;
	for (size_t i = g->nbatches; i-- > 0;) {
		if (g->batches[i] != t->open)
			continue;
		memmove(&g->batches[i], &g->batches[i + 1], (--g->nbatches - i) * sizeof *g->batches);
		break;
	}
	g->bytes -= g->bytes < t->open->arena.bytes ? g->bytes : t->open->arena.bytes;
	duct_batch_unref(t->open);
	t->open = NULL;
}

static int fail_unpublished_key(const struct pg_relation *r, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_CONFIG,
		"table \"%s\".\"%s\": an update or delete came, and its key has the generated column \"%s\", which the server "
		"does not publish, so that its row cannot be found: ALTER TABLE ... REPLICA IDENTITY FULL, or USING INDEX with "
		"a unique index without generated columns, then have it copied again: `ductstream lake copy-again FLOW %s.%s`",
		r->rel->schema, r->rel->name, r->unpublished_key, r->rel->schema, r->rel->name);
}

int postgres_group_change(struct postgres_group *g, const struct pgout_message *m, struct duct_error *err)
{
	if (!g->open)
		return duct_fail(err, DUCT_FATAL, "the stream sends a change (%c) outside a transaction", m->kind);
	if (g->skip)
		return 0;
	if (m->kind == 'T') {
		for (int i = 0; i < m->truncate.noids; i++) {
			int r = truncate_one(g, m->truncate.oids[i], err);
			if (r)
				return r;
		}
		return 0;
	}
	struct postgres_table *t = postgres_group_table(g, m->change.oid, false);
	if (!t || not_described(g, t))
		return duct_fail(err, DUCT_FATAL, "the stream sends a row of relation %u which it has not described",
				 m->change.oid);
	struct duct_batch *b = batch_for(g, t);
	if (!b)
		return 0;
	if (t->relation->unpublished_key && m->kind != 'I')
		return fail_unpublished_key(t->relation, err);
	size_t before = b->arena.bytes;
	int r = pg_append_change(b, t->relation, m, g->seq + 1, &g->scratch, err);
	if (r == -DUCT_DATA && g->dead_letter && !g->ahead) {
		g->bytes += b->arena.bytes - before;
		r = set_aside(g, t, b, m, err);
		drop_empty(g, t);
		if (!r)
			return 0;
	}
	if (r)
		return duct_wrap(err, "table \"%s\".\"%s\", transaction %u", t->relation->rel->schema, t->relation->rel->name,
				 g->xid);
	row_added(g, b, before);
	return 0;
}

void postgres_group_commit(struct postgres_group *g, uint64_t end_lsn, int64_t commit_us)
{
	g->open = false;
	if (end_lsn > g->last.lsn)
		g->last = (struct duct_pos){end_lsn, commit_us};
	if (g->seq == g->first_seq) /* nothing of it was wanted */
		return;
	g->commits = duct_grow(g->commits, &g->commits_cap, g->ncommits + 1, sizeof *g->commits);
	g->commits[g->ncommits++] = (struct duct_commit){end_lsn, commit_us, g->xid, g->seq};
	g->tail |= g->partial;
	g->partial = false;
}

static void close_batches(struct postgres_group *g)
{
	for (size_t i = 0; i < g->nslots; i++)
		if (g->slots[i])
			g->slots[i]->open = NULL;
}

/* The tables of few batches are found by oid; a walk over all tables for each hand-over would cost with 10,000. */
static void forget_open(struct postgres_group *g)
{
	g->dead_open = NULL;
	if (g->nbatches * 8 > g->nslots) {
		close_batches(g);
		return;
	}
	for (size_t i = 0; i < g->nbatches; i++) {
		struct postgres_table *t = postgres_group_table(g, g->batches[i]->relation->oid, false);
		if (t)
			t->open = NULL;
	}
}

struct duct_changes *postgres_group_take(struct postgres_group *g)
{
	if (!g->nbatches && !g->ncommits)
		return NULL;
	struct duct_changes *c = duct_changes_new();
	forget_open(g);
	for (size_t i = 0; i < g->nbatches; i++) {
		duct_batch_seal(g->batches[i]);
		duct_changes_add(c, g->batches[i]);
	}
	for (size_t i = 0; i < g->ncommits; i++)
		duct_changes_add_commit(c, &g->commits[i]);
	c->upto = g->last;
	uint64_t done = g->ncommits ? g->commits[g->ncommits - 1].last_seq : 0;
	g->partial = g->open && (g->partial || (g->seq > g->first_seq && g->seq > done));
	c->ends_commit = !g->partial;
	c->ahead = g->partial && g->ahead;
	if (g->partial) {
		c->open_xid = g->xid;
		c->open_lsn = g->commit_lsn;
		c->open_commit_us = g->commit_us;
	}
	g->nbatches = g->ncommits = 0;
	g->rows = g->bytes = 0;
	g->first_us = 0;
	g->cut = g->tail = false;
	return c;
}

void postgres_group_reset(struct postgres_group *g)
{
	forget_open(g);
	for (size_t i = 0; i < g->nbatches; i++)
		duct_batch_unref(g->batches[i]);
	g->nbatches = g->ncommits = 0;
	g->rows = g->bytes = 0;
	g->first_us = 0;
	g->open = g->skip = g->ahead = g->partial = g->cut = g->tail = false;
}

void postgres_group_done(struct postgres_group *g)
{
	postgres_group_reset(g);
	for (size_t i = 0; i < g->nslots; i++) {
		if (!g->slots[i])
			continue;
		pg_relation_free(g->slots[i]->relation);
		free(g->slots[i]->raw);
		free(g->slots[i]);
	}
	free(g->slots);
	free(g->batches);
	free(g->commits);
	free(g->cuts);
	duct_buf_done(&g->scratch);
	duct_relation_unref(g->dead_letter);
	*g = (struct postgres_group){0};
}
