/* Addresses, certificates, threads: everything around requests. */
#include "api/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "api/metrics.h"

static const char setting[] = "DUCTSTREAM_HTTP_LISTEN";

static void log_line(void *cls, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static void log_line(void *cls, const char *fmt, va_list args)
{
	const struct api_http *http = cls;
	char text[512];
	vsnprintf(text, sizeof text, fmt, args);
	text[strcspn(text, "\n")] = 0;
	log_debug(http->log, "http", LOG_STR("message", text));
}

/* ---- addresses */

/* Of every connection that is taken: a stream that has nothing to say would never learn that its client's machine is gone. */
static void notice_the_dead(int fd)
{
	const int on = 1, idle_s = 60, every_s = 10, times = 3;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}

static int bind_address(const char *text, int port, struct duct_error *err)
{
	struct api_address parsed;
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} to = {0};
	if (!api_address_parse(&parsed, text))
		return duct_fail(err, DUCT_CONFIG, "%s: \"%s\" is not an address", setting, text);
	bool six = strchr(parsed.host, ':');
	if (six)
		to.six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	else
		to.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (inet_pton(six ? AF_INET6 : AF_INET, parsed.host, six ? (void *)&to.six.sin6_addr : (void *)&to.four.sin_addr) != 1)
		return duct_fail(err, DUCT_CONFIG, "%s: \"%s\" is not an address", setting, text);
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		notice_the_dead(fd);
		if (six)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	}
	if (fd >= 0 && bind(fd, &to.any, six ? sizeof to.six : sizeof to.four) == 0 && listen(fd, 256) == 0)
		return fd;
	int why = errno;
	if (fd >= 0)
		close(fd);
	return duct_fail(err, DUCT_CONFIG, "%s: listening on %s: %s", setting, text, strerror(why));
}

static int port_of(int fd)
{
	struct sockaddr_in6 at;
	socklen_t n = sizeof at;
	return getsockname(fd, (struct sockaddr *)&at, &n) == 0 ? ntohs(at.sin6_port) : 0; /* at the same place in both families */
}

static struct MHD_Daemon *start_daemon(struct api_http *http, int fd)
{
	const struct api_http_config *config = &http->config;
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC;
	struct MHD_OptionItem tls[4] = {{MHD_OPTION_END, 0, NULL}};
	if (http->tls) {
		flags |= MHD_USE_TLS;
		http_tls_options(http->tls, tls);
	}
	return MHD_start_daemon(flags, 0, NULL, NULL, http_request_take, http, MHD_OPTION_EXTERNAL_LOGGER, log_line, http,
				MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)config->max_connections,
				MHD_OPTION_URI_LOG_CALLBACK, http_request_begin, http, MHD_OPTION_NOTIFY_COMPLETED,
				http_request_completed, http, MHD_OPTION_NOTIFY_CONNECTION, http_connection_changed, http,
				MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
}

static int start_listener(struct api_http *http, const char *address, bool may_be_missing, struct duct_error *err)
{
	struct api_address parsed;
	int port = http->port;
	if (!port && api_address_parse(&parsed, address))
		port = parsed.port;
	int fd = bind_address(address, port, err);
	if (fd < 0)
		return may_be_missing ? 0 : fd;
	struct MHD_Daemon *started = start_daemon(http, fd);
	if (!started) {
		close(fd);
		return duct_fail(err, DUCT_CONFIG, "%s: listening on %s failed%s", setting, address,
				 http->config.cert_file ? ": the certificate and its key cannot be used" : "");
	}
	http->port = port_of(fd);
	http->daemons[http->ndaemons++] = started;
	return 0;
}

static int start_listeners(struct api_http *http, const struct api_listen *listen, struct duct_error *err)
{
	struct duct_buf bound = {0};
	int rc = 0;
	for (size_t i = 0; i < listen->n && rc == 0; i++) {
		size_t before = http->ndaemons;
		rc = start_listener(http, listen->at[i], listen->without_host && i > 0, err);
		if (rc == 0 && http->ndaemons > before)
			duct_buf_printf(&bound, "%s%.*s:%d", before ? " " : "", (int)(strrchr(listen->at[i], ':') - listen->at[i]),
					listen->at[i], http->port);
	}
	if (rc == 0)
		api_listen_log(http->log, http->config.cert_file ? "https" : "http", listen, bound.data);
	duct_buf_done(&bound);
	return rc;
}

static int protect(struct api_http *http, struct api_listen *listen, struct duct_error *err)
{
	const struct api_http_config *config = &http->config;
	const struct api_protection protection = {.tls = config->cert_file,
						  .tokens = api_auth_has_tokens(config->auth),
						  .certificates = http->certificates};
	if (api_listen_resolve(listen, setting, config->address, err) ||
	    api_listen_check(listen, setting, config->address, &protection, err))
		return -err->class;
	return 0;
}

int api_http_start(struct api_http **ret, const struct api_http_config *config, struct duct_error *err)
{
	struct api_http *http = duct_xcalloc(1, sizeof *http);
	const struct api_service *const *const lists[] = {config->services, NULL};
	struct api_listen listen;
	http->config = *config;
	http->log = config->log;
	http->certificates = config->cert_file && config->client_ca_file;
	http->epoll_fd = http->wake_fd = -1;
	http->routes = api_routes_new(lists);
	pthread_mutex_init(&http->mutex, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&http->fewer, &attr);
	pthread_condattr_destroy(&attr);
	api_metrics_start();
	if (protect(http, &listen, err) || http_tls_open(&http->tls, config, err) ||
	    api_pool_start(&http->pool, config->threads, config->max_streams, err) || http_watch_start(http, err) ||
	    start_listeners(http, &listen, err)) {
		api_http_stop(http, 0);
		return -err->class;
	}
	*ret = http;
	return 0;
}

int api_http_port(const struct api_http *http)
{
	return http->port;
}

/* ---- the end */

enum { GRACE_MS = 5000, ANSWER_MS = 1000 };

static void cancel_working(struct api_http *http, bool all)
{
	pthread_mutex_lock(&http->mutex);
	for (struct http_request *r = http->working; r; r = r->next)
		if (all || (r->match.route && r->match.route->method->flags & (API_STREAM | API_WAITS)))
			http_request_cancel(r, API_UNAVAILABLE, "the server is shutting down");
	pthread_mutex_unlock(&http->mutex);
}

/* Until no method works; answered: and the last answer is on its way to its client. */
static bool wait_for_none(struct api_http *http, bool answered, int timeout_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&http->mutex);
	int rc = 0;
	while ((http->working || (answered && http->unanswered)) && rc == 0)
		rc = pthread_cond_timedwait(&http->fewer, &http->mutex, &until);
	bool none = !http->working;
	pthread_mutex_unlock(&http->mutex);
	return none;
}

bool api_http_stop(struct api_http *http, int drain_ms)
{
	if (!http)
		return true;
	int listeners[API_LISTEN_MOST];
	atomic_store(&http->draining, true);
	for (size_t i = 0; i < http->ndaemons; i++)
		listeners[i] = MHD_quiesce_daemon(http->daemons[i]);
	cancel_working(http, false);
	if (!wait_for_none(http, false, drain_ms))
		cancel_working(http, true);
	if (!wait_for_none(http, false, GRACE_MS) || !api_pool_stop(http->pool, GRACE_MS))
		return false;
	(void)wait_for_none(http, true, ANSWER_MS); /* who does not take it has waited long enough */
	for (size_t i = 0; i < http->ndaemons; i++) {
		MHD_stop_daemon(http->daemons[i]);
		if (listeners[i] >= 0)
			close(listeners[i]);
	}
	http_watch_stop(http);
	api_routes_free(http->routes);
	pthread_cond_destroy(&http->fewer);
	pthread_mutex_destroy(&http->mutex);
	http_tls_free(http->tls);
	free(http);
	return true;
}
