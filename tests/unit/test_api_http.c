/* api/http_routes.h: which method a path leads to, and the request that path, query and body make. (issue 5, point 1) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/http_internal.h"
#include "api/json.h"
#include "api_services.h"

static struct api_routes *routes;

static int setup(void **state)
{
	(void)state;
	routes = api_routes_new(test_lists);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	api_routes_free(routes);
	return 0;
}

static void every_resource_leads_to_a_method(void **state)
{
	(void)state;
	for (const struct http_resource *r = http_resources; r->verb; r++) {
		char path[160] = "/ductstream.v1.";
		strcat(path, r->method);
		const struct api_route *route = api_routes_find(routes, path, strlen(path));
		assert_non_null(route);
		/* Names in braces are fields of the request. */
		const ProtobufCMessageDescriptor *d = route->input;
		for (const char *at = r->pattern; (at = strchr(at, '{')); at++) {
			size_t n = strcspn(at, ".}") - 1;
			const ProtobufCFieldDescriptor *f = api_json_field(d, at + 1, n);
			assert_non_null(f);
			if (at[n + 1] == '.')
				assert_non_null(api_json_field(f->descriptor, at + n + 2, strcspn(at + n + 2, "}")));
		}
	}
}

static const struct {
	const char *verb, *target, *body;
	const char *expected; /* METHOD JSON; 404; 405 ALLOW; or ! and what the error says */
} cases[] = {
	{"POST", "/v1/FlowService/GetFlow", "{\"flow_id\":\"a\"}", "GetFlow {\"flowId\":\"a\"}"},
	{"POST", "/v1/FlowService/ListFlows", "", "ListFlows {}"},
	{"GET", "/v1/FlowService/GetFlow", "", "405 POST"},
	{"POST", "/v1/FlowService/GetFlow?flow_id=a", "", "!no query is read here"},
	{"POST", "/v1/FlowService/NoSuch", "", "404"},
	{"POST", "/v1/NoService/GetFlow", "", "404"},
	{"GET", "/v1/flows", "", "ListFlows {}"},
	{"HEAD", "/v1/flows", "", "ListFlows {}"},
	{"GET", "/v1/flows?page_size=10&pageToken=x%20y+z%2B", "", "ListFlows {\"pageSize\":10,\"pageToken\":\"x y z+\"}"},
	{"GET", "/v1/flows?", "", "ListFlows {}"},
	{"GET", "/v1/flows?&page_size=1&", "", "ListFlows {\"pageSize\":1}"},
	{"GET", "/v1/flows?pagesize=10", "", "!pagesize: there is no such field, did you mean \"pageSize\"?"},
	{"GET", "/v1/flows?page_size=ten", "", "!page_size: a whole number of 32 bits is wanted here"},
	{"GET", "/v1/flows?page_size=1&page_size=2", "", "!page_size: given twice"},
	{"GET", "/v1/flows?page_size=%zz", "", "!page_size: a % is followed by two hex digits"},
	{"GET", "/v1/flows?page_token=%ff", "", "!page_token: it is not UTF-8"},
	{"GET", "/v1/flows?page_token=%00", "", "!page_token: it must not hold a NUL"},
	{"GET", "/v1/flows?a.b.c.d.e=1", "", "!a.b.c.d.e: there is no such field"},
	{"GET", "/v1/flows?page_token.x=1", "", "!page_token.x: there are no fields in it"},
	{"GET", "/v1/flows", "{}", "!no body is read here"},
	{"PATCH", "/v1/flows", "", "405 GET, HEAD, POST"},
	{"GET", "/v1/flows/", "", "404"},
	{"GET", "/v1/flows/a/", "", "404"},
	{"GET", "/v1/nothing", "", "404"},
	{"GET", "/", "", "404"},
	{"GET", "", "", "404"},
	{"GET", "*", "", "404"},
	{"GET", "/v1/flows/a%2Fb%3Ac", "", "GetFlow {\"flowId\":\"a/b:c\"}"},
	{"GET", "/v1/flows/a?flow_id=b", "", "!flow_id: path and body say different things"},
	{"PUT", "/v1/flows/a", "{\"flow\":{\"name\":\"n\"}}", "UpdateFlow {\"flow\":{\"id\":\"a\",\"name\":\"n\"}}"},
	{"PUT", "/v1/flows/a", "{\"flow\":{\"id\":\"a\"}}", "UpdateFlow {\"flow\":{\"id\":\"a\"}}"},
	{"PUT", "/v1/flows/a", "{\"flow\":{\"id\":\"b\"}}", "!flow.id: path and body say different things"},
	{"PUT", "/v1/flows/a", "{\"flow\":7}", "!flow.id: there are no fields in it"},
	{"PUT", "/v1/flows/a", "{\"flow\":null}", "UpdateFlow {\"flow\":{\"id\":\"a\"}}"},
	{"PUT", "/v1/flows/a", "[]", "!the body must be an object"},
	{"PUT", "/v1/flows/a", "{", "!not JSON: line 1, column 1"},
	{"POST", "/v1/flows/a:start", "", "StartFlow {\"flowId\":\"a\"}"},
	{"POST", "/v1/flows/a:b:start", "", "StartFlow {\"flowId\":\"a:b\"}"},
	{"POST", "/v1/flows/:start", "", "405 GET, HEAD, PUT, DELETE"},
	{"POST", "/v1/flows/a:strat", "", "405 GET, HEAD, PUT, DELETE"},
	{"POST", "/v1/flows/a:run-once", "{\"flowId\":\"a\"}", "RunFlowOnce {\"flowId\":\"a\"}"},
	{"POST", "/v1/flows/a:cleanup", "{\"dropSlot\":false}", "CleanupFlow {\"flowId\":\"a\",\"dropSlot\":false}"},
	{"POST", "/v1/flows/a:reconfigure", "{\"flow\":{},\"pauseFirst\":true}",
	 "ReconfigureFlow {\"flow\":{\"id\":\"a\"},\"pauseFirst\":true}"},
	{"DELETE", "/v1/flows/a", "", "DeleteFlow {\"flowId\":\"a\"}"},
	{"GET", "/v1/flows/a/slots/s", "", "GetReplicationSlot {\"flowId\":\"a\",\"slot\":\"s\"}"},
	{"GET", "/v1/flows/a/slots?dsn=x", "",
	 "!dsn: not in a query, where secrets would be written down: POST /v1/FlowService/ListReplicationSlots"},
	{"GET", "/v1/flows/a/slots?options.password=x", "", "!options.password: not in a query"},
	{"DELETE", "/v1/flows/a/slots/s?if_exists=true", "",
	 "DropReplicationSlot {\"flowId\":\"a\",\"slot\":\"s\",\"ifExists\":true}"},
	{"DELETE", "/v1/flows/a/slots/s?if_exists=1", "", "!if_exists: true or false is wanted here"},
	{"DELETE", "/v1/flows/a/publication/tables?tables=p.a&tables=p.b", "",
	 "DropPublicationTables {\"flowId\":\"a\",\"tables\":[\"p.a\",\"p.b\"]}"},
	{"POST", "/v1/ddl/7:approve", "", "ApproveDDL {\"id\":\"7\"}"},
	{"POST", "/v1/ddl/7:approve", "{\"id\":7}", "ApproveDDL {\"id\":\"7\"}"},
	{"POST", "/v1/ddl/7:approve", "{\"id\":8}", "!id: path and body say different things"},
	{"POST", "/v1/ddl/x:approve", "", "!id: a whole number of 64 bits is wanted here"},
	{"GET", "/v1/ddl?status=pending&flow_id=a", "", "ListDDL {\"status\":\"pending\",\"flowId\":\"a\"}"},
	{"GET", "/v1/runs?state=running", "", "ListRuns {\"state\":\"RUN_STATE_RUNNING\"}"},
	{"GET", "/v1/runs?state=2", "", "ListRuns {\"state\":\"RUN_STATE_RUNNING\"}"},
	{"GET", "/v1/runs/r/watch?after_seq=5", "", "WatchRun {\"id\":\"r\",\"afterSeq\":\"5\"}"},
	{"PUT", "/v1/schedules/s", "{\"schedule\":{\"cron\":\"* * * * *\"}}",
	 "UpdateSchedule {\"schedule\":{\"name\":\"s\",\"cron\":\"* * * * *\"}}"},
	{"POST", "/v1/streams/orders:pull", "{\"consumerGroup\":\"g\"}", "Pull {\"stream\":\"orders\",\"consumerGroup\":\"g\"}"},
};

/* As the last column of the cases. */
static void ask(struct duct_buf *to, const char *verb, const char *target, const char *body)
{
	struct http_match match;
	char allow[64];
	enum http_found found = http_route_find(routes, verb, target, &match, allow);
	if (found != HTTP_FOUND) {
		duct_buf_puts(to, found == HTTP_NO_SUCH_PATH ? "404" : "405 ");
		duct_buf_puts(to, allow);
		return;
	}
	struct duct_arena arena;
	struct duct_error err;
	ProtobufCMessage *request;
	duct_arena_init(&arena);
	if (http_route_request(&match, body, strlen(body), &arena, &request, &err)) {
		assert_int_equal(err.class, DUCT_CONFIG);
		duct_buf_printf(to, "!%s", err.message);
	} else {
		duct_buf_printf(to, "%s ", strrchr(match.route->path, '/') + 1);
		api_json_write(to, request, 0);
	}
	duct_arena_done(&arena);
}

static void paths_queries_and_bodies(void **state)
{
	(void)state;
	for (size_t i = 0; i < DUCT_LEN(cases); i++) {
		AUTO_BUF struct duct_buf got = {0};
		ask(&got, cases[i].verb, cases[i].target, cases[i].body);
		size_t n = cases[i].expected[0] == '!' ? strlen(cases[i].expected) : got.len + 1;
		if (strncmp(got.data, cases[i].expected, n) != 0)
			fail_msg("%s %s %s\n  gives    %s\n  expected %s", cases[i].verb, cases[i].target, cases[i].body, got.data,
				 cases[i].expected);
	}
}

static void timeouts_are_read(void **state)
{
	(void)state;
	int64_t us;
	assert_true(http_parse_timeout("2.5", false, &us) && us == 2500000);
	assert_true(http_parse_timeout("0", false, &us) && us == 0);
	assert_true(http_parse_timeout("250m", true, &us) && us == 250000);
	assert_true(http_parse_timeout("2H", true, &us) && us == 7200000000);
	assert_true(http_parse_timeout("99999999S", true, &us) && us == 99999999000000);
	static const char *const bad[] = {"", "x", "-1", "1s", "1 ", "1e3", "1.2.3", ".", "9999999999999", "inf", "nan"};
	for (size_t i = 0; i < DUCT_LEN(bad); i++)
		assert_false(http_parse_timeout(bad[i], false, &us));
	static const char *const bad_grpc[] = {"", "1", "S", "1x", "1SS", "1.5S", "-1S"};
	for (size_t i = 0; i < DUCT_LEN(bad_grpc); i++)
		assert_false(http_parse_timeout(bad_grpc[i], true, &us));
}

static void hosts_that_nobody_else_can_name(void **state)
{
	(void)state;
	static const char *const good[] = {"localhost",	     "localhost:8082", "LocalHost:1", "127.0.0.1",
					   "127.0.0.1:8082", "[::1]",	       "[::1]:8082",  "10.0.0.7:1"};
	static const char *const bad[] = {
		"",	":8082", "evil.example", "evil.example:8082", "localhost.evil.example", "127.0.0.1.evil.example",
		"[::1", "[evil]"};
	for (size_t i = 0; i < DUCT_LEN(good); i++)
		assert_true(http_host_is_local(good[i]));
	for (size_t i = 0; i < DUCT_LEN(bad); i++)
		assert_false(http_host_is_local(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_resource_leads_to_a_method),
		cmocka_unit_test(paths_queries_and_bodies),
		cmocka_unit_test(timeouts_are_read),
		cmocka_unit_test(hosts_that_nobody_else_can_name),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
