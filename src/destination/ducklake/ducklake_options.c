/* Options of the DuckLake destination. */
#include "destination/ducklake/ducklake.h"

static const char *const no_key_values[] = {"append", "refuse", NULL};
static const char *const drift_values[] = {"stop", "repair", NULL};
static const char *const foreign_values[] = {"stop", "share", NULL};

#define C struct ducklake_config
const struct duct_opt ducklake_opts[] = {
	OPT(C, catalog, "catalog", DUCT_OPT_STR, NULL, "the DuckLake catalog: sqlite:PATH or postgres:DSN",
	    .flags = DUCT_OPT_REQUIRED | DUCT_OPT_DSN,
	    .doc = "PATH is a file on a local file system; DSN is a libpq connection string (keyword=value or URI)."),
	OPT(C, data_path, "data_path", DUCT_OPT_STR, NULL, "folder for the Parquet files",
	    .doc = "Needed when the catalog is created. An existing catalog has its own; another one is refused."),
	OPT(C, metadata_schema, "metadata_schema", DUCT_OPT_STR, NULL,
	    "schema of the catalog tables in a Postgres catalog (public when unset)"),
	OPT(C, create_catalog, "create_catalog", DUCT_OPT_BOOL, "true", "create the catalog when there is none"),
	OPT(C, create_indexes, "create_indexes", DUCT_OPT_BOOL, "true",
	    "create missing indexes on the catalog's statistics and file tables",
	    .doc = "DuckLake catalogs have no indexes of their own; every client gains from these."),
	OPT(C, schema, "schema", DUCT_OPT_STR, NULL, "lake schema for all tables (the source's schema when unset)"),
	TABLESINK_OPTIONS(C),
	OPT(C, flush_interval_ms, "flush_interval", DUCT_OPT_DURATION, NULL, "commit at most this often while changes keep coming",
	    .max = 3600000,
	    .doc = "Unset: 100ms on a Postgres catalog, 200ms on SQLite. After a quiet spell a change is committed at once. All "
		   "flows of a catalog share it: up to 500ms of it are the gap after a snapshot of any of them, in which other clients can commit."),
	OPT(C, flush_rows, "flush_rows", DUCT_OPT_INT, "500000", "commit when this many changes are waiting", .min = 1,
	    .max = 100000000),
	OPT(C, flush_bytes, "flush_bytes", DUCT_OPT_SIZE, "64MiB", "commit when this much memory is waiting", .min = 1 << 20,
	    .max = 1LL << 36,
	    .doc = "A source transaction larger than this is written to files aside and still becomes one snapshot."),
	OPT(C, delete_file_rows, "delete_file_rows", DUCT_OPT_INT, "1000",
	    "from this many deleted rows of one file on, write a delete file instead of marks in the catalog", .min = 1,
	    .max = 1000000000),
	OPT(C, inline_rows, "inline_rows", DUCT_OPT_INT, "2000",
	    "up to so many rows of a table in one commit go into the catalog instead of a file; 0: none", .max = 100000,
	    .doc = "Seen at once by every client, without small files. When the lake has a limit of its own (data_inlining_row_limit), "
		   "that one holds. Rows of more than 64 kB, more than 1 MB of a table or 32 MiB of all tables at once, and columns of "
		   "types or names that DuckLake does not inline go to files."),
	OPT(C, inline_flush_rows, "inline_flush_rows", DUCT_OPT_INT, "100000",
	    "write the rows of a table inside the catalog to a file when they are so many", .min = 1, .max = 100000000,
	    .doc = "Two, three and four times as many where the table has 4, 8 and 12 or more files below 16 MiB; so does "
		   "inline_flush_bytes. A thread of its own writes the file, while commits go on."),
	OPT(C, inline_flush_bytes, "inline_flush_bytes", DUCT_OPT_SIZE, "16MiB",
	    "write them to a file when they take so much room there", .min = 1 << 10, .max = 1LL << 34),
	OPT(C, inline_flush_age_ms, "inline_flush_age", DUCT_OPT_DURATION, "10m",
	    "write them to a file when the oldest of them is so old", .max = 30LL * 86400 * 1000),
	OPT(C, compression, "compression", DUCT_OPT_STR, "zstd", "Parquet codec unless the lake sets one"),
	OPT(C, compression_level, "compression_level", DUCT_OPT_INT, "1", "level of zstd, 0 for its default (3)", .max = 22,
	    .doc = "Level 1 takes a quarter less processor time than 3 and gives files of the same size on ordinary rows."),
	OPT(C, no_key, "no_key", DUCT_OPT_ENUM, "append", "tables without a key: append their rows, or refuse them",
	    .values = no_key_values),
	OPT(C, foreign_changes, "foreign_changes", DUCT_OPT_ENUM, "stop",
	    "when others change rows of a mirrored table: stop, or share the table with them", .values = foreign_values),
	OPT(C, on_drift, "on_drift", DUCT_OPT_ENUM, "stop",
	    "when the source changes a row that the lake lacks, or inserts one that it has: stop, or repair the lake",
	    .values = drift_values,
	    .doc = "repair takes the source's row: for going on after a gap. Tables that were never copied "
		   "(source option snapshot: never) are always treated so. A value that the source did not send "
		   "and the lake does not have still stops the flow."),
	OPT(C, index_dir, "index_dir", DUCT_OPT_STR, NULL,
	    "folder for the key index (unset: CATALOG.ductstream/FLOW beside a SQLite catalog, else .ductstream/FLOW under the data path)",
	    .doc = "A cache that is rebuilt from the lake whenever it is in doubt."),
	OPT(C, busy_timeout_ms, "busy_timeout", DUCT_OPT_DURATION, "5s", "how long to wait for a locked SQLite catalog",
	    .max = 3600000),
	{0},
};
