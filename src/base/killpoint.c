/* Kill points for crash tests: see killpoint.h. */
#include "base/killpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char *wanted;
static atomic_long left;

static void load(void)
{
	const char *value = getenv("DUCT_KILL_POINT");
	const char *colon = value ? strrchr(value, ':') : NULL;
	if (!colon)
		return;
	atomic_store(&left, atol(colon + 1));
	wanted = strndup(value, (size_t)(colon - value));
}

void duct_kill_point(const char *name)
{
	pthread_once(&once, load);
	if (wanted && strcmp(wanted, name) == 0 && atomic_fetch_sub(&left, 1) == 1)
		raise(SIGKILL);
}
