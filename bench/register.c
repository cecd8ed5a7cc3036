/*
 * Registers Parquet files in a lake table by lake/register.h, in one commit: for bench/register, which compares it with the official client.
 *
 *     register CATALOG DATA_PATH SCHEMA TABLE < paths, a line each
 *
 * Prints the seconds from the first footer to the end of the commit: the lake is open before that, as a client's is that has attached it. Files in S3 are
 * read with what the environment says (docs/object-storage.md).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "lake/register.h"
#include "net/s3_options.h"

struct paths {
	char **list;
	size_t n, cap;
};

static void read_paths(struct paths *to)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	while ((n = getline(&line, &room, stdin)) > 0) {
		to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
		to->list[to->n++] = duct_xstrndup(line, (size_t)n - (line[n - 1] == '\n'));
	}
	free(line);
}

static int commit(struct lake *lake, struct lake_foreign *files, size_t n, const struct lake_table *table, struct duct_arena *arena,
		  struct duct_error *err)
{
	const struct lake_commit_info info = {.state = DUCT_STATE_STREAMING, .message = "register"};
	struct lake_txn_result result;
	struct lake_file *live;
	size_t nlive;
	struct lake_txn *txn = lake_txn_new(lake);
	struct lake_txn_table *t = lake_txn_table(txn, table->id);
	int rc = lake_list_files(lake, table->id, arena, &live, &nlive, err);
	for (size_t i = 0; i < n && rc >= 0; i++) {
		rc = lake_txn_evolve(txn, t, &files[i], LAKE_EVOLVE_REFUSE, NULL, err);
		rc = rc ? rc : lake_txn_register(txn, t, &files[i], NULL, 0, live, nlive, err);
	}
	rc = rc < 0 ? rc : lake_txn_commit(txn, &info, &result, err);
	lake_txn_free(txn);
	return rc == 1 ? duct_fail(err, DUCT_RETRY, "others changed the table") : rc;
}

static int put(struct lake *lake, const struct paths *paths, char **names, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct duct_arena arena;
	struct s3_options options = {0};
	AUTO_FREE char *ignored = NULL;
	struct s3 *s3 = NULL;
	const struct lake_table *table = lake_find_table(lake, names[0], names[1]);
	if (!table)
		return duct_fail(err, DUCT_CONFIG, "no table %s.%s", names[0], names[1]);
	duct_arena_init(&arena);
	struct lake_foreign *files = duct_arena_zalloc(&arena, (paths->n + 1) * sizeof *files);
	for (size_t i = 0; i < paths->n; i++)
		files[i] = (struct lake_foreign){.path = paths->list[i], .size_bytes = -1};
	int rc = s3_options_of_lake(&options, &ignored, err);
	struct aws_credentials *credentials = aws_credentials_open(&options, ctx->stop_fd);
	rc = rc ? rc : s3_open(&s3, &options, credentials, ctx->stop_fd, err);
	int64_t start = duct_mono_us();
	rc = rc ? rc : lake_foreign_read(files, paths->n, s3, &arena, err);
	rc = rc ? rc : commit(lake, files, paths->n, table, &arena, err);
	printf("%.6f\n", (double)(duct_mono_us() - start) / 1e6);
	s3_close(s3);
	aws_credentials_close(credentials);
	s3_options_done(&options);
	duct_arena_done(&arena);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct duct_log log;
	atomic_bool stop = false;
	struct paths paths = {0};
	struct duct_error err;
	struct lake *lake = NULL;
	if (argc != 5) {
		fprintf(stderr, "usage: register CATALOG DATA_PATH SCHEMA TABLE < paths\n");
		return 2;
	}
	const struct duct_ctx ctx = {.log = &log, .flow = "register", .stop = &stop, .stop_fd = -1};
	const struct lake_config config = {.catalog = argv[1],
					   .data_path = argv[2],
					   .remote = true,
					   .flow = "register",
					   .create_indexes = true,
					   .busy_timeout_ms = 30000};
	read_paths(&paths);
	int rc = lake_open(&lake, &config, &ctx, &err);
	rc = rc ? rc : put(lake, &paths, argv + 3, &ctx, &err);
	if (rc)
		fprintf(stderr, "%s\n", err.message);
	lake_close(lake);
	for (size_t i = 0; i < paths.n; i++)
		free(paths.list[i]);
	free(paths.list);
	return rc ? 1 : 0;
}
