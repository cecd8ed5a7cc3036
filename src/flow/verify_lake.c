/* The lake's side of a comparison: live files without their deleted rows. */
#include "flow/verify_internal.h"

#include "lake/dead.h"
#include "lake/inline.h"

#include <jansson.h>
#include <string.h>

int verify_lake_open(struct verify *v, struct duct_error *err)
{
	const struct lake_config config = ducklake_read_only(v->to, v->spec->name);
	int rc = lake_open(&v->lake, &config, v->ctx, err);
	v->db = duck_open();
	v->conn = duck_connect(v->db);
	return rc;
}

static const struct lake_relation *relation_of(struct verify *v, uint32_t oid)
{
	size_t n;
	const struct lake_relation *all = lake_relations(v->lake, &n);
	for (size_t i = 0; i < n; i++)
		if (all[i].source_oid == oid)
			return &all[i];
	return NULL;
}

static const struct lake_column *lake_column(const struct lake_table *table, int64_t id)
{
	for (int i = 0; table && i < table->ncolumns; i++)
		if (table->columns[i].id == id)
			return &table->columns[i];
	return NULL;
}

/* The lake column of a source column: rows of the mirror's list are [attnum, column_id, name]. -1: none. */
static int64_t mirrored(const json_t *mirror, const struct duct_column *column)
{
	for (size_t i = 0; i < json_array_size(mirror); i++) {
		const json_t *row = json_array_get(mirror, i);
		const char *name = json_string_value(json_array_get(row, 2));
		if (column->attnum > 0 ? json_integer_value(json_array_get(row, 0)) == column->attnum
				       : name && strcmp(name, column->name) == 0)
			return json_integer_value(json_array_get(row, 1));
	}
	return -1;
}

static bool is_text(const struct duct_type *type)
{
	return type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON;
}

static int add_column(struct verify_table *t, const struct lake_table *table, const json_t *mirror, int i, struct duct_error *err)
{
	const struct duct_column *from = &t->relation->rel->columns[i];
	const struct lake_column *lake = lake_column(table, mirrored(mirror, from));
	if (!lake)
		return duct_fail(err, DUCT_DATA, "column \"%s\" is not in the lake", from->name);
	struct verify_column *c = &t->columns[t->ncolumns++];
	*c = (struct verify_column){.source = i, .lake = lake, .column_id = lake->id, .key = from->key};
	c->type = duct_type_copy(&t->arena, &lake->type);
	c->cast = !duct_type_equal(&from->type, &c->type) && !(is_text(&from->type) && is_text(&c->type));
	return 0;
}

int verify_lake_columns(struct verify *v, struct verify_table *t, struct duct_error *err)
{
	const struct lake_relation *relation = relation_of(v, t->published->oid);
	const struct lake_table *table = relation ? lake_table_by_id(v->lake, relation->table_id) : NULL;
	if (!table)
		return duct_fail(err, DUCT_DATA, "table \"%s\".\"%s\" is not in the lake", t->published->schema,
				 t->published->name);
	const struct duct_relation *rel = t->relation->rel;
	t->table_id = table->id;
	t->keyed = rel->nkeys > 0;
	t->ncolumns = 0;
	t->columns = duct_arena_zalloc(&t->arena, (size_t)rel->ncolumns * sizeof *t->columns + 1);
	json_t *mirror = json_loads(relation->columns ? relation->columns : "[]", 0, NULL);
	int rc = 0;
	for (int i = 0; i < rel->ncolumns && !rc; i++)
		rc = add_column(t, table, mirror, i, err);
	json_decref(mirror);
	return rc ? duct_wrap(err, "table \"%s\".\"%s\"", t->published->schema, t->published->name) : 0;
}

/* The model is new after each sync: the columns are looked up in it again. */
static int find_columns(struct verify *v, struct verify_table *t, struct duct_error *err)
{
	struct lake_change_note *notes = NULL;
	size_t n;
	int rc = lake_sync(v->lake, &notes, &n, err);
	free(notes);
	if (rc)
		return rc;
	const struct lake_table *table = lake_table_by_id(v->lake, t->table_id);
	for (int i = 0; i < t->ncolumns; i++) {
		struct verify_column *c = &t->columns[i];
		c->lake = lake_column(table, c->column_id);
		if (!c->lake || !duct_type_equal(&c->lake->type, &c->type))
			return duct_fail(err, DUCT_RETRY, "lake table of \"%s\" was altered during the comparison",
					 t->published->name);
	}
	return 0;
}

struct lake_read {
	struct verify_table *t;
	struct verify_digest *to;
	struct verify_row_scratch scratch;
	struct lake_mark_set marks;
	struct lake_dead dead; /* of the file */
};

static int add_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		    struct duct_error *err)
{
	struct lake_read *r = arg;
	(void)row_ids;
	for (uint32_t i = 0; i < batch->rows; i++) {
		if (lake_dead_has(&r->dead, positions[i]))
			continue;
		int rc = verify_add_row(r->to, r->t, batch, i, false, &r->scratch, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int add_inlined_rows(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	struct lake_read *r = arg;
	int rc = 0;
	(void)rows;
	for (uint32_t i = 0; i < batch->rows && !rc; i++)
		rc = verify_add_row(r->to, r->t, batch, i, false, &r->scratch, err);
	return rc;
}

/* Rows that live in the catalog itself. */
static int read_inlined(struct verify *v, struct lake_read *r, struct duct_arena *arena, const struct lake_column *const *columns,
			struct duct_error *err)
{
	int64_t *versions;
	size_t n;
	int rc = 0;
	lake_inlined_versions(v->lake, r->t->table_id, arena, &versions, &n);
	for (size_t i = 0; i < n && !rc; i++) {
		const struct lake_inlined_wanted wanted = {.table_id = r->t->table_id,
							   .schema_version = versions[i],
							   .columns = columns,
							   .ncolumns = r->t->ncolumns};
		rc = lake_read_inlined(v->lake, v->conn, &wanted, add_inlined_rows, r, err);
	}
	return rc;
}

static int read_files(struct verify *v, struct lake_read *r, struct duct_arena *arena, struct duct_error *err)
{
	struct verify_table *t = r->t;
	struct lake_file *files;
	size_t n;
	const struct lake_column **columns = duct_arena_zalloc(arena, (size_t)t->ncolumns * sizeof *columns + 1);
	for (int i = 0; i < t->ncolumns; i++)
		columns[i] = t->columns[i].lake;
	int rc = lake_list_files(v->lake, t->table_id, arena, &files, &n, err);
	if (!rc)
		rc = lake_read_marks(v->lake, t->table_id, &r->marks, err);
	for (size_t i = 0; i < n && !rc; i++) {
		if (duct_ctx_stopped(v->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		rc = lake_dead_read(&r->dead, &r->marks, v->conn, &files[i], err);
		if (!rc)
			rc = lake_read_file(v->conn, &files[i], columns, t->ncolumns, NULL, 0, add_rows, r, err);
	}
	return rc ? rc : read_inlined(v, r, arena, columns, err);
}

int verify_lake_read(struct verify *v, struct verify_table *t, struct verify_digest *to, struct duct_error *err)
{
	struct lake_read r = {.t = t, .to = to};
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = find_columns(v, t, err);
	if (!rc)
		rc = read_files(v, &r, &arena, err);
	duct_arena_done(&arena);
	lake_dead_done(&r.dead);
	lake_mark_set_done(&r.marks);
	verify_row_scratch_done(&r.scratch);
	if (rc)
		return duct_wrap(err, "read \"%s\".\"%s\" in the lake", t->published->schema, t->published->name);
	verify_digest_finish(to);
	return 0;
}
