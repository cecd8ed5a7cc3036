/* Partition keys and the options of a run. */
#include <string.h>

#include "base/buf.h"
#include "export/export.h"
#include "record/calendar.h"

char *export_day_text(int64_t day, char to[11])
{
	struct duct_civil c = duct_civil_of_days(day);
	AUTO_BUF struct duct_buf text = {0};
	duct_buf_printf(&text, "%04d-%02d-%02d", (int)(c.year % 10000), c.month, c.day);
	memcpy(to, text.data, 10);
	to[10] = 0;
	return to;
}

static bool digits(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n > 0;
}

static int number(const char *s, size_t n)
{
	int v = 0;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (s[i] - '0');
	return v;
}

static int parse_team(const char *text, size_t n, int64_t *ret, struct duct_error *err)
{
	if (!digits(text, n) || *text == '0' || n > 18)
		return duct_fail(
			err, DUCT_CONFIG,
			"Invalid team_id in partition key: \"%.60s\": digits of ASCII are expected, without a leading zero, "
			"18 at most",
			text);
	*ret = 0;
	for (size_t i = 0; i < n; i++)
		*ret = *ret * 10 + (text[i] - '0');
	return 0;
}

static int parse_date(const char *key, const char *date, int64_t today, struct export_key *k, struct duct_error *err)
{
	size_t n = strlen(date);
	bool shaped = (n == 7 || n == 10) && digits(date, 4) && date[4] == '-' && digits(date + 5, 2) &&
		(n == 7 || (date[7] == '-' && digits(date + 8, 2)));
	int year = shaped ? number(date, 4) : 0, month = shaped ? number(date + 5, 2) : 0;
	int day = shaped && n == 10 ? number(date + 8, 2) : 1;
	if (!shaped || year < 1970 || month < 1 || month > 12 || day < 1 || day > duct_month_days(year, month))
		return duct_fail(err, DUCT_CONFIG,
				 "Invalid date in partition key: \"%.60s\": behind the last _ a day of the calendar is expected "
				 "(2024-01-15), or a month of it (2024-01)",
				 key);
	k->unit = n == 10 ? EXPORT_DAY : EXPORT_MONTH;
	k->first_day = duct_days_of_civil(year, month, day);
	int64_t left = today - k->first_day, most = n == 10 ? 1 : duct_month_days(year, month);
	k->ndays = left <= 0 ? 0 : (int)(left < most ? left : most);
	return 0;
}

int export_key_parse(const char *text, enum export_what what, int64_t today, struct export_key *ret, struct duct_error *err)
{
	const char *last = strrchr(text, '_');
	struct export_key k = {.unit = EXPORT_FULL};
	if (!last && what == EXPORT_PERSONS && digits(text, strlen(text))) {
		if (parse_team(text, strlen(text), &k.team_id, err))
			return -(int)err->class;
		*ret = k;
		return 0;
	}
	if (!last || last == text)
		return duct_fail(err, DUCT_CONFIG, "Invalid partition key format: \"%.60s\": %s is expected", text,
				 what == EXPORT_EVENTS ? "TEAM_YYYY-MM-DD or TEAM_YYYY-MM"
						       : "TEAM_YYYY-MM-DD, or TEAM for all persons");
	if (parse_team(text, (size_t)(last - text), &k.team_id, err) || parse_date(text, last + 1, today, &k, err))
		return -(int)err->class;
	if (what == EXPORT_PERSONS && k.unit == EXPORT_MONTH)
		return duct_fail(
			err, DUCT_CONFIG,
			"Invalid partition key format: \"%.60s\": months are of events; TEAM_YYYY-MM-DD is expected, or TEAM for "
			"all persons",
			text);
	*ret = k;
	return 0;
}

/* --- options --- */

static int settings_parse(const json_t *settings, struct export_config *ret, struct duct_error *err)
{
	const char *name;
	json_t *value;
	if (json_is_null(settings))
		return 0;
	if (!json_is_object(settings))
		return duct_fail(err, DUCT_CONFIG, "config.clickhouse_settings: an object of settings is expected");
	json_object_foreach((json_t *)(uintptr_t)settings, name, value)
	{
		size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
		if (!good || name[good] || !(json_is_number(value) || json_is_boolean(value) || json_is_string(value)))
			return duct_fail(
				err, DUCT_CONFIG,
				"config.clickhouse_settings.%.60s: names of small letters, digits and _ are expected, with a number, "
				"a text, true or false",
				name);
	}
	ret->clickhouse_settings = settings;
	return 0;
}

int export_config_parse(const json_t *config, struct export_config *ret, struct duct_error *err)
{
	struct export_config c = {.cleanup_existing_partition_data = true, .create_tables_if_missing = true};
	const struct {
		const char *name;
		bool *to;
	} flags[] = {
		{"skip_ducklake_registration", &c.skip_ducklake_registration},
		{"skip_schema_validation", &c.skip_schema_validation},
		{"cleanup_existing_partition_data", &c.cleanup_existing_partition_data},
		{"create_tables_if_missing", &c.create_tables_if_missing},
		{"delete_tables", &c.delete_tables},
		{"dry_run", &c.dry_run},
	};
	const char *name;
	json_t *value;
	if (config && !json_is_object(config))
		return duct_fail(err, DUCT_CONFIG, "config: an object is expected");
	json_object_foreach((json_t *)(uintptr_t)config, name, value)
	{
		size_t i = 0;
		while (i < DUCT_LEN(flags) && strcmp(flags[i].name, name) != 0)
			i++;
		if (i < DUCT_LEN(flags) && !json_is_boolean(value))
			return duct_fail(err, DUCT_CONFIG, "config.%s: true or false is expected", name);
		if (i < DUCT_LEN(flags))
			*flags[i].to = json_is_true(value);
		else if (strcmp(name, "clickhouse_settings") != 0)
			return duct_fail(err, DUCT_CONFIG, "config.%.60s: there is no such option", name);
		else if (settings_parse(value, &c, err))
			return -(int)err->class;
	}
	*ret = c;
	return 0;
}
