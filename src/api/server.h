#ifndef API_SERVER_H
#define API_SERVER_H

#include "base/ctx.h"
#include "base/error.h"
#include "options/service.h"

/*
 * The API server: state, listeners, and what runs beside them, from the settings until ctx->stop. A stop lets calls that are under way
 * end (10 s at most). Returns 0 after it, or -class when the server could not begin.
 */
int api_server_run(const struct service_settings *settings, const struct duct_ctx *ctx, struct duct_error *err) DUCT_CHECKED;

#endif
