/* What is exported: columns, statements, names of objects. */
#include <inttypes.h>
#include <string.h>

#include "duck/types.h"
#include "export/internal.h"
#include "record/calendar.h"

/* Moments are cast: older servers write DateTime as a bare number. Texts of ClickHouse are bytes, a lake's are not: no official client reads a
 * table with a wrong one; enums, JSON and the like are as they are printed. Names are qualified, for an alias would hide the column from the
 * server's index. */
static const struct export_column event_columns[] = {
	{"uuid", "toValidUTF8(toString(e.uuid))", DUCT_VARCHAR},
	{"event", "toValidUTF8(toString(e.event))", DUCT_VARCHAR},
	{"properties", "toValidUTF8(toString(e.properties))", DUCT_VARCHAR},
	{"timestamp", "toDateTime64(e.timestamp, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"team_id", "toInt64(e.team_id)", DUCT_INT64},
	{"project_id", "toInt64(e.team_id)", DUCT_INT64},
	{"distinct_id", "toValidUTF8(toString(e.distinct_id))", DUCT_VARCHAR},
	{"elements_chain", "toValidUTF8(toString(e.elements_chain))", DUCT_VARCHAR},
	{"created_at", "toDateTime64(e.created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"person_id", "toValidUTF8(toString(e.person_id))", DUCT_VARCHAR},
	{"person_created_at", "toDateTime64(e.person_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"person_properties", "toValidUTF8(toString(e.person_properties))", DUCT_VARCHAR},
	{"group0_properties", "toValidUTF8(toString(e.group0_properties))", DUCT_VARCHAR},
	{"group1_properties", "toValidUTF8(toString(e.group1_properties))", DUCT_VARCHAR},
	{"group2_properties", "toValidUTF8(toString(e.group2_properties))", DUCT_VARCHAR},
	{"group3_properties", "toValidUTF8(toString(e.group3_properties))", DUCT_VARCHAR},
	{"group4_properties", "toValidUTF8(toString(e.group4_properties))", DUCT_VARCHAR},
	{"group0_created_at", "toDateTime64(e.group0_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"group1_created_at", "toDateTime64(e.group1_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"group2_created_at", "toDateTime64(e.group2_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"group3_created_at", "toDateTime64(e.group3_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"group4_created_at", "toDateTime64(e.group4_created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"person_mode", "toValidUTF8(toString(e.person_mode))", DUCT_VARCHAR},
	{"historical_migration", "toBool(e.historical_migration)", DUCT_BOOL},
	{"_inserted_at", "now64(6, 'UTC')", DUCT_TIMESTAMPTZ},
};

static const struct export_column person_columns[] = {
	{"team_id", "toInt64(pd.team_id)", DUCT_INT64},
	{"distinct_id", "toValidUTF8(toString(pd.distinct_id))", DUCT_VARCHAR},
	{"id", "toValidUTF8(toString(p.id))", DUCT_VARCHAR},
	{"properties", "toValidUTF8(toString(p.properties))", DUCT_VARCHAR},
	{"created_at", "toDateTime64(p.created_at, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"is_identified", "toBool(p.is_identified)", DUCT_BOOL},
	{"person_distinct_id_version", "toInt64(pd.version)", DUCT_INT64},
	{"person_version", "toUInt64(p.version)", DUCT_UINT64},
	{"_timestamp", "toDateTime64(p._timestamp, 6, 'UTC')", DUCT_TIMESTAMPTZ},
	{"_inserted_at", "now64(6, 'UTC')", DUCT_TIMESTAMPTZ},
};

const struct export_shape export_shapes[] = {
	[EXPORT_EVENTS] = {"events", "timestamp", "events", event_columns, DUCT_LEN(event_columns)},
	[EXPORT_PERSONS] = {"persons", "_timestamp", "persons", person_columns, DUCT_LEN(person_columns)},
};

void export_columns(enum export_what what, void (*take)(void *arg, const char *name, const char *type), void *arg)
{
	const struct export_shape *shape = &export_shapes[what];
	for (int i = 0; i < shape->ncolumns; i++) {
		AUTO_BUF struct duct_buf type = {0};
		duck_sql_type(&type, &(struct duct_type){.kind = shape->columns[i].kind});
		take(arg, shape->columns[i].name, type.data);
	}
}

static void put_instants(struct duct_buf *to, const char *column, int64_t from_day, int64_t until_day)
{
	char from[11], until[11];
	duct_buf_printf(to, " AND %s >= toDateTime64('%s 00:00:00', 6, 'UTC') AND %s < toDateTime64('%s 00:00:00', 6, 'UTC')",
			column, export_day_text(from_day, from), column, export_day_text(until_day, until));
}

void export_source_sql(struct duct_buf *to, enum export_what what, int64_t team_id, int64_t from_day, int64_t until_day)
{
	if (what == EXPORT_EVENTS)
		duct_buf_printf(to, " FROM events AS e WHERE e.team_id = %" PRId64, team_id);
	else
		duct_buf_printf(
			to,
			" FROM person AS p FINAL INNER JOIN person_distinct_id2 AS pd FINAL ON p.id = pd.person_id AND p.team_id = "
			"pd.team_id WHERE p.team_id = %" PRId64 " AND pd.team_id = %" PRId64
			" AND p.is_deleted = 0 AND pd.is_deleted = 0",
			team_id, team_id);
	if (from_day != INT64_MIN)
		put_instants(to, what == EXPORT_EVENTS ? "e.timestamp" : "p._timestamp", from_day, until_day);
}

void export_object_key(struct duct_buf *to, enum export_what what, int64_t team_id, int64_t day, const char *name)
{
	struct duct_civil c = duct_civil_of_days(day);
	duct_buf_printf(to, "backfill/%s/team_id=%" PRId64 "/year=%" PRId64 "/month=%02d/day=%02d/%s.parquet",
			export_shapes[what].folder, team_id, c.year, c.month, c.day, name);
}

/* --- the export --- */

/* As the page's servers run it; what the run's configuration says comes before it. */
static json_t *settings_of(const struct export_request *r)
{
	json_t *s = json_pack("{s:i, s:i, s:i, s:i, s:I, s:s}", "s3_truncate_on_insert", 1, "use_hive_partitioning", 0,
			      "output_format_parquet_string_as_string", 1, "max_execution_time", 4 * 3600, "max_memory_usage",
			      (json_int_t)50 << 30, "distributed_aggregation_memory_efficient", "1");
	AUTO_FREE char *comment = duct_xasprintf("{\"job\":\"duckling_%s_backfill_job\",\"partition\":\"%s\",\"run_id\":\"%s\"}",
						 export_shapes[r->what].folder, r->partition, r->run_id);
	json_object_set_new(s, "log_comment", json_string(comment));
	if (r->config.clickhouse_settings)
		json_object_update(s, (json_t *)(uintptr_t)r->config.clickhouse_settings);
	return s;
}

/* A text as ClickHouse reads it. */
static void put_literal(struct duct_buf *to, const char *text)
{
	duct_buf_putc(to, '\'');
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			duct_buf_putc(to, '\\');
		duct_buf_putc(to, *text);
	}
	duct_buf_putc(to, '\'');
}

static void put_settings(struct duct_buf *to, const struct export_request *r)
{
	json_t *settings = settings_of(r), *value;
	const char *name, *comma = " SETTINGS ";
	json_object_foreach(settings, name, value)
	{
		duct_buf_printf(to, "%s%s = ", comma, name);
		if (json_is_string(value))
			put_literal(to, json_string_value(value));
		else if (json_is_boolean(value))
			duct_buf_putc(to, json_is_true(value) ? '1' : '0');
		else if (json_is_integer(value))
			duct_buf_printf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		else
			duct_buf_printf(to, "%.17g", json_number_value(value));
		comma = ", ";
	}
	json_decref(settings);
}

static void put_url(struct duct_buf *to, const struct export_team *team, const char *key)
{
	AUTO_BUF struct duct_buf url = {0};
	if (team->endpoint) {
		size_t n = strlen(team->endpoint);
		duct_buf_printf(&url, "%s%.*s/%s/%s", strstr(team->endpoint, "://") ? "" : "http://",
				(int)(team->endpoint[n - 1] == '/' ? n - 1 : n), team->endpoint, team->bucket, key);
	} else {
		duct_buf_printf(&url, "https://%s.s3.%s.amazonaws.com/%s", team->bucket, team->region ? team->region : "us-east-1",
				key);
	}
	put_literal(to, url.data);
}

void export_insert_sql(struct duct_buf *to, const struct export_request *r, const struct export_team *team, const char *key,
		       int64_t from_day, int64_t until_day)
{
	const struct export_shape *shape = &export_shapes[r->what];
	duct_buf_puts(to, "INSERT INTO FUNCTION s3(");
	put_url(to, team, key);
	duct_buf_puts(to, ", 'Parquet') SELECT ");
	for (int i = 0; i < shape->ncolumns; i++)
		duct_buf_printf(to, "%s%s AS %s", i ? ", " : "", shape->columns[i].expression, shape->columns[i].name);
	export_source_sql(to, r->what, team->team_id, from_day, until_day);
	put_settings(to, r);
}

void export_days_sql(struct duct_buf *to, int64_t team_id)
{
	AUTO_BUF struct duct_buf values = {0};
	/* all but _inserted_at, the last */
	for (int i = 0; i < (int)DUCT_LEN(person_columns) - 1; i++)
		duct_buf_printf(&values, "%s%s", i ? ", " : "", person_columns[i].expression);
	/* The hash of a row with a NULL is NULL, which no sum has: such a row is hashed as it is printed. */
	duct_buf_printf(to,
			"SELECT toInt32(toDate32(p._timestamp, 'UTC')) AS day, count() AS n, "
			"lower(hex(sum(ifNull(cityHash64(%s), cityHash64(toString(tuple(%s))))))) AS mark",
			values.data, values.data);
	export_source_sql(to, EXPORT_PERSONS, team_id, INT64_MIN, 0);
	duct_buf_puts(to, " GROUP BY day ORDER BY day FORMAT TSVWithNames");
}
