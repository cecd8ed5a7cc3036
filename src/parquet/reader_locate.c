/* Where the pages of a column chunk are: from its offset index, or from one page header to the next. */
#include "parquet/reader_internal.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

enum {
	HEAD_BYTES = 256, /* read first; a header with statistics may be longer */
	MAX_HEAD_BYTES = 1 << 20,
	MAX_INDEX_BYTES = 64 << 20,
};

int parquet_chunk_span(const struct parquet_file *file, const struct parquet_chunk *chunk, int64_t *ret_start, int64_t *ret_end,
		       struct duct_error *err)
{
	int64_t start = chunk->data_offset, limit = file->footer->size - PARQUET_TAIL_BYTES;
	if (chunk->dictionary_offset > 0 && chunk->dictionary_offset < start)
		start = chunk->dictionary_offset;
	if (start < PARQUET_MAGIC_BYTES || start > limit || chunk->bytes < 0 || chunk->bytes > limit - start)
		return duct_fail(err, DUCT_FATAL, "%" PRId64 " bytes of a column from %" PRId64 " on are not inside the file",
				 chunk->bytes, start);
	*ret_start = start;
	*ret_end = start + chunk->bytes;
	return 0;
}

static int locate_by_index(struct parquet_file *file, const struct parquet_group *group, struct parquet_chunk *chunk, int64_t start,
			   int64_t end, struct duct_error *err)
{
	int64_t at = chunk->index_offset, n = chunk->index_bytes;
	if (at < PARQUET_MAGIC_BYTES || n < 0 || n > MAX_INDEX_BYTES || at > file->footer->size - n)
		return duct_fail(err, DUCT_FATAL, "a page index of %" PRId64 " bytes at %" PRId64 " is not inside the file", n, at);
	AUTO_FREE char *bytes = duct_xmalloc((size_t)n + 1);
	int rc = parquet_pread(file, bytes, (size_t)n, at, err);
	return rc ? rc : parquet_index_parse(file->footer, group, chunk, start, end, bytes, (size_t)n, err);
}

/* The page header at `at`; its page ends at or before `end`. */
static int read_head(struct parquet_file *file, int64_t at, int64_t end, struct parquet_page_head *head, struct duct_error *err)
{
	int rc = 0;
	for (int64_t n = HEAD_BYTES; rc == 0 && n <= MAX_HEAD_BYTES; n *= 8) {
		int64_t have = n < end - at ? n : end - at;
		AUTO_FREE char *bytes = duct_xmalloc((size_t)have + 1);
		rc = parquet_pread(file, bytes, (size_t)have, at, err);
		if (!rc)
			rc = parquet_page_head_parse(head, bytes, (size_t)have, err);
		if (rc == 0 && have == end - at)
			break;
	}
	if (rc < 0)
		return duct_wrap(err, "at %" PRId64, at);
	if (rc == 0 || (int64_t)head->head_bytes + head->compressed_bytes > end - at)
		return duct_fail(err, DUCT_FATAL, "the page at %" PRId64 " ends behind its column", at);
	return 0;
}

static int walk(struct parquet_file *file, const struct parquet_group *group, struct parquet_chunk *chunk, int64_t start,
		int64_t end, struct duct_error *err)
{
	AUTO_FREE struct parquet_location *pages = NULL;
	size_t n = 0, cap = 0;
	int64_t rows = 0;
	for (int64_t at = start; at < end && rows < group->rows;) {
		struct parquet_page_head head;
		int rc = read_head(file, at, end, &head, err);
		if (rc)
			return rc;
		uint32_t bytes = head.head_bytes + head.compressed_bytes;
		if (head.type == PARQUET_DATA_PAGE || head.type == PARQUET_DATA_PAGE_V2) {
			pages = duct_grow(pages, &cap, n + 1, sizeof *pages);
			pages[n++] = (struct parquet_location){at, bytes, (uint32_t)rows};
			rows += head.nvalues;
		}
		at += bytes;
	}
	if (!n || rows != group->rows)
		return duct_fail(err, DUCT_FATAL, "the pages of a column hold %" PRId64 " values for %" PRId64 " rows", rows,
				 group->rows);
	chunk->pages = duct_arena_dup(&file->footer->arena, pages, n * sizeof *pages);
	chunk->npages = (uint32_t)n;
	return 0;
}

int parquet_chunk_locate(struct parquet_file *file, const struct parquet_group *group, struct parquet_chunk *chunk,
			 struct duct_error *err)
{
	int64_t start, end;
	if (chunk->npages)
		return 0;
	int rc = parquet_chunk_span(file, chunk, &start, &end, err);
	if (rc)
		return rc;
	return chunk->index_bytes ? locate_by_index(file, group, chunk, start, end, err)
				  : walk(file, group, chunk, start, end, err);
}
