/* A run of a REST source: pages in, columns learned, one commit. */
#include "ingest/load.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

/* --- the cursor --- */

/* A number as JSON writes them. */
static bool is_number(const char *s)
{
	char *end;
	if (!isdigit((unsigned char)s[*s == '-']) || strspn(s, "0123456789.eE+-") != strlen(s))
		return false;
	(void)strtod(s, &end);
	return !*end;
}

/* Digits of a whole number behind its sign and zeros; NULL: it is none. */
static const char *whole_digits(const char *s)
{
	s += *s == '-';
	const char *digits = s + strspn(s, "0");
	return *s && !s[strspn(s, "0123456789")] ? digits : NULL;
}

static int compare_whole(const char *a, const char *b, const char *da, const char *db)
{
	bool minus_a = *a == '-' && *da, minus_b = *b == '-' && *db;
	size_t na = strlen(da), nb = strlen(db);
	int c = na != nb ? (na > nb ? 1 : -1) : strcmp(da, db);
	if (minus_a != minus_b)
		return minus_a ? -1 : 1;
	return minus_a ? -c : c;
}

/* Without the Z of an ISO time, behind which one with a fraction would come first. */
static size_t text_length(const char *s)
{
	size_t n = strlen(s);
	return n > 10 && s[10] == 'T' && s[n - 1] == 'Z' ? n - 1 : n;
}

/* Numbers by their value, all else as text: so ISO times come in their order. */
static bool is_greater(const char *a, const char *b)
{
	const char *da = whole_digits(a), *db = whole_digits(b);
	if (da && db)
		return compare_whole(a, b, da, db) > 0;
	if (is_number(a) && is_number(b))
		return strtod(a, NULL) > strtod(b, NULL);
	size_t na = text_length(a), nb = text_length(b);
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
	if (!*cursor || is_greater(text.data, cursor))
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

/* A server that does not heed what we ask for gives the same page for ever. */
static int look_for_repeats(struct ingest_load *l, uint64_t sum, int64_t records, struct duct_error *err)
{
	enum { MOST = 2 };
	l->repeats = records && l->pages.n && sum == l->last_page ? l->repeats + 1 : 0;
	l->last_page = sum;
	return l->repeats < MOST
		? 0
		: duct_fail(err, DUCT_DATA,
			    "page %zu is the same as the %d before it: the server does not heed which one is asked "
			    "for (paging)",
			    l->pages.n + 1, MOST);
}

static int take_page(void *arg, const struct json_doc *doc, struct duct_buf *body, int64_t *ret_records, struct duct_error *err)
{
	struct ingest_load *l = arg;
	uint32_t at, end;
	uint64_t sum = 0;
	if (ingest_records(l->spec, doc, &at, &end, err))
		return -(int)err->class;
	for (; at < end; at = doc->nodes[at].end) {
		const struct json_node *record = &doc->nodes[at];
		if (ingest_shape_take(l->shape, doc, record, err) || ingest_shape_learn(l->shape, doc, l->shape->rows + 1, err) ||
		    learn_items(l, doc, err) || (l->spec->incremented && move_cursor(l, doc, record, err)))
			return -(int)err->class;
		sum = XXH3_64bits_withSeed(doc->text + record->at, record->len, sum);
		++*ret_records;
	}
	if (look_for_repeats(l, sum, *ret_records, err))
		return -(int)err->class;
	l->report->progress(l->report->arg, l->shape->rows, "rows", "reading");
	return ingest_pages_add(&l->pages, body, err);
}

/* --- the whole --- */

/* A table of the lake that an earlier run made of lists in these records. */
static bool is_child(const struct ingest_load *l, const struct lake_table *t)
{
	const struct ingest_spec *spec = l->spec;
	size_t n = strlen(spec->table);
	bool child = strcasecmp(t->schema, spec->schema) == 0 && strncasecmp(t->name, spec->table, n) == 0 &&
		strncmp(t->name + n, "__", 2) == 0 && lake_find_column(t->columns, t->ncolumns, "_index");
	for (char *const *key = spec->main.merge_key; child && *key; key++) {
		AUTO_FREE char *name = duct_xasprintf("_parent_%s", *key);
		child = lake_find_column(t->columns, t->ncolumns, name);
	}
	return child;
}

/* A child of "orders__x" is none of "orders", where "orders__x" is itself none. */
static bool is_of_another(const struct ingest_load *l, const struct lake_table *t)
{
	size_t n = strlen(l->spec->table);
	for (const struct lake_table *other = NULL; (other = lake_next_table(l->lake, other));) {
		size_t m = strlen(other->name);
		if (m > n && strcasecmp(other->schema, t->schema) == 0 && strncasecmp(t->name, other->name, m) == 0 &&
		    strncmp(t->name + m, "__", 2) == 0 && !is_child(l, other))
			return true;
	}
	return false;
}

/* Child tables of which no record had a list this time: rows of records that are replaced go there, too. */
static void add_known_children(struct ingest_load *l)
{
	if (l->spec->main.nested != INGEST_NESTED_TABLES || l->spec->main.write == INGEST_APPEND)
		return;
	for (const struct lake_table *t = NULL; (t = lake_next_table(l->lake, t));)
		if (is_child(l, t) && !ingest_shape_has_child(l->shape, t->name) && !is_of_another(l, t))
			(void)ingest_shape_child(l->shape, t->name);
}

static void add_targets(struct ingest_load *l)
{
	add_known_children(l);
	l->ntargets = 1 + l->shape->nchildren;
	l->targets = duct_xcalloc(l->ntargets, sizeof *l->targets);
	l->targets[0].shape = l->shape;
	for (size_t i = 0; i < l->shape->nchildren; i++)
		l->targets[i + 1].shape = l->shape->children[i];
}

void ingest_load_init(struct ingest_load *l, const struct ingest_spec *spec, const struct ingest_window *window,
		      struct ingest_place *place, const struct duct_ctx *ctx, const struct ingest_report *report,
		      struct ingest_result *result)
{
	*l = (struct ingest_load){.spec = spec,
				  .window = window,
				  .place = place,
				  .lake = place->lake,
				  .ctx = ctx,
				  .report = report,
				  .result = result,
				  .shape = ingest_shape_new(spec, spec->table),
				  .points = lake_points_new(),
				  .pages.fd = -1};
}

/* The commit may have been made although an error came back: only files of a run that surely failed may go, and those of any other are
 * orphans at worst. */
void ingest_load_done(struct ingest_load *l, bool keep_files)
{
	for (size_t i = 0; i < l->ntargets; i++)
		ingest_unwrite(l, &l->targets[i], keep_files);
	free(l->targets);
	ingest_shape_free(l->shape);
	ingest_pages_done(&l->pages);
	ingest_keys_done(&l->keys);
	ingest_keys_done(&l->gone);
	lake_points_free(l->points);
	duck_disconnect(l->conn);
	duck_close(l->duck);
}

int ingest_allow(struct ingest_load *l, const char *path, struct duct_error *err)
{
	if (l->allowed || !s3_is_url(path))
		return 0;
	int rc = ingest_place_allow(l->place, l->conn, err);
	l->allowed = !rc;
	return rc;
}

int ingest_rest(const struct ingest_spec *spec, const struct ingest_window *window, struct ingest_place *place,
		const struct duct_ctx *ctx, const struct ingest_report *report, struct ingest_result *ret, struct duct_error *err)
{
	struct ingest_window w = *window;
	struct duct_checkpoint left;
	*ret = (struct ingest_result){.snapshot_id = -1};
	if (spec->incremented) {
		lake_checkpoint(place->lake, &left);
		snprintf(ret->cursor, sizeof ret->cursor, "%s",
			 *left.source_identity		     ? left.source_identity
				 : spec->incremental.initial ? spec->incremental.initial
							     : "");
	}
	AUTO_FREE char *cursor = spec->incremented ? duct_xstrdup(ret->cursor) : NULL;
	w.cursor = cursor;
	struct ingest_load l;
	ingest_load_init(&l, spec, &w, place, ctx, report, ret);
	const struct lake_table *known = lake_find_table(l.lake, spec->schema, spec->table);
	for (int i = 0; known && i < known->ncolumns; i++)
		ingest_shape_know(l.shape, known->columns[i].name);
	l.duck = duck_open();
	l.conn = duck_connect(l.duck);
	int rc = ingest_fetch(spec, &w, ctx, take_page, &l, &ret->fetched, err);
	if (!rc) {
		add_targets(&l);
		report->progress(report->arg, l.shape->rows, "rows", "writing");
		rc = ingest_commit(&l, err);
	}
	ingest_load_done(&l, rc != -DUCT_DATA && rc != -DUCT_CONFIG);
	return rc;
}
