/* Dead rows of a data file: see dead.h. */
#include "lake/dead.h"

#include "base/mem.h"
#include "base/order.h"

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
