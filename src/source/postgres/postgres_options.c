/* The options of the Postgres source: one row each. */
#include "record/position.h"
#include "source/postgres/config.h"

#include <string.h>

#define C struct postgres_config

static const char *const sync_modes[] = {"add", "sync", NULL};
static const char *const snapshot_modes[] = {"auto", "never", "only", NULL};
static const char *const state_backends[] = {"postgres", "file", "none", NULL};
static const char *const switches[] = {"auto", "off", NULL};

const struct duct_opt duct_source_postgres_opts[] = {
	OPT(C, dsn, "dsn", DUCT_OPT_STR, NULL, "connection string of the source database",
	    .flags = DUCT_OPT_REQUIRED | DUCT_OPT_DSN,
	    .doc = "Keyword/value or URI form of libpq. The role needs LOGIN and REPLICATION, and SELECT on the tables "
		   "for the first copy (or pg_read_all_data; with row security also BYPASSRLS)."),
	OPT(C, slot, "slot", DUCT_OPT_STR, NULL, "name of the replication slot", .flags = DUCT_OPT_REQUIRED,
	    .doc = "Lower-case letters, digits and underscores, at most 63. One slot serves one flow."),
	OPT(C, publication, "publication", DUCT_OPT_STR, NULL, "name of the publication", .flags = DUCT_OPT_REQUIRED),
	OPT(C, create_slot, "create_slot", DUCT_OPT_BOOL, "true", "create the slot at the first start when missing",
	    .doc = "A slot that is missing later, when the destination already has a position, is never made again "
		   "silently: changes would be lost."),
	OPT(C, ensure_publication, "ensure_publication", DUCT_OPT_BOOL, "true", "create the publication when missing",
	    .doc = "From publication_tables or publication_schemas; without both FOR ALL TABLES, which takes a "
		   "superuser."),
	OPT(C, publication_tables, "publication_tables", DUCT_OPT_LIST, NULL,
	    "tables of the publication (schema.table), when it is created or synchronised"),
	OPT(C, publication_schemas, "publication_schemas", DUCT_OPT_LIST, NULL,
	    "schemas whose tables go into the publication, when it is created or synchronised"),
	OPT(C, publish_via_partition_root, "publish_via_partition_root", DUCT_OPT_BOOL, "false",
	    "create the publication so that partitions appear as their root",
	    .doc = "TRUNCATE, ATTACH and DETACH of single partitions are then invisible to any reader of the stream."),
	OPT(C, validate_replication, "validate_replication", DUCT_OPT_BOOL, "true",
	    "check wal_level, max_replication_slots and max_wal_senders at start"),
	OPT(C, batch_size, "batch_size", DUCT_OPT_INT, "100", "records gathered before changes are handed on", .min = 1,
	    .max = 10000000,
	    .doc = "Transactions are never cut for it: a batch ends with the transaction that reaches the number."),
	OPT(C, batch_timeout_ms, "batch_timeout", DUCT_OPT_DURATION, "1s",
	    "longest wait for more records while changes keep coming", .min = 0, .max = 3600000),
	OPT(C, status_interval_ms, "status_interval", DUCT_OPT_DURATION, "10s",
	    "how often the durable position is reported to the server", .min = 100, .max = 3600000),
	OPT(C, emit_empty, "emit_empty", DUCT_OPT_BOOL, "false", "hand on positions without rows (for scheduled runs)"),
	OPT(C, resolve_types, "resolve_types", DUCT_OPT_BOOL, "true",
	    "look unknown types up in pg_type; otherwise their values are text"),
	OPT(C, sync_publication, "sync_publication", DUCT_OPT_BOOL, "false",
	    "at start, bring the publication in line with publication_tables and publication_schemas"),
	OPT(C, sync_publication_mode, "sync_publication_mode", DUCT_OPT_ENUM, "add",
	    "add missing tables only, or also drop extra ones (sync)", .values = sync_modes),
	OPT(C, ensure_state, "ensure_state", DUCT_OPT_BOOL, "true",
	    "keep a row about the slot in a table of the source database, for clean-up and auditing"),
	OPT(C, state_schema, "state_schema", DUCT_OPT_STR, "ductstream", "schema of that table"),
	OPT(C, state_table, "state_table", DUCT_OPT_STR, "source_state", "name of that table"),
	OPT(C, flow_id, "flow_id", DUCT_OPT_STR, NULL, "stable id of the flow in that table; default the flow's name"),
	OPT(C, snapshot, "snapshot", DUCT_OPT_ENUM, "auto", "copy existing rows before streaming", .values = snapshot_modes,
	    .doc = "auto: once, when the destination has nothing yet, and for tables added later. never: stream from the "
		   "slot's position on. only: copy and end."),
	OPT(C, snapshot_workers, "snapshot_workers", DUCT_OPT_INT, "1", "parts of the copy read at once", .min = 1, .max = 256),
	OPT_ALIAS("parallel_tables", "snapshot_workers"),
	OPT(C, partition_column, "partition_column", DUCT_OPT_STR, NULL,
	    "column whose hash cuts tables into parts; default ranges of pages"),
	OPT(C, partition_count, "partition_count", DUCT_OPT_INT, "1",
	    "parts of a table: by the hash of partition_column, without it ranges of pages", .min = 1, .max = 100000,
	    .doc = "1: as many ranges of pages as its size and snapshot_workers suggest."),
	OPT(C, snapshot_consistent, "snapshot_consistent", DUCT_OPT_BOOL, "true",
	    "all tables of a backfill read the same moment; else each has its own",
	    .doc = "false holds back vacuum at the source for as long as one table takes, not all of them. The parts of a table read the same "
		   "moment in any case, and so does the whole first copy of a flow that streams; with snapshot=only false means that parts "
		   "read on their own."),
	OPT(C, snapshot_state_backend, "snapshot_state_backend", DUCT_OPT_ENUM, "postgres",
	    "where a backfill keeps which tables are done, so that it goes on after an interruption", .values = state_backends,
	    .doc = "postgres: a table at the source. file: a JSON file. none: nowhere; all tables are published in one commit, and an interrupted "
		   "backfill begins anew. Otherwise each table (snapshot_workers of them at a time) is a commit of its own."),
	OPT(C, snapshot_state_schema, "snapshot_state_schema", DUCT_OPT_STR, "ductstream", "schema of that table"),
	OPT(C, snapshot_state_table, "snapshot_state_table", DUCT_OPT_STR, "snapshot_state", "name of that table"),
	OPT(C, snapshot_state_path, "snapshot_state_path", DUCT_OPT_STR, NULL, "that file; with snapshot_state_backend=file"),
	OPT(C, snapshot_state_dsn, "snapshot_state_dsn", DUCT_OPT_STR, NULL, "database of that table; default the source's",
	    .flags = DUCT_OPT_DSN),
	OPT(C, start_lsn, "start_lsn", DUCT_OPT_STR, NULL, "first position to stream from, when the destination has none yet"),
	OPT(C, accept_gap, "accept_gap", DUCT_OPT_BOOL, "false",
	    "go on although changes between the destination's and the slot's position are lost"),
	OPT(C, dead_letter, "dead_letter", DUCT_OPT_BOOL, "false",
	    "write rows that cannot be stored to a table of dead letters instead of stopping",
	    .doc = "In the same commit as the rest of their transaction. The table mirrored then has all rows but these."),
	OPT(C, dead_letter_table, "dead_letter_table", DUCT_OPT_STR, "dead_letter",
	    "name of that table; flows that share a lake need one each"),
	OPT(C, max_memory, "max_memory", DUCT_OPT_SIZE, "128MiB",
	    "memory for changes in flight; larger transactions are handed on in parts", .min = 1 << 20, .max = INT64_C(1) << 40),
	OPT(C, work_mem, "work_mem", DUCT_OPT_SIZE, "64MB", "logical_decoding_work_mem of our server process", .min = 64000,
	    .max = INT64_C(2) << 40),
	OPT(C, read_pause_us, "read_pause_us", DUCT_OPT_INT, "-1",
	    "microseconds to let data pile up once the socket is empty; 0 = off, -1 = 300 on a unix socket, whose buffer is small, "
	    "1000 over TCP",
	    .min = -1, .max = 100000),
	OPT(C, lock_timeout_ms, "lock_timeout", DUCT_OPT_DURATION, "30s",
	    "longest wait for other transactions when a slot is created or a table locked", .min = 100, .max = 86400000),
	OPT(C, spool_dir, "spool_dir", DUCT_OPT_STR, NULL,
	    "folder for large transactions that are still open; default the system's temporary folder"),
	OPT(C, spool_limit, "spool_limit", DUCT_OPT_SIZE, "0", "stop when they take more room there; 0: no limit",
	    .max = INT64_C(1) << 50,
	    .doc = "A transaction takes there what the server sends of it: about its rows as text or in binary, twice for updates under "
		   "REPLICA IDENTITY FULL. While it is applied, the folder of the key index holds 30 to 45 bytes more per key it "
		   "changes, and the data folder its Parquet files."),
	OPT(C, binary, "binary", DUCT_OPT_ENUM, "auto", "binary values in the stream", .values = switches,
	    .flags = DUCT_OPT_HIDDEN),
	OPT(C, streaming, "streaming", DUCT_OPT_ENUM, "auto", "transactions sent while they are open", .values = switches,
	    .flags = DUCT_OPT_HIDDEN),
	{0},
};

static int check_slot_name(const char *slot, struct duct_error *err)
{
	size_t n = strlen(slot);
	if (n < 1 || n > 63 || strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
		return duct_fail(err, DUCT_CONFIG,
				 "slot: \"%s\" is not a slot name: use 1 to 63 lower-case letters, digits and "
				 "underscores",
				 slot);
	return 0;
}

static int check_snapshot(const struct postgres_config *c, struct duct_error *err)
{
	bool file = c->snapshot_state_backend == POSTGRES_STATE_FILE;
	if (file && (!c->snapshot_state_path || !c->snapshot_state_path[0]))
		return duct_fail(err, DUCT_CONFIG, "snapshot_state_path: is missing: snapshot_state_backend=file needs it");
	if (!file && c->snapshot_state_path)
		return duct_fail(err, DUCT_CONFIG, "snapshot_state_path: needs snapshot_state_backend=file");
	if (!c->snapshot_state_schema || !c->snapshot_state_schema[0] || !c->snapshot_state_table || !c->snapshot_state_table[0])
		return duct_fail(err, DUCT_CONFIG, "snapshot_state_schema and snapshot_state_table must not be empty");
	if (c->partition_column && !c->partition_column[0])
		return duct_fail(err, DUCT_CONFIG, "partition_column: must not be empty");
	return 0;
}

int postgres_config_check(const void *config, struct duct_error *err)
{
	const struct postgres_config *c = config;
	uint64_t lsn;
	int r;
	if ((r = check_slot_name(c->slot, err)))
		return r;
	if (!c->publication[0] || strlen(c->publication) > 63)
		return duct_fail(err, DUCT_CONFIG, "publication: \"%s\" is not a name of 1 to 63 bytes", c->publication);
	if (!c->state_schema || !c->state_schema[0] || !c->state_table || !c->state_table[0])
		return duct_fail(err, DUCT_CONFIG, "state_schema and state_table must not be empty");
	if (!c->dead_letter_table || !c->dead_letter_table[0])
		return duct_fail(err, DUCT_CONFIG, "dead_letter_table: must not be empty");
	if (c->start_lsn && duct_lsn_parse(c->start_lsn, &lsn, err))
		return duct_wrap(err, "start_lsn");
	if (c->sync_publication && !c->publication_tables && !c->publication_schemas)
		return duct_fail(err, DUCT_CONFIG,
				 "sync_publication: needs publication_tables or publication_schemas to know what "
				 "belongs into \"%s\"",
				 c->publication);
	return check_snapshot(c, err);
}
