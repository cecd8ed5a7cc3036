/*
 * Sensors of the exports (export_job.c): which partitions of which teams are to run. Two for each job: `daily` looks every hour at yesterday and
 * all days since the first that are not there or have failed, `full` goes through a team's history by its cursor, once a day. Every tick reads the teams anew, of the file
 * and of the API. A partition that fails is tried again three times and then "quarantined": only who runs it by hand frees it.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "export/registry.h"
#include "run/export_calendar.h"
#include "run/scheduler.h"

enum { PAGE = 500, RETRIES = 3, MOST_PER_TICK = 1000, HOUR_MS = 3600000, TEN_MINUTES_MS = 600000 };
static const int64_t day_us = INT64_C(86400000000);

static const struct side {
	enum export_what what;
	const char *job, *tag, *tag_name, *infix;
} sides[] = {
	[EXPORT_EVENTS] = {EXPORT_EVENTS, "duckling_events_backfill_job", "duckling_events_v1",
			   "duckling_events_backfill_concurrency", ""},
	[EXPORT_PERSONS] = {EXPORT_PERSONS, "duckling_persons_backfill_job", "duckling_persons_v1",
			    "duckling_persons_backfill_concurrency", "_persons"},
};

struct tick {
	const struct side *side;
	struct state *state;
	struct duct_arena *arena;
	const struct duct_ctx *ctx;
	struct duct_error *err;
	struct export_entry *teams;
	size_t nteams;
	int64_t today;
	struct state_partition *known; /* of one team */
	int nknown;
	struct state_run *runs;
	size_t n, cap;
};

static int64_t setting(const char *name, int64_t otherwise)
{
	const char *text = getenv(name);
	int64_t v = text && *text ? strtoll(text, NULL, 10) : otherwise;
	return v > 0 ? v : otherwise;
}

static int begin(struct tick *t)
{
	t->today = duct_wall_us() / day_us;
	return export_registry_read(t->state, export_registry_file(NULL), t->arena, &t->teams, &t->nteams, t->err);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct state_partition *)a)->key, ((const struct state_partition *)b)->key);
}

/* All partitions of the job that the team has: keys "TEAM" and "TEAM_...". */
static int read_known(struct tick *t, int64_t team)
{
	AUTO_FREE char *prefix = duct_xasprintf("%" PRId64, team);
	const char *after = "";
	size_t length = strlen(prefix), cap = 0;
	struct state_partition *list = NULL;
	t->nknown = 0;
	for (int n = PAGE; n == PAGE;) {
		struct state_partition *page = duct_arena_zalloc(t->arena, PAGE * sizeof *page);
		const struct state_partition_filter filter = {
			.job = t->side->job, .prefix = prefix, .after_job = t->side->job, .after_key = after, .results = true};
		n = state_partition_list(t->state, t->arena, &filter, PAGE, page, t->err);
		if (n < 0) {
			free(list);
			return n;
		}
		for (int i = 0; i < n; i++) {
			after = page[i].key;
			if (page[i].key[length] && page[i].key[length] != '_')
				continue;
			list = duct_grow(list, &cap, (size_t)t->nknown + 1, sizeof *list);
			list[t->nknown++] = page[i];
		}
	}
	if (list) /* a database's order may be another one */
		qsort(list, (size_t)t->nknown, sizeof *list, by_key);
	t->known = duct_arena_dup(t->arena, list ? list : (struct state_partition *)"", (size_t)t->nknown * sizeof *list);
	free(list);
	return 0;
}

static const struct state_partition *find_known(const struct tick *t, const char *key)
{
	const struct state_partition wanted = {.key = key};
	return t->nknown ? bsearch(&wanted, t->known, (size_t)t->nknown, sizeof wanted, by_key) : NULL;
}

/* --- runs --- */

static void put_run(struct tick *t, const char *key, const char *id)
{
	const struct side *side = t->side;
	AUTO_FREE char *input = duct_xasprintf("{\"partition\":\"%s\"}", key);
	AUTO_FREE char *tags =
		duct_xasprintf("{\"%s\":\"%s\",\"duckling_backfill_concurrency\":\"duckling_v1\"}", side->tag_name, side->tag);
	AUTO_FREE char *one = duct_xasprintf("%s:%s", side->job, key);
	size_t cap = t->cap;
	if (t->n == cap) {
		t->cap = cap ? 2 * cap : 32;
		struct state_run *larger = duct_arena_zalloc(t->arena, t->cap * sizeof *larger);
		if (t->n)
			memcpy(larger, t->runs, t->n * sizeof *larger);
		t->runs = larger;
	}
	t->runs[t->n++] = (struct state_run){
		.id = duct_arena_strdup(t->arena, id),
		.kind = side->job,
		.key = duct_arena_strdup(t->arena, one),
		.partition = duct_arena_strdup(t->arena, key),
		.input = duct_arena_strdup(t->arena, input),
		.tags = duct_arena_strdup(t->arena, tags),
		.concurrency_key = side->tag,
		.concurrency_limit = setting("DUCTSTREAM_BACKFILL_CONCURRENCY", 4),
		.max_attempts = 1,
	};
}

/* p: as it is; NULL: there was no run of it. One that was cancelled is another run's from then on. */
static void put_new(struct tick *t, const char *key, const struct state_partition *p)
{
	AUTO_FREE char *id = duct_xasprintf("%s%s_new", key, t->side->infix);
	AUTO_FREE char *again = p ? duct_xasprintf("%s_%" PRIx64, id, (uint64_t)p->updated_us) : NULL;
	put_run(t, key, again ? again : id);
}

/* Which retry the failed run was: "12345_2024-01-15_retry2_ab12cd34". */
static int retries_of(const char *run_id)
{
	const char *at = run_id ? strstr(run_id, "_retry") : NULL;
	return at ? atoi(at + strlen("_retry")) : 0;
}

/* The next retry, or the end of them. */
static int put_retry(struct tick *t, const struct state_partition *p)
{
	int done = retries_of(p->run_id);
	if (done >= RETRIES) {
		int rc = state_partition_quarantine(t->state, p, t->err);
		return rc < 0 ? rc : 0;
	}
	/* named after the first failure, so that another one has other names */
	const char *first = p->run_id ? p->run_id : "", *last = strrchr(first, '_');
	AUTO_FREE char *stamp = done && last ? duct_xasprintf("%s", last + 1) : duct_xasprintf("%" PRIx64, (uint64_t)p->updated_us);
	AUTO_FREE char *id = duct_xasprintf("%s%s_retry%d_%s", p->key, t->side->infix, done + 1, stamp);
	put_run(t, p->key, id);
	return 0;
}

static bool has_failed(const struct state_partition *p)
{
	return strcmp(p->state, "failed") == 0;
}

/* --- daily: yesterday, and the gaps --- */

static int64_t day_of_key(const char *key, int64_t today, bool *ret_month)
{
	struct export_key k;
	struct duct_error ignored;
	if (export_key_parse(key, EXPORT_EVENTS, today, &k, &ignored) || k.unit == EXPORT_FULL)
		return INT64_MAX;
	*ret_month = k.unit == EXPORT_MONTH;
	return k.first_day;
}

static bool month_covers(const struct tick *t, const char *day_key, int64_t day)
{
	AUTO_FREE char *month = duct_xstrndup(day_key, strlen(day_key) - 3);
	const struct state_partition *p = find_known(t, month);
	return p && run_export_month_has(p, day);
}

static int look_at_day(struct tick *t, int64_t team, int64_t day)
{
	char text[11];
	AUTO_FREE char *key = duct_xasprintf("%" PRId64 "_%s", team, export_day_text(day, text));
	const struct state_partition *p = find_known(t, key);
	if (p && has_failed(p))
		return put_retry(t, p);
	if (!p && day != t->today - 1 && month_covers(t, key, day))
		return 0;
	if (!p || strcmp(p->state, "missing") == 0)
		put_new(t, key, p);
	return 0;
}

static int look_at_team(struct tick *t, int64_t team)
{
	int64_t first = t->today - 1;
	bool month;
	int rc = read_known(t, team);
	for (int i = 0; i < t->nknown; i++) {
		int64_t day = day_of_key(t->known[i].key, t->today, &month);
		first = day < first ? day : first;
		if (day != INT64_MAX && month && has_failed(&t->known[i]) && rc == 0)
			rc = put_retry(t, &t->known[i]);
	}
	for (int64_t day = first; day < t->today && rc == 0 && t->n < MOST_PER_TICK; day++)
		rc = look_at_day(t, team, day);
	return rc;
}

static int daily(struct tick *t, const char *cursor, struct run_findings *ret)
{
	int rc = begin(t);
	for (size_t i = 0; i < t->nteams && rc == 0; i++)
		rc = look_at_team(t, t->teams[i].team_id);
	if (rc < 0)
		return rc;
	*ret = (struct run_findings){.runs = t->runs, .n = (int)t->n, .cursor = cursor};
	return 0;
}

/* --- full: through the history, by the cursor --- */

/* {"team_id": 3, "next": "2024-01-15", "round": 1700000000} under way, {"completed": "2024-03-01"}; anything else: the beginning of a round in which what was
 * done before is done again. */
struct place {
	int64_t team, next, round, completed;
	bool again;
};

static int64_t day_of_text(const char *text, int64_t today)
{
	bool month;
	if (!text)
		return -1;
	AUTO_FREE char *key = duct_xasprintf("1_%s", text);
	int64_t day = day_of_key(key, today, &month);
	return day == INT64_MAX ? -1 : day;
}

static struct place read_cursor(const char *cursor, int64_t today)
{
	json_t *json = json_loads(cursor, 0, NULL);
	struct place p = {
		.team = json_integer_value(json_object_get(json, "team_id")),
		.next = day_of_text(json_string_value(json_object_get(json, "next")), today),
		.round = json_integer_value(json_object_get(json, "round")),
		.completed = day_of_text(json_string_value(json_object_get(json, "completed")), today),
		.again = json_is_true(json_object_get(json, "again")),
	};
	if (!p.round && p.completed < 0)
		p.again = true;
	if (!p.round)
		p.round = duct_wall_us();
	json_decref(json);
	return p;
}

static const char *write_cursor(struct tick *t, const struct place *p)
{
	char day[11];
	AUTO_FREE char *text = p->completed == t->today ? duct_xasprintf("{\"completed\":\"%s\"}", export_day_text(t->today, day))
		: p->next >= 0 ? duct_xasprintf("{\"team_id\":%" PRId64 ",\"next\":\"%s\",\"round\":%" PRId64 ",\"again\":%s}",
						p->team, export_day_text(p->next, day), p->round, p->again ? "true" : "false")
			       : duct_xasprintf("{\"team_id\":%" PRId64 ",\"round\":%" PRId64 ",\"again\":%s}", p->team, p->round,
						p->again ? "true" : "false");
	return duct_arena_strdup(t->arena, text);
}

/* False: it is under way, or there and not to be done again. */
static bool is_wanted(const struct tick *t, const struct place *p, const char *key)
{
	const struct state_partition *known = find_known(t, key);
	if (!known || strcmp(known->state, "missing") == 0)
		return true;
	return p->again && (strcmp(known->state, "done") == 0 || strcmp(known->state, "quarantined") == 0);
}

static void put_full(struct tick *t, const struct place *p, const char *key)
{
	AUTO_FREE char *id = duct_xasprintf("%s%s_full_%" PRIx64, key, t->side->infix, (uint64_t)p->round);
	put_run(t, key, id);
}

static int earliest_day(struct tick *t, int64_t team, int64_t *ret)
{
	return export_earliest_day(getenv("CLICKHOUSE_URL"), t->side->what, team, t->ctx, ret, t->err);
}

/* The days of one team from p->next on, as many as there is room for. */
static void put_history(struct tick *t, struct place *p, int64_t most)
{
	const char *unit = getenv("DUCTSTREAM_FULL_BACKFILL_UNIT");
	bool months = unit && strcmp(unit, "month") == 0;
	while (p->next < t->today && (int64_t)t->n < most) {
		char text[11];
		export_day_text(p->next, text);
		AUTO_FREE char *key = duct_xasprintf("%" PRId64 "_%.*s", p->team, months ? 7 : 10, text);
		if (is_wanted(t, p, key))
			put_full(t, p, key);
		do {
			export_day_text(++p->next, text);
		} while (months && strcmp(text + 8, "01") != 0);
	}
}

static int full_team(struct tick *t, struct place *p, int64_t most)
{
	int rc = read_known(t, p->team);
	if (rc < 0)
		return rc;
	if (t->side->what == EXPORT_PERSONS) {
		AUTO_FREE char *key = duct_xasprintf("%" PRId64, p->team);
		const struct state_partition *known = find_known(t, key);
		if (known && has_failed(known))
			return put_retry(t, known);
		if (is_wanted(t, p, key))
			put_full(t, p, key);
		return 0;
	}
	if (p->next < 0 && (rc = earliest_day(t, p->team, &p->next)) < 0)
		return rc;
	if (p->next >= 0)
		put_history(t, p, most);
	return 0;
}

static const struct export_entry *team_from(const struct tick *t, int64_t least)
{
	const struct export_entry *found = NULL;
	for (size_t i = 0; i < t->nteams; i++)
		if (t->teams[i].team_id >= least && (!found || t->teams[i].team_id < found->team_id))
			found = &t->teams[i];
	return found;
}

static int full(struct tick *t, const char *cursor, struct run_findings *ret)
{
	int rc = begin(t);
	if (rc)
		return rc;
	if (!t->nteams) /* whoever comes today is not to wait for tomorrow */
		return 0;
	struct place p = read_cursor(cursor, t->today);
	int64_t most = setting("DUCTSTREAM_FULL_BACKFILL_MAX_PARTITIONS", 100);
	if (p.completed == t->today) {
		*ret = (struct run_findings){.cursor = cursor};
		return 0;
	}
	for (const struct export_entry *team; (int64_t)t->n < most;) {
		if (!(team = team_from(t, p.team))) {
			p.completed = t->today;
			break;
		}
		if (team->team_id != p.team)
			p.next = -1;
		p.team = team->team_id;
		if ((rc = full_team(t, &p, most)) < 0)
			return rc;
		if (p.next >= 0 && p.next < t->today)
			break; /* no room for the rest of it */
		p.team++;
		p.next = -1;
	}
	*ret = (struct run_findings){.runs = t->runs, .n = (int)t->n, .cursor = write_cursor(t, &p)};
	return 0;
}

/* --- the sensors --- */

#define SENSOR(name_, what_, cadence_, interval_) \
	static int name_##_##cadence_(struct state *state, struct duct_arena *arena, const struct duct_ctx *ctx, \
				      const char *cursor, struct run_findings *ret, struct duct_error *err) \
	{ \
		struct tick t = {.side = &sides[what_], .state = state, .arena = arena, .ctx = ctx, .err = err}; \
		return cadence_(&t, cursor, ret); \
	} \
	const struct run_sensor run_sensor_##name_##_##cadence_ = {.name = "duckling_" #name_ "_" #cadence_ "_backfill_sensor", \
								   .interval_ms = interval_, \
								   .evaluate = name_##_##cadence_}

SENSOR(events, EXPORT_EVENTS, daily, HOUR_MS);
SENSOR(events, EXPORT_EVENTS, full, TEN_MINUTES_MS);
SENSOR(persons, EXPORT_PERSONS, daily, HOUR_MS);
SENSOR(persons, EXPORT_PERSONS, full, TEN_MINUTES_MS);
