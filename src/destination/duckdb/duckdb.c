/* The DuckDB destination: the connector. See duckdb.h for how it works inside. */
#include "destination/duckdb/duckdb.h"

#include "base/log.h"
#include "base/path.h"
#include "base/uuid.h"

#include <errno.h>
#include <ctype.h>
#include <string.h>
#include <unistd.h>

static int check_config(const void *config, struct duct_error *err)
{
	const struct duckdb_config *c = config;
	if (!*c->dsn || strncmp(c->dsn, "md:", 3) == 0 || strncmp(c->dsn, "motherduck:", 11) == 0 || duct_dsn_is_misplaced(c->dsn))
		return duct_fail(err, DUCT_CONFIG, "option \"dsn\" is the path of a DuckDB file, or :memory:");
	return tablesink_check(&c->sink, err);
}

static int probe(const void *config, const struct duct_ctx *ctx, const struct duct_relations *tables, duct_report_fn *report,
		 void *arg, struct duct_error *err)
{
	(void)ctx;
	const struct duckdb_config *c = config;
	tablesink_probe(&c->sink, tables, report, arg);
	if (duck_load(err) < 0) {
		report(arg, DUCT_FINDING_ERROR, err->message, NULL);
		return 0;
	}
	if (strcmp(c->dsn, ":memory:") == 0) {
		report(arg, DUCT_FINDING_WARN,
		       "the database is in memory: it ends with the process, and each run begins with a copy", "set dsn to a file");
		return 0;
	}
	const char *slash = strrchr(c->dsn, '/');
	AUTO_FREE char *folder = slash ? duct_xstrndup(c->dsn, (size_t)(slash - c->dsn) + 1) : duct_xstrdup(".");
	AUTO_FREE char *what = duct_xasprintf("database file \"%s\"", c->dsn);
	bool there = access(c->dsn, F_OK) == 0;
	if (access(there ? c->dsn : folder, there ? R_OK | W_OK : W_OK | X_OK) == 0) {
		AUTO_FREE char *fine =
			duct_xasprintf("%s %s", what, there ? "can be written" : "does not exist yet: it will be made");
		report(arg, DUCT_FINDING_OK, fine, NULL);
		return 0;
	}
	AUTO_FREE char *problem = duct_xasprintf("%s cannot be written: %s", what, strerror(errno));
	report(arg, DUCT_FINDING_ERROR, problem, "make its folder, and give the user that runs ductstream write permission on it");
	return 0;
}

static void destination_close(void *dest)
{
	struct duckdb_dest *d = dest;
	if (!d)
		return;
	dd_group_reset(d);
	dd_rollback(d);
	dd_tables_free(d);
	free(d->tables);
	dd_release(d);
	tablesink_free(d->sink);
	free(d->held);
	free(d->known_oids);
	duct_buf_done(&d->refused);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static uint64_t random_seed(void)
{
	char uuid[DUCT_UUID_LEN];
	uint64_t seed = 0;
	duct_uuid_v4(uuid);
	for (const char *p = uuid; *p; p++)
		seed = seed * 31 + (uint8_t)*p;
	return seed | 1;
}

static int destination_open(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct duckdb_dest *d = duct_xcalloc(1, sizeof *d);
	d->config = config;
	d->ctx = ctx;
	d->seed = random_seed();
	pthread_mutex_init(&d->lock, NULL);
	int rc = tablesink_new(&d->sink, &d->config->sink, err);
	if (rc == 0)
		rc = dd_take_over(d, err);
	if (rc) {
		destination_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

static int destination_resume(void *dest, struct duct_checkpoint *ret, struct duct_error *err)
{
	(void)err;
	struct duckdb_dest *d = dest;
	*ret = d->checkpoint;
	d->upto = ret->pos;
	free(d->known_oids);
	d->known_oids = duct_xcalloc(d->ntables + 1, sizeof *d->known_oids);
	ret->nknown = 0;
	for (size_t i = 0; i < d->ntables; i++)
		if (!d->tables[i]->copy_again && !d->tables[i]->gone)
			d->known_oids[ret->nknown++] = d->tables[i]->oid;
	ret->known_oids = d->known_oids;
	return 0;
}

static int destination_begin_copy(void *dest, const char *source_identity, struct duct_error *err)
{
	struct duckdb_dest *d = dest;
	int rc = dd_commit(d, DUCT_STATE_COPYING, &(struct duct_pos){0}, source_identity, err);
	if (rc)
		dd_rollback(d);
	return rc;
}

/* After a failed write: forgets the group, and has the table that it gave up (if any) copied again. */
static int give_up(struct duckdb_dest *d, struct duct_error *err)
{
	uint32_t oid = d->give_up_oid;
	struct duct_error stored;
	d->give_up_oid = 0;
	dd_group_reset(d);
	dd_rollback(d);
	dd_tables_free(d);
	if (!oid || dd_store_copy_again(d, oid, &stored) == 0)
		return -(int)err->class;
	*err = stored;
	return -(int)err->class;
}

static int destination_write(void *dest, struct duct_changes *changes, struct duct_error *err)
{
	return dd_group_write(dest, changes, err) ? give_up(dest, err) : 0;
}

static struct duct_destination_pace destination_pace(void *dest)
{
	struct duckdb_dest *d = dest;
	if (!d->opened_us)
		return (struct duct_destination_pace){INT64_MAX, false};
	int64_t due = d->last_commit_us + d->config->flush_interval_ms * 1000;
	return (struct duct_destination_pace){.commit_at_us = due > d->opened_us ? due : d->opened_us, .full = dd_group_is_full(d)};
}

static int destination_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err)
{
	(void)last;
	struct duckdb_dest *d = dest;
	if (d->partial)
		return duct_fail(err, DUCT_FATAL, "commit in the middle of a source transaction");
	uint64_t rows = d->source_rows;
	if (dd_group_commit(d, err))
		return give_up(d, err);
	*ret = (struct duct_commit_result){.snapshot_id = -1, .rows = rows};
	return 0;
}

/* Nothing has come for a while: others may have the file. */
static int destination_idle(void *dest, bool last, struct duct_error *err)
{
	(void)last;
	(void)err;
	struct duckdb_dest *d = dest;
	if (!d->config->hold_file && strcmp(d->config->dsn, ":memory:") != 0 && !d->in_transaction)
		dd_release(d);
	return 0;
}

static void destination_abort(void *dest)
{
	struct duckdb_dest *d = dest;
	dd_group_reset(d);
	dd_load_abort(d);
}

static const char *same_place(const void *a, const char *a_name, const void *b, const char *b_name)
{
	const char *x = ((const struct duckdb_config *)a)->dsn, *y = ((const struct duckdb_config *)b)->dsn;
	(void)a_name, (void)b_name;
	return strcmp(x, ":memory:") != 0 && duct_path_same(x, y) ? "database file" : NULL;
}

static int destination_replay(void *dest, enum duct_replay how, struct duct_error *err)
{
	(void)err;
	struct duckdb_dest *d = dest;
	d->replay = how;
	d->refused.len = 0;
	return 0;
}

const struct duct_destination_ops duct_destination_duckdb = {
	.name = "duckdb",
	.summary = "tables of a DuckDB file",
	.caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_UPSERT | DUCT_DESTINATION_LOAD,
	.opts = duckdb_opts,
	.config_size = sizeof(struct duckdb_config),
	.check = check_config,
	.same_place = same_place,
	.probe = probe,
	.open = destination_open,
	.resume = destination_resume,
	.begin_copy = destination_begin_copy,
	.load_begin = dd_load_begin,
	.loader_open = dd_loader_open,
	.loader_write = dd_loader_write,
	.loader_finish = dd_loader_finish,
	.loader_close = dd_loader_close,
	.load_publish = dd_load_publish,
	.load_abort = dd_load_abort,
	.resolve_staging = dd_staging_resolve,
	.write = destination_write,
	.replay = destination_replay,
	.pace = destination_pace,
	.commit = destination_commit,
	.idle = destination_idle,
	.abort = destination_abort,
	.close = destination_close,
};
