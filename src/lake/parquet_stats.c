/*
 * What COPY's RETURN_STATS says about a file, in the terms of ducklake_file_column_stats. The statistics are a map from the
 * quoted path of a leaf ("a"."element") to a map of texts: column_size_bytes, num_values (NULLs included), null_count, and
 * where known min, max, has_nan.
 */
#include "lake/parquet_internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct leaf {
	char *path;
	int64_t column_id;
};

struct leaves {
	struct leaf *all;
	size_t n, cap;
};

static void put_part(struct duct_buf *to, const char *name)
{
	duct_buf_puts(to, to->len ? "." : "");
	duct_buf_sql_ident(to, name);
}

/* Adds the leaves below a node; `path` is that of the node and is left as it came. */
static void add_leaves(struct leaves *l, struct duct_buf *path, int64_t id, const struct duct_type *type, const int64_t **ids)
{
	if (!type->nchildren) {
		l->all = duct_grow(l->all, &l->cap, l->n + 1, sizeof *l->all);
		l->all[l->n++] = (struct leaf){duct_xstrdup(path->data), id};
		return;
	}
	size_t len = path->len;
	for (int i = 0; i < type->nchildren; i++) {
		int64_t child_id = *(*ids)++;
		put_part(path, type->children[i].name);
		add_leaves(l, path, child_id, &type->children[i], ids);
		path->len = len;
	}
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct leaf *)a)->path, ((const struct leaf *)b)->path);
}

static int by_column(const void *a, const void *b)
{
	int64_t x = ((const struct lake_column_stats *)a)->column_id, y = ((const struct lake_column_stats *)b)->column_id;
	return (x > y) - (x < y);
}

static void find_leaves(struct leaves *l, const struct lake_write_spec *spec)
{
	for (int i = 0; i < spec->ncolumns; i++) {
		struct duct_buf path AUTO_BUF = {0};
		const int64_t *ids = spec->columns[i].leaf_ids;
		put_part(&path, spec->columns[i].name);
		add_leaves(l, &path, spec->columns[i].id, &spec->columns[i].type, &ids);
	}
	if (l->n)
		qsort(l->all, l->n, sizeof *l->all, by_path);
}

static char *text_at(struct duct_arena *arena, duckdb_vector vector, idx_t at)
{
	uint64_t *valid = duckdb_vector_get_validity(vector);
	if (valid && !duckdb_validity_row_is_valid(valid, at))
		return NULL;
	duckdb_string_t *s = (duckdb_string_t *)duckdb_vector_get_data(vector) + at;
	uint32_t n = duckdb_string_t_length(*s);
	char *copy = duct_arena_alloc(arena, (size_t)n + 1);
	memcpy(copy, duckdb_string_t_data(s), n);
	copy[n] = 0;
	return copy;
}

static void take_fact(struct lake_column_stats *stats, int64_t *values, const char *key, const char *value)
{
	if (!value)
		return;
	if (strcmp(key, "column_size_bytes") == 0)
		stats->size_bytes = strtoll(value, NULL, 10);
	else if (strcmp(key, "num_values") == 0)
		*values = strtoll(value, NULL, 10);
	else if (strcmp(key, "null_count") == 0)
		stats->null_count = strtoll(value, NULL, 10);
	else if (strcmp(key, "has_nan") == 0)
		stats->contains_nan = strcmp(value, "true") == 0;
	else if (strcmp(key, "min") == 0)
		stats->min = value;
	else if (strcmp(key, "max") == 0)
		stats->max = value;
}

static void take_column(struct lake_new_file *file, const struct leaf *leaf, duckdb_vector facts, duckdb_list_entry entry)
{
	duckdb_vector pair = duckdb_list_vector_get_child(facts);
	duckdb_vector keys = duckdb_struct_vector_get_child(pair, 0), values = duckdb_struct_vector_get_child(pair, 1);
	struct lake_column_stats *stats = &file->stats[file->nstats++];
	int64_t nvalues = 0;
	*stats = (struct lake_column_stats){.column_id = leaf->column_id, .contains_nan = -1};
	for (idx_t i = entry.offset; i < entry.offset + entry.length; i++)
		take_fact(stats, &nvalues, text_at(&file->arena, keys, i), text_at(&file->arena, values, i));
	stats->value_count = nvalues - stats->null_count;
	/* The official client takes equal bounds for "all values are equal" and skips the file for <>, whatever NaN it has. */
	bool one_value = stats->min && stats->max && stats->contains_nan == 1 && strcmp(stats->min, stats->max) == 0;
	if (!stats->min || !stats->max || one_value)
		stats->min = stats->max = NULL;
}

static void take_columns(duckdb_vector map, const struct lake_write_spec *spec, struct lake_new_file *file)
{
	struct leaves leaves = {0};
	find_leaves(&leaves, spec);
	file->stats = duct_xcalloc(leaves.n + 1, sizeof *file->stats);
	duckdb_list_entry all = *(duckdb_list_entry *)duckdb_vector_get_data(map);
	duckdb_vector pair = duckdb_list_vector_get_child(map);
	duckdb_vector paths = duckdb_struct_vector_get_child(pair, 0), facts = duckdb_struct_vector_get_child(pair, 1);
	duckdb_list_entry *entries = duckdb_vector_get_data(facts);
	for (idx_t i = all.offset; i < all.offset + all.length; i++) {
		struct leaf key = {.path = text_at(&file->arena, paths, i)};
		const struct leaf *leaf = leaves.n ? bsearch(&key, leaves.all, leaves.n, sizeof key, by_path) : NULL;
		if (leaf) /* not for the row ids */
			take_column(file, leaf, facts, entries[i]);
	}
	qsort(file->stats, (size_t)file->nstats, sizeof *file->stats, by_column);
	for (size_t i = 0; i < leaves.n; i++)
		free(leaves.all[i].path);
	free(leaves.all);
}

static idx_t column_named(duckdb_result *result, const char *name)
{
	idx_t n = duckdb_column_count(result);
	for (idx_t i = 0; i < n; i++)
		if (strcmp(duckdb_column_name(result, i), name) == 0)
			return i;
	return n;
}

int lake_take_stats(duckdb_result *result, const struct lake_write_spec *spec, struct lake_new_file *file,
	struct duct_error *err)
{
	idx_t n = duckdb_column_count(result);
	idx_t count = column_named(result, "count"), size = column_named(result, "file_size_bytes");
	idx_t footer = column_named(result, "footer_size_bytes"), columns = column_named(result, "column_statistics");
	duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
	if (!chunk || count == n || size == n || footer == n || columns == n || duckdb_data_chunk_get_size(chunk) != 1) {
		duckdb_destroy_data_chunk(&chunk);
		return duct_fail(err, DUCT_FATAL, "duckdb %s returned no statistics of \"%s\"", duck_version(), file->path);
	}
	file->record_count = *(int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, count));
	file->size_bytes = *(int64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, size));
	duckdb_vector footer_vector = duckdb_data_chunk_get_vector(chunk, footer);
	file->footer_size = *(int64_t *)duckdb_vector_get_data(footer_vector);
	take_columns(duckdb_data_chunk_get_vector(chunk, columns), spec, file);
	duckdb_destroy_data_chunk(&chunk);
	return 0;
}
