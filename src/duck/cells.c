/*
 * Values of ours written into DuckDB's vectors. What is the same in both is copied; different are
 *
 *   DECIMAL  int16 to 4 digits, int32 to 9, int64 to 18, else int128
 *   UUID     int128 with the first byte on top, and its top bit turned over so that it sorts as text does
 *   LIST     {offset, length} into the child vector; a MAP is a list of {key, value}
 */
#include "duck/types.h"

#include "record/nested.h"

#include <string.h>

static void put_null(duckdb_vector vector, idx_t row, const struct duct_type *type)
{
	duckdb_vector_ensure_validity_writable(vector);
	duckdb_validity_set_row_invalid(duckdb_vector_get_validity(vector), row);
	if (type->kind == DUCT_STRUCT)
		for (int i = 0; i < type->nchildren; i++)
			put_null(duckdb_struct_vector_get_child(vector, (idx_t)i), row, &type->children[i]);
	else if (duct_kind_is_nested(type->kind))
		((duckdb_list_entry *)duckdb_vector_get_data(vector))[row] = (duckdb_list_entry){0};
}

static void put_decimal(void *data, idx_t row, const struct duct_type *type, const char *p)
{
	int64_t v;
	memcpy(&v, p, sizeof v);
	if (type->precision <= 4)
		((int16_t *)data)[row] = (int16_t)v;
	else if (type->precision <= 9)
		((int32_t *)data)[row] = (int32_t)v;
	else if (type->precision <= 18)
		((int64_t *)data)[row] = v;
	else
		memcpy((char *)data + row * 16, p, 16);
}

static void put_uuid(void *data, idx_t row, const char *p)
{
	uint64_t high, low;
	memcpy(&high, p, sizeof high);
	memcpy(&low, p + sizeof high, sizeof low);
	((duckdb_hugeint *)data)[row] = (duckdb_hugeint){
		.lower = __builtin_bswap64(low),
		.upper = (int64_t)(__builtin_bswap64(high) ^ UINT64_C(1) << 63),
	};
}

static void put_list(duckdb_vector vector, idx_t row, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	uint32_t n = duct_nested_count(&r);
	idx_t first = duckdb_list_vector_get_size(vector);
	bool map = type->kind == DUCT_MAP;
	(void)duckdb_list_vector_reserve(vector, first + n);
	(void)duckdb_list_vector_set_size(vector, first + n);
	duckdb_vector child = duckdb_list_vector_get_child(vector);
	duckdb_vector keys = map ? duckdb_struct_vector_get_child(child, 0) : NULL;
	duckdb_vector values = map ? duckdb_struct_vector_get_child(child, 1) : child;
	for (uint32_t i = 0; i < n && !r.bad; i++) {
		if (map)
			duck_put_cell(keys, first + i, &type->children[0], duct_nested_value(&r, &type->children[0]));
		duck_put_cell(values, first + i, &type->children[map], duct_nested_optional(&r, &type->children[map]));
	}
	((duckdb_list_entry *)duckdb_vector_get_data(vector))[row] = (duckdb_list_entry){first, n};
}

static void put_struct(duckdb_vector vector, idx_t row, const struct duct_type *type, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	for (int i = 0; i < type->nchildren; i++)
		duck_put_cell(duckdb_struct_vector_get_child(vector, (idx_t)i), row, &type->children[i],
			      duct_nested_optional(&r, &type->children[i]));
}

void duck_put_cell(duckdb_vector vector, idx_t row, const struct duct_type *type, struct duct_cell cell)
{
	if (!cell.data) {
		put_null(vector, row, type);
		return;
	}
	switch (type->kind) {
	case DUCT_DECIMAL: put_decimal(duckdb_vector_get_data(vector), row, type, cell.data); break;
	case DUCT_UUID: put_uuid(duckdb_vector_get_data(vector), row, cell.data); break;
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB: duckdb_vector_assign_string_element_len(vector, row, cell.data, cell.len); break;
	case DUCT_LIST:
	case DUCT_MAP: put_list(vector, row, type, cell); break;
	case DUCT_STRUCT: put_struct(vector, row, type, cell); break;
	default: memcpy((char *)duckdb_vector_get_data(vector) + row * cell.len, cell.data, cell.len); break;
	}
}
