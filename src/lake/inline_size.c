/* How much of a flow's tables lives inside the catalog: see inline.h. */
#include "lake/inline.h"

#include "base/order.h"
#include "lake/lake.h"

#include <stdlib.h>
#include <string.h>

static int take_text(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	duct_buf_puts(arg, values[0] ? values[0] : "");
	return 0;
}

/* An expression of the bytes of one row. Postgres: without what is stored apart, as in its main part. */
static int put_row_size(struct duct_buf *to, struct lake *lake, const char *name, struct duct_error *err)
{
	if (!lake->db->sqlite) {
		duct_buf_puts(to, "pg_column_size(t.*)");
		return 0;
	}
	AUTO_BUF struct duct_buf sql = {0};
	/* SQLite takes an expression of 1,000 levels, and each + is one. */
	duct_buf_puts(&sql,
		      "SELECT group_concat(some, ' + ') FROM (SELECT '(' || group_concat('ifnull(length(CAST(\"' || "
		      "replace(name, '\"', '\"\"') || '\" AS BLOB)), 0)', ' + ') || ')' AS some FROM pragma_table_info(");
	duct_buf_sql_literal(&sql, name);
	duct_buf_puts(&sql, ") GROUP BY cid / 100)");
	return lake->db->ops->query(lake->db, sql.data, take_text, to, err);
}

static int take_size(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	struct lake_inlined_size *size = arg;
	size->rows += lake_int(values[0], 0);
	size->bytes += lake_int(values[1], 0);
	size->age_ms = lake_int(values[2], 0);
	return 0;
}

struct names {
	struct duct_arena arena;
	const char **names;
	size_t n, cap;
};

static int take_name(void *arg, int set, const char *const *values, struct duct_error *err)
{
	(void)set, (void)err;
	struct names *names = arg;
	names->names = duct_grow(names->names, &names->cap, names->n + 1, sizeof *names->names);
	names->names[names->n++] = duct_arena_strdup(&names->arena, values[0]);
	return 0;
}

/* Those that may hold rows: thousands of empty ones are common, and a server tells at once which have no pages. */
static int list_filled(struct lake *lake, struct names *ret, struct duct_error *err)
{
	if (lake->db->sqlite)
		return lake_queryf(lake->db, take_name, ret, err,
				   "SELECT table_name FROM @ducklake_inlined_data_tables ORDER BY 1");
	return lake_queryf(lake->db, take_name, ret, err,
			   "SELECT c.relname FROM @ducklake_inlined_data_tables i JOIN pg_class own ON own.oid = i.tableoid JOIN "
			   "pg_class c ON c.relname = i.table_name AND c.relnamespace = own.relnamespace "
			   "WHERE pg_relation_size(c.oid) > 0 ORDER BY c.relname");
}

static int add_size(struct lake *lake, const struct lake_inlined_table *t, struct lake_inlined_sizes *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, row = {0};
	struct lake_inlined_size size = {.table_id = t->table_id};
	int rc = put_row_size(&row, lake, t->name, err);
	if (rc < 0)
		return rc;
	lake_sqlf(&sql, lake->db,
		  "SELECT s.n, s.bytes, (SELECT %s FROM @ducklake_snapshot WHERE snapshot_id = s.first) FROM ("
		  "SELECT count(*) AS n, min(begin_snapshot) AS first, sum(",
		  lake->db->sqlite ? "CAST((julianday('now') - julianday(substr(snapshot_time, 1, 19))) * 86400000 AS INTEGER)"
				   : "CAST(extract(epoch FROM now() - snapshot_time) * 1000 AS bigint)");
	duct_buf_append(&sql, row.data, row.len);
	lake_sqlf(&sql, lake->db, ") AS bytes FROM @");
	duct_buf_sql_ident(&sql, t->name);
	duct_buf_puts(&sql, " t) s");
	rc = lake->db->ops->query(lake->db, sql.data, take_size, &size, err);
	if (rc < 0 || !size.rows)
		return rc;
	struct lake_inlined_size *last = ret->n ? &ret->sizes[ret->n - 1] : NULL;
	if (last && last->table_id == size.table_id) {
		last->rows += size.rows;
		last->bytes += size.bytes;
		last->age_ms = size.age_ms > last->age_ms ? size.age_ms : last->age_ms;
		return 0;
	}
	ret->sizes = duct_grow(ret->sizes, &ret->cap, ret->n + 1, sizeof *ret->sizes);
	ret->sizes[ret->n++] = size;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int compare_tables(const void *a, const void *b)
{
	const struct lake_inlined_table *x = *(const struct lake_inlined_table *const *)a,
					*y = *(const struct lake_inlined_table *const *)b;
	return x->table_id < y->table_id ? -1 : x->table_id > y->table_id;
}

static bool is_of_flow(const int64_t *table_ids, size_t n, int64_t table_id)
{
	return bsearch(&table_id, table_ids, n, sizeof *table_ids, duct_compare_i64) != NULL;
}

int lake_inlined_sizes(struct lake *lake, struct lake_inlined_sizes *ret, struct duct_error *err)
{
	const struct lake_model *model = lake->model;
	struct names filled = {0};
	AUTO_FREE int64_t *ours = duct_xcalloc(model->nrelations + 1, sizeof *ours);
	AUTO_FREE const struct lake_inlined_table **tables = duct_xcalloc(model->ninlined + 1, sizeof *tables);
	*ret = (struct lake_inlined_sizes){0};
	duct_arena_init(&filled.arena);
	for (size_t i = 0; i < model->nrelations; i++)
		ours[i] = model->relations[i].table_id;
	qsort(ours, model->nrelations, sizeof *ours, duct_compare_i64);
	for (size_t i = 0; i < model->ninlined; i++)
		tables[i] = &model->inlined[i];
	qsort(tables, model->ninlined, sizeof *tables, compare_tables);
	int rc = list_filled(lake, &filled, err);
	for (size_t i = 0; i < model->ninlined && rc == 0 && filled.n; i++)
		if (is_of_flow(ours, model->nrelations, tables[i]->table_id) &&
		    bsearch(&tables[i]->name, filled.names, filled.n, sizeof *filled.names, compare_names))
			rc = add_size(lake, tables[i], ret, err) < 0
				? lake_explain_inlined(lake, tables[i]->table_id, tables[i]->schema_version, err)
				: 0;
	free(filled.names);
	duct_arena_done(&filled.arena);
	if (rc < 0)
		free(duct_steal(&ret->sizes));
	return rc < 0 ? duct_wrap(err, "sizes of inlined rows") : 0;
}
