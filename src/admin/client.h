#ifndef ADMIN_CLIENT_H
#define ADMIN_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"

/*
 * A gRPC client on libgrpc's C core: one call at a time, each waits for its answer. Threads: one. A call ends early when ctx->stop
 * is set: it is cancelled at the server and -CANCELLED.
 */
struct admin_client;

struct admin_target {
	const char *endpoint; /* "localhost:8080" */
	const char *token;    /* sent as "authorization: Bearer ..."; NULL: none */
	bool tls;
	const char *ca, *cert, *key; /* files; NULL: the system's authorities, no certificate of one's own */
	bool clear_token;	     /* the token may be sent without TLS to another machine, too */
};

/* Connects with the first call, so this fails only for files that cannot be read and what the target must not be. The strings are
 * borrowed for the client's life. */
int admin_client_open(struct admin_client **ret, const struct admin_target *target, const struct duct_ctx *ctx,
		      struct duct_error *err) DUCT_CHECKED;
void admin_client_close(struct admin_client *client); /* accepts NULL */

/* True when the host of the endpoint is this machine by its own name: localhost, 127.x.x.x, [::1], a unix socket. */
bool admin_endpoint_is_local(const char *endpoint);

/* Takes an answer: 0 goes on, -class ends the call with it. The bytes are valid inside. */
typedef int admin_answer_fn(void *arg, const void *data, size_t n, struct duct_error *err);

/*
 * One request, any number of answers. method: "/ductstream.v1.FlowService/GetFlow"; timeout_ms 0: no deadline. Errors by the status:
 * CONFIG for what the caller has to change (INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, PERMISSION_DENIED,
 * UNAUTHENTICATED, OUT_OF_RANGE, UNIMPLEMENTED), RETRY for what passes (UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED, RESOURCE_EXHAUSTED),
 * DATA for DATA_LOSS, CANCELLED, and FATAL for the rest. vendor_code is the status.
 */
int admin_client_call(struct admin_client *client, const char *method, const void *request, size_t n, int64_t timeout_ms,
		      admin_answer_fn *take, void *arg, struct duct_error *err) DUCT_CHECKED;

#endif
