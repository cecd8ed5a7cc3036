#ifndef API_GRPC_INTERNAL_H
#define API_GRPC_INTERNAL_H

#include <pthread.h>

#include "api/api.h"
#include "api/grpc_server.h"
#include "api/pool.h"
#include "api/reflection.h"
#include "api/routes.h"
#include "net/grpc_api.h"

/*
 * A call (struct rpc) is owned by the thread that takes events until it is handed to a worker, which then answers it. Each batch that is
 * under way holds a reference, so does a worker.
 */
enum rpc_event { RPC_NEW, RPC_CLOSED, RPC_READ, RPC_WRITTEN, RPC_ENDED, RPC_EVENTS };

struct rpc;
struct rpc_tag { /* what comes back from the completion queue */
	enum rpc_event event;
	struct rpc *rpc; /* NULL: not of a call */
};

/* Methods that wait for events without a thread: health's Watch and reflection. All of it runs on the thread that takes events. */
struct rpc_special {
	const char *path;
	enum api_role role;
	void (*received)(struct rpc *rpc, struct api_bytes message);
	void (*half_closed)(struct rpc *rpc); /* the client sends no more */
	void (*written)(struct rpc *rpc);
	void (*closed)(struct rpc *rpc); /* may be NULL */
};

struct rpc {
	struct api_call call;
	struct api_grpc *grpc;
	grpc_call *core;
	grpc_call_details details;
	grpc_metadata_array metadata;
	struct rpc_tag tags[RPC_EVENTS];
	atomic_int refs;

	const struct api_route *route;
	const struct rpc_special *special;
	struct api_identity who;
	int64_t began_us;
	struct duct_arena arena;
	grpc_byte_buffer *in, *out, *last;
	grpc_slice details_sent;
	bool sent_metadata, ended, awaits_close, closes_with_end;

	int core_cancelled; /* written by the library before RPC_CLOSED */
	atomic_bool cancelled;
	atomic_bool over;	     /* RPC_CLOSED has come because the call ended, by whichever side */
	_Atomic(int64_t) expires_us; /* when the client is given up, INT64_MAX: it is not waited for */
	struct rpc *newer, *older;   /* all calls that are open */

	/* A method with a thread of its own, while it waits until a message went out. */
	bool has_thread;
	pthread_mutex_t mutex;
	pthread_cond_t written;
	bool writing, write_failed;

	/* Watch. */
	char *watched;
	int last_status;
	struct rpc *next_watcher;
};

struct api_grpc {
	struct api_grpc_config config;
	const struct duct_log *log;
	grpc_server *core;
	grpc_completion_queue *cq;
	struct grpc_tls *tls;
	struct api_routes *routes;
	const char **names; /* of all services, for reflection */
	pthread_t thread;
	bool certificates;

	/* Of the thread that takes events. */
	struct rpc *open;
	struct rpc *watchers;
	size_t nwatchers;
	int64_t next_tick_us, next_look_us;
	int64_t slow_until_us; /* quick methods go to the workers meanwhile: the state was slow */
	int64_t cancel_at_us, leave_at_us;
	bool draining, cancelled_all, is_down, stuck;
	struct rpc_tag down;

	atomic_bool stopping, woken;
	int drain_ms;

	struct api_pool *pool;
	atomic_int busy; /* calls that workers have */
};

enum { RPC_PATIENCE_US = 60 * 1000000 };

/* ---- grpc_call.c */

/* Asks the library for the next call. */
void rpc_arm(struct api_grpc *grpc);
void rpc_take(struct rpc *rpc, enum rpc_event event, bool ok);
void rpc_unref(struct rpc *rpc);
/* Unpacks the message, runs the method, answers. Any thread; the caller owns the call. */
void rpc_run(struct rpc *rpc);
/* Ends the call with a status; code API_OK: after a message that was already sent, or none. */
void rpc_end(struct rpc *rpc, enum api_code code, const char *message);
/* Sends one message of a special method; RPC_WRITTEN comes when it went out. */
void rpc_put(struct rpc *rpc, struct api_bytes message);
/* Asks for the next message. */
void rpc_want(struct rpc *rpc);
/* Sets cancelled, and wakes what waits for it. */
void rpc_interrupt(struct rpc *rpc);

/* ---- grpc_special.c */

/* NULL: it is none of them. */
const struct rpc_special *special_find(const struct api_grpc *grpc, const char *path, size_t n);
void special_wake_watchers(struct api_grpc *grpc);

/* ---- grpc_tls.c */

struct grpc_tls;
int grpc_tls_open(struct grpc_tls **ret, const struct api_grpc_config *config, struct duct_error *err) DUCT_CHECKED;
grpc_server_credentials *grpc_tls_credentials(struct grpc_tls *tls);
void grpc_tls_free(struct grpc_tls *tls); /* accepts NULL; no handshake may be under way */

#endif
