/* COPY of a query into Parquet files of a lake table: DuckDB writes them, gives them the table's column ids, and says what is in them. */
#include "base/clock.h"
#include "base/folder.h"
#include "land/land.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const most_bytes = "512MiB";

void land_files_done(struct land_files *files)
{
	for (size_t i = 0; i < files->n; i++)
		lake_new_file_free(files->files[i]);
	free(files->files);
	if (files->folder)
		duct_arena_done(&files->arena);
	*files = (struct land_files){0};
}

/* --- field ids --- */

/* Leaves by the names that RETURN_STATS gives them: "a"."element". */
struct leaf {
	const char *path;
	int64_t id;
};
struct leaves {
	struct duct_arena *arena;
	struct leaf *list;
	size_t n, cap;
};

static void put_node(struct duct_buf *to, struct leaves *leaves, const struct duct_type *type, const char *path, int64_t id,
		     const int64_t **next)
{
	if (!duct_kind_is_nested(type->kind)) {
		duct_buf_printf(to, "%lld", (long long)id);
		leaves->list = duct_grow(leaves->list, &leaves->cap, leaves->n + 1, sizeof *leaves->list);
		leaves->list[leaves->n++] = (struct leaf){duct_arena_strdup(leaves->arena, path), id};
		return;
	}
	duct_buf_printf(to, "{__duckdb_field_id: %lld", (long long)id);
	for (int i = 0; i < type->nchildren; i++) {
		const char *name = type->kind == DUCT_LIST ? "element"
			: type->kind == DUCT_MAP	   ? (i ? "value" : "key")
							   : type->children[i].name;
		AUTO_BUF struct duct_buf below = {0};
		duct_buf_printf(&below, "%s.", path);
		duct_buf_sql_ident(&below, name);
		duct_buf_puts(to, ", ");
		duct_buf_sql_ident(to, name);
		duct_buf_puts(to, ": ");
		int64_t child = *(*next)++;
		put_node(to, leaves, &type->children[i], below.data, child, next);
	}
	duct_buf_putc(to, '}');
}

static void put_field_ids(struct duct_buf *to, struct leaves *leaves, const struct lake_column *columns, int n)
{
	duct_buf_putc(to, '{');
	for (int i = 0; i < n; i++) {
		AUTO_BUF struct duct_buf path = {0};
		const int64_t *next = columns[i].leaf_ids;
		duct_buf_sql_ident(&path, columns[i].name);
		duct_buf_printf(to, "%s%s: ", i ? ", " : "", path.data);
		put_node(to, leaves, &columns[i].type, path.data, columns[i].id, &next);
	}
	duct_buf_putc(to, '}');
}

/* --- what COPY says --- */

/* NULL for NULL, and for a bound that has a NUL inside: a catalog cannot say it, and its begin is no bound. */
static const char *text_at(duckdb_vector vector, idx_t row, struct duct_arena *arena)
{
	uint64_t *valid = duckdb_vector_get_validity(vector);
	if (valid && !duckdb_validity_row_is_valid(valid, row))
		return NULL;
	duckdb_string_t *s = (duckdb_string_t *)duckdb_vector_get_data(vector) + row;
	size_t n = duckdb_string_t_length(*s);
	const char *text = duckdb_string_t_data(s);
	if (memchr(text, 0, n))
		return NULL;
	char *copy = duct_arena_alloc(arena, n + 1);
	memcpy(copy, text, n);
	copy[n] = 0;
	return copy;
}

static int64_t number(const char *text)
{
	return text ? strtoll(text, NULL, 10) : 0;
}

/* One column of one file: a map of texts. */
static struct lake_column_stats read_stats(duckdb_vector map, idx_t row, int64_t id, int64_t rows, struct duct_arena *arena)
{
	struct lake_column_stats s = {.column_id = id, .size_bytes = -1, .contains_nan = -1};
	duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(map))[row];
	duckdb_vector pairs = duckdb_list_vector_get_child(map), keys = duckdb_struct_vector_get_child(pairs, 0),
		      values = duckdb_struct_vector_get_child(pairs, 1);
	int64_t count = rows;
	for (idx_t i = entry.offset; i < entry.offset + entry.length; i++) {
		const char *key = text_at(keys, i, arena), *value = text_at(values, i, arena);
		if (!key || !value)
			continue;
		if (strcmp(key, "column_size_bytes") == 0)
			s.size_bytes = number(value);
		else if (strcmp(key, "null_count") == 0)
			s.null_count = number(value);
		else if (strcmp(key, "num_values") == 0)
			count = number(value);
		else if (strcmp(key, "has_nan") == 0)
			s.contains_nan = strcmp(value, "true") == 0;
		else if (strcmp(key, "min") == 0)
			s.min = value;
		else if (strcmp(key, "max") == 0)
			s.max = value;
	}
	s.value_count = count - s.null_count;
	/* Equal bounds beside NaN would be taken for "all values are equal". */
	if (!s.min || !s.max || (s.contains_nan == 1 && strcmp(s.min, s.max) == 0))
		s.min = s.max = NULL;
	return s;
}

static void read_all_stats(struct lake_new_file *file, duckdb_vector map, idx_t row, const struct leaves *leaves)
{
	duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(map))[row];
	duckdb_vector pairs = duckdb_list_vector_get_child(map), names = duckdb_struct_vector_get_child(pairs, 0),
		      values = duckdb_struct_vector_get_child(pairs, 1);
	file->stats = duct_xcalloc(entry.length + 1, sizeof *file->stats);
	for (idx_t i = entry.offset; i < entry.offset + entry.length; i++) {
		const char *name = text_at(names, i, &file->arena);
		for (size_t k = 0; name && k < leaves->n; k++)
			if (strcmp(leaves->list[k].path, name) == 0)
				file->stats[file->nstats++] =
					read_stats(values, i, leaves->list[k].id, file->record_count, &file->arena);
	}
}

enum { COPY_FILE, COPY_COUNT, COPY_BYTES, COPY_FOOTER, COPY_STATS };

static void take_file(struct land_files *to, duckdb_data_chunk chunk, idx_t row, const struct leaves *leaves, int64_t begun_us)
{
	int64_t numbers[COPY_STATS];
	for (int c = COPY_COUNT; c < COPY_STATS; c++)
		numbers[c] = ((int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, (idx_t)c)))[row];
	struct lake_new_file *file = duct_xcalloc(1, sizeof *file);
	duct_arena_init(&file->arena);
	file->path = duct_xstrdup(text_at(duckdb_data_chunk_get_vector(chunk, COPY_FILE), row, &file->arena));
	file->record_count = numbers[COPY_COUNT];
	file->size_bytes = numbers[COPY_BYTES];
	file->footer_size = numbers[COPY_FOOTER];
	file->written_us = begun_us;
	read_all_stats(file, duckdb_data_chunk_get_vector(chunk, COPY_STATS), row, leaves);
	to->files = duct_grow(to->files, &to->cap, to->n + 1, sizeof *to->files);
	to->files[to->n++] = file;
	to->rows += file->record_count;
	to->bytes += file->size_bytes;
}

static int copy_out(struct duck_conn *conn, const char *sql, const struct leaves *leaves, struct land_files *to,
		    struct duct_error *err)
{
	duckdb_result result;
	int64_t begun_us = duct_mono_us();
	if (duck_query(conn, sql, &result, err))
		return -(int)err->class;
	for (duckdb_data_chunk chunk; (chunk = duckdb_fetch_chunk(result));) {
		idx_t n = duckdb_data_chunk_get_size(chunk);
		for (idx_t row = 0; row < n; row++)
			take_file(to, chunk, row, leaves, begun_us);
		duckdb_destroy_data_chunk(&chunk);
	}
	duckdb_destroy_result(&result);
	return 0;
}

/* --- durable --- */

static int sync_file(const char *path, struct duct_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return duct_fail(err, DUCT_RETRY, "open \"%s\" to sync: %s", path, strerror(errno));
	int failed = fsync(fd), code = errno;
	close(fd);
	if (failed)
		return duct_fail(err, DUCT_RETRY, "fsync \"%s\": %s", path, strerror(code));
	return 0;
}

static int sync_files(const struct land_files *files, struct duct_error *err)
{
	for (size_t i = 0; i < files->n; i++)
		if (sync_file(files->files[i]->path, err) || duct_folder_sync(files->files[i]->path, err))
			return -(int)err->class;
	return 0;
}

/* --- the whole --- */

/* The folder and the column ids that the table has, or will have. */
static int find_place(struct lake *lake, const struct land_target *target, const struct land_shape *shape, struct land_files *ret,
		      struct lake_txn *txn, const struct lake_column **ret_columns, struct duct_error *err)
{
	const struct lake_table *known = lake_find_table(lake, target->schema, target->table);
	bool same = known && land_same_columns(known, shape);
	struct lake_txn_table *t;
	if (known && !same && !target->replace)
		return duct_fail(err, DUCT_CONFIG, "table \"%s\".\"%s\" has other columns than what is to be added to it",
				 target->schema, target->table);
	if (known && !same)
		lake_txn_drop_table(txn, lake_txn_table(txn, known->id));
	if (same)
		t = lake_txn_table(txn, known->id);
	else if (lake_txn_create_table(txn, target->schema, target->table, shape->columns, shape->ncolumns, &t, err))
		return -(int)err->class;
	ret->ncolumn_ids = lake_txn_columns(t, ret_columns);
	ret->folder = duct_arena_strdup(&ret->arena, lake_txn_table_path(t));
	ret->column_ids = duct_arena_alloc(&ret->arena, ((size_t)ret->ncolumn_ids + 1) * sizeof *ret->column_ids);
	for (int i = 0; i < ret->ncolumn_ids; i++)
		ret->column_ids[i] = (*ret_columns)[i].id;
	return 0;
}

static int write_files(struct duck_conn *conn, const char *select, const struct lake_column *columns, struct land_files *ret,
		       struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, folder = {0};
	struct leaves leaves = {.arena = &ret->arena};
	/* Files of a statement lie side by side in the table's folder; the pattern makes each name its own. */
	duct_buf_puts(&folder, ret->folder);
	if (folder.data[folder.len - 1] == '/')
		folder.data[--folder.len] = 0;
	duct_buf_printf(&sql, "COPY (%s) TO ", select);
	duct_buf_sql_literal(&sql, folder.data);
	duct_buf_printf(
		&sql,
		" (FORMAT parquet, RETURN_STATS, APPEND, FILE_SIZE_BYTES '%s', FILENAME_PATTERN 'ducklake-{uuidv7}', FIELD_IDS ",
		most_bytes);
	put_field_ids(&sql, &leaves, columns, ret->ncolumn_ids);
	duct_buf_putc(&sql, ')');
	int rc = copy_out(conn, sql.data, &leaves, ret, err);
	free(leaves.list);
	return rc;
}

static int write_durably(struct duck_conn *conn, const char *select, const struct lake_column *columns, struct land_files *ret,
			 struct duct_error *err)
{
	bool local = strncmp(ret->folder, "/", 1) == 0;
	int rc = local ? duct_folders_make(ret->folder, 0777, err) : 0;
	rc = rc ? rc : write_files(conn, select, columns, ret, err);
	return rc || !local ? rc : sync_files(ret, err);
}

int land_write_into(struct duck_conn *conn, const char *folder, const struct lake_column *columns, int ncolumns, const char *select,
		    struct land_files *ret, struct duct_error *err)
{
	*ret = (struct land_files){.ncolumn_ids = ncolumns};
	duct_arena_init(&ret->arena);
	ret->folder = duct_arena_strdup(&ret->arena, folder);
	return write_durably(conn, select, columns, ret, err);
}

int land_write(struct duck_conn *conn, struct lake *lake, const struct land_target *target, const struct land_shape *shape,
	       struct land_files *ret, struct duct_error *err)
{
	const struct lake_column *columns;
	struct lake_txn *txn = lake_txn_new(lake);
	*ret = (struct land_files){.folder = ""};
	duct_arena_init(&ret->arena);
	int rc = find_place(lake, target, shape, ret, txn, &columns, err);
	rc = rc ? rc : write_durably(conn, shape->select, columns, ret, err);
	lake_txn_free(txn);
	return rc ? duct_wrap(err, "write the files of \"%s\".\"%s\"", target->schema, target->table) : 0;
}
