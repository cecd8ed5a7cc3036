/* What exports have left behind: see orphans.h. */
#include "export/orphans.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export/internal.h"
#include "state/runs.h"

enum { STALL_MS = 10000, RETRY_MS = 5000 };

/* --- names --- */

/* Takes "-HEAD" and digits (hex: also A to F) off the end; false: there is no such end. */
static bool cut(const char *text, size_t *n, const char *head, bool hex)
{
	size_t at = *n, len = strlen(head);
	while (at && (hex ? isxdigit((unsigned char)text[at - 1]) : isdigit((unsigned char)text[at - 1])))
		at--;
	if (at == *n || at < len || strncmp(text + at - len, head, len) != 0 || at == len)
		return false;
	*n = at - len;
	return true;
}

/* "RUN-FENCE[-tryN][-hMARK].parquet" */
char *export_run_of(const char *path)
{
	static const char end[] = ".parquet";
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t n = strlen(name), tail = sizeof end - 1;
	if (n <= tail || strcmp(name + n - tail, end) != 0)
		return NULL;
	n -= tail;
	(void)cut(name, &n, "-h", true);
	(void)cut(name, &n, "-try", false);
	return cut(name, &n, "-", false) ? duct_xstrndup(name, n) : NULL;
}

static bool is_ours(const char *path)
{
	AUTO_FREE char *run = export_run_of(path);
	return run && strstr(path, "/year=") && strstr(path, "/day=");
}

/* --- runs under way --- */

static int drop_running(const struct export_orphans_request *request, struct duct_arena *arena, struct lake_orphans *found,
			struct duct_error *err)
{
	size_t n = 0;
	for (size_t i = 0; i < found->n; i++) {
		struct state_run run;
		AUTO_FREE char *id = export_run_of(found->list[i].path);
		int rc = request->state ? state_run_get(request->state, arena, id, &run, err) : 0;
		if (rc < 0)
			return rc;
		if (rc == 1 && (run.state == STATE_RUN_RUNNING || run.state == STATE_RUN_QUEUED))
			continue;
		found->list[n++] = found->list[i];
	}
	found->n = n;
	return 0;
}

/* --- a team --- */

static int look_below(struct export_place *place, const char *folder, const struct export_orphans_request *request,
		      struct duct_arena *arena, struct lake_orphans *to, struct duct_error *err)
{
	AUTO_FREE char *prefix = duct_xasprintf("backfill/%s/team_id=%" PRId64 "/", folder, place->team.team_id);
	const struct lake_orphan_kind kind = {prefix, is_ours};
	struct lake_orphans found;
	int rc = lake_find_orphans(place->lake, place->s3, &kind, request->older_than_ms, arena, &found, err);
	rc = rc ? rc : drop_running(request, arena, &found, err);
	if (!rc && request->remove)
		rc = lake_remove_orphans(place->lake, place->s3, request->older_than_ms, arena, found.list, found.n, err);
	if (rc)
		return rc;
	struct lake_orphan *all = duct_arena_zalloc(arena, (to->n + found.n + 1) * sizeof *all);
	if (to->n)
		memcpy(all, to->list, to->n * sizeof *all);
	if (found.n)
		memcpy(all + to->n, found.list, found.n * sizeof *all);
	*to = (struct lake_orphans){all, to->n + found.n, to->no_uploads ? to->no_uploads : found.no_uploads};
	return 0;
}

static int look(struct export_place *place, const struct export_orphans_request *request, struct duct_arena *arena,
		struct lake_orphans *ret, struct duct_error *err)
{
	AUTO_FREE char *data_path = duct_xasprintf("s3://%s/", place->team.bucket);
	const struct lake_config config = {.catalog = place->team.catalog,
					   .data_path = data_path,
					   .remote = true,
					   .flow = "backfill/orphans",
					   .read_only = true,
					   .busy_timeout_ms = 30000};
	int rc = lake_open(&place->lake, &config, place->ctx, err);
	for (int what = EXPORT_EVENTS; what <= EXPORT_PERSONS && !rc; what++)
		rc = look_below(place, export_shapes[what].folder, request, arena, ret, err);
	return rc;
}

int export_find_orphans(const struct export_entry *entry, const struct export_orphans_request *request, const struct duct_ctx *ctx,
			struct duct_arena *arena, struct lake_orphans *ret, struct duct_error *err)
{
	struct export_place place = {.ctx = ctx, .arena = arena};
	if (request->remove && request->older_than_ms < LAKE_ORPHAN_MIN_MS)
		return duct_fail(err, DUCT_CONFIG, "files younger than ten minutes are not removed");
	int rc = export_entry_resolve(entry, request->state, arena, &place.team, err);
	rc = rc ? rc : export_find_bucket(&place, err);
	place.s3_options.stall_ms = STALL_MS; /* commits wait while a slice is deleted */
	place.s3_options.retry_ms = RETRY_MS;
	rc = rc ? rc : export_open_bucket(&place, err);
	rc = rc ? rc : look(&place, request, arena, ret, err);
	export_close_place(&place);
	return rc ? duct_wrap(err, "team %" PRId64, entry->team_id) : 0;
}
