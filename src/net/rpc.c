#include "net/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/trace.h"
#include "net/grpc_api.h"

enum { LOOK_MS = 50, MOST_BYTES = 64 << 20, MOST_FILE_BYTES = 1 << 20, LEAST_SECRET = 6 };

struct rpc_client {
	const struct rpc_target *target;
	const struct duct_ctx *ctx;
	grpc_completion_queue *queue;
	grpc_channel *channel;
	char *authorization; /* "Bearer ..." */
};

/* What a call waits for. */
enum event { EVENT_BEGUN = 1, EVENT_ANSWER = 2, EVENT_STATUS = 4 };

struct call {
	struct rpc_client *client;
	grpc_call *call;
	grpc_metadata_array initial, trailing;
	grpc_byte_buffer *answer;
	grpc_status_code status;
	grpc_slice details;
	unsigned pending; /* of enum event */
	bool cancelled;
};

bool rpc_endpoint_is_local(const char *endpoint)
{
	static const char *const names[] = {"localhost", "127.", "[::1]", "ip6-localhost", "unix:"};
	if (strncmp(endpoint, "dns:", 4) == 0)
		endpoint += strspn(endpoint + 4, "/") + 4;
	if (*endpoint == ':')
		return true;
	for (size_t i = 0; i < DUCT_LEN(names); i++) {
		size_t n = strlen(names[i]);
		if (strncasecmp(endpoint, names[i], n) == 0 && (i != 0 || !endpoint[n] || endpoint[n] == ':'))
			return true;
	}
	return false;
}

void rpc_environment(void)
{
	/* The library's own lines say less than the errors made of its status. */
	setenv("GRPC_VERBOSITY", "NONE", 0);
	/* Names as everything else on this machine reads them. */
	setenv("GRPC_DNS_RESOLVER", "native", 0);
}

static int read_file(const char *path, const char *what, char **ret, struct duct_error *err)
{
	*ret = NULL;
	if (!path)
		return 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return duct_fail(err, DUCT_CONFIG, "%s: %s cannot be opened: %s", what, path, strerror(errno));
	AUTO_BUF struct duct_buf text = {0};
	ssize_t n = 1;
	while (n > 0 && text.len <= MOST_FILE_BYTES) {
		n = read(fd, duct_buf_room(&text, 65536), 65536);
		text.len += n > 0 ? (size_t)n : 0;
	}
	int failed = n < 0 ? errno : 0;
	close(fd);
	if (failed)
		return duct_fail(err, DUCT_CONFIG, "%s: %s cannot be read: %s", what, path, strerror(failed));
	if (text.len > MOST_FILE_BYTES || !text.len || memchr(text.data, 0, text.len))
		return duct_fail(err, DUCT_CONFIG, "%s: %s is no PEM file", what, path);
	duct_buf_putc(&text, 0);
	*ret = duct_steal(&text.data);
	return 0;
}

static int make_credentials(const struct rpc_target *target, grpc_channel_credentials **ret, struct duct_error *err)
{
	AUTO_FREE char *ca = NULL, *cert = NULL, *key = NULL;
	if (!target->tls) {
		*ret = grpc_insecure_credentials_create();
		return 0;
	}
	if (!target->cert != !target->key)
		return duct_fail(err, DUCT_CONFIG, "%s belong together: give both", target->words->both);
	int rc = read_file(target->ca, target->words->ca, &ca, err);
	rc = rc ? rc : read_file(target->cert, target->words->cert, &cert, err);
	rc = rc ? rc : read_file(target->key, target->words->key, &key, err);
	if (rc)
		return rc;
	grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};
	*ret = grpc_ssl_credentials_create(ca, cert ? &pair : NULL, NULL, NULL);
	if (key)
		explicit_bzero(key, strlen(key));
	return *ret
		? 0
		: duct_fail(err, DUCT_CONFIG, "the TLS certificate or key cannot be used: they must be PEM and belong together");
}

static grpc_arg int_arg(const char *key, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static void make_channel(struct rpc_client *client, grpc_channel_credentials *credentials)
{
	const char *endpoint = client->target->endpoint;
	AUTO_FREE char *address = duct_xasprintf("%s%s", *endpoint == ':' ? "localhost" : "", endpoint);
	AUTO_FREE char *agent = duct_xasprintf("%s/" DUCT_VERSION, client->target->agent);
	grpc_arg args[] = {
		int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MOST_BYTES),
		int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, MOST_BYTES),
		/* One try: who is not there is said at once. */
		int_arg(GRPC_ARG_ENABLE_RETRIES, 0),
		/* Whoever tries again wants a new connection, not the answer of the last attempt. */
		int_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100),
		int_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
		int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, !rpc_endpoint_is_local(endpoint)),
		{.type = GRPC_ARG_STRING, .key = (char *)(uintptr_t)GRPC_ARG_PRIMARY_USER_AGENT_STRING, .value.string = agent},
		{.type = GRPC_ARG_STRING,
		 .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
		 .value.string = (char *)(uintptr_t)client->target->server_name},
	};
	const grpc_channel_args all = {.num_args = DUCT_LEN(args) - (client->target->server_name ? 0 : 1), .args = args};
	client->channel = grpc_channel_create(address, credentials, &all);
	client->queue = grpc_completion_queue_create_for_next(NULL);
}

int rpc_open(struct rpc_client **ret, const struct rpc_target *target, const struct duct_ctx *ctx, struct duct_error *err)
{
	if (target->token && !target->tls && !target->clear_token && !rpc_endpoint_is_local(target->endpoint))
		return duct_fail(err, DUCT_CONFIG, "the token would go to \"%.100s\" in the clear: %s", target->endpoint,
				 target->words->clear);
	int loaded = grpc_api_load(err);
	if (loaded < 0)
		return loaded;
	grpc_init();
	grpc_channel_credentials *credentials = NULL;
	int rc = make_credentials(target, &credentials, err);
	if (rc) {
		grpc_shutdown_blocking();
		return rc;
	}
	struct rpc_client *client = duct_xcalloc(1, sizeof *client);
	client->target = target;
	client->ctx = ctx;
	client->authorization = target->token ? duct_xasprintf("Bearer %s", target->token) : NULL;
	make_channel(client, credentials);
	grpc_channel_credentials_release(credentials);
	*ret = client;
	return 0;
}

void rpc_close(struct rpc_client *client)
{
	if (!client)
		return;
	grpc_channel_destroy(client->channel);
	grpc_completion_queue_shutdown(client->queue);
	while (grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type != GRPC_QUEUE_SHUTDOWN)
		;
	grpc_completion_queue_destroy(client->queue);
	grpc_shutdown_blocking();
	if (client->authorization)
		explicit_bzero(client->authorization, strlen(client->authorization));
	free(client->authorization);
	free(client);
}

static void start(struct call *c, const grpc_op *ops, size_t n, enum event event)
{
	/* Only a misuse of the library fails here. */
	if (grpc_call_start_batch(c->call, ops, n, (void *)(uintptr_t)event, NULL) == GRPC_CALL_OK)
		c->pending |= event;
	else
		abort();
}

/* Request and status at once; answers are asked for one by one. */
static void start_all(struct call *c, const void *request, size_t n)
{
	grpc_slice slice = grpc_slice_from_copied_buffer(request, n);
	grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
	const struct rpc_target *target = c->client->target;
	AUTO_FREE grpc_metadata *metadata = duct_xcalloc(target->nheaders + 2, sizeof *metadata);
	size_t nmetadata = 0;
	struct duct_trace trace;
	const char *parent = getenv("TRACEPARENT");
	if (c->client->authorization) {
		metadata[nmetadata].key = grpc_slice_from_static_string("authorization");
		metadata[nmetadata++].value = grpc_slice_from_static_string(c->client->authorization);
	}
	for (size_t i = 0; i < target->nheaders; i++) {
		metadata[nmetadata].key = grpc_slice_from_static_string(target->headers[i].name);
		metadata[nmetadata++].value = grpc_slice_from_static_string(target->headers[i].value);
	}
	/* Who called us in the course of a trace finds the server's part in it. */
	if (parent && duct_trace_parse(parent, strlen(parent), &trace)) {
		metadata[nmetadata].key = grpc_slice_from_static_string("traceparent");
		metadata[nmetadata++].value = grpc_slice_from_static_string(parent);
	}
	grpc_op ops[4] = {
		{.op = GRPC_OP_SEND_INITIAL_METADATA, .data.send_initial_metadata = {.count = nmetadata, .metadata = metadata}},
		{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message},
		{.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
		{.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
	};
	grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
			  .data.recv_status_on_client = {.trailing_metadata = &c->trailing,
							 .status = &c->status,
							 .status_details = &c->details}};
	start(c, &status, 1, EVENT_STATUS);
	start(c, ops, DUCT_LEN(ops), EVENT_BEGUN);
	grpc_byte_buffer_destroy(message);
	grpc_slice_unref(slice);
}

static void ask_for_answer(struct call *c)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer};
	start(c, &op, 1, EVENT_ANSWER);
}

static void cancel(struct call *c)
{
	if (!c->cancelled)
		(void)grpc_call_cancel(c->call, NULL); /* fails only with a wrong argument */
	c->cancelled = true;
}

/* The next event; a stop cancels the call, and its events still come. */
static enum event next(struct call *c)
{
	for (;;) {
		grpc_event event =
			grpc_completion_queue_next(c->client->queue,
						   gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
								gpr_time_from_millis(c->cancelled ? 1000 : LOOK_MS, GPR_TIMESPAN)),
						   NULL);
		if (duct_ctx_stopped(c->client->ctx))
			cancel(c);
		if (event.type != GRPC_OP_COMPLETE)
			continue;
		c->pending &= ~(unsigned)(uintptr_t)event.tag;
		return (enum event)(uintptr_t)event.tag;
	}
}

static int take_answer(struct call *c, rpc_answer_fn *take, void *arg, struct duct_error *err)
{
	grpc_byte_buffer_reader reader;
	int rc;
	if (grpc_byte_buffer_reader_init(&reader, c->answer)) {
		grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
		rc = take(arg, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), err);
		grpc_slice_unref(slice);
		grpc_byte_buffer_reader_destroy(&reader);
	} else {
		rc = duct_fail(err, DUCT_FATAL, "an answer of the server cannot be unpacked");
	}
	grpc_byte_buffer_destroy(c->answer);
	c->answer = NULL;
	return rc;
}

static const char *status_name(grpc_status_code code)
{
	static const char *const names[] = {
		"OK",	     "CANCELLED",      "UNKNOWN",	    "INVALID_ARGUMENT",	  "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",	    "INTERNAL",		  "UNAVAILABLE",
		"DATA_LOSS", "UNAUTHENTICATED"};
	return (unsigned)code < DUCT_LEN(names) ? names[code] : "a status that there is not";
}

static enum duct_class class_of(grpc_status_code code)
{
	switch (code) {
	case GRPC_STATUS_OK: return DUCT_OK;
	case GRPC_STATUS_INVALID_ARGUMENT:
	case GRPC_STATUS_NOT_FOUND:
	case GRPC_STATUS_ALREADY_EXISTS:
	case GRPC_STATUS_PERMISSION_DENIED:
	case GRPC_STATUS_FAILED_PRECONDITION:
	case GRPC_STATUS_OUT_OF_RANGE:
	case GRPC_STATUS_UNIMPLEMENTED:
	case GRPC_STATUS_UNAUTHENTICATED: return DUCT_CONFIG;
	case GRPC_STATUS_CANCELLED: /* by the server: whoever stopped here was told so already */
	case GRPC_STATUS_DEADLINE_EXCEEDED:
	case GRPC_STATUS_RESOURCE_EXHAUSTED:
	case GRPC_STATUS_ABORTED:
	case GRPC_STATUS_UNAVAILABLE: return DUCT_RETRY;
	case GRPC_STATUS_DATA_LOSS: return DUCT_DATA;
	default: return DUCT_FATAL;
	}
}

static bool is_cut_off(const char *details)
{
	static const char *const said[] = {"socket closed",	"connection reset", "too many pings", "endpoint read failed",
					   "before handshaker", "broken pipe",	    "timed out",      "timeout",
					   "read failed",	"write failed",	    "syscall",	      "eof"};
	for (size_t i = 0; i < DUCT_LEN(said); i++)
		if (strcasestr(details, said[i]))
			return true;
	return false;
}

/* Why no server answered, and what to do about it. */
static int fail_unavailable(const struct rpc_target *target, const char *details, struct duct_error *err)
{
	const struct rpc_words *words = target->words;
	const char *refused = strstr(details, "Connection refused"), *to = target->endpoint;
	bool handshake = strcasestr(details, "handshake") || strcasestr(details, "ssl") || strstr(details, "Peer name");
	if (target->tls && strcasestr(details, "wrong version number"))
		return duct_fail(err, DUCT_CONFIG, "the server at \"%.100s\" does not speak TLS: %s", to, words->no_tls);
	if (target->tls && strcasestr(details, "certificate verify failed"))
		return duct_fail(err, DUCT_CONFIG,
				 "the certificate of \"%.100s\" is expired, of another name, or signed by nobody known: %s", to,
				 words->name_ca);
	/* A server that went away during the handshake comes back; one that does not want it says so. */
	if (target->tls && handshake && !refused)
		return duct_fail(err, is_cut_off(details) ? DUCT_RETRY : DUCT_CONFIG, "no TLS with \"%.100s\": %.300s", to,
				 details);
	if (!target->tls && !refused && is_cut_off(details))
		return duct_fail(err, DUCT_RETRY, "the server at \"%.100s\" closed the connection: if it speaks TLS, %s", to,
				 words->use_tls);
	if (refused || strstr(details, "failed to connect") || strstr(details, "DNS resolution"))
		return duct_fail(err, DUCT_RETRY, "no server at \"%.100s\" (%.200s): %s", to,
				 refused ? "connection refused" : details, words->unreachable);
	return duct_fail(err, DUCT_RETRY, "%.800s", *details ? details : "the server is not available");
}

static void hide(char *text, const char *secret)
{
	size_t n = secret ? strlen(secret) : 0;
	if (n < LEAST_SECRET)
		return;
	for (char *at = text; (at = strstr(at, secret)); at += n)
		memset(at, '*', n);
}

void rpc_hide_secrets(const struct rpc_target *target, char *text)
{
	hide(text, target->token);
	for (size_t i = 0; i < target->nheaders; i++)
		hide(text, target->headers[i].value);
}

static int fail_status(const struct call *c, const char *method, int64_t timeout_ms, struct duct_error *err)
{
	const struct rpc_target *target = c->client->target;
	AUTO_FREE char *details = grpc_slice_to_c_string(c->details);
	rpc_hide_secrets(target, details);
	const char *name = strrchr(method, '/') + 1;
	if (duct_ctx_stopped(c->client->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	if (c->status == GRPC_STATUS_UNAVAILABLE)
		return fail_unavailable(target, details, err);
	if (c->status == GRPC_STATUS_DEADLINE_EXCEEDED)
		return duct_fail(err, DUCT_RETRY,
				 "%s: \"%.100s\" did not answer within %.1f s: %s; whether it has done it is not known", name,
				 target->endpoint, (double)timeout_ms / 1000, target->words->give_time);
	if (c->status == GRPC_STATUS_UNAUTHENTICATED)
		return duct_fail(err, DUCT_CONFIG, "%.600s: %s", *details ? details : "the server wants a token",
				 target->token ? "the token is not one of the server's" : target->words->give_token);
	if (c->status == GRPC_STATUS_UNIMPLEMENTED)
		return duct_fail(err, DUCT_CONFIG, "the server at \"%.100s\" cannot do %s: %.500s", target->endpoint, name,
				 details);
	return duct_fail(err, class_of(c->status), "%.900s (%s)", *details ? details : name, status_name(c->status));
}

/* Until the status is there and nothing is under way. */
static int run(struct call *c, rpc_answer_fn *take, void *arg, struct duct_error *err)
{
	int rc = 0;
	while (c->pending) {
		if (next(c) != EVENT_ANSWER || !c->answer)
			continue;
		if (!rc)
			rc = take_answer(c, take, arg, err);
		if (rc)
			cancel(c);
		else
			ask_for_answer(c);
	}
	return rc;
}

int rpc_call(struct rpc_client *client, const char *method, const void *request, size_t n, int64_t timeout_ms, rpc_answer_fn *take,
	     void *arg, struct duct_error *err)
{
	struct call c = {.client = client, .details = grpc_empty_slice()};
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
	if (timeout_ms)
		deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
	if (duct_ctx_stopped(client->ctx))
		return duct_fail(err, DUCT_CANCELLED, "stopped");
	grpc_metadata_array_init(&c.initial);
	grpc_metadata_array_init(&c.trailing);
	/* The connection keeps the path for its header compression, longer than the call. */
	grpc_slice path = grpc_slice_from_copied_string(method);
	c.call =
		grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, path, NULL, deadline, NULL);
	grpc_slice_unref(path);
	start_all(&c, request, n);
	ask_for_answer(&c);
	int rc = run(&c, take, arg, err);
	if (!rc && c.status != GRPC_STATUS_OK) {
		rc = fail_status(&c, method, timeout_ms, err);
		err->vendor_code = (int)c.status;
	}
	if (c.answer)
		grpc_byte_buffer_destroy(c.answer);
	grpc_slice_unref(c.details);
	grpc_metadata_array_destroy(&c.initial);
	grpc_metadata_array_destroy(&c.trailing);
	grpc_call_unref(c.call);
	return rc;
}
