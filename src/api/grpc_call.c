/* One call: from the client's headers to the status. */
#include "api/grpc_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/memory.h"
#include "api/metrics.h"
#include "api/trace.h"
#include "base/clock.h"
#include "base/handover.h"
#include "base/mem.h"
#include "base/trace.h"

/* A message may unpack to more memory than it has on the wire. */
enum { UNPACKED_FACTOR = 16, LARGE_MESSAGE = 64 << 10, SLOW_US = 100000, AVOID_SLOW_US = 1000000 };

/* ---- life */

void rpc_arm(struct api_grpc *grpc)
{
	struct rpc *rpc = duct_xcalloc(1, sizeof *rpc);
	rpc->grpc = grpc;
	atomic_init(&rpc->refs, 1);
	atomic_init(&rpc->expires_us, INT64_MAX);
	for (int i = 0; i < RPC_EVENTS; i++)
		rpc->tags[i] = (struct rpc_tag){(enum rpc_event)i, rpc};
	grpc_call_details_init(&rpc->details);
	grpc_metadata_array_init(&rpc->metadata);
	rpc->details_sent = grpc_empty_slice();
	duct_arena_init(&rpc->arena);
	rpc->call = (struct api_call){
		.api = grpc->config.api,
		.arena = &rpc->arena,
		.who = &rpc->who,
		.via = "grpc",
		.deadline_us = INT64_MAX,
		.cancelled = &rpc->cancelled,
		.stop_fd = -1,
		.transport = rpc,
	};
	duct_hand_over(&rpc->tags[RPC_NEW]);
	if (grpc_server_request_call(grpc->core, &rpc->core, &rpc->details, &rpc->metadata, grpc->cq, grpc->cq,
				     &rpc->tags[RPC_NEW]))
		rpc_unref(rpc); /* the server is shutting down */
}

void rpc_unref(struct rpc *rpc)
{
	if (atomic_fetch_sub(&rpc->refs, 1) != 1)
		return;
	if (rpc->core)
		grpc_call_unref(rpc->core);
	grpc_call_details_destroy(&rpc->details);
	grpc_metadata_array_destroy(&rpc->metadata);
	grpc_byte_buffer *const buffers[] = {rpc->in, rpc->out, rpc->last};
	for (size_t i = 0; i < DUCT_LEN(buffers); i++)
		if (buffers[i])
			grpc_byte_buffer_destroy(buffers[i]);
	grpc_slice_unref(rpc->details_sent);
	duct_span_drop(rpc->call.span); /* of a call that was never answered */
	duct_arena_done(&rpc->arena);
	if (rpc->call.stop_fd >= 0)
		close(rpc->call.stop_fd);
	if (rpc->has_thread) {
		pthread_mutex_destroy(&rpc->mutex);
		pthread_cond_destroy(&rpc->written);
	}
	free(rpc->watched);
	free(rpc);
}

static bool start(struct rpc *rpc, const grpc_op *ops, size_t n, enum rpc_event event)
{
	atomic_fetch_add(&rpc->refs, 1);
	duct_hand_over(&rpc->tags[event]);
	if (grpc_call_start_batch(rpc->core, ops, n, &rpc->tags[event], NULL) == GRPC_CALL_OK)
		return true;
	atomic_fetch_sub(&rpc->refs, 1); /* the caller has one of its own */
	return false;
}

void rpc_interrupt(struct rpc *rpc)
{
	uint64_t one = 1;
	atomic_store(&rpc->cancelled, true);
	if (rpc->call.stop_fd >= 0) {
		/* The counter cannot overflow, and nothing else makes a write to an eventfd fail. */
		ssize_t n = write(rpc->call.stop_fd, &one, sizeof one);
		(void)n;
	}
}

/* ---- to the client */

static grpc_byte_buffer *buffer_of(grpc_slice slice)
{
	grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return buffer;
}

static size_t put_metadata(struct rpc *rpc, grpc_op *op)
{
	if (rpc->sent_metadata)
		return 0;
	rpc->sent_metadata = true;
	op->op = GRPC_OP_SEND_INITIAL_METADATA;
	return 1;
}

/* How the call ends is told to us by this. */
static size_t put_close(struct rpc *rpc, grpc_op *op)
{
	rpc->awaits_close = true;
	op->op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	op->data.recv_close_on_server.cancelled = &rpc->core_cancelled;
	return 1;
}

static size_t put_message(grpc_op *op, grpc_byte_buffer *buffer)
{
	op->op = GRPC_OP_SEND_MESSAGE;
	op->data.send_message.send_message = buffer;
	return 1;
}

/* One batch: what is still to be sent, the status, and the close, when nothing waits for that yet. */
static void end_with(struct rpc *rpc, grpc_byte_buffer *last, enum api_code code, const char *message)
{
	grpc_op ops[4];
	memset(ops, 0, sizeof ops);
	size_t n = put_metadata(rpc, ops);
	int64_t now = duct_mono_us();
	if (rpc->route && rpc->route->method) {
		api_metrics_call(rpc->route->name, rpc->route->method->name, code, "grpc", now - rpc->began_us);
		api_trace_end(&rpc->call, rpc->route->name, rpc->route->method->name, code);
	}
	rpc->ended = true;
	rpc->last = last;
	if (last)
		n += put_message(&ops[n], last);
	if (message && *message) {
		rpc->details_sent = grpc_slice_from_copied_string(message);
		ops[n].data.send_status_from_server.status_details = &rpc->details_sent;
	}
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n++].data.send_status_from_server.status = (grpc_status_code)code;
	atomic_store_explicit(&rpc->expires_us, now + RPC_PATIENCE_US, memory_order_relaxed);
	rpc->closes_with_end = !rpc->awaits_close;
	if (rpc->closes_with_end)
		n += put_close(rpc, &ops[n]);
	bool ok = start(rpc, ops, n, RPC_ENDED);
	assert(ok); /* a call is ended once */
	(void)ok;
}

void rpc_end(struct rpc *rpc, enum api_code code, const char *message)
{
	if (!rpc->ended)
		end_with(rpc, NULL, code, message);
}

void rpc_put(struct rpc *rpc, struct api_bytes message)
{
	grpc_op ops[2];
	memset(ops, 0, sizeof ops);
	size_t n = put_metadata(rpc, ops);
	rpc->out = buffer_of(grpc_slice_from_copied_buffer((const char *)message.data, message.n));
	n += put_message(&ops[n], rpc->out);
	atomic_store(&rpc->expires_us, duct_mono_us() + RPC_PATIENCE_US);
	start(rpc, ops, n, RPC_WRITTEN);
}

void rpc_want(struct rpc *rpc)
{
	grpc_op op;
	memset(&op, 0, sizeof op);
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &rpc->in;
	atomic_store_explicit(&rpc->expires_us, duct_mono_us() + RPC_PATIENCE_US, memory_order_relaxed);
	start(rpc, &op, 1, RPC_READ);
}

/* API_OK and *ret, or why it cannot be sent. */
static enum api_code pack(struct rpc *rpc, const ProtobufCMessage *response, grpc_byte_buffer **ret)
{
	size_t n = protobuf_c_message_get_packed_size(response);
	if (n > rpc->grpc->config.max_response_bytes)
		return api_fail(&rpc->call, API_RESOURCE_EXHAUSTED,
				"the answer has %zu bytes, more than the %zu of DUCTSTREAM_GRPC_MAX_RESPONSE: ask for less at once",
				n, rpc->grpc->config.max_response_bytes);
	grpc_slice slice = grpc_slice_malloc(n);
	protobuf_c_message_pack(response, GRPC_SLICE_START_PTR(slice));
	*ret = buffer_of(slice);
	return API_OK;
}

/* Waits until the message went out. A client that takes nothing for a minute is given up. */
static bool wait_written(struct rpc *rpc)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += RPC_PATIENCE_US / 1000000;
	pthread_mutex_lock(&rpc->mutex);
	while (rpc->writing)
		if (pthread_cond_timedwait(&rpc->written, &rpc->mutex, &until) != 0 && rpc->writing) {
			grpc_call_cancel(rpc->core, NULL);
			until.tv_sec += RPC_PATIENCE_US / 1000000;
		}
	bool ok = !rpc->write_failed;
	pthread_mutex_unlock(&rpc->mutex);
	return ok;
}

static bool rpc_send(struct api_call *call, const ProtobufCMessage *response)
{
	struct rpc *rpc = call->transport;
	grpc_op ops[2];
	memset(ops, 0, sizeof ops);
	if (atomic_load(&rpc->cancelled) || rpc->ended)
		return false;
	enum api_code code = pack(rpc, response, &rpc->out);
	if (code) {
		rpc_end(rpc, code, call->message);
		return false;
	}
	size_t n = put_metadata(rpc, ops);
	n += put_message(&ops[n], rpc->out);
	rpc->writing = true; /* nobody looks at it before the batch is started */
	if (!start(rpc, ops, n, RPC_WRITTEN))
		return false;
	bool ok = wait_written(rpc);
	grpc_byte_buffer_destroy(rpc->out);
	rpc->out = NULL;
	return ok;
}

/* ---- the method */

/* The message of the call, in one piece; the caller unrefs. */
static bool read_in(struct rpc *rpc, grpc_slice *ret)
{
	grpc_byte_buffer_reader reader;
	if (!rpc->in || rpc->in->data.raw.compression != GRPC_COMPRESS_NONE || !grpc_byte_buffer_reader_init(&reader, rpc->in))
		return false;
	*ret = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	grpc_byte_buffer_destroy(rpc->in);
	rpc->in = NULL;
	return true;
}

static enum api_code unpack(struct rpc *rpc, struct api_memory *memory, ProtobufCMessage **ret)
{
	const ProtobufCMessageDescriptor *input = rpc->route->input;
	char where[200] = "";
	grpc_slice slice;
	if (!read_in(rpc, &slice))
		return api_fail(&rpc->call, API_INVALID_ARGUMENT, "the message cannot be read");
	const uint8_t *data = GRPC_SLICE_START_PTR(slice);
	size_t n = GRPC_SLICE_LENGTH(slice);
	enum api_code code = API_OK;
	if (!api_strings_valid(input, data, n, where, sizeof where))
		code = api_fail(&rpc->call, API_INVALID_ARGUMENT, "%s: not valid UTF-8, or with a zero byte", where);
	else if (!(*ret = protobuf_c_message_unpack(input, &memory->allocator, n, data)))
		code = memory->over
			? api_fail(&rpc->call, API_RESOURCE_EXHAUSTED, "the message needs more than %zu bytes of memory",
				   memory->limit_bytes)
			: api_fail(&rpc->call, API_INVALID_ARGUMENT, "the message is no %s: it cannot be taken apart", input->name);
	grpc_slice_unref(slice);
	return code;
}

static enum api_code run_method(struct rpc *rpc, grpc_byte_buffer **ret)
{
	struct api_memory memory;
	ProtobufCMessage *request = NULL;
	api_memory_init(&memory, &rpc->arena, UNPACKED_FACTOR * rpc->grpc->config.max_message_bytes);
	enum api_code code = unpack(rpc, &memory, &request);
	if (code)
		return code;
	const ProtobufCMessageDescriptor *output = rpc->route->output;
	ProtobufCMessage *response = duct_arena_alloc(&rpc->arena, output->sizeof_message);
	protobuf_c_message_init(output, response);
	code = rpc->route->method->run(&rpc->call, request, response);
	if (code == API_OK && !(rpc->route->method->flags & API_STREAM))
		code = pack(rpc, response, ret);
	return code;
}

void rpc_run(struct rpc *rpc)
{
	grpc_byte_buffer *answer = NULL;
	if (atomic_load(&rpc->over))
		return; /* while it waited for a thread */
	struct duct_trace outer = duct_span_enter(rpc->call.span);
	enum api_code code = run_method(rpc, &answer);
	duct_trace_set(&outer);
	if (rpc->ended)
		return;
	if (code == API_OK)
		rpc->call.message[0] = 0;
	bool cut_off = code == API_CANCELLED ||
		(code == API_OK && (rpc->route->method->flags & API_STREAM) && atomic_load(&rpc->cancelled));
	if (cut_off && atomic_load(&rpc->grpc->stopping))
		code = api_fail(&rpc->call, API_UNAVAILABLE, "the server is shutting down");
	end_with(rpc, answer, code, rpc->call.message);
}

static void run_elsewhere(void *arg)
{
	struct rpc *rpc = arg;
	struct api_grpc *grpc = rpc->grpc;
	rpc_run(rpc);
	rpc_unref(rpc);
	atomic_fetch_sub(&grpc->busy, 1);
}

static bool give(struct rpc *rpc)
{
	atomic_fetch_add(&rpc->refs, 1);
	atomic_fetch_add(&rpc->grpc->busy, 1);
	if (api_pool_give(rpc->grpc->pool, run_elsewhere, rpc, rpc->has_thread))
		return true;
	atomic_fetch_sub(&rpc->grpc->busy, 1);
	atomic_fetch_sub(&rpc->refs, 1);
	return false;
}

/* On this thread when that takes no time, else on another. */
static void dispatch(struct rpc *rpc)
{
	struct api_grpc *grpc = rpc->grpc;
	atomic_store_explicit(&rpc->expires_us, INT64_MAX, memory_order_relaxed);
	bool quick = (rpc->route->method->flags & API_QUICK) && grpc->config.inline_quick;
	int64_t began = quick ? duct_mono_us() : 0;
	if (quick && began >= grpc->slow_until_us && grpc_byte_buffer_length(rpc->in) <= LARGE_MESSAGE) {
		rpc_run(rpc);
		int64_t now = duct_mono_us();
		if (now - began > SLOW_US)
			grpc->slow_until_us = now + AVOID_SLOW_US;
		return;
	}
	if (!give(rpc))
		rpc_end(rpc, API_RESOURCE_EXHAUSTED,
			rpc->has_thread ? "too many calls stream or wait already (DUCTSTREAM_GRPC_MAX_STREAMS)"
					: "too many calls wait for a thread already: try again later");
}

/* ---- from the client */

static void refuse(struct rpc *rpc, enum api_code code)
{
	char *peer = grpc_call_get_peer(rpc->core);
	AUTO_FREE char *method =
		duct_xstrndup((const char *)GRPC_SLICE_START_PTR(rpc->details.method), GRPC_SLICE_LENGTH(rpc->details.method));
	api_auth_log_refusal(rpc->grpc->config.auth, "grpc", peer, method, code);
	gpr_free(peer);
	rpc_end(rpc, code, rpc->call.message);
}

/* The name in the client's certificate, copied into the arena; NULL: it has none. */
static const char *certificate_name(struct rpc *rpc)
{
	static const char *const properties[] = {GRPC_X509_CN_PROPERTY_NAME, GRPC_X509_SAN_PROPERTY_NAME};
	const char *name = NULL;
	grpc_auth_context *context = grpc_call_auth_context(rpc->core);
	for (size_t i = 0; i < DUCT_LEN(properties) && !name; i++) {
		grpc_auth_property_iterator at = grpc_auth_context_find_properties_by_name(context, properties[i]);
		const grpc_auth_property *found = grpc_auth_property_iterator_next(&at);
		if (found && found->value_length && !memchr(found->value, 0, found->value_length)) {
			char *copy = duct_arena_alloc(&rpc->arena, found->value_length + 1);
			memcpy(copy, found->value, found->value_length);
			copy[found->value_length] = 0;
			name = copy;
		}
	}
	grpc_auth_context_release(context);
	return name;
}

/* The value of that metadata; *ret_twice when it is there more than once: then it is the last one. */
static const grpc_slice *metadata(const struct rpc *rpc, const char *key, bool *ret_twice)
{
	const grpc_slice *found = NULL;
	*ret_twice = false;
	for (size_t i = 0; i < rpc->metadata.count; i++)
		if (grpc_slice_str_cmp(rpc->metadata.metadata[i].key, key) == 0) {
			*ret_twice = found != NULL;
			found = &rpc->metadata.metadata[i].value;
		}
	return found;
}

static enum api_code identify(struct rpc *rpc)
{
	const char *why, *cn = rpc->grpc->certificates ? certificate_name(rpc) : NULL;
	bool twice;
	const grpc_slice *header = metadata(rpc, "authorization", &twice);
	if (twice)
		return api_fail(&rpc->call, API_UNAUTHENTICATED, "authorization is given twice");
	enum api_code code = api_auth_identify(rpc->grpc->config.auth, header ? (const char *)GRPC_SLICE_START_PTR(*header) : NULL,
					       header ? GRPC_SLICE_LENGTH(*header) : 0, cn, &rpc->who, &why);
	return code ? api_fail(&rpc->call, code, "%s", why) : API_OK;
}

static enum api_code may_call(struct rpc *rpc)
{
	enum api_role needed = rpc->special ? rpc->special->role : rpc->route->method->role;
	if (needed == API_NOBODY) {
		snprintf(rpc->who.name, sizeof rpc->who.name, "nobody");
		return API_OK;
	}
	enum api_code code = identify(rpc);
	if (code || rpc->who.role >= needed)
		return code;
	return rpc->special
		? api_fail(&rpc->call, API_PERMISSION_DENIED, "%s needs the role %s", rpc->special->path + 1, api_role_name(needed))
		: api_route_allow(rpc->route, &rpc->call);
}

static void give_thread(struct rpc *rpc)
{
	pthread_condattr_t attr;
	rpc->has_thread = true;
	pthread_mutex_init(&rpc->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&rpc->written, &attr);
	pthread_condattr_destroy(&attr);
	if (rpc->route->method->flags & API_STREAM)
		rpc->call.send = rpc_send;
}

static int64_t deadline_us(gpr_timespec deadline)
{
	if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) >= 0)
		return INT64_MAX;
	gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
	return duct_mono_us() + left.tv_sec * 1000000 + left.tv_nsec / 1000;
}

static void open_call(struct rpc *rpc)
{
	struct api_grpc *grpc = rpc->grpc;
	rpc->older = grpc->open;
	if (grpc->open)
		grpc->open->newer = rpc;
	grpc->open = rpc;
}

/* Only who waits has to hear of a cancellation before the end: the others save a batch. */
static void await_close(struct rpc *rpc)
{
	grpc_op op;
	memset(&op, 0, sizeof op);
	bool ok = start(rpc, &op, put_close(rpc, &op), RPC_CLOSED);
	assert(ok); /* the first batch of a call that the library has just handed out */
	(void)ok;
}

static void begin_trace(struct rpc *rpc)
{
	bool twice;
	const grpc_slice *from = duct_trace_on() && !rpc->special ? metadata(rpc, "traceparent", &twice) : NULL;
	if (!rpc->special)
		api_trace_begin(&rpc->call, from && !twice ? (const char *)GRPC_SLICE_START_PTR(*from) : NULL,
				from ? GRPC_SLICE_LENGTH(*from) : 0);
}

static void begin(struct rpc *rpc)
{
	struct api_grpc *grpc = rpc->grpc;
	const char *path = (const char *)GRPC_SLICE_START_PTR(rpc->details.method);
	size_t n = GRPC_SLICE_LENGTH(rpc->details.method);
	open_call(rpc);
	rpc->began_us = duct_mono_us();
	rpc->route = api_routes_find(grpc->routes, path, n);
	if (!rpc->route || !rpc->route->method)
		rpc->special = special_find(grpc, path, n);
	if (!rpc->special && (!rpc->route || !rpc->route->method)) {
		(void)api_fail(&rpc->call, API_UNIMPLEMENTED, "method \"%.*s\": there is none", (int)(n < 200 ? n : 200), path);
		rpc_end(rpc, API_UNIMPLEMENTED, rpc->call.message);
		return;
	}
	begin_trace(rpc);
	enum api_code code = may_call(rpc);
	if (code) {
		refuse(rpc, code);
		return;
	}
	rpc->call.deadline_us = deadline_us(rpc->details.deadline);
	if (!rpc->special && (rpc->route->method->flags & (API_STREAM | API_WAITS)))
		give_thread(rpc);
	bool quick = !rpc->special && (rpc->route->method->flags & API_QUICK);
	if (!rpc->special && !quick)
		rpc->call.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!quick)
		await_close(rpc);
	rpc_want(rpc);
}

static void close_call(struct rpc *rpc)
{
	struct api_grpc *grpc = rpc->grpc;
	atomic_store(&rpc->over, true);
	if (rpc->core_cancelled)
		rpc_interrupt(rpc);
	if (rpc->special && rpc->special->closed)
		rpc->special->closed(rpc);
	if (rpc->newer)
		rpc->newer->older = rpc->older;
	else
		grpc->open = rpc->older;
	if (rpc->older)
		rpc->older->newer = rpc->newer;
}

static void read_message(struct rpc *rpc, bool ok)
{
	if (rpc->ended || atomic_load(&rpc->over))
		return;
	if (rpc->special) {
		grpc_slice slice;
		if (!ok || !read_in(rpc, &slice)) {
			rpc->special->half_closed(rpc);
			return;
		}
		rpc->special->received(rpc, (struct api_bytes){GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice)});
		grpc_slice_unref(slice);
	} else if (!ok || !rpc->in) {
		rpc_end(rpc, API_INVALID_ARGUMENT, "the call has no message");
	} else {
		dispatch(rpc);
	}
}

static void message_written(struct rpc *rpc, bool ok)
{
	if (rpc->special) {
		grpc_byte_buffer_destroy(rpc->out);
		rpc->out = NULL;
		atomic_store(&rpc->expires_us, INT64_MAX);
		if (ok)
			rpc->special->written(rpc);
		return;
	}
	pthread_mutex_lock(&rpc->mutex);
	rpc->writing = false;
	rpc->write_failed = !ok;
	pthread_cond_signal(&rpc->written);
	pthread_mutex_unlock(&rpc->mutex);
}

void rpc_take(struct rpc *rpc, enum rpc_event event, bool ok)
{
	switch (event) {
	case RPC_NEW:
		if (ok) {
			rpc_arm(rpc->grpc);
			begin(rpc);
		}
		break;
	case RPC_CLOSED: close_call(rpc); break;
	case RPC_READ: read_message(rpc, ok); break;
	case RPC_WRITTEN: message_written(rpc, ok); break;
	case RPC_ENDED:
		if (rpc->closes_with_end)
			close_call(rpc);
		break;
	case RPC_EVENTS: break;
	}
	rpc_unref(rpc);
}
