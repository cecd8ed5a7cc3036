/* Teams of the exports, and the calendar of their days. */
#include <ductstream/v1/backfill.pb-c.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin.h"
#include "export/registry.h"

#define SERVICE &ductstream__v1__backfill_service__descriptor

/* --- the calendar: a line per month, a letter per day --- */

static const struct {
	const char *state;
	char letter;
	const char *colour; /* of a terminal */
} marks[] = {
	{"done", 'D', "32"},   {"empty", 'e', "36"},  {"running", 'r', "34"},	    {"queued", 'q', "34"},
	{"failed", 'F', "31"}, {"missing", '.', "2"}, {"quarantined", 'Q', "1;31"},
};
enum { MARKS = DUCT_LEN(marks) };

static size_t mark_of(const char *state)
{
	size_t i = 0;
	while (i + 1 < MARKS && strcmp(marks[i].state, state ? state : "") != 0)
		i++;
	return i;
}

static bool has_colours(void)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(STDOUT_FILENO) && !(none && *none) && !(term && strcmp(term, "dumb") == 0);
}

static void put_month(struct duct_buf *to, const json_t *days, size_t *at, size_t counts[MARKS], bool colours)
{
	const char *first = json_string_value(json_object_get(json_array_get(days, *at), "day"));
	long blanks = strtol(first + 8, NULL, 10) - 1;
	duct_buf_printf(to, "%.7s  %*s", first, (int)blanks, "");
	for (; *at < json_array_size(days); (*at)++) {
		const json_t *day = json_array_get(days, *at);
		const char *text = json_string_value(json_object_get(day, "day"));
		if (strncmp(text, first, 7) != 0)
			break;
		size_t m = mark_of(json_string_value(json_object_get(day, "state")));
		counts[m]++;
		if (colours)
			duct_buf_printf(to, "\033[%sm%c\033[0m", marks[m].colour, marks[m].letter);
		else
			duct_buf_putc(to, marks[m].letter);
	}
	duct_buf_putc(to, '\n');
}

static void put_one(struct duct_buf *to, const json_t *calendar, bool colours)
{
	const json_t *days = json_object_get(calendar, "days");
	size_t counts[MARKS] = {0};
	const char *comma = "         ";
	duct_buf_puts(to, "team ");
	admin_put_path(to, calendar, "teamId");
	duct_buf_puts(to, ", ");
	admin_put_path(to, calendar, "job");
	duct_buf_puts(to, "\n         1   5    10   15   20   25   30\n");
	for (size_t at = 0; at < json_array_size(days);)
		put_month(to, days, &at, counts, colours);
	for (size_t m = 0; m < MARKS; m++)
		if (counts[m]) {
			duct_buf_printf(to, "%s%zu %s", comma, counts[m], marks[m].state);
			comma = ", ";
		}
	duct_buf_puts(to, "\n\n");
}

static int put_calendars(const json_t *answer, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	const json_t *calendars = json_object_get(answer, "calendars");
	bool colours = has_colours();
	for (size_t i = 0; i < json_array_size(calendars); i++)
		put_one(&to, json_array_get(calendars, i), colours);
	if (!json_array_size(calendars))
		duct_buf_puts(&to, "no teams\n");
	for (size_t m = 0; m < MARKS && json_array_size(calendars); m++)
		duct_buf_printf(&to, "%s%c %s", m ? "  " : "", marks[m].letter, marks[m].state);
	if (json_array_size(calendars))
		duct_buf_putc(&to, '\n');
	return cli_print(&to, err);
}

static void take(json_t *request, const char *field, const char *text)
{
	if (text)
		json_object_set_new(request, field, json_string(text));
}

static int calendar(struct admin *admin, struct duct_error *err)
{
	json_t *request = json_object(), *answer = NULL;
	take(request, "job", admin_value(admin, "job"));
	take(request, "team_id", admin_value(admin, "team"));
	take(request, "from_date", admin_value(admin, "from"));
	take(request, "to_date", admin_value(admin, "to"));
	int rc = admin_call(admin, SERVICE, "GetCalendar", request, &answer, err);
	if (!rc)
		rc = cli_json ? admin_put_json(answer, err) : put_calendars(answer, err);
	json_decref(answer);
	return rc;
}

int admin_backfill_partitions_run(struct admin *admin, struct duct_error *err)
{
	static const char *const only[][2] = {{"team", "--team"}, {"from", "--from"}, {"to", "--to"}};
	bool wanted = admin_is(admin, "calendar");
	for (size_t i = 0; i < DUCT_LEN(only) && !wanted; i++)
		if (admin_given(admin, only[i][0]))
			return duct_fail(err, DUCT_CONFIG, "flag \"%s\" is for --calendar", only[i][1]);
	if (wanted && (admin_given(admin, "state") || admin_given(admin, "key-prefix")))
		return duct_fail(err, DUCT_CONFIG, "--state and --key-prefix are for lists, not for --calendar");
	return wanted ? calendar(admin, err) : admin_plain(admin, err);
}

/* --- teams --- */

static const struct admin_column columns[] = {{"TEAM", "teamId"},   {"BUCKET", "bucket"},	{"REGION", "bucketRegion"},
					      {"HOST", "dbHost"},   {"DATABASE", "dbName"},	{"CATALOG", "catalog"},
					      {"ORIGIN", "origin"}, {"SHADOWS", "shadowsFile"}, {0}};
static const struct admin_column one_columns[] = {{"team", "teamId"},
						  {"bucket", "bucket"},
						  {"region", "bucketRegion"},
						  {"endpoint", "endpoint"},
						  {"host", "dbHost"},
						  {"port", "dbPort"},
						  {"database", "dbName"},
						  {"user", "dbUser"},
						  {"password", "dbPassword"},
						  {"catalog", "catalog"},
						  {"role", "crossAccountRoleArn"},
						  {"external id", "crossAccountExternalId"},
						  {"origin", "origin"},
						  {"shadows file", "shadowsFile"},
						  {"updated", "updatedAt"},
						  {0}};
static const struct admin_column deleted_columns[] = {{"deleted", "deleted"}, {0}};
static const struct admin_view list_view = {"teams", true, "no teams", columns};
static const struct admin_view one_view = {NULL, false, NULL, one_columns};
static const struct admin_view deleted_view = {NULL, false, NULL, deleted_columns};

static int put_entry(struct admin *admin, const struct export_entry *e, struct duct_error *err)
{
	json_t *team = json_object(), *answer = NULL;
	for (int f = 0; f < EXPORT_FIELDS; f++)
		take(team, export_field_names[f], e->values[f]);
	int rc = admin_call(admin, SERVICE, "PutTeam", json_pack("{s:o}", "team", team), &answer, err);
	if (!rc)
		rc = cli_json ? admin_put_json(answer, err) : admin_say(err, "team %lld: kept", (long long)e->team_id);
	json_decref(answer);
	return rc ? duct_wrap(err, "%s:%d", e->file, e->line) : 0;
}

static int put_file(struct admin *admin, const char *path, struct duct_error *err)
{
	struct export_entry *entries;
	size_t n;
	int rc = export_registry_read(NULL, path, &admin->arena, &entries, &n, err);
	for (size_t i = 0; i < n && !rc; i++)
		rc = put_entry(admin, &entries[i], err);
	return rc;
}

static int put(struct admin *admin, struct duct_error *err)
{
	const char *file = admin_value(admin, "file"), *password = admin_value(admin, "db-password");
	if (file && admin_given(admin, "team-id"))
		return duct_fail(err, DUCT_CONFIG, "--file has the teams whole: no other flags go with it");
	if (file)
		return put_file(admin, file, err);
	if (password && strcmp(password, "***") != 0 && (strncmp(password, "${", 2) != 0 || password[strlen(password) - 1] != '}'))
		return duct_fail(err, DUCT_CONFIG,
				 "--db-password: others can read a command line: give a reference ('${ACME_PASSWORD}'), or --file");
	if (!admin_given(admin, "team-id"))
		return duct_fail(err, DUCT_CONFIG, "which team: name --team-id, or --file");
	return admin_plain(admin, err);
}

#define TEAM \
	{ \
		"team-id", "team_id", "ID", "the team", NULL, true \
	}
static const struct admin_flag no_flags[] = {{0}};
static const struct admin_flag id_flags[] = {TEAM, {0}};
static const struct admin_flag put_flags[] = {
	{"file", NULL, "FILE", "teams in YAML, as --registry has them", NULL, false},
	{"team-id", "team.team_id", "ID", "the team", NULL, false},
	{"bucket", "team.bucket", "NAME", "its bucket", NULL, false},
	{"bucket-region", "team.bucket_region", "NAME", "where that is", NULL, false},
	{"db-host", "team.db_host", "HOST", "of its catalog", NULL, false},
	{"db-port", "team.db_port", "PORT", "5432", NULL, false},
	{"db-name", "team.db_name", "NAME", "database of its catalog", NULL, false},
	{"db-user", "team.db_user", "NAME", "who writes there", NULL, false},
	{"db-password", "team.db_password", "REFERENCE", "'${ACME_PASSWORD}' of the server's environment", NULL, false},
	{"cross-account-role-arn", "team.cross_account_role_arn", "ARN", "role for its bucket", NULL, false},
	{"cross-account-external-id", "team.cross_account_external_id", "ID", "that the role asks for", NULL, false},
	{"endpoint", "team.endpoint", "URL", "of an S3 that is not AWS's", NULL, false},
	{"catalog", "team.catalog", "URI", "instead of the database: sqlite:PATH", NULL, false},
	{0},
};
static const struct admin_flag calendar_flags[] = {
	{"job", NULL, "JOB", "of this job", NULL, false},
	{"team", NULL, "ID", "of this team", NULL, false},
	{"from", NULL, "DATE", "2024-01-15 or 2024-01; default: the first", NULL, false},
	{"to", NULL, "DATE", "with it; default: yesterday", NULL, false},
	{0},
};

static const struct admin_command list_command = {no_flags, SERVICE, "ListTeams", &list_view, false, NULL};
static const struct admin_command get_command = {id_flags, SERVICE, "GetTeam", &one_view, false, NULL};
static const struct admin_command put_command = {put_flags, SERVICE, "PutTeam", &one_view, false, put};
static const struct admin_command delete_command = {id_flags, SERVICE, "DeleteTeam", &deleted_view, false, NULL};
static const struct admin_command calendar_command = {calendar_flags, SERVICE, "GetCalendar", NULL, false, calendar};
const struct admin_command admin_backfill_teams = {no_flags, SERVICE, "ListTeams", &list_view, false, NULL};

const struct cli_command *const admin_backfill_commands[] = {
	ADMIN_COMMAND("team list", "", "teams of the backfills",
		      "Lists the teams: those of the API and those of the server's file.", &list_command),
	ADMIN_COMMAND("team get", " --team-id ID", "one of them", "Shows a team; secrets as ***.", &get_command),
	ADMIN_COMMAND("team put", " --team-id ID --bucket NAME ... | --file FILE", "add or replace",
		      "Keeps a team with the service; it goes before one of the file with its id.\n"
		      "--file takes a list of teams as the file has them, passwords too.",
		      &put_command),
	ADMIN_COMMAND("team delete", " --team-id ID", "forget", "Forgets a team; its lake and its partitions stay.",
		      &delete_command),
	ADMIN_COMMAND("partition calendar", " [--job JOB] [--team ID] ...", "days of the backfills",
		      "Shows what became of each day of a team, a line per month, a letter per day.", &calendar_command),
	NULL,
};
