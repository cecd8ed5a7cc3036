/* What a REST source may answer, and what an ingestion file may say: JSON and columns, Link headers, paths, the file. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct duct_buf text = {0}, to = {0};
	const struct ingest_window window = {"2024-10-15", 0, INT64_C(86400000000), "c"};
	struct ingest_spec spec;
	struct duct_error err;
	duct_buf_append(&text, data, size);
	use_json(text.data, size);
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
