/* Options of the pgstream destination. */
#include "destination/pgstream/pgstream.h"

#define C struct pgstream_config
const struct duct_opt pgstream_opts[] = {
	OPT(C, dsn, "dsn", DUCT_OPT_STR, NULL, "connection string of the Postgres that the stream is in",
	    .flags = DUCT_OPT_REQUIRED | DUCT_OPT_DSN,
	    .doc = "keyword=value pairs or a URI. The tables are made in its schema ductstream. "
		   "In the source's own database only with a publication that lists its tables."),
	OPT(C, stream, "stream", DUCT_OPT_STR, NULL, "name of the stream (the destination's name when unset)"),
	OPT(C, format, "format", DUCT_OPT_STR, NULL, "wire format of the messages: json or arrow",
	    .doc = "Unset: what the flow's wire_format or DUCTSTREAM_WIRE_FORMAT say, else json."),
	OPT(C, ordered, "ordered", DUCT_OPT_BOOL, "false", "new groups keep the order per key",
	    .doc = "A message is then not handed out while an earlier one of its row is not acknowledged. Of a group that is there "
		   "already it is changed by itself."),
	OPT(C, max_attempts, "max_attempts", DUCT_OPT_INT, "0",
	    "in new groups a message handed out so often becomes a dead letter; 0: never", .max = 1000000),
	OPT(C, retention_age_ms, "retention_age", DUCT_OPT_DURATION, NULL, "drop messages older than this (unset: keep them)",
	    .max = 3650LL * 86400 * 1000),
	OPT(C, retention_bytes, "retention_bytes", DUCT_OPT_SIZE, NULL,
	    "drop the oldest messages beyond so much payload (unset: keep them)", .max = 1LL << 50),
	OPT(C, group_expiry_ms, "group_expiry", DUCT_OPT_DURATION, NULL,
	    "a group that was not used for so long does not hold messages back (unset: every group does)",
	    .max = 3650LL * 86400 * 1000),
	OPT(C, drop_unacked, "drop_unacked", DUCT_OPT_BOOL, "false",
	    "drop messages by age and size also before every group has acknowledged them"),
	OPT(C, flush_interval_ms, "flush_interval", DUCT_OPT_DURATION, "20ms",
	    "commit at most this often while changes keep coming", .max = 3600000),
	OPT(C, flush_rows, "flush_rows", DUCT_OPT_INT, "10000", "commit when this many changes are waiting", .min = 1,
	    .max = 100000000),
	{0},
};
