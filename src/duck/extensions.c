/* The official extensions, by path. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "duck/session.h"

int duck_extension_path(char **ret, const char *name, struct duct_error *err)
{
	Dl_info info;
	const char *given = getenv("DUCTSTREAM_EXTENSIONS"), *library = "";
	int rc = given && *given ? 0 : duck_load(err);
	if (rc)
		return rc;
	if ((!given || !*given) && dladdr((void *)(uintptr_t)duckdb_library_version, &info) && info.dli_fname)
		library = info.dli_fname;
	const char *slash = strrchr(library, '/');
	AUTO_FREE char *folder = given && *given ? duct_xstrdup(given)
		: slash				 ? duct_xasprintf("%.*s/../extensions", (int)(slash - library), library)
						 : duct_xstrdup("extensions");
	AUTO_FREE char *real = realpath(folder, NULL);
	*ret = duct_xasprintf("%s/%s.duckdb_extension", real ? real : folder, name);
	return 0;
}

int duck_load_extension(struct duck_conn *conn, const char *name, struct duct_error *err)
{
	AUTO_FREE char *path = NULL;
	AUTO_BUF struct duct_buf sql = {0};
	int rc = duck_extension_path(&path, name, err);
	if (rc)
		return rc;
	if (access(path, R_OK) != 0)
		return duct_fail(
			err, DUCT_CONFIG,
			"the extension \"%s\" is not at \"%s\": run tools/setup, or set DUCTSTREAM_EXTENSIONS to its folder", name,
			path);
	duct_buf_puts(&sql, "LOAD ");
	duct_buf_sql_literal(&sql, path);
	if (duck_exec(conn, sql.data, err) == 0)
		return 0;
	err->class = DUCT_CONFIG;
	return duct_wrap(err, "the extension \"%s\" cannot be loaded", path);
}
