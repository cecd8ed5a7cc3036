#ifndef RUN_CIVIL_H
#define RUN_CIVIL_H

#include <stdint.h>

/* Days of the proleptic Gregorian calendar since 1970-01-01. */
static inline int64_t civil_days(int64_t year, int month, int day)
{
	year -= month <= 2;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t of_era = year - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

struct civil {
	int64_t year;
	int month, day, hour, minute, second; /* month and day from 1 */
	int weekday;			      /* 0: Sunday */
};

static inline struct civil civil_of(int64_t seconds)
{
	int64_t days = (seconds >= 0 ? seconds : seconds - 86399) / 86400, rest = seconds - days * 86400;
	struct civil c = {.hour = (int)(rest / 3600), .minute = (int)(rest / 60 % 60), .second = (int)(rest % 60)};
	c.weekday = (int)(((days + 4) % 7 + 7) % 7);
	days += 719468;
	int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
	c.day = (int)(of_year - (153 * month + 2) / 5 + 1);
	c.month = (int)(month < 10 ? month + 3 : month - 9);
	c.year = year + era * 400 + (c.month <= 2);
	return c;
}

static inline int64_t civil_seconds(const struct civil *c)
{
	return civil_days(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
}

static inline int civil_is_leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static inline int civil_month_days(int64_t year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	return month == 2 && civil_is_leap(year) ? 29 : days[month - 1];
}

#endif
