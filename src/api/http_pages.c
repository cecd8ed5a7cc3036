/* What is served besides the methods. */
#include <string.h>

#include "api/http_internal.h"
#include "api/metrics.h"
#include "api/openapi.h"

static int fill_healthz(struct api_http *http, struct duct_buf *to)
{
	(void)http;
	duct_buf_puts(to, "ok\n");
	return MHD_HTTP_OK;
}

static int unready(struct duct_buf *to, const char *why)
{
	duct_buf_puts(to, "{\"code\":14,\"status\":\"UNAVAILABLE\",\"message\":");
	duct_buf_json_string(to, why, strlen(why));
	duct_buf_puts(to, "}\n");
	return MHD_HTTP_SERVICE_UNAVAILABLE;
}

/* The state is asked, whatever it said last. */
static int fill_readyz(struct api_http *http, struct duct_buf *to)
{
	struct duct_error err = {0};
	struct api *api = http->config.api;
	if (atomic_load(&http->draining))
		return unready(to, "the server is shutting down");
	struct state_db *db = state_lend(api->state, &err);
	int64_t rc = db ? STATE_RUN(db, "SELECT 1", NULL, NULL, &err) : -1;
	state_return(api->state, db);
	if (rc < 0)
		return unready(to, err.message);
	duct_buf_puts(to, "ok\n");
	return MHD_HTTP_OK;
}

static int fill_metrics(struct api_http *http, struct duct_buf *to)
{
	api_metrics_write(http->config.api, to);
	return MHD_HTTP_OK;
}

static int fill_openapi(struct api_http *http, struct duct_buf *to)
{
	api_openapi(to, http->config.services);
	return MHD_HTTP_OK;
}

static const struct http_page pages[] = {
	{.path = "/healthz", .content_type = "text/plain; charset=utf-8", .role = API_NOBODY, .fill = fill_healthz},
	{.path = "/readyz", .content_type = "text/plain; charset=utf-8", .role = API_NOBODY, .works = true, .fill = fill_readyz},
	{.path = "/metrics",
	 .content_type = "text/plain; version=0.0.4; charset=utf-8",
	 .role = API_VIEWER,
	 .works = true,
	 .fill = fill_metrics},
	{.path = "/openapi.json", .content_type = "application/json", .role = API_VIEWER, .works = true, .fill = fill_openapi},
	{0},
};

const struct http_page *http_page_find(const char *target, size_t n)
{
	for (const struct http_page *page = pages; page->path; page++)
		if (strlen(page->path) == n && memcmp(page->path, target, n) == 0)
			return page;
	return NULL;
}
