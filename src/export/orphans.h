#ifndef EXPORT_ORPHANS_H
#define EXPORT_ORPHANS_H

#include "export/registry.h"
#include "lake/orphans.h"

/*
 * Files that an export left in a team's bucket: below backfill/, called as runs call them, named by no row of the team's catalog, also of no earlier
 * snapshot. What a run that is under way by the state's word has written is none, however old.
 */
struct export_orphans_request {
	struct state *state;
	int64_t older_than_ms;
	bool remove; /* at least LAKE_ORPHAN_MIN_MS old then; else CONFIG */
};
/* Adds to *ret, which begins zeroed, what lake_find_orphans() and lake_remove_orphans() give; in *arena. CONFIG: the team has no lake. */
int export_find_orphans(const struct export_entry *entry, const struct export_orphans_request *request, const struct duct_ctx *ctx,
			struct duct_arena *arena, struct lake_orphans *ret, struct duct_error *err) DUCT_CHECKED;

/* The run that wrote the object; NULL: it is not called as runs call them. malloc. */
char *export_run_of(const char *path);

#endif
