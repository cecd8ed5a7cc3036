#include <ductstream/v1/checkpoint.pb-c.h>

#include "admin/admin.h"

#define SERVICE &ductstream__v1__checkpoint_service__descriptor

static const struct admin_column columns[] = {{"FLOW", "flowId"},
					      {"LSN", "checkpoint.lsn"},
					      {"UNIX MS", "checkpoint.timestampUnixMillis"},
					      {"METADATA", "checkpoint.metadata"},
					      {0}};
static const struct admin_view list_view = {"checkpoints", true, "no checkpoints", columns};
static const struct admin_view one_view = {NULL, false, NULL, columns};

static const struct admin_flag no_flags[] = {{0}};
static const struct admin_flag get_flags[] = {{"flow-id", "flow_id", "ID", "the flow", NULL, true}, {0}};
static const struct admin_flag put_flags[] = {
	{"flow-id", "flow_id", "ID", "the flow, which must not run", NULL, true},
	{"lsn", "checkpoint.lsn", "LSN", "the position, such as 0/16B6C50", NULL, true},
	{"metadata", "checkpoint.metadata", "K=V[,K=V...]", "kept with it", NULL, false},
	{0},
};

static const struct admin_command list_command = {no_flags, SERVICE, "ListCheckpoints", &list_view, false, NULL};
static const struct admin_command get_command = {get_flags, SERVICE, "GetCheckpoint", &one_view, false, NULL};
static const struct admin_command put_command = {put_flags, SERVICE, "PutCheckpoint", &one_view, false, NULL};

const struct cli_command *const admin_checkpoint_commands[] = {
	ADMIN_COMMAND("checkpoint get", " --flow-id ID", "where a flow is", "Shows the position of a flow.", &get_command),
	ADMIN_COMMAND("checkpoint put", " --flow-id ID --lsn LSN", "move it",
		      "Stores a position. Below the stored one the flow must be paused; where the\n"
		      "destination keeps the position itself (a lake), it is refused. Audited.",
		      &put_command),
	ADMIN_COMMAND("checkpoint list", "", "where all flows are", "Lists the positions of all flows.", &list_command),
	NULL,
};
