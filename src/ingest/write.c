/* Records to rows: batches for the catalog itself, or Parquet files aside. */
#include "ingest/load.h"
#include "ingest/prune.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "record/format.h"

enum { BATCH_ROWS = 8192 };

struct feed {
	struct ingest_load *l;
	struct ingest_target *target;
	struct ingest_cursor cursor;
	struct duct_batch *batch;
	struct duct_buf value, key;
	struct lake_row_ref *refs;
	uint64_t seq;
};

/* --- keys --- */

void ingest_key_part(struct duct_buf *key, const struct duct_type *type, struct duct_cell cell)
{
	size_t from = key->len;
	uint32_t n = 0;
	duct_buf_append(key, &n, sizeof n);
	if (type->kind == DUCT_VARCHAR || type->kind == DUCT_JSON)
		duct_buf_append(key, cell.data, cell.len);
	else
		duct_format_value(key, type, cell);
	n = (uint32_t)(key->len - from - sizeof n);
	memcpy(key->data + from, &n, sizeof n);
}

/* Of the record at hand of the root. */
static int record_key(struct ingest_load *l, const struct json_doc *doc, int64_t row, struct duct_buf *value, struct duct_buf *key,
		      struct duct_error *err)
{
	key->len = 0;
	for (char *const *name = l->spec->main.merge_key; *name; name++) {
		int at = ingest_shape_column(l->shape, *name);
		const struct ingest_column *c = at < 0 ? NULL : &l->shape->columns[at];
		if (!c || !c->value || c->value->kind == JSON_KIND_NULL)
			return duct_fail(err, DUCT_DATA, "row %" PRId64 ": merge_key: it has no \"%s\"", row, *name);
		value->len = 0;
		duct_buf_room(value, 1);
		if (ingest_value(&c->type, doc, c->value, value, err))
			return duct_wrap(err, "row %" PRId64 ": column \"%s\"", row, c->name);
		ingest_key_part(key, &c->type, (struct duct_cell){value->data, (uint32_t)value->len});
	}
	return 0;
}

int ingest_collect_keys(struct ingest_load *l, struct duct_error *err)
{
	struct ingest_cursor cursor = {.pages = &l->pages, .spec = l->spec};
	AUTO_BUF struct duct_buf value = {0}, key = {0};
	const struct json_node *record;
	int rc;
	ingest_keys_done(&l->keys);
	while ((rc = ingest_cursor_next(&cursor, &record, err)) > 0) {
		rc = ingest_shape_take(l->shape, &cursor.doc, record, err);
		rc = rc ? rc : record_key(l, &cursor.doc, cursor.row, &value, &key, err);
		if (rc)
			break;
		(void)ingest_keys_put(&l->keys, key.data, key.len, cursor.row);
	}
	ingest_cursor_done(&cursor);
	return rc;
}

/* --- rows --- */

/* A row that is put beside a partition's old rows and is none of them would be there twice after the next run. */
static bool is_watched(const struct feed *f, const struct ingest_shape *shape, const struct ingest_column *c)
{
	const struct ingest_spec *spec = f->l->spec;
	return spec->main.write == INGEST_REPLACE && f->l->window->key && spec->partition.column && !shape->parent &&
		strcasecmp(c->name, spec->partition.column) == 0;
}

static int refuse_stranger(const struct feed *f, const struct ingest_column *c, struct duct_error *err)
{
	const struct json_doc *doc = &f->cursor.doc;
	const char *text = c->value ? doc->text + c->value->at : "null";
	size_t n = c->value ? c->value->len : 4;
	return duct_fail(err, DUCT_DATA,
			 "row %" PRId64
			 ": column \"%s\": %.*s is not in partition %s: every run would add this record once more (write: "
			 "replace): ask for those of the partition alone, or merge by a key (write: merge)",
			 f->cursor.row, c->name, (int)(n < 60 ? n : 60), text, f->l->window->key);
}

static int put_row(struct feed *f, struct ingest_shape *shape, int64_t index, struct duct_error *err)
{
	int column = 0;
	(void)duct_batch_add_row(f->batch, DUCT_READ, f->seq++);
	for (size_t i = 0; i < shape->ncolumns; i++) {
		const struct ingest_column *c = &shape->columns[i];
		if (!c->type.kind)
			continue;
		struct duct_vector *v = &f->batch->columns[column++];
		if (index >= 0 && strcmp(c->name, "_index") == 0) {
			duct_vector_append_cell(f->batch, v, (struct duct_cell){(const char *)&index, sizeof index});
			continue;
		}
		bool watched = is_watched(f, shape, c);
		if (!c->value || c->value->kind == JSON_KIND_NULL) {
			if (watched)
				return refuse_stranger(f, c, err);
			duct_vector_append_null(f->batch, v);
			continue;
		}
		f->value.len = 0;
		duct_buf_room(&f->value, 1);
		if (ingest_value(&c->type, &f->cursor.doc, c->value, &f->value, err))
			return duct_wrap(err, "row %" PRId64 ": column \"%s\"", f->cursor.row, c->name);
		struct duct_cell cell = {f->value.data, (uint32_t)f->value.len};
		if (watched && !ingest_in_window(f->l->window, &c->type, f->l->spec->partition.unit, cell))
			return refuse_stranger(f, c, err);
		duct_vector_append_cell(f->batch, v, cell);
	}
	f->target->rows++;
	return 0;
}

/* Items of the lists of the record at hand that go to the target's table. */
static int put_items(struct feed *f, struct duct_error *err)
{
	struct ingest_shape *root = f->l->shape;
	for (size_t i = 0; i < root->nlists; i++) {
		const struct ingest_list *list = &root->lists[i];
		int64_t index = 0;
		if (list->shape != f->target->shape)
			continue;
		const struct json_node *nodes = f->cursor.doc.nodes, *item = list->list + 1, *end = nodes + list->list->end;
		for (; item < end; item = nodes + item->end, index++)
			if (ingest_shape_take_item(list->shape, &f->cursor.doc, item, err) || put_row(f, list->shape, index, err))
				return -(int)err->class;
	}
	return 0;
}

/* Whether a later record of the same key takes this one's place. */
static int is_outdone(struct feed *f, bool *ret, struct duct_error *err)
{
	*ret = false;
	if (!ingest_is_keyed(f->l))
		return 0;
	if (record_key(f->l, &f->cursor.doc, f->cursor.row, &f->value, &f->key, err))
		return -(int)err->class;
	const int64_t *row = ingest_keys_get(&f->l->keys, f->key.data, f->key.len);
	*ret = !row || *row != f->cursor.row;
	return 0;
}

/* A batch of the next rows, NULL at the end. */
static int next_batch(struct feed *f, struct duct_batch **ret, struct duct_error *err)
{
	const struct json_node *record;
	bool outdone;
	int rc = 1;
	*ret = NULL;
	f->batch = duct_batch_new(f->target->relation, 1024);
	while (f->batch->rows < BATCH_ROWS && (rc = ingest_cursor_next(&f->cursor, &record, err)) > 0) {
		if (ingest_shape_take(f->l->shape, &f->cursor.doc, record, err) || is_outdone(f, &outdone, err) ||
		    (!outdone && (f->target->shape == f->l->shape ? put_row(f, f->l->shape, -1, err) : put_items(f, err)))) {
			rc = -(int)err->class;
			break;
		}
	}
	if (rc < 0 || !f->batch->rows) {
		duct_batch_unref(f->batch);
		return rc < 0 ? rc : 0;
	}
	duct_batch_seal(f->batch);
	*ret = f->batch;
	return 0;
}

static int next_rows(void *arg, const struct lake_row_ref **ret_rows, const int64_t **ret_row_ids, size_t *ret_n,
		     struct duct_error *err)
{
	struct feed *f = arg;
	struct ingest_target *t = f->target;
	struct duct_batch *batch;
	(void)ret_row_ids;
	*ret_n = 0;
	if (duct_ctx_stopped(f->l->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	for (size_t i = 0; i < t->nbatches; i++)
		duct_batch_unref(t->batches[i]);
	t->nbatches = 0;
	if (next_batch(f, &batch, err))
		return -(int)err->class;
	if (!batch)
		return 0;
	t->batches = duct_grow(t->batches, &t->batches_cap, 1, sizeof(struct duct_batch *));
	t->batches[t->nbatches++] = batch;
	f->refs = duct_xrealloc(f->refs, batch->rows * sizeof *f->refs);
	for (uint32_t i = 0; i < batch->rows; i++)
		f->refs[i] = (struct lake_row_ref){batch, i};
	*ret_rows = f->refs;
	*ret_n = batch->rows;
	return 0;
}

static const int *map_of(void *arg, const struct duct_relation *relation)
{
	const struct feed *f = arg;
	(void)relation;
	return f->target->map;
}

static int write_files(struct feed *f, struct duct_error *err)
{
	struct ingest_target *t = f->target;
	const struct lake_write_spec spec = {.dir = lake_txn_table_path(t->t),
					     .columns = t->columns,
					     .ncolumns = t->ncolumns,
					     .compression = "zstd",
					     .max_bytes = UINT64_C(256) << 20};
	const struct lake_rows rows = {.next = next_rows, .map = map_of, .arg = f};
	for (bool more = true; more;) {
		struct lake_new_file *file = NULL;
		if (lake_store_write(f->l->place->store, &spec, &rows, &file, &more, err))
			return -(int)err->class;
		if (!file)
			continue;
		t->files = duct_grow(t->files, &t->files_cap, t->nfiles + 1, sizeof(struct lake_new_file *));
		t->files[t->nfiles++] = file;
	}
	return 0;
}

/* All rows in memory: they are few. */
static int hold_rows(struct feed *f, struct duct_error *err)
{
	struct ingest_target *t = f->target;
	for (struct duct_batch *batch;;) {
		if (next_batch(f, &batch, err))
			return -(int)err->class;
		if (!batch)
			return 0;
		t->batches = duct_grow(t->batches, &t->batches_cap, t->nbatches + 1, sizeof(struct duct_batch *));
		t->batches[t->nbatches++] = batch;
	}
}

/* --- the whole --- */

static void build_relation(struct ingest_target *t)
{
	const struct ingest_shape *shape = t->shape;
	struct duct_relation *rel = t->relation = duct_relation_new();
	rel->schema = duct_arena_strdup(&rel->arena, shape->spec->schema);
	rel->name = duct_arena_strdup(&rel->arena, shape->table);
	rel->columns = duct_arena_zalloc(&rel->arena, (shape->ncolumns + 1) * sizeof *rel->columns);
	for (size_t i = 0; i < shape->ncolumns; i++)
		if (shape->columns[i].type.kind)
			rel->columns[rel->ncolumns++] =
				(struct duct_column){.name = duct_arena_strdup(&rel->arena, shape->columns[i].name),
						     .type = duct_type_copy(&rel->arena, &shape->columns[i].type)};
	t->map = duct_xcalloc((size_t)t->ncolumns + 1, sizeof *t->map);
	t->written_ids = duct_xcalloc((size_t)t->ncolumns + 1, sizeof *t->written_ids);
	t->nwritten_ids = t->ncolumns;
	for (int i = 0; i < t->ncolumns; i++) {
		t->written_ids[i] = t->columns[i].id;
		t->map[i] = -1;
		for (int c = 0; c < rel->ncolumns; c++)
			if (strcasecmp(rel->columns[c].name, t->columns[i].name) == 0)
				t->map[i] = c;
	}
}

void ingest_begin_write(struct ingest_load *l, struct ingest_target *t)
{
	ingest_unwrite(l, t, false);
	build_relation(t);
}

void ingest_unwrite(struct ingest_load *l, struct ingest_target *t, bool keep_files)
{
	for (size_t i = 0; i < t->nbatches; i++)
		duct_batch_unref(t->batches[i]);
	for (size_t i = 0; i < t->nfiles; i++) {
		if (!keep_files)
			lake_store_remove(l->place->store, t->files[i]->path);
		lake_new_file_free(t->files[i]);
	}
	t->nbatches = t->nfiles = 0;
	free(duct_steal(&t->batches));
	free(duct_steal(&t->files));
	free(duct_steal(&t->map));
	free(duct_steal(&t->written_ids));
	t->batches_cap = t->files_cap = 0;
	duct_relation_unref(t->relation);
	t->relation = NULL;
	t->rows = 0;
}

int ingest_write(struct ingest_load *l, struct ingest_target *target, struct duct_error *err)
{
	struct feed f = {.l = l, .target = target, .cursor = {.pages = &l->pages, .spec = l->spec}};
	bool few = target->shape->rows <= l->spec->main.inline_rows;
	ingest_begin_write(l, target);
	int rc = few ? hold_rows(&f, err) : write_files(&f, err);
	ingest_cursor_done(&f.cursor);
	duct_buf_done(&f.value);
	duct_buf_done(&f.key);
	free(f.refs);
	return rc;
}

struct held {
	struct ingest_target *target;
	struct lake_row_ref *refs;
	size_t at;
};

static int next_held(void *arg, const struct lake_row_ref **ret_rows, const int64_t **ret_row_ids, size_t *ret_n,
		     struct duct_error *err)
{
	struct held *h = arg;
	(void)ret_row_ids;
	(void)err;
	*ret_n = 0;
	if (h->at == h->target->nbatches)
		return 0;
	struct duct_batch *batch = h->target->batches[h->at++];
	h->refs = duct_xrealloc(h->refs, batch->rows * sizeof *h->refs);
	for (uint32_t i = 0; i < batch->rows; i++)
		h->refs[i] = (struct lake_row_ref){batch, i};
	*ret_rows = h->refs;
	*ret_n = batch->rows;
	return 0;
}

static const int *map_of_held(void *arg, const struct duct_relation *relation)
{
	const struct held *h = arg;
	(void)relation;
	return h->target->map;
}

int ingest_write_held(struct ingest_load *l, struct ingest_target *t, struct duct_error *err)
{
	struct held held = {.target = t};
	const struct lake_write_spec spec = {.dir = lake_txn_table_path(t->t),
					     .columns = t->columns,
					     .ncolumns = t->ncolumns,
					     .compression = "zstd"};
	const struct lake_rows rows = {.next = next_held, .map = map_of_held, .arg = &held};
	struct lake_new_file *file = NULL;
	bool more;
	int rc = lake_store_write(l->place->store, &spec, &rows, &file, &more, err);
	free(held.refs);
	if (rc || !file)
		return rc;
	t->files = duct_grow(t->files, &t->files_cap, t->nfiles + 1, sizeof(struct lake_new_file *));
	t->files[t->nfiles++] = file;
	return 0;
}
