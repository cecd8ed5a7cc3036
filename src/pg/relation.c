/* Relations from the catalog and from R messages: see relation.h. */
#include "pg/relation.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pg/internal.h"
#include "pg/sql.h"
#include "record/format.h"

static void put_oids(struct duct_buf *to, const uint32_t *oids, size_t n)
{
	duct_buf_putc(to, '{');
	for (size_t i = 0; i < n; i++)
		duct_buf_printf(to, "%s%u", i ? "," : "", oids[i]);
	duct_buf_putc(to, '}');
}

const char *pg_array_item(const char *at, struct duct_buf *to)
{
	bool quoted = *at == '"';
	to->len = 0;
	(void)duct_buf_room(to, 0);
	to->data[0] = 0;
	for (at += quoted; *at && (quoted ? *at != '"' : *at != ',' && *at != '}'); at++) {
		if (*at == '\\' && at[1])
			at++;
		duct_buf_putc(to, *at);
	}
	at += quoted && *at;
	return *at ? at : NULL;
}

/* attnums of an index, "2 1"; columns behind the first n are only included. Marks the columns of the table. */
static void mark_index(struct pg_table *t, const char *numbers, int n, bool primary)
{
	for (int i = 0; numbers && i < n; i++) {
		char *end;
		long attnum = strtol(numbers, &end, 10);
		for (int c = 0; c < t->ncolumns; c++) {
			if (t->columns[c].attnum != attnum)
				continue;
			if (primary)
				t->columns[c].primary = true;
			else
				t->columns[c].identity = true;
		}
		numbers = end;
	}
}

static void read_column(struct duct_arena *arena, const PGresult *res, int row, struct pg_table_column *c)
{
	const char *missing = pg_get(res, row, 8);
	*c = (struct pg_table_column){
		.attnum = (int16_t)pg_get_i64(res, row, 1),
		.name = duct_arena_strdup(arena, pg_get(res, row, 2)),
		.typid = pg_get_oid(res, row, 3),
		.typmod = (int32_t)pg_get_i64(res, row, 4),
		.ndims = (int)pg_get_i64(res, row, 5),
		.not_null = pg_get_bool(res, row, 6),
		.type_name = duct_arena_strdup(arena, pg_get(res, row, 7)),
		.computed = pg_get_bool(res, row, 9),
		.generated = pg_get_bool(res, row, 10),
	};
	if (missing && *missing == '{') {
		/* An array of one item. A bare one may hold commas: those of a box, whose arrays are delimited by ';'. */
		AUTO_BUF struct duct_buf item = {0};
		if (missing[1] != '"')
			duct_buf_append(&item, missing + 1, strlen(missing) - 2);
		if (missing[1] != '"' || pg_array_item(missing + 1, &item))
			c->missing = duct_arena_strdup(arena, item.data);
	}
}

/* "2 5 7", NULL when there are none. */
static void read_dropped(struct duct_arena *arena, struct pg_table *t, const char *list)
{
	if (!list)
		return;
	t->dropped = duct_arena_zalloc(arena, (strlen(list) / 2 + 1) * sizeof *t->dropped);
	for (char *end; *list; list = *end ? end + 1 : end)
		t->dropped[t->ndropped++] = (int16_t)strtol(list, &end, 10);
}

static void read_tables(struct pg_tables *ts, const PGresult *tables, const PGresult *columns)
{
	int at = 0, ncolumns = PQntuples(columns);
	ts->ntables = (size_t)PQntuples(tables);
	ts->tables = duct_arena_zalloc(&ts->arena, ts->ntables * sizeof *ts->tables);
	for (int i = 0; i < PQntuples(tables); i++) {
		struct pg_table *t = &ts->tables[i];
		t->oid = pg_get_oid(tables, i, 0);
		t->schema = duct_arena_strdup(&ts->arena, pg_get(tables, i, 1));
		t->name = duct_arena_strdup(&ts->arena, pg_get(tables, i, 2));
		t->kind = *pg_get(tables, i, 3);
		t->identity = *pg_get(tables, i, 4);
		t->deferrable_primary = pg_get(tables, i, 5) && !pg_get_bool(tables, i, 5);
		while (at < ncolumns && pg_get_oid(columns, at, 0) < t->oid)
			at++;
		int first = at;
		while (at < ncolumns && pg_get_oid(columns, at, 0) == t->oid)
			at++;
		t->ncolumns = at - first;
		t->columns = duct_arena_zalloc(&ts->arena, (size_t)t->ncolumns * sizeof *t->columns);
		for (int c = 0; c < t->ncolumns; c++)
			read_column(&ts->arena, columns, first + c, &t->columns[c]);
		if (!t->deferrable_primary)
			mark_index(t, pg_get(tables, i, 6), (int)pg_get_i64(tables, i, 7), true);
		mark_index(t, pg_get(tables, i, 8), (int)pg_get_i64(tables, i, 9), false);
		read_dropped(&ts->arena, t, pg_get(tables, i, 10));
	}
}

int pg_tables_load(struct pg_tables **ret, struct pg_session *session, const uint32_t *oids, size_t noids, struct duct_error *err)
{
	AUTO_BUF struct duct_buf list = {0};
	AUTO_PGRESULT PGresult *tables = NULL;
	AUTO_PGRESULT PGresult *columns = NULL;
	put_oids(&list, oids, noids);
	const char *const params[] = {list.data};
	int rc = pg_query(session, PG_SQL_TABLES, 1, params, &tables, err);
	if (rc == 0)
		rc = pg_query(session, PG_SQL_COLUMNS, 1, params, &columns, err);
	if (rc < 0)
		return duct_wrap(err, "read tables");
	struct pg_tables *ts = duct_xcalloc(1, sizeof *ts);
	duct_arena_init(&ts->arena);
	read_tables(ts, tables, columns);
	*ret = ts;
	return 0;
}

void pg_tables_free(struct pg_tables *ts)
{
	if (!ts)
		return;
	duct_arena_done(&ts->arena);
	free(ts);
}

static int compare_table(const void *key, const void *table)
{
	uint32_t oid = *(const uint32_t *)key, other = ((const struct pg_table *)table)->oid;
	return oid < other ? -1 : oid > other;
}

const struct pg_table *pg_tables_find(const struct pg_tables *ts, uint32_t oid)
{
	return ts->ntables ? bsearch(&oid, ts->tables, ts->ntables, sizeof *ts->tables, compare_table) : NULL;
}

static int compare_oid(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

uint32_t *pg_tables_types(const struct pg_tables *ts, size_t *ret_n)
{
	size_t n = 0, cap = 0, unique = 0;
	uint32_t *oids = NULL;
	for (size_t i = 0; i < ts->ntables; i++) {
		const struct pg_table *t = &ts->tables[i];
		oids = duct_grow(oids, &cap, n + (size_t)t->ncolumns + 1, sizeof *oids);
		for (int c = 0; c < t->ncolumns; c++)
			oids[n++] = t->columns[c].typid;
	}
	if (n)
		qsort(oids, n, sizeof *oids, compare_oid);
	for (size_t i = 0; i < n; i++)
		if (!unique || oids[unique - 1] != oids[i])
			oids[unique++] = oids[i];
	*ret_n = unique;
	return oids;
}

static struct pg_relation *new_relation(uint32_t oid, const char *schema, const char *name, int ncolumns, uint64_t version)
{
	struct pg_relation *r = duct_xcalloc(1, sizeof *r);
	struct duct_relation *rel = r->rel = duct_relation_new();
	rel->oid = oid;
	rel->version = version;
	rel->schema = duct_arena_strdup(&rel->arena, schema);
	rel->name = duct_arena_strdup(&rel->arena, name);
	rel->ncolumns = ncolumns;
	rel->columns = duct_arena_zalloc(&rel->arena, (size_t)ncolumns * sizeof *rel->columns);
	rel->keys = duct_arena_zalloc(&rel->arena, (size_t)ncolumns * sizeof *rel->keys);
	r->mappings = duct_arena_zalloc(&rel->arena, (size_t)ncolumns * sizeof *r->mappings);
	return r;
}

void pg_relation_free(struct pg_relation *r)
{
	if (!r)
		return;
	duct_relation_unref(r->rel);
	free(r);
}

/* Type and mapping of a column whose name is set. */
static void set_mapping(struct pg_relation *r, int at, const struct pg_catalog *catalog, uint32_t typid, int32_t typmod, int ndims)
{
	struct duct_relation *rel = r->rel;
	const char *reason;
	r->mappings[at] = pg_mapping_build(catalog, typid, typmod, ndims, &rel->arena);
	rel->columns[at].type = r->mappings[at].type;
	rel->columns[at].source_type = r->mappings[at].type_name;
	if (pg_mapping_needs_text(&r->mappings[at], &reason) && !r->stream_text) {
		AUTO_BUF struct duct_buf text = {0};
		duct_buf_printf(&text, "column \"%s\" of \"%s.%s\" has type %s: %s", rel->columns[at].name, rel->schema, rel->name,
				r->mappings[at].type_name, reason);
		r->stream_text = true;
		r->stream_text_reason = duct_arena_strdup(&rel->arena, text.data);
	}
}

/* A missing value as DuckDB text in the arena; NULL when the text is no value of the type. */
static const char *missing_value(struct duct_relation *rel, const struct pg_mapping *m, const char *missing, struct duct_error *err)
{
	AUTO_BUF struct duct_buf value = {0};
	AUTO_BUF struct duct_buf text = {0};
	if (pg_decode(m, 't', missing, strlen(missing), &value, err) < 0)
		return NULL;
	duct_format_value(&text, &m->type, (struct duct_cell){value.data ? value.data : "", (uint32_t)value.len});
	return duct_arena_strdup(&rel->arena, text.data ? text.data : "");
}

/* After the columns have their names: a generated column that is not published is none to whoever reads the records. */
static void set_numbers(struct duct_relation *rel, const struct pg_table *t, const struct pg_catalog *catalog)
{
	int n = 0;
	struct duct_live_column *live = duct_arena_zalloc(&rel->arena, ((size_t)t->ncolumns + 1) * sizeof *live);
	int16_t *dropped = duct_arena_zalloc(&rel->arena, ((size_t)t->ndropped + 1) * sizeof *dropped);
	for (int i = 0; i < t->ncolumns; i++) {
		const struct pg_table_column *c = &t->columns[i];
		if (c->generated && duct_relation_column(rel, c->name) < 0)
			continue;
		struct duct_live_column *l = &live[n++];
		l->attnum = c->attnum;
		l->computed = c->computed;
		struct duct_error ignored; /* its own column reports it, if it comes to that */
		struct pg_mapping m = pg_mapping_build(catalog, c->typid, c->typmod, c->ndims, &rel->arena);
		l->missing_value = c->missing ? missing_value(rel, &m, c->missing, &ignored) : NULL;
		l->type = duct_arena_dup(&rel->arena, &m.type, sizeof m.type);
	}
	for (int i = 0; i < t->ndropped; i++)
		dropped[i] = t->dropped[i];
	rel->live = live;
	rel->nlive = n;
	rel->dropped = dropped;
	rel->ndropped = t->ndropped;
}

/* What the catalog adds to a column of the same type. */
static int set_facts(struct pg_relation *r, int at, const struct pg_table_column *facts, struct duct_error *err)
{
	struct duct_relation *rel = r->rel;
	struct duct_column *c = &rel->columns[at];
	c->attnum = facts->attnum;
	c->not_null = facts->not_null;
	c->source_type = duct_arena_strdup(&rel->arena, facts->type_name);
	if (!facts->missing)
		return 0;
	c->missing_value = missing_value(rel, &r->mappings[at], facts->missing, err);
	if (!c->missing_value)
		return duct_wrap(err, "default of older rows in column \"%s\" of \"%s.%s\"", c->name, rel->schema, rel->name);
	return 0;
}

static void set_keys(struct duct_relation *rel, enum duct_identity identity)
{
	rel->identity = identity;
	for (int i = 0; i < rel->ncolumns; i++)
		if (rel->columns[i].key)
			rel->keys[rel->nkeys++] = i;
}

static bool listed(const struct pg_table_column *c, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], c->name) == 0)
			return true;
	return !names && !c->generated;
}

static bool in_key(const struct pg_table_column *c, char identity)
{
	return identity == 'i' ? c->identity : identity != 'n' && c->primary;
}

/* A generated column of the key that the server does not publish: what is left of the key does not tell rows apart. */
static const char *unpublished_key(const struct duct_relation *rel, const struct pg_table *t, char identity)
{
	for (int i = 0; t && identity != 'f' && i < t->ncolumns; i++)
		if (t->columns[i].generated && in_key(&t->columns[i], identity) &&
		    duct_relation_column(rel, t->columns[i].name) < 0)
			return t->columns[i].name;
	return NULL;
}

static void forget_key(struct pg_relation *r, const char *column)
{
	r->unpublished_key = column ? duct_arena_strdup(&r->rel->arena, column) : NULL;
	for (int i = 0; column && i < r->rel->ncolumns; i++)
		r->rel->columns[i].key = false;
}

int pg_relation_from_table(struct pg_relation **ret, const struct pg_table *t, const struct pg_catalog *catalog,
			   const char *const *names, size_t nnames, uint64_t version, struct duct_error *err)
{
	int n = 0, at = 0, keys = 0;
	bool whole_key = true;
	for (int i = 0; i < t->ncolumns; i++) {
		bool key = in_key(&t->columns[i], t->identity);
		n += listed(&t->columns[i], names, nnames);
		keys += key;
		whole_key &= !key || listed(&t->columns[i], names, nnames);
	}
	whole_key &= keys > 0;
	struct pg_relation *r = new_relation(t->oid, t->schema, t->name, n, version);
	for (int i = 0; i < t->ncolumns; i++) {
		const struct pg_table_column *c = &t->columns[i];
		if (!listed(c, names, nnames))
			continue;
		r->rel->columns[at].name = duct_arena_strdup(&r->rel->arena, c->name);
		r->rel->columns[at].key = whole_key && in_key(c, t->identity);
		set_mapping(r, at, catalog, c->typid, c->typmod, c->ndims);
		int rc = set_facts(r, at++, c, err);
		if (rc < 0) {
			pg_relation_free(r);
			return rc;
		}
	}
	set_numbers(r->rel, t, catalog);
	forget_key(r, unpublished_key(r->rel, t, t->identity));
	set_keys(r->rel, t->identity == 'f' ? DUCT_IDENTITY_FULL : whole_key ? DUCT_IDENTITY_KEY : DUCT_IDENTITY_NONE);
	*ret = r;
	return 0;
}

/* numeric and numeric(p,s) are two types to whoever stores them, and no change leads from one to the other in place. */
static bool same_bound(const struct pg_table_column *now, const struct pgout_column *c)
{
	return c->typid != 1700 || (now->typmod < 0) == (c->typmod < 0);
}

/* The column as the catalog has it now, if it can still be the same one. */
static const struct pg_table_column *same_column(const struct pg_table *t, const struct pgout_column *c)
{
	for (int i = 0; t && i < t->ncolumns; i++)
		if (strcmp(t->columns[i].name, c->name) == 0)
			return t->columns[i].typid == c->typid && same_bound(&t->columns[i], c) ? &t->columns[i] : NULL;
	return NULL;
}

/* The catalog is that of now: is the R's key what the server would flag today? */
static bool has_key_of(const struct duct_relation *rel, const struct pg_table *t, char identity)
{
	for (int i = 0; t && i < rel->ncolumns; i++)
		for (int k = 0; k < t->ncolumns; k++)
			if (strcmp(rel->columns[i].name, t->columns[k].name) == 0 &&
			    rel->columns[i].key != in_key(&t->columns[k], identity))
				return false;
	return t && t->identity == identity;
}

/* Under FULL every column of R is flagged, so the primary key is the catalog's, when all of it is published. */
static void key_under_full(struct duct_relation *rel, const struct pg_table *t, const struct pgout_relation *m)
{
	int keys = 0, found = 0;
	for (int i = 0; t && i < t->ncolumns; i++)
		keys += t->columns[i].primary;
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < rel->ncolumns; i++) {
			const struct pg_table_column *c = same_column(t, &m->columns[i]);
			found += pass == 0 && c && c->primary;
			rel->columns[i].key = pass == 1 && keys && found == keys && c && c->primary;
		}
	}
}

int pg_relation_from_message(struct pg_relation **ret, const struct pgout_relation *m, const struct pg_table *t,
			     const struct pg_catalog *catalog, uint64_t version, struct duct_error *err)
{
	struct pg_relation *r = new_relation(m->oid, m->schema, m->name, m->ncolumns, version);
	bool any = false;
	for (int i = 0; i < m->ncolumns; i++) {
		const struct pgout_column *c = &m->columns[i];
		const struct pg_table_column *facts = same_column(t, c);
		r->rel->columns[i].name = duct_arena_strdup(&r->rel->arena, c->name);
		r->rel->columns[i].key = c->key;
		any |= c->key;
		set_mapping(r, i, catalog, c->typid, c->typmod, facts ? facts->ndims : 1);
		if (!facts)
			continue;
		/* Another typmod: the same column, altered since; its missing value is of the new type. */
		struct pg_table_column known = *facts;
		if (facts->typmod != c->typmod) {
			known.missing = NULL;
			known.type_name = r->mappings[i].type_name;
		}
		int rc = set_facts(r, i, &known, err);
		if (rc < 0) {
			pg_relation_free(r);
			return rc;
		}
	}
	if (t)
		set_numbers(r->rel, t, catalog);
	if (m->identity == 'f')
		key_under_full(r->rel, t, m);
	if (has_key_of(r->rel, t, m->identity))
		forget_key(r, unpublished_key(r->rel, t, m->identity));
	any &= !r->unpublished_key;
	set_keys(r->rel, m->identity == 'f' ? DUCT_IDENTITY_FULL : any ? DUCT_IDENTITY_KEY : DUCT_IDENTITY_NONE);
	*ret = r;
	return 0;
}
