#include <ductstream/v1/stream.pb-c.h>
#include <string.h>

#include "admin/admin.h"
#include "base/base64.h"

#define SERVICE &ductstream__v1__stream_service__descriptor

#define ONE(name, ...) \
	static const struct admin_column name##_columns[] = {__VA_ARGS__, {0}}; \
	static const struct admin_view name##_view = {NULL, false, NULL, name##_columns}
#define LIST(name, key, none, ...) \
	static const struct admin_column name##_columns[] = {__VA_ARGS__, {0}}; \
	static const struct admin_view name##_view = {key, true, none, name##_columns}

ONE(acked, {"acked", "acked"});
ONE(nacked, {"given back", "nacked"}, {"dead", "dead"});
ONE(extended, {"extended", "extended"}, {"until", "visibleUntil"});
ONE(reset, {"reset", "reset"});
ONE(stream, {"stream", "stream"}, {"first", "firstId"}, {"last", "lastId"}, {"bytes", "bytes"}, {"created", "createdAt"},
    {"ordered", "ordered"}, {"max attempts", "maxAttempts"});
ONE(group, {"group", "consumerGroup"}, {"next", "nextId"}, {"ordered", "ordered"}, {"max attempts", "maxAttempts"},
    {"lag", "lagMessages"}, {"in flight", "inFlight"}, {"waiting", "waiting"}, {"dead", "deadLetters"});
ONE(deleted, {"deleted", "deleted"});
ONE(redriven, {"redriven", "redriven"});
ONE(dropped, {"dropped", "dropped"});
LIST(groups, "groups", "no groups", {"GROUP", "consumerGroup"}, {"LAG", "lagMessages"}, {"BYTES", "lagBytes"},
     {"SECONDS", "lagSeconds"}, {"IN FLIGHT", "inFlight"}, {"WAITING", "waiting"}, {"DEAD", "deadLetters"}, {"USED", "usedAt"});
LIST(dead, "deadLetters", "no dead letters", {"ID", "message.id"}, {"TABLE", "message.table"}, {"LSN", "message.lsn"},
     {"ATTEMPTS", "message.attempts"}, {"SINCE", "deadAt"}, {"REASON", "reason"});

/* The payload as text when it is some, otherwise how long it is. */
static void put_payload(struct duct_buf *to, const json_t *message)
{
	const char *text = json_string_value(json_object_get(message, "payload"));
	const char *format = json_string_value(json_object_get(message, "wireFormat"));
	size_t room = text ? strlen(text) : 0, n;
	AUTO_FREE uint8_t *bytes = duct_xmalloc(room / 4 * 3 + 3);
	if (!text || !duct_base64_decode(text, room, bytes, &n))
		return;
	bool readable = format && strcmp(format, "json") == 0;
	for (size_t i = 0; i < n && readable; i++)
		readable = bytes[i] >= ' ' || bytes[i] == '\t' || bytes[i] == '\n';
	if (readable)
		duct_buf_append(to, bytes, n);
	else
		duct_buf_printf(to, "(%zu bytes of %s)", n, format ? format : "?");
}

/* "12 public.orders insert 0/16B6C50 2026-..." and the payload below it; the claim of all of them at the end. */
static void put_messages(struct duct_buf *to, const json_t *answer)
{
	static const char *const paths[] = {"id", "namespace", "table", "operation", "lsn", "createdAt"};
	static const char *const before[] = {"", " ", ".", " ", " ", " "};
	json_t *messages = json_object_get(answer, "messages"), *message;
	size_t i;
	json_array_foreach(messages, i, message)
	{
		for (size_t p = 0; p < DUCT_LEN(paths); p++) {
			AUTO_BUF struct duct_buf cell = {0};
			admin_put_path(&cell, message, paths[p]);
			if (cell.len)
				duct_buf_printf(to, "%s%s", before[p], cell.data);
		}
		duct_buf_putc(to, '\n');
		put_payload(to, message);
		duct_buf_putc(to, '\n');
	}
	if (json_array_size(messages) == 0) {
		duct_buf_puts(to, "no messages\n");
		return;
	}
	duct_buf_puts(to, "claim ");
	admin_put_path(to, answer, "claim");
	duct_buf_puts(to, " until ");
	admin_put_path(to, answer, "visibleUntil");
	duct_buf_putc(to, '\n');
}

static int pull(struct admin *admin, struct duct_error *err)
{
	AUTO_BUF struct duct_buf to = {0};
	json_t *answer = NULL;
	int rc = admin_fetch(admin, &answer, err);
	if (!rc && !cli_json)
		put_messages(&to, answer);
	if (!rc)
		rc = cli_json ? admin_put_json(answer, err) : cli_print(&to, err);
	json_decref(answer);
	return rc;
}

/* Some of a group's messages: by their numbers, by a claim, or both. */
static int settle(struct admin *admin, struct duct_error *err)
{
	if (!admin_value(admin, "ids") && !admin_value(admin, "claim"))
		return duct_fail(err, DUCT_CONFIG, "which messages: name --ids or --claim");
	return admin_plain(admin, err);
}

static int drop_dead(struct admin *admin, struct duct_error *err)
{
	if (!admin_value(admin, "ids") && !admin_is(admin, "all"))
		return duct_fail(err, DUCT_CONFIG, "which messages: name --ids or --all");
	return admin_plain(admin, err);
}

static int replay(struct admin *admin, struct duct_error *err)
{
	if (!admin_value(admin, "from-lsn") && !admin_value(admin, "since"))
		return duct_fail(err, DUCT_CONFIG, "from where: name --from-lsn or --since");
	return admin_plain(admin, err);
}

#define STREAM \
	{ \
		"stream", "stream", "NAME", "the stream", NULL, true \
	}
#define GROUP \
	STREAM, \
	{ \
		"group", "consumer_group", "NAME", "the consumer group", NULL, true \
	}
#define WHICH \
	{"ids", "ids", "N,M", "numbers of messages", NULL, false}, \
	{ \
		"claim", "claim", "CLAIM", "all of this pull, or its --ids", NULL, false \
	}
static const struct admin_flag pull_flags[] = {
	GROUP,
	{"max", "max_messages", "N", "at most so many", "10", false},
	{"visibility", "visibility_timeout_seconds", "SECONDS", "how long they are this consumer's", "30", false},
	{"consumer", "consumer_id", "NAME", "who takes them", NULL, false},
	{"wait", "wait_seconds", "SECONDS", "for the first one, when there is none", "0", false},
	{"max-bytes", "max_bytes", "N", "at most so much payload", NULL, false},
	{0},
};
static const struct admin_flag ack_flags[] = {GROUP, WHICH, {0}};
static const struct admin_flag nack_flags[] = {
	GROUP,
	WHICH,
	{"delay", "delay_seconds", "SECONDS", "before they are given again", "0", false},
	{"reason", "reason", "TEXT", "kept with dead letters", NULL, false},
	{0},
};
static const struct admin_flag extend_flags[] = {GROUP,
						 WHICH,
						 {"visibility", "visibility_timeout_seconds", "SECONDS", "from now", "30", false},
						 {0}};
static const struct admin_flag replay_flags[] = {
	GROUP,
	{"from-lsn", "from_lsn", "LSN", "those from this position on", NULL, false},
	{"since", "since", "TIME", "those made since, as 2026-01-01T00:00:00Z", NULL, false},
	{0},
};
static const struct admin_flag stream_flags[] = {STREAM, {0}};
static const struct admin_flag groups_flags[] = {STREAM, {"group", "consumer_group", "NAME", "only this one", NULL, false}, {0}};
static const struct admin_flag configure_flags[] = {
	GROUP,
	{"ordered", "ordered", NULL, "keys in order: one message of a key at a time", NULL, false},
	{"max-attempts", "max_attempts", "N", "then they are dead letters; 0: no limit", NULL, false},
	{"at-end", "at_end", NULL, "a new group begins with what comes from now on", NULL, false},
	{0},
};
static const struct admin_flag group_flags[] = {GROUP, {0}};
static const struct admin_flag dead_flags[] = {GROUP,
					       {"page-size", "page_size", "N", "one page of so many", NULL, false},
					       {"page-token", "page_token", "TOKEN", "the page after another one", NULL, false},
					       {0}};
static const struct admin_flag redrive_flags[] = {GROUP, {"ids", "ids", "N,M", "only these; default all", NULL, false}, {0}};
static const struct admin_flag drop_flags[] = {GROUP,
					       {"ids", "ids", "N,M", "these", NULL, false},
					       {"all", "all", NULL, "all of them", NULL, false},
					       {0}};

#define CALL(name, flags, method, view, run) static const struct admin_command name = {flags, SERVICE, method, view, false, run}
CALL(pull_command, pull_flags, "Pull", NULL, pull);
CALL(ack_command, ack_flags, "Ack", &acked_view, settle);
CALL(nack_command, nack_flags, "Nack", &nacked_view, settle);
CALL(extend_command, extend_flags, "Extend", &extended_view, settle);
CALL(replay_command, replay_flags, "Replay", &reset_view, replay);
CALL(show_command, stream_flags, "GetStream", &stream_view, NULL);
CALL(lag_command, groups_flags, "ListGroups", &groups_view, NULL);
CALL(configure_command, configure_flags, "ConfigureGroup", &group_view, NULL);
CALL(delete_command, group_flags, "DeleteGroup", &deleted_view, NULL);
CALL(redrive_command, redrive_flags, "RedriveDeadLetters", &redriven_view, NULL);
CALL(drop_command, drop_flags, "DropDeadLetters", &dropped_view, drop_dead);
static const struct admin_command dead_command = {dead_flags, SERVICE, "ListDeadLetters", &dead_view, true, NULL};

const struct cli_command *const admin_stream_commands[] = {
	ADMIN_COMMAND("stream pull", " --stream S --group G [--max N]", "take messages",
		      "Takes messages of a stream for a group. Those that are not acknowledged within\n"
		      "--visibility seconds are given to others again.",
		      &pull_command),
	ADMIN_COMMAND("stream ack", " --stream S --group G (--ids 1,2 | --claim C)", "they are done",
		      "Acknowledges messages. Only those count that the group has a live claim on.", &ack_command),
	ADMIN_COMMAND("stream nack", " --stream S --group G (--ids 1,2 | --claim C)", "give them back",
		      "Gives messages back to the group before their time is over.", &nack_command),
	ADMIN_COMMAND("stream extend", " --stream S --group G (--ids 1 | --claim C)", "hold them longer",
		      "Holds messages for longer.", &extend_command),
	ADMIN_COMMAND("stream replay", " --stream S --group G --since TIME", "give them again",
		      "Has messages delivered to a group again.", &replay_command),
	ADMIN_COMMAND("stream show", " --stream S", "what is in it", "Shows a stream: its messages, its size.", &show_command),
	ADMIN_COMMAND("stream lag", " --stream S [--group G]", "groups, and what they have not done",
		      "Lists the groups of a stream with their lag.", &lag_command),
	ADMIN_COMMAND("stream group", " --stream S --group G [--ordered]", "make or change a group",
		      "Makes a group, or changes how it is given messages.", &configure_command),
	ADMIN_COMMAND("stream delete-group", " --stream S --group G", "forget a group", "Removes a group and what it had open.",
		      &delete_command),
	ADMIN_COMMAND("stream dead", " --stream S --group G", "messages that were given up",
		      "Lists messages that were given out as often as their group allows.", &dead_command),
	ADMIN_COMMAND("stream redrive", " --stream S --group G [--ids 1,2,3]", "try those again",
		      "Puts dead letters back, with their attempts counted anew.", &redrive_command),
	ADMIN_COMMAND("stream drop-dead", " --stream S --group G (--ids 1 | --all)", "remove those", "Removes dead letters.",
		      &drop_command),
	NULL,
};
