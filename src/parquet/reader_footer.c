/*
 * Footers and offset indexes into structs: bytes of a file that may be damaged. What is not needed for point reads
 * (names, statistics, keys) is skipped; memory grows with what was really read, never with what a count claims.
 */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { MAX_GROUP_ROWS = 0x7fffffff };

/* --- row groups --- */

static void parse_encodings(struct thrift_reader *r, const struct thrift_field *in, struct parquet_chunk *c)
{
	for (size_t n = thrift_read_list(r, in, THRIFT_I32); n && !r->bad; n--) {
		int64_t encoding = thrift_read_element(r);
		c->encodings |= encoding >= 0 && encoding < 31 ? UINT32_C(1) << encoding : UINT32_C(1) << 31;
	}
}

static void parse_chunk_meta(struct thrift_reader *r, const struct thrift_field *in, struct parquet_chunk *c)
{
	if (!thrift_read_struct(r, in))
		return;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_META_ENCODINGS: parse_encodings(r, &f, c); break;
		case PARQUET_META_CODEC: c->codec = (int8_t)thrift_read_int(r, &f); break;
		case PARQUET_META_NUM_VALUES: c->nvalues = thrift_read_int(r, &f); break;
		case PARQUET_META_COMPRESSED_BYTES: c->bytes = thrift_read_int(r, &f); break;
		case PARQUET_META_DATA_OFFSET: c->data_offset = thrift_read_int(r, &f); break;
		case PARQUET_META_DICTIONARY_OFFSET: c->dictionary_offset = thrift_read_int(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
}

static void parse_chunk(struct thrift_reader *r, struct parquet_chunk *c)
{
	bool meta = false;
	*c = (struct parquet_chunk){.codec = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_CHUNK_META:
			parse_chunk_meta(r, &f, c);
			meta = true;
			break;
		case PARQUET_CHUNK_OFFSET_INDEX_OFFSET: c->index_offset = thrift_read_int(r, &f); break;
		case PARQUET_CHUNK_OFFSET_INDEX_LENGTH: c->index_bytes = (int32_t)thrift_read_int(r, &f); break;
		case PARQUET_CHUNK_FILE_PATH:
		case PARQUET_CHUNK_CRYPTO:
			c->elsewhere = true;
			thrift_skip(r, &f);
			break;
		default: thrift_skip(r, &f); break;
		}
	}
	c->elsewhere = c->elsewhere || !meta;
}

static int parse_group(struct parquet_footer *to, struct thrift_reader *r, struct parquet_group *g, struct duct_error *err)
{
	*g = (struct parquet_group){.first_row = to->rows, .rows = -1};
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		if (f.id == PARQUET_GROUP_NUM_ROWS) {
			g->rows = thrift_read_int(r, &f);
		} else if (f.id == PARQUET_GROUP_COLUMNS && !g->chunks) {
			size_t n = thrift_read_list(r, &f, THRIFT_STRUCT);
			if (n != (size_t)to->nleaves)
				return r->bad ? 0
					      : duct_fail(err, DUCT_FATAL, "a row group has %zu columns, the schema has %d", n,
							  to->nleaves);
			g->chunks = duct_arena_alloc(&to->arena, n * sizeof *g->chunks);
			for (size_t i = 0; i < n && !r->bad; i++)
				parse_chunk(r, &g->chunks[i]);
		} else {
			thrift_skip(r, &f);
		}
	}
	if (!r->bad && (!g->chunks || g->rows < 0 || g->rows > MAX_GROUP_ROWS || to->rows > INT64_MAX - g->rows))
		return duct_fail(err, DUCT_FATAL, "a row group's description is damaged");
	return 0;
}

static int parse_groups(struct parquet_footer *to, struct thrift_reader *r, const struct thrift_field *in, struct duct_error *err)
{
	size_t cap = 0;
	int ret = 0;
	for (size_t n = thrift_read_list(r, in, THRIFT_STRUCT); n && !r->bad && !ret; n--) {
		to->groups = duct_grow(to->groups, &cap, to->ngroups + 1, sizeof *to->groups);
		struct parquet_group *g = &to->groups[to->ngroups];
		ret = parse_group(to, r, g, err);
		if (ret || r->bad)
			break;
		to->ngroups++;
		to->rows += g->rows;
	}
	return ret;
}

int parquet_footer_parse(struct parquet_footer *to, const void *data, size_t n, struct duct_error *err)
{
	struct thrift_reader r = thrift_reader_over(data, n);
	int64_t rows = -1;
	int ret = 0;
	bool encrypted = false;
	for (struct thrift_field f = {0}; !ret && thrift_next_field(&r, &f);) {
		if (f.id == PARQUET_FILE_SCHEMA && !to->nnodes) {
			ret = parquet_schema_parse(to, &r, thrift_read_list(&r, &f, THRIFT_STRUCT), err);
		} else if (f.id == PARQUET_FILE_NUM_ROWS) {
			rows = thrift_read_int(&r, &f);
		} else if (f.id == PARQUET_FILE_ROW_GROUPS && to->nnodes && !to->groups) {
			ret = parse_groups(to, &r, &f, err);
		} else {
			encrypted = encrypted || f.id == PARQUET_FILE_ENCRYPTION;
			thrift_skip(&r, &f);
		}
	}
	if (ret)
		return ret;
	if (r.bad)
		return duct_fail(err, DUCT_FATAL, "its footer is damaged");
	if (!to->nnodes || rows != to->rows)
		return duct_fail(err, DUCT_FATAL, "its footer says %" PRId64 " rows, its row groups hold %" PRId64, rows, to->rows);
	return !encrypted;
}

/* --- offset indexes --- */

static struct parquet_location parse_location(struct thrift_reader *r, int64_t start, int64_t end, int64_t rows, bool *good)
{
	int64_t offset = -1, bytes = -1, row = -1;
	for (struct thrift_field f = {0}; thrift_next_field(r, &f);) {
		switch (f.id) {
		case PARQUET_LOCATION_OFFSET: offset = thrift_read_int(r, &f); break;
		case PARQUET_LOCATION_BYTES: bytes = thrift_read_int(r, &f); break;
		case PARQUET_LOCATION_FIRST_ROW: row = thrift_read_int(r, &f); break;
		default: thrift_skip(r, &f); break;
		}
	}
	*good = offset >= start && offset < end && bytes > 0 && bytes <= end - offset && row >= 0 && row <= rows;
	return (struct parquet_location){offset, (uint32_t)bytes, (uint32_t)row};
}

int parquet_index_parse(struct parquet_footer *footer, const struct parquet_group *group, struct parquet_chunk *chunk,
			int64_t start, int64_t end, const void *data, size_t n, struct duct_error *err)
{
	struct thrift_reader r = thrift_reader_over(data, n);
	struct parquet_location *pages = NULL;
	size_t npages = 0;
	bool good = true;
	for (struct thrift_field f = {0}; good && thrift_next_field(&r, &f);) {
		if (f.id != PARQUET_OFFSETS_PAGES || pages) {
			thrift_skip(&r, &f);
			continue;
		}
		npages = thrift_read_list(&r, &f, THRIFT_STRUCT);
		pages = duct_arena_alloc(&footer->arena, npages * sizeof *pages);
		for (size_t i = 0; i < npages && good; i++) {
			pages[i] = parse_location(&r, start, end, group->rows, &good);
			good = good && !r.bad && pages[i].first_row >= (i ? pages[i - 1].first_row : 0);
		}
	}
	if (r.bad || !good || !npages || pages[0].first_row)
		return duct_fail(err, DUCT_FATAL, "the page index at %" PRId64 " is damaged", chunk->index_offset);
	chunk->pages = pages;
	chunk->npages = (uint32_t)npages;
	return 0;
}
