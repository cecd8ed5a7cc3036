#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "cli/lake.h"
#include "cli/signals.h"
#include "lake/orphans.h"
#include "options/text.h"

enum { STALL_MS = 10000, RETRY_MS = 5000 };

struct request {
	bool remove;
	int64_t older_than_ms;
};

static void put_time(struct duct_buf *to, int64_t us)
{
	struct tm tm;
	time_t seconds = (time_t)(us / 1000000);
	gmtime_r(&seconds, &tm);
	duct_buf_printf(to, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			tm.tm_sec);
}

static void put_orphan(struct duct_buf *to, const struct lake_orphan *o)
{
	AUTO_BUF struct duct_buf when = {0};
	put_time(&when, o->modified_us);
	if (cli_json) {
		duct_buf_puts(to, "{\"event\":\"orphan\"");
		cli_json_field(to, "path", o->path);
		cli_json_field(to, "modified", when.data);
		duct_buf_printf(to, ",\"size_bytes\":%" PRId64 ",\"upload\":%s,\"removed\":%s", o->size_bytes,
				o->upload ? "true" : "false", o->removed ? "true" : "false");
		if (o->failure)
			cli_json_field(to, "failure", o->failure);
		duct_buf_puts(to, "}\n");
		return;
	}
	duct_buf_printf(to, "%s  %12" PRId64 "  %s%s%s%s%s\n", when.data, o->size_bytes, o->path,
			o->upload ? "  upload that was not finished" : "", o->removed ? "  removed" : "",
			o->failure ? "  not removed: " : "", o->failure ? o->failure : "");
}

static void put_summary(struct duct_buf *to, const struct lake_orphan *orphans, size_t n, size_t *ret_failures)
{
	size_t removed = 0;
	int64_t bytes = 0;
	for (size_t i = 0; i < n; i++) {
		bytes += orphans[i].size_bytes;
		removed += orphans[i].removed;
		*ret_failures += orphans[i].failure != NULL;
	}
	if (cli_json)
		duct_buf_printf(to,
				"{\"event\":\"summary\",\"files\":%zu,\"size_bytes\":%" PRId64 ",\"removed\":%zu,\"failed\":%zu}\n",
				n, bytes, removed, *ret_failures);
	else
		duct_buf_printf(to, "%zu orphans, %" PRId64 " bytes, %zu removed\n", n, bytes, removed);
}

static void put_warning(struct duct_buf *to, const char *why)
{
	if (cli_json) {
		duct_buf_puts(to, "{\"event\":\"warning\"");
		cli_json_field(to, "message", why);
		duct_buf_puts(to, "}\n");
	} else {
		duct_buf_printf(to, "uploads that were not finished are not listed: %s\n", why);
	}
}

int cli_show_orphans(const struct lake_orphans *orphans, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	size_t failures = 0;
	for (size_t i = 0; i < orphans->n; i++)
		put_orphan(&to, &orphans->list[i]);
	if (orphans->no_uploads)
		put_warning(&to, orphans->no_uploads);
	put_summary(&to, orphans->list, orphans->n, &failures);
	int rc = cli_print(&to, err);
	if (rc == 0 && failures)
		rc = duct_fail(err, DUCT_CONFIG, "%zu files cannot be removed: see the list", failures);
	return rc;
}

/* Where its data are; NULL: in a folder. */
struct store {
	struct s3_options options;
	struct aws_credentials *credentials;
	struct s3 *s3;
};

static int open_store(struct store *store, const struct lake *lake, const struct duct_ctx *ctx, struct duct_error *err)
{
	AUTO_FREE char *bucket = NULL;
	*store = (struct store){0};
	if (!s3_is_url(lake_data_path(lake)))
		return 0;
	int rc = s3_options_of_lake(&store->options, &bucket, err);
	if (rc < 0)
		return rc;
	store->options.stall_ms = STALL_MS; /* commits wait while a slice is deleted */
	store->options.retry_ms = RETRY_MS;
	store->credentials = aws_credentials_open(&store->options, ctx->stop_fd);
	return s3_open(&store->s3, &store->options, store->credentials, ctx->stop_fd, err);
}

static void close_store(struct store *store)
{
	s3_close(store->s3);
	aws_credentials_close(store->credentials);
	s3_options_done(&store->options);
}

static int find_in(struct lake *lake, const struct request *r, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct store store;
	struct lake_orphans orphans;
	struct duct_arena arena;
	duct_arena_init(&arena);
	int rc = open_store(&store, lake, ctx, err);
	rc = rc ? rc : lake_find_orphans(lake, store.s3, NULL, r->older_than_ms, &arena, &orphans, err);
	if (rc == 0 && r->remove)
		rc = lake_remove_orphans(lake, store.s3, r->older_than_ms, &arena, orphans.list, orphans.n, err);
	rc = rc ? rc : cli_show_orphans(&orphans, err);
	close_store(&store);
	duct_arena_done(&arena);
	return rc;
}

static int find(const struct lake_config *config, const struct request *r, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct lake *lake = NULL;
	int rc = lake_open(&lake, config, ctx, err);
	rc = rc ? rc : find_in(lake, r, ctx, err);
	lake_close(lake);
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	const char *path = NULL, *catalog = NULL, *schema = NULL, *age = NULL;
	struct request request = {.older_than_ms = 3600000};
	const struct cli_flag flags[] = {{"delete", &request.remove, NULL},
					 {"older-than", NULL, &age},
					 {"catalog", NULL, &catalog},
					 {"metadata-schema", NULL, &schema},
					 {0}};
	int n = cli_flags_parse(argc, argv, flags, &path, 0, 1, "a flow file", err);
	if (n < 0)
		return n;
	if (age && !duct_parse_duration_ms(age, &request.older_than_ms))
		return duct_fail(err, DUCT_CONFIG, "flag \"--older-than\": \"%.40s\" is not a duration such as 30m or 2h", age);
	if (request.remove && request.older_than_ms < LAKE_ORPHAN_MIN_MS)
		return duct_fail(err, DUCT_CONFIG,
				 "flag \"--older-than\": with --delete at least 10m: a running writer may still be about to commit "
				 "files that are younger");

	AUTO_FLOW struct flow_file *flow = NULL;
	struct lake_config config;
	struct cli_signals signals;
	int rc = cli_find_lake(&flow, &config, n == 1 ? path : NULL, catalog, schema, err);
	if (rc)
		return rc;
	rc = cli_signals_start(&signals, DUCT_WARN, config.flow, err);
	if (rc)
		return rc;
	rc = find(&config, &request, &signals.ctx, err);
	cli_signals_end(&signals);
	return rc;
}

const struct cli_command cli_lake_orphans = {
	.name = "lake orphans",
	.usage = "lake orphans (FLOW | --catalog URI) [--delete] [--json]",
	.summary = "data files that the catalog does not name",
	.help = "Lists Parquet files below the lake's data path that no row of the catalog\n"
		"names: left by a copy that was killed, or by a commit cut off in the middle.\n"
		"Nobody can read them. Files of a running ductstream are never removed. In S3\n"
		"(DUCKLAKE_S3_*, AWS_*) also uploads that nobody finished.\n\n"
		"  --delete                 remove them; without it nothing is changed\n"
		"  --older-than T           only files not touched for so long, default 1h;\n"
		"                           longer than any transaction of another client\n"
		"  --catalog URI            sqlite:PATH or postgres:DSN instead of a flow file\n"
		"  --metadata-schema NAME   schema of the catalog's tables in Postgres\n"
		"  --json                   one JSON object per file, then a summary\n\n"
		"Never with --delete when two lakes share one data path.",
	.run = run,
};
