#include <ductstream/v1/stream.pb-c.h>
#include <string.h>

#include "admin/admin.h"
#include "base/base64.h"

#define SERVICE &ductstream__v1__stream_service__descriptor

static const struct admin_column acked_columns[] = {{"acked", "acked"}, {0}};
static const struct admin_column reset_columns[] = {{"reset", "reset"}, {0}};
static const struct admin_view acked_view = {NULL, false, NULL, acked_columns};
static const struct admin_view reset_view = {NULL, false, NULL, reset_columns};

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

/* "12 public.orders 0/16B6C50" and the payload below it. */
static int pull(struct admin *admin, struct duct_error *err)
{
	json_t *answer = NULL, *message;
	size_t i;
	int rc = admin_fetch(admin, &answer, err);
	if (!rc && cli_json)
		rc = admin_put_json(answer, err);
	json_t *messages = rc || cli_json ? NULL : json_object_get(answer, "messages");
	AUTO_BUF struct duct_buf to = {0};
	json_array_foreach(messages, i, message)
	{
		static const char *const paths[] = {"id", "namespace", "table", "lsn", "createdAt", "claimToken"};
		static const char *const before[] = {"", " ", ".", " ", " ", " claim "};
		for (size_t p = 0; p < DUCT_LEN(paths); p++) {
			AUTO_BUF struct duct_buf cell = {0};
			admin_put_path(&cell, message, paths[p]);
			if (cell.len)
				duct_buf_printf(&to, "%s%s", before[p], cell.data);
		}
		duct_buf_putc(&to, '\n');
		put_payload(&to, message);
		duct_buf_putc(&to, '\n');
	}
	if (messages && i == 0)
		duct_buf_puts(&to, "no messages\n");
	rc = rc ? rc : cli_print(&to, err);
	json_decref(answer);
	return rc;
}

static int replay(struct admin *admin, struct duct_error *err)
{
	if (!admin_value(admin, "from-lsn") && !admin_value(admin, "since"))
		return duct_fail(err, DUCT_CONFIG, "from where: name --from-lsn or --since");
	return admin_plain(admin, err);
}

#define GROUP \
	{"stream", "stream", "NAME", "the stream", NULL, true}, \
	{ \
		"group", "consumer_group", "NAME", "the consumer group", NULL, true \
	}
#define IDS \
	{ \
		"ids", "ids", "N,M", "numbers of the messages", NULL, true \
	}
static const struct admin_flag pull_flags[] = {
	GROUP,
	{"max", "max_messages", "N", "at most so many", "10", false},
	{"visibility", "visibility_timeout_seconds", "SECONDS", "how long they are this consumer's", "30", false},
	{"consumer", "consumer_id", "NAME", "who takes them", NULL, false},
	{0},
};
static const struct admin_flag ack_flags[] = {GROUP, IDS, {0}};
static const struct admin_flag replay_flags[] = {
	GROUP,
	{"from-lsn", "from_lsn", "LSN", "those from this position on", NULL, false},
	{"since", "since", "TIME", "those made since, as 2026-01-01T00:00:00Z", NULL, false},
	{0},
};

static const struct admin_command pull_command = {pull_flags, SERVICE, "Pull", NULL, false, pull};
static const struct admin_command ack_command = {ack_flags, SERVICE, "Ack", &acked_view, false, NULL};
static const struct admin_command replay_command = {replay_flags, SERVICE, "Replay", &reset_view, false, replay};

const struct cli_command *const admin_stream_commands[] = {
	ADMIN_COMMAND("stream pull", " --stream S --group G [--max N]", "take messages",
		      "Takes messages of a stream for a group. Those that are not acknowledged within\n"
		      "--visibility seconds are given to others again.",
		      &pull_command),
	ADMIN_COMMAND("stream ack", " --stream S --group G --ids 1,2,3", "they are done",
		      "Acknowledges messages. Only those count that the group has a live claim on.", &ack_command),
	ADMIN_COMMAND("stream replay", " --stream S --group G --since TIME", "give them again",
		      "Has messages delivered to a group again.", &replay_command),
	NULL,
};
