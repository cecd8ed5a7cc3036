/* api_json_read() on any text, as two messages: refused as CONFIG, or a message that is written and read back as the same text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ductstream/v1/flow.pb-c.h>
#include <ductstream/v1/run.pb-c.h>

#include "api/json.h"

static void read_as(const ProtobufCMessageDescriptor *d, const char *text, size_t n)
{
	struct duct_arena arena;
	struct duct_error err = {0};
	struct duct_buf once = {0}, again = {0};
	ProtobufCMessage *message = NULL, *second = NULL;
	duct_arena_init(&arena);
	if (api_json_read(&message, d, &arena, text, n, &err)) {
		if (err.class != DUCT_CONFIG || !err.message[0] || message)
			abort();
	} else {
		api_json_write(&once, message, 0);
		if (api_json_read(&second, d, &arena, once.data, once.len, &err))
			abort();
		api_json_write(&again, second, 0);
		if (strcmp(once.data, again.data) != 0)
			abort();
	}
	duct_buf_done(&once);
	duct_buf_done(&again);
	duct_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_as(&ductstream__v1__create_flow_request__descriptor, (const char *)data, size);
	read_as(&ductstream__v1__run__descriptor, (const char *)data, size);
	return 0;
}
