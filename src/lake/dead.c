/* Dead rows of a data file: see dead.h. */
#include "lake/dead.h"

#include "base/mem.h"
#include "base/order.h"
#include "lake/lake.h"

#include <inttypes.h>
#include <string.h>

static void add_marks(struct lake_dead *dead, const struct lake_mark_set *set, int64_t file_id)
{
	size_t n;
	AUTO_FREE int64_t *marks = lake_mark_set_list(set, file_id, &n);
	if (!n)
		return;
	dead->positions = duct_xrealloc(dead->positions, (dead->n + n) * sizeof *marks);
	memcpy(dead->positions + dead->n, marks, n * sizeof *marks);
	dead->n += n;
	if (dead->n > n)
		qsort(dead->positions, dead->n, sizeof *marks, duct_compare_i64);
}

int lake_dead_read(struct lake_dead *dead, const struct lake_mark_set *marks, struct duck_conn *conn, const struct lake_file *file,
		   struct duct_error *err)
{
	lake_dead_done(dead);
	if (file->delete_path && lake_read_delete_file(conn, file->delete_path, &dead->positions, &dead->n, err)) {
		lake_dead_done(dead);
		return -(int)err->class;
	}
	add_marks(dead, marks, file->id);
	return 0;
}

bool lake_dead_has(const struct lake_dead *dead, int64_t position)
{
	return dead->n && bsearch(&position, dead->positions, dead->n, sizeof position, duct_compare_i64);
}

void lake_dead_done(struct lake_dead *dead)
{
	free(dead->positions);
	*dead = (struct lake_dead){0};
}

/* --- rows that are dead twice --- */

struct id_list {
	int64_t *ids;
	size_t n, cap;
};

static int take_id(void *arg, int set, const char *const *v, struct duct_error *err)
{
	(void)set, (void)err;
	struct id_list *list = arg;
	list->ids = duct_grow(list->ids, &list->cap, list->n + 1, sizeof *list->ids);
	list->ids[list->n++] = lake_int(v[0], -1);
	return 0;
}

/* Marks of the file that are in its delete file. */
static int take_away(struct lake *lake, int64_t table_id, const struct lake_file *file, const struct lake_mark_set *marks,
		     struct duck_conn *conn, int64_t *count, struct duct_error *err)
{
	enum { AT_ONCE = 5000 };
	size_t n;
	AUTO_FREE int64_t *list = lake_mark_set_list(marks, file->id, &n);
	struct lake_dead in_file = {0};
	int rc = file->delete_path ? lake_read_delete_file(conn, file->delete_path, &in_file.positions, &in_file.n, err) : 0;
	for (size_t i = 0; i < n && !rc;) {
		AUTO_BUF struct duct_buf sql = {0};
		size_t found = 0;
		lake_sqlf(&sql, lake->db, "DELETE FROM @ducklake_inlined_delete_%lld WHERE file_id = %lld AND row_id IN (",
			  (long long)table_id, (long long)file->id);
		for (; i < n && found < AT_ONCE; i++)
			if (lake_dead_has(&in_file, list[i]))
				duct_buf_printf(&sql, "%s%" PRId64, found++ ? "," : "", list[i]);
		duct_buf_putc(&sql, ')');
		rc = found ? lake->db->ops->query(lake->db, sql.data, NULL, NULL, err) : 0;
		*count += rc ? 0 : (int64_t)found;
	}
	lake_dead_done(&in_file);
	return rc;
}

/* A delete file that a flush has written says of which snapshot its last row is; all marks up to that one were in the flush. */
static int mend_table(struct lake *lake, int64_t table_id, struct duck_conn *conn, int64_t *count, struct duct_error *err)
{
	struct id_list doubtful = {0};
	struct lake_mark_set marks = {0};
	struct lake_file *files;
	size_t nfiles = 0;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = lake_queryf(
		lake->db, take_id, &doubtful, err,
		"SELECT DISTINCT m.file_id FROM @ducklake_inlined_delete_%lld m JOIN @ducklake_delete_file x "
		"ON x.data_file_id = m.file_id AND x.end_snapshot IS NULL AND x.partial_max >= m.begin_snapshot ORDER BY 1",
		(long long)table_id);
	if (!rc && doubtful.n)
		rc = lake_list_files(lake, table_id, &arena, &files, &nfiles, err);
	if (!rc && doubtful.n)
		rc = lake_read_marks(lake, table_id, &marks, err);
	for (size_t i = 0; i < nfiles && !rc; i++)
		if (bsearch(&files[i].id, doubtful.ids, doubtful.n, sizeof *doubtful.ids, duct_compare_i64))
			rc = take_away(lake, table_id, &files[i], &marks, conn, count, err);
	lake_forget_marks(lake, table_id);
	lake_mark_set_done(&marks);
	free(doubtful.ids);
	duct_arena_done(&arena);
	return rc;
}

int lake_mend_marks(struct lake *lake, struct duck_conn *conn, int64_t *ret, struct duct_error *err)
{
	struct id_list tables = {0};
	int rc = lake_queryf(
		lake->db, take_id, &tables, err,
		"SELECT DISTINCT table_id FROM @ducklake_delete_file WHERE end_snapshot IS NULL AND partial_max IS NOT NULL");
	*ret = 0;
	for (size_t i = 0; i < tables.n && !rc; i++) {
		const struct lake_table *t = lake_model_table(lake->model, tables.ids[i]);
		if (t && t->has_delete_table && lake_is_mirrored(lake, t->id))
			rc = mend_table(lake, t->id, conn, ret, err);
	}
	free(tables.ids);
	return rc ? duct_wrap(err, "marks that a delete file has, too") : 0;
}
