/* Canonical key bytes and their hash: see key.h. */
#include "lake/key.h"

#include "record/format.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static int64_t load_integer(const struct duct_type *type, const char *p)
{
	switch (duct_type_width(type)) {
	case 1: return type->kind == DUCT_INT8 ? (int64_t) * (const int8_t *)p : (int64_t) * (const uint8_t *)p;
	case 2: {
		int16_t v;
		memcpy(&v, p, 2);
		return type->kind == DUCT_UINT16 ? (int64_t)(uint16_t)v : v;
	}
	case 4: {
		int32_t v;
		memcpy(&v, p, 4);
		return type->kind == DUCT_UINT32 ? (int64_t)(uint32_t)v : v;
	}
	default: {
		int64_t v;
		memcpy(&v, p, 8);
		return v;
	}
	}
}

static void append_i64(struct duct_buf *to, int64_t v)
{
	duct_buf_append(to, &v, sizeof v);
}

static void append_decimal(struct duct_buf *to, const struct duct_type *type, const char *p)
{
	__extension__ __int128 v;
	if (type->precision <= 18) {
		int64_t small;
		memcpy(&small, p, 8);
		v = small;
	} else {
		memcpy(&v, p, 16);
	}
	int scale = type->scale;
	while (scale > 0 && v % 10 == 0) {
		v /= 10;
		scale--;
	}
	duct_buf_append(to, &v, sizeof v);
	duct_buf_putc(to, (char)scale);
}

static void append_float(struct duct_buf *to, const struct duct_type *type, const char *p, bool exact)
{
	double d;
	if (type->kind == DUCT_FLOAT32) {
		float f;
		memcpy(&f, p, 4);
		d = f;
	} else {
		memcpy(&d, p, 8);
	}
	if (d != d)
		d = __builtin_nan("");
	if (d == 0 && !exact)
		d = 0; /* -0 equals 0 */
	duct_buf_append(to, &d, sizeof d);
}

static void append_timestamp(struct duct_buf *to, const struct duct_type *type, const char *p)
{
	int64_t v = load_integer(type, p);
	if (type->kind == DUCT_DATE)
		v = v == DUCT_DATE_INF ? DUCT_TS_INF : v == DUCT_DATE_NINF ? DUCT_TS_NINF : v * 86400000000;
	append_i64(to, v);
}

static void append_value(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell, bool exact)
{
	duct_buf_putc(to, cell.data != NULL);
	if (!cell.data)
		return;
	switch (type->kind) {
	case DUCT_BOOL:
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_INT64:
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32:
	case DUCT_UINT64:
	case DUCT_TIME: append_i64(to, load_integer(type, cell.data)); break;
	case DUCT_FLOAT32:
	case DUCT_FLOAT64: append_float(to, type, cell.data, exact); break;
	case DUCT_DECIMAL: append_decimal(to, type, cell.data); break;
	case DUCT_DATE:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: append_timestamp(to, type, cell.data); break;
	case DUCT_UUID: duct_buf_append(to, cell.data, 16); break;
	case DUCT_VARCHAR:
	case DUCT_JSON:
	case DUCT_BLOB:
	case DUCT_LIST:
	case DUCT_STRUCT:
	case DUCT_MAP:
		duct_buf_append(to, &cell.len, sizeof cell.len);
		duct_buf_append(to, cell.data, cell.len);
		break;
	}
}

static struct lake_key_hash hash_bytes(uint64_t seed, const void *data, size_t len)
{
	static int test_bits = -1; /* DUCT_TEST_HASH_BITS: forced collisions in tests, until the set has changed its seed */
	int bits = __atomic_load_n(&test_bits, __ATOMIC_RELAXED);
	if (bits < 0) {
		const char *text = getenv("DUCT_TEST_HASH_BITS");
		bits = text ? atoi(text) : 0;
		__atomic_store_n(&test_bits, bits, __ATOMIC_RELAXED);
	}
	XXH128_hash_t h = XXH3_128bits_withSeed(data, len, seed);
	struct lake_key_hash hash = {h.high64, h.low64 >> (64 - LAKE_HASH_LOW_BITS)};
	if (bits && !(seed & 1))
		hash = (struct lake_key_hash){h.high64 >> (64 - bits) << (64 - bits), 1};
	if (hash.high == 0 && hash.low == 0)
		hash.low = 1;
	return hash;
}

/* A key that is one number of eight bytes, as most are: the same bytes without the general road. */
static struct lake_key_hash hash_number(uint64_t seed, const char *p)
{
	char bytes[9] = {1};
	memcpy(bytes + 1, p, 8);
	return hash_bytes(seed, bytes, sizeof bytes);
}

struct lake_key_hash lake_hash_row(struct lake_hasher *h, const struct duct_vector *columns, uint32_t row)
{
	const struct duct_vector *only = h->nkeys == 1 ? &columns[h->keys[0]] : NULL;
	if (only && only->type->kind == DUCT_INT64 && !duct_vector_is_null(only, row))
		return hash_number(h->seed, only->data + (size_t)row * 8);
	h->scratch.len = 0;
	for (int i = 0; i < h->nkeys; i++) {
		const struct duct_vector *v = &columns[h->keys[i]];
		append_value(&h->scratch, v->type, duct_vector_cell(v, row), h->exact);
	}
	return hash_bytes(h->seed, h->scratch.data, h->scratch.len);
}

void lake_key_print(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, const int *keys,
		    int nkeys, uint32_t row)
{
	for (int i = 0; i < nkeys; i++) {
		const struct duct_vector *v = &columns[keys[i]];
		duct_buf_printf(to, "%s%s=", i ? ", " : "", rel->columns[keys[i]].name);
		size_t start = to->len;
		struct duct_cell cell = duct_vector_cell(v, row);
		if (cell.data)
			duct_format_value(to, v->type, cell);
		else
			duct_buf_puts(to, "NULL");
		if (to->len - start > 80) {
			to->len = start + 77;
			duct_buf_puts(to, "...");
		}
	}
}
