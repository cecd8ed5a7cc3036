/*
 * One column at ascending rows, out of the entries of its leaves. A nested value is put together by their levels: a
 * node is there where the definition level of the entry of its first leaf reaches the node's, and a list goes on
 * where the next entry repeats at the list's level.
 */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

/* A leaf's entries of the row, and how many of them are used up. */
struct stream {
	struct parquet_leaf *leaf;
	const struct parquet_node *node;
	const struct parquet_entry *entries;
	size_t n, at;
};

struct parquet_cursor {
	struct parquet_file *file;
	int column;  /* node */
	size_t left; /* rows */
	struct stream *streams;
	int nstreams;
	struct duct_buf value;
	bool bad; /* the levels of its leaves do not fit together */
};

static int check_rows(const struct parquet_footer *f, const int64_t *rows, size_t n, struct duct_error *err)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i] < 0 || rows[i] >= f->rows || (i && rows[i] <= rows[i - 1]))
			return duct_fail(err, DUCT_FATAL, "\"%s\" has no row %" PRId64 ", or rows do not ascend there", f->path,
					 rows[i]);
	return 0;
}

/* Opens the leaves below the column. Returns 1 or 0. */
static int open_streams(struct parquet_cursor *c, const int64_t *rows, size_t n)
{
	const struct parquet_node *nodes = c->file->footer->nodes;
	int end = nodes[c->column].after, rc = 1;
	c->streams = duct_xcalloc((size_t)(end - c->column), sizeof *c->streams);
	for (int i = c->column; i < end && rc > 0; i++) {
		if (nodes[i].nchildren)
			continue;
		struct stream *s = &c->streams[c->nstreams];
		s->node = &nodes[i];
		rc = parquet_leaf_open(&s->leaf, c->file, s->node, rows, n);
		c->nstreams += rc > 0;
	}
	return rc;
}

int parquet_cursor_open(struct parquet_cursor **ret, struct parquet_file *file, int column, const int64_t *rows, size_t n,
			struct duct_error *err)
{
	int rc = check_rows(file->footer, rows, n, err);
	if (rc)
		return rc;
	if (!parquet_column_type(file, column))
		return 0;
	struct parquet_cursor *c = duct_xcalloc(1, sizeof *c);
	c->file = file;
	c->column = column;
	c->left = n;
	rc = open_streams(c, rows, n);
	if (rc > 0)
		*ret = c;
	else
		parquet_cursor_close(c);
	return rc;
}

void parquet_cursor_close(struct parquet_cursor *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->nstreams; i++)
		parquet_leaf_close(c->streams[i].leaf);
	free(c->streams);
	duct_buf_done(&c->value);
	free(c);
}

/* --- nested values --- */

static struct stream *first_stream(struct parquet_cursor *c, const struct parquet_node *node)
{
	return &c->streams[node->leaf - c->streams[0].node->leaf];
}

/* The next entry below the node. */
static const struct parquet_entry *next_entry(struct parquet_cursor *c, const struct parquet_node *node)
{
	static const struct parquet_entry none = {.data = ""};
	struct stream *s = first_stream(c, node);
	if (s->at < s->n)
		return &s->entries[s->at];
	c->bad = true;
	return &none;
}

/* Uses up the entry that each leaf below the node has for its not being there. */
static void pass(struct parquet_cursor *c, const struct parquet_node *node)
{
	const struct parquet_footer *f = c->file->footer;
	struct stream *s = first_stream(c, node), *end = c->streams + c->nstreams;
	if (node->after < f->nnodes && first_stream(c, &f->nodes[node->after]) < end)
		end = first_stream(c, &f->nodes[node->after]);
	for (; s < end; s++) {
		c->bad = c->bad || s->at >= s->n;
		s->at++;
	}
}

static void put_value(struct parquet_cursor *c, const struct parquet_node *node);

static void put_optional(struct parquet_cursor *c, const struct parquet_node *node)
{
	bool present = next_entry(c, node)->definition >= node->max_definition;
	duct_buf_putc(&c->value, present);
	if (present)
		put_value(c, node);
	else
		pass(c, node);
}

/* u32 count, then the elements, or keys and values. */
static void put_entries(struct parquet_cursor *c, const struct parquet_node *node)
{
	const struct parquet_node *group = node + 1, *first = node + 2;
	size_t at = c->value.len;
	uint32_t n = 0;
	duct_buf_append(&c->value, &n, sizeof n);
	if (next_entry(c, node)->definition < group->max_definition) {
		pass(c, node);
		return;
	}
	struct stream *s = first_stream(c, node);
	do {
		if (node->annotation == DUCT_MAP) {
			c->bad = c->bad || next_entry(c, first)->definition < first->max_definition; /* no key */
			if (c->bad)
				return;
			put_value(c, first);
			put_optional(c, c->file->footer->nodes + first->after);
		} else {
			put_optional(c, first);
		}
		n++;
	} while (!c->bad && s->at < s->n && s->entries[s->at].repetition == group->max_repetition);
	memcpy(c->value.data + at, &n, sizeof n);
}

static void put_content(struct parquet_cursor *c, const struct parquet_node *node)
{
	const struct parquet_node *nodes = c->file->footer->nodes;
	if (node->annotation) {
		put_entries(c, node);
		return;
	}
	const struct parquet_node *child = node + 1;
	for (int i = 0; i < node->nchildren && !c->bad; i++, child = nodes + child->after)
		put_optional(c, child);
}

static void put_leaf(struct parquet_cursor *c, const struct parquet_node *node)
{
	const struct parquet_entry *e = next_entry(c, node);
	if (c->bad)
		return;
	if (!duct_type_width(&node->value))
		duct_buf_append(&c->value, &e->len, sizeof e->len);
	duct_buf_append(&c->value, e->data ? e->data : e->own, e->len);
	first_stream(c, node)->at++;
}

/* As it stands inside a nested value: fixed bytes, or u32 length and bytes. */
static void put_value(struct parquet_cursor *c, const struct parquet_node *node)
{
	if (!node->nchildren) {
		put_leaf(c, node);
		return;
	}
	size_t at = c->value.len;
	uint32_t len = 0;
	duct_buf_append(&c->value, &len, sizeof len);
	put_content(c, node);
	len = (uint32_t)(c->value.len - at - sizeof len);
	memcpy(c->value.data + at, &len, sizeof len);
}

static int take_nested(struct parquet_cursor *c, const struct parquet_node *node, struct duct_cell *ret, struct duct_error *err)
{
	bool present = c->streams[0].entries[0].definition >= node->max_definition;
	c->value.len = 0;
	c->bad = false;
	if (present)
		put_content(c, node);
	else
		pass(c, node);
	for (int i = 0; i < c->nstreams; i++)
		c->bad = c->bad || c->streams[i].at != c->streams[i].n;
	if (c->bad)
		return duct_fail(err, DUCT_FATAL, "the levels of column \"%s\" do not fit together", node->name);
	if (present)
		duct_buf_room(&c->value, 1); /* a struct without fields is not NULL */
	*ret = present ? (struct duct_cell){c->value.data, (uint32_t)c->value.len} : (struct duct_cell){NULL, 0};
	return 0;
}

int parquet_cursor_next(struct parquet_cursor *c, struct duct_cell *ret, struct duct_error *err)
{
	const struct parquet_footer *f = c->file->footer;
	const struct parquet_node *node = &f->nodes[c->column];
	int rc = 0;
	if (!c->left)
		return duct_fail(err, DUCT_FATAL, "\"%s\": more values are taken than were asked for", f->path);
	for (int i = 0; i < c->nstreams && !rc; i++) {
		struct stream *s = &c->streams[i];
		s->at = 0;
		rc = parquet_leaf_next(s->leaf, &s->entries, &s->n, err);
	}
	if (!rc && node->nchildren)
		rc = take_nested(c, node, ret, err);
	if (rc)
		return duct_wrap(err, "\"%s\"", f->path);
	c->left--;
	if (!node->nchildren) {
		const struct parquet_entry *e = c->streams[0].entries;
		*ret = e->definition < node->max_definition ? (struct duct_cell){NULL, 0}
							    : (struct duct_cell){e->data ? e->data : e->own, e->len};
	}
	return 0;
}
