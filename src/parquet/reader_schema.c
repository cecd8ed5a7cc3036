/*
 * The schema of a file as a tree of nodes, with the types that its columns have in our terms. A type that is read
 * differently by others, or not by us, is none: the column is not served.
 */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <string.h>

enum {
	MAX_DEPTH = 64,
	MAX_BYTES = 0x7fffffff,
};

/* A schema element as it is written. */
struct element {
	int64_t type, type_length, repetition, nchildren, converted, scale, precision, field_id;
	int logical;
	int64_t bits, logical_scale, logical_precision;
	int unit;
	bool utc, is_signed;
	const char *name; /* not ended by a NUL */
	size_t name_len;
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
	*e = (struct element){.type = -1, .repetition = -1, .converted = PARQUET_CONVERTED_NONE, .field_id = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_ELEMENT_TYPE: e->type = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_TYPE_LENGTH: e->type_length = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_REPETITION: e->repetition = thrift_read_int(r, &f); break;
		case PARQUET_ELEMENT_NAME: e->name = thrift_read_binary(r, &f, &e->name_len); break;
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

static int group_annotation(const struct element *e)
{
	if (e->logical == PARQUET_LOGICAL_LIST || (!e->logical && e->converted == PARQUET_CONVERTED_LIST))
		return DUCT_LIST;
	if (e->logical == PARQUET_LOGICAL_MAP || (!e->logical && e->converted == PARQUET_CONVERTED_MAP))
		return DUCT_MAP;
	return e->logical || e->converted != PARQUET_CONVERTED_NONE ? -1 : 0;
}

static int parse_nodes(struct parquet_footer *to, struct thrift_reader *r, size_t n, struct duct_error *err)
{
	size_t cap = 0;
	struct element e;
	for (size_t i = 0; i < n; i++) {
		parse_element(r, &e);
		if (r->bad)
			return 0;
		bool leaf = e.nchildren == 0;
		bool sizes = e.nchildren >= 0 && e.nchildren < (int64_t)n && e.type_length >= 0 && e.type_length <= MAX_BYTES;
		if (!e.name || !sizes || (leaf && i && (e.type < PARQUET_BOOLEAN || e.type > PARQUET_FIXED)))
			return duct_fail(err, DUCT_FATAL, "element %zu of its schema is damaged", i);
		char *name = duct_arena_zalloc(&to->arena, e.name_len + 1);
		to->nodes = duct_grow(to->nodes, &cap, i + 1, sizeof *to->nodes);
		to->nodes[to->nnodes++] = (struct parquet_node){
			.field_id = e.field_id,
			.type = leaf ? (int)e.type : -1,
			.type_length = (int)e.type_length,
			.repetition = (int)e.repetition,
			.nchildren = (int)e.nchildren,
			.name = memcpy(name, e.name, e.name_len),
			.time_unit = e.logical == PARQUET_LOGICAL_TIMESTAMP && e.type == PARQUET_INT64 ? e.unit : 0,
			.utc = e.utc,
			.annotation = leaf ? 0 : group_annotation(&e),
			.value = leaf ? leaf_type(&e) : (struct duct_type){0},
		};
	}
	return 0;
}

/* --- the tree --- */

/* A LIST or MAP is a group of one repeated group: of one element, or of key and value. */
static struct duct_type entries_type(struct parquet_footer *f, const struct parquet_node *node, int i)
{
	static const char *const names[][2] = {{"element"}, {"key", "value"}};
	bool map = node->annotation == DUCT_MAP;
	const struct parquet_node *entries = &f->nodes[i + 1];
	if (node->nchildren != 1 || entries->repetition != PARQUET_REPEATED || entries->nchildren != 1 + map)
		return (struct duct_type){0};
	struct duct_type *children = duct_arena_zalloc(&f->arena, (size_t)(1 + map) * sizeof *children);
	for (int c = 0, at = i + 2; c <= map; c++, at = f->nodes[at].after) {
		if (!f->nodes[at].value.kind || f->nodes[at].repetition == PARQUET_REPEATED)
			return (struct duct_type){0};
		children[c] = f->nodes[at].value;
		children[c].name = names[map][c];
	}
	return (struct duct_type){.kind = (enum duct_kind)node->annotation, .nchildren = (uint16_t)(1 + map), .children = children};
}

static struct duct_type fields_type(struct parquet_footer *f, const struct parquet_node *node, int i)
{
	if (node->nchildren > UINT16_MAX)
		return (struct duct_type){0};
	struct duct_type *children = duct_arena_zalloc(&f->arena, (size_t)node->nchildren * sizeof *children);
	for (int c = 0, at = i + 1; c < node->nchildren; c++, at = f->nodes[at].after) {
		if (!f->nodes[at].value.kind || f->nodes[at].repetition == PARQUET_REPEATED)
			return (struct duct_type){0};
		children[c] = f->nodes[at].value;
		children[c].name = f->nodes[at].name;
	}
	return (struct duct_type){.kind = DUCT_STRUCT, .nchildren = (uint16_t)node->nchildren, .children = children};
}

/* Numbers the leaves below node i, sets levels and types, and returns the node behind them; -1 when the tree does not
 * end inside the list. */
static int finish_nodes(struct parquet_footer *f, int i, int definition, int repetition, int depth)
{
	if (i >= f->nnodes || depth > MAX_DEPTH)
		return -1;
	struct parquet_node *node = &f->nodes[i];
	int next = i + 1;
	if (i) {
		definition += node->repetition != PARQUET_REQUIRED;
		repetition += node->repetition == PARQUET_REPEATED;
	}
	node->max_definition = (uint8_t)definition;
	node->max_repetition = (uint8_t)repetition;
	node->leaf = f->nleaves;
	if (!node->nchildren && i)
		f->nleaves++;
	for (int c = 0; c < node->nchildren && next >= 0; c++)
		next = finish_nodes(f, next, definition, repetition, depth + 1);
	if (next >= 0 && i && node->nchildren && node->annotation > 0)
		node->value = entries_type(f, node, i);
	else if (next >= 0 && i && node->nchildren && node->annotation == 0)
		node->value = fields_type(f, node, i);
	return node->after = next;
}

int parquet_schema_parse(struct parquet_footer *to, struct thrift_reader *r, size_t n, struct duct_error *err)
{
	int ret = parse_nodes(to, r, n, err);
	if (ret || r->bad)
		return ret; /* the caller says that it is bad */
	return finish_nodes(to, 0, 0, 0, 0) == to->nnodes ? 0 : duct_fail(err, DUCT_FATAL, "the tree of its schema is damaged");
}
