/*
 * Data and delete files: written under their final name (a file counts only when the catalog names it), then fsynced with their
 * folders.
 */
#include "lake/parquet_internal.h"

#include "base/killpoint.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "lake/inline.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	/* <data>/<schema>/<table>/: the folders that another process may have made a moment ago and not synced yet */
	SYNCED_LEVELS = 3,
};

void lake_new_file_free(struct lake_new_file *file)
{
	if (!file)
		return;
	free(file->path);
	free(file->stats);
	duct_arena_done(&file->arena);
	free(file);
}

struct lake_new_file *lake_new_file_copy(const struct lake_new_file *file)
{
	struct lake_new_file *copy = duct_xmalloc(sizeof *copy);
	*copy = *file;
	duct_arena_init(&copy->arena);
	copy->path = duct_xstrdup(file->path);
	copy->stats = duct_xmalloc(((size_t)file->nstats + 1) * sizeof *copy->stats);
	for (int i = 0; i < file->nstats; i++) {
		struct lake_column_stats *s = &copy->stats[i];
		*s = file->stats[i];
		s->min = s->min ? duct_arena_strdup(&copy->arena, s->min) : NULL;
		s->max = s->max ? duct_arena_strdup(&copy->arena, s->max) : NULL;
	}
	if (file->partition_values) {
		const char **values = duct_arena_alloc(&copy->arena, ((size_t)file->npartition_values + 1) * sizeof *values);
		for (int i = 0; i < file->npartition_values; i++)
			values[i] = file->partition_values[i] ? duct_arena_strdup(&copy->arena, file->partition_values[i]) : NULL;
		copy->partition_values = values;
	}
	return copy;
}

/* --- folders and fsync --- */

static int fail_errno(struct duct_error *err, const char *what, const char *path)
{
	int code = errno;
	enum duct_class class = code == EACCES || code == EPERM || code == ENOTDIR || code == EROFS ? DUCT_CONFIG : DUCT_RETRY;
	int ret = duct_fail(err, class, "%s \"%s\": %s", what, path, strerror(code));
	if (err)
		err->vendor_code = code;
	return ret;
}

/* Cuts the last part off a path ("/a/b/" and "/a/b" give "/a"); false at the root. */
static bool to_parent(char *path)
{
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	while (n > 1 && path[n - 1] != '/')
		n--;
	while (n > 1 && path[n - 1] == '/')
		n--;
	bool changed = path[n] != 0 && path[0] == '/';
	path[n] = 0;
	return changed;
}

/* Makes the folder and its missing parents; *ret_made counts them from the leaf up. */
static int make_dirs(const char *dir, int *ret_made, struct duct_error *err)
{
	if (mkdir(dir, 0777) == 0) {
		*ret_made = 1;
		return 0;
	}
	if (errno == EEXIST) {
		*ret_made = 0;
		return 0;
	}
	AUTO_FREE char *parent = duct_xstrdup(dir);
	if (errno != ENOENT || !to_parent(parent))
		return fail_errno(err, "make folder", dir);
	int made, ret = make_dirs(parent, &made, err);
	if (ret)
		return ret;
	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		return fail_errno(err, "make folder", dir);
	*ret_made = made + 1;
	return 0;
}

static int sync_folder(const char *path, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	if (fd < 0)
		return fail_errno(err, "open to sync", path);
	int ret = fsync(fd) == 0 ? 0 : fail_errno(err, "fsync", path);
	close(fd);
	return ret;
}

/* The file, its folder, and the folders above: those just made and the first old one must work, the others may be closed
 * to us. */
static int sync_file(int fd, const char *path, const char *dir, int made, struct duct_error *err)
{
	AUTO_FREE char *folder = duct_xstrdup(dir);
	int ret = fsync(fd) == 0 ? 0 : fail_errno(err, "fsync", path);
	for (int level = 0; !ret && (level <= made || level < SYNCED_LEVELS); level++) {
		if (level && !to_parent(folder))
			break;
		ret = sync_folder(folder, err);
		if (level > made)
			ret = 0;
	}
	return ret;
}

/* --- a file --- */

/* A file being written. Zeroed, then spec and file are set; file_close() ends it. */
struct open_file {
	const struct lake_write_spec *spec;
	struct lake_new_file *file;
	int fd, made;
	struct parquet_writer *writer;
};

static struct lake_new_file *new_file(const char *dir, const char *suffix)
{
	char uuid[DUCT_UUID_LEN];
	struct lake_new_file *file = duct_xcalloc(1, sizeof *file);
	duct_arena_init(&file->arena);
	file->path = duct_xasprintf("%sducklake-%s%s.parquet", dir, duct_uuid_v7(uuid), suffix);
	return file;
}

static struct parquet_writer *new_writer(struct open_file *f, enum parquet_codec codec)
{
	static const struct duct_type int64 = {.kind = DUCT_INT64};
	const struct lake_write_spec *spec = f->spec;
	const struct parquet_settings settings = {.codec = codec,
						  .level = spec->compression_level,
						  .group_rows = spec->row_group_rows,
						  .first_version = spec->first_version};
	int n = 0;
	AUTO_FREE struct parquet_column *columns = duct_xcalloc((size_t)spec->ncolumns + 2, sizeof *columns);
	for (; n < spec->ncolumns; n++) {
		const struct lake_column *c = &spec->columns[n];
		columns[n] =
			(struct parquet_column){.name = c->name, .field_id = c->id, .type = &c->type, .child_ids = c->leaf_ids};
	}
	if (spec->row_ids)
		columns[n++] = (struct parquet_column){.name = LAKE_ROW_ID_NAME, .field_id = LAKE_FIELD_ROW_ID, .type = &int64};
	if (spec->snapshot_ids)
		columns[n++] =
			(struct parquet_column){.name = LAKE_SNAPSHOT_ID_NAME, .field_id = LAKE_FIELD_SNAPSHOT_ID, .type = &int64};
	return parquet_writer_new(f->fd, f->file->path, columns, n, &settings);
}

static int file_open(struct open_file *f, struct duct_error *err)
{
	enum parquet_codec codec;
	f->fd = -1;
	int ret = parquet_codec_of(f->spec->compression, &codec, err);
	ret = ret ? ret : make_dirs(f->spec->dir, &f->made, err);
	if (ret)
		return ret;
	f->fd = open(f->file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (f->fd < 0)
		return fail_errno(err, "create", f->file->path);
	f->writer = new_writer(f, codec);
	return 0;
}

static int by_column(const void *a, const void *b)
{
	int64_t x = ((const struct lake_column_stats *)a)->column_id, y = ((const struct lake_column_stats *)b)->column_id;
	return (x > y) - (x < y);
}

/* The official client takes equal bounds for "all values are equal", hence the corrections of lake_bounds_stats(). */
static void take_stats(struct open_file *f)
{
	int n = parquet_writer_leaves(f->writer);
	struct lake_new_file *file = f->file;
	file->stats = duct_xcalloc((size_t)n + 1, sizeof *file->stats);
	for (int i = 0; i < n; i++) {
		struct parquet_leaf_facts leaf = parquet_writer_leaf(f->writer, i);
		if (leaf.column >= f->spec->ncolumns) /* row ids */
			continue;
		char min[PARQUET_BOUND_BYTES], max[PARQUET_BOUND_BYTES];
		struct duct_cell low = parquet_bound_cell(leaf.bounds, leaf.form, leaf.type, false, min);
		struct duct_cell high = parquet_bound_cell(leaf.bounds, leaf.form, leaf.type, true, max);
		struct lake_bounds bounds = {.values = leaf.nvalues, .nulls = leaf.nnulls, .nan = leaf.bounds->nan};
		if (low.data)
			bounds.min = (struct duct_buf){.data = min, .len = low.len};
		if (high.data)
			bounds.max = (struct duct_buf){.data = max, .len = high.len};
		struct lake_column_stats *stats = &file->stats[file->nstats++];
		*stats = lake_bounds_stats(&bounds, leaf.field_id, leaf.type, &file->arena);
		stats->size_bytes = leaf.bytes;
		if (leaf.type->kind == DUCT_BOOL && stats->min) { /* spelled so for files only */
			stats->min = *low.data ? "1" : "0";
			stats->max = *high.data ? "1" : "0";
		}
	}
	qsort(file->stats, (size_t)file->nstats, sizeof *file->stats, by_column);
}

static int file_finish(struct open_file *f, struct duct_error *err)
{
	int ret = parquet_writer_finish(f->writer, &f->file->size_bytes, &f->file->footer_size, err);
	if (ret)
		return ret;
	take_stats(f);
	duct_kill_point("file-written");
	ret = sync_file(f->fd, f->file->path, f->spec->dir, f->made, err);
	duct_kill_point("file-synced");
	return ret;
}

/* Afterwards the file is durable (ret 0), or gone. */
static int file_close(struct open_file *f, int ret, struct duct_error *err)
{
	parquet_writer_free(f->writer);
	if (f->fd < 0)
		return ret;
	if (close(f->fd) != 0 && !ret)
		ret = fail_errno(err, "close", f->file->path);
	if (ret)
		(void)unlink(f->file->path); /* nobody knows it */
	return ret;
}

/* --- data files --- */

static int write_rows(struct lake_rows_taker *t, struct lake_new_file *file, struct duct_error *err)
{
	struct open_file f = {.spec = t->spec, .file = file};
	int ret = file_open(&f, err);
	t->writer = f.writer;
	ret = ret ? ret : lake_rows_take(t, err);
	file->record_count = (int64_t)t->nrows;
	ret = ret ? ret : file_finish(&f, err);
	return file_close(&f, ret, err);
}

int lake_write_file(const struct lake_write_spec *spec, const struct lake_rows *rows, struct lake_new_file **ret, bool *ret_more,
		    struct duct_error *err)
{
	struct lake_rows_taker t = {.spec = spec, .rows = rows};
	struct lake_new_file *file = new_file(spec->dir, "");
	file->explicit_row_ids = spec->row_ids;
	t.defaults = duct_xcalloc((size_t)spec->ncolumns + 1, sizeof *t.defaults);
	int r = lake_rows_pull(&t, err);
	if (r > 0)
		r = write_rows(&t, file, err);
	bool empty = t.nrows == 0, more = !t.ended;
	lake_rows_done(&t);
	if (r || empty) {
		lake_new_file_free(file);
		file = NULL;
	}
	if (r)
		return duct_wrap(err, "write a data file in \"%s\"", spec->dir);
	*ret = file;
	if (ret_more)
		*ret_more = more;
	return 0;
}

/* --- delete files --- */

static int put_deletes(struct parquet_writer *w, const char *data_path, const struct lake_positions *positions,
		       const int64_t *snapshots, struct duct_error *err)
{
	enum { PART = 2048 };
	struct duct_cell path = {data_path, (uint32_t)strlen(data_path)};
	struct lake_positions_walk walk = {positions, 0, 0};
	int64_t part[PART], before = -1;
	int ret = 0;
	for (size_t at = 0; at < positions->n && !ret;) {
		uint32_t room = parquet_writer_room(w), n = 0;
		for (; n < PART && n < room && lake_positions_next(&walk, &part[n]); before = part[n++])
			if (part[n] <= before)
				return duct_fail(err, DUCT_FATAL, "row %" PRId64 " of \"%s\" is no row, or was to be deleted twice",
						 part[n], data_path);
		if (!n)
			return duct_fail(err, DUCT_FATAL, "%zu rows of \"%s\" were to be deleted twice", positions->n - at,
					 data_path);
		ret = parquet_put_cell(w, 0, path, n, err);
		ret = ret ? ret : parquet_put_int64(w, 1, part, n, err);
		if (snapshots && !ret)
			ret = parquet_put_int64(w, 2, snapshots + at, n, err);
		ret = ret ? ret : parquet_writer_end_rows(w, n, err);
		at += n;
	}
	return ret;
}

int lake_write_delete_file(const char *dir, const char *data_path, const struct lake_positions *positions, const int64_t *snapshots,
			   char **ret_path, int64_t *ret_size, int64_t *ret_footer, struct duct_error *err)
{
	if (!positions->n)
		return duct_fail(err, DUCT_FATAL, "a delete file for \"%s\" without positions", data_path);
	const struct lake_column columns[3] = {
		{.id = LAKE_FIELD_DELETE_PATH, .name = "file_path", .type = {.kind = DUCT_VARCHAR}},
		{.id = LAKE_FIELD_DELETE_POS, .name = "pos", .type = {.kind = DUCT_INT64}},
		{.id = LAKE_FIELD_SNAPSHOT_ID, .name = LAKE_SNAPSHOT_ID_NAME, .type = {.kind = DUCT_INT64}},
	};
	const struct lake_write_spec spec = {.dir = dir, .columns = columns, .ncolumns = snapshots ? 3 : 2, .compression = "zstd"};
	struct open_file f = {.spec = &spec, .file = new_file(dir, "-delete")};
	int r = file_open(&f, err);
	r = r ? r : put_deletes(f.writer, data_path, positions, snapshots, err);
	r = r ? r : file_finish(&f, err);
	r = file_close(&f, r, err);
	if (!r) {
		*ret_path = duct_steal(&f.file->path);
		*ret_size = f.file->size_bytes;
		*ret_footer = f.file->footer_size;
	}
	lake_new_file_free(f.file);
	return r ? duct_wrap(err, "write a delete file in \"%s\"", dir) : 0;
}
