/* One request: from its first line to its answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "api/json.h"
#include "api/metrics.h"
#include "api/trace.h"
#include "base/trace.h"

enum { INLINE_BODY = 64 << 10, STREAM_BLOCK = 16 << 10 };

static const char json_text[] = "application/json", stream_text[] = "application/x-ndjson";

void *http_request_begin(void *cls, const char *target, struct MHD_Connection *connection)
{
	struct api_http *http = cls;
	struct http_request *r = duct_xcalloc(1, sizeof *r);
	r->http = http;
	r->connection = connection;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	r->conn = info ? info->socket_context : NULL;
	r->target = duct_xstrdup(target);
	r->begun_us = duct_mono_us();
	r->stop_fd = -1;
	atomic_init(&r->refs, 1);
	duct_arena_init(&r->arena);
	pthread_mutex_init(&r->mutex, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->taken, &attr);
	pthread_condattr_destroy(&attr);
	http_conn_expect(http, r->conn, http->config.request_timeout_ms);
	return r;
}

static void request_unref(struct http_request *r)
{
	if (atomic_fetch_sub(&r->refs, 1) > 1)
		return;
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	pthread_cond_destroy(&r->taken);
	pthread_mutex_destroy(&r->mutex);
	duct_span_drop(r->call.span); /* of a page, or a request without an end */
	duct_arena_done(&r->arena);
	duct_buf_done(&r->body);
	duct_buf_done(&r->answer);
	free(r->target);
	free(r);
}

void http_request_completed(void *cls, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why)
{
	(void)cls;
	(void)connection;
	struct http_request *r = *slot;
	if (!r)
		return;
	http_unwatch(r);
	pthread_mutex_lock(&r->mutex);
	bool works = r->phase == HTTP_WORK || r->streams;
	r->gone = true;
	pthread_cond_broadcast(&r->taken);
	pthread_mutex_unlock(&r->mutex);
	if (works && why != MHD_REQUEST_TERMINATED_COMPLETED_OK)
		http_request_cancel(r, API_CANCELLED, "the client has left");
	*slot = NULL;
	request_unref(r);
}

/* ---- answers; the first that is given counts */

static const char *service_name(const struct http_request *r)
{
	return r->match.route ? r->match.route->service->descriptor->short_name : "none";
}

static const char *method_name(const struct http_request *r)
{
	return r->match.route ? r->match.route->path + strlen(r->match.route->service->descriptor->name) + 2 : "none";
}

/* {"code":5,"status":"NOT_FOUND","message":"..."} */
static void put_error(struct duct_buf *to, enum api_code code, const char *message)
{
	duct_buf_printf(to, "{\"code\":%d,\"status\":\"%s\",\"message\":", code, api_code_name(code));
	duct_buf_json_string(to, message, strlen(message));
	duct_buf_putc(to, '}');
}

/* Under the lock, or before anybody else has the request. */
static void answer_error(struct http_request *r, int status, enum api_code code, const char *message)
{
	if (r->ready)
		return;
	r->ready = true;
	r->status = status;
	r->code = code;
	r->answer.len = 0;
	put_error(&r->answer, code, message);
	duct_buf_putc(&r->answer, '\n');
}

static enum api_code refuse(struct http_request *r, enum api_code code, const char *message)
{
	answer_error(r, api_code_http_status(code), code, message);
	return code;
}

static void resume(struct http_request *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	MHD_resume_connection(r->connection);
}

void http_request_cancel(struct http_request *r, enum api_code code, const char *message)
{
	uint64_t one = 1;
	pthread_mutex_lock(&r->mutex);
	if (r->told == API_OK)
		r->told = code;
	atomic_store(&r->cancelled, true);
	ssize_t n = r->stop_fd >= 0 ? write(r->stop_fd, &one, sizeof one) : 0;
	(void)n; /* a counter that is full is readable too */
	if (!r->streams)
		refuse(r, code, message);
	pthread_cond_broadcast(&r->taken);
	resume(r);
	pthread_mutex_unlock(&r->mutex);
}

static void count(struct http_request *r, enum api_code code)
{
	api_metrics_call(service_name(r), method_name(r), code, "http", duct_mono_us() - r->begun_us);
	api_trace_end(&r->call, service_name(r), method_name(r), code);
}

/* ---- the method */

/* One line of a stream; waits until libmicrohttpd took it. */
static bool send_line(struct api_call *call, const ProtobufCMessage *message)
{
	struct http_request *r = call->transport;
	struct duct_buf line = {0};
	api_json_write(&line, message, 0);
	duct_buf_putc(&line, '\n');
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += r->http->config.request_timeout_ms / 1000 + 1;
	pthread_mutex_lock(&r->mutex);
	r->streams = true;
	duct_buf_append(&r->answer, line.data, line.len);
	resume(r);
	int rc = 0;
	while (r->answer.len > 0 && !r->gone && !atomic_load(&r->cancelled) && rc == 0)
		rc = pthread_cond_timedwait(&r->taken, &r->mutex, &until);
	bool taken = r->answer.len == 0 && !r->gone && !atomic_load(&r->cancelled);
	r->gone |= rc != 0;
	pthread_mutex_unlock(&r->mutex);
	duct_buf_done(&line);
	return taken;
}

static enum api_code run_method(struct http_request *r, struct duct_buf *answer)
{
	struct duct_error err = {0};
	ProtobufCMessage *request = NULL;
	struct api_call *call = &r->call;
	const struct api_route *route = r->match.route;
	if (http_route_request(&r->match, r->body.data, r->body.len, &r->arena, &request, &err))
		return api_failed(call, &err);
	ProtobufCMessage *response = duct_arena_alloc(&r->arena, route->output->sizeof_message);
	protobuf_c_message_init(route->output, response);
	enum api_code code = route->method->run(call, request, response);
	if (code == API_OK && !(route->method->flags & API_STREAM)) {
		api_json_write(answer, response, 0);
		duct_buf_putc(answer, '\n');
	}
	return code;
}

static void end_stream(struct http_request *r, enum api_code code, const char *message)
{
	if (code != API_OK) {
		duct_buf_puts(&r->answer, "{\"error\":");
		put_error(&r->answer, code, message);
		duct_buf_puts(&r->answer, "}\n");
	}
	r->ended = true;
}

/* Runs the method and gives its answer, unless somebody gave one before. */
static void run_and_answer(struct http_request *r)
{
	struct duct_buf answer = {0};
	struct duct_trace outer = duct_span_enter(r->call.span);
	enum api_code code = run_method(r, &answer);
	bool stream = r->match.route->method->flags & API_STREAM;
	pthread_mutex_lock(&r->mutex);
	if (r->told != API_OK)
		code = r->told;
	if (code == API_OK && stream)
		r->streams = true;
	if (r->streams)
		end_stream(r, code, *r->call.message ? r->call.message : api_code_name(code));
	else if (code != API_OK)
		refuse(r, code, r->call.message);
	else if (!r->ready) {
		r->ready = true;
		r->status = MHD_HTTP_OK;
		duct_buf_done(&r->answer);
		r->answer = answer;
		answer = (struct duct_buf){0};
	}
	resume(r);
	pthread_mutex_unlock(&r->mutex);
	duct_buf_done(&answer);
	count(r, code);
	if (code == API_INTERNAL || code == API_UNKNOWN || code == API_DATA_LOSS)
		log_error(r->http->log, "call failed", LOG_STR("method", r->match.route->path + 1),
			  LOG_STR("error", r->call.message));
	duct_trace_set(&outer);
}

static void fill_page(struct http_request *r)
{
	struct duct_buf text = {0};
	int status = r->page->fill(r->http, &text);
	pthread_mutex_lock(&r->mutex);
	if (!r->ready) {
		r->ready = true;
		r->status = status;
		duct_buf_done(&r->answer);
		r->answer = text;
		text = (struct duct_buf){0};
	}
	resume(r);
	pthread_mutex_unlock(&r->mutex);
	duct_buf_done(&text);
}

static void work(void *arg)
{
	struct http_request *r = arg;
	if (r->page)
		fill_page(r);
	else
		run_and_answer(r);
	http_worked(r);
	request_unref(r);
}

/* ---- the connection's side */

/* The lines of a stream as far as they are there. */
static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t most)
{
	(void)pos;
	struct http_request *r = cls;
	ssize_t n;
	pthread_mutex_lock(&r->mutex);
	if (r->answer.len > 0) {
		n = (ssize_t)(r->answer.len < most ? r->answer.len : most);
		memcpy(to, r->answer.data, (size_t)n);
		r->answer.len -= (size_t)n;
		memmove(r->answer.data, r->answer.data + n, r->answer.len);
		if (r->answer.len == 0)
			pthread_cond_broadcast(&r->taken);
	} else if (r->ended)
		n = MHD_CONTENT_READER_END_OF_STREAM;
	else {
		n = 0;
		r->suspended = true;
		MHD_suspend_connection(r->connection);
	}
	pthread_mutex_unlock(&r->mutex);
	return n;
}

static enum MHD_Result queue(struct http_request *r, struct MHD_Response *response, int status, const char *type)
{
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
	if (atomic_load(&r->http->draining) || r->torn)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	enum MHD_Result done = MHD_queue_response(r->connection, (unsigned)status, response);
	MHD_destroy_response(response);
	return done;
}

static enum MHD_Result give_stream(struct http_request *r)
{
	return queue(r, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, r, NULL), MHD_HTTP_OK,
		     stream_text);
}

/* What is ready stays as it is. */
static enum MHD_Result give_whole(struct http_request *r)
{
	size_t n = r->answer.len;
	const char *type = r->page && r->status == MHD_HTTP_OK ? r->page->content_type : json_text;
	enum MHD_Result done =
		queue(r, MHD_create_response_from_buffer(n, duct_steal(&r->answer.data), MHD_RESPMEM_MUST_FREE), r->status, type);
	http_conn_expect(r->http, r->conn, r->http->config.request_timeout_ms);
	return done;
}

/* Gives the answer that is ready to libmicrohttpd, or waits for it. Gives it without our lock: libmicrohttpd calls read_stream, which
 * takes it, under a lock of the response. */
static enum MHD_Result answer(struct http_request *r)
{
	pthread_mutex_lock(&r->mutex);
	bool streams = r->streams, waits = !r->ready && !streams;
	if (waits) {
		r->suspended = true;
		MHD_suspend_connection(r->connection);
	} else {
		r->phase = HTTP_ANSWERED;
	}
	pthread_mutex_unlock(&r->mutex);
	return waits ? MHD_YES : streams ? give_stream(r) : give_whole(r);
}

/* ---- what is wrong before anything was read */

static const char *header(const struct http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

static bool has_body(const struct http_request *r)
{
	const char *length = header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING) || (length && strtoull(length, NULL, 10) > 0);
}

static bool is_json(const char *type)
{
	size_t n = type ? strcspn(type, "; \t") : 0;
	return n == sizeof json_text - 1 && strncasecmp(type, json_text, n) == 0;
}

/* Page or method; false: there is none, and the answer says so. */
static bool find_target(struct http_request *r, const char *verb)
{
	char message[200];
	size_t n = strcspn(r->target, "?");
	bool head = strcmp(verb, MHD_HTTP_METHOD_HEAD) == 0;
	r->page = http_page_find(r->target, n);
	enum http_found found;
	if (r->page) {
		found = head || strcmp(verb, MHD_HTTP_METHOD_GET) == 0 ? HTTP_FOUND : HTTP_NO_SUCH_VERB;
		snprintf(r->allow, sizeof r->allow, "GET, HEAD");
	} else
		found = http_route_find(r->http->routes, verb, r->target, &r->match, r->allow);
	if (found == HTTP_FOUND && head && r->match.route && r->match.route->method && r->match.route->method->flags & API_STREAM) {
		snprintf(r->allow, sizeof r->allow, "GET");
		found = HTTP_NO_SUCH_VERB;
	}
	if (found == HTTP_NO_SUCH_PATH) {
		snprintf(message, sizeof message, "there is no %.100s; /openapi.json lists what there is", r->target);
		refuse(r, API_NOT_FOUND, message);
	} else if (found == HTTP_NO_SUCH_VERB) {
		snprintf(message, sizeof message, "%.20s is not for this path, but %s", verb, r->allow);
		answer_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, API_UNIMPLEMENTED, message);
	}
	return found == HTTP_FOUND;
}

static enum api_code allow(struct http_request *r)
{
	const struct api_route *route = r->match.route;
	if (r->page && r->who.role >= r->page->role)
		return API_OK;
	if (r->page)
		return api_fail(&r->call, API_PERMISSION_DENIED, "%s needs the role %s", r->page->path,
				api_role_name(r->page->role));
	if (!route->method)
		return api_fail(&r->call, API_UNIMPLEMENTED, "%s: this service does not have it", route->path + 1);
	return api_route_allow(route, &r->call);
}

/* Who calls, and whether he may; false: the answer says why not. */
static bool check_caller(struct http_request *r)
{
	const char *why = NULL;
	if (r->page && r->page->role == API_NOBODY)
		return true;
	enum api_code code = http_identify(r, &why);
	if (code == API_OK)
		return true;
	char peer[80];
	http_peer(r, peer, sizeof peer);
	api_auth_log_refusal(r->http->config.auth, "http", peer, "", code);
	refuse(r, code, why);
	return false;
}

static bool check_role(struct http_request *r)
{
	enum api_code code = allow(r);
	if (code == API_OK)
		return true;
	if (code == API_PERMISSION_DENIED) {
		char peer[80];
		http_peer(r, peer, sizeof peer);
		api_auth_log_refusal(r->http->config.auth, "http", peer, r->page ? r->page->path : r->match.route->path, code);
	}
	refuse(r, code, r->call.message);
	return false;
}

/* "X-Timeout: 2.5" (seconds), or gRPC's own. */
static bool check_timeout(struct http_request *r)
{
	const char *plain = header(r, "X-Timeout"), *grpc = header(r, "grpc-timeout");
	int64_t timeout_us;
	r->call.deadline_us = INT64_MAX;
	if (!plain && !grpc)
		return true;
	if (!http_parse_timeout(plain ? plain : grpc, !plain, &timeout_us)) {
		refuse(r, API_INVALID_ARGUMENT,
		       plain ? "X-Timeout: a number of seconds is wanted"
			     : "grpc-timeout: a number and a unit of H M S m u n are wanted");
		return false;
	}
	r->call.deadline_us = r->begun_us + timeout_us;
	return true;
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	(void)value;
	*(int *)cls +=
		strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 || strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
	return MHD_YES;
}

/* Where a request ends must be said once: a proxy in between could see another end than we do. */
static bool check_length(struct http_request *r)
{
	int said = 0;
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, count_header, &said);
	r->torn = said > 1;
	if (r->torn)
		refuse(r, API_INVALID_ARGUMENT, "the length of the body is said more than once");
	return !r->torn;
}

static bool check_body(struct http_request *r)
{
	char message[100];
	const char *length = header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
	size_t most = r->http->config.max_body_bytes;
	if (!has_body(r))
		return true;
	if (!is_json(header(r, MHD_HTTP_HEADER_CONTENT_TYPE))) {
		answer_error(r, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, API_INVALID_ARGUMENT,
			     "Content-Type: a body must be application/json");
		return false;
	}
	r->too_large = length && strtoull(length, NULL, 10) > most;
	if (!r->too_large)
		return true;
	snprintf(message, sizeof message, "the body is larger than %zu bytes", most);
	answer_error(r, MHD_HTTP_CONTENT_TOO_LARGE, API_RESOURCE_EXHAUSTED, message);
	return false;
}

/* The request's head is there. */
static void examine(struct http_request *r, const char *verb)
{
	r->call = (struct api_call){
		.api = r->http->config.api,
		.arena = &r->arena,
		.who = &r->who,
		.via = "http",
		.cancelled = &r->cancelled,
		.stop_fd = -1,
		.send = send_line,
		.transport = r,
	};
	const char *traceparent = duct_trace_on() ? header(r, "traceparent") : NULL;
	api_trace_begin(&r->call, traceparent, traceparent ? strlen(traceparent) : 0);
	if (!check_length(r))
		return;
	const char *foreign = http_refuse_foreign(r);
	if (atomic_load(&r->http->draining))
		refuse(r, API_UNAVAILABLE, "the server is shutting down");
	else if (foreign)
		refuse(r, API_PERMISSION_DENIED, foreign);
	else if (http_page_find(r->target, strcspn(r->target, "?")) ? find_target(r, verb) && check_caller(r)
								    : check_caller(r) && find_target(r, verb))
		(void)(check_role(r) && check_timeout(r) && check_body(r));
	if (r->match.route && r->ready)
		count(r, r->code);
}

/* Everything is there: the method runs, here or elsewhere. */
static enum MHD_Result start(struct http_request *r)
{
	const struct api_method *method = r->page ? NULL : r->match.route->method;
	bool here =
		r->page ? !r->page->works : r->http->config.inline_quick && method->flags & API_QUICK && r->body.len <= INLINE_BODY;
	http_conn_expect(r->http, r->conn, 0);
	r->phase = HTTP_WORK;
	if (here) {
		if (r->page)
			fill_page(r);
		else
			run_and_answer(r);
		return answer(r);
	}
	if (!method || !(method->flags & API_QUICK))
		r->stop_fd = r->call.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bool alone = method && method->flags & (API_STREAM | API_WAITS);
	atomic_fetch_add(&r->refs, 1);
	http_working(r);
	pthread_mutex_lock(&r->mutex);
	bool suspended = !r->ready; /* its deadline may have passed already */
	r->suspended = suspended;
	if (suspended)
		MHD_suspend_connection(r->connection);
	pthread_mutex_unlock(&r->mutex);
	if (suspended && api_pool_give(r->http->pool, work, r, alone))
		return MHD_YES;
	http_request_cancel(r, API_RESOURCE_EXHAUSTED, "too many calls at the same time; try again later");
	count(r, r->code);
	http_worked(r);
	request_unref(r);
	return suspended ? MHD_YES : answer(r);
}

static void take_body(struct http_request *r, const char *data, size_t n)
{
	char message[100];
	size_t most = r->http->config.max_body_bytes;
	if (r->ready)
		return;
	if (r->body.len + n <= most) {
		duct_buf_append(&r->body, data, n);
		return;
	}
	duct_buf_done(&r->body);
	snprintf(message, sizeof message, "the body is larger than %zu bytes", most);
	answer_error(r, MHD_HTTP_CONTENT_TOO_LARGE, API_RESOURCE_EXHAUSTED, message);
}

enum MHD_Result http_request_take(void *cls, struct MHD_Connection *connection, const char *url, const char *verb,
				  const char *version, const char *data, size_t *n, void **slot)
{
	(void)cls;
	(void)connection;
	(void)url;
	(void)version;
	struct http_request *r = *slot;
	if (!r)
		return MHD_NO;
	switch (r->phase) {
	case HTTP_BEGIN:
		examine(r, verb);
		r->phase = HTTP_READ;
		/* Who asks first is told at once. Others send on before they read: their body is read and forgotten. */
		return r->too_large && header(r, MHD_HTTP_HEADER_EXPECT) ? answer(r) : MHD_YES;
	case HTTP_READ:
		if (*n) {
			take_body(r, data, *n);
			*n = 0;
			return MHD_YES;
		}
		return r->ready ? answer(r) : start(r);
	default: return answer(r);
	}
}
