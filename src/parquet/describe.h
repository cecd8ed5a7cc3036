#ifndef PARQUET_DESCRIBE_H
#define PARQUET_DESCRIBE_H

#include "base/arena.h"
#include "base/error.h"
#include "record/batch.h"

/*
 * What the footer of a file of another program says of its columns, for whoever registers the file somewhere: no data is read. Times of every unit are
 * taken as microseconds, which is what they are read as.
 */
struct parquet_described_column {
	const char *name;
	struct duct_type type; /* kind 0: a type that we have none for */
	const char *type_text; /* of such a one, for people */
	int64_t bytes;	       /* on disk */
	int64_t nulls;	       /* -1: not known */
	/* Data NULL: not known. True bounds, in the in-memory form of the type: no value is below or above them. */
	struct duct_cell min, max;
};
struct parquet_description {
	int64_t rows;
	struct parquet_described_column *columns; /* of the root, in order */
	int ncolumns;
};

/*
 * footer: its bytes, without length and magic. All that *ret has lives in the arena. Returns 1; 0: an encrypted one; FATAL: it is damaged.
 */
int parquet_describe(const void *footer, size_t n, struct duct_arena *arena, struct parquet_description *ret,
		     struct duct_error *err) DUCT_CHECKED;

/* How many of the last 8 bytes' file are the footer: 0 and *ret, or FATAL: no Parquet file ends like this. size: of the file. */
int parquet_footer_length(const void *tail, uint64_t size, uint32_t *ret, struct duct_error *err) DUCT_CHECKED;

#endif
