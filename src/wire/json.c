/*
 * The format json: one object per payload, with the names that consumers of the Go program know.
 *
 *   {"Records":[{Table, Operation, SchemaVersion, Key, Payload, Before, After, Unchanged, DDL, DDLPlan, Timestamp, LSN}],
 *    "Schema":{Name, Namespace, Version, Columns:[{Name, Type, Nullable, Generated, Expression, TypeMetadata}], QuotedIdentifiers},
 *    "Checkpoint":{LSN, Timestamp, Metadata}, "WireFormat":"json"}
 */
#include "wire/wire.h"

#include "base/base64.h"
#include "record/format.h"

#include <assert.h>
#include <string.h>

static void put_string(struct duct_buf *to, const char *s)
{
	duct_buf_json_string(to, s, strlen(s));
}

/* What Go makes of no time. */
static void put_time(struct duct_buf *to, int64_t us)
{
	static const struct duct_column column = {.type = {.kind = DUCT_TIMESTAMPTZ}};
	if (us)
		wire_json_value(to, &column, (struct duct_cell){(const char *)&us, sizeof us});
	else
		duct_buf_puts(to, "\"0001-01-01T00:00:00Z\"");
}

static void put_lsn(struct duct_buf *to, uint64_t lsn)
{
	char text[DUCT_LSN_LEN];
	put_string(to, lsn ? duct_lsn_format(text, lsn) : "");
}

static void put_member(struct duct_buf *to, const struct duct_column *column, struct duct_cell cell, bool *ret_first)
{
	duct_buf_putc(to, *ret_first ? '{' : ',');
	*ret_first = false;
	put_string(to, column->name);
	duct_buf_putc(to, ':');
	wire_json_value(to, column, cell);
}

/* An object of the columns, of those that were sent. Places are indexes of columns, NULL: all in their order. */
static void put_row(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, uint32_t row,
		    const int *places, int n)
{
	bool first = true;
	for (int i = 0; i < n; i++) {
		int c = places ? places[i] : i;
		if (duct_vector_is_sent(&columns[c], row))
			put_member(to, &rel->columns[c], duct_vector_cell(&columns[c], row), &first);
	}
	duct_buf_puts(to, first ? "{}" : "}");
}

static int *sorted_keys(const struct duct_relation *rel, int *ret_n)
{
	int n = rel->nkeys ? rel->nkeys : rel->ncolumns;
	int *places = duct_xmalloc(((size_t)n + 1) * sizeof *places);
	for (int i = 0; i < n; i++) {
		int place = rel->nkeys ? rel->keys[i] : i, at = i;
		for (; at > 0 && strcmp(rel->columns[places[at - 1]].name, rel->columns[place].name) > 0; at--)
			places[at] = places[at - 1];
		places[at] = place;
	}
	*ret_n = n;
	return places;
}

void wire_json_key_of(struct duct_buf *to, const struct duct_relation *rel, const struct duct_vector *columns, uint32_t row)
{
	int n;
	AUTO_FREE int *places = sorted_keys(rel, &n);
	put_row(to, rel, columns, row, places, n);
}

void wire_json_key(struct duct_buf *to, const struct duct_batch *b, uint32_t row)
{
	int32_t old = b->old_row[row];
	if (b->op[row] != DUCT_TRUNCATE)
		wire_json_key_of(to, b->relation, old < 0 ? b->columns : b->old, old < 0 ? row : (uint32_t)old);
}

bool wire_json_before(struct duct_buf *to, const struct duct_batch *b, uint32_t row)
{
	if (b->old_row[row] < 0)
		return false;
	put_row(to, b->relation, b->old, (uint32_t)b->old_row[row], NULL, b->relation->ncolumns);
	return true;
}

static void put_key(struct duct_buf *to, const struct duct_batch *b, uint32_t row)
{
	AUTO_BUF struct duct_buf key = {0};
	wire_json_key(&key, b, row);
	if (!key.len) {
		duct_buf_puts(to, "null");
		return;
	}
	duct_buf_putc(to, '"');
	duct_base64_encode(to, key.data, key.len);
	duct_buf_putc(to, '"');
}

static void put_unchanged(struct duct_buf *to, const struct duct_batch *b, uint32_t row)
{
	bool first = true;
	for (int i = 0; i < b->relation->ncolumns; i++) {
		if (!wire_unchanged(b, row, i))
			continue;
		duct_buf_putc(to, first ? '[' : ',');
		first = false;
		put_string(to, b->relation->columns[i].name);
	}
	duct_buf_puts(to, first ? "null" : "]");
}

static void put_record(struct duct_buf *to, const struct wire_rows *rows, uint32_t row)
{
	const struct duct_batch *b = rows->batch;
	struct duct_pos pos = wire_row_pos(rows, row);
	bool has_after = b->op[row] != DUCT_DELETE && b->op[row] != DUCT_TRUNCATE;
	AUTO_BUF struct duct_buf ddl = {0};
	if (b->op[row] == DUCT_TRUNCATE)
		wire_truncate_statement(&ddl, b->relation);
	duct_buf_puts(to, "{\"Table\":");
	put_string(to, b->relation->name);
	duct_buf_printf(to, ",\"Operation\":\"%s\",\"SchemaVersion\":%llu,\"Key\":", wire_operation(b->op[row]),
			(unsigned long long)b->relation->version);
	put_key(to, b, row);
	duct_buf_puts(to, ",\"Payload\":null,\"Before\":");
	if (!wire_json_before(to, b, row))
		duct_buf_puts(to, "null");
	duct_buf_puts(to, ",\"After\":");
	if (has_after)
		put_row(to, b->relation, b->columns, row, NULL, b->relation->ncolumns);
	else
		duct_buf_puts(to, "null");
	duct_buf_puts(to, ",\"Unchanged\":");
	put_unchanged(to, b, row);
	duct_buf_puts(to, ",\"DDL\":");
	put_string(to, ddl.data ? ddl.data : "");
	duct_buf_puts(to, ",\"DDLPlan\":null,\"Timestamp\":");
	put_time(to, pos.commit_us);
	duct_buf_puts(to, ",\"LSN\":");
	put_lsn(to, pos.lsn);
	duct_buf_putc(to, '}');
}

static void put_column(struct duct_buf *to, const struct duct_column *c)
{
	AUTO_BUF struct duct_buf type = {0};
	duct_type_print(&type, &c->type);
	duct_buf_puts(to, "{\"Name\":");
	put_string(to, c->name);
	duct_buf_puts(to, ",\"Type\":");
	put_string(to, c->source_type ? c->source_type : type.data);
	duct_buf_printf(to, ",\"Nullable\":%s,\"Generated\":false,\"Expression\":\"\",\"TypeMetadata\":{\"value_type\":",
			c->not_null ? "false" : "true");
	put_string(to, type.data);
	duct_buf_printf(to, ",\"key\":\"%s\"}}", c->key ? "true" : "false");
}

static void put_schema(struct duct_buf *to, const struct duct_relation *rel)
{
	duct_buf_puts(to, "{\"Name\":");
	put_string(to, rel->name);
	duct_buf_puts(to, ",\"Namespace\":");
	put_string(to, rel->schema);
	duct_buf_printf(to, ",\"Version\":%llu,\"Columns\":[", (unsigned long long)rel->version);
	for (int i = 0; i < rel->ncolumns; i++) {
		duct_buf_puts(to, i ? "," : "");
		put_column(to, &rel->columns[i]);
	}
	duct_buf_puts(to, "],\"QuotedIdentifiers\":null}");
}

static int encode(struct duct_buf *to, const struct wire_rows *rows, struct duct_error *err)
{
	(void)err; /* there is nothing that JSON cannot say */
	assert(rows->first + rows->count <= rows->batch->rows);
	if (!rows->count)
		return 0;
	duct_buf_puts(to, "{\"Records\":[");
	for (uint32_t i = 0; i < rows->count; i++) {
		duct_buf_puts(to, i ? "," : "");
		put_record(to, rows, rows->first + i);
	}
	struct duct_pos last = wire_row_pos(rows, rows->first + rows->count - 1);
	duct_buf_puts(to, "],\"Schema\":");
	put_schema(to, rows->batch->relation);
	duct_buf_puts(to, ",\"Checkpoint\":{\"LSN\":");
	put_lsn(to, last.lsn);
	duct_buf_puts(to, ",\"Timestamp\":");
	put_time(to, last.commit_us);
	duct_buf_puts(to, ",\"Metadata\":null},\"WireFormat\":\"json\"}");
	return 0;
}

const struct wire_format wire_json = {
	.name = "json",
	.content_type = "application/json",
	.encode = encode,
};
