/* Where the log of a Delta table is, and its versions: see delta.h. */
#include "copy/delta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { DIGITS = 20, MOST_COMMIT_BYTES = 64 << 20, MOST_COMMITS = 1000 };

struct delta {
	struct s3 *s3;
	char *uri, *bucket, *prefix; /* bucket NULL: uri is a folder */
};

int delta_open(struct delta **ret, const char *uri, struct s3 *s3, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL, *key = NULL;
	bool remote = s3_is_url(uri);
	if (remote && s3_url_parse(uri, &bucket, &key, err) < 0)
		return -(int)err->class;
	if (!remote && strncmp(uri, "file://", 7) == 0)
		uri += 7;
	if (!remote && *uri != '/')
		return duct_fail(err, DUCT_CONFIG,
				 "table_uri: \"%.300s\" is neither s3://BUCKET/PATH nor a folder's path from the root on", uri);
	struct delta *d = duct_xcalloc(1, sizeof *d);
	d->s3 = s3;
	d->bucket = duct_steal(&bucket);
	char *path = duct_xstrdup(remote ? key : uri);
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = 0;
	d->uri = remote ? duct_xasprintf("s3://%s%s%s", d->bucket, *path ? "/" : "", path) : duct_xstrdup(path);
	d->prefix = duct_xasprintf("%s%s_delta_log/", path, *path ? "/" : "");
	free(path);
	*ret = d;
	return 0;
}

void delta_close(struct delta *d)
{
	if (!d)
		return;
	free(d->uri);
	free(d->bucket);
	free(d->prefix);
	free(d);
}

const char *delta_uri(const struct delta *d)
{
	return d->uri;
}

/* --- versions --- */

struct newest {
	int64_t version, checkpoint;
	int64_t empty; /* a commit without a byte; -1: none */
};

static void take_name(struct newest *newest, const char *name, bool empty)
{
	if (strspn(name, "0123456789") != DIGITS)
		return;
	int64_t version = strtoll(name, NULL, 10);
	bool commit = strcmp(name + DIGITS, ".json") == 0;
	if (commit && empty && version > newest->empty)
		newest->empty = version;
	if (commit && version > newest->version)
		newest->version = version;
	else if (strncmp(name + DIGITS, ".checkpoint", 11) == 0 && version > newest->checkpoint)
		newest->checkpoint = version;
}

static int take_object(void *arg, const struct s3_object *object, struct duct_error *err)
{
	(void)err;
	const char *slash = strrchr(object->key, '/');
	if (!object->is_prefix)
		take_name(arg, slash ? slash + 1 : object->key, object->size == 0);
	return 0;
}

static int no_table(const struct delta *d, const char *why, struct duct_error *err)
{
	return duct_fail(err, DUCT_CONFIG, "there is no Delta table at \"%s\": %s", d->uri, why);
}

static int list_folder(struct delta *d, struct newest *newest, struct duct_error *err)
{
	DIR *dir = opendir(d->prefix);
	if (!dir)
		return errno == ENOENT || errno == ENOTDIR
			? no_table(d, "it has no folder _delta_log", err)
			: duct_fail(err, DUCT_CONFIG, "open \"%s\": %s", d->prefix, strerror(errno));
	for (struct dirent *e; (e = readdir(dir));) {
		struct stat st;
		take_name(newest, e->d_name, fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && st.st_size == 0);
	}
	closedir(dir);
	return 0;
}

int delta_version(struct delta *d, int64_t *ret, int64_t *ret_checkpoint, struct duct_error *err)
{
	struct newest newest = {-1, -1, -1};
	int rc = d->bucket ? s3_list(d->s3, d->bucket, d->prefix, "/", take_object, &newest, err) : list_folder(d, &newest, err);
	if (rc < 0)
		return duct_wrap(err, "list the Delta log of \"%s\"", d->uri);
	if (newest.version < newest.checkpoint)
		newest.version = newest.checkpoint;
	if (newest.version < 0)
		return no_table(d, "no commit is in its _delta_log", err);
	/* It would count as a commit that did nothing, and what its writer still puts into it would be missed. */
	if (newest.empty > newest.checkpoint)
		return duct_fail(err, DUCT_RETRY,
				 "version %" PRId64
				 " of \"%s\" is an empty file: its writer has not got further yet, or was cut off",
				 newest.empty, d->uri);
	*ret = newest.version;
	*ret_checkpoint = newest.checkpoint;
	return 0;
}

/* --- commits --- */

static int read_file(const char *path, struct duct_buf *to, bool *ret_found, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;
	*ret_found = fd >= 0 || errno != ENOENT;
	while (n > 0 && to->len <= MOST_COMMIT_BYTES) {
		n = read(fd, duct_buf_room(to, 65536), 65536);
		to->len += n > 0 ? (size_t)n : 0;
	}
	int code = errno;
	if (fd >= 0)
		close(fd);
	if (n < 0 && *ret_found)
		return duct_fail(err, DUCT_CONFIG, "read \"%s\": %s", path, strerror(code));
	if (to->len > MOST_COMMIT_BYTES)
		return duct_fail(err, DUCT_DATA, "\"%s\" is longer than %d MiB", path, MOST_COMMIT_BYTES >> 20);
	return 0;
}

static int get_commit(struct delta *d, int64_t version, struct duct_buf *to, bool *ret_found, struct duct_error *err)
{
	AUTO_FREE char *key = duct_xasprintf("%s%020" PRId64 ".json", d->prefix, version);
	if (!d->bucket)
		return read_file(key, to, ret_found, err);
	int rc = s3_get(d->s3, d->bucket, key, MOST_COMMIT_BYTES, to, err);
	*ret_found = rc == 0 || !s3_is_missing(err);
	return rc && *ret_found ? rc : 0;
}

const char *delta_mark(struct delta *d, int64_t version, struct duct_arena *arena)
{
	AUTO_BUF struct duct_buf text = {0};
	struct duct_error ignored; /* what is not known is copied whole */
	bool there;
	if (get_commit(d, version, &text, &there, &ignored) < 0 || !there)
		return "";
	XXH128_hash_t hash = XXH3_128bits(text.data ? text.data : "", text.len);
	AUTO_FREE char *mark = duct_xasprintf("%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
	return duct_arena_strdup(arena, mark);
}

/* The object of the line at *at, which moves behind it. NULL: it has none. */
static json_t *next_action(const struct duct_buf *text, size_t *at)
{
	size_t from = *at, n = 0;
	while (from + n < text->len && text->data[from + n] != '\n')
		n++;
	*at = from + n + 1;
	return json_loadb(text->data + from, n, 0, NULL);
}

static void take_metadata(const json_t *metadata, struct duct_arena *arena, struct delta_about *ret)
{
	const char *id = json_string_value(json_object_get(metadata, "id"));
	const char *column = json_string_value(json_array_get(json_object_get(metadata, "partitionColumns"), 0));
	const char *mode =
		json_string_value(json_object_get(json_object_get(metadata, "configuration"), "delta.columnMapping.mode"));
	*ret = (struct delta_about){
		.id = duct_arena_strdup(arena, id ? id : ""),
		.partition_column = column ? duct_arena_strdup(arena, column) : NULL,
		.mapped = mode && strcmp(mode, "none") != 0,
	};
}

int delta_about(struct delta *d, int64_t version, int64_t least, struct duct_arena *arena, struct delta_about *ret,
		struct duct_error *err)
{
	*ret = (struct delta_about){.id = ""};
	for (int64_t v = version, n = 0; v >= least && v >= 0 && n < MOST_COMMITS; v--, n++) {
		AUTO_BUF struct duct_buf text = {0};
		bool there, found = false;
		if (get_commit(d, v, &text, &there, err) < 0)
			return -(int)err->class;
		for (size_t at = 0; at < text.len && !found;) {
			json_t *action = next_action(&text, &at), *metadata = json_object_get(action, "metaData");
			found = json_is_object(metadata);
			if (found)
				take_metadata(metadata, arena, ret);
			json_decref(action);
		}
		if (found || !there)
			return found;
	}
	return 0;
}

int delta_added(struct delta *d, int64_t from, int64_t to, struct duct_arena *arena, struct delta_added *ret, const char **ret_why,
		struct duct_error *err)
{
	*ret_why = "there are too many commits since";
	int rc = to - from <= MOST_COMMITS;
	for (int64_t v = from + 1; v <= to && rc == 1; v++) {
		AUTO_BUF struct duct_buf text = {0};
		bool there;
		if (get_commit(d, v, &text, &there, err) < 0)
			return -(int)err->class;
		*ret_why = "a commit since is not in the log any more";
		rc = there ? delta_read_commit(text.data ? text.data : "", text.len, d->uri, arena, ret, ret_why, err) : 0;
		if (rc < 0)
			return duct_wrap(err, "version %" PRId64 " of \"%s\"", v, d->uri);
	}
	return rc;
}

void delta_added_done(struct delta_added *added)
{
	free(added->files);
	*added = (struct delta_added){0};
}
