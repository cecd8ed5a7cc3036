/* Days of the exports: see export_calendar.h. */
#include "run/export_calendar.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "export/registry.h"
#include "record/calendar.h"

enum { PAGE = 500, MOST_DAYS = 3660, MOST_CELLS = 100000, YEAR_DAYS = 366 };
static const int64_t day_us = INT64_C(86400000000);
static const char *const jobs[] = {
	[EXPORT_EVENTS] = "duckling_events_backfill_job", [EXPORT_PERSONS] = "duckling_persons_backfill_job"};

/* --- results --- */

static bool list_has(const json_t *result, int64_t day, int64_t *ret_rows)
{
	char text[11];
	size_t i;
	json_t *one;
	export_day_text(day, text);
	json_array_foreach(json_object_get(result, "days"), i, one)
	{
		const char *name = json_string_value(json_object_get(one, "day"));
		if (!name || strcmp(name, text) != 0)
			continue;
		*ret_rows = json_integer_value(json_object_get(one, "rows"));
		return true;
	}
	return false;
}

bool run_export_lists(const char *result, int64_t day, int64_t *ret_rows)
{
	json_t *json = result ? json_loads(result, 0, NULL) : NULL;
	bool found = list_has(json, day, ret_rows);
	json_decref(json);
	return found;
}

bool run_export_month_has(const struct state_partition *month, int64_t day)
{
	int64_t rows;
	if (strcmp(month->state, "done") == 0)
		return month->result ? run_export_lists(month->result, day, &rows) : month->updated_us / day_us > day;
	return strcmp(month->state, "quarantined") != 0 && strcmp(month->state, "missing") != 0;
}

/* --- one team --- */

struct known {
	const struct state_partition *row;
	struct export_key key;
	json_t *result;
};

struct team {
	enum export_what what;
	int64_t team_id, today;
	struct known *list; /* malloc */
	size_t n, cap;
};

static void team_done(struct team *t)
{
	for (size_t i = 0; i < t->n; i++)
		json_decref(t->list[i].result);
	free(t->list);
}

static void take_known(struct team *t, const struct state_partition *row)
{
	struct duct_error ignored;
	struct export_key key;
	if (export_key_parse(row->key, t->what, t->today, &key, &ignored) || key.team_id != t->team_id)
		return;
	t->list = duct_grow(t->list, &t->cap, t->n + 1, sizeof *t->list);
	t->list[t->n++] = (struct known){row, key, row->result ? json_loads(row->result, 0, NULL) : NULL};
}

static int read_known(struct team *t, struct state *state, struct duct_arena *arena, struct duct_error *err)
{
	AUTO_FREE char *prefix = duct_xasprintf("%" PRId64, t->team_id);
	struct state_partition_filter filter = {
		.job = jobs[t->what], .prefix = prefix, .after_job = jobs[t->what], .after_key = "", .results = true};
	for (int n = PAGE; n == PAGE;) {
		struct state_partition *page = duct_arena_zalloc(arena, PAGE * sizeof *page);
		n = state_partition_list(state, arena, &filter, PAGE, page, err);
		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			take_known(t, &page[i]);
		filter.after_key = n ? page[n - 1].key : "";
	}
	return 0;
}

static bool is(const struct known *k, const char *state)
{
	return strcmp(k->row->state, state) == 0;
}

/* Does the partition say anything of the day? With what rows, -1: not known. */
static bool says(const struct known *k, int64_t day, int64_t *ret_rows)
{
	*ret_rows = -1;
	if (k->key.unit == EXPORT_DAY)
		return k->key.first_day == day && !is(k, "missing") && (list_has(k->result, day, ret_rows) || true);
	struct duct_civil c = duct_civil_of_days(k->key.first_day);
	int64_t first = k->key.unit == EXPORT_MONTH ? k->key.first_day : 0;
	int64_t end = k->key.unit == EXPORT_MONTH ? first + duct_month_days(c.year, c.month) : k->row->updated_us / day_us;
	if (day < first || day >= end || is(k, "missing"))
		return false;
	if (list_has(k->result, day, ret_rows) || !is(k, "done"))
		return true;
	/* Of all persons only days that changed are listed. */
	return k->key.unit == EXPORT_FULL || (!k->result && k->row->updated_us / day_us > day);
}

static struct run_calendar_day day_of(const struct team *t, int64_t day, struct duct_arena *arena)
{
	const struct known *best = NULL;
	int64_t rows = -1, found;
	for (size_t i = 0; i < t->n; i++)
		if (says(&t->list[i], day, &found) && (!best || t->list[i].key.unit < best->key.unit)) {
			best = &t->list[i];
			rows = found;
		}
	if (!best)
		return (struct run_calendar_day){day, "missing", -1, "", "", 0};
	/* A month or whole export that goes on or has failed: what it has done is done. */
	bool done = is(best, "done") || (best->key.unit == EXPORT_MONTH && rows >= 0 && is(best, "failed"));
	return (struct run_calendar_day){
		.day = day,
		.state = done ? (rows == 0 ? "empty" : "done") : duct_arena_strdup(arena, best->row->state),
		.rows = done ? rows : -1,
		.key = duct_arena_strdup(arena, best->row->key),
		.run_id = best->row->run_id ? duct_arena_strdup(arena, best->row->run_id) : "",
		.updated_us = best->row->updated_us,
	};
}

static int64_t first_day(const struct team *t, int64_t last)
{
	int64_t first = INT64_MAX;
	for (size_t i = 0; i < t->n; i++)
		if (t->list[i].key.unit != EXPORT_FULL && t->list[i].key.first_day < first)
			first = t->list[i].key.first_day;
	struct duct_civil c = duct_civil_of_days(last);
	if (first > last)
		return last - c.day + 1;
	return first < last - YEAR_DAYS + 1 ? last - YEAR_DAYS + 1 : first;
}

static int make(struct state *state, struct duct_arena *arena, const struct run_calendar_request *r, struct team *t, size_t *cells,
		struct run_calendar *ret, struct duct_error *err)
{
	struct duct_arena rows;
	duct_arena_init(&rows);
	int rc = read_known(t, state, &rows, err);
	int64_t last = r->last_day == INT64_MIN ? t->today - 1 : r->last_day;
	int64_t from = r->from_day == INT64_MIN ? first_day(t, last) : r->from_day;
	size_t n = from <= last ? (size_t)(last - from + 1) : 0;
	*cells += n;
	if (!rc && (n > MOST_DAYS || *cells > MOST_CELLS))
		rc = duct_fail(err, DUCT_CONFIG, "%s: at most %d days of a team and %d in all are shown at once",
			       n > MOST_DAYS ? "from_date" : "team_id", MOST_DAYS, MOST_CELLS);
	if (!rc) {
		*ret = (struct run_calendar){jobs[t->what], t->team_id, duct_arena_zalloc(arena, (n + 1) * sizeof *ret->days), n};
		for (size_t i = 0; i < n; i++)
			ret->days[i] = day_of(t, from + (int64_t)i, arena);
	}
	team_done(t);
	duct_arena_done(&rows);
	return rc;
}

/* --- which teams --- */

struct ids {
	int64_t *list; /* malloc */
	size_t n, cap;
};

static void add_id(struct ids *to, int64_t id)
{
	for (size_t i = 0; i < to->n; i++)
		if (to->list[i] == id)
			return;
	to->list = duct_grow(to->list, &to->cap, to->n + 1, sizeof *to->list);
	to->list[to->n++] = id;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

/* Keys of one team stand together, so a page is passed over at a time where there are many. */
static int ids_of_partitions(struct state *state, const char *job, struct ids *to, struct duct_error *err)
{
	struct state_partition_filter filter = {.job = job, .after_job = job, .after_key = ""};
	struct duct_arena arena;
	duct_arena_init(&arena);
	int n;
	do {
		struct state_partition *page = duct_arena_zalloc(&arena, PAGE * sizeof *page);
		n = state_partition_list(state, &arena, &filter, PAGE, page, err);
		for (int i = 0; i < n; i++) {
			long long id = strtoll(page[i].key, NULL, 10);
			if (id > 0)
				add_id(to, id);
			filter.after_key = page[i].key;
		}
	} while (n == PAGE);
	duct_arena_done(&arena);
	return n < 0 ? n : 0;
}

static int find_teams(struct state *state, const struct run_calendar_request *r, const bool *wanted, struct ids *to,
		      struct duct_error *err)
{
	struct export_entry *entries;
	struct duct_arena arena;
	size_t n = 0;
	if (r->team_id) {
		add_id(to, r->team_id);
		return 0;
	}
	duct_arena_init(&arena);
	int rc = export_registry_read(state, export_registry_file(NULL), &arena, &entries, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		add_id(to, entries[i].team_id);
	duct_arena_done(&arena);
	for (size_t j = 0; j < DUCT_LEN(jobs) && !rc; j++)
		rc = wanted[j] ? ids_of_partitions(state, jobs[j], to, err) : 0;
	if (to->n)
		qsort(to->list, to->n, sizeof *to->list, by_id);
	return rc;
}

int run_export_calendars(struct state *state, struct duct_arena *arena, const struct run_calendar_request *r,
			 struct run_calendar **ret, size_t *ret_n, struct duct_error *err)
{
	bool wanted[DUCT_LEN(jobs)], any = false;
	struct ids ids = {0};
	size_t cells = 0;
	for (size_t j = 0; j < DUCT_LEN(jobs); j++)
		any |= wanted[j] = !r->job || !*r->job || strcmp(r->job, jobs[j]) == 0;
	if (!any)
		return duct_fail(err, DUCT_CONFIG, "job: \"%.60s\" is none: %s or %s", r->job, jobs[0], jobs[1]);
	int rc = find_teams(state, r, wanted, &ids, err);
	*ret = duct_arena_zalloc(arena, (DUCT_LEN(jobs) * ids.n + 1) * sizeof **ret);
	*ret_n = 0;
	for (size_t j = 0; j < DUCT_LEN(jobs); j++)
		for (size_t i = 0; i < ids.n && wanted[j] && !rc; i++) {
			struct team t = {.what = (enum export_what)j, .team_id = ids.list[i], .today = duct_wall_us() / day_us};
			rc = make(state, arena, r, &t, &cells, &(*ret)[*ret_n], err);
			*ret_n += !rc;
		}
	free(ids.list);
	return rc;
}
