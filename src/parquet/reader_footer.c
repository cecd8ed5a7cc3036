/*
 * Footers and offset indexes into structs: bytes of a file that may be damaged. What is not needed for point reads (names,
 * statistics, keys) is skipped; memory grows with what was really read, never with what a count claims.
 */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum {
	MAX_DEPTH = 64,
	SERVED_SIZES = 0x7fffffff,
};

/* A schema element as it is written. */
struct element {
	int64_t type, type_length, repetition, nchildren, converted, scale, precision, field_id;
	int logical;
	int64_t bits, logical_scale, logical_precision;
	int unit;
	bool utc, is_signed, has_name;
};

/* --- types --- */

static void parse_unit(struct thrift_reader *r, const struct thrift_field *in, struct element *e)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		e->unit = f.id;
		thrift_skip(r, &f);
	}
}

/* The members of the union's member: the same field numbers mean other things in each. */
static void parse_logical_members(struct thrift_reader *r, const struct thrift_field *in, struct element *e)
{
	if (!thrift_read_struct(r, in))
		return;
	bool decimal = e->logical == PARQUET_LOGICAL_DECIMAL, integer = e->logical == PARQUET_LOGICAL_INTEGER;
	bool time = e->logical == PARQUET_LOGICAL_TIME || e->logical == PARQUET_LOGICAL_TIMESTAMP;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		if (decimal && f.id == PARQUET_DECIMAL_SCALE)
			e->logical_scale = thrift_read_int(r, &f);
		else if (decimal && f.id == PARQUET_DECIMAL_PRECISION)
			e->logical_precision = thrift_read_int(r, &f);
		else if (time && f.id == PARQUET_TIME_UTC)
			e->utc = thrift_read_bool(r, &f);
		else if (time && f.id == PARQUET_TIME_UNIT)
			parse_unit(r, &f, e);
		else if (integer && f.id == PARQUET_INTEGER_BITS)
			e->bits = thrift_read_int(r, &f);
		else if (integer && f.id == PARQUET_INTEGER_SIGNED)
			e->is_signed = thrift_read_bool(r, &f);
		else
			thrift_skip(r, &f);
	}
}

static void parse_logical(struct thrift_reader *r, const struct thrift_field *in, struct element *e)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		e->logical = f.id;
		parse_logical_members(r, &f, e);
	}
}

static void parse_element(struct thrift_reader *r, struct element *e)
{
	size_t n;
	*e = (struct element){.type = -1, .repetition = -1, .converted = PARQUET_CONVERTED_NONE, .field_id = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_ELEMENT_TYPE: e->type = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_TYPE_LENGTH: e->type_length = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_REPETITION: e->repetition = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_NAME: e->has_name = thrift_read_binary(r, &f, &n) != NULL; break;
		case PARQUET_ELEMENT_NUM_CHILDREN: e->nchildren = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_CONVERTED: e->converted = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_SCALE: e->scale = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_PRECISION: e->precision = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_FIELD_ID: e->field_id = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_LOGICAL: parse_logical(r, &f, e); break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static struct duct_type decimal_type(const struct element *e, int64_t precision, int64_t scale)
{
	bool fits = e->type == PARQUET_INT32 || e->type == PARQUET_INT64 ||
		(e->type == PARQUET_FIXED && e->type_length >= 1 && e->type_length <= 16);
	if (!fits || precision < 1 || precision > 38 || scale < 0 || scale > precision)
		return (struct duct_type){0};
	return (struct duct_type){.kind = DUCT_DECIMAL, .precision = (uint8_t)precision, .scale = (uint8_t)scale};
}

static enum duct_kind integer_kind(const struct element *e, int64_t bits, bool is_signed)
{
	if (e->type != (bits == 64 ? PARQUET_INT64 : PARQUET_INT32))
		return 0;
	switch (bits) {
	case 8: return is_signed ? DUCT_INT8 : DUCT_UINT8;
	case 16: return is_signed ? DUCT_INT16 : DUCT_UINT16;
	case 32: return is_signed ? DUCT_INT32 : DUCT_UINT32;
	case 64: return is_signed ? DUCT_INT64 : DUCT_UINT64;
	default: return 0;
	}
}

static enum duct_kind plain_kind(const struct element *e)
{
	switch (e->type) {
	case PARQUET_BOOLEAN: return DUCT_BOOL;
	case PARQUET_INT32: return DUCT_INT32;
	case PARQUET_INT64: return DUCT_INT64;
	case PARQUET_FLOAT: return DUCT_FLOAT32;
	case PARQUET_DOUBLE: return DUCT_FLOAT64;
	case PARQUET_BYTE_ARRAY: return DUCT_BLOB;
	default: return 0;
	}
}

static enum duct_kind logical_kind(const struct element *e)
{
	bool micros = e->type == PARQUET_INT64 && e->unit == PARQUET_UNIT_MICROS, bytes = e->type == PARQUET_BYTE_ARRAY;
	switch (e->logical) {
	case PARQUET_LOGICAL_STRING: return bytes ? DUCT_VARCHAR : 0;
	case PARQUET_LOGICAL_JSON: return bytes ? DUCT_JSON : 0;
	case PARQUET_LOGICAL_DATE: return e->type == PARQUET_INT32 ? DUCT_DATE : 0;
	case PARQUET_LOGICAL_TIME: return micros && !e->utc ? DUCT_TIME : 0;
	case PARQUET_LOGICAL_TIMESTAMP: return micros ? e->utc ? DUCT_TIMESTAMPTZ : DUCT_TIMESTAMP : 0;
	case PARQUET_LOGICAL_INTEGER: return integer_kind(e, e->bits, e->is_signed);
	case PARQUET_LOGICAL_UUID: return e->type == PARQUET_FIXED && e->type_length == 16 ? DUCT_UUID : 0;
	default: return 0;
	}
}

/* Times without a logical type are left to others: whether they are UTC is read differently. */
static enum duct_kind converted_kind(const struct element *e)
{
	bool bytes = e->type == PARQUET_BYTE_ARRAY;
	int64_t c = e->converted;
	if (c >= PARQUET_CONVERTED_UINT8 && c <= PARQUET_CONVERTED_UINT64)
		return integer_kind(e, 8 << (c - PARQUET_CONVERTED_UINT8), false);
	if (c >= PARQUET_CONVERTED_INT8 && c <= PARQUET_CONVERTED_INT64)
		return integer_kind(e, 8 << (c - PARQUET_CONVERTED_INT8), true);
	switch (c) {
	case PARQUET_CONVERTED_NONE: return plain_kind(e);
	case PARQUET_CONVERTED_UTF8: return bytes ? DUCT_VARCHAR : 0;
	case PARQUET_CONVERTED_JSON: return bytes ? DUCT_JSON : 0;
	case PARQUET_CONVERTED_DATE: return e->type == PARQUET_INT32 ? DUCT_DATE : 0;
	default: return 0;
	}
}

static struct duct_type leaf_type(const struct element *e)
{
	if (e->logical == PARQUET_LOGICAL_DECIMAL)
		return decimal_type(e, e->logical_precision, e->logical_scale);
	if (e->logical == PARQUET_LOGICAL_NONE && e->converted == PARQUET_CONVERTED_DECIMAL)
		return decimal_type(e, e->precision, e->scale);
	return (struct duct_type){.kind = e->logical ? logical_kind(e) : converted_kind(e)};
}

/* --- schema --- */

static int parse_schema(struct parquet_footer *to, struct thrift_reader *r, size_t n, struct duct_error *err)
{
	size_t cap = 0;
	struct element e;
	for (size_t i = 0; i < n; i++) {
		parse_element(r, &e);
		if (r->bad)
			return 0; /* the caller says so */
		bool leaf = e.nchildren == 0;
		bool sizes = e.nchildren >= 0 && e.nchildren < (int64_t)n && e.type_length >= 0 && e.type_length <= SERVED_SIZES;
		if (!e.has_name || !sizes || (leaf && i && (e.type < PARQUET_BOOLEAN || e.type > PARQUET_FIXED)))
			return duct_fail(err, DUCT_FATAL, "element %zu of its schema is damaged", i);
		to->nodes = duct_grow(to->nodes, &cap, i + 1, sizeof *to->nodes);
		to->nodes[to->nnodes++] = (struct parquet_node){
			.field_id = e.field_id,
			.type = leaf ? (int)e.type : -1,
			.type_length = (int)e.type_length,
			.repetition = (int)e.repetition,
			.nchildren = (int)e.nchildren,
			.value = leaf ? leaf_type(&e) : (struct duct_type){0},
		};
	}
	return 0;
}

/* Numbers the leaves below node i and returns the node behind them, -1 when the tree does not end inside the list. */
static int number_leaves(struct parquet_footer *f, int i, int depth)
{
	if (i >= f->nnodes || depth > MAX_DEPTH)
		return -1;
	struct parquet_node *node = &f->nodes[i];
	int next = i + 1;
	node->leaf = f->nleaves;
	if (!node->nchildren && i)
		f->nleaves++;
	for (int c = 0; c < node->nchildren && next >= 0; c++)
		next = number_leaves(f, next, depth + 1);
	return node->after = next;
}

/* --- row groups --- */

static void parse_encodings(struct thrift_reader *r, const struct thrift_field *in, struct parquet_chunk *c)
{
	for (size_t n = thrift_read_list(r, in, THRIFT_I32); n && !r->bad; n--) {
		int64_t encoding = thrift_read_element(r);
		c->encodings |= encoding >= 0 && encoding < 31 ? UINT32_C(1) << encoding : UINT32_C(1) << 31;
	}
}

static void parse_chunk_meta(struct thrift_reader *r, const struct thrift_field *in, struct parquet_chunk *c)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_META_ENCODINGS: parse_encodings(r, &f, c); break;
		case PARQUET_META_CODEC: c->codec = (int8_t)thrift_read_int(r, &f); break;
		case PARQUET_META_NUM_VALUES: c->nvalues = thrift_read_int(r, &f); break;
		case PARQUET_META_COMPRESSED_BYTES: c->bytes = thrift_read_int(r, &f); break;
		case PARQUET_META_DATA_OFFSET: c->data_offset = thrift_read_int(r, &f); break;
		case PARQUET_META_DICTIONARY_OFFSET: c->dictionary_offset = thrift_read_int(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static void parse_chunk(struct thrift_reader *r, struct parquet_chunk *c)
{
	bool meta = false;
	*c = (struct parquet_chunk){.codec = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_CHUNK_META:
			parse_chunk_meta(r, &f, c);
			meta = true;
			break;
		case PARQUET_CHUNK_OFFSET_INDEX_OFFSET: c->index_offset = thrift_read_int(r, &f); break;
		case PARQUET_CHUNK_OFFSET_INDEX_LENGTH: c->index_bytes = (int32_t)thrift_read_int(r, &f); break;
		case PARQUET_CHUNK_FILE_PATH:
		case PARQUET_CHUNK_CRYPTO:
			c->elsewhere = true;
			thrift_skip(r, &f);
			break;
		default: thrift_skip(r, &f); break;
		}
	}
	c->elsewhere = c->elsewhere || !meta;
}

static int parse_group(struct parquet_footer *to, struct thrift_reader *r, struct parquet_group *g, struct duct_error *err)
{
	*g = (struct parquet_group){.first_row = to->rows, .rows = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		if (f.id == PARQUET_GROUP_NUM_ROWS) {
			g->rows = thrift_read_int(r, &f);
		} else if (f.id == PARQUET_GROUP_COLUMNS && !g->chunks) {
			size_t n = thrift_read_list(r, &f, THRIFT_STRUCT);
			if (n != (size_t)to->nleaves)
				return r->bad ? 0 : duct_fail(err, DUCT_FATAL, "a row group has %zu columns, the schema has %d", n, to->nleaves);
			g->chunks = duct_arena_alloc(&to->arena, n * sizeof *g->chunks);
			for (size_t i = 0; i < n && !r->bad; i++)
				parse_chunk(r, &g->chunks[i]);
		} else {
			thrift_skip(r, &f);
		}
	}
	if (!r->bad && (!g->chunks || g->rows < 0 || g->rows > SERVED_SIZES || to->rows > INT64_MAX - g->rows))
		return duct_fail(err, DUCT_FATAL, "a row group's description is damaged");
	return 0;
}

static int parse_groups(struct parquet_footer *to, struct thrift_reader *r, const struct thrift_field *in, struct duct_error *err)
{
	size_t cap = 0;
	int ret = 0;
	for (size_t n = thrift_read_list(r, in, THRIFT_STRUCT); n && !r->bad && !ret; n--) {
		to->groups = duct_grow(to->groups, &cap, to->ngroups + 1, sizeof *to->groups);
		struct parquet_group *g = &to->groups[to->ngroups];
		ret = parse_group(to, r, g, err);
		if (ret || r->bad)
			break;
		to->ngroups++;
		to->rows += g->rows;
	}
	return ret;
}

int parquet_footer_parse(struct parquet_footer *to, const void *data, size_t n, struct duct_error *err)
{
	struct thrift_reader r = thrift_reader_over(data, n);
	int64_t rows = -1;
	int ret = 0;
	bool encrypted = false;
	for (struct thrift_field f = {0}; !ret && thrift_next_field(&r, &f);) {
		if (f.id == PARQUET_FILE_SCHEMA && !to->nnodes) {
			ret = parse_schema(to, &r, thrift_read_list(&r, &f, THRIFT_STRUCT), err);
			if (!ret && !r.bad && number_leaves(to, 0, 0) != to->nnodes)
				return duct_fail(err, DUCT_FATAL, "the tree of its schema is damaged");
		} else if (f.id == PARQUET_FILE_NUM_ROWS) {
			rows = thrift_read_int(&r, &f);
		} else if (f.id == PARQUET_FILE_ROW_GROUPS && to->nnodes && !to->groups) {
			ret = parse_groups(to, &r, &f, err);
		} else {
			encrypted = encrypted || f.id == PARQUET_FILE_ENCRYPTION;
			thrift_skip(&r, &f);
		}
	}
	if (ret)
		return ret;
	if (r.bad)
		return duct_fail(err, DUCT_FATAL, "its footer is damaged");
	if (!to->nnodes || rows != to->rows)
		return duct_fail(err, DUCT_FATAL, "its footer says %" PRId64 " rows, its row groups hold %" PRId64, rows, to->rows);
	return !encrypted;
}

/* --- offset indexes --- */

static struct parquet_location parse_location(struct thrift_reader *r, int64_t start, int64_t end, int64_t rows, bool *good)
{
	int64_t offset = -1, bytes = -1, row = -1;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_LOCATION_OFFSET: offset = thrift_read_int(r, &f); break;
		case PARQUET_LOCATION_BYTES: bytes = thrift_read_int(r, &f); break;
		case PARQUET_LOCATION_FIRST_ROW: row = thrift_read_int(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
	*good = offset >= start && offset < end && bytes > 0 && bytes <= end - offset && row >= 0 && row <= rows;
	return (struct parquet_location){offset, (uint32_t)bytes, (uint32_t)row};
}

int parquet_index_parse(struct parquet_footer *footer, const struct parquet_group *group, struct parquet_chunk *chunk, int64_t start,
	int64_t end, const void *data, size_t n, struct duct_error *err)
{
	struct thrift_reader r = thrift_reader_over(data, n);
	struct parquet_location *pages = NULL;
	size_t npages = 0;
	bool good = true;
	for (struct thrift_field f = {0}; good && thrift_next_field(&r, &f);) {
		if (f.id != PARQUET_OFFSETS_PAGES || pages) {
			thrift_skip(&r, &f);
			continue;
		}
		npages = thrift_read_list(&r, &f, THRIFT_STRUCT);
		pages = duct_arena_alloc(&footer->arena, npages * sizeof *pages);
		for (size_t i = 0; i < npages && good; i++) {
			pages[i] = parse_location(&r, start, end, group->rows, &good);
			good = good && !r.bad && pages[i].first_row >= (i ? pages[i - 1].first_row : 0);
		}
	}
	if (r.bad || !good || !npages || pages[0].first_row)
		return duct_fail(err, DUCT_FATAL, "the page index at %" PRId64 " is damaged", chunk->index_offset);
	chunk->pages = pages;
	chunk->npages = (uint32_t)npages;
	return 0;
}
