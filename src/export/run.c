/* A partition of a job, from its key to the lake. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "duck/session.h"
#include "export/internal.h"
#include "export/registry.h"
#include "record/calendar.h"

enum { SQL_SHOWN = 800, LOOK_MS = 60000 };

static int find_team(struct export_place *place, struct duct_error *err)
{
	const struct export_request *r = place->request;
	struct export_entry *entries;
	size_t n;
	if (export_registry_read(r->state, r->teams_file, place->arena, &entries, &n, err))
		return -(int)err->class;
	for (size_t i = 0; i < n; i++)
		if (entries[i].team_id == place->key.team_id)
			return export_entry_resolve(&entries[i], r->state, place->arena, &place->team, err);
	return duct_fail(err, DUCT_CONFIG, "No DuckLakeCatalog found for team_id=%" PRId64 ": %s%s%s has it", place->key.team_id,
			 r->teams_file ? "neither \"" : "no team of the API", r->teams_file ? r->teams_file : "",
			 r->teams_file ? "\" nor the API" : " and no file of teams (--registry)");
}

/* The environment's, with what the team's entry says instead. */
int export_find_bucket(struct export_place *place, struct duct_error *err)
{
	AUTO_FREE char *ignored = NULL;
	struct export_team *team = &place->team;
	struct s3_options *o = &place->s3_options;
	if (s3_options_of_lake(o, &ignored, err))
		return -(int)err->class;
	const struct {
		char **to;
		const char *from;
	} ours[] = {{&o->endpoint, team->endpoint},
		    {&o->region, team->region},
		    {&o->role_arn, team->role_arn},
		    {&o->external_id, team->external_id}};
	for (size_t i = 0; i < DUCT_LEN(ours); i++)
		if (ours[i].from) {
			free(*ours[i].to);
			*ours[i].to = duct_xstrdup(ours[i].from);
		}
	if (!team->endpoint && o->endpoint && *o->endpoint)
		team->endpoint = duct_arena_strdup(place->arena, o->endpoint);
	return 0;
}

int export_open_bucket(struct export_place *place, struct duct_error *err)
{
	place->credentials = aws_credentials_open(&place->s3_options, place->ctx->stop_fd);
	return s3_open(&place->s3, &place->s3_options, place->credentials, place->ctx->stop_fd, err);
}

static int open_lake(struct export_place *place, struct duct_error *err)
{
	AUTO_FREE char *data_path = duct_xasprintf("s3://%s/", place->team.bucket);
	AUTO_FREE char *flow =
		duct_xasprintf("backfill/%s/%s", export_shapes[place->request->what].folder, place->request->partition);
	const struct lake_config config = {
		.catalog = place->team.catalog,
		.data_path = data_path,
		.remote = true,
		.flow = flow,
		.create = place->request->config.create_tables_if_missing,
		.create_indexes = true,
		.busy_timeout_ms = 30000,
	};
	AUTO_FREE char *label = duck_lake_label(&(struct duck_lake){.catalog = place->team.catalog});
	json_object_set_new(place->result, "lake", json_string(label));
	json_object_set_new(place->result, "table", json_sprintf("posthog.%s", export_shapes[place->request->what].table));
	int rc = lake_open(&place->lake, &config, place->ctx, err);
	rc = rc ? rc
		: lake_store_open(&place->store, lake_data_path(place->lake), &place->s3_options, place->credentials,
				  place->ctx->stop_fd, err);
	return rc ? duct_wrap(err, "lake of team %" PRId64, place->team.team_id) : 0;
}

static int open_place(struct export_place *place, struct duct_error *err)
{
	if (clickhouse_open(&place->clickhouse, place->request->clickhouse_url, 0, place->ctx, err))
		return -(int)err->class;
	int rc = export_open_bucket(place, err);
	if (rc || place->request->config.skip_ducklake_registration)
		return rc;
	rc = open_lake(place, err);
	if (!rc)
		lake_use_s3(place->lake, place->s3);
	return rc ? rc : export_prepare_table(place, err);
}

void export_close_place(struct export_place *place)
{
	lake_store_close(place->store);
	lake_close(place->lake);
	s3_close(place->s3);
	aws_credentials_close(place->credentials);
	clickhouse_close(&place->clickhouse);
	s3_options_done(&place->s3_options);
}

/* --- dry run --- */

static int dry_run(struct export_place *place)
{
	int64_t from = place->key.unit == EXPORT_FULL ? 0 : place->key.first_day;
	json_t *statements = json_array();
	for (int i = 0; i < (place->key.unit == EXPORT_FULL ? 1 : place->key.ndays); i++) {
		AUTO_BUF struct duct_buf key = {0}, sql = {0};
		export_object_key(&key, place->request->what, place->team.team_id, from + i, place->request->run_id);
		export_insert_sql(&sql, place->request, &place->team, key.data, from + i, from + i + 1);
		place->request->log("info", "dry run: s3://%s/%s", place->team.bucket, key.data);
		place->request->log("info", "dry run: %.*s", SQL_SHOWN, sql.data);
		json_array_append_new(statements, json_string(sql.data));
	}
	json_object_set_new(place->result, "statements", statements);
	json_object_set_new(place->result, "dry_run", json_true());
	return 0;
}

/* --- events: a day after the other, each with its commit --- */

/* The table's files, where an earlier attempt has done something: since then the team may have got another lake, or the table may have been dropped. */
static int read_files(struct export_place *place, struct lake_file **ret, size_t *ret_n, struct duct_error *err)
{
	const struct lake_table *table = place->lake ? export_find_table(place) : NULL;
	if (!table || !json_array_size(json_object_get(place->request->checkpoint, "days")))
		return 0;
	return lake_list_files(place->lake, table->id, place->arena, ret, ret_n, err);
}

static bool has_file(const struct lake_file *files, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(files[i].path, path) == 0)
			return true;
	return false;
}

/* What an earlier attempt has done, for the result; false: it has not done this day, or the lake does not have it any more. */
static bool was_done(struct export_place *place, const char *day, const struct lake_file *files, size_t n)
{
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(place->request->checkpoint, "days"), i, one)
	{
		const char *name = json_string_value(json_object_get(one, "day"));
		const char *path = json_string_value(json_object_get(one, "path"));
		if (!name || strcmp(name, day) != 0)
			continue;
		if (path && place->lake && !has_file(files, n, path))
			return false;
		json_array_append(json_object_get(place->result, "days"), one);
		return true;
	}
	return false;
}

/* What came of a day, for the result and the log. */
static void tell_day(struct export_place *place, const struct export_day *day, int64_t snapshot)
{
	char text[11];
	int64_t rows = day->path ? day->file.is.rows : 0;
	json_t *one = json_pack("{s:s, s:I}", "day", export_day_text(day->day, text), "rows", (json_int_t)rows);
	if (day->path) {
		json_object_set_new(one, "path", json_string(day->path));
		json_object_set_new(one, "bytes", json_integer(day->file.size_bytes));
	}
	if (snapshot >= 0)
		json_object_set_new(one, "snapshot_id", json_integer(snapshot));
	json_array_append_new(json_object_get(place->result, "days"), one);
	place->request->log("info", "%s: %" PRId64 " rows%s%s", text, rows, day->path ? ": " : "", day->path ? day->path : "");
}

static int export_events(struct export_place *place, struct duct_error *err)
{
	const json_t *days = json_object_get(place->result, "days");
	struct lake_file *files = NULL;
	size_t n = 0;
	int rc = read_files(place, &files, &n, err);
	for (int i = 0; i < place->key.ndays && !rc; i++) {
		char text[11];
		struct export_day day = {.day = place->key.first_day + i};
		int64_t snapshot = -1;
		if (was_done(place, export_day_text(day.day, text), files, n))
			continue;
		place->request->progress(i, place->key.ndays, text, NULL);
		rc = export_write_day(place, NULL, &day, err);
		if (!rc && place->lake)
			rc = export_commit_days(place, &day, 1, &snapshot, err);
		if (rc)
			break;
		tell_day(place, &day, snapshot);
		json_t *checkpoint = json_pack("{s:O}", "days", days);
		place->request->progress(i + 1, place->key.ndays, text, checkpoint);
		json_decref(checkpoint);
	}
	return rc;
}

/* --- persons: the days that are not as the lake has them, in one commit --- */

struct person_day {
	int64_t day, rows;
	char mark[20];
};

struct person_days {
	struct person_day *list;
	size_t n, cap;
};

static int read_days_once(struct export_place *place, void *arg, int try, struct duct_error *err)
{
	AUTO_BUF struct duct_buf sql = {0}, answer = {0};
	struct person_days *days = arg;
	(void)try;
	days->n = 0;
	export_days_sql(&sql, place->team.team_id);
	if (clickhouse_query(&place->clickhouse, sql.data, NULL, &answer, err))
		return duct_wrap(err, "days of persons");
	/* Without persons there are the names still. */
	char *save = NULL, *line = answer.data ? strtok_r(answer.data, "\n", &save) : NULL;
	if (!line || strcmp(line, "day\tn\tmark") != 0)
		return duct_fail(err, DUCT_RETRY, "days of persons: ClickHouse answered \"%.100s\"", line ? line : "");
	while ((line = strtok_r(NULL, "\n", &save))) {
		struct person_day d = {0};
		if (sscanf(line, "%" SCNd64 "\t%" SCNd64 "\t%16s", &d.day, &d.rows, d.mark + 1) != 3)
			return duct_fail(err, DUCT_RETRY, "days of persons: ClickHouse answered \"%.100s\"", line);
		d.mark[0] = 'h';
		days->list = duct_grow(days->list, &days->cap, days->n + 1, sizeof *days->list);
		days->list[days->n++] = d;
	}
	return 0;
}

static int read_days(struct export_place *place, struct person_day **ret, size_t *ret_n, struct duct_error *err)
{
	struct person_days days = {0};
	int rc = export_try(place, read_days_once, &days, err);
	*ret = days.list;
	*ret_n = days.n;
	return rc;
}

/* What the lake has of the team's persons. */
struct person_lake {
	struct export_held *held;
	size_t n;
	struct export_day_list strays;
};

static int read_lake(struct export_place *place, struct person_lake *ret, struct duct_error *err)
{
	struct lake_file *live;
	const struct lake_table *table = place->lake ? export_find_table(place) : NULL;
	if (!table)
		return 0;
	if (lake_list_files(place->lake, table->id, place->arena, &live, &ret->n, err) ||
	    export_judge_files(place, live, ret->n, place->arena, &ret->held, err))
		return -(int)err->class;
	return export_stray_days(place, ret->held, ret->n, &ret->strays, err);
}

/* Whether what the lake has of the day is just the file with this sum of its content in its name. */
static bool lake_has(const struct person_lake *lake, const struct person_day *day)
{
	size_t found = 0;
	AUTO_FREE char *end = duct_xasprintf("-%s.parquet", day->mark);
	for (size_t i = 0; i < lake->n; i++) {
		const struct lake_file *file = lake->held[i].file;
		if (lake->held[i].how != EXPORT_ONE_DAY || lake->held[i].first_day != day->day)
			continue;
		size_t len = strlen(file->path), tail = strlen(end);
		bool same = len > tail && strcmp(file->path + len - tail, end) == 0 && file->record_count == day->rows;
		if (!same || file->delete_count || file->mark_count || file->delete_file_id >= 0)
			return false;
		found++;
	}
	return found == 1 && !export_day_listed(&lake->strays, day->day);
}

static bool lake_has_any(const struct person_lake *lake, int64_t day)
{
	for (size_t i = 0; i < lake->n; i++)
		if (lake->held[i].how == EXPORT_ONE_DAY && lake->held[i].first_day == day)
			return true;
	return export_day_listed(&lake->strays, day);
}

/* A day of the source is wanted by a full export; by that of a day D: D and later, and what the lake has already. */
static bool wants(const struct export_place *place, const struct person_lake *lake, int64_t day)
{
	return place->key.unit == EXPORT_FULL || day >= place->key.first_day || lake_has_any(lake, day);
}

struct person_plan {
	struct export_day *days;
	const char **marks;
	size_t n, cap, marks_cap;
};

static void put_plan(struct person_plan *plan, int64_t day, const char *mark)
{
	for (size_t i = 0; i < plan->n; i++)
		if (plan->days[i].day == day)
			return;
	plan->days = duct_grow(plan->days, &plan->cap, plan->n + 1, sizeof *plan->days);
	plan->marks = duct_grow(plan->marks, &plan->marks_cap, plan->n + 1, sizeof *plan->marks);
	plan->days[plan->n] = (struct export_day){.day = day};
	plan->marks[plan->n++] = mark;
}

static bool is_known(const struct person_day *days, size_t n, int64_t day)
{
	bool known = false;
	for (size_t i = 0; i < n && !known; i++)
		known = days[i].day == day;
	return known;
}

/* Days that change: those that the source has otherwise, and those that it has no more. */
static int plan_persons(struct export_place *place, const struct person_day *days, size_t ndays, struct person_plan *plan,
			struct duct_error *err)
{
	struct person_lake lake = {0};
	int rc = read_lake(place, &lake, err);
	for (size_t i = 0; i < ndays && !rc; i++)
		if (wants(place, &lake, days[i].day) && !lake_has(&lake, &days[i]))
			put_plan(plan, days[i].day, days[i].mark);
	for (size_t i = 0; i < lake.n && !rc; i++)
		if (lake.held[i].how == EXPORT_ONE_DAY && !is_known(days, ndays, lake.held[i].first_day))
			put_plan(plan, lake.held[i].first_day, NULL);
	for (size_t i = 0; i < lake.strays.n && !rc; i++)
		if (!is_known(days, ndays, lake.strays.days[i]))
			put_plan(plan, lake.strays.days[i], NULL);
	free(lake.strays.days);
	return rc;
}

static int write_persons(struct export_place *place, struct person_plan *plan, struct duct_error *err)
{
	for (size_t i = 0; i < plan->n; i++) {
		char text[11];
		place->request->progress((int64_t)i, (int64_t)plan->n, export_day_text(plan->days[i].day, text), NULL);
		if (plan->marks[i] && export_write_day(place, plan->marks[i], &plan->days[i], err))
			return -(int)err->class;
	}
	return 0;
}

/* Whether the source is as it was when the days were chosen: otherwise the names would say what the files are not. */
static int still_same(struct export_place *place, const struct person_day *days, size_t n, struct duct_error *err)
{
	struct person_day *now = NULL;
	size_t nnow = 0;
	int rc = read_days(place, &now, &nnow, err);
	bool same = nnow == n;
	for (size_t i = 0; i < n && same; i++)
		same = now[i].day == days[i].day && now[i].rows == days[i].rows && strcmp(now[i].mark, days[i].mark) == 0;
	free(now);
	return rc ? rc : same;
}

/* The partition's own day, when it is as the lake has it. */
static void tell_unchanged(struct export_place *place, const struct person_day *days, size_t n, const struct person_plan *plan)
{
	char text[11];
	int64_t rows = 0;
	for (size_t i = 0; i < plan->n; i++)
		if (plan->days[i].day == place->key.first_day)
			return;
	for (size_t i = 0; i < n; i++)
		if (days[i].day == place->key.first_day)
			rows = days[i].rows;
	json_array_append_new(json_object_get(place->result, "days"),
			      json_pack("{s:s, s:I, s:b}", "day", export_day_text(place->key.first_day, text), "rows",
					(json_int_t)rows, "unchanged", 1));
	place->request->log("info", "%s: as it was, %" PRId64 " rows%s", text, rows,
			    plan->n ? "" : "; persons are as they were: nothing was written");
}

static int persons_once(struct export_place *place, bool last, struct duct_error *err)
{
	struct person_day *days = NULL;
	struct person_plan plan = {0};
	size_t n = 0;
	int64_t snapshot = -1;
	int rc = read_days(place, &days, &n, err);
	if (!rc)
		rc = plan_persons(place, days, n, &plan, err);
	if (!rc)
		rc = write_persons(place, &plan, err);
	if (!rc && plan.n)
		rc = still_same(place, days, n, err) - 1; /* 0: the same, -1: not */
	if (rc == -1 && !last)
		rc = 1;
	else if (rc == -1)
		rc = duct_fail(err, DUCT_RETRY, "persons changed while they were exported, each time");
	else if (rc < 0)
		rc = -(int)err->class;
	if (!rc && place->lake && plan.n)
		rc = export_commit_days(place, plan.days, plan.n, &snapshot, err);
	for (size_t i = 0; i < plan.n && !rc; i++)
		tell_day(place, &plan.days[i], snapshot);
	if (!rc && place->key.unit == EXPORT_DAY)
		tell_unchanged(place, days, n, &plan);
	free(plan.days);
	free(plan.marks);
	free(days);
	return rc;
}

static int export_persons(struct export_place *place, struct duct_error *err)
{
	int rc = 1;
	for (int i = 0; i < 3 && rc == 1; i++) {
		place->exported = place->rows = 0;
		rc = persons_once(place, i == 2, err);
	}
	return rc;
}

/* --- the whole --- */

static int run(struct export_place *place, struct duct_error *err)
{
	const struct export_request *r = place->request;
	int64_t today = duct_wall_us() / EXPORT_DAY_US;
	if (export_key_parse(r->partition, r->what, today, &place->key, err) || find_team(place, err) ||
	    export_find_bucket(place, err))
		return -(int)err->class;
	json_object_set_new(place->result, "team_id", json_integer(place->team.team_id));
	json_object_set_new(place->result, "bucket", json_string(place->team.bucket));
	if (r->what == EXPORT_PERSONS)
		json_object_set_new(place->result, "export_mode", json_string(place->key.unit == EXPORT_FULL ? "full" : "daily"));
	if (r->config.dry_run)
		return dry_run(place);
	if (place->key.unit != EXPORT_FULL && !place->key.ndays) {
		r->log("info", "the key is of the future: there is no day to export");
		return 0;
	}
	int rc = open_place(place, err);
	if (!rc)
		rc = r->what == EXPORT_EVENTS ? export_events(place, err) : export_persons(place, err);
	return rc;
}

int export_run(const struct export_request *request, const struct duct_ctx *ctx, json_t **ret, struct duct_error *err)
{
	struct duct_arena arena;
	struct export_place place = {.request = request, .ctx = ctx, .arena = &arena};
	duct_arena_init(&arena);
	place.result = json_pack("{s:s, s:[]}", "partition_key", request->partition, "days");
	int rc = run(&place, err);
	json_object_set_new(place.result, "dates_processed",
			    json_integer((json_int_t)json_array_size(json_object_get(place.result, "days"))));
	json_object_set_new(place.result, "files_exported", json_integer(place.exported));
	json_object_set_new(place.result, "files_registered", json_integer(place.registered));
	export_close_place(&place);
	duct_arena_done(&arena);
	*ret = place.result;
	return rc;
}

int export_earliest_day(const char *clickhouse_url, enum export_what what, int64_t team_id, const struct duct_ctx *ctx,
			int64_t *ret, struct duct_error *err)
{
	struct clickhouse clickhouse = {0};
	AUTO_BUF struct duct_buf sql = {0}, answer = {0};
	long long rows = 0, day = 0;
	int64_t least = duct_days_of_civil(2015, 1, 1);
	if (clickhouse_open(&clickhouse, clickhouse_url, LOOK_MS, ctx, err))
		return -(int)err->class;
	/* Moments before 1970 are no dates of ClickHouse. */
	duct_buf_printf(&sql, "SELECT count(), toInt32(toDate32(min(%s), 'UTC'))",
			what == EXPORT_EVENTS ? "e.timestamp" : "p._timestamp");
	export_source_sql(&sql, what, team_id, 0, duct_days_of_civil(2100, 1, 1));
	duct_buf_puts(&sql, " FORMAT TSV");
	int rc = clickhouse_query(&clickhouse, sql.data, NULL, &answer, err);
	clickhouse_close(&clickhouse);
	if (rc)
		return duct_wrap(err, "earliest day of team %" PRId64, team_id);
	if (sscanf(answer.data ? answer.data : "", "%lld\t%lld", &rows, &day) != 2)
		return duct_fail(err, DUCT_RETRY, "earliest day of team %" PRId64 ": ClickHouse answered \"%.100s\"", team_id,
				 answer.data ? answer.data : "");
	*ret = !rows ? -1 : day < least ? least : day;
	return 0;
}
