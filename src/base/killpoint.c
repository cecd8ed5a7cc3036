/* Kill points for crash tests: see killpoint.h. */
#include "base/killpoint.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *kill_at, *pause_at;
static const char *pause_path;
static atomic_long kill_left, pause_left;

/* "name:N" or "name:N:rest"; the name's memory is the process's. */
static char *parse(const char *value, atomic_long *left, const char **ret_rest)
{
	char *name = value ? strdup(value) : NULL, *colon = name ? strchr(name, ':') : NULL, *end;
	if (!colon) {
		free(name);
		return NULL;
	}
	*colon = 0;
	atomic_store(left, strtol(colon + 1, &end, 10));
	*ret_rest = *end == ':' ? end + 1 : "";
	return name;
}

static void load(void)
{
	const char *rest;
	kill_at = parse(getenv("DUCT_KILL_POINT"), &kill_left, &rest);
	pause_at = parse(getenv("DUCT_PAUSE_POINT"), &pause_left, &pause_path);
}

static void pause_here(void)
{
	char reached[PATH_MAX];
	snprintf(reached, sizeof reached, "%s.reached", pause_path);
	int fd = open(reached, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	while (access(pause_path, F_OK))
		(void)poll(NULL, 0, 10); /* a test's wait, not ours */
}

void duct_kill_point(const char *name)
{
	pthread_once(&once, load);
	if (kill_at && strcmp(kill_at, name) == 0 && atomic_fetch_sub(&kill_left, 1) == 1)
		raise(SIGKILL);
	if (pause_at && strcmp(pause_at, name) == 0 && atomic_fetch_sub(&pause_left, 1) == 1)
		pause_here();
}
