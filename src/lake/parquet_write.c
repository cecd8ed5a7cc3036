/*
 * Data and delete files: made by DuckDB's COPY out of a row feed, under their final name (a file counts only when the
 * catalog names it), then fsynced with their folders, which COPY does not do.
 */
#include "lake/parquet_internal.h"

#include "base/killpoint.h"
#include "base/mem.h"
#include "base/uuid.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAX_GROUP_ROWS = 122880,
	GROUP_STEP = 2048,
	MIN_GROUP_ROWS = 64,
	MAX_GROUP_BYTES = 16 << 20,
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

static int sync_path(const char *path, int flags, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return fail_errno(err, "open to sync", path);
	int ret = fsync(fd) == 0 ? 0 : fail_errno(err, "fsync", path);
	close(fd);
	return ret;
}

/* The file, its folder, and the folders above: those just made and the first old one must work, the others may be closed
 * to us. */
static int sync_file(const char *path, const char *dir, int made, struct duct_error *err)
{
	AUTO_FREE char *folder = duct_xstrdup(dir);
	int ret = sync_path(path, 0, err);
	for (int level = 0; !ret && (level <= made || level < SYNCED_LEVELS); level++) {
		if (level && !to_parent(folder))
			break;
		ret = sync_path(folder, O_DIRECTORY, err);
		if (level > made)
			ret = 0;
	}
	return ret;
}

/* --- the statement --- */

static int64_t group_rows(const struct lake_write_spec *spec, uint64_t row_bytes)
{
	if (spec->row_group_rows > 0)
		return spec->row_group_rows;
	int64_t rows = row_bytes ? (int64_t)(MAX_GROUP_BYTES / row_bytes) : MAX_GROUP_ROWS;
	if (rows < GROUP_STEP) /* wide rows: less than a whole vector of DuckDB's */
		return rows < MIN_GROUP_ROWS ? MIN_GROUP_ROWS : rows;
	return rows > MAX_GROUP_ROWS ? MAX_GROUP_ROWS : rows / GROUP_STEP * GROUP_STEP;
}

/* DuckDB's dictionaries take -0 and 0 for one value and give both the sign of the first. */
static bool holds_floats(const struct duct_type *type)
{
	bool found = type->kind == DUCT_FLOAT32 || type->kind == DUCT_FLOAT64;
	for (int i = 0; !found && i < type->nchildren; i++)
		found = holds_floats(&type->children[i]);
	return found;
}

static void copy_sql(struct duct_buf *to, const struct lake_write_spec *spec, int feed, const char *path, int64_t rows)
{
	bool floats = false;
	for (int i = 0; !floats && i < spec->ncolumns; i++)
		floats = holds_floats(&spec->columns[i].type);
	duct_buf_printf(to, "COPY (SELECT * FROM duck_feed(%d)) TO ", feed);
	duct_buf_sql_literal(to, path);
	duct_buf_puts(to, " (FORMAT PARQUET, USE_TMP_FILE false, RETURN_STATS, COMPRESSION ");
	duct_buf_sql_literal(to, spec->compression);
	if (spec->compression_level)
		duct_buf_printf(to, ", COMPRESSION_LEVEL %d", spec->compression_level);
	if (floats)
		duct_buf_puts(to, ", DICTIONARY_SIZE_LIMIT 0");
	duct_buf_printf(to, ", ROW_GROUP_SIZE %" PRId64 ", FIELD_IDS {", rows);
	for (int i = 0; i < spec->ncolumns; i++) {
		duct_buf_puts(to, i ? ", " : "");
		lake_sql_field_ids(to, &spec->columns[i]);
	}
	if (spec->row_ids)
		duct_buf_printf(to, "%s'%s': %d", spec->ncolumns ? ", " : "", LAKE_ROW_ID_NAME, LAKE_FIELD_ROW_ID);
	if (spec->snapshot_ids)
		duct_buf_printf(to, ", '%s': %d", LAKE_SNAPSHOT_ID_NAME, LAKE_FIELD_SNAPSHOT_ID);
	duct_buf_puts(to, "})");
}

/* Runs COPY on the feed into file->path; afterwards the file is durable, or gone. */
static int run_copy(struct duck_conn *conn, const struct lake_write_spec *spec, struct duck_feed *feed, int64_t rows,
	struct lake_new_file *file, struct duct_error *err)
{
	struct duct_buf sql AUTO_BUF = {0};
	duckdb_result result;
	int made = 0, ret = make_dirs(spec->dir, &made, err);
	ret = ret ? ret : duck_feed_open(conn, feed, err);
	if (ret)
		return ret;
	copy_sql(&sql, spec, feed->id, file->path, rows);
	ret = duck_query(conn, sql.data, &result, err);
	if (!ret) {
		ret = lake_take_stats(&result, spec, file, err);
		duckdb_destroy_result(&result);
	}
	duck_feed_close(conn);
	if (!ret) {
		duct_kill_point("file-written");
		ret = sync_file(file->path, spec->dir, made, err);
		duct_kill_point("file-synced");
	}
	if (ret)
		(void)unlink(file->path); /* it may not have come to be */
	return ret;
}

static struct lake_new_file *new_file(const char *dir, const char *suffix)
{
	char uuid[DUCT_UUID_LEN];
	struct lake_new_file *file = duct_xcalloc(1, sizeof *file);
	duct_arena_init(&file->arena);
	file->path = duct_xasprintf("%sducklake-%s%s.parquet", dir, duct_uuid_v7(uuid), suffix);
	return file;
}

/* --- data files --- */

static int write_rows(struct duck_conn *conn, struct lake_fill *fill, struct lake_new_file *file, struct duct_error *err)
{
	const struct lake_write_spec *spec = fill->spec;
	int n = spec->ncolumns + spec->row_ids + spec->snapshot_ids;
	AUTO_FREE duckdb_logical_type *types = duct_xcalloc((size_t)n + 1, sizeof *types);
	AUTO_FREE const char **names = duct_xcalloc((size_t)n + 1, sizeof *names);
	for (int i = 0; i < spec->ncolumns; i++) {
		types[i] = lake_duck_type(&spec->columns[i].type);
		names[i] = spec->columns[i].name;
	}
	if (spec->row_ids) {
		types[spec->ncolumns] = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
		names[spec->ncolumns] = LAKE_ROW_ID_NAME;
	}
	if (spec->snapshot_ids) {
		types[n - 1] = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
		names[n - 1] = LAKE_SNAPSHOT_ID_NAME;
	}
	struct duck_feed feed = {.ncolumns = n, .names = names, .types = types, .fill = lake_fill_chunk, .arg = fill};
	int64_t rows = group_rows(spec, lake_fill_row_bytes(fill));
	fill->most_rows = rows < (int64_t)duckdb_vector_size() ? (uint32_t)rows : (uint32_t)duckdb_vector_size();
	int ret = run_copy(conn, spec, &feed, rows, file, err);
	for (int i = 0; i < n; i++)
		duckdb_destroy_logical_type(&types[i]);
	if (!ret && (uint64_t)file->record_count != fill->nrows) {
		(void)unlink(file->path); /* nobody knows it */
		return duct_fail(err, DUCT_FATAL, "\"%s\" holds %" PRId64 " rows, %" PRIu64 " were handed over", file->path,
			file->record_count, fill->nrows);
	}
	return ret;
}

int lake_write_file(struct duck_conn *conn, const struct lake_write_spec *spec, const struct lake_rows *rows,
	struct lake_new_file **ret, bool *ret_more, struct duct_error *err)
{
	struct lake_fill fill = {.spec = spec, .rows = rows};
	struct lake_new_file *file = new_file(spec->dir, "");
	file->explicit_row_ids = spec->row_ids;
	fill.path = file->path;
	fill.defaults = duct_xcalloc((size_t)spec->ncolumns + 1, sizeof *fill.defaults);
	fill.default_ready = duct_xcalloc((size_t)spec->ncolumns + 1, sizeof *fill.default_ready);
	int r = lake_fill_pull(&fill, err);
	if (r > 0)
		r = write_rows(conn, &fill, file, err);
	bool empty = fill.nrows == 0, more = !fill.ended;
	lake_fill_done(&fill);
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

struct delete_feed {
	const char *data_path;
	uint32_t path_len;
	const int64_t *positions, *snapshots;
	size_t left;
};

static int fill_deletes(void *arg, duckdb_data_chunk chunk, struct duct_error *err)
{
	struct delete_feed *d = arg;
	static const struct duct_type varchar = {.kind = DUCT_VARCHAR};
	size_t n = d->left < duckdb_vector_size() ? d->left : duckdb_vector_size();
	duckdb_vector path = duckdb_data_chunk_get_vector(chunk, 0);
	for (size_t i = 0; i < n; i++) {
		int ret = lake_put_value(path, i, &varchar, (struct duct_cell){d->data_path, d->path_len}, err);
		if (ret)
			return ret;
	}
	memcpy(duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 1)), d->positions, n * sizeof *d->positions);
	if (d->snapshots) {
		memcpy(duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 2)), d->snapshots, n * sizeof *d->snapshots);
		d->snapshots += n;
	}
	d->positions += n;
	d->left -= n;
	duckdb_data_chunk_set_size(chunk, n);
	return 0;
}

static int check_ascending(const int64_t *positions, size_t n, const char *data_path, struct duct_error *err)
{
	for (size_t i = 0; i < n; i++)
		if (positions[i] < 0 || (i && positions[i] <= positions[i - 1]))
			return duct_fail(err, DUCT_FATAL, "deleted positions of \"%s\" do not ascend at %" PRId64, data_path,
				positions[i]);
	return n ? 0 : duct_fail(err, DUCT_FATAL, "a delete file for \"%s\" without positions", data_path);
}

int lake_write_delete_file(struct duck_conn *conn, const char *dir, const char *data_path, const int64_t *positions,
	const int64_t *snapshots, size_t n, char **ret_path, int64_t *ret_size, int64_t *ret_footer, struct duct_error *err)
{
	int r = check_ascending(positions, n, data_path, err);
	if (r)
		return r;
	const struct lake_column columns[3] = {
		{.id = LAKE_FIELD_DELETE_PATH, .name = "file_path", .type = {.kind = DUCT_VARCHAR}},
		{.id = LAKE_FIELD_DELETE_POS, .name = "pos", .type = {.kind = DUCT_INT64}},
		{.id = LAKE_FIELD_SNAPSHOT_ID, .name = LAKE_SNAPSHOT_ID_NAME, .type = {.kind = DUCT_INT64}},
	};
	int ncolumns = snapshots ? 3 : 2;
	const struct lake_write_spec spec = {.dir = dir, .columns = columns, .ncolumns = ncolumns, .compression = "zstd"};
	struct delete_feed deletes = {data_path, (uint32_t)strlen(data_path), positions, snapshots, n};
	const char *names[3] = {"file_path", "pos", LAKE_SNAPSHOT_ID_NAME};
	duckdb_logical_type types[3];
	for (int i = 0; i < 3; i++)
		types[i] = lake_duck_type(&columns[i].type);
	struct duck_feed feed = {.ncolumns = ncolumns, .names = names, .types = types, .fill = fill_deletes, .arg = &deletes};
	struct lake_new_file *file = new_file(dir, "-delete");
	r = run_copy(conn, &spec, &feed, MAX_GROUP_ROWS, file, err);
	for (int i = 0; i < 3; i++)
		duckdb_destroy_logical_type(&types[i]);
	if (!r) {
		*ret_path = duct_steal(&file->path);
		*ret_size = file->size_bytes;
		*ret_footer = file->footer_size;
	}
	lake_new_file_free(file);
	return r ? duct_wrap(err, "write a delete file in \"%s\"", dir) : 0;
}
