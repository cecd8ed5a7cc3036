#ifndef PARQUET_READER_INTERNAL_H
#define PARQUET_READER_INTERNAL_H

#include <sys/types.h>

#include "base/arena.h"
#include "parquet/format.h"
#include "parquet/reader.h"
#include "parquet/thrift_read.h"

/* --- reader_schema.c, reader_footer.c: what a footer says --- */

/* Where a page is, header included. */
struct parquet_location {
	int64_t offset;
	uint32_t bytes, first_row; /* row: in the row group */
};

/* A column chunk. Offsets are what the footer says: checked when the chunk is first used. */
struct parquet_chunk {
	int64_t data_offset, dictionary_offset; /* dictionary <= 0: none is named */
	int64_t bytes, nvalues;
	int64_t index_offset; /* of the OffsetIndex */
	int32_t index_bytes;  /* 0: there is none */
	uint32_t encodings;   /* 1 << enum parquet_encoding */
	int8_t codec;
	bool elsewhere;	 /* encrypted, or in another file */
	uint32_t npages; /* 0: not known yet */
	struct parquet_location *pages;
};

struct parquet_group {
	int64_t first_row, rows;
	struct parquet_chunk *chunks; /* one per leaf of the schema */
};

/* A node of the schema, depth-first. */
struct parquet_node {
	int64_t field_id; /* -1: none */
	int type, type_length;
	int repetition;
	int nchildren;				/* 0: a leaf */
	int leaf;				/* its number; of a group: of the first leaf below it */
	int after;				/* index of the node behind its subtree */
	uint8_t max_definition, max_repetition; /* the levels at which a value of it is there */
	const char *name;
	int time_unit;		/* of a time stamp: enum PARQUET_UNIT_*, 0: none is said */
	bool utc;		/* of a time stamp with a unit */
	int annotation;		/* of a group: DUCT_LIST, DUCT_MAP, 0: none, -1: another */
	struct duct_type value; /* kind 0: not served */
};

/* A footer in the cache; also the file that is read with it. */
struct parquet_footer {
	struct duct_arena arena;
	char *path;
	dev_t device;
	ino_t inode;
	struct timespec changed;
	int64_t size;
	int64_t rows;
	struct parquet_node *nodes; /* 0: the root */
	int nnodes, nleaves;
	struct parquet_group *groups;
	size_t ngroups;
	unsigned users;
	uint64_t used_at; /* the reader's clock */
};

/* n elements of a schema into nodes; *r is bad when they are cut off. */
int parquet_schema_parse(struct parquet_footer *to, struct thrift_reader *r, size_t n, struct duct_error *err);

/* A footer's bytes (without length and magic). Returns 1, 0 when it is not served, or FATAL. */
int parquet_footer_parse(struct parquet_footer *to, const void *data, size_t n, struct duct_error *err);

/* An OffsetIndex of a chunk that begins at `start` and ends before `end`; sets pages. */
int parquet_index_parse(struct parquet_footer *footer, const struct parquet_group *group, struct parquet_chunk *chunk,
			int64_t start, int64_t end, const void *data, size_t n, struct duct_error *err);

/* --- reader_page.c: pages --- */

struct parquet_page_head {
	int type; /* enum parquet_page */
	uint32_t raw_bytes, compressed_bytes, head_bytes;
	uint32_t nvalues, nrows;		     /* nrows: v2 */
	uint32_t definition_bytes, repetition_bytes; /* v2 */
	int encoding, definition_encoding;
	bool is_compressed; /* v2 */
	bool has_crc;
	uint32_t crc;
};

enum { PARQUET_MAX_PAGE_BYTES = 1 << 30 };

/* Returns 1, 0 when there are too few bytes, or FATAL. */
int parquet_page_head_parse(struct parquet_page_head *to, const void *data, size_t n, struct duct_error *err);

/* Decompression: contexts are made when they are needed first. */
struct parquet_codecs {
	void *zstd;
};
void parquet_codecs_done(struct parquet_codecs *codecs);
bool parquet_codec_served(int codec);
/* Exactly raw_n bytes come out of n. */
int parquet_decompress(struct parquet_codecs *codecs, int codec, const void *data, size_t n, void *raw, size_t raw_n,
		       struct duct_error *err);

/* Whether n bytes can be raw_n decompressed: asked before memory is taken for them. */
bool parquet_codec_can(int codec, const void *data, size_t n, size_t raw_n);

/* --- reader.c --- */

struct parquet_reader {
	struct parquet_reader_counts counts;
	struct parquet_codecs codecs;
	struct parquet_footer **cache;
	size_t ncache, cache_cap;
	uint64_t clock;
};

struct parquet_file {
	struct parquet_reader *reader;
	struct parquet_footer *footer;
	int fd;
};

/* n bytes at `offset`, counted. */
int parquet_pread(struct parquet_file *file, void *to, size_t n, int64_t offset, struct duct_error *err);

/* Start and end of a chunk in the file, or FATAL when they are not inside it. */
int parquet_chunk_span(const struct parquet_file *file, const struct parquet_chunk *chunk, int64_t *ret_start, int64_t *ret_end,
		       struct duct_error *err);

/* reader_locate.c: the pages of a chunk, from its index or by walking it. */
int parquet_chunk_locate(struct parquet_file *file, const struct parquet_group *group, struct parquet_chunk *chunk,
			 struct duct_error *err);

/* --- reader_leaf.c: the values of one leaf --- */

/* One value or what stands for it where there is none; there if definition is the leaf's greatest. */
struct parquet_entry {
	uint8_t definition, repetition;
	uint32_t len;
	const char *data; /* NULL: in `own` */
	char own[16];
};

struct parquet_leaf;
/* Rows as in parquet_cursor_open(), and checked. Returns 1 or 0. */
int parquet_leaf_open(struct parquet_leaf **ret, struct parquet_file *file, const struct parquet_node *node, const int64_t *rows,
		      size_t n);
void parquet_leaf_close(struct parquet_leaf *leaf);
/* The entries of the next wanted row, one at least; valid until the next call. */
int parquet_leaf_next(struct parquet_leaf *leaf, const struct parquet_entry **ret, size_t *ret_n, struct duct_error *err);

#endif
