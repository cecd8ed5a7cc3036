#ifndef API_GRPC_SERVER_H
#define API_GRPC_SERVER_H

#include "api/auth.h"
#include "api/listen.h"

/*
 * The gRPC listener, on libgrpc's C core. One thread takes what happens on all connections (a completion queue); quick methods run on
 * it, others on a few threads, and those that stream or wait on a thread each. Nobody waits for a client: a call whose message does not
 * come, or whose answer is not taken, is cancelled after a minute.
 *
 * Memory: what one call unpacks and answers lies in its arena. What comes from clients at the same time is bounded by the number of calls
 * that work, the largest message and the library's quota; connections are bounded by the descriptors of the process.
 */
struct api_grpc;

struct api_grpc_config {
	struct api *api;
	struct api_auth *auth;
	const struct duct_log *log;
	const struct api_service *const *services; /* health and reflection come with them */
	const char *address;			   /* DUCTSTREAM_GRPC_LISTEN */
	const char *cert_file, *key_file;	   /* NULL: no TLS */
	const char *client_ca_file;		   /* NULL: clients show no certificate */
	bool reflection;
	bool inline_quick; /* methods that are API_QUICK run on the thread that takes the calls: the state is a file of this machine */
	size_t max_message_bytes, max_response_bytes;
	int threads, max_streams;
};

/* Binds, and serves until api_grpc_stop(). What config points to outlives it. CONFIG: the address is no address, is in use, or has to be
 * protected; a certificate that cannot be used. */
int api_grpc_start(struct api_grpc **ret, const struct api_grpc_config *config, struct duct_error *err) DUCT_CHECKED;

/* Tells those that watch the health that it has changed; within a tenth of a second. */
void api_grpc_wake(struct api_grpc *grpc);

/* Takes no more calls, tells those that wait to end, lets the others end for drain_ms, cancels them then, and frees everything.
 * False: a method did not return in time; nothing is freed, and the process has to end. */
bool api_grpc_stop(struct api_grpc *grpc, int drain_ms);

#endif
