/* Planning a commit: see txn.h. Nothing here talks to the catalog. */
#include "lake/txn.h"

#include "base/uuid.h"
#include "lake/txn_plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HURRIED_GAPS = 8 }; /* of such a commit in the time of an ordinary gap */

struct lake_txn *lake_txn_new(struct lake *lake)
{
	struct lake_txn *txn = duct_xcalloc(1, sizeof *txn);
	txn->lake = lake;
	txn->gap_ms = lake->pace_ms;
	duct_arena_init(&txn->arena);
	return txn;
}

void lake_txn_hurry(struct lake_txn *txn)
{
	txn->gap_ms = txn->lake->pace_ms / HURRIED_GAPS;
}

static void free_table(struct lake_txn_table *t)
{
	free(t->columns);
	free(t->ended.ids);
	for (size_t i = 0; i < t->nmarks; i++)
		lake_positions_done(&t->marks[i].positions);
	free(t->marks);
	free(t->folds);
	free(t->stats);
	free(t->keys);
	lake_txn_inlined_done(&t->inlined);
	free(t);
}

void lake_txn_free(struct lake_txn *txn)
{
	if (!txn)
		return;
	for (size_t i = 0; i < txn->ntables; i++)
		free_table(txn->tables[i]);
	for (size_t i = 0; i < txn->nfiles; i++)
		lake_new_file_free(txn->files[i].file);
	for (size_t i = 0; i < txn->ndeletes; i++)
		free(txn->deletes[i].path);
	free(txn->tables);
	free(txn->schemas);
	free(txn->files);
	free(txn->deletes);
	free(txn->relations);
	free(txn->mappings);
	duct_arena_done(&txn->arena);
	free(txn);
}

static struct lake_txn_table *add_table(struct lake_txn *txn)
{
	struct lake_txn_table *t = duct_xcalloc(1, sizeof *t);
	t->txn = txn;
	txn->tables = duct_grow(txn->tables, &txn->tables_cap, txn->ntables + 1, sizeof *txn->tables);
	txn->tables[txn->ntables++] = t;
	return t;
}

static void list_live(struct lake_txn_table *t)
{
	t->live = duct_arena_alloc(&t->txn->arena, (t->ncolumns + 1) * sizeof *t->live);
	t->nlive = 0;
	for (size_t i = 0; i < t->ncolumns; i++)
		if (!t->columns[i].dropped)
			t->live[t->nlive++] = t->columns[i].column;
}

static struct lake_column copy_column(struct duct_arena *arena, const struct lake_column *c)
{
	struct lake_column copy = *c;
	copy.name = duct_arena_strdup(arena, c->name);
	copy.type = duct_type_copy(arena, &c->type);
	if (c->nleaf_ids)
		copy.leaf_ids = duct_arena_dup(arena, c->leaf_ids, (size_t)c->nleaf_ids * sizeof *c->leaf_ids);
	if (c->type_name)
		copy.type_name = duct_arena_strdup(arena, c->type_name);
	if (c->initial_default)
		copy.initial_default = duct_arena_strdup(arena, c->initial_default);
	return copy;
}

struct lake_txn_table *lake_txn_table(struct lake_txn *txn, int64_t table_id)
{
	for (size_t i = 0; i < txn->ntables; i++)
		if (!txn->tables[i]->is_new && txn->tables[i]->id == table_id)
			return txn->tables[i];
	const struct lake_table *known = lake_model_table(txn->lake->model, table_id);
	if (!known)
		return NULL;
	struct lake_txn_table *t = add_table(txn);
	t->id = table_id;
	t->schema = duct_arena_strdup(&txn->arena, known->schema);
	t->name = duct_arena_strdup(&txn->arena, known->name);
	t->path = duct_arena_strdup(&txn->arena, known->path);
	t->next_column_id = known->max_column_id + 1;
	t->columns = duct_grow(NULL, &t->columns_cap, (size_t)known->ncolumns + 1, sizeof *t->columns);
	for (int i = 0; i < known->ncolumns; i++)
		t->columns[t->ncolumns++] = (struct txn_column){.column = copy_column(&txn->arena, &known->columns[i])};
	list_live(t);
	return t;
}

/* --- new tables and columns --- */

static int check_type(const char *column, const struct duct_type *type, struct duct_error *err)
{
	for (int i = 0; i < type->nchildren; i++) {
		const struct duct_type *child = &type->children[i];
		if (type->kind == DUCT_STRUCT && (!child->name || lake_check_name("struct field", child->name, err)))
			return child->name ? duct_wrap(err, "column \"%s\"", column)
					   : duct_fail(err, DUCT_CONFIG, "column \"%s\": a struct field without a name", column);
		for (int k = 0; type->kind == DUCT_STRUCT && k < i; k++)
			if (lake_same_name(type->children[k].name, child->name))
				return duct_fail(err, DUCT_CONFIG,
						 "column \"%s\": struct fields \"%s\" and \"%s\" "
						 "differ only in case",
						 column, type->children[k].name, child->name);
		if (check_type(column, child, err))
			return -(int)err->class;
	}
	int need = type->kind == DUCT_LIST ? 1 : type->kind == DUCT_MAP ? 2 : type->nchildren;
	if (need != type->nchildren || (type->kind == DUCT_STRUCT && !type->nchildren))
		return duct_fail(err, DUCT_CONFIG, "column \"%s\": a nested type without its parts", column);
	return 0;
}

static int check_column_name(const struct lake_txn_table *t, const char *name, const struct txn_column *except,
			     struct duct_error *err)
{
	if (lake_check_name("column", name, err))
		return duct_wrap(err, "table \"%s\".\"%s\"", t->schema, t->name);
	if (lake_same_name(name, "_ducklake_internal_row_id") || lake_same_name(name, "_ducklake_internal_snapshot_id"))
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s\".\"%s\": column name \"%s\" is reserved by DuckLake: "
				 "rename it at the source, or publish the table without it",
				 t->schema, t->name, name);
	for (size_t i = 0; i < t->ncolumns; i++) {
		const struct txn_column *c = &t->columns[i];
		if (!c->dropped && c != except && lake_same_name(c->column.name, name))
			return duct_fail(err, DUCT_CONFIG,
					 "table \"%s\".\"%s\": columns \"%s\" and \"%s\" are the "
					 "same to DuckLake, which does not tell upper from lower case: rename one at the source",
					 t->schema, t->name, c->column.name, name);
	}
	return 0;
}

static int count_nodes(const struct duct_type *type)
{
	int n = 0;
	for (int i = 0; i < type->nchildren; i++)
		n += 1 + count_nodes(&type->children[i]);
	return n;
}

static int append_column(struct lake_txn_table *t, const struct lake_column_def *def, struct duct_error *err)
{
	struct duct_arena *arena = &t->txn->arena;
	if (check_column_name(t, def->name, NULL, err))
		return -(int)err->class;
	if (check_type(def->name, def->type, err))
		return duct_wrap(err, "table \"%s\".\"%s\"", t->schema, t->name);
	struct lake_column c = {
		.id = t->next_column_id++,
		.name = duct_arena_strdup(arena, def->name),
		.type = duct_type_copy(arena, def->type),
		.nleaf_ids = count_nodes(def->type),
		.nulls_allowed = true,
		.supported = true,
	};
	c.type.name = NULL;
	if (def->initial_default && !duct_kind_is_nested(c.type.kind))
		c.initial_default = duct_arena_strdup(arena, def->initial_default);
	if (c.nleaf_ids)
		c.leaf_ids = duct_arena_alloc(arena, (size_t)c.nleaf_ids * sizeof *c.leaf_ids);
	for (int i = 0; i < c.nleaf_ids; i++)
		c.leaf_ids[i] = t->next_column_id++;
	t->columns = duct_grow(t->columns, &t->columns_cap, t->ncolumns + 1, sizeof *t->columns);
	t->columns[t->ncolumns++] = (struct txn_column){.column = c, .added = true};
	return 0;
}

/* The schema's folder; planned when there is no such schema. */
static const char *schema_path(struct lake_txn *txn, const char *name, const char **ret_name)
{
	const struct lake_schema *known = lake_model_schema(txn->lake->model, name);
	if (known) {
		*ret_name = duct_arena_strdup(&txn->arena, known->name);
		return duct_arena_strdup(&txn->arena, known->path);
	}
	for (size_t i = 0; i < txn->nschemas; i++)
		if (lake_same_name(txn->schemas[i].name, name)) {
			*ret_name = txn->schemas[i].name;
			return txn->schemas[i].path;
		}
	txn->schemas = duct_grow(txn->schemas, &txn->schemas_cap, txn->nschemas + 1, sizeof *txn->schemas);
	struct txn_schema *s = &txn->schemas[txn->nschemas++];
	char uuid[DUCT_UUID_LEN];
	s->name = duct_arena_strdup(&txn->arena, name);
	s->uuid = duct_arena_strdup(&txn->arena, duct_uuid_v7(uuid));
	s->part = lake_path_part(&txn->arena, name, s->uuid);
	s->path = lake_join_folder(&txn->arena, txn->lake->data_path, s->part, true);
	s->id = -1;
	*ret_name = s->name;
	return s->path;
}

/* Tables and views of a schema share their names. */
static int check_table_name(struct lake_txn *txn, const char *schema, const char *name, const struct lake_txn_table *except,
			    struct duct_error *err)
{
	if (lake_check_name("schema", schema, err) || lake_check_name("table", name, err))
		return -(int)err->class;
	const struct lake_table *other = lake_find_table(txn->lake, schema, name);
	bool taken = other != NULL;
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		if (other && !t->is_new && t->id == other->id)
			taken = false; /* it may have another name by then, or be gone: the next line looks */
	}
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		taken |= t != except && !t->dropped && lake_same_name(t->schema, schema) && lake_same_name(t->name, name);
	}
	const struct lake_schema *s = lake_model_schema(txn->lake->model, schema);
	for (size_t i = 0; s && i < txn->lake->model->nviews; i++) {
		const struct lake_view_name *v = &txn->lake->model->views[i];
		taken |= v->schema_id == s->id && lake_same_name(v->name, name);
	}
	if (taken)
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s\".\"%s\": the lake has a table or view of that name "
				 "already (upper and lower case are the same to it): rename or drop one of them, or set the "
				 "destination's option \"schema\"",
				 schema, name);
	return 0;
}

int lake_txn_create_table(struct lake_txn *txn, const char *schema, const char *name, const struct lake_column_def *cols, int ncols,
			  struct lake_txn_table **ret, struct duct_error *err)
{
	if (check_table_name(txn, schema, name, NULL, err))
		return -(int)err->class;
	if (ncols < 1)
		return duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\": has no column", schema, name);
	struct lake_txn_table *t = add_table(txn);
	char uuid[DUCT_UUID_LEN];
	t->id = -1;
	t->is_new = true;
	txn->nnew_tables++;
	t->name = duct_arena_strdup(&txn->arena, name);
	t->schema = duct_arena_strdup(&txn->arena, schema);
	t->next_column_id = 1;
	for (int i = 0; i < ncols; i++)
		if (append_column(t, &cols[i], err)) {
			txn->ntables--;
			txn->nnew_tables--;
			free_table(t);
			return -(int)err->class;
		}
	const char *base = schema_path(txn, schema, &t->schema);
	t->uuid = duct_arena_strdup(&txn->arena, duct_uuid_v7(uuid));
	t->part = lake_path_part(&txn->arena, name, t->uuid);
	t->path = lake_join_folder(&txn->arena, base, t->part, true);
	list_live(t);
	*ret = t;
	return 0;
}

int lake_txn_add_column(struct lake_txn *txn, struct lake_txn_table *t, const struct lake_column_def *col, struct duct_error *err)
{
	(void)txn;
	if (append_column(t, col, err))
		return -(int)err->class;
	t->altered = true;
	list_live(t);
	return 0;
}

static int find_column(struct lake_txn_table *t, int64_t column_id, struct txn_column **ret, struct duct_error *err)
{
	for (size_t i = 0; i < t->ncolumns; i++)
		if (t->columns[i].column.id == column_id && !t->columns[i].dropped) {
			*ret = &t->columns[i];
			return 0;
		}
	return duct_fail(err, DUCT_FATAL, "table \"%s\".\"%s\" has no column with id %lld", t->schema, t->name,
			 (long long)column_id);
}

int lake_txn_drop_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, struct duct_error *err)
{
	struct txn_column *c = NULL;
	if (find_column(t, column_id, &c, err))
		return -(int)err->class;
	if (t->nlive <= 1)
		return duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\": its last column \"%s\" cannot be dropped", t->schema,
				 t->name, c->column.name);
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
	if (known && (known->npartition_keys || known->sorted))
		return duct_fail(err, DUCT_CONFIG,
				 "table \"%s\".\"%s\": is partitioned or sorted: column \"%s\" may "
				 "be in use and is not dropped",
				 t->schema, t->name, c->column.name);
	c->dropped = true;
	t->altered = true;
	list_live(t);
	return 0;
}

int lake_txn_rename_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, const char *name,
			   struct duct_error *err)
{
	struct txn_column *c = NULL;
	if (find_column(t, column_id, &c, err) || check_column_name(t, name, c, err))
		return -(int)err->class;
	c->column.name = duct_arena_strdup(&txn->arena, name);
	c->changed = true;
	t->altered = true;
	list_live(t);
	return 0;
}

int lake_txn_retype_column(struct lake_txn *txn, struct lake_txn_table *t, int64_t column_id, const struct duct_type *type,
			   struct duct_error *err)
{
	struct txn_column *c = NULL;
	if (find_column(t, column_id, &c, err))
		return -(int)err->class;
	if (duct_type_equal(&c->column.type, type))
		return 0;
	if (!duct_type_widens(&c->column.type, type) || duct_kind_is_nested(type->kind)) {
		AUTO_BUF struct duct_buf from = {0}, to = {0};
		duct_type_print(&from, &c->column.type);
		duct_type_print(&to, type);
		return duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\": column \"%s\" cannot go from %s to %s in place", t->schema,
				 t->name, c->column.name, from.data, to.data);
	}
	c->column.type = duct_type_copy(&txn->arena, type);
	c->column.type.name = NULL;
	c->column.type_name = NULL;
	c->changed = true;
	t->altered = true;
	list_live(t);
	return 0;
}

struct lake_txn_table *lake_txn_find_table(struct lake_txn *txn, const char *schema, const char *name)
{
	const struct lake_table *known = lake_find_table(txn->lake, schema, name);
	for (size_t i = 0; i < txn->ntables; i++) {
		struct lake_txn_table *t = txn->tables[i];
		if (!t->dropped && lake_same_name(t->schema, schema) && lake_same_name(t->name, name))
			return t;
		if (known && !t->is_new && t->id == known->id)
			known = NULL; /* it has another name by then, or is gone */
	}
	return known ? lake_txn_table(txn, known->id) : NULL;
}

int lake_txn_rename_table(struct lake_txn *txn, struct lake_txn_table *t, const char *schema, const char *name,
			  struct duct_error *err)
{
	if (check_table_name(txn, schema, name, t, err))
		return -(int)err->class;
	if (!lake_same_name(schema, t->schema)) {
		/* Files stay where they are: the row keeps the old folder as an absolute path. */
		const char *stored;
		schema_path(txn, schema, &stored);
		t->schema = stored;
		t->moved = true;
	}
	t->name = duct_arena_strdup(&txn->arena, name);
	t->renamed = !t->is_new;
	return 0;
}

const char *lake_txn_table_name(const struct lake_txn_table *t, const char **ret_schema)
{
	*ret_schema = t->schema;
	return t->name;
}

const char *lake_txn_table_path(const struct lake_txn_table *t)
{
	return t->path;
}

int lake_txn_columns(const struct lake_txn_table *t, const struct lake_column **ret)
{
	*ret = t->live;
	return t->nlive;
}

/* --- rows --- */

void lake_txn_unlink_files(const struct lake_txn *txn)
{
	for (size_t i = 0; i < txn->nfiles; i++)
		if (!lake_path_is_remote(txn->files[i].file->path))
			(void)unlink(txn->files[i].file->path);
	for (size_t i = 0; i < txn->ndeletes; i++)
		if (!lake_path_is_remote(txn->deletes[i].path))
			(void)unlink(txn->deletes[i].path);
}

int lake_txn_add_file(struct lake_txn *txn, struct lake_txn_table *t, struct lake_new_file *file)
{
	txn->files = duct_grow(txn->files, &txn->files_cap, txn->nfiles + 1, sizeof *txn->files);
	txn->files[txn->nfiles] = (struct txn_file){.file = file, .table = t, .id = -1, .row_id_start = -1};
	t->nfiles++;
	t->nflushed_files += file->begin_snapshot > 0;
	return (int)txn->nfiles++;
}

void lake_txn_mark(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id, struct lake_positions *positions)
{
	(void)txn;
	if (!positions->n)
		return;
	lake_positions_sort(positions);
	t->marks = duct_grow(t->marks, &t->marks_cap, t->nmarks + 1, sizeof *t->marks);
	t->marks[t->nmarks++] = (struct lake_marks){file_id, *positions};
	*positions = (struct lake_positions){0};
}

void lake_txn_add_delete_file(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id, int on_new_file,
			      const struct lake_new_delete_file *file)
{
	txn->deletes = duct_grow(txn->deletes, &txn->deletes_cap, txn->ndeletes + 1, sizeof *txn->deletes);
	txn->deletes[txn->ndeletes++] = (struct txn_delete){
		.table = t,
		.file_id = file_id,
		.on_new_file = on_new_file,
		.path = file->path,
		.count = file->count,
		.size_bytes = file->size_bytes,
		.footer_size = file->footer_size,
		.begin_snapshot = file->begin_snapshot,
		.partial_max = file->partial_max,
		.written_us = file->written_us,
	};
	if (on_new_file < 0)
		t->ndeletes++;
}

void lake_txn_end_file(struct lake_txn *txn, struct lake_txn_table *t, int64_t file_id)
{
	(void)txn;
	t->ended.ids = duct_grow(t->ended.ids, &t->ended.cap, t->ended.n + 1, sizeof *t->ended.ids);
	t->ended.ids[t->ended.n++] = file_id;
}

void lake_txn_truncate(struct lake_txn *txn, struct lake_txn_table *t)
{
	(void)txn;
	t->truncated = !t->is_new;
}

void lake_txn_set_relation(struct lake_txn *txn, const struct lake_relation *relation, struct lake_txn_table *t)
{
	struct duct_arena *a = &txn->arena;
	txn->relations = duct_grow(txn->relations, &txn->relations_cap, txn->nrelations + 1, sizeof *txn->relations);
	struct txn_relation *r = &txn->relations[txn->nrelations++];
	*r = (struct txn_relation){.relation = *relation, .table = t};
	r->relation.source_schema = duct_arena_strdup(a, relation->source_schema ? relation->source_schema : "");
	r->relation.source_name = duct_arena_strdup(a, relation->source_name ? relation->source_name : "");
	r->relation.columns = relation->columns ? duct_arena_strdup(a, relation->columns) : NULL;
	r->relation.state = relation->state ? duct_arena_strdup(a, relation->state) : NULL;
}

/* The rest is for what a commit cannot do without, and for others. */
int64_t lake_txn_most_locks(const struct lake *lake)
{
	return lake->db->locks ? lake->db->locks * 3 / 8 : INT64_MAX;
}

bool lake_txn_take_locks(struct lake_txn *txn, int64_t n)
{
	if (n > lake_txn_most_locks(txn->lake) - txn->locks)
		return false;
	txn->locks += n;
	return true;
}

size_t lake_most_inlining_tables(const struct lake *lake)
{
	return lake->db->locks ? (size_t)lake->db->locks / 8 + 1 : SIZE_MAX;
}

bool lake_txn_has_room_for_marks(struct lake_txn *txn, struct lake_txn_table *t)
{
	const struct lake_table *known = t->is_new ? NULL : lake_model_table(txn->lake->model, t->id);
	return t->nmarks ||
		lake_txn_take_locks(txn, known && known->has_delete_table ? LAKE_LOCKS_KNOWN_TABLE : LAKE_LOCKS_NEW_TABLE);
}

bool lake_txn_is_position_only(const struct lake_txn *txn)
{
	if (txn->nfiles || txn->ndeletes || txn->nschemas)
		return false;
	for (size_t i = 0; i < txn->ntables; i++) {
		const struct lake_txn_table *t = txn->tables[i];
		if (t->is_new || t->renamed || t->altered || t->truncated || t->dropped || t->repartitioned || t->ended.n ||
		    t->nmarks || t->inlined.n || t->inlined.nended || t->inlined.nflushed)
			return false;
	}
	return true;
}
