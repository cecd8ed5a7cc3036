#ifndef INGEST_INGEST_H
#define INGEST_INGEST_H

#include "ingest/fetch.h"
#include "lake/catalog.h"

/* What a run says while it goes on. */
struct ingest_report {
	void (*log)(void *arg, const char *level, const char *text);
	void (*progress)(void *arg, int64_t done, const char *unit, const char *step);
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
	char cursor[1024];
};

/*
 * One run of a REST source: asks for its pages, and puts their rows into its table (and child tables) in one commit: what readers see is all of it or
 * nothing, and the cursor moves with it. Tables, columns and wider types come with the same commit. The commit is planned again while others are
 * faster, as spec->retry says. lake: opened under the run's own flow name; where_window.cursor is set here from what the last commit left.
 */
int ingest_rest(const struct ingest_spec *spec, const struct ingest_window *window, struct lake *lake, const struct duct_ctx *ctx,
		const struct ingest_report *report, struct ingest_result *ret, struct duct_error *err) DUCT_CHECKED;

/* Before try n + 1 of a commit (n from 1), from half of it to all. At most 2 s. */
int64_t ingest_pause_ms(const struct ingest_retry *retry, int64_t n, uint64_t random);
/* -CANCELLED when the run is to end. */
int ingest_wait(const struct duct_ctx *ctx, int64_t ms, struct duct_error *err) DUCT_CHECKED;

#endif
