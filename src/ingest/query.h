#ifndef INGEST_QUERY_H
#define INGEST_QUERY_H

#include "ingest/load.h"

/* Inside of the folder: files as a statement of DuckDB, which gives the rows of the table. */
struct ingest_query {
	struct duct_arena arena;
	struct duct_buf reader;		/* "SELECT * FROM read_csv([...], ..." without the last parenthesis */
	struct duct_buf files, options; /* of it: literals with commas between them; ", name = value"s */
	bool csv, json, parquet, excel;
	bool typed;	    /* CSV: the reader makes types of texts; those that are wanted are told to it, here and of JSON */
	bool iso;	    /* CSV: days and times are as ISO 8601 has them, which the reader takes without a format of its own */
	bool skips, delim;  /* the options say how many lines are to be skipped, what is between columns */
	bool ranged, stops; /* Excel: they say which cells are to be read, what an empty row means */
	char *sheet;	    /* Excel: of this name; in the arena */
	const char **names; /* of the reader's columns, one for each column of the shape */
};

/* What went wrong with files that others made is no fault of ours: the error's class, set right. */
int ingest_of_files(struct duct_error *err);
/* q->files, of the names and patterns of the source. Files that were added later are of the next run. */
int ingest_query_find(struct ingest_load *l, struct ingest_query *q, struct duct_error *err) DUCT_CHECKED;
/* q->iso. DATA: the reader would leave lines of CSV files out, columns of Excel files, or make other numbers of those of Parquet files. */
int ingest_query_look(struct ingest_load *l, struct ingest_query *q, struct duct_error *err) DUCT_CHECKED;
/* DATA: an Excel file has cells to the right of those that the reader takes, as many columns as its first row has. */
int ingest_query_look_right(struct ingest_load *l, const struct ingest_query *q, int ncolumns, struct duct_error *err) DUCT_CHECKED;

/* Asks which columns there are: l->shape and its target. DATA, CONFIG: what is wrong with the files. */
int ingest_query_learn(struct ingest_load *l, struct ingest_query *q, struct duct_error *err) DUCT_CHECKED;
/* As ingest_write(), of l->query; with merge keys l->keys, too. */
int ingest_query_write(struct ingest_load *l, struct ingest_target *target, struct duct_error *err) DUCT_CHECKED;

#endif
