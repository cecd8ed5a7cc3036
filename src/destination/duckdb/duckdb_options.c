/* Options of the DuckDB destination. */
#include "destination/duckdb/duckdb.h"

static const char *const no_key_values[] = {"append", "refuse", NULL};
static const char *const drift_values[] = {"stop", "repair", NULL};

#define C struct duckdb_config
const struct duct_opt duckdb_opts[] = {
	OPT(C, dsn, "dsn", DUCT_OPT_STR, NULL, "the database file, or :memory:", .flags = DUCT_OPT_REQUIRED,
	    .doc = "Made when there is none. One process at a time can have it open: see hold_file."),
	OPT(C, schema, "schema", DUCT_OPT_STR, NULL, "schema for all tables (the source's schema when unset)"),
	OPT(C, table, "table", DUCT_OPT_STR, NULL, "name of the table, for a flow of one table (the source's name when unset)",
	    .doc = "May be schema.table."),
	TABLESINK_OPTIONS(C),
	OPT(C, meta_table_enabled, "meta_table_enabled", DUCT_OPT_BOOL, "true",
	    "keep a row for every key in the meta table: when it was last changed, how, and whether it is deleted"),
	OPT(C, meta_schema, "meta_schema", DUCT_OPT_STR, "ductstream_meta", "schema of the meta table"),
	OPT(C, meta_table, "meta_table", DUCT_OPT_STR, "__metadata", "name of the meta table"),
	OPT(C, meta_pk_prefix, "meta_pk_prefix", DUCT_OPT_STR, "pk_", "what its columns of key values begin with"),
	OPT(C, flush_interval_ms, "flush_interval", DUCT_OPT_DURATION, "200ms",
	    "commit at most this often while changes keep coming", .max = 3600000,
	    .doc = "After a quiet spell a change is committed at once."),
	OPT(C, flush_rows, "flush_rows", DUCT_OPT_INT, "500000", "commit when this many changes are waiting", .min = 1,
	    .max = 100000000),
	OPT(C, flush_bytes, "flush_bytes", DUCT_OPT_SIZE, "64MiB", "commit when this much memory is waiting", .min = 1 << 20,
	    .max = 1LL << 36, .doc = "A source transaction larger than this is applied in parts and still committed as a whole."),
	OPT(C, no_key, "no_key", DUCT_OPT_ENUM, "append", "tables without a key: append their rows, or refuse them",
	    .values = no_key_values),
	OPT(C, on_drift, "on_drift", DUCT_OPT_ENUM, "stop",
	    "when the source changes a row that the table lacks, or inserts one that it has: stop, or take the source's row",
	    .values = drift_values),
	OPT(C, memory_limit, "memory_limit", DUCT_OPT_SIZE, "1GiB",
	    "what DuckDB may keep in memory; it goes to files beside the database beyond", .min = 64 << 20, .max = 1LL << 42),
	OPT(C, hold_file, "hold_file", DUCT_OPT_BOOL, "false", "keep the file open while nothing comes",
	    .doc = "Otherwise it is closed about a second after the last change and opened again by the next, so that others can read it."),
	{0},
};
