/* The files of a table as the catalog has them, and how it maps the columns of those that others wrote. */
#include "base/order.h"
#include "lake/lake.h"
#include "lake/txn.h"

#include <stdlib.h>
#include <string.h>

/* One query outside of any transaction, with one new connection when the old one was lost meanwhile. */
int lake_ask(struct lake *lake, const char *sql, lake_row_fn *fn, void *arg, struct duct_error *err)
{
	int ret = lake->db->ops->query(lake->db, sql, fn, arg, err);
	if (ret && err->class == DUCT_RETRY && lake->db->ops->lost(lake->db))
		ret = lake->db->ops->reconnect(lake->db, err) ? -(int)err->class
							      : lake->db->ops->query(lake->db, sql, fn, arg, err);
	return ret;
}

struct file_list {
	struct duct_arena *arena;
	const char *table_path;
	struct lake_file *files;
	size_t n, cap;
	int64_t *mappings; /* of each file, -1: none */
	size_t mappings_cap;
	bool any_mapping;
};

static char *join_path(const struct file_list *list, const char *path, bool relative)
{
	size_t base = relative ? strlen(list->table_path) : 0, n = strlen(path);
	char *whole = duct_arena_alloc(list->arena, base + n + 1);
	memcpy(whole, list->table_path, base);
	memcpy(whole + base, path, n + 1);
	return whole;
}

static int take_file(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct file_list *list = arg;
	list->files = duct_grow(list->files, &list->cap, list->n + 1, sizeof *list->files);
	list->mappings = duct_grow(list->mappings, &list->mappings_cap, list->n + 1, sizeof *list->mappings);
	list->mappings[list->n] = lake_int(v[8], -1);
	list->any_mapping |= v[8] != NULL;
	list->files[list->n++] = (struct lake_file){
		.id = lake_int(v[0], -1),
		.path = join_path(list, v[1], lake_bool(v[2])),
		.record_count = lake_int(v[3], 0),
		.size_bytes = lake_int(v[4], 0),
		.begin_snapshot = lake_int(v[5], 0),
		.row_id_start = lake_int(v[6], -1),
		.partial_max = lake_int(v[7], -1),
		.has_mapping = v[8] != NULL,
		.delete_file_id = lake_int(v[9], -1),
		.delete_path = v[10] ? join_path(list, v[10], lake_bool(v[11])) : NULL,
		.delete_format = v[12] ? duct_arena_strdup(list->arena, v[12]) : NULL,
		.delete_count = lake_int(v[13], 0),
		.mark_count = lake_int(v[14], 0),
	};
	return 0;
}

struct value_list {
	struct file_list *files;
	int nkeys;
};

static int take_value(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct value_list *values = arg;
	struct file_list *list = values->files;
	size_t at = duct_lower_bound_i64(list->files, list->n, sizeof *list->files, lake_int(v[0], -1));
	int64_t key = lake_int(v[1], -1);
	if (at == list->n || list->files[at].id != lake_int(v[0], -1) || key < 0 || key >= values->nkeys)
		return 0; /* of a file that came later */
	const char **of_file = (const char **)list->files[at].partition_values;
	if (!of_file)
		of_file = duct_arena_zalloc(list->arena, (size_t)values->nkeys * sizeof *of_file);
	of_file[key] = v[2] ? duct_arena_strdup(list->arena, v[2]) : NULL;
	list->files[at].partition_values = of_file;
	return 0;
}

static int add_partition_values(struct lake *lake, const struct lake_table *t, struct file_list *list, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct value_list values = {list, t->npartition_keys};
	long long head = lake->model->head; /* of those files, though some may have ended meanwhile */
	lake_sqlf(&sql, lake->db,
		  "SELECT v.data_file_id, v.partition_key_index, v.partition_value FROM @ducklake_file_partition_value v "
		  "JOIN @ducklake_data_file d ON d.data_file_id = v.data_file_id AND d.partition_id = %lld "
		  "WHERE v.table_id = %lld AND d.begin_snapshot <= %lld AND (d.end_snapshot IS NULL OR d.end_snapshot > %lld)",
		  (long long)t->partition_id, (long long)t->id, head, head);
	return lake_ask(lake, sql.data, take_value, &values, err);
}

/* --- names in files of others --- */

struct name_list {
	struct file_list *files;
	int64_t mapping;	     /* whose names are being collected, -1: none yet */
	struct lake_file_name *list; /* malloc */
	size_t n, cap;
};

static void give_names(struct name_list *names)
{
	const struct lake_file_name *kept = NULL;
	for (size_t i = 0; names->n && i < names->files->n; i++) {
		if (names->files->mappings[i] != names->mapping)
			continue;
		if (!kept)
			kept = duct_arena_dup(names->files->arena, names->list, names->n * sizeof *kept);
		names->files->files[i].names = kept;
		names->files->files[i].nnames = (int)names->n;
	}
	names->n = 0;
}

static int take_root_name(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct name_list *names = arg;
	int64_t mapping = lake_int(v[0], -1);
	if (mapping != names->mapping)
		give_names(names);
	names->mapping = mapping;
	names->list = duct_grow(names->list, &names->cap, names->n + 1, sizeof *names->list);
	names->list[names->n++] =
		(struct lake_file_name){lake_int(v[1], -1), duct_arena_strdup(names->files->arena, v[2] ? v[2] : ""),
					lake_bool(v[3])};
	return 0;
}

static int add_names(struct lake *lake, int64_t table_id, struct file_list *list, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct name_list names = {.files = list, .mapping = -1};
	lake_sqlf(
		&sql, lake->db,
		"SELECT m.mapping_id, n.target_field_id, n.source_name, n.is_partition FROM @ducklake_column_mapping m "
		"JOIN @ducklake_name_mapping n ON n.mapping_id = m.mapping_id "
		"WHERE m.table_id = %lld AND m.type = 'map_by_name' AND n.parent_column IS NULL ORDER BY m.mapping_id, n.column_id",
		(long long)table_id);
	int rc = lake_ask(lake, sql.data, take_root_name, &names, err);
	if (!rc)
		give_names(&names);
	free(names.list);
	return rc;
}

int lake_list_files(struct lake *lake, int64_t table_id, struct duct_arena *arena, struct lake_file **ret, size_t *ret_n,
		    struct duct_error *err)
{
	const struct lake_table *t = lake_model_table(lake->model, table_id);
	if (!t)
		return duct_fail(err, DUCT_FATAL, "table %lld is not in the lake", (long long)table_id);
	AUTO_BUF struct duct_buf sql = {0};
	long long id = table_id, head = lake->model->head;
	lake_sqlf(&sql, lake->db,
		  "SELECT d.data_file_id, d.path, d.path_is_relative, d.record_count, "
		  "d.file_size_bytes, d.begin_snapshot, d.row_id_start, d.partial_max, d.mapping_id, x.delete_file_id, "
		  "x.path, x.path_is_relative, x.format, x.delete_count, %s FROM @ducklake_data_file d "
		  "LEFT JOIN @ducklake_delete_file x ON x.data_file_id = d.data_file_id AND x.table_id = d.table_id "
		  "AND x.begin_snapshot <= %lld AND (x.end_snapshot IS NULL OR x.end_snapshot > %lld) ",
		  t->has_delete_table ? "m.n" : "0", head, head);
	if (t->has_delete_table)
		lake_sqlf(&sql, lake->db,
			  "LEFT JOIN (SELECT file_id, count(*) AS n "
			  "FROM @ducklake_inlined_delete_%lld WHERE begin_snapshot <= %lld GROUP BY file_id) m "
			  "ON m.file_id = d.data_file_id ",
			  id, head);
	duct_buf_printf(&sql,
			"WHERE d.table_id = %lld AND d.begin_snapshot <= %lld "
			"AND (d.end_snapshot IS NULL OR d.end_snapshot > %lld) ORDER BY d.data_file_id",
			id, head, head);
	struct file_list list = {.arena = arena, .table_path = t->path};
	int result = lake_ask(lake, sql.data, take_file, &list, err);
	if (!result && t->npartition_keys)
		result = add_partition_values(lake, t, &list, err);
	if (!result && list.any_mapping)
		result = add_names(lake, table_id, &list, err);
	if (!result) {
		*ret = duct_arena_dup(arena, list.files, list.n * sizeof *list.files);
		*ret_n = list.n;
	}
	free(list.files);
	free(list.mappings);
	return result;
}

struct bounds_list {
	struct duct_arena *arena;
	const int64_t *column_ids;
	int n;
	const struct lake_file *files;
	size_t nfiles;
	struct lake_file_bounds *bounds;
};

static int take_bounds(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct bounds_list *list = arg;
	int64_t id = lake_int(v[0], -1), column = lake_int(v[1], -1);
	size_t at = duct_lower_bound_i64(list->files, list->nfiles, sizeof *list->files, id);
	if (at == list->nfiles || list->files[at].id != id)
		return 0;
	bool bound = v[2] && v[3];
	for (int i = 0; i < list->n; i++)
		if (list->column_ids[i] == column)
			list->bounds[at * (size_t)list->n + (size_t)i] =
				(struct lake_file_bounds){bound ? duct_arena_strdup(list->arena, v[2]) : NULL,
							  bound ? duct_arena_strdup(list->arena, v[3]) : NULL, lake_int(v[4], -1)};
	return 0;
}

int lake_list_bounds(struct lake *lake, int64_t table_id, const int64_t *column_ids, int n, const struct lake_file *files,
		     size_t nfiles, struct duct_arena *arena, struct lake_file_bounds **ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct bounds_list list = {.arena = arena, .column_ids = column_ids, .n = n, .files = files, .nfiles = nfiles};
	list.bounds = *ret = duct_arena_zalloc(arena, (nfiles * (size_t)n + 1) * sizeof *list.bounds);
	for (size_t i = 0; i < nfiles * (size_t)n; i++)
		list.bounds[i].nulls = -1;
	if (!n || !nfiles)
		return 0;
	lake_sqlf(&sql, lake->db,
		  "SELECT s.data_file_id, s.column_id, s.min_value, s.max_value, s.null_count FROM @ducklake_file_column_stats s "
		  "JOIN @ducklake_data_file d ON d.data_file_id = s.data_file_id AND d.table_id = s.table_id "
		  "WHERE s.table_id = %lld AND d.end_snapshot IS NULL AND s.column_id IN (",
		  (long long)table_id);
	for (int i = 0; i < n; i++)
		duct_buf_printf(&sql, "%s%lld", i ? ", " : "", (long long)column_ids[i]);
	duct_buf_putc(&sql, ')');
	return lake_ask(lake, sql.data, take_bounds, &list, err);
}

int lake_count_small_files(struct lake *lake, int64_t table_id, int64_t bytes, int64_t *ret, struct duct_error *err)
{
	*ret = 0;
	return lake_queryf(lake->db, lake_take_int, ret, err,
			   "SELECT count(*) FROM @ducklake_data_file WHERE table_id = %lld AND end_snapshot IS NULL AND "
			   "file_size_bytes < %lld",
			   (long long)table_id, (long long)bytes);
}

int lake_count_rows(struct lake *lake, int64_t table_id, int64_t *ret, struct duct_error *err)
{
	const struct lake_model *model = lake->model;
	struct duct_arena arena;
	struct lake_file *files = NULL;
	size_t n = 0;
	long long head = model->head;
	*ret = 0;
	duct_arena_init(&arena);
	int rc = lake_list_files(lake, table_id, &arena, &files, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		*ret += files[i].record_count - files[i].delete_count - files[i].mark_count;
	duct_arena_done(&arena);
	for (size_t i = 0; i < model->ninlined && !rc; i++) {
		AUTO_BUF struct duct_buf sql = {0};
		int64_t rows = 0;
		if (model->inlined[i].table_id != table_id)
			continue;
		lake_sqlf(&sql, lake->db, "SELECT count(*) FROM @");
		duct_buf_sql_ident(&sql, model->inlined[i].name);
		duct_buf_printf(&sql, " WHERE begin_snapshot <= %lld AND (end_snapshot IS NULL OR end_snapshot > %lld)", head,
				head);
		rc = lake_ask(lake, sql.data, lake_take_int, &rows, err);
		*ret += rows;
	}
	return rc;
}

int lake_is_mirror(struct lake *lake, int64_t table_id, bool *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t n = 0;
	lake_sqlf(&sql, lake->db, "SELECT count(*) FROM @ductstream_relation WHERE table_id = %lld", (long long)table_id);
	int rc = lake->has_own_tables ? lake_ask(lake, sql.data, lake_take_int, &n, err) : 0;
	*ret = n > 0;
	return rc;
}

/* --- column mappings --- */

struct mapping_search {
	const struct lake_field_name *fields;
	size_t n;
	int64_t id;   /* being compared */
	size_t equal; /* rows of it that were as wanted, in order */
	bool differs;
	int64_t found;
};

static void end_mapping(struct mapping_search *s)
{
	if (s->id >= 0 && !s->differs && s->equal == s->n && s->found < 0)
		s->found = s->id;
}

static int take_name(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct mapping_search *s = arg;
	int64_t id = lake_int(v[0], -1);
	if (id != s->id) {
		end_mapping(s);
		s->id = id;
		s->equal = 0;
		s->differs = false;
	}
	const struct lake_field_name *f = s->equal < s->n ? &s->fields[s->equal] : NULL;
	if (f && lake_int(v[1], -1) == (int64_t)s->equal && v[2] && strcmp(v[2], f->source_name) == 0 &&
	    lake_int(v[3], -1) == f->column_id && lake_int(v[4], -1) == f->parent && lake_bool(v[5]) == f->is_partition)
		s->equal++;
	else
		s->differs = true;
	return 0;
}

int lake_find_mapping(struct lake *lake, int64_t table_id, const struct lake_field_name *fields, size_t n, int64_t *ret,
		      struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct mapping_search s = {.fields = fields, .n = n, .id = -1, .found = -1};
	lake_sqlf(&sql, lake->db,
		  "SELECT m.mapping_id, n.column_id, n.source_name, n.target_field_id, n.parent_column, n.is_partition "
		  "FROM @ducklake_column_mapping m JOIN @ducklake_name_mapping n ON n.mapping_id = m.mapping_id "
		  "WHERE m.table_id = %lld AND m.type = 'map_by_name' ORDER BY m.mapping_id, n.column_id",
		  (long long)table_id);
	if (lake_ask(lake, sql.data, take_name, &s, err))
		return duct_wrap(err, "look for a column mapping");
	end_mapping(&s);
	*ret = s.found;
	return 0;
}
