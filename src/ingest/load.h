#ifndef INGEST_LOAD_H
#define INGEST_LOAD_H

#include "ingest/ingest.h"
#include "ingest/keys.h"
#include "ingest/shape.h"
#include "lake/parquet.h"
#include "lake/txn.h"

/* Inside of the folder: a run between its first page and its commit. */

/* What the server sent, kept until it is written: in memory, from PAGES_IN_MEMORY bytes on in a file without a name. */
struct ingest_pages {
	struct ingest_body {
		struct duct_buf text; /* or in the file: */
		int64_t at;
		size_t n;
	} * list;
	size_t n, cap;
	int64_t in_memory, in_file;
	int fd; /* -1: no file yet */
};
int ingest_pages_add(struct ingest_pages *pages, struct duct_buf *body, struct duct_error *err) DUCT_CHECKED; /* may take it */
void ingest_pages_done(struct ingest_pages *pages);

/* Record after record, of one page after the other. Begins with {.pages, .spec}. */
struct ingest_cursor {
	const struct ingest_pages *pages;
	const struct ingest_spec *spec;
	size_t page;
	struct duct_buf read;
	struct json_doc doc;
	uint32_t at, end;
	int64_t row; /* of the record at hand, from 1 */
};
/* 1, 0 at the end, -class. */
int ingest_cursor_next(struct ingest_cursor *c, const struct json_node **ret, struct duct_error *err) DUCT_CHECKED;
void ingest_cursor_done(struct ingest_cursor *c);
/* The records of an answer: nodes from *ret_at to *ret_end. DATA: the path is not there. */
int ingest_records(const struct ingest_spec *spec, const struct json_doc *doc, uint32_t *ret_at, uint32_t *ret_end,
		   struct duct_error *err) DUCT_CHECKED;

/* A table that rows go to. */
struct ingest_target {
	struct ingest_shape *shape;
	struct lake_txn_table *t;
	bool created;			   /* by this txn */
	const struct lake_column *columns; /* after the txn */
	int ncolumns;
	int64_t *written_ids; /* columns that what is written was written for; NULL: nothing is */
	int nwritten_ids;
	struct duct_relation *relation;
	int *map;		     /* lake columns to those of the relation */
	struct duct_batch **batches; /* rows for the catalog itself */
	size_t nbatches, batches_cap;
	struct lake_new_file **files;
	size_t nfiles, files_cap;
	int64_t rows;
};

struct ingest_load {
	const struct ingest_spec *spec;
	const struct ingest_window *window;
	struct ingest_place *place;
	struct lake *lake; /* of place */
	const struct duct_ctx *ctx;
	const struct ingest_report *report;
	struct ingest_result *result;
	struct ingest_pages pages;
	uint64_t last_page;	    /* sum of its records */
	int repeats;		    /* pages that had the same as the one before, in a row */
	struct ingest_query *query; /* of files; NULL: records of pages */
	struct ingest_shape *shape;
	struct ingest_target *targets; /* the table, then its children */
	size_t ntargets;
	struct ingest_keys keys; /* of the rows that came: the row that counts of each */
	struct ingest_keys gone; /* of old rows that die */
	struct duck_db *duck;	 /* opened by its first use */
	struct duck_conn *conn;
	bool allowed; /* conn may read the lake's files in S3 */
	struct lake_points *points;
};

static inline bool ingest_is_keyed(const struct ingest_load *l)
{
	return l->spec->main.write == INGEST_MERGE;
}

/* write.c: the rows of a target as batches or files, for target->columns. What was written before goes. */
int ingest_write(struct ingest_load *l, struct ingest_target *target, struct duct_error *err) DUCT_CHECKED;
/* Forgets what was written, files and all; from now on it is written for the columns that target has now. */
void ingest_begin_write(struct ingest_load *l, struct ingest_target *target);
/* Rows that were to go into the catalog go to a file. */
int ingest_write_held(struct ingest_load *l, struct ingest_target *target, struct duct_error *err) DUCT_CHECKED;
/* Forgets it; unless keep_files, files are removed. */
void ingest_unwrite(struct ingest_load *l, struct ingest_target *target, bool keep_files);
/* Collects l->keys, by the target's types. */
int ingest_collect_keys(struct ingest_load *l, struct duct_error *err) DUCT_CHECKED;
/* Appends one part of a key. */
void ingest_key_part(struct duct_buf *key, const struct duct_type *type, struct duct_cell cell);

/* All are borrowed; a connection is still to be put into l->conn. Given back by ingest_load_done(). */
void ingest_load_init(struct ingest_load *l, const struct ingest_spec *spec, const struct ingest_window *window,
		      struct ingest_place *place, const struct duct_ctx *ctx, const struct ingest_report *report,
		      struct ingest_result *result);
void ingest_load_done(struct ingest_load *l, bool keep_files);
/* load.c: before l->conn reads such a file of the lake. */
int ingest_allow(struct ingest_load *l, const char *path, struct duct_error *err) DUCT_CHECKED;

/* deaths.c: plans the end of the old rows that this run takes the place of. */
int ingest_plan_deaths(struct ingest_load *l, struct lake_txn *txn, struct ingest_target *target,
		       struct duct_error *err) DUCT_CHECKED;

/* commit.c */
int ingest_commit(struct ingest_load *l, struct duct_error *err) DUCT_CHECKED;

#endif
