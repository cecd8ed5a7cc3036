/* Parts of src/api without a network: tokens, addresses, memory, descriptors, health, settings (issue 5, points 1 and 2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ductstream/v1/flow.pb-c.h>

#include "api/api.h"
#include "api/auth.h"
#include "api/listen.h"
#include "api/memory.h"
#include "api/reflection.h"
#include "api/routes.h"
#include "base/buf.h"
#include "options/service.h"

/* ---- tokens */

#define LONG_TOKEN "0123456789abcdef-viewer"

static void tokens_of_a_file(void **state)
{
	(void)state;
	static const char text[] = "# who\r\n"
				   "\n"
				   "  ci\toperator   0123456789abcdef-ci\r\n"
				   "look viewer sha256:9F86D081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n"
				   "root admin 0123456789abcdef-root";
	struct api_token *tokens;
	size_t n;
	struct duct_error err;
	assert_int_equal(api_tokens_parse(&tokens, &n, text, sizeof text - 1, "tokens", &err), 0);
	assert_int_equal(n, 3);
	assert_string_equal(tokens[0].name, "ci");
	assert_int_equal(tokens[0].role, API_OPERATOR);
	assert_int_equal(tokens[1].role, API_VIEWER);
	assert_int_equal(tokens[1].digest[0], 0x9f);
	assert_int_equal(tokens[1].digest[31], 0x08);
	assert_int_equal(tokens[2].role, API_ADMIN);
	free(tokens);
}

static void bad_lines_are_named_and_not_shown(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"ci operator", "t:1: a line is NAME ROLE TOKEN, with spaces between them"},
		{"\n\nci operator hunter2hunter2hunter2 more", "t:3: a line is NAME ROLE TOKEN, with spaces between them"},
		{"hunter2hunter2hunter2 ci operator", "t:1: the second word is a role: viewer, operator or admin"},
		{"c/i operator hunter2hunter2", "t:1: a name has at most 47 letters, digits, and characters of ._-@"},
		{"ci operator hunter2",
		 "t:1: the token is shorter than 16 characters, longer than 1,024, or has one that is not printable ASCII"},
		{"ci operator hunter2hunter2\x80hunter2",
		 "t:1: the token is shorter than 16 characters, longer than 1,024, or has one that is not printable ASCII"},
		{"ci operator sha256:00", "t:1: sha256: is followed by 64 hexadecimal digits"},
		{"a viewer hunter2hunter2hunter2\na viewer hunter2hunter2hunter3", "t:2: the name is given twice"},
		{"a viewer hunter2hunter2hunter2\nb admin hunter2hunter2hunter2", "t:2: the token is given twice"},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		struct api_token *tokens;
		size_t n;
		struct duct_error err;
		assert_int_equal(api_tokens_parse(&tokens, &n, cases[i].text, strlen(cases[i].text), "t", &err), -DUCT_CONFIG);
		assert_string_equal(err.message, cases[i].message);
		assert_null(strstr(err.message, "hunter2"));
	}
}

static void bearer_headers(void **state)
{
	(void)state;
	size_t n;
	const char *token = api_bearer_token("Bearer  abc ", 12, &n);
	assert_non_null(token);
	assert_memory_equal(token, "abc", n);
	assert_int_equal(n, 3);
	assert_non_null(api_bearer_token("bEARER x", 8, &n));
	assert_null(api_bearer_token("Bearer", 6, &n));
	assert_null(api_bearer_token("Bearer ", 7, &n));
	assert_null(api_bearer_token("Bearer   ", 9, &n));
	assert_null(api_bearer_token("Basic abc", 9, &n));
	assert_null(api_bearer_token("Bearerabc", 9, &n));
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	unlink(path);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(chmod(path, mode), 0);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static enum api_code identify(struct api_auth *auth, const char *header, const char *cn, struct api_identity *ret)
{
	const char *why;
	memset(ret, 0, sizeof *ret);
	return api_auth_identify(auth, header, header ? strlen(header) : 0, cn, ret, &why);
}

static void who_calls(void **state)
{
	(void)state;
	char path[] = "/tmp/duct-tokens-XXXXXX";
	struct duct_error err;
	struct api_auth *auth;
	struct api_identity who;
	assert_true(close(mkstemp(path)) == 0);
	write_file(path, "look viewer " LONG_TOKEN "\n", 0644);
	struct api_auth_config config = {.tokens_file = path, .token = "secret-of-the-environment", .token_role = API_OPERATOR};
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "may be read by others (mode 0644)"));
	write_file(path, "# none yet\n", 0600);
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), -DUCT_CONFIG);
	write_file(path, "look viewer " LONG_TOKEN "\n", 0600);
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), 0);
	assert_true(api_auth_has_tokens(auth));
	assert_int_equal(identify(auth, "Bearer " LONG_TOKEN, NULL, &who), API_OK);
	assert_string_equal(who.name, "token:look");
	assert_int_equal(who.role, API_VIEWER);
	assert_int_equal(identify(auth, "Bearer secret-of-the-environment", NULL, &who), API_OK);
	assert_string_equal(who.name, "token:env");
	assert_int_equal(who.role, API_OPERATOR);
	assert_int_equal(identify(auth, "Bearer secret-of-the-environmenT", NULL, &who), API_UNAUTHENTICATED);
	assert_int_equal(identify(auth, "Bearer " LONG_TOKEN "x", NULL, &who), API_UNAUTHENTICATED);
	assert_int_equal(identify(auth, LONG_TOKEN, NULL, &who), API_UNAUTHENTICATED);
	assert_int_equal(identify(auth, NULL, NULL, &who), API_UNAUTHENTICATED);
	assert_int_equal(identify(auth, NULL, "client", &who), API_UNAUTHENTICATED); /* no certificate was verified */
	api_auth_free(auth);
	unlink(path);
}

static void certificates_have_roles(void **state)
{
	(void)state;
	struct duct_error err;
	struct api_auth *auth;
	struct api_identity who;
	struct api_auth_config config = {.certificates = true, .mtls_roles = "ops=operator,a=b=admin"};
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), 0);
	assert_int_equal(identify(auth, NULL, "ops", &who), API_OK);
	assert_string_equal(who.name, "cert:ops");
	assert_int_equal(who.role, API_OPERATOR);
	assert_int_equal(identify(auth, NULL, "a=b", &who), API_OK);
	assert_int_equal(who.role, API_ADMIN);
	assert_int_equal(identify(auth, NULL, "somebody", &who), API_OK);
	assert_int_equal(who.role, API_VIEWER);
	assert_int_equal(identify(auth, NULL, NULL, &who), API_UNAUTHENTICATED);
	api_auth_free(auth);
	config.mtls_roles = "ops=king";
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), -DUCT_CONFIG);
	config = (struct api_auth_config){.mtls_roles = "ops=admin"};
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), -DUCT_CONFIG);
	config = (struct api_auth_config){.token = "short"};
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), -DUCT_CONFIG);
	assert_null(strstr(err.message, "short\""));
	config = (struct api_auth_config){0};
	assert_int_equal(api_auth_open(&auth, &config, NULL, &err), 0);
	assert_int_equal(identify(auth, "Bearer whatever", NULL, &who), API_OK);
	assert_string_equal(who.name, "local");
	assert_int_equal(who.role, API_ADMIN);
	api_auth_free(auth);
}

static void a_zero_byte_is_in_no_name(void **state)
{
	(void)state;
	struct api_token *tokens;
	size_t n;
	struct duct_error err;
	static const char text[] = "ci\0x operator 0123456789abcdef";
	assert_int_equal(api_tokens_parse(&tokens, &n, text, sizeof text - 1, "t", &err), -DUCT_CONFIG);
}

/* ---- addresses */

static void addresses(void **state)
{
	(void)state;
	static const struct {
		const char *text, *host;
		int port;
	} good[] = {
		{":8080", "", 8080},
		{"127.0.0.1:0", "127.0.0.1", 0},
		{"[::1]:65535", "::1", 65535},
		{"localhost:1", "localhost", 1},
		{"0.0.0.0:08080", "0.0.0.0", 8080},
	};
	static const char *const bad[] = {"",	     "8080", ":",    "host:", "::1:80", "[::1]", "[]:80",
					  "h:65536", "h:-1", "h:+1", "h:80 ", " h:80",	"h/x:1"};
	struct api_address address;
	for (size_t i = 0; i < DUCT_LEN(good); i++) {
		assert_true(api_address_parse(&address, good[i].text));
		assert_string_equal(address.host, good[i].host);
		assert_int_equal(address.port, good[i].port);
	}
	for (size_t i = 0; i < DUCT_LEN(bad); i++)
		assert_false(api_address_parse(&address, bad[i]));
}

static void only_loopback_is_open(void **state)
{
	(void)state;
	static const struct {
		const char *address;
		bool local;
	} cases[] = {
		{":1", true},
		{"127.0.0.1:1", true},
		{"127.9.9.9:1", true},
		{"[::1]:1", true},
		{"localhost:1", true},
		{"0.0.0.0:1", false},
		{"[::]:1", false},
		{"192.0.2.1:1", false},
		{"[2001:db8::1]:1", false},
		{"[::ffff:192.0.2.1]:1", false},
	};
	struct api_listen listen;
	struct duct_error err;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		assert_int_equal(api_listen_resolve(&listen, "X", cases[i].address, &err), 0);
		assert_int_equal(listen.local, cases[i].local);
		for (int bits = 0; bits < 8; bits++) {
			const struct api_protection with = {bits & 1, bits & 2, bits & 4};
			bool allowed = cases[i].local || with.certificates || (with.tls && with.tokens);
			int rc = api_listen_check(&listen, "X", cases[i].address, &with, &err);
			assert_int_equal(rc, allowed ? 0 : -DUCT_CONFIG);
			if (!allowed)
				assert_non_null(
					strstr(err.message, "set DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE, and"));
		}
	}
	assert_int_equal(api_listen_resolve(&listen, "X", ":8080", &err), 0);
	assert_string_equal(listen.at[0], "127.0.0.1:8080");
	assert_string_equal(listen.at[1], "[::1]:8080");
	assert_true(listen.without_host);
	assert_int_equal(api_listen_resolve(&listen, "X", "8080", &err), -DUCT_CONFIG);
	assert_int_equal(api_listen_resolve(&listen, "X", "no-such-host.invalid:1", &err), -DUCT_CONFIG);
}

/* ---- messages */

static void memory_has_a_limit(void **state)
{
	(void)state;
	struct duct_arena arena;
	struct api_memory memory;
	duct_arena_init(&arena);
	api_memory_init(&memory, &arena, 1 << 20);
	/* Flows of a response, empty: two bytes each on the wire, some hundred in memory. */
	AUTO_BUF struct duct_buf wire = {0};
	for (int i = 0; i < 100000; i++)
		duct_buf_append(&wire, "\x0a\x00", 2);
	assert_null(ductstream__v1__list_flows_response__unpack(&memory.allocator, wire.len, (const uint8_t *)wire.data));
	assert_true(memory.over);
	assert_true(arena.bytes <= (1 << 20) + 4096);
	duct_arena_done(&arena);
	api_memory_init(&memory, &arena, 1 << 20);
	assert_non_null(ductstream__v1__list_flows_response__unpack(&memory.allocator, 200, (const uint8_t *)wire.data));
	assert_false(memory.over);
	duct_arena_done(&arena);
}

static void strings_are_looked_at(void **state)
{
	(void)state;
	char where[64] = "";
	const ProtobufCMessageDescriptor *d = &ductstream__v1__create_flow_request__descriptor;
	/* flow { name: .. }, flow { source { options { key: .. } } } */
	static const struct {
		const char *wire;
		size_t n;
		const char *where;
	} cases[] = {
		{"\x0a\x04\x12\x02ok", 6, NULL},
		{"\x0a\x04\x12\x02\xc3\x28", 6, "flow.name"},
		{"\x0a\x05\x12\x03"
		 "a\0b",
		 7, "flow.name"},
		{"\x0a\x07\x1a\x05\x1a\x03\x0a\x01\xff", 9, "flow.source.options.key"},
		{"\x0a\x04\x12\x07zz", 6, NULL}, /* cut short: for unpacking to refuse */
		{"", 0, NULL},
	};
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		bool valid = api_strings_valid(d, (const uint8_t *)cases[i].wire, cases[i].n, where, sizeof where);
		assert_int_equal(valid, cases[i].where == NULL);
		if (cases[i].where)
			assert_string_equal(where, cases[i].where);
	}
}

/* ---- descriptors */

static void symbols_are_found(void **state)
{
	(void)state;
	static const char *const known[] = {
		"ductstream.v1.FlowService",
		"ductstream.v1.FlowService.GetFlow",
		".ductstream.v1.CreateFlowRequest",
		"ductstream.v1.CreateFlowRequest.flow",
		"ductstream.v1.FLOW_STATE_RUNNING",
		"ductstream.v1.Endpoint.OptionsEntry",
		"ductstream.v1.Endpoint.OptionsEntry.key",
		"grpc.health.v1.HealthCheckResponse.ServingStatus",
		"grpc.health.v1.HealthCheckResponse.SERVING",
		"grpc.reflection.v1.ServerReflection",
		"google.protobuf.Timestamp",
	};
	static const char *const unknown[] = {
		"", ".", "ductstream", "ductstream.v1", "ductstream.v1.", "ductstream.v1.Flow.nothing", "Flow"};
	struct api_bytes file;
	for (size_t i = 0; i < DUCT_LEN(known); i++)
		if (!api_descriptor_of_symbol(known[i], &file))
			fail_msg("%s is not found", known[i]);
	for (size_t i = 0; i < DUCT_LEN(unknown); i++)
		assert_false(api_descriptor_of_symbol(unknown[i], &file));
	assert_true(api_descriptor_of_file("google/protobuf/timestamp.proto", &file));
	assert_true(api_descriptor_of_file("ductstream/v1/types.proto", &file));
	assert_false(api_descriptor_of_file("types.proto", &file));
}

static void services_are_routed(void **state)
{
	(void)state;
	struct api_routes *routes = api_routes_new((const struct api_service *const *const[]){
		(const struct api_service *const[]){&api_health_service, NULL},
		NULL,
	});
	static const char check[] = "/grpc.health.v1.Health/Check", watch[] = "/grpc.health.v1.Health/Watch";
	const struct api_route *route = api_routes_find(routes, check, sizeof check - 1);
	assert_non_null(route);
	assert_string_equal(route->method->name, "Check");
	assert_null(api_routes_find(routes, watch, sizeof watch - 1)->method);
	assert_null(api_routes_find(routes, check, sizeof check - 2));
	assert_null(api_routes_find(routes, "", 0));
	api_routes_free(routes);
}

static void health_by_name(void **state)
{
	(void)state;
	struct api_health health = {0};
	assert_int_equal(api_health_of(&health, "ductstream.liveness"), API_HEALTH_SERVING);
	assert_int_equal(api_health_of(&health, "ductstream.startup"), API_HEALTH_NOT_SERVING);
	assert_int_equal(api_health_of(&health, ""), API_HEALTH_NOT_SERVING);
	assert_int_equal(api_health_of(&health, "nothing"), API_HEALTH_UNKNOWN);
	api_health_set(&health, true, true);
	assert_int_equal(api_health_of(&health, ""), API_HEALTH_SERVING);
	assert_int_equal(api_health_of(&health, "grpc.health.v1.Health"), API_HEALTH_SERVING);
	api_health_set(&health, true, false);
	assert_int_equal(api_health_of(&health, "ductstream.startup"), API_HEALTH_SERVING);
	assert_int_equal(api_health_of(&health, "ductstream.readiness"), API_HEALTH_NOT_SERVING);
	assert_int_equal(api_health_of(&health, "ductstream.liveness"), API_HEALTH_SERVING);
}

static void codes(void **state)
{
	(void)state;
	struct api_call call = {0};
	const struct duct_error err = {.class = DUCT_RETRY, .message = "one\ntwo"};
	assert_int_equal(api_failed(&call, &err), API_UNAVAILABLE);
	assert_string_equal(call.message, "one two");
	assert_string_equal(api_code_name(API_FAILED_PRECONDITION), "FAILED_PRECONDITION");
	assert_int_equal(api_code_http_status(API_NOT_FOUND), 404);
	assert_int_equal(api_code_http_status((enum api_code)11), 500);
	assert_string_equal(api_code_name((enum api_code)11), "UNKNOWN");
}

/* ---- settings */

static void settings_come_from_the_environment(void **state)
{
	(void)state;
	struct service_settings set;
	struct duct_error err;
	unsetenv("DUCTSTREAM_POSTGRES_DSN");
	setenv("DUCTSTREAM_GRPC_REFLECTION", "1", 1);
	setenv("DUCTSTREAM_WIRE_ENFORCE", "N", 1);
	setenv("DUCTSTREAM_WIRE_FORMAT", "json", 1);
	setenv("DUCTSTREAM_HTTP_LISTEN", "", 1);
	assert_int_equal(service_settings_from_env(&set, &err), 0);
	assert_string_equal(set.grpc_listen, ":8080");
	assert_string_equal(set.http_listen, ":8082");
	assert_true(set.grpc_reflection);
	assert_false(set.wire_enforce);
	assert_string_equal(service_wire_format(&set), "json");
	assert_int_equal(set.grpc_max_message_bytes, 4 << 20);
	assert_int_equal(set.token_role, SERVICE_ADMIN);
	assert_null(set.postgres_dsn);
	service_settings_done(&set);
	setenv("DUCTSTREAM_WIRE_FORMAT", "jsno", 1);
	assert_int_equal(service_settings_from_env(&set, &err), -DUCT_CONFIG);
	assert_non_null(strstr(err.message, "did you mean \"json\"?"));
	unsetenv("DUCTSTREAM_WIRE_FORMAT");
	assert_int_equal(service_settings_from_env(&set, &err), 0);
	assert_null(service_wire_format(&set));
	service_settings_done(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_of_a_file),
		cmocka_unit_test(bad_lines_are_named_and_not_shown),
		cmocka_unit_test(a_zero_byte_is_in_no_name),
		cmocka_unit_test(bearer_headers),
		cmocka_unit_test(who_calls),
		cmocka_unit_test(certificates_have_roles),
		cmocka_unit_test(addresses),
		cmocka_unit_test(only_loopback_is_open),
		cmocka_unit_test(memory_has_a_limit),
		cmocka_unit_test(strings_are_looked_at),
		cmocka_unit_test(symbols_are_found),
		cmocka_unit_test(services_are_routed),
		cmocka_unit_test(health_by_name),
		cmocka_unit_test(codes),
		cmocka_unit_test(settings_come_from_the_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
