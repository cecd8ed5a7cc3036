/* Instances for large work, and the folders they spill to: see session.h. */
#include "duck/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/scratch.h"

struct duck_session {
	struct duck_db *db;
	char *folder; /* made by DuckDB when it spills */
};

static const char *setting(const char *name, const char *otherwise)
{
	const char *text = getenv(name);
	return text && *text ? text : otherwise;
}

int duck_session_open(struct duck_session **ret, struct duct_error *err)
{
	const char *threads = setting("DUCKDB_THREADS", "0"), *parent = setting("DUCKDB_TEMP_DIRECTORY", setting("TMPDIR", "/tmp"));
	char *end;
	long n = strtol(threads, &end, 10);
	if (*end || n < 0 || n > 1024)
		return duct_fail(err, DUCT_CONFIG, "DUCKDB_THREADS: \"%.40s\" is not a number from 0 to 1024", threads);
	if (access(parent, W_OK | X_OK) != 0)
		return duct_fail(err, DUCT_CONFIG, "DUCKDB_TEMP_DIRECTORY: \"%.300s\" cannot be written: %s", parent,
				 strerror(errno));
	struct duck_session *s = duct_xcalloc(1, sizeof *s);
	s->folder = duct_scratch_name(parent, "ductstream-spill-");
	s->db = duck_open_bounded(&(
		struct duck_bounds){.threads = (int)n, .memory = setting("DUCKDB_MEMORY_LIMIT", "1GB"), .spill_folder = s->folder});
	*ret = s;
	return 0;
}

void duck_session_close(struct duck_session *s)
{
	if (!s)
		return;
	duck_close(s->db);
	duct_scratch_remove(s->folder);
	free(s->folder);
	free(s);
}

struct duck_db *duck_session_db(struct duck_session *s)
{
	return s->db;
}
