/* Cron expressions: sets of values per field, and the next moment that is in all of them. */
#include "run/cron.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "run/civil.h"

struct field {
	const char *name;
	int low, high;
	const char *const *names; /* of the values from `low` on */
};
static const char *const months[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const weekdays[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};
enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };
static const struct field fields[FIELDS] = {
	{"second", 0, 59, NULL}, {"minute", 0, 59, NULL},  {"hour", 0, 23, NULL},
	{"day", 1, 31, NULL},	 {"month", 1, 12, months}, {"weekday", 0, 7, weekdays},
};

static uint64_t all_of(const struct field *f)
{
	return (UINT64_MAX >> (63 - f->high)) & (UINT64_MAX << f->low);
}

/* --- parsing --- */

static int take_value(const struct field *f, const char **at, int *ret, struct duct_error *err)
{
	size_t n = 0;
	while (isalnum((unsigned char)(*at)[n]))
		n++;
	for (int i = 0; f->names && f->names[i]; i++)
		if (n == 3 && strncasecmp(*at, f->names[i], 3) == 0) {
			*ret = f->low + i;
			*at += n;
			return 0;
		}
	if (!n || n > 4 || strspn(*at, "0123456789") < n)
		return duct_fail(err, DUCT_CONFIG, "%s: \"%.20s\" is not a value", f->name, *at);
	*ret = atoi(*at);
	*at += n;
	if (*ret < f->low || *ret > f->high)
		return duct_fail(err, DUCT_CONFIG, "%s: %d is outside %d..%d", f->name, *ret, f->low, f->high);
	return 0;
}

/* VALUE, VALUE-VALUE, * or ?, each with /STEP or without. */
static int take_item(const struct field *f, const char **at, uint64_t *set, struct duct_error *err)
{
	int low = f->low, high = f->high, step = 1;
	bool one = false;
	if (**at == '*' || (**at == '?' && (f == &fields[DAY] || f == &fields[WEEKDAY]))) {
		++*at;
		if (f == &fields[WEEKDAY])
			high = 6;
	} else {
		if (take_value(f, at, &low, err) < 0)
			return -(int)err->class;
		one = **at != '-';
		high = low;
		if (!one) {
			++*at;
			if (take_value(f, at, &high, err) < 0)
				return -(int)err->class;
			if (high < low && f == &fields[WEEKDAY] && high == 0)
				high = 7; /* FRI-SUN */
			if (high < low)
				return duct_fail(err, DUCT_CONFIG, "%s: the range %d-%d is empty", f->name, low, high);
		}
	}
	if (**at == '/') {
		char *end = NULL;
		long v = isdigit((unsigned char)*++*at) ? strtol(*at, &end, 10) : 0;
		if (v < 1 || v > 99)
			return duct_fail(err, DUCT_CONFIG, "%s: the step \"%.10s\" is not a number from 1 to 99", f->name, *at);
		step = (int)v;
		*at = end;
		if (one)
			high = f == &fields[WEEKDAY] && low < 7 ? 6 : f->high;
	}
	for (int v = low; v <= high; v += step)
		*set |= 1ULL << v;
	return 0;
}

static int parse_field(const struct field *f, const char *text, uint64_t *ret, struct duct_error *err)
{
	uint64_t set = 0;
	for (;;) {
		if (take_item(f, &text, &set, err) < 0)
			return -(int)err->class;
		if (!*text)
			break;
		if (*text++ != ',')
			return duct_fail(err, DUCT_CONFIG, "%s: \"%.20s\" is not understood", f->name, text - 1);
	}
	if (f == &fields[WEEKDAY] && set & 1 << 7)
		set = (set | 1) & 0x7f;
	*ret = set;
	return 0;
}

static bool ever_comes(const struct run_cron *c)
{
	static const int longest[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	if (c->weekdays != 0x7f)
		return true; /* with days restricted too, either will do */
	for (int m = 1; m <= 12; m++)
		if (c->months & 1ULL << m && c->days & (UINT64_MAX >> (63 - longest[m - 1])))
			return true;
	return false;
}

static const char *macro(const char *text)
{
	static const char *const macros[][2] = {
		{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"},
		{"@daily", "0 0 * * *"},  {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
	};
	for (size_t i = 0; i < DUCT_LEN(macros); i++)
		if (strcasecmp(text, macros[i][0]) == 0)
			return macros[i][1];
	return text;
}

int run_cron_parse(struct run_cron *ret, const char *text, struct duct_error *err)
{
	struct run_cron c = {.seconds = 1};
	uint64_t *sets[FIELDS] = {&c.seconds, &c.minutes, &c.hours, &c.days, &c.months, &c.weekdays};
	AUTO_FREE char *copy = duct_xstrdup(macro(text));
	char *parts[FIELDS + 1], *rest = copy, *part;
	int n = 0;
	while (n <= FIELDS && (part = strtok_r(n ? NULL : copy, " \t", &rest)))
		parts[n++] = part;
	if (n != FIELDS && n != FIELDS - 1)
		return duct_fail(err, DUCT_CONFIG,
				 "cron \"%.100s\" needs 5 fields (minute hour day month weekday), or 6 with seconds first", text);
	for (int i = 0; i < n; i++)
		if (parse_field(&fields[FIELDS - n + i], parts[i], sets[FIELDS - n + i], err) < 0)
			return duct_wrap(err, "cron \"%.100s\"", text);
	c.any_hour = c.hours == all_of(&fields[HOUR]);
	if (!ever_comes(&c))
		return duct_fail(err, DUCT_CONFIG, "cron \"%.100s\": that day never comes", text);
	*ret = c;
	return 0;
}

/* --- the next one, on a clock that never jumps --- */

/* The least value of the set from `from` on, -1: none. */
static int at_least(uint64_t set, int from)
{
	uint64_t rest = from > 63 ? 0 : set & (UINT64_MAX << from);
	return rest ? __builtin_ctzll(rest) : -1;
}

static bool day_is_in(const struct run_cron *c, int day, int weekday)
{
	bool any_day = c->days == all_of(&fields[DAY]), any_weekday = c->weekdays == 0x7f;
	bool by_day = c->days >> day & 1, by_weekday = c->weekdays >> weekday & 1;
	return any_day || any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

static void next_day(struct civil *t)
{
	t->hour = t->minute = t->second = 0;
	t->weekday = (t->weekday + 1) % 7;
	if (++t->day <= civil_month_days(t->year, t->month))
		return;
	t->day = 1;
	if (++t->month > 12) {
		t->month = 1;
		t->year++;
	}
}

/* Raises the time of day to the next one in the sets; false: not on this day any more. */
static bool raise_time(const struct run_cron *c, struct civil *t)
{
	int hour = at_least(c->hours, t->hour);
	if (hour != t->hour)
		t->minute = t->second = 0;
	while (hour >= 0) {
		int minute = at_least(c->minutes, t->minute), second;
		if (minute != t->minute)
			t->second = 0;
		if (minute >= 0 && (second = at_least(c->seconds, t->second)) < 0) {
			minute = at_least(c->minutes, minute + 1);
			second = at_least(c->seconds, 0);
		}
		if (minute >= 0) {
			*t = (struct civil){t->year, t->month, t->day, hour, minute, second, t->weekday};
			return true;
		}
		hour = at_least(c->hours, hour + 1);
		t->minute = t->second = 0;
	}
	return false;
}

/* The first wall-clock time after local_s. */
static int64_t next_local(const struct run_cron *c, int64_t local_s)
{
	struct civil t = civil_of(local_s + 1);
	for (; t.year < 10000; next_day(&t)) {
		if (!(c->months >> t.month & 1)) {
			/* to the month's last day */
			int last = civil_month_days(t.year, t.month);
			t.weekday = (t.weekday + last - t.day) % 7;
			t.day = last;
		} else if (day_is_in(c, t.day, t.weekday) && raise_time(c, &t)) {
			return civil_seconds(&t);
		}
	}
	return INT64_MAX;
}

/* --- and on those people have --- */

static int64_t next_by_wall(const struct run_cron *c, const struct run_zone *zone, int64_t after)
{
	int64_t local = after + run_zone_at(zone, after).offset;
	for (;;) {
		local = next_local(c, local);
		if (local == INT64_MAX)
			return local;
		int64_t at = run_zone_instant(zone, local);
		if (at > after)
			return at;
	}
}

static int64_t next_by_time(const struct run_cron *c, const struct run_zone *zone, int64_t after)
{
	for (int64_t from = after + 1;;) {
		struct run_stretch s = run_zone_at(zone, from);
		int64_t local = next_local(c, from + s.offset - 1);
		if (local == INT64_MAX || s.end == INT64_MAX || local - s.offset < s.end)
			return local == INT64_MAX ? local : local - s.offset;
		from = s.end;
	}
}

int64_t run_cron_next(const struct run_cron *cron, const struct run_zone *zone, int64_t after_s)
{
	if (after_s > 253402300800 || after_s < -62135596800)
		return INT64_MAX; /* outside the years 1 to 9999 */
	return cron->any_hour ? next_by_time(cron, zone, after_s) : next_by_wall(cron, zone, after_s);
}
