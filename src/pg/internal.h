#ifndef PG_INTERNAL_H
#define PG_INTERNAL_H

#include "base/reader.h"
#include "pg/types.h"

/* Shared by the files of this folder only. */

/* "type "X": message", class DATA. */
int pg_bad_value(struct duct_error *err, const struct pg_mapping *m, const char *fmt, ...) DUCT_PRINTF(3, 4);

/* Text of array and dimension mismatches: both roads must say the same. */
int pg_bad_dims(struct duct_error *err, const struct pg_mapping *m, int found);

/* Bodies of pg_decode by form; same contract. */
int pg_decode_text(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err);
int pg_decode_binary(const struct pg_mapping *m, const char *data, size_t len, struct duct_buf *to, struct duct_error *err);

/* A value inside LIST, STRUCT, MAP: the presence byte (data NULL: absent), the length when its width varies, the value. */
int pg_put_item(const struct pg_mapping *m, char format, const char *data, size_t len, struct duct_buf *to, struct duct_error *err);
static inline void pg_put_u32(struct duct_buf *to, uint32_t v)
{
	duct_buf_append(to, &v, 4);
}
static inline void pg_patch_u32(struct duct_buf *to, size_t at, uint32_t v)
{
	memcpy(to->data + at, &v, 4);
}
/* Postgres shows one NaN, whatever bits are stored: so do we. */
static inline uint32_t pg_float4_bits(uint32_t bits)
{
	return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : bits;
}
static inline uint64_t pg_float8_bits(uint64_t bits)
{
	return (bits & 0x7fffffffffffffff) > 0x7ff0000000000000 ? 0x7ff8000000000000 : bits;
}
static inline void pg_put_bool(struct duct_buf *to, bool v) /* a present boolean of a struct */
{
	duct_buf_append(to, (const char[]){1, v}, 2);
}

__extension__ typedef __int128 pg_int128;
__extension__ typedef unsigned __int128 pg_uint128;

/* One item of a one-dimensional array's text; `at` is behind '{' or ','. Returns the delimiter's place, NULL when there
 * is none. */
const char *pg_array_item(const char *at, struct duct_buf *to);

/* numeric(p,s) of few digits, unscaled, without messages; false: take the road for all. */
bool pg_decimal_small(const struct pg_mapping *m, const char *data, size_t len, int64_t *ret);
extern const pg_int128 pg_pow10[39];

/* What Postgres prints for a binary value, appended; a malformed one sets r->bad. */
void pg_print_numeric(struct duct_reader *r, struct duct_buf *to);
void pg_print_interval(struct duct_reader *r, struct duct_buf *to, bool infinities);
void pg_print_timetz(struct duct_reader *r, struct duct_buf *to);
void pg_print_bits(struct duct_reader *r, struct duct_buf *to);
void pg_print_inet(struct duct_reader *r, struct duct_buf *to, bool cidr);
void pg_print_mac(struct duct_reader *r, struct duct_buf *to);
void pg_print_geometric(enum pg_codec codec, struct duct_reader *r, struct duct_buf *to);
void pg_print_cube(struct duct_reader *r, struct duct_buf *to);
void pg_print_tsvector(struct duct_reader *r, struct duct_buf *to);
void pg_print_tsquery(struct duct_reader *r, struct duct_buf *to);
void pg_print_snapshot(struct duct_reader *r, struct duct_buf *to);

#endif
