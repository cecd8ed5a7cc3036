#include <dlfcn.h>
#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/health.h"
#include "duck/session.h"
#include "options/text.h"

enum { LONG_MS = 60000 };
static const char wanted_duckdb[] = "v1.5.5";
static const struct {
	const char *name, *needed_by;
} extensions[] = {
	{"ducklake", "lake maintenance, models and copies"},
	{"postgres_scanner", "the same, with catalogs in Postgres"},
	{"sqlite_scanner", "the same, with catalogs in SQLite"},
	{"httpfs", "files in object storage"},
	{"delta", "copies of Delta tables"},
	{"excel", "ingestion of Excel files"},
};

struct health {
	struct duct_buf out;
	bool sick;
};

static void put_line(struct health *h, const char *name, const char *version, const char *path, const char *problem)
{
	if (cli_json) {
		duct_buf_printf(&h->out, "{\"part\":\"%s\"", name);
		cli_json_field(&h->out, "version", version);
		cli_json_field(&h->out, "path", path);
		cli_json_field(&h->out, "problem", problem);
		duct_buf_puts(&h->out, "}\n");
	} else {
		duct_buf_printf(&h->out, "%-28s %-10s %s\n", name, version ? version : "", path ? path : "");
		if (problem)
			duct_buf_printf(&h->out, "  ! %s\n", problem);
	}
}

/* The file a function comes from; "" when it is the program itself or unknown. */
static const char *library_path(void *function)
{
	Dl_info info;
	return dladdr(function, &info) && info.dli_fname ? info.dli_fname : "";
}

static void put_duckdb(struct health *h)
{
	struct duct_error err;
	if (duck_load(&err) < 0) {
		h->sick = true;
		put_line(h, "libduckdb", "unusable", NULL, err.message);
		return;
	}
	const char *version = duckdb_library_version(), *path = library_path((void *)(uintptr_t)duckdb_library_version);
	AUTO_FREE char *problem = NULL;
	if (strcmp(version, wanted_duckdb) != 0) {
		problem = duct_xasprintf("%s is needed: run tools/setup", wanted_duckdb);
		h->sick = true;
	}
	put_line(h, "libduckdb", version, path, problem);
}

/* Missing ones are only needed for maintenance and jobs. */
static void put_extensions(struct health *h)
{
	for (size_t i = 0; i < DUCT_LEN(extensions); i++) {
		struct duct_error err;
		AUTO_FREE char *name = duct_xasprintf("extension %s", extensions[i].name), *path = NULL;
		AUTO_FREE char *problem = duct_xasprintf("%s need it: run tools/setup, or set DUCTSTREAM_EXTENSIONS to its folder",
							 extensions[i].needed_by);
		bool found = duck_extension_path(&path, extensions[i].name, &err) == 0 && access(path, R_OK) == 0;
		put_line(h, name, found ? "found" : "missing", path, found ? NULL : problem);
	}
}

static int parse(int argc, char **argv, struct health_wish *wish, struct duct_error *err)
{
	const char *age = NULL;
	const struct cli_flag flags[] = {{"catalog", NULL, &wish->catalog},
					 {"data-path", NULL, &wish->data_path},
					 {"metadata-schema", NULL, &wish->metadata_schema},
					 {"long", NULL, &age},
					 {0}};
	int rc = cli_flags_parse(argc, argv, flags, NULL, 0, 0, "", err);
	if (rc < 0)
		return rc;
	if (age && (!duct_parse_duration_ms(age, &wish->long_ms) || wish->long_ms < 0))
		return duct_fail(err, DUCT_CONFIG, "flag \"--long\": \"%.40s\" is not a duration such as 30s or 5m", age);
	return 0;
}

static int look_at_lake(struct health *h, struct health_wish *wish, struct duct_error *err)
{
	bool sick = false;
	wish->client = !h->sick;
	int rc = health_of_lake(wish, &sick, err);
	h->sick |= sick;
	return rc;
}

static int run(int argc, char **argv, struct duct_error *err)
{
	struct health_wish wish = {.long_ms = LONG_MS};
	int rc = parse(argc, argv, &wish, err);
	if (rc < 0)
		return rc;
	struct health h = {0};
	put_line(&h, "ductstream", DUCT_VERSION, NULL, NULL);
	put_duckdb(&h);
	int pq = PQlibVersion();
	AUTO_FREE char *pq_version = duct_xasprintf("%d.%d", pq / 10000, pq % 10000);
	put_line(&h, "libpq", pq_version, library_path((void *)(uintptr_t)PQlibVersion), NULL);
	put_line(&h, "sqlite", sqlite3_libversion(), library_path((void *)(uintptr_t)sqlite3_libversion), NULL);
	put_extensions(&h);
	bool has_lake = health_has_lake(&wish);
	if (!has_lake && !cli_json)
		duct_buf_puts(&h.out, "no lake is named: set DUCKLAKE_CATALOG or DUCKLAKE_RDS_HOST, or give --catalog\n");
	rc = cli_print(&h.out, err);
	if (rc == 0 && has_lake)
		rc = look_at_lake(&h, &wish, err);
	duct_buf_done(&h.out);
	return rc ? rc : h.sick ? duct_class_exit_code(DUCT_CONFIG) : 0;
}

const struct cli_command cli_health = {
	.name = "health",
	.usage = "health [--catalog URI] [--json]",
	.summary = "whether libraries, extensions and the lake are well",
	.help = "Shows the libraries and extensions this program found. Where a lake is named,\n"
		"by the environment (DUCKLAKE_CATALOG or DUCKLAKE_RDS_*) or here, looks at it:\n"
		"catalog and schemas raw, bronze, silver, gold; a row written to the catalog and\n"
		"read back; the right to list, put, get and delete where its files are; rows\n"
		"written and read back by the official client; locks and long transactions, with\n"
		"who holds them. Says what to do. Leaves nothing behind, also no snapshot.\n\n"
		"  --catalog URI            sqlite:PATH or postgres:DSN\n"
		"  --data-path PATH         of a lake that is to be created\n"
		"  --metadata-schema NAME   schema of the catalog's tables in Postgres\n"
		"  --long T                 transactions older than that are told of, default 60s\n"
		"  --json                   one JSON object per part, then per finding\n\n"
		"Exit codes: 0 well, or only warnings, 2 something is an error.",
	.holds_signals = true,
	.run = run,
};
