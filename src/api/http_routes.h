#ifndef API_HTTP_ROUTES_H
#define API_HTTP_ROUTES_H

#include "api/routes.h"

/*
 * From an HTTP request to the message of a method, and back from a method to its HTTP paths. Two ways lead to a method:
 *
 *   POST /v1/SERVICE/METHOD          every method; the body is the request message as JSON (api/json.h): POST /v1/FlowService/GetFlow
 *   http_resources                   the main ones by what they are about: GET /v1/flows/{flow_id}
 *
 * One rule for the second: the body (POST, PUT) or the query (GET, DELETE) is the request message, and what stands in braces in the path is a
 * field of it. A field in two of these places must be the same in both. In a query, a list is a repeated name, a map is name.key=value, a
 * field of a message inside is name.field=value. Connection strings are not taken from a query: those are written down in too many places.
 */
struct http_resource {
	const char *verb, *pattern; /* "GET", "/v1/flows/{flow_id}:start" */
	const char *method;	    /* "FlowService/GetFlow" */
};
extern const struct http_resource http_resources[]; /* ends with a NULL verb */

struct http_match {
	const struct api_route *route;
	const struct http_resource *resource; /* NULL: the general way */
	const char *path;		      /* as asked for, without the query */
	size_t path_len;
	const char *query; /* "" when there is none */
	bool body;	   /* is the request in the body? */
};

enum http_found { HTTP_FOUND, HTTP_NO_SUCH_PATH, HTTP_NO_SUCH_VERB };

/* target: of the request line, as it came (not decoded); it must outlive the match. HTTP_NO_SUCH_VERB: ret_allow has the verbs that there
 * are. HEAD is a GET. */
enum http_found http_route_find(const struct api_routes *routes, const char *verb, const char *target, struct http_match *ret,
				char ret_allow[64]);

/* The request message from path, query and body (n bytes, n may be 0). CONFIG names the field. */
int http_route_request(const struct http_match *match, const char *body, size_t n, struct duct_arena *arena, ProtobufCMessage **ret,
		       struct duct_error *err) DUCT_CHECKED;

#endif
