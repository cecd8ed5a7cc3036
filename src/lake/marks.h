#ifndef LAKE_MARKS_H
#define LAKE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct lake;
struct lake_txn;

/*
 * Which rows of which data files are marked deleted inside the catalog: a bit per row around the marks. The catalog's own
 * table of marks has no index (a tree over it costs the catalog four times the mark), so it is read as a whole.
 * Zeroed: empty.
 */
struct lake_mark_set {
	struct lake_marked_file *files; /* ascending by id */
	size_t n, cap;
};

/* Adds the marks of a file. False: a position is no row number, or was there already; what came before it is added. */
bool lake_mark_set_add(struct lake_mark_set *set, int64_t file_id, const int64_t *positions, size_t n, int64_t *ret_position);
bool lake_mark_set_has_file(const struct lake_mark_set *set, int64_t file_id);
/* Positions of the file, ascending; malloc. */
int64_t *lake_mark_set_list(const struct lake_mark_set *set, int64_t file_id, size_t *ret_n);
void lake_mark_set_drop_file(struct lake_mark_set *set, int64_t file_id);
void lake_mark_set_done(struct lake_mark_set *set); /* empty again */

/* Takes one row of the catalog's answer to lake_read_marks(): the marks of a piece of a file. For tests. */
int lake_mark_set_take(struct lake_mark_set *set, const char *const *values, struct duct_error *err);

/* The marks of a table's live files as of the model's head. Takes the place of what was in the set; on failure it is
 * empty. */
int lake_read_marks(struct lake *lake, int64_t table_id, struct lake_mark_set *set, struct duct_error *err);

/*
 * What a writer knows of the marks of the tables that it marks rows in: read at its first mark of a table, then kept in step
 * with its commits. It is what makes a mark given twice an error (it would be subtracted from every count twice): a commit
 * claims its marks before it is sent. That is proof because the commit asserts the head, and forgets the table when
 * others have touched it.
 *
 * FATAL when a row of the txn is marked already, or a file that is to get a delete file has marks.
 */
int lake_txn_claim_marks(struct lake_txn *txn, struct duct_error *err);
/* After the commit: what it claimed is true (files that ended are of no interest any more), or must be forgotten. */
void lake_txn_settle_marks(struct lake_txn *txn, bool committed);
/* False: the file has none for sure, without a look into the catalog. */
bool lake_may_have_marks(const struct lake *lake, int64_t table_id, int64_t file_id);
void lake_forget_marks(struct lake *lake, int64_t table_id);
void lake_forget_all_marks(struct lake *lake);

#endif
