/* BackfillService: teams of the exports, calendars of their days. */
#include <ductstream/v1/backfill.pb-c.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/run_text.h"
#include "base/mem.h"
#include "export/registry.h"
#include "record/calendar.h"
#include "run/export_calendar.h"
#include "state/teams.h"

/* --- teams --- */

static enum api_code no_team(struct api_call *call, int64_t id)
{
	if (id <= 0)
		return api_fail(call, API_INVALID_ARGUMENT, "team_id: a whole number above 0 is expected");
	return api_fail(call, API_NOT_FOUND, "team %" PRId64 ": the API has none", id);
}

static void show_team(struct api_call *call, const struct export_entry *e, Ductstream__V1__Team *ret)
{
	struct duct_arena *arena = call->arena;
	const struct {
		char **to;
		enum export_field from;
	} texts[] = {
		{&ret->bucket, EXPORT_BUCKET},
		{&ret->bucket_region, EXPORT_BUCKET_REGION},
		{&ret->db_host, EXPORT_DB_HOST},
		{&ret->db_name, EXPORT_DB_NAME},
		{&ret->db_user, EXPORT_DB_USER},
		{&ret->db_password, EXPORT_DB_PASSWORD},
		{&ret->cross_account_role_arn, EXPORT_ROLE_ARN},
		{&ret->cross_account_external_id, EXPORT_EXTERNAL_ID},
		{&ret->endpoint, EXPORT_ENDPOINT},
		{&ret->catalog, EXPORT_CATALOG},
	};
	ret->team_id = e->team_id;
	for (size_t i = 0; i < DUCT_LEN(texts); i++)
		*texts[i].to = run_string(export_entry_shown(e, texts[i].from, call->api->state, arena));
	const char *port = e->values[EXPORT_DB_PORT];
	ret->db_port = port ? (int32_t)strtol(port, NULL, 10) : 0;
	AUTO_FREE char *origin = e->file ? duct_xasprintf("%s:%d", e->file, e->line) : duct_xstrdup("api");
	ret->origin = duct_arena_strdup(arena, origin);
	ret->shadows_file = e->shadows;
	ret->updated_at = run_text_time(e->updated_us, arena);
}

static enum api_code read_all(struct api_call *call, struct export_entry **ret, size_t *ret_n)
{
	struct duct_error err;
	if (export_registry_read(call->api->state, export_registry_file(NULL), call->arena, ret, ret_n, &err))
		return api_unusable(call, &err);
	return API_OK;
}

static enum api_code list(struct api_call *call, const void *request, void *response)
{
	Ductstream__V1__ListTeamsResponse *ret = response;
	struct export_entry *entries;
	size_t n;
	(void)request;
	enum api_code code = read_all(call, &entries, &n);
	if (code != API_OK)
		return code;
	ret->teams = duct_arena_alloc(call->arena, (n + 1) * sizeof *ret->teams);
	for (; ret->n_teams < n; ret->n_teams++) {
		Ductstream__V1__Team *to = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__team__init(to);
		show_team(call, &entries[ret->n_teams], to);
		ret->teams[ret->n_teams] = to;
	}
	return API_OK;
}

static enum api_code get_by_id(struct api_call *call, int64_t id, Ductstream__V1__Team *ret)
{
	struct export_entry *entries;
	size_t n;
	enum api_code code = read_all(call, &entries, &n);
	for (size_t i = 0; i < n && code == API_OK; i++)
		if (entries[i].team_id == id) {
			show_team(call, &entries[i], ret);
			return API_OK;
		}
	if (code != API_OK || id <= 0)
		return code != API_OK ? code : no_team(call, id);
	return api_fail(call, API_NOT_FOUND, "team %" PRId64 ": there is none", id);
}

static enum api_code get(struct api_call *call, const void *request, void *response)
{
	return get_by_id(call, ((const Ductstream__V1__GetTeamRequest *)request)->team_id, response);
}

static const char *given(const char *text)
{
	return *text ? text : NULL;
}

/* As text, NULL: 0. */
static const char *number(struct api_call *call, int64_t v)
{
	char text[24];
	(void)snprintf(text, sizeof text, "%" PRId64, v);
	return v ? duct_arena_strdup(call->arena, text) : NULL;
}

static enum api_code put(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__Team *m = ((const Ductstream__V1__PutTeamRequest *)request)->team;
	struct state_actor actor = api_actor(call);
	struct export_entry stored;
	struct duct_error err;
	const char *fields;
	int64_t id;
	if (!m)
		return api_fail(call, API_INVALID_ARGUMENT, "team: is missing");
	const char *const values[EXPORT_FIELDS] = {
		[EXPORT_TEAM_ID] = number(call, m->team_id),
		[EXPORT_BUCKET] = given(m->bucket),
		[EXPORT_BUCKET_REGION] = given(m->bucket_region),
		[EXPORT_DB_HOST] = given(m->db_host),
		[EXPORT_DB_PORT] = number(call, m->db_port),
		[EXPORT_DB_NAME] = given(m->db_name),
		[EXPORT_DB_USER] = given(m->db_user),
		[EXPORT_DB_PASSWORD] = given(m->db_password),
		[EXPORT_ROLE_ARN] = given(m->cross_account_role_arn),
		[EXPORT_EXTERNAL_ID] = given(m->cross_account_external_id),
		[EXPORT_ENDPOINT] = given(m->endpoint),
		[EXPORT_CATALOG] = given(m->catalog),
	};
	int rc = export_entry_get(call->api->state, m->team_id, call->arena, &stored, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (export_entry_seal(values, rc ? &stored : NULL, call->api->state, call->arena, &id, &fields, &err))
		return strncmp(err.message, "team.", 5) == 0 ? api_failed(call, &err) : api_unusable(call, &err);
	if (state_team_put(call->api->state, id, fields, &actor, &err) < 0)
		return api_failed(call, &err);
	return get_by_id(call, id, response);
}

static enum api_code delete_team(struct api_call *call, const void *request, void *response)
{
	int64_t id = ((const Ductstream__V1__DeleteTeamRequest *)request)->team_id;
	struct state_actor actor = api_actor(call);
	struct duct_error err;
	int rc = state_team_delete(call->api->state, id, &actor, &err);
	if (rc < 0)
		return api_failed(call, &err);
	if (rc == 0)
		return no_team(call, id);
	((Ductstream__V1__DeleteTeamResponse *)response)->deleted = true;
	return API_OK;
}

/* --- calendars --- */

/* "2024-01-15", or "2024-01": its first or its last day. */
static enum api_code take_date(struct api_call *call, const char *field, const char *text, bool last, int64_t *ret)
{
	int year, month, day = 1, n = 0;
	bool digits = strspn(text, "0123456789-") == strlen(text), whole = strlen(text) == 10;
	if (!*text)
		return API_OK;
	bool good = digits && (whole || strlen(text) == 7) &&
		(whole ? sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &n) == 3
		       : sscanf(text, "%4d-%2d%n", &year, &month, &n) == 2) &&
		(size_t)n == strlen(text) && year >= 1970 && month >= 1 && month <= 12 && day >= 1 &&
		day <= duct_month_days(year, month);
	if (!good)
		return api_fail(call, API_INVALID_ARGUMENT, "%s: \"%.20s\": a day (2024-01-15) or a month (2024-01) is expected",
				field, text);
	*ret = duct_days_of_civil(year, month, !whole && last ? duct_month_days(year, month) : day);
	return API_OK;
}

static Ductstream__V1__CalendarDay *show_day(struct api_call *call, const struct run_calendar_day *d)
{
	char text[11];
	Ductstream__V1__CalendarDay *to = duct_arena_alloc(call->arena, sizeof *to);
	ductstream__v1__calendar_day__init(to);
	to->day = duct_arena_strdup(call->arena, export_day_text(d->day, text));
	to->state = run_string(d->state);
	to->has_rows = d->rows >= 0;
	to->rows = d->rows >= 0 ? d->rows : 0;
	to->key = run_string(d->key);
	to->run_id = run_string(d->run_id);
	to->updated_at = run_text_time(d->updated_us, call->arena);
	return to;
}

static enum api_code calendar(struct api_call *call, const void *request, void *response)
{
	const Ductstream__V1__GetCalendarRequest *r = request;
	Ductstream__V1__GetCalendarResponse *ret = response;
	struct run_calendar_request wanted = {.job = r->job, .team_id = r->team_id, .from_day = INT64_MIN, .last_day = INT64_MIN};
	struct run_calendar *found;
	struct duct_error err;
	size_t n;
	enum api_code code = take_date(call, "from_date", r->from_date, false, &wanted.from_day);
	if (code == API_OK)
		code = take_date(call, "to_date", r->to_date, true, &wanted.last_day);
	if (code != API_OK)
		return code;
	if (r->team_id < 0)
		return api_fail(call, API_INVALID_ARGUMENT, "team_id: not below 0");
	if (run_export_calendars(call->api->state, call->arena, &wanted, &found, &n, &err))
		return api_failed(call, &err);
	ret->calendars = duct_arena_alloc(call->arena, (n + 1) * sizeof *ret->calendars);
	for (; ret->n_calendars < n; ret->n_calendars++) {
		const struct run_calendar *from = &found[ret->n_calendars];
		Ductstream__V1__Calendar *to = duct_arena_alloc(call->arena, sizeof *to);
		ductstream__v1__calendar__init(to);
		to->job = run_string(from->job);
		to->team_id = from->team_id;
		to->days = duct_arena_alloc(call->arena, (from->n + 1) * sizeof *to->days);
		for (; to->n_days < from->n; to->n_days++)
			to->days[to->n_days] = show_day(call, &from->days[to->n_days]);
		ret->calendars[ret->n_calendars] = to;
	}
	return API_OK;
}

static const struct api_method methods[] = {
	{"ListTeams", API_VIEWER, 0, list},	   {"GetTeam", API_VIEWER, 0, get},	     {"PutTeam", API_ADMIN, 0, put},
	{"DeleteTeam", API_ADMIN, 0, delete_team}, {"GetCalendar", API_VIEWER, 0, calendar}, {0},
};
const struct api_service api_backfill_service = {&ductstream__v1__backfill_service__descriptor, methods};
