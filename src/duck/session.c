/* Instances for large work, and the folders they spill to: see session.h. */
#include "duck/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define PREFIX "ductstream-spill-"

struct duck_session {
	struct duck_db *db;
	char *folder; /* made by DuckDB when it spills */
};

/* Only files are in such a folder. What cannot be removed stays: it is no reason not to work. */
static void remove_folder(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	(void)rmdir(path);
}

/* Of processes of this user that are gone. */
static void remove_left(const char *parent)
{
	DIR *dir = opendir(parent);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct stat st;
		char *end;
		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		long pid = strtol(e->d_name + strlen(PREFIX), &end, 10);
		if (*end || pid <= 0 || (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
			continue;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
			continue;
		AUTO_FREE char *path = duct_xasprintf("%s/%s", parent, e->d_name);
		remove_folder(path);
	}
	if (dir)
		closedir(dir);
}

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
	s->folder = duct_xasprintf("%s/" PREFIX "%d", parent, (int)getpid());
	remove_left(parent);
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
	remove_folder(s->folder);
	free(s->folder);
	free(s);
}

struct duck_db *duck_session_db(struct duck_session *s)
{
	return s->db;
}
