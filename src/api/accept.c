/*
 * Connections that the process has no descriptors for.
 *
 * libgrpc 1.51 closes its listening socket for good when accept4() fails once, be it that there are no descriptors left at this moment: a
 * crowd of idle connections would make the server deaf until it is started again. Its call ends up here instead of in the C library. It
 * fails only with EAGAIN, and a connection that would take one of the last descriptors is closed at once, so that there are always some for
 * the state, for files and for workers.
 */
#include "api/accept.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 65536, KEPT_FREE = 64 };

void api_accept_prepare(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < MOST_DESCRIPTORS) {
		limit.rlim_cur = limit.rlim_max < MOST_DESCRIPTORS ? limit.rlim_max : MOST_DESCRIPTORS;
		(void)setrlimit(RLIMIT_NOFILE, &limit); /* stays as it was then */
	}
}

/* The kernel gives the lowest free number, so a high one says that there are few left. */
static bool is_one_of_the_last(int fd)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + KEPT_FREE >= limit.rlim_cur;
}

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
	socklen_t room = length ? *length : 0;
	for (;;) {
		if (length)
			*length = room;
		int fd = (int)syscall(SYS_accept4, listener, address, length, flags);
		if (fd >= 0 && !is_one_of_the_last(fd))
			return fd;
		if (fd >= 0) {
			close(fd);
			continue;
		}
		switch (errno) {
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM: errno = EAGAIN; return -1;
		case ECONNABORTED: /* of a connection that ended before it was taken */
		case EPROTO:
		case ENETDOWN:
		case ENETUNREACH:
		case EHOSTDOWN:
		case EHOSTUNREACH:
		case ENOPROTOOPT:
		case EPERM: break;
		default: return -1;
		}
	}
}
