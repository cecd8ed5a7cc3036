/*
 * Data and delete files back into batches. DuckDB's read_parquet() finds columns by field id (its `schema` option, which
 * also casts older types and fills in defaults), and skips row groups, and inside them vectors, by a filter on
 * file_row_number: a point read of a large file reads the row group's pages of the wanted columns only. A file that exists under
 * a name with * ? [ in it is not taken for a pattern.
 */
#include "lake/parquet_internal.h"

#include "base/mem.h"
#include "duck/types.h"
#include "net/s3_options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	FILTER_POSITIONS = 500, /* listed one by one in a query */
	FILTER_SPAN = 122880,	/* more than so many positions in one span of rows: read the span */
};

/* Says what is wrong with a file of this machine before DuckDB does in its own way: missing, or not Parquet. */
static int check_magic(const char *path, struct duct_error *err)
{
	char magic[4] = {0};
	if (s3_is_url(path))
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int code = errno;
		int ret = duct_fail(
			err, code == EACCES ? DUCT_CONFIG : DUCT_RETRY, "open \"%s\": %s%s", path, strerror(code),
			code == ENOENT ? ": the lake names this file; when it is lost, `ductstream lake copy-again` mends its table"
				       : "");
		if (err)
			err->vendor_code = code;
		return ret;
	}
	ssize_t n = pread(fd, magic, sizeof magic, 0);
	close(fd);
	if (n == 4 && memcmp(magic, "PFA1", 4) == 0)
		return duct_fail(err, DUCT_CONFIG,
				 "\"%s\" is a puffin deletion vector, which is not supported: rewrite the table's files with "
				 "write_deletion_vectors off",
				 path);
	if (n != 4 || memcmp(magic, "PAR1", 4) != 0)
		return duct_fail(err, DUCT_FATAL, "\"%s\" is not a Parquet file", path);
	return 0;
}

/* --- delete files --- */

static int collect_positions(duckdb_result *result, int64_t **all, size_t *n, const char *path, struct duct_error *err)
{
	size_t cap = 0;
	duckdb_data_chunk chunk;
	for (; (chunk = duckdb_fetch_chunk(*result)); duckdb_destroy_data_chunk(&chunk)) {
		duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, 0);
		size_t rows = duckdb_data_chunk_get_size(chunk);
		*all = duct_grow(*all, &cap, *n + rows, sizeof **all);
		if (duckdb_vector_get_validity(vector) && !duckdb_validity_row_is_valid(duckdb_vector_get_validity(vector), 0)) {
			duckdb_destroy_data_chunk(&chunk);
			return duct_fail(err, DUCT_FATAL, "delete file \"%s\" has a position that is NULL", path);
		}
		memcpy(*all + *n, duckdb_vector_get_data(vector), rows * sizeof **all);
		*n += rows;
	}
	return 0;
}

int lake_read_delete_file(struct duck_conn *conn, const char *path, int64_t **ret, size_t *ret_n, struct duct_error *err)
{
	struct duct_buf sql AUTO_BUF = {0};
	duckdb_result result;
	AUTO_FREE int64_t *all = NULL;
	size_t n = 0;
	int r = check_magic(path, err);
	if (r)
		return r;
	duct_buf_puts(&sql, "SELECT pos::BIGINT FROM read_parquet(");
	duct_buf_sql_literal(&sql, path);
	duct_buf_puts(&sql, ", hive_partitioning=false) ORDER BY pos NULLS FIRST");
	r = duck_query(conn, sql.data, &result, err);
	if (!r) {
		r = collect_positions(&result, &all, &n, path, err);
		duckdb_destroy_result(&result);
	}
	if (r)
		return duct_wrap(err, "read delete file \"%s\"", path);
	*ret = duct_steal(&all);
	*ret_n = n;
	return 0;
}

/* --- data files --- */

struct reader {
	struct duck_conn *conn;
	const struct lake_file *file;
	struct duct_relation *relation;
	int ncolumns;
	struct duct_buf from; /* "FROM read_parquet(...)" with its schema */
	lake_read_fn *fn;
	void *arg;
	/* The positions of the running query, NULL: all rows. */
	const int64_t *wanted, *wanted_end;
	int64_t *positions, *row_ids; /* of the rows kept of a chunk; DUCK_VECTOR_ROWS each */
	bool *keep;
};

struct duct_relation *lake_read_relation(const struct lake_column *const *columns, int n)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = rel->name = "";
	rel->ncolumns = n;
	rel->columns = duct_arena_zalloc(&rel->arena, (size_t)n * sizeof *rel->columns);
	for (int i = 0; i < n; i++) {
		rel->columns[i].name = duct_arena_strdup(&rel->arena, columns[i]->name);
		rel->columns[i].type = duct_type_copy(&rel->arena, &columns[i]->type);
		rel->columns[i].source_type = "";
	}
	return rel;
}

static void schema_entry(struct duct_buf *to, int64_t field_id, const char *name, const struct duct_type *type,
			 const char *initial_default)
{
	struct duct_buf text AUTO_BUF = {0};
	duck_sql_type(&text, type);
	duct_buf_printf(to, "%" PRId64 ": {name: '%s', type: ", field_id, name);
	duct_buf_sql_literal(to, text.data);
	duct_buf_puts(to, ", default_value: ");
	if (initial_default)
		duct_buf_sql_literal(to, initial_default);
	else
		duct_buf_puts(to, "NULL::VARCHAR");
	duct_buf_putc(to, '}');
}

/* --- files of others: columns by the names that the catalog has for them --- */

static const struct lake_file_name *name_of(const struct lake_file *file, int64_t column_id)
{
	for (int i = 0; i < file->nnames; i++)
		if (file->names[i].column_id == column_id)
			return &file->names[i];
	return NULL;
}

/* The value of a "name=value" folder; NULL: there is none. malloc. */
static char *value_in_path(const char *path, const char *name)
{
	size_t n = strlen(name);
	for (const char *at = path; (at = strchr(at, '/')); at++)
		if (strncmp(at + 1, name, n) == 0 && at[n + 1] == '=') {
			const char *value = at + n + 2;
			return duct_xstrndup(value, strcspn(value, "/"));
		}
	return NULL;
}

static void named_column(struct reader *r, const struct lake_column *column, int number)
{
	struct duct_buf type AUTO_BUF = {0};
	const struct lake_file_name *name = name_of(r->file, column->id);
	duck_sql_type(&type, &column->type);
	duct_buf_puts(&r->from, "CAST(");
	AUTO_FREE char *value = name && name->in_path ? value_in_path(r->file->path, name->name) : NULL;
	const char *constant = name ? value : column->initial_default;
	if (name && !name->in_path) {
		duct_buf_sql_ident(&r->from, name->name);
	} else if (constant) {
		duct_buf_puts(&r->from, value ? "nullif(url_decode(" : "((");
		duct_buf_sql_literal(&r->from, constant);
		duct_buf_puts(&r->from, value ? "), '__HIVE_DEFAULT_PARTITION__')" : "))");
	} else {
		duct_buf_puts(&r->from, "NULL");
	}
	duct_buf_printf(&r->from, " AS %s) AS c%d, ", type.data, number);
}

static int build_from_names(struct reader *r, const struct lake_column *const *columns, struct duct_error *err)
{
	duct_buf_puts(&r->from, " FROM (SELECT ");
	for (int i = 0; i < r->ncolumns; i++) {
		if (columns[i]->nleaf_ids)
			return duct_fail(err, DUCT_CONFIG,
					 "column \"%s\" has parts whose names are the file's own: rewrite it "
					 "(ducklake_rewrite_data_files) before it is changed",
					 columns[i]->name);
		named_column(r, columns[i], i);
	}
	duct_buf_puts(&r->from, "file_row_number, NULL::BIGINT AS row_id FROM read_parquet(");
	duct_buf_sql_literal(&r->from, r->file->path);
	duct_buf_puts(&r->from, ", hive_partitioning=false, file_row_number=true))");
	return 0;
}

/* Without the option, which refuses a file that has a column of that name: beside renamed columns there is DuckDB's own alone. */
static void build_from(struct reader *r, const struct lake_column *const *columns)
{
	static const struct duct_type bigint = {.kind = DUCT_INT64};
	char name[16];
	duct_buf_puts(&r->from, " FROM read_parquet(");
	duct_buf_sql_literal(&r->from, r->file->path);
	duct_buf_puts(&r->from, ", hive_partitioning=false, schema=MAP {");
	for (int i = 0; i < r->ncolumns; i++) {
		snprintf(name, sizeof name, "c%d", i);
		schema_entry(&r->from, columns[i]->id, name, &columns[i]->type, columns[i]->initial_default);
		duct_buf_puts(&r->from, ", ");
	}
	schema_entry(&r->from, LAKE_FIELD_ROW_ID, "row_id", &bigint, NULL);
	duct_buf_puts(&r->from, "})");
}

/* Takes position and row id of the chunk's rows; keep[] says which are wanted. Returns how many are. */
static int take_ids(struct reader *r, duckdb_data_chunk chunk, idx_t n, struct duct_error *err)
{
	duckdb_vector ids = duckdb_data_chunk_get_vector(chunk, (idx_t)r->ncolumns + 1);
	const int64_t *positions = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, (idx_t)r->ncolumns));
	const int64_t *explicit_ids = duckdb_vector_get_data(ids);
	uint64_t *valid = duckdb_vector_get_validity(ids);
	int kept = 0;
	for (idx_t i = 0; i < n; i++) {
		int64_t at = positions[i];
		if (r->wanted && r->wanted < r->wanted_end && *r->wanted < at)
			return duct_fail(err, DUCT_FATAL, "\"%s\" has no row at position %" PRId64, r->file->path, *r->wanted);
		r->keep[i] = !r->wanted || (r->wanted < r->wanted_end && *r->wanted == at);
		if (!r->keep[i])
			continue;
		r->wanted += r->wanted != NULL;
		bool has_id = !valid || duckdb_validity_row_is_valid(valid, i);
		if (!has_id && r->file->row_id_start < 0)
			return duct_fail(err, DUCT_FATAL, "\"%s\" has no row ids and the catalog gives it none", r->file->path);
		r->positions[kept] = at;
		r->row_ids[kept++] = has_id ? explicit_ids[i] : r->file->row_id_start + at;
	}
	return kept;
}

static int take_chunk(struct reader *r, duckdb_data_chunk chunk, struct duct_error *err)
{
	idx_t n = duckdb_data_chunk_get_size(chunk);
	int kept = take_ids(r, chunk, n, err);
	if (kept <= 0)
		return kept;
	struct duct_batch *batch = duct_batch_new(r->relation, (uint32_t)kept);
	for (int i = 0; i < kept; i++)
		duct_batch_add_row(batch, DUCT_READ, (uint64_t)r->positions[i]);
	for (int c = 0; c < r->ncolumns; c++)
		lake_take_vector(batch, &batch->columns[c], duckdb_data_chunk_get_vector(chunk, (idx_t)c), n, r->keep);
	duct_batch_seal(batch);
	int ret = r->fn(r->arg, batch, r->positions, r->row_ids, err);
	duct_batch_unref(batch);
	return ret;
}

static int run(struct reader *r, const char *filter, struct duct_error *err)
{
	struct duct_buf sql AUTO_BUF = {0};
	duckdb_result result;
	duckdb_data_chunk chunk;
	duct_buf_puts(&sql, "SELECT ");
	for (int i = 0; i < r->ncolumns; i++)
		duct_buf_printf(&sql, "c%d, ", i);
	duct_buf_printf(&sql, "file_row_number, row_id%s%s", r->from.data, filter);
	int ret = duck_stream(r->conn, sql.data, &result, err);
	if (ret)
		return ret;
	while (!ret && (chunk = duckdb_fetch_chunk(result))) {
		ret = take_chunk(r, chunk, err);
		duckdb_destroy_data_chunk(&chunk);
	}
	if (!ret)
		ret = duck_result_error(r->conn, &result, err);
	duckdb_destroy_result(&result);
	if (!ret && r->wanted < r->wanted_end)
		return duct_fail(err, DUCT_FATAL, "\"%s\" has no row at position %" PRId64, r->file->path, *r->wanted);
	return ret;
}

/* How many of the n positions the next query takes: few are listed, a dense stretch is read as a range. */
static size_t next_group(const int64_t *positions, size_t n, bool *ret_range)
{
	size_t dense = 0;
	while (dense < n && positions[dense] - positions[0] < FILTER_SPAN)
		dense++;
	*ret_range = dense > FILTER_POSITIONS;
	return *ret_range ? dense : n < FILTER_POSITIONS ? n : FILTER_POSITIONS;
}

static int run_positions(struct reader *r, const int64_t *positions, size_t n, struct duct_error *err)
{
	int ret = 0;
	for (size_t group; n && !ret; positions += group, n -= group) {
		struct duct_buf filter AUTO_BUF = {0};
		bool range;
		group = next_group(positions, n, &range);
		duct_buf_printf(&filter, " WHERE file_row_number BETWEEN %" PRId64 " AND %" PRId64, positions[0],
				positions[group - 1]);
		for (size_t i = 0; i < group && !range; i++)
			duct_buf_printf(&filter, "%s%" PRId64, i ? ", " : " AND file_row_number IN (", positions[i]);
		duct_buf_puts(&filter, range ? "" : ")");
		r->wanted = positions;
		r->wanted_end = positions + group;
		ret = run(r, filter.data, err);
	}
	return ret;
}

int lake_read_file(struct duck_conn *conn, const struct lake_file *file, const struct lake_column *const *columns, int ncolumns,
		   const int64_t *positions, size_t npositions, lake_read_fn *fn, void *arg, struct duct_error *err)
{
	int ret = check_magic(file->path, err);
	if (ret)
		return ret;
	if (file->has_mapping && !file->names)
		return duct_fail(
			err, DUCT_CONFIG,
			"\"%s\" was registered from outside and has no field ids: rewrite it (ducklake_rewrite_data_files) "
			"before it is changed",
			file->path);
	struct reader r = {.conn = conn, .file = file, .ncolumns = ncolumns, .fn = fn, .arg = arg};
	r.relation = lake_read_relation(columns, ncolumns);
	r.positions = duct_xcalloc(DUCK_VECTOR_ROWS, sizeof *r.positions);
	r.row_ids = duct_xcalloc(DUCK_VECTOR_ROWS, sizeof *r.row_ids);
	r.keep = duct_xcalloc(DUCK_VECTOR_ROWS, sizeof *r.keep);
	if (file->has_mapping)
		ret = build_from_names(&r, columns, err);
	else
		build_from(&r, columns);
	if (!ret)
		ret = positions ? run_positions(&r, positions, npositions, err) : run(&r, "", err);
	duct_relation_unref(r.relation);
	duct_buf_done(&r.from);
	free(r.positions);
	free(r.row_ids);
	free(r.keep);
	return ret ? duct_wrap(err, "read \"%s\"", file->path) : 0;
}
