#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "api/call.h"

/* The methods of some services by their gRPC path. Read only after it was made, so any thread may look. */
struct api_route {
	char *path;	  /* "/ductstream.v1.FlowService/GetFlow" */
	const char *name; /* of the service, in its package: "FlowService" */
	const struct api_service *service;
	const struct api_method *method; /* NULL: in the descriptor, but not served */
	const ProtobufCMessageDescriptor *input, *output;
};
struct api_routes;

/* services: NULL-terminated lists, themselves NULL-terminated. */
struct api_routes *api_routes_new(const struct api_service *const *const *lists);
void api_routes_free(struct api_routes *routes);

/* NULL: there is none. */
const struct api_route *api_routes_find(const struct api_routes *routes, const char *path, size_t n);

/* Who may call it: reflection is left to reflection.h. Fills the call's message when he may not. */
enum api_code api_route_allow(const struct api_route *route, struct api_call *call);

#endif
