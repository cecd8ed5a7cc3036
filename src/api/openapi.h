#ifndef API_OPENAPI_H
#define API_OPENAPI_H

#include "api/call.h"
#include "base/buf.h"
#include "cli/cli.h"

/* The API in the form of OpenAPI 3.1, made from the descriptors and the comments in the .proto files. */
void api_openapi(struct duct_buf *to, const struct api_service *const *services);

/* `ductstream openapi`: prints it. */
extern const struct cli_command api_openapi_command;

#endif
