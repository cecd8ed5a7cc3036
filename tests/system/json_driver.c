/*
 * src/api/json.h for tests/system/test_json_mapping.py: one request a line, one answer a line. Message: "every.Every", or a message of
 * ductstream.v1.
 *
 *   write MESSAGE FLAGS HEX     the wire format as JSON
 *   read MESSAGE JSON           JSON as wire format in hex, or "error TEXT"
 *   maps MESSAGE                its fields that count as maps
 */
#include <stdio.h>
#include <string.h>

#include <json_every.pb-c.h>

#include <ductstream/v1/flow.pb-c.h>
#include <ductstream/v1/run.pb-c.h>
#include <ductstream/v1/schedule.pb-c.h>
#include <ductstream/v1/stream.pb-c.h>

#include "api/json.h"
#include "base/hex.h"

static const ProtobufCMessageDescriptor *const messages[] = {
	&every__every__descriptor,
	&every__pairs_entry__descriptor,
	&ductstream__v1__flow__descriptor,
	&ductstream__v1__endpoint__descriptor,
	&ductstream__v1__checkpoint__descriptor,
	&ductstream__v1__create_flow_request__descriptor,
	&ductstream__v1__cleanup_flow_request__descriptor,
	&ductstream__v1__list_replication_slots_request__descriptor,
	&ductstream__v1__run__descriptor,
	&ductstream__v1__run_event__descriptor,
	&ductstream__v1__schedule__descriptor,
	&ductstream__v1__stream_pull_response__descriptor,
	&ductstream__v1__ddlevent__descriptor,
};

static const ProtobufCMessageDescriptor *find(const char *name)
{
	for (size_t i = 0; i < DUCT_LEN(messages); i++)
		if (strcmp(messages[i]->name, name) == 0)
			return messages[i];
	return NULL;
}

static void do_write(const ProtobufCMessageDescriptor *d, const char *flags, const char *hex)
{
	size_t n = strlen(hex) / 2;
	AUTO_FREE uint8_t *wire = duct_xmalloc(n + 1);
	AUTO_BUF struct duct_buf text = {0};
	for (size_t i = 0; i < n; i++)
		wire[i] = (uint8_t)(duct_hex_digit(hex[2 * i]) << 4 | duct_hex_digit(hex[2 * i + 1]));
	ProtobufCMessage *message = protobuf_c_message_unpack(d, NULL, n, wire);
	if (!message) {
		puts("error unpack");
		return;
	}
	api_json_write(&text, message, (unsigned)atoi(flags));
	puts(text.data);
	protobuf_c_message_free_unpacked(message, NULL);
}

static void do_read(const ProtobufCMessageDescriptor *d, const char *json)
{
	struct duct_arena arena;
	struct duct_error err;
	ProtobufCMessage *message;
	duct_arena_init(&arena);
	if (api_json_read(&message, d, &arena, json, strlen(json), &err))
		printf("error %s\n", err.message);
	else {
		size_t n = protobuf_c_message_get_packed_size(message);
		AUTO_FREE uint8_t *wire = duct_xmalloc(n + 1);
		protobuf_c_message_pack(message, wire);
		for (size_t i = 0; i < n; i++)
			printf("%02x", wire[i]);
		puts("");
	}
	duct_arena_done(&arena);
}

static void do_maps(const ProtobufCMessageDescriptor *d)
{
	for (unsigned i = 0; i < d->n_fields; i++)
		if (api_json_is_map(d, &d->fields[i]))
			printf("%s ", d->fields[i].name);
	puts("");
}

int main(void)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	while ((n = getline(&line, &cap, stdin)) > 0) {
		line[n - 1] = 0;
		char *rest = line, *verb = strsep(&rest, " "), *name = strsep(&rest, " ");
		const ProtobufCMessageDescriptor *d = find(name);
		if (!d)
			puts("error no such message");
		else if (strcmp(verb, "write") == 0) {
			char *flags = strsep(&rest, " ");
			do_write(d, flags, rest ? rest : "");
		} else if (strcmp(verb, "read") == 0)
			do_read(d, rest);
		else
			do_maps(d);
		fflush(stdout);
	}
	free(line);
	return 0;
}
