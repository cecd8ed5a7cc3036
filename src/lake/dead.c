/* Dead rows of a data file: see dead.h. */
#include "lake/dead.h"

#include "base/mem.h"
#include "base/order.h"

#include <string.h>

static int add_marks(struct lake_dead *dead, struct lake *lake, int64_t table_id, const struct lake_file *file,
		     struct duct_error *err)
{
	AUTO_FREE int64_t *marks = NULL;
	size_t n = 0;
	int rc = lake_list_marks(lake, table_id, file->id, &marks, &n, err);
	if (rc < 0 || !n)
		return rc;
	dead->positions = duct_xrealloc(dead->positions, (dead->n + n) * sizeof *marks);
	memcpy(dead->positions + dead->n, marks, n * sizeof *marks);
	dead->n += n;
	qsort(dead->positions, dead->n, sizeof *marks, duct_compare_i64);
	return 0;
}

int lake_dead_read(struct lake_dead *dead, struct lake *lake, struct duck_conn *conn, int64_t table_id,
		   const struct lake_file *file, struct duct_error *err)
{
	lake_dead_done(dead);
	int rc = 0;
	if (file->delete_path)
		rc = lake_read_delete_file(conn, file->delete_path, &dead->positions, &dead->n, err);
	if (rc == 0 && file->mark_count)
		rc = add_marks(dead, lake, table_id, file, err);
	if (rc < 0)
		lake_dead_done(dead);
	return rc;
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
