/* admin_parse_flow() on any text: refused as CONFIG, or a request that the JSON mapping takes or refuses as CONFIG. */
#include <ductstream/v1/flow.pb-c.h>
#include <stdint.h>
#include <stdlib.h>

#include "admin/admin.h"
#include "api/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct duct_error err;
	struct duct_arena arena;
	ProtobufCMessage *message;
	json_t *request = admin_parse_flow((const char *)data, n, "f", false, &err);
	if (!request) {
		if (err.class != DUCT_CONFIG)
			abort();
		return 0;
	}
	duct_arena_init(&arena);
	int rc = api_json_read_parsed(&message, &ductstream__v1__create_flow_request__descriptor, &arena, request, &err);
	if (rc && rc != -DUCT_CONFIG)
		abort();
	duct_arena_done(&arena);
	json_decref(request);
	return 0;
}
