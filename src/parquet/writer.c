/* One Parquet file: see writer.h. */
#include "parquet/writer_internal.h"

#include <errno.h>
#include <unistd.h>

enum {
	MOST_GROUP_ROWS = 122880,
	FEWEST_GROUP_ROWS = 2048,
	GROUP_BYTES = 32 << 20,
	MOST_GROUP_BYTES = 64 << 20, /* raw; the second for rows so wide that the first is few of them */
	FIRST_SLICE = 64,	     /* before anything is known about the width of rows */
	PAGE_BYTES = 224 << 10,	     /* zstd's parameters for up to 256 KiB shrink columns best */
	WIDE_PAGE_BYTES = 16 << 10,  /* files are 3 % larger than with 64 KiB; one value is a third to read */
	PAGES_BYTES = 32 << 20,	     /* all open pages together */
	DICTIONARY_BYTES = 512 << 10,
	DICTIONARIES_BYTES = 16 << 20,
	WRITE_BYTES = 1 << 20,
};

/* --- columns --- */

static void set_form(struct parquet_leaf *leaf, enum parquet_form form, enum parquet_type physical, uint32_t width)
{
	leaf->form = form;
	leaf->physical = physical;
	leaf->width = width;
}

static void form_decimal(struct parquet_leaf *leaf)
{
	if (leaf->type->precision <= 9)
		set_form(leaf, PARQUET_FORM_I32, PARQUET_INT32, 4);
	else if (leaf->type->precision <= 18)
		set_form(leaf, PARQUET_FORM_I64, PARQUET_INT64, 8);
	else
		set_form(leaf, PARQUET_FORM_DECIMAL, PARQUET_FIXED, 16);
}

static void form_of(struct parquet_leaf *leaf)
{
	switch (leaf->type->kind) {
	case DUCT_BOOL: set_form(leaf, PARQUET_FORM_BOOL, PARQUET_BOOLEAN, 1); break;
	case DUCT_INT8:
	case DUCT_INT16:
	case DUCT_INT32:
	case DUCT_DATE: set_form(leaf, PARQUET_FORM_I32, PARQUET_INT32, 4); break;
	case DUCT_UINT8:
	case DUCT_UINT16:
	case DUCT_UINT32: set_form(leaf, PARQUET_FORM_U32, PARQUET_INT32, 4); break;
	case DUCT_INT64:
	case DUCT_TIME:
	case DUCT_TIMESTAMP:
	case DUCT_TIMESTAMPTZ: set_form(leaf, PARQUET_FORM_I64, PARQUET_INT64, 8); break;
	case DUCT_UINT64: set_form(leaf, PARQUET_FORM_U64, PARQUET_INT64, 8); break;
	case DUCT_FLOAT32: set_form(leaf, PARQUET_FORM_F32, PARQUET_FLOAT, 4); break;
	case DUCT_FLOAT64: set_form(leaf, PARQUET_FORM_F64, PARQUET_DOUBLE, 8); break;
	case DUCT_DECIMAL: form_decimal(leaf); break;
	case DUCT_UUID: set_form(leaf, PARQUET_FORM_UUID, PARQUET_FIXED, 16); break;
	case DUCT_VARCHAR:
	case DUCT_JSON: set_form(leaf, PARQUET_FORM_TEXT, PARQUET_BYTE_ARRAY, 0); break;
	case DUCT_BLOB:
	case DUCT_LIST: /* nodes are no leaves */
	case DUCT_STRUCT:
	case DUCT_MAP: set_form(leaf, PARQUET_FORM_BLOB, PARQUET_BYTE_ARRAY, 0); break;
	}
}

static int count_leaves(const struct duct_type *type)
{
	int n = !type->nchildren;
	for (int i = 0; i < type->nchildren; i++)
		n += count_leaves(&type->children[i]);
	return n;
}

enum { DEEPEST_PATH = 256 };

struct planner {
	struct parquet_writer *w;
	int column;
	const int64_t *ids;
	const char *path[DEEPEST_PATH];
	int npath;
};

static void plan_leaf(struct planner *p, struct parquet_node *node, int64_t id)
{
	struct parquet_leaf *leaf = &p->w->leaves[p->w->nleaves++];
	*leaf = (struct parquet_leaf){.type = node->type,
				      .column = p->column,
				      .field_id = id,
				      .max_def = node->def,
				      .max_rep = node->rep,
				      .npath = p->npath};
	leaf->path = duct_arena_dup(&p->w->arena, p->path, (size_t)p->npath * sizeof *p->path);
	form_of(leaf);
}

/* def, rep: of what is around the node. */
static void plan_node(struct planner *p, struct parquet_node *node, const struct duct_type *type, const char *name, int64_t id,
		      int def, int rep, bool required)
{
	bool listed = type->kind == DUCT_LIST || type->kind == DUCT_MAP;
	int npath = p->npath;
	*node = (struct parquet_node){
		.type = type, .def = def + !required, .rep = rep, .first_leaf = p->w->nleaves, .nleaves = count_leaves(type)};
	if (p->npath + 2 <= DEEPEST_PATH)
		p->path[p->npath++] = name;
	if (listed && p->npath + 2 <= DEEPEST_PATH)
		p->path[p->npath++] = type->kind == DUCT_MAP ? "key_value" : "list";
	if (!type->nchildren)
		plan_leaf(p, node, id);
	else
		node->children = duct_arena_zalloc(&p->w->arena, type->nchildren * sizeof *node->children);
	for (int i = 0; i < type->nchildren; i++) {
		int64_t child_id = *p->ids++;
		plan_node(p, &node->children[i], &type->children[i], type->children[i].name, child_id, node->def + listed,
			  rep + listed, type->kind == DUCT_MAP && i == 0);
	}
	p->npath = npath;
}

static void plan_columns(struct parquet_writer *w)
{
	int n = 0;
	for (int i = 0; i < w->ncolumns; i++)
		n += count_leaves(w->columns[i].type);
	w->leaves = duct_xcalloc((size_t)n + 1, sizeof *w->leaves);
	w->nodes = duct_arena_zalloc(&w->arena, ((size_t)w->ncolumns + 1) * sizeof *w->nodes);
	for (int i = 0; i < w->ncolumns; i++) {
		const struct parquet_column *c = &w->columns[i];
		struct planner p = {.w = w, .column = i, .ids = c->child_ids};
		plan_node(&p, &w->nodes[i], c->type, c->name, c->field_id, 0, 0, false);
	}
}

static size_t share(size_t all, int n, size_t most, size_t least)
{
	size_t each = all / (size_t)(n ? n : 1);
	return each > most ? most : each < least ? least : each;
}

struct parquet_writer *parquet_writer_new(int fd, const char *path, const struct parquet_column *columns, int ncolumns,
					  const struct parquet_settings *settings)
{
	struct parquet_writer *w = duct_xcalloc(1, sizeof *w);
	*w = (struct parquet_writer){.fd = fd, .path = path, .ncolumns = ncolumns, .settings = *settings};
	duct_arena_init(&w->arena);
	w->columns = duct_arena_dup(&w->arena, columns, (size_t)ncolumns * sizeof *columns);
	w->packer = (struct parquet_packer){.codec = settings->codec, .level = settings->level};
	w->part = duct_xmalloc(PARQUET_PART * 16);
	plan_columns(w);
	w->page_bytes = share(PAGES_BYTES, w->nleaves, PAGE_BYTES, 4 << 10);
	w->wide_page_bytes = w->page_bytes < WIDE_PAGE_BYTES ? w->page_bytes : WIDE_PAGE_BYTES;
	size_t budget = share(DICTIONARIES_BYTES, w->nleaves, DICTIONARY_BYTES, 4 << 10);
	for (int i = 0; i < w->nleaves; i++)
		parquet_leaf_init(&w->leaves[i], budget);
	duct_buf_append(&w->pending, PARQUET_MAGIC, PARQUET_MAGIC_BYTES);
	w->at = PARQUET_MAGIC_BYTES;
	return w;
}

void parquet_writer_free(struct parquet_writer *w)
{
	if (!w)
		return;
	for (int i = 0; i < w->nleaves; i++)
		parquet_leaf_done(&w->leaves[i]);
	free(w->leaves);
	parquet_packer_done(&w->packer);
	duct_arena_done(&w->arena);
	free(w->chunks);
	free(w->groups);
	duct_buf_done(&w->offsets);
	duct_buf_done(&w->indexes);
	duct_buf_done(&w->pending);
	duct_buf_done(&w->raw);
	duct_buf_done(&w->packed);
	free(w->levels);
	free(w->part);
	free(w);
}

/* --- the file --- */

static int write_out(struct parquet_writer *w, const char *p, size_t n, struct duct_error *err)
{
	while (n) {
		ssize_t done = write(w->fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0) {
			int code = errno;
			int ret = duct_fail(err, DUCT_RETRY, "write \"%s\": %s", w->path, strerror(code));
			if (err)
				err->vendor_code = code;
			return ret;
		}
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int flush_pending(struct parquet_writer *w, struct duct_error *err)
{
	size_t n = w->pending.len;
	w->pending.len = 0;
	return write_out(w, w->pending.data, n, err);
}

int parquet_file_put(struct parquet_writer *w, const void *data, size_t n, struct duct_error *err)
{
	w->at += n;
	if (w->pending.len + n > WRITE_BYTES) {
		int ret = flush_pending(w, err);
		if (ret || n > WRITE_BYTES / 2)
			return ret ? ret : write_out(w, data, n, err);
	}
	duct_buf_append(&w->pending, data, n);
	return 0;
}

/* --- rows --- */

uint32_t parquet_writer_room(const struct parquet_writer *w)
{
	if (w->settings.group_rows) {
		int64_t left = w->settings.group_rows - w->group_rows;
		return left < PARQUET_SLICE ? (uint32_t)left : PARQUET_SLICE;
	}
	if (!w->group_rows)
		return FIRST_SLICE;
	uint64_t each = w->group_raw / (uint64_t)w->group_rows + 1;
	uint64_t room = w->group_raw < MOST_GROUP_BYTES ? (MOST_GROUP_BYTES - w->group_raw) / each + 1 : 1;
	uint64_t left = (uint64_t)(MOST_GROUP_ROWS - w->group_rows);
	room = room < left ? room : left;
	return room < PARQUET_SLICE ? (uint32_t)room : PARQUET_SLICE;
}

static int end_group(struct parquet_writer *w, struct duct_error *err)
{
	struct group g = {.rows = w->group_rows, .at = (int64_t)w->at};
	if (!g.rows)
		return 0;
	for (int i = 0; i < w->nleaves; i++) {
		int ret = parquet_leaf_end_chunk(w, &w->leaves[i], err);
		if (ret)
			return ret;
		g.raw_bytes += w->chunks[w->nchunks - 1].raw_bytes;
		g.bytes += w->chunks[w->nchunks - 1].bytes;
	}
	w->groups = duct_grow(w->groups, &w->groups_cap, w->ngroups + 1, sizeof *w->groups);
	w->groups[w->ngroups++] = g;
	w->group_rows = 0;
	w->group_raw = 0;
	return 0;
}

int parquet_writer_end_rows(struct parquet_writer *w, uint32_t n, struct duct_error *err)
{
	w->rows += n;
	w->group_rows += n;
	if (w->settings.group_rows)
		return w->group_rows >= w->settings.group_rows ? end_group(w, err) : 0;
	bool full = w->group_rows >= MOST_GROUP_ROWS || w->group_raw >= MOST_GROUP_BYTES ||
		(w->group_raw >= GROUP_BYTES && w->group_rows >= FEWEST_GROUP_ROWS);
	return full ? end_group(w, err) : 0;
}

uint64_t parquet_writer_bytes(const struct parquet_writer *w)
{
	uint64_t done = w->at, open = 0;
	for (int i = 0; i < w->nleaves; i++) {
		done += w->leaves[i].out.len;
		open += w->leaves[i].plain_bytes;
	}
	double rate = w->raw_total ? (double)done / (double)w->raw_total : w->settings.codec == PARQUET_UNCOMPRESSED ? 1 : 0.5;
	return done + (uint64_t)((double)open * (rate < 1 ? rate : 1));
}

int parquet_writer_finish(struct parquet_writer *w, int64_t *ret_size, int64_t *ret_footer, struct duct_error *err)
{
	struct duct_buf footer AUTO_BUF = {0};
	int ret = end_group(w, err);
	int64_t indexes_at = (int64_t)w->at;
	ret = ret ? ret : parquet_file_put(w, w->indexes.data, w->indexes.len, err);
	int64_t offsets_at = (int64_t)w->at;
	ret = ret ? ret : parquet_file_put(w, w->offsets.data, w->offsets.len, err);
	if (ret)
		return ret;
	parquet_write_footer(w, &footer, offsets_at, indexes_at);
	uint32_t len = (uint32_t)footer.len;
	duct_buf_append(&footer, &len, sizeof len);
	duct_buf_append(&footer, PARQUET_MAGIC, PARQUET_MAGIC_BYTES);
	ret = parquet_file_put(w, footer.data, footer.len, err);
	ret = ret ? ret : flush_pending(w, err);
	if (ret)
		return ret;
	*ret_size = (int64_t)w->at;
	*ret_footer = len;
	return 0;
}

/* --- facts --- */

int parquet_writer_leaves(const struct parquet_writer *w)
{
	return w->nleaves;
}

struct parquet_leaf_facts parquet_writer_leaf(const struct parquet_writer *w, int i)
{
	const struct parquet_leaf *leaf = &w->leaves[i];
	return (struct parquet_leaf_facts){.type = leaf->type,
					   .column = leaf->column,
					   .field_id = leaf->field_id,
					   .nvalues = leaf->file_values,
					   .nnulls = leaf->file_nulls,
					   .bytes = leaf->file_bytes,
					   .form = leaf->form,
					   .bounds = &leaf->file};
}
