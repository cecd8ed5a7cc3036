/* One day: ClickHouse writes its file, which is held against count and partition, and takes the day's place. */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/killpoint.h"
#include "export/internal.h"
#include "lake/inline.h"
#include "record/calendar.h"

enum { EXPORT_TRIES = 3, FIRST_WAIT_MS = 4000, MOST_WAIT_MS = 60000 };
static const int64_t day_us = INT64_C(86400000000);

/* --- count --- */

static int count_rows(struct export_place *place, int64_t day, int64_t *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, answer = {0};
	duct_buf_puts(&sql, "SELECT count()");
	export_source_sql(&sql, place->request->what, place->team.team_id, day, day + 1);
	duct_buf_puts(&sql, " FORMAT TSV");
	int rc = clickhouse_query(&place->clickhouse, sql.data, NULL, &answer, err);
	if (rc)
		return duct_wrap(err, "count rows");
	*ret = strtoll(answer.data ? answer.data : "", NULL, 10);
	return 0;
}

/* --- export --- */

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

/* Each try has a path of its own: the server may still be writing for one that we lost sight of. */
static int export_once(struct export_place *place, const char *mark, int try, struct export_day *day, struct duct_error *err)
{
	char query_id[DUCT_UUID_LEN];
	AUTO_BUF struct duct_buf key = {0}, name = {0}, sql = {0};
	duct_buf_printf(&name, "%s", place->request->run_id);
	if (try > 1)
		duct_buf_printf(&name, "-try%d", try);
	if (mark)
		duct_buf_printf(&name, "-%s", mark);
	export_object_key(&key, place->request->what, place->team.team_id, day->day, name.data);
	export_insert_sql(&sql, place->request, &place->team, key.data, day->day, day->day + 1);
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
	int wait = first_wait_ms();
	for (int try = 1;; try++) {
		int rc = export_once(place, mark, try, day, err);
		if (rc != -DUCT_RETRY || try == EXPORT_TRIES)
			return rc ? duct_wrap(err, "export") : 0;
		place->request->log("warn", "duckling_export_retry: try %d of %d: %s", try, EXPORT_TRIES, err->message);
		if (pause_ms(place, wait < MOST_WAIT_MS ? wait : MOST_WAIT_MS, err))
			return -(int)err->class;
		wait *= 2;
	}
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
	if (min < day->day * day_us || max >= (day->day + 1) * day_us)
		return duct_fail(err, DUCT_DATA, "\"%s\" goes from %" PRId64 " to %" PRId64 " us, which is not inside %s (UTC)",
				 time_name, min, max, export_day_text(day->day, text));
	return 0;
}

static int check_file(struct export_place *place, struct export_day *day, int64_t before, struct duct_error *err)
{
	int64_t after = before;
	day->file = (struct lake_foreign){.path = day->path, .size_bytes = -1};
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

int export_is_of_day(const struct lake_file *file, int64_t team_id, int64_t day)
{
	struct duct_civil c = duct_civil_of_days(day);
	const int64_t wanted[] = {team_id, c.year, c.month, c.day};
	if (!file->partition_values)
		return -1;
	for (int i = 0; i < 4; i++)
		if (!file->partition_values[i] || strtoll(file->partition_values[i], NULL, 10) != wanted[i])
			return 0;
	return 1;
}

struct landing {
	const struct export_day *days;
	size_t n;
	size_t ended;
};

static int clean_up(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, struct landing *l,
		    const struct lake_file *live, size_t nlive, struct duct_error *err)
{
	for (size_t i = 0; i < nlive; i++)
		for (size_t d = 0; d < l->n; d++) {
			int of = export_is_of_day(&live[i], place->team.team_id, l->days[d].day);
			if (of < 0)
				return duct_fail(
					err, DUCT_CONFIG,
					"file \"%s\" of the table is of no partition, or of an older partitioning: its rows of the day "
					"cannot be told",
					live[i].path);
			if (!of || (l->days[d].path && strcmp(l->days[d].path, live[i].path) == 0))
				continue;
			lake_txn_end_file(txn, t, live[i].id);
			l->ended++;
			break;
		}
	return 0;
}

/* --- rows that other clients have put into the catalog itself --- */

struct ending {
	struct export_place *place;
	struct landing *landing;
	struct lake_txn *txn;
	struct lake_txn_table *table;
	int64_t schema_version;
};

static int end_inlined(void *arg, const struct duct_batch *batch, const struct lake_inlined_row *rows, struct duct_error *err)
{
	struct ending *e = arg;
	(void)err;
	for (uint32_t i = 0; i < batch->rows; i++) {
		struct duct_cell team = duct_vector_cell(&batch->columns[0], i), time = duct_vector_cell(&batch->columns[1], i);
		if (!team.data || !time.data || as_int(team) != e->place->team.team_id)
			continue;
		for (size_t d = 0; d < e->landing->n; d++)
			if (as_int(time) >= e->landing->days[d].day * day_us &&
			    as_int(time) < (e->landing->days[d].day + 1) * day_us) {
				lake_txn_end_inlined(e->txn, e->table, e->schema_version, rows[i].row_id);
				e->landing->ended++;
			}
	}
	return 0;
}

static int clean_up_inlined(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t,
			    const struct lake_table *table, struct landing *l, struct duct_arena *arena, struct duct_error *err)
{
	const struct lake_column *columns[2] = {0};
	struct ending ending = {place, l, txn, t, 0};
	int64_t *versions;
	size_t n;
	lake_inlined_versions(place->lake, table->id, arena, &versions, &n);
	for (int i = 0; i < table->ncolumns; i++)
		if (strcasecmp(table->columns[i].name, "team_id") == 0)
			columns[0] = &table->columns[i];
		else if (strcasecmp(table->columns[i].name, export_shapes[place->request->what].time_column) == 0)
			columns[1] = &table->columns[i];
	if (!n || !columns[0] || !columns[1])
		return 0;
	struct duck_db *db = duck_open();
	struct duck_conn *conn = duck_connect(db);
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		const struct lake_inlined_wanted wanted = {.table_id = table->id,
							   .schema_version = versions[i],
							   .columns = columns,
							   .ncolumns = 2};
		ending.schema_version = versions[i];
		rc = lake_read_inlined(place->lake, conn, &wanted, end_inlined, &ending, err);
	}
	duck_disconnect(conn);
	duck_close(db);
	return rc;
}

static int put_day(struct export_place *place, struct lake_txn *txn, struct lake_txn_table *t, const struct export_day *day,
		   const struct lake_file *live, size_t nlive, struct duct_error *err)
{
	struct duct_civil c = duct_civil_of_days(day->day);
	char team[24], year[24], month[8], number[8];
	const char *const values[] = {team, year, month, number};
	AUTO_BUF struct duct_buf changes = {0};
	(void)snprintf(team, sizeof team, "%" PRId64, place->team.team_id);
	(void)snprintf(year, sizeof year, "%" PRId64, c.year);
	(void)snprintf(month, sizeof month, "%d", c.month);
	(void)snprintf(number, sizeof number, "%d", c.day);
	int rc = lake_txn_evolve(txn, t, &day->file, LAKE_EVOLVE_ADD, &changes, err);
	if (rc == 0 && changes.len)
		place->request->log("warn", "the table changes: %s", changes.data);
	return rc ? rc : lake_txn_register(txn, t, &day->file, values, DUCT_LEN(values), live, nlive, err);
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
		rc = clean_up(place, txn, t, l, live, nlive, err);
	if (!rc && place->request->config.cleanup_existing_partition_data)
		rc = clean_up_inlined(place, txn, t, table, l, &arena, err);
	int64_t registered = 0;
	for (size_t i = 0; i < l->n && rc >= 0; i++) {
		rc = l->days[i].path ? put_day(place, txn, t, &l->days[i], live, nlive, err) : 0;
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
