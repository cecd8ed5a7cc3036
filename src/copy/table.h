#ifndef COPY_TABLE_H
#define COPY_TABLE_H

#include <jansson.h>

#include "base/ctx.h"
#include "copy/checks.h"
#include "copy/settings.h"
#include "duck/tap.h"
#include "net/s3.h"

/*
 * One Delta table becomes one table of the lake. Its version is pinned once; its rows are written aside, checked against it, and put into the
 * lake in one commit that keeps the version. The next copy moves only the files that were added since, where the log says that nothing
 * else happened and nobody has changed the table of the lake; otherwise everything.
 *
 * Until the commit the old table is there, whatever happens; after it the new one.
 */
struct copy_session {
	const struct copy_settings *settings;
	const struct duct_ctx *ctx;
	struct duck_conn *conn;
	struct duck_tap *tap;			   /* of its instance */
	struct s3 *s3;				   /* NULL: nothing is in S3 */
	const char *kind;			   /* of the checks: verify.h */
	const char *checks_path;		   /* NULL: none */
	void (*step)(void *arg, const char *step); /* metadata, copy, verify, commit */
	void (*log)(const char *level, const char *fmt, ...) DUCT_PRINTF(2, 3);
	void *arg;
};

struct copy_table {
	struct copy_names names; /* source_table_uri, schema_name, table_name and model_label are there */
	const char *owner;	 /* whose the table is: another one's is not overwritten */
};

/* *ret_result: what came of it, also when it fails: {model, table, source, delta_version, mode, files, rows, bytes, snapshot_id, checks}, mode being
 * "full", "append" or "unchanged", and "columns" ([{"name", "type"}]). DATA: a check failed. RETRY, CONFIG, CANCELLED as always. */
int copy_table(const struct copy_session *session, const struct copy_table *table, struct duct_arena *arena, json_t **ret_result,
	       struct duct_error *err) DUCT_CHECKED;

#endif
