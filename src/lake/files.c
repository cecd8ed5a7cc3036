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
	lake_sqlf(&sql, lake->db,
		  "SELECT v.data_file_id, v.partition_key_index, v.partition_value FROM @ducklake_file_partition_value v "
		  "JOIN @ducklake_data_file d ON d.data_file_id = v.data_file_id AND d.partition_id = %lld "
		  "WHERE v.table_id = %lld AND d.end_snapshot IS NULL",
		  (long long)t->partition_id, (long long)t->id);
	return lake_ask(lake, sql.data, take_value, &values, err);
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
	if (!result) {
		*ret = duct_arena_dup(arena, list.files, list.n * sizeof *list.files);
		*ret_n = list.n;
	}
	free(list.files);
	return result;
}

static int take_count(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	*(int64_t *)arg = lake_int(v[0], 0);
	return 0;
}

int lake_count_small_files(struct lake *lake, int64_t table_id, int64_t bytes, int64_t *ret, struct duct_error *err)
{
	*ret = 0;
	return lake_queryf(lake->db, take_count, ret, err,
			   "SELECT count(*) FROM @ducklake_data_file WHERE table_id = %lld AND end_snapshot IS NULL AND "
			   "file_size_bytes < %lld",
			   (long long)table_id, (long long)bytes);
}

int lake_is_mirror(struct lake *lake, int64_t table_id, bool *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	int64_t n = 0;
	lake_sqlf(&sql, lake->db, "SELECT count(*) FROM @ductstream_relation WHERE table_id = %lld", (long long)table_id);
	int rc = lake->has_own_tables ? lake_ask(lake, sql.data, take_count, &n, err) : 0;
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
