/* A run of a REST source: pages in, columns learned, one commit. */
#include "ingest/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- the cursor --- */

static bool is_whole_number(const char *s, size_t n)
{
	size_t from = n && *s == '-';
	for (size_t i = from; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > from;
}

/* Whole numbers by their value, all else as text: so ISO times come in their order. */
static bool is_greater(const char *a, size_t na, const char *b, size_t nb)
{
	if (is_whole_number(a, na) && is_whole_number(b, nb)) {
		long long x = strtoll(a, NULL, 10), y = strtoll(b, NULL, 10);
		return x > y;
	}
	int c = memcmp(a, b, na < nb ? na : nb);
	return c ? c > 0 : na > nb;
}

static int move_cursor(struct ingest_load *l, const struct json_doc *doc, const struct json_node *record, struct duct_error *err)
{
	const struct json_node *node = json_find(doc, record, l->spec->incremental.field, NULL);
	char *cursor = l->result->cursor;
	AUTO_BUF struct duct_buf text = {0};
	if (!node || node->kind == JSON_KIND_NULL)
		return 0;
	if (node->kind == JSON_KIND_STRING)
		json_unescape(doc, node, &text);
	else
		duct_buf_append(&text, doc->text + node->at, node->len);
	duct_buf_puts(&text, "");
	if (text.len >= sizeof l->result->cursor || memchr(text.data, 0, text.len))
		return duct_fail(err, DUCT_DATA, "incremental: a value of \"%s\" is too long for a cursor",
				 l->spec->incremental.field);
	if (!*cursor || is_greater(text.data, text.len, cursor, strlen(cursor)))
		memcpy(cursor, text.data, text.len + 1);
	return 0;
}

/* --- pages --- */

static int learn_items(struct ingest_load *l, const struct json_doc *doc, struct duct_error *err)
{
	for (size_t i = 0; i < l->shape->nlists; i++) {
		const struct ingest_list *list = &l->shape->lists[i];
		const struct json_node *item = list->list + 1, *end = doc->nodes + list->list->end;
		for (; item < end; item = doc->nodes + item->end)
			if (ingest_shape_take_item(list->shape, doc, item, err) ||
			    ingest_shape_learn(list->shape, doc, l->shape->rows, err))
				return duct_wrap(err, "table \"%s\"", list->shape->table);
	}
	return 0;
}

static int take_page(void *arg, const struct json_doc *doc, struct duct_buf *body, int64_t *ret_records, struct duct_error *err)
{
	struct ingest_load *l = arg;
	uint32_t at, end;
	if (ingest_records(l->spec, doc, &at, &end, err))
		return -(int)err->class;
	for (; at < end; at = doc->nodes[at].end) {
		const struct json_node *record = &doc->nodes[at];
		if (ingest_shape_take(l->shape, doc, record, err) || ingest_shape_learn(l->shape, doc, l->shape->rows + 1, err) ||
		    learn_items(l, doc, err) || (l->spec->incremented && move_cursor(l, doc, record, err)))
			return -(int)err->class;
		++*ret_records;
	}
	l->report->progress(l->report->arg, l->shape->rows, "rows", "reading");
	return ingest_pages_add(&l->pages, body, err);
}

/* --- the whole --- */

static void add_targets(struct ingest_load *l)
{
	l->ntargets = 1 + l->shape->nchildren;
	l->targets = duct_xcalloc(l->ntargets, sizeof *l->targets);
	l->targets[0].shape = l->shape;
	for (size_t i = 0; i < l->shape->nchildren; i++)
		l->targets[i + 1].shape = l->shape->children[i];
}

/* The commit may have been made although an error came back: only files of a run that surely failed may go, and those of any other are
 * orphans at worst. */
static void done(struct ingest_load *l, bool keep_files)
{
	for (size_t i = 0; i < l->ntargets; i++)
		ingest_unwrite(&l->targets[i], keep_files);
	free(l->targets);
	ingest_shape_free(l->shape);
	ingest_pages_done(&l->pages);
	ingest_keys_done(&l->keys);
	ingest_keys_done(&l->gone);
	lake_points_free(l->points);
	duck_disconnect(l->conn);
	duck_close(l->duck);
}

int ingest_rest(const struct ingest_spec *spec, const struct ingest_window *window, struct lake *lake, const struct duct_ctx *ctx,
		const struct ingest_report *report, struct ingest_result *ret, struct duct_error *err)
{
	struct ingest_window w = *window;
	struct duct_checkpoint left;
	*ret = (struct ingest_result){.snapshot_id = -1};
	if (spec->incremented) {
		lake_checkpoint(lake, &left);
		snprintf(ret->cursor, sizeof ret->cursor, "%s",
			 *left.source_identity		     ? left.source_identity
				 : spec->incremental.initial ? spec->incremental.initial
							     : "");
	}
	AUTO_FREE char *cursor = spec->incremented ? duct_xstrdup(ret->cursor) : NULL;
	w.cursor = cursor;
	struct ingest_load l = {
		.spec = spec, .window = &w, .lake = lake, .ctx = ctx, .report = report, .result = ret, .pages.fd = -1};
	l.shape = ingest_shape_new(spec, spec->table);
	l.duck = duck_open();
	l.conn = duck_connect(l.duck);
	l.points = lake_points_new();
	int rc = ingest_fetch(spec, &w, ctx, take_page, &l, &ret->fetched, err);
	if (!rc) {
		add_targets(&l);
		report->progress(report->arg, l.shape->rows, "rows", "writing");
		rc = ingest_commit(&l, err);
	}
	done(&l, rc != -DUCT_DATA && rc != -DUCT_CONFIG);
	return rc;
}
