/* Objects of no catalog row: see orphans.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "lake/lake.h"
#include "lake/orphans_internal.h"
#include "lake/txn_plan.h"

enum { SLICE_OBJECTS = 64 }; /* while they are looked at and deleted nobody commits */

/* --- finding --- */

struct listing {
	struct s3 *s3;
	int64_t older_than_ms;
	const struct lake_orphan_kind *kind;
	const char *root; /* "s3://bucket/" */
	struct lake_orphan_list *to;
};

/* The older of both clocks: a file that is too young by one of them stays. */
static int64_t limit_us(const struct s3 *s3, int64_t older_than_ms)
{
	int64_t ours = duct_wall_us(), theirs = s3_clock_us(s3); /* whole seconds, cut off */
	return (theirs && theirs + 1000000 < ours ? theirs + 1000000 : ours) - older_than_ms * 1000;
}

static void add(const struct listing *l, const char *key, const char *upload, uint64_t size, int64_t at_us)
{
	struct lake_orphan_list *to = l->to;
	if (!(l->kind ? l->kind->is_one(key) : lake_is_data_name(lake_name_of(key))) || at_us > limit_us(l->s3, l->older_than_ms))
		return;
	AUTO_FREE char *path = duct_xasprintf("%s%s", l->root, key);
	to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
	to->list[to->n++] = (struct lake_orphan){
		.path = duct_arena_strdup(to->arena, path),
		.upload = upload ? duct_arena_strdup(to->arena, upload) : NULL,
		.size_bytes = (int64_t)size,
		.modified_us = at_us,
	};
}

static int see_object(void *arg, const struct s3_object *object, struct duct_error *err)
{
	(void)err;
	add(arg, object->key, NULL, object->size, object->modified_us);
	return 0;
}

static int see_upload(void *arg, const struct s3_unfinished *upload, struct duct_error *err)
{
	(void)err;
	add(arg, upload->key, upload->id, 0, upload->begun_us);
	return 0;
}

int lake_list_objects(const struct lake *lake, struct s3 *s3, const struct lake_orphan_kind *kind, int64_t older_than_ms,
		      struct lake_orphan_list *to, const char **ret_no_uploads, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	struct duct_error why;
	if (s3_url_parse(lake->data_path, &bucket, &prefix, err) < 0)
		return -(int)err->class;
	AUTO_FREE char *root = duct_xstrndup(lake->data_path, strlen(lake->data_path) - strlen(prefix));
	AUTO_FREE char *below = duct_xasprintf("%s%s", prefix, kind ? kind->prefix : "");
	struct listing l = {s3, older_than_ms, kind, root, to};
	/* Uploads first: one that is finished meanwhile is an object then. */
	int rc = s3_list_uploads(s3, bucket, below, see_upload, &l, &why);
	if (rc == -DUCT_CANCELLED) {
		*err = why;
		return rc;
	}
	if (rc < 0)
		*ret_no_uploads = duct_arena_strdup(to->arena, why.message);
	return s3_list(s3, bucket, below, NULL, see_object, &l, err);
}

/* --- removing --- */

/* Of a slice, under the lock: what is to go. */
struct slice {
	struct lake_orphan *orphans[SLICE_OBJECTS];
	const char *keys[SLICE_OBJECTS];
	size_t n;
};

static void take_upload(struct s3 *s3, const char *bucket, const char *key, struct lake_orphan *o, struct duct_arena *arena)
{
	struct duct_error why;
	o->removed = s3_abort_upload(s3, bucket, key, o->upload, &why) == 0;
	if (!o->removed)
		o->failure = duct_arena_strdup(arena, why.message);
}

static void fail_all(struct slice *slice, const char *why, struct duct_arena *arena)
{
	for (size_t i = 0; i < slice->n; i++)
		slice->orphans[i]->failure = duct_arena_strdup(arena, why);
}

/* One that was written again, or is gone, is none any more. */
static void drop_young(struct s3 *s3, const char *bucket, struct slice *slice, int64_t older_than_ms, struct duct_arena *arena)
{
	int64_t at_us[SLICE_OBJECTS];
	struct duct_error why;
	size_t n = 0;
	if (s3_modified(s3, bucket, slice->keys, slice->n, at_us, &why) < 0) {
		fail_all(slice, why.message, arena);
		slice->n = 0;
	}
	for (size_t i = 0; i < slice->n; i++) {
		if (!at_us[i] || at_us[i] > limit_us(s3, older_than_ms))
			continue;
		slice->keys[n] = slice->keys[i];
		slice->orphans[n++] = slice->orphans[i];
	}
	slice->n = n;
}

/* Together; where that fails, one by one, so that each has its own reason. */
static void delete_slice(struct s3 *s3, const char *bucket, struct slice *slice, struct duct_arena *arena)
{
	struct duct_error why;
	bool all = s3_delete_all(s3, bucket, slice->keys, slice->n, &why) == 0, stop = !all && why.class == DUCT_RETRY;
	if (stop)
		fail_all(slice, why.message, arena);
	for (size_t i = 0; i < slice->n && !stop; i++) {
		struct lake_orphan *o = slice->orphans[i];
		int rc = all ? 0 : s3_delete(s3, bucket, slice->keys[i], &why);
		o->removed = rc == 0;
		if (rc < 0)
			o->failure = duct_arena_strdup(arena, why.message);
	}
}

int lake_remove_objects(struct lake *lake, struct s3 *s3, const char *lock_sql, int64_t older_than_ms, struct duct_arena *arena,
			struct lake_orphan *orphans, size_t n, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	if (s3_url_parse(lake->data_path, &bucket, &prefix, err) < 0)
		return -(int)err->class;
	size_t root = strlen(lake->data_path) - strlen(prefix);
	for (size_t from = 0; from < n; from += SLICE_OBJECTS) {
		struct lake_names names;
		struct slice slice = {.n = 0};
		duct_kill_point("orphans-slice");
		int rc = lake_names_read_locked(&names, lake, lock_sql, err);
		for (size_t i = from; i < n && i < from + SLICE_OBJECTS && rc == 0; i++) {
			if (orphans[i].upload || lake_names_have(&names, orphans[i].path))
				continue;
			slice.keys[slice.n] = orphans[i].path + root;
			slice.orphans[slice.n++] = &orphans[i];
		}
		lake_names_done(&names);
		if (slice.n)
			drop_young(s3, bucket, &slice, older_than_ms, arena);
		if (slice.n)
			delete_slice(s3, bucket, &slice, arena);
		lake->db->ops->reset(lake->db);
		if (rc)
			return duct_wrap(err, "look at the catalog again before files are removed");
	}
	for (size_t i = 0; i < n; i++)
		if (orphans[i].upload)
			take_upload(s3, bucket, orphans[i].path + root, &orphans[i], arena);
	return 0;
}

/* --- what waits for its commit --- */

void lake_use_s3(struct lake *lake, struct s3 *s3)
{
	lake->s3 = s3;
}

struct waiting {
	char *bucket;
	const char *data_path; /* whose first `root` bytes come before a key */
	size_t root, n;
	const char **keys;
};

/* What others wrote is theirs, if it is not said when; what was written a moment ago is no orphan for anybody. */
static void add_waiting(struct waiting *w, const char *path, int64_t written_us)
{
	bool fresh = written_us && duct_mono_us() - written_us < LAKE_SURE_MS * 1000LL;
	bool ours = written_us || lake_is_data_name(lake_name_of(path));
	if (strncmp(path, w->data_path, w->root) == 0 && ours && !fresh)
		w->keys[w->n++] = path + w->root;
}

static int ask_for_all(struct lake *lake, const struct waiting *w, struct duct_error *err)
{
	int64_t *at_us = duct_xcalloc(w->n, sizeof *at_us);
	int rc = s3_modified(lake->s3, w->bucket, w->keys, w->n, at_us, err);
	if (rc < 0)
		rc = duct_wrap(err, "look whether files that wait for their commit are still there");
	for (size_t i = 0; i < w->n && rc == 0; i++)
		if (!at_us[i])
			rc = duct_fail(err, DUCT_RETRY,
				       "\"%.*s%s\", written for a commit that is still to come, is not there any more: a clean-up "
				       "took it for an orphan",
				       (int)w->root, w->data_path, w->keys[i]);
	free(at_us);
	return rc;
}

static int hold(struct lake *lake, const struct waiting *w, bool *ret_held, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0};
	duct_buf_printf(&sql, "SELECT pg_advisory_lock(%lld)", (long long)lake->db->lock_key);
	if (!lake->db->sqlite && lake->db->ops->query(lake->db, sql.data, NULL, NULL, err))
		return -(int)err->class;
	*ret_held = !lake->db->sqlite;
	int rc = ask_for_all(lake, w, err);
	if (rc < 0 && *ret_held)
		lake_release_objects(lake);
	*ret_held &= rc == 0;
	return rc;
}

int lake_hold_objects(const struct lake_txn *txn, bool *ret_held, struct duct_error *err)
{
	struct lake *lake = txn->lake;
	AUTO_FREE char *bucket = NULL, *prefix = NULL;
	*ret_held = false;
	if (!lake->s3 || !lake_path_is_remote(lake->data_path) || txn->nfiles + txn->ndeletes == 0)
		return 0;
	if (s3_url_parse(lake->data_path, &bucket, &prefix, err) < 0)
		return -(int)err->class;
	struct waiting w = {
		.bucket = bucket,
		.data_path = lake->data_path,
		.root = strlen(lake->data_path) - strlen(prefix),
		.keys = duct_xcalloc(txn->nfiles + txn->ndeletes, sizeof *w.keys),
	};
	for (size_t i = 0; i < txn->nfiles; i++)
		add_waiting(&w, txn->files[i].file->path, txn->files[i].file->written_us);
	for (size_t i = 0; i < txn->ndeletes; i++)
		add_waiting(&w, txn->deletes[i].path, txn->deletes[i].written_us);
	int rc = w.n ? hold(lake, &w, ret_held, err) : 0;
	free(w.keys);
	return rc;
}

void lake_release_objects(struct lake *lake)
{
	AUTO_BUF struct duct_buf sql = {0};
	struct duct_error gone;
	duct_buf_printf(&sql, "SELECT pg_advisory_unlock(%lld)", (long long)lake->db->lock_key);
	(void)!lake->db->ops->query(lake->db, sql.data, NULL, NULL, &gone); /* a connection that is gone holds nothing */
}
