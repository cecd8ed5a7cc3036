/*
 * A thread that looks after what libmicrohttpd does not: that the client of a working method is still there (a suspended connection is not
 * read), that calls keep their deadline, and that a connection does not take for ever for one request, a byte at a time.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_internal.h"

static void wake(struct api_http *http)
{
	uint64_t one = 1;
	ssize_t n = write(http->wake_fd, &one, sizeof one);
	(void)n; /* a full counter wakes too */
}

/* Under the lock. */
static void look_at(struct api_http *http, int64_t at_us)
{
	if (at_us < http->wake_us) {
		http->wake_us = at_us;
		wake(http);
	}
}

/* ---- connections */

void http_connection_changed(void *cls, struct MHD_Connection *connection, void **slot, enum MHD_ConnectionNotificationCode what)
{
	struct api_http *http = cls;
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		struct http_conn *conn = duct_xcalloc(1, sizeof *conn);
		conn->http = http;
		conn->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
		pthread_mutex_lock(&http->mutex);
		conn->next = http->conns;
		conn->at = &http->conns;
		if (conn->next)
			conn->next->at = &conn->next;
		http->conns = conn;
		pthread_mutex_unlock(&http->mutex);
		http_conn_expect(http, conn, http->config.request_timeout_ms);
		*slot = conn;
		return;
	}
	struct http_conn *conn = *slot;
	if (!conn)
		return;
	pthread_mutex_lock(&http->mutex);
	*conn->at = conn->next;
	if (conn->next)
		conn->next->at = conn->at;
	pthread_mutex_unlock(&http->mutex);
	free(conn);
	*slot = NULL;
}

/* Under the lock. */
static void expect(struct http_conn *conn, int timeout_ms)
{
	conn->until_us = timeout_ms ? duct_mono_us() + (int64_t)timeout_ms * 1000 : INT64_MAX;
	look_at(conn->http, conn->until_us);
}

void http_conn_expect(struct api_http *http, struct http_conn *conn, int timeout_ms)
{
	if (!conn)
		return;
	pthread_mutex_lock(&http->mutex);
	expect(conn, timeout_ms);
	pthread_mutex_unlock(&http->mutex);
}

/* ---- working methods */

void http_working(struct http_request *request)
{
	struct api_http *http = request->http;
	pthread_mutex_lock(&http->mutex);
	request->number = ++http->numbers;
	request->next = http->working;
	request->at = &http->working;
	if (request->next)
		request->next->at = &request->next;
	http->working = request;
	http->unanswered++;
	request->counted = true;
	if (request->conn) {
		struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = request->number};
		request->watched = epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, request->conn->fd, &event) == 0;
	}
	look_at(http, request->call.deadline_us);
	pthread_mutex_unlock(&http->mutex);
}

void http_worked(struct http_request *request)
{
	struct api_http *http = request->http;
	pthread_mutex_lock(&http->mutex);
	*request->at = request->next;
	if (request->next)
		request->next->at = request->at;
	if (request->conn && request->streams) /* its last lines have to be taken as well */
		expect(request->conn, http->config.request_timeout_ms);
	if (!http->working)
		pthread_cond_broadcast(&http->fewer);
	pthread_mutex_unlock(&http->mutex);
}

void http_unwatch(struct http_request *request)
{
	struct api_http *http = request->http;
	pthread_mutex_lock(&http->mutex);
	struct http_conn *conn = request->conn;
	if (request->watched)
		epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	request->watched = false;
	request->conn = NULL;
	if (request->counted && --http->unanswered == 0)
		pthread_cond_broadcast(&http->fewer);
	request->counted = false;
	if (conn)
		expect(conn, http->config.request_timeout_ms);
	pthread_mutex_unlock(&http->mutex);
}

/* ---- the thread */

static void client_left(struct api_http *http, uint64_t number)
{
	for (struct http_request *r = http->working; r; r = r->next)
		if (r->number == number)
			http_request_cancel(r, API_CANCELLED, "the client has left");
}

/* What is due now; returns when something is due next. */
static int64_t look(struct api_http *http, int64_t now)
{
	int64_t next = INT64_MAX;
	for (struct http_request *r = http->working; r; r = r->next) {
		if (atomic_load(&r->cancelled))
			continue;
		if (r->call.deadline_us <= now)
			http_request_cancel(r, API_DEADLINE_EXCEEDED, "the deadline has passed");
		else if (r->call.deadline_us < next)
			next = r->call.deadline_us;
	}
	for (struct http_conn *c = http->conns; c; c = c->next) {
		if (c->until_us <= now) {
			shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees its end, and closes it */
			c->until_us = INT64_MAX;
		} else if (c->until_us < next)
			next = c->until_us;
	}
	return next;
}

static void *watch(void *arg)
{
	struct api_http *http = arg;
	int timeout_ms = -1;
	while (!atomic_load(&http->stopping)) {
		struct epoll_event events[16];
		int n = epoll_wait(http->epoll_fd, events, 16, timeout_ms);
		pthread_mutex_lock(&http->mutex);
		for (int i = 0; i < n; i++) {
			uint64_t count;
			if (events[i].data.u64)
				client_left(http, events[i].data.u64);
			else if (read(http->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
				atomic_store(&http->stopping, true);
		}
		int64_t now = duct_mono_us();
		http->wake_us = look(http, now);
		int64_t wait_ms = http->wake_us == INT64_MAX ? -1 : (http->wake_us - now) / 1000 + 1;
		timeout_ms = wait_ms > 60000 ? 60000 : (int)wait_ms;
		pthread_mutex_unlock(&http->mutex);
	}
	return NULL;
}

int http_watch_start(struct api_http *http, struct duct_error *err)
{
	http->wake_us = INT64_MAX;
	http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event event = {.events = EPOLLIN};
	if (http->epoll_fd < 0 || http->wake_fd < 0 || epoll_ctl(http->epoll_fd, EPOLL_CTL_ADD, http->wake_fd, &event))
		return duct_fail(err, DUCT_RETRY, "watching connections: %s", strerror(errno));
	int rc = pthread_create(&http->watcher, NULL, watch, http);
	if (rc)
		return duct_fail(err, DUCT_RETRY, "a thread cannot be started: %s", strerror(rc));
	http->watching = true;
	return 0;
}

void http_watch_stop(struct api_http *http)
{
	if (http->watching) {
		atomic_store(&http->stopping, true);
		wake(http);
		pthread_join(http->watcher, NULL);
	}
	if (http->epoll_fd >= 0)
		close(http->epoll_fd);
	if (http->wake_fd >= 0)
		close(http->wake_fd);
}
