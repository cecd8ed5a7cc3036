/* Delete files of data files that have ended: see dead.h. */
#include "lake/dead.h"

#include "base/buf.h"
#include "base/mem.h"
#include "lake/deaths.h"
#include "lake/lake.h"

#include <inttypes.h>
#include <string.h>

/* A data file that has ended, with what says which of its rows had died before. */
struct ended {
	int64_t id, rows, nmarks;
	const char *path;
	struct lake_old_delete_file files[2]; /* ended with it; of a later flush: id -1 when there is none */
};

struct ended_list {
	const struct lake *lake;
	const char *table_path;
	struct duct_arena *arena;
	struct ended *files;
	size_t n, cap;
};

static struct lake_old_delete_file delete_file_of(const struct ended_list *list, const char *const *v)
{
	return (struct lake_old_delete_file){lake_int(v[0], -1), lake_int(v[1], -1), lake_int(v[2], -1),
					     lake_file_path(list->arena, list->table_path, v[3], v[4])};
}

static int take_ended(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct ended_list *list = arg;
	list->files = duct_grow(list->files, &list->cap, list->n + 1, sizeof *list->files);
	list->files[list->n++] = (struct ended){
		.id = lake_int(v[0], -1),
		.rows = lake_int(v[1], 0),
		.path = lake_file_path(list->arena, list->table_path, v[2], v[3]),
		.nmarks = lake_int(v[4], 0),
		.files = {delete_file_of(list, v + 5), delete_file_of(list, v + 10)},
	};
	return 0;
}

static int list_ended(struct ended_list *list, int64_t table_id, struct duct_error *err)
{
	struct lake_db *db = list->lake->db;
	long long table = table_id;
	return lake_queryf(db, take_ended, list, err,
			   "SELECT d.data_file_id, d.record_count, d.path, d.path_is_relative, m.n, "
			   "x.delete_file_id, x.begin_snapshot, x.partial_max, x.path, x.path_is_relative, "
			   "y.delete_file_id, y.begin_snapshot, y.partial_max, y.path, y.path_is_relative "
			   "FROM @ducklake_data_file d JOIN @ducklake_delete_file x ON x.data_file_id = d.data_file_id "
			   "AND x.end_snapshot = d.end_snapshot AND x.format = 'parquet' "
			   "LEFT JOIN @ducklake_delete_file y ON y.data_file_id = d.data_file_id AND y.end_snapshot IS NULL "
			   "AND y.format = 'parquet' "
			   "LEFT JOIN (SELECT file_id, count(*) AS n FROM @ducklake_inlined_delete_%lld GROUP BY file_id) m "
			   "ON m.file_id = d.data_file_id "
			   "WHERE d.table_id = %lld AND (m.n > 0 OR y.delete_file_id IS NOT NULL) ORDER BY d.data_file_id",
			   table, table);
}

/* --- one file of both --- */

static void render(struct lake_script *script, const struct lake *lake, const struct lake_table *t, const struct ended *e,
		   const struct lake_new_delete_file *file)
{
	static const char changed[] = "delete files of a data file that has ended changed meanwhile";
	lake_schedule_delete_file(script, lake, &e->files[0]);
	struct duct_buf *to = lake_script_step(script, LAKE_STEP_CHANGED, 1, changed);
	lake_sqlf(to, lake->db, "UPDATE @ducklake_delete_file SET path_is_relative = %s, path = ", lake_sql_bool(lake->db, true));
	duct_buf_sql_literal(to, file->path + strlen(t->path));
	duct_buf_printf(to, ", delete_count = %" PRId64 ", file_size_bytes = %" PRId64 ", footer_size = %" PRId64, file->count,
			file->size_bytes, file->footer_size);
	duct_buf_printf(to,
			", begin_snapshot = %" PRId64 ", partial_max = %" PRId64 " WHERE delete_file_id = %" PRId64
			" AND end_snapshot IS NOT NULL",
			file->begin_snapshot, file->partial_max, e->files[0].id);
	if (e->files[1].id >= 0) {
		lake_schedule_delete_file(script, lake, &e->files[1]);
		lake_sqlf(lake_script_step(script, LAKE_STEP_CHANGED, 1, changed), lake->db,
			  "DELETE FROM @ducklake_delete_file WHERE delete_file_id = %lld", (long long)e->files[1].id);
	}
	if (e->nmarks)
		lake_sqlf(lake_script_step(script, LAKE_STEP_CHANGED, e->nmarks, changed), lake->db,
			  "DELETE FROM @ducklake_inlined_delete_%lld WHERE file_id = %lld", (long long)t->id, (long long)e->id);
}

static int replace(struct lake *lake, const struct lake_table *t, const struct ended *e, const struct lake_new_delete_file *file,
		   struct duct_error *err)
{
	struct lake_script script = {0};
	size_t step;
	render(&script, lake, t, e, file);
	enum lake_outcome outcome = lake->db->ops->run(lake->db, &script, &step, err);
	if (outcome == LAKE_RUN_COUNT)
		(void)duct_fail(err, DUCT_RETRY, "%s", script.steps[step].what);
	lake_script_done(&script);
	return outcome == LAKE_RUN_OK ? 0 : -(int)err->class;
}

static int mend_file(struct lake *lake, const struct lake_table *t, struct duck_conn *conn, const struct ended *e,
		     struct duct_error *err)
{
	struct lake_deaths deaths;
	struct lake_new_delete_file file = {0};
	int rc = lake_deaths_read(&deaths, lake, conn, t->id, e->id, e->rows, e->files, DUCT_LEN(e->files), err);
	if (rc)
		return rc;
	if (deaths.n <= LAKE_MOST_DEATHS) {
		rc = lake_deaths_write(&deaths, NULL, t->path, e->path, e->rows, &file, err);
		rc = rc ? rc : replace(lake, t, e, &file, err);
	}
	free(file.path);
	lake_deaths_done(&deaths);
	return rc;
}

static int take_table(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct ended_list *tables = arg; /* only the ids of it */
	tables->files = duct_grow(tables->files, &tables->cap, tables->n + 1, sizeof *tables->files);
	tables->files[tables->n++] = (struct ended){.id = lake_int(v[0], -1)};
	return 0;
}

static int mend_table(struct lake *lake, const struct lake_table *t, struct duck_conn *conn, struct duct_error *err)
{
	struct duct_arena arena;
	duct_arena_init(&arena);
	struct ended_list list = {.lake = lake, .table_path = t->path, .arena = &arena};
	int rc = list_ended(&list, t->id, err);
	for (size_t i = 0; i < list.n && !rc; i++)
		rc = mend_file(lake, t, conn, &list.files[i], err);
	free(list.files);
	duct_arena_done(&arena);
	return rc;
}

int lake_mend_ended_files(struct lake *lake, struct duck_conn *conn, struct duct_error *err)
{
	struct ended_list tables = {0};
	int rc = lake_queryf(lake->db, take_table, &tables, err,
			     "SELECT DISTINCT table_id FROM @ducklake_delete_file WHERE end_snapshot IS NOT NULL");
	for (size_t i = 0; i < tables.n && !rc; i++) {
		const struct lake_table *t = lake_model_table(lake->model, tables.files[i].id);
		if (t && t->has_delete_table && lake_is_mirrored(lake, t->id))
			rc = mend_table(lake, t, conn, err);
	}
	free(tables.files);
	return rc ? duct_wrap(err, "delete files of data files that have ended") : 0;
}
