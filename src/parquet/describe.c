/* Columns and statistics out of a footer: see describe.h. */
#include "parquet/describe.h"

#include <inttypes.h>
#include <string.h>

#include "parquet/reader_internal.h"
#include "record/format.h"

static const int64_t day_us = INT64_C(86400000000);

int parquet_footer_length(const void *tail, uint64_t size, uint32_t *ret, struct duct_error *err)
{
	const uint8_t *p = tail;
	if (memcmp(p + 4, PARQUET_MAGIC, PARQUET_MAGIC_BYTES) != 0)
		return duct_fail(err, DUCT_FATAL, "its last bytes are not those of a Parquet file");
	*ret = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	if (size < PARQUET_TAIL_BYTES + PARQUET_MAGIC_BYTES || *ret > size - PARQUET_TAIL_BYTES - PARQUET_MAGIC_BYTES)
		return duct_fail(err, DUCT_FATAL, "its footer of %" PRIu32 " bytes is longer than the file", *ret);
	return 0;
}

/* --- one value of the statistics --- */

struct plain {
	const char *data;
	size_t len;
};

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Microseconds of a count of units; false when there are too many. The lower bound is rounded down, the upper one up. */
static bool micros(const struct parquet_node *node, int64_t v, bool upper, int64_t *ret)
{
	switch (node->time_unit) {
	case PARQUET_UNIT_MICROS: *ret = v; break;
	case PARQUET_UNIT_NANOS: *ret = floor_div(v, 1000) + (upper && v % 1000 != 0); break;
	case PARQUET_UNIT_MILLIS:
		if (__builtin_mul_overflow(v, 1000, ret))
			return false;
		break;
	default: return false;
	}
	return *ret<INT64_MAX - day_us && * ret> - INT64_MAX + day_us;
}

static bool number_cell(const struct parquet_node *node, const struct duct_type *type, const struct plain *in, bool upper, void *to)
{
	int32_t narrow = 0;
	int64_t wide = 0;
	if (node->type == PARQUET_INT32 && in->len == 4)
		memcpy(&narrow, in->data, 4), wide = narrow;
	else if (node->type == PARQUET_INT64 && in->len == 8)
		memcpy(&wide, in->data, 8);
	else
		return false;
	if (type->kind == DUCT_TIMESTAMP || type->kind == DUCT_TIMESTAMPTZ)
		if (!micros(node, wide, upper, &wide))
			return false;
	if (type->kind == DUCT_DECIMAL && type->precision > 18) {
		__int128 unscaled = wide;
		memcpy(to, &unscaled, sizeof unscaled);
	} else {
		memcpy(to, &wide, sizeof wide); /* little-endian: a narrower value is the first bytes of it */
	}
	return true;
}

/* The value in memory; data NULL when it is not served. */
static struct duct_cell plain_cell(const struct parquet_node *node, const struct duct_type *type, const struct plain *in,
				   bool upper, struct duct_arena *arena)
{
	struct duct_cell none = {0};
	char *to = duct_arena_zalloc(arena, in->len > 16 ? in->len : 16);
	switch (type->kind) {
	case DUCT_BOOL:
	case DUCT_UUID:
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB:
		if ((type->kind == DUCT_BOOL && in->len != 1) || (type->kind == DUCT_UUID && in->len != 16))
			return none;
		return (struct duct_cell){memcpy(to, in->data, in->len), (uint32_t)in->len};
	case DUCT_FLOAT32: /* NaN may be among the values: nothing is known */
	case DUCT_FLOAT64:
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: return none;
	default:
		if (!number_cell(node, type, in, upper, to))
			return none;
		return (struct duct_cell){to, duct_type_width(type)};
	}
}

/* --- statistics of a chunk --- */

struct chunk_facts {
	int64_t nvalues, bytes, nulls; /* nulls -1: not said */
	struct plain min, max;
};

static void parse_statistics(struct thrift_reader *r, const struct thrift_field *in, struct chunk_facts *c)
{
	bool min_exact = true, max_exact = true;
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_STATS_NULL_COUNT: c->nulls = thrift_read_int(r, &f); break;
		case PARQUET_STATS_MIN: c->min.data = thrift_read_binary(r, &f, &c->min.len); break;
		case PARQUET_STATS_MAX: c->max.data = thrift_read_binary(r, &f, &c->max.len); break;
		case PARQUET_STATS_MIN_EXACT: min_exact = thrift_read_bool(r, &f); break;
		case PARQUET_STATS_MAX_EXACT: max_exact = thrift_read_bool(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
	/* Clients take equal bounds for "all values are equal": bounds that are no values are none. */
	if (!min_exact || !max_exact)
		c->min.data = c->max.data = NULL;
}

static void parse_meta(struct thrift_reader *r, const struct thrift_field *in, struct chunk_facts *c)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_META_NUM_VALUES: c->nvalues = thrift_read_int(r, &f); break;
		case PARQUET_META_COMPRESSED_BYTES: c->bytes = thrift_read_int(r, &f); break;
		case PARQUET_META_STATISTICS: parse_statistics(r, &f, c); break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static struct chunk_facts parse_chunk(struct thrift_reader *r)
{
	struct chunk_facts c = {.nulls = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		if (f.id == PARQUET_CHUNK_META)
			parse_meta(r, &f, &c);
		else
			thrift_skip(r, &f);
	}
	return c;
}

/* --- columns --- */

struct gathered {
	const struct parquet_node **leaves; /* a leaf that is a root column, else NULL */
	int *columns;			    /* of each leaf: the root column that it is in */
	bool *unbounded;		    /* of each column */
	struct parquet_description *to;
	struct duct_arena *arena;
};

static void widen(struct gathered *g, int leaf, const struct chunk_facts *c)
{
	struct parquet_described_column *column = &g->to->columns[g->columns[leaf]];
	const struct parquet_node *node = g->leaves[leaf];
	bool required = node && node->repetition == PARQUET_REQUIRED;
	int64_t nulls = required ? 0 : c->nulls;
	column->bytes += c->bytes;
	if (!node || nulls < 0 || nulls > c->nvalues) {
		column->nulls = -1;
		g->unbounded[g->columns[leaf]] = true;
		return;
	}
	column->nulls = column->nulls < 0 ? -1 : column->nulls + nulls;
	if (nulls == c->nvalues)
		return;
	struct duct_cell min = {0}, max = {0};
	if (column->type.kind && c->min.data && c->max.data) {
		min = plain_cell(node, &column->type, &c->min, false, g->arena);
		max = plain_cell(node, &column->type, &c->max, true, g->arena);
	}
	if (!min.data || !max.data || duct_cell_compare(&column->type, min, max) > 0) {
		g->unbounded[g->columns[leaf]] = true;
		return;
	}
	if (!column->min.data || duct_cell_compare(&column->type, min, column->min) < 0)
		column->min = min;
	if (!column->max.data || duct_cell_compare(&column->type, max, column->max) > 0)
		column->max = max;
}

static void parse_groups(struct thrift_reader *r, size_t n, int nleaves, struct gathered *g)
{
	for (; n && !r->bad; n--)
		for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
			if (f.id != PARQUET_GROUP_COLUMNS) {
				thrift_skip(r, &f);
				continue;
			}
			size_t chunks = thrift_read_list(r, &f, THRIFT_STRUCT);
			for (size_t i = 0; i < chunks && i < (size_t)nleaves && !r->bad; i++) {
				struct chunk_facts c = parse_chunk(r);
				if (!r->bad)
					widen(g, (int)i, &c);
			}
		}
}

static const char *physical(const struct parquet_node *node)
{
	static const char *const names[] = {"BOOLEAN", "INT32",	 "INT64",      "INT96",
					    "FLOAT",   "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"};
	return node->nchildren					       ? "a nested type"
		: node->type >= 0 && node->type < (int)DUCT_LEN(names) ? names[node->type]
								       : "unknown";
}

/* The types are copied out of the footer, which does not live as long. */
static struct duct_type copy_type(const struct duct_type *type, struct duct_arena *arena)
{
	struct duct_type copy = *type;
	struct duct_type *children = duct_arena_zalloc(arena, ((size_t)type->nchildren + 1) * sizeof *children);
	copy.name = type->name ? duct_arena_strdup(arena, type->name) : NULL;
	for (int i = 0; i < type->nchildren; i++)
		children[i] = copy_type(&type->children[i], arena);
	copy.children = type->nchildren ? children : NULL;
	return copy;
}

static struct duct_type column_type(const struct parquet_node *node, struct duct_arena *arena)
{
	if (node->repetition == PARQUET_REPEATED)
		return (struct duct_type){0};
	if (node->value.kind == 0 && node->time_unit)
		return (struct duct_type){.kind = node->utc ? DUCT_TIMESTAMPTZ : DUCT_TIMESTAMP};
	return copy_type(&node->value, arena);
}

static void describe_columns(const struct parquet_footer *f, struct gathered *g)
{
	struct parquet_description *to = g->to;
	to->rows = f->rows;
	to->columns = duct_arena_zalloc(g->arena, ((size_t)f->nodes[0].nchildren + 1) * sizeof *to->columns);
	for (int i = 1; i < f->nnodes; i = f->nodes[i].after) {
		const struct parquet_node *node = &f->nodes[i];
		int end = node->after < f->nnodes ? f->nodes[node->after].leaf : f->nleaves;
		for (int leaf = node->leaf; leaf < end; leaf++)
			g->columns[leaf] = to->ncolumns;
		if (!node->nchildren && node->repetition != PARQUET_REPEATED)
			g->leaves[node->leaf] = node;
		to->columns[to->ncolumns++] = (struct parquet_described_column){
			.name = duct_arena_strdup(g->arena, node->name),
			.type = column_type(node, g->arena),
			.type_text = physical(node),
		};
	}
}

static int describe(const struct parquet_footer *f, const void *footer, size_t n, struct gathered *g, struct duct_error *err)
{
	describe_columns(f, g);
	struct thrift_reader r = thrift_reader_over(footer, n);
	for (struct thrift_field field = {0}; thrift_next_field(&r, &field);) {
		if (field.id == PARQUET_FILE_ROW_GROUPS)
			parse_groups(&r, thrift_read_list(&r, &field, THRIFT_STRUCT), f->nleaves, g);
		else
			thrift_skip(&r, &field);
	}
	if (r.bad)
		return duct_fail(err, DUCT_FATAL, "its statistics are damaged");
	for (int i = 0; i < g->to->ncolumns; i++)
		if (g->unbounded[i])
			g->to->columns[i].min = g->to->columns[i].max = (struct duct_cell){0};
	return 1;
}

int parquet_describe(const void *footer, size_t n, struct duct_arena *arena, struct parquet_description *ret,
		     struct duct_error *err)
{
	struct parquet_footer f = {0};
	*ret = (struct parquet_description){0};
	duct_arena_init(&f.arena);
	int rc = parquet_footer_parse(&f, footer, n, err);
	if (rc == 1) {
		struct gathered g = {.to = ret, .arena = arena};
		size_t leaves = (size_t)f.nleaves + 1;
		g.leaves = duct_arena_zalloc(&f.arena, leaves * sizeof *g.leaves);
		g.columns = duct_arena_zalloc(&f.arena, leaves * sizeof *g.columns);
		g.unbounded = duct_arena_zalloc(&f.arena, (size_t)f.nnodes * sizeof *g.unbounded);
		rc = describe(&f, footer, n, &g, err);
	}
	free(f.nodes);
	free(f.groups);
	duct_arena_done(&f.arena);
	return rc;
}
