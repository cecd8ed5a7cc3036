#ifndef LAKE_ORPHANS_H
#define LAKE_ORPHANS_H

#include "lake/catalog.h"
#include "net/s3.h"

/*
 * Files that no row of the catalog names: left by a copy that was killed, or by a commit whose outcome was not known.
 *
 * Looked at are regular files below the data path called as ductstream and the official client call theirs
 * (ducklake-<uuid>.parquet, ducklake-<uuid>-delete.parquet); symbolic links below it are not followed. A file is known when
 * a data file, a delete file or a file scheduled for deletion has its name, in whatever folder.
 *
 * Writers write first and name later, so a file counts only when nothing touched it for `older_than_ms`. Our writers
 * touch what they have not committed yet every few minutes (lake_renew_file), and before they commit they look whether
 * it is still there: a file that was removed under a frozen writer costs an attempt, no rows. Official clients do neither:
 * the age must be longer than their longest transaction.
 *
 * Where the data are in S3, objects are looked at by their names in the same way. Their age is by the server's clock, and nobody can touch one
 * without writing it again: whoever commits what he wrote more than LAKE_SURE_MS ago asks, under the lock of our commits, whether it is still there
 * (lake_hold_objects()). Beside the objects there are uploads that a killed writer left, which are counted as orphans by when they began.
 */
enum { LAKE_RENEW_MS = 120000, LAKE_ORPHAN_MIN_MS = 600000, LAKE_SURE_MS = 2000 };

struct lake_orphan {
	const char *path;   /* absolute, or a URL */
	const char *upload; /* id of an upload that is not finished; NULL: a file */
	int64_t size_bytes, modified_us;
	bool removed;
	const char *failure; /* why it was not, NULL: not tried, or it is gone, known or touched by now */
};

struct lake_orphans {
	struct lake_orphan *list;
	size_t n;
	const char *no_uploads; /* why unfinished uploads are not among them; NULL: they are, or there is no such thing */
};

/* Objects that others than the lake's writers have written for it (register.h), below their part of the data path. */
struct lake_orphan_kind {
	const char *prefix;		  /* "backfill/" */
	bool (*is_one)(const char *path); /* by the name */
};

/* Allocated in *arena, sorted by path. The lake may be open for reading only; s3: where its data are, NULL for a folder. kind: NULL for
 * data files; else it is in S3. */
int lake_find_orphans(struct lake *lake, struct s3 *s3, const struct lake_orphan_kind *kind, int64_t older_than_ms,
		      struct duct_arena *arena, struct lake_orphans *ret, struct duct_error *err);

/*
 * Removes what lake_find_orphans() found, in slices: each takes the lock under which our processes commit, reads again what
 * the catalog names, and looks at the age of each file again. A file that cannot be removed is said in its `failure`.
 */
int lake_remove_orphans(struct lake *lake, struct s3 *s3, int64_t older_than_ms, struct duct_arena *arena,
			struct lake_orphan *orphans, size_t n, struct duct_error *err);

/* For a file that waits for its commit: RETRY when it is gone, touched when that was not done for LAKE_RENEW_MS. */
int lake_renew_file(const char *path, struct duct_error *err);
/* Whether waiting files are to be renewed: LAKE_RENEW_MS have passed since *renewed_us (monotonic; 0: never), now it. */
bool lake_renewal_due(int64_t *renewed_us);

#endif
