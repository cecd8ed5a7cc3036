#ifndef COPY_DELTA_H
#define COPY_DELTA_H

#include "base/arena.h"
#include "net/s3.h"

/*
 * The log of a Delta table, a folder of this machine or below s3://: which version it is at, and what its last commits did. Rows are read by
 * the official extension (copy/table.h); the log is read here to pin the version once, and to find out whether only rows were added.
 */
struct delta;

/* uri: "s3://bucket/path", "/a/folder", "file:///a/folder"; s3 may be NULL for those. Asks nobody. s3 is borrowed. */
int delta_open(struct delta **ret, const char *uri, struct s3 *s3, struct duct_error *err) DUCT_CHECKED;
void delta_close(struct delta *delta);		  /* accepts NULL */
const char *delta_uri(const struct delta *delta); /* as DuckDB wants it, without a slash at the end */

/* The newest version, and of the newest checkpoint up to it (-1: none). CONFIG: there is no Delta table. RETRY: a commit since the checkpoint is an empty file. */
int delta_version(struct delta *delta, int64_t *ret, int64_t *ret_checkpoint, struct duct_error *err) DUCT_CHECKED;

/* Tells the commit of a version from any other one: a table that came out of a backup may have others of the same number. "": it is not in the log. In
 * the arena. */
const char *delta_mark(struct delta *delta, int64_t version, struct duct_arena *arena);

/* What the table says about itself, as of a version. */
struct delta_about {
	const char *id;		      /* of the table; "" when nobody knows */
	const char *partition_column; /* the first one, NULL: none */
	bool mapped;		      /* columns have other names in the files */
};
/* Reads the commits from `version` down to one that says it, or to `least`. 1: found, 0: not. In the arena. */
int delta_about(struct delta *delta, int64_t version, int64_t least, struct duct_arena *arena, struct delta_about *ret,
		struct duct_error *err) DUCT_CHECKED;

/* A file that was added. */
struct delta_file {
	const char *url; /* whole, as DuckDB reads it */
	int64_t size;
	const char *const *values; /* of the partition columns, in order; NULL for NULL */
};
struct delta_added {
	const char *const *columns; /* of the partition */
	size_t ncolumns;
	struct delta_file *files;
	size_t n, cap;
	int64_t bytes;
};
/*
 * The files that the commits behind `from`, up to `to`, have added. 1: they have done nothing else. 0: they have, or may have, and *ret_why says
 * what (in the arena).
 */
int delta_added(struct delta *delta, int64_t from, int64_t to, struct duct_arena *arena, struct delta_added *ret,
		const char **ret_why, struct duct_error *err) DUCT_CHECKED;
void delta_added_done(struct delta_added *added); /* accepts a zeroed one */

/* One commit's text, for delta_added(): 1, 0 with *ret_why, -DATA: it is not what a commit looks like. base: what paths are relative to. */
int delta_read_commit(const char *text, size_t n, const char *base, struct duct_arena *arena, struct delta_added *to,
		      const char **ret_why, struct duct_error *err) DUCT_CHECKED;

#endif
