#ifndef API_HTTP_SERVER_H
#define API_HTTP_SERVER_H

#include "api/auth.h"
#include "api/listen.h"

/*
 * The HTTP listener, on libmicrohttpd: the methods of api_services as JSON (paths: http_routes.h, JSON: json.h), /metrics, /openapi.json,
 * /healthz and /readyz. One thread per address takes what happens on its connections; quick methods run on it, others on a few threads, and
 * those that stream or wait on a thread each: nobody waits for a slow call or client.
 *
 * Who calls is asked as for gRPC (auth.h): `Authorization: Bearer TOKEN`, or the client's certificate. Only /healthz and /readyz are open.
 * Pages of other sites cannot use a browser to call: a request with an Origin other than its Host is refused, so is a body that is
 * not application/json, and, while nobody is asked who he is, a Host that is a name other than localhost.
 */
struct api_http;

struct api_http_config {
	struct api *api;
	struct api_auth *auth;
	const struct duct_log *log;
	const struct api_service *const *services;
	const char *address;		  /* DUCTSTREAM_HTTP_LISTEN */
	const char *cert_file, *key_file; /* NULL: no TLS */
	const char *client_ca_file;	  /* NULL: clients show no certificate */
	bool inline_quick;		  /* as for gRPC */
	size_t max_body_bytes;
	int threads, max_streams;
	int max_connections;
	int request_timeout_ms; /* for a request to come in, and for its answer to be taken */
};

/* Binds, and serves until api_http_stop(). What config points to outlives it. CONFIG: the address is no address, is in use, or has to be
 * protected; a certificate that cannot be used. */
int api_http_start(struct api_http **ret, const struct api_http_config *config, struct duct_error *err) DUCT_CHECKED;

/* The port of its first address. */
int api_http_port(const struct api_http *http);

/* Takes no more requests, ends those that stream, lets the others end for drain_ms, cancels them then, and frees everything. False: a method
 * did not return in time; nothing is freed, and the process has to end. Accepts NULL. */
bool api_http_stop(struct api_http *http, int drain_ms);

#endif
