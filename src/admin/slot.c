#include <ductstream/v1/flow.pb-c.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__flow_service__descriptor

static const struct admin_column columns[] = {
	{"SLOT", "slotName"}, {"PLUGIN", "plugin"},	 {"DATABASE", "database"},	     {"ACTIVE", "active"},
	{"WAL", "walStatus"}, {"RESTART", "restartLsn"}, {"CONFIRMED", "confirmedFlushLsn"}, {0}};
static const struct admin_column one_columns[] = {{"slot", "slotName"},
						  {"plugin", "plugin"},
						  {"type", "slotType"},
						  {"database", "database"},
						  {"active", "active"},
						  {"pid", "activePid"},
						  {"temporary", "temporary"},
						  {"wal", "walStatus"},
						  {"restart", "restartLsn"},
						  {"confirmed", "confirmedFlushLsn"},
						  {0}};
static const struct admin_column drop_columns[] = {{"slot", "slot"}, {"found", "found"}, {"dropped", "dropped"}, {0}};
static const struct admin_view list_view = {"slots", true, "no replication slots", columns};
static const struct admin_view slot_view = {"slot", false, NULL, one_columns};
static const struct admin_view drop_view = {NULL, false, NULL, drop_columns};

#define FLOW \
	{ \
		"flow-id", "flow_id", "ID", "the flow whose source it is", NULL, false \
	}
#define DSN \
	{ \
		"dsn", "dsn", "DSN", "the source itself, instead of a flow", NULL, false \
	}
#define SLOT \
	{ \
		"slot", "slot", "NAME", "default: the flow's", NULL, false \
	}
static const struct admin_flag flags[] = {FLOW, DSN, SLOT, {0}};
static const struct admin_flag drop_flags[] = {
	FLOW, DSN, SLOT, {"if-exists", "if_exists", NULL, "no error when there is none", "true", false}, {0}};

static int call(struct admin *admin, struct duct_error *err)
{
	return admin_source_named(admin, err) ? -(int)err->class : admin_plain(admin, err);
}

static const struct admin_command list_command = {flags, SERVICE, "ListReplicationSlots", &list_view, false, call};
static const struct admin_command show_command = {flags, SERVICE, "GetReplicationSlot", &slot_view, false, call};
static const struct admin_command drop_command = {drop_flags, SERVICE, "DropReplicationSlot", &drop_view, false, call};

const struct cli_command *const admin_slot_commands[] = {
	ADMIN_COMMAND("slot list", " (--flow-id ID | --dsn DSN)", "replication slots of a source",
		      "Lists the replication slots of a source, with what they keep back.", &list_command),
	ADMIN_COMMAND("slot show", " (--flow-id ID | --dsn DSN) [--slot NAME]", "one of them", "Shows a replication slot.",
		      &show_command),
	ADMIN_COMMAND("slot drop", " (--flow-id ID | --dsn DSN) [--slot NAME]", "drop one",
		      "Drops a replication slot: what it kept back is gone for its flow. A slot in use\n"
		      "is not dropped. A DSN with a password is better given as a flow.",
		      &drop_command),
	NULL,
};
