#include <dlfcn.h>
#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "duck/session.h"

static const char wanted_duckdb[] = "v1.5.5";
static const char *const extensions[] = {"ducklake", "postgres_scanner", "sqlite_scanner"};

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
		AUTO_FREE char *name = duct_xasprintf("extension %s", extensions[i]), *path = NULL;
		bool found = duck_extension_path(&path, extensions[i], &err) == 0 && access(path, R_OK) == 0;
		put_line(h, name, found ? "found" : "missing", path,
			 found ? NULL
			       : "lake maintenance and foreign lakes need it: run tools/setup, or set "
				 "DUCTSTREAM_EXTENSIONS to its folder");
	}
}

static int run(int argc, char **argv, struct duct_error *err)
{
	int rc = cli_flags_parse(argc, argv, NULL, NULL, 0, 0, "", err);
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
	rc = cli_print(&h.out, err);
	duct_buf_done(&h.out);
	return rc ? rc : h.sick ? duct_class_exit_code(DUCT_CONFIG) : 0;
}

const struct cli_command cli_health = {
	.name = "health",
	.usage = "health [--json]",
	.summary = "libraries and extensions this program found",
	.help = "Shows the versions and places of the libraries, and whether the DuckDB\n"
		"extensions for lake maintenance are there.\n\n"
		"Exit codes: 0 flows can run, 2 a library has the wrong version.",
	.run = run,
};
