#ifndef API_CALL_H
#define API_CALL_H

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"

/*
 * What a method of the service sees, whichever way it was called: gRPC or HTTP/JSON. A method is a function from a request to a
 * response; everything both have lives in the call's arena.
 */
struct api;
struct duct_span;

enum api_code { /* numbers of gRPC */
		API_OK = 0,
		API_CANCELLED = 1,
		API_UNKNOWN = 2,
		API_INVALID_ARGUMENT = 3,
		API_DEADLINE_EXCEEDED = 4,
		API_NOT_FOUND = 5,
		API_ALREADY_EXISTS = 6,
		API_PERMISSION_DENIED = 7,
		API_RESOURCE_EXHAUSTED = 8,
		API_FAILED_PRECONDITION = 9,
		API_ABORTED = 10,
		API_UNIMPLEMENTED = 12,
		API_INTERNAL = 13,
		API_UNAVAILABLE = 14,
		API_DATA_LOSS = 15,
		API_UNAUTHENTICATED = 16,
};
const char *api_code_name(enum api_code code);	  /* "NOT_FOUND" */
int api_code_http_status(enum api_code code);	  /* 404 */
enum api_code api_code_of(enum duct_class class); /* CONFIG: INVALID_ARGUMENT, RETRY: UNAVAILABLE, DATA: FAILED_PRECONDITION, ... */

enum api_role { API_NOBODY, API_VIEWER, API_OPERATOR, API_ADMIN };
const char *api_role_name(enum api_role role); /* "viewer" */

struct api_identity {
	char name[64]; /* "token:NAME", "cert:CN"; "local" where nobody is asked who he is */
	enum api_role role;
};

struct api_call {
	struct api *api; /* the service behind it: api.h */
	struct duct_arena *arena;
	const struct api_identity *who;
	const char *via;     /* "grpc" or "http", for the audit */
	int64_t deadline_us; /* monotonic; INT64_MAX: none */
	/* Set by the transport when the caller went away, the deadline passed or the server is shutting down; stop_fd becomes readable with it.
	 * A method that waits looks at them. stop_fd is -1 (which poll() passes over) in methods that are API_QUICK. */
	const atomic_bool *cancelled;
	int stop_fd;
	char message[1024];	/* of a failure */
	struct duct_span *span; /* trace.h; NULL: nobody traces */

	/* Streaming methods: sends one response, waits until it went out. False: the caller is gone, return. */
	bool (*send)(struct api_call *call, const ProtobufCMessage *response);
	void *transport; /* of the two lines above */
};

/* Fills the message and gives the code back: `return api_fail(call, API_NOT_FOUND, "flow \"%s\": there is none", id);` Message: as for
 * struct duct_error; no secret. api_failed: of an error that something below gave;
 * api_unusable: the same, where it cannot be the request that is wrong (CONFIG is FAILED_PRECONDITION). */
enum api_code api_fail(struct api_call *call, enum api_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum api_code api_failed(struct api_call *call, const struct duct_error *err);
enum api_code api_unusable(struct api_call *call, const struct duct_error *err);

/* request: unpacked, unknown fields ignored. response: initialised; the method fills it from the call's arena. */
typedef enum api_code api_method_fn(struct api_call *call, const void *request, void *response);

/* None of them: runs on one of a few threads, so it may do work, and wait for databases, but not for things to happen. */
enum api_method_flags {
	API_QUICK = 1 << 0,  /* never waits longer than a look at the state: may run on the thread that takes the calls */
	API_STREAM = 1 << 1, /* answers with any number of messages by call->send; has a thread of its own */
	API_WAITS = 1 << 2,  /* one answer, but waits for something to happen (a long poll): has a thread of its own */
};

struct api_method {
	const char *name;   /* "GetFlow" */
	enum api_role role; /* the least that may call it; API_NOBODY: everybody, without a token */
	unsigned flags;
	api_method_fn *run;
};

/* One per service, in its own file; the methods are found by name in the descriptor. */
struct api_service {
	const ProtobufCServiceDescriptor *descriptor; /* ductstream__v1__flow_service__descriptor */
	const struct api_method *methods;	      /* ends with a NULL name; what is not listed is UNIMPLEMENTED */
};
extern const struct api_service api_flow_service, api_ddl_service, api_checkpoint_service, api_stream_service, api_ingest_service,
	api_run_service, api_schedule_service, api_backfill_service;
extern const struct api_service *const api_services[]; /* NULL-terminated, services.c */

#endif
