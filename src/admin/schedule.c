#include <ductstream/v1/schedule.pb-c.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__schedule_service__descriptor

static const struct admin_column columns[] = {{"NAME", "name"},	  {"CRON", "cron"},   {"PAUSED", "paused"}, {"KIND", "kind"},
					      {"FLOW", "flowId"}, {"NEXT", "nextAt"}, {"LAST", "lastAt"},   {0}};
static const struct admin_column one_columns[] = {{"name", "name"},
						  {"cron", "cron"},
						  {"timezone", "timezone"},
						  {"paused", "paused"},
						  {"kind", "kind"},
						  {"each flow", "eachRunningFlow"},
						  {"flow", "flowId"},
						  {"input", "inputJson"},
						  {"queue", "queue"},
						  {"attempts", "maxAttempts"},
						  {"next", "nextAt"},
						  {"last", "lastAt"},
						  {"enqueued", "lastEnqueued"},
						  {0}};
static const struct admin_column deleted_columns[] = {{"deleted", "deleted"}, {0}};
static const struct admin_column run_columns[] = {{"ID", "id"}, {"KIND", "kind"}, {"FLOW", "flowId"}, {"STATE", "state"}, {0}};
static const struct admin_column sensor_columns[] = {{"NAME", "name"},
						     {"CURSOR", "cursor"},
						     {"PAUSED", "paused"},
						     {"NEXT", "nextAt"},
						     {"LAST", "lastAt"},
						     {"ERROR", "error"},
						     {0}};
static const struct admin_column partition_columns[] = {{"JOB", "job"},
							{"KEY", "key"},
							{"STATE", "state"},
							{"ATTEMPTS", "attempts"},
							{"RUN", "runId"},
							{"UPDATED", "updatedAt"},
							{0}};
static const struct admin_view list_view = {"schedules", true, "no schedules", columns};
static const struct admin_view one_view = {NULL, false, NULL, one_columns};
static const struct admin_view deleted_view = {NULL, false, NULL, deleted_columns};
static const struct admin_view tick_view = {"runs", true, "nothing enqueued", run_columns};
static const struct admin_view sensors_view = {"sensors", true, "no sensors", sensor_columns};
static const struct admin_view sensor_view = {NULL, false, NULL, sensor_columns};
static const struct admin_view partitions_view = {"partitions", true, "no partitions", partition_columns};

#define NAME \
	{ \
		"name", "name", "NAME", "its name", NULL, true \
	}
#define PAGES \
	{"page-size", "page_size", "N", "one page of so many", NULL, false}, \
	{ \
		"page-token", "page_token", "TOKEN", "the page after another one", NULL, false \
	}
static const struct admin_flag no_flags[] = {{0}};
static const struct admin_flag name_flags[] = {NAME, {0}};
static const struct admin_flag list_flags[] = {PAGES, {0}};
static const struct admin_flag schedule_flags[] = {
	{"name", "schedule.name", "NAME", "its name", NULL, true},
	{"cron", "schedule.cron", "CRON", "five fields, or six with seconds first", NULL, true},
	{"timezone", "schedule.timezone", "ZONE", "default UTC", NULL, false},
	{"paused", "schedule.paused", NULL, "it enqueues nothing", NULL, false},
	{"kind", "schedule.kind", "KIND", "of its runs", "flow-once", false},
	{"each-running-flow", "schedule.each_running_flow", NULL, "a run for each flow that is running", NULL, false},
	{"flow-id", "schedule.flow_id", "ID", "the flow of its runs", NULL, false},
	{"input", "schedule.input_json", "JSON", "of its runs", NULL, false},
	{"queue", "schedule.queue", "NAME", "of its runs", NULL, false},
	{"max-attempts", "schedule.max_attempts", "N", "of its runs", NULL, false},
	{"concurrency-key", "schedule.concurrency_key", "KEY", "of its runs", NULL, false},
	{"concurrency-limit", "schedule.concurrency_limit", "N", "of its runs", NULL, false},
	{0},
};
static const struct admin_flag cursor_flags[] = {NAME,
						 {"cursor", "cursor", "TEXT", "default: from the beginning", NULL, false},
						 {0}};
static const struct admin_flag partition_flags[] = {{"job", "job", "NAME", "of this job", NULL, false},
						    {"state", "state", "STATE", "missing, queued, running, done, ...", NULL, false},
						    {"key-prefix", "key_prefix", "TEXT", "whose key begins so", NULL, false},
						    PAGES,
						    {0}};

#define CALL(name, flags, method, view) static const struct admin_command name = {flags, SERVICE, method, view, false, NULL}
CALL(create_command, schedule_flags, "CreateSchedule", &one_view);
CALL(update_command, schedule_flags, "UpdateSchedule", &one_view);
CALL(get_command, name_flags, "GetSchedule", &one_view);
CALL(delete_command, name_flags, "DeleteSchedule", &deleted_view);
CALL(tick_command, name_flags, "Tick", &tick_view);
CALL(sensors_command, no_flags, "ListSensors", &sensors_view);
CALL(cursor_command, cursor_flags, "ResetCursor", &sensor_view);
static const struct admin_command list_command = {list_flags, SERVICE, "ListSchedules", &list_view, true, NULL};
static const struct admin_command partitions_command = {partition_flags, SERVICE, "ListPartitions", &partitions_view, true, NULL};

/* Of `ductstream backfill`, in the pages' words. */
#define SENSOR \
	{ \
		"sensor", "name", "NAME", "duckling_events_daily_backfill_sensor, ...", NULL, true \
	}
static const struct admin_flag sensor_flags[] = {SENSOR, {0}};
static const struct admin_flag sensor_cursor_flags[] = {SENSOR,
							{"cursor", "cursor", "TEXT", "default: from the beginning", NULL, false},
							{0}};
const struct admin_command admin_backfill_tick = {sensor_flags, SERVICE, "Tick", &tick_view, false, NULL};
const struct admin_command admin_backfill_sensors = {no_flags, SERVICE, "ListSensors", &sensors_view, false, NULL};
const struct admin_command admin_backfill_cursor = {sensor_cursor_flags, SERVICE, "ResetCursor", &sensor_view, false, NULL};
static const struct admin_flag backfill_flags[] = {{"job", "job", "NAME", "of this job", NULL, false},
						   {"state", "state", "STATE", "missing, queued, running, done, ...", NULL, false},
						   {"key-prefix", "key_prefix", "TEXT", "whose key begins so", NULL, false},
						   {"calendar", NULL, NULL, "a line per month, a letter per day", NULL, false},
						   {"team", NULL, "ID", "calendar of this team", NULL, false},
						   {"from", NULL, "DATE", "2024-01-15 or 2024-01; default: the first", NULL, false},
						   {"to", NULL, "DATE", "with it; default: yesterday", NULL, false},
						   PAGES,
						   {0}};
const struct admin_command admin_backfill_partitions = {backfill_flags,	  SERVICE, "ListPartitions",
							&partitions_view, true,	   admin_backfill_partitions_run};

const struct cli_command *const admin_schedule_commands[] = {
	ADMIN_COMMAND("schedule create", " --name NAME --cron CRON ...", "have runs enqueued by the clock",
		      "Creates a schedule: \"*/10 * * * * *\" is every ten seconds.", &create_command),
	ADMIN_COMMAND("schedule update", " --name NAME --cron CRON ...", "replace one", "Replaces a schedule as a whole.",
		      &update_command),
	ADMIN_COMMAND("schedule get", " --name NAME", "one of them", "Shows a schedule.", &get_command),
	ADMIN_COMMAND("schedule list", "", "schedules", "Lists schedules with their next and last time.", &list_command),
	ADMIN_COMMAND("schedule delete", " --name NAME", "remove one", "Removes a schedule; its runs stay.", &delete_command),
	ADMIN_COMMAND("schedule tick", " --name NAME", "now", "Evaluates a schedule or sensor now, due or not.", &tick_command),
	ADMIN_COMMAND("sensor list", "", "sensors", "Lists sensors with their cursor.", &sensors_command),
	ADMIN_COMMAND("sensor reset-cursor", " --name NAME [--cursor TEXT]", "look again", "Sets the cursor of a sensor.",
		      &cursor_command),
	ADMIN_COMMAND("partition list", " [--job NAME] [--state STATE] ...", "partitions", "Lists partitions of jobs.",
		      &partitions_command),
	NULL,
};
