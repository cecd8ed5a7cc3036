/*
 * The format arrow: one Arrow IPC stream per payload, that is a schema, one record batch, the end mark. Columns of our own come first,
 * then those of the source.
 *
 *   message  u32 0xFFFFFFFF, i32 bytes of metadata with padding, Message table (FlatBuffers), body
 *   end      u32 0xFFFFFFFF, i32 0
 */
#include "wire/wire.h"

#include "wire/arrow_internal.h"

#include <assert.h>
#include <string.h>

/* Slots of the tables Message, Schema, RecordBatch, and values in them. */
enum { MESSAGE_VERSION, MESSAGE_HEADER_TYPE, MESSAGE_HEADER, MESSAGE_BODY_LENGTH };
enum { SCHEMA_ENDIANNESS, SCHEMA_FIELDS, SCHEMA_METADATA };
enum { BATCH_LENGTH, BATCH_NODES, BATCH_BUFFERS };
enum { VERSION_5 = 4, HEADER_SCHEMA = 1, HEADER_RECORD_BATCH = 3 };

/* Our own columns. */
enum { OP, TS, SCHEMA_VERSION, TABLE, NAMESPACE, KEY, BEFORE, UNCHANGED, LSN, DDL, OWN };

static const struct duct_type text_child = {.kind = DUCT_VARCHAR, .name = "element"};
static const struct {
	const char *name;
	struct duct_type type;
	bool nullable;
} own[OWN] = {
	[OP] = {"__op", {.kind = DUCT_VARCHAR}, false},
	[TS] = {"__ts", {.kind = DUCT_TIMESTAMPTZ}, true},
	[SCHEMA_VERSION] = {"__schema_version", {.kind = DUCT_INT64}, false},
	[TABLE] = {"__table", {.kind = DUCT_VARCHAR}, true},
	[NAMESPACE] = {"__namespace", {.kind = DUCT_VARCHAR}, true},
	[KEY] = {"__key", {.kind = DUCT_BLOB}, true},
	[BEFORE] = {"__before_json", {.kind = DUCT_BLOB}, true},
	[UNCHANGED] = {"__unchanged", {.kind = DUCT_LIST, .nchildren = 1, .children = &text_child}, false},
	[LSN] = {"__lsn", {.kind = DUCT_UINT64}, true},
	[DDL] = {"__ddl", {.kind = DUCT_VARCHAR}, true},
};

static int check_names(const struct duct_relation *rel, struct duct_error *err)
{
	for (int i = 0; i < rel->ncolumns; i++)
		for (int k = 0; k < OWN; k++)
			if (strcmp(rel->columns[i].name, own[k].name) == 0)
				return duct_fail(
					err, DUCT_CONFIG,
					"column \"%s\" of \"%s\".\"%s\" has the name of a column that wire format arrow adds: rename "
					"it, or use json",
					own[k].name, rel->schema, rel->name);
	return 0;
}

static void write_message(struct duct_buf *to, struct flat_builder *b, int header_type, uint32_t header,
			  const struct duct_buf *body)
{
	static const uint32_t mark = 0xFFFFFFFF;
	size_t len;
	flat_begin(b);
	flat_i64(b, MESSAGE_BODY_LENGTH, body ? (int64_t)body->len : 0);
	flat_ref(b, MESSAGE_HEADER, header);
	flat_i16(b, MESSAGE_VERSION, VERSION_5);
	flat_u8(b, MESSAGE_HEADER_TYPE, (uint8_t)header_type);
	const char *metadata = flat_finish(b, flat_end(b), &len);
	int32_t size = (int32_t)len;
	duct_buf_append(to, &mark, sizeof mark);
	duct_buf_append(to, &size, sizeof size);
	duct_buf_append(to, metadata, len);
	if (body && body->len)
		duct_buf_append(to, body->data, body->len);
}

static void write_schema(struct duct_buf *to, const struct duct_relation *rel)
{
	struct flat_builder b = {0};
	AUTO_FREE uint32_t *fields = duct_xcalloc((size_t)OWN + (size_t)rel->ncolumns, sizeof *fields);
	for (int i = 0; i < OWN; i++)
		fields[i] = arrow_field(&b, own[i].name, &own[i].type, own[i].nullable, NULL);
	for (int i = 0; i < rel->ncolumns; i++)
		fields[OWN + i] = arrow_field(&b, rel->columns[i].name, &rel->columns[i].type, true, rel->columns[i].source_type);
	uint32_t all = flat_refs(&b, fields, (size_t)OWN + (size_t)rel->ncolumns);
	flat_begin(&b);
	flat_ref(&b, SCHEMA_FIELDS, all);
	flat_i16(&b, SCHEMA_ENDIANNESS, 0);
	write_message(to, &b, HEADER_SCHEMA, flat_end(&b), NULL);
	flat_done(&b);
}

static void write_batch(struct duct_buf *to, const struct arrow_column *columns, int n, uint32_t rows)
{
	struct flat_builder b = {0};
	struct arrow_body body = {0};
	for (int i = 0; i < n; i++)
		arrow_column_write(&body, &columns[i]);
	uint32_t buffers = flat_longs(&b, body.buffers, body.nbuffers, 2);
	uint32_t nodes = flat_longs(&b, body.nodes, body.nnodes, 2);
	flat_begin(&b);
	flat_i64(&b, BATCH_LENGTH, rows);
	flat_ref(&b, BATCH_NODES, nodes);
	flat_ref(&b, BATCH_BUFFERS, buffers);
	write_message(to, &b, HEADER_RECORD_BATCH, flat_end(&b), &body.bytes);
	arrow_body_done(&body);
	flat_done(&b);
}

static void append_text(struct arrow_column *c, const char *s)
{
	arrow_column_append(c, (struct duct_cell){s, (uint32_t)strlen(s)});
}

static void append_buf(struct arrow_column *c, const struct duct_buf *text)
{
	arrow_column_append(c, (struct duct_cell){text->len ? text->data : NULL, (uint32_t)text->len});
}

static void append_number(struct arrow_column *c, uint64_t v, bool valid)
{
	arrow_column_append(c, (struct duct_cell){valid ? (const char *)&v : NULL, sizeof v});
}

static void append_own(struct arrow_column *columns, const struct wire_rows *rows, uint32_t row, struct duct_buf *scratch)
{
	const struct duct_batch *b = rows->batch;
	struct duct_pos pos = wire_row_pos(rows, row);
	append_text(&columns[OP], wire_operation(b->op[row]));
	append_number(&columns[TS], (uint64_t)pos.commit_us, pos.commit_us != 0);
	append_number(&columns[SCHEMA_VERSION], b->relation->version, true);
	append_text(&columns[TABLE], b->relation->name);
	append_text(&columns[NAMESPACE], b->relation->schema);
	scratch->len = 0;
	wire_json_key(scratch, b, row);
	append_buf(&columns[KEY], scratch);
	scratch->len = 0;
	(void)wire_json_before(scratch, b, row);
	append_buf(&columns[BEFORE], scratch);
	for (int i = 0; i < b->relation->ncolumns; i++)
		if (wire_unchanged(b, row, i)) {
			const char *name = b->relation->columns[i].name;
			arrow_list_add(&columns[UNCHANGED], (struct duct_cell){name, (uint32_t)strlen(name)});
		}
	arrow_list_end(&columns[UNCHANGED]);
	append_number(&columns[LSN], pos.lsn, pos.lsn != 0);
	scratch->len = 0;
	if (b->op[row] == DUCT_TRUNCATE)
		wire_truncate_statement(scratch, b->relation);
	append_buf(&columns[DDL], scratch);
}

static int fill(struct arrow_column *columns, const struct wire_rows *rows, struct duct_error *err)
{
	const struct duct_relation *rel = rows->batch->relation;
	AUTO_BUF struct duct_buf scratch = {0};
	for (uint32_t i = 0; i < rows->count; i++)
		append_own(columns, rows, rows->first + i, &scratch);
	for (int c = 0; c < rel->ncolumns; c++)
		for (uint32_t i = 0; i < rows->count; i++)
			arrow_column_append(&columns[OWN + c], duct_vector_cell(&rows->batch->columns[c], rows->first + i));
	for (int c = 0; c < OWN + rel->ncolumns; c++)
		if (arrow_column_too_large(&columns[c]))
			return duct_fail(
				err, DUCT_DATA,
				"column \"%s\" of \"%s\".\"%s\" has more than 2 GiB in one batch, which wire format arrow cannot hold: "
				"make batches smaller, or use json",
				c < OWN ? own[c].name : rel->columns[c - OWN].name, rel->schema, rel->name);
	return 0;
}

static int encode(struct duct_buf *to, const struct wire_rows *rows, struct duct_error *err)
{
	static const uint32_t end[2] = {0xFFFFFFFF, 0};
	const struct duct_relation *rel = rows->batch->relation;
	int n = OWN + rel->ncolumns;
	assert(rows->first + rows->count <= rows->batch->rows);
	if (!rows->count)
		return 0;
	if (check_names(rel, err))
		return -(int)DUCT_CONFIG;
	AUTO_FREE struct arrow_column *columns = duct_xcalloc((size_t)n, sizeof *columns);
	for (int i = 0; i < n; i++)
		arrow_column_init(&columns[i], i < OWN ? &own[i].type : &rel->columns[i - OWN].type);
	int rc = fill(columns, rows, err);
	if (rc == 0) {
		write_schema(to, rel);
		write_batch(to, columns, n, rows->count);
		duct_buf_append(to, end, sizeof end);
	}
	for (int i = 0; i < n; i++)
		arrow_column_done(&columns[i]);
	return rc;
}

const struct wire_format wire_arrow = {
	.name = "arrow",
	.content_type = "application/vnd.apache.arrow.stream",
	.encode = encode,
};
