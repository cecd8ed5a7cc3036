/* Sessions shared by the consumers of a process, and the thread that hears of appended messages: see hub.h. */
#include "stream/hub.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
	DEFAULT_SESSIONS = 16,
	/* A waiting pull looks again after so long, also when it was not woken: with and without somebody who listens. */
	LOOK_LISTENING_US = 2000000,
	LOOK_DEAF_US = 100000,
	LISTEN_AGAIN_MS = 1000,
};

/* A pull that waits: on its own stack, in the hub's list. */
struct waiter {
	const char *stream;
	int fd; /* eventfd */
	struct waiter *next;
};

struct stream_hub {
	char *dsn;
	const struct duct_log *log;
	pthread_mutex_t lock; /* guards what follows */
	struct pg_session **idle;
	size_t nidle, idle_cap;
	struct waiter *waiters;
	bool listening; /* the listener has said LISTEN */
	bool started;
	pthread_t listener;
	int slots_fd; /* eventfd, a semaphore: sessions that may still be lent */
	int end_fd;   /* eventfd: the listener ends */
};

static int make_eventfd(unsigned initial, int flags)
{
	int fd = eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK | flags);
	assert(fd >= 0); /* descriptors ran out: there is no service without them */
	return fd;
}

static void raise_fd(int fd)
{
	uint64_t one = 1;
	if (write(fd, &one, sizeof one) < 0) /* the counter is full: it is readable anyway */
		return;
}

struct stream_hub *stream_hub_new(const struct stream_hub_options *o)
{
	struct stream_hub *hub = duct_xcalloc(1, sizeof *hub);
	hub->dsn = duct_xstrdup(o->dsn);
	hub->log = o->log;
	pthread_mutex_init(&hub->lock, NULL);
	hub->slots_fd = make_eventfd(o->sessions > 0 ? (unsigned)o->sessions : DEFAULT_SESSIONS, EFD_SEMAPHORE);
	hub->end_fd = make_eventfd(0, 0);
	return hub;
}

void stream_hub_free(struct stream_hub *hub)
{
	if (!hub)
		return;
	raise_fd(hub->end_fd);
	if (hub->started)
		pthread_join(hub->listener, NULL);
	for (size_t i = 0; i < hub->nidle; i++)
		pg_session_close(hub->idle[i]);
	free(hub->idle);
	pthread_mutex_destroy(&hub->lock);
	close(hub->slots_fd);
	close(hub->end_fd);
	free(hub->dsn);
	free(hub);
}

/* --- sessions --- */

static int open_session(const struct stream_hub *hub, int stop_fd, struct pg_session **ret, struct duct_error *err)
{
	const struct pg_session_options o = {
		.dsn = hub->dsn,
		.application_name = "ductstream stream",
		.settings = STREAM_SESSION_SETTINGS,
		.stop_fd = stop_fd,
		.log = hub->log,
	};
	return pg_session_open(ret, &o, err);
}

/* A server that went away has said so on the socket; otherwise nothing comes between two statements that is worth keeping it for. */
static bool is_alive(struct pg_session *pg)
{
	struct pollfd fd = {.fd = PQsocket(pg->conn), .events = POLLIN};
	return poll(&fd, 1, 0) == 0 && PQstatus(pg->conn) == CONNECTION_OK;
}

/* 1: a slot is ours. */
static int take_slot(struct stream_hub *hub, int stop_fd, int64_t until_us, struct duct_error *err)
{
	uint64_t one;
	while (read(hub->slots_fd, &one, sizeof one) < 0) {
		struct pollfd fds[] = {{.fd = hub->slots_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
		int64_t left = until_us == INT64_MAX ? 60000000 : until_us - duct_mono_us();
		if (left <= 0)
			return duct_fail(err, DUCT_RETRY,
					 "all sessions to the stream's Postgres are busy: try again, or raise the limit");
		if (poll(fds, 2, (int)(left / 1000) + 1) < 0 && errno != EINTR)
			return duct_fail(err, DUCT_RETRY, "wait for a session: %s", strerror(errno));
		if (stop_fd >= 0 && fds[1].revents)
			return duct_fail(err, DUCT_CANCELLED, "cancelled while it waited for a session");
	}
	return 1;
}

int stream_hub_borrow(struct stream_hub *hub, int stop_fd, int64_t until_us, struct pg_session **ret, struct duct_error *err)
{
	struct pg_session *pg = NULL;
	int rc = take_slot(hub, stop_fd, until_us, err);
	if (rc < 0)
		return rc;
	for (bool empty = false; !pg && !empty;) {
		pthread_mutex_lock(&hub->lock);
		empty = hub->nidle == 0;
		if (!empty)
			pg = hub->idle[--hub->nidle];
		pthread_mutex_unlock(&hub->lock);
		if (pg && !is_alive(pg)) {
			pg_session_close(pg);
			pg = NULL;
		}
	}
	rc = 0;
	if (pg) {
		pg->stop_fd = stop_fd;
	} else {
		rc = open_session(hub, stop_fd, &pg, err);
		if (rc == 0)
			rc = stream_schema_ensure(pg, false, err);
	}
	if (rc < 0) {
		pg_session_close(pg);
		raise_fd(hub->slots_fd);
		return rc;
	}
	*ret = pg;
	return 0;
}

int stream_hub_prepare(struct stream_hub *hub, int stop_fd, struct duct_error *err)
{
	struct pg_session *pg = NULL;
	int rc = open_session(hub, stop_fd, &pg, err);
	if (rc == 0)
		rc = stream_schema_ensure(pg, true, err);
	pg_session_close(pg);
	return rc;
}

void stream_hub_return(struct stream_hub *hub, struct pg_session *pg)
{
	pg->stop_fd = -1;
	if (PQstatus(pg->conn) == CONNECTION_OK && PQtransactionStatus(pg->conn) == PQTRANS_IDLE) {
		pthread_mutex_lock(&hub->lock);
		hub->idle = duct_grow(hub->idle, &hub->idle_cap, hub->nidle + 1, sizeof *hub->idle);
		hub->idle[hub->nidle++] = pg;
		pthread_mutex_unlock(&hub->lock);
	} else {
		pg_session_close(pg);
	}
	raise_fd(hub->slots_fd);
}

/* --- the listener --- */

/* stream NULL: all of them. */
static void wake(struct stream_hub *hub, const char *stream)
{
	pthread_mutex_lock(&hub->lock);
	for (struct waiter *w = hub->waiters; w; w = w->next)
		if (!stream || strcmp(stream, w->stream) == 0)
			raise_fd(w->fd);
	pthread_mutex_unlock(&hub->lock);
}

static void set_listening(struct stream_hub *hub, bool listening)
{
	pthread_mutex_lock(&hub->lock);
	hub->listening = listening;
	pthread_mutex_unlock(&hub->lock);
}

/* Until the end is asked for (-CANCELLED) or the connection fails. */
static int listen_on(struct stream_hub *hub, struct pg_session *pg, struct duct_error *err)
{
	int rc = pg_exec(pg, "LISTEN ductstream_stream", NULL, err);
	if (rc < 0)
		return rc;
	set_listening(hub, true);
	wake(hub, NULL); /* what came before */
	for (;;) {
		rc = pg_wait(pg, -1, err);
		if (rc < 0)
			return rc;
		if (!PQconsumeInput(pg->conn))
			return pg_fail(err, pg, NULL, "listen");
		for (PGnotify *n; (n = PQnotifies(pg->conn)); PQfreemem(n))
			wake(hub, n->extra);
	}
}

static void *listener(void *arg)
{
	struct stream_hub *hub = arg;
	for (bool told = false;;) {
		struct duct_error err = {0};
		struct pg_session *pg = NULL;
		int rc = open_session(hub, hub->end_fd, &pg, &err);
		if (rc == 0) {
			told = false;
			rc = listen_on(hub, pg, &err);
		}
		pg_session_close(pg);
		set_listening(hub, false);
		if (rc == -DUCT_CANCELLED)
			return NULL;
		if (!told) /* pulls look by themselves meanwhile, and fail with their own error if they must */
			log_warn(hub->log, "nobody listens for stream messages: waiting pulls ask again and again",
				 LOG_STR("error", err.message));
		told = true;
		struct pollfd end = {.fd = hub->end_fd, .events = POLLIN};
		if (poll(&end, 1, LISTEN_AGAIN_MS) > 0)
			return NULL;
	}
}

/* Adds a waiter, and starts the listener with the first. */
static void enter(struct stream_hub *hub, struct waiter *w)
{
	pthread_mutex_lock(&hub->lock);
	w->next = hub->waiters;
	hub->waiters = w;
	if (!hub->started)
		hub->started = pthread_create(&hub->listener, NULL, listener, hub) == 0; /* without one, pulls ask by themselves */
	pthread_mutex_unlock(&hub->lock);
}

static void leave(struct stream_hub *hub, const struct waiter *w)
{
	pthread_mutex_lock(&hub->lock);
	for (struct waiter **at = &hub->waiters; *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			break;
		}
	pthread_mutex_unlock(&hub->lock);
}

static bool is_listening(struct stream_hub *hub)
{
	pthread_mutex_lock(&hub->lock);
	bool listening = hub->listening;
	pthread_mutex_unlock(&hub->lock);
	return listening;
}

/* Until the waiter is woken, something comes back by the clock, or it is time to look again. */
static int wait_for_more(struct stream_hub *hub, const struct waiter *w, int stop_fd, int64_t until_us, int64_t next_us,
			 struct duct_error *err)
{
	int64_t left = until_us - duct_mono_us(), look = is_listening(hub) ? LOOK_LISTENING_US : LOOK_DEAF_US;
	left = left < look ? left : look;
	left = left < next_us ? left : next_us;
	struct pollfd fds[] = {{.fd = w->fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
	if (poll(fds, 2, left <= 0 ? 0 : (int)((left + 999) / 1000)) < 0 && errno != EINTR)
		return duct_fail(err, DUCT_RETRY, "wait for messages: %s", strerror(errno));
	if (stop_fd >= 0 && fds[1].revents)
		return duct_fail(err, DUCT_CANCELLED, "cancelled while it waited for messages");
	uint64_t count;
	if (read(w->fd, &count, sizeof count) < 0)
		return 0; /* nobody woke it */
	return 0;
}

static int pull_once(struct stream_hub *hub, const struct stream_pull *ask, int stop_fd, int64_t until_us, struct duct_arena *arena,
		     struct stream_pulled *ret, struct duct_error *err)
{
	struct pg_session *pg;
	int rc = stream_hub_borrow(hub, stop_fd, until_us, &pg, err);
	if (rc < 0)
		return rc;
	rc = stream_pull(pg, ask, arena, ret, err);
	stream_hub_return(hub, pg);
	return rc;
}

int stream_hub_pull(struct stream_hub *hub, const struct stream_pull *ask, int stop_fd, int64_t until_us, struct duct_arena *arena,
		    struct stream_pulled *ret, struct duct_error *err)
{
	enum { BORROW_US = 10000000 };
	int64_t now = duct_mono_us();
	if (until_us <= now) /* no wait for messages, but one for a session */
		return pull_once(hub, ask, stop_fd, now + BORROW_US, arena, ret, err);
	struct waiter w = {.stream = ask->stream, .fd = make_eventfd(0, 0)};
	enter(hub, &w);
	int rc;
	do {
		rc = pull_once(hub, ask, stop_fd, until_us + BORROW_US, arena, ret, err);
		if (rc == 0 && !ret->n)
			rc = wait_for_more(hub, &w, stop_fd, until_us, ret->next_visible_us, err);
	} while (rc == 0 && !ret->n && duct_mono_us() < until_us);
	leave(hub, &w);
	close(w.fd);
	return rc;
}
