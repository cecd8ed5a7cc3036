#ifndef EXPORT_EXPORT_H
#define EXPORT_EXPORT_H

#include <jansson.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/error.h"

struct state;

/*
 * Days of a team, out of ClickHouse into the team's own lake: ClickHouse writes the files into the team's bucket, and they become the day in one
 * commit. One partition of one job at a time; what partitions there are, and when they run, is others' business.
 */
enum export_what { EXPORT_EVENTS, EXPORT_PERSONS };

/* "12345_2024-01-15", "12345_2024-01" (events: every day of it up to yesterday), "12345" (persons: all of them). */
struct export_key {
	int64_t team_id;
	enum { EXPORT_DAY, EXPORT_MONTH, EXPORT_FULL } unit;
	int64_t first_day; /* since 1970-01-01; of DAY and MONTH */
	int ndays;	   /* that are over; 0: the key is of the future */
};
/* today: days since 1970-01-01, in UTC. CONFIG says the exact rule that the key breaks. */
int export_key_parse(const char *text, enum export_what what, int64_t today, struct export_key *ret,
		     struct duct_error *err) DUCT_CHECKED;

/* A team as it is worked with (registry.h). All in the arena; NULL: not given. */
struct export_team {
	int64_t team_id;
	const char *bucket, *region, *endpoint; /* endpoint: of an S3 that is not AWS's */
	const char *catalog;			/* "postgres:DSN" of db_*, or as `catalog` says */
	const char *role_arn, *external_id;
};

/* The columns of its table in the lake: "name", "BIGINT". */
void export_columns(enum export_what what, void (*take)(void *arg, const char *name, const char *type), void *arg);

struct export_config {
	const json_t *clickhouse_settings; /* NULL: none */
	bool skip_ducklake_registration, skip_schema_validation, cleanup_existing_partition_data, create_tables_if_missing,
		delete_tables, dry_run;
};
/* Defaults and names are the page's. NULL: all defaults. CONFIG names the option. */
int export_config_parse(const json_t *config, struct export_config *ret, struct duct_error *err) DUCT_CHECKED;

struct export_request {
	enum export_what what;
	const char *partition, *clickhouse_url;
	struct state *state;	/* where teams of the API are; NULL: nowhere */
	const char *teams_file; /* NULL: none */
	const char *run_id;	/* part of every path that is written; each attempt has another one */
	struct export_config config;
	const json_t *checkpoint; /* of an earlier attempt, or NULL */
	void (*log)(const char *level, const char *fmt, ...) DUCT_PRINTF(2, 3);
	void (*progress)(int64_t done, int64_t total, const char *step, const json_t *checkpoint);
};
/*
 * *ret: an object that says what came of it (also of a failure, where there is something to say), the caller's: "days" has those that are done, each
 * with "rows", and "path" and "bytes" of its file, "snapshot_id" of its commit; "lake" the catalog without secrets, "table" there.
 */
int export_run(const struct export_request *request, const struct duct_ctx *ctx, json_t **ret, struct duct_error *err) DUCT_CHECKED;

/* The first day of a team's events or persons in ClickHouse, 2015-01-01 at the earliest; -1: it has none. */
int export_earliest_day(const char *clickhouse_url, enum export_what what, int64_t team_id, const struct duct_ctx *ctx,
			int64_t *ret, struct duct_error *err) DUCT_CHECKED;

/* Days since 1970-01-01 as text, "2024-01-15"; static per thread is not needed: to has room for 11. */
char *export_day_text(int64_t day, char to[11]);

#endif
