/* Folders on disk: see folder.h. */
#include "base/folder.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int duct_folder_sync(const char *path, struct duct_error *err)
{
	const char *slash = strrchr(path, '/');
	AUTO_FREE char *folder = slash ? duct_xstrndup(path, (size_t)(slash - path) + 1) : duct_xstrdup(".");
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int failed = fd < 0 || fsync(fd) ? errno : 0;
	if (fd >= 0)
		(void)close(fd);
	return failed ? duct_fail(err, DUCT_CONFIG, "folder \"%s\" cannot be synced: %s", folder, strerror(failed)) : 0;
}

int duct_folders_make(const char *path, unsigned mode, struct duct_error *err)
{
	AUTO_FREE char *part = duct_xstrdup(path);
	for (char *slash = *part ? strchr(part + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		bool made = mkdir(part, mode) == 0;
		if (!made && errno != EEXIST)
			return duct_fail(err, DUCT_CONFIG, "folder \"%s\" cannot be made: %s", part, strerror(errno));
		int rc = made ? duct_folder_sync(part, err) : 0;
		if (rc)
			return rc;
		*slash = '/';
	}
	return 0;
}
