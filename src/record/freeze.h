#ifndef DUCT_FREEZE_H
#define DUCT_FREEZE_H

#include "base/buf.h"
#include "base/error.h"
#include "record/batch.h"

/*
 * Changes as bytes, for a file that this machine reads back later: the values as they lie in memory (native byte order), relations apart,
 * each once. Not a wire format: another version of the program refuses it by the file's header.
 *
 *   relation   oid, version, flags, names, columns with types, keys, live and dropped columns
 *   changes    commits, positions, then per batch: (oid, version) of its relation, op, seq and old_row of its rows, its vectors
 */
enum { DUCT_FREEZE_VERSION = 1 };

void duct_freeze_relation(struct duct_buf *to, const struct duct_relation *relation);
void duct_freeze_changes(struct duct_buf *to, const struct duct_changes *changes);

/*
 * The relations that were read so far. Zeroed: none. Their versions are given anew, in the order in which they are read, as those of a run
 * mean nothing to another: above all that sources give, and never again from the same duct_thaw.
 */
enum { DUCT_THAW_VERSIONS = 1 << 30 };
struct duct_thaw {
	struct duct_thawed {
		uint64_t version; /* as frozen */
		struct duct_relation *relation;
	} * relations;
	size_t n, cap;
	uint64_t given;
};
void duct_thaw_forget(struct duct_thaw *thaw); /* what follows names its relations anew */
void duct_thaw_done(struct duct_thaw *thaw);

/* Bytes of duct_freeze_relation(); later changes may name it. DATA: damaged. */
int duct_thaw_relation(struct duct_thaw *thaw, const char *data, size_t n, struct duct_error *err) DUCT_CHECKED;
/* Bytes of duct_freeze_changes(): sealed, one reference. DATA: damaged, or of a relation that was not read. Everything that a reader of the
 * batch relies on is checked, but not that texts are UTF-8. */
int duct_thaw_changes(const struct duct_thaw *thaw, const char *data, size_t n, struct duct_changes **ret,
		      struct duct_error *err) DUCT_CHECKED;

#endif
