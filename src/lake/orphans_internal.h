#ifndef LAKE_ORPHANS_INTERNAL_H
#define LAKE_ORPHANS_INTERNAL_H

#include "base/arena.h"
#include "lake/orphans.h"

/* What orphans*.c share. */

bool lake_is_data_name(const char *name);
/* Without folders; of a file that is not called as data files are, with the folders that name its partition. */
const char *lake_name_of(const char *path);

/* Names of files, as of lake_name_of(); sorted. Zero it. */
struct lake_names {
	struct duct_arena arena;
	const char **names;
	size_t n, cap;
};
int lake_names_read(struct lake_names *ret, struct lake *lake, const char *sql, struct duct_error *err) DUCT_CHECKED;
/* The same under the catalog's lock, until its reset(). */
int lake_names_read_locked(struct lake_names *ret, struct lake *lake, const char *sql, struct duct_error *err) DUCT_CHECKED;
bool lake_names_have(const struct lake_names *names, const char *path);
void lake_names_done(struct lake_names *names);

/* orphans_s3.c */
struct lake_orphan_list {
	struct duct_arena *arena;
	struct lake_orphan *list; /* malloc */
	size_t n, cap;
};
/* Objects that are called as data files are (or of that kind) and are old enough, known or not; and unfinished uploads. *ret_no_uploads: as in lake_orphans. */
int lake_list_objects(const struct lake *lake, struct s3 *s3, const struct lake_orphan_kind *kind, int64_t older_than_ms,
		      struct lake_orphan_list *to, const char **ret_no_uploads, struct duct_error *err) DUCT_CHECKED;
/* lock_sql: takes the lock of our commits and gives the names that were registered since. */
int lake_remove_objects(struct lake *lake, struct s3 *s3, const char *lock_sql, int64_t older_than_ms, struct duct_arena *arena,
			struct lake_orphan *orphans, size_t n, struct duct_error *err) DUCT_CHECKED;

#endif
