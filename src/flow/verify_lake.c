/* The lake's side of a comparison: live files without their deleted rows. */
#include "flow/verify_internal.h"

#include "destination/ducklake/ducklake.h"
#include "lake/dead.h"
#include "lake/inline.h"

#include <jansson.h>
#include <string.h>

static const struct tablesink_options *lake_sink(const void *config)
{
	return &((const struct ducklake_config *)config)->sink;
}

static int open_lake(struct verify *v, struct duct_error *err)
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

static int add_column(struct verify_table *t, const struct lake_table *table, const json_t *mirror, int i, struct duct_error *err)
{
	const struct duct_column *from = &t->relation->rel->columns[i];
	const struct lake_column *lake = lake_column(table, mirrored(mirror, from));
	if (!lake)
		return duct_fail(err, DUCT_DATA, "column \"%s\" is not in the lake", from->name);
	verify_add_column(t, i, &lake->type);
	t->columns[t->ncolumns - 1].lake = lake;
	t->columns[t->ncolumns - 1].column_id = lake->id;
	return 0;
}

/* -1: rows that are deleted at the source are not there. */
static int64_t deleted_column(const struct lake_table *table, const struct tablesink_options *sink)
{
	for (int i = 0; sink->soft_delete && i < table->ncolumns; i++)
		if (strcmp(table->columns[i].name, sink->meta_deleted) == 0)
			return table->columns[i].id;
	return -1;
}

static int lake_columns(struct verify *v, struct verify_table *t, struct duct_error *err)
{
	const struct lake_relation *relation = relation_of(v, t->published->oid);
	const struct lake_table *table = relation ? lake_table_by_id(v->lake, relation->table_id) : NULL;
	if (!table)
		return 0;
	const struct duct_relation *rel = t->relation->rel;
	t->table_id = table->id;
	t->deleted_id = deleted_column(table, lake_sink(v->to));
	json_t *mirror = json_loads(relation->columns ? relation->columns : "[]", 0, NULL);
	int rc = 0;
	for (int i = 0; i < rel->ncolumns && !rc; i++)
		rc = add_column(t, table, mirror, i, err);
	json_decref(mirror);
	return rc ? duct_wrap(err, "table \"%s\".\"%s\"", t->published->schema, t->published->name) : 1;
}

static int lake_position(struct verify *v, uint64_t *ret, struct duct_error *err)
{
	struct lake_change_note *notes = NULL;
	size_t n;
	int rc = lake_sync(v->lake, &notes, &n, err);
	free(notes);
	struct duct_checkpoint now = {0};
	if (!rc)
		lake_checkpoint(v->lake, &now);
	*ret = now.pos.lsn;
	return rc;
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
	struct lake_dead dead;		    /* of the file */
	const struct lake_column **columns; /* the table's, and behind them the one that marks deleted rows, if any */
	int ncolumns;
};

static bool marked_deleted(const struct lake_read *r, const struct duct_batch *batch, uint32_t row)
{
	if (r->ncolumns == r->t->ncolumns)
		return false;
	struct duct_cell cell = duct_vector_cell(&batch->columns[r->t->ncolumns], row);
	return cell.data && *cell.data;
}

static int add_rows(void *arg, const struct duct_batch *batch, const int64_t *positions, const int64_t *row_ids,
		    struct duct_error *err)
{
	struct lake_read *r = arg;
	(void)row_ids;
	for (uint32_t i = 0; i < batch->rows; i++) {
		if (lake_dead_has(&r->dead, positions[i]) || marked_deleted(r, batch, i))
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
		if (!marked_deleted(r, batch, i))
			rc = verify_add_row(r->to, r->t, batch, i, false, &r->scratch, err);
	return rc;
}

/* Rows that live in the catalog itself. */
static int read_inlined(struct verify *v, struct lake_read *r, struct duct_arena *arena, struct duct_error *err)
{
	int64_t *versions;
	size_t n;
	int rc = 0;
	lake_inlined_versions(v->lake, r->t->table_id, arena, &versions, &n);
	for (size_t i = 0; i < n && !rc; i++) {
		const struct lake_inlined_wanted wanted = {.table_id = r->t->table_id,
							   .schema_version = versions[i],
							   .columns = r->columns,
							   .ncolumns = r->ncolumns};
		rc = lake_read_inlined(v->lake, v->conn, &wanted, add_inlined_rows, r, err);
	}
	return rc;
}

static int read_files(struct verify *v, struct lake_read *r, struct duct_arena *arena, struct duct_error *err)
{
	const struct verify_table *t = r->t;
	struct lake_file *files;
	size_t n;
	int rc = lake_list_files(v->lake, t->table_id, arena, &files, &n, err);
	if (!rc)
		rc = lake_read_marks(v->lake, t->table_id, &r->marks, err);
	for (size_t i = 0; i < n && !rc; i++) {
		if (duct_ctx_stopped(v->ctx))
			return duct_fail(err, DUCT_CANCELLED, "stopped");
		rc = lake_dead_read(&r->dead, &r->marks, v->conn, &files[i], err);
		if (!rc)
			rc = lake_read_file(v->conn, &files[i], r->columns, r->ncolumns, NULL, 0, add_rows, r, err);
	}
	return rc ? rc : read_inlined(v, r, arena, err);
}

/* The columns to read, of the model as it is now. */
static int choose_columns(struct verify *v, struct lake_read *r, struct duct_arena *arena, struct duct_error *err)
{
	struct verify_table *t = r->t;
	int rc = find_columns(v, t, err);
	if (rc)
		return rc;
	r->columns = duct_arena_zalloc(arena, ((size_t)t->ncolumns + 1) * sizeof *r->columns);
	for (r->ncolumns = 0; r->ncolumns < t->ncolumns; r->ncolumns++)
		r->columns[r->ncolumns] = t->columns[r->ncolumns].lake;
	const struct lake_column *deleted =
		t->deleted_id < 0 ? NULL : lake_column(lake_table_by_id(v->lake, t->table_id), t->deleted_id);
	if (deleted)
		r->columns[r->ncolumns++] = deleted;
	return 0;
}

static int read_lake(struct verify *v, struct verify_table *t, struct verify_digest *to, struct duct_error *err)
{
	struct lake_read r = {.t = t, .to = to};
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = choose_columns(v, &r, &arena, err);
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

static void close_lake(struct verify *v)
{
	duck_disconnect(v->conn);
	duck_close(v->db);
	lake_close(v->lake);
}

const struct verify_side verify_lake = {"ducklake", lake_sink, open_lake, lake_position, lake_columns, read_lake, close_lake};
