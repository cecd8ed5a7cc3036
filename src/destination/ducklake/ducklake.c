/* The DuckLake destination: the connector. See ducklake.h for how it works inside. */
#include "destination/ducklake/ducklake.h"

#include "base/clock.h"
#include "base/path.h"
#include "lake/dead.h"
#include "pg/session.h"

#include <string.h>
#include <strings.h>

static int check_config(const void *config, struct duct_error *err)
{
	const struct ducklake_config *c = config;
	static const char *const codecs[] = {"uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw", NULL};
	if (strncmp(c->catalog, "sqlite:", 7) != 0 && strncmp(c->catalog, "postgres:", 9) != 0)
		return duct_fail(err, DUCT_CONFIG, "option \"catalog\" must begin with sqlite: or postgres:");
	if (strncmp(c->catalog, "sqlite:", 7) == 0 && duct_dsn_is_misplaced(c->catalog + 7))
		return duct_fail(err, DUCT_CONFIG, "option \"catalog\": behind sqlite: is the path of a file");
	const char *bucket = c->data_path ? strstr(c->data_path, "://") : NULL;
	if (bucket && (strchr(bucket, '?') || memchr(bucket + 3, '@', strcspn(bucket + 3, "/"))))
		return duct_fail(err, DUCT_CONFIG, "option \"data_path\" is a folder, without user, password and query");
	for (int i = 0; codecs[i]; i++)
		if (strcasecmp(c->compression, codecs[i]) == 0)
			return tablesink_check(&c->sink, err);
	const char *near = duct_nearest(c->compression, codecs);
	return duct_fail(err, DUCT_CONFIG, "option \"compression\": \"%.40s\" is not a Parquet codec%s%s%s", c->compression,
			 near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static void destination_close(void *dest)
{
	struct ducklake *d = dest;
	if (!d)
		return;
	ducklake_flush_abort(d);
	if (d->load)
		ducklake_load_abort(d);
	group_reset(d);
	mirrors_free(d);
	lake_index_set_close(d->indexes);
	lake_points_free(d->points);
	tablesink_free(d->sink);
	duck_disconnect(d->conn);
	duck_close(d->db);
	lake_close(d->lake);
	free(d->known_oids);
	free(d->touched);
	free(d->held);
	free(d->patched);
	free(d->asides);
	free(d->given_up.why);
	duct_buf_done(&d->refused);
	free(d);
}

/* Where the key index of this flow and lake lives. malloc. */
static char *index_folder(const struct ducklake *d)
{
	const struct ducklake_config *c = d->config;
	if (c->index_dir)
		return duct_xasprintf("%s/%s", c->index_dir, d->ctx->flow);
	if (strncmp(c->catalog, "sqlite:", 7) == 0)
		return duct_xasprintf("%s.ductstream/%s", c->catalog + 7, d->ctx->flow);
	return duct_xasprintf("%s.ductstream/%s", lake_data_path(d->lake), d->ctx->flow);
}

enum { LONGEST_GAP_MS = 500 };

static int64_t flush_interval_ms(const struct ducklake_config *c)
{
	if (c->flush_interval_ms)
		return c->flush_interval_ms;
	return strncmp(c->catalog, "sqlite:", 7) == 0 ? 200 : 100;
}

struct lake_config ducklake_read_only(const struct ducklake_config *c, const char *flow)
{
	return (struct lake_config){
		.catalog = c->catalog,
		.metadata_schema = c->metadata_schema,
		.data_path = c->data_path,
		.flow = flow,
		.read_only = true,
		.busy_timeout_ms = c->busy_timeout_ms,
	};
}

static int open_lake(struct ducklake *d, struct duct_error *err)
{
	const struct ducklake_config *c = d->config;
	struct lake_config lc = ducklake_read_only(c, d->ctx->flow);
	lc.read_only = false;
	lc.create = c->create_catalog;
	lc.create_indexes = c->create_indexes;
	lc.inline_tables = c->inline_rows > 0;
	/* A long interval is for large commits, not for others; the last commit of a run must not wait for it. */
	lc.pace_ms = flush_interval_ms(c) < LONGEST_GAP_MS ? flush_interval_ms(c) : LONGEST_GAP_MS;
	return lake_open(&d->lake, &lc, d->ctx, err);
}

/* What others did to mirrored tables while nobody ran the flow: these tables, malloc. */
static int look_for_foreign_changes(struct ducklake *d, int64_t **ret_moved, size_t *ret_nmoved, struct duct_error *err)
{
	struct lake_change_note *notes = NULL;
	size_t n = 0;
	int rc = lake_sync(d->lake, &notes, &n, err);
	*ret_moved = duct_xcalloc(n + 1, sizeof **ret_moved);
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!lake_is_mirrored(d->lake, notes[i].table_id))
			continue;
		rc = ducklake_judge_note(d, &notes[i], err);
		(*ret_moved)[(*ret_nmoved)++] = notes[i].table_id;
	}
	free(notes);
	return rc;
}

static int mend_marks(struct ducklake *d, struct duct_error *err)
{
	int64_t n;
	int rc = lake_mend_marks(d->lake, d->conn, &n, err);
	if (!rc && n)
		log_warn(d->ctx->log,
			 "a flush of another client left marks of rows that its delete files have; they are taken away",
			 LOG_I64("rows", n));
	return rc;
}

/* Only older snapshots hang on it: what cannot be done stops nothing. */
static int mend_ended_files(struct ducklake *d, struct duct_error *err)
{
	int rc = lake_mend_ended_files(d->lake, d->conn, err);
	if (rc == 0 || err->class == DUCT_CANCELLED)
		return rc;
	log_warn(d->ctx->log, "after an official flush older snapshots may show rows twice", LOG_STR("error", err->message));
	return 0;
}

/* Of the tables that others changed every entry is doubtful, of the others none. */
static int open_indexes(struct ducklake *d, const int64_t *moved, size_t nmoved, struct duct_error *err)
{
	AUTO_FREE char *dir = index_folder(d);
	bool fresh;
	int rc = lake_index_set_open(&d->indexes, dir, lake_uuid(d->lake), lake_commit_id(d->lake), &fresh, err);
	if (rc < 0 || !nmoved)
		return rc;
	lake_index_set_begin(d->indexes);
	for (size_t i = 0; i < nmoved && rc == 0; i++)
		rc = lake_index_drop(d->indexes, moved[i], err);
	if (rc == 0)
		lake_index_set_end(d->indexes, lake_commit_id(d->lake));
	return rc;
}

static int destination_open(void **ret, const void *config, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct ducklake *d = duct_xcalloc(1, sizeof *d);
	d->config = config;
	d->ctx = ctx;
	d->points = lake_points_new();
	d->db = duck_open();
	d->conn = duck_connect(d->db);
	AUTO_FREE int64_t *moved = NULL;
	size_t nmoved = 0;
	int rc = tablesink_new(&d->sink, &d->config->sink, err);
	if (rc == 0)
		rc = open_lake(d, err);
	if (rc == 0)
		rc = look_for_foreign_changes(d, &moved, &nmoved, err);
	if (rc == 0)
		rc = mend_marks(d, err);
	if (rc == 0)
		rc = mend_ended_files(d, err);
	if (rc == 0)
		rc = open_indexes(d, moved, nmoved, err);
	if (rc < 0) {
		destination_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

static int destination_resume(void *dest, struct duct_checkpoint *ret, struct duct_error *err)
{
	(void)err;
	struct ducklake *d = dest;
	lake_checkpoint(d->lake, ret);
	d->upto = ret->pos;
	size_t n;
	const struct lake_relation *relations = lake_relations(d->lake, &n);
	free(d->known_oids);
	d->known_oids = duct_xcalloc(n + 1, sizeof *d->known_oids);
	ret->nknown = 0;
	for (size_t i = 0; i < n; i++)
		if (!mirror_state_is(relations[i].state, MIRROR_COPY_AGAIN, NULL) && strcmp(relations[i].state, MIRROR_GONE) != 0)
			d->known_oids[ret->nknown++] = relations[i].source_oid;
	ret->known_oids = d->known_oids;
	return 0;
}

static int destination_begin_copy(void *dest, const char *source_identity, struct duct_error *err)
{
	return lake_begin_copy(((struct ducklake *)dest)->lake, source_identity, err);
}

static int destination_write(void *dest, struct duct_changes *changes, struct duct_error *err)
{
	struct ducklake *d = dest;
	int rc = d->sink ? tablesink_changes(d->sink, &changes, err) : 0;
	if (rc < 0)
		duct_changes_free(changes);
	else
		rc = group_write(d, changes, err);
	return rc < 0 ? group_give_up(d, err) : 0;
}

/* What tables get beside the source's rows may be made of the commit's time and position. */
static bool destination_takes_ahead(void *dest)
{
	return !((struct ducklake *)dest)->sink;
}

static struct duct_destination_pace destination_pace(void *dest)
{
	struct ducklake *d = dest;
	if (!d->opened_us)
		return (struct duct_destination_pace){INT64_MAX, false};
	int64_t due = d->last_commit_us + flush_interval_ms(d->config) * 1000;
	return (struct duct_destination_pace){
		.commit_at_us = due > d->opened_us ? due : d->opened_us,
		.full = group_is_full(d),
	};
}

static int destination_commit(void *dest, bool last, struct duct_commit_result *ret, struct duct_error *err)
{
	struct ducklake *d = dest;
	if (d->partial)
		return duct_fail(err, DUCT_FATAL, "commit in the middle of a source transaction");
	int rc = destination_check_refused(&d->refused, err);
	if (rc < 0)
		return rc;
	const struct mirror *again = d->copy_again;
	d->last = last;
	rc = group_commit(d, ret, err);
	d->last = false;
	if (rc < 0 || !again)
		return rc;
	/* The commit stands. What must be copied is settled when the flow opens, so it opens again. */
	return duct_fail(err, DUCT_RETRY,
			 "table \"%s\".\"%s\" is copied again: its older rows have values in a new column that only the "
			 "source knows",
			 again->rel->schema, again->rel->name);
}

static int destination_idle(void *dest, bool last, struct duct_error *err)
{
	return ducklake_flush_inlined(dest, last, err);
}

static void destination_abort(void *dest)
{
	struct ducklake *d = dest;
	ducklake_flush_abort(d);
	if (d->load)
		ducklake_load_abort(d);
	/* Files stay: whether the catalog knows them may not be certain. Orphan clean-up finds them. */
	group_reset(d);
	mirrors_free(d);
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_catalog(const struct ducklake_config *a, const struct ducklake_config *b)
{
	const char *x = strchr(a->catalog, ':'), *y = strchr(b->catalog, ':');
	if (!x || !y || x - a->catalog != y - b->catalog || strncmp(a->catalog, b->catalog, (size_t)(x - a->catalog)) != 0)
		return false;
	if (*a->catalog == 's')
		return duct_path_same(x + 1, y + 1);
	return same_text(a->metadata_schema, b->metadata_schema) && pg_same_database(x + 1, y + 1);
}

/* Who looks for files that the catalog does not know, deletes those of another catalog. */
static const char *same_place(const void *a, const char *a_name, const void *b, const char *b_name)
{
	const struct ducklake_config *x = a, *y = b;
	(void)a_name, (void)b_name;
	if (same_catalog(x, y))
		return "catalog";
	return x->data_path && y->data_path && duct_path_overlaps(x->data_path, y->data_path) ? "data_path" : NULL;
}

const struct duct_destination_ops duct_destination_ducklake = {
	.name = "ducklake",
	.summary = "DuckLake 1.0 on a SQLite or Postgres catalog, written natively",
	.caps = DUCT_DESTINATION_ATOMIC_POS | DUCT_DESTINATION_UPSERT | DUCT_DESTINATION_LOAD,
	.opts = ducklake_opts,
	.config_size = sizeof(struct ducklake_config),
	.check = check_config,
	.same_place = same_place,
	.probe = ducklake_probe,
	.open = destination_open,
	.resume = destination_resume,
	.begin_copy = destination_begin_copy,
	.load_begin = ducklake_load_begin,
	.loader_open = ducklake_loader_open,
	.loader_write = ducklake_loader_write,
	.loader_finish = ducklake_loader_finish,
	.loader_close = ducklake_loader_close,
	.load_publish = ducklake_load_publish,
	.load_abort = ducklake_load_abort,
	.resolve_staging = ducklake_resolve_staging,
	.write = destination_write,
	.replay = ducklake_replay,
	.takes_ahead = destination_takes_ahead,
	.pace = destination_pace,
	.commit = destination_commit,
	.idle = destination_idle,
	.abort = destination_abort,
	.close = destination_close,
};
