/* Folders that go with their process: see scratch.h. */
#include "base/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* What cannot be removed stays: it is no reason not to work. */
void duct_scratch_remove(const char *path)
{
	DIR *dir = path ? opendir(path) : NULL;
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)unlinkat(dirfd(dir), e->d_name, 0);
	if (dir)
		closedir(dir);
	if (path)
		(void)rmdir(path);
}

static void remove_left(const char *parent, const char *prefix)
{
	DIR *dir = opendir(parent);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct stat st;
		char *end;
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		long pid = strtol(e->d_name + strlen(prefix), &end, 10);
		if (*end || pid <= 0 || (kill((pid_t)pid, 0) == 0 || errno != ESRCH))
			continue;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
			continue;
		AUTO_FREE char *path = duct_xasprintf("%s/%s", parent, e->d_name);
		duct_scratch_remove(path);
	}
	if (dir)
		closedir(dir);
}

char *duct_scratch_name(const char *parent, const char *prefix)
{
	remove_left(parent, prefix);
	return duct_xasprintf("%s/%s%d", parent, prefix, (int)getpid());
}
