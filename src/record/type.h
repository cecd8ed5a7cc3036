#ifndef DUCT_TYPE_H
#define DUCT_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"

/*
 * The types that records are made of: what the open lakehouse can hold, not what one source has. A connector maps its
 * own types onto these once; everything behind it switches over `enum duct_kind` only.
 *
 * In-memory form of one value (native byte order):
 *   BOOL u8 · INT8..INT64, UINT8..UINT64 · FLOAT32/64 IEEE
 *   DECIMAL(p,s)   p <= 18: int64 unscaled; else __int128 unscaled (16 bytes)
 *   DATE           int32 days since 1970-01-01;   infinity INT32_MAX, -infinity -INT32_MAX
 *   TIME           int64 microseconds, 0 .. 86400000000 (24:00:00 included)
 *   TIMESTAMP(TZ)  int64 microseconds since 1970-01-01 (TZ: UTC); infinity INT64_MAX, -infinity -INT64_MAX
 *   UUID           16 bytes in text order
 *   VARCHAR, JSON  UTF-8 bytes; BLOB bytes
 *   LIST           u32 count, then count x {u8 present, value when present}
 *   STRUCT         per child: {u8 present, value when present}
 *   MAP            u32 count, then count x {key value, u8 present, value when present}; children[0] key, [1] value
 * Inside LIST/STRUCT/MAP a fixed-width value is its bytes, a variable-width one is u32 length + bytes. Unaligned.
 */
enum duct_kind {
	DUCT_BOOL = 1,
	DUCT_INT8,
	DUCT_INT16,
	DUCT_INT32,
	DUCT_INT64,
	DUCT_UINT8,
	DUCT_UINT16,
	DUCT_UINT32,
	DUCT_UINT64,
	DUCT_FLOAT32,
	DUCT_FLOAT64,
	DUCT_DECIMAL,
	DUCT_DATE,
	DUCT_TIME,
	DUCT_TIMESTAMP,
	DUCT_TIMESTAMPTZ,
	DUCT_UUID,
	DUCT_VARCHAR,
	DUCT_JSON,
	DUCT_BLOB,
	DUCT_LIST,
	DUCT_STRUCT,
	DUCT_MAP,
};

#define DUCT_DATE_INF INT32_MAX
#define DUCT_DATE_NINF (-INT32_MAX)
#define DUCT_TS_INF INT64_MAX
#define DUCT_TS_NINF (-INT64_MAX)

struct duct_type {
	enum duct_kind kind;
	uint8_t precision, scale; /* DECIMAL only */
	uint16_t nchildren;	  /* LIST 1 (name "element"), MAP 2 ("key", "value"), STRUCT its fields */
	const char *name;	  /* field name when this is a child, else NULL */
	const struct duct_type *children;
};

/* Bytes of one value, 0 when its length varies. */
uint32_t duct_type_width(const struct duct_type *type);

static inline bool duct_kind_is_nested(enum duct_kind kind)
{
	return kind >= DUCT_LIST;
}

bool duct_type_equal(const struct duct_type *a, const struct duct_type *b);

/* True when each value of `from` is also one of `to` (int and float widening, decimal with more digits on both sides,
 * date to timestamp): what a lake may do in place. duct_cell_cast() does it for one value. */
bool duct_type_widens(const struct duct_type *from, const struct duct_type *to);

/* Deep copy into the arena. */
struct duct_type duct_type_copy(struct duct_arena *arena, const struct duct_type *type);

/* DuckLake's own name of a scalar (ducklake column_type), or "list", "struct", "map"; NULL: there is no such kind. */
const char *duct_kind_name(enum duct_kind kind);

/* For people: `decimal(12,2)`, `list(int32)`, `struct(a int32, b varchar)`, `map(varchar, varchar)`. */
void duct_type_print(struct duct_buf *to, const struct duct_type *type);

#endif
