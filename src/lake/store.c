/* Files of a lake into its folders or into S3: see store.h. */
#include "lake/store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "base/mem.h"
#include "base/scratch.h"

struct lake_store {
	struct s3 *s3; /* NULL: files of this machine */
	char *scratch; /* with a trailing slash */
};

int lake_store_open(struct lake_store **ret, const char *data_path, const struct s3_options *options,
		    struct aws_credentials *credentials, int stop_fd, struct duct_error *err)
{
	const char *parent = getenv("TMPDIR");
	struct lake_store *store = duct_xcalloc(1, sizeof *store);
	if (s3_is_url(data_path)) {
		AUTO_FREE char *folder = duct_scratch_name(parent && *parent ? parent : "/tmp", "ductstream-upload-");
		if (s3_open(&store->s3, options, credentials, stop_fd, err) < 0) {
			free(store);
			return -(int)err->class;
		}
		store->scratch = duct_xasprintf("%s/", folder);
	}
	*ret = store;
	return 0;
}

void lake_store_close(struct lake_store *store)
{
	if (!store)
		return;
	if (store->s3)
		duct_scratch_remove(store->scratch);
	s3_close(store->s3);
	free(store->scratch);
	free(store);
}

struct s3 *lake_store_s3(const struct lake_store *store)
{
	return store->s3;
}

/* The file at *path, as an object below dir: *path is its URL then. It is gone from the scratch folder in any case. */
static int send_file(struct lake_store *store, const char *dir, char **path, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *key = NULL;
	AUTO_FREE char *url = duct_xasprintf("%s%s", dir, strrchr(*path, '/') + 1);
	int rc = s3_url_parse(url, &bucket, &key, err);
	rc = rc ? rc : s3_put_file(store->s3, bucket, key, *path, err);
	(void)unlink(*path);
	if (rc)
		return rc;
	duct_kill_point("file-sent");
	free(*path);
	*path = duct_steal(&url);
	return 0;
}

int lake_store_write(struct lake_store *store, const struct lake_write_spec *spec, const struct lake_rows *rows,
		     struct lake_new_file **ret, bool *ret_more, struct duct_error *err)
{
	struct lake_write_spec here = *spec;
	struct lake_new_file *file = NULL;
	if (!s3_is_url(spec->dir))
		return lake_write_file(spec, rows, ret, ret_more, err);
	here.dir = store->scratch;
	int64_t now_us = duct_mono_us();
	int rc = lake_write_file(&here, rows, &file, ret_more, err);
	if (!rc && file)
		rc = send_file(store, spec->dir, &file->path, err);
	if (rc) {
		lake_new_file_free(file);
		return rc;
	}
	if (file)
		file->written_us = now_us;
	*ret = file;
	return 0;
}

int lake_store_write_deletes(struct lake_store *store, const char *dir, const char *data_path,
			     const struct lake_positions *positions, const int64_t *snapshots, struct lake_new_delete_file *ret,
			     struct duct_error *err)
{
	bool remote = s3_is_url(dir);
	AUTO_FREE char *path = NULL;
	*ret = (struct lake_new_delete_file){.count = (int64_t)positions->n, .written_us = duct_mono_us()};
	int rc = lake_write_delete_file(remote ? store->scratch : dir, data_path, positions, snapshots, &path, &ret->size_bytes,
					&ret->footer_size, err);
	if (!rc && remote)
		rc = send_file(store, dir, &path, err);
	if (!rc)
		ret->path = duct_steal(&path);
	return rc;
}

void lake_store_remove(struct lake_store *store, const char *path)
{
	AUTO_FREE char *bucket = NULL, *key = NULL;
	struct duct_error ignored;
	if (!s3_is_url(path))
		(void)unlink(path);
	else if (s3_url_parse(path, &bucket, &key, &ignored) == 0)
		(void)!s3_delete(store->s3, bucket, key, &ignored);
}
