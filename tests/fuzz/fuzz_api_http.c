/* Any request line and body (VERB TARGET BODY, split at the first two spaces): no path, no verb, refused as CONFIG, or a message. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/api_services.h"
#include "api/http_internal.h"
#include "base/mem.h"

static void route(const struct api_routes *routes, const char *verb, const char *target, const char *body)
{
	struct http_match match;
	struct duct_arena arena;
	struct duct_error err = {0};
	ProtobufCMessage *message = NULL;
	char allow[64];
	enum http_found found = http_route_find(routes, verb, target, &match, allow);
	if ((found == HTTP_NO_SUCH_VERB) != (*allow && found != HTTP_FOUND))
		abort();
	if (found != HTTP_FOUND)
		return;
	duct_arena_init(&arena);
	int rc = http_route_request(&match, body, strlen(body), &arena, &message, &err);
	if (rc ? err.class != DUCT_CONFIG || !err.message[0] : message->descriptor != match.route->input)
		abort();
	duct_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct api_routes *routes;
	int64_t us;
	if (!routes)
		routes = api_routes_new(test_lists);
	char *text = duct_xmalloc(size + 1), *rest = text;
	memcpy(text, data, size);
	text[size] = 0;
	const char *verb = strsep(&rest, " "), *target = rest ? strsep(&rest, " ") : "";
	route(routes, verb, target, rest ? rest : "");
	(void)http_parse_timeout(verb, size % 2, &us);
	(void)http_host_is_local(target);
	free(text);
	return 0;
}
