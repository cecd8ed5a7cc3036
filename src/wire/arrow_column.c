/*
 * Cells to Arrow buffers. What is in a buffer (Arrow columnar format, version 1):
 *
 *   valid    a bit per row, set = not NULL; no bytes when nothing is NULL
 *   offsets  int32, rows + 1 (utf8, binary, list, map)
 *   data     values of fixed width, bits for bool, int128 for decimals of any precision; bytes of utf8 and binary
 */
#include "wire/arrow_internal.h"

#include "record/nested.h"

#include <string.h>

static bool has_offsets(const struct duct_type *type)
{
	return duct_type_width(type) == 0 && type->kind != DUCT_STRUCT;
}

void arrow_column_init(struct arrow_column *c, const struct duct_type *type)
{
	*c = (struct arrow_column){.type = type};
	if (has_offsets(type))
		duct_buf_append(&c->offsets, &(int32_t){0}, sizeof(int32_t));
	if (type->nchildren)
		c->children = duct_xcalloc(type->nchildren, sizeof *c->children);
	for (int i = 0; i < type->nchildren; i++)
		arrow_column_init(&c->children[i], &type->children[i]);
}

void arrow_column_done(struct arrow_column *c)
{
	duct_buf_done(&c->valid);
	duct_buf_done(&c->offsets);
	duct_buf_done(&c->data);
	for (int i = 0; c->children && i < c->type->nchildren; i++)
		arrow_column_done(&c->children[i]);
	free(c->children);
}

bool arrow_column_too_large(const struct arrow_column *c)
{
	bool too_large = c->too_large;
	for (int i = 0; i < c->type->nchildren; i++)
		too_large |= arrow_column_too_large(&c->children[i]);
	return too_large;
}

static void add_bit(struct duct_buf *bits, int64_t at, bool set)
{
	if (at % 8 == 0)
		duct_buf_putc(bits, 0);
	if (set)
		bits->data[at / 8] |= (char)(1 << (at % 8));
}

static void add_offset(struct arrow_column *c, int64_t end)
{
	int32_t offset = (int32_t)end;
	c->too_large |= end > INT32_MAX;
	duct_buf_append(&c->offsets, &offset, sizeof offset);
}

static void add_decimal(struct arrow_column *c, struct duct_cell cell)
{
	int64_t wide[2] = {0};
	if (cell.data)
		memcpy(wide, cell.data, cell.len);
	if (cell.len == sizeof *wide)
		wide[1] = wide[0] < 0 ? -1 : 0;
	duct_buf_append(&c->data, wide, sizeof wide);
}

static void add_fixed(struct arrow_column *c, struct duct_cell cell, uint32_t width)
{
	static const char zeros[16];
	if (c->type->kind == DUCT_BOOL)
		add_bit(&c->data, c->rows, cell.data && *cell.data);
	else if (c->type->kind == DUCT_DECIMAL)
		add_decimal(c, cell);
	else
		duct_buf_append(&c->data, cell.data ? cell.data : zeros, width);
}

static void add_list(struct arrow_column *c, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	uint32_t n = cell.data ? duct_nested_count(&r) : 0;
	bool map = c->type->kind == DUCT_MAP;
	for (uint32_t i = 0; i < n && !r.bad; i++) {
		if (map)
			arrow_column_append(&c->children[0], duct_nested_value(&r, &c->type->children[0]));
		arrow_column_append(&c->children[map], duct_nested_optional(&r, &c->type->children[map]));
	}
	add_offset(c, c->children[0].rows);
}

static void add_struct(struct arrow_column *c, struct duct_cell cell)
{
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	for (int i = 0; i < c->type->nchildren; i++)
		arrow_column_append(&c->children[i],
				    cell.data ? duct_nested_optional(&r, &c->type->children[i]) : (struct duct_cell){NULL, 0});
}

static void add_row(struct arrow_column *c, bool valid)
{
	add_bit(&c->valid, c->rows, valid);
	c->rows++;
	c->nulls += !valid;
}

void arrow_column_append(struct arrow_column *c, struct duct_cell cell)
{
	uint32_t width = duct_type_width(c->type);
	if (width) {
		add_fixed(c, cell, width);
	} else if (c->type->kind == DUCT_STRUCT) {
		add_struct(c, cell);
	} else if (duct_kind_is_nested(c->type->kind)) {
		add_list(c, cell);
	} else {
		duct_buf_append(&c->data, cell.data, cell.len);
		add_offset(c, (int64_t)c->data.len);
	}
	add_row(c, cell.data != NULL);
}

void arrow_list_add(struct arrow_column *c, struct duct_cell element)
{
	arrow_column_append(&c->children[0], element);
}

void arrow_list_end(struct arrow_column *c)
{
	add_offset(c, c->children[0].rows);
	add_row(c, true);
}

void arrow_body_done(struct arrow_body *body)
{
	duct_buf_done(&body->bytes);
	free(body->nodes);
	free(body->buffers);
}

static void write_node(struct arrow_body *body, int64_t rows, int64_t nulls)
{
	body->nodes = duct_grow(body->nodes, &body->nodes_cap, body->nnodes * 2 + 2, sizeof *body->nodes);
	body->nodes[body->nnodes * 2] = rows;
	body->nodes[body->nnodes++ * 2 + 1] = nulls;
}

static void write_buffer(struct arrow_body *body, const struct duct_buf *buffer, size_t len)
{
	static const char zeros[8];
	body->buffers = duct_grow(body->buffers, &body->buffers_cap, body->nbuffers * 2 + 2, sizeof *body->buffers);
	body->buffers[body->nbuffers * 2] = (int64_t)body->bytes.len;
	body->buffers[body->nbuffers++ * 2 + 1] = (int64_t)len;
	if (len)
		duct_buf_append(&body->bytes, buffer->data, len);
	duct_buf_append(&body->bytes, zeros, (sizeof zeros - len % sizeof zeros) % sizeof zeros);
}

/* In the order of the fields, a parent before its children. */
void arrow_column_write(struct arrow_body *body, const struct arrow_column *c)
{
	write_node(body, c->rows, c->nulls);
	write_buffer(body, &c->valid, c->nulls ? c->valid.len : 0);
	if (has_offsets(c->type))
		write_buffer(body, &c->offsets, c->offsets.len);
	if (!duct_kind_is_nested(c->type->kind))
		write_buffer(body, &c->data, c->data.len);
	if (c->type->kind == DUCT_MAP) {
		write_node(body, c->children[0].rows, 0);
		write_buffer(body, &c->valid, 0);
	}
	for (int i = 0; i < c->type->nchildren; i++)
		arrow_column_write(body, &c->children[i]);
}
