/* Schema, footer and page index of a file: see parquet.thrift and PageIndex.md of apache/parquet-format. */
#include "parquet/writer_internal.h"

/* --- schema --- */

static void put_decimal(struct thrift_writer *t, const struct duct_type *type)
{
	thrift_put_struct(t, PARQUET_LOGICAL_DECIMAL);
	thrift_put_i32(t, PARQUET_DECIMAL_SCALE, type->scale);
	thrift_put_i32(t, PARQUET_DECIMAL_PRECISION, type->precision);
	thrift_put_end(t);
}

static void put_time(struct thrift_writer *t, enum parquet_logical logical, bool utc)
{
	thrift_put_struct(t, (int)logical);
	thrift_put_bool(t, PARQUET_TIME_UTC, utc);
	thrift_put_struct(t, PARQUET_TIME_UNIT);
	thrift_put_empty(t, PARQUET_UNIT_MICROS);
	thrift_put_end(t);
	thrift_put_end(t);
}

/* The kinds that have one; the others are told by their converted type alone, as in DuckDB's files. */
static void put_logical(struct thrift_writer *t, const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_DECIMAL:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ:
	case DUCT_UUID:
	case DUCT_JSON: break;
	default: return;
	}
	thrift_put_struct(t, PARQUET_ELEMENT_LOGICAL);
	if (type->kind == DUCT_DECIMAL)
		put_decimal(t, type);
	else if (type->kind == DUCT_UUID || type->kind == DUCT_JSON)
		thrift_put_empty(t, type->kind == DUCT_UUID ? PARQUET_LOGICAL_UUID : PARQUET_LOGICAL_JSON);
	else
		put_time(t, type->kind == DUCT_TIME ? PARQUET_LOGICAL_TIME : PARQUET_LOGICAL_TIMESTAMP,
			 type->kind == DUCT_TIMESTAMPTZ);
	thrift_put_end(t);
}

static enum parquet_converted converted_of(const struct duct_type *type)
{
	switch (type->kind) {
	case DUCT_INT8: return PARQUET_CONVERTED_INT8;
	case DUCT_INT16: return PARQUET_CONVERTED_INT16;
	case DUCT_INT32: return PARQUET_CONVERTED_INT32;
	case DUCT_INT64: return PARQUET_CONVERTED_INT64;
	case DUCT_UINT8: return PARQUET_CONVERTED_UINT8;
	case DUCT_UINT16: return PARQUET_CONVERTED_UINT16;
	case DUCT_UINT32: return PARQUET_CONVERTED_UINT32;
	case DUCT_UINT64: return PARQUET_CONVERTED_UINT64;
	case DUCT_DECIMAL: return PARQUET_CONVERTED_DECIMAL;
	case DUCT_DATE: return PARQUET_CONVERTED_DATE;
	case DUCT_TIME: return PARQUET_CONVERTED_TIME_MICROS;
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: return PARQUET_CONVERTED_TIMESTAMP_MICROS;
	case DUCT_VARCHAR: return PARQUET_CONVERTED_UTF8;
	case DUCT_JSON: return PARQUET_CONVERTED_JSON;
	case DUCT_LIST: return PARQUET_CONVERTED_LIST;
	case DUCT_MAP: return PARQUET_CONVERTED_MAP;
	default: return PARQUET_CONVERTED_NONE;
	}
}

/* The repeated group between a list or map and its members; it has no field id. */
static void put_repeated(struct thrift_writer *t, const char *name, int nchildren)
{
	thrift_put_element(t);
	thrift_put_i32(t, PARQUET_ELEMENT_REPETITION, PARQUET_REPEATED);
	thrift_put_binary(t, PARQUET_ELEMENT_NAME, name, strlen(name));
	thrift_put_i32(t, PARQUET_ELEMENT_NUM_CHILDREN, nchildren);
	thrift_put_end(t);
}

static void put_element(struct thrift_writer *t, const struct parquet_node *node, const char *name, int64_t id, bool required,
			const struct parquet_leaf *leaves, const int64_t **ids)
{
	const struct duct_type *type = node->type;
	const struct parquet_leaf *leaf = type->nchildren ? NULL : &leaves[node->first_leaf];
	enum parquet_converted converted = converted_of(type);
	bool listed = type->kind == DUCT_LIST || type->kind == DUCT_MAP;
	thrift_put_element(t);
	if (leaf)
		thrift_put_i32(t, PARQUET_ELEMENT_TYPE, (int32_t)leaf->physical);
	if (leaf && leaf->physical == PARQUET_FIXED)
		thrift_put_i32(t, PARQUET_ELEMENT_TYPE_LENGTH, (int32_t)leaf->width);
	thrift_put_i32(t, PARQUET_ELEMENT_REPETITION, required ? PARQUET_REQUIRED : PARQUET_OPTIONAL);
	thrift_put_binary(t, PARQUET_ELEMENT_NAME, name, strlen(name));
	if (!leaf)
		thrift_put_i32(t, PARQUET_ELEMENT_NUM_CHILDREN, listed ? 1 : type->nchildren);
	if (converted != PARQUET_CONVERTED_NONE)
		thrift_put_i32(t, PARQUET_ELEMENT_CONVERTED, (int32_t)converted);
	if (type->kind == DUCT_DECIMAL) {
		thrift_put_i32(t, PARQUET_ELEMENT_SCALE, type->scale);
		thrift_put_i32(t, PARQUET_ELEMENT_PRECISION, type->precision);
	}
	thrift_put_i32(t, PARQUET_ELEMENT_FIELD_ID, (int32_t)id);
	put_logical(t, type);
	thrift_put_end(t);
	if (listed)
		put_repeated(t, type->kind == DUCT_MAP ? "key_value" : "list", type->nchildren);
	for (int i = 0; i < type->nchildren; i++) {
		int64_t child_id = *(*ids)++;
		put_element(t, &node->children[i], type->children[i].name, child_id, type->kind == DUCT_MAP && i == 0, leaves, ids);
	}
}

static size_t count_elements(const struct duct_type *type)
{
	size_t n = 1 + (type->kind == DUCT_LIST || type->kind == DUCT_MAP);
	for (int i = 0; i < type->nchildren; i++)
		n += count_elements(&type->children[i]);
	return n;
}

static void put_schema(struct thrift_writer *t, const struct parquet_writer *w)
{
	static const char root[] = "duckdb_schema"; /* as the official client calls it */
	size_t n = 1;
	for (int i = 0; i < w->ncolumns; i++)
		n += count_elements(w->columns[i].type);
	thrift_put_list(t, PARQUET_FILE_SCHEMA, THRIFT_STRUCT, n);
	thrift_put_element(t);
	thrift_put_i32(t, PARQUET_ELEMENT_REPETITION, PARQUET_REQUIRED);
	thrift_put_binary(t, PARQUET_ELEMENT_NAME, root, sizeof root - 1);
	thrift_put_i32(t, PARQUET_ELEMENT_NUM_CHILDREN, w->ncolumns);
	thrift_put_end(t);
	for (int i = 0; i < w->ncolumns; i++) {
		const int64_t *ids = w->columns[i].child_ids;
		put_element(t, &w->nodes[i], w->columns[i].name, w->columns[i].field_id, false, w->leaves, &ids);
	}
}

/* --- row groups --- */

static void put_statistics(struct thrift_writer *t, const struct parquet_chunk *c)
{
	thrift_put_struct(t, PARQUET_META_STATISTICS);
	thrift_put_i64(t, PARQUET_STATS_NULL_COUNT, c->nnulls);
	if (c->max)
		thrift_put_binary(t, PARQUET_STATS_MAX, c->max, c->max_len);
	if (c->min)
		thrift_put_binary(t, PARQUET_STATS_MIN, c->min, c->min_len);
	if (c->max)
		thrift_put_bool(t, PARQUET_STATS_MAX_EXACT, c->max_exact);
	if (c->min)
		thrift_put_bool(t, PARQUET_STATS_MIN_EXACT, c->min_exact);
	thrift_put_end(t);
}

static void put_meta(struct thrift_writer *t, const struct parquet_writer *w, const struct parquet_leaf *leaf,
		     const struct parquet_chunk *c)
{
	thrift_put_struct(t, PARQUET_CHUNK_META);
	thrift_put_i32(t, PARQUET_META_TYPE, (int32_t)leaf->physical);
	thrift_put_list(t, PARQUET_META_ENCODINGS, THRIFT_I32, (size_t)__builtin_popcount(c->encodings));
	for (int32_t encoding = 0; encoding <= PARQUET_RLE_DICTIONARY; encoding++)
		if (c->encodings & 1u << encoding)
			thrift_raw_int(t, encoding);
	thrift_put_list(t, PARQUET_META_PATH, THRIFT_BINARY, (size_t)leaf->npath);
	for (int i = 0; i < leaf->npath; i++)
		thrift_raw_binary(t, leaf->path[i], strlen(leaf->path[i]));
	thrift_put_i32(t, PARQUET_META_CODEC, (int32_t)w->settings.codec);
	thrift_put_i64(t, PARQUET_META_NUM_VALUES, c->nlevels);
	thrift_put_i64(t, PARQUET_META_RAW_BYTES, c->raw_bytes);
	thrift_put_i64(t, PARQUET_META_COMPRESSED_BYTES, c->bytes);
	thrift_put_i64(t, PARQUET_META_DATA_OFFSET, c->data_at);
	if (c->dictionary_at)
		thrift_put_i64(t, PARQUET_META_DICTIONARY_OFFSET, c->dictionary_at);
	put_statistics(t, c);
	thrift_put_end(t);
}

static void put_group(struct thrift_writer *t, const struct parquet_writer *w, size_t number, int64_t offsets_at,
		      int64_t indexes_at)
{
	const struct group *g = &w->groups[number];
	thrift_put_element(t);
	thrift_put_list(t, PARQUET_GROUP_COLUMNS, THRIFT_STRUCT, (size_t)w->nleaves);
	for (int i = 0; i < w->nleaves; i++) {
		const struct parquet_chunk *c = &w->chunks[number * (size_t)w->nleaves + (size_t)i];
		thrift_put_element(t);
		thrift_put_i64(t, PARQUET_CHUNK_FILE_OFFSET, 0);
		put_meta(t, w, &w->leaves[i], c);
		thrift_put_i64(t, PARQUET_CHUNK_OFFSET_INDEX_OFFSET, offsets_at + (int64_t)c->offsets_at);
		thrift_put_i32(t, PARQUET_CHUNK_OFFSET_INDEX_LENGTH, (int32_t)c->offsets_len);
		if (c->index_len) {
			thrift_put_i64(t, PARQUET_CHUNK_COLUMN_INDEX_OFFSET, indexes_at + (int64_t)c->index_at);
			thrift_put_i32(t, PARQUET_CHUNK_COLUMN_INDEX_LENGTH, (int32_t)c->index_len);
		}
		thrift_put_end(t);
	}
	thrift_put_i64(t, PARQUET_GROUP_TOTAL_BYTES, g->raw_bytes);
	thrift_put_i64(t, PARQUET_GROUP_NUM_ROWS, g->rows);
	thrift_put_i64(t, PARQUET_GROUP_FILE_OFFSET, g->at);
	thrift_put_i64(t, PARQUET_GROUP_COMPRESSED_BYTES, g->bytes);
	if (number <= INT16_MAX)
		thrift_put_i16(t, PARQUET_GROUP_ORDINAL, (int16_t)number);
	thrift_put_end(t);
}

void parquet_write_footer(struct parquet_writer *w, struct duct_buf *to, int64_t offsets_at, int64_t indexes_at)
{
	static const char created_by[] = "ductstream version " DUCT_VERSION;
	struct thrift_writer t = {.to = to};
	thrift_put_i32(&t, PARQUET_FILE_VERSION, 1);
	put_schema(&t, w);
	thrift_put_i64(&t, PARQUET_FILE_NUM_ROWS, w->rows);
	thrift_put_list(&t, PARQUET_FILE_ROW_GROUPS, THRIFT_STRUCT, w->ngroups);
	for (size_t i = 0; i < w->ngroups; i++)
		put_group(&t, w, i, offsets_at, indexes_at);
	thrift_put_binary(&t, PARQUET_FILE_CREATED_BY, created_by, sizeof created_by - 1);
	thrift_put_list(&t, PARQUET_FILE_COLUMN_ORDERS, THRIFT_STRUCT, (size_t)w->nleaves);
	for (int i = 0; i < w->nleaves; i++) {
		thrift_put_element(&t);
		thrift_put_empty(&t, 1); /* TypeDefinedOrder */
		thrift_put_end(&t);
	}
	thrift_put_end(&t);
}

/* --- page index --- */

static void write_offsets(struct parquet_writer *w, const struct parquet_leaf *leaf, struct parquet_chunk *chunk)
{
	struct thrift_writer t = {.to = &w->offsets};
	int64_t at = chunk->data_at, row = 0;
	chunk->offsets_at = w->offsets.len;
	thrift_put_list(&t, PARQUET_OFFSETS_PAGES, THRIFT_STRUCT, leaf->npages);
	for (size_t i = 0; i < leaf->npages; i++) {
		thrift_put_element(&t);
		thrift_put_i64(&t, PARQUET_LOCATION_OFFSET, at);
		thrift_put_i32(&t, PARQUET_LOCATION_BYTES, (int32_t)leaf->pages[i].bytes);
		thrift_put_i64(&t, PARQUET_LOCATION_FIRST_ROW, row);
		thrift_put_end(&t);
		at += leaf->pages[i].bytes;
		row += leaf->pages[i].nrows;
	}
	thrift_put_end(&t);
	chunk->offsets_len = (uint32_t)(w->offsets.len - chunk->offsets_at);
}

static void put_page_bounds(struct thrift_writer *t, const struct parquet_leaf *leaf, bool upper)
{
	const char *p = leaf->page_bounds.data;
	thrift_put_list(t, upper ? PARQUET_INDEX_MAX : PARQUET_INDEX_MIN, THRIFT_BINARY, leaf->npages);
	for (size_t i = 0; i < leaf->npages; i++) {
		const struct parquet_page_facts *page = &leaf->pages[i];
		thrift_raw_binary(t, upper ? p + page->min_len : p, upper ? page->max_len : page->min_len);
		p += page->min_len + page->max_len;
	}
}

static void write_index(struct parquet_writer *w, const struct parquet_leaf *leaf, struct parquet_chunk *chunk)
{
	struct thrift_writer t = {.to = &w->indexes};
	chunk->index_at = w->indexes.len;
	thrift_put_list(&t, PARQUET_INDEX_NULL_PAGES, THRIFT_TRUE, leaf->npages);
	for (size_t i = 0; i < leaf->npages; i++)
		thrift_raw_bool(&t, leaf->pages[i].null_page);
	put_page_bounds(&t, leaf, false);
	put_page_bounds(&t, leaf, true);
	thrift_put_i32(&t, PARQUET_INDEX_ORDER, PARQUET_UNORDERED);
	thrift_put_list(&t, PARQUET_INDEX_NULL_COUNTS, THRIFT_I64, leaf->npages);
	for (size_t i = 0; i < leaf->npages; i++)
		thrift_raw_int(&t, leaf->pages[i].nulls);
	thrift_put_end(&t);
	chunk->index_len = (uint32_t)(w->indexes.len - chunk->index_at);
}

void parquet_write_indexes(struct parquet_writer *w, struct parquet_leaf *leaf, struct parquet_chunk *chunk)
{
	write_offsets(w, leaf, chunk);
	if (!leaf->no_index)
		write_index(w, leaf, chunk);
}
