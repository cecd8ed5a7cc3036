/* The lake, as `ductstream health` sees it: its catalog natively, its files, and the official client. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/health.h"
#include "cli/signals.h"
#include "copy/probe.h"
#include "lake/vitals.h"

enum { BUSY_MS = 700, RETRY_MS = 1500, STALL_MS = 2000 };
static const int64_t little_bytes = (int64_t)1 << 30;

/* The layers of the lake, as the models call them. */
static const char *const layers[] = {"raw", "bronze", "silver", "gold", NULL};

bool health_has_lake(const struct health_wish *wish)
{
	const char *catalog = getenv("DUCKLAKE_CATALOG"), *host = getenv("DUCKLAKE_RDS_HOST");
	return wish->catalog || (catalog && *catalog) || (host && *host);
}

/* The child takes the lake from the environment, so that what is secret in it is in no list of processes. */
static void set_lake(const struct health_wish *wish)
{
	const char *const names[][2] = {{"DUCKLAKE_CATALOG", wish->catalog},
					{"DUCKLAKE_DATA_PATH", wish->data_path},
					{"DUCKLAKE_METADATA_SCHEMA", wish->metadata_schema}};
	for (size_t i = 0; i < DUCT_LEN(names); i++)
		if (names[i][1])
			(void)setenv(names[i][0], names[i][1], 1);
}

/* --- its files --- */

static void look_at_folder(struct cli_report *r, const char *path)
{
	struct statvfs fs;
	if (access(path, F_OK) != 0) {
		AUTO_FREE char *what = duct_xasprintf("the lake's folder %s is not there: %s", path, strerror(errno));
		cli_report_finding(r, DUCT_FINDING_ERROR, what, "is its disk mounted? Its rows are files in there");
		return;
	}
	bool read_only = access(path, W_OK | X_OK) != 0;
	if (read_only) {
		AUTO_FREE char *what = duct_xasprintf("the lake's folder %s cannot be written: %s", path, strerror(errno));
		cli_report_finding(r, DUCT_FINDING_ERROR, what, "let this user write there, or mount its disk for writing");
	}
	if (statvfs(path, &fs) != 0 || read_only)
		return;
	int64_t left = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
	AUTO_FREE char *what = duct_xasprintf("files in %s, %" PRId64 " MiB are free", path, left >> 20);
	bool little = left < little_bytes;
	cli_report_finding(r, little ? DUCT_FINDING_WARN : DUCT_FINDING_OK, what,
			   little ? "make room, or expire old snapshots" : NULL);
}

/* Of four rights that are there one line is enough. */
struct rights {
	struct cli_report *report;
	int good, bad;
};

static void take_right(void *arg, enum duct_finding level, const char *what, const char *remedy)
{
	struct rights *rights = arg;
	rights->good += level == DUCT_FINDING_OK;
	rights->bad += level != DUCT_FINDING_OK;
	if (cli_json || level != DUCT_FINDING_OK)
		cli_report_finding(rights->report, level, what, remedy);
}

static int look_at_bucket(struct cli_report *r, const char *url, const struct duct_ctx *ctx, struct duct_error *err)
{
	struct s3_options options;
	AUTO_FREE char *bucket = NULL;
	struct rights rights = {.report = r};
	int rc = s3_options_of_lake(&options, &bucket, err);
	if (rc < 0)
		return rc;
	options.retry_ms = RETRY_MS;
	options.stall_ms = STALL_MS;
	const struct copy_store store = {.options = &options, .data_path = url};
	rc = copy_probe_store(&store, ctx, take_right, &rights, err);
	s3_options_done(&options);
	if (rc == 0 && !rights.bad && !cli_json) {
		AUTO_FREE char *what = duct_xasprintf("list, put, get and delete under %s", url);
		cli_report_finding(r, DUCT_FINDING_OK, what, NULL);
	}
	return rc;
}

/* What goes wrong is a finding; only a stop is an end. */
static int look_at_files(struct cli_report *r, const char *path, const struct duct_ctx *ctx, struct duct_error *err)
{
	int rc = 0;
	if (s3_is_url(path))
		rc = look_at_bucket(r, path, ctx, err);
	else
		look_at_folder(r, path);
	if (rc < 0 && rc != -DUCT_CANCELLED) {
		cli_report_finding(r, DUCT_FINDING_ERROR, err->message, "look at DUCKLAKE_S3_* and AWS_*");
		rc = 0;
	}
	return rc;
}

/* --- all of it --- */

/* Where its bucket has not done what was asked of it the client would wait for the same. */
static int try_client(struct health_child *child, const struct lake_vitals *vitals, bool bad_bucket, struct cli_report *r,
		      const struct duct_ctx *ctx, struct duct_error *err)
{
	if (!child || !vitals->there)
		return 0;
	if (vitals->held) {
		cli_report_finding(r, DUCT_FINDING_WARN, "the official client is not tried: it would wait for who has the catalog",
				   "see above");
		return 0;
	}
	return health_child_look(child, &(struct health_order){vitals->data_path, vitals->schema, !bad_bucket}, ctx->stop_fd, r,
				 err);
}

static int look(const struct health_wish *wish, const struct duck_lake *lake, struct health_child *child, struct cli_report *r,
		const struct duct_ctx *ctx, struct duct_error *err)
{
	const struct lake_config config = {.catalog = lake->catalog,
					   .metadata_schema = lake->metadata_schema,
					   .data_path = lake->data_path,
					   .busy_timeout_ms = BUSY_MS};
	AUTO_FREE char *label = duck_lake_label(lake);
	const struct lake_vitals_wish of = {&config, label, layers, wish->long_ms};
	struct lake_vitals vitals;
	int rc = lake_vitals(&of, ctx, cli_report_finding, r, &vitals, err);
	const char *path = vitals.data_path ? vitals.data_path : lake->data_path ? lake->data_path : lake->new_data_path;
	int before = r->counts[DUCT_FINDING_ERROR];
	if (rc == 0 && path && (vitals.there || s3_is_url(path)))
		rc = look_at_files(r, path, ctx, err);
	bool bad_bucket = path && s3_is_url(path) && r->counts[DUCT_FINDING_ERROR] > before;
	rc = rc ? rc : try_client(child, &vitals, bad_bucket, r, ctx, err);
	free(vitals.data_path);
	free(vitals.schema);
	return rc;
}

int health_of_lake(const struct health_wish *wish, bool *ret_sick, struct duct_error *err)
{
	struct cli_signals signals;
	struct cli_report report = {.utf8 = cli_utf8()};
	struct duck_lake lake;
	struct duct_arena arena;
	struct duct_error why;
	set_lake(wish);
	/* Before there are threads, as it forks. */
	struct health_child *child = wish->client ? health_child_start(&why) : NULL;
	int rc = cli_signals_start(&signals, DUCT_WARN, "", err);
	if (rc < 0) {
		health_child_end(child);
		return rc;
	}
	duct_arena_init(&arena);
	cli_report_begin(&report, "lake", "environment", "DUCKLAKE_*");
	if (wish->client && !child)
		cli_report_finding(&report, DUCT_FINDING_WARN, why.message, NULL);
	rc = duck_lake_from_env(&lake, &arena, &why);
	if (rc < 0)
		cli_report_finding(&report, DUCT_FINDING_ERROR, why.message, "look at --catalog and DUCKLAKE_*");
	rc = rc ? 0 : look(wish, &lake, child, &report, &signals.ctx, err);
	rc = cli_report_end(&report, rc, err);
	health_child_end(child);
	cli_signals_end(&signals);
	duct_arena_done(&arena);
	duct_buf_done(&report.out);
	*ret_sick = report.counts[DUCT_FINDING_ERROR] > 0;
	return rc;
}
