#ifndef DUCT_FORMAT_INTERNAL_H
#define DUCT_FORMAT_INTERNAL_H

#include "base/reader.h"
#include "record/format.h"

__extension__ typedef __int128 duct_i128;
__extension__ typedef unsigned __int128 duct_u128;

/* A LIST, STRUCT or MAP (format_nested.c). */
void duct_format_nested(struct duct_buf *to, const struct duct_type *type, struct duct_cell cell);

/* Loads from unaligned memory. */
#define DUCT_LOAD(ctype, p) \
	__extension__({ \
		ctype v_; \
		memcpy(&v_, (p), sizeof v_); \
		v_; \
	})

static inline duct_i128 duct_load_decimal(const struct duct_type *type, const char *p)
{
	return type->precision <= 18 ? (duct_i128)DUCT_LOAD(int64_t, p) : DUCT_LOAD(duct_i128, p);
}

static inline void duct_store_decimal(struct duct_buf *to, const struct duct_type *type, duct_i128 v)
{
	int64_t narrow = (int64_t)v;
	if (type->precision <= 18)
		duct_buf_append(to, &narrow, sizeof narrow);
	else
		duct_buf_append(to, &v, sizeof v);
}

/* 10^n, 0 <= n <= 38. */
static inline duct_i128 duct_power10(int n)
{
	duct_i128 v = 1;
	while (n-- > 0)
		v *= 10;
	return v;
}

#endif
