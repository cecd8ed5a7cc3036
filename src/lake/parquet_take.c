/* DuckDB's vectors back into batches: the reverse of parquet_fill.c. */
#include "lake/parquet_internal.h"

#include <string.h>

struct duck_hugeint {
	uint64_t lower;
	int64_t upper;
};

static void uuid_from_duck(char *to, struct duck_hugeint v)
{
	uint64_t high = __builtin_bswap64((uint64_t)v.upper ^ UINT64_C(1) << 63), low = __builtin_bswap64(v.lower);
	memcpy(to, &high, 8);
	memcpy(to + 8, &low, 8);
}

static bool is_valid(duckdb_vector vector, idx_t at)
{
	uint64_t *valid = duckdb_vector_get_validity(vector);
	return !valid || duckdb_validity_row_is_valid(valid, at);
}

/* A fixed-width value; `to` has room for its in-memory form. */
static void load_fixed(char *to, const struct duct_type *type, uint32_t width, const void *data, idx_t at)
{
	if (type->kind == DUCT_UUID) {
		uuid_from_duck(to, ((const struct duck_hugeint *)data)[at]);
	} else if (type->kind == DUCT_DECIMAL && type->precision <= 9) {
		int64_t v = type->precision <= 4 ? ((const int16_t *)data)[at] : ((const int32_t *)data)[at];
		memcpy(to, &v, sizeof v);
	} else {
		memcpy(to, (const char *)data + at * width, width);
	}
}

static void put_value(struct duct_buf *to, const struct duct_type *type, duckdb_vector vector, idx_t at);

static void put_optional(struct duct_buf *to, const struct duct_type *type, duckdb_vector vector, idx_t at)
{
	bool valid = is_valid(vector, at);
	duct_buf_putc(to, valid);
	if (valid)
		put_value(to, type, vector, at);
}

static void put_nested(struct duct_buf *to, const struct duct_type *type, duckdb_vector vector, idx_t at)
{
	if (type->kind == DUCT_STRUCT) {
		for (int i = 0; i < type->nchildren; i++)
			put_optional(to, &type->children[i], duckdb_struct_vector_get_child(vector, (idx_t)i), at);
		return;
	}
	duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(vector))[at];
	duckdb_vector child = duckdb_list_vector_get_child(vector);
	bool map = type->kind == DUCT_MAP;
	duckdb_vector key = map ? duckdb_struct_vector_get_child(child, 0) : NULL;
	duckdb_vector value = map ? duckdb_struct_vector_get_child(child, 1) : child;
	uint32_t n = (uint32_t)entry.length;
	duct_buf_append(to, &n, sizeof n);
	for (idx_t i = entry.offset; i < entry.offset + entry.length; i++) {
		if (map)
			put_value(to, &type->children[0], key, i);
		put_optional(to, &type->children[map], value, i);
	}
}

/* The nested encoding of a value that is not NULL: fixed bytes, or u32 length and bytes. */
static void put_value(struct duct_buf *to, const struct duct_type *type, duckdb_vector vector, idx_t at)
{
	uint32_t width = duct_type_width(type), len = 0;
	if (width) {
		load_fixed(duct_buf_room(to, width), type, width, duckdb_vector_get_data(vector), at);
		to->len += width;
	} else if (!duct_kind_is_nested(type->kind)) {
		duckdb_string_t *s = (duckdb_string_t *)duckdb_vector_get_data(vector) + at;
		len = duckdb_string_t_length(*s);
		duct_buf_append(to, &len, sizeof len);
		duct_buf_append(to, duckdb_string_t_data(s), len);
	} else {
		size_t start = to->len;
		duct_buf_append(to, &len, sizeof len);
		put_nested(to, type, vector, at);
		len = (uint32_t)(to->len - start - sizeof len);
		memcpy(to->data + start, &len, sizeof len);
	}
}

static void take_nested(struct duct_batch *batch, struct duct_vector *v, duckdb_vector vector, idx_t at, struct duct_buf *scratch)
{
	scratch->len = 0;
	put_nested(scratch, v->type, vector, at);
	char *to = duct_vector_append(batch, v, (uint32_t)scratch->len);
	if (scratch->len)
		memcpy(to, scratch->data, scratch->len);
}

static void take_string(struct duct_batch *batch, struct duct_vector *v, duckdb_string_t *s)
{
	uint32_t len = duckdb_string_t_length(*s);
	char *to = duct_vector_append(batch, v, len);
	if (len)
		memcpy(to, duckdb_string_t_data(s), len);
}

void lake_take_vector(struct duct_batch *batch, struct duct_vector *v, duckdb_vector vector, idx_t n, const bool *keep)
{
	struct duct_buf scratch AUTO_BUF = {0};
	uint64_t *valid = duckdb_vector_get_validity(vector);
	void *data = duckdb_vector_get_data(vector);
	bool nested = duct_kind_is_nested(v->type->kind);
	for (idx_t i = 0; i < n; i++) {
		if (keep && !keep[i])
			continue;
		if (valid && !duckdb_validity_row_is_valid(valid, i))
			duct_vector_append_null(batch, v);
		else if (v->width)
			load_fixed(duct_vector_append(batch, v, v->width), v->type, v->width, data, i);
		else if (nested)
			take_nested(batch, v, vector, i, &scratch);
		else
			take_string(batch, v, (duckdb_string_t *)data + i);
	}
}
