/*
 * Events as rows of COPY BINARY into ductstream.stream_events. A row: i16 number of columns, then each i32 length (-1: NULL) and bytes,
 * all big-endian, in the order of COLUMNS in append.c:
 *
 *   id i64 · lsn u64 · created_at i64 · end_offset i64 · key_hash i64 · old_key_hash i64 · stream_id i32 · operation, namespace,
 *   table_name, wire_format text · payload bytea
 */
#include "destination/pgstream/pgstream.h"

#include <xxhash.h>

enum {
	COLUMNS = 12,
	AT_ID = 2 + 4,
	AT_LSN = AT_ID + 8 + 4,
	AT_CREATED = AT_LSN + 8 + 4,
	AT_OFFSET = AT_CREATED + 8 + 4,
	DAYS_TO_2000 = 10957,
};

void pgstream_rows_reset(struct pgstream_rows *rows)
{
	rows->bytes.len = 0;
	rows->n = 0;
}

void pgstream_rows_done(struct pgstream_rows *rows)
{
	duct_buf_done(&rows->bytes);
	duct_buf_done(&rows->payload);
	duct_buf_done(&rows->hasher.scratch);
	free(rows->rows);
	*rows = (struct pgstream_rows){0};
}

static void put_i64(struct duct_buf *to, uint64_t v)
{
	duct_buf_be32(to, 8);
	duct_buf_be64(to, v);
}

static void put_bytes(struct duct_buf *to, const void *data, size_t n)
{
	duct_buf_be32(to, (uint32_t)n);
	duct_buf_append(to, data, n);
}

static void put_text(struct duct_buf *to, const char *s)
{
	put_bytes(to, s, strlen(s));
}

/* Of the key in these columns and its table: the same for all that happens to one row. */
static uint64_t hash_key(struct pgstream_rows *rows, const struct duct_relation *rel, const struct duct_vector *columns,
			 uint32_t row)
{
	rows->hasher.seed = rel->oid;
	rows->hasher.keys = rel->keys;
	rows->hasher.nkeys = rel->nkeys;
	struct lake_key_hash hash = lake_hash_row(&rows->hasher, columns, row);
	return XXH64(&hash, sizeof hash, rel->oid);
}

static void put_keys(struct pgstream_rows *rows, const struct duct_batch *batch, uint32_t row)
{
	const struct duct_relation *rel = batch->relation;
	int32_t old = batch->old_row[row];
	struct duct_buf *to = &rows->bytes;
	bool ordered = rel->nkeys > 0 && batch->op[row] != DUCT_TRUNCATE;
	uint64_t new_hash = 0, old_hash = 0;
	if (ordered && batch->op[row] != DUCT_DELETE)
		new_hash = hash_key(rows, rel, batch->columns, row);
	if (ordered && old >= 0)
		old_hash = hash_key(rows, rel, batch->old, (uint32_t)old);
	bool changed = old >= 0 && batch->op[row] != DUCT_DELETE && old_hash != new_hash;
	if (ordered)
		put_i64(to, batch->op[row] == DUCT_DELETE ? old_hash : new_hash);
	else
		duct_buf_be32(to, UINT32_MAX);
	if (ordered && changed)
		put_i64(to, old_hash);
	else
		duct_buf_be32(to, UINT32_MAX);
}

int pgstream_check_relation(const struct duct_relation *rel, struct duct_error *err)
{
	if (strcmp(rel->schema, "ductstream") != 0 || strncmp(rel->name, "stream_", 7) != 0)
		return 0;
	return duct_fail(err, DUCT_CONFIG,
			 "the source publishes \"%s\".\"%s\", a table of the stream itself: every message would make more of them; "
			 "set publication_tables or publication_schemas, or put the stream into another database",
			 rel->schema, rel->name);
}

int pgstream_rows_add(struct pgstream_rows *rows, const struct wire_format *format, const struct wire_rows *from, uint64_t lsn,
		      struct duct_error *err)
{
	const struct duct_batch *batch = from->batch;
	struct duct_buf *to = &rows->bytes;
	rows->payload.len = 0;
	int rc = format->encode(&rows->payload, from, err);
	if (rc < 0)
		return rc;
	if (rows->payload.len > (size_t)INT32_MAX / 2)
		return duct_fail(err, DUCT_DATA,
				 "a row of \"%s\".\"%s\" has %zu bytes as %s: more than Postgres takes in one value",
				 batch->relation->schema, batch->relation->name, rows->payload.len, format->name);
	rows->rows = duct_grow(rows->rows, &rows->cap, rows->n + 1, sizeof *rows->rows);
	rows->rows[rows->n++] = (struct pgstream_row){to->len, (uint32_t)rows->payload.len};
	duct_buf_be16(to, COLUMNS);
	put_i64(to, 0);
	put_i64(to, lsn);
	put_i64(to, 0);
	put_i64(to, 0);
	put_keys(rows, batch, from->first);
	duct_buf_be32(to, 4);
	duct_buf_be32(to, 0);
	put_text(to, wire_operation(batch->op[from->first]));
	put_text(to, batch->relation->schema);
	put_text(to, batch->relation->name);
	put_text(to, format->name);
	put_bytes(to, rows->payload.data, rows->payload.len);
	return 0;
}

static void store_be(char *at, uint64_t v, int width)
{
	for (int i = width - 1; i >= 0; i--, v >>= 8)
		at[i] = (char)v;
}

void pgstream_rows_set_lsn(struct pgstream_rows *rows, size_t row, uint64_t lsn)
{
	store_be(rows->bytes.data + rows->rows[row].at + AT_LSN, lsn, 8);
}

/* Where the stream id is depends on which hashes are NULL. */
static char *stream_id_of(char *row)
{
	char *at = row + AT_OFFSET + 8;
	for (int i = 0; i < 2; i++)
		at += (unsigned char)*at == 0xff ? 4 : 12;
	return at + 4;
}

void pgstream_rows_number(struct pgstream_rows *rows, int stream_id, int64_t at_us, int64_t *last_id, int64_t *end_offset)
{
	uint64_t created = (uint64_t)(at_us - (int64_t)DAYS_TO_2000 * 86400 * 1000000);
	for (size_t i = 0; i < rows->n; i++) {
		char *row = rows->bytes.data + rows->rows[i].at;
		*last_id += 1;
		*end_offset += rows->rows[i].payload;
		store_be(row + AT_ID, (uint64_t)*last_id, 8);
		store_be(row + AT_CREATED, created, 8);
		store_be(row + AT_OFFSET, (uint64_t)*end_offset, 8);
		store_be(stream_id_of(row), (uint64_t)stream_id, 4);
	}
}
