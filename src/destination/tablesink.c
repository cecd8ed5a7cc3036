/* Columns and rules that all destinations of tables share: see tablesink.h. */
#include "destination/tablesink.h"

#include "base/clock.h"
#include "destination/destination.h"
#include "destination/typemap.h"
#include "wire/wire.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>

const char *const tablesink_watermarks[] = {"timestamp", "lsn", NULL};
const char *const tablesink_write_modes[] = {"target", "append", NULL};
const char *const tablesink_batch_modes[] = {"target", "staging", NULL};
const char *const tablesink_resolutions[] = {"none", "append", "replace", NULL};

/* Columns of ours, in their order behind those of the source. Their numbers are negative: they are found by name. */
enum { SYNCED_AT, DELETED, WATERMARK, OP, OWN };

struct tablesink {
	const struct tablesink_options *options;
	struct typemap *types; /* NULL: none is mapped */
	pthread_mutex_t lock;  /* of what follows */
	struct pair {
		struct duct_relation *from, *to; /* one reference each */
	} * pairs;
	size_t npairs, pairs_cap;
};

static bool has_columns(const struct tablesink_options *o)
{
	return o->meta_enabled || o->soft_delete || o->append_mode;
}

bool tablesink_appends(const struct tablesink_options *o)
{
	return o->append_mode || o->write_mode == TABLESINK_APPEND;
}

bool tablesink_keeps(const struct tablesink_options *o)
{
	return tablesink_appends(o) || o->soft_delete;
}

int tablesink_apart(const struct tablesink_options *o, unsigned flags, size_t tables, size_t whole, bool *ret,
		    struct duct_error *err)
{
	bool stays = o->batch_mode == TABLESINK_STAGING && !(flags & DUCT_LOAD_EMPTY) &&
		tablesink_resolution(o, flags & DUCT_LOAD_RESOLVE) == TABLESINK_RESOLVE_NONE;
	bool before = *ret, apart = stays && whole && flags & DUCT_LOAD_BACKFILL;
	*ret = apart;
	if (!apart && (!before || !tables))
		return 0;
	if (whole < tables || !(flags & DUCT_LOAD_ALONE))
		return duct_fail(
			err, DUCT_CONFIG,
			"rows of tables that are followed already cannot be staged together with %s: add -resolve-staging, or set "
			"batch_resolution to append or replace",
			whole < tables ? "a first copy of others" : "a copy into other destinations");
	return 0;
}

int tablesink_resolution(const struct tablesink_options *o, bool resolve)
{
	return resolve && o->batch_resolution == TABLESINK_RESOLVE_NONE ? TABLESINK_RESOLVE_APPEND : o->batch_resolution;
}

/* NULL: there is no such column. */
static const char *own_name(const struct tablesink_options *o, int own)
{
	const char *const names[OWN] = {o->meta_synced_at, o->meta_deleted, o->meta_watermark, o->meta_op};
	if (!has_columns(o) || (own == WATERMARK && strcmp(names[own], "-") == 0))
		return NULL;
	return names[own];
}

static struct duct_type own_type(const struct tablesink_options *o, int own)
{
	static const enum duct_kind kinds[OWN] = {DUCT_TIMESTAMPTZ, DUCT_BOOL, DUCT_TIMESTAMPTZ, DUCT_VARCHAR};
	bool number = own == WATERMARK && o->watermark_source == TABLESINK_LSN;
	return (struct duct_type){.kind = number ? DUCT_UINT64 : kinds[own]};
}

static int check_staging(const struct tablesink_options *o, struct duct_error *err)
{
	if (o->batch_mode == TABLESINK_STAGING && !*o->staging_suffix && !o->staging_schema && !o->staging_table)
		return duct_fail(err, DUCT_CONFIG,
				 "options staging_suffix, staging_schema and staging_table all say nothing: staged rows need a "
				 "table of their own");
	if (o->batch_resolution != TABLESINK_RESOLVE_NONE && o->batch_mode != TABLESINK_STAGING)
		return duct_fail(err, DUCT_CONFIG, "option \"batch_resolution\" is for staged rows: set batch_mode to staging");
	return 0;
}

int tablesink_check(const struct tablesink_options *o, struct duct_error *err)
{
	static const char *const options[OWN] = {"meta_synced_at", "meta_deleted", "meta_watermark", "meta_op"};
	if (o->soft_delete && tablesink_appends(o))
		return duct_fail(err, DUCT_CONFIG,
				 "option \"soft_delete\" marks rows that are there, and option \"%s\" only adds rows: set one",
				 o->append_mode ? "append_mode" : "write_mode");
	for (int i = 0; i < OWN; i++) {
		const char *name = own_name(o, i);
		if (name && !*name)
			return duct_fail(err, DUCT_CONFIG, "option \"%s\" is empty: it names a column", options[i]);
		for (int k = 0; k < i && name; k++)
			if (own_name(o, k) && strcasecmp(own_name(o, k), name) == 0)
				return duct_fail(err, DUCT_CONFIG, "options \"%s\" and \"%s\" both name column \"%s\"", options[k],
						 options[i], name);
	}
	struct typemap *types = NULL;
	int rc = typemap_load(&types, o->type_mappings, NULL, err);
	typemap_free(types);
	return rc ? rc : check_staging(o, err);
}

void tablesink_staging_name(const struct tablesink_options *o, const char *schema, const char *table, char **ret_schema,
			    char **ret_table)
{
	*ret_schema = duct_xstrdup(o->staging_schema ? o->staging_schema : schema);
	*ret_table = o->staging_table ? duct_xstrdup(o->staging_table) : duct_xasprintf("%s%s", table, o->staging_suffix);
}

int tablesink_check_staging(const struct tablesink_options *o, struct duct_relation *const *relations, size_t n,
			    struct duct_error *err)
{
	size_t tables = 0;
	for (size_t i = 0; i < n; i++)
		tables += !relations[i]->synthetic;
	if (tables < 2 || o->batch_mode != TABLESINK_STAGING || !o->staging_table)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "option \"staging_table\" names one table, and the flow has %zu: leave it out, or make a flow for each",
			 tables);
}

int tablesink_new(struct tablesink **ret, const struct tablesink_options *options, struct duct_error *err)
{
	struct typemap *types = NULL;
	int rc = typemap_load(&types, options->type_mappings, options->type_mappings_file, err);
	if (rc)
		return rc;
	*ret = NULL;
	if (!has_columns(options) && !tablesink_appends(options) && !types)
		return 0;
	struct tablesink *s = duct_xcalloc(1, sizeof *s);
	s->options = options;
	s->types = types;
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

void tablesink_free(struct tablesink *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->npairs; i++) {
		duct_relation_unref(s->pairs[i].from);
		duct_relation_unref(s->pairs[i].to);
	}
	free(s->pairs);
	typemap_free(s->types);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- relations --- */

static int check_relation(const struct tablesink_options *o, const struct duct_relation *rel, struct duct_error *err)
{
	for (int i = 0; i < OWN; i++)
		for (int c = 0; own_name(o, i) && c < rel->ncolumns; c++)
			if (strcasecmp(rel->columns[c].name, own_name(o, i)) == 0)
				return duct_fail(
					err, DUCT_CONFIG,
					"\"%s\".\"%s\" has a column \"%s\", which is the name of a column that the destination adds: "
					"set another name (options meta_synced_at, meta_deleted, meta_watermark, meta_op)",
					rel->schema, rel->name, rel->columns[c].name);
	if (has_columns(o) && !tablesink_appends(o) && !rel->nkeys && rel->identity == DUCT_IDENTITY_FULL)
		return duct_fail(
			err, DUCT_CONFIG,
			"\"%s\".\"%s\" has no key, so its rows are found by all their values, and cannot have columns of the "
			"destination beside them: give it a primary key, or set option append_mode",
			rel->schema, rel->name);
	return 0;
}

static void copy_live(struct duct_relation *to, const struct duct_relation *from)
{
	struct duct_live_column *live = duct_arena_dup(&to->arena, from->live, (size_t)from->nlive * sizeof *live);
	for (int i = 0; i < from->nlive; i++) {
		if (live[i].missing_value)
			live[i].missing_value = duct_arena_strdup(&to->arena, live[i].missing_value);
		if (live[i].type) {
			struct duct_type type = duct_type_copy(&to->arena, live[i].type);
			live[i].type = duct_arena_dup(&to->arena, &type, sizeof type);
		}
	}
	to->live = live;
	to->nlive = from->nlive;
	to->dropped = duct_arena_dup(&to->arena, from->dropped, (size_t)from->ndropped * sizeof *from->dropped);
	to->ndropped = from->ndropped;
}

static void copy_column(struct duct_relation *to, struct duct_column *c, const struct duct_column *from, bool append)
{
	*c = *from;
	c->name = duct_arena_strdup(&to->arena, from->name);
	c->type = duct_type_copy(&to->arena, &from->type);
	if (from->source_type)
		c->source_type = duct_arena_strdup(&to->arena, from->source_type);
	if (from->missing_value)
		c->missing_value = duct_arena_strdup(&to->arena, from->missing_value);
	if (append)
		c->key = c->not_null = false;
}

/* The column's type here. */
static const struct duct_type *type_of(const struct tablesink *s, const struct duct_column *c)
{
	const struct duct_type *mapped = typemap_find(s->types, c->source_type);
	return mapped ? mapped : &c->type;
}

static int check_types(const struct tablesink *s, const struct duct_relation *rel, struct duct_error *err)
{
	for (int i = 0; i < rel->ncolumns; i++) {
		const struct duct_column *c = &rel->columns[i];
		const struct duct_type *to = type_of(s, c);
		if (typemap_converts(&c->type, to))
			continue;
		AUTO_BUF struct duct_buf text = {0};
		duct_type_print(&text, to);
		return duct_fail(
			err, DUCT_CONFIG,
			"column \"%s\" of \"%s\".\"%s\" is %s, whose values are not values of %s: name a wider type, or VARCHAR, in type_mappings",
			c->name, rel->schema, rel->name, c->source_type, text.data);
	}
	return 0;
}

static struct duct_relation *make_relation(const struct tablesink *s, const struct duct_relation *from)
{
	const struct tablesink_options *o = s->options;
	struct duct_relation *to = duct_relation_new();
	bool append = tablesink_appends(o);
	to->oid = from->oid;
	to->version = from->version;
	to->schema = duct_arena_strdup(&to->arena, from->schema);
	to->name = duct_arena_strdup(&to->arena, from->name);
	to->identity = append ? DUCT_IDENTITY_NONE : from->identity;
	to->unseen = from->unseen;
	to->may_lack = from->may_lack;
	to->upsert = o->soft_delete && from->nkeys;
	to->columns = duct_arena_zalloc(&to->arena, ((size_t)from->ncolumns + OWN) * sizeof *to->columns);
	for (; to->ncolumns < from->ncolumns; to->ncolumns++) {
		const struct duct_column *c = &from->columns[to->ncolumns];
		copy_column(to, &to->columns[to->ncolumns], c, append);
		to->columns[to->ncolumns].type = duct_type_copy(&to->arena, type_of(s, c));
	}
	for (int i = 0; i < OWN; i++)
		if (own_name(o, i))
			to->columns[to->ncolumns++] = (struct duct_column){
				.name = duct_arena_strdup(&to->arena, own_name(o, i)),
				.type = own_type(o, i),
				.attnum = (int16_t)(-1 - i),
			};
	if (!append) {
		to->nkeys = from->nkeys;
		to->keys = duct_arena_dup(&to->arena, from->keys, (size_t)from->nkeys * sizeof *from->keys);
	}
	copy_live(to, from);
	return to;
}

static struct duct_relation *known(struct tablesink *s, const struct duct_relation *rel)
{
	for (size_t i = 0; i < s->npairs; i++)
		if (s->pairs[i].from == rel)
			return s->pairs[i].to;
	return NULL;
}

/* A version that is there no longer need not be remembered: nobody but us has it. */
static void forget_old(struct tablesink *s, uint32_t oid)
{
	for (size_t i = 0; i < s->npairs;) {
		struct pair p = s->pairs[i];
		bool unused = p.from->oid == oid && atomic_load(&p.from->refs) == 1 && atomic_load(&p.to->refs) == 1;
		if (!unused) {
			i++;
			continue;
		}
		duct_relation_unref(p.from);
		duct_relation_unref(p.to);
		s->pairs[i] = s->pairs[--s->npairs];
	}
}

int tablesink_relation(struct tablesink *s, struct duct_relation *rel, struct duct_relation **ret, struct duct_error *err)
{
	if (rel->synthetic) {
		*ret = rel;
		return 0;
	}
	pthread_mutex_lock(&s->lock);
	struct duct_relation *to = known(s, rel);
	int rc = to ? 0 : check_relation(s->options, rel, err);
	if (!to && rc == 0)
		rc = check_types(s, rel, err);
	if (!to && rc == 0) {
		forget_old(s, rel->oid);
		to = make_relation(s, rel);
		s->pairs = duct_grow(s->pairs, &s->pairs_cap, s->npairs + 1, sizeof *s->pairs);
		s->pairs[s->npairs++] = (struct pair){duct_relation_ref(rel), to};
	}
	pthread_mutex_unlock(&s->lock);
	if (rc == 0)
		*ret = to;
	return rc;
}

void tablesink_probe(const struct tablesink_options *o, const struct duct_relations *tables, duct_report_fn *report, void *arg)
{
	struct tablesink *s;
	struct duct_relation *ignored;
	struct duct_error err;
	if (tablesink_check_staging(o, tables->list, tables->n, &err))
		report(arg, DUCT_FINDING_ERROR, err.message, NULL);
	if (tablesink_new(&s, o, &err)) {
		report(arg, DUCT_FINDING_ERROR, err.message, "correct the option \"type_mappings_file\"");
		return;
	}
	for (size_t i = 0; s && i < tables->n; i++)
		if (tablesink_relation(s, tables->list[i], &ignored, &err))
			report(arg, DUCT_FINDING_ERROR, err.message, NULL);
	tablesink_free(s);
}

/* --- rows --- */

struct row {
	const struct tablesink_options *options;
	const struct duct_batch *from;
	struct duct_batch *to;
	uint32_t row;
	int32_t old; /* of `from`; -1: none */
	enum duct_op op;
	struct duct_pos pos;
	int64_t now_us;
	struct duct_buf value; /* being converted */
	int rc;		       /* of the first value that could not be */
	struct duct_error *err;
};

/* A value of the source's column, in the type that it has here. */
static void append_value(struct row *r, struct duct_vector *v, int column, struct duct_cell cell)
{
	const struct duct_column *c = &r->from->relation->columns[column];
	if (!cell.data || duct_type_equal(&c->type, v->type)) {
		duct_vector_append_cell(r->to, v, cell);
		return;
	}
	r->value.len = 0;
	(void)duct_buf_room(&r->value, 1); /* an empty text is not NULL */
	if (typemap_convert(&r->value, &c->type, cell, v->type, r->err)) {
		if (r->rc == 0)
			r->rc = duct_wrap(r->err, "column \"%s\" of \"%s\".\"%s\"", c->name, r->from->relation->schema,
					  r->from->relation->name);
		duct_vector_append_null(r->to, v);
		return;
	}
	duct_vector_append_cell(r->to, v, (struct duct_cell){r->value.data, (uint32_t)r->value.len});
}

/* A value of the new row. Of a deleted row it is the old one; where an update brings none, too, if a row of its own is made of it. */
static void append_new(struct row *r, int column)
{
	const struct duct_vector *now = &r->from->columns[column], *was = r->from->old ? &r->from->old[column] : NULL;
	struct duct_vector *v = &r->to->columns[column];
	bool has_old = r->old >= 0 && duct_vector_is_sent(was, (uint32_t)r->old);
	bool gone = r->op == DUCT_DELETE || r->op == DUCT_TRUNCATE;
	if (!gone && duct_vector_is_sent(now, r->row))
		append_value(r, v, column, duct_vector_cell(now, r->row));
	else if (has_old && (gone || tablesink_appends(r->options)))
		append_value(r, v, column, duct_vector_cell(was, (uint32_t)r->old));
	else if (tablesink_appends(r->options))
		duct_vector_append_null(r->to, v);
	else
		duct_vector_append_unsent(r->to, v);
}

static void append_old(struct row *r)
{
	(void)duct_batch_add_old_row(r->to);
	for (int i = 0; i < r->to->relation->ncolumns; i++) {
		struct duct_vector *v = &r->to->old[i];
		if (i < r->from->relation->ncolumns && duct_vector_is_sent(&r->from->old[i], (uint32_t)r->old))
			append_value(r, v, i, duct_vector_cell(&r->from->old[i], (uint32_t)r->old));
		else
			duct_vector_append_unsent(r->to, v);
	}
}

static void append_number(const struct row *r, int column, uint64_t v, uint32_t size)
{
	duct_vector_append_cell(r->to, &r->to->columns[column], (struct duct_cell){(const char *)&v, size});
}

/* Rows of a copy were not changed at any time that is known: they are as old as their copy, and before every position. */
static void append_own(const struct row *r)
{
	const char *op = r->op == DUCT_TRUNCATE ? "truncate" : wire_operation(r->op);
	int64_t at = r->pos.commit_us ? r->pos.commit_us : r->now_us;
	int column = r->from->relation->ncolumns;
	for (int i = 0; i < OWN; i++) {
		if (!own_name(r->options, i))
			continue;
		switch (i) {
		case SYNCED_AT: append_number(r, column, (uint64_t)r->now_us, 8); break;
		case DELETED: append_number(r, column, r->op == DUCT_DELETE, 1); break;
		case WATERMARK:
			append_number(r, column, r->options->watermark_source == TABLESINK_LSN ? r->pos.lsn : (uint64_t)at, 8);
			break;
		default:
			duct_vector_append_cell(r->to, &r->to->columns[column], (struct duct_cell){op, (uint32_t)strlen(op)});
			break;
		}
		column++;
	}
}

/* What the change is to the destination; false: nothing. */
static bool new_op(const struct tablesink_options *o, enum duct_op op, enum duct_op *ret)
{
	*ret = op;
	if (tablesink_appends(o)) {
		*ret = op == DUCT_READ ? op : DUCT_INSERT;
		return o->append_mode || (op != DUCT_DELETE && op != DUCT_TRUNCATE);
	}
	if (op == DUCT_DELETE && o->soft_delete)
		*ret = DUCT_UPDATE;
	return true;
}

static void take_row(struct row *r, uint64_t seq)
{
	enum duct_op op;
	if (!new_op(r->options, r->op, &op))
		return;
	bool has_new = op != DUCT_DELETE && op != DUCT_TRUNCATE;
	r->old = r->from->old_row[r->row];
	if (r->to->lacks && has_new)
		duct_batch_fill_unset(r->to);
	(void)duct_batch_add_row(r->to, op, seq);
	/* A row that is only marked as deleted keeps its key. */
	if (r->old >= 0 && !tablesink_appends(r->options) && !(r->op == DUCT_DELETE && op == DUCT_UPDATE))
		append_old(r);
	if (!has_new) {
		r->to->lacks = true;
		return;
	}
	for (int i = 0; i < r->from->relation->ncolumns; i++)
		append_new(r, i);
	append_own(r);
}

static int transform(struct tablesink *s, const struct wire_rows *rows, struct duct_batch **ret, struct duct_error *err)
{
	struct duct_relation *rel;
	int rc = tablesink_relation(s, rows->batch->relation, &rel, err);
	if (rc)
		return rc;
	struct duct_batch *to = duct_batch_new(rel, rows->batch->rows);
	struct row r = {.options = s->options, .from = rows->batch, .to = to, .now_us = duct_wall_us(), .err = err};
	for (; r.row < rows->batch->rows && r.rc == 0; r.row++) {
		r.op = rows->batch->op[r.row];
		r.pos = wire_row_pos(rows, r.row);
		take_row(&r, rows->batch->seq[r.row]);
	}
	duct_buf_done(&r.value);
	if (r.rc) {
		duct_batch_unref(to);
		return r.rc;
	}
	duct_batch_seal(to);
	*ret = to;
	return 0;
}

int tablesink_batch(struct tablesink *s, struct duct_batch *batch, struct duct_batch **ret, struct duct_error *err)
{
	struct wire_rows rows = wire_all_rows(NULL, batch);
	if (!batch->relation->synthetic)
		return transform(s, &rows, ret, err);
	*ret = duct_batch_ref(batch);
	return 0;
}

int tablesink_changes(struct tablesink *s, struct duct_changes **changes, struct duct_error *err)
{
	struct duct_changes *from = *changes, *to = duct_changes_new();
	int rc = 0;
	for (size_t i = 0; i < from->nbatches && rc == 0; i++) {
		struct wire_rows rows = wire_all_rows(from, from->batches[i]);
		struct duct_batch *batch = NULL;
		if (rows.batch->relation->synthetic)
			batch = duct_batch_ref(from->batches[i]);
		else
			rc = transform(s, &rows, &batch, err);
		if (batch && batch->rows)
			duct_changes_add(to, batch);
		else
			duct_batch_unref(batch);
	}
	if (rc) {
		duct_changes_free(to);
		return rc;
	}
	for (size_t i = 0; i < from->ncommits; i++)
		duct_changes_add_commit(to, &from->commits[i]);
	to->upto = from->upto;
	to->ends_commit = from->ends_commit;
	to->open_xid = from->open_xid;
	to->open_commit_us = from->open_commit_us;
	duct_changes_free(from);
	*changes = to;
	return 0;
}
