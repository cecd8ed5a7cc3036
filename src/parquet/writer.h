#ifndef PARQUET_WRITER_H
#define PARQUET_WRITER_H

#include "parquet/bounds.h"
#include "parquet/codec.h"

/*
 * Writes one Parquet file from columns of batches. Pages are encoded and compressed as rows come: in memory are the compressed pages of
 * the open row group and one open page per leaf column. Version 1 data pages, PLAIN, RLE_DICTIONARY, DELTA_BINARY_PACKED and
 * DELTA_LENGTH_BYTE_ARRAY, everything OPTIONAL but map keys, field ids on all named nodes; statistics per chunk, page index (OffsetIndex,
 * ColumnIndex) before the footer. One thread at a time.
 *
 * Rows come in slices: ask parquet_writer_room() how many may be added, add so many values to each column in any order, then
 * parquet_writer_end_rows(). After an error only parquet_writer_free() is allowed. The file is the caller's: an open descriptor that is
 * written from its beginning, not synced and not closed here.
 */
struct parquet_column {
	const char *name;
	int64_t field_id;
	const struct duct_type *type;
	const int64_t *child_ids; /* of the nodes below, depth-first; NULL for scalars */
};

struct parquet_settings {
	enum parquet_codec codec;
	int level;	    /* 0: the codec's default */
	int64_t group_rows; /* rows of a row group exactly; 0: by bytes, at most 122880 */
	bool first_version; /* without the encodings by differences, which readers of Parquet's first version do not know */
};

struct parquet_writer;

/* Column names and types must live until it is freed; `path` is for messages. */
struct parquet_writer *parquet_writer_new(int fd, const char *path, const struct parquet_column *columns, int ncolumns,
					  const struct parquet_settings *settings);
void parquet_writer_free(struct parquet_writer *w); /* accepts NULL */

uint32_t parquet_writer_room(const struct parquet_writer *w); /* at least 1 */

/* The rows first .. first + n of the vector, or, where rows is given, the n rows that it lists. The vector's type is the column's. DATA
 * for text that is not UTF-8. */
int parquet_put_rows(struct parquet_writer *w, int column, const struct duct_vector *v, const uint32_t *rows, uint32_t first,
		     uint32_t n, struct duct_error *err) DUCT_CHECKED;
/* n times the same value; data NULL: NULL. */
int parquet_put_cell(struct parquet_writer *w, int column, struct duct_cell cell, uint32_t n, struct duct_error *err) DUCT_CHECKED;
/* n values of an INT64 column. */
int parquet_put_int64(struct parquet_writer *w, int column, const int64_t *values, uint32_t n, struct duct_error *err) DUCT_CHECKED;

/* I/O errors are RETRY, with errno as vendor code. */
int parquet_writer_end_rows(struct parquet_writer *w, uint32_t n, struct duct_error *err) DUCT_CHECKED;
/* What the file would have if it was finished now, but for indexes and footer: open pages are taken to shrink as the others did. */
uint64_t parquet_writer_bytes(const struct parquet_writer *w);
/* Writes the last row group, indexes and footer. */
int parquet_writer_finish(struct parquet_writer *w, int64_t *ret_size, int64_t *ret_footer, struct duct_error *err) DUCT_CHECKED;

/* What a finished file has in one leaf column, in order of the columns, depth-first. */
struct parquet_leaf_facts {
	const struct duct_type *type;
	int column;
	int64_t field_id;
	int64_t nvalues, nnulls; /* NULL and empty lists are NULLs of their leaves */
	int64_t bytes;		 /* compressed, with page headers */
	enum parquet_form form;
	const struct parquet_bounds *bounds;
};
int parquet_writer_leaves(const struct parquet_writer *w);
struct parquet_leaf_facts parquet_writer_leaf(const struct parquet_writer *w, int leaf);

#endif
