#ifndef WIRE_ARROW_INTERNAL_H
#define WIRE_ARROW_INTERNAL_H

#include "base/buf.h"
#include "record/batch.h"
#include "wire/flatbuffer.h"

/*
 * A column in the making: Arrow's buffers, filled cell by cell. A MAP is a list of structs in Arrow; its `children` are key and value,
 * and the struct between (which is never NULL) exists only where it is written down.
 */
struct arrow_column {
	const struct duct_type *type;
	struct duct_buf valid, offsets, data;
	int64_t rows, nulls;
	struct arrow_column *children; /* type->nchildren */
	bool too_large;		       /* an offset would not fit */
};

void arrow_column_init(struct arrow_column *c, const struct duct_type *type);
void arrow_column_done(struct arrow_column *c);
void arrow_column_append(struct arrow_column *c, struct duct_cell cell); /* data NULL: NULL */
bool arrow_column_too_large(const struct arrow_column *c);

/* A list of text that is appended element by element; arrow_list_end() closes the row. */
void arrow_list_add(struct arrow_column *c, struct duct_cell element);
void arrow_list_end(struct arrow_column *c);

/* What a record batch says about its buffers. */
struct arrow_body {
	struct duct_buf bytes; /* buffers one after the other, each a multiple of 8 long */
	int64_t *nodes;	       /* pairs: rows, nulls */
	size_t nnodes, nodes_cap;
	int64_t *buffers; /* pairs: offset, length */
	size_t nbuffers, buffers_cap;
};
void arrow_body_done(struct arrow_body *body);
void arrow_column_write(struct arrow_body *body, const struct arrow_column *c);

/* A Field table; source_type and its metadata may be NULL. */
uint32_t arrow_field(struct flat_builder *b, const char *name, const struct duct_type *type, bool nullable,
		     const char *source_type);

#endif
