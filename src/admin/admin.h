#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "cli/cli.h"
#include "cli/signals.h"

/*
 * ductstream-admin: commands that are calls of the service. Most are rows of a table: a method, the flags that are fields of its
 * request, and what of its answer people want to see. What needs more than one call has a function.
 */
struct admin_flag {
	const char *name;     /* "flow-id" */
	const char *field;    /* of the request, "schedule.cron" inside a message; NULL: the command's own */
	const char *value;    /* what it takes, for the help: "ID"; NULL: a switch */
	const char *summary;  /* for the help */
	const char *fallback; /* when it is not given; NULL: left out */
	bool required;
};

/* A column of a table, or a line of one object: a path of keys in the answer's JSON, also in texts that are JSON; through a list it gives all,
 * with commas. */
struct admin_column {
	const char *title, *path;
};

struct admin_view {
	const char *at; /* key of the list or object to show; NULL: the answer itself */
	bool is_list;
	const char *none; /* said of an empty list */
	const struct admin_column *columns;
};

struct admin;
struct admin_command {
	const struct admin_flag *flags; /* ends with a NULL name */
	const ProtobufCServiceDescriptor *service;
	const char *method;
	const struct admin_view *view;
	bool paged; /* all pages are fetched unless one is asked for with --page-size or --page-token */
	int (*run)(struct admin *admin, struct duct_error *err); /* instead of the call; may be NULL */
};

/* One command while it runs. */
struct admin {
	const struct admin_command *command;
	const char *values[32]; /* of the flags, by their place; "true", "false" of switches */
	bool on[32];
	struct cli_signals signals;
	struct rpc_client *client; /* opened by the first call */
	bool here;		   /* calls go to the state of this process's environment, not to a server (here.c) */
	struct state *state;	   /* of those, opened by the first */
	struct duct_arena arena;
	int exit_code; /* of a command that did its work and found something */
};

extern const struct cli_program admin_program;
int admin_main(int argc, char **argv); /* the whole program; returns the exit code */

/* cli_command.run_with and put_flags of all commands; detail is the struct admin_command. */
int admin_run(const void *detail, int argc, char **argv, struct duct_error *err) DUCT_CHECKED;
void admin_put_flags(const void *detail, struct duct_buf *to);
/* The same for commands of `ductstream`, without a server; the first required flag may be written as an argument. */
int admin_run_here(const void *detail, int argc, char **argv, struct duct_error *err) DUCT_CHECKED;
extern const struct admin_command admin_backfill_tick, admin_backfill_sensors, admin_backfill_cursor,
	admin_backfill_partitions;			/* schedule.c */
extern const struct admin_command admin_backfill_teams; /* backfill.c */
/* `backfill partitions`: a list, or with --calendar a calendar. */
int admin_backfill_partitions_run(struct admin *admin, struct duct_error *err);
extern const struct cli_command *const admin_here_commands[]; /* NULL-terminated */

/* Rows of the list of commands. */
#define ADMIN_COMMAND(name_, arguments, summary_, help_, detail_) \
	&(const struct cli_command) \
	{ \
		.name = name_, .usage = name_ arguments, .summary = summary_, .help = help_, .holds_signals = true, \
		.run_with = admin_run, .put_flags = admin_put_flags, .detail = detail_ \
	}
/* Each NULL-terminated. */
extern const struct cli_command *const admin_flow_commands[],
	*const admin_flow_file_commands[],
		*const admin_ddl_commands[], *const admin_stream_commands[],
						     *const admin_slot_commands[],
							     *const admin_publication_commands[],
								     *const admin_checkpoint_commands[],
									     *const admin_run_commands[],
										     *const admin_schedule_commands[],
											     *const admin_backfill_commands[],
												     *const admin_other_commands[];

/* ---- call.c */

/* The value of a flag, or its fallback, or NULL. */
const char *admin_value(const struct admin *admin, const char *flag);
bool admin_is(const struct admin *admin, const char *flag);    /* a switch that is on */
bool admin_given(const struct admin *admin, const char *flag); /* said on the command line */

/* The request that the flags say, by the command's method or another one. NULL: error. */
json_t *admin_request(const struct admin *admin, const ProtobufCMessageDescriptor *of, struct duct_error *err);

/* Calls SERVICE/METHOD with the request (taken over); *ret is the answer, to be given to json_decref(). */
int admin_call(struct admin *admin, const ProtobufCServiceDescriptor *service, const char *method, json_t *request, json_t **ret,
	       struct duct_error *err) DUCT_CHECKED;
/* A method with many answers, without a deadline unless --timeout says one. take: as rpc_answer_fn, with the answer's JSON. */
typedef int admin_json_fn(void *arg, const json_t *answer, struct duct_error *err);
int admin_watch(struct admin *admin, const ProtobufCServiceDescriptor *service, const char *method, json_t *request,
		admin_json_fn *take, void *arg, struct duct_error *err) DUCT_CHECKED;
/* The call that the row is, all its pages; admin_plain() shows the answer, too. */
int admin_fetch(struct admin *admin, json_t **ret, struct duct_error *err) DUCT_CHECKED;
int admin_plain(struct admin *admin, struct duct_error *err) DUCT_CHECKED;
/* A call with the flow id only: the flow. */
int admin_flow_call(struct admin *admin, const char *method, const char *id, json_t **ret, struct duct_error *err) DUCT_CHECKED;

/* A message's JSON as the service would write it: names, enums, nothing that is at its default. *ret: json_decref(). */
int admin_normalise(struct admin *admin, const ProtobufCMessageDescriptor *of, json_t *from, json_t **ret,
		    struct duct_error *err) DUCT_CHECKED;

/* CONFIG unless exactly one of --flow-id and --dsn is given. */
int admin_source_named(const struct admin *admin, struct duct_error *err) DUCT_CHECKED;

/* Waits; -CANCELLED when a signal came. */
int admin_pause(struct admin *admin, int64_t ms, struct duct_error *err) DUCT_CHECKED;

/* ---- here.c */

/* A call without a server: the method in this process, on the state that all programs share, as its admin. */
struct admin_message {
	const ProtobufCServiceDescriptor *service;
	const ProtobufCMethodDescriptor *method;
	const void *request; /* of the method's input */
};
typedef int admin_message_fn(void *arg, const ProtobufCMessage *answer, struct duct_error *err);
int admin_call_here(struct admin *admin, const struct admin_message *message, admin_message_fn *take, void *arg,
		    struct duct_error *err) DUCT_CHECKED;

/* ---- print.c */

/* Shows the answer: JSON with --json, otherwise as the view says; NULL: as JSON. */
int admin_show(const struct admin_view *view, const json_t *answer, struct duct_error *err) DUCT_CHECKED;
int admin_put_json(const json_t *value, struct duct_error *err) DUCT_CHECKED;
/* The text of what a path leads to, as people read it (without the prefix of an enum); "" when there is nothing. */
void admin_put_path(struct duct_buf *to, const json_t *value, const char *path);
/* One line, only for people. */
int admin_say(struct duct_error *err, const char *fmt, ...) DUCT_PRINTF(2, 3) DUCT_CHECKED;

/* ---- flow.c, flow_file.c, run.c */

extern const struct admin_view admin_flow_state_view, admin_run_view;

/* Pauses the flow if it runs; *ret_was says whether it did. for_a_moment: the caller resumes it, so its worker waits. */
int admin_pause_flow(struct admin *admin, const char *id, bool for_a_moment, bool *ret_was, struct duct_error *err) DUCT_CHECKED;
/* Lets it go on, also when rc says that something failed since: then that stays the error. */
int admin_resume_flow(struct admin *admin, const char *id, int rc, struct duct_error *err) DUCT_CHECKED;

/* ---- local.c */

/* Checks a file as the service would. 0, -class, or the exit code when there were several findings, which are shown then. */
int admin_check_file(struct admin *admin, const char *path, const char **ret_name, struct duct_error *err) DUCT_CHECKED;
/* A flow with the connectors of this program, from a file or, by its id, from the state that all three programs share (the one of this
 * process's environment; sealed secrets are opened). Exactly one of the two is given. Returns as admin_check_file(). */
int admin_load_flow(struct flow_file **ret, struct admin *admin, const char *path, const char *id,
		    struct duct_error *err) DUCT_CHECKED;
/* type: "postgres" or "ENDPOINT_TYPE_POSTGRES". */
bool admin_option_is_secret(const char *type, const char *option);

/* ---- flow_source.c */

/* The CreateFlowRequest in a file (flow file in YAML or JSON, or the request or flow as grpcurl sends it): {"flow": .., "start_immediately": ..}.
 * References to the environment stay as they are unless expand is true. NULL: error. */
json_t *admin_read_flow(const char *path, bool expand, struct duct_error *err);
/* The same from memory; name is for messages. */
json_t *admin_parse_flow(const char *data, size_t n, const char *name, bool expand, struct duct_error *err);

#endif
