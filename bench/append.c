/*
 * Adds rows to a lake's table by src/lake, a commit at a time, as official_writer.py does it by the official client: for bench/writers.
 *
 *     append CATALOG SCHEMA TABLE WRITER FIRST_ID ROWS COMMITS
 *
 * The table has the columns id BIGINT, v VARCHAR, n BIGINT, f DOUBLE. Says "loaded", waits for a line, opens the lake, writes a Parquet file
 * for each commit; prints how often it began again and the CPU seconds of what came after that line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lake/lake.h"
#include "lake/parquet.h"
#include "lake/txn.h"

static double cpu_s(void)
{
	struct timespec used;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* --- rows --- */

static struct duct_relation *relation(void)
{
	static const struct duct_type types[] = {
		{.kind = DUCT_INT64}, {.kind = DUCT_VARCHAR}, {.kind = DUCT_INT64}, {.kind = DUCT_FLOAT64}};
	static const char *const names[] = {"id", "v", "n", "f"};
	struct duct_relation *rel = duct_relation_new();
	rel->schema = "raw";
	rel->name = "t";
	rel->ncolumns = DUCT_LEN(types);
	rel->columns = duct_arena_zalloc(&rel->arena, DUCT_LEN(types) * sizeof *rel->columns);
	for (size_t i = 0; i < DUCT_LEN(types); i++) {
		rel->columns[i].name = duct_arena_strdup(&rel->arena, names[i]);
		rel->columns[i].type = duct_type_copy(&rel->arena, &types[i]);
	}
	return rel;
}

static void put(struct duct_batch *b, int column, const void *data, size_t n)
{
	memcpy(duct_vector_append(b, &b->columns[column], (uint32_t)n), data, n);
}

static struct duct_batch *batch_of(struct duct_relation *rel, int64_t first, int64_t rows)
{
	struct duct_batch *b = duct_batch_new(rel, (uint32_t)rows);
	for (int64_t i = first; i < first + rows; i++) {
		char text[32];
		int64_t n = 100 + i % 200;
		double f = (double)i * 0.5;
		duct_batch_add_row(b, DUCT_INSERT, 0);
		put(b, 0, &i, sizeof i);
		put(b, 1, text, (size_t)snprintf(text, sizeof text, "v%lld", (long long)i));
		put(b, 2, &n, sizeof n);
		put(b, 3, &f, sizeof f);
	}
	duct_batch_seal(b);
	return b;
}

struct feed {
	struct duct_batch *batch; /* NULL: it was handed over */
	struct lake_row_ref *refs;
};

static int next_rows(void *arg, const struct lake_row_ref **rows, const int64_t **ids, size_t *n, struct duct_error *err)
{
	struct feed *feed = arg;
	(void)err;
	*n = feed->batch ? feed->batch->rows : 0;
	for (uint32_t i = 0; i < *n; i++)
		feed->refs[i] = (struct lake_row_ref){feed->batch, i};
	*rows = feed->refs;
	*ids = NULL;
	feed->batch = NULL;
	return 0;
}

static const int *same_columns(void *arg, const struct duct_relation *rel)
{
	static const int map[] = {0, 1, 2, 3};
	(void)arg, (void)rel;
	return map;
}

/* --- commits --- */

static int commit(struct lake *lake, const char *const *name, struct duct_batch *batch, struct lake_row_ref *refs,
		  struct duct_error *err)
{
	const struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = "append"};
	struct feed feed = {batch, refs};
	const struct lake_rows rows = {.next = next_rows, .map = same_columns, .arg = &feed};
	struct lake_txn_result result;
	struct lake_new_file *file;
	const struct lake_table *table = lake_find_table(lake, name[0], name[1]);
	if (!table)
		return duct_fail(err, DUCT_CONFIG, "no table %s.%s", name[0], name[1]);
	struct lake_txn *txn = lake_txn_new(lake);
	struct lake_txn_table *t = lake_txn_table(txn, table->id);
	struct lake_write_spec spec = {.dir = lake_txn_table_path(t), .compression = "snappy"};
	spec.ncolumns = lake_txn_columns(t, &spec.columns);
	lake_txn_share(t);
	int rc = lake_write_file(&spec, &rows, &file, NULL, err);
	if (rc == 0) {
		(void)lake_txn_add_file(txn, t, file);
		rc = lake_txn_commit(txn, &info, &result, err);
	}
	lake_txn_free(txn);
	return rc == 1 ? duct_fail(err, DUCT_FATAL, "others changed the table") : rc;
}

/* What a flow does with what may pass: it opens again and goes on. *retries: how often. */
static int work(char **words, int *retries, struct duct_error *err)
{
	enum { MOST_RETRIES = 1000 };
	static const struct duct_log log;
	atomic_bool stop = false;
	struct lake *lake = NULL;
	int64_t first = strtoll(words[5], NULL, 10), rows = strtoll(words[6], NULL, 10), commits = strtoll(words[7], NULL, 10);
	const struct duct_ctx ctx = {.log = &log, .flow = words[4], .stop = &stop, .stop_fd = -1};
	const struct lake_config config = {.catalog = words[1], .flow = words[4], .busy_timeout_ms = 60000};
	struct duct_relation *rel = relation();
	AUTO_FREE struct lake_row_ref *refs = duct_xcalloc((size_t)rows, sizeof *refs);
	int rc = 0;
	for (int64_t i = 0; i < commits && !rc; i++) {
		struct duct_batch *batch = batch_of(rel, first + i * rows, rows);
		rc = lake ? 0 : lake_open(&lake, &config, &ctx, err);
		rc = rc ? rc : commit(lake, (const char *const *)words + 2, batch, refs, err);
		duct_batch_unref(batch);
		if (rc == -DUCT_RETRY && ++*retries < MOST_RETRIES) {
			lake_close(lake);
			lake = NULL;
			rc = 0;
			i--;
		}
	}
	lake_close(lake);
	duct_relation_unref(rel);
	return rc;
}

int main(int argc, char **argv)
{
	struct duct_error err;
	if (argc != 8) {
		fprintf(stderr, "usage: append CATALOG SCHEMA TABLE WRITER FIRST_ID ROWS COMMITS\n");
		return 2;
	}
	puts("loaded");
	fflush(stdout);
	if (getchar() == EOF)
		return 2;
	double before = cpu_s();
	int retries = 0, rc = work(argv, &retries, &err);
	if (rc)
		fprintf(stderr, "%s\n", err.message);
	printf("%d %.6f\n", retries, cpu_s() - before);
	return rc ? 1 : 0;
}
