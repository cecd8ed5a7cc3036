#ifndef TESTS_RANDOM_VALUES_H
#define TESTS_RANDOM_VALUES_H

/* Batches of values for tests: the same seed gives the same values. Extremes come often. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "record/batch.h"

typedef __int128 test_i128;
typedef unsigned __int128 test_u128;

struct random_values {
	uint64_t state;
	bool plain; /* texts without NUL, ] and }: DuckDB does not read those back in a list in a list and the like */
};

static inline uint64_t random_next(struct random_values *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state * UINT64_C(0x2545F4914F6CDD1D);
}

static inline uint64_t random_below(struct random_values *r, uint64_t n)
{
	return (random_next(r) >> 11) % n;
}

static inline int64_t random_int(struct random_values *r, int bits)
{
	int64_t top = (int64_t)(UINT64_MAX >> (65 - bits));
	switch (random_below(r, 6)) {
	case 0: return -top - 1;
	case 1: return top;
	case 2: return (int64_t)random_below(r, 3) - 1;
	default: return (int64_t)random_next(r) >> random_below(r, 63) >> (64 - bits);
	}
}

static inline void random_text(struct duct_buf *to, struct random_values *r)
{
	static const char *const bits[] = {"a",	 "b",	 " ", ",", "'",	 "\"", "[", "]",    "{", "}", "(", ")",	    "=",    ":",
					   "\\", "NULL", "é", "😀", "\t", "\n", "x", "null", ";", "-", "0", "\\x41", "\x7f", "\x01"};
	size_t n = random_below(r, 4) ? random_below(r, 5) : random_below(r, 60);
	if (!r->plain && random_below(r, 20) == 0)
		duct_buf_putc(to, 0);
	for (size_t i = 0; i < n; i++) {
		const char *bit = bits[random_below(r, DUCT_LEN(bits))];
		duct_buf_puts(to, r->plain && (*bit == ']' || *bit == '}') ? "+" : bit);
	}
}

static inline double random_double(struct random_values *r)
{
	static const double special[] = {0,
					 0.1 + 0.2,
					 1e15,
					 1e16,
					 1e-4,
					 1e-5,
					 1.7976931348623157e308,
					 5e-324,
					 2.2250738585072014e-308,
					 9007199254740993.0,
					 3.4028234663852886e38,
					 1e22,
					 1e23};
	uint64_t bits = random_next(r);
	double d;
	switch (random_below(r, 8)) {
	case 0: d = special[random_below(r, DUCT_LEN(special))]; break;
	case 1: return NAN;
	case 2: d = INFINITY; break;
	case 3: d = ldexp(1, (int)random_below(r, 2098) - 1074); break;
	case 4: d = (double)random_below(r, 100000) / 100; break;
	case 5: d = (double)random_next(r); break;
	default: memcpy(&d, &bits, sizeof d); return isnan(d) ? 1.5 : d;
	}
	return random_next(r) & 1 << 20 ? -d : d;
}

static inline float random_float(struct random_values *r)
{
	uint32_t bits = (uint32_t)(random_next(r) >> 32);
	float f = (float)random_double(r);
	if (random_below(r, 2))
		return f;
	if (random_below(r, 4) == 0)
		return ldexpf(1, (int)random_below(r, 277) - 149);
	memcpy(&f, &bits, sizeof f);
	return isnan(f) ? 1.5F : f;
}

static inline test_i128 random_decimal(struct random_values *r, int precision)
{
	test_i128 top = 1, v;
	for (int i = 0; i < precision; i++)
		top *= 10;
	if (random_below(r, 5) == 0)
		v = top - 1;
	else
		v = (test_i128)((((test_u128)random_next(r) << 64 | random_next(r)) >> 1) >> random_below(r, 127)) % top;
	return random_next(r) & 1 << 20 ? -v : v;
}

static inline int32_t random_date(struct random_values *r)
{
	static const int32_t special[] = {DUCT_DATE_INF, DUCT_DATE_NINF, INT32_MAX - 1, -INT32_MAX + 1, 0, -719528, -719529, -1,
					  2932896,	 2932897,	 -719162,	-719163};
	return random_below(r, 3) ? (int32_t)random_int(r, 22) : special[random_below(r, DUCT_LEN(special))];
}

static inline int64_t random_timestamp(struct random_values *r)
{
	static const int64_t special[] = {DUCT_TS_INF,
					  DUCT_TS_NINF,
					  INT64_MAX - 1,
					  INT64_C(-9223372022400000000),
					  0,
					  -1,
					  1,
					  INT64_C(-62135596800000000),
					  INT64_C(-62135596800000001),
					  INT64_C(1705321800100000)};
	return random_below(r, 3) ? random_int(r, 56) : special[random_below(r, DUCT_LEN(special))];
}

static inline void random_value(struct duct_buf *to, const struct duct_type *type, struct random_values *r);

static inline void random_optional(struct duct_buf *to, const struct duct_type *type, struct random_values *r)
{
	bool present = random_below(r, 4) != 0;
	duct_buf_putc(to, present);
	if (present)
		random_value(to, type, r);
}

/* A value as it stands inside a nested one: variable-width ones with their length. */
static inline void random_value(struct duct_buf *to, const struct duct_type *type, struct random_values *r);

static inline void random_nested(struct duct_buf *to, const struct duct_type *type, struct random_values *r)
{
	uint32_t n = (uint32_t)random_below(r, 4);
	if (type->kind == DUCT_STRUCT) {
		for (int i = 0; i < type->nchildren; i++)
			random_optional(to, &type->children[i], r);
		return;
	}
	if (type->kind == DUCT_MAP) /* keys must differ: at most one here */
		n = n > 1;
	duct_buf_append(to, &n, sizeof n);
	for (uint32_t i = 0; i < n; i++) {
		if (type->kind == DUCT_MAP)
			random_value(to, &type->children[0], r);
		random_optional(to, &type->children[type->kind == DUCT_MAP], r);
	}
}

static inline void random_bytes(struct duct_buf *to, const struct duct_type *type, struct random_values *r)
{
	switch (type->kind) {
	case DUCT_BOOL: duct_buf_putc(to, (char)random_below(r, 2)); break;
	case DUCT_FLOAT32: {
		float f = random_float(r);
		duct_buf_append(to, &f, sizeof f);
		break;
	}
	case DUCT_FLOAT64: {
		double d = random_double(r);
		duct_buf_append(to, &d, sizeof d);
		break;
	}
	case DUCT_DECIMAL: {
		test_i128 v = random_decimal(r, type->precision);
		duct_buf_append(to, &v, duct_type_width(type)); /* little-endian */
		break;
	}
	case DUCT_DATE: {
		int32_t v = random_date(r);
		duct_buf_append(to, &v, sizeof v);
		break;
	}
	case DUCT_TIME: {
		int64_t v = random_below(r, 5) ? (int64_t)random_below(r, 86400000000) : INT64_C(86400000000);
		duct_buf_append(to, &v, sizeof v);
		break;
	}
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: {
		int64_t v = random_timestamp(r);
		duct_buf_append(to, &v, sizeof v);
		break;
	}
	case DUCT_UUID:
		for (int i = 0; i < 16; i++)
			duct_buf_putc(to, (char)(random_next(r) >> 40));
		break;
	case DUCT_VARCHAR: random_text(to, r); break;
	case DUCT_JSON: {
		static const char *const texts[] = {"{\"a\": 1}", "null", "\"x\"", "  [1, 2] ", "1.50", "{\"k\": \"it's\\\"\"}"};
		duct_buf_puts(to, texts[random_below(r, DUCT_LEN(texts))]);
		break;
	}
	case DUCT_BLOB:
		for (uint64_t n = random_below(r, 40); n > 0; n--)
			duct_buf_putc(to, (char)(random_next(r) >> 40));
		break;
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP: random_nested(to, type, r); break;
	default: {
		int64_t v = random_int(r, (int)duct_type_width(type) * 8);
		duct_buf_append(to, &v, duct_type_width(type));
		break;
	}
	}
}

static inline void random_value(struct duct_buf *to, const struct duct_type *type, struct random_values *r)
{
	size_t at = to->len;
	uint32_t len = 0;
	if (!duct_type_width(type))
		duct_buf_append(to, &len, sizeof len);
	random_bytes(to, type, r);
	len = (uint32_t)(to->len - at - sizeof len);
	if (!duct_type_width(type))
		memcpy(to->data + at, &len, sizeof len);
}

/* A relation "t" with columns c0.. of the types. */
static inline struct duct_relation *types_relation(const struct duct_type *types, int n)
{
	struct duct_relation *rel = duct_relation_new();
	rel->schema = "s";
	rel->name = "t";
	rel->ncolumns = n;
	rel->columns = duct_arena_zalloc(&rel->arena, (size_t)n * sizeof *rel->columns);
	for (int i = 0; i < n; i++) {
		char name[16] = "c0";
		size_t at = 1;
		if (i >= 10)
			name[at++] = (char)('0' + i / 10);
		name[at++] = (char)('0' + i % 10);
		name[at] = 0;
		rel->columns[i].name = duct_arena_strdup(&rel->arena, name);
		rel->columns[i].type = duct_type_copy(&rel->arena, &types[i]);
	}
	return rel;
}

/* A sealed batch of random rows; nulls: one value in so many is NULL, 0: none. */
static inline struct duct_batch *random_batch(struct duct_relation *rel, uint32_t rows, unsigned nulls, struct random_values *r)
{
	struct duct_batch *b = duct_batch_new(rel, rows);
	struct duct_buf value AUTO_BUF = {0};
	for (uint32_t i = 0; i < rows; i++) {
		duct_batch_add_row(b, DUCT_INSERT, i);
		for (int c = 0; c < rel->ncolumns; c++) {
			if (nulls && random_below(r, nulls) == 0) {
				duct_vector_append_null(b, &b->columns[c]);
				continue;
			}
			value.len = 0;
			random_bytes(&value, &rel->columns[c].type, r);
			char *to = duct_vector_append(b, &b->columns[c], (uint32_t)value.len);
			if (value.len)
				memcpy(to, value.data, value.len);
		}
	}
	duct_batch_seal(b);
	return b;
}

/* A type for every kind and decimal width, then nested ones. */
static const struct duct_type test_int_child[] = {{.kind = DUCT_INT32, .name = "element"}};
static const struct duct_type test_text_child[] = {{.kind = DUCT_VARCHAR, .name = "element"}};
static const struct duct_type test_fields[] = {
	{.kind = DUCT_INT64, .name = "A b"},
	{.kind = DUCT_VARCHAR, .name = "it's \"x\" \\"},
	{.kind = DUCT_DECIMAL, .precision = 9, .scale = 2, .name = "d"},
	{.kind = DUCT_TIMESTAMP, .name = "ts"},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_text_child, .name = "l"},
};
static const struct duct_type test_struct_child[] = {
	{.kind = DUCT_STRUCT, .nchildren = 5, .children = test_fields, .name = "element"}};
static const struct duct_type test_list_child[] = {
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_int_child, .name = "element"}};
static const struct duct_type test_map_children[] = {
	{.kind = DUCT_VARCHAR, .name = "key"},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_struct_child, .name = "value"},
};
static const struct duct_type test_date_child[] = {{.kind = DUCT_DATE, .name = "element"}};
static const struct duct_type test_uuid_child[] = {{.kind = DUCT_UUID, .name = "element"}};
static const struct duct_type test_blob_child[] = {{.kind = DUCT_BLOB, .name = "element"}};
static const struct duct_type test_double_child[] = {{.kind = DUCT_FLOAT64, .name = "element"}};

enum { TEST_SCALARS = 29 };
static const struct duct_type test_types[] = {
	{.kind = DUCT_BOOL},
	{.kind = DUCT_INT8},
	{.kind = DUCT_INT16},
	{.kind = DUCT_INT32},
	{.kind = DUCT_INT64},
	{.kind = DUCT_UINT8},
	{.kind = DUCT_UINT16},
	{.kind = DUCT_UINT32},
	{.kind = DUCT_UINT64},
	{.kind = DUCT_FLOAT32},
	{.kind = DUCT_FLOAT64},
	{.kind = DUCT_DECIMAL, .precision = 1},
	{.kind = DUCT_DECIMAL, .precision = 4, .scale = 1},
	{.kind = DUCT_DECIMAL, .precision = 5, .scale = 5},
	{.kind = DUCT_DECIMAL, .precision = 9, .scale = 9},
	{.kind = DUCT_DECIMAL, .precision = 10, .scale = 2},
	{.kind = DUCT_DECIMAL, .precision = 18, .scale = 4},
	{.kind = DUCT_DECIMAL, .precision = 19, .scale = 18},
	{.kind = DUCT_DECIMAL, .precision = 38},
	{.kind = DUCT_DECIMAL, .precision = 38, .scale = 38},
	{.kind = DUCT_DECIMAL, .precision = 38, .scale = 37},
	{.kind = DUCT_DATE},
	{.kind = DUCT_TIME},
	{.kind = DUCT_TIMESTAMP},
	{.kind = DUCT_TIMESTAMPTZ},
	{.kind = DUCT_UUID},
	{.kind = DUCT_VARCHAR},
	{.kind = DUCT_JSON},
	{.kind = DUCT_BLOB},
	/* nested */
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_int_child},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_text_child},
	{.kind = DUCT_STRUCT, .nchildren = 5, .children = test_fields},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_struct_child},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_list_child},
	{.kind = DUCT_MAP, .nchildren = 2, .children = test_map_children},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_date_child},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_uuid_child},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_blob_child},
	{.kind = DUCT_LIST, .nchildren = 1, .children = test_double_child},
};

#endif
