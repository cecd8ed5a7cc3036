#ifndef EXPORT_INTERNAL_H
#define EXPORT_INTERNAL_H

#include "base/buf.h"
#include "export/export.h"
#include "lake/catalog.h"
#include "lake/register.h"
#include "lake/store.h"
#include "net/http.h"
#include "net/s3.h"

/* Days are counted from 1970, in UTC. */
#define EXPORT_DAY_US INT64_C(86400000000)

/* --- clickhouse.c --- */

/* One HTTP endpoint of ClickHouse. One thread. It stays where it was opened. */
struct clickhouse {
	struct http_settings settings;
	struct http_client *http;
	const char *url; /* with user info and parameters, as given */
	const struct duct_ctx *ctx;
};
/* patience_ms: how long it may be silent; 0: as long as an export may take. */
int clickhouse_open(struct clickhouse *ret, const char *url, int64_t patience_ms, const struct duct_ctx *ctx,
		    struct duct_error *err) DUCT_CHECKED;
void clickhouse_close(struct clickhouse *c); /* accepts a zeroed one */
/* The answer as text. RETRY: what may pass (no connection, too busy, out of memory, S3 that is away); CONFIG: what no try mends. query_id: by which it
 * is cancelled at the server when we are stopped; NULL: its own. */
int clickhouse_query(struct clickhouse *c, const char *sql, const char *query_id, struct duct_buf *ret,
		     struct duct_error *err) DUCT_CHECKED;
/* Whether an error with that code of ClickHouse may pass; text: its message. */
bool clickhouse_code_passes(int code, const char *text);

/* --- sql.c --- */

struct export_column {
	const char *name, *expression; /* in ClickHouse */
	enum duct_kind kind;	       /* in the lake */
};
struct export_shape {
	const char *table, *time_column; /* in the lake; its day is the partition */
	const char *folder;		 /* below backfill/ */
	const struct export_column *columns;
	int ncolumns;
};
extern const struct export_shape export_shapes[]; /* by export_what */

/* FROM and WHERE of a day, [from_day, until_day); from_day INT64_MIN: of all days. */
void export_source_sql(struct duct_buf *to, enum export_what what, int64_t team_id, int64_t from_day, int64_t until_day);
/* The whole INSERT INTO FUNCTION s3(...). */
void export_insert_sql(struct duct_buf *to, const struct export_request *r, const struct export_team *team, const char *key,
		       int64_t from_day, int64_t until_day);
/* "backfill/events/team_id=1/year=2024/month=01/day=15/NAME.parquet" */
void export_object_key(struct duct_buf *to, enum export_what what, int64_t team_id, int64_t day, const char *name);

/* The statement that gives a day, its rows and a sum over their content for each day of persons. */
void export_days_sql(struct duct_buf *to, int64_t team_id);

/* --- run.c --- */

struct export_place { /* a team's lake and bucket, open */
	const struct export_request *request;
	const struct duct_ctx *ctx;
	struct export_team team;
	struct export_key key;
	struct clickhouse clickhouse;
	struct s3_options s3_options;
	struct aws_credentials *credentials;
	struct s3 *s3;
	struct lake *lake;
	struct lake_store *store; /* of its files */
	struct duct_arena *arena; /* of the run */
	json_t *result;
	int64_t exported, registered, rows;
};

/* The environment's S3, with what the team's entry says instead; and a client of it. Both are given back by export_close_place(). */
int export_find_bucket(struct export_place *place, struct duct_error *err) DUCT_CHECKED;
int export_open_bucket(struct export_place *place, struct duct_error *err) DUCT_CHECKED;
void export_close_place(struct export_place *place);

/* --- table.c --- */

/* Plans until a commit is not overtaken. plan: what is to be in it; 1: nothing is to be done. */
typedef int export_plan_fn(struct export_place *place, struct lake_txn *txn, void *arg, struct duct_error *err);
int export_commit(struct export_place *place, const char *message, export_plan_fn *plan, void *arg, int64_t *ret_snapshot,
		  struct duct_error *err) DUCT_CHECKED;
/* Drops and makes the table as the options say, each in a commit of its own, and compares what is there with what comes. */
int export_prepare_table(struct export_place *place, struct duct_error *err) DUCT_CHECKED;
const struct lake_table *export_find_table(const struct export_place *place);
/* A file of that day as the table's partitioning has it: one value per key. CONFIG: it is one that days do not have values of. */
int export_partition_values(const struct export_place *place, int64_t day, struct duct_arena *arena, const char *const **ret,
			    int *ret_n, struct duct_error *err) DUCT_CHECKED;

/* --- day.c --- */

/* Asks ClickHouse until what may pass has passed, three times at most; try: 1, 2, 3. */
typedef int export_try_fn(struct export_place *place, void *arg, int try, struct duct_error *err);
int export_try(struct export_place *place, export_try_fn *once, void *arg, struct duct_error *err) DUCT_CHECKED;

/* A day as it shall be: a file that ClickHouse wrote, or none when it has no rows. */
struct export_day {
	int64_t day;
	const char *path; /* NULL: it has no rows */
	int64_t begun_us; /* of the monotonic clock, when ClickHouse was asked for it */
	struct lake_foreign file;
};
/* Has ClickHouse write the day and holds the file against count and partition. mark: goes into the object's name; NULL: nothing. */
int export_write_day(struct export_place *place, const char *mark, struct export_day *day, struct duct_error *err) DUCT_CHECKED;
/* The days take the place of what the lake has of them, in one commit. */
int export_commit_days(struct export_place *place, const struct export_day *days, size_t n, int64_t *ret_snapshot,
		       struct duct_error *err) DUCT_CHECKED;

/* --- held.c: what the lake has already --- */

struct export_held {
	const struct lake_file *file;
	enum {
		EXPORT_OTHERS,	/* no row of the team */
		EXPORT_ONE_DAY, /* all rows are the team's, of first_day */
		EXPORT_STRAYS,	/* it may have rows of the team, of first_day to last_day */
	} how;
	int64_t first_day, last_day;
};
/* Of the table's live files, in their order; in the arena. */
int export_judge_files(struct export_place *place, const struct lake_file *files, size_t n, struct duct_arena *arena,
		       struct export_held **ret, struct duct_error *err) DUCT_CHECKED;

struct export_day_list { /* ascending; malloc */
	int64_t *days;
	size_t n, cap;
};
/* The days of the team's rows that are in no file of one day: elsewhere, or in the catalog. *ret is zeroed, and to be freed in any case. */
int export_stray_days(struct export_place *place, const struct export_held *held, size_t n, struct export_day_list *ret,
		      struct duct_error *err) DUCT_CHECKED;
bool export_day_listed(const struct export_day_list *list, int64_t day);

/* All that the lake has of these days ends with the txn, but the files that are the days' own already. *ret_ended is increased. */
int export_end_days(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, const struct export_day *days,
		    size_t ndays, const struct export_held *held, size_t n, size_t *ret_ended, struct duct_error *err) DUCT_CHECKED;

#endif
