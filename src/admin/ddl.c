#include <ductstream/v1/ddl.pb-c.h>
#include <string.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__ddlservice__descriptor

static const struct admin_column columns[] = {
	{"ID", "id"}, {"STATUS", "status"}, {"FLOW", "flowId"}, {"LSN", "lsn"}, {"CREATED", "createdAt"}, {"DDL", "ddl"}, {0}};
static const struct admin_column one_columns[] = {{"id", "id"},
						  {"flow", "flowId"},
						  {"status", "status"},
						  {"lsn", "lsn"},
						  {"created", "createdAt"},
						  {"ddl", "ddl"},
						  {"plan", "planJson"},
						  {0}};
static const struct admin_view list_view = {"events", true, "no such schema changes", columns};
static const struct admin_view event_view = {"event", false, NULL, one_columns};

/* "all" is no status to the service. */
static int list(struct admin *admin, struct duct_error *err)
{
	static const char *const known[] = {"pending", "approved", "rejected", "applied", "all", NULL};
	json_t *request = admin_request(admin, &ductstream__v1__list_ddlrequest__descriptor, err), *answer = NULL;
	if (!request)
		return -(int)err->class;
	const char *status = admin_value(admin, "status");
	size_t i = 0;
	while (known[i] && strcmp(known[i], status) != 0)
		i++;
	int rc = 0;
	if (!known[i])
		rc = duct_fail(err, DUCT_CONFIG,
			       "flag \"--status\": \"%.40s\" is none of pending, approved, rejected, applied, all", status);
	if (strcmp(status, "all") == 0)
		json_object_del(request, "status");
	if (rc)
		json_decref(request);
	rc = rc ? rc : admin_call(admin, admin->command->service, "ListDDL", request, &answer, err);
	rc = rc ? rc : admin_show(&list_view, answer, err);
	json_decref(answer);
	return rc;
}

/* The service lists; one of them is picked out here. */
static int show(struct admin *admin, struct duct_error *err)
{
	json_t *request = json_object(), *answer = NULL, *event;
	if (admin_value(admin, "flow-id"))
		json_object_set_new(request, "flow_id", json_string(admin_value(admin, "flow-id")));
	int rc = admin_call(admin, admin->command->service, "ListDDL", request, &answer, err);
	if (rc)
		return rc;
	size_t i;
	bool found = false;
	json_array_foreach(json_object_get(answer, "events"), i, event)
	{
		AUTO_BUF struct duct_buf id = {0};
		admin_put_path(&id, event, "id");
		if (!id.data || strcmp(id.data, admin_value(admin, "id")) != 0)
			continue;
		found = true;
		json_t *wrapped = json_object();
		json_object_set(wrapped, "event", event);
		rc = admin_show(&event_view, wrapped, err);
		json_decref(wrapped);
	}
	if (!found)
		rc = duct_fail(err, DUCT_CONFIG, "schema change %.40s: there is none: `ductstream-admin ddl history` lists them",
			       admin_value(admin, "id"));
	json_decref(answer);
	return rc;
}

#define STATUS(default_) \
	{ \
		"status", "status", "WHICH", "pending, approved, rejected, applied, all", default_, false \
	}
#define FLOW \
	{ \
		"flow-id", "flow_id", "ID", "of this flow only", NULL, false \
	}
#define ID \
	{ \
		"id", "id", "N", "number of the change", NULL, true \
	}
static const struct admin_flag list_flags[] = {STATUS("pending"), FLOW, {0}};
static const struct admin_flag history_flags[] = {STATUS("all"), FLOW, {0}};
static const struct admin_flag show_flags[] = {ID, FLOW, {0}};
static const struct admin_flag id_flags[] = {ID, {0}};

static const struct admin_command list_command = {list_flags, SERVICE, "ListDDL", &list_view, false, list};
static const struct admin_command history_command = {history_flags, SERVICE, "ListDDL", &list_view, false, list};
static const struct admin_command show_command = {show_flags, SERVICE, "ListDDL", NULL, false, show};
static const struct admin_command approve_command = {id_flags, SERVICE, "ApproveDDL", &event_view, false, NULL};
static const struct admin_command reject_command = {id_flags, SERVICE, "RejectDDL", &event_view, false, NULL};
static const struct admin_command apply_command = {id_flags, SERVICE, "MarkDDLApplied", &event_view, false, NULL};

const struct cli_command *const admin_ddl_commands[] = {
	ADMIN_COMMAND("ddl list", " [--status WHICH] [--flow-id ID]", "schema changes that wait for a decision",
		      "Lists changes of schema that flows met at their sources.", &list_command),
	ADMIN_COMMAND("ddl show", " --id N", "one of them with its plan",
		      "Shows a change with its plan: what is done at the destination, and whether it\n"
		      "can be taken back.",
		      &show_command),
	ADMIN_COMMAND("ddl history", " [--flow-id ID]", "all of them", "Lists the changes of every status.", &history_command),
	ADMIN_COMMAND("ddl approve", " --id N", "let a change go on",
		      "Approves a change. The flow applies it by itself when DUCTSTREAM_DDL_AUTO_APPLY\n"
		      "is true, otherwise `ddl apply` does. Again: nothing happens.",
		      &approve_command),
	ADMIN_COMMAND("ddl reject", " --id N", "do not let it go on", "Rejects a change: its flow stays where it is.",
		      &reject_command),
	ADMIN_COMMAND("ddl apply", " --id N", "apply an approved change",
		      "Has an approved change applied at the destination; its flow goes on. Of one that\n"
		      "is applied already: nothing happens.",
		      &apply_command),
	NULL,
};
