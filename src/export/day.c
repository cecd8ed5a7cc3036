/* One day: ClickHouse writes its file, which is held against count and partition, and takes the day's place. */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "export/internal.h"

enum { EXPORT_TRIES = 3, FIRST_WAIT_MS = 4000, MOST_WAIT_MS = 60000 };

/* --- tries --- */

static int pause_ms(const struct export_place *place, int ms, struct duct_error *err)
{
	struct pollfd stop = {.fd = place->ctx->stop_fd, .events = POLLIN};
	(void)poll(&stop, 1, ms); /* a signal that is not for us makes the pause shorter */
	return duct_ctx_stopped(place->ctx) ? duct_fail(err, DUCT_CANCELLED, "stopped") : 0;
}

static int first_wait_ms(void)
{
	const char *text = getenv("DUCTSTREAM_EXPORT_RETRY_WAIT_MS");
	return text && *text ? atoi(text) : FIRST_WAIT_MS;
}

int export_try(struct export_place *place, export_try_fn *once, void *arg, struct duct_error *err)
{
	int wait = first_wait_ms();
	for (int try = 1;; try++) {
		int rc = once(place, arg, try, err);
		if (rc != -DUCT_RETRY || try == EXPORT_TRIES)
			return rc;
		place->request->log("warn", "duckling_export_retry: try %d of %d: %s", try, EXPORT_TRIES, err->message);
		if (pause_ms(place, wait < MOST_WAIT_MS ? wait : MOST_WAIT_MS, err))
			return -(int)err->class;
		wait *= 2;
	}
}

/* --- count --- */

struct count {
	int64_t day, rows;
};

static int count_once(struct export_place *place, void *arg, int try, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, answer = {0};
	struct count *count = arg;
	(void)try;
	duct_buf_puts(&sql, "SELECT count()");
	export_source_sql(&sql, place->request->what, place->team.team_id, count->day, count->day + 1);
	duct_buf_puts(&sql, " FORMAT TSV");
	int rc = clickhouse_query(&place->clickhouse, sql.data, NULL, &answer, err);
	if (rc)
		return duct_wrap(err, "count rows");
	/* Whatever answers in its place (a balancer's page, nothing) is not taken for 0: that would empty the day. */
	size_t digits = answer.data ? strspn(answer.data, "0123456789") : 0;
	if (!digits || digits > 18 || strcmp(answer.data + digits, "\n") != 0)
		return duct_fail(err, DUCT_RETRY, "count rows: ClickHouse answered \"%.100s\"", answer.data ? answer.data : "");
	count->rows = strtoll(answer.data, NULL, 10);
	return 0;
}

static int count_rows(struct export_place *place, int64_t day, int64_t *ret, struct duct_error *err)
{
	struct count count = {.day = day};
	int rc = export_try(place, count_once, &count, err);
	*ret = count.rows;
	return rc;
}

/* --- export --- */

struct file_job {
	struct export_day *day;
	const char *mark;
};

/* Each try has a path of its own: the server may still be writing for one that we lost sight of. */
static int export_once(struct export_place *place, void *arg, int try, struct duct_error *err)
{
	const struct file_job *job = arg;
	struct export_day *day = job->day;
	char query_id[DUCT_UUID_LEN];
	AUTO_BUF struct duct_buf key = {0}, name = {0}, sql = {0};
	duct_buf_printf(&name, "%s", place->request->run_id);
	if (try > 1)
		duct_buf_printf(&name, "-try%d", try);
	if (job->mark)
		duct_buf_printf(&name, "-%s", job->mark);
	export_object_key(&key, place->request->what, place->team.team_id, day->day, name.data);
	export_insert_sql(&sql, place->request, &place->team, key.data, day->day, day->day + 1);
	day->begun_us = duct_mono_us();
	int rc = clickhouse_query(&place->clickhouse, sql.data, duct_uuid_v4(query_id), NULL, err);
	if (rc)
		return rc;
	duct_buf_done(&name);
	duct_buf_printf(&name, "s3://%s/%s", place->team.bucket, key.data);
	day->path = duct_arena_strdup(place->arena, name.data);
	return 0;
}

static int export_file(struct export_place *place, const char *mark, struct export_day *day, struct duct_error *err)
{
	struct file_job job = {day, mark};
	int rc = export_try(place, export_once, &job, err);
	return rc ? duct_wrap(err, "export") : 0;
}

/* --- the file, and the partition that it is for --- */

static int64_t as_int(struct duct_cell cell)
{
	int64_t v = 0;
	memcpy(&v, cell.data, cell.len < sizeof v ? cell.len : sizeof v);
	return v;
}

static int check_bounds(struct export_place *place, const struct export_day *day, struct duct_error *err)
{
	const char *time_name = export_shapes[place->request->what].time_column;
	const struct parquet_described_column *time = lake_foreign_column(&day->file, time_name),
					      *team = lake_foreign_column(&day->file, "team_id");
	if (!time || !team || time->type.kind != DUCT_TIMESTAMPTZ || team->type.kind != DUCT_INT64 || !time->min.data ||
	    !team->min.data || time->nulls || team->nulls)
		return duct_fail(err, DUCT_DATA, "its footer does not say the bounds of \"%s\" and team_id without NULLs",
				 time_name);
	if (as_int(team->min) != place->team.team_id || as_int(team->max) != place->team.team_id)
		return duct_fail(err, DUCT_DATA,
				 "its rows are of teams %" PRId64 " to %" PRId64 ", the partition is of team %" PRId64,
				 as_int(team->min), as_int(team->max), place->team.team_id);
	int64_t min = as_int(time->min), max = as_int(time->max);
	char text[11];
	if (min < day->day * EXPORT_DAY_US || max >= (day->day + 1) * EXPORT_DAY_US)
		return duct_fail(err, DUCT_DATA, "\"%s\" goes from %" PRId64 " to %" PRId64 " us, which is not inside %s (UTC)",
				 time_name, min, max, export_day_text(day->day, text));
	return 0;
}

static int check_file(struct export_place *place, struct export_day *day, int64_t before, struct duct_error *err)
{
	int64_t after = before;
	day->file = (struct lake_foreign){.path = day->path, .size_bytes = -1, .written_us = day->begun_us};
	if (lake_foreign_read(&day->file, 1, place->s3, place->arena, err))
		return -(int)err->class;
	int64_t rows = day->file.is.rows;
	if (rows != before && count_rows(place, day->day, &after, err))
		return -(int)err->class;
	if (rows < (before < after ? before : after) || rows > (before > after ? before : after))
		return duct_fail(err, DUCT_RETRY,
				 "file \"%s\" has %" PRId64 " rows, ClickHouse counted %" PRId64 " before it and %" PRId64 " after",
				 day->path, rows, before, after);
	if (rows && check_bounds(place, day, err))
		return duct_wrap(err, "file \"%s\"", day->path);
	if (!rows)
		day->path = NULL;
	return 0;
}

int export_write_day(struct export_place *place, const char *mark, struct export_day *day, struct duct_error *err)
{
	int64_t before;
	char text[11];
	day->path = NULL;
	int rc = count_rows(place, day->day, &before, err);
	if (!rc && before)
		rc = export_file(place, mark, day, err);
	if (!rc && before)
		rc = check_file(place, day, before, err);
	if (rc)
		return duct_wrap(err, "%s", export_day_text(day->day, text));
	place->exported += day->path != NULL;
	place->rows += day->path ? day->file.is.rows : 0;
	duct_kill_point("export-written");
	return 0;
}

/* --- into the lake --- */

struct landing {
	const struct export_day *days;
	size_t n;
	size_t ended;
};

static int clean_up(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, struct landing *l,
		    const struct lake_file *live, size_t nlive, struct duct_arena *arena, struct duct_error *err)
{
	struct export_held *held;
	int rc = export_judge_files(place, live, nlive, arena, &held, err);
	return rc ? rc : export_end_days(place, txn, t, l->days, l->n, held, nlive, &l->ended, err);
}

static int put_day(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, const struct export_day *day,
		   const struct lake_file *live, size_t nlive, struct duct_arena *arena, struct duct_error *err)
{
	const char *const *values;
	int n;
	AUTO_BUF struct duct_buf changes = {0};
	int rc = lake_txn_evolve(txn, t, &day->file, LAKE_EVOLVE_ADD, &changes, err);
	if (rc == 0 && changes.len)
		place->request->log("warn", "the table changes: %s", changes.data);
	rc = rc ? rc : export_partition_values(place, day->day, arena, &values, &n, err);
	return rc ? rc : lake_txn_register(txn, t, &day->file, values, n, live, nlive, err);
}

static int plan_days(struct export_place *place, struct lake_txn *txn, void *arg, struct duct_error *err)
{
	struct landing *l = arg;
	struct lake_file *live;
	size_t nlive;
	struct duct_arena arena;
	const struct lake_table *table = export_find_table(place);
	l->ended = 0;
	if (!table)
		return duct_fail(err, DUCT_RETRY, "the table was dropped while its files were written");
	duct_arena_init(&arena);
	struct lake_txn_table *t = lake_txn_table(txn, table->id);
	int rc = lake_list_files(place->lake, table->id, &arena, &live, &nlive, err);
	if (!rc && place->request->config.cleanup_existing_partition_data)
		rc = clean_up(place, txn, t, l, live, nlive, &arena, err);
	int64_t registered = 0;
	for (size_t i = 0; i < l->n && rc >= 0; i++) {
		rc = l->days[i].path ? put_day(place, txn, t, &l->days[i], live, nlive, &arena, err) : 0;
		registered += rc > 0;
	}
	duct_arena_done(&arena);
	return rc < 0 ? rc : !registered && !l->ended;
}

int export_commit_days(struct export_place *place, const struct export_day *days, size_t n, int64_t *ret_snapshot,
		       struct duct_error *err)
{
	struct landing l = {.days = days, .n = n};
	AUTO_FREE char *message = duct_xasprintf("ductstream backfill %s", place->request->partition);
	int rc = export_commit(place, message, plan_days, &l, ret_snapshot, err);
	for (size_t i = 0; i < n && !rc; i++)
		place->registered += days[i].path != NULL;
	return rc;
}
