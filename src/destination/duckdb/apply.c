/*
 * What is folded of a table goes into it: rows that died or changed are deleted by their keys, then the new ones are inserted. A value that
 * the source did not send is taken from an earlier row of the group, from the old row, or from the stored row before that goes. See duckdb.h.
 */
#include "destination/duckdb/slots.h"

#include "base/killpoint.h"

#include <inttypes.h>
#include <string.h>

static const char lacking_table[] = "temp.ductstream_lacking";

static const struct duct_vector *vector_of(const struct dd_slot *s, int column)
{
	return s->old ? &s->batch->old[column] : &s->batch->columns[column];
}

static struct duct_cell key_cell(const struct dd_slot *s, int column)
{
	return duct_vector_cell(vector_of(s, column), s->row);
}

/* The value of a pending row. *ret_base: slot whose stored row has it, UINT32_MAX: none is needed. */
static struct duct_cell value_of(const struct dd_table *t, uint32_t slot, int column, uint32_t *ret_base)
{
	const struct fold_slot *s = &t->fold->slots[slot];
	const struct duct_batch *batch = s->batch;
	uint32_t row = s->row;
	*ret_base = UINT32_MAX;
	for (int32_t behind = s->behind; !duct_vector_is_sent(&batch->columns[column], row);) {
		if (behind < 0)
			break;
		const struct fold_version *v = &t->fold->versions[behind];
		if (!v->batch) {
			const struct dd_slot *base = &t->slots[v->slot];
			if (base->old && duct_vector_is_sent(&base->batch->old[column], base->row))
				return duct_vector_cell(&base->batch->old[column], base->row);
			*ret_base = v->slot;
			return (struct duct_cell){NULL, 0};
		}
		batch = v->batch;
		row = v->row;
		behind = v->behind;
	}
	return duct_vector_cell(&batch->columns[column], row);
}

static uint32_t base_of(const struct slots *s, uint32_t slot)
{
	uint32_t base = UINT32_MAX;
	for (int i = 0; i < s->nstored && base == UINT32_MAX; i++)
		(void)value_of(s->t, slot, s->t->map[s->stored[i]], &base);
	return base == UINT32_MAX ? slot : base;
}

static struct duct_cell slot_cell(const void *arg, size_t row, int column)
{
	static const char flags[] = {0, 1};
	const struct slots *s = arg;
	uint32_t slot = s->at[row], base;
	if (column < s->ncolumns) {
		int from = s->t->map[column];
		return from < 0 ? (struct duct_cell){NULL, 0} : value_of(s->t, slot, from, &base);
	}
	column -= s->ncolumns;
	if (column < s->nstored) {
		(void)value_of(s->t, slot, s->t->map[s->stored[column]], &base);
		return (struct duct_cell){&flags[base != UINT32_MAX], 1};
	}
	column -= s->nstored;
	return key_cell(&s->t->slots[s->stored_keys ? base_of(s, slot) : slot], s->keys[column]);
}

/* Names of columns in a feed. */
static const char *feed_name(struct duct_arena *arena, char letter, int number)
{
	AUTO_FREE char *name = duct_xasprintf("%c%d", letter, number);
	return duct_arena_strdup(arena, name);
}

static void slots_rows(struct slots *s, struct duct_arena *arena, struct dd_rows *rows)
{
	static const struct duct_type flag = {.kind = DUCT_BOOL};
	int at = 0;
	dd_rows_init(rows, s->ncolumns + s->nstored + s->nkeys);
	for (int i = 0; i < s->ncolumns; i++, at++) {
		rows->names[at] = feed_name(arena, 'c', i);
		rows->types[at] = s->t->map[i] < 0 ? &s->t->columns[i].type : &s->t->rel->columns[s->t->map[i]].type;
	}
	for (int i = 0; i < s->nstored; i++, at++) {
		rows->names[at] = feed_name(arena, 'u', s->stored[i]);
		rows->types[at] = &flag;
	}
	for (int i = 0; i < s->nkeys; i++, at++) {
		rows->names[at] = feed_name(arena, 'k', i);
		rows->types[at] = &s->t->rel->columns[s->keys[i]].type;
	}
	rows->n = s->n;
	rows->cell = slot_cell;
	rows->arg = s;
}

int slots_run(struct duckdb_dest *d, struct slots *s, const char *before, const char *after, uint64_t *ret_changed,
	      struct duct_error *err)
{
	struct duct_arena arena = {0};
	struct dd_rows rows;
	duct_arena_init(&arena);
	slots_rows(s, &arena, &rows);
	int rc = dd_rows_run(d, &rows, before, after, ret_changed, err);
	dd_rows_done(&rows);
	duct_arena_done(&arena);
	return rc ? duct_wrap(err, "table \"%s\".\"%s\"", s->t->schema, s->t->name) : 0;
}

static void put_feed(struct duct_buf *to, char letter, int number, const struct duct_type *type)
{
	AUTO_FREE char *name = duct_xasprintf("%c%d", letter, number);
	dd_rows_column(to, name, type);
}

void slots_put_value(struct duct_buf *to, const struct slots *s, int column)
{
	put_feed(to, 'c', column, &s->t->columns[column].type);
}

void slots_put_key(struct duct_buf *to, const struct slots *s, int nth)
{
	put_feed(to, 'k', nth, &s->t->rel->columns[s->keys[nth]].type);
}

static void put_key_match(struct duct_buf *to, const struct slots *s, const char *equals)
{
	for (int i = 0; i < s->nkeys; i++) {
		duct_buf_puts(to, i ? " AND t." : "t.");
		duct_buf_sql_ident(to, s->t->rel->columns[s->keys[i]].name);
		duct_buf_puts(to, equals);
		slots_put_key(to, s, i);
	}
}

/* `INSERT INTO TO (columns) SELECT values FROM `; a stored value, where one counts, is the column of t. */
static void put_insert(struct duct_buf *sql, const char *to, const struct slots *s)
{
	duct_buf_printf(sql, "INSERT INTO %s (", to);
	for (size_t i = 0; i < s->t->ncolumns; i++) {
		duct_buf_puts(sql, i ? ", " : "");
		duct_buf_sql_ident(sql, s->t->columns[i].name);
	}
	duct_buf_puts(sql, ") SELECT ");
	for (int i = 0; i < (int)s->t->ncolumns; i++) {
		bool stored = false;
		for (int k = 0; k < s->nstored; k++)
			stored |= s->stored[k] == i;
		duct_buf_puts(sql, i ? ", " : "");
		if (stored) {
			duct_buf_printf(sql, "CASE WHEN f.u%d THEN t.", i);
			duct_buf_sql_ident(sql, s->t->columns[i].name);
			duct_buf_puts(sql, " ELSE ");
		}
		slots_put_value(sql, s, i);
		duct_buf_puts(sql, stored ? " END" : "");
	}
	duct_buf_puts(sql, " FROM ");
}

/* --- keys --- */

static int *key_columns(const struct dd_table *t, int *ret_n)
{
	int n = t->mode == DD_KEYED ? t->rel->nkeys : t->rel->ncolumns;
	int *keys = duct_xmalloc(((size_t)n + 1) * sizeof *keys);
	for (int i = 0; i < n; i++)
		keys[i] = t->mode == DD_KEYED ? t->rel->keys[i] : i;
	*ret_n = n;
	return keys;
}

int slots_lack(const struct dd_table *t, int column, struct duct_error *err)
{
	return duct_fail(
		err, DUCT_DATA,
		"column \"%s\" of \"%s\".\"%s\": the source did not send an unchanged value that the database does not have",
		t->columns[column].name, t->schema, t->name);
}

/* Rows of slots that wait for stored values, completed aside while the stored rows are still there. */
static int complete(struct duckdb_dest *d, struct slots *lacking, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, match = {0};
	uint64_t found;
	duct_buf_printf(&sql, "CREATE TEMP TABLE ductstream_lacking AS FROM ");
	dd_name(&sql, lacking->t->schema, lacking->t->name);
	duct_buf_puts(&sql, " LIMIT 0");
	int rc = duck_exec(d->conn, sql.data, err);
	if (rc)
		return rc;
	sql.len = 0;
	put_insert(&sql, lacking_table, lacking);
	duct_buf_puts(&match, " AS f JOIN ");
	dd_name(&match, lacking->t->schema, lacking->t->name);
	duct_buf_puts(&match, " AS t ON ");
	put_key_match(&match, lacking, " = ");
	rc = slots_run(d, lacking, sql.data, match.data, &found, err);
	if (rc || found == lacking->n)
		return rc;
	return slots_lack(lacking->t, lacking->stored[0], err);
}

static int insert_completed(struct duckdb_dest *d, const struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_puts(&sql, "INSERT INTO ");
	dd_name(&sql, t->schema, t->name);
	duct_buf_printf(&sql, " FROM %s; DROP TABLE %s", lacking_table, lacking_table);
	return duck_exec(d->conn, sql.data, err);
}

static int drifted(const struct duckdb_dest *d, const struct dd_table *t, size_t bases, uint64_t deleted, struct duct_error *err)
{
	(void)d;
	return duct_fail(
		err, DUCT_FATAL,
		"database and source differ at \"%s\".\"%s\": of %zu rows that were updated or deleted, or whose key was inserted, %" PRIu64
		" were there; set option on_drift to repair to take the source's rows",
		t->schema, t->name, bases, deleted);
}

static int delete_keyed(struct duckdb_dest *d, struct slots *all, uint64_t *ret_deleted, struct duct_error *err)
{
	AUTO_BUF struct duct_buf before = {0}, after = {0};
	duct_buf_puts(&before, "DELETE FROM ");
	dd_name(&before, all->t->schema, all->t->name);
	duct_buf_puts(&before, " AS t USING ");
	duct_buf_puts(&after, " AS f WHERE ");
	put_key_match(&after, all, " = ");
	return slots_run(d, all, before.data, after.data, ret_deleted, err);
}

/* Of equal rows as many go as there are slots of them. */
static int delete_bag(struct duckdb_dest *d, struct slots *dead, uint64_t *ret_deleted, struct duct_error *err)
{
	AUTO_BUF struct duct_buf before = {0}, after = {0};
	duct_buf_puts(&before, "DELETE FROM ");
	dd_name(&before, dead->t->schema, dead->t->name);
	duct_buf_puts(
		&before,
		" WHERE rowid IN (SELECT place FROM (SELECT t.rowid AS place, f.wanted, row_number() OVER (PARTITION BY f.id) AS n FROM ");
	dd_name(&before, dead->t->schema, dead->t->name);
	duct_buf_puts(&before, " AS t JOIN (SELECT *, count(*) AS wanted, row_number() OVER () AS id FROM ");
	duct_buf_puts(&after, " GROUP BY ALL) AS f ON ");
	put_key_match(&after, dead, " IS NOT DISTINCT FROM ");
	duct_buf_puts(&after, ") WHERE n <= wanted)");
	return slots_run(d, dead, before.data, after.data, ret_deleted, err);
}

/* --- one table --- */

static bool lacks(const struct dd_table *t, uint32_t slot, bool *stored)
{
	bool any = false;
	for (size_t c = 0; c < t->ncolumns && t->fold->slots[slot].behind >= 0; c++) {
		uint32_t base = UINT32_MAX;
		if (t->map[c] >= 0)
			(void)value_of(t, slot, t->map[c], &base);
		stored[c] |= base != UINT32_MAX;
		any |= base != UINT32_MAX;
	}
	return any;
}

static void make_plan(struct slots_plan *p, struct dd_table *t, const int *keys, int nkeys)
{
	size_t n = t->fold->nslots;
	AUTO_FREE bool *stored = duct_xcalloc(t->ncolumns + 1, sizeof *stored);
	struct slots *all[] = {&p->dead, &p->new, &p->lacking};
	for (size_t i = 0; i < DUCT_LEN(all); i++)
		*all[i] = (struct slots){.t = t, .at = duct_xmalloc((n + 1) * sizeof *all[i]->at), .keys = keys};
	for (uint32_t i = 0; i < n; i++) {
		const struct fold_slot *s = &t->fold->slots[i];
		p->bases += s->base_present;
		/* Under the key of an inserted row there may be one that it takes the place of, also when it went again. */
		if (s->base_present || t->mode == DD_KEYED)
			p->dead.at[p->dead.n++] = i;
		if (!s->batch)
			continue;
		if (lacks(t, i, stored))
			p->lacking.at[p->lacking.n++] = i;
		else
			p->new.at[p->new.n++] = i;
	}
	p->dead.nkeys = nkeys;
	p->new.ncolumns = p->lacking.ncolumns = (int)t->ncolumns;
	p->lacking.nkeys = nkeys;
	p->lacking.stored_keys = true;
	p->stored = duct_xmalloc((t->ncolumns + 1) * sizeof *p->stored);
	for (size_t c = 0; c < t->ncolumns; c++)
		if (stored[c])
			p->stored[p->lacking.nstored++] = (int)c;
	p->lacking.stored = p->stored;
}

static int insert_new(struct duckdb_dest *d, struct slots *new, struct duct_error *err)
{
	AUTO_BUF struct duct_buf into = {0}, sql = {0};
	uint64_t ignored;
	dd_name(&into, new->t->schema, new->t->name);
	put_insert(&sql, into.data, new);
	return slots_run(d, new, sql.data, " AS f", &ignored, err);
}

static int apply_plan(struct duckdb_dest *d, struct dd_table *t, struct slots_plan *p, struct duct_error *err)
{
	bool repair = d->replay || t->incomplete || t->rel->may_lack || t->rel->upsert || d->config->on_drift == DD_DRIFT_REPAIR;
	uint64_t deleted = 0;
	int rc = p->lacking.n ? complete(d, &p->lacking, err) : 0;
	if (rc == 0 && p->dead.n)
		rc = t->mode == DD_KEYED ? delete_keyed(d, &p->dead, &deleted, err) : delete_bag(d, &p->dead, &deleted, err);
	t->modified |= deleted > 0;
	duct_kill_point("duckdb-statement");
	if (rc == 0 && deleted != p->bases && !repair)
		rc = drifted(d, t, p->bases, deleted, err);
	if (rc == 0 && p->new.n)
		rc = insert_new(d, &p->new, err);
	if (rc == 0 && p->lacking.n)
		rc = insert_completed(d, t, err);
	return rc;
}

static int apply_slots(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	struct slots_plan p = {0};
	int nkeys;
	AUTO_FREE int *keys = key_columns(t, &nkeys);
	make_plan(&p, t, keys, nkeys);
	int rc = d->replay && t->mode == DD_KEYED ? twin_apply(d, t, &p, err) : apply_plan(d, t, &p, err);
	if (rc == 0 && t->mode == DD_KEYED)
		rc = dd_meta_apply(d, t, err);
	free(p.dead.at);
	free(p.new.at);
	free(p.lacking.at);
	free(p.stored);
	return rc;
}

/* --- rows that are only added --- */

struct adding {
	const struct dd_table *t;
	const struct fold_append *rows; /* NULL: all of batch */
	const struct duct_batch *batch;
};

static struct duct_cell added_cell(const void *arg, size_t row, int column)
{
	const struct adding *a = arg;
	const struct duct_batch *batch = a->rows ? a->rows[row].batch : a->batch;
	int from = a->t->map[column];
	return from < 0 ? (struct duct_cell){NULL, 0}
			: duct_vector_cell(&batch->columns[from], a->rows ? a->rows[row].row : (uint32_t)row);
}

static int add_rows(struct duckdb_dest *d, const struct adding *a, size_t n, const char *into, struct duct_error *err)
{
	struct slots columns = {.t = (struct dd_table *)a->t, .ncolumns = (int)a->t->ncolumns};
	struct duct_arena arena = {0};
	struct dd_rows rows;
	AUTO_BUF struct duct_buf sql = {0};
	uint64_t ignored;
	duct_arena_init(&arena);
	slots_rows(&columns, &arena, &rows);
	rows.n = n;
	rows.cell = added_cell;
	rows.arg = a;
	put_insert(&sql, into, &columns);
	int rc = dd_rows_run(d, &rows, sql.data, " AS f", &ignored, err);
	dd_rows_done(&rows);
	duct_arena_done(&arena);
	return rc ? duct_wrap(err, "table \"%s\".\"%s\"", a->t->schema, a->t->name) : 0;
}

int dd_insert_batch(struct duckdb_dest *d, const struct dd_table *t, const char *into, const struct duct_batch *batch,
		    struct duct_error *err)
{
	struct adding a = {.t = t, .batch = batch};
	return batch->rows ? add_rows(d, &a, batch->rows, into, err) : 0;
}

int dd_apply(struct duckdb_dest *d, struct dd_table *t, struct duct_error *err)
{
	AUTO_BUF struct duct_buf into = {0};
	struct adding a = {.t = t, .rows = t->fold->appends};
	dd_name(&into, t->schema, t->name);
	int rc = t->fold->nslots ? apply_slots(d, t, err) : 0;
	if (rc == 0 && t->fold->nappends)
		rc = add_rows(d, &a, t->fold->nappends, into.data, err);
	fold_reset(t->fold);
	t->folded = false;
	return rc;
}
