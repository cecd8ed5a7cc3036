#ifndef INGEST_INGEST_H
#define INGEST_INGEST_H

#include "ingest/fetch.h"
#include "duck/duck.h"
#include "lake/store.h"

/* What a run says while it goes on. */
struct ingest_report {
	void (*log)(void *arg, const char *level, const char *text);
	void (*progress)(void *arg, int64_t done, const char *unit, const char *step);
	/* After the commit, of each table (that of the file, then its children): what was written. */
	void (*wrote)(void *arg, const char *table, int64_t rows, int64_t files, int64_t bytes);
	void *arg;
};

struct ingest_result {
	struct ingest_fetched fetched;
	int64_t rows, deleted,
		inlined;      /* rows that came in; old ones that died; of those that came, how many are in the catalog itself */
	int64_t files, bytes; /* written */
	int64_t snapshot_id;  /* -1: nothing was to be changed */
	int64_t tries;	      /* of the commit */
	int64_t new_columns;
	int64_t files_scanned, files_skipped; /* live ones that were read for old rows; those that their bounds ruled out */
	char cursor[1024];
};

/* The lake that rows go to, and how its files get there. */
struct ingest_place {
	struct lake *lake;
	struct lake_store *store;
	struct s3_options options;	     /* of its data path, where that is in S3 */
	struct aws_credentials *credentials; /* NULL: its data are files of this machine */
	char *scope;			     /* "s3://bucket" */
};
/* config: as for lake_open(). ingest_place_close() in any case. */
int ingest_place_open(struct ingest_place *ret, const struct lake_config *config, const struct duct_ctx *ctx,
		      struct duct_error *err) DUCT_CHECKED;
void ingest_place_close(struct ingest_place *place);
/* The connection may read and write the lake's files; nothing where they are of this machine. */
int ingest_place_allow(struct ingest_place *place, struct duck_conn *conn, struct duct_error *err) DUCT_CHECKED;

/*
 * One run of a REST source: asks for its pages, and puts their rows into its table (and child tables) in one commit: what readers see is all of it or
 * nothing, and the cursor moves with it. Tables, columns and wider types come with the same commit. The commit is planned again while others are
 * faster, as spec->retry says. place: opened under the run's own flow name; where_window.cursor is set here from what the last commit left.
 */
int ingest_rest(const struct ingest_spec *spec, const struct ingest_window *window, struct ingest_place *place,
		const struct duct_ctx *ctx, const struct ingest_report *report, struct ingest_result *ret,
		struct duct_error *err) DUCT_CHECKED;

/* Before try n + 1 of a commit (n from 1), from half of it to all. At most 2 s. */
int64_t ingest_pause_ms(const struct ingest_retry *retry, int64_t n, uint64_t random);
/* -CANCELLED when the run is to end. */
int ingest_wait(const struct duct_ctx *ctx, int64_t ms, struct duct_error *err) DUCT_CHECKED;

#endif
