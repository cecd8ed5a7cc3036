#ifndef DUCT_NESTED_H
#define DUCT_NESTED_H

#include "base/reader.h"
#include "record/batch.h"

/*
 * Taking a LIST, STRUCT or MAP apart (type.h has the layout): a reader over the cell's bytes, then these in the order of the
 * layout. Damaged bytes set the reader's `bad`; asking once at the end is enough.
 */
static inline uint32_t duct_nested_count(struct duct_reader *r)
{
	const char *p = duct_read_bytes(r, 4);
	uint32_t n = 0;
	if (p)
		memcpy(&n, p, sizeof n);
	return n;
}

/* A value that is there. */
static inline struct duct_cell duct_nested_value(struct duct_reader *r, const struct duct_type *type)
{
	uint32_t len = duct_type_width(type);
	if (!len)
		len = duct_nested_count(r);
	return (struct duct_cell){duct_read_bytes(r, len), len};
}

/* One that may be NULL (data NULL). */
static inline struct duct_cell duct_nested_optional(struct duct_reader *r, const struct duct_type *type)
{
	return duct_read_u8(r) ? duct_nested_value(r, type) : (struct duct_cell){NULL, 0};
}

#endif
