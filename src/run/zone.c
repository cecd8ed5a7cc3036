/*
 * TZif (RFC 8536): header, tables of transitions, and after the last of them a rule as text. Version 1 has 32-bit times; later versions
 * repeat everything with 64-bit times after it, which is what is read.
 *
 *   "TZif" version(1) zeros(15) isutcnt isstdcnt leapcnt timecnt typecnt charcnt (4 each, big-endian)
 *   timecnt times (4 or 8) · timecnt types (1) · typecnt {offset(4) isdst(1) name(1)} · names · leap seconds · isstd · isut
 *   version 2 and later: "\n" RULE "\n"
 */
#include "run/zone.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "run/civil.h"

enum { MOST_OFFSET = 26 * 3600 };

/* When a year's clocks change, by the rule: local time of the old offset. */
struct change {
	enum { BY_WEEK, BY_DAY_WITHOUT_LEAP, BY_DAY } kind;
	int month, week, day;
	int64_t time_s;
};

struct rule {
	int64_t standard, summer; /* offsets */
	bool has_summer;
	struct change to_summer, to_standard;
};

struct run_zone {
	size_t n;
	int64_t *times, *offsets; /* offsets[i] counts from times[i] on */
	int64_t first;		  /* before times[0] */
	struct rule rule;	  /* after times[n - 1] */
};

/* --- the rule: STD OFFSET [DST [OFFSET] , CHANGE , CHANGE] --- */

static bool take_name(const char **at)
{
	const char *s = *at;
	if (*s == '<') {
		s += strcspn(s, ">");
		if (*s != '>')
			return false;
		*at = s + 1;
		return true;
	}
	while (isalpha((unsigned char)*s))
		s++;
	bool ok = s - *at >= 3;
	*at = s;
	return ok;
}

static bool take_number(const char **at, int most, int *ret)
{
	int v = 0;
	const char *s = *at;
	if (!isdigit((unsigned char)*s))
		return false;
	for (; isdigit((unsigned char)*s); s++)
		if ((v = v * 10 + (*s - '0')) > most)
			return false;
	*ret = v;
	*at = s;
	return true;
}

/* [+-]H[:M[:S]] */
static bool take_time(const char **at, int64_t *ret)
{
	int sign = 1, part[3] = {0};
	if (**at == '+' || **at == '-')
		sign = *(*at)++ == '-' ? -1 : 1;
	for (int i = 0; i < 3; i++) {
		if (!take_number(at, i ? 59 : 167, &part[i]))
			return false;
		if (**at != ':')
			break;
		++*at;
	}
	*ret = sign * (part[0] * 3600 + part[1] * 60 + part[2]);
	return true;
}

static bool take_change(const char **at, struct change *c)
{
	bool ok;
	if (*(*at)++ != ',')
		return false;
	c->time_s = 2 * 3600;
	if (**at == 'M') {
		++*at;
		c->kind = BY_WEEK;
		ok = take_number(at, 12, &c->month) && c->month && *(*at)++ == '.' && take_number(at, 5, &c->week) && c->week &&
			*(*at)++ == '.' && take_number(at, 6, &c->day);
	} else if (**at == 'J') {
		++*at;
		c->kind = BY_DAY_WITHOUT_LEAP;
		ok = take_number(at, 365, &c->day) && c->day;
	} else {
		c->kind = BY_DAY;
		ok = take_number(at, 365, &c->day);
	}
	if (ok && **at == '/') {
		++*at;
		ok = take_time(at, &c->time_s);
	}
	return ok;
}

/* A little more than a day: what searches by local time rely on. */
static bool is_offset(int64_t offset)
{
	return offset >= -MOST_OFFSET && offset <= MOST_OFFSET;
}

static bool parse_rule(struct rule *rule, const char *text)
{
	int64_t west;
	*rule = (struct rule){0};
	if (!take_name(&text) || !take_time(&text, &west))
		return false;
	rule->standard = -west;
	if (!is_offset(west))
		return false;
	if (!*text)
		return true;
	rule->has_summer = true;
	rule->summer = rule->standard + 3600;
	if (!take_name(&text))
		return false;
	if (*text != ',') {
		if (!take_time(&text, &west))
			return false;
		rule->summer = -west;
	}
	return is_offset(rule->summer) && take_change(&text, &rule->to_summer) && take_change(&text, &rule->to_standard) && !*text;
}

/* Seconds since 1970 of the change in local time. */
static int64_t change_local(const struct change *c, int64_t year)
{
	int64_t day;
	if (c->kind == BY_WEEK) {
		int64_t first = civil_days(year, c->month, 1);
		int of_first = (int)(((first + 4) % 7 + 7) % 7), of_month = 1 + (c->day - of_first + 7) % 7 + (c->week - 1) * 7;
		while (of_month > civil_month_days(year, c->month))
			of_month -= 7;
		day = first + of_month - 1;
	} else if (c->kind == BY_DAY_WITHOUT_LEAP) {
		day = civil_days(year, 1, 1) + c->day - 1 + (civil_is_leap(year) && c->day >= 60);
	} else {
		day = civil_days(year, 1, 1) + c->day;
	}
	return day * 86400 + c->time_s;
}

static struct run_stretch rule_at(const struct rule *rule, int64_t t)
{
	struct run_stretch s = {INT64_MIN, INT64_MAX, rule->standard};
	if (!rule->has_summer)
		return s;
	int64_t year = civil_of(t).year;
	for (int64_t y = year - 1; y <= year + 1; y++) {
		const struct {
			int64_t at, offset;
		} changes[] = {{change_local(&rule->to_summer, y) - rule->standard, rule->summer},
			       {change_local(&rule->to_standard, y) - rule->summer, rule->standard}};
		for (int i = 0; i < 2; i++) {
			if (changes[i].at <= t && changes[i].at >= s.begin) {
				s.begin = changes[i].at;
				s.offset = changes[i].offset;
			}
			if (changes[i].at > t && changes[i].at < s.end)
				s.end = changes[i].at;
		}
	}
	return s;
}

/* --- the file --- */

static int64_t be(const uint8_t *p, int n)
{
	uint64_t v = p[0] & 0x80 ? UINT64_MAX : 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | p[i];
	return (int64_t)v;
}

struct counts {
	size_t isut, isstd, leap, time, type, name;
};
enum { HEADER = 44 };

static bool take_header(const uint8_t *data, size_t n, struct counts *c)
{
	if (n < HEADER || memcmp(data, "TZif", 4) != 0)
		return false;
	size_t *to[] = {&c->isut, &c->isstd, &c->leap, &c->time, &c->type, &c->name};
	for (size_t i = 0; i < DUCT_LEN(to); i++) {
		int64_t v = be(data + 20 + 4 * i, 4);
		if (v < 0 || v > 1 << 20)
			return false;
		*to[i] = (size_t)v;
	}
	return c->type > 0;
}

static size_t body_size(const struct counts *c, size_t width)
{
	return c->time * (width + 1) + c->type * 6 + c->name + c->leap * (width + 4) + c->isstd + c->isut;
}

/* Offsets of more than a day and times that do not rise would lead the searches below astray. */
static bool take_body(struct run_zone *zone, const uint8_t *p, const struct counts *c)
{
	const uint8_t *types = p + c->time * 8, *offsets = types + c->time;
	zone->n = c->time;
	zone->times = duct_xcalloc(c->time + 1, sizeof *zone->times);
	zone->offsets = duct_xcalloc(c->time + 1, sizeof *zone->offsets);
	zone->first = be(offsets, 4);
	for (size_t i = 0; i < c->type; i++)
		if (!is_offset(be(offsets + 6 * i, 4)))
			return false;
	for (size_t i = 0; i < c->time; i++) {
		zone->times[i] = be(p + 8 * i, 8);
		if (types[i] >= c->type || (i && zone->times[i] <= zone->times[i - 1]) || zone->times[i] > INT64_MAX / 4 ||
		    zone->times[i] < -(INT64_MAX / 4))
			return false;
		zone->offsets[i] = be(offsets + 6 * types[i], 4);
	}
	return true;
}

static bool parse(struct run_zone *zone, const uint8_t *data, size_t n)
{
	struct counts c;
	if (!take_header(data, n, &c) || data[4] < '2' || n - HEADER < body_size(&c, 4))
		return false;
	size_t skip = HEADER + body_size(&c, 4);
	data += skip;
	n -= skip;
	if (!take_header(data, n, &c) || c.leap || n - HEADER < body_size(&c, 8) || !take_body(zone, data + HEADER, &c))
		return false;
	data += HEADER + body_size(&c, 8);
	n -= HEADER + body_size(&c, 8);
	if (n < 2 || data[0] != '\n' || data[n - 1] != '\n')
		return false;
	AUTO_FREE char *text = duct_xstrndup((const char *)data + 1, n - 2);
	if (*text)
		return parse_rule(&zone->rule, text);
	/* No rule: the last offset for ever. */
	zone->rule.standard = zone->n ? zone->offsets[zone->n - 1] : zone->first;
	return true;
}

int run_zone_parse(struct run_zone **ret, const void *data, size_t n, struct duct_error *err)
{
	struct run_zone *zone = duct_xcalloc(1, sizeof *zone);
	if (parse(zone, data, n)) {
		*ret = zone;
		return 0;
	}
	run_zone_free(zone);
	return duct_fail(err, DUCT_CONFIG, "not a file of the time zone database, version 2 or later, without leap seconds");
}

void run_zone_free(struct run_zone *zone)
{
	if (!zone)
		return;
	free(zone->times);
	free(zone->offsets);
	free(zone);
}

static bool is_name(const char *name)
{
	if (*name == '/' || strstr(name, "..") || strlen(name) > 100)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("_+-/", *name))
			return false;
	return true;
}

static int read_file(struct duct_buf *to, const char *path)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return errno;
	size_t got;
	while (to->len < 1 << 20 && (got = fread(duct_buf_room(to, 4096), 1, 4096, file)) > 0)
		to->len += got;
	int rc = ferror(file) ? EIO : 0;
	fclose(file);
	return rc;
}

int run_zone_load(struct run_zone **ret, const char *name, struct duct_error *err)
{
	if (!*name || strcmp(name, "UTC") == 0) {
		*ret = duct_xcalloc(1, sizeof **ret);
		return 0;
	}
	if (!is_name(name))
		return duct_fail(err, DUCT_CONFIG, "\"%s\" is not the name of a time zone, such as Europe/Berlin", name);
	const char *folder = getenv("TZDIR");
	AUTO_FREE char *path = duct_xasprintf("%s/%s", folder && *folder ? folder : "/usr/share/zoneinfo", name);
	AUTO_BUF struct duct_buf data = {0};
	int rc = read_file(&data, path);
	if (rc)
		return duct_fail(err, DUCT_CONFIG, "time zone \"%s\": %s: %s (is the package tzdata installed?)", name, path,
				 strerror(rc));
	return run_zone_parse(ret, data.data ? data.data : "", data.len, err) < 0
		? duct_wrap(err, "time zone \"%s\": %s", name, path)
		: 0;
}

/* --- use --- */

struct run_stretch run_zone_at(const struct run_zone *zone, int64_t t)
{
	size_t n = zone->n;
	if (n && t < zone->times[0])
		return (struct run_stretch){INT64_MIN, zone->times[0], zone->first};
	if (!n || t >= zone->times[n - 1]) {
		struct run_stretch s = rule_at(&zone->rule, t);
		/* The rule counts from the last transition on; that one may have begun the stretch. */
		if (n && s.begin < zone->times[n - 1])
			s.begin = zone->times[n - 1];
		return s;
	}
	size_t low = 0, high = n - 1; /* times[low] <= t < times[high] */
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (zone->times[middle] <= t)
			low = middle;
		else
			high = middle;
	}
	return (struct run_stretch){zone->times[low], zone->times[high], zone->offsets[low]};
}

int64_t run_zone_instant(const struct run_zone *zone, int64_t local_s)
{
	/* Offsets are less than 27 hours: the stretch lies within two days. */
	struct run_stretch s = run_zone_at(zone, local_s - 2 * 86400);
	for (;;) {
		if (s.begin != INT64_MIN && s.begin + s.offset > local_s)
			return s.begin; /* the clocks were put forward past it */
		if (s.end == INT64_MAX || local_s - s.offset < s.end)
			return local_s - s.offset;
		s = run_zone_at(zone, s.end);
	}
}
