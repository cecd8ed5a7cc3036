#include <ductstream/v1/flow.pb-c.h>
#include <string.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__flow_service__descriptor

static const struct admin_column list_columns[] = {{"publication", "publication"}, {"tables", "tables"}, {0}};
static const struct admin_column sync_columns[] = {{"publication", "publication"}, {"added", "added"}, {"removed", "removed"}, {0}};
static const struct admin_column scrape_columns[] = {{"discovered", "discoveredTables"},
						     {"missing", "missingTables"},
						     {"applied", "applied"},
						     {0}};
static const struct admin_view list_view = {NULL, false, NULL, list_columns};
static const struct admin_view sync_view = {NULL, false, NULL, sync_columns};
static const struct admin_view scrape_view = {NULL, false, NULL, scrape_columns};

/* Flags that say how tables are copied, and the options of the flow's source that they are. */
static const char *const copy_flags[][2] = {{"snapshot-workers", "snapshot_workers"},
					    {"partition-column", "partition_column"},
					    {"partition-count", "partition_count"},
					    {"snapshot-state-backend", "snapshot_state_backend"},
					    {"snapshot-state-path", "snapshot_state_path"}};

static const char *copy_flag_given(const struct admin *admin)
{
	for (size_t i = 0; i < DUCT_LEN(copy_flags); i++)
		if (admin_value(admin, copy_flags[i][0]))
			return copy_flags[i][0];
	return NULL;
}

/* A flow copies tables that join it by itself: as its own options say, so they are set there, before a table joins. */
static int set_copy_options(struct admin *admin, const char *id, struct duct_error *err)
{
	json_t *flow = NULL, *answer = NULL;
	if (!copy_flag_given(admin))
		return 0;
	int rc = admin_flow_call(admin, "GetFlow", id, &flow, err);
	if (rc)
		return rc;
	json_t *options = json_object_get(json_object_get(flow, "source"), "options");
	if (admin_value(admin, "snapshot-workers"))
		json_object_del(options, "parallel_tables"); /* its other name */
	for (size_t i = 0; i < DUCT_LEN(copy_flags); i++)
		if (admin_value(admin, copy_flags[i][0]))
			json_object_set_new(options, copy_flags[i][1], json_string(admin_value(admin, copy_flags[i][0])));
	rc = admin_call(admin, SERVICE, "UpdateFlow", json_pack("{s:o}", "flow", flow), &answer, err);
	json_decref(answer);
	return rc;
}

/* "-schemas": the tables that are found there. The answer of a scrape that applies nothing. */
static int tables_of_schemas(struct admin *admin, json_t *request, struct duct_error *err)
{
	json_t *scrape = json_deep_copy(request), *answer = NULL, *schemas = json_array();
	AUTO_FREE char *copy = duct_xstrdup(admin_value(admin, "schemas"));
	for (char *rest = copy, *word; (word = strsep(&rest, ","));)
		json_array_append_new(schemas, json_string(word + strspn(word, " ")));
	json_object_del(scrape, "tables");
	json_object_del(scrape, "mode");
	json_object_set_new(scrape, "schemas", schemas);
	int rc = admin_call(admin, SERVICE, "ScrapePublicationTables", scrape, &answer, err);
	if (rc)
		return rc;
	json_t *tables = json_object_get(request, "tables");
	if (!tables)
		json_object_set_new(request, "tables", tables = json_array());
	json_array_extend(tables, json_object_get(answer, "discoveredTables"));
	json_decref(answer);
	/* Without tables a sync would take the flow's own. */
	return json_array_size(tables) ? 0
				       : duct_fail(err, DUCT_CONFIG, "there is no table in %.100s", admin_value(admin, "schemas"));
}

static int call_sync(struct admin *admin, json_t *request, json_t **ret, struct duct_error *err)
{
	int rc = admin_value(admin, "schemas") ? tables_of_schemas(admin, request, err) : 0;
	return rc ? rc : admin_call(admin, SERVICE, "SyncPublicationTables", json_incref(request), ret, err);
}

static int check_sync(struct admin *admin, struct duct_error *err)
{
	const char *mode = admin_value(admin, "mode");
	int rc = admin_source_named(admin, err);
	if (rc)
		return rc;
	if (strcmp(mode, "add") != 0 && strcmp(mode, "sync") != 0)
		return duct_fail(err, DUCT_CONFIG, "flag \"--mode\": \"%.40s\" is neither add nor sync", mode);
	if (admin_is(admin, "snapshot") && !admin_value(admin, "flow-id"))
		return duct_fail(err, DUCT_CONFIG,
				 "flag \"--snapshot\" needs a flow that copies the tables: name it with --flow-id");
	if (copy_flag_given(admin) && !admin_is(admin, "snapshot"))
		return duct_fail(err, DUCT_CONFIG, "flag \"--%s\" needs --snapshot", copy_flag_given(admin));
	return 0;
}

/* Whether a flow that we found at rest is to go on: it is paused, and that was asked for in so many words. (An earlier call of ours may have
 * died between pausing and resuming it.) */
static int resumes_paused(struct admin *admin, const char *id, bool *ret, struct duct_error *err)
{
	AUTO_BUF struct duct_buf state = {0};
	json_t *flow = NULL;
	if (!id || !admin_given(admin, "resume") || !admin_is(admin, "resume"))
		return 0;
	int rc = admin_flow_call(admin, "GetFlow", id, &flow, err);
	admin_put_path(&state, flow, "state");
	json_decref(flow);
	*ret = !rc && state.data && strcmp(state.data, "paused") == 0;
	return rc;
}

/* Pause, change, resume: what the flow was before it is again, whatever happens in between. */
static int sync(struct admin *admin, struct duct_error *err)
{
	const char *id = admin_value(admin, "flow-id");
	int rc = check_sync(admin, err);
	json_t *request = rc ? NULL : admin_request(admin, &ductstream__v1__sync_publication_tables_request__descriptor, err);
	json_t *answer = NULL;
	if (!request)
		return -(int)err->class;
	bool was_running = false;
	rc = id && admin_is(admin, "pause") ? admin_pause_flow(admin, id, admin_is(admin, "resume"), &was_running, err) : 0;
	rc = rc ? rc : set_copy_options(admin, id, err);
	rc = rc ? rc : call_sync(admin, request, &answer, err);
	bool resume = was_running && admin_is(admin, "resume");
	rc = rc || resume ? rc : resumes_paused(admin, id, &resume, err);
	if (resume)
		rc = admin_resume_flow(admin, id, rc, err);
	rc = rc ? rc : admin_show(&sync_view, answer, err);
	json_decref(answer);
	json_decref(request);
	return rc;
}

static int call(struct admin *admin, struct duct_error *err)
{
	return admin_source_named(admin, err) ? -(int)err->class : admin_plain(admin, err);
}

#define SOURCE \
	{"flow-id", "flow_id", "ID", "the flow whose source it is", NULL, false}, \
		{"dsn", "dsn", "DSN", "the source itself, instead of a flow", NULL, false}, \
	{ \
		"publication", "publication", "NAME", "default: the flow's", NULL, false \
	}
#define TABLES(required) \
	{ \
		"tables", "tables", "A.B,C.D", "the tables", NULL, required \
	}
static const struct admin_flag list_flags[] = {SOURCE, {0}};
static const struct admin_flag tables_flags[] = {SOURCE, TABLES(true), {0}};
static const struct admin_flag scrape_flags[] = {SOURCE,
						 {"schemas", "schemas", "A,B", "where to look", "public", false},
						 {"apply", "apply", NULL, "add what is missing", "false", false},
						 {0}};
static const struct admin_flag sync_flags[] = {
	SOURCE,
	TABLES(false),
	{"schemas", NULL, "A,B", "all tables in them", NULL, false},
	{"mode", "mode", "MODE", "add, or sync: tables not named leave", "add", false},
	{"pause", NULL, NULL, "pause a running flow first", "true", false},
	{"resume", NULL, NULL, "let it go on afterwards", "true", false},
	{"snapshot", NULL, NULL, "copy the new tables", "false", false},
	{"snapshot-workers", NULL, "N", "with so many at once", NULL, false},
	{"partition-column", NULL, "NAME", "cut tables by it", NULL, false},
	{"partition-count", NULL, "N", "into so many parts", NULL, false},
	{"snapshot-state-backend", NULL, "B", "postgres, file, none", NULL, false},
	{"snapshot-state-path", NULL, "FILE", "of the backend file", NULL, false},
	{0},
};

static const struct admin_command list_command = {list_flags, SERVICE, "ListPublicationTables", &list_view, false, call};
static const struct admin_command add_command = {tables_flags, SERVICE, "AddPublicationTables", &list_view, false, call};
static const struct admin_command remove_command = {tables_flags, SERVICE, "DropPublicationTables", &list_view, false, call};
static const struct admin_command scrape_command = {scrape_flags, SERVICE, "ScrapePublicationTables", &scrape_view, false, call};
static const struct admin_command sync_command = {sync_flags, SERVICE, "SyncPublicationTables", &sync_view, false, sync};

const struct cli_command *const admin_publication_commands[] = {
	ADMIN_COMMAND("publication list", " (--flow-id ID | --dsn DSN ...)", "tables of a publication",
		      "Lists the tables of a publication.", &list_command),
	ADMIN_COMMAND("publication add", " --tables A.B,C.D ...", "put tables in", "Adds tables to a publication.", &add_command),
	ADMIN_COMMAND("publication remove", " --tables A.B,C.D ...", "take tables out",
		      "Takes tables out of a publication. They stay at the destination as they are.", &remove_command),
	ADMIN_COMMAND("publication sync", " --flow-id ID ...", "bring it in line with tables or schemas",
		      "Adds tables to a publication, or makes it have just these. With --snapshot the\n"
		      "new ones are copied and joined to the stream; the flow goes on. A flow that is\n"
		      "paused already goes on if --resume is said. How they are copied becomes an\n"
		      "option of the flow's source.",
		      &sync_command),
	ADMIN_COMMAND("publication scrape", " (--flow-id ID | --dsn DSN) ...", "find tables that are not in it",
		      "Looks for tables in schemas, says which are not published, and with --apply adds\n"
		      "them.",
		      &scrape_command),
	NULL,
};
