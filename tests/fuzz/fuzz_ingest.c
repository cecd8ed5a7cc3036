/* What a REST source may answer, and what an ingestion file may say: JSON, columns and tables of lists, Link headers, paths, the file. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/fetch.h"
#include "ingest/shape.h"

static void use_value(const struct json_doc *doc, const struct json_node *node)
{
	static const enum duct_kind kinds[] = {DUCT_JSON,    DUCT_VARCHAR, DUCT_BOOL,	   DUCT_INT32,	     DUCT_INT64,
					       DUCT_FLOAT64, DUCT_DATE,	   DUCT_TIMESTAMP, DUCT_TIMESTAMPTZ, DUCT_UUID};
	AUTO_BUF struct duct_buf to = {0};
	struct duct_error err;
	for (size_t i = 0; i < DUCT_LEN(kinds); i++) {
		const struct duct_type type = {.kind = kinds[i]};
		to.len = 0;
		int rc = ingest_value(&type, doc, node, &to, &err);
		if (!rc && duct_type_width(&type) && to.len != duct_type_width(&type))
			__builtin_trap();
	}
}

static void use_json(const char *text, size_t n)
{
	static const struct ingest_spec spec = {.main = {.nested = INGEST_NESTED_COLUMNS, .names = 1}};
	struct json_doc doc = {0};
	struct duct_error err;
	if (!json_parse(&doc, text, n, &err)) {
		struct ingest_shape *shape = ingest_shape_new(&spec, "t");
		if (doc.nodes[0].end != doc.n)
			__builtin_trap();
		for (uint32_t i = 0; i < doc.n; i++) {
			if (doc.nodes[i].end <= i || doc.nodes[i].at + doc.nodes[i].len > n)
				__builtin_trap();
			if (doc.nodes[i].kind == JSON_KIND_OBJECT && !ingest_shape_take(shape, &doc, &doc.nodes[i], &err)) {
				int rc = ingest_shape_learn(shape, &doc, i, &err);
				(void)rc; /* types that do not go together are no fault */
			}
			use_value(&doc, &doc.nodes[i]);
		}
		ingest_shape_free(shape);
	}
	json_done(&doc);
}

/* --- records as they become rows of a table and of those of its lists --- */

/* One record or item; what was learned must do for it. */
static int use_row(struct ingest_shape *shape, const struct json_doc *doc, bool learns, int64_t row)
{
	struct duct_error err;
	if (learns)
		return ingest_shape_learn(shape, doc, row, &err);
	for (size_t i = 0; i < shape->ncolumns; i++) {
		const struct ingest_column *c = &shape->columns[i];
		AUTO_BUF struct duct_buf to = {0};
		if (!c->value || c->value->kind == JSON_KIND_NULL)
			continue;
		if (!c->type.kind) /* a column of the parent's key that has no value there, either */
			__builtin_trap();
		duct_buf_room(&to, 1);
		/* Numbers out of every type's range are refused, nothing else. */
		if (ingest_value(&c->type, doc, c->value, &to, &err) && err.class != DUCT_DATA)
			__builtin_trap();
	}
	return 0;
}

static int use_record(struct ingest_shape *shape, const struct json_doc *doc, const struct json_node *record, bool learns)
{
	struct duct_error err;
	int rc = ingest_shape_take(shape, doc, record, &err);
	rc = rc ? rc : use_row(shape, doc, learns, 1);
	for (size_t i = 0; i < shape->nlists && !rc; i++) {
		const struct ingest_list *list = &shape->lists[i];
		const struct json_node *item = list->list + 1, *end = doc->nodes + list->list->end;
		for (; item < end && !rc; item = doc->nodes + item->end) {
			rc = ingest_shape_take_item(list->shape, doc, item, &err);
			rc = rc ? rc : use_row(list->shape, doc, learns, 1);
		}
	}
	return rc;
}

static void settle(struct ingest_shape *shape)
{
	struct duct_error err;
	bool retype;
	if (shape->parent)
		ingest_shape_bind_keys(shape);
	for (size_t i = 0; i < shape->ncolumns; i++)
		if (ingest_column_settle(&shape->columns[i], NULL, &retype, &err) || retype)
			__builtin_trap();
	for (size_t i = 0; i < shape->nchildren; i++)
		settle(shape->children[i]);
}

/* As a run does it: all records of an answer are learned, then written. */
static void use_nested(const char *text, size_t n, enum ingest_nested nested)
{
	static char id[] = "id", a[] = "a";
	static char *keys[] = {id, a, NULL};
	const struct ingest_spec spec = {.main = {.nested = (int)nested, .names = 1, .merge_key = keys, .write = INGEST_MERGE}};
	struct json_doc doc = {0};
	struct duct_error err;
	if (json_parse(&doc, text, n, &err) == 0) {
		struct ingest_shape *shape = ingest_shape_new(&spec, "t");
		bool list = doc.nodes[0].kind == JSON_KIND_ARRAY;
		uint32_t from = list ? 1 : 0;
		int rc = 0;
		for (uint32_t i = from; i < doc.n && !rc; i = doc.nodes[i].end)
			rc = use_record(shape, &doc, &doc.nodes[i], true);
		if (!rc)
			settle(shape);
		for (uint32_t i = from; i < doc.n && !rc; i = doc.nodes[i].end)
			if (use_record(shape, &doc, &doc.nodes[i], false))
				__builtin_trap();
		ingest_shape_free(shape);
	}
	json_done(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct duct_buf text = {0}, to = {0};
	const struct ingest_window window = {.key = "2024-10-15", .end_us = INT64_C(86400000000), .cursor = "c"};
	struct ingest_spec spec;
	struct duct_error err;
	duct_buf_append(&text, data, size);
	use_json(text.data, size);
	use_nested(text.data, size, INGEST_NESTED_TABLES);
	use_nested(text.data, size, INGEST_NESTED_COLUMNS);
	use_nested(text.data, size, INGEST_NESTED_JSON);
	(void)ingest_link_next(text.data, &to);
	to.len = 0;
	(void)ingest_follow("http://h/a/b?c", text.data, &to);
	if (json_path_check(text.data, &err) == 0) {
		static const char sample[] = "{\"a\": [{\"b\": 1}]}";
		struct json_doc doc = {0};
		if (!json_parse(&doc, sample, sizeof sample - 1, &err))
			(void)json_find(&doc, doc.nodes, text.data, NULL);
		json_done(&doc);
	}
	to.len = 0;
	int rc = ingest_expand(&to, text.data, &window, &err);
	rc = ingest_spec_parse(&spec, text.data, size, "f", NULL, &err);
	(void)rc; /* whatever it is, it is said, and nothing breaks */
	ingest_spec_done(&spec);
	return 0;
}
