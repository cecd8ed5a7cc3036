#ifndef API_HTTP_INTERNAL_H
#define API_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>

#include "api/api.h"
#include "api/http_routes.h"
#include "api/http_server.h"
#include "api/pool.h"
#include "base/buf.h"
#include "base/clock.h"

/*
 * A request (struct http_request) belongs to libmicrohttpd's thread until its method runs elsewhere; then the connection is suspended, and
 * what both look at is under the request's mutex. Each of the two holds a reference. Locks: the server's is never taken inside a request's.
 */

/* A connection: until when it may take for what it does now. In the server's list, under its mutex. */
struct http_conn {
	struct http_conn *next, **at;
	struct api_http *http;
	int fd;
	int64_t until_us; /* INT64_MAX: a method works */
};

/* Something served that is no method. */
struct http_page {
	const char *path, *content_type;
	enum api_role role;
	bool works; /* needs the state: not on the thread that takes the connections */
	/* Fills the answer and returns the HTTP status. Any thread. */
	int (*fill)(struct api_http *http, struct duct_buf *to);
};

struct http_request {
	struct api_http *http;
	struct MHD_Connection *connection;
	struct http_conn *conn; /* NULL once the request is completed; a method's thread looks at it under the server's mutex */
	struct duct_arena arena;
	atomic_int refs;
	char *target; /* as it came, not decoded */
	enum { HTTP_BEGIN, HTTP_READ, HTTP_WORK, HTTP_ANSWERED } phase;
	const struct http_page *page;
	struct http_match match;
	struct duct_buf body;
	bool too_large;
	bool torn;	/* nobody knows where it ends */
	char allow[64]; /* of a 405 */
	int64_t begun_us;

	struct api_identity who;
	struct api_call call;
	atomic_bool cancelled;
	int stop_fd; /* -1: it runs where nobody could stop it */

	pthread_mutex_t mutex;
	pthread_cond_t taken;
	bool suspended;	    /* the connection is, and who changes what follows resumes it */
	bool ready;	    /* status and answer are there; what the method says after that is not looked at */
	enum api_code told; /* what a cancelled call ended with, API_OK: it was not cancelled */
	bool streams;	    /* the answer is the messages of a stream */
	bool ended;	    /* no more of them will come */
	bool gone;	    /* the client is */
	int status;
	enum api_code code; /* of an error that is ready */
	struct duct_buf answer;

	/* Requests whose method works elsewhere, in the server's list. */
	struct http_request *next, **at;
	uint64_t number;
	bool watched; /* its client is, in epoll_fd */
	bool counted; /* in unanswered */
};

struct api_http {
	struct api_http_config config;
	const struct duct_log *log;
	struct api_routes *routes;
	struct api_pool *pool;
	struct MHD_Daemon *daemons[API_LISTEN_MOST];
	size_t ndaemons;
	int port;
	bool certificates;    /* clients must show one */
	struct http_tls *tls; /* NULL: none */

	/* The thread that watches clients of working methods, deadlines and slow connections. */
	pthread_t watcher;
	bool watching;
	int epoll_fd, wake_fd;
	atomic_bool draining, stopping; /* no more requests; no more watching */
	pthread_mutex_t mutex;
	pthread_cond_t fewer; /* of working, of unanswered */
	struct http_conn *conns;
	struct http_request *working;
	size_t unanswered; /* that work or have worked: their answers are not sent to the end */
	uint64_t numbers;
	int64_t wake_us; /* when the watcher looks next */
};

/* ---- http_request.c */

void *http_request_begin(void *http, const char *target, struct MHD_Connection *connection);
enum MHD_Result http_request_take(void *http, struct MHD_Connection *connection, const char *url, const char *verb,
				  const char *version, const char *data, size_t *n, void **request);
void http_request_completed(void *http, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode why);
/* Sets cancelled and wakes what waits for it; code: what the client is told at once, unless it has its answer. Not under the request's lock. */
void http_request_cancel(struct http_request *request, enum api_code code, const char *message);

/* ---- http_watch.c */

int http_watch_start(struct api_http *http, struct duct_error *err) DUCT_CHECKED;
void http_watch_stop(struct api_http *http);
void http_connection_changed(void *http, struct MHD_Connection *connection, void **conn, enum MHD_ConnectionNotificationCode what);
/* From now on the connection may take so long; 0: for ever. */
void http_conn_expect(struct api_http *http, struct http_conn *conn, int timeout_ms);
/* A method begins to work elsewhere, and has ended. */
void http_working(struct http_request *request);
void http_worked(struct http_request *request);
/* The connection goes on to another request, or ends. */
void http_unwatch(struct http_request *request);

/* ---- http_pages.c */

const struct http_page *http_page_find(const char *target, size_t n);

/* ---- http_tls.c */

struct http_tls;
int http_tls_open(struct http_tls **ret, const struct api_http_config *config,
		  struct duct_error *err) DUCT_CHECKED; /* NULL: no TLS */
void http_tls_options(const struct http_tls *tls, struct MHD_OptionItem to[4]);
void http_tls_free(struct http_tls *tls); /* accepts NULL; no handshake may be under way */

/* ---- http_who.c */

/* Who calls; 0, or what to answer with *ret_why. */
enum api_code http_identify(struct http_request *request, const char **ret_why);
/* May a browser have been made to send this by somebody else's page? NULL: no; otherwise why it is refused. */
const char *http_refuse_foreign(struct http_request *request);
void http_peer(struct http_request *request, char *to, size_t size);
/* "X-Timeout: 2.5" and "grpc-timeout: 2500m" in microseconds. False: not of that form. */
bool http_parse_timeout(const char *text, bool grpc, int64_t *ret_us);
/* The host of a Host header is localhost or an address, with or without a port. */
bool http_host_is_local(const char *host);

#endif
