#ifndef PARQUET_WRITER_INTERNAL_H
#define PARQUET_WRITER_INTERNAL_H

#include "base/reader.h"
#include "parquet/dictionary.h"
#include "parquet/thrift_write.h"
#include "parquet/writer.h"

enum {
	PARQUET_SLICE = 2048,	  /* most rows added at once */
	PARQUET_PART = 1024,	  /* fixed-width values encoded at once */
	PARQUET_INDEX_BOUND = 64, /* bytes of a string in statistics and page index */
	PARQUET_HEAD = 512,	  /* room before a page's values: levels that are one run go there, and nothing is copied */
};

struct parquet_page_facts {
	uint32_t bytes, nrows;
	bool null_page;
	int64_t nulls;
	uint32_t min_len, max_len; /* in page_bounds, one after the other */
};

/* A finished column chunk. */
struct parquet_chunk {
	int64_t dictionary_at, data_at; /* dictionary_at 0: none */
	int64_t nlevels, raw_bytes, bytes;
	int64_t nnulls;
	uint32_t encodings; /* bits: of values and levels */
	char *min, *max;    /* NULL: none; of the writer's arena */
	uint32_t min_len, max_len;
	bool min_exact, max_exact;
	size_t offsets_at, index_at;	 /* in the writer's buffers */
	uint32_t offsets_len, index_len; /* index_len 0: none */
};

/* One leaf column: the open page, the open chunk, the file so far. */
struct parquet_leaf {
	const struct duct_type *type;
	int column;
	int64_t field_id;
	enum parquet_form form;
	enum parquet_type physical;
	uint32_t width; /* bytes of a value in a page, 0: strings; BOOL: 1 until the page is closed */
	int max_def, max_rep;
	const char *const *path;
	int npath;

	bool indexed;	   /* the page is dictionary-encoded */
	uint32_t *numbers; /* the values' places in the dictionary where it is, else the lengths of strings */
	size_t numbers_cap;
	struct duct_buf values; /* bytes of values where it is not, behind PARQUET_HEAD bytes: see parquet_leaf_room() */
	size_t plain_bytes;	/* that the values have in PLAIN */
	uint32_t nlevels, nvalues, nrows;
	struct duct_buf def; /* a byte per level, once one is not max_def */
	struct duct_buf rep;
	struct parquet_bounds page;

	struct parquet_dictionary dictionary;
	uint32_t encodings;  /* of the chunk's data pages: bits */
	bool hasty;	     /* its pages are packed so but for the first (codec.h) */
	bool no_delta;	     /* differences did not pay in one of them */
	struct duct_buf out; /* its data pages */
	struct parquet_page_facts *pages;
	size_t npages, pages_cap;
	struct duct_buf page_bounds;
	bool no_index; /* a page without bounds has values */
	int64_t chunk_levels, chunk_nulls, chunk_raw;
	struct parquet_bounds chunk;

	int64_t file_values, file_nulls, file_bytes;
	struct parquet_bounds file;
};

/* A node of a column's type, for nested values. */
struct parquet_node {
	const struct duct_type *type;
	int def; /* of a value that is there */
	int rep; /* of list elements and map entries after the first */
	int first_leaf, nleaves;
	struct parquet_node *children;
};

struct parquet_writer {
	int fd;
	const char *path;
	const struct parquet_column *columns;
	int ncolumns;
	struct parquet_settings settings;
	struct parquet_packer packer;
	struct duct_arena arena;
	struct parquet_node *nodes; /* per column */
	struct parquet_leaf *leaves;
	int nleaves;
	size_t page_bytes, wide_page_bytes; /* raw, of narrow and of wide values */

	int64_t rows, group_rows;
	uint64_t group_raw;
	struct parquet_chunk *chunks; /* nleaves per row group */
	size_t nchunks, chunks_cap;
	struct group {
		int64_t rows, raw_bytes, bytes, at;
	} * groups;
	size_t ngroups, groups_cap;
	struct duct_buf offsets, indexes; /* OffsetIndex and ColumnIndex of all chunks */

	uint64_t at;		 /* bytes given to the file */
	uint64_t raw_total;	 /* of closed groups and pages, for the rate */
	struct duct_buf pending; /* of them, not yet written */
	struct duct_buf raw, packed;
	uint32_t *levels;
	size_t levels_cap;
	char *part; /* PARQUET_PART values of 16 bytes */
};

/* --- leaf.c: pages and chunks --- */
void parquet_leaf_init(struct parquet_leaf *leaf, size_t budget_bytes);
void parquet_leaf_done(struct parquet_leaf *leaf);
int parquet_leaf_end_page(struct parquet_writer *w, struct parquet_leaf *leaf, struct duct_error *err) DUCT_CHECKED;
int parquet_leaf_end_chunk(struct parquet_writer *w, struct parquet_leaf *leaf, struct duct_error *err) DUCT_CHECKED;
/* The open page's dictionary indexes become values; no more are taken in this chunk. */
void parquet_leaf_to_plain(struct parquet_leaf *leaf);
/* Whether a dictionary still pays, asked from time to time. */
void parquet_leaf_judge(struct parquet_leaf *leaf);
void parquet_leaf_keep_defs(struct parquet_leaf *leaf);

/* One level, and, where data is given, its value in the in-memory form of the leaf's type. */
int parquet_leaf_put(struct parquet_writer *w, struct parquet_leaf *leaf, int rep, int def, const char *data, uint32_t len,
		     struct duct_error *err) DUCT_CHECKED;
/* A string without its level; its bounds are noted by the caller. */
void parquet_leaf_put_string(struct parquet_leaf *leaf, const char *p, uint32_t len);

/* Whether the open page would be full with so many levels and bytes of values more. */
static inline bool parquet_leaf_full_with(const struct parquet_writer *w, const struct parquet_leaf *leaf, uint32_t nlevels,
					  size_t bytes)
{
	enum {
		MOST_PAGE_LEVELS = 1 << 17,
		WIDE_VALUE = 1024, /* values above get small pages: a reader wants one of them */
	};
	nlevels += leaf->nlevels;
	bytes += leaf->plain_bytes;
	if (nlevels >= MOST_PAGE_LEVELS || bytes >= (leaf->indexed ? 4 : 1) * w->page_bytes)
		return true;
	return bytes >= w->wide_page_bytes && bytes > (size_t)nlevels * WIDE_VALUE;
}

static inline bool parquet_leaf_page_full(const struct parquet_writer *w, const struct parquet_leaf *leaf)
{
	return parquet_leaf_full_with(w, leaf, 0, 0);
}

/* For n values more. */
static inline uint32_t *parquet_leaf_numbers(struct parquet_leaf *leaf, size_t n)
{
	leaf->numbers = duct_grow(leaf->numbers, &leaf->numbers_cap, leaf->nvalues + n, sizeof *leaf->numbers);
	return leaf->numbers + leaf->nvalues;
}

/* Room for n bytes of values; the caller advances values.len. */
static inline char *parquet_leaf_room(struct parquet_leaf *leaf, size_t n)
{
	char *to = duct_buf_room(&leaf->values, n + PARQUET_HEAD);
	if (leaf->values.len)
		return to;
	leaf->values.len = PARQUET_HEAD;
	return to + PARQUET_HEAD;
}

/* --- nested.c --- */
int parquet_put_nested(struct parquet_writer *w, const struct parquet_node *node, struct duct_cell cell,
		       struct duct_error *err) DUCT_CHECKED;

/* --- footer.c --- */
void parquet_write_indexes(struct parquet_writer *w, struct parquet_leaf *leaf, struct parquet_chunk *chunk);
void parquet_write_footer(struct parquet_writer *w, struct duct_buf *to, int64_t offsets_at, int64_t indexes_at);

/* --- writer.c --- */
int parquet_file_put(struct parquet_writer *w, const void *data, size_t n, struct duct_error *err) DUCT_CHECKED;

#endif
