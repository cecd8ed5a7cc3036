/*
 * Copies that land beside the tables: batch_mode staging. Staged rows are rows of a lake table of their own, which no source table
 * belongs to. With batch_resolution replace, or where the table has no rows yet or is whole, nobody could tell them from rows that are copied into
 * the table, because one commit would do it all: that is what is done then. Otherwise they are taken over as changes, in a commit of
 * their own, right after the copy (append) or when it is asked for (none). See ducklake.h.
 */
#include "destination/ducklake/ducklake.h"

#include <string.h>

static char *schema_of(const struct ducklake *d, const struct duct_relation *rel)
{
	return d->config->schema ? d->config->schema : (char *)rel->schema;
}

static void staging_name(const struct ducklake *d, const struct duct_relation *rel, char **ret_schema, char **ret_table)
{
	tablesink_staging_name(&d->config->sink, schema_of(d, rel), rel->name, ret_schema, ret_table);
}

bool mirror_stages(const struct ducklake *d, const struct mirror *m, const struct duct_relation *rel, unsigned flags)
{
	const struct tablesink_options *o = &d->config->sink;
	int resolution = tablesink_resolution(o, flags & DUCT_LOAD_RESOLVE);
	if (o->batch_mode != TABLESINK_STAGING || rel->synthetic || m->copy_again || (flags & DUCT_LOAD_EMPTY))
		return false;
	if (resolution == TABLESINK_RESOLVE_NONE)
		return true;
	/* Changes up to a copy are passed over, deletions among them: what a whole table has and the copy has not is to go. */
	bool adds = m->incomplete || (m->mode == MIRROR_APPEND && !tablesink_appends(o));
	return resolution == TABLESINK_RESOLVE_APPEND && m->table_id >= 0 && adds;
}

static bool same_columns(struct lake_txn_table *t, const struct duct_relation *rel)
{
	const struct lake_column *columns;
	int n = lake_txn_columns(t, &columns);
	for (int i = 0; i < n && n == rel->ncolumns; i++)
		if (strcmp(columns[i].name, rel->columns[i].name) != 0 || !duct_type_equal(&columns[i].type, &rel->columns[i].type))
			return false;
	return n == rel->ncolumns;
}

static int make(struct ducklake *d, const struct duct_relation *rel, const char *schema, const char *name,
		struct lake_txn_table **ret, struct duct_error *err)
{
	AUTO_FREE struct lake_column_def *defs = duct_xcalloc((size_t)rel->ncolumns + 1, sizeof *defs);
	for (int i = 0; i < rel->ncolumns; i++)
		defs[i] = (struct lake_column_def){rel->columns[i].name, &rel->columns[i].type, NULL};
	return lake_txn_create_table(group_txn(d), schema, name, defs, rel->ncolumns, ret, err);
}

int mirror_staging_table(struct ducklake *d, const struct duct_relation *rel, struct lake_txn_table **ret, struct duct_error *err)
{
	char *schema, *name;
	int rc = 0;
	staging_name(d, rel, &schema, &name);
	struct lake_txn_table *t = lake_txn_find_table(group_txn(d), schema, name);
	if (!t)
		rc = make(d, rel, schema, name, &t, err);
	else if (same_columns(t, rel))
		lake_txn_truncate(d->txn, t);
	else
		rc = duct_fail(
			err, DUCT_CONFIG,
			"staging table \"%s\".\"%s\" has other columns than \"%s\".\"%s\": drop it, or set another staging_suffix",
			schema, name, rel->schema, rel->name);
	free(schema);
	free(name);
	*ret = t;
	return rc;
}

/* Rows of a staging table on their way into its mirror. */
struct taking {
	struct ducklake *d;
	struct mirror *m;
	bool newer; /* the mirror may have newer rows of the same keys: they stay */
	uint64_t rows;
};

static int write_batch(struct taking *t, struct duct_batch *batch, bool ends, struct duct_error *err)
{
	struct duct_changes *changes = duct_changes_new();
	if (batch) {
		duct_batch_seal(batch);
		duct_changes_add(changes, batch);
	}
	changes->ends_commit = ends;
	return group_write(t->d, changes, err);
}

static int take_rows(void *arg, const struct duct_batch *from, const int64_t *positions, const int64_t *row_ids,
		     struct duct_error *err)
{
	(void)positions;
	(void)row_ids;
	struct taking *t = arg;
	struct lake_place ignored;
	int nkeys;
	AUTO_FREE int *keys = mirror_key_columns(t->m, t->m->rel, &nkeys);
	struct lake_hasher hasher = mirror_hasher(t->d, t->m, keys, nkeys);
	struct duct_batch *to = duct_batch_new(t->m->rel, from->rows);
	for (uint32_t row = 0; row < from->rows; row++) {
		if (t->newer && t->m->mode == MIRROR_KEYED &&
		    lake_index_get(t->m->index, lake_hash_row(&hasher, from->columns, row), 0, &ignored))
			continue;
		(void)duct_batch_add_row(to, DUCT_READ, t->rows++);
		for (int i = 0; i < t->m->rel->ncolumns; i++)
			duct_vector_append_cell(to, &to->columns[i], duct_vector_cell(&from->columns[i], row));
	}
	duct_buf_done(&hasher.scratch);
	return write_batch(t, to, false, err);
}

/* The staging table's columns are those of the relation, in its order. *ret_any: it has rows. */
static int read_staged(struct taking *t, const struct lake_table *table, bool *ret_any, struct duct_error *err)
{
	struct lake_file *files;
	size_t n;
	struct duct_arena arena = {0};
	duct_arena_init(&arena);
	struct duck_conn *conn = duck_connect(t->d->db); /* the group needs the other one meanwhile */
	const struct lake_column **columns = duct_arena_zalloc(&arena, ((size_t)table->ncolumns + 1) * sizeof *columns);
	for (int i = 0; i < table->ncolumns; i++)
		columns[i] = &table->columns[i];
	int rc = lake_list_files(t->d->lake, table->id, &arena, &files, &n, err);
	*ret_any = rc == 0 && n > 0;
	if (*ret_any && t->newer && t->m->mode == MIRROR_KEYED)
		rc = mirror_load(t->d, t->m, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = lake_read_file(conn, &files[i], columns, table->ncolumns, NULL, 0, take_rows, t, err);
	duck_disconnect(conn);
	duct_arena_done(&arena);
	return rc;
}

static int take_staged(struct ducklake *d, struct mirror *m, const struct lake_table *table, bool newer, struct duct_error *err)
{
	struct taking t = {.d = d, .m = m, .newer = newer};
	struct duct_commit_result ignored;
	struct lake_txn_table *staged = lake_txn_table(group_txn(d), table->id);
	bool any = false;
	if (!same_columns(staged, m->rel))
		return duct_fail(err, DUCT_CONFIG,
				 "the columns of \"%s\".\"%s\" were changed since its rows were staged: have it copied again",
				 m->rel->schema, m->rel->name);
	(void)mirror_table(d, m);
	int rc = read_staged(&t, table, &any, err);
	if (rc < 0 || !any)
		return rc;
	rc = write_batch(&t, NULL, true, err);
	if (rc < 0)
		return rc;
	lake_txn_truncate(d->txn, staged);
	m->incomplete = false;
	m->relation_changed = true;
	return group_commit(d, &ignored, err);
}

static int resolve_mirror(struct ducklake *d, struct mirror *m, bool newer, struct duct_error *err)
{
	char *schema, *name;
	staging_name(d, m->rel, &schema, &name);
	const struct lake_table *table = lake_find_table(d->lake, schema, name);
	free(schema);
	free(name);
	if (!table)
		return 0;
	m->takes_staged = true;
	int rc = take_staged(d, m, table, newer, err);
	m->takes_staged = false;
	return rc < 0 ? duct_wrap(err, "staged rows of \"%s\".\"%s\"", m->rel->schema, m->rel->name) : 0;
}

int ducklake_resolve(struct ducklake *d, bool newer, struct duct_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < MIRROR_BUCKETS && rc == 0; i++)
		for (struct mirror *m = d->mirrors[i]; m && rc == 0; m = m->next)
			if (m->rel && !m->rel->synthetic && !m->gone)
				rc = resolve_mirror(d, m, newer, err);
	group_reset(d);
	if (rc < 0)
		mirrors_free(d);
	return rc;
}

/* What a table's rows are found by is known when the flow has met it: staged rows of others cannot be taken over now. */
static int find_unmet(struct ducklake *d, struct duct_error *err)
{
	size_t nrelations, nfiles = 0;
	const struct lake_relation *relations = lake_relations(d->lake, &nrelations);
	for (size_t i = 0; i < nrelations && !nfiles; i++) {
		const struct lake_relation *r = &relations[i];
		const struct duct_relation rel = {.schema = r->source_schema, .name = r->source_name};
		struct duct_arena arena = {0};
		struct lake_file *files;
		char *schema, *name;
		if (mirror_find(d, r->source_oid) || mirror_state_is(r->state, MIRROR_GONE, NULL))
			continue;
		duct_arena_init(&arena);
		staging_name(d, &rel, &schema, &name);
		const struct lake_table *table = lake_find_table(d->lake, schema, name);
		int rc = table ? lake_list_files(d->lake, table->id, &arena, &files, &nfiles, err) : 0;
		free(schema);
		free(name);
		duct_arena_done(&arena);
		if (rc < 0)
			return rc;
		if (nfiles)
			return duct_fail(
				err, DUCT_CONFIG,
				"rows of \"%s\".\"%s\" are staged, and this run has not met the table: have them taken over by the "
				"run that copies it, or copy it with batch_resolution append",
				r->source_schema, r->source_name);
	}
	return 0;
}

int ducklake_resolve_staging(void *dest, struct duct_error *err)
{
	struct ducklake *d = dest;
	if (d->opened_us || d->load)
		return duct_fail(err, DUCT_FATAL, "staged rows cannot be taken over inside an open group");
	int rc = ducklake_resolve(d, true, err);
	return rc < 0 ? rc : find_unmet(d, err);
}
