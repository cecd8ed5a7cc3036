#ifndef NET_RPC_H
#define NET_RPC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "base/error.h"

/*
 * A gRPC client on libgrpc's C core: one call at a time, each waits for its answer. Threads: one at a time. A call ends early when ctx->stop
 * is set: it is cancelled at the server and -CANCELLED. libgrpc is opened by the first client (net/grpc_api.h).
 */
struct rpc_client;

/* What messages call the settings of a target, and what they advise; whole phrases. */
struct rpc_words {
	const char *ca, *cert, *key; /* 'flag "--tls-ca"' */
	const char *both;	     /* 'flags "--tls-cert" and "--tls-key"' */
	const char *use_tls;	     /* "add --tls (and --tls-ca FILE)" */
	const char *no_tls;	     /* "leave --tls away" */
	const char *name_ca;	     /* "name its authority with --tls-ca" */
	const char *clear;	     /* what to do instead of sending the token in the clear */
	const char *unreachable;     /* what to do when nobody is there */
	const char *give_time;	     /* "--timeout gives it longer" */
	const char *give_token;	     /* where a token comes from */
};

struct rpc_header {
	const char *name, *value; /* name: lower case */
};

struct rpc_target {
	const char *endpoint; /* "localhost:8080" */
	const char *token;    /* sent as "authorization: Bearer ..."; NULL: none */
	bool tls;
	const char *ca, *cert, *key;	  /* files; NULL: the system's authorities, no certificate of one's own */
	const char *server_name;	  /* that the certificate has; NULL: the endpoint's */
	bool clear_token;		  /* the token may be sent without TLS to another machine, too */
	const struct rpc_header *headers; /* of every call */
	size_t nheaders;
	const char *agent; /* who calls: "ductstream-admin" */
	const struct rpc_words *words;
};

/* What libgrpc reads from the environment; at the start of a program, before it has threads. */
void rpc_environment(void);

/* Connects with the first call, so this fails only for files that cannot be read and what the target must not be. The strings are
 * borrowed for the client's life. */
int rpc_open(struct rpc_client **ret, const struct rpc_target *target, const struct duct_ctx *ctx,
	     struct duct_error *err) DUCT_CHECKED;
void rpc_close(struct rpc_client *client); /* accepts NULL */

/* True when the host of the endpoint is this machine by its own name: localhost, 127.x.x.x, [::1], a unix socket. */
bool rpc_endpoint_is_local(const char *endpoint);

/* Makes stars of the token and the values of headers, where a server's words have them. */
void rpc_hide_secrets(const struct rpc_target *target, char *text);

/* Takes an answer: 0 goes on, -class ends the call with it. The bytes are valid inside. */
typedef int rpc_answer_fn(void *arg, const void *data, size_t n, struct duct_error *err);

/*
 * One request, any number of answers. method: "/ductstream.v1.FlowService/GetFlow"; timeout_ms 0: no deadline. Errors by the status:
 * CONFIG for what the caller has to change (INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, PERMISSION_DENIED,
 * UNAUTHENTICATED, OUT_OF_RANGE, UNIMPLEMENTED), RETRY for what passes (UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED, RESOURCE_EXHAUSTED,
 * CANCELLED by the server), DATA for DATA_LOSS, CANCELLED after a stop, and FATAL for the rest. vendor_code is the status. What the server says is in
 * the message, without the token and the values of headers that it may repeat.
 */
int rpc_call(struct rpc_client *client, const char *method, const void *request, size_t n, int64_t timeout_ms, rpc_answer_fn *take,
	     void *arg, struct duct_error *err) DUCT_CHECKED;

#endif
