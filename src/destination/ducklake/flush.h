#ifndef DUCKLAKE_FLUSH_H
#define DUCKLAKE_FLUSH_H

#include "destination/ducklake/ducklake.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Inside of the flush. A thread of its own reads the inlined rows up to a snapshot and writes their files, while commits go on
 * (flush_write.c); then the applier commits what has become of them (flush.c).
 */

/* The rows of one table and schema version. */
struct flush {
	struct flush *next;
	struct duct_arena arena;
	/* What is wanted; fixed by the applier before the thread begins. */
	uint32_t oid; /* of the mirror */
	int64_t table_id, version;
	struct lake_write_spec spec; /* without columns */
	int64_t *keys;		     /* ids of the lake columns that rows are found by; NULL: not known */
	int nkeys;
	struct lake_hasher hasher;
	int64_t counted_rows, counted_bytes; /* by the mirror, of all its versions; 0 in all but the first of them */
	/* What the thread finds; the applier looks at it after flushing_wait(). */
	struct lake_inlined_row *rows; /* in the order of the file */
	size_t nrows, rows_cap;
	struct lake_key_hash *hashes; /* likewise; NULL: a key is younger than these rows, or not known */
	size_t hashes_cap;
	struct lake_new_file *file; /* NULL: there was no row, or the applier has taken it */
	int64_t small_files;	    /* of the table, live */
	/* The commit. */
	char *path;
	int ordinal; /* of the file in the transaction, -1: there is none */
	size_t ndead;
};

/* Everything that is flushed in one commit, in the order in which its files are added: that of their ids. */
struct flushing {
	struct flush *first, **end;
	struct lake *lake; /* a connection of the thread's own */
	struct duck_conn *conn;
	int64_t upto; /* rows that began up to this snapshot are flushed */
	int64_t began_us;
	pthread_t thread;
	bool started;
	atomic_bool done, cancelled;
	int rc;
	struct duct_error error;
};

enum { FLUSH_SMALL_FILE = 16 << 20 }; /* bytes: of a table with many such more is flushed at once (mirror_inlines_too_much) */

struct flushing *flushing_new(void);
struct flush *flushing_add(struct flushing *f); /* one more table and version, zeroed but for its arena */
int flushing_start(struct flushing *f, struct ducklake *d, struct duct_error *err);
bool flushing_is_done(const struct flushing *f);
int flushing_wait(struct flushing *f, struct duct_error *err); /* until the files are written; what the thread says */
/* Ends the thread if it runs, and frees everything; files that nobody has taken are removed. Accepts NULL. */
void flushing_free(struct flushing *f);

#endif
