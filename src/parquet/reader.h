#ifndef PARQUET_READER_H
#define PARQUET_READER_H

#include "base/error.h"
#include "record/batch.h"

/*
 * Point reads of Parquet files: single values at given rows, for which only the pages that hold them are read (found
 * in the page index, or by walking page headers where a file has none) and decompressed. Pages that follow each other
 * come with one read.
 *
 * Served: every kind of record/type.h, lists and maps only where there is a page index; PLAIN, dictionaries and RLE
 * booleans; v1 and v2 pages; codecs none, snappy, gzip, zstd and LZ4 raw; OPTIONAL and REQUIRED. Whatever else a file
 * has is said before the first value (a function returns 0), so that the caller reads it in another way. What is
 * damaged is an error (FATAL) that says file and place; failed I/O is RETRY. Sizes that a file claims are bounded
 * before memory is taken for them.
 *
 * A reader keeps the footers of the files it met last (they are immutable; size and time of the file are compared),
 * some MiB at most. One thread at a time.
 */
struct parquet_reader;
struct parquet_file;
struct parquet_cursor;

struct parquet_reader *parquet_reader_new(void);
void parquet_reader_free(struct parquet_reader *reader); /* accepts NULL; all files must be closed */

struct parquet_reader_counts {
	uint64_t reads, bytes; /* from files: footers, indexes, pages */
	uint64_t pages;	       /* decompressed */
	uint64_t footers;      /* parsed, not found in the cache */
};
const struct parquet_reader_counts *parquet_reader_counts(const struct parquet_reader *reader);

/* Returns 1, or 0 when the file is not served (an encrypted or enormous footer). */
int parquet_open(struct parquet_file **ret, struct parquet_reader *reader, const char *path, struct duct_error *err) DUCT_CHECKED;
void parquet_close(struct parquet_file *file); /* accepts NULL; all cursors must be closed */

int64_t parquet_rows(const struct parquet_file *file);

/* A root column by its field id; -1: the file has none such. */
int parquet_column(const struct parquet_file *file, int64_t field_id);
bool parquet_has_field_ids(const struct parquet_file *file); /* on each root column */

/* A column's type as the file has it; NULL when it is not served. As long-lived as the file. */
const struct duct_type *parquet_column_type(const struct parquet_file *file, int column);

/*
 * Reads one column at rows that ascend strictly and are in the file. The array must live as long as the cursor. Returns
 * 1, or 0 when something in a row group that has wanted rows is not served.
 */
int parquet_cursor_open(struct parquet_cursor **ret, struct parquet_file *file, int column, const int64_t *rows, size_t n,
			struct duct_error *err) DUCT_CHECKED;
void parquet_cursor_close(struct parquet_cursor *cursor); /* accepts NULL */

/* The value at the next wanted row, in the in-memory form of the column's type; valid until the next call. data NULL:
 * NULL. */
int parquet_cursor_next(struct parquet_cursor *cursor, struct duct_cell *ret, struct duct_error *err) DUCT_CHECKED;

#endif
