/*
 * Values with their levels, as Parquet shreds them: each leaf gets, for each of its entries, a repetition level (0: a new row) and a
 * definition level (how far down the value is there). The bytes of nested values are those of record/type.h.
 */
#include "parquet/writer_internal.h"

static int fail_nested(const struct duct_type *type, struct duct_error *err)
{
	struct duct_buf name AUTO_BUF = {0};
	duct_type_print(&name, type);
	return duct_fail(err, DUCT_FATAL, "a value of type %s is encoded wrongly", name.data);
}

/* Nothing is there below `def`: one entry in each leaf. */
static int put_nothing(struct parquet_writer *w, const struct parquet_node *node, int rep, int def, struct duct_error *err)
{
	int ret = 0;
	for (int i = 0; i < node->nleaves && !ret; i++)
		ret = parquet_leaf_put(w, &w->leaves[node->first_leaf + i], rep, def, NULL, 0, err);
	return ret;
}

static int put_value(struct parquet_writer *w, const struct parquet_node *node, int rep, struct duct_cell cell,
		     struct duct_error *err);

static int put_read(struct parquet_writer *w, const struct parquet_node *node, int rep, struct duct_reader *r, bool optional,
		    struct duct_error *err)
{
	if (optional && !duct_read_u8(r))
		return r->bad ? fail_nested(node->type, err) : put_nothing(w, node, rep, node->def - 1, err);
	uint32_t len = duct_type_width(node->type);
	if (!len) {
		const char *p = duct_read_bytes(r, 4);
		if (p)
			memcpy(&len, p, 4);
	}
	struct duct_cell cell = {duct_read_bytes(r, len), len};
	return cell.data ? put_value(w, node, rep, cell, err) : fail_nested(node->type, err);
}

static int put_list(struct parquet_writer *w, const struct parquet_node *node, int rep, struct duct_reader *r,
		    struct duct_error *err)
{
	bool map = node->type->kind == DUCT_MAP;
	const char *p = duct_read_bytes(r, 4);
	uint32_t n = 0;
	int ret = 0;
	if (p)
		memcpy(&n, p, 4);
	if (!p || n > duct_reader_left(r)) /* each element takes a byte at least */
		return fail_nested(node->type, err);
	if (!n)
		return put_nothing(w, node, rep, node->def, err);
	for (uint32_t i = 0; i < n && !ret; i++) {
		int own = i ? node->rep + 1 : rep;
		ret = put_read(w, &node->children[0], own, r, !map, err);
		if (map && !ret)
			ret = put_read(w, &node->children[1], own, r, true, err);
	}
	return ret;
}

static int put_value(struct parquet_writer *w, const struct parquet_node *node, int rep, struct duct_cell cell,
		     struct duct_error *err)
{
	if (!node->type->nchildren)
		return parquet_leaf_put(w, &w->leaves[node->first_leaf], rep, node->def, cell.data, cell.len, err);
	struct duct_reader r = duct_reader_over(cell.data, cell.len);
	int ret = 0;
	if (node->type->kind != DUCT_STRUCT)
		ret = put_list(w, node, rep, &r, err);
	for (int i = 0; node->type->kind == DUCT_STRUCT && i < node->type->nchildren && !ret; i++)
		ret = put_read(w, &node->children[i], rep, &r, true, err);
	return ret || !(r.bad || duct_reader_left(&r)) ? ret : fail_nested(node->type, err);
}

int parquet_put_nested(struct parquet_writer *w, const struct parquet_node *node, struct duct_cell cell, struct duct_error *err)
{
	return cell.data ? put_value(w, node, 0, cell, err) : put_nothing(w, node, 0, node->def - 1, err);
}
